//! Publishes in, acknowledgements and deliveries out.

use std::time::Duration;

use proptest::prelude::*;

use super::peer::*;
use crate::{Answer, BrokerEvent, BrokerLimits, CloseReason, QoS, RefuseReason, Version};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

fn hello(version: Version, client: &'static str) -> Hello {
    Hello { version, ..v3(client) }
}

fn acks(world: &mut World, conn: crate::ConnId) -> Vec<u16> {
    let ids = world.got(conn).into_iter().map(|got| match got {
        Got::PubAck { id, code: 0 } => id,
        other => panic!("{other:?}"),
    });
    ids.collect()
}

#[test]
fn a_message_reaches_subscribers_of_either_version_with_the_lower_qos() {
    for from in BOTH {
        for to in BOTH {
            for (published, wished, expected) in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1)] {
                let mut world = World::new();
                let subscriber = world.subscriber(hello(to, "s"), &[("a/+", qos(wished))]);
                let publisher = world.connect(hello(from, "p"));
                world.publish(publisher, "a/b", "x", (published == 1).then_some(7));
                let received = world.received(subscriber);
                assert_eq!(received.len(), 1);
                let message = &received[0];
                assert_eq!((message.topic.as_str(), message.payload.as_str()), ("a/b", "x"));
                assert_eq!((message.qos, message.retain), (expected, false));
                assert_eq!(message.id.is_some(), expected == 1);
                let expected: &[u16] = if published == 1 { &[7] } else { &[] };
                assert_eq!(acks(&mut world, publisher), expected);
            }
        }
    }
}

#[test]
fn a_publisher_gets_no_puback_until_the_owner_answers() {
    for version in BOTH {
        let mut world = World::new();
        world.automatic = false;
        let conn = world.connect(hello(version, "p"));
        world.publish(conn, "t", "x", Some(7));
        world.pass(Duration::from_secs(3600));
        assert_eq!(acks(&mut world, conn), [0u16; 0]);
        world.answer(world.tickets[0].0, Answer::Success);
        assert_eq!(acks(&mut world, conn), [7]);
    }
}

proptest! {
    #[test]
    fn pubacks_leave_in_the_order_of_the_publishes_whatever_order_they_are_answered_in(
        order in Just((0..12usize).collect::<Vec<_>>()).prop_shuffle(),
        five in any::<bool>(),
    ) {
        // [MQTT-4.6.0-2]
        let mut world = World::new();
        world.automatic = false;
        let conn = world.connect(if five { v5("p") } else { v3("p") });
        let ids: Vec<u16> = (0..12).map(|i| 500 - i).collect();
        for id in &ids {
            world.publish(conn, "t", "x", Some(*id));
        }
        let mut seen = Vec::new();
        for (answered, at) in order.iter().enumerate() {
            world.answer(world.tickets[*at].0, Answer::Success);
            seen.extend(acks(&mut world, conn));
            let due = (0..12).take_while(|i| order[..=answered].contains(i)).count();
            prop_assert_eq!(&seen, &ids[..due]);
        }
    }
}

#[test]
fn an_answer_given_twice_or_too_late_changes_nothing() {
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v3("p"));
    world.publish(conn, "t", "1", Some(1));
    world.publish(conn, "t", "2", Some(2));
    let (first, second) = (world.tickets[0].0, world.tickets[1].0);
    world.answer(second, Answer::Success);
    let refused = Answer::Refused { reason: RefuseReason::QuotaExceeded, text: String::new() };
    world.answer(second, refused);
    world.answer(first, Answer::Success);
    assert_eq!(acks(&mut world, conn), [1, 2]);
    world.answer(first, Answer::Success);
    assert_eq!(acks(&mut world, conn), [0u16; 0]);
    // A new connection in the same place is not mistaken for the old one.
    world.publish(conn, "t", "3", Some(3));
    let third = world.tickets[2].0;
    world.cut(conn);
    let conn = world.connect(v3("p"));
    world.publish(conn, "t", "4", Some(4));
    world.answer(third, Answer::Success);
    assert_eq!(acks(&mut world, conn), [0u16; 0]);
    world.answer(world.tickets[3].0, Answer::Success);
    assert_eq!(acks(&mut world, conn), [4]);
}

#[test]
fn mqtt_5_publishers_are_told_why_not() {
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v5("p"));
    for id in 1..=3 {
        world.publish(conn, "t", "x", Some(id));
    }
    let tickets: Vec<_> = world.tickets.iter().map(|(ticket, _)| *ticket).collect();
    let refused =
        Answer::Refused { reason: RefuseReason::QuotaExceeded, text: "the stream is full".into() };
    world.answer(tickets[0], refused);
    world.answer(tickets[1], Answer::NoSubscribers);
    world.answer(tickets[2], Answer::Success);
    let bytes = world.raw(conn);
    assert!(bytes.windows(18).any(|window| window == b"the stream is full"));
    assert_eq!(
        parse(Version::V5, &bytes),
        [
            Got::PubAck { id: 1, code: 0x97 },
            Got::PubAck { id: 2, code: 0x10 },
            Got::PubAck { id: 3, code: 0 }
        ]
    );
}

#[test]
fn a_reason_is_shortened_on_a_character_and_left_out_where_it_does_not_fit() {
    let text = "ä".repeat(150);
    for (max_packet, bytes) in [(1000, 8 + 1 + 1 + 200), (50, 5)] {
        let mut world = World::new();
        world.automatic = false;
        let properties = vec![property::max_packet(max_packet)];
        let conn = world.connect(Hello { properties, ..v5("p") });
        world.publish(conn, "t", "x", Some(1));
        let answer = Answer::Refused { reason: RefuseReason::NotAuthorized, text: text.clone() };
        world.answer(world.tickets[0].0, answer);
        let raw = world.raw(conn);
        assert!(raw.len().abs_diff(bytes) <= 2, "{} bytes", raw.len());
        assert_eq!(parse(Version::V5, &raw), [Got::PubAck { id: 1, code: 0x87 }]);
    }
}

#[test]
fn a_refused_3_1_1_publisher_is_disconnected_after_the_pubacks_before_it() {
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v3("p"));
    for id in 1..=3 {
        world.publish(conn, "t", "x", Some(id));
    }
    let tickets: Vec<_> = world.tickets.iter().map(|(ticket, _)| *ticket).collect();
    let answer = Answer::Refused { reason: RefuseReason::QuotaExceeded, text: "full".into() };
    world.answer(tickets[1], answer);
    world.answer(tickets[2], Answer::Success);
    assert_eq!(world.closed(conn), None);
    world.answer(tickets[0], Answer::Success);
    assert_eq!(acks(&mut world, conn), [1]);
    assert_eq!(world.closed(conn), Some(&CloseReason::PublishRefused("full".to_owned())));
}

#[test]
fn a_3_1_1_connection_pauses_at_the_limit_of_pending_acknowledgements() {
    let limits = BrokerLimits { receive_maximum: 4, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    world.automatic = false;
    let conn = world.connect(v3("p"));
    // All in one read: the broker may not take more than four in hand.
    let bytes: Vec<u8> = (1..=10)
        .flat_map(|id| publish(Version::V3_1_1, "t", "x", Some(id), false, vec![]))
        .collect();
    world.send(conn, &bytes);
    let paused = |world: &World| {
        let last = world.events.iter().rev().find_map(|event| match event {
            BrokerEvent::Pause(c) if *c == conn => Some(true),
            BrokerEvent::Resume(c) if *c == conn => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    };
    assert!(paused(&world));
    assert_eq!(world.tickets.len(), 4);
    world.answer(world.tickets[0].0, Answer::Success);
    assert!(paused(&world), "it goes on when half is answered");
    world.answer(world.tickets[1].0, Answer::Success);
    // It went on with what it had been given and paused again.
    assert_eq!(world.tickets.len(), 6);
    assert!(paused(&world));
    let mut at = 2;
    while at < world.tickets.len() {
        world.answer(world.tickets[at].0, Answer::Success);
        at += 1;
    }
    assert!(!paused(&world));
    assert_eq!(acks(&mut world, conn), (1..=10).collect::<Vec<u16>>());
}

#[test]
fn a_paused_connection_does_not_die_of_its_keep_alive() {
    let limits = BrokerLimits { receive_maximum: 1, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    world.automatic = false;
    let conn = world.connect(Hello { keep_alive: 10, ..v3("p") });
    world.publish(conn, "t", "x", Some(1));
    world.publish(conn, "t", "x", Some(2));
    world.pass(Duration::from_secs(100));
    assert_eq!(world.closed(conn), None);
    world.answer(world.tickets[0].0, Answer::Success);
    world.pass(Duration::from_secs(14));
    assert_eq!(world.closed(conn), None);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.closed(conn), Some(&CloseReason::KeepAliveTimeout));
}

#[test]
fn pings_pass_while_publishes_wait_for_their_answers() {
    let limits = BrokerLimits { receive_maximum: 2, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    world.automatic = false;
    let conn = world.connect(Hello { keep_alive: 10, ..v3("p") });
    world.publish(conn, "t", "x", Some(1));
    world.publish(conn, "t", "x", Some(2));
    for _ in 0..10 {
        world.pass(Duration::from_secs(9));
        world.send(conn, b"\xc0\x00");
    }
    assert_eq!(world.got(conn), vec![Got::PingResp; 10]);
    // The next publish is where reading stops; what is behind it has to wait.
    world.publish(conn, "t", "x", Some(3));
    world.send(conn, b"\xc0\x00");
    assert_eq!(world.got(conn), []);
    world.answer(world.tickets[0].0, Answer::Success);
    world.answer(world.tickets[1].0, Answer::Success);
    assert!(world.got(conn).contains(&Got::PingResp));
}

#[test]
fn a_client_that_floods_a_paused_connection_is_closed() {
    let limits = BrokerLimits {
        receive_maximum: 1,
        max_packet: 1000,
        max_held_bytes: 1000,
        ..BrokerLimits::default()
    };
    let mut world = World::with(limits);
    world.automatic = false;
    let conn = world.connect(v3("p"));
    for id in 1..20 {
        world.publish(conn, "t", &"x".repeat(200), Some(id));
    }
    assert!(matches!(world.closed(conn), Some(CloseReason::Fault { code: 0x97, .. })));
}

#[test]
fn an_mqtt_5_client_beyond_its_quota_is_disconnected() {
    // Section 4.9: 0x93 Receive Maximum exceeded.
    let limits = BrokerLimits { receive_maximum: 4, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    world.automatic = false;
    let conn = world.connect(v5("p"));
    for id in 1..=4 {
        world.publish(conn, "t", "x", Some(id));
    }
    assert_eq!(world.got(conn), []);
    world.publish(conn, "t", "x", None);
    assert_eq!(world.got(conn), [], "QoS 0 has no quota");
    world.publish(conn, "t", "x", Some(5));
    assert_eq!(world.got(conn), [Got::Disconnect(0x93)]);
}

#[test]
fn publishes_that_break_the_rules_end_the_connection_with_the_right_reason() {
    let cases: &[(&str, &[u8], u8)] = &[
        ("QoS 3 [MQTT-3.3.1-4]", b"\x36\x07\0\x01t\0\x01\0x", 0x81),
        ("DUP with QoS 0 [MQTT-3.3.1-2]", b"\x38\x05\0\x01t\0x", 0x81),
        ("packet identifier 0 [MQTT-2.2.1-3]", b"\x32\x07\0\x01t\0\0\0x", 0x82),
        ("a wildcard in the topic [MQTT-3.3.2-2]", b"\x30\x05\0\x01+\0x", 0x90),
        ("no topic and no alias", b"\x30\x04\0\0\0x", 0x82),
        ("a topic that is not UTF-8 [MQTT-1.5.4-1]", b"\x30\x05\0\x01\xff\0x", 0x81),
        ("U+0000 in the topic [MQTT-1.5.4-2]", b"\x30\x05\0\x01\0\0x", 0x81),
        ("alias 0 [MQTT-3.3.2-8]", b"\x30\x07\0\x01t\x03\x23\0\0", 0x94),
        ("an alias above the maximum [MQTT-3.3.2-9]", b"\x30\x07\0\x01t\x03\x23\0\x63", 0x94),
        ("an alias not set up", b"\x30\x06\0\0\x03\x23\0\x01", 0x82),
        ("an alias given twice", b"\x30\x0a\0\x01t\x06\x23\0\x01\x23\0\x01", 0x82),
        ("a subscription identifier [MQTT-3.3.4-6]", b"\x30\x06\0\x01t\x02\x0b\x01", 0x82),
        ("a will delay (2.2.2.2)", b"\x30\x09\0\x01t\x05\x18\0\0\0\x01", 0x81),
        ("an unknown property", b"\x30\x06\0\x01t\x02\x7f\x01", 0x81),
        ("format 2", b"\x30\x06\0\x01t\x02\x01\x02", 0x82),
        ("wildcard in the response topic [MQTT-3.3.2-14]", b"\x30\x08\0\x01t\x04\x08\0\x01#", 0x82),
        ("properties longer than the packet", b"\x30\x04\0\x01t\x09", 0x81),
        ("a property cut short", b"\x30\x06\0\x01t\x02\x02\0", 0x81),
        ("no property length", b"\x30\x03\0\x01t", 0x81),
        ("a topic longer than the packet", b"\x30\x03\0\x09t", 0x81),
        ("nothing", b"\x30\0", 0x81),
    ];
    for (what, bytes, code) in cases {
        let mut world = World::new();
        let conn = world.connect(v5("p"));
        world.send(conn, bytes);
        assert_eq!(world.got(conn), [Got::Disconnect(*code)], "{what}");
        assert_eq!(world.published(), [], "{what}");
    }
}

#[test]
fn a_topic_alias_stands_for_its_topic_until_it_is_moved() {
    let mut world = World::new();
    let conn = world.connect(v5("p"));
    let alias = || vec![property::alias(2)];
    world.publish_with(conn, "a/b", "1", None, false, alias());
    world.publish_with(conn, "", "2", None, false, alias());
    world.publish_with(conn, "c", "3", None, false, alias());
    world.publish_with(conn, "", "4", None, false, alias());
    let topics: Vec<_> = world.published().into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["a/b", "a/b", "c", "c"]);
    // [MQTT-3.3.2-7]: it ends with the connection.
    world.cut(conn);
    let conn = world.connect(v5("p"));
    world.publish_with(conn, "", "5", None, false, alias());
    assert_eq!(world.got(conn), [Got::Disconnect(0x82)]);
}

#[test]
fn properties_travel_to_mqtt_5_subscribers_and_are_left_out_for_3_1_1() {
    let mut world = World::new();
    let five = world.subscriber(v5("five"), &[("t", qos(0))]);
    let three = world.subscriber(v3("three"), &[("t", qos(0))]);
    let conn = world.connect(v5("p"));
    let properties = vec![
        property::user("b", "2"),
        property::text_format(),
        property::message_expiry(60),
        property::content_type("text/plain"),
        property::response_topic("answers"),
        property::correlation(&[1, 2]),
        property::user("a", "1"),
        property::user("b", "3"),
    ];
    world.publish_with(conn, "t", "x", None, false, properties);
    assert_eq!(
        world.received(five)[0].properties,
        [
            "format=1",
            "expiry=60",
            "type=text/plain",
            "response=answers",
            "correlation=[1, 2]",
            // [MQTT-3.3.2-18]: in their order
            "b=2",
            "a=1",
            "b=3"
        ]
    );
    assert_eq!(world.payloads(three), ["x"]);
}

#[test]
fn too_many_user_properties_are_refused() {
    let mut world = World::with(BrokerLimits { max_user_properties: 2, ..BrokerLimits::default() });
    let conn = world.connect(v5("p"));
    world.publish_with(conn, "t", "x", None, false, vec![property::user("a", "1"); 2]);
    assert_eq!(world.published().len(), 1);
    world.publish_with(conn, "t", "x", None, false, vec![property::user("a", "1"); 3]);
    assert_eq!(world.got(conn), [Got::Disconnect(0x97)]);
}

#[test]
fn a_topic_with_too_many_levels_is_refused() {
    let mut world = World::with(BrokerLimits { max_topic_levels: 3, ..BrokerLimits::default() });
    let conn = world.subscriber(v5("p"), &[("a/b/c", qos(0))]);
    world.publish(conn, "a/b/c", "x", None);
    assert_eq!(world.payloads(conn), ["x"]);
    world.publish(conn, "a/b/c/", "x", None);
    assert_eq!(world.got(conn), [Got::Disconnect(0x90)]);
}

#[test]
fn messages_of_the_gateway_itself_reach_subscribers() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s"), &[("alerts/#", qos(1))]);
    assert_eq!(world.inject("alerts/hot", "!", QoS::AtLeastOnce), 1);
    assert_eq!(world.inject("other", "!", QoS::AtLeastOnce), 0);
    let received = world.received(conn);
    assert_eq!((received.len(), received[0].qos), (1, 1));
}

#[test]
fn texts_that_mqtt_cannot_say_are_left_out() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s"), &[("t", qos(0))]);
    let mut message = crate::Message::new("t".parse().unwrap(), "x", QoS::AtMostOnce);
    message.properties.content_type = Some("x".repeat(65_536));
    message.properties.user = vec![("long".into(), "x".repeat(65_536)), ("a".into(), "1".into())];
    world.broker.publish(world.now, &message.into());
    world.settle();
    assert_eq!(world.received(conn)[0].properties, ["a=1"]);
}

#[test]
fn a_client_that_never_reads_is_not_read_from_for_ever() {
    let limits = BrokerLimits { max_unsent_bytes: 100, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    let conn = world.connect(v3("p"));
    world.stuck = true;
    for _ in 0..1000 {
        world.send(conn, PINGREQ);
    }
    assert!(world.events.iter().any(|event| matches!(event, BrokerEvent::Pause(_))));
    let unsent = world.broker.unsent(conn).unwrap().len();
    assert!((100..110).contains(&unsent), "{unsent} bytes");
    world.unstick();
    assert_eq!(world.got(conn).len(), 1000, "all is answered once it reads");
}

#[test]
fn clients_that_do_not_read_share_a_bound_and_leave_others_theirs() {
    let limits = BrokerLimits {
        max_unsent_bytes_total: 20_000,
        min_unsent_bytes: 1_000,
        ..BrokerLimits::default()
    };
    let mut world = World::with(limits);
    let mut clients = Vec::new();
    for client in ["a", "b", "c", "d"] {
        clients.push(world.subscriber(v3(client), &[("t", qos(0))]));
    }
    let late = world.subscriber(v3("late"), &[("late", qos(0))]);
    world.stuck = true;
    for _ in 0..100 {
        world.inject("t", &"x".repeat(500), QoS::AtMostOnce);
    }
    let unsent = |world: &mut World, conn| world.broker.unsent(conn).map_or(0, |o| o.len());
    let total: usize = clients.iter().map(|conn| unsent(&mut world, *conn)).sum();
    assert!((19_000..=24_000).contains(&total), "{total}");
    world.inject("late", "x", QoS::AtMostOnce);
    assert!(unsent(&mut world, late) > 0);
    world.unstick();
    clients.iter().for_each(|conn| drop(world.payloads(*conn)));
    world.inject("t", "again", QoS::AtMostOnce);
    for conn in clients {
        assert_eq!(world.payloads(conn), ["again"]);
    }
}
