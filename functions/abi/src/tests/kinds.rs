//! Frozen frames of each kind of input and of each operation, one file each: what a guest in another
//! language is checked with. Made once, by hand from the document, without this crate.

use super::*;
use crate::property;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/golden/abi-tg1/v1/", $name, ".bin")).as_slice()
    };
}

fn list(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (key, value) in pairs {
        write_property(&mut list, key, value).unwrap();
    }
    list
}

/// The frame reads as this entry, and writes back to the same bytes.
fn check_input(golden: &[u8], kind: Kind, entries: &[MessageRef<'_>]) {
    let reader = BatchReader::parse(golden).unwrap();
    let header = reader.header();
    assert_eq!((header.kind, header.now_ns), (kind, 1_700_000_000_500_000_000));
    assert_eq!(reader.iter().collect::<Vec<_>>(), entries);
    let mut writer = BatchWriter::new(kind, header.now_ns, header.batch_id);
    for entry in entries {
        writer.push(entry).unwrap();
    }
    assert_eq!(writer.finish(), golden);
}

/// The frame reads as these operations, and writes back to the same bytes.
fn check_output(golden: &[u8], operations: &[Operation<'_>]) {
    let reader = OutputReader::parse(golden).unwrap();
    assert_eq!(reader.iter().collect::<Vec<_>>(), operations);
    let mut writer = OutputWriter::new();
    for operation in operations {
        writer.push(operation).unwrap();
    }
    assert_eq!(writer.finish(), golden);
}

#[test]
fn timers_come_by_name_and_say_what_was_missed() {
    let missed = list(&[(property::MISSED, "3")]);
    let timer = |seq, topic| MessageRef {
        seq,
        ts_ns: 1_700_000_000_000_000_000,
        topic,
        ..MessageRef::default()
    };
    let late = MessageRef { props: &missed, attempt: 1, ..timer(13, "report") };
    check_input(golden!("input-timers"), Kind::Timer, &[timer(12, "window/g3"), late]);
}

#[test]
fn a_request_carries_its_parts_as_properties() {
    let props = list(&[
        (property::METHOD, "PUT"),
        (property::PATH, "/sensors/g%203/limit"),
        (property::USER, "ann"),
        ("{id}", "g 3"),
        (property::QUERY, "unit=%C2%B0C&dry"),
        ("content-type", "application/json"),
        ("accept", "text/plain"),
        ("accept", "*/*"),
    ]);
    let request = MessageRef {
        seq: 7,
        ts_ns: 1_700_000_000_400_000_000,
        topic: "/sensors/{id}/limit",
        payload: b"{\"limit\":30}",
        props: &props,
        ..MessageRef::default()
    };
    check_input(golden!("input-request"), Kind::Request, &[request]);
    let keys: Vec<_> =
        properties(&props).unwrap().map(|(key, _)| property::parameter(key)).collect();
    assert_eq!(keys.iter().flatten().collect::<Vec<_>>(), [&"id"]);
}

#[test]
fn events_come_by_name_with_a_json_object() {
    let event = |seq, topic, payload| MessageRef {
        seq,
        ts_ns: 1_700_000_000_123_000_000,
        topic,
        payload,
        ..MessageRef::default()
    };
    let start =
        br#"{"v":1,"gateway":"gw-01","event":"start","unix_ms":1700000000123,"version":"4"}"#;
    let gone = br#"{"v":1,"gateway":"gw-01","event":"disconnected","unix_ms":1700000000123,"client":"sensor-7","why":"keep alive"}"#;
    let entries = [event(1, "start", start), event(2, "disconnected", gone)];
    check_input(golden!("input-events"), Kind::Event, &entries);
}

#[test]
fn a_change_of_state_says_whose_and_what_was_there_and_is_there() {
    let event = |seq, payload| MessageRef {
        seq,
        ts_ns: 1_700_000_000_123_000_000,
        topic: "state",
        payload,
        ..MessageRef::default()
    };
    let changed = br#"{"v":1,"gateway":"gw-01","event":"state","unix_ms":1700000000123,"function":"limits","key":"limit/g3","old":"30","new":"35"}"#;
    let gone = br#"{"v":1,"gateway":"gw-01","event":"state","unix_ms":1700000000123,"function":"limits","key_hex":"ff00","old_bytes":5000}"#;
    let entries = [event(3, changed), event(4, gone)];
    check_input(golden!("input-state"), Kind::Event, &entries);
}

#[test]
fn a_frame_without_entries_is_a_frame() {
    check_input(golden!("input-empty"), Kind::Messages, &[]);
}

#[test]
fn each_operation_has_its_frozen_frame() {
    let props = list(&[("unit", "K")]);
    let emit = |topic, payload, props| Operation::Emit {
        topic,
        payload,
        qos: Qos::AtLeastOnce,
        retain: false,
        props,
        cause: None,
    };
    check_output(golden!("output-emit"), &[emit("alerts/g3", b"hot", &props), emit("a", b"", &[])]);
    let nack = |index, class, code, text| Operation::Nack { index, class, code, text };
    check_output(
        golden!("output-nack"),
        &[
            nack(0, NackClass::Retry, 0, "later"),
            nack(1, NackClass::Drop, 2, ""),
            nack(2, NackClass::Dead, 3, "no number"),
        ],
    );
    check_output(
        golden!("output-kv-put"),
        &[
            Operation::KvPut { key: b"g3", value: b"1", ttl_ms: 0 },
            Operation::KvPut { key: b"\xff\0", value: b"", ttl_ms: 60_000 },
        ],
    );
    check_output(golden!("output-kv-del"), &[Operation::KvDel { key: b"g3" }]);
    check_output(
        golden!("output-metric"),
        &[
            Operation::Metric { name: "alerts", kind: MetricKind::Counter, value: 1.0 },
            Operation::Metric { name: "level", kind: MetricKind::Gauge, value: -0.5 },
        ],
    );
    let line = |level, text| Operation::Log { level, text };
    check_output(
        golden!("output-log"),
        &[
            line(Level::Error, "e"),
            line(Level::Warn, ""),
            line(Level::Info, "größe"),
            line(Level::Debug, "12345678"),
        ],
    );
    check_output(
        golden!("output-respond"),
        &[Operation::Respond { status: 200, content_type: "application/json", body: b"{}" }],
    );
    let timer = |name, delay_ms, period_ms| Operation::TimerSet { name, delay_ms, period_ms };
    check_output(
        golden!("output-timer-set"),
        &[timer("once", 1_500, 0), timer("each", 0, 60_000), timer("cancelled", 0, 0)],
    );
}
