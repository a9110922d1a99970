//! Backups of a gateway that runs, and what comes back from them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tidegate_rig::consumer::Consumer;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, publisher, threshold, wait,
};

const READINGS: u64 = 4_000;

fn tidegate(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(binaries::tidegate()).args(arguments).args(paths).output().unwrap()
}

fn sound(data_dir: &Path) {
    let report = tidegate(&["verify"], &[data_dir]);
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    assert_eq!(report.status.code(), Some(0), "{}: {text}", data_dir.display());
}

#[test]
fn a_gateway_goes_on_from_a_backup_made_under_load_and_uses_no_number_twice() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(upstream.address()).unwrap();
    let config = config(upstream.address(), &threshold(", every = true"));
    let mut original = gateway(&config);
    let source = Readings::paced("p0", READINGS, Duration::from_millis(1));
    let publisher = publisher(original.mqtt(), "p0", Version::V5, None, source);
    wait(&original, "half of the readings", || publisher.progress().acknowledged >= READINGS / 2);
    let scratch = Scratch::new("it").unwrap();
    let backup = scratch.path().join("backup");
    original.command(&["backup", backup.to_str().unwrap()]).unwrap();
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    let all = |stream: &str, most: u64| {
        let seen = Instant::now() + PATIENCE;
        assert!(consumer.wait_until(seen, |a| a.distinct(stream) >= most), "{stream}");
    };
    all("telemetry", READINGS);
    all("alerts", READINGS / 10);
    original.kill().unwrap();
    sound(&backup);
    assert!(fs::read_to_string(backup.join("tidegate.toml")).unwrap().contains("gw-it"));
    // Another machine, with what the backup has.
    let place = Scratch::new("it").unwrap();
    let to = place.path().join("data");
    let restored = tidegate(&["restore", "--to"], &[&to, &backup]);
    let told = String::from_utf8_lossy(&restored.stdout).into_owned();
    assert!(restored.status.success() && told.contains("new records get epoch"), "{restored:?}");
    sound(&to);
    let mut second = Gateway::new(&binaries::tidegate(), place, &config).unwrap();
    second.start().unwrap();
    let before = consumer.arrivals().distinct("telemetry");
    let source = Readings::new("p1", 500);
    let publisher = crate::setup::publisher(second.mqtt(), "p1", Version::V311, None, source);
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len(), 500, "{:?}", report.last_error);
    let come = consumer.wait_until(Instant::now() + PATIENCE, |arrivals| {
        arrivals.distinct("telemetry") == before + 500
    });
    assert!(come, "{}", explain(&second));
    let arrivals = consumer.arrivals();
    assert!(arrivals.conflicts.is_empty(), "a number used twice: {:?}", arrivals.conflicts);
    assert_eq!(arrivals.repeated("telemetry"), 0);
    let epoch = |name: &str| arrivals.records("telemetry", name)[0].epoch;
    assert!(epoch("p1") > epoch("p0"));
}

#[test]
fn a_store_of_a_newer_format_is_refused_in_words_and_left_byte_for_byte() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let mut gateway = gateway(&config(upstream.address(), ""));
    let source = Readings::new("p0", 100);
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, None, source);
    publisher.finish(Instant::now() + PATIENCE).unwrap();
    gateway.terminate(Duration::from_secs(20)).unwrap();
    let store = gateway.data_dir().join("log");
    let newest = files(&store).into_iter().rfind(|(name, _)| name.starts_with("seg-")).unwrap();
    let mut bytes = newest.1;
    bytes[4] = 3;
    let checksum = crc32c(&bytes[..508]);
    bytes[508..512].copy_from_slice(&checksum.to_le_bytes());
    fs::write(store.join(newest.0), bytes).unwrap();
    let before = files(&store);
    let error = gateway.start().unwrap_err().to_string();
    assert!(error.contains("has format 3, this program knows up to 2"), "{error}");
    assert!(error.contains("use the newer program that wrote it"), "{error}");
    assert_eq!(files(&store), before);
    let report = tidegate(&["verify"], &[&gateway.data_dir()]);
    assert_eq!(report.status.code(), Some(1), "{report:?}");
    // A backup without that segment would lack what is newest, and look whole.
    let backup = gateway.data_dir().join("../backup");
    let report = tidegate(&["backup", "--data-dir"], &[&gateway.data_dir(), &backup]);
    let text = String::from_utf8_lossy(&report.stderr).into_owned();
    assert_eq!(report.status.code(), Some(1), "{report:?}");
    assert!(text.contains("back up with the newer program that wrote it"), "{text}");
    assert!(!backup.join("backup.json").exists());
    assert_eq!(files(&store), before);
}

/// Names and contents of a directory's files.
fn files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
    };
    let mut found: Vec<_> = paths.map(read).collect();
    found.sort();
    found
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
