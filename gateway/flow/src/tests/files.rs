//! Files of a folder that become records.

use tidegate_stream::Record;

use super::*;
use crate::{FileDrop, FileError, PlantedBug};

fn record(payload: &str) -> Record {
    let mut attributes = Vec::new();
    Attributes::default().encode(&mut attributes);
    Record {
        unix_ms: 1_780_000_000_000,
        topic: "files/in/a.csv".to_owned(),
        client: "files/in".to_owned(),
        publisher: None,
        attributes,
        payload: payload.as_bytes().to_vec(),
    }
}

fn file(name: &str, mark: u8, payload: &str) -> FileDrop {
    FileDrop {
        folder: "in".to_owned(),
        name: name.to_owned(),
        mark: [mark; 32],
        stream: "telemetry".to_owned(),
        record: record(payload),
    }
}

fn without_uplinks() -> Plan {
    let mut plan = plan();
    plan.uplinks.clear();
    plan
}

#[test]
fn a_file_is_taken_once_until_it_has_left_and_another_of_its_name_is_another() {
    let mut bench = Bench::new(without_uplinks(), echo());
    assert!(bench.gateway.files_left("in").is_empty());
    for mark in [1, 1, 2, 2] {
        bench.gateway.take_file(bench.now, &file("a.csv", mark, &format!("m{mark}"))).unwrap();
        bench.pass(SETTLE);
    }
    assert_eq!(bench.payloads("telemetry"), ["m1", "m2"]);
    assert_eq!(bench.gateway.files_left("in"), ["a.csv"]);
    assert!(bench.gateway.files_left("i").is_empty(), "another folder");
    let mut bench = Bench::on(bench.disk.crash(1), without_uplinks(), echo());
    bench.gateway.take_file(bench.now, &file("a.csv", 2, "m2")).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("telemetry"), ["m1", "m2"]);
    bench.gateway.forget_file(bench.now, "in", "a.csv");
    assert!(bench.gateway.files_left("in").is_empty());
    bench.gateway.take_file(bench.now, &file("a.csv", 2, "m2")).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("telemetry"), ["m1", "m2", "m2"], "it was dropped again");
    bench.gateway.file_refused("in", "too large".to_owned());
    let status = bench.gateway.status(bench.now).folders.remove(0);
    assert_eq!((status.taken, status.bytes, status.refused), (1, 2, 1));
    assert_eq!(status.last_failure.as_deref(), Some("too large"));
}

#[test]
fn what_has_no_room_waits_and_what_never_has_is_said_to() {
    let mut plan = without_uplinks();
    plan.streams[0].max_records = Some(1);
    plan.streams[0].overflow = Overflow::Reject;
    plan.functions.clear();
    let mut bench = Bench::new(plan, echo());
    let taken = |bench: &mut Bench, file: &FileDrop| bench.gateway.take_file(bench.now, file);
    let large = file("a", 1, &"x".repeat(70_000));
    assert!(matches!(taken(&mut bench, &large), Err(FileError::Never(_))));
    taken(&mut bench, &file("a", 1, "x")).unwrap();
    bench.pass(SETTLE);
    let full = taken(&mut bench, &file("b", 1, "x"));
    assert!(matches!(full, Err(FileError::Waits(_))), "{full:?}");
    let nowhere = FileDrop { stream: "moon".to_owned(), ..file("c", 1, "x") };
    let refused = taken(&mut bench, &nowhere).unwrap_err();
    assert_eq!(refused.to_string(), "there is no stream \"moon\"");
    assert_eq!(bench.gateway.files_left("in"), ["a"], "what was not taken is not noted");
}

/// What a shell does with a folder; files that are in it stand there with their marks.
fn empty_folder(bench: &mut Bench, folder: &mut Vec<(String, u8)>) {
    for left in bench.gateway.files_left("in") {
        if !folder.iter().any(|(name, _)| *name == left) {
            bench.gateway.forget_file(bench.now, "in", &left);
        }
    }
    while let Some((name, mark)) = folder.first().cloned() {
        let file = file(&name, mark, &format!("{name} {mark}"));
        let Ok(position) = bench.gateway.take_file(bench.now, &file) else { return };
        for _ in 0..20 {
            bench.pass(Duration::from_millis(5));
        }
        if bench.disk.has_crashed() || bench.gateway.log().durable() < position {
            return;
        }
        folder.remove(0);
        bench.gateway.forget_file(bench.now, "in", &name);
    }
}

/// Runs with the power cut at a disk operation; answers whether it was, and the records then.
fn run_with_cut(plan: &Plan, at: u64, planted: Option<PlantedBug>) -> (bool, [Vec<String>; 2]) {
    let disk = CrashDisk::new();
    disk.crash_at(at);
    let now = start();
    let mut after = disk.clone();
    let mut folder = all();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = CrashDisk::new();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), echo());
        bench.gateway.planted = planted;
        empty_folder(&mut bench, &mut folder);
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), echo());
    empty_folder(&mut bench, &mut folder);
    bench.pass(SETTLE);
    assert!(folder.is_empty(), "cut at {at}");
    (cut, [bench.payloads("telemetry"), bench.payloads("alerts")])
}

/// The same name twice, with something else in it.
fn all() -> Vec<(String, u8)> {
    [("a", 1), ("b", 1), ("a", 2), ("c", 1)].map(|(name, mark)| (name.to_owned(), mark)).into()
}

fn expected() -> Vec<String> {
    all().iter().map(|(name, mark)| format!("{name} {mark}")).collect()
}

#[test]
fn each_file_becomes_one_record_whenever_the_power_is_cut() {
    let plan = without_uplinks();
    let mut cuts = 0;
    for at in 1.. {
        let (cut, [records, handled]) = run_with_cut(&plan, at, None);
        assert_eq!(records, expected(), "cut at {at}");
        assert_eq!(handled.len(), expected().len(), "cut at {at}: each is handled once");
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "only {cuts} disk operations: too few to mean anything");
}

#[test]
fn a_file_that_is_not_noted_is_found_to_come_twice() {
    let plan = without_uplinks();
    let planted = Some(PlantedBug::FileNotNoted);
    let doubled = |at| run_with_cut(&plan, at, planted).1[0].len() > expected().len();
    assert!((1..60).any(doubled), "no cut has shown it");
}
