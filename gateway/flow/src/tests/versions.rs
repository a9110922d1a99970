//! Functions that are pushed to a gateway that runs.

use tidegate_stream::ReadOutcome;
use tidegate_wire::Digest;

use super::*;
use crate::{Alias, FUNCTION_STREAM, FunctionOrder, Install, Resume, Version, VersionError, Wish};

pub(super) const TRIAL: Duration = Duration::from_secs(10);

/// A gateway whose configuration has no function.
pub(super) fn bare() -> Plan {
    let mut bare = plan();
    bare.functions.clear();
    bare.uplinks.clear();
    bare
}

pub(super) fn pushed(name: &str) -> FunctionPlan {
    FunctionPlan { name: name.to_owned(), ..plan().functions.remove(0) }
}

pub(super) fn version(number: u8) -> Version {
    Version { package: Digest([number; 32]), label: format!("1.{number}") }
}

pub(super) fn push(number: u8) -> Install {
    Install { plan: pushed("echo"), version: version(number), wish: Wish::Pushed(TRIAL) }
}

pub(super) fn start(function: usize, number: u8) -> FunctionOrder {
    let (name, package) = ("echo".to_owned(), Digest([number; 32]));
    FunctionOrder::Start { function, name, package, workers: 1 }
}

pub(super) fn alias(bench: &Bench) -> Alias {
    bench.gateway.alias("echo").unwrap_or_default()
}

/// The events told so far, as pairs of event and version.
pub(super) fn events(bench: &mut Bench) -> Vec<(String, String)> {
    let member = |json: &str, name: &str| {
        let at = json.find(&format!("\"{name}\":\"")).unwrap() + name.len() + 4;
        json[at..].split('"').next().unwrap().to_owned()
    };
    let told = payloads(bench, FUNCTION_STREAM);
    told.iter().map(|json| (member(json, "event"), member(json, "version"))).collect()
}

/// The payloads of a stream that are on flash, wherever they have to be read from.
pub(super) fn payloads(bench: &mut Bench, name: &str) -> Vec<String> {
    let stream = bench.gateway.stream(name).unwrap();
    let limit = ReadLimit { records: 1000, bytes: 1 << 20 };
    let (mut next, mut found) = (Seq(1), Vec::new());
    loop {
        let now = bench.now.instant;
        let outcome =
            bench.gateway.log_mut().read(now, stream, next, limit, &mut |_, _, record| {
                found.push(String::from_utf8_lossy(record.payload).into_owned());
            });
        match outcome {
            ReadOutcome::Read { next: behind } | ReadOutcome::Lost { next: behind } => {
                next = behind;
            }
            ReadOutcome::Fetching => bench.drain(),
            ReadOutcome::End => return found,
        }
    }
}

pub(super) fn told(events: &[(&str, &str)]) -> Vec<(String, String)> {
    events.iter().map(|(event, version)| ((*event).to_owned(), (*version).to_owned())).collect()
}

fn publish_some(bench: &mut Bench, from: u16, to: u16) {
    let conn = bench.connect(u64::from(from), &format!("s{from}"));
    for id in from..to {
        bench.publish(conn, id, "sensors/a", &format!("r{id}"));
    }
    bench.pass(SETTLE);
}

#[test]
fn a_pushed_version_runs_is_kept_after_its_trial_and_stays_over_a_restart() {
    let mut bench = Bench::new(bare(), echo());
    publish_some(&mut bench, 1, 4);
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.orders, [start(0, 1)]);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1", "r2", "r3"], "from the oldest record kept");
    assert!(alias(&bench).on_trial);
    bench.pass(TRIAL);
    assert!(!alias(&bench).on_trial);
    assert_eq!(events(&mut bench), told(&[("installed", "1.1"), ("confirmed", "1.1")]));
    let mut bench = Bench::on(bench.disk.crash(1), bare(), echo());
    assert_eq!(alias(&bench).current, Some(version(1)));
    publish_some(&mut bench, 4, 6);
    assert_eq!(bench.calls, 0, "until the shell has found the package");
    let resume = Resume { plan: pushed("echo"), previous: None, trial: TRIAL };
    assert_eq!(bench.gateway.resume_version(bench.now, resume), Ok(0));
    // Nobody waits for these outputs, so the log does not hurry.
    bench.pass(TRIAL);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1", "r2", "r3", "r4", "r5"]);
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_keys, 1);
}

#[test]
fn a_new_version_goes_on_where_the_old_one_was_with_its_state() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 4);
    bench.pass(TRIAL);
    bench.gateway.install(bench.now, push(2)).unwrap();
    publish_some(&mut bench, 4, 6);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1", "r2", "r3", "r4", "r5"]);
    let stop = FunctionOrder::Stop { function: 0 };
    assert_eq!(bench.orders, [start(0, 1), stop, start(1, 2)]);
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.functions.len(), 1, "the empty slot is not shown");
    assert_eq!((status.functions[0].records, status.functions[0].state_keys), (2, 1));
    assert_eq!(alias(&bench).previous, Some(version(1)));
}

#[test]
fn a_version_that_fails_on_trial_is_taken_back_and_its_records_are_handled_by_the_old_one() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 4);
    bench.pass(TRIAL);
    bench.broken.insert(1);
    bench.gateway.install(bench.now, push(2)).unwrap();
    publish_some(&mut bench, 4, 6);
    assert_eq!(
        payloads(&mut bench, "alerts"),
        ["r1", "r2", "r3", "r4", "r5"],
        "nothing lost or twice"
    );
    let found = alias(&bench);
    assert_eq!((found.current, found.on_trial, found.previous), (Some(version(1)), false, None));
    let failed = found.failed.unwrap();
    assert_eq!((failed.version, failed.reason.as_str()), (version(2), "it is broken"));
    assert_eq!(bench.orders.last(), Some(&start(2, 1)));
    let expected =
        [("installed", "1.1"), ("confirmed", "1.1"), ("installed", "1.2"), ("rolled-back", "1.2")];
    assert_eq!(events(&mut bench), told(&expected));
}

#[test]
fn a_version_that_reads_another_stream_and_is_taken_back_makes_nothing_be_read_twice() {
    let mut both = bare();
    both.streams.push(stream("other", &["other/#"]));
    let mut bench = Bench::new(both, echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 4);
    bench.pass(TRIAL);
    let mut elsewhere = push(2);
    elsewhere.plan.inputs[0].stream = "other".to_owned();
    bench.broken.insert(1);
    bench.gateway.install(bench.now, elsewhere.clone()).unwrap();
    bench.pass(SETTLE);
    bench.gateway.not_started(bench.now, 1, "it traps".to_owned());
    publish_some(&mut bench, 4, 6);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1", "r2", "r3", "r4", "r5"]);
    let readers = |bench: &Bench, stream: usize| {
        bench.gateway.status(bench.now).streams[stream].readers.len()
    };
    assert_eq!((readers(&bench, 0), readers(&bench, 2)), (1, 0));
    bench.broken.clear();
    bench.gateway.install(bench.now, elsewhere).unwrap();
    bench.pass(SETTLE);
    assert_eq!((readers(&bench, 0), readers(&bench, 2)), (1, 1), "on trial both are kept");
    bench.pass(TRIAL);
    assert_eq!((readers(&bench, 0), readers(&bench, 2)), (0, 1));
}

#[test]
fn a_first_version_that_fails_leaves_nothing_and_holds_no_records() {
    let mut bench = Bench::new(bare(), echo());
    bench.broken.insert(0);
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 3);
    assert_eq!(alias(&bench).current, None);
    assert_eq!(alias(&bench).failed.unwrap().version, version(1));
    let status = bench.gateway.status(bench.now);
    assert!(status.functions.is_empty());
    assert!(status.streams[0].readers.is_empty());
    assert_eq!(payloads(&mut bench, "dead-letters").len(), 0);
}

#[test]
fn a_version_pushed_over_one_on_trial_falls_back_to_the_one_that_was_kept() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(TRIAL);
    bench.gateway.install(bench.now, push(2)).unwrap();
    bench.broken.insert(2);
    bench.gateway.install(bench.now, push(3)).unwrap();
    publish_some(&mut bench, 1, 3);
    assert_eq!(alias(&bench).current, Some(version(1)));
    assert_eq!(payloads(&mut bench, "alerts"), ["r1", "r2"]);
}

#[test]
fn a_failure_after_the_trial_is_a_failure_like_any_other() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(TRIAL);
    bench.broken.insert(0);
    publish_some(&mut bench, 1, 2);
    bench.pass(Duration::from_secs(60));
    assert_eq!(alias(&bench).current, Some(version(1)));
    assert_eq!(payloads(&mut bench, "dead-letters"), ["r1"]);
}

#[test]
fn the_shell_that_cannot_load_a_version_on_trial_takes_it_back_and_parks_another() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(TRIAL);
    bench.gateway.not_started(bench.now, 0, "no such file".to_owned());
    assert_eq!(bench.gateway.status(bench.now).functions[0].state, "not loaded");
    bench.gateway.install(bench.now, push(2)).unwrap();
    bench.gateway.not_started(bench.now, 1, "it traps".to_owned());
    bench.pass(SETTLE);
    assert_eq!(alias(&bench).current, Some(version(1)));
    bench.gateway.not_started(bench.now, 1, "too late".to_owned());
    assert_eq!(alias(&bench).current, Some(version(1)));
}

#[test]
fn the_call_of_a_version_that_was_replaced_meanwhile_counts_for_nothing() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    bench.pass(TRIAL);
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "r1");
    let late = loop {
        bench.now.instant += Duration::from_millis(1);
        bench.gateway.handle_timeout(bench.now);
        let mut call = None;
        while let Some(output) = bench.gateway.poll_output(bench.now) {
            match output {
                Output::Disk(request) => {
                    let reply = request.perform(&bench.disk);
                    bench.gateway.handle_disk(bench.now, reply);
                }
                Output::Call(found) => call = Some(found),
                _ => {}
            }
        }
        if let Some(call) = call {
            break call;
        }
    };
    bench.gateway.install(bench.now, push(2)).unwrap();
    bench.pass(SETTLE);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1"], "by the new version");
    let batch = BatchReader::parse(&late.frame).unwrap();
    let verdict = (bench.guest)(late.id.function, &batch, &late.state);
    let result = CallResult {
        verdict,
        fuel: 1,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        memory_bytes: 65536,
    };
    bench.gateway.handle_call(bench.now, late.id, result);
    bench.pass(SETTLE);
    assert_eq!(payloads(&mut bench, "alerts"), ["r1"], "and not by the old one as well");
}

#[test]
fn a_name_of_the_configuration_is_not_replaced_and_an_unknown_one_not_removed() {
    let mut bench = Bench::new(plan(), echo());
    let refused = bench.gateway.install(bench.now, push(1));
    assert_eq!(refused, Err(VersionError::Configured("echo".to_owned())));
    let refused = bench.gateway.remove_version(bench.now, "other");
    assert_eq!(refused, Err(VersionError::Unknown("other".to_owned())));
    let mut elsewhere = push(1);
    elsewhere.plan = pushed("other");
    elsewhere.plan.inputs[0].stream = "weather".to_owned();
    let refused = bench.gateway.install(bench.now, elsewhere).unwrap_err();
    assert!(refused.to_string().contains("weather"), "{refused}");
    assert_eq!(bench.gateway.aliases().count(), 0);
}

#[test]
fn a_removed_function_holds_no_records_and_its_successor_finds_its_state() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 4);
    bench.gateway.remove_version(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    let status = bench.gateway.status(bench.now);
    assert!(status.functions.is_empty() && status.streams[0].readers.is_empty());
    assert_eq!(bench.gateway.aliases().count(), 0);
    bench.gateway.install(bench.now, push(1)).unwrap();
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_keys, 1);
}

#[test]
fn the_operator_takes_the_version_before_back_and_may_go_forward_again() {
    let mut bench = Bench::new(bare(), echo());
    for number in [1, 2] {
        bench.gateway.install(bench.now, push(number)).unwrap();
        bench.pass(TRIAL);
    }
    let back = Install { wish: Wish::TakenBack, ..push(1) };
    bench.gateway.install(bench.now, back).unwrap();
    let found = alias(&bench);
    assert_eq!((found.current, found.previous), (Some(version(1)), Some(version(2))));
    assert!(!found.on_trial);
    bench.pass(SETTLE);
    assert_eq!(events(&mut bench).last().unwrap().0, "taken-back");
}

#[test]
fn a_version_that_was_replaced_does_not_move_a_cursor_that_is_reset() {
    let mut bench = Bench::new(bare(), echo());
    bench.gateway.install(bench.now, push(1)).unwrap();
    publish_some(&mut bench, 1, 9);
    bench.pass(TRIAL);
    bench.gateway.install(bench.now, push(2)).unwrap();
    bench.pass(TRIAL);
    bench.calls_take_time = true;
    bench.gateway.reset_function(bench.now, "echo", None, crate::ResetTo::Start).unwrap();
    publish_some(&mut bench, 9, 12);
    bench.calls_take_time = false;
    while !bench.held_calls.is_empty() {
        bench.end_call(0);
    }
    bench.pass(TRIAL);
    let mut handled = payloads(&mut bench, "alerts");
    handled.sort();
    assert_eq!(handled.len(), 8 + 11, "the first eight twice: {handled:?}");
}

/// An install, its trial and its end, with the power cut at every operation of the disk: afterwards
/// the name stands for the old or the new version, and each record has had its output once.
#[test]
fn a_power_cut_at_any_operation_finds_the_old_or_the_new_version_and_each_output_once() {
    let run = |bench: &mut Bench| {
        bench.broken.insert(2);
        let _ = bench.gateway.install(bench.now, push(2));
        publish_some(bench, 10, 13);
        bench.pass(TRIAL);
        let _ = bench.gateway.install(bench.now, push(3));
        publish_some(bench, 20, 23);
    };
    let prepared = || {
        let mut bench = Bench::new(bare(), echo());
        bench.gateway.install(bench.now, push(1)).unwrap();
        publish_some(&mut bench, 1, 4);
        bench.pass(TRIAL);
        bench
    };
    let mut whole = prepared();
    let before = whole.disk.operations();
    run(&mut whole);
    assert_eq!(alias(&whole).current, Some(version(2)), "the third is broken");
    let operations = whole.disk.operations();
    assert!(operations > before + 5, "{before} to {operations}");
    for operation in before + 1..=operations {
        let mut bench = prepared();
        bench.disk.crash_at(operation);
        run(&mut bench);
        let mut bench = Bench::on(bench.disk.crash(operation), bare(), echo());
        let found = alias(&bench);
        let current = found.current.clone().unwrap();
        let packages: Vec<u8> = found.packages().map(|package| package.0[0]).collect();
        assert!((1..=3).contains(&current.package.0[0]), "operation {operation}: {found:?}");
        assert!(!packages.is_empty());
        let previous = found.previous.as_ref().map(|_| pushed("echo"));
        if current == version(3) {
            bench.broken.insert(0);
        }
        let resume = Resume { plan: pushed("echo"), previous, trial: TRIAL };
        bench.gateway.resume_version(bench.now, resume).unwrap();
        bench.pass(SETTLE);
        publish_some(&mut bench, 30, 31);
        bench.pass(TRIAL);
        let mut published = payloads(&mut bench, "telemetry");
        let mut handled = payloads(&mut bench, "alerts");
        published.sort();
        handled.sort();
        assert_eq!(handled, published, "operation {operation}");
        assert_ne!(alias(&bench).current, Some(version(3)), "operation {operation}");
    }
}
