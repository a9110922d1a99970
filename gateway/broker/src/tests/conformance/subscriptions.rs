//! SUBSCRIBE and SUBACK: sections 3.8 and 3.9.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

// 5: MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.2.1-6, MQTT-3.8.4-6, MQTT-3.8.4-7, MQTT-3.9.3-1
// 5: MQTT-3.9.3-2
// 3.1.1: MQTT-3.8.4-1, MQTT-3.8.4-2, MQTT-2.3.1-7, MQTT-3.8.4-5, MQTT-3.9.3-1, MQTT-3.9.3-2
#[test]
fn suback_has_the_identifier_and_a_code_for_each_filter_in_order() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        let filters = [("a", 0), ("b", 2), ("bad#", 1), ("c", 1), ("+/#", 2), ("", 0), ("d", 0)];
        for id in [1, 300, 65_535] {
            bench.send(line, &subscribe(version, id, &filters));
            let bad = if version == Version::V5 { 0x8F } else { 0x80 };
            match &bench.got(line)[..] {
                [Packet::Suback { id: got, codes, .. }] => {
                    assert_eq!((*got, &codes[..]), (id, &[0, 2, bad, 1, 2, bad, 0][..]));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

// 5: MQTT-3.8.4-5
// 3.1.1: MQTT-3.8.4-4
#[test]
fn several_filters_are_like_several_packets_with_one_answer() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        // The last one for the same filter counts, and a bad one harms no other.
        bench.send(line, &subscribe(version, 1, &[("t", 0), ("bad#", 0), ("t", 1), ("u", 1)]));
        assert_eq!(bench.got(line).len(), 1);
        for topic in ["t", "u"] {
            bench.publish(line, &publish(topic, "x").qos(1, 1));
            let messages = bench.messages(line);
            assert!(messages.len() == 1 && messages[0].qos == 1);
            bench.send(line, &ack(PUBACK, messages[0].id));
        }
    }
}

// 5: MQTT-3.8.1-1, MQTT-2.1.3-1
// 3.1.1: MQTT-3.8.1-1, MQTT-2.2.2-1, MQTT-2.2.2-2
#[test]
fn other_flags_than_0010_are_malformed() {
    for version in BOTH {
        for flags in (0..16).filter(|flags| *flags != 2) {
            let mut bytes = subscribe(version, 1, &[("t", 0)]);
            bytes[0] = 0x80 | flags;
            ends(version, &bytes, 0x81);
        }
    }
}

// 5: MQTT-3.8.3-2, MQTT-4.13.1-1
// 3.1.1: MQTT-3.8.3-3, MQTT-4.8.0-1
#[test]
fn a_subscribe_without_filters_is_a_protocol_error() {
    for version in BOTH {
        ends(version, &subscribe(version, 1, &[]), 0x82);
    }
}

// 5: MQTT-3.8.3-5
// 3.1.1: MQTT-3.8.3-4
#[test]
fn reserved_bits_and_values_in_the_options_are_errors() {
    for options in [3, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xFC] {
        ends(Version::V3_1_1, &subscribe(Version::V3_1_1, 1, &[("t", options)]), 0x81);
    }
    for options in [0x40, 0x80, 0xC0, 0x41] {
        ends(Version::V5, &subscribe(Version::V5, 1, &[("t", options)]), 0x81);
    }
    // Values that are not reserved bits, but not allowed: 3.8.3.1 calls them protocol errors.
    for options in [0x03, 0x30] {
        let mut bench = Bench::new();
        let line = bench.client(Version::V5, "c");
        bench.send(line, &subscribe(Version::V5, 1, &[("t", options)]));
        let got = bench.got(line);
        assert!(matches!(got[..], [Packet::Disconnect { code: 0x81 | 0x82, .. }]), "{got:?}");
        assert!(bench.is_closed(line));
    }
}

// 5: MQTT-3.8.3-1, MQTT-1.5.4-1, MQTT-1.5.4-2, MQTT-4.7.3-2
// 3.1.1: MQTT-3.8.3-1, MQTT-1.5.3-1, MQTT-1.5.3-2, MQTT-4.7.3-2
#[test]
fn a_filter_that_is_no_text_closes_the_connection() {
    for version in BOTH {
        for bad in [&[0xFF][..], &[b'a', 0], &[0xED, 0xA0, 0x80], &[0xC0, 0x80]] {
            let mut body = vec![0, 1];
            if version == Version::V5 {
                body.push(0);
            }
            body.extend(text(bad));
            body.push(0);
            ends(version, &packet(0x82, &body), 0x81);
        }
    }
}

// 5: MQTT-4.13.1-1
#[test]
fn a_subscription_identifier_of_0_or_twice_is_a_protocol_error() {
    let cases = [
        (vec![prop::subscription_id(0)], 0x82),
        (vec![prop::subscription_id(1), prop::subscription_id(2)], 0x82),
        // A property of another packet is malformed (section 2.2.2.2).
        (vec![prop::two(prop::ALIAS, 1)], 0x81),
    ];
    for (list, code) in cases {
        ends(Version::V5, &subscribe_with(Version::V5, 1, &[("t", 0)], &list), code);
    }
}

// 5: MQTT-3.8.3-3
#[test]
fn no_local_keeps_a_message_from_the_client_that_published_it() {
    let mut bench = Bench::new();
    let line = bench.connect(&connect(Version::V5, "c").kept());
    bench.subscribe(line, &[("t", NO_LOCAL | 1)]);
    let other = bench.subscriber(Version::V5, "other", &[("t", 1)]);
    bench.publish(line, &publish("t", "own").qos(1, 1));
    bench.publish(other, &publish("t", "another's"));
    assert_eq!(bench.payloads(line), ["another's"]);
    assert_eq!(bench.payloads(other), ["own", "another's"]);
    // It is the client identifier that counts, not the connection.
    bench.cut(line);
    let again = bench.connect(&connect(Version::V5, "c").keep());
    bench.publish(again, &publish("t", "own").qos(1, 2));
    assert_eq!(bench.messages(again), []);
    // The will of a client is its own message, too.
    let will = connect(Version::V5, "c").keep().will(will("t", "will"));
    let again = bench.connect(&will);
    bench.cut(again);
    let (_, _, followed) = bench.resume(&connect(Version::V5, "c").keep());
    assert_eq!(messages(followed), []);
}

// 5: MQTT-3.8.3-4
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    ends(Version::V5, &subscribe(Version::V5, 1, &[("$share/g/t", NO_LOCAL)]), 0x82);
}

// 5: MQTT-3.8.4-3, MQTT-3.8.4-4
// 3.1.1: MQTT-3.8.4-3
#[test]
fn the_same_filter_again_replaces_the_subscription_and_loses_nothing() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.connect(&connect(version, "c").kept());
        bench.subscribe(line, &[("t", 1)]);
        bench.publish(line, &publish("t", "before").qos(1, 1).retain());
        let before = bench.messages(line).remove(0);
        let followed = messages(bench.subscribe(line, &[("t", 0)]));
        assert_eq!(payloads(&followed), ["before"], "retained messages are sent again");
        assert!(followed[0].retain && followed[0].qos == 0);
        // The message that was under way still is.
        bench.publish(line, &publish("t", "after").qos(1, 1));
        let after = bench.messages(line);
        assert_eq!((after.len(), after[0].qos), (1, 0), "one subscription, with the new QoS");
        bench.cut(line);
        let (_, _, followed) = bench.resume(&connect(version, "c").keep());
        let again = messages(followed);
        assert_eq!((again.len(), again[0].id), (1, before.id));
    }
}

// 5: MQTT-3.8.4-3
#[test]
fn a_replaced_subscription_has_the_new_options_and_identifier() {
    let mut bench = Bench::new();
    let line = bench.client(Version::V5, "c");
    let first = [prop::subscription_id(1)];
    bench.send(line, &subscribe_with(Version::V5, 1, &[("t", RETAIN_AS_PUBLISHED)], &first));
    bench.publish(line, &publish("t", "x").retain());
    let message = bench.messages(line).remove(0);
    assert_eq!(
        (message.retain, message.properties.numbers(prop::SUBSCRIPTION_ID)),
        (true, vec![1])
    );
    let second = [prop::subscription_id(268_435_455)];
    bench.send(line, &subscribe_with(Version::V5, 2, &[("t", RETAINED_NEVER)], &second));
    bench.got(line);
    bench.publish(line, &publish("t", "x").retain());
    let message = bench.messages(line).remove(0);
    let ids = message.properties.numbers(prop::SUBSCRIPTION_ID);
    assert_eq!((message.retain, ids), (false, vec![268_435_455]));
    bench.send(line, &subscribe(Version::V5, 3, &[("t", RETAINED_NEVER)]));
    bench.got(line);
    bench.publish(line, &publish("t", "x"));
    assert!(!bench.messages(line)[0].properties.has(prop::SUBSCRIPTION_ID));
}

// 5: MQTT-3.3.4-3, MQTT-3.3.4-4
#[test]
fn one_copy_has_the_identifiers_of_all_matching_subscriptions() {
    let mut bench = Bench::new();
    let line = bench.client(Version::V5, "c");
    let wishes =
        [("a/#", Some(10)), ("a/+", None), ("+/b", Some(30)), ("a/b", Some(40)), ("x", Some(5))];
    for (filter, id) in wishes {
        let list: Vec<_> = id.map(prop::subscription_id).into_iter().collect();
        bench.send(line, &subscribe_with(Version::V5, 1, &[(filter, 0)], &list));
    }
    bench.got(line);
    bench.publish(line, &publish("a/b", "x"));
    let messages = bench.messages(line);
    assert_eq!(messages.len(), 1);
    let mut ids = messages[0].properties.numbers(prop::SUBSCRIPTION_ID);
    ids.sort();
    assert_eq!(ids, [10, 30, 40]);
    // A retained message has that of the subscription that brings it.
    bench.publish(line, &publish("r", "x").retain());
    bench.send(line, &subscribe_with(Version::V5, 1, &[("r", 0)], &[prop::subscription_id(7)]));
    assert_eq!(bench.messages(line)[0].properties.numbers(prop::SUBSCRIPTION_ID), [7]);
}

// 5: MQTT-3.8.4-8
// 3.1.1: MQTT-3.8.4-6
#[test]
fn a_message_comes_with_the_lower_of_its_own_qos_and_the_granted_one() {
    for version in BOTH {
        for published in 0..3 {
            for granted in 0..3 {
                let mut bench = Bench::new();
                let publisher = bench.client(version, "publisher");
                bench.publish(publisher, &publish("r", "x").qos(published, 1).retain());
                let line = bench.subscriber(version, "c", &[("t", granted)]);
                bench.publish(publisher, &publish("t", "x").qos(published, 2));
                let messages = bench.messages(line);
                assert_eq!((messages.len(), messages[0].qos), (1, published.min(granted)));
                let retained = super::bench::messages(bench.subscribe(line, &[("r", granted)]));
                assert_eq!((retained.len(), retained[0].qos), (1, published.min(granted)));
            }
        }
    }
}

// 5: MQTT-3.2.2-10, MQTT-3.2.2-9
// 3.1.1: MQTT-3.8.4-5, MQTT-3.8.3-2
#[test]
fn every_qos_and_every_wildcard_is_granted() {
    for version in BOTH {
        let mut bench = Bench::new();
        let (line, got) = bench.hello(&connect(version, "c"));
        let [Packet::Connack { properties, .. }] = &got[..] else { panic!("{got:?}") };
        assert!(!properties.has(prop::MAXIMUM_QOS), "QoS 2 is what the absence says");
        assert!(!properties.has(prop::RETAIN_AVAILABLE));
        let filters = [("#", 0), ("+", 1), ("a/+/b", 2), ("a/#", 2)];
        bench.send(line, &subscribe(version, 1, &filters));
        match &bench.got(line)[..] {
            [Packet::Suback { codes, .. }] => assert_eq!(codes, &[0, 1, 2, 2]),
            other => panic!("{other:?}"),
        }
    }
}

// 5: MQTT-3.9.3-2, MQTT-3.8.4-7
// 3.1.1: MQTT-3.9.3-2
#[test]
fn subscriptions_beyond_the_limit_fail_one_by_one() {
    for (version, code) in [(Version::V3_1_1, 0x80), (Version::V5, 0x97)] {
        let limits = BrokerLimits { max_subscriptions_per_session: 2, ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        let line = bench.client(version, "c");
        bench.send(line, &subscribe(version, 1, &[("a", 0), ("b", 0), ("c", 0), ("a", 1)]));
        match &bench.got(line)[..] {
            [Packet::Suback { codes, .. }] => assert_eq!(codes, &[0, 0, code, 1]),
            other => panic!("{other:?}"),
        }
    }
}

/// SUBACK and UNSUBACK of filters that are not all valid, at a client with these properties.
fn refusals(properties: Vec<Vec<u8>>) -> Vec<Packet> {
    let mut bench = Bench::new();
    let line = bench.connect(&Connect { properties, ..connect(Version::V5, "c") });
    bench.send(line, &subscribe(Version::V5, 1, &[("bad#", 0), ("t", 0)]));
    bench.send(line, &unsubscribe(Version::V5, 2, &["bad#", "t", "none"]));
    bench.got(line)
}

// 5: MQTT-3.9.2-1, MQTT-3.9.2-2, MQTT-3.11.2-1, MQTT-3.11.2-2, MQTT-3.1.2-29, MQTT-3.1.2-24
#[test]
fn a_reason_string_is_sent_where_it_is_wanted_and_fits() {
    for (properties, has_reason) in [
        (vec![], true),
        (vec![prop::byte(prop::PROBLEM_INFO, 1)], true),
        (vec![prop::byte(prop::PROBLEM_INFO, 0)], false),
        (vec![prop::four(prop::MAX_PACKET, 30)], false),
    ] {
        match &refusals(properties)[..] {
            [
                Packet::Suback { properties: one, codes: first, .. },
                Packet::Unsuback { properties: other, codes: second, .. },
            ] => {
                assert_eq!(one.has(prop::REASON), has_reason);
                assert!(has_reason || other.0.is_empty());
                assert!(one.pairs().is_empty() && other.pairs().is_empty());
                assert_eq!((&first[..], &second[..]), (&[0x8F, 0][..], &[0x8F, 0, 0x11][..]));
            }
            other => panic!("{other:?}"),
        }
    }
}
