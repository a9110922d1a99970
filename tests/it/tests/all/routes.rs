//! HTTP routes that a function answers, and the secret that it reads, on a gateway that is killed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use tidegate_rig::gateway::Gateway;

use crate::binaries;
use crate::setup::{beside_others, explain, scratch_with, wait};

/// Counts requests in its state, publishes the count, and answers with it and the secret `api-key`,
/// which it logs as well. Four digits; input at 64 KiB, output at 128 KiB.
const COUNTER: &str = r#"(module
  (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
  (import "tg1" "log" (func $log (param i32 i32 i32)))
  (import "tg1" "secret_get" (func $secret_get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 0x100) "n")
  (data (i32.const 0x110) "alerts/n")
  (data (i32.const 0x120) "text/plain")
  (data (i32.const 0x130) "api-key")
  (func (export "tg_abi_1"))
  (func (export "tg_buffer") (param i32) (result i32) (i32.const 0x10000))
  (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "tg_handle") (param $frame i32) (param $length i32) (result i64)
    (local $digit i32) (local $secret i32) (local $total i32)
    (if (i32.ne (i32.load16_u offset=4 (local.get $frame)) (i32.const 3))
      (then (return (i64.const 0))))
    (i32.store (i32.const 0x200) (i32.const 0x30303030))
    (drop (call $kv_get (i32.const 0x100) (i32.const 1) (i32.const 0x200) (i32.const 4)))
    (local.set $digit (i32.const 0x203))
    (loop $carry
      (if (i32.eq (i32.load8_u (local.get $digit)) (i32.const 0x39))
        (then
          (i32.store8 (local.get $digit) (i32.const 0x30))
          (local.set $digit (i32.sub (local.get $digit) (i32.const 1)))
          (br $carry))
        (else
          (i32.store8 (local.get $digit)
            (i32.add (i32.load8_u (local.get $digit)) (i32.const 1))))))
    (local.set $secret (call $secret_get
      (i32.const 0x130) (i32.const 7) (i32.const 0x204) (i32.const 64)))
    (if (i32.lt_s (local.get $secret) (i32.const 0)) (then (local.set $secret (i32.const 0))))
    (call $log (i32.const 3) (i32.const 0x204) (local.get $secret))
    (memory.fill (i32.const 0x20000) (i32.const 0) (i32.const 512))
    (i32.store (i32.const 0x20000) (i32.const 0x314F4754)) ;; TGO1
    (i32.store (i32.const 0x20004) (i32.const 3))
    ;; KV_PUT
    (i32.store (i32.const 0x20010) (i32.const 3))
    (i32.store (i32.const 0x20014) (i32.const 21))
    (i32.store (i32.const 0x20018) (i32.const 1))
    (i32.store (i32.const 0x2001C) (i32.const 4))
    (memory.copy (i32.const 0x20028) (i32.const 0x100) (i32.const 1))
    (memory.copy (i32.const 0x20029) (i32.const 0x200) (i32.const 4))
    ;; EMIT
    (i32.store (i32.const 0x20030) (i32.const 1))
    (i32.store (i32.const 0x20034) (i32.const 28))
    (i32.store (i32.const 0x20038) (i32.const 8))
    (i32.store (i32.const 0x2003C) (i32.const 4))
    (i32.store (i32.const 0x20044) (i32.const 1))
    (memory.copy (i32.const 0x20048) (i32.const 0x110) (i32.const 8))
    (memory.copy (i32.const 0x20050) (i32.const 0x200) (i32.const 4))
    ;; RESPOND
    (i32.store (i32.const 0x20058) (i32.const 7))
    (i32.store (i32.const 0x2005C) (i32.add (local.get $secret) (i32.const 30)))
    (i32.store (i32.const 0x20060) (i32.const 10))
    (i32.store (i32.const 0x20064) (i32.add (local.get $secret) (i32.const 4)))
    (i32.store (i32.const 0x20068) (i32.const 201))
    (memory.copy (i32.const 0x20070) (i32.const 0x120) (i32.const 10))
    (memory.copy (i32.const 0x2007A) (i32.const 0x200) (i32.add (local.get $secret) (i32.const 4)))
    (local.set $total
      (i32.and (i32.add (local.get $secret) (i32.const 133)) (i32.const -8)))
    (i32.store (i32.const 0x20008) (local.get $total))
    (i64.or (i64.const 0x2000000000000) (i64.extend_i32_u (local.get $total)))))"#;

/// A gateway whose function counts requests to `/count/{what}` for who has a token; answers it with
/// the address and the token.
fn gateway() -> (Gateway, SocketAddr, String) {
    let scratch = scratch_with("counter.wasm", &wat::parse_str(COUNTER).unwrap());
    let tokens = scratch.path().join("tokens");
    let arguments = ["http", "token", "panel", "--file", tokens.to_str().unwrap()];
    let shown = Command::new(binaries::tidegate()).args(arguments).output().unwrap();
    let token = String::from_utf8(shown.stdout).unwrap().lines().next().unwrap().to_owned();
    let address = tidegate_rig::ports::free().unwrap();
    let text = format!(
        r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"
routes_listen = "{address}"

[[http.route]]
path = "/count"
tokens_file = "tokens"
requests_per_second = 1000

[stream.telemetry]
topics = ["sensors/+/telemetry"]

[stream.alerts]
topics = ["alerts/#"]
retain = "1h"

[function.counter]
module = "counter.wasm"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
routes = ["POST /count/{{what}}"]
secrets = ["api-key"]
"#
    );
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    (gateway, address, token)
}

/// Status and body of an answer; `None` when the connection broke.
fn ask(address: SocketAddr, token: &str, key: Option<&str>) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    let key = key.map_or_else(String::new, |key| format!("Idempotency-Key: {key}\r\n"));
    let request = format!(
        "POST /count/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         {key}Content-Length: 3\r\n\r\nadd"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    // One that was cut off is none.
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    (length.parse() == Ok(body.len())).then(|| (status, body.to_owned()))
}

/// Counts that are on flash, in the order of the stream.
fn published(gateway: &Gateway) -> Vec<String> {
    let tail = gateway.command(&["stream", "tail", "alerts", "--from", "1", "--json"]);
    let payload = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().unwrap().to_owned()
    };
    tail.unwrap_or_default().lines().map(payload).collect()
}

#[test]
fn a_request_with_a_key_counts_once_however_often_the_gateway_is_killed() {
    let _machine = beside_others();
    let (mut gateway, address, token) = gateway();
    let mut bodies = Vec::new();
    let mut heard = 0;
    for round in 0..12_u64 {
        let (token_of, key) = (token.clone(), format!("key-{round}"));
        let key_of = key.clone();
        let client = thread::spawn(move || ask(address, &token_of, Some(&key_of)));
        // From before it is there to after it is answered.
        thread::sleep(Duration::from_millis(round));
        gateway.kill().unwrap();
        let first = client.join().unwrap();
        gateway.start().unwrap();
        let mut last = None;
        wait(&gateway, "the request is answered", || {
            last = ask(address, &token, Some(&key));
            last.as_ref().is_some_and(|(status, _)| *status == 201)
        });
        if let Some((201, body)) = &first {
            heard += 1;
            assert_eq!(Some(&(201, body.clone())), last.as_ref(), "round {round}: it was answered");
        }
        bodies.extend(last.map(|(_, body)| body));
    }
    let expected: Vec<String> = (1..=12).map(|count| format!("{count:04}")).collect();
    assert_eq!(bodies, expected, "{heard} were heard before the kill\n{}", explain(&gateway));
    assert_eq!(published(&gateway), expected);
    let other = ask(address, "tgt_wrong", Some("key-99"));
    assert!(matches!(other, Some((401, _))), "{other:?}");
    assert_eq!(published(&gateway).len(), 12);
}

/// Sets a secret as an operator does.
fn set(gateway: &Gateway, value: &str) {
    let mut child = Command::new(binaries::tidegate())
        .args(["secret", "set", "api-key", "--data-dir"])
        .arg(gateway.data_dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// All files below a directory.
fn files(directory: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

#[test]
fn a_secret_is_read_replaced_without_a_restart_and_in_no_file_as_it_is() {
    let _machine = beside_others();
    let (mut gateway, address, token) = gateway();
    let answer = |what: &str| ask(address, &token, None).map(|(_, body)| body).expect(what);
    assert_eq!(answer("without a value"), "0001");
    let values = ["hunter2-one", "hunter2-another"];
    for (at, value) in values.iter().enumerate() {
        set(&gateway, &format!("{value}\n"));
        assert_eq!(answer("with a value"), format!("{:04}{value}", at + 2));
    }
    gateway.kill().unwrap();
    gateway.start().unwrap();
    assert_eq!(answer("after a kill"), format!("0004{}", values[1]));
    let listed = gateway.command(&["secret", "ls", "--json"]).unwrap();
    assert!(listed.contains("\"api-key\"") && !listed.contains("hunter2"), "{listed}");
    // A gateway that runs takes files away while they are read.
    gateway.kill().unwrap();
    let mut all = vec![gateway.log_file()];
    files(&gateway.data_dir(), &mut all);
    let found: BTreeSet<_> = all
        .iter()
        .filter(|file| fs::read(file).unwrap().windows(7).any(|part| part == b"hunter2"))
        .collect();
    assert!(found.is_empty(), "{found:?}");
    gateway.start().unwrap();
    assert!(fs::read_to_string(gateway.log_file()).unwrap().contains("***"), "the lines are there");
    assert!(!explain(&gateway).contains("hunter2"));
    gateway.command(&["secret", "rm", "api-key"]).unwrap();
    assert_eq!(answer("when it is gone"), "0005");
}
