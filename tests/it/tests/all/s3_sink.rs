//! The S3 sink with a server that somebody else wrote (s3s): the gateway and the server are
//! killed, the link is cut so that answers are lost, and goes silent. Judged by the objects.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::proxy::{Mode, Proxy};
use tidegate_rig::publisher::{Publisher, message_id};
use tidegate_rig::scratch::Scratch;
use tidegate_rig::sink::Sink;

use crate::binaries;
use crate::setup::{PATIENCE, Readings, beside_others, gateway, number, publisher, wait};

const PUBLISHERS: u64 = 4;
const READINGS: u64 = 2_500;
const TOTAL: u64 = PUBLISHERS * READINGS;

/// An object of the bucket: what its name says, and its lines.
#[derive(Debug)]
struct Object {
    name: String,
    epoch: u64,
    first: u64,
    last: u64,
    lines: Vec<Value>,
}

/// All objects of one stream, in the order of their names.
fn objects(bucket: &Path, stream: &str) -> Vec<Object> {
    let stream = bucket.join("raw/gw-it").join(stream);
    let mut paths: Vec<PathBuf> = Vec::new();
    for epoch in fs::read_dir(&stream).unwrap() {
        let files = fs::read_dir(epoch.unwrap().path()).unwrap();
        paths.extend(files.map(|file| file.unwrap().path()));
    }
    // The server keeps notes of its own beside the objects.
    paths.retain(|path| path.to_str().unwrap().ends_with(".ndjson.gz"));
    paths.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    paths.sort();
    paths.iter().map(|path| object(path)).collect()
}

fn object(path: &Path) -> Object {
    let unpacked = Command::new("zcat").arg(path).output().unwrap();
    assert!(unpacked.status.success(), "{}: {unpacked:?}", path.display());
    let text = String::from_utf8(unpacked.stdout).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    let (first, last) = name.strip_suffix(".ndjson.gz").unwrap().split_once('-').unwrap();
    let epoch = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
    Object {
        epoch: epoch.parse().unwrap(),
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        lines: text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        name,
    }
}

fn config(upstream: std::net::SocketAddr, credentials: &Path) -> String {
    let mqtt = crate::setup::config(upstream, "");
    let (before, _) = mqtt.split_once("[uplink.cloud]").unwrap();
    format!(
        r#"{before}[uplink.lake]
url = "s3+http://{upstream}/bucket/raw"
credentials_file = "{}"
streams = ["telemetry"]
window = 400
batch_records = 100
batch_age = "50ms"
ack_timeout = "2s"
connect_timeout = "2s"
backoff_max = "500ms"
"#,
        credentials.display()
    )
}

#[test]
fn no_record_is_missing_or_doubled_over_all_objects_after_kills_and_lost_answers() {
    let _machine = beside_others();
    let Some(binary) = binaries::s3() else { return };
    let scratch = Scratch::new("s3").unwrap();
    let root = scratch.path().join("root");
    let bucket = root.join("bucket");
    fs::create_dir_all(&bucket).unwrap();
    let credentials = scratch.path().join("credentials");
    fs::write(&credentials, "aws_access_key_id = A\naws_secret_access_key = s3cret\n").unwrap();
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).unwrap();
    let options = ["--root", root.to_str().unwrap(), "--key-id", "A", "--secret", "s3cret"];
    let mut server = Sink::start(&binary, &options).unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let mut gateway = gateway(&config(proxy.address(), &credentials));
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|at| {
            let name = format!("p{at}");
            // Slow enough that the last trouble still meets publishers at work.
            let source = Readings::paced(&name, READINGS, Duration::from_millis(4));
            publisher(gateway.mqtt(), &name, Version::V5, Some(7), source)
        })
        .collect();
    for round in 1..=8 {
        let enough = round * TOTAL / 10;
        wait(&gateway, "enough is acknowledged", || {
            publishers.iter().map(|one| one.progress().acknowledged).sum::<u64>() >= enough
        });
        match round % 4 {
            0 => {
                server.kill().unwrap();
                server.start_again().unwrap();
            }
            1 => {
                // What was put just now is stored, and its answer is lost.
                proxy.set(Mode::Cut);
                proxy.set(Mode::Pass);
            }
            2 => {
                gateway.kill().unwrap();
                gateway.start().unwrap();
            }
            _ => silence(&proxy, &gateway),
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for publisher in publishers {
        let report = publisher.finish(deadline).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    wait(&gateway, "the gateway has nothing left to send", || {
        ["/uplinks/0/backlog", "/uplinks/0/in_flight"]
            .iter()
            .all(|pointer| number(&gateway, pointer) == Some(0))
    });
    judge(&objects(&bucket, "telemetry"));
}

fn silence(proxy: &Proxy, gateway: &Gateway) {
    let before = proxy.accepted();
    proxy.set(Mode::BlackHole);
    wait(gateway, "the gateway gives the silent link up", || proxy.accepted() > before);
    proxy.set(Mode::Pass);
}

fn judge(objects: &[Object]) {
    let mut before = (0, 0);
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    for object in objects {
        assert!((object.epoch, object.first) > before, "{} overlaps the one before", object.name);
        before = (object.epoch, object.last);
        let mut seq = object.first.saturating_sub(1);
        for line in &object.lines {
            let here = line["seq"].as_u64().unwrap();
            assert!(here > seq && here <= object.last, "{} holds record {here}", object.name);
            seq = here;
            assert_eq!(line["epoch"].as_u64(), Some(object.epoch));
            let payload: Value = serde_json::from_str(line["payload"].as_str().unwrap()).unwrap();
            *times.entry(payload["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    for at in 0..PUBLISHERS {
        for reading in 0..READINGS {
            let id = message_id(&format!("p{at}"), reading);
            assert_eq!(times.get(&id), Some(&1), "{id}");
        }
    }
    assert_eq!(times.len() as u64, TOTAL);
    println!("{} objects, {TOTAL} records", objects.len());
}
