//! What subscribers may leave to wait: quotas of kept sessions, slow sessions that are not kept,
//! and what the loss ledger says of both.

use std::collections::BTreeSet;

use super::sessions::{connect_kept, payloads_of, sessions_plan};
use super::*;
use crate::LOSS_STREAM;
use crate::status::SessionLossStatus;

const QUOTA: u64 = 80;

fn quota_plan() -> Plan {
    let mut plan = sessions_plan();
    plan.broker.max_spooled_messages_per_session = QUOTA;
    plan
}

/// The gateway starts again on this disk.
fn restarted(disk: CrashDisk, now: Now) -> Bench {
    let mut bench = Bench::on(disk, quota_plan(), echo());
    bench.now = Now { instant: bench.now.instant, ..now };
    bench
}

/// A kept session that subscribes and goes away.
fn absent(bench: &mut Bench, conn: u64, client: &str, filter: &str) {
    let conn = connect_kept(bench, conn, client);
    bench.subscribe(conn, filter);
    bench.pass(SETTLE);
    bench.gateway.handle_closed(bench.now, conn, "gone");
}

fn publish_some(bench: &mut Bench, conn: ConnId, topic: &str, numbers: std::ops::Range<u16>) {
    for number in numbers {
        bench.publish(conn, number + 1, topic, &format!("{number:05}"));
        if number.is_multiple_of(20) {
            bench.pass(Duration::from_millis(20));
        }
    }
    bench.pass(SETTLE);
}

/// Takes and acknowledges everything that a session is owed.
fn take_all(bench: &mut Bench, conn: u64, client: &str) -> Vec<String> {
    let conn = connect_kept(bench, conn, client);
    let mut seen = 0;
    for _ in 0..100 {
        let got = payloads_of(bench, conn);
        for (id, _, _) in &got[seen..] {
            bench.bytes(conn, 0x40, &id.to_be_bytes());
        }
        seen = got.len();
        bench.pass(Duration::from_millis(5));
    }
    payloads_of(bench, conn).into_iter().map(|(_, _, text)| text).collect()
}

fn waiting(bench: &Bench, client: &str) -> u64 {
    let stats = bench.gateway.broker.stats();
    let session = stats.sessions.iter().find(|session| &*session.client == client);
    session.map_or(0, |session| session.spooled.messages)
}

fn lost(bench: &Bench) -> Vec<SessionLossStatus> {
    bench.gateway.losses("$mqtt").unwrap().sessions
}

fn lost_by(bench: &Bench, client: &str) -> u64 {
    lost(bench).iter().filter(|loss| loss.client == client).map(|loss| loss.records).sum()
}

#[test]
fn an_absent_session_at_its_quota_loses_its_oldest_and_no_other_loses_any() {
    let mut bench = Bench::new(quota_plan(), echo());
    absent(&mut bench, 1, "greedy", "other/#");
    absent(&mut bench, 2, "modest", "other/rare");
    let publisher = bench.connect(3, "p");
    publish_some(&mut bench, publisher, "other/rare", 0..10);
    publish_some(&mut bench, publisher, "other/often", 10..500);
    bench.pass(Duration::from_secs(2));
    assert!((QUOTA * 7 / 8..=QUOTA).contains(&waiting(&bench, "greedy")));
    let losses = lost(&bench);
    let named: Vec<_> = losses.iter().map(|l| (l.client.as_str(), l.reason.as_str())).collect();
    assert_eq!(named, [("greedy", "session-quota")]);
    assert_eq!(losses[0].records, 500 - waiting(&bench, "greedy"));
    assert!(losses[0].bytes >= losses[0].records * 128, "{losses:?}");
    assert!(losses[0].unix_ms > 0);
    let newest = take_all(&mut bench, 4, "greedy");
    assert_eq!(newest, (500 - newest.len()..500).map(|n| format!("{n:05}")).collect::<Vec<_>>());
    assert_eq!(newest.len() as u64 + losses[0].records, 500);
    let rare = take_all(&mut bench, 5, "modest");
    assert_eq!(rare, (0..10).map(|n| format!("{n:05}")).collect::<Vec<_>>());
    assert_eq!((waiting(&bench, "greedy"), waiting(&bench, "modest")), (0, 0));
    // Nobody needs anything of the spool any more.
    bench.pass(Duration::from_secs(2));
    let gateway = &bench.gateway;
    let end = gateway.log.next_seq(gateway.sessions.spool);
    assert_eq!(gateway.log.cursor(gateway.sessions.reader), end);
}

#[test]
fn a_quota_of_bytes_counts_too() {
    let mut plan = quota_plan();
    plan.broker.max_packet = 1_000;
    plan.broker.max_spooled_bytes_per_session = 8_000;
    let mut bench = Bench::new(plan, echo());
    absent(&mut bench, 1, "s", "other/#");
    let publisher = bench.connect(2, "p");
    publish_some(&mut bench, publisher, "other/t", 0..79);
    bench.pass(Duration::from_secs(2));
    let stats = bench.gateway.broker.stats();
    let spooled = stats.sessions.iter().map(|session| session.spooled.bytes).max();
    assert!((6_500..=8_000).contains(&spooled.unwrap_or(0)), "{spooled:?}");
    assert_eq!(lost_by(&bench, "s") + waiting(&bench, "s"), 79);
}

#[test]
fn what_was_sent_is_kept_while_newer_messages_go() {
    let mut bench = Bench::new(quota_plan(), echo());
    let stuck = connect_kept(&mut bench, 1, "stuck");
    bench.subscribe(stuck, "other/#");
    bench.pass(SETTLE);
    let publisher = bench.connect(2, "p");
    publish_some(&mut bench, publisher, "other/t", 0..30);
    let sent = payloads_of(&bench, stuck);
    assert_eq!(sent.len(), 30, "all of them are under way");
    publish_some(&mut bench, publisher, "other/t", 30..400);
    let under_way = payloads_of(&bench, stuck);
    assert_eq!(waiting(&bench, "stuck") + lost_by(&bench, "stuck"), 400);
    for (id, _, _) in &under_way {
        bench.bytes(stuck, 0x40, &id.to_be_bytes());
    }
    bench.pass(SETTLE);
    assert!(payloads_of(&bench, stuck).starts_with(&sent));
}

/// Everything that was published has come once, or is in the ledger.
fn check_after(bench: &mut Bench, conn: u64, before: usize, published: u16, case: &str) {
    bench.pass(Duration::from_secs(3));
    assert!(waiting(bench, "s") <= QUOTA, "{case}: {} wait", waiting(bench, "s"));
    let waits = waiting(bench, "s");
    let got = take_all(bench, conn, "s");
    assert_eq!(got.len() as u64, waits, "{case}: what was counted is what comes");
    let all: BTreeSet<&String> = got.iter().collect();
    assert_eq!(all.len(), got.len(), "{case}: twice");
    bench.pass(Duration::from_secs(2));
    let lost = lost_by(bench, "s");
    assert_eq!(before as u64 + got.len() as u64 + lost, u64::from(published), "{case}");
}

#[test]
fn quotas_count_again_what_waits_after_a_power_cut() {
    for published in [30, 79, 100, 333] {
        let mut bench = Bench::new(quota_plan(), echo());
        absent(&mut bench, 1, "s", "other/#");
        let publisher = bench.connect(2, "p");
        publish_some(&mut bench, publisher, "other/t", 0..published);
        let mut bench = restarted(bench.disk.crash(7), bench.now);
        let publisher = bench.connect(3, "p");
        publish_some(&mut bench, publisher, "other/t", published..published + 60);
        check_after(&mut bench, 4, 0, published + 60, &format!("{published} before"));
    }
}

#[test]
fn a_message_is_delivered_or_in_the_ledger_whenever_the_power_fails() {
    let run = |disk: CrashDisk| {
        let mut bench = Bench::on(disk, quota_plan(), echo());
        absent(&mut bench, 1, "s", "other/#");
        let publisher = bench.connect(2, "p");
        let mut acknowledged = 0;
        for number in 0..170_u16 {
            if bench.disk.has_crashed() {
                break;
            }
            acknowledged = bench.pubacks(publisher).len() as u64;
            bench.publish(publisher, number + 1, "other/t", &format!("{number:05}"));
            bench.pass(Duration::from_millis(20));
        }
        (bench, acknowledged)
    };
    let (whole, _) = run(CrashDisk::new());
    let operations = whole.disk.operations();
    for operation in (10..operations).step_by(7) {
        let disk = CrashDisk::new();
        disk.crash_at(operation);
        let (bench, acknowledged) = run(disk);
        let mut bench = restarted(bench.disk.crash(operation), bench.now);
        bench.pass(Duration::from_secs(3));
        let got = take_all(&mut bench, 9, "s").len() as u64;
        bench.pass(Duration::from_secs(2));
        let accounted = got + lost_by(&bench, "s");
        // What was on its way when the power failed may have reached the disk.
        assert!(
            (acknowledged..=acknowledged + 2).contains(&accounted),
            "cut at {operation}: {got} came, {accounted} accounted for of {acknowledged}"
        );
    }
}

#[test]
fn what_was_under_way_below_a_floor_is_accounted_for_after_a_power_cut() {
    let mut bench = Bench::new(quota_plan(), echo());
    let stuck = connect_kept(&mut bench, 1, "s");
    bench.subscribe(stuck, "other/#");
    bench.pass(SETTLE);
    let publisher = bench.connect(2, "p");
    publish_some(&mut bench, publisher, "other/t", 0..30);
    let acknowledged = 5;
    for (id, _, _) in &payloads_of(&bench, stuck)[..acknowledged] {
        bench.bytes(stuck, 0x40, &id.to_be_bytes());
    }
    publish_some(&mut bench, publisher, "other/t", 30..400);
    bench.pass(Duration::from_secs(2));
    let mut cut = restarted(bench.disk.crash(1), bench.now);
    check_after(&mut cut, 3, acknowledged, 400, "cut");
    // The same when its connection ends.
    bench.gateway.handle_closed(bench.now, stuck, "gone");
    check_after(&mut bench, 3, acknowledged, 400, "gone");
}

#[test]
fn a_spool_at_its_quota_says_whose_messages_went() {
    let mut plan = sessions_plan();
    plan.broker.max_queued_bytes = 256 * 1024;
    let mut bench = Bench::new(plan, echo());
    absent(&mut bench, 1, "a", "other/#");
    let publisher = bench.connect(2, "p");
    for number in 0..2_000_u16 {
        let payload = format!("{number:05}{}", "x".repeat(300));
        bench.publish(publisher, number + 1, "other/t", &payload);
        if number.is_multiple_of(20) {
            bench.pass(Duration::from_millis(20));
        }
    }
    bench.pass(Duration::from_secs(3));
    let losses = lost(&bench);
    assert_eq!((losses.len(), losses[0].reason.as_str()), (1, "spool-quota"), "{losses:?}");
    let got = take_all(&mut bench, 3, "a").len() as u64;
    let lost = lost_by(&bench, "a");
    assert!(got.abs_diff(2_000 - lost) < 50, "{got} came, {lost} lost: an estimate");
}

/// A subscriber whose session ends with its connection, that takes `window` messages.
fn stuck(bench: &mut Bench, conn: u64, client: &str) -> ConnId {
    let conn = ConnId(conn);
    bench.gateway.handle_open(bench.now, conn, "test".to_owned());
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 3, 0x21, 0, 1];
    body.extend([0, client.len() as u8]);
    body.extend(client.as_bytes());
    bench.bytes(conn, 0x10, &body);
    bench.subscribe(conn, "other/#");
    bench.pass(SETTLE);
    conn
}

fn slow_plan() -> Plan {
    let mut plan = sessions_plan();
    plan.broker.max_packet = 1_000;
    plan.broker.max_queued_bytes_per_session = 4_000;
    plan
}

#[test]
fn what_a_slow_subscriber_loses_is_in_the_ledger_and_costs_hardly_any_flash() {
    let mut bench = Bench::new(slow_plan(), echo());
    stuck(&mut bench, 1, "stuck");
    let publisher = bench.connect(2, "p");
    let groups = |bench: &Bench| bench.gateway.status(bench.now).disk.bytes_written;
    bench.pass(Duration::from_secs(5));
    let before = groups(&bench);
    let mut published = 0;
    for _ in 0..60 {
        for _ in 0..1_000 {
            published += 1;
            bench.publish(publisher, published % 60_000 + 1, "other/t", "x");
        }
        bench.pass(Duration::from_secs(1));
    }
    let lost = lost_by(&bench, "stuck");
    assert!(lost > 59_000, "{lost}");
    let status = bench.gateway.status(bench.now).broker;
    assert_eq!(status.session_losses[0].records, lost);
    assert_eq!((status.lost_by[0].client.as_str(), status.dropped), ("stuck", lost));
    let written = groups(&bench) - before;
    assert!(written < 200 * 1024, "{written} bytes for 60,000 messages in a minute");
    let told = bench.stream(LOSS_STREAM);
    assert!((1..=2).contains(&told.len()), "{}", told.len());
    let expected = r#"{"v":2,"gateway":"gw","stream":"$mqtt","session":"stuck","records":"#;
    assert!(told[0].1.starts_with(expected), "{}", told[0].1);
    assert_eq!(told[0].0, "tidegate/losses/$mqtt");
}

#[test]
fn each_loss_of_a_session_is_told_once_also_across_power_cuts() {
    let number = |json: &str| -> u64 {
        let digits = json.split_once("\"records\":").unwrap().1;
        digits.split(',').next().unwrap().parse().unwrap()
    };
    let mut bench = Bench::new(quota_plan(), echo());
    absent(&mut bench, 1, "s", "other/#");
    let mut published = 0;
    for cut in 1..8 {
        let publisher = bench.connect(100 + cut, "p");
        publish_some(&mut bench, publisher, "other/t", published..published + 90);
        published += 90;
        bench.pass(Duration::from_millis(cut * 317));
        bench = restarted(bench.disk.crash(cut), bench.now);
        bench.pass(Duration::from_millis(cut * 211));
    }
    bench.pass(Duration::from_secs(130));
    let bench = &mut restarted(bench.disk.crash(0), bench.now);
    bench.pass(Duration::from_secs(2));
    let told: u64 = records_told(bench).iter().map(|json| number(json)).sum();
    assert_eq!(told, lost_by(bench, "s"));
    assert_eq!(told + waiting(bench, "s"), u64::from(published));
}

/// The records of the stream `losses`, those included that only the disk has.
fn records_told(bench: &mut Bench) -> Vec<String> {
    super::losses::records(bench)
}

#[test]
fn a_thousand_absent_sessions_at_their_quota_have_no_message_in_memory() {
    let mut plan = quota_plan();
    plan.broker.max_sessions = 10_000;
    let mut bench = Bench::new(plan, echo());
    for number in 0..1_000_u64 {
        let client = format!("s{number}");
        let conn = ConnId(10 + number);
        bench.gateway.handle_open(bench.now, conn, "test".to_owned());
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0xFF, 0xFF];
        body.extend([0, client.len() as u8]);
        body.extend(client.as_bytes());
        bench.bytes(conn, 0x10, &body);
        bench.pass(Duration::from_millis(5));
        bench.subscribe(conn, "other/#");
        bench.pass(Duration::from_millis(5));
        bench.gateway.handle_closed(bench.now, conn, "gone");
    }
    bench.pass(Duration::from_secs(2));
    let publisher = bench.connect(1, "p");
    publish_some(&mut bench, publisher, "other/t", 0..200);
    bench.pass(Duration::from_secs(2));
    let stats = bench.gateway.broker.stats();
    assert_eq!(stats.queued_bytes, 0);
    assert_eq!(lost(&bench).len(), 1_000);
    for session in stats.sessions.iter().filter(|session| !session.connected) {
        assert!((1..=QUOTA).contains(&session.spooled.messages), "{session:?}");
    }
}

#[test]
fn a_session_that_stays_away_after_a_start_keeps_nothing_but_what_is_for_it() {
    // The second time something for the one that is away comes while the spool is counted again.
    for for_idle in [0_u16, 1] {
        let mut bench = Bench::new(quota_plan(), echo());
        absent(&mut bench, 1, "idle", "other/idle");
        absent(&mut bench, 2, "s", "other/t");
        let publisher = bench.connect(3, "p");
        publish_some(&mut bench, publisher, "other/t", 0..50);
        let mut bench = restarted(bench.disk.crash(7), bench.now);
        let publisher = bench.connect(4, "p");
        publish_some(&mut bench, publisher, "other/idle", 0..for_idle);
        publish_some(&mut bench, publisher, "other/t", 50..60);
        assert_eq!(take_all(&mut bench, 5, "s").len(), 60);
        bench.pass(Duration::from_secs(3));
        let (log, sessions) = (&bench.gateway.log, &bench.gateway.sessions);
        let waits = log.next_seq(sessions.spool).0 - log.cursor(sessions.reader).0;
        assert_eq!(waits, if for_idle == 0 { 0 } else { 11 });
        assert_eq!(take_all(&mut bench, 6, "idle").len(), usize::from(for_idle));
        assert_eq!(lost(&bench), []);
    }
}

/// Packet identifiers of the PUBRELs that a connection got.
fn pubrels(bench: &Bench, conn: ConnId) -> BTreeSet<u16> {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    let released = packets(bytes).filter(|(kind, _)| *kind == 0x62);
    released.map(|(_, body)| u16::from_be_bytes([body[0], body[1]])).collect()
}

fn publish_twice_sure(bench: &mut Bench, conn: ConnId, numbers: std::ops::Range<u16>) {
    for number in numbers {
        let id = (number + 1).to_be_bytes();
        let payload = format!("{number:05}");
        let body = [b"\0\x07other/t", &id[..], b"\0", payload.as_bytes()].concat();
        bench.bytes(conn, 0x34, &body);
        bench.pass(SETTLE);
        bench.bytes(conn, 0x62, &id);
    }
    bench.pass(SETTLE);
}

#[test]
fn what_was_sent_with_qos_2_and_goes_frees_its_identifier_at_the_client() {
    for (restart, published) in [(false, 100), (false, 250), (true, 100), (true, 250)] {
        let mut bench = Bench::new(quota_plan(), echo());
        let subscriber = connect_kept(&mut bench, 1, "s");
        bench.bytes(subscriber, 0x82, b"\0\x01\0\0\x07other/#\x02");
        bench.pass(SETTLE);
        let publisher = bench.connect(2, "p");
        publish_twice_sure(&mut bench, publisher, 0..30);
        let first = payloads_of(&bench, subscriber);
        assert_eq!(first.len(), 30);
        // Its PUBRECs are lost with the connection.
        bench.gateway.handle_closed(bench.now, subscriber, "gone");
        publish_twice_sure(&mut bench, publisher, 30..60);
        if restart {
            bench.pass(Duration::from_secs(2));
            bench = restarted(bench.disk.crash(7), bench.now);
            bench.pass(Duration::from_secs(2));
        }
        let publisher = bench.connect(3, "p");
        publish_twice_sure(&mut bench, publisher, 60..published);
        let subscriber = connect_kept(&mut bench, 4, "s");
        bench.pass(SETTLE);
        let again: BTreeSet<u16> =
            payloads_of(&bench, subscriber).into_iter().map(|(id, _, _)| id).collect();
        let released = pubrels(&bench, subscriber);
        for (id, _, payload) in first {
            assert!(
                again.contains(&id) != released.contains(&id),
                "{payload}, restart {restart}, {published}: {released:?} {again:?}"
            );
        }
        assert!(!released.is_empty());
        for id in released {
            bench.bytes(subscriber, 0x70, &id.to_be_bytes());
        }
        assert!(!bench.gateway.broker.stats().sessions.is_empty());
        let waits: u64 = waiting(&bench, "s");
        assert!(waits <= QUOTA, "{waits}");
    }
}
