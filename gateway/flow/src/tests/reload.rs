//! Another plan for a gateway that runs.

use std::collections::BTreeSet;

use super::versions::{payloads, push};
use super::*;
use crate::{Begun, FunctionOrder, Reload, ReloadError, Reloaded};

/// Takes `after` in place of `before`.
fn reload(bench: &mut Bench, before: &Plan, after: &Plan) -> Result<Reloaded, ReloadError> {
    reload_anew(bench, before, after, &[], &[])
}

fn reload_anew(
    bench: &mut Bench,
    before: &Plan,
    after: &Plan,
    functions: &[&str],
    uplinks: &[&str],
) -> Result<Reloaded, ReloadError> {
    let names =
        |names: &[&str]| -> BTreeSet<String> { names.iter().map(ToString::to_string).collect() };
    let (functions, uplinks) = (names(functions), names(uplinks));
    let wish = Reload { before, after, functions: &functions, uplinks: &uplinks };
    let done = bench.gateway.reload(bench.now, &wish);
    bench.drain();
    done
}

fn publish(bench: &mut Bench, conn: ConnId, ids: std::ops::Range<u16>, topic: &str) {
    for id in ids {
        bench.publish(conn, id, topic, &format!("r{id}"));
    }
    bench.pass(SETTLE);
}

fn numbers(ids: std::ops::Range<u16>) -> Vec<String> {
    ids.map(|id| format!("r{id}")).collect()
}

fn sent(bench: &Bench, stream: &str) -> Vec<String> {
    let of = |batch: &&tidegate_uplink::Batch| &*batch.stream == stream;
    let records = bench.batches.iter().filter(of).flat_map(|batch| &batch.records);
    records.map(|record| String::from_utf8_lossy(&record.payload).into_owned()).collect()
}

#[test]
fn a_stream_a_function_and_an_uplink_come_while_clients_stay() {
    let mut before = plan();
    before.functions.clear();
    before.uplinks.clear();
    let mut bench = Bench::new(before.clone(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let mut after = plan();
    after.streams.push(stream("more", &["more/#"]));
    after.functions[0].inputs[0].stream = "more".to_owned();
    after.uplinks[0].streams = vec!["telemetry".to_owned(), "more".to_owned()];
    let done = reload(&mut bench, &before, &after).unwrap();
    let first = Begun { place: 0, index: 0 };
    assert_eq!(done, Reloaded { functions: vec![first], uplinks: vec![first], ended: vec![] });
    publish(&mut bench, conn, 4..7, "more/a");
    assert_eq!(bench.pubacks(conn).len(), 6, "the client has stayed");
    assert_eq!(payloads(&mut bench, "alerts"), numbers(4..7));
    assert_eq!(sent(&bench, "telemetry"), numbers(1..4));
    assert_eq!(sent(&bench, "more"), numbers(4..7));
}

#[test]
fn what_does_not_differ_goes_on_as_if_nothing_had_happened() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let sessions = bench.sessions;
    let mut after = plan();
    after.streams[0].max_bytes = 1 << 20;
    let done = reload(&mut bench, &before, &after).unwrap();
    assert_eq!(done, Reloaded { functions: vec![], uplinks: vec![], ended: vec![] });
    publish(&mut bench, conn, 4..7, "sensors/a");
    assert_eq!(bench.sessions, sessions, "no session has begun");
    assert_eq!(bench.gateway.status(bench.now).streams[0].max_bytes, 1 << 20);
    assert_eq!(payloads(&mut bench, "alerts"), numbers(1..7));
}

#[test]
fn a_function_that_changes_goes_on_at_its_cursor_with_its_state() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    bench.calls_take_time = true;
    publish(&mut bench, conn, 4..6, "sensors/a");
    let mut after = plan();
    after.functions[0].attempts = 2;
    let done = reload(&mut bench, &before, &after).unwrap();
    assert_eq!(done.functions, [Begun { place: 0, index: 1 }]);
    assert_eq!(bench.orders, [FunctionOrder::Stop { function: 0 }]);
    // The call of the version before ends, and counts for nothing.
    bench.calls_take_time = false;
    while !bench.held_calls.is_empty() {
        bench.end_call(0);
    }
    bench.pass(SETTLE);
    assert_eq!(payloads(&mut bench, "alerts"), numbers(1..6), "nothing lost or twice");
    let status = bench.gateway.status(bench.now);
    assert_eq!((status.functions.len(), status.functions[0].state_keys), (1, 1));
}

#[test]
fn a_gateway_takes_any_number_of_configurations() {
    let plan = plan();
    let mut bench = Bench::new(plan.clone(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let (function, uplink) = (&*plan.functions[0].name, &*plan.uplinks[0].name);
    for round in 1..=1_100 {
        let done = reload_anew(&mut bench, &plan, &plan, &[function], &[uplink]).unwrap();
        let begun = vec![Begun { place: 0, index: round }];
        let ended = vec![round - 1];
        assert_eq!(done, Reloaded { functions: begun.clone(), uplinks: begun, ended });
    }
    bench.pass(SETTLE);
    publish(&mut bench, conn, 4..7, "sensors/a");
    assert_eq!(payloads(&mut bench, "alerts"), numbers(1..7));
    assert_eq!(sent(&bench, "telemetry").last().map(String::as_str), Some("r6"));
}

#[test]
fn a_function_whose_module_changes_is_begun_anew_with_the_same_plan() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    let name = before.functions[0].name.clone();
    let done = reload_anew(&mut bench, &before, &before, &[&name], &[]).unwrap();
    assert_eq!(done.functions, [Begun { place: 0, index: 1 }]);
}

#[test]
fn a_function_that_goes_holds_no_records_and_its_state_stays() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let mut after = plan();
    after.functions.clear();
    after.uplinks.clear();
    let done = reload(&mut bench, &before, &after).unwrap();
    assert_eq!(done.ended, [0]);
    let status = bench.gateway.status(bench.now);
    assert!(status.functions.is_empty() && status.uplinks.is_empty());
    assert!(status.streams[0].readers.is_empty(), "nobody holds records");
    publish(&mut bench, conn, 4..6, "sensors/a");
    reload(&mut bench, &after, &before).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_keys, 1);
}

#[test]
fn an_uplink_that_changes_sends_the_rest_once() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let mut after = plan();
    after.uplinks[0].options.window = 3;
    let done = reload(&mut bench, &before, &after).unwrap();
    assert_eq!((done.ended, done.uplinks), (vec![0], vec![Begun { place: 0, index: 1 }]));
    publish(&mut bench, conn, 4..7, "sensors/a");
    let name = before.uplinks[0].streams[0].clone();
    let (got, expected) = (sent(&bench, &name), numbers(1..7));
    assert_eq!(got, expected);
    // What its driver still says is nobody's.
    let event = UplinkEvent::Connected { session: 1, held: vec![] };
    bench.gateway.handle_uplink(bench.now, 0, event);
    bench.drain();
    assert_eq!(bench.gateway.status(bench.now).uplinks.len(), 1);
}

#[test]
fn a_session_of_a_changed_uplink_begins_when_the_log_is_durable() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    bench.disk_stands_still = true;
    bench.publish(conn, 4, "sensors/a", "r4");
    let sent_before = bench.batches.len();
    reload_anew(&mut bench, &before, &before, &[], &[&before.uplinks[0].name]).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.gateway.status(bench.now).uplinks[0].state, "connecting");
    assert_eq!(bench.batches.len(), sent_before);
    bench.let_the_disk_go();
    bench.pass(SETTLE);
    assert_eq!(bench.gateway.status(bench.now).uplinks[0].state, "connected");
    assert_eq!(sent(&bench, &before.uplinks[0].streams[0]), numbers(1..5));
}

#[test]
fn a_plan_that_cannot_be_built_changes_nothing() {
    let before = plan();
    let mut bench = Bench::new(before.clone(), echo());
    let conn = bench.connect(1, "s1");
    let mut wrong = plan();
    wrong.streams[0].max_bytes = 1 << 20;
    let mut other = wrong.functions[0].clone();
    other.name = "other".to_owned();
    wrong.functions.insert(0, other);
    wrong.uplinks[0].streams = vec!["nowhere".to_owned()];
    let error = reload(&mut bench, &before, &wrong).unwrap_err();
    assert!(matches!(error, ReloadError::Build(_)), "{error}");
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.streams[0].max_bytes, before.streams[0].max_bytes);
    assert!(status.streams[0].readers.iter().all(|reader| reader.name != "fn/other"));
    publish(&mut bench, conn, 1..4, "sensors/a");
    assert_eq!(payloads(&mut bench, "alerts"), numbers(1..4));
}

#[test]
fn a_function_that_was_pushed_is_not_taken_over_and_its_stream_stays() {
    let before = super::versions::bare();
    let mut bench = Bench::new(before.clone(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(SETTLE);
    let mut taken = plan();
    taken.uplinks.clear();
    taken.functions[0].name = "echo".to_owned();
    let error = reload(&mut bench, &before, &taken).unwrap_err();
    assert!(error.to_string().contains("tidegate fn rm echo"), "{error}");
    let mut gone = before.clone();
    gone.streams.remove(0);
    let error = reload(&mut bench, &before, &gone).unwrap_err();
    assert!(error.to_string().contains("which would go"), "{error}");
    assert_eq!(bench.gateway.status(bench.now).functions.len(), 1);
}

#[test]
fn another_plan_counts_after_a_power_cut_as_before_it() {
    let mut before = plan();
    before.uplinks.clear();
    let mut bench = Bench::new(before.clone(), echo());
    let conn = bench.connect(1, "s1");
    publish(&mut bench, conn, 1..4, "sensors/a");
    let mut after = before.clone();
    after.streams.push(stream("more", &["sensors/#"]));
    reload(&mut bench, &before, &after).unwrap();
    publish(&mut bench, conn, 4..6, "sensors/a");
    assert_eq!(payloads(&mut bench, "more"), numbers(4..6));
    let mut bench = Bench::on(bench.disk.crash(1), after, echo());
    bench.pass(SETTLE);
    assert_eq!(payloads(&mut bench, "more"), numbers(4..6));
    assert_eq!(payloads(&mut bench, "alerts"), numbers(1..6));
}
