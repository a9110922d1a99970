//! Records leave a gateway by a file and enter another; damage and losses are told.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;

use crate::binaries;
use crate::setup::{PATIENCE, Readings, beside_others, config, explain, gateway, publisher, wait};

const READINGS: u64 = 2_000;

/// A gateway whose upstream is never there, so that all records stay.
fn alone_gateway() -> Gateway {
    gateway(&config("127.0.0.1:1".parse().unwrap(), ""))
}

fn publish(gateway: &Gateway, count: u64) {
    let source = Readings::new("p0", count);
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, Some(7), source);
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, count, "{:?}", report.last_error);
}

fn tidegate(words: &[&str]) -> Output {
    Command::new(binaries::tidegate()).args(words).output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The records of an NDJSON export.
fn records(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let items = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    items.filter(|item| item["item"] == "record").collect()
}

fn without_place(record: &Value) -> Value {
    let mut record = record.clone();
    for member in ["seq", "epoch", "crc", "user"] {
        record.as_object_mut().unwrap().remove(member);
    }
    record
}

#[test]
fn records_of_one_gateway_enter_another_once_though_it_is_killed_between() {
    let _machine = beside_others();
    let mut first = alone_gateway();
    publish(&first, READINGS);
    let directory = first.directory().to_owned();
    let [ndjson, cbor, cut, offline] =
        ["a.ndjson", "a.cbor", "cut.cbor", "offline.ndjson"].map(|name| directory.join(name));
    first.command(&["stream", "export", "telemetry", "-o", text(&ndjson)]).unwrap();
    let words = ["stream", "export", "telemetry", "--format", "cbor", "-o", text(&cbor)];
    first.command(&words).unwrap();
    let original = records(&ndjson);
    assert_eq!(original.len() as u64, READINGS);
    assert_eq!(original[0]["publisher"]["boot"], 7);

    first.terminate(Duration::from_secs(20)).unwrap();
    first.command(&["stream", "export", "telemetry", "--offline", "-o", text(&offline)]).unwrap();
    assert_eq!(records(&offline), original, "read from the data directory");

    let mut second = alone_gateway();
    let whole = fs::read(&cbor).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let refused = second.command(&["stream", "import", "telemetry", text(&cut)]).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("the file ends in the middle of it"), "{refused}");
    second.kill().unwrap();
    second.start().unwrap();
    let said = second.command(&["stream", "import", "telemetry", text(&cbor)]).unwrap();
    let in_already: u64 = said
        .split_once(", ")
        .and_then(|(_, rest)| rest.split_once(' '))
        .and_then(|(number, _)| number.parse().ok())
        .unwrap_or_else(|| panic!("{said}\n{}", explain(&second)));
    assert!((1..READINGS).contains(&in_already), "{said}");
    let again = second.command(&["stream", "import", "telemetry", text(&cbor)]).unwrap();
    assert!(again.starts_with("0 records imported"), "{again}");

    let back = directory.join("back.ndjson");
    second.command(&["stream", "export", "telemetry", "-o", text(&back)]).unwrap();
    let copies = records(&back);
    assert_eq!(copies.len() as u64, READINGS);
    for (index, (copy, record)) in copies.iter().zip(&original).enumerate() {
        assert_eq!(copy["seq"], index as u64 + 1);
        assert_eq!(without_place(copy), without_place(record));
        let user = copy["user"].as_array().unwrap();
        let property = |name: &str| {
            let pair = user.iter().find(|pair| pair[0] == name).unwrap();
            pair[1].as_str().unwrap().to_owned()
        };
        assert_eq!(property("origin-gateway"), "gw-it");
        assert_eq!(property("origin-stream"), "telemetry");
        assert_eq!(property("origin-seq"), record["seq"].to_string());
        assert_eq!(property("origin-epoch"), record["epoch"].to_string());
    }
}

#[test]
fn verify_finds_a_changed_byte_in_a_copy_and_leaves_a_running_gateway_alone() {
    let _machine = beside_others();
    let mut gateway = alone_gateway();
    publish(&gateway, READINGS);
    let data = gateway.data_dir();
    let refused = tidegate(&["verify", text(&data)]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("runs on") && said.contains("look at a copy"), "{said}");
    gateway.terminate(Duration::from_secs(20)).unwrap();
    let sound = tidegate(&["verify", text(&data)]);
    let said = String::from_utf8_lossy(&sound.stdout);
    assert_eq!(sound.status.code(), Some(0), "{said}");
    assert!(said.contains("no damage") && said.contains("telemetry"), "{said}");

    let copy = gateway.directory().join("copy");
    fs::create_dir_all(copy.join("log")).unwrap();
    let mut segments = Vec::new();
    for entry in fs::read_dir(data.join("log")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        fs::copy(entry.path(), copy.join("log").join(&name)).unwrap();
        if name.starts_with("seg-") {
            segments.push(name);
        }
    }
    segments.sort();
    let file = copy.join("log").join(&segments[0]);
    let mut bytes = fs::read(&file).unwrap();
    let needle = b"p0-000777";
    let at = bytes.windows(needle.len()).position(|found| found == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();
    let damaged = tidegate(&["verify", text(&copy), "--json"]);
    assert_eq!(damaged.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    let found = report["damage"].as_array().unwrap();
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(
        (&found[0]["file"], &found[0]["what"]),
        (&segments[0].clone().into(), &"frame".into())
    );
    let (offset, length) =
        (found[0]["offset"].as_u64().unwrap(), found[0]["length"].as_u64().unwrap());
    assert!((offset..offset + length).contains(&(at as u64)), "{report}");
    let held = &found[0]["records"][0];
    let range = held["first"].as_u64().unwrap()..=held["last"].as_u64().unwrap();
    assert!(held["stream"] == "telemetry" && range.contains(&778), "{report}");
    assert!(!copy.join("tidegate.lock").exists(), "nothing is made");
}

#[test]
fn a_stream_over_its_quota_tells_its_losses_and_the_status_tells_the_wear() {
    let _machine = beside_others();
    let small = config("127.0.0.1:1".parse().unwrap(), "")
        .replacen("retain = \"1h\"", "retain = \"1h\"\nmax_bytes = \"1MiB\"", 1)
        .replacen(
            "[stream.telemetry]",
            "[storage]\nendurance = \"100TB\"\n\n[stream.telemetry]",
            1,
        );
    let gateway = gateway(&small);
    publish(&gateway, 30_000);
    let losses = || {
        let said = gateway.command(&["stream", "losses", "telemetry", "--json"]).unwrap();
        serde_json::from_str::<Value>(&said).unwrap()
    };
    wait(&gateway, "the oldest records are dropped", || losses()["records"].as_u64() > Some(0));
    let report = losses();
    let range = &report["ranges"][0];
    assert_eq!((&range["first"], &range["reason"]), (&1.into(), &"quota".into()), "{report}");
    assert!(range["time"].as_str().unwrap().ends_with('Z'), "{report}");
    wait(&gateway, "the stream losses tells it", || {
        let tail = gateway.command(&["stream", "tail", "losses", "--from", "1", "--json"]);
        tail.is_ok_and(|text| text.contains(r#"\"stream\":\"telemetry\",\"first\":1,"#))
    });
    let status = gateway.status().unwrap();
    let wear = &status["disk"]["wear"];
    assert_eq!(wear["endurance_bytes"], 100_000_000_000_000_u64, "{wear}");
    assert_ne!(wear["device_bytes"].is_null(), wear["unknown"].is_null(), "{wear}");
}
