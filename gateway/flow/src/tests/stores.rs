//! Stores that earlier versions wrote, as files: everything in them is there after an upgrade. The
//! files of a version are frozen when it is released; `write_the_golden_store` makes those of the
//! present one, for a directory that is new.

use std::path::{Path, PathBuf};

use tidegate_stream::Disk;

use super::versions::{pushed, version};
use super::*;
use crate::{Install, Wish};

const SENSORS: u16 = 12;
const DASHBOARD: &str = "dash";

fn directory(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/stores").join(version)
}

/// Small frames, so that segments are small.
fn golden_plan() -> Plan {
    let mut plan = plan();
    plan.log.max_frame_bytes = 8 * 1024;
    plan.log.segment_bytes = 48 * 1024;
    let mut few = stream("few", &["few/#"]);
    few.max_records = Some(3);
    few.overflow = Overflow::DropOldest;
    plan.streams.push(few);
    plan
}

/// CONNECT of a client whose session stays.
fn connect_keeping(bench: &mut Bench, conn: u64, client: &str) -> ConnId {
    let conn = ConnId(conn);
    bench.gateway.handle_open(bench.now, conn, "test".to_owned());
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 0, 0, 0, 5, 0x11, 0, 0, 0xff, 0xff];
    body.extend([0, client.len() as u8]);
    body.extend(client.as_bytes());
    bench.bytes(conn, 0x10, &body);
    bench.pass(SETTLE);
    conn
}

fn retained(bench: &mut Bench, conn: ConnId, topic: &str, payload: &str) {
    let mut body = vec![0, topic.len() as u8];
    body.extend(topic.as_bytes());
    body.extend([0, 99, 0]);
    body.extend(payload.as_bytes());
    bench.bytes(conn, 0x33, &body);
}

/// What the golden store of version 1 holds.
fn fill(bench: &mut Bench) {
    bench.upstream = true;
    bench.takes = 5;
    let dashboard = connect_keeping(bench, 1, DASHBOARD);
    bench.subscribe(dashboard, "alerts/#");
    bench.pass(SETTLE);
    bench.gateway.handle_closed(bench.now, dashboard, "gone");
    let sensor = bench.connect(2, "sensor");
    for id in 1..=SENSORS {
        bench.publish_with(sensor, id, "sensors/a", &format!("r{id}"), &[("unit", "C")]);
        bench.pass(SETTLE);
    }
    for id in 20..25 {
        bench.publish(sensor, id, "few/a", &format!("f{id}"));
    }
    retained(bench, sensor, "config/a", "keep");
    let install = Install { plan: pushed("other"), version: version(7), wish: Wish::TakenBack };
    bench.gateway.install(bench.now, install).unwrap();
    bench.pass(Duration::from_secs(15));
}

fn check(bench: &mut Bench) {
    let expected: Vec<String> = (1..=SENSORS).map(|id| format!("r{id}")).collect();
    let telemetry = bench.stream("telemetry");
    let payloads: Vec<&String> = telemetry.iter().map(|(_, payload, _)| payload).collect();
    assert_eq!(payloads, expected.iter().collect::<Vec<_>>());
    for (topic, _, attributes) in &telemetry {
        assert_eq!(topic, "sensors/a");
        assert_eq!(attributes.user, [("unit".to_owned(), "C".to_owned())]);
    }
    assert_eq!(bench.payloads("few"), ["f22", "f23", "f24"]);
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.epoch, 1_780_000_000);
    let stream = |name: &str| status.streams.iter().find(|stream| stream.name == name).unwrap();
    assert_eq!((stream("few").lost, stream("few").first_seq), (2, 3));
    let cursor = |of: &str, reader: &str| {
        stream(of).readers.iter().find(|one| one.name == reader).unwrap().next_seq
    };
    assert_eq!(cursor("telemetry", "fn/echo"), u64::from(SENSORS) + 1);
    assert_eq!(cursor("telemetry", "uplink/cloud") + cursor("alerts", "uplink/cloud"), 5 + 2);
    assert_eq!(status.functions[0].state_keys, 1);
    let alias = bench.gateway.alias("other").unwrap();
    assert_eq!((alias.current, alias.on_trial), (Some(version(7)), false));
    let dashboard = connect_keeping(bench, 11, DASHBOARD);
    let connack = packets(&bench.received[&dashboard]).next().unwrap();
    assert_eq!((connack.0, connack.1[0]), (0x20, 1), "the session is present");
    assert_eq!(bench.publishes(dashboard), bench.payloads("alerts").len(), "what waited for it");
    let other = bench.connect(12, "other");
    bench.subscribe(other, "config/#");
    bench.pass(SETTLE);
    assert_eq!(bench.publishes(other), 1, "what is retained");
    // It goes on: the state counts further, and the rest goes up.
    let before = bench.payloads("alerts").len();
    bench.publish(other, 1, "sensors/b", "new");
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts").len(), before + 1);
    assert_eq!(before, 2 * usize::from(SENSORS), "of both functions");
}

fn load(version: &str) -> CrashDisk {
    let disk = CrashDisk::new();
    let mut files = 0;
    for entry in std::fs::read_dir(directory(version).join("log")).unwrap() {
        let entry = entry.unwrap();
        let (name, bytes) =
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
        disk.create(&name, bytes.len() as u64).unwrap();
        disk.write_at(&name, 0, &bytes).unwrap();
        disk.sync(&name).unwrap();
        files += 1;
    }
    disk.sync_dir().unwrap();
    assert!(files > 0, "no golden store");
    disk
}

#[test]
fn a_store_of_version_1_is_opened_with_all_its_records_cursors_and_sessions() {
    let mut bench = Bench::on(load("v1"), golden_plan(), echo());
    check(&mut bench);
}

#[test]
#[ignore = "writes the files of a version that is not released yet"]
fn write_the_golden_store() {
    let mut bench = Bench::new(golden_plan(), echo());
    fill(&mut bench);
    let disk = bench.disk.after_kill();
    check(&mut Bench::on(disk.after_kill(), golden_plan(), echo()));
    let to = directory("v1").join("log");
    std::fs::create_dir_all(&to).unwrap();
    for name in disk.list().unwrap().iter().filter(|name| name.starts_with("seg-")) {
        let mut bytes = vec![0; disk.len(name).unwrap() as usize];
        disk.read_at(name, 0, &mut bytes).unwrap();
        let file = to.join(name);
        assert!(!file.exists(), "{} is frozen", file.display());
        std::fs::write(file, bytes).unwrap();
    }
}
