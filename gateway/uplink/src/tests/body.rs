//! The bytes of a batch: frozen files, and other people's readers as the judge.

use std::sync::Arc;

use ciborium::Value;
use proptest::prelude::*;
use tidegate_stream::{Epoch, Seq};
use tidegate_wire::PublisherIdentity;

use crate::envelope::Clock;
use crate::{Batch, BodyFormat, LaneId, OutboundRecord, SeqRange};

fn minimal() -> OutboundRecord {
    OutboundRecord {
        topic: "t".to_owned(),
        client: "c".to_owned(),
        payload: b"12.5".to_vec(),
        ..OutboundRecord::default()
    }
}

fn full() -> OutboundRecord {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    OutboundRecord {
        seq: Seq(u64::MAX),
        topic: "sensors/Pumpe Süd/telemetry".to_owned(),
        client: "pump, \"south\"\\\u{1}".to_owned(),
        key: None,
        unix_ms: -1_767_225_600_123,
        clock: Clock::Unsynced,
        publisher: Some(PublisherIdentity { boot: u64::MAX, seq: 41 }),
        retain: true,
        expiry_s: Some(u32::MAX),
        response_topic: Some("replies/pump".to_owned()),
        correlation: Some(vec![0x00, 0x7f, 0xff, 0xfe]),
        user: vec![pair("unit", "°C"), pair("unit", "K"), pair("", ""), pair("tg-seq", "own")],
        content_type: Some("application/json".to_owned()),
        payload_is_text: true,
        payload: vec![0xff, 0x00, 0x80],
    }
}

fn keyed() -> OutboundRecord {
    OutboundRecord { key: Some("Halle 3/pump \"süd\"".to_owned()), ..minimal() }
}

fn batch(epoch: u32, stream: &str, records: Vec<OutboundRecord>) -> Batch {
    let seq = |record: Option<&OutboundRecord>| record.unwrap().seq;
    let range = SeqRange { first: seq(records.first()), last: seq(records.last()) };
    Batch { lane: LaneId(0), stream: Arc::from(stream), epoch: Epoch(epoch), range, records }
}

fn smallest() -> Batch {
    batch(1, "s", vec![minimal()])
}

fn largest() -> Batch {
    batch(u32::MAX, "telemetry", vec![OutboundRecord { seq: Seq(300), ..minimal() }, full()])
}

#[test]
fn version_1_is_written_as_frozen_in_the_golden_files() {
    // Do not change these files: they are what sinks already hold.
    let cbor = |gateway, batch| BodyFormat::Cbor.encode(gateway, &batch);
    let lines = |gateway, batch| BodyFormat::Ndjson.encode(gateway, &batch);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let minimal = include_bytes!("../../../../tests/golden/batch/v1/minimal.cbor");
    assert_eq!(cbor("gw", smallest()), minimal);
    let minimal = include_str!("../../../../tests/golden/batch/v1/minimal.ndjson");
    assert_eq!(text(lines("gw", smallest())), minimal);
    let full = include_bytes!("../../../../tests/golden/batch/v1/full.cbor");
    assert_eq!(cbor("gw-01", largest()), full);
    let full = include_str!("../../../../tests/golden/batch/v1/full.ndjson");
    assert_eq!(text(lines("gw-01", largest())), full);
    let with_key = || batch(1, "s", vec![keyed()]);
    let keyed = include_bytes!("../../../../tests/golden/batch/v1/keyed.cbor");
    assert_eq!(cbor("gw", with_key()), keyed);
    let keyed = include_str!("../../../../tests/golden/batch/v1/keyed.ndjson");
    assert_eq!(text(lines("gw", with_key())), keyed);
}

#[test]
fn every_number_has_its_shortest_form() {
    for (seq, bytes) in [
        (23, &[0x17][..]),
        (24, &[0x18, 0x18]),
        (255, &[0x18, 0xff]),
        (256, &[0x19, 0x01, 0x00]),
        (65_535, &[0x19, 0xff, 0xff]),
        (65_536, &[0x1a, 0x00, 0x01, 0x00, 0x00]),
        (u64::from(u32::MAX), &[0x1a, 0xff, 0xff, 0xff, 0xff]),
        (u64::from(u32::MAX) + 1, &[0x1b, 0, 0, 0, 1, 0, 0, 0, 0]),
    ] {
        let one = batch(1, "s", vec![OutboundRecord { seq: Seq(seq), ..minimal() }]);
        let body = BodyFormat::Cbor.encode("gw", &one);
        // Behind the head of the batch, of the list, of the record, and its first key.
        assert_eq!(body[16..16 + bytes.len()], *bytes, "{seq}");
        assert_eq!(body[16 + bytes.len()], 0x01, "{seq}: the next key follows");
    }
}

/// What a reader of CBOR finds, as the document names it.
fn expected_cbor(gateway: &str, batch: &Batch) -> Value {
    let number = |number: u64| Value::Integer(number.into());
    let text = |text: &str| Value::Text(text.to_owned());
    let record = |record: &OutboundRecord| {
        let user = record.user.iter().map(|(n, v)| Value::Array(vec![text(n), text(v)]));
        let publisher = record.publisher.map(|p| Value::Array(vec![number(p.boot), number(p.seq)]));
        let fields = [
            Some(number(record.seq.0)),
            Some(Value::Integer(record.unix_ms.into())),
            Some(text(&record.topic)),
            Some(text(&record.client)),
            Some(Value::Bytes(record.payload.clone())),
            (record.clock == Clock::Unsynced).then_some(Value::Bool(true)),
            publisher,
            record.retain.then_some(Value::Bool(true)),
            record.expiry_s.map(|seconds| number(u64::from(seconds))),
            record.response_topic.as_deref().map(text),
            record.correlation.clone().map(Value::Bytes),
            (!record.user.is_empty()).then(|| Value::Array(user.collect())),
            record.content_type.as_deref().map(text),
            record.payload_is_text.then_some(Value::Bool(true)),
            record.key.as_deref().map(text),
        ];
        let fields = fields.into_iter().enumerate();
        Value::Map(fields.filter_map(|(key, field)| Some((number(key as u64), field?))).collect())
    };
    let fields = [
        number(1),
        text(gateway),
        number(u64::from(batch.epoch.0)),
        text(&batch.stream),
        Value::Array(batch.records.iter().map(record).collect()),
    ];
    Value::Map(fields.into_iter().enumerate().map(|(key, f)| (number(key as u64), f)).collect())
}

/// What a reader of JSON finds.
fn expected_line(gateway: &str, batch: &Batch, record: &OutboundRecord) -> serde_json::Value {
    let mut line = serde_json::json!({
        "v": 1, "gateway": gateway, "epoch": batch.epoch.0, "stream": *batch.stream,
        "seq": record.seq.0, "time_ms": record.unix_ms,
        "topic": record.topic, "client": record.client,
    });
    let mut put = |name: &str, value: Option<serde_json::Value>| {
        if let Some(value) = value {
            line[name] = value;
        }
    };
    put("key", record.key.clone().map(Into::into));
    put("clock", (record.clock == Clock::Unsynced).then(|| "unsynced".into()));
    let publisher = |p: PublisherIdentity| serde_json::json!({ "boot": p.boot, "seq": p.seq });
    put("publisher", record.publisher.map(publisher));
    put("retain", record.retain.then_some(true.into()));
    put("expiry_s", record.expiry_s.map(Into::into));
    put("response_topic", record.response_topic.clone().map(Into::into));
    put("correlation_base64", record.correlation.as_deref().map(|bytes| base64(bytes).into()));
    put("user", (!record.user.is_empty()).then(|| serde_json::json!(record.user)));
    put("content_type", record.content_type.clone().map(Into::into));
    put("text", record.payload_is_text.then_some(true.into()));
    match String::from_utf8(record.payload.clone()) {
        Ok(text) => put("payload", Some(text.into())),
        Err(_) => put("payload_base64", Some(base64(&record.payload).into())),
    }
    line
}

/// RFC 4648, digit by digit from a string of bits.
fn base64(bytes: &[u8]) -> String {
    let mut bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    while !bits.len().is_multiple_of(6) {
        bits.push('0');
    }
    let digit = |at: usize| match u8::from_str_radix(&bits[at..at + 6], 2).unwrap() {
        value @ 0..=25 => char::from(b'A' + value),
        value @ 26..=51 => char::from(b'a' + value - 26),
        value @ 52..=61 => char::from(b'0' + value - 52),
        62 => '+',
        _ => '/',
    };
    let mut text: String = (0..bits.len()).step_by(6).map(digit).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn records() -> impl Strategy<Value = OutboundRecord> {
    let text = || any::<String>();
    let bytes = || prop::collection::vec(any::<u8>(), 0..300);
    let publisher = prop::option::of((any::<u64>(), any::<u64>()));
    let user = prop::collection::vec((text(), text()), 0..4);
    let key = prop::option::of(text());
    let head = (
        any::<u64>(),
        text(),
        (text(), key),
        any::<i64>(),
        any::<bool>(),
        publisher,
        any::<bool>(),
    );
    let options = prop::option::of(any::<u32>());
    let tail =
        (prop::option::of(text()), prop::option::of(bytes()), user, prop::option::of(text()));
    let payload = prop_oneof![bytes(), text().prop_map(String::into_bytes)];
    (head, options, tail, any::<bool>(), payload).prop_map(
        |(head, expiry_s, (response_topic, correlation, user, content_type), is_text, payload)| {
            let (seq, topic, (client, key), unix_ms, unsynced, publisher, retain) = head;
            OutboundRecord {
                seq: Seq(seq),
                topic,
                client,
                key,
                unix_ms,
                clock: if unsynced { Clock::Unsynced } else { Clock::Synced },
                publisher: publisher.map(|(boot, seq)| PublisherIdentity { boot, seq }),
                retain,
                expiry_s,
                response_topic,
                correlation,
                user,
                content_type,
                payload_is_text: is_text,
                payload,
            }
        },
    )
}

proptest! {
    #[test]
    fn readers_of_cbor_and_json_find_every_field_of_any_batch(
        epoch in any::<u32>(),
        stream in "[a-z]{1,9}",
        records in prop::collection::vec(records(), 1..4),
    ) {
        let batch = batch(epoch, &stream, records);
        let cbor = BodyFormat::Cbor.encode("gw-01", &batch);
        let read: Value = ciborium::from_reader(&cbor[..]).unwrap();
        prop_assert_eq!(&read, &expected_cbor("gw-01", &batch));
        let mut again = Vec::new();
        ciborium::into_writer(&read, &mut again).unwrap();
        prop_assert_eq!(again, cbor, "shortest forms only");

        let lines = String::from_utf8(BodyFormat::Ndjson.encode("gw-01", &batch)).unwrap();
        prop_assert!(lines.ends_with('\n'));
        let lines: Vec<_> = lines[..lines.len() - 1].split('\n').collect();
        prop_assert_eq!(lines.len(), batch.records.len());
        for (line, record) in lines.iter().zip(&batch.records) {
            let read: serde_json::Value = serde_json::from_str(line).unwrap();
            prop_assert_eq!(read, expected_line("gw-01", &batch, record));
        }
    }
}
