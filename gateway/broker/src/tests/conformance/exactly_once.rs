//! QoS 2, both ways: sections 4.3.3, 4.4 and 4.6.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;
use crate::{Answer, RefuseReason};

/// A broker, a subscriber with a kept session and a publisher, both with QoS 2.
fn pair(version: Version) -> (Bench, Line, Line) {
    let mut bench = Bench::new();
    let subscriber = bench.connect(&connect(version, "subscriber").kept());
    bench.subscribe(subscriber, &[("t", 2)]);
    let publisher = bench.connect(&connect(version, "publisher").kept());
    (bench, subscriber, publisher)
}

/// What the client got, if it is one packet that acknowledges without a complaint.
fn acked(bench: &mut Bench, line: Line) -> Option<(u8, u16)> {
    match &bench.got(line)[..] {
        [] => None,
        [Packet::Ack { kind, id, code: 0, .. }] => Some((*kind, *id)),
        other => panic!("{other:?}"),
    }
}

// 5: MQTT-4.3.3-8, MQTT-4.3.3-11, MQTT-2.2.1-5, MQTT-3.5.2-1, MQTT-3.7.2-1
// 3.1.1: MQTT-4.3.3-2, MQTT-2.3.1-6
#[test]
fn pubrec_and_pubcomp_have_the_identifier() {
    for version in BOTH {
        let (mut bench, _, publisher) = pair(version);
        for id in [1, 700, 65_535] {
            bench.publish(publisher, &publish("t", "x").qos(2, id));
            assert_eq!(acked(&mut bench, publisher), Some((PUBREC, id)));
            bench.send(publisher, &ack(PUBREL, id));
            assert_eq!(acked(&mut bench, publisher), Some((PUBCOMP, id)));
        }
    }
}

// 5: MQTT-4.3.3-8
// 3.1.1: MQTT-4.3.3-2
#[test]
fn no_pubrec_before_the_owner_has_the_message() {
    for version in BOTH {
        let (mut bench, _, publisher) = pair(version);
        bench.world.automatic = false;
        bench.publish(publisher, &publish("t", "x").qos(2, 7));
        bench.pass(60);
        assert_eq!(acked(&mut bench, publisher), None);
        // A repetition before the answer makes no second message.
        bench.publish(publisher, &publish("t", "x").qos(2, 7).dup());
        assert_eq!(acked(&mut bench, publisher), None);
        assert_eq!(bench.world.tickets.len(), 1);
        let ticket = bench.world.tickets[0].0;
        bench.world.answer(ticket, Answer::Success);
        let got = bench.got(publisher);
        assert!(!got.is_empty());
        for packet in got {
            assert!(matches!(packet, Packet::Ack { kind: PUBREC, id: 7, code: 0, .. }));
        }
    }
}

// 5: MQTT-4.3.3-10
// 3.1.1: MQTT-4.3.3-2
#[test]
fn before_pubrel_the_same_identifier_is_answered_and_not_delivered_again() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        for publish in [publish("t", "x"), publish("t", "x").dup(), publish("t", "y")] {
            bench.publish(publisher, &publish.qos(2, 7));
            assert_eq!(acked(&mut bench, publisher), Some((PUBREC, 7)));
        }
        assert_eq!(bench.payloads(subscriber), ["x"]);
        // Neither is it on another connection of the same session.
        bench.cut(publisher);
        let publisher = bench.connect(&connect(version, "publisher").keep());
        bench.publish(publisher, &publish("t", "x").qos(2, 7).dup());
        assert_eq!(acked(&mut bench, publisher), Some((PUBREC, 7)));
        assert_eq!(bench.payloads(subscriber), [""; 0]);
        bench.send(publisher, &ack(PUBREL, 7));
        assert_eq!(acked(&mut bench, publisher), Some((PUBCOMP, 7)));
    }
}

// 5: MQTT-4.3.3-12
// 3.1.1: MQTT-4.3.3-2
#[test]
fn after_pubcomp_the_same_identifier_is_a_new_message() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        for publish in [publish("t", "1"), publish("t", "2"), publish("t", "3").dup()] {
            bench.publish(publisher, &publish.qos(2, 7));
            bench.send(publisher, &ack(PUBREL, 7));
        }
        assert_eq!(bench.payloads(subscriber), ["1", "2", "3"]);
    }
}

// 5: MQTT-4.3.3-9
#[test]
fn after_a_refusal_the_same_identifier_is_a_new_message() {
    let (mut bench, subscriber, publisher) = pair(Version::V5);
    bench.world.automatic = false;
    bench.publish(publisher, &publish("t", "refused").qos(2, 7));
    let refused = Answer::Refused { reason: RefuseReason::QuotaExceeded, text: String::new() };
    let ticket = bench.world.tickets[0].0;
    bench.world.answer(ticket, refused);
    let got = bench.got(publisher);
    assert!(matches!(got[..], [Packet::Ack { kind: PUBREC, id: 7, code: 0x97, .. }]), "{got:?}");
    bench.world.automatic = true;
    bench.publish(publisher, &publish("t", "accepted").qos(2, 7));
    assert_eq!(acked(&mut bench, publisher), Some((PUBREC, 7)));
    assert_eq!(bench.payloads(subscriber), ["accepted"]);
}

// 5: MQTT-4.3.3-11, MQTT-3.7.2-1
// 3.1.1: MQTT-4.3.3-2
#[test]
fn a_pubrel_for_nothing_is_answered_too() {
    let (mut bench, _, publisher) = pair(Version::V3_1_1);
    bench.send(publisher, &ack(PUBREL, 9));
    assert_eq!(acked(&mut bench, publisher), Some((PUBCOMP, 9)));
    let (mut bench, _, publisher) = pair(Version::V5);
    bench.send(publisher, &ack(PUBREL, 9));
    let got = bench.got(publisher);
    // 0x92: packet identifier not found.
    assert!(matches!(got[..], [Packet::Ack { kind: PUBCOMP, id: 9, code: 0x92, .. }]), "{got:?}");
}

// 5: MQTT-4.6.0-3
// 3.1.1: MQTT-4.6.0-3
#[test]
fn pubrecs_come_in_the_order_of_the_publishes() {
    for version in BOTH {
        let (mut bench, _, publisher) = pair(version);
        bench.world.automatic = false;
        let sent = [9, 3, 7, 1, 5];
        for id in sent {
            bench.publish(publisher, &publish("t", "x").qos(2, id));
        }
        for at in [4, 2, 0, 1, 3] {
            let ticket = bench.world.tickets[at].0;
            bench.world.answer(ticket, Answer::Success);
        }
        let got: Vec<u16> = bench
            .got(publisher)
            .into_iter()
            .map(|packet| match packet {
                Packet::Ack { kind: PUBREC, id, .. } => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(got, sent);
    }
}

// 5: MQTT-4.3.3-1, MQTT-4.3.3-2, MQTT-4.3.3-4, MQTT-2.2.1-4, MQTT-2.2.1-5, MQTT-3.6.1-1
// 5: MQTT-3.6.2-1
// 3.1.1: MQTT-4.3.3-1, MQTT-2.3.1-4, MQTT-2.3.1-6, MQTT-3.6.1-1
#[test]
fn a_message_goes_out_as_publish_then_pubrel_with_one_identifier() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        for (id, payload) in [(1, "a"), (2, "b")] {
            bench.publish(publisher, &publish("t", payload).qos(2, id));
        }
        let messages = bench.messages(subscriber);
        assert_eq!(messages.len(), 2);
        assert!(messages.iter().all(|message| message.qos == 2 && !message.dup));
        assert_ne!(messages[0].id, messages[1].id);
        for message in messages {
            bench.send(subscriber, &ack(PUBREC, message.id));
            assert_eq!(acked(&mut bench, subscriber), Some((PUBREL, message.id)));
            bench.send(subscriber, &ack(PUBCOMP, message.id));
            assert_eq!(acked(&mut bench, subscriber), None);
        }
    }
}

// 5: MQTT-4.3.3-3, MQTT-4.4.0-1, MQTT-3.3.1-1
// 3.1.1: MQTT-4.3.3-1, MQTT-4.4.0-1, MQTT-3.3.1-1
#[test]
fn publish_is_sent_again_until_pubrec_with_dup_and_its_identifier() {
    for version in BOTH {
        let (mut bench, mut subscriber, publisher) = pair(version);
        bench.publish(publisher, &publish("t", "x").qos(2, 1));
        let first = bench.messages(subscriber).remove(0);
        for _ in 0..3 {
            bench.cut(subscriber);
            let (line, present, followed) = bench.resume(&connect(version, "subscriber").keep());
            assert!(present);
            subscriber = line;
            let again = messages(followed).remove(0);
            assert_eq!((again.id, again.dup, again.qos), (first.id, true, 2));
        }
        bench.send(subscriber, &ack(PUBREC, first.id));
        assert_eq!(acked(&mut bench, subscriber), Some((PUBREL, first.id)));
    }
}

// 5: MQTT-4.3.3-5, MQTT-4.3.3-6, MQTT-4.4.0-1
// 3.1.1: MQTT-4.3.3-1, MQTT-4.4.0-1
#[test]
fn pubrel_is_sent_again_until_pubcomp_and_publish_no_more() {
    for version in BOTH {
        let (mut bench, mut subscriber, publisher) = pair(version);
        bench.publish(publisher, &publish("t", "x").qos(2, 1));
        let id = bench.messages(subscriber)[0].id;
        bench.send(subscriber, &ack(PUBREC, id));
        assert_eq!(acked(&mut bench, subscriber), Some((PUBREL, id)));
        for _ in 0..3 {
            bench.cut(subscriber);
            let (line, _, followed) = bench.resume(&connect(version, "subscriber").keep());
            subscriber = line;
            assert!(
                matches!(followed[..], [Packet::Ack { kind: PUBREL, id: again, code: 0, .. }]
                    if again == id),
                "{followed:?}"
            );
        }
        // A PUBREC sent again is answered with PUBREL again.
        bench.send(subscriber, &ack(PUBREC, id));
        assert_eq!(acked(&mut bench, subscriber), Some((PUBREL, id)));
        bench.send(subscriber, &ack(PUBCOMP, id));
        bench.cut(subscriber);
        let (_, _, followed) = bench.resume(&connect(version, "subscriber").keep());
        assert_eq!(followed, []);
    }
}

// 5: MQTT-4.6.0-4, MQTT-4.6.0-1
// 3.1.1: MQTT-4.6.0-4, MQTT-4.6.0-1
#[test]
fn pubrels_come_in_the_order_of_the_pubrecs_and_repetitions_in_that_of_the_publishes() {
    for version in BOTH {
        let (mut bench, subscriber, publisher) = pair(version);
        for (id, payload) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
            bench.publish(publisher, &publish("t", payload).qos(2, id));
        }
        let ids: Vec<u16> = bench.messages(subscriber).iter().map(|m| m.id).collect();
        for at in [2, 0] {
            bench.send(subscriber, &ack(PUBREC, ids[at]));
        }
        let released = |packets: Vec<Packet>| -> Vec<u16> {
            let ids = packets.into_iter().filter_map(|packet| match packet {
                Packet::Ack { kind: PUBREL, id, .. } => Some(id),
                _ => None,
            });
            ids.collect()
        };
        assert_eq!(released(bench.got(subscriber)), [ids[2], ids[0]]);
        bench.cut(subscriber);
        let (_, _, followed) = bench.resume(&connect(version, "subscriber").keep());
        assert_eq!(payloads(&messages(followed.clone())), ["b", "d"]);
        let mut again = released(followed);
        again.sort();
        let mut expected = vec![ids[0], ids[2]];
        expected.sort();
        assert_eq!(again, expected);
    }
}

// 5: MQTT-4.3.3-7, MQTT-4.3.3-13
#[test]
fn a_message_does_not_expire_once_its_delivery_has_begun() {
    let (mut bench, subscriber, publisher) = pair(Version::V5);
    let expiry = prop::four(prop::MESSAGE_EXPIRY, 10);
    bench.publish(publisher, &publish("t", "x").qos(2, 1).with(expiry));
    assert_eq!(acked(&mut bench, publisher), Some((PUBREC, 1)));
    let id = bench.messages(subscriber)[0].id;
    bench.cut(subscriber);
    bench.pass(60);
    let (subscriber, _, followed) = bench.resume(&connect(Version::V5, "subscriber").keep());
    let again = messages(followed);
    assert!(again.len() == 1 && again[0].id == id && again[0].dup);
    bench.send(subscriber, &ack(PUBREC, id));
    assert_eq!(acked(&mut bench, subscriber), Some((PUBREL, id)));
    bench.send(subscriber, &ack(PUBCOMP, id));
    // The publisher's exchange goes on, too.
    bench.send(publisher, &ack(PUBREL, 1));
    assert_eq!(acked(&mut bench, publisher), Some((PUBCOMP, 1)));
}

// 5: MQTT-4.4.0-2
#[test]
fn a_message_refused_by_pubrec_is_done_with() {
    let (mut bench, subscriber, publisher) = pair(Version::V5);
    bench.publish(publisher, &publish("t", "x").qos(2, 1));
    let id = bench.messages(subscriber)[0].id;
    bench.send(subscriber, &ack_with(PUBREC, id, 0x97));
    assert_eq!(bench.got(subscriber), [], "no PUBREL");
    bench.cut(subscriber);
    let (_, _, followed) = bench.resume(&connect(Version::V5, "subscriber").keep());
    assert_eq!(followed, []);
}

// 5: MQTT-3.6.2-1
#[test]
fn a_pubrec_for_nothing_is_answered_with_the_reason() {
    let (mut bench, subscriber, _) = pair(Version::V5);
    bench.send(subscriber, &ack(PUBREC, 9));
    let got = bench.got(subscriber);
    // 0x92: packet identifier not found.
    assert!(matches!(got[..], [Packet::Ack { kind: PUBREL, id: 9, code: 0x92, .. }]), "{got:?}");
}

// 5: MQTT-3.6.1-1, MQTT-2.1.3-1
// 3.1.1: MQTT-3.6.1-1, MQTT-2.2.2-2
#[test]
fn packets_of_qos_2_that_are_malformed_close_the_connection() {
    for version in BOTH {
        for first in [0x60, 0x61, 0x63, 0x66, 0x6F, 0x52, 0x5F, 0x71, 0x72] {
            ends(version, &ack(first, 1), 0x81);
        }
        for first in [PUBREC, PUBREL, PUBCOMP] {
            ends(version, &packet(first, &[]), 0x81);
            ends(version, &packet(first, &[1]), 0x81);
            ends(version, &ack(first, 0), 0x82);
        }
    }
    for first in [PUBREC, PUBREL, PUBCOMP] {
        ends(Version::V3_1_1, &ack_with(first, 1, 0), 0x81);
        ends(Version::V5, &packet(first, &[0, 1, 0, 5, prop::USER]), 0x81);
    }
}

// 5: MQTT-3.6.2-2, MQTT-3.6.2-3, MQTT-3.7.2-2, MQTT-3.7.2-3, MQTT-3.1.2-29
#[test]
fn pubrel_and_pubcomp_are_too_short_to_exceed_any_limit() {
    let small = connect(Version::V5, "c")
        .with(prop::byte(prop::PROBLEM_INFO, 0))
        .with(prop::four(prop::MAX_PACKET, 40));
    let mut bench = Bench::new();
    let line = bench.connect(&small);
    bench.subscribe(line, &[("t", 2)]);
    bench.publish(line, &publish("t", "x").qos(2, 1));
    let mut raw = bench.world.raw(line.conn);
    for bytes in [ack(PUBREL, 1), ack(PUBREC, 1), ack(PUBREL, 5), ack(PUBREC, 5)] {
        bench.send(line, &bytes);
        raw.extend(bench.world.raw(line.conn));
    }
    let mut kinds = Vec::new();
    for packet in tidegate_peer::decode::packets(Version::V5, &raw) {
        if let Packet::Ack { kind, properties, .. } = packet {
            assert!(properties.0.is_empty(), "no reason string, no user property");
            kinds.push(kind);
        }
    }
    kinds.sort();
    assert_eq!(kinds, [PUBREC, PUBREL, PUBREL, PUBCOMP, PUBCOMP]);
}
