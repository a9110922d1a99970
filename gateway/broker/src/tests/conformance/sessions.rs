//! Sessions: Clean Start, session present, expiry; sections 3.1.2.4, 3.1.2.11.2, 3.2.2 and 4.1.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

/// A kept session of `c` without connection, subscribed to `t` with a message waiting.
fn with_session(version: Version) -> Bench {
    let mut bench = Bench::new();
    let line = bench.connect(&connect(version, "c").keep());
    bench.subscribe(line, &[("t", 2)]);
    bench.cut(line);
    let publisher = bench.client(version, "publisher");
    bench.publish(publisher, &publish("t", "waiting").qos(1, 1));
    bench
}

/// Clean Start 0 without an expiry.
fn not_clean(version: Version) -> Connect {
    Connect { clean: false, ..connect(version, "c") }
}

// 5: MQTT-3.1.2-5, MQTT-3.2.2-3, MQTT-3.1.4-4, MQTT-3.1.2-23, MQTT-4.5.0-1
// 3.1.1: MQTT-3.1.2-4, MQTT-3.1.2-5, MQTT-3.2.2-2, MQTT-3.1.4-3, MQTT-4.1.0-1, MQTT-4.5.0-1
#[test]
fn a_session_is_resumed_with_its_subscriptions_and_messages() {
    for version in BOTH {
        let mut bench = with_session(version);
        let (line, present, followed) = bench.resume(&connect(version, "c").keep());
        assert!(present);
        assert_eq!(payloads(&messages(followed)), ["waiting"]);
        bench.publish(line, &publish("t", "new").qos(2, 1));
        assert_eq!(bench.payloads(line), ["new"]);
    }
}

// 5: MQTT-3.1.2-6, MQTT-3.2.2-3, MQTT-3.2.2-2
// 3.1.1: MQTT-3.1.2-4, MQTT-3.2.2-3, MQTT-3.2.2-1
#[test]
fn without_a_session_one_begins() {
    for version in BOTH {
        for hello in [connect(version, "c"), connect(version, "c").keep()] {
            let mut bench = Bench::new();
            let (line, present, _) = bench.resume(&hello);
            assert!(!present);
            bench.subscribe(line, &[("t", 0)]);
            bench.publish(line, &publish("t", "x"));
            assert_eq!(bench.payloads(line), ["x"]);
        }
    }
}

// 5: MQTT-3.1.2-4, MQTT-3.2.2-2, MQTT-3.1.4-4
// 3.1.1: MQTT-3.1.2-6, MQTT-3.2.2-1, MQTT-3.1.4-3
#[test]
fn a_clean_start_discards_the_old_session() {
    for version in BOTH {
        let mut bench = with_session(version);
        let (line, present, followed) = bench.resume(&connect(version, "c"));
        assert!(!present && followed.is_empty());
        bench.publish(line, &publish("t", "x").qos(1, 1));
        assert_eq!(bench.messages(line), [], "the subscription is gone");
        bench.cut(line);
        let (_, present, followed) = bench.resume(&connect(version, "c").keep());
        assert!(!present && followed.is_empty());
    }
}

// 5: MQTT-4.1.0-2
// 3.1.1: MQTT-3.1.2-6
#[test]
fn a_session_without_expiry_ends_with_its_connection() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("t", 2)]);
        bench.cut(line);
        let (line, present, _) = bench.resume(&connect(version, "c").keep());
        assert!(!present);
        bench.publish(line, &publish("t", "x"));
        assert_eq!(bench.messages(line), []);
    }
    // In MQTT 5 Clean Start 0 alone keeps nothing either.
    let mut bench = Bench::new();
    let line = bench.connect(&not_clean(Version::V5));
    bench.cut(line);
    assert!(!bench.resume(&not_clean(Version::V5)).1);
}

// 5: MQTT-4.1.0-2, MQTT-3.1.2-23
#[test]
fn a_session_is_kept_as_long_as_its_expiry_says_and_no_longer() {
    for (away, present) in [(9, true), (10, false)] {
        let mut bench = Bench::new();
        let hello = connect(Version::V5, "c").with(prop::four(prop::SESSION_EXPIRY, 10));
        let line = bench.connect(&hello);
        // The time with a connection does not count.
        bench.pass(100);
        bench.cut(line);
        bench.pass(away);
        assert_eq!(bench.resume(&not_clean(Version::V5)).1, present);
    }
}

// 5: MQTT-4.1.0-2
#[test]
fn disconnect_may_change_the_expiry_but_not_from_nothing() {
    for (change, away, present) in [(100, 50, true), (5, 6, false), (0, 0, false)] {
        let mut bench = Bench::new();
        let hello = connect(Version::V5, "c").with(prop::four(prop::SESSION_EXPIRY, 10));
        let line = bench.connect(&hello);
        bench.send(line, &disconnect(0, &[prop::four(prop::SESSION_EXPIRY, change)]));
        bench.pass(away);
        assert_eq!(bench.resume(&not_clean(Version::V5)).1, present, "{change}");
    }
    // Section 3.14.2.2.2: a protocol error.
    let bytes = disconnect(0, &[prop::four(prop::SESSION_EXPIRY, 10)]);
    ends(Version::V5, &bytes, 0x82);
}

// 5: MQTT-4.1.0-1
// 3.1.1: MQTT-4.1.0-1, MQTT-4.1.0-2
#[test]
fn a_session_lasts_as_long_as_its_connection() {
    for version in BOTH {
        for hello in [connect(version, "c"), connect(version, "c").keep()] {
            let mut bench = Bench::new();
            let line = bench.connect(&hello);
            bench.subscribe(line, &[("t", 1)]);
            bench.pass(40 * 24 * 3600);
            bench.publish(line, &publish("t", "x").qos(1, 1));
            assert_eq!(bench.payloads(line), ["x"]);
        }
    }
}

// 5: MQTT-3.1.2-5, MQTT-3.1.4-3
// 3.1.1: MQTT-3.1.2-4, MQTT-3.1.4-2
#[test]
fn a_takeover_hands_the_session_over() {
    for version in BOTH {
        let mut bench = Bench::new();
        let old = bench.connect(&connect(version, "c").kept());
        bench.subscribe(old, &[("t", 1)]);
        bench.publish(old, &publish("t", "x").qos(1, 1));
        let first = bench.messages(old).remove(0);
        let (new, present, followed) = bench.resume(&connect(version, "c").keep());
        assert!(present);
        let again = messages(followed).remove(0);
        assert!(again.dup && again.id == first.id);
        bench.got(old);
        bench.publish(new, &publish("t", "y").qos(1, 2));
        assert_eq!((bench.payloads(new), bench.got(old)), (vec!["y".to_owned()], vec![]));
    }
}

// 5: MQTT-3.1.2-4, MQTT-4.4.0-1
// 3.1.1: MQTT-3.1.2-6, MQTT-4.4.0-1
#[test]
fn nothing_under_way_survives_a_clean_start() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.connect(&connect(version, "c").kept());
        bench.subscribe(line, &[("t", 2)]);
        for (id, qos) in [(1, 1), (2, 2)] {
            bench.publish(line, &publish("t", "x").qos(qos, id));
        }
        assert_eq!(bench.messages(line).len(), 2);
        bench.cut(line);
        let (line, present, followed) = bench.resume(&connect(version, "c"));
        assert!(!present && followed.is_empty());
        // An identifier received with QoS 2 is forgotten, too.
        bench.subscribe(line, &[("t", 0)]);
        bench.publish(line, &publish("t", "y").qos(2, 2));
        assert_eq!(bench.payloads(line), ["y"]);
    }
}

// 5: MQTT-3.1.2-23
#[test]
fn the_server_tells_when_it_keeps_a_session_for_a_shorter_time() {
    let mut bench = Bench::new();
    let never = connect(Version::V5, "c").with(prop::four(prop::SESSION_EXPIRY, u32::MAX));
    let (_, got) = bench.hello(&never);
    let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    let granted = bench.world.broker.limits().max_session_expiry.as_secs();
    assert_eq!(properties.number(prop::SESSION_EXPIRY), Some(granted as u32));
    let (_, got) = bench.hello(&connect(Version::V5, "d").kept());
    let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
    assert!(!properties.has(prop::SESSION_EXPIRY), "as the client asked");
}
