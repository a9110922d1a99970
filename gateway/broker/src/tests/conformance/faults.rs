//! Errors: sections 4.13 (MQTT 5) and 4.8 (MQTT 3.1.1).

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

// 5: MQTT-4.13.1-1, MQTT-4.13.2-1
// 3.1.1: MQTT-4.8.0-1
#[test]
fn a_fault_ends_its_own_connection_and_no_other() {
    for version in BOTH {
        let mut bench = Bench::new();
        let good = bench.subscriber(version, "good", &[("t", 1)]);
        let bad = bench.subscriber(version, "bad", &[("t", 1)]);
        bench.send(bad, &[0x00]);
        assert!(bench.is_closed(bad) && !bench.is_closed(good));
        bench.publish(good, &publish("t", "x"));
        assert_eq!(bench.payloads(good), ["x"]);
    }
}

// 5: MQTT-4.13.1-1
// 3.1.1: MQTT-4.8.0-1
#[test]
fn what_came_before_the_fault_counts_and_what_comes_after_does_not() {
    for version in BOTH {
        let mut bench = Bench::new();
        let watcher = bench.subscriber(version, "watcher", &[("t", 0)]);
        let line = bench.client(version, "c");
        let before = publish("t", "before").bytes(version);
        let after = publish("t", "after").bytes(version);
        bench.send(line, &[&before[..], &[0x00, 0], &after].concat());
        bench.send(line, &after);
        assert_eq!(bench.payloads(watcher), ["before"]);
    }
}

// 5: MQTT-4.13.2-1
#[test]
fn the_connection_closes_even_where_no_disconnect_fits() {
    let mut bench = Bench::new();
    let mut closed = 0;
    // CONNACK does not fit in the smallest of these either: then there is no connection at all.
    for max in 1..40 {
        let hello = connect(Version::V5, "c").with(prop::four(prop::MAX_PACKET, max));
        let (line, _) = bench.hello(&hello);
        bench.send(line, &[0x00, 0]);
        closed += u32::from(bench.is_closed(line));
    }
    assert_eq!(closed, 39);
}

// 3.1.1: MQTT-4.8.0-2
#[test]
fn where_there_is_no_room_for_a_session_the_connection_closes() {
    for (version, code) in [(Version::V3_1_1, 3), (Version::V5, 0x97)] {
        let limits = BrokerLimits { max_sessions: 2, ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        let kept = bench.subscriber(version, "a", &[("t", 0)]);
        bench.client(version, "b");
        let (refused, got) = bench.hello(&connect(version, "c"));
        assert!(matches!(got[..], [Packet::Connack { code: got, .. }] if got == code), "{got:?}");
        assert!(bench.is_closed(refused));
        bench.publish(kept, &publish("t", "x"));
        assert_eq!(bench.payloads(kept), ["x"], "the others are not disturbed");
    }
}
