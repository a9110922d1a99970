//! DISCONNECT, both ways: section 3.14.

use tidegate_peer::Version;
use tidegate_peer::decode::{Packet, packets};
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

// 5: MQTT-3.14.1-1, MQTT-2.1.3-1
// 3.1.1: MQTT-3.14.1-1, MQTT-2.2.2-2
#[test]
fn reserved_flags_are_malformed() {
    for version in BOTH {
        for flags in 1..16 {
            ends(version, &[0xE0 | flags, 0], 0x81);
        }
    }
    ends(Version::V3_1_1, &[0xE0, 1, 0], 0x81);
}

// 5: MQTT-3.14.4-1, MQTT-3.14.4-2
// 3.1.1: MQTT-3.14.4-1, MQTT-3.14.4-2
#[test]
fn after_the_clients_disconnect_nothing_is_processed_or_sent() {
    for version in BOTH {
        let mut bench = Bench::new();
        let watcher = bench.subscriber(version, "watcher", &[("#", 0)]);
        let line = bench.client(version, "c");
        let bytes = [DISCONNECT, PINGREQ, &publish("t", "x").bytes(version)].concat();
        bench.send(line, &bytes);
        assert!(bench.is_closed(line));
        assert_eq!((bench.got(line), bench.payloads(watcher)), (vec![], vec![]));
    }
}

// 5: MQTT-3.14.2-1, MQTT-4.13.1-1
#[test]
fn a_disconnect_with_a_wrong_reason_or_property_is_an_error() {
    let cases = [
        packet(0xE0, &[0x01]),
        packet(0xE0, &[0xFF]),
        packet(0xE0, &[0x00, 5, prop::SESSION_EXPIRY]),
        disconnect(0, &[prop::two(prop::ALIAS, 1)]),
        disconnect(0, &[prop::bytes(prop::REASON, [0xFF])]),
        disconnect(0, &[prop::bytes(prop::REASON, "a"), prop::bytes(prop::REASON, "b")]),
        packet(0xE0, &[0x00, 0, 0]),
    ];
    for bytes in cases {
        let mut bench = Bench::new();
        let watcher = bench.subscriber(Version::V5, "watcher", &[("w", 0)]);
        let line = bench.connect(&connect(Version::V5, "c").will(will("w", "gone")));
        bench.send(line, &bytes);
        let got = bench.got(line);
        assert!(
            matches!(got[..], [Packet::Disconnect { code: 0x81 | 0x82, .. }]),
            "{got:?} for {bytes:02x?}"
        );
        assert!(bench.is_closed(line));
        assert_eq!(bench.payloads(watcher), ["gone"], "this was no goodbye: {bytes:02x?}");
    }
}

// 5: MQTT-3.14.2-1
#[test]
fn each_of_the_clients_reasons_is_a_goodbye() {
    for code in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99]
    {
        let mut bench = Bench::new();
        let line = bench.client(Version::V5, "c");
        bench.send(
            line,
            &disconnect(code, &[prop::bytes(prop::REASON, "so"), prop::user("k", "v")]),
        );
        assert!(bench.is_closed(line));
        assert_eq!(bench.got(line), [], "0x{code:02X}");
    }
}

/// What a client that takes packets of `max` bytes is told when it breaks the protocol.
fn told(max: u32, more: Vec<Vec<u8>>) -> Vec<u8> {
    let mut hello = connect(Version::V5, "c").with(prop::four(prop::MAX_PACKET, max));
    hello.properties.extend(more);
    let mut bench = Bench::new();
    let line = bench.connect(&hello);
    bench.send(line, &publish("#", "x").bytes(Version::V5));
    assert!(bench.is_closed(line));
    bench.world.raw(line.conn)
}

// 5: MQTT-3.14.2-3, MQTT-3.14.2-4, MQTT-3.14.2-2, MQTT-3.1.2-24, MQTT-4.13.2-1
#[test]
fn a_disconnect_leaves_out_what_would_make_it_too_large() {
    let whole = told(1000, vec![]);
    let got = packets(Version::V5, &whole);
    let [Packet::Disconnect { code: 0x90, properties }] = &got[..] else { panic!("{got:?}") };
    assert!(properties.has(prop::REASON), "with room enough there is a reason string");
    assert!(!properties.has(prop::SESSION_EXPIRY) && properties.pairs().is_empty());
    let short = told(whole.len() as u32 - 1, vec![]);
    assert!(matches!(
        &packets(Version::V5, &short)[..],
        [Packet::Disconnect { code: 0x90, properties }] if properties.0.is_empty()
    ));
}

// 5: MQTT-3.1.2-29
#[test]
fn a_disconnect_to_a_client_without_problem_information_still_has_its_reason_code() {
    let got = packets(Version::V5, &told(1000, vec![prop::byte(prop::PROBLEM_INFO, 0)]));
    assert!(matches!(got[..], [Packet::Disconnect { code: 0x90, .. }]), "{got:?}");
}

// 5: MQTT-3.14.4-1, MQTT-3.14.4-2, MQTT-3.14.2-1, MQTT-3.14.2-2
#[test]
fn after_the_servers_disconnect_nothing_is_sent_and_the_connection_closes() {
    let mut bench = Bench::new();
    let line = bench.subscriber(Version::V5, "c", &[("t", 1)]);
    let now = bench.world.now;
    bench.world.broker.disconnect_all(now);
    bench.world.settle();
    assert!(bench.is_closed(line));
    let got = bench.got(line);
    let [Packet::Disconnect { code: 0x8B, properties }] = &got[..] else { panic!("{got:?}") };
    assert!(!properties.has(prop::SESSION_EXPIRY));
    bench.world.inject("t", "x", crate::QoS::AtLeastOnce);
    bench.send(line, PINGREQ);
    assert_eq!(bench.got(line), []);
}

// 5: MQTT-3.14.0-1
#[test]
fn no_disconnect_goes_to_a_client_that_was_not_let_in() {
    let mut bench = Bench::new();
    let silent = bench.open(Version::V5);
    bench.pass(10);
    assert!(bench.is_closed(silent), "no CONNECT in time");
    let half = bench.open(Version::V5);
    bench.send(half, &connect(Version::V5, "c").bytes()[..5]);
    let now = bench.world.now;
    bench.world.broker.disconnect_all(now);
    bench.world.settle();
    assert!(bench.is_closed(half));
    let limits = BrokerLimits { max_packet_before_connect: 64, ..BrokerLimits::default() };
    let mut strict = Bench::with(limits);
    let large = strict.open(Version::V5);
    strict.send(large, &connect(Version::V5, &"c".repeat(100)).bytes());
    assert!(strict.is_closed(large));
    assert_eq!((bench.got(silent), bench.got(half), strict.got(large)), (vec![], vec![], vec![]));
}
