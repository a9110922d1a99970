//! Subscribers inside the gateway, events for whoever watches, and aliases towards clients.

use super::peer::*;
use crate::{BrokerEvent, QoS};

#[test]
fn something_inside_the_gateway_subscribes_like_a_client() {
    let mut world = World::new();
    let filter = "plant/+/alarm".parse().unwrap();
    let inside = world.broker.subscribe_local(&filter, 1000);
    assert_eq!(world.inject("plant/1/alarm", "hot", QoS::AtMostOnce), 1);
    assert_eq!(world.inject("plant/1/level", "3", QoS::AtMostOnce), 0);
    let conn = world.connect(v3("p"));
    world.publish(conn, "plant/2/alarm", "cold", Some(1));
    let mut taken = Vec::new();
    while let Some(message) = world.broker.take_local(inside) {
        taken.push((message.topic.to_string(), message.payload.to_vec()));
    }
    let expected = [("plant/1/alarm", "hot"), ("plant/2/alarm", "cold")];
    assert_eq!(taken, expected.map(|(topic, text)| (topic.to_owned(), text.into())));
    world.broker.unsubscribe_local(inside);
    assert_eq!(world.inject("plant/1/alarm", "hot", QoS::AtMostOnce), 0);
}

#[test]
fn a_subscriber_inside_that_does_not_keep_up_loses_the_newest() {
    let mut world = World::new();
    let inside = world.broker.subscribe_local(&"t".parse().unwrap(), 1000);
    for i in 0..20 {
        world.inject("t", &i.to_string(), QoS::AtMostOnce);
    }
    let first = world.broker.take_local(inside).unwrap();
    assert_eq!(&first.payload[..], b"0");
    let mut left = 0;
    while world.broker.take_local(inside).is_some() {
        left += 1;
    }
    assert!(left < 10);
    assert_eq!(world.broker.dropped_local(inside), 20 - 1 - left);
}

#[test]
fn subscriptions_and_takeovers_are_told() {
    let mut world = World::new();
    let conn = world.subscriber(v5("a"), &[("t", qos(2)), ("#/x", qos(0))]);
    world.send(conn, b"\xa2\x06\0\x07\0\0\x01t");
    world.connect(v5("a"));
    let told: Vec<String> = world
        .events
        .iter()
        .filter_map(|event| match event {
            BrokerEvent::Subscribed { client, filter, qos } => {
                Some(format!("{client} +{filter} {qos:?}"))
            }
            BrokerEvent::Unsubscribed { client, filter } => Some(format!("{client} -{filter}")),
            BrokerEvent::TakenOver { client, from, by } => Some(format!("{client} {from} {by}")),
            _ => None,
        })
        .collect();
    assert_eq!(told, ["a +t ExactlyOnce", "a -t", "a peer-1 peer-2"]);
}

#[test]
fn topics_that_a_client_is_sent_often_travel_as_aliases() {
    // [MQTT-3.1.2-26]
    let mut world = World::new();
    let hello = Hello { properties: vec![property::alias_maximum(1)], ..v5("s").keep(60) };
    let conn = world.subscriber(hello.clone(), &[("sensors/#", qos(1))]);
    for topic in ["sensors/1", "sensors/1", "sensors/2", "sensors/2"] {
        world.inject(topic, "x", QoS::AtLeastOnce);
    }
    let alias = || vec!["alias=1".to_owned()];
    let said = |received: Vec<Received>| -> Vec<(String, Vec<String>)> {
        received.into_iter().map(|r| (r.topic, r.properties)).collect()
    };
    let expected = ["sensors/1", "", "sensors/2", ""].map(|topic| (topic.to_owned(), alias()));
    assert_eq!(said(world.received(conn)), expected);
    // [MQTT-3.3.2-7]: a new connection knows none of them.
    world.cut(conn);
    let conn = world.connect_and_keep(hello);
    let expected = ["sensors/1", "", "sensors/2", ""].map(|topic| (topic.to_owned(), alias()));
    assert_eq!(said(world.received(conn)), expected);
}

#[test]
fn a_client_that_takes_no_aliases_is_sent_none() {
    // [MQTT-3.1.2-27]
    let mut world = World::new();
    let conn = world.subscriber(v5("s"), &[("sensors/#", qos(0))]);
    for _ in 0..2 {
        world.inject("sensors/1", "x", QoS::AtMostOnce);
    }
    for received in world.received(conn) {
        assert_eq!((received.topic.as_str(), received.properties.len()), ("sensors/1", 0));
    }
}

#[test]
fn a_refused_subscription_says_why_unless_the_client_does_not_want_to_know() {
    let mut world = World::new();
    let filter = [("#/x", qos(0))];
    for (wants, says) in [(true, true), (false, false)] {
        let properties = if wants { vec![] } else { vec![property::no_problem_info()] };
        let conn = world.connect(Hello { properties, ..v5("a") });
        world.send(conn, &subscribe(crate::Version::V5, 1, &filter, vec![]));
        let raw = world.raw(conn);
        let text = b"the filter is not valid";
        assert_eq!(raw.windows(text.len()).any(|window| window == text), says);
    }
}
