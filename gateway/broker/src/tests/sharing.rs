//! Shared subscriptions, section 4.8.2.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::Properties;

use super::peer::*;
use crate::{ConnId, QoS, Version};

fn member(world: &mut World, client: &'static str, level: u8) -> ConnId {
    world.subscriber(v5(client).keep(60), &[("$share/g/t/#", qos(level))])
}

fn payloads(world: &mut World, conns: &[ConnId]) -> Vec<Vec<String>> {
    conns.iter().map(|conn| world.payloads(*conn)).collect()
}

#[test]
fn members_take_turns_and_each_message_goes_to_one() {
    let mut world = World::new();
    let members: Vec<_> = ["a", "b", "c"].map(|client| member(&mut world, client, 0)).into();
    let all = world.subscriber(v3("all"), &[("t/#", qos(0))]);
    let other = world.subscriber(v3("other"), &[("$share/h/t/#", qos(0))]);
    for i in 0..6 {
        let matched = world.inject("t/x", &i.to_string(), QoS::AtMostOnce);
        assert_eq!(matched, 3);
    }
    let got = payloads(&mut world, &members);
    assert_eq!(got, [vec!["0", "3"], vec!["1", "4"], vec!["2", "5"]]);
    assert_eq!((world.payloads(all).len(), world.payloads(other).len()), (6, 6));
}

#[test]
fn each_member_is_sent_with_what_it_asked_for() {
    // [MQTT-4.8.2-3]
    let mut world = World::new();
    let a = member(&mut world, "a", 0);
    let b = world.connect(v5("b"));
    let id = vec![property::subscription_id(9)];
    world.send(b, &subscribe(Version::V5, 1, &[("$share/g/t/#", qos(2))], id));
    world.got(b);
    for _ in 0..2 {
        world.inject("t", "x", QoS::ExactlyOnce);
    }
    let (a, b) = (world.received(a), world.received(b));
    assert_eq!((a[0].qos, a[0].properties.len()), (0, 0));
    assert_eq!((b[0].qos, &b[0].properties[0][..]), (2, "id=9"));
}

#[test]
fn a_member_that_cannot_take_more_is_passed_over() {
    let mut world = World::new();
    let hello = Hello { properties: vec![property::receive_maximum(1)], ..v5("slow") };
    let slow = world.subscriber(hello, &[("$share/g/t", qos(1))]);
    let quick = world.subscriber(v5("quick"), &[("$share/g/t", qos(1))]);
    for i in 0..8 {
        world.inject("t", &i.to_string(), QoS::AtLeastOnce);
    }
    // One under way to it and one that waits behind.
    assert_eq!(world.payloads(slow), ["0"]);
    assert_eq!(world.payloads(quick), ["1", "3", "4", "5", "6", "7"]);
    assert_eq!(world.broker.stats().counters.dropped_qos1, 0);
}

#[test]
fn members_without_a_connection_get_only_what_no_other_can() {
    let mut world = World::new();
    let a = member(&mut world, "a", 1);
    let b = member(&mut world, "b", 1);
    world.cut(b);
    for i in 0..3 {
        world.inject("t", &i.to_string(), QoS::AtLeastOnce);
    }
    assert_eq!(world.payloads(a), ["0", "1", "2"]);
    world.cut(a);
    assert_eq!(world.inject("t", "3", QoS::AtLeastOnce), 1);
    assert_eq!(world.inject("t", "4", QoS::AtMostOnce), 0);
    assert_eq!(world.inject("t", "5", QoS::AtLeastOnce), 1);
    let (a, b) =
        (world.connect_and_keep(v5("a").keep(60)), world.connect_and_keep(v5("b").keep(60)));
    let got = payloads(&mut world, &[a, b]);
    assert_eq!(got.concat().len(), 3 + 2, "0 to 2 again, 3 and 5: {got:?}");
}

#[test]
fn what_a_session_leaves_unacknowledged_goes_to_another_member_when_it_ends() {
    let mut world = World::new();
    let a = member(&mut world, "a", 2);
    world.inject("t", "one", QoS::AtLeastOnce);
    world.inject("t", "two", QoS::ExactlyOnce);
    world.got(a);
    world.cut(a);
    world.inject("t", "waits", QoS::ExactlyOnce);
    let b = world.subscriber(v5("b").keep(1000), &[("$share/g/t/#", qos(2))]);
    world.pass(Duration::from_secs(60));
    // What was sent with QoS 2 is nobody else's [MQTT-4.8.2-5].
    assert_eq!(world.payloads(b), ["one", "waits"]);
}

#[test]
fn what_a_member_rejects_is_sent_to_nobody_else() {
    // [MQTT-4.8.2-6]
    let mut world = World::new();
    let a = member(&mut world, "a", 1);
    let b = member(&mut world, "b", 1);
    world.inject("t", "x", QoS::AtLeastOnce);
    assert_eq!(world.payloads(a), ["x"]);
    world.send(a, b"\x40\x03\0\x01\x80");
    world.send(a, DISCONNECT);
    world.pass(Duration::from_secs(61));
    assert_eq!(payloads(&mut world, &[b]), [[] as [&str; 0]]);
}

#[test]
fn a_shared_subscription_without_a_proper_name_is_refused() {
    // [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    for filter in ["$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/a#/t"] {
        let mut world = World::new();
        let conn = world.connect(v5("a"));
        let mut packet = vec![0x82, filter.len() as u8 + 6, 0, 7, 0, 0, filter.len() as u8];
        packet.extend(filter.as_bytes());
        packet.push(0);
        world.send(conn, &packet);
        assert_eq!(world.got(conn), [Got::SubAck { id: 7, codes: vec![0x8F] }], "{filter}");
    }
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // [MQTT-3.8.3-4]
    let mut world = World::new();
    let conn = world.connect(v5("a"));
    let wish = Wish { no_local: true, ..qos(0) };
    world.send(conn, &subscribe(Version::V5, 1, &[("$share/g/t", wish)], Properties::new()));
    assert_eq!(world.got(conn), [Got::Disconnect(0x82)]);
}

#[test]
fn a_shared_subscription_is_given_no_retained_messages() {
    let mut world = World::new();
    let publisher = world.connect(v5("p"));
    world.publish_with(publisher, "t", "kept", None, true, vec![]);
    let conn = member(&mut world, "a", 0);
    assert_eq!(payloads(&mut world, &[conn]), [[] as [&str; 0]]);
}

#[test]
fn a_group_ends_with_its_last_member() {
    let mut world = World::new();
    let a = member(&mut world, "a", 0);
    let b = member(&mut world, "b", 0);
    world.send(a, b"\xa2\x11\0\x07\0\0\x0c$share/g/t/#");
    assert_eq!(world.got(a), [Got::UnsubAck { id: 7, codes: vec![0] }]);
    assert_eq!(world.inject("t", "x", QoS::AtMostOnce), 1);
    assert_eq!(world.payloads(b), ["x"]);
    assert_eq!(world.broker.stats().subscriptions, 1);
    world.cut(b);
    world.pass(Duration::from_secs(61));
    assert_eq!(world.inject("t", "x", QoS::AtMostOnce), 0);
    assert_eq!(world.broker.stats().subscriptions, 0);
}
