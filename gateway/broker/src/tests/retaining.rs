//! Retained messages.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{Properties, RetainHandling};

use super::peer::*;
use crate::{BrokerLimits, ConnId, Version};

fn retain(world: &mut World, conn: ConnId, topic: &str, payload: &str) {
    world.publish_with(conn, topic, payload, None, true, vec![]);
}

fn again(world: &mut World, conn: ConnId, filter: &str, wish: Wish) -> Vec<String> {
    world.send(conn, &subscribe(Version::V5, 1, &[(filter, wish)], Properties::new()));
    world.payloads(conn)
}

#[test]
fn a_new_subscription_gets_the_last_message_of_each_topic() {
    // [MQTT-3.3.1-5], [MQTT-3.3.1-8] (3.1.1), [MQTT-3.3.1-9] (5)
    let mut world = World::new();
    let publisher = world.connect(v3("p"));
    retain(&mut world, publisher, "a/1", "old");
    retain(&mut world, publisher, "a/1", "new");
    retain(&mut world, publisher, "a/2", "two");
    world.publish(publisher, "a/3", "not retained", None);
    for hello in [v3("s3"), v5("s5")] {
        let version = hello.version;
        let conn = world.connect(hello);
        world.send(conn, &subscribe(version, 1, &[("a/+", qos(0))], Properties::new()));
        let got = world.got(conn);
        assert!(matches!(got[0], Got::SubAck { .. }), "SUBACK comes first");
        let retained: Vec<_> = got[1..]
            .iter()
            .map(|got| match got {
                Got::Publish(r) => (r.topic.as_str(), r.payload.as_str(), r.retain),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(retained, [("a/1", "new", true), ("a/2", "two", true)]);
    }
}

#[test]
fn an_empty_payload_deletes_the_retained_message_and_is_delivered() {
    // [MQTT-3.3.1-6], [MQTT-3.3.1-7]
    let mut world = World::new();
    let publisher = world.connect(v3("p"));
    let present = world.subscriber(v3("present"), &[("t", qos(0))]);
    retain(&mut world, publisher, "t", "x");
    retain(&mut world, publisher, "t", "");
    assert_eq!(world.payloads(present), ["x", ""]);
    assert_eq!(world.broker.stats().retained, 0);
    let late = world.connect(v5("late"));
    assert_eq!(again(&mut world, late, "t", qos(0)), [] as [&str; 0]);
}

#[test]
fn live_messages_carry_retain_only_where_it_was_asked_for() {
    // [MQTT-3.3.1-12], [MQTT-3.3.1-13], [MQTT-3.3.1-9] (3.1.1)
    let mut world = World::new();
    let three = world.subscriber(v3("three"), &[("t", qos(0))]);
    let plain = world.subscriber(v5("plain"), &[("t", qos(0))]);
    let wish = Wish { retain_as_published: true, ..qos(0) };
    let asked = world.subscriber(v5("asked"), &[("t", wish)]);
    let publisher = world.connect(v3("p"));
    retain(&mut world, publisher, "t", "x");
    for (conn, expected) in [(three, false), (plain, false), (asked, true)] {
        assert_eq!(world.received(conn)[0].retain, expected);
    }
}

#[test]
fn retain_handling_decides_whether_a_subscription_is_given_them() {
    // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    let mut world = World::new();
    let publisher = world.connect(v3("p"));
    retain(&mut world, publisher, "t", "x");
    let cases = [
        (RetainHandling::SendRetained, vec!["x"], vec!["x"]),
        (RetainHandling::SendRetainedIfNotExists, vec!["x"], vec![]),
        (RetainHandling::DoNotSendRetained, vec![], vec![]),
    ];
    for (handling, first, second) in cases {
        let conn = world.connect(v5("s"));
        let wish = Wish { handling, ..qos(0) };
        assert_eq!(again(&mut world, conn, "t", wish), first, "{handling:?}");
        assert_eq!(again(&mut world, conn, "t", wish), second, "{handling:?} again");
    }
}

#[test]
fn retained_messages_expire_and_say_how_long_they_have_left() {
    // [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut world = World::new();
    let publisher = world.connect(v5("p"));
    let properties = vec![property::message_expiry(10)];
    world.publish_with(publisher, "t", "x", None, true, properties);
    world.pass(Duration::from_secs(4));
    let conn = world.connect(v5("s"));
    world.send(conn, &subscribe(Version::V5, 1, &[("t", qos(0))], Properties::new()));
    assert_eq!(world.received(conn)[0].properties, ["expiry=6"]);
    world.pass(Duration::from_secs(6));
    assert_eq!(again(&mut world, conn, "t", qos(0)), [] as [&str; 0]);
}

#[test]
fn a_store_that_is_full_counts_what_it_cannot_keep() {
    let mut world = World::with(BrokerLimits { max_retained: 2, ..BrokerLimits::default() });
    let publisher = world.connect(v3("p"));
    for topic in ["a", "b", "c"] {
        retain(&mut world, publisher, topic, "x");
    }
    retain(&mut world, publisher, "a", "replaced");
    let stats = world.broker.stats();
    assert_eq!((stats.retained, stats.counters.not_retained), (2, 1));
    let conn = world.connect(v5("s"));
    assert_eq!(again(&mut world, conn, "#", qos(0)), ["replaced", "x"]);
}

#[test]
fn more_retained_messages_than_the_socket_takes_at_once_all_arrive_without_a_queue() {
    for level in [0, 1] {
        let mut world =
            World::with(BrokerLimits { max_unsent_bytes: 2_000, ..BrokerLimits::default() });
        let publisher = world.connect(v3("p"));
        for i in 0..500 {
            let topic = format!("r/{i:03}");
            world.publish_with(publisher, &topic, "0123456789", Some(1), true, vec![]);
        }
        let conn = world.connect(v5("s"));
        world.stuck = true;
        let wishes = [("r/#", qos(level))];
        world.send(conn, &subscribe(Version::V5, 1, &wishes, Properties::new()));
        let unsent = world.broker.unsent(conn).unwrap().len();
        assert!(unsent < 2_100, "{unsent} bytes");
        assert!(world.broker.stats().queued_bytes < 30_000);
        world.unstick();
        let received = world.received(conn);
        assert_eq!(received.len(), 500);
        assert!(received.windows(2).all(|pair| pair[0].topic < pair[1].topic));
        let counters = world.broker.stats().counters;
        assert_eq!((counters.dropped_qos0, counters.dropped_qos1), (0, 0));
    }
}

#[test]
fn a_long_walk_over_the_retained_messages_pauses_for_others_and_comes_to_its_end() {
    let mut world = World::new();
    let publisher = world.connect(v3("p"));
    for i in 0..9_000 {
        retain(&mut world, publisher, &format!("r/{i:04}"), "x");
    }
    retain(&mut world, publisher, "s/last", "found");
    let conn = world.connect(v5("s"));
    let wishes = [("+/last", qos(0)), ("+/+", qos(0)), ("+/last", qos(1))];
    world.send(conn, &subscribe(Version::V5, 1, &wishes, Properties::new()));
    assert!(world.received(conn).len() <= 2_000);
    let soon = world.broker.poll_timeout().expect("it goes on by itself");
    assert!(soon <= world.now + Duration::from_millis(1));
    world.pass(Duration::from_millis(20));
    let found = world.received(conn).iter().filter(|r| r.payload == "found").count();
    assert_eq!(found, 2, "once for each filter");
    assert_eq!(world.broker.stats().counters.sent_qos0, 9_002);
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn retained_messages_under_a_small_window_come_as_they_are_acknowledged() {
    let mut world = World::new();
    let publisher = world.connect(v3("p"));
    for i in 0..10 {
        world.publish_with(publisher, &format!("r/{i}"), "x", Some(1), true, vec![]);
    }
    let properties = vec![property::receive_maximum(3)];
    let conn = world.connect(Hello { properties, ..v5("s") });
    world.send(conn, &subscribe(Version::V5, 1, &[("r/#", qos(1))], Properties::new()));
    let mut seen = 0;
    loop {
        let received = world.received(conn);
        if received.is_empty() {
            break;
        }
        assert!(received.len() <= 3);
        seen += received.len();
        for message in received {
            world.send(conn, &puback(message.id.unwrap()));
        }
    }
    assert_eq!(seen, 10);
    assert_eq!(world.broker.stats().queued_bytes, 0);
}
