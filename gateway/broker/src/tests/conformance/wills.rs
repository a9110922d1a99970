//! Wills: sections 3.1.2.5 and 3.1.3, and their end in 3.14.4.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

/// A broker with a watcher of everything, and what it has seen.
fn watched() -> (Bench, Line) {
    let mut bench = Bench::new();
    let watcher = bench.subscriber(Version::V5, "watcher", &[("#", 2 | RETAIN_AS_PUBLISHED)]);
    (bench, watcher)
}

fn delayed(seconds: u32) -> Will {
    Will { properties: vec![prop::four(prop::WILL_DELAY, seconds)], ..will("w", "gone") }
}

// 5: MQTT-3.1.2-7, MQTT-3.1.2-8, MQTT-3.1.2-10
// 3.1.1: MQTT-3.1.2-8, MQTT-3.1.2-10
#[test]
fn the_will_is_published_once_when_the_network_fails() {
    for version in BOTH {
        let (mut bench, watcher) = watched();
        let line = bench.connect(&connect(version, "c").kept().will(will("w", "gone")));
        bench.pass(5);
        assert_eq!(bench.payloads(watcher), [""; 0], "not while the connection lasts");
        bench.cut(line);
        assert_eq!(bench.payloads(watcher), ["gone"]);
        // It is not part of the session any more.
        let again = bench.connect(&connect(version, "c").keep());
        bench.cut(again);
        bench.pass(30 * 24 * 3600);
        assert_eq!(bench.payloads(watcher), [""; 0]);
    }
}

// 5: MQTT-3.1.2-8
// 3.1.1: MQTT-3.1.2-8
#[test]
fn faults_silence_and_takeovers_bring_out_the_will() {
    for version in BOTH {
        let with_will = connect(version, "c").keep_alive(10).will(will("w", "gone"));
        let (mut bench, watcher) = watched();
        let line = bench.connect(&with_will);
        bench.send(line, &[0x00]);
        assert_eq!(bench.payloads(watcher), ["gone"], "fault");
        bench.connect(&with_will);
        bench.pass(15);
        assert_eq!(bench.payloads(watcher), ["gone"], "silence");
        bench.connect(&with_will);
        bench.client(version, "c");
        assert_eq!(bench.payloads(watcher), ["gone"], "takeover");
    }
}

// 5: MQTT-3.14.4-3, MQTT-3.1.2-10
// 3.1.1: MQTT-3.14.4-3, MQTT-3.1.2-10
#[test]
fn disconnect_discards_the_will() {
    for version in BOTH {
        let (mut bench, watcher) = watched();
        let line = bench.connect(&connect(version, "c").kept().will(will("w", "gone")));
        bench.send(line, DISCONNECT);
        bench.pass(30 * 24 * 3600);
        assert_eq!(bench.payloads(watcher), [""; 0]);
    }
}

// 5: MQTT-3.1.2-8, MQTT-3.14.4-3
#[test]
fn disconnect_with_another_reason_publishes_the_will() {
    for reason in [0x04, 0x80, 0x81] {
        let (mut bench, watcher) = watched();
        let line = bench.connect(&connect(Version::V5, "c").will(will("w", "gone")));
        bench.send(line, &disconnect(reason, &[]));
        assert_eq!(bench.payloads(watcher), ["gone"], "0x{reason:02X}");
    }
}

// 3.1.1: MQTT-3.1.2-12
#[test]
fn without_the_will_flag_nothing_is_published() {
    let (mut bench, watcher) = watched();
    let line = bench.client(Version::V3_1_1, "c");
    bench.cut(line);
    bench.pass(30 * 24 * 3600);
    assert_eq!(bench.payloads(watcher), [""; 0]);
}

// 5: MQTT-3.1.2-14, MQTT-3.1.2-15
// 3.1.1: MQTT-3.1.2-16, MQTT-3.1.2-17, MQTT-3.1.2-9
#[test]
fn will_retain_decides_whether_the_will_is_retained() {
    for version in BOTH {
        for retain in [false, true] {
            let (mut bench, watcher) = watched();
            let will = Will { retain, qos: 1, ..will("w", "gone") };
            let line = bench.connect(&connect(version, "c").will(will));
            bench.cut(line);
            let message = &bench.messages(watcher)[0];
            assert_eq!((message.retain, message.qos), (retain, 1));
            assert_eq!(payloads(&bench.retained("w")).len(), usize::from(retain));
        }
    }
}

// 5: MQTT-3.1.2-8
#[test]
fn a_delayed_will_waits_for_its_delay_or_the_end_of_the_session() {
    for (delay, expiry, at) in [(10, 60, 10), (60, 10, 10), (10, 0, 0), (0, 60, 0)] {
        let (mut bench, watcher) = watched();
        let expiry = prop::four(prop::SESSION_EXPIRY, expiry);
        let line = bench.connect(&connect(Version::V5, "c").with(expiry).will(delayed(delay)));
        bench.cut(line);
        if at > 0 {
            bench.pass(at - 1);
            assert_eq!(bench.payloads(watcher), [""; 0], "too early: {delay}");
            bench.pass(1);
        }
        assert_eq!(bench.payloads(watcher), ["gone"], "{delay}");
    }
}

// 5: MQTT-3.1.3-9, MQTT-3.1.2-8
#[test]
fn a_client_that_is_back_within_the_delay_leaves_no_will() {
    let (mut bench, watcher) = watched();
    let line = bench.connect(&connect(Version::V5, "c").kept().will(delayed(10)));
    bench.cut(line);
    bench.pass(9);
    let line = bench.connect(&connect(Version::V5, "c").keep());
    bench.pass(60);
    bench.send(line, DISCONNECT);
    bench.pass(2 * 3600);
    assert_eq!(bench.payloads(watcher), [""; 0]);
}

// 5: MQTT-3.1.2-8, MQTT-3.1.2-4
#[test]
fn a_clean_start_within_the_delay_ends_the_session_and_brings_out_the_will() {
    let (mut bench, watcher) = watched();
    let line = bench.connect(&connect(Version::V5, "c").kept().will(delayed(10)));
    bench.cut(line);
    bench.pass(1);
    bench.connect(&connect(Version::V5, "c"));
    // Section 3.1.3.2.2: the will is sent when its delay has passed or the session ends.
    assert_eq!(bench.payloads(watcher), ["gone"]);
}

// 5: MQTT-3.1.3-10
#[test]
fn the_properties_of_a_will_are_forwarded_in_order() {
    let (mut bench, watcher) = watched();
    let will = Will {
        properties: vec![
            prop::user("b", "1"),
            prop::byte(prop::PAYLOAD_FORMAT, 1),
            prop::user("a", "2"),
            prop::four(prop::MESSAGE_EXPIRY, 60),
            prop::bytes(prop::CONTENT_TYPE, "text/plain"),
            prop::bytes(prop::RESPONSE_TOPIC, "answers"),
            prop::bytes(prop::CORRELATION, [0, 255]),
            prop::user("b", "3"),
        ],
        ..will("w", "gone")
    };
    let line = bench.connect(&connect(Version::V5, "c").will(will));
    bench.cut(line);
    let properties = &bench.messages(watcher)[0].properties;
    assert_eq!(properties.pairs(), [("b", "1"), ("a", "2"), ("b", "3")]);
    assert_eq!(properties.number(prop::PAYLOAD_FORMAT), Some(1));
    assert_eq!(properties.number(prop::MESSAGE_EXPIRY), Some(60));
    assert_eq!(properties.bytes(prop::CONTENT_TYPE), Some(&b"text/plain"[..]));
    assert_eq!(properties.bytes(prop::RESPONSE_TOPIC), Some(&b"answers"[..]));
    assert_eq!(properties.bytes(prop::CORRELATION), Some(&[0, 255][..]));
    assert!(!properties.has(prop::WILL_DELAY));
}

// 5: MQTT-3.1.4-1, MQTT-3.1.2-12
#[test]
fn a_will_with_wrong_properties_is_refused() {
    let cases = [
        vec![prop::four(prop::WILL_DELAY, 1), prop::four(prop::WILL_DELAY, 1)],
        vec![prop::byte(prop::PAYLOAD_FORMAT, 2)],
        vec![prop::two(prop::ALIAS, 1)],
        vec![prop::bytes(prop::CONTENT_TYPE, [0xFF])],
        vec![prop::bytes(prop::RESPONSE_TOPIC, "a/#")],
        vec![prop::four(prop::SESSION_EXPIRY, 1)],
    ];
    for properties in cases {
        let will = Will { properties, ..will("w", "gone") };
        let bytes = connect(Version::V5, "c").will(will.clone()).bytes();
        let code = refused(Version::V5, &bytes);
        assert!([Some(0x81), Some(0x82), Some(0x90)].contains(&code), "{will:?}: {code:02x?}");
    }
}

// 5: MQTT-4.7.3-3
// 3.1.1: MQTT-4.7.3-3
#[test]
fn a_will_is_bound_by_the_limits_of_topics_as_a_publish_is() {
    for (version, code) in [(Version::V3_1_1, 5), (Version::V5, 0x90)] {
        let (mut bench, _) = watched();
        let limits = bench.world.broker.limits().clone();
        let deep = |levels: usize| vec!["l"; levels].join("/");
        let long = |bytes: usize| "x".repeat(bytes);
        for topic in [deep(limits.max_topic_levels), long(limits.max_topic_bytes)] {
            bench.connect(&connect(version, "within").will(will(&topic, "x")));
        }
        for topic in [deep(limits.max_topic_levels + 1), long(limits.max_topic_bytes + 1)] {
            let (_, got) = bench.hello(&connect(version, "beyond").will(will(&topic, "x")));
            match &got[..] {
                [Packet::Connack { code: got, .. }] => assert_eq!(*got, code),
                other => panic!("{other:?}"),
            }
        }
    }
}
