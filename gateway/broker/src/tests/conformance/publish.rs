//! PUBLISH in and out: section 3.3, but for retained messages, properties and flow control.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

// 5: MQTT-3.3.1-4
// 3.1.1: MQTT-3.3.1-4, MQTT-4.8.0-1
#[test]
fn qos_3_closes_the_connection() {
    for version in BOTH {
        ends(version, &publish("t", "x").qos(3, 1).bytes(version), 0x81);
    }
}

// 5: MQTT-3.3.1-2, MQTT-4.3.1-1, MQTT-2.2.1-2
// 3.1.1: MQTT-3.3.1-2, MQTT-4.3.1-1, MQTT-2.3.1-5
#[test]
fn qos_0_has_neither_dup_nor_identifier() {
    for version in BOTH {
        ends(version, &publish("t", "x").dup().bytes(version), 0x81);
        // The strict client finds a packet identifier in front of the payload, or DUP.
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("t", 0)]);
        bench.publish(line, &publish("t", "x").qos(1, 7));
        let message = bench.messages(line).remove(0);
        assert_eq!((message.qos, message.dup, &message.payload[..]), (0, false, &b"x"[..]));
    }
}

// 5: MQTT-2.2.1-3
// 3.1.1: MQTT-2.3.1-1
#[test]
fn a_packet_identifier_is_never_0() {
    for version in BOTH {
        ends(version, &publish("t", "x").qos(1, 0).bytes(version), 0x82);
        ends(version, &publish("t", "x").qos(2, 0).bytes(version), 0x82);
        ends(version, &subscribe(version, 0, &[("t", 0)]), 0x82);
        ends(version, &unsubscribe(version, 0, &["t"]), 0x82);
    }
}

// 5: MQTT-3.3.2-1
// 3.1.1: MQTT-3.3.2-1
#[test]
fn a_publish_without_a_whole_topic_is_malformed() {
    for version in BOTH {
        for body in [&[][..], &[0], &[0, 5, b't']] {
            ends(version, &packet(0x30, body), 0x81);
        }
        for topic in [&[0xFF][..], &[b'a', 0], &[0xED, 0xA0, 0x80]] {
            let publish = Publish { topic: topic.into(), ..publish("", "x") };
            ends(version, &publish.bytes(version), 0x81);
        }
    }
}

// 5: MQTT-3.3.2-2, MQTT-4.7.0-1
// 3.1.1: MQTT-3.3.2-2, MQTT-4.7.1-1
#[test]
fn a_topic_name_with_a_wildcard_closes_the_connection() {
    for version in BOTH {
        for topic in ["#", "+", "a/#", "a/+/b", "a+", "#a"] {
            ends(version, &publish(topic, "x").bytes(version), 0x90);
            ends(version, &publish(topic, "x").qos(1, 1).bytes(version), 0x90);
        }
    }
}

// 5: MQTT-4.7.3-1
// 3.1.1: MQTT-4.7.3-1
#[test]
fn a_topic_name_has_at_least_one_character() {
    ends(Version::V3_1_1, &publish("", "x").bytes(Version::V3_1_1), 0x82);
    // MQTT 5 calls it a protocol error when there is no topic alias either (3.3.2.1).
    ends(Version::V5, &publish("", "x").bytes(Version::V5), 0x82);
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("#", 0)]);
        for topic in ["/", "a", " "] {
            bench.publish(line, &publish(topic, "x"));
            assert_eq!(bench.messages(line)[0].topic, topic);
        }
    }
}

// 5: MQTT-3.3.1-3
// 3.1.1: MQTT-3.3.1-3
#[test]
fn dup_is_not_passed_on() {
    for version in BOTH {
        for qos in [1, 2] {
            let mut bench = Bench::new();
            let watcher = bench.subscriber(version, "watcher", &[("t", 2)]);
            let line = bench.client(version, "c");
            bench.publish(line, &publish("t", "x").qos(qos, 7).dup());
            let message = bench.messages(watcher).remove(0);
            assert_eq!((message.dup, message.qos), (false, qos));
        }
    }
}

// 5: MQTT-3.3.2-3, MQTT-4.5.0-1
// 3.1.1: MQTT-3.3.2-3, MQTT-4.5.0-1
#[test]
fn a_message_reaches_exactly_the_sessions_whose_filters_match() {
    for version in BOTH {
        let mut bench = Bench::new();
        let exact = bench.subscriber(version, "exact", &[("a/b", 0)]);
        let plus = bench.subscriber(version, "plus", &[("+/b", 1)]);
        let hash = bench.subscriber(version, "hash", &[("a/#", 2)]);
        let none = bench.subscriber(version, "none", &[("a/b/c", 0), ("a", 1), ("a/+/b", 2)]);
        let away = bench.connect(&connect(version, "away").kept());
        bench.subscribe(away, &[("a/b", 1)]);
        bench.cut(away);
        let line = bench.client(version, "c");
        bench.publish(line, &publish("a/b", "x").qos(2, 1));
        for (line, qos) in [(exact, 0), (plus, 1), (hash, 2)] {
            let messages = bench.messages(line);
            assert_eq!(messages.len(), 1);
            assert_eq!((messages[0].topic.as_str(), messages[0].qos), ("a/b", qos));
        }
        assert_eq!(bench.messages(none), []);
        let (_, _, followed) = bench.resume(&connect(version, "away").keep());
        assert_eq!(payloads(&messages(followed)), ["x"]);
    }
}

// 5: MQTT-3.3.4-2, MQTT-3.3.4-5
// 3.1.1: MQTT-3.3.5-1
#[test]
fn overlapping_subscriptions_deliver_one_copy_with_the_highest_qos() {
    for version in BOTH {
        for filters in [[("a/#", 2), ("a/b", 0)], [("a/b", 1), ("+/b", 2)]] {
            let mut bench = Bench::new();
            let line = bench.subscriber(version, "c", &filters);
            bench.publish(line, &publish("a/b", "x").qos(2, 1));
            let messages = bench.messages(line);
            assert_eq!(messages.len(), 1, "a single copy is what this broker sends");
            assert_eq!(messages[0].qos, 2);
        }
    }
}

// 5: MQTT-3.3.4-1
// 3.1.1: MQTT-3.3.4-1
#[test]
fn the_answer_is_as_the_qos_asks() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        bench.publish(line, &publish("t", "x"));
        assert_eq!(bench.got(line), []);
        bench.publish(line, &publish("t", "x").qos(1, 7));
        let got = bench.got(line);
        assert!(matches!(got[..], [Packet::Ack { kind: PUBACK, id: 7, code: 0, .. }]), "{got:?}");
        bench.publish(line, &publish("t", "x").qos(2, 8));
        let got = bench.got(line);
        assert!(matches!(got[..], [Packet::Ack { kind: PUBREC, id: 8, code: 0, .. }]), "{got:?}");
    }
}

// 3.1.1: MQTT-3.3.5-2
#[test]
fn a_publish_that_is_refused_closes_a_3_1_1_connection_without_acknowledgement() {
    for qos in [1, 2] {
        let mut bench = Bench::new();
        bench.world.automatic = false;
        let line = bench.client(Version::V3_1_1, "c");
        bench.publish(line, &publish("t", "x").qos(qos, 7));
        let ticket = bench.world.tickets[0].0;
        let reason = crate::RefuseReason::NotAuthorized;
        bench.world.answer(ticket, crate::Answer::Refused { reason, text: "no".into() });
        assert_eq!(bench.got(line), []);
        assert!(bench.is_closed(line));
    }
}

// 5: MQTT-4.6.0-5, MQTT-4.6.0-6
// 3.1.1: MQTT-4.6.0-5, MQTT-4.6.0-6
#[test]
fn messages_of_one_client_keep_their_order_for_each_subscriber() {
    for version in BOTH {
        for qos in [0, 1, 2] {
            let mut bench = Bench::new();
            let present = bench.subscriber(version, "present", &[("t", 2)]);
            let away = bench.connect(&connect(version, "away").kept());
            bench.subscribe(away, &[("t", 2)]);
            bench.cut(away);
            let line = bench.client(version, "c");
            let sent: Vec<String> = (1..=20).map(|i| i.to_string()).collect();
            for (id, payload) in (1..).zip(&sent) {
                bench.publish(line, &publish("t", payload).qos(qos, if qos > 0 { id } else { 0 }));
            }
            assert_eq!(bench.payloads(present), sent);
            let (_, _, followed) = bench.resume(&connect(version, "away").keep());
            let expected = if qos == 0 { &[][..] } else { &sent[..] };
            assert_eq!(payloads(&messages(followed)), expected);
        }
    }
}
