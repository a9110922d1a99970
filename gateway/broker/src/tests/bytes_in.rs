//! Bytes in any portions, and bytes that mean nothing.

use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{Properties, RetainHandling};
use proptest::prelude::*;

use super::peer::*;
use crate::{BrokerLimits, ConnId, QoS, Version};

/// A conversation of one client, as one piece of bytes.
fn conversation(version: Version) -> Vec<u8> {
    let mut bytes = Hello { keep_alive: 60, ..Hello { version, ..v3("c") } }.bytes();
    let wishes = [("a/+", qos(1)), ("b/#", qos(0))];
    bytes.extend(subscribe(version, 1, &wishes, Properties::new()));
    let properties = || vec![property::user("k", "v"), property::content_type("text")];
    bytes.extend(publish(version, "a/x", "one", Some(2), true, properties()));
    bytes.extend(publish(version, "b/y", &"z".repeat(300), None, false, vec![]));
    bytes.extend(PINGREQ);
    bytes.extend(puback(1));
    bytes.extend(subscribe(version, 3, &[("a/#", qos(0))], Properties::new()));
    bytes.extend(publish(version, "a/x", "", None, true, vec![]));
    bytes
}

#[test]
fn the_output_does_not_depend_on_how_the_input_is_cut() {
    for version in [Version::V3_1_1, Version::V5] {
        let input = conversation(version);
        // The owner's answers come after all input: when it looks at events is its own choice,
        // and a PUBACK leaves after it, not after the packet.
        let run = |portions: &[&[u8]]| {
            let mut world = World::new();
            let conn = world.open(version);
            for portion in portions {
                world.broker.handle_bytes(world.now, conn, portion);
            }
            world.settle();
            (world.raw(conn), world.published())
        };
        let whole = run(&[&input]);
        assert_eq!(whole.1.len(), 3);
        assert!(whole.0.len() > 300);
        for cut in 1..input.len() {
            assert_eq!(run(&[&input[..cut], &input[cut..]]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = input.iter().map(std::slice::from_ref).collect();
        assert_eq!(run(&bytes), whole);
    }
}

#[test]
fn the_same_calls_give_the_same_bytes_and_events() {
    let run = || {
        let mut world = World::new();
        let conns: Vec<ConnId> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|client| world.subscriber(v5(client), &[("t/#", qos(1)), ("+/x", qos(0))]))
            .collect();
        for i in 0..20 {
            world.publish(conns[i % 4], "t/x", &i.to_string(), Some(1));
        }
        let events = format!("{:?}", world.events);
        (conns.iter().map(|conn| world.raw(*conn)).collect::<Vec<_>>(), events)
    };
    assert_eq!(run(), run());
}

/// Limits small enough that a short run meets them.
fn tight() -> BrokerLimits {
    BrokerLimits {
        max_connections: 3,
        max_packet_before_connect: 200,
        max_packet: 300,
        receive_maximum: 2,
        max_held_bytes: 100,
        topic_alias_maximum: 2,
        max_user_properties: 2,
        max_keep_alive: Some(30),
        max_topic_levels: 3,
        max_unsent_bytes: 300,
        max_inflight: 3,
        max_sessions: 3,
        max_subscriptions_per_session: 3,
        max_queued_bytes_per_session: 800,
        max_queued_bytes: 1500,
        max_retained: 3,
        max_retained_bytes: 1000,
        ..BrokerLimits::default()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Open(Version),
    Hello {
        conn: usize,
        client: usize,
        five: bool,
        clean: bool,
        will: bool,
    },
    Publish {
        conn: usize,
        topic: usize,
        id: u16,
        retain: bool,
        size: usize,
        alias: u16,
    },
    Subscribe {
        conn: usize,
        filter: usize,
        level: u8,
        handling: u8,
        no_local: bool,
    },
    Ack {
        conn: usize,
        kind: usize,
        id: u16,
    },
    Goodbye(usize),
    Ping(usize),
    Garbage {
        conn: usize,
        bytes: Vec<u8>,
    },
    /// A valid packet with one byte changed.
    Twisted {
        conn: usize,
        at: usize,
        to: u8,
    },
    Cut(usize),
    Answer(usize),
    Inject {
        topic: usize,
        one: bool,
    },
    Stick(bool),
    Pass(u64),
}

const TOPICS: [&str; 5] = ["a", "a/b", "$SYS/x", "c", "a/b/c"];
const FILTERS: [&str; 8] = ["#", "a/+", "a", "+/b/#", "$SYS/#", "a+", "$share/g/a", "$share/g/#"];
const CLIENTS: [&str; 5] = ["", "k", "l", "m", "n"];

fn step() -> impl Strategy<Value = Step> {
    let conn = 0..4usize;
    let flag = any::<bool>;
    prop_oneof![
        1 => flag().prop_map(|five| Step::Open(if five { Version::V5 } else { Version::V3_1_1 })),
        4 => (conn.clone(), 0..5usize, flag(), flag(), flag()).prop_map(
            |(conn, client, five, clean, will)| Step::Hello { conn, client, five, clean, will }),
        6 => (conn.clone(), 0..5usize, 0..4u16, flag(), 0..250usize, 0..4u16).prop_map(
            |(conn, topic, id, retain, size, alias)| Step::Publish {
                conn, topic, id, retain, size, alias
            }),
        3 => (conn.clone(), 0..8usize, 0..3u8, 0..3u8, flag()).prop_map(
            |(conn, filter, level, handling, no_local)| Step::Subscribe {
                conn, filter, level, handling, no_local
            }),
        6 => (conn.clone(), 0..4usize, 0..6u16)
            .prop_map(|(conn, kind, id)| Step::Ack { conn, kind, id }),
        1 => conn.clone().prop_map(Step::Goodbye),
        1 => conn.clone().prop_map(Step::Ping),
        1 => (conn.clone(), prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(conn, bytes)| Step::Garbage { conn, bytes }),
        1 => (conn.clone(), 0..200usize, any::<u8>())
            .prop_map(|(conn, at, to)| Step::Twisted { conn, at, to }),
        1 => conn.prop_map(Step::Cut),
        3 => (0..8usize).prop_map(Step::Answer),
        3 => (0..5usize, flag()).prop_map(|(topic, one)| Step::Inject { topic, one }),
        1 => flag().prop_map(Step::Stick),
        1 => (0..40u64).prop_map(Step::Pass),
    ]
}

struct Run {
    world: World,
    conns: Vec<(ConnId, Version)>,
}

impl Run {
    fn conn(&self, at: usize) -> Option<(ConnId, Version)> {
        self.conns.get(self.conns.len().checked_sub(1 + at)?).copied()
    }

    fn take(&mut self, step: Step) {
        let at = match &step {
            Step::Hello { conn, .. }
            | Step::Publish { conn, .. }
            | Step::Subscribe { conn, .. }
            | Step::Ack { conn, .. }
            | Step::Goodbye(conn)
            | Step::Ping(conn)
            | Step::Garbage { conn, .. }
            | Step::Twisted { conn, .. }
            | Step::Cut(conn) => *conn,
            _ => 0,
        };
        let Some((conn, version)) = self.conn(at) else {
            if let Step::Open(version) = step {
                self.open(version);
            }
            return;
        };
        let world = &mut self.world;
        match step {
            Step::Open(version) => self.open(version),
            Step::Hello { client, five, clean, will, .. } => {
                let version = if five { Version::V5 } else { Version::V3_1_1 };
                let mut hello = Hello { version, clean, keep_alive: 5, ..v3(CLIENTS[client]) };
                if !clean {
                    hello.expiry = 20;
                }
                if client == 3 {
                    hello.properties = vec![property::max_packet(120), property::alias_maximum(2)];
                }
                if will {
                    hello = hello.will("a", "w");
                }
                if let Some(entry) = self.conns.iter_mut().find(|(c, _)| *c == conn) {
                    entry.1 = version;
                }
                world.send(conn, &hello.bytes());
            }
            Step::Publish { topic, id, retain, size, alias, .. } => {
                let properties = match (version, alias) {
                    (Version::V5, 1..) => {
                        vec![property::alias(alias), property::message_expiry(alias.into())]
                    }
                    _ => vec![],
                };
                let (topic, payload) = (TOPICS[topic], "x".repeat(size));
                let (two, id) = (id == 3, (id > 0).then_some(id));
                let mut bytes = publish(version, topic, &payload, id, retain, properties);
                if two {
                    bytes[0] ^= 0b0110;
                }
                world.send(conn, &bytes);
            }
            Step::Subscribe { filter, level, handling, no_local, .. } => {
                let handling = RetainHandling::try_from(handling).unwrap();
                let wish = Wish { no_local, retain_as_published: no_local, handling, ..qos(level) };
                let wishes = [(FILTERS[filter], wish)];
                world.send(conn, &subscribe(version, 1, &wishes, Properties::new()));
            }
            Step::Ack { kind, id, .. } => {
                world.send(conn, &ack([0x40, PUBREC, PUBREL, PUBCOMP][kind], id));
            }
            Step::Goodbye(_) => world.send(conn, DISCONNECT),
            Step::Ping(_) => world.send(conn, PINGREQ),
            Step::Garbage { bytes, .. } => world.send(conn, &bytes),
            Step::Twisted { at, to, .. } => {
                let mut bytes = conversation(version);
                let at = at % bytes.len();
                bytes[at] = to;
                world.send(conn, &bytes);
            }
            Step::Cut(_) => world.cut(conn),
            Step::Answer(at) => {
                if at < world.tickets.len() {
                    let (ticket, message) = world.tickets.remove(at);
                    world.broker.publish(world.now, &message);
                    let answer = match at % 3 {
                        0 => crate::Answer::NoSubscribers,
                        1 => crate::Answer::Success,
                        _ => crate::Answer::Refused {
                            reason: crate::RefuseReason::QuotaExceeded,
                            text: "full".to_owned(),
                        },
                    };
                    world.answer(ticket, answer);
                }
            }
            Step::Inject { topic, one } => {
                let level = if one { QoS::ExactlyOnce } else { QoS::AtMostOnce };
                world.inject(TOPICS[topic], "injected", level);
            }
            Step::Stick(stuck) => {
                world.stuck = stuck;
                if !stuck {
                    world.unstick();
                }
            }
            Step::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
        }
    }

    fn open(&mut self, version: Version) {
        let conn = self.world.open(version);
        self.conns.push((conn, version));
    }

    /// What holds after every step.
    fn check(&mut self) {
        let limits = tight();
        let stats = self.world.broker.stats();
        let of_sessions =
            |f: fn(&crate::SessionStats) -> usize| -> usize { stats.sessions.iter().map(f).sum() };
        assert_eq!(stats.queued_bytes, of_sessions(|session| session.queued_bytes));
        assert_eq!(stats.subscriptions, of_sessions(|session| session.subscriptions));
        assert!(stats.connections <= limits.max_connections);
        assert!(stats.sessions.len() <= limits.max_sessions);
        assert!(stats.retained <= limits.max_retained);
        assert!(stats.retained_bytes <= limits.max_retained_bytes);
        assert!(stats.queued_bytes <= limits.max_queued_bytes);
        for session in &stats.sessions {
            // A message that the client has confirmed with PUBREC takes no bytes.
            let empty = session.queued == 0 && session.inflight == 0;
            assert!(!empty || session.queued_bytes == 0);
            assert!(session.queued_bytes <= limits.max_queued_bytes_per_session);
        }
        for (conn, _) in &self.conns {
            if let Some(outbox) = self.world.broker.unsent(*conn) {
                // One packet or one portion of answers may go over the limit.
                assert!(outbox.len() <= limits.max_unsent_bytes + 2_000, "{}", outbox.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_sequence_of_packets_breaks_a_bound_or_panics(
        steps in prop::collection::vec(step(), 1..80),
        automatic in any::<bool>(),
    ) {
        let mut run = Run { world: World::with(tight()), conns: Vec::new() };
        run.world.automatic = automatic;
        for version in [Version::V5, Version::V3_1_1] {
            run.open(version);
        }
        for step in steps {
            run.take(step);
            run.check();
        }
        // Everybody leaves, time passes: nothing is left behind.
        for (conn, _) in run.conns.clone() {
            run.world.cut(conn);
        }
        run.world.pass(Duration::from_secs(8 * 24 * 3600));
        let stats = run.world.broker.stats();
        prop_assert_eq!((stats.connections, stats.sessions.len()), (0, 0));
        prop_assert_eq!((stats.subscriptions, stats.queued_bytes), (0, 0));
        prop_assert_eq!(run.world.broker.poll_timeout(), None);
    }

    #[test]
    fn garbage_never_panics(
        portions in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..6),
        connected in any::<bool>(),
        five in any::<bool>(),
    ) {
        let mut world = World::with(tight());
        let hello = if five { v5("c") } else { v3("c") };
        let conn = if connected { world.connect(hello) } else { world.open(hello.version) };
        for portion in portions {
            world.send(conn, &portion);
        }
    }

    #[test]
    fn what_is_published_arrives_as_it_was(
        topic in "[a-z]{1,10}(/[a-z]{0,5}){0,2}",
        payload in prop::collection::vec(any::<u8>(), 0..2_000),
        keys in prop::collection::vec(("\\PC{0,20}", "\\PC{0,20}"), 0..4),
        kind in prop::option::of("\\PC{0,40}"),
        correlation in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
    ) {
        // Through both directions: from the library's encoder to the library's parser.
        let mut world = World::new();
        let subscriber = world.subscriber(v5("s"), &[("#", qos(1))]);
        let mut message = crate::Message::new(topic.parse().unwrap(), payload.clone(), QoS::AtLeastOnce);
        message.properties.content_type = kind;
        message.properties.correlation_data = correlation;
        message.properties.user = keys;
        world.broker.publish(world.now, &message.clone().into());
        world.settle();
        let bytes = world.raw(subscriber);
        // What a client gets may be published by it in turn.
        let publisher = world.connect(v5("p"));
        world.send(publisher, &bytes);
        let again = world.events.iter().rev().find_map(|event| match event {
            crate::BrokerEvent::Publish { message, .. } => Some(message.clone()),
            _ => None,
        });
        let again = again.unwrap();
        prop_assert_eq!(&again.properties, &message.properties);
        prop_assert_eq!(&again.payload[..], &payload[..]);
        prop_assert_eq!(again.topic.as_str(), topic);
    }
}
