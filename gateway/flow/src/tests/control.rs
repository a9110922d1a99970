//! Pause, resume, drain, reset.

use super::ordering::ordered;
use super::*;
use crate::{ControlError, Ordering, ResetTo};

fn state(bench: &Bench) -> String {
    bench.gateway.status(bench.now).functions[0].state.clone()
}

fn publish(bench: &mut Bench, ids: std::ops::RangeInclusive<u16>) {
    let conn = bench.connect(u64::from(*ids.start()) + 100, &format!("s{}", ids.start()));
    for id in ids {
        bench.publish(conn, id, "sensors/a", &format!("r{id}"));
    }
    bench.pass(Duration::from_millis(20));
}

#[test]
fn a_paused_function_keeps_its_backlog_across_a_restart_until_it_is_resumed() {
    let plan = ordered(Ordering::Strict, 1);
    let mut bench = Bench::new(plan.clone(), echo());
    let position = bench.gateway.pause_function(bench.now, "echo").unwrap();
    publish(&mut bench, 1..=20);
    assert!(bench.gateway.log().durable() >= position);
    assert_eq!((bench.calls, state(&bench).as_str()), (0, "paused"));
    let mut bench = Bench::on(bench.disk.crash(2), plan, echo());
    bench.pass(Duration::from_secs(1));
    let status = bench.gateway.status(bench.now).functions.remove(0);
    assert_eq!((bench.calls, status.lag, status.state.as_str()), (0, 20, "paused"));
    assert!(status.queue_age_ms > 0, "the oldest that waits is known");
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    assert_eq!((bench.payloads("alerts").len(), state(&bench).as_str()), (20, "idle"));
}

#[test]
fn a_call_that_is_under_way_when_the_function_is_paused_counts() {
    let mut bench = Bench::new(ordered(Ordering::Strict, 1), echo());
    bench.calls_take_time = true;
    publish(&mut bench, 1..=2);
    assert_eq!(bench.held_calls.len(), 1);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    bench.end_call(0);
    bench.pass(SETTLE);
    assert!(bench.held_calls.is_empty());
    assert_eq!(bench.payloads("alerts").first().map(String::as_str), Some("r1"));
}

#[test]
fn a_drained_function_has_done_what_was_there_and_nothing_that_came_later() {
    for ordering in [Ordering::Strict, Ordering::PerKey, Ordering::None] {
        let plan = ordered(ordering, 3);
        let mut bench = Bench::new(plan.clone(), echo());
        bench.calls_take_time = true;
        publish(&mut bench, 1..=20);
        bench.gateway.drain_function(bench.now, "echo").unwrap();
        publish(&mut bench, 21..=30);
        assert_eq!(state(&bench), "draining", "{ordering:?}");
        bench.pass(SETTLE);
        // It goes on draining when it starts again.
        let mut bench = Bench::on(bench.disk.crash(2), plan, echo());
        bench.pass(SETTLE);
        assert_eq!(state(&bench), "paused", "{ordering:?}");
        let mut handled = bench.payloads("alerts");
        handled.sort_unstable_by_key(|text| text[1..].parse::<u16>().unwrap());
        let first: Vec<String> = (1..=20).map(|id| format!("r{id}")).collect();
        assert_eq!(handled, first, "{ordering:?}");
        bench.gateway.resume_function(bench.now, "echo").unwrap();
        bench.pass(SETTLE);
        assert_eq!(bench.payloads("alerts").len(), 30, "{ordering:?}");
    }
}

#[test]
fn a_reset_to_a_sequence_hands_records_over_again_or_skips_them() {
    let plan = ordered(Ordering::PerKey, 2);
    let mut bench = Bench::new(plan.clone(), echo());
    publish(&mut bench, 1..=10);
    bench.pass(SETTLE);
    let done = bench.gateway.reset_function(bench.now, "echo", None, ResetTo::Seq(8)).unwrap();
    assert_eq!((done.from, done.to, done.stream.as_str()), (11, 8, "telemetry"));
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts")[10..], ["r8", "r9", "r10"]);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    publish(&mut bench, 11..=15);
    bench.gateway.reset_function(bench.now, "echo", Some("telemetry"), ResetTo::Seq(15)).unwrap();
    bench.pass(SETTLE);
    let mut bench = Bench::on(bench.disk.crash(7), plan, echo());
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts")[13..], ["r15"]);
}

#[test]
fn a_reset_to_a_time_goes_on_at_the_first_record_from_then_on() {
    let plan = ordered(Ordering::Strict, 1);
    let mut bench = Bench::new(plan.clone(), echo());
    publish(&mut bench, 1..=5);
    bench.pass(Duration::from_secs(60));
    let noon = bench.now.unix_ms;
    publish(&mut bench, 6..=9);
    bench.pass(SETTLE);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    let to = ResetTo::Time(noon);
    assert!(bench.gateway.reset_function(bench.now, "echo", None, to).unwrap().to <= 6);
    bench.pass(SETTLE);
    let mut bench = Bench::on(bench.disk.crash(3), plan.clone(), echo());
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts")[9..], ["r6", "r7", "r8", "r9"]);
    let notes = bench.gateway.log.table("functions").unwrap();
    assert!(bench.gateway.log.table_entries(notes).is_empty(), "the time is of no use any more");
    let later = ResetTo::Time(bench.now.unix_ms + 1_000);
    bench.gateway.reset_function(bench.now, "echo", None, later).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts").len(), 13, "nothing is as young as that");
}

#[test]
fn a_call_under_way_does_not_count_when_the_cursor_is_reset() {
    for ordering in [Ordering::Strict, Ordering::PerKey, Ordering::None] {
        let mut bench = Bench::new(ordered(ordering, 2), echo());
        bench.calls_take_time = true;
        bench.disk_stands_still = true;
        publish(&mut bench, 1..=6);
        bench.let_the_disk_go();
        assert_eq!(bench.held_calls.len(), 1, "{ordering:?}");
        bench.gateway.reset_function(bench.now, "echo", None, ResetTo::Seq(4)).unwrap();
        bench.calls_take_time = false;
        bench.pass(SETTLE);
        bench.end_call(0);
        bench.pass(SETTLE);
        assert_eq!(bench.payloads("alerts"), ["r4", "r5", "r6"], "{ordering:?}");
    }
}

#[test]
fn what_cannot_be_done_says_why() {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.streams.push(stream("orders", &["orders/#"]));
    let orders = crate::InputPlan { stream: "orders".to_owned(), topics: Vec::new() };
    plan.functions[0].inputs.push(orders);
    let mut bench = Bench::new(plan, echo());
    publish(&mut bench, 1..=3);
    let now = bench.now;
    let gateway = &mut bench.gateway;
    let told = |result: Result<_, ControlError>| result.map(drop).unwrap_err().to_string();
    assert_eq!(
        told(gateway.pause_function(now, "ecko").map(drop)),
        "no function \"ecko\"; there are: echo"
    );
    assert_eq!(
        told(gateway.reset_function(now, "echo", None, ResetTo::Seq(1)).map(drop)),
        "function \"echo\" reads telemetry, orders: name one of them"
    );
    assert_eq!(
        told(gateway.reset_function(now, "echo", Some("telemetry"), ResetTo::Seq(9)).map(drop)),
        "stream \"telemetry\" has no sequence 9: it keeps 1 to 4, the next one"
    );
    gateway.shut_down(now);
    assert_eq!(told(gateway.drain_function(now, "echo").map(drop)), "the gateway is shutting down");
}
