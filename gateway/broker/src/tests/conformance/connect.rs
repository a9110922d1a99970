//! CONNECT and CONNACK: sections 3.1 and 3.2, but for wills, sessions and keep-alive.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::BrokerLimits;

// 5: MQTT-3.1.0-1, MQTT-3.2.0-1, MQTT-3.14.0-1
// 3.1.1: MQTT-3.1.0-1, MQTT-3.2.0-1, MQTT-4.8.0-1
#[test]
fn any_packet_before_connect_closes_the_connection_without_a_word() {
    for version in BOTH {
        let packets = [
            publish("t", "x").bytes(version),
            publish("t", "x").qos(1, 7).bytes(version),
            ack(PUBACK, 1),
            ack(PUBREC, 1),
            ack(PUBREL, 1),
            ack(PUBCOMP, 1),
            subscribe(version, 1, &[("#", 0)]),
            unsubscribe(version, 1, &["#"]),
            PINGREQ.to_vec(),
            DISCONNECT.to_vec(),
            auth(0x18, &[]),
            packet(0x20, &[0, 0]),
        ];
        for bytes in packets {
            assert_eq!(refused(version, &bytes), None, "{bytes:02x?}");
        }
    }
}

// 5: MQTT-3.1.0-2, MQTT-3.2.0-2
// 3.1.1: MQTT-3.1.0-2
#[test]
fn a_second_connect_is_a_protocol_error() {
    for version in BOTH {
        ends(version, &connect(version, "c").bytes(), 0x82);
        ends(version, &connect(version, "another").bytes(), 0x82);
    }
}

// 5: MQTT-3.1.2-1
// 3.1.1: MQTT-3.1.2-1
#[test]
fn another_protocol_name_is_not_processed() {
    for version in BOTH {
        for name in ["MQTX", "mqtt", "HTTP", "MQTTX", "MQT", ""] {
            let connect = Connect { protocol: name.into(), ..connect(version, "c") };
            refused(version, &connect.bytes());
        }
    }
}

// 5: MQTT-3.1.2-2, MQTT-3.2.2-7, MQTT-4.13.2-1
// 3.1.1: MQTT-3.1.2-2, MQTT-3.2.2-4, MQTT-3.2.2-5
#[test]
fn another_protocol_level_is_answered_and_closed() {
    for level in [0, 1, 2, 3] {
        let connect = Connect { level, ..connect(Version::V3_1_1, "c") };
        assert_eq!(refused(Version::V3_1_1, &connect.bytes()), Some(1));
    }
    for level in [6, 7, 255] {
        let connect = Connect { level, ..connect(Version::V5, "c") };
        assert_eq!(refused(Version::V5, &connect.bytes()), Some(0x84));
    }
    // MQTT 3.1 has another name, too.
    let old = Connect { level: 3, protocol: b"MQIsdp".into(), ..connect(Version::V3_1_1, "c") };
    assert_eq!(refused(Version::V3_1_1, &old.bytes()), Some(1));
}

// 5: MQTT-3.1.2-3, MQTT-3.1.4-1, MQTT-3.1.4-6
// 3.1.1: MQTT-3.1.2-3, MQTT-3.1.4-1, MQTT-3.1.4-5
#[test]
fn the_reserved_connect_flag_is_checked() {
    let twisted = |version| Connect { twist_flags: 1, ..connect(version, "c") };
    assert_eq!(refused(Version::V3_1_1, &twisted(Version::V3_1_1).bytes()), None);
    assert_eq!(refused(Version::V5, &twisted(Version::V5).bytes()), Some(0x81));
}

/// CONNECTs that break section 3.1, each with what is wrong.
fn malformed(version: Version) -> Vec<(&'static str, Vec<u8>)> {
    let with = |change: &dyn Fn(&mut Connect)| {
        let mut connect = connect(version, "c").will(will("w", "x"));
        connect.user = Some(b"u".to_vec());
        connect.password = Some(b"p".to_vec());
        change(&mut connect);
        connect.bytes()
    };
    let without_will = |flags| {
        let mut connect = connect(version, "c");
        connect.twist_flags = flags;
        connect.bytes()
    };
    let mut cut = with(&|_| {});
    cut.pop();
    cut[1] -= 1;
    let mut long = with(&|_| {});
    long.push(0);
    long[1] += 1;
    vec![
        ("will QoS 3", with(&|c| c.twist_flags = 0b0001_1000)),
        ("will QoS without will", without_will(0b0000_1000)),
        ("will retain without will", without_will(0b0010_0000)),
        ("will flag without will", without_will(0b0000_0100)),
        ("will without its flag", with(&|c| c.twist_flags = 0b0000_0100)),
        ("user name flag without user name", without_will(0b1000_0000)),
        ("user name without its flag", with(&|c| c.twist_flags = 0b1000_0000)),
        ("password without its flag", with(&|c| c.twist_flags = 0b0100_0000)),
        ("both flags without fields", without_will(0b1100_0000)),
        ("a byte is missing", cut),
        ("a byte is left over", long),
        ("client identifier is no UTF-8", with(&|c| c.client = vec![0xFF])),
        ("client identifier has U+0000", with(&|c| c.client = vec![b'a', 0])),
        ("user name is no UTF-8", with(&|c| c.user = Some(vec![0xC0, 0x80]))),
        ("user name has U+0000", with(&|c| c.user = Some(vec![0]))),
        ("will topic is no UTF-8", with(&|c| c.will.as_mut().unwrap().topic = vec![0xFF])),
        ("will topic has U+0000", with(&|c| c.will.as_mut().unwrap().topic = vec![b'a', 0])),
        ("nothing after the flags", packet(0x10, &[&text("MQTT")[..], &[4, 2]].concat())),
        ("empty", packet(0x10, &[])),
    ]
}

// 5: MQTT-3.1.4-1, MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-12, MQTT-3.1.2-13, MQTT-3.1.2-16
// 5: MQTT-3.1.2-17, MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.3-1, MQTT-3.1.3-3, MQTT-3.1.3-4
// 5: MQTT-3.1.3-11, MQTT-3.1.3-12, MQTT-3.2.2-6, MQTT-3.2.2-8
// 3.1.1: MQTT-3.1.4-1, MQTT-3.1.2-9, MQTT-3.1.2-11, MQTT-3.1.2-13, MQTT-3.1.2-14, MQTT-3.1.2-15
// 3.1.1: MQTT-3.1.2-18, MQTT-3.1.2-19, MQTT-3.1.2-20, MQTT-3.1.2-21, MQTT-3.1.3-1, MQTT-3.1.3-3
// 3.1.1: MQTT-3.1.3-4, MQTT-3.1.3-10, MQTT-3.1.3-11, MQTT-3.2.2-6
#[test]
fn a_connect_that_breaks_its_format_closes_the_connection() {
    for version in BOTH {
        for (what, bytes) in malformed(version) {
            let code = refused(version, &bytes);
            let allowed: &[Option<u8>] = match version {
                Version::V3_1_1 => &[None],
                Version::V5 => &[None, Some(0x81), Some(0x82), Some(0x90)],
            };
            assert!(allowed.contains(&code), "{what}: {code:02x?}");
        }
    }
}

// 3.1.1: MQTT-3.1.2-22
#[test]
fn a_password_needs_a_user_name_in_3_1_1_only() {
    let connect = |version| Connect { password: Some(b"p".into()), ..connect(version, "c") };
    assert_eq!(refused(Version::V3_1_1, &connect(Version::V3_1_1).bytes()), None);
    Bench::new().connect(&connect(Version::V5));
}

// 5: MQTT-3.1.4-1, MQTT-4.13.1-1
#[test]
fn a_connect_with_wrong_properties_is_refused() {
    let five = |list: Vec<Vec<u8>>| Connect { properties: list, ..connect(Version::V5, "c") };
    let expiry = prop::four(prop::SESSION_EXPIRY, 1);
    let cases = [
        ("session expiry twice", five(vec![expiry.clone(), expiry]), 0x82),
        ("receive maximum 0", five(vec![prop::two(prop::RECEIVE_MAXIMUM, 0)]), 0x82),
        ("maximum packet size 0", five(vec![prop::four(prop::MAX_PACKET, 0)]), 0x82),
        ("problem information 2", five(vec![prop::byte(prop::PROBLEM_INFO, 2)]), 0x82),
        ("response information 2", five(vec![prop::byte(prop::RESPONSE_WANTED, 2)]), 0x82),
        ("a property of CONNACK", five(vec![prop::two(prop::SERVER_KEEP_ALIVE, 1)]), 0x81),
        ("authentication data alone", five(vec![prop::bytes(prop::AUTH_DATA, "x")]), 0x82),
        ("an unknown property", five(vec![vec![0x7F, 0]]), 0x81),
        ("a property cut short", five(vec![vec![prop::SESSION_EXPIRY, 0]]), 0x81),
    ];
    for (what, connect, code) in cases {
        assert_eq!(refused(Version::V5, &connect.bytes()), Some(code), "{what}");
    }
}

// 5: MQTT-3.1.4-5, MQTT-3.2.2-1, MQTT-3.2.2-8, MQTT-3.2.0-2
// 3.1.1: MQTT-3.1.4-4, MQTT-3.2.0-1
#[test]
fn a_valid_connect_is_answered_with_one_connack_before_anything_else() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.open(version);
        let mut bytes = connect(version, "c").bytes();
        bytes.extend(PINGREQ);
        bench.send(line, &bytes);
        let got = bench.got(line);
        assert!(matches!(got[0], Packet::Connack { present: false, code: 0, .. }));
        assert_eq!(got[1..], [Packet::Pingresp]);
    }
}

// 5: MQTT-3.1.3-5
// 3.1.1: MQTT-3.1.3-5
#[test]
fn every_short_alphanumeric_client_identifier_is_let_in() {
    for version in BOTH {
        let ids = ["0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"];
        for id in ids {
            Bench::new().client(version, id);
        }
    }
}

// 5: MQTT-3.1.3-2
// 3.1.1: MQTT-3.1.3-2
#[test]
fn the_client_identifier_is_what_a_session_is_known_by() {
    for version in BOTH {
        let mut bench = Bench::new();
        let first = bench.connect(&connect(version, "c").keep());
        bench.subscribe(first, &[("t", 1)]);
        bench.cut(first);
        let (other, present, _) = bench.resume(&connect(version, "C").keep());
        assert!(!present, "another identifier is another session");
        bench.publish(other, &publish("t", "x").qos(1, 1));
        assert_eq!(bench.messages(other).len(), 0);
        let (_, present, followed) = bench.resume(&connect(version, "c").keep());
        assert!(present);
        assert_eq!(payloads(&messages(followed)), ["x"]);
    }
}

// 5: MQTT-3.1.3-6, MQTT-3.1.3-7, MQTT-3.2.2-16
#[test]
fn a_client_without_identifier_is_told_a_unique_one() {
    let mut bench = Bench::new();
    let mut given = Vec::new();
    for _ in 0..3 {
        let (_, got) = bench.hello(&connect(Version::V5, "").kept());
        let [Packet::Connack { code: 0, properties, .. }] = &got[..] else { panic!("{got:?}") };
        let id = properties.bytes(prop::ASSIGNED_CLIENT).expect("an identifier").to_vec();
        given.push(String::from_utf8(id).unwrap());
    }
    given.dedup();
    assert_eq!(given.len(), 3);
    // It is the session's name from then on.
    let (_, present, _) = bench.resume(&connect(Version::V5, &given[1]).keep());
    assert!(present);
}

// 3.1.1: MQTT-3.1.3-6
#[test]
fn clients_of_3_1_1_without_identifier_do_not_disturb_each_other() {
    let mut bench = Bench::new();
    let one = bench.subscriber(Version::V3_1_1, "", &[("t", 0)]);
    let other = bench.subscriber(Version::V3_1_1, "", &[("t", 0)]);
    bench.publish(one, &publish("t", "x"));
    assert_eq!(bench.payloads(one), ["x"]);
    assert_eq!(bench.payloads(other), ["x"]);
}

// 3.1.1: MQTT-3.1.3-7, MQTT-3.1.3-8, MQTT-3.1.4-5, MQTT-3.2.2-4, MQTT-3.2.2-5
#[test]
fn without_identifier_a_3_1_1_session_cannot_be_kept() {
    let connect = connect(Version::V3_1_1, "").keep();
    assert_eq!(refused(Version::V3_1_1, &connect.bytes()), Some(2));
}

// 5: MQTT-3.1.3-8, MQTT-3.2.2-7
// 3.1.1: MQTT-3.1.3-9
#[test]
fn a_client_identifier_beyond_the_limit_is_refused_with_the_reason() {
    for (version, code) in [(Version::V3_1_1, 2), (Version::V5, 0x85)] {
        let limits = BrokerLimits { max_client_id_bytes: 30, ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        let connect = connect(version, &"x".repeat(31));
        assert_eq!(refused_by(&mut bench, version, &connect.bytes()), Some(code));
    }
}

// 5: MQTT-3.1.4-3
// 3.1.1: MQTT-3.1.4-2
#[test]
fn a_client_that_comes_again_takes_the_place_of_its_old_connection() {
    for old in BOTH {
        for new in BOTH {
            let mut bench = Bench::new();
            let first = bench.client(old, "c");
            let second = bench.client(new, "c");
            let told = bench.got(first);
            match old {
                Version::V3_1_1 => assert_eq!(told, []),
                Version::V5 => assert!(matches!(told[..], [Packet::Disconnect { code: 0x8E, .. }])),
            }
            assert!(bench.is_closed(first) && !bench.is_closed(second));
        }
    }
}

// 5: MQTT-3.1.2-28
#[test]
fn response_information_is_not_sent_unasked() {
    for list in [vec![], vec![prop::byte(prop::RESPONSE_WANTED, 0)]] {
        let mut bench = Bench::new();
        let (_, got) = bench.hello(&Connect { properties: list, ..connect(Version::V5, "c") });
        let [Packet::Connack { code: 0, properties, .. }] = &got[..] else { panic!("{got:?}") };
        assert!(!properties.has(prop::RESPONSE_INFO));
    }
}

// 5: MQTT-3.2.2-19, MQTT-3.2.2-20, MQTT-3.1.2-24
#[test]
fn a_refusal_leaves_out_what_would_make_it_too_large() {
    let refused_with = |max: u32| {
        let limits = BrokerLimits { max_client_id_bytes: 30, ..BrokerLimits::default() };
        let mut bench = Bench::with(limits);
        let connect = connect(Version::V5, &"x".repeat(31)).with(prop::four(prop::MAX_PACKET, max));
        let line = bench.open(Version::V5);
        bench.send(line, &connect.bytes());
        bench.world.raw(line.conn)
    };
    let whole = refused_with(1000);
    let Packet::Connack { code: 0x85, properties, .. } =
        &tidegate_peer::decode::packets(Version::V5, &whole)[0]
    else {
        panic!("{whole:02x?}")
    };
    assert!(properties.has(prop::REASON), "with room enough there is a reason string");
    let short = refused_with(whole.len() as u32 - 1);
    assert_eq!(short, [0x20, 3, 0, 0x85, 0]);
    assert_eq!(refused_with(4), [0u8; 0], "not even that fits");
}

// 5: MQTT-3.1.2-24, MQTT-3.2.2-19
#[test]
fn what_is_wrong_with_a_connect_is_said_in_no_more_bytes_than_the_client_takes() {
    for (wrong, code) in [
        (prop::bytes(prop::AUTH_METHOD, "SCRAM-SHA-1"), 0x8C),
        (prop::bytes(prop::AUTH_DATA, "x"), 0x82),
        (prop::two(prop::RECEIVE_MAXIMUM, 0), 0x82),
        (prop::byte(prop::PAYLOAD_FORMAT, 1), 0x81),
    ] {
        let connect = connect(Version::V5, "c").with(prop::four(prop::MAX_PACKET, 30)).with(wrong);
        let mut bench = Bench::new();
        let line = bench.open(Version::V5);
        bench.send(line, &connect.bytes());
        assert_eq!(bench.world.raw(line.conn), [0x20, 3, 0, code, 0]);
    }
}
