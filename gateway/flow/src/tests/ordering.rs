//! What waits for what: strict, per key, none; retries, poison, windows, filters, inputs.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use crate::{InputPlan, Ordering};

/// A plan with one function of this ordering; the key of a record is the second level.
pub(super) fn ordered(ordering: Ordering, workers: usize) -> Plan {
    let mut plan = plan();
    plan.streams[0].key = Some(crate::PartitionKey::parse("topic/2").unwrap());
    let function = &mut plan.functions[0];
    (function.ordering, function.workers) = (ordering, workers);
    function.state_bytes = 1 << 20;
    plan.uplinks.clear();
    plan
}

/// Echoes every record but those called `later`, which it wants to have again until they have
/// been tried twice.
fn later() -> Guest {
    Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for (index, message) in batch.iter().enumerate() {
            if message.payload == b"later" && message.attempt < 2 {
                let (index, class) = (index as u32, NackClass::Retry);
                out.push(&Operation::Nack { index, class, code: 0, text: "not yet" }).unwrap();
            } else {
                emit(&mut out, "alerts/echo", message.payload);
            }
        }
        CallVerdict::Done(out.finish())
    })
}

/// A disk with these readings, which no function has seen.
pub(super) fn preloaded(plan: &Plan, readings: &[(String, String)]) -> CrashDisk {
    let mut quiet = plan.clone();
    quiet.functions.clear();
    let mut bench = Bench::new(quiet, echo());
    let conn = bench.connect(1, "s1");
    for (id, (key, payload)) in readings.iter().enumerate() {
        bench.publish(conn, id as u16 + 1, &format!("sensors/{key}"), payload);
        if id % 50 == 0 {
            bench.pass(Duration::from_millis(5));
        }
    }
    bench.pass(SETTLE);
    bench.disk.after_kill()
}

/// Publishes, all at once, with payloads that say which they are.
fn publish_all(bench: &mut Bench, readings: &[(&str, &str)]) {
    let conn = bench.connect(1, "s1");
    for (id, (key, payload)) in readings.iter().enumerate() {
        bench.publish(conn, id as u16 + 1, &format!("sensors/{key}"), payload);
    }
}

const MIXED: [(&str, &str); 6] =
    [("a", "later"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2"), ("c", "c1")];

#[test]
fn strict_ordering_lets_everything_behind_a_retried_record_wait() {
    let mut bench = Bench::new(ordered(Ordering::Strict, 1), later());
    publish_all(&mut bench, &MIXED);
    bench.pass(Duration::from_millis(20));
    assert!(bench.payloads("alerts").is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.payloads("alerts"), ["later", "a2", "b1", "a3", "b2", "c1"]);
}

#[test]
fn ordering_per_key_lets_one_key_wait_and_moves_the_cursor_past_it() {
    let mut bench = Bench::new(ordered(Ordering::PerKey, 2), later());
    publish_all(&mut bench, &MIXED);
    bench.pass(Duration::from_millis(20));
    assert_eq!(bench.payloads("alerts"), ["b1", "b2", "c1"]);
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.streams[0].readers[0].lag, 0, "one slow key does not hold the cursor");
    assert_eq!((status.functions[0].retry_lane, status.functions[0].lag), (3, 3));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.payloads("alerts")[3..], ["later", "a2", "a3"]);
    assert_eq!(bench.gateway.status(bench.now).functions[0].lag, 0);
}

#[test]
fn without_ordering_nothing_waits_for_a_retried_record() {
    let mut bench = Bench::new(ordered(Ordering::None, 2), later());
    publish_all(&mut bench, &MIXED);
    bench.pass(Duration::from_millis(20));
    assert_eq!(bench.payloads("alerts"), ["a2", "b1", "a3", "b2", "c1"]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.payloads("alerts")[5..], ["later"]);
}

#[test]
fn records_without_a_key_are_in_one_lane() {
    let mut plan = ordered(Ordering::PerKey, 2);
    plan.streams[0].key = Some(crate::PartitionKey::parse("property/k").unwrap());
    let mut bench = Bench::new(plan, later());
    publish_all(&mut bench, &[("a", "later"), ("b", "b1")]);
    bench.pass(Duration::from_millis(20));
    assert!(bench.payloads("alerts").is_empty());
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.payloads("alerts"), ["later", "b1"]);
}

#[test]
fn calls_run_at_a_time_but_never_two_of_one_key_and_one_alone_when_strict() {
    let keys = |bench: &Bench| -> Vec<Vec<String>> {
        let topics = |call: &Call| {
            let batch = BatchReader::parse(&call.frame).unwrap();
            batch.iter().map(|message| message.topic.to_owned()).collect()
        };
        bench.held_calls.iter().map(topics).collect()
    };
    let run = |ordering, workers| {
        let mut plan = ordered(ordering, workers);
        plan.functions[0].batch_records = 1;
        let mut bench = Bench::new(plan, echo());
        bench.calls_take_time = true;
        publish_all(&mut bench, &[("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("b", "5")]);
        bench.pass(Duration::from_millis(20));
        (keys(&bench), bench)
    };
    assert_eq!(run(Ordering::Strict, 4).0, [["sensors/a"]]);
    assert_eq!(run(Ordering::None, 4).0.len(), 4);
    let (calls, mut bench) = run(Ordering::PerKey, 4);
    assert_eq!(calls, [["sensors/a"], ["sensors/b"], ["sensors/c"]]);
    assert_eq!(bench.gateway.status(bench.now).functions[0].running, 3);
    bench.end_call(0);
    assert_eq!(keys(&bench), [["sensors/b"], ["sensors/c"], ["sensors/a"]]);
}

/// What the function saw: payload and attempt.
type Seen = Rc<RefCell<Vec<(String, u16)>>>;

fn watched(mut guest: Guest) -> (Guest, Seen) {
    let seen = Seen::default();
    let notes = seen.clone();
    let guest: Guest = Box::new(move |function, batch, state| {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        notes.borrow_mut().extend(batch.iter().map(|m| (text(m.payload), m.attempt)));
        guest(function, batch, state)
    });
    (guest, seen)
}

#[test]
fn the_count_of_tries_goes_on_after_a_power_cut_in_each_ordering() {
    for ordering in [Ordering::Strict, Ordering::PerKey, Ordering::None] {
        let refuse = || -> Guest { Box::new(|_, _, _| CallVerdict::Failed("no".to_owned())) };
        let mut plan = ordered(ordering, 1);
        plan.functions[0].attempts = 5;
        let (guest, seen) = watched(refuse());
        let mut bench = Bench::new(plan.clone(), guest);
        publish_all(&mut bench, &[("a", "x")]);
        bench.pass(Duration::from_millis(260));
        // What was noted rides in the next group.
        bench.gateway.pause_function(bench.now, "echo").unwrap();
        bench.pass(Duration::from_millis(20));
        let attempts = |seen: &Seen| -> Vec<u16> {
            seen.borrow().iter().map(|(_, attempt)| *attempt).collect()
        };
        let before = attempts(&seen).len() as u16;
        assert_eq!(attempts(&seen), (0..before).collect::<Vec<_>>(), "{ordering:?}");
        assert!((2..5).contains(&before), "{ordering:?}: {before} tries");
        let (guest, seen) = watched(refuse());
        let mut bench = Bench::on(bench.disk.crash(4), plan, guest);
        bench.gateway.resume_function(bench.now, "echo").unwrap();
        bench.pass(Duration::from_secs(10));
        assert_eq!(attempts(&seen), (before..5).collect::<Vec<_>>(), "{ordering:?}");
        let dead = bench.stream(DEAD_LETTER_STREAM);
        let letter = dead[0].2.dead.clone().unwrap();
        assert_eq!((dead.len(), letter.attempts, letter.seq), (1, 5, 1), "{ordering:?}");
        let notes = bench.gateway.log.table("functions").unwrap();
        assert!(bench.gateway.log.table_entries(notes).is_empty(), "{ordering:?}");
    }
}

#[test]
fn a_poison_record_in_a_batch_of_256_is_dead_lettered_and_255_are_processed() {
    for (ordering, workers) in
        [(Ordering::Strict, 1), (Ordering::PerKey, 1), (Ordering::PerKey, 4), (Ordering::None, 4)]
    {
        let guest: Guest = Box::new(|_, batch, _| {
            if batch.iter().any(|message| message.payload == b"poison") {
                return CallVerdict::Failed("trap: unreachable".to_owned());
            }
            let mut out = OutputWriter::new();
            batch.iter().for_each(|message| emit(&mut out, "alerts/echo", message.payload));
            CallVerdict::Done(out.finish())
        });
        let mut plan = ordered(ordering, workers);
        plan.functions[0].batch_records = 256;
        plan.functions[0].batch_bytes = 64 * 1024;
        let (guest, seen) = watched(guest);
        let payload = |id: u32| if id == 97 { "poison".to_owned() } else { format!("r{id}") };
        let readings: Vec<(String, String)> =
            (0..256).map(|id| (format!("k{}", id % 8), payload(id))).collect();
        let disk = preloaded(&plan, &readings);
        let mut bench = Bench::on(disk, plan, guest);
        bench.pass(Duration::from_secs(5));
        let mut handled = bench.payloads("alerts");
        handled.sort_unstable();
        let mut good: Vec<String> =
            (0..256).map(payload).filter(|payload| payload != "poison").collect();
        good.sort_unstable();
        assert_eq!(handled, good, "{ordering:?}");
        let dead = bench.stream(DEAD_LETTER_STREAM);
        let letter = dead[0].2.dead.clone().unwrap();
        assert_eq!((dead.len(), letter.attempts, &*letter.reason), (1, 3, "trap: unreachable"));
        assert!(bench.calls < 40, "{ordering:?}: {} calls", bench.calls);
        let company = seen.borrow().len();
        assert!(company < 256 * 4, "{ordering:?}: records went {company} times into a call");
    }
}

#[test]
fn a_record_that_is_tried_for_too_long_is_given_up_whatever_attempts_are_left() {
    let mut plan = ordered(Ordering::None, 1);
    plan.functions[0].attempts = 100;
    plan.functions[0].retry_max_age = Duration::from_secs(2);
    let guest: Guest = Box::new(|_, _, _| CallVerdict::RetryBatch);
    let mut bench = Bench::new(plan, guest);
    publish_all(&mut bench, &[("a", "x")]);
    bench.pass(Duration::from_secs(1));
    assert!(bench.payloads(DEAD_LETTER_STREAM).is_empty());
    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["x"]);
}

#[test]
fn a_batch_that_is_wanted_again_comes_again_as_a_whole_and_then_in_halves() {
    let (guest, seen) = watched(Box::new(|_, batch, _| {
        if batch.iter().any(|message| message.payload == b"bad") {
            return CallVerdict::RetryBatch;
        }
        let mut out = OutputWriter::new();
        batch.iter().for_each(|message| emit(&mut out, "alerts/echo", message.payload));
        CallVerdict::Done(out.finish())
    }));
    let mut bench = Bench::new(ordered(Ordering::Strict, 1), guest);
    bench.disk_stands_still = true;
    publish_all(&mut bench, &[("a", "1"), ("a", "2"), ("a", "bad"), ("a", "4")]);
    bench.let_the_disk_go();
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.payloads("alerts"), ["1", "2", "4"]);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["bad"]);
    let first: Vec<u16> = seen.borrow().iter().map(|(_, attempt)| *attempt).take(12).collect();
    assert_eq!(first, [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2], "three tries together");
}

#[test]
fn a_full_retry_lane_lets_the_function_wait_and_loses_nothing() {
    let mut plan = ordered(Ordering::None, 2);
    plan.functions[0].batch_records = 64;
    plan.functions[0].batch_bytes = 64 * 1024;
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for (index, message) in batch.iter().enumerate() {
            if message.attempt == 0 {
                let (index, class) = (index as u32, NackClass::Retry);
                out.push(&Operation::Nack { index, class, code: 0, text: "busy" }).unwrap();
            } else {
                emit(&mut out, "alerts/echo", message.payload);
            }
        }
        CallVerdict::Done(out.finish())
    });
    let readings: Vec<(String, String)> =
        (1..=1_500).map(|id| ("a".to_owned(), format!("r{id}"))).collect();
    let disk = preloaded(&plan, &readings);
    let mut bench = Bench::on(disk, plan, guest);
    let mut most = 0;
    for _ in 0..1_000 {
        bench.pass(Duration::from_millis(1));
        most = most.max(bench.gateway.status(bench.now).functions[0].retry_lane);
    }
    assert_eq!(most, 1_024, "the lane was full, and never fuller");
    let mut handled = bench.payloads("alerts");
    handled.sort_unstable();
    let mut all: Vec<String> = (1..=1_500).map(|id| format!("r{id}")).collect();
    all.sort_unstable();
    assert_eq!(handled, all);
    assert_eq!(bench.gateway.status(bench.now).functions[0].retry_lane, 0);
}

#[test]
fn a_batch_window_waits_for_more_but_not_when_the_batch_is_full() {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.functions[0].batch_window = Duration::from_millis(500);
    let mut bench = Bench::new(plan, echo());
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "1");
    bench.pass(Duration::from_millis(300));
    bench.publish(conn, 2, "sensors/a", "2");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.calls, 0);
    bench.pass(Duration::from_millis(150));
    assert_eq!((bench.calls, bench.payloads("alerts").len()), (1, 2));
    for id in 3..=10 {
        bench.publish(conn, id, "sensors/a", "x");
    }
    bench.pass(Duration::from_millis(30));
    assert_eq!((bench.calls, bench.payloads("alerts").len()), (2, 10), "eight are a full batch");
}

#[test]
fn a_topic_filter_passes_the_other_records_without_a_call() {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.functions[0].inputs[0].topics = vec![filter("sensors/+/temp"), filter("sensors/b")];
    let mut bench = Bench::new(plan.clone(), echo());
    publish_all(&mut bench, &[("a/temp", "1"), ("a/rpm", "2"), ("b", "3"), ("c", "4")]);
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts"), ["1", "3"]);
    let status = bench.gateway.status(bench.now);
    assert_eq!((status.functions[0].records, status.functions[0].lag), (2, 0));
    let calls = bench.calls;
    let conn = bench.connect(2, "s2");
    bench.publish(conn, 1, "sensors/c", "5");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.calls, calls);
    let bench = Bench::on(bench.disk.crash(1), plan, echo());
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.functions[0].lag, 0, "the cursor has moved past what was passed");
}

#[test]
fn a_function_of_two_inputs_reads_each_at_a_cursor_of_its_own() {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.streams.push(stream("orders", &["orders/#"]));
    let orders = InputPlan { stream: "orders".to_owned(), topics: Vec::new() };
    plan.functions[0].inputs.push(orders);
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            let text = format!("{}:{}:{}", message.source, message.seq, message.topic);
            emit(&mut out, "alerts/echo", text.as_bytes());
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan, guest);
    let conn = bench.connect(1, "s1");
    for (id, topic) in ["sensors/a", "orders/x", "sensors/b", "orders/y"].iter().enumerate() {
        bench.publish(conn, id as u16 + 1, topic, "p");
    }
    bench.pass(SETTLE);
    let mut handled = bench.payloads("alerts");
    handled.sort_unstable();
    assert_eq!(handled, ["0:1:sensors/a", "0:2:sensors/b", "1:1:orders/x", "1:2:orders/y"]);
    let status = bench.gateway.status(bench.now);
    assert_eq!((status.functions[0].lag, &*status.functions[0].stream), (0, "telemetry, orders"));
}

#[test]
fn what_is_noted_of_a_function_is_forgotten_with_it() {
    let plan = ordered(Ordering::None, 1);
    let guest: Guest = Box::new(|_, _, _| CallVerdict::RetryBatch);
    let mut bench = Bench::new(plan.clone(), guest);
    publish_all(&mut bench, &[("a", "x"), ("b", "y")]);
    bench.pass(Duration::from_millis(20));
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    bench.pass(Duration::from_millis(20));
    assert_eq!(bench.gateway.status(bench.now).functions[0].retry_lane, 2);
    let mut without = plan;
    without.functions.clear();
    let mut bench = Bench::on(bench.disk.crash(1), without, echo());
    let notes = bench.gateway.log.table("functions").unwrap();
    assert!(bench.gateway.log.table_entries(notes).is_empty());
}

#[test]
fn calls_are_metered() {
    let guest: Guest = Box::new(|_, batch, _| {
        let late = batch.iter().any(|message| message.attempt == 0);
        if late { CallVerdict::Late("too slow".to_owned()) } else { CallVerdict::Done(Vec::new()) }
    });
    let mut bench = Bench::new(ordered(Ordering::None, 2), guest);
    publish_all(&mut bench, &[("a", "x")]);
    bench.pass(Duration::from_millis(10));
    let status = bench.gateway.status(bench.now).functions.remove(0);
    assert!(status.queue_age_ms >= 5, "{status:?}");
    bench.pass(Duration::from_secs(1));
    let status = bench.gateway.status(bench.now);
    let function = &status.functions[0];
    assert_eq!((function.calls, function.failures, function.deadline_misses), (2, 1, 1));
    assert_eq!((function.records, function.retries, function.queue_age_ms), (1, 1, 0));
    assert_eq!((function.memory_high_bytes, function.workers), (65_536, 2));
    let hop = status.latency.iter().find(|hop| hop.hop == "function-call").unwrap();
    assert_eq!((hop.buckets.iter().sum::<u64>(), hop.sum_us), (2, 20));
}
