//! Sessions that survive: QoS 2 both ways, subscriptions and retained messages, with the power
//! cut at each operation of the disk.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const CLIENTS: [&str; 2] = ["publisher", "subscriber"];
const MESSAGES: u16 = 12;
/// Publishes that are not finished at a time.
const WINDOW: usize = 4;

/// A plan without functions and uplinks; one stream takes some of the topics.
pub(super) fn sessions_plan() -> Plan {
    Plan {
        streams: vec![stream("telemetry", &["sensors/#"])],
        functions: vec![],
        uplinks: vec![],
        ..plan()
    }
}

/// How far a message of the publisher has come.
#[derive(Clone, Copy, PartialEq)]
enum Sent {
    Published,
    Released,
}

/// Two clients that keep their own state whatever happens to the gateway.
struct Devices {
    bench: Bench,
    conns: u64,
    conn: [Option<ConnId>; 2],
    /// Bytes of each connection that have been looked at.
    seen: BTreeMap<ConnId, usize>,
    subscribed: bool,
    next: u16,
    /// By packet identifier: they are used again as soon as they are free.
    unfinished: BTreeMap<u16, (Sent, u16)>,
    /// Identifiers that the subscriber has confirmed and that are not released.
    taken: BTreeSet<u16>,
    inbox: Vec<String>,
    present: Vec<bool>,
}

impl Devices {
    fn new(disk: CrashDisk) -> Devices {
        Devices {
            bench: Bench::on(disk, sessions_plan(), echo()),
            conns: 0,
            conn: [None; 2],
            seen: BTreeMap::new(),
            subscribed: false,
            next: 1,
            unfinished: BTreeMap::new(),
            taken: BTreeSet::new(),
            inbox: Vec::new(),
            present: Vec::new(),
        }
    }

    /// The power comes back: the gateway starts on what the disk has kept.
    fn restart(&mut self, disk: CrashDisk) {
        // What had left the gateway before has reached the clients.
        self.publisher();
        self.subscriber();
        let now = self.bench.now;
        self.bench = Bench::on(disk, sessions_plan(), echo());
        self.bench.now = Now { instant: self.bench.now.instant, ..now };
        self.conn = [None; 2];
        self.seen.clear();
    }

    fn connect(&mut self, client: usize) {
        self.conns += 1;
        let conn = ConnId(self.conns);
        self.bench.gateway.handle_open(self.bench.now, conn, "test".to_owned());
        let name = CLIENTS[client];
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0xFF, 0xFF];
        body.extend([0, name.len() as u8]);
        body.extend(name.as_bytes());
        self.conn[client] = Some(conn);
        self.bench.bytes(conn, 0x10, &body);
    }

    /// Packets that a client has not looked at.
    fn take(&mut self, client: usize) -> Vec<(u8, Vec<u8>)> {
        let Some(conn) = self.conn[client] else { return Vec::new() };
        let bytes = self.bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
        let seen = self.seen.entry(conn).or_default();
        let new = packets(&bytes[*seen..]).map(|(kind, body)| (kind, body.to_vec())).collect();
        *seen = bytes.len();
        new
    }

    fn send(&mut self, client: usize, kind: u8, body: &[u8]) {
        if let Some(conn) = self.conn[client] {
            self.bench.bytes(conn, kind, body);
        }
    }

    fn publish(&mut self, id: u16, number: u16, kind: u8) {
        // Some go to a stream too.
        let topic = if number.is_multiple_of(2) { "sensors/t" } else { "other/t" };
        let mut body = vec![0, topic.len() as u8];
        body.extend(topic.as_bytes());
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(format!("{number:03}").as_bytes());
        self.send(0, kind, &body);
    }

    fn publisher(&mut self) {
        for (kind, body) in self.take(0) {
            let id = body.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
            match kind {
                0x20 => {
                    self.present.push(body[0] == 1);
                    let mut again: Vec<_> = self.unfinished.clone().into_iter().collect();
                    again.sort_by_key(|(_, (_, number))| *number);
                    for (id, (sent, number)) in again {
                        match sent {
                            Sent::Published => self.publish(id, number, 0x3C),
                            Sent::Released => self.send(0, 0x62, &id.to_be_bytes()),
                        }
                    }
                }
                0x50 => {
                    if let Some((sent, _)) = self.unfinished.get_mut(&id) {
                        *sent = Sent::Released;
                    }
                    self.send(0, 0x62, &id.to_be_bytes());
                }
                0x70 => drop(self.unfinished.remove(&id)),
                _ => {}
            }
        }
        while self.conn[0].is_some() && self.subscribed && self.next <= MESSAGES {
            if self.unfinished.len() >= WINDOW {
                break;
            }
            let free = (1..).find(|id| !self.unfinished.contains_key(id));
            let (id, number) = (free.unwrap_or(1), self.next);
            self.next += 1;
            self.unfinished.insert(id, (Sent::Published, number));
            self.publish(id, number, 0x34);
        }
    }

    fn subscriber(&mut self) {
        for (kind, body) in self.take(1) {
            match kind {
                0x20 if !self.subscribed => {
                    let filters = [&b"\0\x01\0\0\x01#\x02"[..]].concat();
                    self.send(1, 0x82, &filters);
                }
                0x90 => self.subscribed = true,
                0x62 => {
                    self.taken.remove(&u16::from_be_bytes([body[0], body[1]]));
                    self.send(1, 0x70, &body[..2]);
                }
                kind if kind >> 4 == 3 => {
                    assert_eq!(kind & 0b110, 0b100, "QoS 2");
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let id = [body[2 + topic], body[3 + topic]];
                    let payload = String::from_utf8_lossy(&body[5 + topic..]).into_owned();
                    if self.taken.insert(u16::from_be_bytes(id)) {
                        self.inbox.push(payload);
                    }
                    self.send(1, 0x50, &id);
                }
                _ => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        self.next > MESSAGES && self.unfinished.is_empty() && self.inbox.len() >= MESSAGES.into()
    }

    /// Everybody does what there is to do for a while.
    fn round(&mut self) {
        for client in 0..2 {
            if self.conn[client].is_none() {
                self.connect(client);
            }
        }
        self.publisher();
        self.subscriber();
        self.bench.pass(Duration::from_millis(30));
        let closed = std::mem::take(&mut self.bench.closed);
        for client in 0..2 {
            if self.conn[client].is_some_and(|conn| closed.contains(&conn)) {
                self.conn[client] = None;
            }
        }
    }
}

fn expected() -> Vec<String> {
    (1..=MESSAGES).map(|id| format!("{id:03}")).collect()
}

#[test]
fn messages_of_qos_2_arrive_once_when_nothing_happens() {
    let mut devices = Devices::new(CrashDisk::new());
    for _ in 0..60 {
        devices.round();
    }
    assert_eq!(devices.inbox, expected());
    assert!(devices.is_done());
    devices.bench.pass(Duration::from_secs(3));
    let gateway = &devices.bench.gateway;
    let spool = gateway.sessions.spool;
    assert_eq!(gateway.log.cursor(gateway.sessions.reader), gateway.log.next_seq(spool));
    let table = gateway.log.table_entries(gateway.sessions.table);
    let kinds: Vec<u8> = table.keys().map(|key| key[0]).collect();
    assert_eq!(kinds, b"fnooss", "one subscription, two sessions with their places");
}

#[test]
fn messages_of_qos_2_arrive_once_whenever_the_power_fails() {
    let mut whole = Devices::new(CrashDisk::new());
    while !whole.is_done() {
        whole.round();
    }
    let operations = whole.bench.disk.operations();
    assert!(operations > 20, "{operations}");
    for operation in 1..operations + 10 {
        let disk = CrashDisk::new();
        disk.crash_at(operation);
        let mut devices = Devices::new(disk);
        let mut rounds = 0;
        while !devices.is_done() {
            devices.round();
            if devices.bench.disk.has_crashed() {
                let disk = devices.bench.disk.crash(operation);
                devices.restart(disk);
            }
            rounds += 1;
            assert!(
                rounds < 400,
                "cut at {operation}: {} of the messages, {} unfinished, {:?}",
                devices.inbox.len(),
                devices.unfinished.len(),
                devices.inbox
            );
        }
        assert_eq!(devices.inbox, expected(), "cut at {operation}");
    }
}

/// Small numbers that only a seed decides.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn messages_of_qos_2_arrive_once_through_cuts_lost_connections_and_takeovers() {
    for seed in 1..=60 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut devices = Devices::new(CrashDisk::new());
        let mut rounds = 0;
        while !devices.is_done() {
            if rounds < 300 {
                let client = dice.roll(2) as usize;
                match dice.roll(8) {
                    // The client's link breaks.
                    0 => {
                        if let Some(conn) = devices.conn[client].take() {
                            devices.bench.gateway.handle_closed(devices.bench.now, conn, "cut");
                        }
                    }
                    // It comes again while the gateway still knows the old connection.
                    1 => devices.connect(client),
                    2 => {
                        let disk = &devices.bench.disk;
                        disk.crash_at(disk.operations() + 1 + dice.roll(6));
                    }
                    3 => {
                        let disk = devices.bench.disk.after_kill();
                        devices.restart(disk);
                    }
                    _ => {}
                }
            }
            devices.round();
            if devices.bench.disk.has_crashed() {
                let disk = devices.bench.disk.crash(dice.roll(1000));
                devices.restart(disk);
            }
            rounds += 1;
            assert!(rounds < 2000, "seed {seed}: {:?}", devices.inbox);
        }
        assert_eq!(devices.inbox, expected(), "seed {seed}");
    }
}

#[test]
fn a_session_is_present_after_its_power_failed() {
    let mut devices = Devices::new(CrashDisk::new());
    devices.round();
    devices.round();
    devices.restart(devices.bench.disk.crash(1));
    devices.round();
    devices.round();
    assert_eq!(devices.present, [false, true]);
}

/// What a kept session with QoS 1 is sent, acknowledged or not.
pub(super) fn payloads_of(bench: &Bench, conn: ConnId) -> Vec<(u16, u8, String)> {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    let publishes = packets(bytes).filter(|(kind, _)| kind >> 4 == 3);
    let described = publishes.map(|(kind, body)| {
        let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let rest = &body[2 + topic..];
        let id = u16::from_be_bytes([rest[0], rest[1]]);
        let properties = usize::from(rest[2]);
        (id, kind & 15, String::from_utf8_lossy(&rest[3 + properties..]).into_owned())
    });
    described.collect()
}

pub(super) fn connect_kept(bench: &mut Bench, conn: u64, client: &str) -> ConnId {
    let conn = ConnId(conn);
    bench.gateway.handle_open(bench.now, conn, "test".to_owned());
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0xFF, 0xFF];
    body.extend([0, client.len() as u8]);
    body.extend(client.as_bytes());
    bench.bytes(conn, 0x10, &body);
    bench.pass(SETTLE);
    conn
}

#[test]
fn an_absent_subscriber_costs_disk_and_no_memory_and_gets_everything_in_order() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    bench.pass(SETTLE);
    bench.gateway.handle_closed(bench.now, subscriber, "gone");
    let publisher = bench.connect(2, "p");
    let payload = |number: u16| format!("{number:05}{}", "x".repeat(200));
    for number in 1..=3000 {
        bench.publish(publisher, number, "other/t", &payload(number));
        if number.is_multiple_of(100) {
            bench.pass(Duration::from_millis(20));
        }
    }
    bench.pass(SETTLE);
    assert_eq!(bench.pubacks(publisher).len(), 3000);
    assert_eq!(bench.gateway.broker.stats().queued_bytes, 0);
    // Also across a restart.
    let (disk, now) = (bench.disk.crash(3), bench.now);
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    bench.now = Now { instant: bench.now.instant, ..now };
    let subscriber = connect_kept(&mut bench, 1, "s");
    let mut acknowledged = 0;
    let mut got = Vec::new();
    for _ in 0..2000 {
        got = payloads_of(&bench, subscriber);
        assert!(bench.gateway.broker.stats().queued_bytes < 256 * 1024);
        if got.len() == 3000 {
            break;
        }
        for (id, _, _) in &got[acknowledged..] {
            bench.bytes(subscriber, 0x40, &id.to_be_bytes());
        }
        acknowledged = got.len();
        bench.pass(Duration::from_millis(5));
    }
    let texts: Vec<_> = got.into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, (1..=3000).map(payload).collect::<Vec<_>>());
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again_under_its_identifier_after_a_kill() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    let publisher = bench.connect(2, "p");
    for id in 1..=4 {
        bench.publish(publisher, id, "other/t", &id.to_string());
    }
    bench.pass(SETTLE);
    let before = payloads_of(&bench, subscriber);
    assert_eq!(before.len(), 4);
    bench.bytes(subscriber, 0x40, &before[1].0.to_be_bytes());
    bench.pass(Duration::from_secs(2));
    let (disk, now) = (bench.disk.after_kill(), bench.now);
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    bench.now = Now { instant: bench.now.instant, ..now };
    let subscriber = connect_kept(&mut bench, 1, "s");
    let again = payloads_of(&bench, subscriber);
    let expected: Vec<_> = [0, 2, 3]
        .map(|at| {
            let (id, flags, text) = before[at].clone();
            (id, flags | 8, text)
        })
        .into();
    assert_eq!(again, expected, "with DUP");
}

/// A message for a kept session, and what its client gets of it when the power has failed: the
/// client had got it before, or `away` it was not there.
fn got_after_a_cut(away: bool) -> Vec<(u16, u8, String)> {
    let mut bench = Bench::new(sessions_plan(), echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    let publisher = bench.connect(2, "p");
    bench.pass(Duration::from_secs(3));
    if away {
        bench.gateway.handle_closed(bench.now, subscriber, "gone");
        bench.pass(Duration::from_secs(3));
    }
    bench.publish(publisher, 1, "other/t", "x");
    bench.pass(Duration::from_millis(100));
    assert_eq!(payloads_of(&bench, subscriber).len(), usize::from(!away));
    let (disk, now) = (bench.disk.crash(1), bench.now);
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    bench.now = Now { instant: bench.now.instant, ..now };
    let subscriber = connect_kept(&mut bench, 1, "s");
    payloads_of(&bench, subscriber)
}

#[test]
fn what_was_sent_just_before_the_power_failed_comes_again_with_dup() {
    assert_eq!(got_after_a_cut(false), [(2, 0b1010, "x".to_owned())]);
}

#[test]
fn what_came_for_a_client_that_was_away_when_the_power_failed_is_no_repetition() {
    assert_eq!(got_after_a_cut(true), [(2, 0b0010, "x".to_owned())]);
}

#[test]
fn what_the_log_has_to_write_once_more_at_its_start_reaches_its_session() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    let publisher = bench.connect(2, "p");
    bench.pass(Duration::from_secs(3));
    bench.gateway.handle_closed(bench.now, subscriber, "gone");
    bench.pass(Duration::from_secs(3));
    bench.publish(publisher, 1, "other/t", "x");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.pubacks(publisher), [(1, 0)]);
    let (disk, now) = (bench.disk.after_kill(), bench.now);
    disk.fail_next_sync();
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    let spool = bench.gateway.sessions.spool;
    assert!(bench.gateway.log.durable_seq(spool) < bench.gateway.log.next_seq(spool));
    bench.now = Now { instant: bench.now.instant, ..now };
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.pass(Duration::from_secs(3));
    assert_eq!(payloads_of(&bench, subscriber), [(2, 0b0010, "x".to_owned())]);
}

#[test]
fn retained_messages_are_what_was_acknowledged_whenever_the_power_fails() {
    let publish = |bench: &mut Bench, conn: ConnId, id: u16, payload: &str| {
        let mut body = b"\0\x07other/t".to_vec();
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(payload.as_bytes());
        bench.bytes(conn, 0x33, &body);
    };
    for operation in 1..60 {
        let disk = CrashDisk::new();
        disk.crash_at(operation);
        let mut bench = Bench::on(disk, sessions_plan(), echo());
        let publisher = bench.connect(1, "p");
        let (mut acknowledged, mut sent) = (0, 0);
        for id in 1..=20 {
            if bench.disk.has_crashed() {
                break;
            }
            publish(&mut bench, publisher, id, &id.to_string());
            sent = id;
            bench.pass(Duration::from_millis(15));
            acknowledged = bench.pubacks(publisher).len() as u16;
        }
        let (disk, now) = (bench.disk.crash(operation), bench.now);
        let mut bench = Bench::on(disk, sessions_plan(), echo());
        bench.now = Now { instant: bench.now.instant, ..now };
        let subscriber = bench.connect(1, "s");
        bench.subscribe(subscriber, "#");
        let got = payloads_of(&bench, subscriber);
        let value = got.first().map_or(0, |(_, _, text)| text.parse().unwrap());
        assert!((acknowledged..=sent).contains(&value), "cut at {operation}: {value}");
    }
}

#[test]
fn a_kept_session_gets_retained_messages_and_what_functions_emit() {
    let mut plan = plan();
    plan.uplinks.clear();
    let mut bench = Bench::new(plan, echo());
    let publisher = bench.connect(1, "p");
    let mut body = b"\0\x07other/t\0\x01\0".to_vec();
    body.extend(b"kept");
    bench.bytes(publisher, 0x33, &body);
    bench.pass(SETTLE);
    let subscriber = connect_kept(&mut bench, 2, "s");
    bench.subscribe(subscriber, "#");
    bench.pass(SETTLE);
    bench.publish(publisher, 2, "sensors/1", "in");
    bench.pass(SETTLE);
    let got = payloads_of(&bench, subscriber);
    let texts: Vec<_> = got.iter().map(|(_, flags, text)| (flags & 1, text.as_str())).collect();
    assert_eq!(texts, [(1, "kept"), (0, "in"), (0, "in")], "retained, published, emitted");
}

#[test]
fn a_session_that_ends_leaves_nothing_behind() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    let publisher = bench.connect(2, "p");
    bench.publish(publisher, 1, "other/t", "x");
    bench.pass(SETTLE);
    // A clean start with a session that is not kept.
    let again = bench.connect(3, "s");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.publishes(again), 0);
    let gateway = &bench.gateway;
    assert_eq!(gateway.log.table_entries(gateway.sessions.table).len(), 1, "the next number");
    let spool = gateway.sessions.spool;
    assert_eq!(gateway.log.cursor(gateway.sessions.reader), gateway.log.next_seq(spool));
}

#[test]
fn a_full_stream_that_blocks_holds_up_nobody_else_whose_messages_a_kept_session_gets() {
    let mut plan = Plan { uplinks: super::plan().uplinks, ..sessions_plan() };
    plan.uplinks[0].streams.truncate(1);
    plan.streams[0].max_bytes = 16 * 1024;
    plan.streams[0].retain = Duration::ZERO;
    let mut bench = Bench::new(plan, echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "#");
    let blocked = bench.connect(2, "blocked");
    for id in 1..=60 {
        bench.publish(blocked, id, "sensors/a", &"x".repeat(1000));
        bench.pass(Duration::from_millis(20));
    }
    let pubacks = bench.pubacks(blocked);
    assert!((1..60).contains(&pubacks.len()), "{pubacks:?}");
    assert!(pubacks.iter().all(|(_, reason)| *reason == 0), "held back, not refused: {pubacks:?}");
    let other = bench.connect(3, "other");
    bench.publish(other, 1, "other/t", "goes on");
    bench.pass(SETTLE);
    assert_eq!(bench.pubacks(other), [(1, 0)]);
    let got = payloads_of(&bench, subscriber);
    assert_eq!(got.last().map(|(_, _, text)| text.as_str()), Some("goes on"));
}

#[test]
fn changes_that_the_log_does_not_take_are_told_once_but_not_those_of_a_busy_moment() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let told = |bench: &mut Bench| {
        let outputs = std::iter::from_fn(|| bench.gateway.poll_output(bench.now));
        outputs.filter(|o| matches!(o, Output::Notice(crate::Notice::SessionsWait { .. }))).count()
    };
    let busy = tidegate_stream::AppendError::Busy { pending: 1, max: 1 };
    bench.gateway.sessions_wait(&busy.into());
    assert_eq!(told(&mut bench), 0);
    let full = tidegate_stream::CommitError::TablesFull { bytes: 2, max: 1 };
    bench.gateway.sessions_wait(&full);
    bench.gateway.sessions_wait(&full);
    assert_eq!(told(&mut bench), 1);
    connect_kept(&mut bench, 1, "s");
    bench.gateway.sessions_wait(&full);
    assert_eq!(told(&mut bench), 1, "it went in between");
}

#[test]
fn a_retained_publish_that_changes_nothing_takes_no_record_of_the_spool() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let publisher = bench.connect(2, "p");
    // Without a payload it clears what is not there.
    bench.bytes(publisher, 0x33, b"\0\x07other/t\0\x01\0");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.pubacks(publisher).len(), 1);
    let (log, sessions) = (&bench.gateway.log, &bench.gateway.sessions);
    assert_eq!(log.cursor(sessions.reader), log.next_seq(sessions.spool));
    assert_eq!(log.next_seq(sessions.spool), Seq(1), "nobody would ever be offered it");
}

#[test]
fn a_spool_at_its_quota_drops_the_oldest_and_the_ledger_says_so() {
    let mut plan = sessions_plan();
    plan.broker.max_queued_bytes = 512 * 1024;
    let mut bench = Bench::new(plan, echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    bench.pass(SETTLE);
    bench.gateway.handle_closed(bench.now, subscriber, "gone");
    let publisher = bench.connect(2, "p");
    for id in 1..=2000 {
        bench.publish(publisher, id, "other/t", &format!("{id:05}{}", "x".repeat(500)));
        if id.is_multiple_of(50) {
            bench.pass(Duration::from_millis(20));
        }
    }
    bench.pass(Duration::from_secs(2));
    let spool = bench.gateway.sessions.spool;
    assert!(bench.gateway.log.losses().any(|loss| loss.stream == spool && loss.records > 500));
    let subscriber = connect_kept(&mut bench, 3, "s");
    let mut seen = 0;
    for _ in 0..300 {
        let got = payloads_of(&bench, subscriber);
        for (id, _, _) in &got[seen..] {
            bench.bytes(subscriber, 0x40, &id.to_be_bytes());
        }
        seen = got.len();
        bench.pass(Duration::from_millis(10));
    }
    let got = payloads_of(&bench, subscriber);
    assert!((300..1500).contains(&got.len()), "{}", got.len());
    assert!(got.last().is_some_and(|(_, _, text)| text.starts_with("02000")));
}

#[test]
fn a_session_goes_on_behind_what_the_quota_drops_while_it_reads() {
    let mut plan = sessions_plan();
    plan.broker.max_queued_bytes = 512 * 1024;
    let mut bench = Bench::new(plan, echo());
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    bench.pass(SETTLE);
    let publisher = bench.connect(2, "p");
    let publish = |bench: &mut Bench, id: u16| {
        bench.publish(publisher, id, "other/t", &format!("{id:05}{}", "x".repeat(500)));
    };
    for id in 1..=2000 {
        publish(&mut bench, id);
        if id.is_multiple_of(50) {
            bench.pass(Duration::from_millis(20));
        }
    }
    bench.pass(SETTLE);
    // The ledger has not reached the disk when the session has room and reads on.
    bench.disk_stands_still = true;
    (2001..=2100).for_each(|id| publish(&mut bench, id));
    let mut seen = 0;
    for round in 0..300 {
        let got = payloads_of(&bench, subscriber);
        for (id, _, _) in &got[seen..] {
            bench.bytes(subscriber, 0x40, &id.to_be_bytes());
        }
        seen = got.len();
        if round == 0 {
            bench.let_the_disk_go();
        }
        bench.pass(Duration::from_millis(10));
    }
    let got = payloads_of(&bench, subscriber);
    assert!(got.last().is_some_and(|(_, _, text)| text.starts_with("02100")), "{}", got.len());
}

#[test]
fn the_gateway_publishes_and_subscribes_without_a_socket() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let inside = bench.gateway.subscribe(&filter("other/#"), 1000);
    let client = bench.connect(1, "c");
    bench.subscribe(client, "sensors/#");
    bench.publish(client, 1, "other/t", "from a client");
    let taken = bench.gateway.take(inside).unwrap();
    assert_eq!(&taken.payload[..], b"from a client");
    let topic = "sensors/gateway".parse().unwrap();
    let message = tidegate_broker::Message::new(topic, "own", tidegate_broker::QoS::AtLeastOnce);
    bench.gateway.publish(bench.now, message);
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("telemetry"), ["own"]);
    assert_eq!(bench.publishes(client), 1);
}

#[test]
fn figures_are_under_sys_and_no_wildcard_reaches_them() {
    let mut bench = Bench::new(sessions_plan(), echo());
    bench.pass(Duration::from_secs(2));
    let everything = bench.connect(1, "a");
    bench.subscribe(everything, "#");
    let figures = bench.connect(2, "b");
    bench.subscribe(figures, "$SYS/broker/clients/+");
    assert_eq!(bench.publishes(figures), 3, "retained");
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.publishes(figures), 6);
    assert_eq!(bench.publishes(everything), 0);
}

#[test]
fn more_changes_than_fit_a_frame_are_written_in_several() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let conn = connect_kept(&mut bench, 1, "s");
    // 300 filters of 500 bytes: the frame of this plan has 64 KiB.
    for id in 1..=3_u16 {
        let mut body = id.to_be_bytes().to_vec();
        body.push(0);
        for number in 0..100 {
            let filter = format!("{id}/{number}/{}", "x".repeat(500));
            body.extend((filter.len() as u16).to_be_bytes());
            body.extend(filter.as_bytes());
            body.push(1);
        }
        bench.bytes(conn, 0x82, &body);
    }
    bench.pass(SETTLE);
    let subacks = |bench: &Bench, conn| {
        packets(&bench.received[&conn]).filter(|(kind, _)| *kind == 0x90).count()
    };
    assert_eq!(subacks(&bench, conn), 3);
    assert_eq!(bench.gateway.log.table_entries(bench.gateway.sessions.table).len(), 303);
    bench.connect(2, "s");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.gateway.log.table_entries(bench.gateway.sessions.table).len(), 1);
}
