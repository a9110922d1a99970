//! Versions that are tried on a share of the keys, on a gateway at work: bad ones are taken back by
//! themselves, a good one is promoted, and each reading is handled once.

use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::{Next, Publisher, Source, message_id};
use tidegate_rig::sensors::telemetry_topic;

use crate::poison;
use crate::pushed::{Author, outputs};
use crate::setup::{PATIENCE, beside_others, explain, publisher, wait};

/// Topics of the readings, which are their keys.
const TOPICS: u64 = 40;
const INTERVAL: Duration = Duration::from_millis(2);

/// Readings of many topics; one in nineteen begins with a space.
struct ManyTopics {
    name: &'static str,
    total: u64,
    started: Option<Instant>,
}

impl Source for ManyTopics {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        if number >= self.total {
            return Next::End;
        }
        let due = *self.started.get_or_insert(now) + INTERVAL.mul_f64(number as f64);
        if now < due {
            return Next::At(due);
        }
        let topic = telemetry_topic(&format!("s{}", number % TOPICS));
        Next::Message { topic, payload: payload(self.name, number).into_bytes() }
    }
}

fn payload(name: &str, number: u64) -> String {
    let space = if number % 19 == 7 { " " } else { "" };
    format!(r#"{space}{{"id":"{}","value":21.5}}"#, message_id(name, number))
}

fn start(gateway: &Gateway, name: &'static str, total: u64) -> Publisher {
    let source = ManyTopics { name, total, started: None };
    // With an identity, what is sent again after a kill is not stored again.
    publisher(gateway.mqtt(), name, Version::V5, Some(1), source)
}

fn finish(publisher: Publisher, total: u64) {
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, total, "{:?}", report.last_error);
}

fn expect_outputs(gateway: &Gateway, published: &[(&str, u64)]) {
    let all = published.iter().flat_map(|(name, total)| (0..*total).map(|n| payload(name, n)));
    let mut expected: Vec<String> = all.collect();
    expected.sort();
    wait(gateway, "each reading has its output", || outputs(gateway).len() >= expected.len());
    let found = outputs(gateway);
    assert!(found == expected, "{} of {}\n{}", found.len(), expected.len(), explain(gateway));
    assert!(gateway.command(&["fn", "dead", "ls", "echo"]).unwrap().is_empty());
}

fn entry(gateway: &Gateway) -> Value {
    let listed = gateway.command(&["fn", "ls", "--json"]).unwrap();
    serde_json::from_str::<Value>(&listed).unwrap()[0].take()
}

/// A version that takes milliseconds for each record.
fn slow() -> String {
    let burn = "(func $burn (local $n i32) (loop $again \
                (local.set $n (i32.add (local.get $n) (i32.const 1))) \
                (br_if $again (i32.lt_u (local.get $n) (i32.const 400000))))) (func $poison";
    let text = poison::text("").replacen("(func $poison", burn, 1);
    let next = "(br_if $done (i32.eqz (local.get $left)))";
    text.replacen(next, &format!("{next} (call $burn)"), 1)
}

#[test]
fn bad_canaries_are_taken_back_by_themselves_a_good_one_is_promoted_and_nothing_is_lost() {
    let _machine = beside_others();
    let author = Author::new();
    let mut gateway = author.gateway("2s");
    let (good, good_hash) = author.pack("1.0.0", &poison::text(""));
    gateway.command(&["fn", "push", good.to_str().unwrap()]).unwrap();

    let mut published = Vec::new();
    for (version, name, module, words) in [
        ("1.1.0", "errs", poison::text("unreachable"), "it failed "),
        ("1.2.0", "slow", slow(), " us a record, the present version "),
    ] {
        let (bad, bad_hash) = author.pack(version, &module);
        let push = ["fn", "push", bad.to_str().unwrap(), "--canary", "50%", "--no-wait"];
        let pushed = gateway.command(&push).unwrap();
        assert!(pushed.contains("gets 50 % of the keys"), "{pushed}");
        let publisher = start(&gateway, name, 600);
        wait(&gateway, "the canary is taken back", || {
            entry(&gateway)["failed"]["package"] == bad_hash.as_str()
        });
        let reason = entry(&gateway)["failed"]["reason"].as_str().unwrap().to_owned();
        println!("{version}: {reason}");
        assert!(reason.contains(words), "{reason}");
        assert_eq!(entry(&gateway)["version"]["package"], good_hash.as_str());
        finish(publisher, 600);
        published.push((name, 600));
        expect_outputs(&gateway, &published);
        let events = gateway.command(&["stream", "tail", "function-events"]).unwrap();
        assert!(events.contains("rolled-back") && events.contains(words), "{events}");
    }

    let init = r#"(func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))"#;
    let dead = init.replacen("(i32.const 0)", "unreachable", 1);
    let (bad, _) = author.pack("1.3.0", &poison::text("").replacen(init, &dead, 1));
    let push = ["fn", "push", bad.to_str().unwrap(), "--canary", "50%"];
    let refused = gateway.command(&push).unwrap_err().to_string();
    assert!(refused.contains("it cannot start: the function trapped"), "{refused}");
    // The answer to the push does not wait for the record to be on disk.
    wait(&gateway, "the refusal is in the stream", || {
        let events = gateway.command(&["stream", "tail", "function-events", "-n", "1"]).unwrap();
        events.contains("refused") && events.contains("it cannot start")
    });

    let padded = poison::text("").replacen("(module", "(module (func $more)", 1);
    let (better, better_hash) = author.pack("1.4.0", &padded);
    let push = ["fn", "push", better.to_str().unwrap(), "--canary", "50%", "--records", "50"];
    gateway.command(&[&push[..], &["--no-wait"]].concat()).unwrap();
    let publisher = start(&gateway, "good", 1_500);
    wait(&gateway, "the canary has handled some", || {
        entry(&gateway)["canary"]["records"].as_u64() > Some(20)
    });
    // It is tried anew after a restart.
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait(&gateway, "the canary is promoted", || {
        entry(&gateway)["version"]["package"] == better_hash.as_str()
    });
    assert_eq!(entry(&gateway)["previous"]["package"], good_hash.as_str());
    finish(publisher, 1_500);
    published.push(("good", 1_500));
    expect_outputs(&gateway, &published);
    wait(&gateway, "the promotion is in the stream", || {
        let last = ["stream", "tail", "function-events", "-n", "1"];
        gateway.command(&last).unwrap().contains("promoted")
    });
    // Both versions are on the gateway, and what they would have done with its records can be seen.
    let replay = ["fn", "replay", "--function", "echo", "--version", "1.4.0"];
    let replay = [&replay[..], &["--against-version", "1.0.0", "--batch", "256"]].concat();
    let compared = gateway.command(&replay).unwrap();
    assert!(compared.contains("2700 the same, 0 added, 0 missing, 0 changed"), "{compared}");
}
