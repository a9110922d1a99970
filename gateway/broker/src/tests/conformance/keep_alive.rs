//! Keep-alive and PINGREQ: sections 3.1.2.10, 3.2.2.3.14 and 3.12.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

// 5: MQTT-3.1.2-22, MQTT-3.2.2-22
// 3.1.1: MQTT-3.1.2-24
#[test]
fn silence_for_one_and_a_half_keep_alives_closes_the_connection() {
    for version in BOTH {
        let mut bench = Bench::new();
        let watcher = bench.subscriber(version, "watcher", &[("w", 0)]);
        let line = bench.connect(&connect(version, "c").keep_alive(10).will(will("w", "gone")));
        bench.pass(14);
        assert!(!bench.is_closed(line), "too early");
        bench.pass(1);
        assert!(bench.is_closed(line));
        match (version, &bench.got(line)[..]) {
            (Version::V3_1_1, []) | (Version::V5, [Packet::Disconnect { code: 0x8D, .. }]) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(bench.payloads(watcher), ["gone"], "as if the network had failed");
    }
}

// 5: MQTT-3.1.2-22
// 3.1.1: MQTT-3.1.2-24
#[test]
fn every_packet_of_the_client_counts_and_none_of_the_server() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.connect(&connect(version, "c").keep_alive(10));
        let other = bench.client(version, "other");
        let packets = [
            PINGREQ.to_vec(),
            publish("x", "x").bytes(version),
            publish("x", "x").qos(1, 1).bytes(version),
            publish("x", "x").qos(2, 2).bytes(version),
            ack(PUBREL, 2),
            subscribe(version, 3, &[("t", 0)]),
            unsubscribe(version, 4, &["none"]),
        ];
        for bytes in packets {
            bench.pass(14);
            bench.send(line, &bytes);
            assert!(!bench.is_closed(line), "{bytes:02x?}");
        }
        bench.pass(14);
        bench.publish(other, &publish("t", "x"));
        assert!(!bench.got(line).is_empty());
        // Half a packet is none.
        bench.send(line, &PINGREQ[..1]);
        bench.pass(1);
        assert!(bench.is_closed(line));
    }
}

// 5: MQTT-3.1.2-22
// 3.1.1: MQTT-3.1.2-24
#[test]
fn without_keep_alive_silence_is_allowed_for_ever() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        bench.pass(400 * 24 * 3600);
        bench.send(line, PINGREQ);
        assert_eq!(bench.got(line), [Packet::Pingresp]);
    }
}

// 5: MQTT-3.1.2-21, MQTT-3.2.2-21, MQTT-3.1.2-22
#[test]
fn a_server_keep_alive_is_told_and_counts() {
    for wished in [0, 11, 65_535] {
        let limits = BrokerLimits { max_keep_alive: Some(10), ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        let (line, got) = bench.hello(&connect(Version::V5, "c").keep_alive(wished));
        let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
        assert_eq!(properties.number(prop::SERVER_KEEP_ALIVE), Some(10));
        bench.pass(14);
        assert!(!bench.is_closed(line));
        bench.pass(1);
        assert!(bench.is_closed(line));
    }
}

// 5: MQTT-3.2.2-22
#[test]
fn without_server_keep_alive_that_of_the_client_counts() {
    let limits = BrokerLimits { max_keep_alive: Some(100), ..BrokerLimits::default() };
    let mut bench = Bench::with(limits);
    let (line, got) = bench.hello(&connect(Version::V5, "c").keep_alive(20));
    let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    assert!(!properties.has(prop::SERVER_KEEP_ALIVE));
    bench.pass(29);
    assert!(!bench.is_closed(line));
    bench.pass(1);
    assert!(bench.is_closed(line));
}

// 5: MQTT-3.12.4-1
// 3.1.1: MQTT-3.12.4-1
#[test]
fn each_pingreq_is_answered() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        bench.send(line, &[PINGREQ, PINGREQ, PINGREQ].concat());
        assert_eq!(bench.got(line), [Packet::Pingresp, Packet::Pingresp, Packet::Pingresp]);
    }
}

// 5: MQTT-2.1.3-1
// 3.1.1: MQTT-2.2.2-1, MQTT-2.2.2-2
#[test]
fn pingreq_has_no_flags_and_no_body() {
    for version in BOTH {
        for flags in 1..16 {
            ends(version, &[0xC0 | flags, 0], 0x81);
        }
        ends(version, &[0xC0, 1, 0], 0x81);
    }
}
