//! Shared subscriptions: section 4.8.2. They are MQTT 5's, and offered to 3.1.1 clients as well.

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::*;

use super::bench::*;

fn codes(bench: &mut Bench, line: Line, filter: &str) -> Vec<u8> {
    bench.send(line, &subscribe(line.version, 1, &[(filter, 1)]));
    match bench.got(line).remove(0) {
        Packet::Suback { codes, .. } => codes,
        other => panic!("{other:?}"),
    }
}

// 5: MQTT-4.8.2-1, MQTT-4.8.2-2
#[test]
fn a_shared_filter_has_a_name_without_special_characters_and_a_filter() {
    let mut bench = Bench::new();
    let line = bench.client(Version::V5, "c");
    for filter in ["$share/g/t", "$share/g/#", "$share/g/+/x", "$share/a b$/t", "$share/g//t"] {
        assert_eq!(codes(&mut bench, line, filter), [1], "{filter}");
    }
    for filter in [
        "$share/",
        "$share/g",
        "$share//t",
        "$share/g/",
        "$share/g+/t",
        "$share/#/t",
        "$share/g#/t",
        "$share/+/t",
        "$share/g/a#",
    ] {
        assert_eq!(codes(&mut bench, line, filter), [0x8F], "{filter}");
    }
}

// 5: MQTT-4.8.2-1
#[test]
fn each_message_goes_to_one_member_of_each_group() {
    let mut bench = Bench::new();
    let members: Vec<Line> = ["a", "b", "c"]
        .into_iter()
        .map(|id| bench.subscriber(Version::V5, id, &[("$share/g/t", 0)]))
        .collect();
    let other_group = bench.subscriber(Version::V5, "other", &[("$share/h/t", 0)]);
    let alone = bench.subscriber(Version::V5, "alone", &[("t", 0)]);
    let publisher = bench.client(Version::V5, "publisher");
    for i in 0..30 {
        bench.publish(publisher, &publish("t", &i.to_string()));
    }
    let shares: Vec<Vec<String>> = members.iter().map(|line| bench.payloads(*line)).collect();
    let mut all: Vec<u32> = shares.iter().flatten().map(|p| p.parse().unwrap()).collect();
    all.sort();
    assert_eq!(all, (0..30).collect::<Vec<_>>(), "each once");
    assert!(shares.iter().all(|share| share.len() == 10), "in equal shares");
    assert_eq!(bench.payloads(other_group).len(), 30);
    assert_eq!(bench.payloads(alone).len(), 30);
}

// 5: MQTT-4.8.2-3
#[test]
fn the_qos_granted_to_the_chosen_member_is_respected() {
    for granted in 0..3 {
        let mut bench = Bench::new();
        let line = bench.subscriber(Version::V5, "c", &[("$share/g/t", granted)]);
        for published in 0..3 {
            bench.publish(line, &publish("t", "x").qos(published, u16::from(published)));
            assert_eq!(bench.messages(line)[0].qos, published.min(granted));
        }
    }
}

// Section 4.8.2, without a number.
#[test]
fn a_shared_subscription_brings_no_retained_messages() {
    let mut bench = Bench::new();
    let line = bench.client(Version::V5, "c");
    bench.publish(line, &publish("t", "x").retain());
    assert_eq!(bench.subscribe(line, &[("$share/g/t", 0)]), []);
    assert_eq!(bench.subscribe(line, &[("t", 0)]).len(), 1);
}

/// A group of two with kept sessions, and a QoS 2 message begun with one of them.
fn begun() -> (Bench, Line, Line, u16) {
    let mut bench = Bench::new();
    let [a, b] = ["a", "b"].map(|id| {
        let line = bench.connect(&connect(Version::V5, id).kept());
        bench.subscribe(line, &[("$share/g/t", 2)]);
        line
    });
    let publisher = bench.client(Version::V5, "publisher");
    bench.publish(publisher, &publish("t", "x").qos(2, 1));
    let (of_a, of_b) = (bench.messages(a), bench.messages(b));
    assert_eq!(of_a.len() + of_b.len(), 1);
    match &of_a[..] {
        [message] => (bench, a, b, message.id),
        _ => (bench, b, a, of_b[0].id),
    }
}

fn name(bench: &Bench, line: Line) -> &'static str {
    let connected = bench.world.events.iter().find_map(|event| match event {
        crate::BrokerEvent::Connected { conn, client, .. } if *conn == line.conn => Some(client),
        _ => None,
    });
    if &**connected.unwrap() == "a" { "a" } else { "b" }
}

// 5: MQTT-4.8.2-4
#[test]
fn a_qos_2_message_is_completed_with_the_member_it_was_begun_with() {
    let (mut bench, chosen, other, id) = begun();
    let name = name(&bench, chosen);
    bench.cut(chosen);
    bench.pass(60);
    assert_eq!(bench.messages(other), [], "it is not given to another one meanwhile");
    let (again, present, followed) = bench.resume(&connect(Version::V5, name).keep());
    assert!(present);
    let message = messages(followed).remove(0);
    assert!(message.dup && message.id == id);
    bench.send(again, &ack(PUBREC, id));
    assert!(matches!(bench.got(again)[..], [Packet::Ack { kind: PUBREL, .. }]));
}

// 5: MQTT-4.8.2-5
#[test]
fn a_qos_2_message_goes_to_nobody_else_when_the_session_of_its_member_ends() {
    let (mut bench, chosen, other, _) = begun();
    bench.cut(chosen);
    bench.pass(3 * 3600);
    assert_eq!(bench.messages(other), []);
    let name = name(&bench, chosen);
    assert!(!bench.resume(&connect(Version::V5, name)).1);
    assert_eq!(bench.messages(other), []);
}

// 5: MQTT-4.8.2-6
#[test]
fn a_message_a_member_refuses_goes_to_nobody_else() {
    let (mut bench, chosen, other, id) = begun();
    bench.send(chosen, &ack_with(PUBREC, id, 0x97));
    bench.pass(60);
    assert_eq!((bench.messages(chosen), bench.messages(other)), (vec![], vec![]));
    let publisher = bench.client(Version::V5, "publisher");
    bench.publish(publisher, &publish("t", "y").qos(1, 1));
    bench.publish(publisher, &publish("t", "z").qos(1, 2));
    for line in [chosen, other] {
        let message = bench.messages(line).remove(0);
        bench.send(line, &ack_with(PUBACK, message.id, 0x80));
    }
    assert_eq!((bench.messages(chosen), bench.messages(other)), (vec![], vec![]));
}

// 5: MQTT-3.10.4-1
#[test]
fn unsubscribing_ends_the_membership_of_that_group_alone() {
    let mut bench = Bench::new();
    let line = bench.subscriber(Version::V5, "c", &[("$share/g/t", 0), ("$share/h/t", 0)]);
    bench.send(line, &unsubscribe(Version::V5, 1, &["t", "$share/g/t", "$share/g/t"]));
    match &bench.got(line)[..] {
        [Packet::Unsuback { codes, .. }] => assert_eq!(codes, &[0x11, 0x00, 0x11]),
        other => panic!("{other:?}"),
    }
    bench.publish(line, &publish("t", "x"));
    assert_eq!(bench.messages(line).len(), 1, "of h");
}

// 5: MQTT-3.3.2-5
#[test]
fn a_message_that_expired_with_one_member_is_not_given_to_another() {
    let mut bench = Bench::new();
    let away = bench.connect(&connect(Version::V5, "away").kept());
    bench.subscribe(away, &[("$share/g/t", 1)]);
    bench.cut(away);
    let publisher = bench.client(Version::V5, "publisher");
    for (id, seconds) in [(1, 10), (2, 100)] {
        let expiry = prop::four(prop::MESSAGE_EXPIRY, seconds);
        bench.publish(publisher, &publish("t", &id.to_string()).qos(1, id).with(expiry));
    }
    let others = [("at most once", 0), ("at least once", 1)]
        .map(|(id, qos)| bench.subscriber(Version::V5, id, &[("$share/g/t", qos)]));
    bench.pass(10);
    // The session ends, and with it its claim to both messages.
    bench.connect(&connect(Version::V5, "away"));
    let got = others.map(|line| bench.payloads(line)).concat();
    assert_eq!(got, ["2"]);
}
