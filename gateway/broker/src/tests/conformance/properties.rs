//! Properties of messages: section 3.3.2.3.

use tidegate_peer::Version;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

/// What a subscriber gets of a message with `list`.
fn forwarded(list: Vec<Vec<u8>>) -> tidegate_peer::decode::Properties {
    let mut bench = Bench::new();
    let line = bench.subscriber(Version::V5, "c", &[("t", 0)]);
    bench.publish(line, &Publish { properties: list, ..publish("t", "x") });
    bench.messages(line).remove(0).properties
}

// 5: MQTT-3.3.2-4
#[test]
fn the_payload_format_is_forwarded() {
    for value in [0, 1] {
        let properties = forwarded(vec![prop::byte(prop::PAYLOAD_FORMAT, value)]);
        assert_eq!(properties.number(prop::PAYLOAD_FORMAT), Some(value.into()));
    }
    assert!(!forwarded(vec![]).has(prop::PAYLOAD_FORMAT));
}

// 5: MQTT-3.3.2-15, MQTT-3.3.2-16, MQTT-3.3.2-20
#[test]
fn texts_and_bytes_are_forwarded_unaltered() {
    for value in ["", "x", "text/plain; charset=utf-8", "\u{FEFF}ä\u{10FFFF}\u{1}"] {
        let properties = forwarded(vec![
            prop::bytes(prop::CONTENT_TYPE, value),
            prop::bytes(prop::CORRELATION, value),
        ]);
        assert_eq!(properties.bytes(prop::CONTENT_TYPE), Some(value.as_bytes()));
        assert_eq!(properties.bytes(prop::CORRELATION), Some(value.as_bytes()));
    }
    let properties = forwarded(vec![
        prop::bytes(prop::RESPONSE_TOPIC, "answers/\u{FEFF}to me"),
        prop::bytes(prop::CORRELATION, [0, 1, 0xFF, 0xC0]),
    ]);
    assert_eq!(properties.bytes(prop::RESPONSE_TOPIC), Some("answers/\u{FEFF}to me".as_bytes()));
    assert_eq!(properties.bytes(prop::CORRELATION), Some(&[0, 1, 0xFF, 0xC0][..]));
}

// 5: MQTT-3.3.2-17, MQTT-3.3.2-18
#[test]
fn user_properties_are_forwarded_unaltered_and_in_order() {
    let pairs = [("b", "2"), ("a", "1"), ("b", "1"), ("", ""), ("ä", "\u{FEFF}"), ("b", "2")];
    let list = pairs.iter().map(|(key, value)| prop::user(key, value)).collect();
    assert_eq!(forwarded(list).pairs(), pairs);
}

// 5: MQTT-3.3.2-13, MQTT-3.3.2-19, MQTT-1.5.7-1, MQTT-1.5.4-1, MQTT-1.5.4-2
#[test]
fn texts_in_properties_are_utf_8_without_null() {
    for bad in [&[0xFF][..], &[0], &[0xED, 0xA0, 0x80], &[b'a', 0xC3]] {
        for property in [
            prop::bytes(prop::CONTENT_TYPE, bad),
            prop::bytes(prop::RESPONSE_TOPIC, bad),
            [vec![prop::USER], text(bad), text("v")].concat(),
            [vec![prop::USER], text("k"), text(bad)].concat(),
        ] {
            ends(Version::V5, &publish("t", "x").with(property).bytes(Version::V5), 0x81);
        }
    }
}

// 5: MQTT-3.3.2-14
#[test]
fn a_response_topic_with_a_wildcard_is_a_protocol_error() {
    for topic in ["#", "a/+", "+/b", "a#"] {
        let publish = publish("t", "x").with(prop::bytes(prop::RESPONSE_TOPIC, topic));
        ends(Version::V5, &publish.bytes(Version::V5), 0x82);
    }
}

// 5: MQTT-3.3.4-6
#[test]
fn a_client_must_not_send_a_subscription_identifier() {
    let publish = publish("t", "x").with(prop::subscription_id(1));
    ends(Version::V5, &publish.bytes(Version::V5), 0x82);
}

// 5: MQTT-4.13.1-1
#[test]
fn properties_twice_or_of_other_packets_or_with_wrong_values_are_errors() {
    let cases = [
        (vec![prop::byte(prop::PAYLOAD_FORMAT, 0), prop::byte(prop::PAYLOAD_FORMAT, 0)], 0x82),
        (vec![prop::four(prop::MESSAGE_EXPIRY, 1), prop::four(prop::MESSAGE_EXPIRY, 1)], 0x82),
        (vec![prop::bytes(prop::CONTENT_TYPE, "a"), prop::bytes(prop::CONTENT_TYPE, "a")], 0x82),
        (vec![prop::bytes(prop::CORRELATION, "a"), prop::bytes(prop::CORRELATION, "a")], 0x82),
        (vec![prop::two(prop::ALIAS, 1), prop::two(prop::ALIAS, 1)], 0x82),
        (vec![prop::byte(prop::PAYLOAD_FORMAT, 2)], 0x82),
        (vec![prop::four(prop::SESSION_EXPIRY, 1)], 0x81),
        (vec![prop::bytes(prop::REASON, "x")], 0x81),
        (vec![vec![prop::MESSAGE_EXPIRY, 0, 0]], 0x81),
        (vec![vec![prop::CONTENT_TYPE, 0, 9, b'x']], 0x81),
    ];
    for (list, code) in cases {
        let publish = Publish { properties: list, ..publish("t", "x") };
        ends(Version::V5, &publish.bytes(Version::V5), code);
    }
    // A property length beyond the packet.
    ends(Version::V5, &packet(0x30, &[0, 1, b't', 200]), 0x81);
}

// 5: MQTT-3.3.2-5
#[test]
fn a_message_that_expires_while_it_waits_is_not_delivered() {
    let mut bench = Bench::new();
    let away = bench.connect(&connect(Version::V5, "away").kept());
    bench.subscribe(away, &[("t", 2)]);
    bench.cut(away);
    let line = bench.client(Version::V5, "c");
    for (id, qos, seconds) in [(1, 1, 10), (2, 2, 10), (3, 1, 20), (4, 2, 20)] {
        let expiry = prop::four(prop::MESSAGE_EXPIRY, seconds);
        bench.publish(line, &publish("t", &id.to_string()).qos(qos, id).with(expiry));
    }
    bench.publish(line, &publish("t", "5").qos(1, 5));
    bench.pass(10);
    let (_, _, followed) = bench.resume(&connect(Version::V5, "away").keep());
    assert_eq!(payloads(&messages(followed)), ["3", "4", "5"]);
}

// 5: MQTT-3.3.2-6
#[test]
fn the_expiry_sent_is_what_is_left_of_it() {
    let mut bench = Bench::new();
    let now = bench.subscriber(Version::V5, "now", &[("t", 1)]);
    let away = bench.connect(&connect(Version::V5, "away").kept());
    bench.subscribe(away, &[("t", 1)]);
    bench.cut(away);
    let line = bench.client(Version::V5, "c");
    let expiry = prop::four(prop::MESSAGE_EXPIRY, 100);
    bench.publish(line, &publish("t", "x").qos(1, 1).with(expiry));
    let message = bench.messages(now).remove(0);
    assert_eq!(message.properties.number(prop::MESSAGE_EXPIRY), Some(100));
    bench.pass(30);
    let (_, _, followed) = bench.resume(&connect(Version::V5, "away").keep());
    let message = messages(followed).remove(0);
    assert_eq!(message.properties.number(prop::MESSAGE_EXPIRY), Some(70));
}

// 5: MQTT-2.2.2-1
#[test]
fn no_properties_are_a_length_of_0() {
    let mut bench = Bench::new();
    let line = bench.subscriber(Version::V5, "c", &[("t", 1)]);
    bench.publish(line, &publish("t", "x"));
    assert_eq!(bench.world.raw(line.conn), [0x30, 5, 0, 1, b't', 0, b'x']);
    // Left out, the first byte of the payload would be taken for it.
    ends(Version::V5, &packet(0x30, &[0, 1, b't']), 0x81);
}

// 5: MQTT-3.3.2-8
#[test]
fn topic_alias_0_is_not_valid() {
    ends(Version::V5, &publish("t", "x").with(prop::two(prop::ALIAS, 0)).bytes(Version::V5), 0x94);
}

fn with_aliases() -> Bench {
    Bench::with(BrokerLimits { topic_alias_maximum: 3, ..BrokerLimits::default() })
}

// 5: MQTT-3.3.2-12, MQTT-3.2.2-17, MQTT-3.3.2-9
#[test]
fn topic_aliases_up_to_the_maximum_are_accepted_and_no_others() {
    let mut bench = with_aliases();
    let watcher = bench.subscriber(Version::V5, "watcher", &[("#", 0)]);
    let (line, got) = bench.hello(&connect(Version::V5, "c"));
    let [tidegate_peer::decode::Packet::Connack { properties, .. }] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!(properties.number(prop::ALIAS_MAXIMUM), Some(3));
    for alias in 1..=3 {
        let topic = format!("t/{alias}");
        bench.publish(line, &publish(&topic, "set").with(prop::two(prop::ALIAS, alias)));
    }
    bench.publish(line, &publish("changed", "set").with(prop::two(prop::ALIAS, 2)));
    for alias in 1..=3 {
        bench.publish(line, &publish("", "used").with(prop::two(prop::ALIAS, alias)));
    }
    let topics: Vec<String> = bench.messages(watcher).into_iter().map(|m| m.topic).collect();
    assert_eq!(topics, ["t/1", "t/2", "t/3", "changed", "t/1", "changed", "t/3"]);
    bench.publish(line, &publish("t", "x").with(prop::two(prop::ALIAS, 4)));
    let got = bench.got(line);
    assert!(
        matches!(got[..], [tidegate_peer::decode::Packet::Disconnect { code: 0x94, .. }]),
        "{got:?}"
    );
}

// 5: MQTT-3.2.2-18
#[test]
fn where_aliases_are_switched_off_none_is_accepted() {
    let limits = BrokerLimits { topic_alias_maximum: 0, ..BrokerLimits::default() };
    let mut bench = Bench::with(limits);
    let line = bench.client(Version::V5, "c");
    bench.publish(line, &publish("t", "x").with(prop::two(prop::ALIAS, 1)));
    let got = bench.got(line);
    assert!(
        matches!(got[..], [tidegate_peer::decode::Packet::Disconnect { code: 0x94, .. }]),
        "{got:?}"
    );
}

// 5: MQTT-3.3.2-7
#[test]
fn a_topic_alias_ends_with_its_connection() {
    let mut bench = with_aliases();
    let line = bench.connect(&connect(Version::V5, "c").kept());
    bench.publish(line, &publish("t", "x").with(prop::two(prop::ALIAS, 1)));
    bench.cut(line);
    let line = bench.connect(&connect(Version::V5, "c").keep());
    bench.publish(line, &publish("", "x").with(prop::two(prop::ALIAS, 1)));
    let got = bench.got(line);
    assert!(
        matches!(got[..], [tidegate_peer::decode::Packet::Disconnect { code: 0x82, .. }]),
        "{got:?}"
    );
    assert_eq!(bench.world.published().len(), 1);
}

// 5: MQTT-3.1.2-26, MQTT-3.1.2-27, MQTT-3.3.2-11, MQTT-3.3.2-8, MQTT-3.3.2-7
#[test]
fn the_server_keeps_to_the_aliases_the_client_allows() {
    for max in [None, Some(0), Some(1), Some(2)] {
        let mut bench = Bench::new();
        let mut hello = connect(Version::V5, "c");
        hello.properties.extend(max.map(|max| prop::two(prop::ALIAS_MAXIMUM, max)));
        // What an alias stood for on an earlier connection is of no use on a later one.
        for _ in 0..2 {
            let line = bench.connect(&hello);
            bench.subscribe(line, &[("#", 0)]);
            let mut known = std::collections::BTreeMap::new();
            for i in 0..40 {
                let topic = format!("a/rather/long/topic/name/{}", i % 5);
                bench.publish(line, &publish(&topic, "x"));
                let message = bench.messages(line).remove(0);
                let alias = message.properties.number(prop::ALIAS);
                assert!(alias.is_none_or(|alias| alias > 0 && alias <= max.unwrap_or(0).into()));
                let said = if message.topic.is_empty() {
                    known[&alias.expect("neither topic nor alias")]
                } else {
                    i % 5
                };
                assert_eq!(said, i % 5);
                known.extend(alias.map(|alias| (alias, said)));
            }
        }
    }
}
