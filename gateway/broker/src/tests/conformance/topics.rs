//! Topic names, topic filters and how they match: section 4.7.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::QoS;

/// Whether a subscription to `filter` gets a message on `topic`, new or retained.
fn gets(version: Version, filter: &str, topic: &str) -> bool {
    let mut bench = Bench::new();
    let publisher = bench.client(version, "publisher");
    let line = bench.subscriber(version, "c", &[(filter, 0)]);
    bench.publish(publisher, &publish(topic, "x").retain());
    let new = bench.messages(line).len();
    let retained = bench.subscribe(line, &[(filter, 0)]).len();
    assert_eq!(new, retained, "{filter} {topic}");
    new == 1
}

// 5: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-3.3.2-3
// 3.1.1: MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-3.3.2-3
#[test]
fn wildcards_match_as_the_examples_of_the_specification_say() {
    let cases = [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("#", "sport/tennis", true),
        ("sport/tennis/#", "sport/tennis2", false),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+", "sport", true),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("sport/+/player1", "sport/player1", false),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("a/b", "a/B", false),
        ("a", "a/", false),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("ACCOUNTS", "Accounts", false),
        ("Accounts payable", "Accounts payable", true),
    ];
    for version in BOTH {
        for (filter, topic, expected) in cases {
            assert_eq!(gets(version, filter, topic), expected, "{filter} {topic}");
        }
    }
}

// 5: MQTT-4.7.1-1, MQTT-4.7.1-2, MQTT-4.7.3-1
// 3.1.1: MQTT-4.7.1-2, MQTT-4.7.1-3, MQTT-4.7.3-1
#[test]
fn filters_with_misplaced_wildcards_or_without_characters_are_not_granted() {
    let bad =
        ["sport/tennis#", "sport/tennis/#/ranking", "sport+", "sp+rt/a", "#/", "##", "+a/b", ""];
    for (version, code) in [(Version::V3_1_1, 0x80), (Version::V5, 0x8F)] {
        for filter in bad {
            let mut bench = Bench::new();
            let line = bench.client(version, "c");
            bench.send(line, &subscribe(version, 1, &[(filter, 0), ("ok", 0)]));
            match &bench.got(line)[..] {
                [Packet::Suback { codes, .. }] => assert_eq!(codes, &[code, 0], "{filter}"),
                other => panic!("{other:?}"),
            }
        }
    }
}

// 5: MQTT-4.7.2-1
// 3.1.1: MQTT-4.7.2-1
#[test]
fn a_leading_wildcard_does_not_reach_topics_that_begin_with_a_dollar() {
    let cases = [
        ("#", "$x/y", false),
        ("+/y", "$x/y", false),
        ("+/#", "$x/y", false),
        ("+", "$x", false),
        ("$x/#", "$x/y", true),
        ("$x/+", "$x/y", true),
        ("$x/y", "$x/y", true),
        ("#", "x/$y", true),
        ("+/+", "x/$y", true),
    ];
    for version in BOTH {
        for (filter, topic, expected) in cases {
            let mut bench = Bench::new();
            let line = bench.subscriber(version, "c", &[(filter, 0)]);
            // The gateway's own message: clients may not publish to such topics.
            bench.world.inject(topic, "x", QoS::AtMostOnce);
            assert_eq!(bench.messages(line).len(), usize::from(expected), "{filter} {topic}");
        }
    }
}

// 5: MQTT-3.3.4-1, MQTT-4.3.3-9
// 3.1.1: MQTT-3.3.5-2
#[test]
fn clients_do_not_publish_to_topics_that_begin_with_a_dollar() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("$x/#", 2)]);
        let code = if version == Version::V5 { 0x90 } else { 0 };
        bench.publish(line, &publish("$x/y", "x").retain());
        assert_eq!(bench.got(line), []);
        for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
            bench.publish(line, &publish("$x/y", "x").qos(qos, 7).retain());
            match &bench.got(line)[..] {
                [Packet::Ack { kind: got, id: 7, code: reason, .. }] => {
                    assert_eq!((*got, *reason), (kind, code));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bench.retained("$x/#"), []);
    }
}

// 5: MQTT-4.7.3-3
// 3.1.1: MQTT-4.7.3-3
#[test]
fn topics_are_no_longer_than_the_wire_can_say_and_the_limit_of_the_broker_allows() {
    for (version, code) in [(Version::V3_1_1, 0x80), (Version::V5, 0x8F)] {
        let mut bench = Bench::new();
        let limit = bench.world.broker.limits().max_topic_bytes;
        let (longest, longer) = ("x".repeat(limit), "x".repeat(limit + 1));
        let line = bench.client(version, "c");
        let widest = "x".repeat(65_535);
        bench.send(line, &subscribe(version, 1, &[(&longest, 0), (&longer, 0), (&widest, 0)]));
        match &bench.got(line)[..] {
            [Packet::Suback { codes, .. }] => assert_eq!(codes, &[0, code, code]),
            other => panic!("{other:?}"),
        }
        bench.publish(line, &publish(&longest, "x"));
        assert_eq!(bench.messages(line)[0].topic, longest);
        ends(version, &publish(&longer, "x").bytes(version), 0x90);
        ends(version, &publish(&widest, "x").bytes(version), 0x90);
    }
}
