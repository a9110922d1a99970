//! Texts, numbers and fixed headers: sections 1.5 and 2.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

/// Byte sequences that are no text, with what they would be.
const NO_TEXT: &[&[u8]] = &[
    &[0x80],                   // a continuation without a start
    &[0xC3],                   // a start without its continuation
    &[0xC0, 0x80],             // U+0000 in two bytes
    &[0xE0, 0x80, 0xAF],       // an overlong slash
    &[0xED, 0xA0, 0x80],       // U+D800
    &[0xED, 0xBF, 0xBF],       // U+DFFF
    &[0xF4, 0x90, 0x80, 0x80], // beyond U+10FFFF
    &[0xFF],
];

// 5: MQTT-1.5.4-1, MQTT-1.5.4-2
// 3.1.1: MQTT-1.5.3-1, MQTT-1.5.3-2
#[test]
fn ill_formed_texts_and_null_close_the_connection() {
    for version in BOTH {
        for bad in NO_TEXT.iter().chain([&&[0][..], &&[b'a', 0, b'b'][..]]) {
            let publish = Publish { topic: bad.to_vec(), ..publish("", "x") };
            ends(version, &publish.bytes(version), 0x81);
            for connect in [
                Connect { client: bad.to_vec(), ..connect(version, "") },
                connect(version, "c").will(Will { topic: bad.to_vec(), ..will("", "x") }),
                Connect { user: Some(bad.to_vec()), ..connect(version, "c") },
            ] {
                let code = refused(version, &connect.bytes());
                assert!(
                    version == Version::V3_1_1 && code.is_none()
                        || [Some(0x81), Some(0x85), Some(0x90)].contains(&code),
                    "{code:02x?} for {connect:?}"
                );
            }
        }
    }
}

// 5: MQTT-1.5.4-3, MQTT-4.7.3-4
// 3.1.1: MQTT-1.5.3-3, MQTT-4.7.3-4
#[test]
fn characters_are_neither_stripped_nor_normalised() {
    // A byte order mark, a combining accent and its composed form, controls, non-characters.
    let topics = ["\u{FEFF}t", "t\u{FEFF}", "e\u{301}", "\u{E9}", "T", "t ", "\u{1}t", "t\u{FFFF}"];
    for version in BOTH {
        let mut bench = Bench::new();
        let lines: Vec<Line> = (0..)
            .zip(topics)
            .map(|(i, topic)| bench.subscriber(version, &format!("c{i}"), &[(topic, 0)]))
            .collect();
        let publisher = bench.client(version, "publisher");
        bench.publish(publisher, &publish("t", "x"));
        for (line, topic) in lines.iter().zip(topics) {
            assert_eq!(bench.messages(*line), []);
            bench.publish(publisher, &publish(topic, topic));
            let messages = bench.messages(*line);
            assert_eq!((messages.len(), messages[0].topic.as_str()), (1, topic));
        }
    }
}

// 5: MQTT-1.5.5-1
#[test]
fn numbers_take_the_fewest_bytes() {
    // Out: the strict client checks each; these are the sizes at which a byte is added.
    for size in [1, 120, 121, 122, 16_370, 16_378, 16_379, 16_380] {
        let mut bench = Bench::new();
        let line = bench.subscriber(Version::V5, "c", &[("t", 0)]);
        bench.publish(line, &publish("t", &"x".repeat(size)));
        assert_eq!(bench.messages(line)[0].payload.len(), size);
    }
    // In: a property length of 0 said in two bytes.
    ends(Version::V5, &packet(0x30, &[0, 1, b't', 0x80, 0x00]), 0x81);
    let id = vec![prop::SUBSCRIPTION_ID, 0x81, 0x00];
    ends(Version::V5, &subscribe_with(Version::V5, 1, &[("t", 0)], &[id]), 0x81);
    // The remaining length, also that of CONNECT. To 3.1.1 nothing forbids it.
    ends(Version::V5, &[0xC0, 0x80, 0x00], 0x81);
    let padded = |version| {
        let mut bytes = connect(version, "c").bytes();
        bytes[1] |= 0x80;
        bytes.insert(2, 0);
        bytes
    };
    assert_eq!(refused(Version::V5, &padded(Version::V5)), Some(0x81));
    let mut bench = Bench::new();
    let line = bench.open(Version::V3_1_1);
    bench.send(line, &padded(Version::V3_1_1));
    assert!(matches!(bench.got(line)[..], [Packet::Connack { code: 0, .. }]));
}

// 5: MQTT-4.13.1-1
// 3.1.1: MQTT-4.8.0-1
#[test]
fn a_remaining_length_of_five_bytes_is_malformed() {
    for version in BOTH {
        ends(version, &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01], 0x81);
        ends(version, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF], 0x81);
    }
}

// 5: MQTT-2.1.3-1, MQTT-4.13.1-1
// 3.1.1: MQTT-2.2.2-1, MQTT-2.2.2-2, MQTT-4.8.0-1
#[test]
fn every_reserved_flag_of_every_packet_is_checked() {
    let whole = |version| {
        [
            connect(version, "c").bytes(),
            ack(PUBACK, 1),
            ack(PUBREC, 1),
            ack(PUBREL, 1),
            ack(PUBCOMP, 1),
            subscribe(version, 1, &[("t", 0)]),
            unsubscribe(version, 1, &["t"]),
            PINGREQ.to_vec(),
            DISCONNECT.to_vec(),
            packet(0xF0, &[]),
        ]
    };
    for version in BOTH {
        for mut bytes in whole(version) {
            let allowed = bytes[0] & 0x0F;
            for flags in (0..16).filter(|flags| *flags != allowed) {
                bytes[0] = bytes[0] & 0xF0 | flags;
                ends(version, &bytes, 0x81);
            }
        }
    }
}

// 5: MQTT-2.1.3-1
// 3.1.1: MQTT-2.2.2-2
#[test]
fn packet_types_that_are_forbidden_or_sent_by_servers_alone_close_the_connection() {
    for version in BOTH {
        for first in [0x00, 0x0F] {
            ends(version, &packet(first, &[]), 0x81);
        }
        for (first, body) in
            [(0x20, &[0u8, 0][..]), (0x90, &[0, 1, 0]), (0xB0, &[0, 1]), (0xD0, &[])]
        {
            let mut bench = Bench::new();
            let line = bench.client(version, "c");
            bench.send(line, &packet(first, body));
            match (version, &bench.got(line)[..]) {
                (Version::V3_1_1, []) => {}
                (Version::V5, [Packet::Disconnect { code: 0x81 | 0x82, .. }]) => {}
                other => panic!("{other:?}"),
            }
            assert!(bench.is_closed(line));
        }
    }
}
