//! Several calls of one function at a time, on threads of their own, with the gateway killed while
//! they run: what has one key comes out in order, everything once.

use std::time::{Duration, Instant};

use tidegate_rig::consumer::Consumer;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::{Next, Publisher, Source, message_id};
use tidegate_rig::sensors::telemetry_topic;

use crate::binaries;
use crate::poison;
use crate::setup::{
    PATIENCE, beside_others, config, explain, number, publisher, scratch_with, wait,
};

const PUBLISHERS: u64 = 4;
const READINGS: u64 = 100;

/// Readings that each cost the function some milliseconds.
struct Costly(String);

impl Source for Costly {
    fn next(&mut self, number: u64, _: Instant) -> Next {
        if number >= READINGS {
            return Next::End;
        }
        let payload = format!(r#" {{"id":"{}","value":21.5}}"#, message_id(&self.0, number));
        Next::Message { topic: telemetry_topic(&self.0), payload: payload.into_bytes() }
    }
}

/// Counts to two million.
const WORK: &str = r"(local $n i32)
    (loop $again
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (local.get $n) (i32.const 2000000))))";

#[test]
fn workers_run_at_a_time_and_keep_the_order_of_each_key_when_the_gateway_is_killed() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(upstream.address()).unwrap();
    let scratch = scratch_with("work.wasm", &poison::module(WORK));
    let function = r#"[function.work]
module = "work.wasm"
input = { stream = "telemetry" }
ordering = "per-key"
workers = 4
publish = ["alerts/#"]
batch_records = 4
fuel_per_message = 100000000
deadline = "30s"
"#;
    let text = config(upstream.address(), function);
    let text = text.replace("[stream.telemetry]", "[stream.telemetry]\nkey = \"topic/2\"");
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    let name = |at: u64| format!("p{at}");
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|at| publisher(gateway.mqtt(), &name(at), Version::V5, Some(1), Costly(name(at))))
        .collect();
    for one in publishers {
        let report = one.finish(Instant::now() + PATIENCE).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    let handled = |gateway: &Gateway| number(gateway, "/functions/0/records").unwrap_or(0);
    for _ in 0..2 {
        let several = || number(&gateway, "/functions/0/running") >= Some(3);
        wait(&gateway, "three calls run at a time", several);
        let before = handled(&gateway);
        wait(&gateway, "some of them have ended", || handled(&gateway) > before);
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    wait(&gateway, "all is handled", || number(&gateway, "/functions/0/lag") == Some(0));
    let total = PUBLISHERS * READINGS;
    let came = consumer.wait_until(Instant::now() + Duration::from_secs(60), |arrivals| {
        arrivals.distinct("alerts") == total
    });
    let arrivals = consumer.arrivals();
    assert!(came, "{} of {total}\n{}", arrivals.distinct("alerts"), explain(&gateway));
    assert_eq!(arrivals.repeated("alerts"), 0);
    for at in 0..PUBLISHERS {
        let mut records = arrivals.records("alerts", &name(at));
        records.sort_unstable_by_key(|record| (record.epoch, record.seq));
        let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
        assert_eq!(numbers, (0..READINGS).collect::<Vec<_>>(), "in the order of {}", name(at));
    }
}
