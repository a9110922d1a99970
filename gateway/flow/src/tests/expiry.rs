//! Keys of state with a time to live.

use std::cell::RefCell;
use std::rc::Rc;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::Ordering;

/// The keys that each call saw.
type Seen = Rc<RefCell<Vec<Vec<String>>>>;

/// Does what the payloads say: `put KEY TTL`, `del KEY`; another one does nothing.
fn obedient() -> (Guest, Seen) {
    let seen = Seen::default();
    let notes = seen.clone();
    let guest: Guest = Box::new(move |_, batch, state| {
        let names = state.keys().map(|key| String::from_utf8_lossy(key).into_owned());
        notes.borrow_mut().push(names.collect());
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            let words = std::str::from_utf8(message.payload).unwrap();
            let words: Vec<&str> = words.split(' ').collect();
            let operation = match words[..] {
                ["put", key, ttl] => {
                    let (key, ttl_ms) = (key.as_bytes(), ttl.parse().unwrap());
                    Operation::KvPut { key, value: b"v", ttl_ms }
                }
                ["del", key] => Operation::KvDel { key: key.as_bytes() },
                _ => continue,
            };
            out.push(&operation).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    (guest, seen)
}

fn one(bench: &mut Bench, conn: ConnId, id: u16, payload: &str) {
    bench.publish(conn, id, "sensors/a", payload);
    bench.pass(Duration::from_millis(10));
}

/// Keys held, and bytes as the quota counts them.
fn held(bench: &Bench) -> (u64, u64) {
    let status = &bench.gateway.status(bench.now).functions[0];
    (status.state_keys, status.state_bytes)
}

/// Keys of the table of expiries, without the function's name.
fn expiring(bench: &mut Bench) -> Vec<String> {
    let table = bench.gateway.log.table("function-expiries").unwrap();
    let entries = bench.gateway.log.table_entries(table).keys();
    let text = |key: &Vec<u8>| String::from_utf8_lossy(key).strip_prefix("echo\0").map(Into::into);
    entries.filter_map(text).collect()
}

#[test]
fn a_key_goes_when_its_time_has_come_and_frees_its_quota() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 1, "put k 2000");
    // The key counts twice, and the entry of its expiry.
    assert_eq!((held(&bench), expiring(&mut bench)), ((1, 2 + 11), vec!["k".to_owned()]));
    bench.pass(Duration::from_millis(1_500));
    assert_eq!(held(&bench).0, 1);
    bench.pass(Duration::from_millis(1_500));
    assert_eq!((held(&bench), expiring(&mut bench)), ((0, 0), Vec::new()));
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_expired, 1);
}

#[test]
fn no_call_sees_a_key_whose_time_has_come_a_moment_ago() {
    let (guest, seen) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 1, "put k 300");
    one(&mut bench, conn, 2, "put stays 0");
    bench.pass(Duration::from_millis(200));
    one(&mut bench, conn, 3, "look");
    bench.pass(Duration::from_millis(80));
    one(&mut bench, conn, 4, "look");
    let seen = seen.borrow();
    assert_eq!(seen[2], ["k", "stays"]);
    assert_eq!(seen[3], ["stays"]);
}

#[test]
fn each_write_of_a_key_sets_its_time_anew() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    for (id, payload) in ["put a 100", "put b 100", "put c 100", "put d 100"].iter().enumerate() {
        one(&mut bench, conn, id as u16 + 1, payload);
    }
    for (id, payload) in ["put a 0", "put b 5000", "del c", "put e 100"].iter().enumerate() {
        one(&mut bench, conn, id as u16 + 5, payload);
    }
    bench.pass(Duration::from_secs(2));
    assert_eq!(expiring(&mut bench), ["b"]);
    assert_eq!(held(&bench), (2, 2 + 2 + 11));
    bench.pass(Duration::from_secs(4));
    assert_eq!((held(&bench), expiring(&mut bench)), ((1, 2), Vec::new()));
}

#[test]
fn nothing_expires_by_a_clock_that_is_not_trusted_and_its_time_counts_from_then_on() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    bench.now.clock = ClockQuality::Unsynced;
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 1, "put k 2000");
    bench.pass(Duration::from_secs(60));
    assert_eq!(held(&bench).0, 1);
    // The years that the clock jumps are not the key's.
    bench.now.unix_ms += 400_000_000_000;
    bench.now.clock = ClockQuality::Synced;
    bench.pass(Duration::from_millis(1_100));
    assert_eq!(held(&bench).0, 1);
    bench.pass(Duration::from_secs(3));
    assert_eq!(held(&bench), (0, 0));
}

#[test]
fn a_key_expires_while_the_gateway_is_off_but_not_before_the_clock_is_right_again() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 1, "put k 60000");
    one(&mut bench, conn, 2, "put later 300000");
    // State alone is in no hurry: it is on the disk with the next record.
    one(&mut bench, conn, 3, "look");
    bench.pass(SETTLE);
    let (guest, seen) = obedient();
    let mut bench = Bench::on(bench.disk.crash(3), plan(), guest);
    assert_eq!(held(&bench).1, (2 + 11) + (6 + 15));
    bench.now.clock = ClockQuality::Unsynced;
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 4, "look");
    bench.now.unix_ms += 120_000;
    bench.now.clock = ClockQuality::Synced;
    one(&mut bench, conn, 5, "look");
    let seen = seen.borrow();
    assert_eq!(seen.first().unwrap(), &["k", "later"]);
    assert_eq!(seen.last().unwrap(), &["later"]);
}

#[test]
fn state_without_a_time_to_live_is_on_the_disk_as_it_always_was() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    one(&mut bench, conn, 1, "put k 0");
    assert!(expiring(&mut bench).is_empty());
    let table = bench.gateway.functions[0].table;
    let expected = BTreeMap::from([(b"k".to_vec(), b"v".to_vec())]);
    assert_eq!(**bench.gateway.log.table_entries(table), expected);
}

#[test]
fn a_time_to_live_counts_in_the_quota() {
    let (guest, _) = obedient();
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    let key = "k".repeat(30);
    one(&mut bench, conn, 1, &format!("put {key} 0"));
    one(&mut bench, conn, 2, &format!("put {key} 60000"));
    bench.pass(Duration::from_secs(2));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.contains("71 bytes, more than its quota of 64"), "{reason}");
    assert_eq!(held(&bench), (1, 31));
}

#[test]
fn more_keys_than_one_commit_takes_all_expire() {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.functions[0].batch_records = 256;
    let (guest, seen) = obedient();
    let mut bench = Bench::new(plan, guest);
    let conn = bench.connect(1, "s1");
    for id in 1..=300 {
        bench.publish(conn, id, "sensors/a", &format!("put {id:0100} 500"));
    }
    bench.pass(Duration::from_millis(100));
    assert_eq!(held(&bench).0, 300);
    bench.pass(Duration::from_millis(500));
    one(&mut bench, conn, 301, "look");
    assert!(seen.borrow().last().unwrap().is_empty());
    assert_eq!((held(&bench), expiring(&mut bench).len()), ((0, 0), 0));
}

/// Runs with the power cut at a disk operation; then the state and its expiries must agree, and
/// in the end nothing is left but what has no time to live.
fn run_with_cut(plan: &Plan, before: &CrashDisk, at: u64) -> bool {
    let now = start();
    let disk = before.after_kill();
    disk.crash_at(at);
    let mut after = disk.clone();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = before.after_kill();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), obedient().0);
        let conn = bench.connect(1, "s1");
        for id in 1..=12 {
            bench.publish(conn, id, "sensors/k", "look");
            bench.pass(Duration::from_millis(200));
        }
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), obedient().0);
    let table = bench.gateway.functions[0].table;
    let state = bench.gateway.log.table_entries(table).keys();
    let temporary = state.map(|key| String::from_utf8_lossy(key).into_owned());
    let temporary: Vec<String> = temporary.filter(|key| key.starts_with('t')).collect();
    assert_eq!(temporary, expiring(&mut bench), "cut at {at}");
    bench.pass(Duration::from_secs(4));
    assert_eq!((held(&bench), expiring(&mut bench).len()), ((2, 6), 0), "cut at {at}");
    cut
}

#[test]
fn state_and_expiries_agree_whenever_the_power_is_cut() {
    let plan = ordered(Ordering::Strict, 1);
    let payload = |n: u32| match n {
        11 => "put p1 0".to_owned(),
        15 => "put p2 0".to_owned(),
        n if n % 4 == 3 => format!("del t{:02}", n - 1),
        n => format!("put t{n:02} {}", 300 * (n % 5 + 1)),
    };
    let readings: Vec<(String, String)> =
        (1..=24).map(|n| (format!("k{}", n % 3), payload(n))).collect();
    let before = preloaded(&plan, &readings);
    let cuts = (1..).take_while(|at| run_with_cut(&plan, &before, *at)).count();
    assert!(cuts > 20, "only {cuts} disk operations: too few to mean anything");
}
