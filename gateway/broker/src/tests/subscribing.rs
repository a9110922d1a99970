//! SUBSCRIBE, UNSUBSCRIBE and who gets what.

use mqtt_protocol_core::mqtt::packet::{Properties, v3_1_1, v5_0};

use super::peer::*;
use crate::{BrokerLimits, CloseReason, Version};

fn unsubscribe(version: Version, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<String> = filters.iter().map(|filter| (*filter).to_owned()).collect();
    match version {
        Version::V3_1_1 => v3_1_1::Unsubscribe::builder()
            .packet_id(9)
            .entries(filters)
            .unwrap()
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Version::V5 => v5_0::Unsubscribe::builder()
            .packet_id(9)
            .entries(filters)
            .unwrap()
            .build()
            .unwrap()
            .to_continuous_buffer(),
    }
}

#[test]
fn suback_answers_every_filter_in_order() {
    // [MQTT-3.8.4-6]
    let wishes = [
        ("a", qos(0)),
        ("b", qos(1)),
        ("c", qos(2)),
        ("a/#/b", qos(0)),
        ("x+", qos(0)),
        ("$share/g/t", qos(0)),
    ];
    let mut world = World::new();
    for (hello, codes) in
        [(v3("a"), vec![0, 1, 2, 0x80, 0x80, 0]), (v5("b"), vec![0, 1, 2, 0x8F, 0x8F, 0])]
    {
        let version = hello.version;
        let conn = world.connect(hello);
        world.send(conn, &subscribe(version, 5, &wishes, Properties::new()));
        assert_eq!(world.got(conn), [Got::SubAck { id: 5, codes }]);
    }
}

#[test]
fn wildcards_do_not_reach_topics_beginning_with_a_dollar() {
    // [MQTT-4.7.2-1]
    let mut world = World::new();
    let all = world.subscriber(v5("all"), &[("#", qos(0)), ("+/x", qos(0))]);
    let sys = world.subscriber(v5("sys"), &[("$SYS/#", qos(0))]);
    world.inject("$SYS/x", "1", crate::QoS::AtMostOnce);
    assert_eq!(world.payloads(all), [] as [&str; 0]);
    assert_eq!(world.payloads(sys), ["1"]);
}

#[test]
fn overlapping_subscriptions_deliver_once_with_the_highest_qos_and_every_identifier() {
    // [MQTT-3.3.4-2], [MQTT-3.3.4-4]
    let mut world = World::new();
    let conn = world.connect(v5("s"));
    for (id, (filter, level)) in [("a/#", 0), ("a/b", 1), ("+/b", 0)].into_iter().enumerate() {
        let properties = vec![property::subscription_id(id as u32 + 1)];
        world.send(conn, &subscribe(Version::V5, 1, &[(filter, qos(level))], properties));
    }
    world.send(conn, &subscribe(Version::V5, 1, &[("#", qos(0))], Properties::new()));
    world.got(conn);
    world.inject("a/b", "x", crate::QoS::AtLeastOnce);
    let received = world.received(conn);
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].qos, 1);
    let mut ids = received[0].properties.clone();
    ids.sort();
    assert_eq!(ids, ["id=1", "id=2", "id=3"]);
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    // [MQTT-3.8.4-3]
    let mut world = World::new();
    let conn = world.subscriber(v3("s"), &[("t", qos(1))]);
    world.send(conn, &subscribe(Version::V3_1_1, 2, &[("t", qos(0))], Properties::new()));
    world.got(conn);
    world.inject("t", "x", crate::QoS::AtLeastOnce);
    let received = world.received(conn);
    assert_eq!((received.len(), received[0].qos), (1, 0));
    assert_eq!(world.broker.stats().subscriptions, 1);
}

#[test]
fn unsubscribing_stops_messages_and_says_what_there_was() {
    // [MQTT-3.10.4-2], [MQTT-3.11.3-2]
    for (hello, codes) in [(v3("s"), vec![]), (v5("s"), vec![0, 0x11, 0x8F])] {
        let mut world = World::new();
        let version = hello.version;
        let conn = world.subscriber(hello, &[("a/+", qos(0)), ("b", qos(0))]);
        world.send(conn, &unsubscribe(version, &["a/+", "absent", "a+"]));
        assert_eq!(world.got(conn), [Got::UnsubAck { id: 9, codes }]);
        world.inject("a/x", "1", crate::QoS::AtMostOnce);
        world.inject("b", "2", crate::QoS::AtMostOnce);
        assert_eq!(world.payloads(conn), ["2"]);
    }
}

#[test]
fn no_local_keeps_a_clients_own_messages_from_it() {
    // [MQTT-3.8.3-3]
    let mut world = World::new();
    let wish = Wish { no_local: true, ..qos(0) };
    let conn = world.subscriber(v5("s"), &[("t", wish)]);
    let other = world.connect(v5("other"));
    world.publish(conn, "t", "mine", None);
    world.publish(other, "t", "theirs", None);
    assert_eq!(world.payloads(conn), ["theirs"]);
}

#[test]
fn subscriptions_beyond_the_limits_are_refused_and_old_ones_can_still_be_replaced() {
    let mut world = World::with(BrokerLimits {
        max_subscriptions_per_session: 2,
        max_subscriptions: 3,
        max_topic_levels: 3,
        ..BrokerLimits::default()
    });
    let a = world.connect(v5("a"));
    let wishes = [("1", qos(0)), ("2", qos(0)), ("3", qos(0)), ("1", qos(1)), ("a/b/c/d", qos(0))];
    world.send(a, &subscribe(Version::V5, 1, &wishes, Properties::new()));
    assert_eq!(world.got(a), [Got::SubAck { id: 1, codes: vec![0, 0, 0x97, 1, 0x8F] }]);
    let b = world.connect(v3("b"));
    world.send(b, &subscribe(Version::V3_1_1, 1, &wishes[..2], Properties::new()));
    assert_eq!(world.got(b), [Got::SubAck { id: 1, codes: vec![0, 0x80] }]);
}

#[test]
fn an_answer_larger_than_the_client_takes_ends_the_connection() {
    // [MQTT-3.1.2-24]
    let mut world = World::new();
    let properties = vec![property::max_packet(30)];
    let conn = world.connect(Hello { properties, ..v5("a") });
    let wishes = [("a", qos(0)); 40];
    world.send(conn, &subscribe(Version::V5, 1, &wishes, Properties::new()));
    assert_eq!(world.got(conn), [Got::Disconnect(0x95)]);
    assert!(matches!(world.closed(conn), Some(CloseReason::Fault { code: 0x95, .. })));
}

#[test]
fn a_message_larger_than_the_client_takes_is_dropped_as_if_it_had_been_sent() {
    // [MQTT-3.1.2-25]
    for level in [0, 1] {
        let mut world = World::new();
        let properties = vec![property::max_packet(50)];
        let conn = world.subscriber(Hello { properties, ..v5("s") }, &[("t", qos(level))]);
        let qos = if level == 0 { crate::QoS::AtMostOnce } else { crate::QoS::AtLeastOnce };
        world.inject("t", &"x".repeat(100), qos);
        world.inject("t", "small", qos);
        assert_eq!(world.payloads(conn), ["small"]);
        let stats = world.broker.stats();
        assert_eq!((stats.counters.dropped_too_large, stats.sessions[0].dropped), (1, 1));
        assert_eq!(stats.sessions[0].inflight, usize::from(level));
        world.send(conn, &puback(1));
        assert_eq!(world.broker.stats().queued_bytes, 0);
    }
}

#[test]
fn a_filter_that_is_too_long_is_refused() {
    let mut world = World::with(BrokerLimits { max_topic_bytes: 10, ..BrokerLimits::default() });
    let wishes = [("0123456789", qos(0)), ("0123456789a", qos(0))];
    for (hello, code) in [(v3("a"), 0x80), (v5("b"), 0x8F)] {
        let version = hello.version;
        let conn = world.connect(hello);
        world.send(conn, &subscribe(version, 5, &wishes, Properties::new()));
        assert_eq!(world.got(conn), [Got::SubAck { id: 5, codes: vec![0, code] }]);
    }
}

#[test]
fn a_topic_that_is_too_long_ends_the_connection() {
    let mut world = World::with(BrokerLimits { max_topic_bytes: 10, ..BrokerLimits::default() });
    let conn = world.connect(v5("a"));
    world.publish(conn, "0123456789", "x", Some(1));
    assert_eq!(world.got(conn), [Got::PubAck { id: 1, code: 0 }]);
    world.publish(conn, "0123456789a", "x", Some(2));
    assert_eq!(world.got(conn), [Got::Disconnect(0x90)]);
}
