//! Logins, and what a client may do.

use std::time::Duration;

use super::peer::*;
use crate::access::{Access, Action, Effect, LoginError, Pattern, Policy, Principal, Rule};
use crate::{BrokerEvent, CloseReason, ConnId, Version};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

fn secured() -> World {
    let mut world = World::new();
    world.broker.require_login();
    world
}

fn rules(allowed: &[&str], denied: &[&str]) -> Policy {
    let rule = |effect, topics: &[&str]| Rule {
        effect,
        publish: true,
        subscribe: true,
        topics: topics.iter().map(|topic| Pattern::parse(topic).unwrap()).collect(),
        users: vec![],
        listeners: vec![],
    };
    Policy::from(vec![rule(Effect::Deny, denied), rule(Effect::Allow, allowed)])
}

fn access(user: &str, allowed: &[&str]) -> Access {
    let principal = Principal { user: Some(user.into()), ..Principal::default() };
    rules(allowed, &[]).access(&principal)
}

/// CONNECT with a login, byte by byte.
fn connect(version: Version, client: &str, clean: bool, login: Option<(&str, &str)>) -> Vec<u8> {
    let text = |text: &str, out: &mut Vec<u8>| {
        out.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        out.extend(text.bytes());
    };
    let mut body = b"\0\x04MQTT".to_vec();
    body.push(if version == Version::V5 { 5 } else { 4 });
    body.push(u8::from(clean) << 1 | if login.is_some() { 0xC0 } else { 0 });
    body.extend([0, 0]);
    if version == Version::V5 {
        // A session that is kept for a minute unless it is to be clean.
        body.extend(if clean { &b"\0"[..] } else { b"\x05\x11\0\0\0\x3c" });
    }
    text(client, &mut body);
    if let Some((user, password)) = login {
        text(user, &mut body);
        text(password, &mut body);
    }
    [&[0x10, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// Sends a CONNECT and answers the question it makes.
fn log_in(
    world: &mut World,
    version: Version,
    client: &str,
    outcome: Result<Access, LoginError>,
) -> ConnId {
    let conn = world.open(version);
    world.send(conn, &connect(version, client, false, Some(("ann", "pw"))));
    world.broker.authenticated(world.now, conn, outcome);
    world.settle();
    conn
}

fn denials(world: &World) -> Vec<(String, Action, String)> {
    let denial = |event: &BrokerEvent| match event {
        BrokerEvent::Denied { client, action, topic, .. } => {
            Some((client.to_string(), *action, topic.clone()))
        }
        _ => None,
    };
    world.events.iter().filter_map(denial).collect()
}

#[test]
fn the_owner_is_asked_who_a_client_is() {
    for version in BOTH {
        let mut world = secured();
        let conn = world.open(version);
        world.send(conn, &connect(version, "c", true, Some(("ann", "pw"))));
        assert_eq!(world.got(conn), [], "nothing is said before it is known");
        let asked = world.events.iter().find_map(|event| match event {
            BrokerEvent::Authenticate { conn, client, credentials } => {
                Some((*conn, client.clone(), credentials.clone()))
            }
            _ => None,
        });
        let (asked, client, credentials) = asked.unwrap();
        assert_eq!((asked, &*client), (conn, "c"));
        assert_eq!(credentials.username.as_deref(), Some("ann"));
        assert_eq!(credentials.password.unwrap().expose(), b"pw");
        assert!(!format!("{:?}", world.broker).contains("pw"), "the password does not stay");
        world.broker.authenticated(world.now, conn, Ok(Access::everything()));
        world.settle();
        assert_eq!(world.got(conn), [Got::ConnAck { code: 0, present: false }]);
    }
}

#[test]
fn a_client_that_is_not_let_in_is_told_why() {
    let cases = [
        (LoginError::BadCredentials, 4, 0x86),
        (LoginError::NotAuthorized, 5, 0x87),
        (LoginError::ClientIdNotValid, 2, 0x85),
        (LoginError::Unavailable, 3, 0x88),
        (LoginError::TooManyAttempts, 3, 0x9F),
    ];
    for (error, v3, v5) in cases {
        for (version, code) in [(Version::V3_1_1, v3), (Version::V5, v5)] {
            let mut world = secured();
            let conn = log_in(&mut world, version, "c", Err(error));
            assert_eq!(world.got(conn), [Got::ConnAck { code, present: false }]);
            assert!(world.closed(conn).is_some());
        }
    }
}

#[test]
fn what_comes_behind_connect_waits_and_is_forgotten_when_the_client_is_turned_away() {
    let burst = |world: &mut World| {
        let conn = world.open(Version::V3_1_1);
        let mut bytes = connect(Version::V3_1_1, "c", true, None);
        bytes.extend(publish(Version::V3_1_1, "t", "early", Some(1), false, vec![]));
        world.send(conn, &bytes);
        world.send(conn, PINGREQ);
        assert_eq!(world.published(), []);
        conn
    };
    let mut world = secured();
    let conn = burst(&mut world);
    world.broker.authenticated(world.now, conn, Ok(Access::everything()));
    world.settle();
    assert_eq!(world.published(), [("t".to_owned(), "early".to_owned())]);
    assert!(world.got(conn).contains(&Got::PingResp));

    let mut world = secured();
    let conn = burst(&mut world);
    world.broker.authenticated(world.now, conn, Err(LoginError::NotAuthorized));
    world.settle();
    assert_eq!(world.published(), [], "[MQTT-3.1.4-5]");
}

#[test]
fn waiting_for_the_login_is_bounded_in_time_and_bytes() {
    let mut world = secured();
    let conn = world.open(Version::V5);
    world.send(conn, &connect(Version::V5, "c", true, None));
    world.pass(Duration::from_secs(11));
    assert_eq!(world.closed(conn), Some(&CloseReason::ConnectTimeout));

    let mut world = secured();
    let conn = world.open(Version::V5);
    world.send(conn, &connect(Version::V5, "c", true, None));
    world.send(conn, &vec![0xC0; 40 * 1024]);
    assert_eq!(world.closed(conn), None);
    world.send(conn, &vec![0xC0; 40 * 1024]);
    assert!(world.closed(conn).is_some());
}

#[test]
fn an_answer_for_a_connection_that_is_gone_does_nothing() {
    let mut world = secured();
    let conn = world.open(Version::V5);
    world.send(conn, &connect(Version::V5, "c", true, None));
    world.cut(conn);
    world.broker.authenticated(world.now, conn, Ok(Access::everything()));
    world.settle();
    assert_eq!(world.broker.stats().sessions.len(), 0);
}

#[test]
fn a_login_that_fails_throws_nobody_out() {
    let mut world = secured();
    let first = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["#"])));
    log_in(&mut world, Version::V5, "c", Err(LoginError::BadCredentials));
    assert_eq!(world.closed(first), None);
}

#[test]
fn a_session_belongs_to_its_user() {
    let mut world = secured();
    let first = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["#"])));
    let second = log_in(&mut world, Version::V5, "c", Ok(access("bob", &["#"])));
    assert_eq!(world.got(second), [Got::ConnAck { code: 0x85, present: false }]);
    assert_eq!(world.closed(first), None);
    world.cut(first);
    let third = log_in(&mut world, Version::V5, "c", Ok(access("bob", &["#"])));
    assert_eq!(world.got(third), [Got::ConnAck { code: 0x85, present: false }], "kept for ann");
    let fourth = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["#"])));
    assert_eq!(world.got(fourth), [Got::ConnAck { code: 0, present: true }]);
}

#[test]
fn a_publish_that_is_not_allowed_reaches_nobody() {
    let mut world = secured();
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["mine/#"])));
    world.got(conn);
    world.publish(conn, "mine/1", "a", Some(1));
    world.publish(conn, "theirs", "b", Some(2));
    world.publish(conn, "theirs", "c", None);
    world.publish(conn, "mine/2", "d", Some(3));
    let payloads: Vec<String> = world.published().into_iter().map(|(_, p)| p).collect();
    assert_eq!(payloads, ["a", "d"]);
    let codes: Vec<(u16, u8)> = world
        .got(conn)
        .into_iter()
        .map(|got| match got {
            Got::PubAck { id, code } => (id, code),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [(1, 0), (2, 0x87), (3, 0)]);
    assert_eq!(denials(&world).len(), 2);
    assert_eq!(denials(&world)[0], ("c".into(), Action::Publish, "theirs".into()));
    assert_eq!(world.broker.stats().counters.denied_publishes, 2);
}

#[test]
fn a_refusal_keeps_its_turn() {
    let mut world = secured();
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["mine"])));
    world.got(conn);
    world.automatic = false;
    world.publish(conn, "mine", "a", Some(1));
    world.publish(conn, "theirs", "b", Some(2));
    assert_eq!(world.got(conn), [], "[MQTT-4.6.0-2]");
    let (ticket, _) = world.tickets[0].clone();
    world.answer(ticket, crate::Answer::Success);
    let both = [Got::PubAck { id: 1, code: 0 }, Got::PubAck { id: 2, code: 0x87 }];
    assert_eq!(world.got(conn), both);
}

#[test]
fn a_3_1_1_client_that_publishes_where_it_may_not_is_closed() {
    let mut world = secured();
    let conn = log_in(&mut world, Version::V3_1_1, "c", Ok(access("ann", &["mine"])));
    world.publish(conn, "theirs", "a", None);
    assert_eq!(world.closed(conn), None, "QoS 0 expects nothing");
    world.publish(conn, "theirs", "b", Some(1));
    assert!(matches!(world.closed(conn), Some(CloseReason::PublishRefused(_))));
}

#[test]
fn a_subscription_that_is_not_allowed_is_refused_alone() {
    for (version, code) in [(Version::V3_1_1, 0x80), (Version::V5, 0x87)] {
        let mut world = secured();
        let conn = log_in(&mut world, version, "c", Ok(access("ann", &["mine/#"])));
        world.got(conn);
        let wishes = [("mine/+", qos(1)), ("#", qos(1)), ("theirs", qos(0))];
        world.send(conn, &subscribe(version, 7, &wishes, vec![]));
        assert_eq!(world.got(conn), [Got::SubAck { id: 7, codes: vec![1, code, code] }]);
        world.inject("theirs", "secret", crate::QoS::AtMostOnce);
        assert_eq!(world.received(conn), []);
        assert_eq!(world.broker.stats().counters.denied_subscriptions, 2);
    }
}

#[test]
fn a_will_that_is_not_allowed_closes_the_door() {
    let mut world = secured();
    let hello = v5("c").will("theirs", "gone");
    let conn = world.hello(&hello);
    world.broker.authenticated(world.now, conn, Ok(access("ann", &["mine"])));
    world.settle();
    assert_eq!(world.got(conn), [Got::ConnAck { code: 0x87, present: false }]);
    assert_eq!(denials(&world), [("c".into(), Action::Will, "theirs".into())]);
    world.cut(conn);
    assert_eq!(world.published(), []);
}

#[test]
fn subscriptions_of_a_session_are_judged_again_when_its_client_returns() {
    let mut world = secured();
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["a", "b"])));
    world.send(conn, &subscribe(Version::V5, 1, &[("a", qos(1)), ("b", qos(1))], vec![]));
    world.cut(conn);
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["b"])));
    world.got(conn);
    world.inject("a", "old", crate::QoS::AtLeastOnce);
    world.inject("b", "new", crate::QoS::AtLeastOnce);
    assert_eq!(world.payloads(conn), ["new"]);
}

#[test]
fn a_new_verdict_holds_for_open_connections() {
    let mut world = secured();
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["a", "b"])));
    world.send(conn, &subscribe(Version::V5, 1, &[("a", qos(0)), ("b", qos(0))], vec![]));
    world.publish(conn, "a", "1", Some(1));
    world.got(conn);
    world.broker.authenticated(world.now, conn, Ok(access("ann", &["b"])));
    world.publish(conn, "a", "2", Some(2));
    assert_eq!(world.got(conn), [Got::PubAck { id: 2, code: 0x87 }]);
    world.inject("a", "x", crate::QoS::AtMostOnce);
    world.inject("b", "y", crate::QoS::AtMostOnce);
    assert_eq!(world.payloads(conn), ["y"]);
    world.broker.authenticated(world.now, conn, Err(LoginError::NotAuthorized));
    world.settle();
    assert_eq!(world.got(conn), [Got::Disconnect(0x87)]);
    assert!(world.closed(conn).is_some());
}

#[test]
fn clients_without_a_name_get_one_before_the_question() {
    let mut world = secured();
    let conn = world.open(Version::V5);
    world.send(conn, &connect(Version::V5, "", true, None));
    let named = world.events.iter().any(|event| {
        matches!(event, BrokerEvent::Authenticate { client, .. } if client.starts_with("auto-"))
    });
    assert!(named);
    world.broker.authenticated(world.now, conn, Ok(Access::everything()));
    world.settle();
    assert_eq!(world.got(conn), [Got::ConnAck { code: 0, present: false }]);
}

#[test]
fn a_client_that_publishes_too_fast_is_read_more_slowly() {
    let limits = crate::BrokerLimits { max_publishes_per_second: Some(10), ..Default::default() };
    let mut world = World::with(limits);
    let conn = world.connect(Hello { keep_alive: 5, ..v5("c") });
    let burst: Vec<u8> =
        (1..=100).flat_map(|id| publish(Version::V5, "t", "x", Some(id), false, vec![])).collect();
    world.send(conn, &burst);
    assert_eq!(world.published().len(), 11, "a second's worth at once");
    assert!(world.events.contains(&BrokerEvent::Pause(conn)));
    for _ in 0..40 {
        world.pass(Duration::from_millis(100));
    }
    assert!((50..=52).contains(&world.published().len()), "{}", world.published().len());
    for _ in 0..60 {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!(world.published().len(), 100, "nothing is lost");
    assert_eq!(world.closed(conn), None, "its silence is not its own");
    world.pass(Duration::from_secs(8));
    assert_eq!(world.closed(conn), Some(&CloseReason::KeepAliveTimeout));
}

/// CONNECT of MQTT 5 through a connection of this address.
fn connect_from(
    world: &mut World,
    number: u64,
    address: [u8; 4],
    since: std::time::Instant,
) -> ConnId {
    let conn = ConnId(1_000 + number);
    let caller = crate::Caller { peer: "p".to_owned(), address: Some(address.into()), since };
    world.broker.handle_caller(world.now, conn, caller);
    world.learn(conn, Version::V5);
    conn
}

#[test]
fn connections_of_one_address_share_its_rate_and_wait_in_turn() {
    let limits = crate::BrokerLimits {
        max_publishes_per_second_per_address: Some(10),
        ..Default::default()
    };
    let mut world = World::with(limits);
    let names = ["a", "b", "c"];
    let from = |world: &mut World, number: usize, address| {
        let conn = connect_from(world, number as u64, address, world.now);
        world.send(conn, &v5(names[number]).bytes());
        conn
    };
    let here: Vec<ConnId> = (0..2).map(|at| from(&mut world, at, [192, 0, 2, 1])).collect();
    let elsewhere = from(&mut world, 2, [192, 0, 2, 2]);
    let burst = |payload: &str| -> Vec<u8> {
        let one = |id| publish(Version::V5, "t", payload, Some(id), false, vec![]);
        (1..=100).flat_map(one).collect()
    };
    world.send(here[0], &burst("a"));
    world.send(here[1], &burst("b"));
    let count = |world: &World, payload: &str| {
        world.published().iter().filter(|(_, text)| text == payload).count()
    };
    assert_eq!((count(&world, "a"), count(&world, "b")), (11, 0), "a second's worth at once");
    assert!(here.iter().all(|conn| world.events.contains(&BrokerEvent::Pause(*conn))));
    world.send(elsewhere, &burst("c"));
    assert_eq!(count(&world, "c"), 11, "another address has its own");
    for _ in 0..40 {
        world.pass(Duration::from_millis(100));
    }
    assert_eq!((count(&world, "a"), count(&world, "b")), (31, 20), "one after the other");
    let counters = world.broker.stats().counters;
    assert!(counters.slowed_by_address >= 80 && counters.slowed_by_client == 0, "{counters:?}");
    world.cut(here[0]);
    world.cut(here[1]);
    let again = from(&mut world, 0, [192, 0, 2, 1]);
    world.send(again, &burst("d"));
    assert_eq!(count(&world, "d"), 0, "connecting anew brings nothing");
    world.pass(Duration::from_secs(60));
    assert_eq!(count(&world, "d"), 100, "and nothing is lost");
}

#[test]
fn handshakes_and_connect_have_one_deadline() {
    let mut world = World::new();
    let began = world.now;
    world.pass(Duration::from_secs(7));
    let conn = connect_from(&mut world, 1, [192, 0, 2, 1], began);
    world.pass(Duration::from_millis(2_999));
    assert_eq!(world.closed(conn), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.closed(conn), Some(&CloseReason::ConnectTimeout));
    let late = connect_from(&mut world, 2, [192, 0, 2, 1], began);
    world.pass(Duration::ZERO);
    assert_eq!(world.closed(late), Some(&CloseReason::ConnectTimeout));
}

#[test]
fn what_waits_for_a_client_that_may_not_read_it_any_more_is_dropped() {
    let filters = [("a", qos(1)), ("b", qos(1))];
    let hello = |world: &mut World| {
        let narrow = vec![property::receive_maximum(1)];
        let conn = world.hello(&Hello { properties: narrow, ..v5("c").keep(60) });
        world.broker.authenticated(world.now, conn, Ok(access("ann", &["a", "b"])));
        world.settle();
        world.send(conn, &subscribe(Version::V5, 1, &filters, vec![]));
        for (topic, payload) in [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("b", "5")] {
            world.inject(topic, payload, crate::QoS::AtLeastOnce);
        }
        assert_eq!(world.payloads(conn), ["1"], "the window of one");
        conn
    };
    let told = ["2", "4"].map(|_| ("c".to_owned(), Action::Receive, "a".to_owned()));

    // The rules change while it is connected: what it has been sent cannot be taken back.
    let mut world = secured();
    let conn = hello(&mut world);
    world.broker.authenticated(world.now, conn, Ok(access("ann", &["b"])));
    world.settle();
    world.send(conn, &puback(1));
    assert_eq!(world.payloads(conn), ["3"]);
    assert_eq!(denials(&world)[1..], told, "behind the subscription");
    assert_eq!(world.broker.stats().counters.denied_deliveries, 2);

    // While it is away: what it has not acknowledged does not come again either.
    let mut world = secured();
    let conn = hello(&mut world);
    world.cut(conn);
    let conn = log_in(&mut world, Version::V5, "c", Ok(access("ann", &["b"])));
    assert_eq!(world.payloads(conn), ["3", "5"]);
    assert_eq!(world.broker.stats().counters.denied_deliveries, 3);
    let stats = world.broker.stats();
    assert_eq!((stats.sessions[0].inflight, stats.sessions[0].queued), (2, 0));
    (2..=3).for_each(|id| world.send(conn, &puback(id)));
    (4..=5).for_each(|id| world.send(conn, &puback(id)));
    assert_eq!(world.broker.stats().queued_bytes, 0, "nothing is left behind");
}
