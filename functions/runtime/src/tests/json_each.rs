//! The import `json_find_each`.

use super::*;
use crate::{Limits, Verdict};
use tidegate_abi::{Errno, OutputReader, Qos, import};

const IMPORT: &str = r#"(import "tg1" "json_find_each"
    (func $each (param i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
/// Where the guest has the table of its paths, their text, and the output frame.
const TABLE_AT: usize = 64;
const NAMES_AT: usize = 256;
const OUTPUT_AT: usize = 1024;
/// The payload of the output: the result, then the places.
const RESULT_AT: usize = OUTPUT_AT + 40;
const FOUND_AT: usize = RESULT_AT + 8;
const MARK: u8 = 0xee;

/// What it says of one value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Said {
    start: u32,
    end: u32,
    number: f64,
}

fn data(at: usize, bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{escaped}\")")
}

fn frame_of(payloads: &[&str]) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 0, 1);
    for payload in payloads {
        let message =
            MessageRef { topic: "t", payload: payload.as_bytes(), ..MessageRef::default() };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

/// The call with these arguments, where a place is for `entries` of them.
fn asked(frame: &[u8], paths: &[&str], entries: usize, arguments: &str) -> (i32, Vec<Said>) {
    let (mut table, mut names) = (Vec::new(), Vec::new());
    for path in paths {
        table.extend(((NAMES_AT + names.len()) as u32).to_le_bytes());
        table.extend((path.len() as u32).to_le_bytes());
        names.extend_from_slice(path.as_bytes());
    }
    let room = 8 + 16 * paths.len() * entries;
    let payload = vec![MARK; room];
    let shell = output(&[Operation::Emit {
        topic: "",
        payload: &payload,
        qos: Qos::AtMostOnce,
        retain: false,
        props: &[],
        cause: None,
    }]);
    assert!(OUTPUT_AT + shell.len() < INPUT_AT);
    let code = ((OUTPUT_AT as u64) << 32) | shell.len() as u64;
    let extra = [data(TABLE_AT, &table), data(NAMES_AT, &names), data(OUTPUT_AT, &shell)].concat();
    let handle =
        format!("(i32.store (i32.const {RESULT_AT}) (call $each {arguments})) (i64.const {code})");
    let module = Module::compile(&guest_with(IMPORT, &extra, &handle), &Limits::default()).unwrap();
    let outcome = module.instantiate(b"{}").unwrap().call(frame, Arc::default());
    let Verdict::Done(frame) = outcome.verdict else { panic!("{:?}", outcome.verdict) };
    let Some(Operation::Emit { payload, .. }) = OutputReader::parse(&frame).unwrap().iter().next()
    else {
        panic!("no EMIT")
    };
    let (result, places) = payload.split_first_chunk().unwrap();
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let said = places[4..].chunks(16).map(|place| Said {
        start: number(&place[..4]),
        end: number(&place[4..8]),
        number: f64::from_le_bytes(place[8..].try_into().unwrap()),
    });
    (i32::from_le_bytes(*result), said.collect())
}

fn each(payloads: &[&str], first: usize, paths: &[&str], entries: usize) -> (i32, Vec<Said>) {
    let count = paths.len();
    let arguments = format!(
        "(local.get $ptr) (local.get $len) (i32.const {first}) (i32.const {TABLE_AT})
            (i32.const {count}) (i32.const {FOUND_AT}) (i32.const {entries})"
    );
    asked(&frame_of(payloads), paths, entries, &arguments)
}

/// Text and number of each value of a payload, `None` for one that was not read.
type Found = Option<Vec<(String, Option<f64>)>>;

fn found(payloads: &[&str], paths: &[&str]) -> Vec<Found> {
    let (result, said) = each(payloads, 0, paths, payloads.len());
    assert_eq!(result as usize, payloads.len());
    let entries = said.chunks(paths.len()).zip(payloads);
    entries
        .map(|(said, text)| {
            let is_read = said.iter().all(|said| said.start != import::JSON_UNREAD);
            is_read.then(|| {
                said.iter()
                    .map(|said| {
                        let text = &text[said.start as usize..said.end as usize];
                        (text.to_owned(), Some(said.number).filter(|number| !number.is_nan()))
                    })
                    .collect()
            })
        })
        .collect()
}

fn is_untouched(said: &Said) -> bool {
    said.start == u32::from_le_bytes([MARK; 4])
}

#[test]
fn each_payload_says_its_values_and_numbers_or_that_it_is_no_json() {
    let some = |text: &str, number| (text.to_owned(), number);
    let none = || (String::new(), None);
    assert_eq!(
        found(
            &[
                r#" {"id":"g1","at":{"value":31.70}} "#,
                "21.5 degrees",
                r#"{"at":{"value":-1e3},"id":7}"#,
                r#"{"at":{"value":1e999}}"#,
                "",
                "[]",
            ],
            &["at.value", "id"]
        ),
        [
            Some(vec![some("31.70", Some(31.7)), some("\"g1\"", None)]),
            None,
            Some(vec![some("-1e3", Some(-1000.0)), some("7", Some(7.0))]),
            Some(vec![some("1e999", None), none()]),
            None,
            Some(vec![none(), none()]),
        ]
    );
}

#[test]
fn it_answers_from_the_first_entry_on_for_as_many_as_there_is_room_for() {
    let payloads = [r#"{"a":0}"#, r#"{"a":1}"#, r#"{"a":2}"#];
    let numbers = |first, entries| {
        let (result, said) = each(&payloads, first, &["a"], entries);
        let told = said.iter().filter(|said| !is_untouched(said));
        (result, told.map(|said| said.number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(0, 3), (3, vec![0.0, 1.0, 2.0]));
    assert_eq!(numbers(1, 1), (1, vec![1.0]));
    assert_eq!(numbers(2, 9), (1, vec![2.0]));
    assert_eq!(numbers(3, 9), (0, vec![]));
    assert_eq!(numbers(0, 0), (0, vec![]));
    assert_eq!(each(&payloads, u32::MAX as usize, &["a"], 1).0, 0);
    assert_eq!(each(&payloads, 0, &[], 3), (3, vec![]));
    let many = ["{}"; import::JSON_ENTRIES + 1];
    assert_eq!(each(&many, 0, &["a"], many.len()).0, import::JSON_ENTRIES as i32);
}

#[test]
fn it_reads_no_more_than_one_call_of_json_find_does() {
    let of = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    let (longest, longer) = (of(import::JSON_TEXT_BYTES), of(import::JSON_TEXT_BYTES + 1));
    let half = of(import::JSON_TEXT_BYTES / 2);
    let read = |payloads: &[&str]| {
        let (result, said) = each(payloads, 0, &["a"], payloads.len());
        let is_read = |said: &&Said| said.end > 0 && !is_untouched(said);
        (result, said.iter().filter(is_read).count())
    };
    assert_eq!(read(&[&longest, "{}"]), (1, 1));
    assert_eq!(read(&[&half, &half, "{}"]), (2, 2));
    assert_eq!(read(&["{}", &longest]), (1, 0));
    assert_eq!(read(&[&longer, &half]), (2, 1), "what is too long costs nothing");
    let path = "x".repeat(import::JSON_PATH_BYTES + 1);
    for paths in [&["a"; import::JSON_PATHS + 1][..], &["a.a.a.a.a.a.a.a.a.a"], &[&path]] {
        let (result, said) = each(&["{}"], 0, paths, 1);
        assert_eq!(result, Errno::Invalid.code());
        assert!(said.iter().all(is_untouched));
    }
}

#[test]
fn what_lies_outside_of_the_memory_or_of_the_frame_is_refused() {
    let frame = frame_of(&[r#"{"a":1}"#]);
    let len = frame.len();
    for (at, len, table, found, entries, error) in [
        ("-1", len, 64, "1072", 1, Errno::Fault),
        ("32768", 40_000, 64, "1072", 1, Errno::Fault),
        ("32768", len, 65_532, "1072", 1, Errno::Fault),
        ("32768", len, 64, "65521", 1, Errno::Fault),
        ("32768", len, 64, "-16", 1, Errno::Fault),
        ("32768", len, 64, "65504", 3, Errno::Fault),
        ("32768", len - 1, 64, "1072", 1, Errno::Invalid),
        ("32768", 8, 64, "1072", 1, Errno::Invalid),
    ] {
        let arguments = format!(
            "(i32.const {at}) (i32.const {len}) (i32.const 0) (i32.const {table}) (i32.const 1)
                (i32.const {found}) (i32.const {entries})"
        );
        let (result, said) = asked(&frame, &["a"], 1, &arguments);
        assert_eq!(result, error.code(), "{arguments}");
        assert!(said.iter().all(is_untouched));
    }
}

#[test]
fn each_entry_costs_fuel_and_so_do_the_bytes_that_are_read() {
    let fuel = |payloads: &[&str]| {
        let table = [NAMES_AT as u32, 1].map(u32::to_le_bytes).concat();
        let extra = [data(TABLE_AT, &table), data(NAMES_AT, b"a")].concat();
        let handle = format!(
            "(drop (call $each (local.get $ptr) (local.get $len) (i32.const 0) (i32.const {TABLE_AT})
                (i32.const 1) (i32.const {FOUND_AT}) (i32.const 100))) (i64.const 0)"
        );
        let wasm = guest_with(IMPORT, &extra, &handle);
        let module = Module::compile(&wasm, &Limits::default()).unwrap();
        module.instantiate(b"{}").unwrap().call(&frame_of(payloads), Arc::default()).fuel
    };
    let text = &*format!(r#"{{"a":"{}"}}"#, "x".repeat(72));
    // Once for the text, once for the path.
    assert_eq!(fuel(&[text; 3]) - fuel(&[text]), 2 * (20 + 80 * 2 / 8));
}
