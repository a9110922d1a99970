//! The import `json_find`.

use super::*;
use crate::{Limits, Verdict};
use tidegate_abi::{Errno, OutputReader, Qos, import};

const IMPORT: &str =
    r#"(import "tg1" "json_find" (func $json_find (param i32 i32 i32 i32 i32) (result i32)))"#;
/// Where the guest has the text, the table of the paths, and the paths.
const TEXT_AT: usize = 8192;
const TABLE_AT: usize = 1024;
const NAMES_AT: usize = 2048;
/// Where the answer is left, in the place of a payload: the result and a mark, then the places.
const RESULT_AT: usize = 6000;
const MARK: u32 = 0xeeee_eeee;

fn data(at: usize, bytes: &[u8]) -> String {
    let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{escaped}\")")
}

/// The result of the call, and the places as they are after it.
fn asked(text: &[u8], paths: &[&[u8]], count: i32, call: &str) -> (i32, Vec<(u32, u32)>) {
    let (mut table, mut names) = (Vec::new(), Vec::new());
    for path in paths {
        table.extend(((NAMES_AT + names.len()) as u32).to_le_bytes());
        table.extend((path.len() as u32).to_le_bytes());
        names.extend_from_slice(path);
    }
    let payload = [&0u32.to_le_bytes()[..], &MARK.to_le_bytes().repeat(2 * paths.len())].concat();
    let shell = output(&[Operation::Emit {
        topic: "",
        payload: &payload,
        qos: Qos::AtMostOnce,
        retain: false,
        props: &[],
        cause: None,
    }]);
    let frame_at = RESULT_AT - (16 + 8 + 16);
    let code = ((frame_at as u64) << 32) | shell.len() as u64;
    let extra = [
        data(TABLE_AT, &table),
        data(NAMES_AT, &names),
        data(frame_at, &shell),
        data(TEXT_AT, text),
    ];
    let found = RESULT_AT + 4;
    let call = match call {
        "" => format!(
            "(call $json_find (i32.const {TEXT_AT}) (i32.const {}) (i32.const {TABLE_AT})
                (i32.const {count}) (i32.const {found}))",
            text.len()
        ),
        call => call.to_owned(),
    };
    let handle = format!("(i32.store (i32.const {RESULT_AT}) {call}) (i64.const {code})");
    let wasm = guest_with(IMPORT, &extra.concat(), &handle);
    let Verdict::Done(frame) = call_with(&wasm, &Limits::default(), State::new()).verdict else {
        panic!("the call failed")
    };
    let Some(Operation::Emit { payload, .. }) = OutputReader::parse(&frame).unwrap().iter().next()
    else {
        panic!("no EMIT")
    };
    let numbers: Vec<u32> =
        payload.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let places = numbers[1..].chunks(2).map(|pair| (pair[0], pair[1])).collect();
    (numbers[0].cast_signed(), places)
}

fn found(text: &str, paths: &[&str]) -> Option<Vec<Option<String>>> {
    let bytes: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
    let (result, places) = asked(text.as_bytes(), &bytes, paths.len() as i32, "");
    if result != 0 {
        assert_eq!(result, Errno::Invalid.code());
        assert!(places.iter().all(|place| *place == (MARK, MARK)), "nothing is written");
        return None;
    }
    let value = |(start, end)| (end > 0).then(|| text[start as usize..end as usize].to_owned());
    Some(places.into_iter().map(value).collect())
}

#[test]
fn values_are_found_where_they_are_and_what_is_not_there_is_nowhere() {
    let text = r#" {"id":"g1","at":{"value":31.70,"at":{"x":[1, 2]}},"at\u0061":true} "#;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        found(text, &["id", "at.value", "at.at.x", "ata", "none", "id.x"]),
        Some(vec![some("\"g1\""), some("31.70"), some("[1, 2]"), some("true"), None, None])
    );
    assert_eq!(found("3", &["a"]), Some(vec![None]));
    assert_eq!(found("{}", &[]), Some(vec![]));
    assert_eq!(found(r#"{"a":1,"a":2}"#, &["a"]), Some(vec![some("2")]), "the last one");
    for text in ["", "{", r#"{"a":1}x"#, "{\"a\":\"\u{1}\"}", "21.5 degrees"] {
        assert_eq!(found(text, &["a"]), None, "{text}");
    }
    assert_eq!(asked(b"{\"a\":\"\xff\"}", &[b"a"], 1, "").0, Errno::Invalid.code());
}

#[test]
fn what_is_beyond_the_bounds_is_refused_and_nothing_is_written() {
    let longest = format!(r#"{{"a":"{}"}}"#, "x".repeat(import::JSON_TEXT_BYTES - 8));
    assert_eq!(longest.len(), import::JSON_TEXT_BYTES);
    assert!(found(&longest, &["a"]).is_some());
    assert_eq!(found(&format!("{longest} "), &["a"]), None);
    assert!(found("{}", &["a"; import::JSON_PATHS]).is_some());
    assert_eq!(found("{}", &["a"; import::JSON_PATHS + 1]), None);
    let path = "x".repeat(import::JSON_PATH_BYTES);
    assert!(found("{}", &[&path]).is_some());
    assert_eq!(found("{}", &[&format!("{path}x")]), None);
    assert!(found("{}", &["a.a.a.a.a", "b.b.b.b.b"]).is_some());
    assert_eq!(found("{}", &["a.a.a.a.a", "b.b.b.b.b.b"]), None);
    assert_eq!(asked(b"{}", &[b"\xff"], 1, "").0, Errno::Invalid.code());
}

#[test]
fn what_lies_outside_of_the_memory_is_refused() {
    let text = r#"{"a":1}"#;
    for (text_at, table, count, places) in [
        ("-1", TABLE_AT.to_string(), "1", "6004"),
        ("65530", TABLE_AT.to_string(), "1", "6004"),
        ("8192", "-8".to_owned(), "1", "6004"),
        ("8192", TABLE_AT.to_string(), "1", "65529"),
        ("8192", RESULT_AT.to_string(), "1", "6004"),
    ] {
        let call = format!(
            "(i32.store (i32.const {}) (i32.const -1)) (call $json_find (i32.const {text_at})
                (i32.const 7) (i32.const {table}) (i32.const {count}) (i32.const {places}))",
            RESULT_AT
        );
        let call = format!("(block (result i32) {call})");
        let (result, found) = asked(text.as_bytes(), &[b"a"], 1, &call);
        assert_eq!(result, Errno::Fault.code(), "{text_at} {table} {places}");
        assert_eq!(found, [(MARK, MARK)]);
    }
}

#[test]
fn reading_costs_fuel_by_the_bytes_that_are_read() {
    let fuel = |bytes: usize| {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes));
        let handle = format!(
            "(drop (call $json_find (i32.const {TEXT_AT}) (i32.const {}) (i32.const {TABLE_AT})
                (i32.const 1) (i32.const {RESULT_AT}))) (i64.const 0)",
            text.len()
        );
        let table = [NAMES_AT as u32, 1].map(u32::to_le_bytes).concat();
        let extra = [data(TABLE_AT, &table), data(NAMES_AT, b"a"), data(TEXT_AT, text.as_bytes())];
        call(&guest_with(IMPORT, &extra.concat(), &handle)).fuel
    };
    // Once for the text, once for the path.
    assert_eq!(fuel(16_000) - fuel(0), 16_000 * 2 / 8);
}
