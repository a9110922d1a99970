//! QoS 1, both ways: sections 4.3.2, 4.4 and 4.6.

use tidegate_peer::Version;
use tidegate_peer::decode::{Message, Packet};
use tidegate_peer::encode::*;

use super::bench::*;
use crate::Answer;

/// A broker, a subscriber with a kept session and a publisher.
fn pair(version: Version) -> (Bench, Line, Line) {
    let mut bench = Bench::new();
    let subscriber = bench.connect(&connect(version, "subscriber").kept());
    bench.subscribe(subscriber, &[("t", 1)]);
    let publisher = bench.client(version, "publisher");
    (bench, subscriber, publisher)
}

fn send(bench: &mut Bench, publisher: Line, payloads: &[&str]) {
    for (id, payload) in (1..).zip(payloads) {
        bench.publish(publisher, &publish("t", payload).qos(1, id));
    }
}

fn ids(messages: &[Message]) -> Vec<u16> {
    messages.iter().map(|message| message.id).collect()
}

// 5: MQTT-4.3.2-1, MQTT-4.3.2-2, MQTT-2.2.1-4
// 3.1.1: MQTT-4.3.2-1, MQTT-2.3.1-1, MQTT-2.3.1-4
#[test]
fn each_new_message_has_an_unused_identifier_and_no_dup() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        send(&mut bench, publisher, &["a", "b", "c"]);
        let messages = bench.messages(subscriber);
        assert!(messages.iter().all(|message| message.qos == 1 && !message.dup));
        let mut used = ids(&messages);
        used.sort();
        used.dedup();
        assert_eq!(used.len(), 3);
        // What is in use is not given again, however often the others are used.
        bench.send(subscriber, &ack(PUBACK, ids(&messages)[1]));
        for _ in 0..100 {
            bench.publish(publisher, &publish("t", "d").qos(1, 9));
            let id = bench.messages(subscriber)[0].id;
            assert!(id != ids(&messages)[0] && id != ids(&messages)[2]);
            bench.send(subscriber, &ack(PUBACK, id));
        }
    }
}

// 5: MQTT-4.3.2-3, MQTT-4.4.0-1, MQTT-3.3.1-1, MQTT-4.6.0-1
// 3.1.1: MQTT-4.3.2-1, MQTT-4.4.0-1, MQTT-3.3.1-1, MQTT-4.6.0-1, MQTT-2.3.1-4
#[test]
fn what_is_unacknowledged_is_sent_again_after_a_reconnect_in_order_with_dup_and_its_identifier() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        send(&mut bench, publisher, &["a", "b", "c", "d"]);
        let first = bench.messages(subscriber);
        bench.send(subscriber, &ack(PUBACK, first[1].id));
        bench.cut(subscriber);
        let (_, present, followed) = bench.resume(&connect(version, "subscriber").keep());
        assert!(present);
        let again = messages(followed);
        assert_eq!(payloads(&again), ["a", "c", "d"]);
        assert_eq!(ids(&again), [first[0].id, first[2].id, first[3].id]);
        assert!(again.iter().all(|message| message.dup && message.qos == 1));
    }
}

// 5: MQTT-4.4.0-1
// 3.1.1: MQTT-4.4.0-1
#[test]
fn nothing_is_sent_again_while_the_connection_lasts() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        send(&mut bench, publisher, &["a"]);
        assert_eq!(bench.messages(subscriber).len(), 1);
        bench.pass(3600);
        bench.send(subscriber, PINGREQ);
        assert_eq!(bench.got(subscriber), [Packet::Pingresp]);
    }
}

// 5: MQTT-4.3.2-4, MQTT-2.2.1-5, MQTT-3.4.2-1
// 3.1.1: MQTT-4.3.2-2, MQTT-2.3.1-6
#[test]
fn puback_has_the_identifier_and_comes_once_the_owner_has_the_message() {
    for version in BOTH {
        let mut bench = Bench::new();
        bench.world.automatic = false;
        let line = bench.client(version, "c");
        bench.publish(line, &publish("t", "x").qos(1, 65_535));
        bench.pass(60);
        assert_eq!(bench.got(line), []);
        let ticket = bench.world.tickets[0].0;
        bench.world.answer(ticket, Answer::Success);
        let got = bench.got(line);
        assert!(matches!(got[..], [Packet::Ack { kind: PUBACK, id: 65_535, code: 0, .. }]));
    }
}

// 5: MQTT-4.3.2-5
// 3.1.1: MQTT-4.3.2-2
#[test]
fn after_puback_the_same_identifier_is_a_new_message_whatever_dup_says() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        for publish in [publish("t", "x"), publish("t", "x").dup(), publish("t", "x").dup()] {
            bench.publish(publisher, &publish.qos(1, 7));
            assert_eq!(bench.got(publisher).len(), 1);
        }
        assert_eq!(bench.messages(subscriber).len(), 3);
    }
}

// 5: MQTT-4.6.0-2
// 3.1.1: MQTT-4.6.0-2
#[test]
fn pubacks_come_in_the_order_of_the_publishes() {
    for version in BOTH {
        let mut bench = Bench::new();
        bench.world.automatic = false;
        let line = bench.client(version, "c");
        let sent = [9, 3, 7, 1, 5];
        for id in sent {
            bench.publish(line, &publish("t", "x").qos(1, id));
        }
        for at in [4, 2, 0, 1, 3] {
            let ticket = bench.world.tickets[at].0;
            bench.world.answer(ticket, Answer::Success);
        }
        let got: Vec<u16> = bench
            .got(line)
            .into_iter()
            .map(|packet| match packet {
                Packet::Ack { kind: PUBACK, id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, sent);
    }
}

// 5: MQTT-4.4.0-2
#[test]
fn a_message_the_client_refuses_is_not_sent_again() {
    for reason in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        let (mut bench, subscriber, publisher) = pair(Version::V5);
        send(&mut bench, publisher, &["a"]);
        let id = bench.messages(subscriber)[0].id;
        bench.send(subscriber, &ack_with(PUBACK, id, reason));
        bench.cut(subscriber);
        let (_, _, followed) = bench.resume(&connect(Version::V5, "subscriber").keep());
        assert_eq!(followed, [], "0x{reason:02X}");
    }
}

// 5: MQTT-3.4.2-1, MQTT-4.13.1-1
#[test]
fn a_puback_that_is_malformed_closes_the_connection() {
    for version in BOTH {
        ends(version, &packet(PUBACK, &[]), 0x81);
        ends(version, &packet(PUBACK, &[1]), 0x81);
        ends(version, &ack(PUBACK, 0), 0x82);
    }
    ends(Version::V3_1_1, &ack_with(PUBACK, 1, 0), 0x81);
    ends(Version::V5, &packet(PUBACK, &[0, 1, 0, 5, prop::USER]), 0x81);
}

// 5: MQTT-3.4.2-1
#[test]
fn puback_says_why_a_message_was_refused() {
    let mut bench = Bench::new();
    bench.world.automatic = false;
    let line = bench.client(Version::V5, "c");
    use crate::RefuseReason::*;
    let reasons = [
        (Unspecified, 0x80),
        (ImplementationSpecific, 0x83),
        (NotAuthorized, 0x87),
        (TopicNameInvalid, 0x90),
        (QuotaExceeded, 0x97),
        (PayloadFormatInvalid, 0x99),
    ];
    for (at, (reason, code)) in reasons.into_iter().enumerate() {
        bench.publish(line, &publish("t", "x").qos(1, 1));
        let ticket = bench.world.tickets[at].0;
        bench.world.answer(ticket, Answer::Refused { reason, text: "no".into() });
        match &bench.got(line)[..] {
            [Packet::Ack { kind: PUBACK, id: 1, code: got, .. }] => assert_eq!(*got, code),
            other => panic!("{other:?}"),
        }
    }
    bench.publish(line, &publish("t", "x").qos(1, 1));
    let ticket = bench.world.tickets[reasons.len()].0;
    bench.world.answer(ticket, Answer::NoSubscribers);
    let got = bench.got(line);
    assert!(matches!(got[..], [Packet::Ack { kind: PUBACK, id: 1, code: 0x10, .. }]), "{got:?}");
}

/// The bytes of a refusal at a client that takes packets of `max` bytes.
fn refusal(max: u32, hello: Connect, qos: u8) -> Vec<u8> {
    let mut bench = Bench::new();
    bench.world.automatic = false;
    let line = bench.connect(&hello.with(prop::four(prop::MAX_PACKET, max)));
    bench.publish(line, &publish("t", "x").qos(qos, 1));
    let ticket = bench.world.tickets[0].0;
    let reason = crate::RefuseReason::QuotaExceeded;
    bench.world.answer(ticket, Answer::Refused { reason, text: "x".repeat(100) });
    bench.world.raw(line.conn)
}

// 5: MQTT-3.4.2-2, MQTT-3.4.2-3, MQTT-3.5.2-2, MQTT-3.5.2-3, MQTT-3.1.2-24
#[test]
fn a_reason_string_is_left_out_where_it_would_make_the_packet_too_large() {
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        let whole = refusal(1000, connect(Version::V5, "c"), qos);
        let packets = tidegate_peer::decode::packets(Version::V5, &whole);
        let [Packet::Ack { code: 0x97, properties, .. }] = &packets[..] else {
            panic!("{packets:?}")
        };
        assert_eq!(properties.bytes(prop::REASON), Some("x".repeat(100).as_bytes()));
        assert!(properties.pairs().is_empty(), "no user properties");
        let max = whole.len() as u32;
        assert_eq!(refusal(max + 5, connect(Version::V5, "c"), qos), whole);
        assert_eq!(refusal(max - 1, connect(Version::V5, "c"), qos), [kind, 3, 0, 1, 0x97]);
    }
}

// 5: MQTT-3.1.2-29
#[test]
fn a_client_that_wants_no_problem_information_gets_no_reason_string() {
    for (qos, kind) in [(1, PUBACK), (2, PUBREC)] {
        let hello = connect(Version::V5, "c").with(prop::byte(prop::PROBLEM_INFO, 0));
        let bytes = refusal(1000, hello, qos);
        let packets = tidegate_peer::decode::packets(Version::V5, &bytes);
        match &packets[..] {
            [Packet::Ack { kind: got, id: 1, code: 0x97, properties }] => {
                assert!(*got == kind && properties.0.is_empty());
            }
            other => panic!("{other:?}"),
        }
    }
}
