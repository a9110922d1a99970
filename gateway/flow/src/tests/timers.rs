//! Timers that functions set.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_abi::Kind;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::Ordering;

/// What was given of timers: name, when it was due, `missed`, attempt.
type Given = Rc<RefCell<Vec<(String, i64, u64, u16)>>>;

/// Does what records say: `set NAME DELAY PERIOD`. Counts timers in its state, by name, and
/// publishes each. A timer called `bad` fails; one called `later` is wanted again once.
fn ticking() -> (Guest, Given) {
    let given = Given::default();
    let notes = given.clone();
    let guest: Guest = Box::new(move |_, batch, state| {
        let mut out = OutputWriter::new();
        for entry in batch.iter() {
            if batch.header().kind == Kind::Timer {
                let missed = tidegate_abi::properties(entry.props).unwrap().next();
                let missed = missed.map_or(0, |(_, value)| value.parse().unwrap());
                let due_ms = entry.ts_ns / 1_000_000;
                notes.borrow_mut().push((entry.topic.into(), due_ms, missed, entry.attempt));
                match (entry.topic, entry.attempt) {
                    ("bad", _) => return CallVerdict::Failed("it trapped".to_owned()),
                    ("later", 0) => return CallVerdict::RetryBatch,
                    _ => {}
                }
                let key = entry.topic.as_bytes();
                let count = state.get(key).map_or(0, |value| value[0]) + 1;
                out.push(&Operation::KvPut { key, value: &[count], ttl_ms: 0 }).unwrap();
                emit(&mut out, "alerts/tick", format!("{} {}", entry.topic, entry.seq).as_bytes());
                continue;
            }
            let words = std::str::from_utf8(entry.payload).unwrap();
            let words: Vec<&str> = words.split(' ').collect();
            let ["set", name, delay, period] = words[..] else { continue };
            let (delay_ms, period_ms) = (delay.parse().unwrap(), period.parse().unwrap());
            out.push(&Operation::TimerSet { name, delay_ms, period_ms }).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    (guest, given)
}

const BEGAN_MS: i64 = 1_780_000_000_000;

fn small() -> Plan {
    ordered(Ordering::Strict, 1)
}

/// A gateway whose function has done what these records say.
fn told(plan: Plan, records: &[&str]) -> (Bench, Given) {
    let (guest, given) = ticking();
    let mut bench = Bench::new(plan, guest);
    let conn = bench.connect(1, "s1");
    for (id, payload) in records.iter().enumerate() {
        bench.publish(conn, id as u16 + 1, "sensors/a", payload);
    }
    bench.pass(Duration::from_millis(100));
    (bench, given)
}

/// What a call alone commits is in no hurry: it is on the disk with the next record.
fn settle(bench: &mut Bench) {
    let conn = bench.connect(2, "s2");
    bench.publish(conn, 1, "sensors/a", "nothing");
    bench.pass(SETTLE);
}

fn names(given: &Given) -> Vec<String> {
    given.borrow().iter().map(|(name, ..)| name.clone()).collect()
}

fn status(bench: &Bench) -> (u64, u64, u64) {
    let status = &bench.gateway.status(bench.now).functions[0];
    (status.timers, status.timers_given, status.timers_passed)
}

#[test]
fn a_timer_fires_once_after_its_delay_or_each_period_from_then_on() {
    let (mut bench, given) = told(small(), &["set beat 1000 500", "set once 2000 0"]);
    assert_eq!(status(&bench), (2, 0, 0));
    bench.pass(Duration::from_millis(2_600));
    assert_eq!(names(&given), ["beat", "beat", "beat", "once", "beat"].map(str::to_owned));
    let beats: Vec<i64> =
        given.borrow().iter().filter(|one| one.0 == "beat").map(|b| b.1).collect();
    assert!(beats.windows(2).all(|pair| (499..=501).contains(&(pair[1] - pair[0]))), "{beats:?}");
    assert_eq!(status(&bench), (1, 5, 0));
    let sequences: Vec<String> = bench.payloads("alerts");
    assert_eq!(sequences, ["beat 1", "beat 2", "beat 3", "once 4", "beat 5"]);
}

#[test]
fn a_timer_is_replaced_and_cancelled_by_its_name() {
    let (mut bench, given) = told(
        small(),
        &["set a 500 0", "set b 500 0", "set a 1500 0", "set b 0 0", "set never 0 0"],
    );
    bench.pass(Duration::from_secs(1));
    assert!(given.borrow().is_empty());
    bench.pass(Duration::from_secs(2));
    assert_eq!(names(&given), ["a"]);
    assert_eq!(status(&bench), (0, 1, 0));
}

#[test]
fn what_was_due_while_the_gateway_was_off_comes_once_and_the_grid_stays() {
    let (mut bench, _) = told(small(), &["set beat 1000 60000", "set once 30000 0"]);
    bench.pass(Duration::from_secs(2));
    settle(&mut bench);
    let (guest, given) = ticking();
    let mut bench = Bench::on(bench.disk.crash(3), small(), guest);
    // The bench begins anew at the same time: the gateway was off for 200 s.
    bench.now.unix_ms += 200_000;
    bench.pass(Duration::from_secs(50));
    let given = given.borrow();
    let of = |name: &str| given.iter().filter(|one| one.0 == name).cloned().collect::<Vec<_>>();
    assert_eq!(of("once").len(), 1);
    let beats = of("beat");
    assert_eq!((beats.len(), beats[0].2, beats[1].2), (2, 2, 0), "{beats:?}");
    assert!((59_999..=60_001).contains(&(beats[1].1 - beats[0].1)), "{beats:?}");
    assert!((1_000..1_100).contains(&((beats[0].1 - BEGAN_MS) % 60_000)), "{beats:?}");
}

#[test]
fn after_a_start_timers_wait_for_a_clock_that_can_be_trusted() {
    let (mut bench, _) = told(small(), &["set once 30000 0"]);
    settle(&mut bench);
    let (guest, given) = ticking();
    let mut bench = Bench::on(bench.disk.after_kill(), small(), guest);
    bench.now.clock = ClockQuality::Unsynced;
    bench.now.unix_ms = 1_000_000;
    bench.pass(Duration::from_secs(120));
    assert!(given.borrow().is_empty());
    bench.now.clock = ClockQuality::Synced;
    bench.now.unix_ms = BEGAN_MS + 10_000;
    bench.pass(Duration::from_secs(10));
    assert!(given.borrow().is_empty());
    bench.pass(Duration::from_secs(12));
    assert_eq!(names(&given), ["once"]);
}

#[test]
fn a_wall_clock_that_jumps_changes_nothing_while_the_gateway_runs() {
    let (mut bench, given) = told(small(), &["set beat 1000 1000"]);
    bench.now.unix_ms += 400_000_000;
    bench.pass(Duration::from_millis(1_500));
    assert_eq!(given.borrow().len(), 1);
    bench.now.unix_ms -= 800_000_000;
    bench.pass(Duration::from_secs(2));
    assert_eq!(given.borrow().len(), 3);
    assert!(given.borrow().iter().all(|one| one.2 == 0));
}

#[test]
fn timers_are_bounded_and_denied_where_none_are_granted() {
    let reason = |bench: &mut Bench| {
        bench.pass(Duration::from_secs(2));
        let dead = bench.stream(DEAD_LETTER_STREAM);
        dead[0].2.dead.as_ref().unwrap().reason.clone()
    };
    let mut plan = small();
    plan.functions[0].batch_records = 1;
    plan.functions[0].timers = 2;
    let sets = ["set a 60000 0", "set b 60000 0", "set a 60000 9", "set c 60000 0"];
    let (mut bench, _) = told(plan.clone(), &sets);
    assert!(reason(&mut bench).contains("3 timers, more than `timers` = 2"));
    assert_eq!(status(&bench).0, 2);
    plan.functions[0].timers = 0;
    let (mut bench, _) = told(plan, &["set a 1000 0"]);
    assert!(reason(&mut bench).contains("denied: TIMER_SET is not granted"));
    let (mut bench, _) = told(small(), &["set a 9999999999999999 0"]);
    assert!(reason(&mut bench).contains("more than 100 years"));
}

#[test]
fn a_timer_that_fails_is_tried_again_as_it_was_and_passed_in_the_end() {
    let (mut bench, given) = told(small(), &["set bad 1000 60000", "set later 1000 0"]);
    bench.pass(Duration::from_secs(10));
    let attempts = |name: &str| -> Vec<(i64, u16)> {
        let given = given.borrow();
        given.iter().filter(|one| one.0 == name).map(|one| (one.1, one.3)).collect()
    };
    let bad = attempts("bad");
    assert_eq!(bad.iter().map(|one| one.1).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(bad.iter().all(|one| one.0 == bad[0].0), "the same frame: {bad:?}");
    assert_eq!(attempts("later").len(), 2);
    assert_eq!(status(&bench), (1, 2, 1));
    assert!(bench.payloads(DEAD_LETTER_STREAM).is_empty());
    bench.pass(Duration::from_secs(55));
    assert_eq!(attempts("bad").len(), 6, "a period later it is given again");
    let apart = attempts("bad")[3].0 - bad[0].0;
    assert!((59_999..=60_001).contains(&apart), "{apart} ms");
}

#[test]
fn with_strict_ordering_a_timer_and_records_are_never_in_calls_at_the_same_time() {
    let (mut bench, _) = told(small(), &["set beat 10 10"]);
    bench.calls_take_time = true;
    bench.pass(Duration::from_secs(1));
    let conn = bench.connect(2, "s2");
    for id in 1..=20 {
        bench.publish(conn, id, "sensors/a", "r");
        bench.pass(Duration::from_millis(15));
        assert_eq!(bench.held_calls.len(), 1);
        bench.end_call(0);
    }
    // Without order they are, but for the timer itself.
    let (mut bench, _) = told(ordered(Ordering::None, 4), &["set beat 10 10"]);
    bench.calls_take_time = true;
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.held_calls.len(), 1);
    let conn = bench.connect(2, "s2");
    bench.publish(conn, 1, "sensors/a", "r");
    bench.pass(Duration::from_millis(15));
    assert_eq!(bench.held_calls.len(), 2);
}

#[test]
fn a_timer_that_is_set_anew_while_it_is_in_a_call_comes_when_the_new_one_says() {
    let (mut bench, given) = told(ordered(Ordering::None, 2), &["set beat 1000 1000"]);
    bench.calls_take_time = true;
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.held_calls.len(), 1);
    let conn = bench.connect(2, "s2");
    for (id, payload) in ["set beat 0 0", "set beat 5000 0"].iter().enumerate() {
        bench.publish(conn, id as u16 + 1, "sensors/a", payload);
        bench.pass(Duration::from_millis(15));
        bench.end_call(1);
        assert_eq!(status(&bench).0, id as u64);
    }
    bench.pass(Duration::from_secs(6));
    assert_eq!(bench.held_calls.len(), 1, "not two calls of one timer at a time");
    bench.end_call(0);
    assert_eq!((status(&bench).0, given.borrow().len()), (1, 1), "the new one is not done by it");
    bench.end_call(0);
    assert_eq!((status(&bench), given.borrow().len()), ((0, 2, 0), 2));
}

#[test]
fn a_paused_function_is_given_no_timer_until_it_is_resumed() {
    let (mut bench, given) = told(small(), &["set beat 1000 1000"]);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    bench.pass(Duration::from_secs(5));
    assert!(given.borrow().is_empty());
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(Duration::from_millis(100));
    assert_eq!(given.borrow().iter().map(|one| one.2).collect::<Vec<_>>(), [4]);
}

/// Runs with the power cut at a disk operation: each timer that counted has published once.
fn run_with_cut(plan: &Plan, before: &CrashDisk, at: u64) -> bool {
    let now = start();
    let disk = before.after_kill();
    disk.crash_at(at);
    let mut after = disk.clone();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = before.after_kill();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), ticking().0);
        bench.pass(Duration::from_millis(2_500));
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), ticking().0);
    bench.now.unix_ms += 3_000;
    bench.pass(Duration::from_secs(2));
    let table = bench.gateway.functions[0].table;
    let state = bench.gateway.log.table_entries(table).clone();
    let published = bench.payloads("alerts");
    for name in ["beat", "once"] {
        let counted = state.get(name.as_bytes()).map_or(0, |value| usize::from(value[0]));
        let out = published.iter().filter(|one| one.starts_with(name)).count();
        assert_eq!(counted, out, "{name}, cut at {at}: {published:?}");
        assert!(if name == "once" { out == 1 } else { out >= 3 }, "{name}, cut at {at}: {out}");
    }
    let distinct: std::collections::BTreeSet<&String> = published.iter().collect();
    assert_eq!(distinct.len(), published.len(), "cut at {at}: {published:?}");
    assert_eq!(status(&bench).0, 1, "cut at {at}");
    cut
}

#[test]
fn no_timer_is_lost_or_counts_twice_whenever_the_power_is_cut() {
    let plan = small();
    let readings = ["set beat 300 300", "set once 1000 0"].map(|p| ("k".to_owned(), p.to_owned()));
    let before = preloaded(&plan, &readings);
    let cuts = (1..).take_while(|at| run_with_cut(&plan, &before, *at)).count();
    assert!(cuts > 20, "only {cuts} disk operations: too few to mean anything");
}
