//! Receive Maximum, Maximum Packet Size and what they must not hold up: sections 3.1.2.11, 3.3.4
//! and 4.9.

use tidegate_peer::Version;
use tidegate_peer::decode::{Message, Packet, sizes};
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

/// A subscriber that takes `max` messages at a time, and a publisher that has sent twenty.
fn behind(max: u16, qos: u8) -> (Bench, Line) {
    let mut bench = Bench::new();
    let hello = connect(Version::V5, "c").kept().with(prop::two(prop::RECEIVE_MAXIMUM, max));
    let line = bench.connect(&hello);
    bench.subscribe(line, &[("t", 2)]);
    let publisher = bench.client(Version::V5, "publisher");
    for id in 1..=20 {
        bench.publish(publisher, &publish("t", &id.to_string()).qos(qos, id));
    }
    (bench, line)
}

// 5: MQTT-4.9.0-1, MQTT-4.9.0-2, MQTT-3.3.4-9
#[test]
fn no_more_than_receive_maximum_is_under_way_and_each_answer_makes_room_for_one() {
    for (qos, max) in [(1, 1), (1, 3), (2, 1), (2, 3)] {
        let (mut bench, line) = behind(max, qos);
        let mut open: Vec<Message> = bench.messages(line);
        let mut seen = payloads(&open);
        assert_eq!(open.len(), usize::from(max), "the quota begins with Receive Maximum");
        while let Some(message) = open.pop() {
            if qos == 1 {
                bench.send(line, &ack(PUBACK, message.id));
            } else {
                bench.send(line, &ack(PUBREC, message.id));
                let got = bench.got(line);
                assert!(
                    matches!(got[..], [Packet::Ack { kind: PUBREL, .. }]),
                    "PUBREC makes no room: {got:?}"
                );
                bench.send(line, &ack(PUBCOMP, message.id));
            }
            let next = bench.messages(line);
            assert!(next.len() <= 1);
            seen.extend(payloads(&next));
            open.extend(next);
        }
        let expected: Vec<String> = (1..=20).map(|i| i.to_string()).collect();
        assert_eq!(seen, expected);
    }
}

// 5: MQTT-4.9.0-2, MQTT-3.3.4-9
#[test]
fn a_refusal_makes_room_too() {
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        let (mut bench, line) = behind(1, qos);
        for expected in 1..=20 {
            let message = bench.messages(line).remove(0);
            assert_eq!(payloads(std::slice::from_ref(&message)), [expected.to_string()]);
            bench.send(line, &ack_with(kind, message.id, 0x80));
        }
        assert_eq!(bench.got(line), []);
    }
}

// 5: MQTT-3.3.4-10, MQTT-4.9.0-3, MQTT-3.3.4-8
#[test]
fn nothing_else_waits_for_receive_maximum() {
    for qos in [1, 2] {
        let (mut bench, line) = behind(1, qos);
        bench.got(line);
        bench.send(line, PINGREQ);
        assert_eq!(bench.got(line), [Packet::Pingresp]);
        bench.send(line, &subscribe(Version::V5, 5, &[("u", 0)]));
        assert!(matches!(bench.got(line)[..], [Packet::Suback { id: 5, .. }]));
        bench.publish(line, &publish("none", "x").qos(1, 6));
        assert!(matches!(bench.got(line)[..], [Packet::Ack { kind: PUBACK, id: 6, .. }]));
        bench.publish(line, &publish("none", "x").qos(2, 7));
        assert!(matches!(bench.got(line)[..], [Packet::Ack { kind: PUBREC, id: 7, .. }]));
        bench.send(line, &ack(PUBREL, 7));
        assert!(matches!(bench.got(line)[..], [Packet::Ack { kind: PUBCOMP, id: 7, .. }]));
        bench.publish(line, &publish("u", "QoS 0"));
        assert_eq!(bench.payloads(line), ["QoS 0"]);
        bench.send(line, &unsubscribe(Version::V5, 8, &["u"]));
        assert!(matches!(bench.got(line)[..], [Packet::Unsuback { id: 8, .. }]));
    }
}

// 5: MQTT-4.9.0-2, MQTT-4.4.0-1
#[test]
fn repetitions_after_a_reconnect_keep_to_the_new_receive_maximum() {
    for qos in [1, 2] {
        let (mut bench, line) = behind(5, qos);
        assert_eq!(bench.messages(line).len(), 5);
        bench.cut(line);
        let hello = connect(Version::V5, "c").keep().with(prop::two(prop::RECEIVE_MAXIMUM, 2));
        let (_, _, followed) = bench.resume(&hello);
        let again = messages(followed);
        assert_eq!(payloads(&again), ["1", "2"]);
        assert!(again.iter().all(|message| message.dup));
    }
}

// 5: MQTT-3.3.4-7, MQTT-4.9.0-1
#[test]
fn a_client_that_exceeds_the_servers_receive_maximum_is_disconnected() {
    for qos in [1, 2] {
        let limits = BrokerLimits { receive_maximum: 3, ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        bench.world.automatic = false;
        let (line, got) = bench.hello(&connect(Version::V5, "c"));
        let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
        assert_eq!(properties.number(prop::RECEIVE_MAXIMUM), Some(3));
        for id in 1..=3 {
            bench.publish(line, &publish("t", "x").qos(qos, id));
        }
        assert!(!bench.is_closed(line));
        bench.publish(line, &publish("t", "QoS 0 does not count"));
        assert!(!bench.is_closed(line));
        bench.publish(line, &publish("t", "x").qos(qos, 4));
        let got = bench.got(line);
        assert!(matches!(got[..], [Packet::Disconnect { code: 0x93, .. }]), "{got:?}");
        assert!(bench.is_closed(line));
    }
}

// 5: MQTT-3.1.2-24, MQTT-3.1.2-25
#[test]
fn a_message_larger_than_the_client_takes_is_skipped_as_if_it_had_been_sent() {
    for qos in [0, 1, 2] {
        let mut bench = Bench::new();
        let small = connect(Version::V5, "small")
            .with(prop::four(prop::MAX_PACKET, 60))
            .with(prop::two(prop::RECEIVE_MAXIMUM, 1));
        let line = bench.connect(&small);
        bench.subscribe(line, &[("t", 2)]);
        let large = bench.subscriber(Version::V5, "large", &[("t", 2)]);
        let publisher = bench.client(Version::V5, "publisher");
        // 60 bytes: two of header, three of topic, one of properties, two of identifier.
        let fits = "f".repeat(if qos == 0 { 54 } else { 52 });
        let payloads = ["before", &format!("{fits}x"), &fits, "after"];
        for (id, payload) in (1..).zip(payloads) {
            bench.publish(publisher, &publish("t", payload).qos(qos, if qos > 0 { id } else { 0 }));
        }
        let mut seen = Vec::new();
        loop {
            let raw = bench.world.raw(line.conn);
            assert!(sizes(&raw).iter().all(|size| *size <= 60));
            let got = messages(tidegate_peer::decode::packets(Version::V5, &raw));
            let Some(last) = got.last() else { break };
            seen.extend(super::bench::payloads(&got));
            if qos == 1 {
                bench.send(line, &ack(PUBACK, last.id));
            } else if qos == 2 {
                bench.send(line, &ack(PUBREC, last.id));
                bench.got(line);
                bench.send(line, &ack(PUBCOMP, last.id));
            }
        }
        assert_eq!(seen, ["before", &fits, "after"]);
        assert_eq!(bench.payloads(large).len(), 4, "others get it all the same");
    }
}

// 5: MQTT-3.2.2-15
#[test]
fn a_packet_larger_than_the_server_takes_closes_the_connection() {
    let limits = BrokerLimits { max_packet: 100, ..BrokerLimits::default() };
    let mut bench = Bench::with(limits);
    let (line, got) = bench.hello(&connect(Version::V5, "c"));
    let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    assert_eq!(properties.number(prop::MAX_PACKET), Some(100));
    bench.publish(line, &publish("t", &"x".repeat(94)));
    assert_eq!((bench.is_closed(line), bench.world.published().len()), (false, 1));
    bench.publish(line, &publish("t", &"x".repeat(95)));
    let got = bench.got(line);
    assert!(matches!(got[..], [Packet::Disconnect { code: 0x95, .. }]), "{got:?}");
    assert_eq!((bench.is_closed(line), bench.world.published().len()), (true, 1));
}

// 5: MQTT-3.3.4-10, MQTT-4.4.0-1, MQTT-4.9.0-3
#[test]
fn a_repeated_pubrel_does_not_wait_for_receive_maximum() {
    let (mut bench, line) = behind(5, 2);
    let sent = bench.messages(line);
    bench.send(line, &ack(PUBREC, sent[4].id));
    bench.cut(line);
    let narrow = connect(Version::V5, "c").keep().with(prop::two(prop::RECEIVE_MAXIMUM, 1));
    let (_, _, followed) = bench.resume(&narrow);
    let released = followed
        .iter()
        .any(|packet| matches!(packet, Packet::Ack { kind: PUBREL, id, .. } if *id == sent[4].id));
    assert!(released, "{followed:?}");
    assert_eq!(payloads(&messages(followed)), ["1"]);
}
