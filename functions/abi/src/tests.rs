//! Round trips, mutations and the frozen frames.

mod kinds;

use crate::{
    BatchRandom, BatchReader, BatchWriter, ENTRY_BYTES, FrameError, FrameTooLarge, HEADER_BYTES,
    HandleResult, InputFlags, Kind, Level, MessageRef, MetricKind, NackClass, OUTPUT_HEADER_BYTES,
    Operation, OutputReader, OutputWriter, Qos, properties, write_property,
};
use core::num::NonZeroU16;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

/// Frozen: written once with the first version of the format. Do not change the files; a new
/// format gets a new folder.
const GOLDEN_INPUT: &[u8] = include_bytes!("../../../tests/golden/abi-tg1/v1/input.bin");
const GOLDEN_OUTPUT: &[u8] = include_bytes!("../../../tests/golden/abi-tg1/v1/output.bin");

fn golden_props() -> Vec<u8> {
    let mut props = Vec::new();
    write_property(&mut props, "unit", "°C").unwrap();
    write_property(&mut props, "tg-pub-seq", "18446744073709551615").unwrap();
    props
}

fn golden_input() -> Vec<u8> {
    let props = golden_props();
    let mut writer =
        BatchWriter::new(Kind::Messages, 1_700_000_000_123_456_789, 0x0102_0304_0506_0708);
    let first = MessageRef {
        seq: 1,
        ts_ns: 1_700_000_000_000_000_000,
        topic: "sensors/g3/telemetry",
        payload: br#"{"id":"g3-000123","value":31.7}"#,
        props: &props,
        qos: Qos::AtLeastOnce,
        retain: false,
        attempt: 0,
        source: 0,
    };
    let second = MessageRef {
        seq: u64::MAX,
        ts_ns: -1,
        topic: "größe",
        payload: b"",
        props: b"",
        qos: Qos::ExactlyOnce,
        retain: true,
        attempt: 65_535,
        source: 7,
    };
    writer.push(&first).unwrap();
    writer.push(&second).unwrap();
    assert_eq!(writer.count(), 2);
    let bytes = writer.len_bytes();
    let frame = writer.finish();
    assert_eq!(frame.len(), bytes);
    frame
}

fn golden_operations(props: &[u8]) -> [Operation<'_>; 11] {
    [
        Operation::Emit {
            topic: "alerts/g3",
            payload: b"{\"v\":1}",
            qos: Qos::AtLeastOnce,
            retain: true,
            props,
            cause: None,
        },
        Operation::Emit {
            topic: "",
            payload: b"",
            qos: Qos::AtMostOnce,
            retain: false,
            props: b"",
            cause: None,
        },
        Operation::Nack { index: 3, class: NackClass::Retry, code: 0, text: "" },
        Operation::Nack { index: 4, class: NackClass::Drop, code: 9, text: "old" },
        Operation::Nack {
            index: 5,
            class: NackClass::Dead,
            code: u32::MAX,
            text: "no number at `value`",
        },
        Operation::KvPut { key: b"g3", value: &[0, 1, 255], ttl_ms: 86_400_000 },
        Operation::KvDel { key: b"g4" },
        Operation::Metric { name: "alerts", kind: MetricKind::Counter, value: 1.5 },
        Operation::Log { level: Level::Debug, text: "ok" },
        Operation::Respond { status: 404, content_type: "text/plain", body: b"none" },
        Operation::TimerSet { name: "tick", delay_ms: 5, period_ms: 60_000 },
    ]
}

fn golden_output() -> Vec<u8> {
    let mut writer = OutputWriter::new();
    for operation in golden_operations(&golden_props()) {
        writer.push(&operation).unwrap();
    }
    let bytes = writer.len_bytes();
    let frame = writer.finish();
    assert_eq!(frame.len(), bytes);
    frame
}

#[test]
fn frames_of_version_1_are_written_as_ever() {
    assert_eq!(golden_input(), GOLDEN_INPUT);
    assert_eq!(golden_output(), GOLDEN_OUTPUT);
}

#[test]
fn frames_of_version_1_are_read_as_ever() {
    let input = BatchReader::parse(GOLDEN_INPUT).unwrap();
    let header = input.header();
    assert_eq!((header.kind, header.count), (Kind::Messages, 2));
    assert_eq!(header.now_ns, 1_700_000_000_123_456_789);
    assert_eq!(header.batch_id, 0x0102_0304_0506_0708);
    let messages: Vec<_> = input.iter().collect();
    assert_eq!(messages[0].payload, br#"{"id":"g3-000123","value":31.7}"#);
    assert_eq!(messages[1].topic, "größe");
    assert_eq!((messages[1].qos, messages[1].retain), (Qos::ExactlyOnce, true));
    let pairs: Vec<_> = properties(messages[0].props).unwrap().collect();
    assert_eq!(pairs, [("unit", "°C"), ("tg-pub-seq", "18446744073709551615")]);

    let output = OutputReader::parse(GOLDEN_OUTPUT).unwrap();
    let operations: Vec<_> = output.iter().collect();
    assert_eq!(operations, golden_operations(&golden_props()));
}

/// Frozen as well: the frames of version 1 that say of which record an output is.
const GOLDEN_INPUT_CAUSES: &[u8] =
    include_bytes!("../../../tests/golden/abi-tg1/v1/input-causes.bin");
const GOLDEN_OUTPUT_CAUSES: &[u8] =
    include_bytes!("../../../tests/golden/abi-tg1/v1/output-causes.bin");

#[test]
fn the_cause_of_an_emit_is_in_bytes_that_were_zero_before() {
    let mut writer = BatchWriter::new(Kind::Messages, 1, 2).with_flags(InputFlags::CAUSES);
    let message = MessageRef { seq: 1, topic: "a", payload: b"x", ..MessageRef::default() };
    writer.push(&message).unwrap();
    assert_eq!(writer.finish(), GOLDEN_INPUT_CAUSES);
    let flags = |frame| BatchReader::parse(frame).unwrap().header().flags;
    assert!(flags(GOLDEN_INPUT_CAUSES).contains(InputFlags::CAUSES));
    assert!(!flags(GOLDEN_INPUT).contains(InputFlags::CAUSES));

    let emit = |cause| Operation::Emit {
        topic: "a",
        payload: b"x",
        qos: Qos::AtLeastOnce,
        retain: false,
        props: b"",
        cause,
    };
    let operations = [emit(NonZeroU16::new(1)), emit(NonZeroU16::new(0x1234)), emit(None)];
    let mut writer = OutputWriter::new();
    for operation in &operations {
        writer.push(operation).unwrap();
    }
    assert_eq!(writer.finish(), GOLDEN_OUTPUT_CAUSES);
    let output = OutputReader::parse(GOLDEN_OUTPUT_CAUSES).unwrap();
    assert_eq!(output.iter().collect::<Vec<_>>(), operations);
}

#[test]
fn an_emit_that_is_written_in_place_is_the_one_that_is_pushed() {
    let mut writer = OutputWriter::new();
    for cause in [1, 0x1234, 0].map(NonZeroU16::new) {
        let x = |bytes: &mut Vec<u8>| bytes.push(b'x');
        writer.emit(Qos::AtLeastOnce, false, cause, |topic| topic.push(b'a'), x).unwrap();
    }
    assert_eq!(writer.count(), 3);
    assert_eq!(writer.finish(), GOLDEN_OUTPUT_CAUSES);

    for bytes in 0..20 {
        let (mut pushed, mut written) = (OutputWriter::new(), OutputWriter::new());
        let payload = vec![7; bytes];
        let emit = Operation::Emit {
            topic: "t/1",
            payload: &payload,
            qos: Qos::ExactlyOnce,
            retain: true,
            props: b"",
            cause: None,
        };
        for _ in 0..2 {
            pushed.push(&emit).unwrap();
            let topic = |bytes: &mut Vec<u8>| bytes.extend(b"t/1");
            let payload = |bytes: &mut Vec<u8>| bytes.extend(&payload);
            written.emit(Qos::ExactlyOnce, true, None, topic, payload).unwrap();
        }
        assert_eq!(written.finish(), pushed.finish());
    }
}

#[test]
fn random_numbers_are_frozen_too() {
    let mut random = BatchRandom::new(42);
    let mut bytes = [0; 19];
    random.fill(&mut bytes[..11]);
    random.fill(&mut bytes[11..]);
    // SplitMix64 from 42: 0xbdd732262feb6e95, 0x28efe333b266f103, 0x47526757130f9f52.
    assert_eq!(bytes[..8], 0xbdd7_3226_2feb_6e95_u64.to_le_bytes());
    assert_eq!(bytes[8..11], 0x28ef_e333_b266_f103_u64.to_le_bytes()[..3]);
    assert_eq!(bytes[11..], 0x4752_6757_130f_9f52_u64.to_le_bytes());
}

#[test]
fn an_output_without_operations_is_no_frame() {
    assert_eq!(OutputWriter::new().finish(), Vec::<u8>::new());
    assert_eq!(OutputReader::parse(b"").unwrap_err(), FrameError::Short { have: 0, need: 16 });
}

#[test]
fn results_of_tg_handle_round_trip() {
    let output = HandleResult::Output { ptr: 0x7fff_0000, len: 0x7fff_ffff };
    for result in [
        HandleResult::Done,
        output,
        HandleResult::Retry,
        HandleResult::DeadLetter,
        HandleResult::Failed(-3),
    ] {
        assert_eq!(HandleResult::from_code(result.code()), result);
    }
    let too_high = HandleResult::Output { ptr: 0x8000_0000, len: 1 }.code();
    assert!(matches!(HandleResult::from_code(too_high), HandleResult::Failed(_)));
}

#[test]
fn a_property_that_does_not_fit_leaves_the_list_as_it_was() {
    let mut list = golden_props();
    let long = "x".repeat(65_536);
    let expected = FrameTooLarge { bytes: 65_536, max: 65_535 };
    assert_eq!(write_property(&mut list, &long, ""), Err(expected));
    assert_eq!(write_property(&mut list, "", &long), Err(expected));
    assert_eq!(list, golden_props());
}

/// Changes one field of the golden input and returns the refusal.
fn refused_input(at: usize, bytes: &[u8]) -> FrameError {
    let mut frame = GOLDEN_INPUT.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    BatchReader::parse(&frame).unwrap_err()
}

#[test]
fn each_wrong_field_of_an_input_frame_is_named() {
    let total = GOLDEN_INPUT.len();
    let entry = HEADER_BYTES;
    let second = HEADER_BYTES + ENTRY_BYTES;
    assert_eq!(
        refused_input(0, b"TGO1"),
        FrameError::Magic { found: *b"TGO1", expected: *b"TGB1" }
    );
    assert_eq!(refused_input(4, &[5]), FrameError::Kind { found: 5 });
    assert_eq!(refused_input(8, &[200]), FrameError::Count { declared: 200, total });
    assert_eq!(refused_input(8, &[255; 4]), FrameError::Count { declared: u32::MAX, total });
    assert_eq!(refused_input(12, &[0; 4]), FrameError::Total { declared: 0, have: total });
    let inside_the_table =
        FrameError::OutOfFrame { index: 0, field: "topic", offset: 127, len: 20, total };
    assert_eq!(refused_input(entry + 16, &127u32.to_le_bytes()), inside_the_table);
    assert!(matches!(
        refused_input(entry + 28, &[255; 4]),
        FrameError::OutOfFrame { field: "payload", len: u32::MAX, .. }
    ));
    assert!(matches!(
        refused_input(entry + 32, &[255; 4]),
        FrameError::OutOfFrame { field: "properties", .. }
    ));
    assert_eq!(
        refused_input(entry + 40, &[3]),
        FrameError::Value { index: 0, field: "quality of service", found: 3 }
    );
    assert_eq!(
        refused_input(second + 41, &[2]),
        FrameError::Value { index: 1, field: "retain flag", found: 2 }
    );
    assert_eq!(refused_input(total - 3, &[0xff]), FrameError::NotUtf8 { index: 1, field: "topic" });
    assert!(matches!(refused_input(entry + 36, &[1, 0, 0, 0]), FrameError::Property { offset: 0 }));
    assert_eq!(
        BatchReader::parse(&GOLDEN_INPUT[..31]).unwrap_err(),
        FrameError::Short { have: 31, need: 32 }
    );
}

/// One operation, with one field of its frame changed.
fn refused_output(operation: &Operation<'_>, at: usize, bytes: &[u8]) -> FrameError {
    let mut writer = OutputWriter::new();
    writer.push(operation).unwrap();
    let mut frame = writer.finish();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    OutputReader::parse(&frame).unwrap_err()
}

#[test]
fn each_wrong_field_of_an_output_frame_is_named() {
    let first = OUTPUT_HEADER_BYTES;
    let body = first + 8;
    let delete = Operation::KvDel { key: b"abc" };
    assert_eq!(
        refused_output(&delete, 0, b"TGB1"),
        FrameError::Magic { found: *b"TGB1", expected: *b"TGO1" }
    );
    assert_eq!(
        refused_output(&delete, 4, &[2]),
        FrameError::Cut { index: 1, offset: 40, total: 40 }
    );
    assert_eq!(refused_output(&delete, 4, &[0]), FrameError::Trailing { offset: 16, total: 40 });
    assert_eq!(refused_output(&delete, 8, &[41]), FrameError::Total { declared: 41, have: 40 });
    assert!(matches!(refused_output(&delete, 12, &[1]), FrameError::Reserved { index: 0, .. }));
    assert_eq!(refused_output(&delete, first, &[9]), FrameError::Operation { index: 0, code: 9 });
    assert!(matches!(refused_output(&delete, first + 2, &[1]), FrameError::Reserved { .. }));
    assert_eq!(
        refused_output(&delete, first + 4, &[255; 4]),
        FrameError::Cut { index: 0, offset: 16, total: 40 }
    );
    assert_eq!(
        refused_output(&delete, body, &[4]),
        FrameError::Body { index: 0, code: 4, len: 11 }
    );
    assert_eq!(
        refused_output(&delete, body, &[2]),
        FrameError::Body { index: 0, code: 4, len: 11 }
    );
    assert!(matches!(refused_output(&delete, body + 4, &[1]), FrameError::Reserved { .. }));
    assert!(matches!(
        refused_output(&delete, 39, &[1]),
        FrameError::Reserved { field: "the padding", .. }
    ));
    let emit = Operation::Emit {
        topic: "a",
        payload: b"",
        qos: Qos::AtMostOnce,
        retain: false,
        props: b"",
        cause: None,
    };
    assert!(matches!(
        refused_output(&emit, body + 12, &[3]),
        FrameError::Value { field: "quality of service", .. }
    ));
    assert!(matches!(
        refused_output(&emit, body + 13, &[2]),
        FrameError::Value { field: "retain flag", .. }
    ));
    assert_eq!(
        refused_output(&emit, body + 16, &[0xff]),
        FrameError::NotUtf8 { index: 0, field: "topic" }
    );
    let nack = Operation::Nack { index: 0, class: NackClass::Drop, code: 0, text: "" };
    assert_eq!(
        refused_output(&nack, body + 12, &[4]),
        FrameError::Value { index: 0, field: "nack class", found: 4 }
    );
    let log = Operation::Log { level: Level::Info, text: "" };
    assert_eq!(
        refused_output(&log, body + 4, &[0]),
        FrameError::Value { index: 0, field: "log level", found: 0 }
    );
    let metric = Operation::Metric { name: "", kind: MetricKind::Gauge, value: 0.0 };
    assert_eq!(
        refused_output(&metric, body + 4, &[3]),
        FrameError::Value { index: 0, field: "metric kind", found: 3 }
    );
}

#[test]
fn every_error_reads_as_a_sentence() {
    let cut = FrameError::Cut { index: 0, offset: 16, total: 40 };
    assert_eq!(cut.to_string(), "operation 0 at 16 goes beyond the end of the frame at 40");
    let magic = FrameError::Magic { found: *b"\0asm", expected: *b"TGO1" };
    assert_eq!(magic.to_string(), "the frame starts with [00, 61, 73, 6d], not with \"TGO1\"");
}

/// A message whose parts are owned.
type Parts = (u64, i64, String, Vec<u8>, Vec<(String, String)>, u8, bool, u16, u32);

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..40);
    let pairs = prop::collection::vec((any::<String>(), any::<String>()), 0..3);
    (
        any::<u64>(),
        any::<i64>(),
        any::<String>(),
        bytes(),
        pairs,
        0u8..3,
        any::<bool>(),
        any::<u16>(),
        any::<u32>(),
    )
}

fn props_of(pairs: &[(String, String)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (key, value) in pairs {
        write_property(&mut list, key, value).unwrap();
    }
    list
}

fn operation<'a>(
    which: u8,
    number: u64,
    text: &'a str,
    bytes: &'a [u8],
    props: &'a [u8],
) -> Operation<'a> {
    let small = number as u32;
    match which {
        0 => Operation::Emit {
            topic: text,
            payload: bytes,
            qos: Qos::from_code((number % 3) as u8).unwrap(),
            retain: number.is_multiple_of(2),
            props,
            cause: NonZeroU16::new(number as u16),
        },
        1 => Operation::Nack { index: small, class: NackClass::Dead, code: small, text },
        2 => Operation::KvPut { key: bytes, value: text.as_bytes(), ttl_ms: number },
        3 => Operation::KvDel { key: bytes },
        4 => Operation::Metric { name: text, kind: MetricKind::Counter, value: number as f64 },
        5 => Operation::Log { level: Level::Warn, text },
        6 => Operation::Respond { status: number as u16, content_type: text, body: bytes },
        _ => Operation::TimerSet { name: text, delay_ms: number, period_ms: !number },
    }
}

proptest! {
    #[test]
    fn a_batch_comes_back_as_it_was_written(all in prop::collection::vec(parts(), 0..6), now_ns: i64, batch_id: u64, kind in 1u16..5) {
        let kind = [Kind::Messages, Kind::Timer, Kind::Request, Kind::Event][usize::from(kind) - 1];
        let lists: Vec<Vec<u8>> = all.iter().map(|parts| props_of(&parts.4)).collect();
        let messages: Vec<MessageRef<'_>> = all.iter().zip(&lists).map(|(p, props)| MessageRef {
            seq: p.0, ts_ns: p.1, topic: &p.2, payload: &p.3, props, qos: Qos::from_code(p.5).unwrap(),
            retain: p.6, attempt: p.7, source: p.8,
        }).collect();
        let mut writer = BatchWriter::new(kind, now_ns, batch_id);
        for message in &messages {
            writer.push(message).unwrap();
        }
        let bytes = writer.len_bytes();
        let frame = writer.finish();
        prop_assert_eq!(frame.len(), bytes);
        let reader = BatchReader::parse(&frame).unwrap();
        prop_assert_eq!(reader.header().kind, kind);
        prop_assert_eq!(reader.iter().len(), messages.len());
        prop_assert_eq!(reader.iter().collect::<Vec<_>>(), messages);
    }

    #[test]
    fn operations_come_back_as_they_were_written(all in prop::collection::vec((0u8..8, any::<u64>(), parts()), 0..8)) {
        let lists: Vec<Vec<u8>> = all.iter().map(|(_, _, parts)| props_of(&parts.4)).collect();
        let operations: Vec<Operation<'_>> = all.iter().zip(&lists)
            .map(|((which, number, p), props)| operation(*which, *number, &p.2, &p.3, props)).collect();
        let mut writer = OutputWriter::new();
        for operation in &operations {
            writer.push(operation).unwrap();
        }
        let frame = writer.finish();
        if operations.is_empty() {
            prop_assert!(frame.is_empty());
        } else {
            prop_assert_eq!(OutputReader::parse(&frame).unwrap().iter().collect::<Vec<_>>(), operations);
        }
    }

    #[test]
    fn whatever_parses_as_output_writes_back_to_the_same_bytes(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut frame = GOLDEN_OUTPUT.to_vec();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Ok(reader) = OutputReader::parse(&frame) {
            let mut writer = OutputWriter::new();
            for operation in reader.iter() {
                writer.push(&operation).unwrap();
            }
            prop_assert_eq!(writer.finish(), frame);
        }
    }

    #[test]
    fn whatever_parses_as_input_iterates_to_its_end(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut frame = GOLDEN_INPUT.to_vec();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Ok(reader) = BatchReader::parse(&frame) {
            prop_assert_eq!(reader.iter().count(), reader.header().count as usize);
        }
    }

    #[test]
    fn no_bytes_at_all_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), magic in 0u8..3) {
        let mut frame = match magic {
            0 => b"TGB1\x01\0\0\0".to_vec(),
            1 => b"TGO1".to_vec(),
            _ => vec![],
        };
        frame.extend(bytes);
        let total = frame.len() as u32;
        for at in [8, 12] {
            if frame.len() >= at + 4 {
                frame[at..at + 4].copy_from_slice(&total.to_le_bytes());
                if let Err(error) = BatchReader::parse(&frame) {
                    let _ = format!("{error}");
                }
                if let Err(error) = OutputReader::parse(&frame) {
                    let _ = format!("{error}");
                }
                let _ = properties(&frame).map(Iterator::count);
            }
        }
    }
}
