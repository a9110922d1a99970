//! CONNECT, keep-alive, takeover and the ways to part.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{Qos, v5_0};

use super::peer::*;
use crate::{BrokerEvent, BrokerLimits, CloseReason, Version};

fn fault_code(world: &World, conn: crate::ConnId) -> Option<u8> {
    match world.closed(conn) {
        Some(CloseReason::Fault { code, .. }) => Some(*code),
        _ => None,
    }
}

#[test]
fn the_version_is_taken_from_connect() {
    let mut world = World::new();
    for (hello, expected) in [(v3("a"), Version::V3_1_1), (v5("b"), Version::V5)] {
        let conn = world.connect(hello.clone());
        assert!(world.events.iter().any(|event| matches!(
            event,
            BrokerEvent::Connected { conn: c, client, version, peer }
                if *c == conn && &**client == hello.client && *version == expected
                    && *peer == format!("peer-{}", conn.0)
        )));
    }
}

#[test]
fn connack_says_what_the_broker_allows() {
    let mut world = World::with(BrokerLimits {
        receive_maximum: 20,
        max_packet: 5000,
        topic_alias_maximum: 3,
        max_keep_alive: Some(60),
        max_session_expiry: Duration::from_secs(100),
        ..BrokerLimits::default()
    });
    let conn = world.hello(&v5("").keep(u32::MAX));
    let bytes = world.raw(conn);
    let (connack, _) = v5_0::Connack::parse(&bytes[2..]).unwrap();
    let mut said: Vec<String> = connack.props().iter().map(describe).collect();
    let client = said.iter().position(|said| said.starts_with("client=auto-")).unwrap();
    said.remove(client);
    assert_eq!(said, ["receive=20", "packet=5000", "aliases=3", "session=100", "alive=60"]);
}

#[test]
fn keep_alive_0_is_granted_when_nothing_else_is_configured() {
    let mut world = World::new();
    let conn = world.connect(v5("a"));
    world.pass(Duration::from_secs(1_000_000));
    assert_eq!(world.closed(conn), None);
}

#[test]
fn clients_without_an_identifier_are_given_different_ones() {
    let mut world = World::new();
    for _ in 0..3 {
        world.connect(v5(""));
        world.connect(v3("")); // [MQTT-3.1.3-6]
    }
    let stats = world.broker.stats();
    assert_eq!(stats.sessions.len(), 6);
}

#[test]
fn an_empty_identifier_with_a_session_to_keep_is_rejected_in_3_1_1() {
    // [MQTT-3.1.3-8]
    let mut world = World::new();
    let conn = world.hello(&v3("").keep(0));
    assert_eq!(world.got(conn), [Got::ConnAck { code: 2, present: false }]);
    assert_eq!(fault_code(&world, conn), Some(0x85));
}

#[test]
fn a_version_nobody_speaks_is_refused_in_its_own_words() {
    let cases: [(&[u8], &[u8]); 3] = [
        // MQTT 3.1, [MQTT-3.1.2-2] (3.1.1)
        (b"\x10\x0f\0\x06MQIsdp\x03\x02\0\0\0\x01c", b"\x20\x02\0\x01"),
        (b"\x10\x0d\0\x04MQTT\x03\x02\0\0\0\x01c", b"\x20\x02\0\x01"),
        (b"\x10\x0d\0\x04MQTT\x06\x02\0\0\0\x01c", b"\x20"),
    ];
    for (connect, answer) in cases {
        let mut world = World::new();
        let conn = world.open(Version::V5);
        world.send(conn, connect);
        assert!(world.raw(conn).starts_with(answer));
        assert_eq!(fault_code(&world, conn), Some(0x84));
    }
}

#[test]
fn broken_connects_are_closed_without_being_let_in() {
    let cases: &[(&str, &[u8])] = &[
        ("a protocol name of another protocol", b"\x10\x0d\0\x04MQTX\x04\x02\0\0\0\x01c"),
        ("reserved flag [MQTT-3.1.2-3]", b"\x10\x0d\0\x04MQTT\x04\x03\0\0\0\x01c"),
        ("will QoS without a will [MQTT-3.1.2-13]", b"\x10\x0d\0\x04MQTT\x04\x0a\0\0\0\x01c"),
        ("will QoS 3 [MQTT-3.1.2-14]", b"\x10\x12\0\x04MQTT\x04\x1e\0\0\0\x01c\0\x01t\0\0"),
        ("password without user [MQTT-3.1.2-22]", b"\x10\x10\0\x04MQTT\x04\x42\0\0\0\x01c\0\x01p"),
        ("bytes after the end", b"\x10\x0e\0\x04MQTT\x04\x02\0\0\0\x01cx"),
        ("an identifier that is not UTF-8", b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01\xff"),
        ("an identifier with U+0000", b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01\0"),
        ("another packet first [MQTT-3.1.0-1]", b"\xc0\x00"),
        ("no MQTT at all", b"GET / HTTP/1.1\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00"),
    ];
    for (what, bytes) in cases {
        let mut world = World::new();
        let conn = world.open(Version::V3_1_1);
        world.send(conn, bytes);
        assert!(world.closed(conn).is_some(), "{what}");
        assert_eq!(world.raw(conn), b"", "{what}");
        assert!(world.broker.stats().sessions.is_empty(), "{what}");
    }
}

#[test]
fn what_mqtt_5_cannot_have_here_is_refused_with_its_reason() {
    let cases = [
        // [MQTT-4.12.0-1]
        (Hello { properties: vec![property::authentication("SCRAM")], ..v5("c") }, 0x8C),
        (Hello { will: Some(("a/+", "x", Qos::AtMostOnce, false, vec![])), ..v5("c") }, 0x90),
    ];
    for (hello, code) in cases {
        let mut world = World::new();
        let conn = world.hello(&hello);
        assert_eq!(world.got(conn), [Got::ConnAck { code, present: false }]);
        assert_eq!(fault_code(&world, conn), Some(code));
    }
}

#[test]
fn before_connect_only_small_packets_are_taken() {
    let limits = BrokerLimits { max_packet_before_connect: 100, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    let conn = world.open(Version::V5);
    world.send(conn, b"\x10\xff\xff\xff\x7f");
    assert_eq!(fault_code(&world, conn), Some(0x95));
    let conn = world.connect(v5("a"));
    world.publish(conn, "t", &"x".repeat(1000), None);
    assert_eq!(world.published().len(), 1);
}

#[test]
fn a_connection_that_says_nothing_is_closed_after_the_connect_timeout() {
    let mut world = World::new();
    let conn = world.open(Version::V5);
    world.send(conn, b"\x10"); // A beginning does not help.
    world.pass(Duration::from_millis(9_999));
    assert_eq!(world.closed(conn), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.closed(conn), Some(&CloseReason::ConnectTimeout));
    assert_eq!(world.raw(conn), b"");
    assert_eq!(world.broker.poll_timeout(), None);
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    // [MQTT-3.1.2-22] (5), [MQTT-3.1.2-24] (3.1.1)
    for hello in [v3("a"), v5("a")] {
        let mut world = World::new();
        let conn = world.connect(Hello { keep_alive: 10, ..hello.clone() });
        world.pass(Duration::from_secs(14));
        world.send(conn, PINGREQ);
        assert_eq!(world.got(conn), [Got::PingResp]); // [MQTT-3.12.4-1]
        world.pass(Duration::from_millis(14_999));
        assert_eq!(world.closed(conn), None);
        world.pass(Duration::from_millis(1));
        assert_eq!(world.closed(conn), Some(&CloseReason::KeepAliveTimeout));
        let goodbye: &[Got] =
            if hello.version == Version::V5 { &[Got::Disconnect(0x8D)] } else { &[] };
        assert_eq!(world.got(conn), goodbye);
    }
}

#[test]
fn half_a_packet_does_not_count_as_a_sign_of_life() {
    let mut world = World::new();
    let conn = world.connect(Hello { keep_alive: 10, ..v5("a") });
    for _ in 0..15 {
        world.pass(Duration::from_secs(1));
        world.send(conn, b"");
        if world.closed(conn).is_none() {
            world.broker.handle_bytes(world.now, conn, &[]);
        }
    }
    assert_eq!(world.closed(conn), Some(&CloseReason::KeepAliveTimeout));
}

#[test]
fn a_second_client_with_the_same_identifier_takes_over() {
    // [MQTT-3.1.4-3] (5), [MQTT-3.1.4-2] (3.1.1)
    let mut world = World::new();
    let first = world.connect(v5("a"));
    let second = world.connect(v3("a"));
    assert_eq!(world.got(first), [Got::Disconnect(0x8E)]);
    assert_eq!(world.closed(first), Some(&CloseReason::TakenOver));
    let third = world.connect(v5("a"));
    assert_eq!(world.closed(second), Some(&CloseReason::TakenOver));
    assert_eq!(world.got(second), []);
    assert_eq!(world.closed(third), None);
    assert_eq!(world.broker.stats().sessions.len(), 1);
}

#[test]
fn a_taken_over_session_keeps_its_subscriptions_unless_a_clean_start_is_asked_for() {
    let mut world = World::new();
    let first = world.subscriber(v5("a").keep(60), &[("t", qos(1))]);
    let second = world.hello(&v5("a").keep(60));
    assert_eq!(world.got(second), [Got::ConnAck { code: 0, present: true }]);
    let publisher = world.connect(v3("p"));
    world.publish(publisher, "t", "x", None);
    assert_eq!(world.payloads(second), ["x"]);
    assert_eq!(world.payloads(first), [] as [&str; 0]);
    let third = world.hello(&Hello { clean: true, ..v5("a").keep(60) });
    assert_eq!(world.got(third), [Got::ConnAck { code: 0, present: false }]);
    world.publish(publisher, "t", "y", None);
    assert_eq!(world.payloads(third), [] as [&str; 0]);
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // [MQTT-3.1.0-2]
    let mut world = World::new();
    let conn = world.connect(v5("a"));
    world.send(conn, &v5("a").bytes());
    assert_eq!(world.got(conn), [Got::Disconnect(0x82)]);
}

#[test]
fn packets_that_clients_may_not_send_end_the_connection() {
    let cases: &[(&[u8], u8)] = &[
        (b"\x20\x02\0\0", 0x82),                // CONNACK
        (b"\x90\x04\0\x01\0\0", 0x82),          // SUBACK
        (b"\xd0\0", 0x82),                      // PINGRESP
        (b"\xf0\0", 0x82),                      // AUTH
        (b"\x00\0", 0x81),                      // type 0
        (b"\xc1\0", 0x81),                      // PINGREQ with a reserved bit
        (b"\xc0\x01x", 0x81),                   // PINGREQ with a body
        (b"\x82\x02\0\x01", 0x81),              // SUBSCRIBE without properties and filters
        (b"\x82\x03\0\x01\0", 0x82),            // [MQTT-3.8.3-2]: SUBSCRIBE without filters
        (b"\xa2\x03\0\x01\0", 0x82),            // [MQTT-3.10.3-2]: UNSUBSCRIBE without filters
        (b"\x82\x07\0\0\0\0\x01t\0", 0x82),     // [MQTT-2.2.1-3]: packet identifier 0
        (b"\x82\x07\0\x01\0\0\x01t\xc0", 0x81), // [MQTT-3.8.3-5]: reserved bits
        (b"\x82\x07\0\x01\0\0\x01t\x03", 0x82), // QoS 3, section 3.8.3.1
        (b"\x40\x02\0\0", 0x82),                // PUBACK 0
        (b"\x40\x01\0", 0x81),
    ];
    for (bytes, code) in cases {
        let mut world = World::new();
        let conn = world.connect(v5("a"));
        world.send(conn, bytes);
        assert_eq!(world.got(conn), [Got::Disconnect(*code)], "{bytes:02x?}");
        assert_eq!(fault_code(&world, conn), Some(*code), "{bytes:02x?}");
    }
}

#[test]
fn a_3_1_1_client_at_fault_is_closed_without_a_word() {
    let cases: &[&[u8]] = &[
        b"\x20\x02\0\0",
        b"\x30\x03\0\x01+",           // [MQTT-3.3.2-2]
        b"\x82\x06\0\x01\0\x01t\x04", // [MQTT-3.8.3-4]: reserved bits
        b"\xe0\x01\0",                // DISCONNECT with a body
        b"\xf0\0",
    ];
    for bytes in cases {
        let mut world = World::new();
        let conn = world.connect(v3("a"));
        world.send(conn, bytes);
        assert!(fault_code(&world, conn).is_some(), "{bytes:02x?}");
        assert_eq!(world.raw(conn), b"", "{bytes:02x?}");
    }
}

#[test]
fn every_client_let_in_is_reported_once_when_it_comes_and_once_when_it_goes() {
    let mut world = World::new();
    let a = world.connect(v3("a"));
    let b = world.connect(v5("b"));
    world.connect(v5("b"));
    let silent = world.open(Version::V5);
    world.send(a, DISCONNECT);
    world.cut(silent);
    world.cut(b);
    let come_and_gone: Vec<String> = world
        .events
        .iter()
        .filter_map(|event| match event {
            BrokerEvent::Connected { client, .. } => Some(format!("+{client}")),
            BrokerEvent::Disconnected { client, why } => Some(format!("-{client} {why}")),
            _ => None,
        })
        .collect();
    let taken = "-b another connection came with the same client identifier";
    assert_eq!(come_and_gone, ["+a", "+b", taken, "+b", "-a the client disconnected"]);
}

#[test]
fn no_packet_is_larger_than_the_client_accepts() {
    // [MQTT-3.1.2-24], [MQTT-3.2.2-19], [MQTT-3.14.2-3]
    let mut world = World::new();
    let hello = |client, max| Hello { properties: vec![property::max_packet(max)], ..v5(client) };
    let conn = world.hello(&hello("a", 10));
    assert_eq!(world.raw(conn), b"");
    assert_eq!(fault_code(&world, conn), Some(0x95));
    let conn = world.connect(hello("a", 30));
    world.send(conn, b"\x20\x02\0\0");
    assert_eq!(world.raw(conn), b"\xe0\x01\x82");
    let limits = BrokerLimits { max_client_id_bytes: 1, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    let conn = world.hello(&hello("ab", 30));
    assert_eq!(world.raw(conn), b"\x20\x03\0\x85\0");
}

#[test]
fn a_packet_above_the_limit_is_refused_on_its_header() {
    let limits = BrokerLimits { max_packet: 1000, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    let conn = world.connect(v5("a"));
    world.send(conn, b"\x30\xe8\x07"); // 1,000 bytes to come after the header
    assert_eq!(world.got(conn), [Got::Disconnect(0x95)]);
}

#[test]
fn reason_strings_are_kept_from_clients_that_do_not_want_them() {
    // [MQTT-3.1.2-29]
    let mut world = World::new();
    let conn = world.connect(Hello { properties: vec![property::no_problem_info()], ..v5("a") });
    world.send(conn, b"\x20\x02\0\0");
    assert_eq!(world.raw(conn), b"\xe0\x01\x82");
}

#[test]
fn one_connection_too_many_is_closed_and_changes_nothing_for_the_others() {
    let mut world = World::with(BrokerLimits { max_connections: 2, ..BrokerLimits::default() });
    let first = world.connect(v3("a"));
    let second = world.connect(v3("b"));
    let third = world.open(Version::V5);
    assert_eq!(world.closed(third), Some(&CloseReason::TooManyConnections));
    world.send(third, &v5("c").bytes());
    assert_eq!(world.raw(third), b"");
    world.cut(first);
    world.connect(v3("c"));
    world.send(second, PINGREQ);
    assert_eq!(world.got(second), [Got::PingResp]);
}

#[test]
fn at_the_limit_of_sessions_the_longest_absent_one_makes_room() {
    let mut world = World::with(BrokerLimits { max_sessions: 2, ..BrokerLimits::default() });
    for client in ["old", "young"] {
        let conn = world.connect(v5(client).keep(1000));
        world.pass(Duration::from_secs(1));
        world.send(conn, DISCONNECT);
    }
    let _new = world.connect(v5("new"));
    let clients: Vec<String> =
        world.broker.stats().sessions.iter().map(|s| s.client.to_string()).collect();
    assert_eq!(clients, ["new", "young"]);
    assert_eq!(world.broker.stats().counters.sessions_evicted, 1);
    let young = world.hello(&v5("young").keep(1000));
    assert_eq!(world.got(young), [Got::ConnAck { code: 0, present: true }]);
    let refused = world.hello(&v5("another"));
    assert_eq!(world.got(refused), [Got::ConnAck { code: 0x97, present: false }]);
    let refused = world.hello(&v3("another"));
    assert_eq!(world.got(refused), [Got::ConnAck { code: 3, present: false }]);
}

#[test]
fn an_identifier_that_is_too_long_is_refused() {
    let limits = BrokerLimits { max_client_id_bytes: 4, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    world.connect(v5("four"));
    let conn = world.hello(&v5("fiver"));
    assert_eq!(world.got(conn), [Got::ConnAck { code: 0x85, present: false }]);
    let conn = world.hello(&v3("fiver"));
    assert_eq!(world.got(conn), [Got::ConnAck { code: 2, present: false }]);
}

#[test]
fn shutting_down_says_goodbye_and_brings_out_the_wills() {
    let mut world = World::new();
    let five = world.connect(v5("five").will("wills", "five"));
    let three = world.connect(v3("three").will("wills", "three"));
    let silent = world.open(Version::V5);
    world.broker.disconnect_all(world.now);
    world.settle();
    assert_eq!(world.got(five), [Got::Disconnect(0x8B)]);
    assert_eq!(world.raw(three), b"");
    for conn in [five, three, silent] {
        assert_eq!(world.closed(conn), Some(&CloseReason::ShuttingDown));
    }
    let wills = ["five", "three"].map(|client| ("wills".to_owned(), client.to_owned()));
    assert_eq!(world.published(), wills, "nobody has said goodbye");
    assert_eq!(world.broker.stats().connections, 0);
}

#[test]
fn after_a_goodbye_nothing_more_is_read() {
    // [MQTT-3.14.4-2]
    let mut world = World::new();
    let conn = world.connect(v3("a"));
    let mut bytes = DISCONNECT.to_vec();
    bytes.extend(publish(Version::V3_1_1, "t", "late", None, false, vec![]));
    world.send(conn, &bytes);
    assert_eq!(world.closed(conn), Some(&CloseReason::ClientDisconnected));
    assert_eq!(world.published(), []);
}

#[test]
fn calls_for_unknown_connections_are_harmless() {
    let mut world = World::new();
    let conn = crate::ConnId(99);
    world.broker.handle_bytes(world.now, conn, b"\x10");
    world.broker.handle_closed(world.now, conn, "gone");
    world.broker.acknowledge(world.now, crate::Ticket(u64::MAX), crate::Answer::Success);
    assert!(world.broker.unsent(conn).is_none());
    assert_eq!(world.broker.poll_event(), None);
}

#[test]
fn nobody_is_late_while_the_owner_does_not_read() {
    let mut world = World::new();
    let client = world.connect(Hello { keep_alive: 10, ..v5("a") });
    let stranger = world.open(Version::V5);
    world.pass(Duration::from_secs(5));
    world.broker.handle_reading(world.now, false);
    world.pass(Duration::from_secs(100));
    assert_eq!((world.closed(client), world.closed(stranger)), (None, None));
    world.broker.handle_reading(world.now, true);
    world.pass(Duration::from_millis(9_999));
    assert_eq!((world.closed(client), world.closed(stranger)), (None, None));
    world.pass(Duration::from_millis(1));
    assert_eq!(world.closed(stranger), Some(&CloseReason::ConnectTimeout));
    world.pass(Duration::from_millis(4_999));
    assert_eq!(world.closed(client), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.closed(client), Some(&CloseReason::KeepAliveTimeout));
}
