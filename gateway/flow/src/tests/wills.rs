//! Wills across kills, power cuts and orderly ends of the gateway.

use super::sessions::{connect_kept, payloads_of, sessions_plan};
use super::*;

/// A session that is kept for so many seconds, with a will to "sensors/will" (a stream takes it)
/// that waits so many.
fn connect_with_will(bench: &mut Bench, conn: u64, client: &str, expiry: u8, delay: u8) -> ConnId {
    let conn = ConnId(conn);
    bench.gateway.handle_open(bench.now, conn, "test".to_owned());
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0x0C, 0, 0, 5, 0x11, 0, 0, 0, expiry];
    body.extend([0, client.len() as u8]);
    body.extend(client.as_bytes());
    body.extend([5, 0x18, 0, 0, 0, delay]);
    body.extend(b"\0\x0csensors/will\0\x04gone");
    bench.bytes(conn, 0x10, &body);
    conn
}

fn is_let_in(bench: &Bench, conn: ConnId) -> bool {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    packets(bytes).any(|(kind, _)| kind == 0x20)
}

fn restart(bench: Bench, disk: CrashDisk, off: Duration) -> Bench {
    let now = bench.now;
    let mut bench = Bench::new(sessions_plan(), echo());
    let mut now = Now { instant: bench.now.instant, ..now };
    now.unix_ms += off.as_millis() as i64;
    let (gateway, _) = Gateway::open(sessions_plan(), &disk, now, 7).unwrap();
    bench.gateway = gateway;
    bench.disk = disk;
    bench.now = now;
    bench.drain();
    bench
}

/// Records of wills in the stream.
fn wills(bench: &Bench) -> u64 {
    let gateway = &bench.gateway;
    gateway.log.next_seq(gateway.routes.id("telemetry").unwrap()).0 - 1
}

/// Keys of wills in the table.
fn kept_wills(bench: &Bench) -> usize {
    let gateway = &bench.gateway;
    let table = gateway.log.table_entries(gateway.sessions.table);
    table.keys().filter(|key| key[0] == b'w').count()
}

const MOMENT: Duration = Duration::from_millis(100);

#[test]
fn a_will_is_published_once_when_the_gateway_was_killed() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let watcher = connect_kept(&mut bench, 1, "w");
    bench.subscribe(watcher, "sensors/#");
    let conn = connect_with_will(&mut bench, 2, "c", 100, 0);
    assert!(!is_let_in(&bench, conn), "not before its will is on the disk");
    bench.pass(MOMENT);
    assert!(is_let_in(&bench, conn));
    for _ in 0..2 {
        let disk = bench.disk.after_kill();
        bench = restart(bench, disk, Duration::from_secs(1));
        bench.pass(Duration::from_secs(2));
        assert_eq!((wills(&bench), kept_wills(&bench)), (1, 0));
    }
    let watcher = connect_kept(&mut bench, 3, "w");
    bench.pass(MOMENT);
    let texts: Vec<_> = payloads_of(&bench, watcher).into_iter().map(|(_, _, text)| text).collect();
    assert_eq!(texts, ["gone"], "a subscriber that was away gets it too");
}

#[test]
fn a_will_is_published_once_whenever_the_power_fails() {
    for operation in 1..60 {
        let disk = CrashDisk::new();
        disk.crash_at(operation);
        let mut bench = Bench::on(disk, sessions_plan(), echo());
        let conn = connect_with_will(&mut bench, 1, "c", 100, 0);
        bench.pass(Duration::from_secs(2));
        let let_in = is_let_in(&bench, conn);
        let disk = match bench.disk.has_crashed() {
            true => bench.disk.crash(operation),
            false => bench.disk.after_kill(),
        };
        // Again while the will is published.
        disk.crash_at(disk.operations() + 1 + operation % 7);
        bench = restart(bench, disk, Duration::from_secs(1));
        bench.pass(Duration::from_secs(2));
        for round in 0..2 {
            let disk = match bench.disk.has_crashed() {
                true => bench.disk.crash(operation + round),
                false => bench.disk.after_kill(),
            };
            bench = restart(bench, disk, Duration::from_secs(1));
            bench.pass(Duration::from_secs(2));
        }
        let published = wills(&bench);
        assert!(published == 1 || (published == 0 && !let_in), "cut at {operation}: {published}");
        assert_eq!(kept_wills(&bench), 0, "cut at {operation}");
    }
}

#[test]
fn a_goodbye_discards_the_will_for_good() {
    let mut bench = Bench::new(sessions_plan(), echo());
    let conn = connect_with_will(&mut bench, 1, "c", 100, 0);
    bench.pass(MOMENT);
    bench.bytes(conn, 0xE0, &[]);
    bench.pass(MOMENT);
    assert_eq!(kept_wills(&bench), 0);
    let disk = bench.disk.after_kill();
    bench = restart(bench, disk, Duration::from_secs(1));
    bench.pass(Duration::from_secs(200));
    assert_eq!(wills(&bench), 0);
}

#[test]
fn delays_and_ends_of_sessions_count_from_the_moment_that_the_connection_was_lost() {
    // Expiry, delay, seconds that the gateway is off after the client's link broke (0: it never
    // did), when the will comes after the start.
    for (expiry, delay, off, comes) in [
        (100, 50, 0, 50),  // The power took the connection: from the start on.
        (20, 50, 0, 20),   // With the session.
        (100, 50, 30, 20), // Its link had broken before.
        (100, 50, 60, 0),
        (20, 50, 15, 5),
        (20, 50, 30, 0), // Its session ended while the gateway was off.
    ] {
        let mut bench = Bench::new(sessions_plan(), echo());
        let conn = connect_with_will(&mut bench, 1, "c", expiry, delay);
        bench.pass(MOMENT);
        if off > 0 {
            bench.gateway.handle_closed(bench.now, conn, "cut");
            bench.pass(Duration::from_secs(2));
        }
        let disk = bench.disk.after_kill();
        let since = if off > 0 { off - 2 } else { 5 };
        bench = restart(bench, disk, Duration::from_secs(since));
        let case = format!("expiry {expiry}, delay {delay}, off {off}");
        if comes > 1 {
            bench.pass(Duration::from_secs(comes - 1));
            assert_eq!(wills(&bench), 0, "{case}: too early");
        }
        bench.pass(Duration::from_secs(2));
        assert_eq!((wills(&bench), kept_wills(&bench)), (1, 0), "{case}");
    }
}

#[test]
fn a_client_that_is_back_in_time_has_no_will_of_before() {
    let mut bench = Bench::new(sessions_plan(), echo());
    connect_with_will(&mut bench, 1, "c", 100, 50);
    bench.pass(MOMENT);
    let disk = bench.disk.after_kill();
    bench = restart(bench, disk, Duration::from_secs(5));
    bench.pass(Duration::from_secs(40));
    let back = connect_kept(&mut bench, 2, "c");
    bench.pass(Duration::from_secs(60));
    assert!(is_let_in(&bench, back));
    assert_eq!((wills(&bench), kept_wills(&bench)), (0, 0));
}

#[test]
fn an_orderly_end_publishes_wills_and_leaves_delayed_ones_for_the_start() {
    let mut bench = Bench::new(sessions_plan(), echo());
    connect_with_will(&mut bench, 1, "now", 100, 0);
    connect_with_will(&mut bench, 2, "later", 100, 50);
    connect_with_will(&mut bench, 3, "ends", 0, 50);
    bench.pass(MOMENT);
    bench.gateway.shut_down(bench.now);
    bench.pass(Duration::from_secs(1));
    assert!(bench.gateway.is_idle());
    assert_eq!((wills(&bench), kept_wills(&bench)), (2, 1));
    let disk = bench.disk.after_kill();
    bench = restart(bench, disk, Duration::from_secs(30));
    bench.pass(Duration::from_secs(10));
    assert_eq!(wills(&bench), 2);
    bench.pass(Duration::from_secs(10));
    assert_eq!((wills(&bench), kept_wills(&bench)), (3, 0));
}

#[test]
fn a_will_that_the_log_refuses_is_not_tried_for_ever() {
    let mut plan = sessions_plan();
    plan.streams[0].overflow = Overflow::Reject;
    plan.streams[0].max_bytes = 16 * 1024;
    plan.streams[0].retain = Duration::from_secs(3600);
    let mut bench = Bench::new(plan, echo());
    let filler = bench.connect(1, "f");
    for id in 1..=60 {
        bench.publish(filler, id, "sensors/x", &"x".repeat(1000));
        bench.pass(Duration::from_millis(20));
    }
    assert!(bench.pubacks(filler).iter().any(|(_, reason)| *reason == 0x97), "it is full");
    let conn = connect_with_will(&mut bench, 2, "c", 100, 0);
    bench.pass(MOMENT);
    assert_eq!(kept_wills(&bench), 1);
    bench.gateway.handle_closed(bench.now, conn, "cut");
    bench.pass(MOMENT);
    assert_eq!(kept_wills(&bench), 0);
}
