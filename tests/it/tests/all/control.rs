//! What an operator does to a function that runs: pause, drain, reset, dead letters, logs.

use std::time::Instant;

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::{Next, Source, message_id};
use tidegate_rig::sensors::telemetry_topic;

use crate::poison;
use crate::pushed::{Author, outputs};
use crate::setup::{PATIENCE, Readings, beside_others, explain, publisher, wait};

/// A full batch.
const BATCH: u64 = 256;
/// The number of the reading that hurts.
const POISONOUS: u64 = 100;

/// Readings, one of which begins with a space.
struct OnePoisonous;

impl Source for OnePoisonous {
    fn next(&mut self, number: u64, _: Instant) -> Next {
        if number >= BATCH {
            return Next::End;
        }
        Next::Message { topic: telemetry_topic("p0"), payload: payload(number).into_bytes() }
    }
}

fn payload(number: u64) -> String {
    let space = if number == POISONOUS { " " } else { "" };
    format!(r#"{space}{{"id":"{}","value":21.5}}"#, message_id("p0", number))
}

fn publish(gateway: &Gateway, name: &str, source: impl Source + 'static) -> usize {
    let publisher = publisher(gateway.mqtt(), name, Version::V311, None, source);
    publisher.finish(Instant::now() + PATIENCE).unwrap().acknowledged.len()
}

/// The function's entry of `tidegate fn ls --json`.
fn entry(gateway: &Gateway) -> Value {
    let listed = gateway.command(&["fn", "ls", "--json"]).unwrap();
    serde_json::from_str::<Value>(&listed).unwrap()[0].take()
}

fn metering(gateway: &Gateway, name: &str) -> u64 {
    entry(gateway)["metering"][name].as_u64().unwrap()
}

fn push(gateway: &Gateway, author: &Author, version: &str, poison: &str) {
    let (package, _) = author.pack(version, &poison::text(poison));
    let pushed = gateway.command(&["fn", "push", package.to_str().unwrap()]).unwrap();
    assert!(pushed.contains("is kept"), "{pushed}");
}

#[test]
fn of_a_batch_of_256_the_poisonous_record_is_given_up_and_handled_when_the_function_is_mended() {
    let _machine = beside_others();
    let author = Author::new();
    let mut gateway = author.gateway("1s");
    push(&gateway, &author, "1.0.0", "unreachable");
    gateway.command(&["fn", "pause", "echo"]).unwrap();
    assert_eq!(publish(&gateway, "p0", OnePoisonous) as u64, BATCH);
    // The pause is on flash.
    gateway.kill().unwrap();
    gateway.start().unwrap();
    assert_eq!((entry(&gateway)["state"].as_str(), outputs(&gateway).len()), (Some("paused"), 0));
    gateway.command(&["fn", "resume", "echo", "--json"]).unwrap();
    wait(&gateway, "255 are handled and one is given up", || {
        metering(&gateway, "records") == BATCH && outputs(&gateway).len() as u64 == BATCH - 1
    });
    assert_eq!(metering(&gateway, "dead_letters"), 1);
    assert!(!outputs(&gateway).contains(&payload(POISONOUS)));
    for figure in ["invocations", "errors", "retries", "fuel", "cpu_us", "memory_high_bytes"] {
        assert!(metering(&gateway, figure) > 0, "{figure}: {}", entry(&gateway));
    }
    assert!(entry(&gateway)["metering"]["call_latency"]["p99_us"].is_u64());

    let listed = gateway.command(&["fn", "dead", "ls", "echo", "--json"]).unwrap();
    assert_eq!(listed.lines().count(), 1, "{listed}");
    let letter: Value = serde_json::from_str(&listed).unwrap();
    println!("dead letter: {letter}");
    assert_eq!(letter["payload"], payload(POISONOUS));
    let reason = letter["dead_letter"]["reason"].as_str().unwrap();
    assert!(reason.contains("trapped"), "{reason}");
    let logs = gateway.command(&["fn", "logs", "echo", "-n", "500"]).unwrap();
    println!("{logs}");
    assert!(logs.contains("GIVEN UP  record 101 of telemetry is given up: "), "{logs}");

    push(&gateway, &author, "1.0.1", "");
    let done = gateway.command(&["fn", "dead", "redrive", "echo", "--all"]).unwrap();
    assert_eq!(done, "echo: 1 redriven\n");
    gateway.kill().unwrap();
    gateway.start().unwrap();
    let mut expected: Vec<String> = (0..BATCH).map(payload).collect();
    expected.sort();
    wait(&gateway, "the mended function has handled it", || outputs(&gateway) == expected);
    assert_eq!(gateway.command(&["fn", "dead", "ls", "echo"]).unwrap(), "", "it is settled");
    let done = gateway.command(&["fn", "dead", "redrive", "echo", "--all", "--json"]).unwrap();
    assert_eq!(done.trim(), r#"{"failed":[],"function":"echo","redriven":0}"#);
}

#[test]
fn a_drained_function_is_paused_and_a_reset_hands_it_what_it_had() {
    let _machine = beside_others();
    let author = Author::new();
    let gateway = author.gateway("1s");
    push(&gateway, &author, "1.0.0", "unreachable");
    publish(&gateway, "p0", Readings::new("p0", 50));
    let drained = gateway.command(&["fn", "drain", "echo"]).unwrap();
    assert!(drained.contains("has done what was there"), "{drained}");
    wait(&gateway, "all outputs are on flash", || outputs(&gateway).len() == 50);
    publish(&gateway, "p1", Readings::new("p1", 10));
    assert_eq!(entry(&gateway)["lag"], 10, "{}", explain(&gateway));
    let reset = gateway.command(&["fn", "reset", "echo", "--to", "41"]).unwrap();
    assert_eq!(reset, "echo: telemetry 51 -> 41; what is between comes again\n");
    gateway.command(&["fn", "resume", "echo"]).unwrap();
    wait(&gateway, "ten of the first come again", || outputs(&gateway).len() == 50 + 10 + 10);
    let refused = gateway.command(&["fn", "reset", "echo", "--to", "1000"]).unwrap_err();
    assert!(refused.to_string().contains("has no sequence 1000: it keeps 1 to 61"), "{refused}");
    let refused = gateway.command(&["fn", "pause", "none"]).unwrap_err().to_string();
    assert!(refused.contains("no function \"none\"; there are: echo"), "{refused}");
}

#[test]
fn letters_that_are_purged_are_not_listed_and_cannot_be_redriven() {
    let _machine = beside_others();
    let author = Author::new();
    let gateway = author.gateway("1s");
    push(&gateway, &author, "1.0.0", "unreachable");
    publish(&gateway, "p0", OnePoisonous);
    wait(&gateway, "one is given up", || metering(&gateway, "dead_letters") == 1);
    wait(&gateway, "it is on flash", || {
        gateway.command(&["fn", "dead", "ls", "echo"]).unwrap().contains("attempts: ")
    });
    let purge = ["fn", "dead", "purge", "echo", "--seq", "1", "--json"];
    let done = gateway.command(&purge).unwrap();
    assert_eq!(done.trim(), r#"{"failed":[],"function":"echo","purged":1}"#);
    assert_eq!(gateway.command(&["fn", "dead", "ls", "echo"]).unwrap(), "");
    let refused = gateway.command(&["fn", "dead", "redrive", "echo", "--seq", "1"]);
    assert!(refused.is_err(), "{refused:?}");
    let page = gateway.command(&["stream", "tail", "dead-letters", "--json"]).unwrap();
    assert!(page.contains("\"settled\":true"), "{page}");
}
