//! UNSUBSCRIBE and UNSUBACK: sections 3.10 and 3.11.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

// 5: MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-2.2.1-6, MQTT-3.11.3-1, MQTT-3.11.3-2, MQTT-3.10.4-6
// 3.1.1: MQTT-3.10.4-4, MQTT-3.10.4-5, MQTT-2.3.1-7, MQTT-3.10.4-6
#[test]
fn unsuback_has_the_identifier_and_a_code_for_each_filter_in_order() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("a", 0), ("b/+", 1), ("c/#", 2)]);
        for (id, expected) in [(1, [0x11, 0, 0, 0x8F, 0]), (65_535, [0x11, 0x11, 0x11, 0x8F, 0x11])]
        {
            let filters = ["none", "c/#", "a", "bad#", "b/+"];
            bench.send(line, &unsubscribe(version, id, &filters));
            match &bench.got(line)[..] {
                [Packet::Unsuback { id: got, codes, .. }] => {
                    let expected = if version == Version::V5 { &expected[..] } else { &[] };
                    assert_eq!((*got, &codes[..]), (id, expected));
                }
                other => panic!("{other:?}"),
            }
            for topic in ["a", "b/x", "c"] {
                bench.publish(line, &publish(topic, "x"));
            }
            assert_eq!(bench.messages(line), []);
        }
    }
}

// 5: MQTT-3.10.4-1, MQTT-3.10.4-2
// 3.1.1: MQTT-3.10.4-1, MQTT-3.10.4-2
#[test]
fn only_exactly_the_same_filter_is_deleted() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("a/+", 0)]);
        for filter in ["a/b", "a/#", "#", "+/+", "A/+", "a/+/", "/a/+", "a/+ "] {
            bench.send(line, &unsubscribe(version, 1, &[filter]));
            bench.got(line);
            bench.publish(line, &publish("a/b", "x"));
            assert_eq!(bench.payloads(line), ["x"], "after {filter}");
        }
        bench.send(line, &unsubscribe(version, 1, &["a/+"]));
        bench.got(line);
        bench.publish(line, &publish("a/b", "x"));
        assert_eq!(bench.messages(line), []);
    }
}

// 5: MQTT-3.10.4-3
// 3.1.1: MQTT-3.10.4-3
#[test]
fn what_is_under_way_is_completed() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.connect(&connect(version, "c").kept());
        bench.subscribe(line, &[("t", 2)]);
        bench.publish(line, &publish("t", "one").qos(1, 1));
        bench.publish(line, &publish("t", "two").qos(2, 2));
        bench.publish(line, &publish("t", "three").qos(2, 3));
        let sent = bench.messages(line);
        bench.send(line, &ack(PUBREC, sent[2].id));
        bench.send(line, &unsubscribe(version, 4, &["t"]));
        bench.got(line);
        bench.cut(line);
        let (line, _, followed) = bench.resume(&connect(version, "c").keep());
        assert_eq!(payloads(&messages(followed.clone())), ["one", "two"]);
        let released = Packet::Ack {
            kind: PUBREL,
            id: sent[2].id,
            code: 0,
            properties: tidegate_peer::decode::Properties::default(),
        };
        assert!(followed.contains(&released), "{followed:?}");
        bench.send(line, &ack(PUBACK, sent[0].id));
        bench.send(line, &ack(PUBREC, sent[1].id));
        assert!(matches!(bench.got(line)[..], [Packet::Ack { kind: PUBREL, .. }]));
    }
}

// 5: MQTT-3.10.1-1, MQTT-2.1.3-1
// 3.1.1: MQTT-3.10.1-1, MQTT-2.2.2-2
#[test]
fn other_flags_than_0010_are_malformed() {
    for version in BOTH {
        for flags in (0..16).filter(|flags| *flags != 2) {
            let mut bytes = unsubscribe(version, 1, &["t"]);
            bytes[0] = 0xA0 | flags;
            ends(version, &bytes, 0x81);
        }
    }
}

// 5: MQTT-3.10.3-2
// 3.1.1: MQTT-3.10.3-2
#[test]
fn an_unsubscribe_without_filters_is_a_protocol_error() {
    for version in BOTH {
        ends(version, &unsubscribe(version, 1, &[]), 0x82);
    }
}

// 5: MQTT-3.10.3-1
// 3.1.1: MQTT-3.10.3-1
#[test]
fn a_filter_that_is_no_text_closes_the_connection() {
    for version in BOTH {
        for bad in [&[0xFF][..], &[b'a', 0], &[0xED, 0xA0, 0x80]] {
            let mut body = vec![0, 1];
            if version == Version::V5 {
                body.push(0);
            }
            body.extend(text(bad));
            ends(version, &packet(0xA2, &body), 0x81);
        }
    }
}

// 5: MQTT-3.10.4-2
// 3.1.1: MQTT-3.10.4-2
#[test]
fn what_was_published_in_the_same_bytes_before_still_comes() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("t", 0)]);
        let mut bytes = publish("t", "before").bytes(version);
        bytes.extend(unsubscribe(version, 1, &["t"]));
        bytes.extend(publish("t", "after").bytes(version));
        bench.send(line, &bytes);
        assert_eq!(bench.payloads(line), ["before"]);
    }
}
