//! Functions that authors push to a gateway that runs: signed, in blocks, tried, taken back.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::scratch::Scratch;

use crate::setup::{PATIENCE, Readings, beside_others, explain, publisher, wait};
use crate::{binaries, poison};

const READINGS: u64 = 50;

/// An author with a key, and what is packed with it.
pub(crate) struct Author {
    scratch: Scratch,
    public: String,
}

impl Author {
    pub(crate) fn new() -> Author {
        let scratch = Scratch::new("author").unwrap();
        let key = scratch.path().join("team.key");
        let shown = tidegate(&["fn", "keygen", key.to_str().unwrap()]).unwrap();
        let public = shown.split('"').nth(1).unwrap().to_owned();
        Author { scratch, public }
    }

    /// Packs a module; answers the package's file and its hash.
    pub(crate) fn pack(&self, version: &str, text: &str) -> (PathBuf, String) {
        let at = |name: &str| self.scratch.path().join(name);
        std::fs::write(at("echo.wasm"), wat_of(text)).unwrap();
        let manifest = format!(
            r#"name = "echo"
version = "{version}"
module = "echo.wasm"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
"#
        );
        std::fs::write(at("function.toml"), manifest).unwrap();
        let (key, package) = (at("team.key"), at(&format!("{version}.tgpkg")));
        let directory = self.scratch.path().to_str().unwrap();
        let (key, output) = (key.to_str().unwrap(), package.to_str().unwrap());
        let shown = tidegate(&["fn", "pack", directory, "--key", key, "-o", output]).unwrap();
        let hash = shown.lines().find_map(|line| line.strip_prefix("hash ")).unwrap();
        (package, hash.to_owned())
    }

    /// A gateway that trusts the author, with trials of this length.
    pub(crate) fn gateway(&self, trial: &str) -> Gateway {
        let text = format!(
            r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"

[stream.alerts]
topics = ["alerts/#"]
retain = "1h"

[functions]
trusted_keys = ["{public}"]
trial = "{trial}"

[functions.allow]
streams = ["telemetry"]
publish = ["alerts/#"]
"#,
            public = self.public
        );
        crate::setup::gateway(&text)
    }
}

fn wat_of(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

/// Runs a command that needs no gateway.
fn tidegate(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binaries::tidegate()).args(arguments).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A function that passes each message on, with a module of some hundred kilobytes.
fn large() -> String {
    let padding = "0123456789abcdef".repeat(20_000);
    let data = format!(r#"(data (i32.const 0x300000) "{padding}") (data (i32.const 16)"#);
    poison::text("unreachable").replacen("(data (i32.const 16)", &data, 1)
}

fn publish(gateway: &Gateway, name: &str) {
    let readings = Readings::new(name, READINGS);
    let publisher = publisher(gateway.mqtt(), name, Version::V311, None, readings);
    let report = publisher.finish(std::time::Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, READINGS);
}

/// Payloads of the outputs that are on flash, sorted.
pub(crate) fn outputs(gateway: &Gateway) -> Vec<String> {
    let tail = gateway.command(&["stream", "tail", "alerts", "--from", "1", "--json"]);
    let tail = tail.unwrap_or_default();
    let payload = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().unwrap().to_owned()
    };
    let mut found: Vec<String> = tail.lines().map(payload).collect();
    found.sort();
    found
}

fn readings(names: &[&str]) -> Vec<String> {
    let of = |name: &&str| {
        let name = (*name).to_owned();
        (0..READINGS).map(move |number| Readings::payload(&name, number))
    };
    let mut all: Vec<String> = names.iter().flat_map(of).collect();
    all.sort();
    all
}

/// Uploads the beginning of a package, and is cut off.
fn upload_half(gateway: &Gateway, package: &Path, hash: &str) -> usize {
    let bytes = std::fs::read(package).unwrap();
    let mut stream = UnixStream::connect(gateway.data_dir().join("admin.sock")).unwrap();
    let mut ask = |request: String| {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).unwrap();
        assert!(answer.contains("uploaded"), "{answer}");
    };
    let size = bytes.len();
    ask(format!("{{\"v\":1,\"request\":\"push_begin\",\"package\":\"{hash}\",\"size\":{size}}}\n"));
    let mut have = 0;
    while have < size / 2 {
        let end = (have + 16_384).min(size);
        let block: String = bytes[have..end].iter().map(|byte| format!("{byte:02x}")).collect();
        ask(format!(
            "{{\"v\":1,\"request\":\"push_block\",\"package\":\"{hash}\",\"offset\":{have},\
             \"block\":\"{block}\"}}\n"
        ));
        have = end;
    }
    have
}

#[test]
fn a_push_that_a_kill_broke_off_goes_on_and_its_function_runs_over_restarts() {
    let _machine = beside_others();
    let author = Author::new();
    let mut gateway = author.gateway("1s");
    publish(&gateway, "p0");
    let (package, hash) = author.pack("1.0.0", &large());
    let have = upload_half(&gateway, &package, &hash);
    gateway.kill().unwrap();
    gateway.start().unwrap();
    let pushed = gateway.command(&["fn", "push", package.to_str().unwrap()]).unwrap();
    assert!(pushed.contains(&format!("going on at byte {have} of ")), "{pushed}");
    assert!(pushed.contains("echo 1.0.0 is kept"), "{pushed}");
    wait(&gateway, "what was there is handled", || outputs(&gateway) == readings(&["p0"]));
    gateway.kill().unwrap();
    gateway.start().unwrap();
    publish(&gateway, "p1");
    wait(&gateway, "it runs again", || outputs(&gateway) == readings(&["p0", "p1"]));
    let again = gateway.command(&["fn", "push", package.to_str().unwrap()]).unwrap();
    assert!(again.contains("echo 1.0.0 runs already"), "{again}");
}

#[test]
fn a_version_that_traps_is_taken_back_and_nothing_is_lost_or_handled_twice() {
    let _machine = beside_others();
    let author = Author::new();
    let gateway = author.gateway("10s");
    let (good, good_hash) = author.pack("1.0.0", &poison::text("unreachable"));
    gateway.command(&["fn", "push", good.to_str().unwrap()]).unwrap();
    publish(&gateway, "p0");
    // It starts, and traps at its first record.
    let handle = "(local.set $left (i32.load offset=8 (local.get $frame)))";
    let traps = poison::text("unreachable").replacen(handle, "unreachable", 1);
    let (bad, bad_hash) = author.pack("1.1.0", &traps);
    gateway.command(&["fn", "push", "--no-wait", bad.to_str().unwrap()]).unwrap();
    publish(&gateway, "p1");
    wait(&gateway, "the old version runs again", || outputs(&gateway) == readings(&["p0", "p1"]));
    let listed = gateway.command(&["fn", "ls", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["version"]["package"], good_hash.as_str());
    assert_eq!(listed[0]["failed"]["package"], bad_hash.as_str());
    let reason = listed[0]["failed"]["reason"].as_str().unwrap();
    assert!(reason.contains("trapped"), "{reason}");
    let events = gateway.command(&["stream", "tail", "function-events", "--from", "1"]).unwrap();
    assert!(events.contains("rolled-back") && events.contains("trapped"), "{events}");
    assert!(gateway.command(&["stream", "tail", "dead-letters"]).unwrap().is_empty());
}

#[test]
fn a_version_that_traps_at_start_is_refused_with_all_that_is_wrong_and_the_old_one_runs_on() {
    let _machine = beside_others();
    let author = Author::new();
    let gateway = author.gateway("1s");
    let (good, _) = author.pack("1.0.0", &poison::text("unreachable"));
    gateway.command(&["fn", "push", good.to_str().unwrap()]).unwrap();
    let init = r#"(func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))"#;
    let dead = init.replacen("(i32.const 0)", "unreachable", 1);
    let traps = poison::text("unreachable").replacen(init, &dead, 1);
    let (bad, _) = author.pack("1.1.0", &traps);
    let refused = gateway.command(&["fn", "push", bad.to_str().unwrap()]).unwrap_err().to_string();
    assert!(refused.contains("it cannot start: the function trapped"), "{refused}");
    wait(&gateway, "the refusal is told", || {
        let told = gateway.command(&["stream", "tail", "function-events", "--from", "1"]);
        told.unwrap().contains("\"event\":\"refused\"")
    });
    publish(&gateway, "p0");
    wait(&gateway, "the old version runs on", || outputs(&gateway) == readings(&["p0"]));
    let stranger = Author::new();
    let (foreign, _) = stranger.pack("9.0.0", &poison::text("unreachable"));
    let refused = gateway.command(&["fn", "push", foreign.to_str().unwrap()]).unwrap_err();
    assert!(refused.to_string().contains("is not trusted"), "{refused}");
    assert!(gateway.command(&["fn", "rollback", "echo"]).is_err(), "there is no version before");
    gateway.command(&["fn", "rm", "echo"]).unwrap();
    let listed = gateway.command(&["fn", "ls", "--json"]).unwrap();
    assert_eq!(listed.trim(), "[]", "{}", explain(&gateway));
}
