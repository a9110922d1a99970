//! What is gone is told in the stream `losses`, once.

use std::collections::BTreeMap;

use tidegate_stream::{Loss, LossReason, ReadOutcome};

use super::*;
use crate::LOSS_STREAM;

/// A number in a loss record.
fn number(json: &str, key: &str) -> u64 {
    let start = json.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
    let digits: String = json[start..].chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// The records of the stream `losses`, those included that only the disk has.
pub(super) fn records(bench: &mut Bench) -> Vec<String> {
    let id = bench.gateway.routes.id(LOSS_STREAM).unwrap();
    let mut next = bench.gateway.log().first_seq(id);
    let mut found = Vec::new();
    loop {
        let limit = ReadLimit { records: 10_000, bytes: usize::MAX };
        let now = bench.now.instant;
        let outcome = bench.gateway.log_mut().read(now, id, next, limit, &mut |_, _, record| {
            found.push(String::from_utf8_lossy(record.payload).into_owned());
        });
        match outcome {
            ReadOutcome::Read { next: n } | ReadOutcome::Lost { next: n } => next = n,
            ReadOutcome::Fetching => bench.drain(),
            ReadOutcome::End => return found,
        }
    }
}

/// How often each lost sequence of `stream` was told.
fn told(bench: &mut Bench, stream: &str) -> BTreeMap<u64, u32> {
    let mut times = BTreeMap::new();
    for json in records(bench) {
        if json.contains(&format!(r#""stream":"{stream}""#)) {
            for seq in number(&json, "first")..=number(&json, "last") {
                *times.entry(seq).or_default() += 1;
            }
        }
    }
    times
}

/// A stream that drops its oldest records all the time; nobody reads it.
fn overflowing() -> Plan {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks.clear();
    plan.streams[0].max_bytes = 16 * 1024;
    plan.streams[0].overflow = Overflow::DropOldest;
    plan
}

fn lose(bench: &mut Bench, stream: &str, seq: u64, reason: LossReason) {
    let loss = Loss {
        stream: bench.gateway.routes.id(stream).unwrap(),
        first: Seq(seq),
        last: Seq(seq),
        records: 1,
        bytes: 100,
        reason,
        unix_ms: bench.now.unix_ms,
    };
    bench.gateway.log.record_loss(bench.now.instant, loss);
}

#[test]
fn what_the_quota_drops_is_told_in_the_stream_losses_and_adds_up_to_the_ledger() {
    let mut bench = Bench::new(overflowing(), echo());
    let conn = bench.connect(1, "s1");
    for id in 1..=400 {
        bench.publish(conn, id, "sensors/a", &"x".repeat(400));
        bench.pass(Duration::from_millis(100));
    }
    bench.pass(Duration::from_secs(61));
    let report = bench.gateway.losses("telemetry").unwrap();
    assert!(report.records > 100, "{report:?}");
    assert_eq!((report.forgotten_records, report.ranges.len()), (0, 1));
    let times = told(&mut bench, "telemetry");
    assert_eq!(times.keys().copied().collect::<Vec<_>>(), (1..=report.records).collect::<Vec<_>>());
    assert!(times.values().all(|times| *times == 1));
    let records = bench.stream(LOSS_STREAM);
    assert!(records.len() <= 4, "an entry that grows is told seldom: {}", records.len());
    let bytes: u64 = records.iter().map(|(_, json, _)| number(json, "bytes")).sum();
    assert_eq!(bytes, report.bytes);
    let (topic, json, attributes) = &records[0];
    assert_eq!(topic, "tidegate/losses/telemetry");
    assert!(json.starts_with(r#"{"v":1,"gateway":"gw","stream":"telemetry","first":1,"#), "{json}");
    assert_eq!(attributes.content_type.as_deref(), Some("application/json"));
    let status = bench.gateway.status(bench.now);
    let by_reason: Vec<_> =
        status.streams[0].lost_by_reason.iter().map(|t| (t.reason.as_str(), t.records)).collect();
    assert_eq!(by_reason, [("quota", report.records)]);
}

#[test]
fn each_loss_is_told_once_whenever_the_power_fails() {
    let mut times_untold = 0;
    for steps in 1..40 {
        let mut bench = Bench::new(overflowing(), echo());
        let conn = bench.connect(1, "s1");
        for id in 1..=100 + steps * 3 {
            bench.publish(conn, id, "sensors/a", &"x".repeat(400));
            bench.pass(Duration::from_millis(37));
        }
        lose(&mut bench, "alerts", 5, LossReason::Refused);
        bench.pass(Duration::from_millis(u64::from(steps) * 97));
        let mut disk = bench.disk.crash(steps.into());
        // The second power cut meets the telling of what the first one left.
        for cut in [3, 1300, 70_000] {
            let mut again = Bench::on(disk, overflowing(), echo());
            let before = told(&mut again, "telemetry").len() as u64;
            let lost = again.gateway.losses("telemetry").unwrap().records;
            times_untold += u32::from(before < lost);
            again.pass(Duration::from_millis(cut));
            disk = again.disk.crash(u64::from(steps) + cut);
        }
        let mut last = Bench::on(disk, overflowing(), echo());
        for stream in ["telemetry", "alerts"] {
            let lost = last.gateway.losses(stream).unwrap().records;
            let times = told(&mut last, stream);
            assert_eq!(times.len() as u64, lost, "{stream} after {steps}");
            assert!(times.values().all(|times| *times == 1), "{stream} after {steps}: {times:?}");
        }
    }
    assert!(times_untold > 0, "a power cut came between a loss and its telling");
}

#[test]
fn losses_of_the_stream_losses_are_in_the_ledger_only() {
    let mut plan = overflowing();
    plan.streams.push(stream(LOSS_STREAM, &["nowhere"]));
    plan.streams[2].max_bytes = 8 * 1024;
    plan.streams[2].overflow = Overflow::DropOldest;
    let mut bench = Bench::new(plan, echo());
    for seq in 1..=200 {
        lose(&mut bench, "alerts", seq * 2, LossReason::Refused);
        bench.pass(Duration::from_secs(1));
    }
    let own = bench.gateway.losses(LOSS_STREAM).unwrap();
    assert!(own.records > 50, "{own:?}");
    let next = bench.gateway.log().next_seq(bench.gateway.stream(LOSS_STREAM).unwrap());
    assert_eq!(next, Seq(201), "one record a loss of the other stream, none of its own");
    bench.pass(Duration::from_secs(100));
    let later = bench.gateway.log().next_seq(bench.gateway.stream(LOSS_STREAM).unwrap());
    assert_eq!(later, next);
}

#[test]
fn a_disk_that_stands_still_delays_the_telling_and_loses_none() {
    let mut bench = Bench::new(overflowing(), echo());
    lose(&mut bench, "alerts", 1, LossReason::Refused);
    bench.disk_stands_still = true;
    bench.pass(Duration::from_secs(5));
    assert!(told(&mut bench, "alerts").is_empty());
    bench.let_the_disk_go();
    bench.pass(Duration::from_secs(2));
    assert_eq!(told(&mut bench, "alerts"), BTreeMap::from([(1, 1)]));
}

#[test]
fn the_uplink_sends_the_stream_losses_like_any_other() {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks[0].streams = vec![LOSS_STREAM.to_owned()];
    let mut bench = Bench::new(plan, echo());
    bench.upstream = true;
    lose(&mut bench, "alerts", 7, LossReason::Damaged);
    bench.pass(Duration::from_secs(3));
    let topics: Vec<&str> = bench.sent.iter().map(|message| message.topic.as_str()).collect();
    assert_eq!(topics, ["tidegate/gw/losses"]);
}

#[test]
fn the_ledger_of_a_stream_that_never_was_is_none() {
    let bench = Bench::new(plan(), echo());
    assert_eq!(bench.gateway.losses("weather"), None);
    assert_eq!(bench.gateway.losses("alerts").unwrap().records, 0);
}
