//! Sessions with and without a connection: queues, windows, repetition, expiry, slow readers.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::Properties;

use super::peer::*;
use crate::{BrokerLimits, ConnId, QoS, Version};

const NONE: [&str; 0] = [];

fn present(world: &mut World, hello: Hello) -> bool {
    let conn = world.hello(&hello);
    match world.got(conn).as_slice() {
        [Got::ConnAck { code: 0, present }, ..] => *present,
        other => panic!("{other:?}"),
    }
}

fn ids(world: &mut World, conn: ConnId) -> Vec<(u16, bool, String)> {
    let received = world.received(conn).into_iter();
    received.filter_map(|r| Some((r.id?, r.dup, r.payload))).collect()
}

#[test]
fn messages_of_qos_1_wait_for_a_client_that_is_away() {
    for hello in [v3("s").keep(0), v5("s").keep(60)] {
        let mut world = World::new();
        let conn = world.subscriber(hello.clone(), &[("t", qos(1))]);
        world.cut(conn);
        world.inject("t", "one", QoS::AtLeastOnce);
        world.inject("t", "gone", QoS::AtMostOnce);
        world.inject("t", "two", QoS::AtLeastOnce);
        let conn = world.connect_and_keep(hello);
        let got = ids(&mut world, conn);
        assert_eq!(got, [(1, false, "one".to_owned()), (2, false, "two".to_owned())]);
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_again_with_dup_in_order_and_before_anything_newer() {
    // [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]
    for hello in [v3("s").keep(0), v5("s").keep(60)] {
        let mut world = World::new();
        let conn = world.subscriber(hello.clone(), &[("t", qos(1))]);
        for payload in ["1", "2", "3"] {
            world.inject("t", payload, QoS::AtLeastOnce);
        }
        world.send(conn, &puback(2));
        world.cut(conn);
        world.inject("t", "4", QoS::AtLeastOnce);
        let conn = world.connect_and_keep(hello);
        let got = ids(&mut world, conn);
        let expected = [(1, true, "1"), (3, true, "3"), (4, false, "4")];
        assert_eq!(got, expected.map(|(id, dup, payload)| (id, dup, payload.to_owned())));
        for id in [1, 3, 4] {
            world.send(conn, &puback(id));
        }
        let stats = world.broker.stats();
        assert_eq!((stats.sessions[0].inflight, stats.queued_bytes), (0, 0));
        assert_eq!((stats.counters.sent_qos1, stats.counters.sent_again), (4, 2));
    }
}

#[test]
fn acknowledged_messages_are_not_sent_again() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s").keep(60), &[("t", qos(1))]);
    world.inject("t", "x", QoS::AtLeastOnce);
    // [MQTT-4.4.0-2]: also with a reason that is no success.
    world.send(conn, b"\x40\x04\0\x01\x97\0");
    world.cut(conn);
    let conn = world.connect_and_keep(v5("s").keep(60));
    assert_eq!(world.payloads(conn), NONE);
}

#[test]
fn a_client_is_sent_no_more_than_its_receive_maximum_at_a_time() {
    // [MQTT-3.3.4-9]
    let mut world = World::new();
    let hello = Hello { properties: vec![property::receive_maximum(2)], ..v5("s").keep(60) };
    let conn = world.subscriber(hello.clone(), &[("t", qos(1))]);
    for i in 0..5 {
        world.inject("t", &i.to_string(), QoS::AtLeastOnce);
    }
    assert_eq!(world.payloads(conn), ["0", "1"]);
    world.send(conn, &puback(2));
    assert_eq!(world.payloads(conn), ["2"]);
    world.send(conn, &puback(77)); // Nothing is under way under it: ignored.
    assert_eq!(world.payloads(conn), NONE);
    // The window holds for repetitions too.
    world.cut(conn);
    let hello = Hello { properties: vec![property::receive_maximum(1)], ..hello };
    let conn = world.connect_and_keep(hello);
    assert_eq!(ids(&mut world, conn), [(1, true, "0".to_owned())]);
    world.send(conn, &puback(1));
    assert_eq!(ids(&mut world, conn), [(3, true, "2".to_owned())]);
    world.send(conn, &puback(3));
    assert_eq!(ids(&mut world, conn), [(4, false, "3".to_owned())]);
}

#[test]
fn a_session_ends_when_its_client_stays_away_too_long() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s").keep(60), &[("t", qos(1))]);
    world.cut(conn);
    world.pass(Duration::from_secs(59));
    assert!(present(&mut world, v5("s").keep(60)));
    let conn = world.connect(v5("s").keep(60));
    world.cut(conn);
    world.inject("t", "x", QoS::AtLeastOnce);
    world.pass(Duration::from_secs(60));
    let stats = world.broker.stats();
    assert_eq!((stats.sessions.len(), stats.subscriptions, stats.queued_bytes), (0, 0, 0));
    assert!(!present(&mut world, v5("s").keep(60)));
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    for hello in [v3("s"), v5("s")] {
        let mut world = World::new();
        let conn = world.subscriber(hello.clone(), &[("t", qos(1))]);
        world.send(conn, DISCONNECT);
        assert_eq!(world.broker.stats().sessions.len(), 0);
        assert!(!present(&mut world, Hello { clean: false, ..hello }));
    }
}

#[test]
fn a_clean_start_throws_the_old_session_away() {
    // [MQTT-3.1.2-4], [MQTT-3.2.2-2]
    let mut world = World::new();
    let conn = world.subscriber(v3("s").keep(0), &[("t", qos(1))]);
    world.cut(conn);
    world.inject("t", "x", QoS::AtLeastOnce);
    assert!(!present(&mut world, v3("s")));
    assert_eq!(world.inject("t", "x", QoS::AtLeastOnce), 0);
}

#[test]
fn a_goodbye_can_shorten_or_lengthen_the_session_but_not_begin_one() {
    let goodbye = |seconds: u8| vec![0xE0, 7, 0, 5, 0x11, 0, 0, 0, seconds];
    let mut world = World::new();
    let conn = world.connect(v5("s").keep(60));
    world.send(conn, &goodbye(100));
    world.pass(Duration::from_secs(99));
    assert!(present(&mut world, v5("s").keep(60)));
    let conn = world.connect(v5("s").keep(60));
    world.send(conn, &goodbye(0));
    assert_eq!(world.broker.stats().sessions.len(), 0);
    let conn = world.connect(v5("s"));
    world.send(conn, &goodbye(10));
    assert_eq!(world.got(conn), [Got::Disconnect(0x82)]); // Section 3.14.2.2.2
}

#[test]
fn messages_that_expire_while_they_wait_are_not_sent() {
    // [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut world = World::new();
    let conn = world.subscriber(v5("s").keep(60), &[("t", qos(1))]);
    world.cut(conn);
    let publisher = world.connect(v5("p"));
    for (payload, seconds) in [("short", 5), ("long", 20)] {
        let properties = vec![property::message_expiry(seconds)];
        world.publish_with(publisher, "t", payload, Some(1), false, properties);
    }
    world.pass(Duration::from_secs(5));
    let conn = world.connect_and_keep(v5("s").keep(60));
    let received = world.received(conn);
    assert_eq!((received.len(), received[0].payload.as_str()), (1, "long"));
    assert_eq!(received[0].properties, ["expiry=15"]);
    assert_eq!(world.broker.stats().counters.dropped_expired, 1);
}

#[test]
fn a_full_session_loses_the_newest_messages_and_counts_them() {
    let limits = BrokerLimits {
        max_packet: 1000,
        max_queued_bytes_per_session: 3_300,
        ..BrokerLimits::default()
    };
    let mut world = World::with(limits);
    let away = world.subscriber(v5("away").keep(60), &[("t", qos(1))]);
    let here = world.subscriber(v5("here"), &[("t", qos(1))]);
    world.cut(away);
    for i in 0..10 {
        world.inject("t", &format!("{i}{}", "x".repeat(800)), QoS::AtLeastOnce);
        let id = world.received(here)[0].id.unwrap();
        world.send(here, &puback(id));
    }
    let stats = world.broker.stats();
    assert_eq!((stats.sessions[0].queued, stats.sessions[0].dropped), (3, 7));
    assert_eq!((stats.sessions[1].dropped, stats.counters.dropped_qos1), (0, 7));
    let away = world.connect_and_keep(v5("away").keep(60));
    let first: Vec<char> =
        world.payloads(away).iter().filter_map(|payload| payload.chars().next()).collect();
    assert_eq!(first, ['0', '1', '2']);
}

#[test]
fn all_sessions_together_are_bounded_too() {
    let limits = BrokerLimits {
        max_packet: 1000,
        max_queued_bytes_per_session: 5_000,
        max_queued_bytes: 6_000,
        ..BrokerLimits::default()
    };
    let mut world = World::with(limits);
    for client in ["a", "b", "c"] {
        let conn = world.subscriber(v5(client).keep(60), &[("t", qos(1))]);
        world.cut(conn);
    }
    for _ in 0..10 {
        world.inject("t", &"x".repeat(500), QoS::AtLeastOnce);
    }
    let stats = world.broker.stats();
    assert!(stats.queued_bytes <= 6_000);
    assert_eq!(stats.queued_bytes, stats.sessions.iter().map(|s| s.queued_bytes).sum::<usize>());
}

#[test]
fn a_slow_subscriber_is_bounded_and_holds_up_nobody() {
    let limits = BrokerLimits {
        max_packet: 1000,
        max_unsent_bytes: 5_000,
        max_inflight: 1000,
        max_queued_bytes_per_session: 10_000,
        ..BrokerLimits::default()
    };
    let mut world = World::with(limits);
    let slow = world.subscriber(v5("slow"), &[("one", qos(1)), ("zero", qos(0))]);
    world.stuck = true;
    for i in 0..100 {
        let payload = format!("{i:02}{}", "x".repeat(200));
        assert_eq!(world.inject("zero", &payload, QoS::AtMostOnce), 1);
        assert_eq!(world.inject("one", &payload, QoS::AtLeastOnce), 1);
    }
    let unsent = world.broker.unsent(slow).unwrap().len();
    assert!((5_000..5_500).contains(&unsent), "{unsent} bytes");
    let stats = world.broker.stats();
    assert!(stats.sessions[0].queued > 0);
    assert!(stats.sessions[0].queued_bytes <= 10_000);
    let counters = stats.counters;
    assert!(counters.dropped_qos0 > 0 && counters.dropped_qos1 > 0);
    assert_eq!(stats.sessions[0].dropped, counters.dropped_qos0 + counters.dropped_qos1);
    // When it reads again it gets everything that was not dropped, in order.
    world.unstick();
    let received = world.received(slow);
    assert_eq!(received.len() as u64, 200 - stats.sessions[0].dropped);
    for topic in ["one", "zero"] {
        let payloads: Vec<_> = received.iter().filter(|r| r.topic == topic).collect();
        assert!(payloads.windows(2).all(|pair| pair[0].payload < pair[1].payload));
    }
}

#[test]
fn a_message_is_not_delivered_twice_to_a_session_that_stays() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s").keep(60), &[("t", qos(1)), ("#", qos(1))]);
    let mut seen = Vec::new();
    for i in 0..50u16 {
        world.inject("t", &i.to_string(), QoS::AtLeastOnce);
        for message in world.received(conn) {
            world.send(conn, &puback(message.id.unwrap()));
            seen.push(message.payload);
        }
    }
    assert_eq!(seen, (0..50).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_publish_repeated_with_dup_is_handed_over_again() {
    // QoS 1 leaves duplicates to the receiver [MQTT-4.3.2-5]; identities settle them later.
    let mut world = World::new();
    let conn = world.connect(v3("p"));
    let mut bytes = publish(Version::V3_1_1, "t", "x", Some(1), false, vec![]);
    world.send(conn, &bytes);
    bytes[0] |= 8;
    world.send(conn, &bytes);
    assert_eq!(world.published().len(), 2);
    assert_eq!(world.got(conn).len(), 2);
}

#[test]
fn a_subscription_made_by_an_mqtt_5_client_holds_for_its_3_1_1_successor() {
    let mut world = World::new();
    let conn = world.connect(v5("s").keep(60));
    let properties = vec![property::subscription_id(7)];
    world.send(conn, &subscribe(Version::V5, 1, &[("t", qos(1))], properties));
    world.cut(conn);
    world.inject("t", "x", QoS::AtLeastOnce);
    let conn = world.connect_and_keep(v3("s").keep(0));
    assert_eq!(world.payloads(conn), ["x"]);
    world.send(conn, &subscribe(Version::V3_1_1, 2, &[("t", qos(0))], Properties::new()));
    assert_eq!(world.broker.stats().subscriptions, 1);
}
