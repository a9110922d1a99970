//! Functions that hurt, given a gateway at work: a paced 2,000 messages a second are acknowledged
//! all the same, the record that hurts ends in `dead-letters`, the rest is processed.

use std::time::{Duration, Instant};

use tidegate_rig::consumer::Consumer;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::{Next, Publisher, Source, message_id};
use tidegate_rig::sensors::telemetry_topic;

use crate::binaries;
use crate::setup::{PATIENCE, alone, config, explain, number, publisher, scratch_with, wait};

const PUBLISHERS: u64 = 4;
/// 4 publishers at 500 messages a second for 4 seconds.
const READINGS: u64 = 2_000;
const INTERVAL: Duration = Duration::from_millis(2);
const SECONDS: u64 = 4;
/// How much later than paced the last acknowledgement may come on a busy machine.
const GRACE: Duration = Duration::from_secs(2);
/// Number of the reading of the first publisher that hurts.
const POISONOUS: u64 = 700;

/// A function that passes each message on to `alerts/ok`, and runs `$poison` on one whose
/// payload begins with a space.
pub(crate) fn module(poison: &str) -> Vec<u8> {
    wat::parse_str(text(poison)).unwrap()
}

/// The same in the text format.
pub(crate) fn text(poison: &str) -> String {
    format!(
        r#"(module
  (memory (export "memory") 64)
  (data (i32.const 16) "alerts/ok")
  (func (export "tg_abi_1"))
  ;; Input at 64 KiB, output at 2 MiB.
  (func (export "tg_buffer") (param i32) (result i32) (i32.const 0x10000))
  (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
  (func $poison {poison})
  (func (export "tg_handle") (param $frame i32) (param $length i32) (result i64)
    (local $left i32) (local $entry i32) (local $payload i32) (local $bytes i32)
    (local $out i32) (local $body i32)
    (local.set $left (i32.load offset=8 (local.get $frame)))
    (i32.store (i32.const 0x200000) (i32.const 0x314F4754)) ;; TGO1
    (i32.store (i32.const 0x200004) (local.get $left))
    (i32.store (i32.const 0x20000C) (i32.const 0))
    (local.set $entry (i32.add (local.get $frame) (i32.const 32)))
    (local.set $out (i32.const 0x200010))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (local.set $payload
          (i32.add (local.get $frame) (i32.load offset=24 (local.get $entry))))
        (local.set $bytes (i32.load offset=28 (local.get $entry)))
        (if (i32.eq (i32.load8_u (local.get $payload)) (i32.const 0x20)) (then (call $poison)))
        ;; EMIT: code 1, length, then topic, payload and property lengths, QoS 1.
        (local.set $body (i32.add (local.get $bytes) (i32.const 25)))
        (i32.store (local.get $out) (i32.const 1))
        (i32.store offset=4 (local.get $out) (local.get $body))
        (i32.store offset=8 (local.get $out) (i32.const 9))
        (i32.store offset=12 (local.get $out) (local.get $bytes))
        (i32.store offset=16 (local.get $out) (i32.const 0))
        (i32.store offset=20 (local.get $out) (i32.const 1))
        (local.set $body (i32.and (i32.add (local.get $body) (i32.const 7)) (i32.const -8)))
        (i64.store (i32.add (local.get $out) (local.get $body)) (i64.const 0)) ;; padding
        (memory.copy (i32.add (local.get $out) (i32.const 24)) (i32.const 16) (i32.const 9))
        (memory.copy (i32.add (local.get $out) (i32.const 33))
          (local.get $payload) (local.get $bytes))
        (local.set $out
          (i32.add (i32.add (local.get $out) (i32.const 8)) (local.get $body)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 48)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (local.set $out (i32.sub (local.get $out) (i32.const 0x200000)))
    (i32.store (i32.const 0x200008) (local.get $out))
    (i64.or (i64.shl (i64.const 0x200000) (i64.const 32)) (i64.extend_i32_u (local.get $out)))))"#
    )
}

#[test]
fn a_function_that_loops_for_ever_hurts_nobody() {
    run("(loop $again (br $again))");
}

#[test]
fn a_function_that_allocates_without_end_hurts_nobody() {
    run("(loop $again (drop (memory.grow (i32.const 16))) (br $again))");
}

#[test]
fn a_function_that_recurses_without_end_hurts_nobody() {
    run("(call $poison)");
}

#[test]
fn a_function_that_traps_hurts_nobody() {
    run("unreachable");
}

/// Paced readings, one of which hurts.
struct Poisoned {
    name: String,
    poisonous: Option<u64>,
    started: Option<Instant>,
}

impl Source for Poisoned {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        if number >= READINGS {
            return Next::End;
        }
        let due = *self.started.get_or_insert(now) + INTERVAL.mul_f64(number as f64);
        if now < due {
            return Next::At(due);
        }
        let space = if self.poisonous == Some(number) { " " } else { "" };
        let id = message_id(&self.name, number);
        let payload = format!(r#"{space}{{"id":"{id}","value":21.5}}"#).into_bytes();
        Next::Message { topic: telemetry_topic(&self.name), payload }
    }
}

fn run(poison: &str) {
    let _machine = alone();
    let upstream = Mosquitto::start().unwrap();
    let consumer = Consumer::start(upstream.address()).unwrap();
    let scratch = scratch_with("poison.wasm", &module(poison));
    let function = r#"[function.poison]
module = "poison.wasm"
input = { stream = "telemetry" }
publish = ["alerts/#"]
attempts = 2
deadline = "200ms"
"#;
    let text = config(upstream.address(), function);
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    let started = Instant::now();
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|at| {
            let name = format!("p{at}");
            let poisonous = (at == 0).then_some(POISONOUS);
            let source = Poisoned { name: name.clone(), poisonous, started: None };
            publisher(gateway.mqtt(), &name, Version::V311, None, source)
        })
        .collect();
    for one in publishers {
        let report = one.finish(started + PATIENCE).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    let took = started.elapsed();
    assert!(
        took < Duration::from_secs(SECONDS) + GRACE,
        "{SECONDS} s of paced messages were acknowledged after {took:?}\n{}",
        explain(&gateway)
    );
    let total = PUBLISHERS * READINGS;
    wait(&gateway, "the function has handled the rest", || {
        number(&gateway, "/functions/0/lag") == Some(0)
            && number(&gateway, "/functions/0/dead_letters") == Some(1)
    });
    let all_arrived = consumer.wait_until(Instant::now() + PATIENCE, |arrivals| {
        arrivals.distinct("telemetry") == total && arrivals.distinct("alerts") == total - 1
    });
    let arrivals = consumer.arrivals();
    assert!(
        all_arrived,
        "{} of {total} readings, {} of {} outputs\n{}",
        arrivals.distinct("telemetry"),
        arrivals.distinct("alerts"),
        total - 1,
        explain(&gateway)
    );
    assert_eq!((arrivals.repeated("telemetry"), arrivals.repeated("alerts")), (0, 0));
    assert!(!arrivals.numbers("alerts", "p0").contains(POISONOUS));
    drop(arrivals);
    expect_dead_letter(&gateway);
}

/// The record that hurts is in the stream `dead-letters`, alone, with its reason.
fn expect_dead_letter(gateway: &Gateway) {
    let tail = gateway.command(&["stream", "tail", "dead-letters", "--json"]).unwrap();
    let lines: Vec<&str> = tail.lines().collect();
    assert_eq!(lines.len(), 1, "{tail}");
    assert!(lines[0].contains(&message_id("p0", POISONOUS)), "{tail}");
    let record: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    println!("dead letter: {record}");
    assert!(lines[0].contains("reason"), "{tail}");
}
