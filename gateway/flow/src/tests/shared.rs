//! Shared subscriptions of kept sessions that end: their messages go to other members.

use std::collections::BTreeSet;

use super::sessions::{connect_kept, sessions_plan};
use super::*;

const SHARE: &str = "$share/g/other/#";
const MOMENT: Duration = Duration::from_millis(100);

/// A client that takes what it is sent, and acknowledges it or not.
struct Member {
    conn: ConnId,
    seen: usize,
    /// Identifiers of QoS 2 that are not released.
    taken: BTreeSet<u16>,
    inbox: Vec<String>,
    acknowledges: bool,
}

impl Member {
    fn connect(bench: &mut Bench, conn: u64, client: &str) -> Member {
        let conn = connect_kept(bench, conn, client);
        Member { conn, seen: 0, taken: BTreeSet::new(), inbox: Vec::new(), acknowledges: true }
    }

    fn subscribe(&self, bench: &mut Bench, qos: u8) {
        let mut body = vec![0, 1, 0, 0, SHARE.len() as u8];
        body.extend_from_slice(SHARE.as_bytes());
        body.push(qos);
        bench.bytes(self.conn, 0x82, &body);
        bench.pass(MOMENT);
    }

    fn come_back(&mut self, bench: &mut Bench, conn: u64, client: &str) {
        self.conn = connect_kept(bench, conn, client);
        self.seen = 0;
    }

    fn leave(&self, bench: &mut Bench) {
        bench.gateway.handle_closed(bench.now, self.conn, "gone");
        bench.pass(Duration::from_secs(2));
    }

    /// Takes what has come.
    fn serve(&mut self, bench: &mut Bench) {
        let bytes = bench.received.get(&self.conn).cloned().unwrap_or_default();
        for (kind, body) in packets(&bytes[self.seen..]) {
            match kind {
                0x62 => {
                    self.taken.remove(&u16::from_be_bytes([body[0], body[1]]));
                    bench.bytes(self.conn, 0x70, &body[..2]);
                }
                kind if kind >> 4 == 3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    let id = [body[2 + topic], body[3 + topic]];
                    let text = String::from_utf8_lossy(&body[5 + topic..]).into_owned();
                    let exactly_once = kind & 0b110 == 0b100;
                    if !exactly_once || self.taken.insert(u16::from_be_bytes(id)) {
                        self.inbox.push(text);
                    }
                    if self.acknowledges {
                        bench.bytes(self.conn, if exactly_once { 0x50 } else { 0x40 }, &id);
                    }
                }
                _ => {}
            }
        }
        self.seen = bytes.len();
    }

    fn serve_for_a_while(&mut self, bench: &mut Bench) {
        for _ in 0..20 {
            self.serve(bench);
            bench.pass(MOMENT);
        }
    }

    fn sorted(&self) -> Vec<String> {
        let mut inbox = self.inbox.clone();
        inbox.sort();
        inbox
    }
}

fn publish(bench: &mut Bench, conn: ConnId, messages: std::ops::RangeInclusive<u16>) {
    for id in messages {
        let mut body = b"\0\x07other/t".to_vec();
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(id.to_string().as_bytes());
        bench.bytes(conn, 0x34, &body);
        bench.pass(MOMENT);
        bench.bytes(conn, 0x62, &id.to_be_bytes());
    }
    bench.pass(MOMENT);
}

fn numbers(range: std::ops::RangeInclusive<u16>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn estates(bench: &Bench) -> usize {
    let gateway = &bench.gateway;
    let table = gateway.log.table_entries(gateway.sessions.table);
    table.keys().filter(|key| key[0] == b'e').count()
}

/// Two members at this QoS that are away, with six messages given to them in turn.
fn two_away(disk: CrashDisk, qos: u8) -> (Bench, Member) {
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    let one = Member::connect(&mut bench, 1, "one");
    one.subscribe(&mut bench, qos);
    let other = Member::connect(&mut bench, 2, "other");
    other.subscribe(&mut bench, qos);
    one.leave(&mut bench);
    other.leave(&mut bench);
    let publisher = bench.connect(3, "p");
    publish(&mut bench, publisher, 1..=6);
    (bench, other)
}

fn restart(bench: Bench, disk: CrashDisk) -> Bench {
    let now = bench.now;
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    bench.now = Now { instant: bench.now.instant, ..now };
    bench
}

#[test]
fn messages_of_a_session_that_is_discarded_go_to_another_member() {
    for qos in [1, 2] {
        let (mut bench, mut other) = two_away(CrashDisk::new(), qos);
        bench.connect(4, "one"); // A clean start.
        other.come_back(&mut bench, 5, "other");
        other.serve_for_a_while(&mut bench);
        assert_eq!(other.sorted(), numbers(1..=6), "QoS {qos}");
        bench.pass(Duration::from_secs(2));
        let gateway = &bench.gateway;
        let spool = gateway.sessions.spool;
        assert_eq!(gateway.log.cursor(gateway.sessions.reader), gateway.log.next_seq(spool));
        assert_eq!(estates(&bench), 0);
    }
}

#[test]
fn messages_of_a_session_that_expires_while_the_gateway_is_off_go_to_another_member() {
    let (bench, mut other) = two_away(CrashDisk::new(), 1);
    let (disk, mut now) = (bench.disk.after_kill(), bench.now);
    now.unix_ms += 70_000 * 1000;
    // Both would have expired: the other one's session is made anew.
    let mut bench = Bench::on(disk, sessions_plan(), echo());
    let (gateway, _) = Gateway::open(sessions_plan(), &bench.disk, now, 7).unwrap();
    bench.gateway = gateway;
    bench.now = now;
    other.come_back(&mut bench, 5, "other");
    other.subscribe(&mut bench, 1);
    other.serve_for_a_while(&mut bench);
    assert_eq!(other.inbox, Vec::<String>::new(), "there was no other member");
    assert_eq!(estates(&bench), 0);
}

#[test]
fn what_was_sent_goes_to_another_member_with_qos_1_and_not_with_qos_2() {
    for qos in [1, 2] {
        for killed in [false, true] {
            let mut bench = Bench::new(sessions_plan(), echo());
            let mut one = Member::connect(&mut bench, 1, "one");
            one.acknowledges = false;
            one.subscribe(&mut bench, qos);
            let publisher = bench.connect(3, "p");
            publish(&mut bench, publisher, 1..=2);
            one.serve(&mut bench);
            assert_eq!(one.inbox, numbers(1..=2));
            let mut other = Member::connect(&mut bench, 2, "other");
            other.subscribe(&mut bench, qos);
            if killed {
                let disk = bench.disk.after_kill();
                bench = restart(bench, disk);
                other.come_back(&mut bench, 2, "other");
            }
            bench.connect(4, "one");
            other.serve_for_a_while(&mut bench);
            let expected = if qos == 1 { numbers(1..=2) } else { vec![] };
            assert_eq!(other.sorted(), expected, "QoS {qos}, killed {killed}");
            assert_eq!(estates(&bench), 0);
        }
    }
}

#[test]
fn more_messages_than_move_at_a_time_all_arrive() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let one = Member::connect(&mut bench, 1, "one");
    one.subscribe(&mut bench, 1);
    one.leave(&mut bench);
    let publisher = bench.connect(3, "p");
    publish(&mut bench, publisher, 1..=150);
    let mut other = Member::connect(&mut bench, 2, "other");
    other.subscribe(&mut bench, 1);
    other.leave(&mut bench);
    bench.connect(4, "one");
    bench.pass(Duration::from_secs(1));
    other.come_back(&mut bench, 5, "other");
    other.serve_for_a_while(&mut bench);
    let mut got = other.inbox.clone();
    got.sort_by_key(|text| text.parse::<u16>().unwrap());
    assert_eq!(got, numbers(1..=150));
}

#[test]
fn no_power_cut_gives_a_message_twice_or_to_nobody() {
    for operation in 1..25 {
        let (bench, mut other) = two_away(CrashDisk::new(), 2);
        let disk = bench.disk.after_kill();
        let mut bench = restart(bench, disk);
        bench.disk.crash_at(bench.disk.operations() + operation);
        bench.connect(4, "one");
        bench.pass(Duration::from_secs(2));
        for round in 0..3 {
            let disk = match bench.disk.has_crashed() {
                true => bench.disk.crash(operation + round),
                false => bench.disk.after_kill(),
            };
            bench = restart(bench, disk);
            bench.disk.crash_at(bench.disk.operations() + operation / 2 + 1 + round);
            bench.connect(4, "one");
            bench.pass(Duration::from_secs(2));
        }
        let disk = bench.disk.crash(operation);
        bench = restart(bench, disk);
        bench.connect(4, "one");
        other.come_back(&mut bench, 5, "other");
        other.serve_for_a_while(&mut bench);
        assert_eq!(other.sorted(), numbers(1..=6), "cut at {operation}");
        assert_eq!(estates(&bench), 0, "cut at {operation}");
    }
}
