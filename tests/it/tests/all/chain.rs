//! Three functions with state, one behind the other, while the gateway is killed again and again:
//! each counts every record once, and puts it out once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::Publisher;

use crate::binaries;
use crate::setup::{PATIENCE, Readings, beside_others, explain, number, publisher, wait};

const KILLS: u64 = 20;
const PUBLISHERS: u64 = 2;
const READINGS: u64 = 3_000;
const TOTAL: u64 = PUBLISHERS * READINGS;
const INTERVAL: Duration = Duration::from_millis(2);
/// What a function puts before a payload: its count in 8 digits, and a space.
const COUNT: usize = 9;

/// A function that counts its records in its state, and publishes each to a topic of 6 bytes with
/// the count before it.
fn counting(topic: &str) -> Vec<u8> {
    assert_eq!(topic.len(), 6);
    let text = format!(
        r#"(module
  (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 64)
  (data (i32.const 8) "n")
  (data (i32.const 16) "{topic}")
  (func (export "tg_abi_1"))
  ;; Input at 64 KiB, output at 2 MiB.
  (func (export "tg_buffer") (param i32) (result i32) (i32.const 0x10000))
  (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
  (func $hex (param $at i32) (param $number i32) (local $left i32) (local $digit i32)
    (local.set $left (i32.const 8))
    (loop $next
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (local.set $digit (i32.and (local.get $number) (i32.const 15)))
      (local.set $number (i32.shr_u (local.get $number) (i32.const 4)))
      (i32.store8 (i32.add (local.get $at) (local.get $left))
        (i32.add (local.get $digit)
          (select (i32.const 48) (i32.const 87) (i32.lt_u (local.get $digit) (i32.const 10)))))
      (br_if $next (local.get $left)))
    (i32.store8 offset=8 (local.get $at) (i32.const 0x20)))
  (func (export "tg_handle") (param $frame i32) (param $length i32) (result i64)
    (local $left i32) (local $entry i32) (local $payload i32) (local $bytes i32)
    (local $out i32) (local $body i32) (local $count i32)
    (if (i32.eq (i32.const 4)
        (call $kv_get (i32.const 8) (i32.const 1) (i32.const 64) (i32.const 4)))
      (then (local.set $count (i32.load (i32.const 64)))))
    (local.set $left (i32.load offset=8 (local.get $frame)))
    (i32.store (i32.const 0x200000) (i32.const 0x314F4754)) ;; TGO1
    (i32.store (i32.const 0x200004) (i32.add (local.get $left) (i32.const 1)))
    (i32.store (i32.const 0x20000C) (i32.const 0))
    (local.set $entry (i32.add (local.get $frame) (i32.const 32)))
    (local.set $out (i32.const 0x200010))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (local.set $payload
          (i32.add (local.get $frame) (i32.load offset=24 (local.get $entry))))
        (local.set $bytes (i32.load offset=28 (local.get $entry)))
        ;; EMIT: code 1, length, then topic, payload and property lengths, QoS 1.
        (local.set $body (i32.add (local.get $bytes) (i32.const 31)))
        (i32.store (local.get $out) (i32.const 1))
        (i32.store offset=4 (local.get $out) (local.get $body))
        (i32.store offset=8 (local.get $out) (i32.const 6))
        (i32.store offset=12 (local.get $out) (i32.add (local.get $bytes) (i32.const 9)))
        (i32.store offset=16 (local.get $out) (i32.const 0))
        (i32.store offset=20 (local.get $out) (i32.const 1))
        (local.set $body (i32.and (i32.add (local.get $body) (i32.const 7)) (i32.const -8)))
        (i64.store (i32.add (local.get $out) (local.get $body)) (i64.const 0)) ;; padding
        (memory.copy (i32.add (local.get $out) (i32.const 24)) (i32.const 16) (i32.const 6))
        (call $hex (i32.add (local.get $out) (i32.const 30)) (local.get $count))
        (memory.copy (i32.add (local.get $out) (i32.const 39))
          (local.get $payload) (local.get $bytes))
        (local.set $out (i32.add (i32.add (local.get $out) (i32.const 8)) (local.get $body)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 48)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    ;; KV_PUT: code 3, length, key and value lengths, no time to live.
    (i32.store (local.get $out) (i32.const 3))
    (i32.store offset=4 (local.get $out) (i32.const 21))
    (i32.store offset=8 (local.get $out) (i32.const 1))
    (i32.store offset=12 (local.get $out) (i32.const 4))
    (i64.store offset=16 (local.get $out) (i64.const 0))
    (i64.store offset=24 (local.get $out) (i64.const 0x6e)) ;; n
    (i32.store offset=25 (local.get $out) (local.get $count))
    (local.set $out (i32.sub (i32.add (local.get $out) (i32.const 32)) (i32.const 0x200000)))
    (i32.store (i32.const 0x200008) (local.get $out))
    (i64.or (i64.shl (i64.const 0x200000) (i64.const 32)) (i64.extend_i32_u (local.get $out)))))"#
    );
    wat::parse_str(text).unwrap()
}

/// A gateway with the chain: `telemetry`, `first`, `second`, `third`.
fn gateway() -> Gateway {
    let scratch = crate::setup::scratch_with("1.wasm", &counting("first/"));
    std::fs::write(scratch.path().join("2.wasm"), counting("secon/")).unwrap();
    std::fs::write(scratch.path().join("3.wasm"), counting("third/")).unwrap();
    let mut text = r#"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"
"#
    .to_owned();
    for (stream, topic) in [
        ("telemetry", "sensors/+/telemetry"),
        ("first", "first/#"),
        ("second", "secon/#"),
        ("third", "third/#"),
    ] {
        let section = format!("\n[stream.{stream}]\ntopics = [\"{topic}\"]\nretain = \"1h\"\n");
        text.push_str(&section);
    }
    for (at, (input, publish)) in
        [("telemetry", "first/#"), ("first", "secon/#"), ("second", "third/#")].iter().enumerate()
    {
        let at = at + 1;
        text.push_str(&format!(
            "\n[function.f{at}]\nmodule = \"{at}.wasm\"\ninput = {{ stream = \"{input}\" }}\n\
             publish = [\"{publish}\"]\nbatch_records = 50\n"
        ));
    }
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    gateway
}

/// Payloads of a stream that are on flash.
fn payloads(gateway: &Gateway, stream: &str) -> Vec<String> {
    let tail = gateway.command(&["stream", "tail", stream, "--from", "1", "--json"]).unwrap();
    let payload = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().unwrap().to_owned()
    };
    tail.lines().map(payload).collect()
}

#[test]
fn a_chain_of_three_functions_with_state_counts_each_record_once_over_twenty_kills() {
    let _machine = beside_others();
    let mut gateway = gateway();
    let start = |at: u64| {
        let name = format!("p{at}");
        let readings = Readings::paced(&name, READINGS, INTERVAL);
        publisher(gateway.mqtt(), &name, Version::V5, Some(1), readings)
    };
    let publishers: Vec<Publisher> = (0..PUBLISHERS).map(start).collect();
    let acknowledged = |publishers: &[Publisher]| -> u64 {
        publishers.iter().map(|publisher| publisher.progress().acknowledged).sum()
    };
    for kill in 1..=KILLS {
        let after = kill * TOTAL / (KILLS + 1);
        wait(&gateway, "readings are acknowledged", || acknowledged(&publishers) >= after);
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    for publisher in publishers {
        let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    wait(&gateway, "the chain has handled everything", || {
        payloads(&gateway, "third").len() as u64 >= TOTAL
            && (0..3).all(|f| number(&gateway, &format!("/functions/{f}/lag")) == Some(0))
    });
    for stream in ["telemetry", "first", "second", "third"] {
        let records = payloads(&gateway, stream).len() as u64;
        assert_eq!(records, TOTAL, "{stream}\n{}", explain(&gateway));
    }
    // The last of the three stands in front.
    let outputs = payloads(&gateway, "third");
    let all: BTreeSet<u64> = (1..=TOTAL).collect();
    for (place, function) in [(0, 3), (1, 2), (2, 1)] {
        let count = |payload: &String| {
            u64::from_str_radix(&payload[place * COUNT..(place + 1) * COUNT - 1], 16).unwrap()
        };
        let counts: BTreeSet<u64> = outputs.iter().map(count).collect();
        assert!(counts == all, "function {function} counted {} of {TOTAL}", counts.len());
    }
    let sent: BTreeSet<String> = (0..PUBLISHERS)
        .flat_map(|at| {
            (0..READINGS).map(move |number| Readings::payload(&format!("p{at}"), number))
        })
        .collect();
    let came: BTreeSet<String> =
        outputs.iter().map(|payload| payload[3 * COUNT..].to_owned()).collect();
    assert!(came == sent, "{} of {} readings came through", came.len(), sent.len());
    assert!(gateway.command(&["stream", "tail", "dead-letters"]).unwrap().is_empty());
}
