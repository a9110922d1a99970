//! Wills.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::Qos;

use super::peer::*;
use crate::{Answer, BrokerEvent, BrokerLimits};

fn delayed(client: &'static str, delay: u32, expiry: u32) -> Hello {
    let properties = vec![property::will_delay(delay)];
    let will = Some(("wills", client, Qos::AtMostOnce, false, properties));
    Hello { will, ..v5(client).keep(expiry) }
}

fn wills(world: &World) -> Vec<String> {
    world.published().into_iter().map(|(_, payload)| payload).collect()
}

#[test]
fn the_will_of_a_client_that_is_cut_off_is_published() {
    // [MQTT-3.1.2-8]
    for hello in [v3("c"), v5("c")] {
        let mut world = World::new();
        let watcher = world.subscriber(v3("watcher"), &[("wills", qos(1))]);
        let will = Some(("wills", "gone", Qos::AtLeastOnce, true, vec![]));
        let conn = world.connect(Hello { will, ..hello });
        world.cut(conn);
        let received = world.received(watcher);
        assert_eq!((received.len(), received[0].qos), (1, 1));
        assert_eq!(world.broker.stats().retained, 1, "a will may be retained");
        assert!(world.events.iter().any(|event| matches!(
            event,
            BrokerEvent::Publish { ticket: None, client, message, .. }
                if &**client == "c" && message.publisher.as_deref() == Some("c")
        )));
    }
}

#[test]
fn a_client_that_says_goodbye_leaves_no_will() {
    // [MQTT-3.14.4-3] (3.1.1 and 5)
    for hello in [v3("c"), v5("c")] {
        let mut world = World::new();
        let conn = world.connect(hello.will("wills", "gone"));
        world.send(conn, DISCONNECT);
        assert_eq!(wills(&world), [] as [&str; 0]);
    }
}

#[test]
fn a_goodbye_can_ask_for_the_will() {
    let mut world = World::new();
    let conn = world.connect(v5("c").will("wills", "asked"));
    world.send(conn, b"\xe0\x01\x04");
    assert_eq!(wills(&world), ["asked"]);
}

#[test]
fn silence_faults_takeovers_and_refusals_bring_out_the_will() {
    let mut world = World::new();
    world.connect(Hello { keep_alive: 10, ..v3("silent").will("wills", "silent") });
    world.pass(Duration::from_secs(15));
    let conn = world.connect(v5("faulty").will("wills", "faulty"));
    world.send(conn, b"\x00\x00");
    world.connect(v3("taken").will("wills", "taken"));
    world.connect(v3("taken"));
    assert_eq!(wills(&world), ["silent", "faulty", "taken"]);
    world.automatic = false;
    let conn = world.connect(v3("refused").will("wills", "refused"));
    world.publish(conn, "t", "x", Some(1));
    let answer =
        Answer::Refused { reason: crate::RefuseReason::QuotaExceeded, text: "full".to_owned() };
    world.answer(world.tickets[0].0, answer);
    assert_eq!(wills(&world)[3..], ["x", "refused"]);
}

#[test]
fn a_delayed_will_waits_and_is_dropped_when_the_client_returns() {
    // [MQTT-3.1.3-9]
    let mut world = World::new();
    let conn = world.connect(delayed("c", 10, 60));
    world.cut(conn);
    world.pass(Duration::from_millis(9_999));
    assert_eq!(wills(&world), [] as [&str; 0]);
    let conn = world.connect_and_keep(delayed("c", 10, 60));
    world.pass(Duration::from_secs(100));
    assert_eq!(wills(&world), [] as [&str; 0]);
    world.cut(conn);
    world.pass(Duration::from_secs(10));
    assert_eq!(wills(&world), ["c"]);
    world.pass(Duration::from_secs(100));
    assert_eq!(wills(&world), ["c"], "once only");
}

#[test]
fn a_delayed_will_is_published_when_the_session_ends_first() {
    // [MQTT-3.1.2-10] (5), Section 3.1.3.2.2
    let mut world = World::new();
    let conn = world.connect(delayed("short", 100, 5));
    world.cut(conn);
    world.pass(Duration::from_secs(5));
    assert_eq!(wills(&world), ["short"]);
    let conn = world.connect(delayed("none", 100, 0));
    world.cut(conn);
    assert_eq!(wills(&world), ["short", "none"]);
    let conn = world.connect(delayed("clean", 100, 60));
    world.cut(conn);
    world.connect(v5("clean"));
    assert_eq!(wills(&world), ["short", "none", "clean"], "a clean start ends the session");
}

#[test]
fn a_takeover_cancels_a_delayed_will_and_brings_out_one_without_delay() {
    let mut world = World::new();
    world.connect(delayed("c", 10, 60));
    world.connect_and_keep(delayed("c", 0, 60));
    assert_eq!(wills(&world), [] as [&str; 0]);
    world.connect_and_keep(delayed("c", 10, 60));
    assert_eq!(wills(&world), ["c"]);
    world.pass(Duration::from_secs(100));
    assert_eq!(wills(&world), ["c"]);
}

#[test]
fn an_evicted_session_brings_out_its_will() {
    let mut world = World::with(BrokerLimits { max_sessions: 1, ..BrokerLimits::default() });
    let conn = world.connect(delayed("old", 100, 1000));
    world.cut(conn);
    world.connect(v5("new"));
    assert_eq!(wills(&world), ["old"]);
}

#[test]
fn the_properties_of_a_will_travel_with_it() {
    let mut world = World::new();
    let watcher = world.subscriber(v5("watcher"), &[("wills", qos(0))]);
    let properties = vec![
        property::content_type("text/plain"),
        property::message_expiry(30),
        property::user("tg-pub-seq", "7"),
    ];
    let will = Some(("wills", "x", Qos::AtMostOnce, false, properties));
    let conn = world.connect(Hello { will, ..v5("c") });
    world.cut(conn);
    let received = world.received(watcher);
    assert_eq!(received[0].properties, ["expiry=30", "type=text/plain", "tg-pub-seq=7"]);
}
