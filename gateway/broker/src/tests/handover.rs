//! QoS 2, both ways.

use mqtt_protocol_core::mqtt::packet::Properties;

use super::peer::*;
use crate::{Answer, BrokerLimits, CloseReason, QoS, RefuseReason};

const NOTHING: [Got; 0] = [];

fn refused() -> Answer {
    Answer::Refused { reason: RefuseReason::QuotaExceeded, text: "full".to_owned() }
}

#[test]
fn a_publish_of_qos_2_is_taken_in_two_steps() {
    // [MQTT-4.3.3-8], [MQTT-4.3.3-11]
    for hello in [v3("p"), v5("p")] {
        let mut world = World::new();
        let subscriber = world.subscriber(v5("s"), &[("t", qos(2))]);
        let conn = world.connect(hello);
        world.publish_twice_sure(conn, "t", "x", 7, Again::First);
        assert_eq!(world.got(conn), [Got::PubRec { id: 7, code: 0 }]);
        assert_eq!(world.payloads(subscriber), ["x"]);
        world.send(conn, &ack(PUBREL, 7));
        assert_eq!(world.got(conn), [Got::PubComp { id: 7, code: 0 }]);
        let counters = world.broker.stats().counters;
        assert_eq!((counters.received_qos2, counters.sent_qos2), (1, 1));
    }
}

#[test]
fn what_comes_again_before_its_pubrel_is_answered_again_and_not_taken_again() {
    // [MQTT-4.3.3-10]
    for hello in [v3("p").keep(0), v5("p").keep(60)] {
        let mut world = World::new();
        let conn = world.connect(hello.clone());
        world.publish_twice_sure(conn, "t", "x", 7, Again::First);
        world.publish_twice_sure(conn, "t", "x", 7, Again::Repeated);
        assert_eq!(world.got(conn), vec![Got::PubRec { id: 7, code: 0 }; 2]);
        world.cut(conn);
        let conn = world.connect(hello);
        world.publish_twice_sure(conn, "t", "x", 7, Again::Repeated);
        assert_eq!(world.got(conn), [Got::PubRec { id: 7, code: 0 }]);
        assert_eq!(world.published().len(), 1);
        world.send(conn, &ack(PUBREL, 7));
        world.publish_twice_sure(conn, "t", "y", 7, Again::First);
        assert_eq!(world.published().len(), 2, "the identifier is free again");
    }
}

#[test]
fn a_repetition_is_answered_no_earlier_than_the_first_copy() {
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v5("p").keep(60));
    world.publish_twice_sure(conn, "t", "x", 7, Again::First);
    world.publish_twice_sure(conn, "t", "x", 7, Again::Repeated);
    assert_eq!(world.got(conn), NOTHING);
    world.cut(conn);
    let conn = world.connect(v5("p").keep(60));
    world.publish_twice_sure(conn, "t", "x", 7, Again::Repeated);
    assert_eq!(world.got(conn), NOTHING);
    assert_eq!(world.tickets.len(), 1);
    world.answer(world.tickets[0].0, Answer::Success);
    assert_eq!(world.got(conn), [Got::PubRec { id: 7, code: 0 }]);
}

#[test]
fn a_refused_message_of_qos_2_leaves_its_identifier_free() {
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v5("p"));
    world.publish_twice_sure(conn, "t", "x", 7, Again::First);
    world.publish_twice_sure(conn, "t", "x", 7, Again::Repeated);
    world.answer(world.tickets[0].0, refused());
    assert_eq!(world.got(conn), vec![Got::PubRec { id: 7, code: 0x97 }; 2]);
    world.publish_twice_sure(conn, "t", "y", 7, Again::First);
    assert_eq!(world.tickets.len(), 2);
    let three = world.connect(v3("q"));
    world.publish_twice_sure(three, "t", "x", 7, Again::First);
    world.answer(world.tickets[2].0, refused());
    assert!(matches!(world.closed(three), Some(CloseReason::PublishRefused(_))));
}

#[test]
fn acknowledgements_of_both_kinds_leave_in_the_order_of_their_publishes() {
    // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
    let mut world = World::new();
    world.automatic = false;
    let conn = world.connect(v5("p"));
    world.publish_twice_sure(conn, "t", "a", 1, Again::First);
    world.publish(conn, "t", "b", Some(2));
    world.publish_twice_sure(conn, "t", "c", 3, Again::First);
    for at in [2, 1, 0] {
        world.answer(world.tickets[at].0, Answer::Success);
    }
    let expected = [
        Got::PubRec { id: 1, code: 0 },
        Got::PubAck { id: 2, code: 0 },
        Got::PubRec { id: 3, code: 0 },
    ];
    assert_eq!(world.got(conn), expected);
}

#[test]
fn receive_maximum_counts_qos_2_until_its_pubcomp() {
    // [MQTT-3.3.4-7], section 4.9
    let limits = BrokerLimits { receive_maximum: 2, ..BrokerLimits::default() };
    let mut world = World::with(limits.clone());
    let conn = world.connect(v5("p").keep(60));
    world.publish_twice_sure(conn, "t", "a", 1, Again::First);
    world.publish_twice_sure(conn, "t", "b", 2, Again::First);
    world.send(conn, &ack(PUBREL, 1));
    world.publish(conn, "t", "c", Some(3));
    world.got(conn);
    world.publish_twice_sure(conn, "t", "d", 4, Again::First);
    assert_eq!(world.got(conn).len(), 1, "2 is unfinished, 3 is not");
    world.publish(conn, "t", "e", Some(5));
    assert_eq!(world.got(conn), [Got::Disconnect(0x93)]);
    // The next connection begins with the whole of it.
    let conn = world.connect(v5("p").keep(60));
    world.publish_twice_sure(conn, "t", "b", 2, Again::Repeated);
    world.publish_twice_sure(conn, "t", "f", 6, Again::First);
    assert_eq!(world.got(conn).len(), 2);
    world.publish(conn, "t", "g", Some(7));
    assert_eq!(world.got(conn), [Got::Disconnect(0x93)]);
}

#[test]
fn a_session_has_a_bound_on_messages_without_their_pubrel() {
    let limits = BrokerLimits { receive_maximum: 2, ..BrokerLimits::default() };
    let mut world = World::with(limits);
    let conn = world.connect(v3("p"));
    for id in 1..=8 {
        world.publish_twice_sure(conn, "t", "x", id, Again::First);
    }
    assert_eq!(world.got(conn).len(), 8);
    world.publish_twice_sure(conn, "t", "x", 9, Again::First);
    assert!(matches!(world.closed(conn), Some(CloseReason::Fault { code: 0x93, .. })));
}

#[test]
fn a_subscriber_gets_qos_2_in_two_steps() {
    for hello in [v3("s").keep(0), v5("s").keep(60)] {
        let mut world = World::new();
        let conn = world.subscriber(hello.clone(), &[("t", qos(2))]);
        world.inject("t", "x", QoS::ExactlyOnce);
        let received = world.received(conn);
        assert_eq!((received[0].qos, received[0].id, received[0].dup), (2, Some(1), false));
        world.send(conn, &ack(PUBREC, 1));
        assert_eq!(world.got(conn), [Got::PubRel { id: 1, code: 0 }]); // [MQTT-4.3.3-5]
        world.send(conn, &ack(PUBREC, 1));
        assert_eq!(world.got(conn), [Got::PubRel { id: 1, code: 0 }]);
        // After PUBREC the message is not sent again [MQTT-4.3.3-6], its PUBREL is.
        world.cut(conn);
        let conn = world.connect_and_keep(hello.clone());
        assert_eq!(world.got(conn), [Got::PubRel { id: 1, code: 0 }]);
        world.send(conn, &ack(PUBCOMP, 1));
        assert_eq!(world.broker.stats().sessions[0].inflight, 0);
        world.cut(conn);
        let conn = world.connect_and_keep(hello);
        assert_eq!(world.got(conn), NOTHING);
    }
}

#[test]
fn without_a_pubrec_the_message_comes_again_with_dup() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s").keep(60), &[("t", qos(2))]);
    world.inject("t", "x", QoS::ExactlyOnce);
    world.cut(conn);
    let conn = world.connect_and_keep(v5("s").keep(60));
    let received = world.received(conn);
    assert_eq!((received[0].qos, received[0].id, received[0].dup), (2, Some(1), true));
    world.send(conn, b"\x50\x03\0\x01\x97"); // [MQTT-4.3.3-4]: it failed, and is done with.
    assert_eq!(world.got(conn), NOTHING);
    assert_eq!(world.broker.stats().sessions[0].inflight, 0);
    assert_eq!(world.broker.stats().queued_bytes, 0);
}

#[test]
fn the_window_of_a_client_holds_for_both_kinds_together() {
    // [MQTT-3.3.4-9]
    let mut world = World::new();
    let hello = Hello { properties: vec![property::receive_maximum(2)], ..v5("s") };
    let conn = world.subscriber(hello, &[("t", qos(2))]);
    world.inject("t", "1", QoS::ExactlyOnce);
    world.inject("t", "2", QoS::AtLeastOnce);
    world.inject("t", "3", QoS::ExactlyOnce);
    assert_eq!(world.payloads(conn), ["1", "2"]);
    world.send(conn, &ack(PUBREC, 1));
    assert_eq!(world.got(conn).len(), 1, "PUBREL; the place is taken until PUBCOMP");
    world.send(conn, &ack(PUBCOMP, 1));
    assert_eq!(world.payloads(conn), ["3"]);
}

#[test]
fn acknowledgements_of_unknown_identifiers_are_answered_and_wrong_ones_end_the_connection() {
    let mut world = World::new();
    let five = world.connect(v5("five"));
    world.send(five, &ack(PUBREC, 9));
    world.send(five, &ack(PUBREL, 9));
    world.send(five, &ack(PUBCOMP, 9));
    let not_found = [Got::PubRel { id: 9, code: 0x92 }, Got::PubComp { id: 9, code: 0x92 }];
    assert_eq!(world.got(five), not_found);
    let three = world.connect(v3("three"));
    world.send(three, &ack(PUBREC, 9));
    world.send(three, &ack(PUBREL, 9));
    let answers = [Got::PubRel { id: 9, code: 0 }, Got::PubComp { id: 9, code: 0 }];
    assert_eq!(world.got(three), answers);
    for (level, first) in [(1, PUBREC), (1, PUBCOMP), (2, 0x40), (2, PUBCOMP)] {
        let conn = world.subscriber(v5("s"), &[("t", qos(level))]);
        world.inject("t", "x", QoS::ExactlyOnce);
        world.got(conn);
        world.send(conn, &ack(first, 1));
        assert_eq!(world.got(conn), [Got::Disconnect(0x82)], "QoS {level}, {first:02x}");
    }
}

#[test]
fn a_will_of_qos_2_is_published_with_it() {
    let mut world = World::new();
    let conn = world.subscriber(v5("s"), &[("gone", qos(2))]);
    let will = Some((
        "gone",
        "x",
        mqtt_protocol_core::mqtt::packet::Qos::ExactlyOnce,
        false,
        Properties::new(),
    ));
    let client = world.connect(Hello { will, ..v5("c") });
    world.cut(client);
    assert_eq!(world.received(conn)[0].qos, 2);
}

#[test]
fn clients_do_not_publish_to_topics_of_the_gateway() {
    let mut world = World::new();
    let watcher = world.subscriber(v5("w"), &[("$SYS/#", qos(0)), ("$x", qos(0))]);
    let five = world.connect(v5("five"));
    for topic in ["$SYS/broker/uptime", "$x"] {
        world.publish(five, topic, "1", None);
        world.publish(five, topic, "1", Some(1));
        world.publish_twice_sure(five, topic, "1", 2, Again::First);
        let refused = [Got::PubAck { id: 1, code: 0x90 }, Got::PubRec { id: 2, code: 0x90 }];
        assert_eq!(world.got(five), refused);
    }
    let three = world.connect(v3("three"));
    world.publish(three, "$x", "1", Some(1));
    world.publish_twice_sure(three, "$x", "1", 2, Again::First);
    world.send(three, &ack(PUBREL, 2));
    let taken = [
        Got::PubAck { id: 1, code: 0 },
        Got::PubRec { id: 2, code: 0 },
        Got::PubComp { id: 2, code: 0 },
    ];
    assert_eq!(world.got(three), taken);
    assert_eq!((world.published(), world.payloads(watcher)), (vec![], vec![]));
    assert_eq!(world.broker.stats().counters.refused_reserved, 8);
    let conn = world.hello(&v5("c").will("$SYS/x", "x"));
    assert_eq!(world.got(conn), [Got::ConnAck { code: 0x90, present: false }]);
    world.inject("$SYS/broker/uptime", "5", QoS::AtMostOnce);
    assert_eq!(world.payloads(watcher), ["5"]);
    assert_eq!(world.closed(five).or(world.closed(three)), None);
}
