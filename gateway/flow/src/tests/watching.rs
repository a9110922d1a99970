//! Functions that are told of what changes in the state of another.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_abi::Kind;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::{EVENT_STREAM, Ordering, WatchPlan};

/// What the watcher was told, in order, without version, gateway, name and time.
type Told = Rc<RefCell<Vec<String>>>;

/// `keeper` does what the payloads say: `put KEY VALUE [TTL]`, `del KEY`; `watcher` notes what it
/// is told, and publishes it.
fn keeper_and_watcher() -> (Guest, Told) {
    let told = Told::default();
    let notes = told.clone();
    let guest: Guest = Box::new(move |_, batch, _| {
        let mut out = OutputWriter::new();
        for entry in batch.iter() {
            if batch.header().kind == Kind::Event {
                assert_eq!((entry.topic, entry.props, entry.source), ("state", &[][..], 0));
                let text = members(std::str::from_utf8(entry.payload).unwrap());
                emit(&mut out, "alerts/told", text.as_bytes());
                notes.borrow_mut().push(text);
                continue;
            }
            let words: Vec<&[u8]> = entry.payload.splitn(4, |byte| *byte == b' ').collect();
            let operation = match words[..] {
                [b"put", key, value] => Operation::KvPut { key, value, ttl_ms: 0 },
                [b"put", key, value, ttl] => {
                    let ttl_ms = String::from_utf8_lossy(ttl).parse().unwrap();
                    Operation::KvPut { key, value, ttl_ms }
                }
                [b"del", key] => Operation::KvDel { key },
                _ => panic!("no such thing"),
            };
            out.push(&operation).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    (guest, told)
}

fn members(json: &str) -> String {
    let text = json.strip_prefix(r#"{"v":1,"gateway":"gw","event":"state","unix_ms":"#).unwrap();
    let at = text.find(r#","function":"keeper","#).unwrap();
    text[at + 21..].trim_matches([',', '}']).to_owned()
}

fn watch(function: &str, prefix: &str) -> WatchPlan {
    WatchPlan { function: function.to_owned(), prefix: prefix.to_owned() }
}

/// `keeper` reads records one at a time; `watcher` is told of what begins with these.
fn watching(prefixes: &[&str]) -> Plan {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.functions[0].name = "keeper".to_owned();
    plan.functions[0].batch_records = 1;
    let mut watcher = FunctionPlan { name: "watcher".to_owned(), ..plan.functions[0].clone() };
    watcher.inputs.clear();
    watcher.watches = prefixes.iter().map(|prefix| watch("keeper", prefix)).collect();
    plan.functions.push(watcher);
    plan
}

fn tell(bench: &mut Bench, payloads: &[&str]) {
    let conn = bench.connect(1, "s1");
    for (id, payload) in (1..).zip(payloads) {
        bench.publish(conn, id, "sensors/a", payload);
    }
    bench.pass(SETTLE);
}

#[test]
fn each_change_of_a_watched_key_is_told_with_what_was_there_and_what_is_there_now() {
    let (guest, told) = keeper_and_watcher();
    let mut bench = Bench::new(watching(&["limit/"]), guest);
    let steps = ["put limit/a 1", "put limit/a 2", "put limits 9", "put limit/ x", "del limit/a"];
    tell(&mut bench, &[&steps[..], &["del limit/b", "put limit/ x"]].concat());
    let expected = [
        r#""key":"limit/a","new":"1""#,
        r#""key":"limit/a","old":"1","new":"2""#,
        r#""key":"limit/","new":"x""#,
        r#""key":"limit/a","old":"2""#,
    ];
    assert_eq!(*told.borrow(), expected, "nothing of what stays as it is, or begins otherwise");
}

#[test]
fn what_one_call_does_to_a_key_is_one_change() {
    let (guest, told) = keeper_and_watcher();
    let mut plan = watching(&["", "n"]);
    plan.functions[0].batch_records = 8;
    let steps = ["put n 1", "put m 1", "put n 2", "del m", "put n 3"];
    let readings: Vec<_> = steps.iter().map(|step| ("k".to_owned(), step.to_string())).collect();
    let mut bench = Bench::on(preloaded(&plan, &readings), plan, guest);
    bench.pass(SETTLE);
    assert_eq!(*told.borrow(), [r#""key":"n","new":"3""#], "also where two prefixes fit");
}

#[test]
fn a_key_whose_time_is_over_has_changed() {
    let (guest, told) = keeper_and_watcher();
    let mut bench = Bench::new(watching(&["n"]), guest);
    tell(&mut bench, &["put n 1 60000", "put m 1 60000", "put n 1 90000"]);
    bench.pass(Duration::from_secs(80));
    assert_eq!(told.borrow().len(), 1, "a longer time to live is no change of the value");
    bench.pass(Duration::from_secs(20));
    let expected = [r#""key":"n","new":"1""#, r#""key":"n","old":"1""#];
    assert_eq!(*told.borrow(), expected);
}

#[test]
fn many_keys_that_expire_at_once_are_told_in_more_than_one_commit() {
    let (guest, told) = keeper_and_watcher();
    let mut plan = watching(&[""]);
    plan.log.max_frame_bytes = 1 << 20;
    plan.log.segment_bytes = 4 << 20;
    let mut bench = Bench::new(plan, guest);
    let value = "v".repeat(4_000);
    let steps: Vec<String> = (0..100).map(|n| format!("put k{n} {value} 60000")).collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    tell(&mut bench, &steps);
    bench.pass(Duration::from_secs(70));
    let gone = told.borrow().iter().filter(|one| !one.contains("\"new\"")).count();
    assert_eq!((gone, told.borrow().len()), (100, 200));
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_bytes, 0);
}

#[test]
fn bytes_that_are_no_text_are_told_as_digits_and_long_values_by_their_length() {
    let mut bench = Bench::new(watching(&[""]), keeper_and_watcher().0);
    let long = vec![b'x'; 5_000];
    for (key, old, new) in
        [(&b"\xff\0"[..], None, Some(&b"\x80"[..])), (b"k", Some(&long[..4_096]), Some(&long[..]))]
    {
        bench.gateway.tell_of_change(bench.now, "keeper", key, (old, new)).unwrap();
    }
    bench.pass(SETTLE);
    let told: Vec<String> = bench.payloads(EVENT_STREAM).iter().map(|json| members(json)).collect();
    assert_eq!(told[0], r#""key_hex":"ff00","new_hex":"80""#);
    let old = "x".repeat(4_096);
    assert_eq!(told[1], format!(r#""key":"k","old":"{old}","new_bytes":5000"#));
    let of = |bench: &mut Bench, function: &str| {
        bench.gateway.tell_of_change(bench.now, function, b"k", (None, Some(b"1")))
    };
    let refused = of(&mut bench, "nobody").unwrap_err();
    assert!(refused.contains("no `watch` names it"), "{refused}");
}

#[test]
fn changes_wait_on_flash_for_a_watcher_that_is_paused_and_are_for_it_alone() {
    let mut plan = watching(&["n"]);
    let (guest, told) = keeper_and_watcher();
    let mut bench = Bench::new(plan.clone(), guest);
    bench.gateway.pause_function(bench.now, "watcher").unwrap();
    tell(&mut bench, &["put n 1", "put n 2"]);
    assert!(told.borrow().is_empty());
    // One that begins later was not told.
    plan.functions.push(FunctionPlan { name: "late".to_owned(), ..plan.functions[1].clone() });
    let (guest, told) = keeper_and_watcher();
    let mut bench = Bench::on(bench.disk.crash(1), plan, guest);
    bench.pass(SETTLE);
    assert!(told.borrow().is_empty());
    bench.gateway.resume_function(bench.now, "watcher").unwrap();
    bench.pass(SETTLE);
    let expected = [r#""key":"n","new":"1""#, r#""key":"n","old":"1","new":"2""#];
    assert_eq!(*told.borrow(), expected);
}

#[test]
fn nothing_is_written_of_state_that_nobody_watches() {
    let mut plan = watching(&[]);
    plan.functions.pop();
    let mut bench = Bench::new(plan, keeper_and_watcher().0);
    tell(&mut bench, &["put n 1"]);
    assert!(bench.gateway.stream(EVENT_STREAM).is_none());
}

#[test]
fn more_changes_than_a_commit_can_tell_fail_the_call_and_say_so() {
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        let keys = if batch.header().kind == Kind::Messages { 2_000 } else { 0 };
        for key in 0..keys {
            let key = format!("key/{key}");
            let put = Operation::KvPut { key: key.as_bytes(), value: b"v", ttl_ms: 0 };
            out.push(&put).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(watching(&["key/"]), guest);
    tell(&mut bench, &["x"]);
    bench.pass(Duration::from_secs(1));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.contains("to tell those who watch it, more than 262144"), "{reason}");
    assert!(bench.payloads(EVENT_STREAM).is_empty());
}

#[test]
fn functions_that_change_each_others_state_stop_at_the_hop_limit() {
    // What one is told it counts in its own state, which the other watches.
    let calls = Rc::new(RefCell::new(0));
    let events = calls.clone();
    let guest: Guest = Box::new(move |_, batch, state| {
        *events.borrow_mut() += usize::from(batch.header().kind == Kind::Event);
        let mut out = OutputWriter::new();
        let n: u64 =
            state.get(&b"n"[..]).map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
        let n = (n + batch.iter().count() as u64).to_string();
        let put = |key, value| Operation::KvPut { key, value, ttl_ms: 0 };
        out.push(&put(b"n", n.as_bytes())).unwrap();
        out.push(&put(b"unwatched", n.as_bytes())).unwrap();
        CallVerdict::Done(out.finish())
    });
    let mut plan = watching(&["n"]);
    plan.functions[0].watches = vec![watch("watcher", "n")];
    let mut bench = Bench::new(plan, guest);
    tell(&mut bench, &["x"]);
    bench.pass(Duration::from_secs(5));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert_eq!((dead.len(), dead[0].0.as_str()), (1, "state"));
    assert_eq!(reason, "passed more than 16 functions: a loop of watched state");
    assert_eq!(*calls.borrow(), 16);
}

/// Counts records in its state; the watcher publishes each count that it is told.
fn counting() -> Guest {
    Box::new(|_, batch, state| {
        let mut out = OutputWriter::new();
        if batch.header().kind == Kind::Event {
            for entry in batch.iter() {
                let text = members(std::str::from_utf8(entry.payload).unwrap());
                emit(&mut out, "alerts/told", text.as_bytes());
            }
            return CallVerdict::Done(out.finish());
        }
        let n: u64 =
            state.get(&b"n"[..]).map_or(0, |n| String::from_utf8_lossy(n).parse().unwrap());
        let n = (n + batch.iter().count() as u64).to_string();
        let put = |key, value, ttl_ms| Operation::KvPut { key, value, ttl_ms };
        out.push(&put(b"n", n.as_bytes(), 0)).unwrap();
        out.push(&put(n.as_bytes(), b"t", 5)).unwrap();
        CallVerdict::Done(out.finish())
    })
}

/// Runs with the power cut at a disk operation: each change that is on flash is told once.
fn run_with_cut(plan: &Plan, at: u64) -> bool {
    let disk = CrashDisk::new();
    disk.crash_at(at);
    let now = start();
    let (mut after, mut acknowledged) = (disk.clone(), 0);
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = CrashDisk::new();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), counting());
        let conn = bench.connect(1, "s1");
        for id in 1..=5 {
            bench.publish(conn, id, "sensors/a", "x");
            bench.pass(Duration::from_millis(20));
        }
        acknowledged = bench.pubacks(conn).len();
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), counting());
    bench.pass(Duration::from_secs(3));
    let told = bench.payloads("alerts");
    let counts: Vec<&String> = told.iter().filter(|one| one.starts_with("\"key\":\"n\"")).collect();
    let records = bench.payloads("telemetry").len();
    assert!(records >= acknowledged, "cut at {at}");
    assert_eq!(counts.len(), records, "cut at {at}: {told:?}");
    for (n, told) in (1..).zip(&counts) {
        let old = if n == 1 { String::new() } else { format!(",\"old\":\"{}\"", n - 1) };
        assert_eq!(**told, format!("\"key\":\"n\"{old},\"new\":\"{n}\""), "cut at {at}");
    }
    for n in 1..=records {
        let came = format!("\"key\":\"{n}\",\"new\":\"t\"");
        let went = format!("\"key\":\"{n}\",\"old\":\"t\"");
        let times = |what: &String| told.iter().filter(|one| *one == what).count();
        assert_eq!((times(&came), times(&went)), (1, 1), "cut at {at}: key {n}");
    }
    cut
}

#[test]
fn each_change_is_told_once_whenever_the_power_is_cut() {
    let plan = watching(&[""]);
    let cuts = (1..).take_while(|at| run_with_cut(&plan, *at)).count();
    assert!(cuts > 30, "only {cuts} disk operations: too few to mean anything");
}
