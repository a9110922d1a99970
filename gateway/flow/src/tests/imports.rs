//! Records of another gateway.

use tidegate_stream::{PublisherIdentity, Record};

use super::*;
use crate::{ImportBatch, ImportError};

fn batch(start: u64, count: u64) -> ImportBatch {
    let record = |n: u64| Record {
        unix_ms: 1_600_000_000_000,
        topic: "sensors/old".to_owned(),
        client: "s9".to_owned(),
        publisher: Some(PublisherIdentity { boot: 3, seq: n }),
        attributes: Vec::new(),
        payload: format!("old {n}").into_bytes(),
    };
    ImportBatch {
        stream: "telemetry".to_owned(),
        id: "abc".to_owned(),
        start,
        records: (start + 1..=start + count).map(record).collect(),
    }
}

#[test]
fn imported_records_are_handled_and_sent_like_published_ones() {
    let mut bench = Bench::new(plan(), echo());
    bench.upstream = true;
    let position = bench.gateway.import(bench.now, &batch(0, 3)).unwrap();
    assert!(bench.gateway.log().durable() < position);
    bench.pass(Duration::from_secs(3));
    assert!(bench.gateway.log().durable() >= position);
    assert_eq!(bench.payloads("alerts"), ["old 1", "old 2", "old 3"]);
    assert_eq!(bench.sent.len(), 6);
    assert_eq!(bench.gateway.imported("telemetry", "abc"), Ok(3));
}

#[test]
fn an_import_goes_on_behind_what_is_in_whenever_the_power_fails() {
    for seed in 0..40 {
        let mut disk = CrashDisk::new();
        let mut cuts = 0;
        loop {
            let mut bench = Bench::on(disk, plan(), echo());
            let done = bench.gateway.imported("telemetry", "abc").unwrap();
            if done >= 50 {
                bench.pass(SETTLE);
                // The function's echo of each is in the other.
                for stream in ["telemetry", "alerts"] {
                    let id = bench.gateway.routes.id(stream).unwrap();
                    assert_eq!(bench.gateway.log().next_seq(id), Seq(51), "{stream}, seed {seed}");
                }
                break;
            }
            bench.gateway.import(bench.now, &batch(done, 10)).unwrap();
            bench.pass(Duration::from_micros((seed * 97 + cuts * 331) % 1500));
            disk = bench.disk.crash(seed + cuts);
            cuts += 1;
            assert!(cuts < 200, "the import comes to an end");
        }
    }
}

#[test]
fn a_batch_that_does_not_go_on_where_the_import_is_changes_nothing() {
    let mut bench = Bench::new(plan(), echo());
    bench.gateway.import(bench.now, &batch(0, 3)).unwrap();
    for start in [0, 2, 4] {
        let refused = bench.gateway.import(bench.now, &batch(start, 3));
        assert_eq!(refused, Err(ImportError::Elsewhere { done: 3 }));
    }
    let other = ImportBatch { id: "another".to_owned(), ..batch(0, 1) };
    bench.gateway.import(bench.now, &other).unwrap();
    let nowhere = ImportBatch { stream: "weather".to_owned(), ..batch(0, 1) };
    let refused = bench.gateway.import(bench.now, &nowhere);
    assert_eq!(refused, Err(ImportError::NoStream("weather".to_owned())));
}

#[test]
fn a_full_stream_refuses_the_batch_as_a_whole() {
    let mut small = plan();
    small.functions.clear();
    small.streams[0].max_bytes = 2_000;
    let mut bench = Bench::new(small, echo());
    let mut start = 0;
    let refused = loop {
        match bench.gateway.import(bench.now, &batch(start, 10)) {
            Ok(_) => start += 10,
            Err(error) => break error,
        }
        bench.pass(SETTLE);
    };
    assert!(matches!(&refused, ImportError::Refused(why) if why.contains("is full")), "{refused}");
    assert_eq!(bench.gateway.imported("telemetry", "abc"), Ok(start));
}

#[test]
fn as_many_imports_as_there_are_room_for_are_remembered_the_newest() {
    let mut quiet = plan();
    quiet.functions.clear();
    let mut bench = Bench::new(quiet, echo());
    for n in 0..300 {
        let one = ImportBatch { id: format!("import {n}"), ..batch(0, 1) };
        bench.gateway.import(bench.now, &one).unwrap();
        bench.pass(Duration::from_millis(20));
    }
    assert_eq!(bench.gateway.imported("telemetry", "import 0"), Ok(0));
    assert_eq!(bench.gateway.imported("telemetry", "import 299"), Ok(1));
    assert_eq!(bench.gateway.imported("telemetry", "import 50"), Ok(1));
}
