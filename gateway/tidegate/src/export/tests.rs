//! Files in both formats, whole, damaged and cut short.

use std::io::BufReader;

use super::*;
use crate::core_handle::DeadLetterNote;

const NDJSON: &[u8] = include_bytes!("../../../../tests/golden/export/v1/export.ndjson");
const CBOR: &[u8] = include_bytes!("../../../../tests/golden/export/v1/export.cbor");
const KEYED_NDJSON: &[u8] = include_bytes!("../../../../tests/golden/export/v1/keyed.ndjson");
const KEYED_CBOR: &[u8] = include_bytes!("../../../../tests/golden/export/v1/keyed.cbor");

fn plain() -> CarriedRecord {
    CarriedRecord {
        seq: 41,
        epoch: 1_780_000_000,
        unix_ms: 1_780_000_123_456,
        topic: "sensors/kitchen/telemetry".into(),
        client: "kitchen".into(),
        payload: Blob(b"21.5 \xc2\xb0C\n".to_vec()),
        ..CarriedRecord::default()
    }
}

fn full() -> CarriedRecord {
    CarriedRecord {
        seq: 43,
        clock_unsynced: true,
        publisher: Some(Publisher { boot: 3, seq: u64::MAX }),
        qos: 0,
        retain: true,
        hops: 2,
        content_type: Some("application/octet-stream".into()),
        payload_utf8: true,
        response_topic: Some("answers/1".into()),
        correlation: Some(Blob(vec![0, 1, 255])),
        expiry_s: Some(3600),
        user: vec![("unit".into(), "\u{b0}C".into()), (String::new(), "x".into())],
        dead_letter: Some(DeadLetterNote {
            function: "threshold".into(),
            stream: "telemetry".into(),
            seq: 7,
            attempts: 3,
            reason: "trap: unreachable".into(),
            settled: false,
        }),
        payload: Blob(vec![0xff, 0]),
        ..plain()
    }
}

fn header() -> Header {
    Header {
        version: VERSION,
        id: "00112233445566778899aabbccddeeff".into(),
        gateway: "gw-01".into(),
        stream: "telemetry".into(),
        unix_ms: 1_780_000_200_000,
    }
}

fn items() -> Vec<Item> {
    vec![
        Item::Header(header()),
        Item::Record(Box::new(plain())),
        Item::Record(Box::new(full())),
        Item::End(End { records: 2, next: 44 }),
    ]
}

fn keyed() -> Vec<Item> {
    let record = CarriedRecord { key: Some("Halle 3/pump".into()), ..plain() };
    let end = End { records: 1, next: 42 };
    vec![Item::Header(header()), Item::Record(Box::new(record)), Item::End(end)]
}

fn file(format: Format) -> Vec<u8> {
    written(format, &items())
}

fn written(format: Format, items: &[Item]) -> Vec<u8> {
    items.iter().flat_map(|item| encode(format, item).unwrap()).collect()
}

/// The records of a file up to its end, or up to what is wrong.
fn read(bytes: &[u8]) -> Result<(Vec<CarriedRecord>, Result<(), ItemError>), ItemError> {
    let mut reader = ItemReader::open(BufReader::new(bytes))?;
    let mut records = Vec::new();
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return Ok((records, Ok(()))),
            Err(error) => return Ok((records, Err(error))),
        }
    }
}

#[test]
fn the_bytes_are_frozen_and_read_back() {
    for (format, golden) in [(Format::Ndjson, NDJSON), (Format::Cbor, CBOR)] {
        assert_eq!(read(golden).unwrap(), (vec![plain(), full()], Ok(())), "{format:?}");
        assert_eq!(file(format), golden, "{format:?}");
    }
    for (format, golden) in [(Format::Ndjson, KEYED_NDJSON), (Format::Cbor, KEYED_CBOR)] {
        assert_eq!(written(format, &keyed()), golden, "{format:?}");
        let (records, ended) = read(golden).unwrap();
        assert_eq!((records[0].key.as_deref(), ended), (Some("Halle 3/pump"), Ok(())));
    }
}

#[test]
fn an_import_leaves_the_key_to_the_stream_that_takes_the_record_in() {
    let origin = Origin { gateway: "gw-01".into(), stream: "telemetry".into() };
    let keyed = CarriedRecord { key: Some("elsewhere".into()), ..plain() };
    let record = keyed.into_record(&origin).unwrap();
    assert_eq!(record, plain().into_record(&origin).unwrap());
    let level = tidegate_flow::PartitionKey::parse("topic/2").unwrap();
    let again = CarriedRecord::of(
        tidegate_stream::Seq(1),
        tidegate_stream::Epoch(2),
        &record.as_ref(),
        Some(&level),
    );
    assert_eq!(again.key.as_deref(), Some("kitchen"));
}

#[test]
#[ignore = "writes the files of a new format version, once; never replaces one"]
fn write_the_files_of_this_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/export/v1/");
    for (name, format, items) in [
        ("export.ndjson", Format::Ndjson, items()),
        ("export.cbor", Format::Cbor, items()),
        ("keyed.ndjson", Format::Ndjson, keyed()),
        ("keyed.cbor", Format::Cbor, keyed()),
    ] {
        let path = format!("{folder}{name}");
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            continue;
        }
        std::fs::write(&path, written(format, &items)).unwrap();
    }
}

#[test]
fn a_file_that_was_cut_short_is_refused_at_the_record_and_what_is_before_counts() {
    for format in [Format::Ndjson, Format::Cbor] {
        let whole = file(format);
        let starts: Vec<usize> = items()
            .iter()
            .scan(0, |at, item| {
                *at += encode(format, item).unwrap().len();
                Some(*at)
            })
            .collect();
        for cut in 0..whole.len() {
            let complete = starts.iter().filter(|end| **end <= cut).count();
            match read(&whole[..cut]) {
                Err(ItemError::Header(_)) => assert_eq!(complete, 0, "{format:?} cut at {cut}"),
                Err(error) => panic!("{error}"),
                Ok((records, ended)) => {
                    assert_eq!(records.len() + 1, complete, "{format:?} cut at {cut}");
                    let expected = records.len() as u64;
                    match ended {
                        Err(ItemError::CutShort(number)) => assert_eq!(number, expected),
                        Err(ItemError::Record { number, .. }) => assert_eq!(number, expected + 1),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_changed_bit_is_noticed_at_its_record_or_changes_nothing() {
    for format in [Format::Ndjson, Format::Cbor] {
        let whole = file(format);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            match read(&bytes) {
                Err(_) => assert!(at < encode(format, &items()[0]).unwrap().len()),
                Ok((records, ended)) => {
                    let all = [plain(), full()];
                    assert!(all.starts_with(&records), "{format:?} byte {at}: {records:?}");
                    assert!(records.len() == 2 || ended.is_err(), "{format:?} byte {at}");
                }
            }
        }
    }
}

#[test]
fn a_line_that_another_program_wrote_needs_no_checksum_and_no_default() {
    let text = concat!(
        r#"{"item":"header","version":1,"id":"mine","gateway":"g","stream":"s","unix_ms":0}"#,
        "\r\n",
        r#"{"item":"record","seq":1,"epoch":1,"unix_ms":5,"topic":"a","client":"c","payload":{"hex":"ff00"},"new":1}"#,
        "\n",
        r#"{"item":"end","records":1,"next":2}"#,
        "\n",
    );
    let (records, ended) = read(text.as_bytes()).unwrap();
    assert_eq!(ended, Ok(()));
    let expected = CarriedRecord {
        seq: 1,
        epoch: 1,
        unix_ms: 5,
        topic: "a".into(),
        client: "c".into(),
        payload: Blob(vec![0xff, 0]),
        ..CarriedRecord::default()
    };
    assert_eq!(records, [expected]);
}

#[test]
fn what_is_no_export_says_what_is_wrong_with_it() {
    let newer = encode(Format::Cbor, &Item::Header(Header { version: 2, ..header() })).unwrap();
    let nameless =
        encode(Format::Ndjson, &Item::Header(Header { id: String::new(), ..header() })).unwrap();
    let record = encode(Format::Ndjson, &items()[1]).unwrap();
    for (bytes, error) in [
        (&b""[..], "the header: the file is empty"),
        (b"{\"a\":1}\n", "the header: not an item of an export: missing field `item`"),
        (b"hello\n", "the header: neither JSON nor CBOR begins with the byte 0x68"),
        (&newer, "the header: version 2 is newer than 1, the one known here"),
        (&nameless, "the header: an id of 0 bytes, 1 to 64 are allowed"),
        (&record, "the header: the first item is another"),
    ] {
        let found = read(bytes).unwrap_err().to_string();
        assert!(found.starts_with(error), "{found}");
    }
}

#[test]
fn an_end_that_does_not_count_right_is_refused() {
    let items = items();
    let bytes: Vec<u8> =
        [&items[0], &items[1], &items[3]].map(|i| encode(Format::Cbor, i).unwrap()).concat();
    let (records, ended) = read(&bytes).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(ended, Err(ItemError::Count { expected: 2, found: 1 }));
}

#[test]
fn a_record_comes_out_of_an_import_as_it_was_with_its_origin_behind() {
    let origin = Origin { gateway: "gw-01".into(), stream: "telemetry".into() };
    let record = full().into_record(&origin).unwrap();
    let again = CarriedRecord::of(
        tidegate_stream::Seq(1),
        tidegate_stream::Epoch(2),
        &record.as_ref(),
        None,
    );
    let mut user = full().user;
    for (key, value) in [
        ("origin-gateway", "gw-01"),
        ("origin-epoch", "1780000000"),
        ("origin-stream", "telemetry"),
        ("origin-seq", "43"),
    ] {
        user.push((key.into(), value.into()));
    }
    assert_eq!(again, CarriedRecord { seq: 1, epoch: 2, user, ..full() });
    let elsewhere = Origin { gateway: "gw-02".into(), stream: "s".into() };
    let twice = again.clone().into_record(&elsewhere).unwrap();
    assert_eq!(twice.attributes, record.attributes, "the first origin stays");
}

#[test]
fn a_record_that_could_never_have_been_published_is_refused_in_words() {
    let origin = Origin { gateway: "g".into(), stream: "s".into() };
    for (record, why) in [
        (CarriedRecord { topic: "a/#".into(), ..plain() }, "topic \"a/#\": "),
        (CarriedRecord { topic: String::new(), ..plain() }, "topic \"\": "),
        (CarriedRecord { qos: 3, ..plain() }, "QoS 3, 0 to 2 are allowed"),
        (
            CarriedRecord { user: vec![("k".into(), "v".repeat(70_000))], ..plain() },
            "a property of 70001 bytes",
        ),
        (
            CarriedRecord { user: vec![("k".into(), "v".repeat(40_000)); 2], ..plain() },
            "properties of 80",
        ),
        (
            CarriedRecord { client: "c".repeat(70_000), ..plain() },
            "a client of 70000 bytes, 65535 are allowed",
        ),
    ] {
        let found = record.into_record(&origin).unwrap_err();
        assert!(found.starts_with(why), "{found}");
    }
}
