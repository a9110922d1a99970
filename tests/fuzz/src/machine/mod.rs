//! The target `machine`: several clients take steps, and the model judges every packet.

mod connecting;
mod steps;

use tidegate_broker::{BrokerLimits, ConnId};
use tidegate_peer::Version;
use tidegate_peer::decode::{self, Packet};

use crate::input::Input;
use crate::model::{Model, Reply};
use crate::owner::Owner;

const CLIENTS: [&str; 4] = ["a", "b", "c", "small"];
/// This one takes packets of this many bytes.
const SMALL: (usize, usize) = (3, 60);
/// The last one is not for clients.
const TOPICS: [&str; 6] = ["a", "a/b", "a/b/c", "b", "b/b", "$x/a"];
/// No message matches two groups: whose copy is whose could not be told.
const FILTERS: [&str; 11] = [
    "#",
    "a/+",
    "a",
    "+/b/#",
    "$x/#",
    "a/b",
    "+",
    "$share/g/a/#",
    "$share/h/b/#",
    "$share/g/a/#",
    "b/#",
];
/// Seconds that sessions of 3.1.1 are kept: the limit of the broker.
const WEEK: u64 = 7 * 24 * 3600;

/// Runs the steps that `bytes` stand for.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let mut machine = Machine {
        owner: Owner::new(BrokerLimits::default()),
        model: Model::default(),
        lines: [None; 4],
        serial: 0,
    };
    machine.owner.waits = how & 1 == 1;
    if how & 2 == 2 {
        machine.owner.keep_sessions();
    }
    while !input.is_empty() {
        machine.step(&mut input);
        machine.judge();
    }
    machine.finish();
}

struct Machine {
    owner: Owner,
    model: Model,
    lines: [Option<(ConnId, Version)>; 4],
    /// Makes payloads unique.
    serial: u32,
}

impl Machine {
    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.below(23);
        let client = input.below(CLIENTS.len());
        let Some((conn, version)) = self.lines[client].filter(|_| what > 1) else {
            return self.connect(client, input);
        };
        match what {
            0..=1 => {}
            2..=7 => self.publish(client, conn, version, input),
            8..=9 => self.subscribe(client, conn, version, input),
            10 => self.unsubscribe(client, conn, version, input),
            11..=13 => self.acknowledge(client, conn, version, input),
            14 => self.release(client, conn, version, input),
            15 => self.stray(client, conn, version, input),
            16 => self.goodbye(client, conn, version, input),
            17 => {
                self.owner.cut(conn);
                self.lines[client] = None;
                self.model.leave(client, true);
            }
            18 => self.offend(client, conn, version, input),
            19..=20 => self.answer(input),
            21 if self.owner.keeps_sessions() => {
                self.owner.restart();
                self.lines = [None; 4];
                self.model.restart();
            }
            _ => self.pass(input.one_of(&[1, 2, 5, 10, 60, 200])),
        }
    }

    /// The broker has closed the connection, with this reason or, if `None`, any failure.
    fn ended(&mut self, conn: ConnId, version: Version, reason: Option<u8>) {
        assert!(self.owner.is_closed(conn), "the connection is still open");
        let bytes = self.owner.got(conn);
        match (version, &decode::packets(version, &bytes)[..]) {
            (Version::V3_1_1, []) => {}
            (Version::V5, [Packet::Disconnect { code, .. }])
                if reason.map_or(*code >= 0x80, |reason| reason == *code) => {}
            (_, other) => panic!("the last words are {other:?}"),
        }
    }

    fn payload(&mut self, padding: usize) -> String {
        self.serial += 1;
        format!("{}{}", self.serial, "x".repeat(padding))
    }

    /// The owner accepts one of the publishes that wait.
    fn answer(&mut self, input: &mut Input<'_>) {
        let waiting = self.owner.tickets.len();
        if waiting > 0 {
            let ticket = self.owner.answer(usize::from(input.byte()) % waiting);
            self.model.answered(ticket);
        }
    }

    fn expect(&mut self, client: usize, reply: Reply) {
        if let Some(session) = self.model.sessions.get_mut(&client) {
            session.replies.push_back(reply);
        }
    }

    fn pass(&mut self, seconds: u64) {
        let end = self.model.now + seconds;
        while let Some(at) = self.model.next_event(end) {
            self.owner.pass(at - self.model.now);
            self.model.advance(at);
            self.judge();
        }
        self.owner.pass(end - self.model.now);
        self.model.advance(end);
    }

    /// Wills of this step, then every packet of every client, then what is still owed.
    fn judge(&mut self) {
        self.model.publish_wills();
        for client in 0..CLIENTS.len() {
            let Some((conn, version)) = self.lines[client] else { continue };
            let bytes = self.owner.got(conn);
            for packet in decode::packets(version, &bytes) {
                self.model.receive(client, &packet);
            }
            assert!(!self.owner.is_closed(conn), "client {client} was closed");
        }
        self.model.check();
    }

    /// Everybody comes back and takes everything; then everybody leaves.
    fn finish(mut self) {
        while !self.owner.tickets.is_empty() {
            self.answer(&mut Input::new(&[]));
            self.judge();
        }
        for client in 0..CLIENTS.len() {
            if self.lines[client].is_none() && self.model.sessions.contains_key(&client) {
                // MQTT 5, Clean Start 0, 100 s, no alias, a window of 1,000.
                self.connect(client, &mut Input::new(&[2]));
                self.judge();
            }
        }
        for _ in 0..10_000 {
            let waiting = (0..CLIENTS.len()).find(|client| {
                self.model.sessions.get(client).is_some_and(|session| !session.sent.is_empty())
            });
            let Some((client, (conn, version))) =
                waiting.and_then(|client| Some((client, self.lines[client]?)))
            else {
                break;
            };
            self.acknowledge(client, conn, version, &mut Input::new(&[]));
            self.judge();
        }
        for (client, session) in &self.model.sessions {
            assert!(session.is_idle() && session.sent.is_empty(), "left for {client}: {session:?}");
        }
        for client in 0..CLIENTS.len() {
            if let Some((conn, _)) = self.lines[client].take() {
                self.owner.cut(conn);
                self.model.leave(client, true);
            }
        }
        self.pass(8 * 24 * 3600);
        let stats = self.owner.broker.stats();
        assert_eq!((stats.connections, stats.sessions.len()), (0, 0), "something is left behind");
        assert_eq!((stats.subscriptions, stats.queued_bytes), (0, 0), "something is left behind");
        // What has expired may still be there until the room is wanted.
        assert!(stats.retained >= self.model.retained.len(), "retained messages");
    }
}
