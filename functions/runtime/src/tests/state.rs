//! What imports read.

use super::*;
use crate::Verdict;
use tidegate_abi::{BatchRandom, Errno, OutputReader, Qos};

const IMPORTS: &str = r#"
    (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
    (import "tg1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "tg1" "now" (func $now (param i32) (result i64)))
    (import "tg1" "random" (func $random (param i32 i32) (result i32)))"#;

/// Where the guests below leave what they have read.
const RESULT_AT: usize = 8192;

/// Runs a guest that stores results from RESULT_AT on, and returns those bytes. They travel as
/// the payload of an emit.
fn read_by(handle: &str, bytes: usize, state: &State) -> Vec<u8> {
    let payload = vec![0; bytes];
    let shell = output(&[Operation::Emit {
        topic: "",
        payload: &payload,
        qos: Qos::AtMostOnce,
        retain: false,
        props: &[],
        cause: None,
    }]);
    // Header of the frame, of the operation, and the fixed part of its body.
    let start = 16 + 8 + 16;
    let escaped: String = shell.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let frame_at = RESULT_AT - start;
    let code = ((frame_at as u64) << 32) | shell.len() as u64;
    let extra = format!(
        r#"(data (i32.const {frame_at}) "{escaped}") (data (i32.const 1024) "keys/a2keys/keys/a")"#
    );
    let wasm = guest_with(IMPORTS, &extra, &format!("{handle} (i64.const {code})"));
    match call_with(&wasm, &Limits::default(), state.clone()).verdict {
        Verdict::Done(frame) => match OutputReader::parse(&frame).unwrap().iter().next().unwrap() {
            Operation::Emit { payload, .. } => payload.to_vec(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn number_of(handle: &str, state: &State) -> i32 {
    let store = format!("(i32.store (i32.const {RESULT_AT}) {handle})");
    i32::from_le_bytes(read_by(&store, 4, state).try_into().unwrap())
}

fn keys(entries: &[(&str, &str)]) -> State {
    entries
        .iter()
        .map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect()
}

#[test]
fn kv_get_returns_the_length_and_writes_what_fits() {
    let state = keys(&[("keys/a", "12345")]);
    let get = |cap| {
        format!(
            "(call $kv_get (i32.const 1024) (i32.const 6) (i32.const {}) (i32.const {cap}))",
            RESULT_AT + 4
        )
    };
    for cap in [5, 4] {
        let bytes =
            read_by(&format!("(i32.store (i32.const {RESULT_AT}) {})", get(cap)), 9, &state);
        assert_eq!(&bytes[..4], b"\x05\0\0\0");
        let expected: &[u8; 5] = if cap == 5 { b"12345" } else { b"\0\0\0\0\0" };
        assert_eq!(&bytes[4..], expected);
    }
    assert_eq!(number_of(&get(5), &State::new()), Errno::NoEntry.code());
}

#[test]
fn pointers_outside_of_memory_are_errors_and_no_traps() {
    let state = keys(&[("keys/a", "12345")]);
    let far = "(i32.const -1)";
    let cases = [
        format!("(call $kv_get {far} (i32.const 6) (i32.const 0) (i32.const 9))"),
        "(call $kv_get (i32.const 1024) (i32.const -1) (i32.const 0) (i32.const 9))".to_owned(),
        format!("(call $kv_get (i32.const 1024) (i32.const 6) {far} (i32.const 9))"),
        format!(
            "(call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) {far} (i32.const 9))"
        ),
        format!("(call $random {far} (i32.const 2))"),
    ];
    for case in cases {
        assert_eq!(number_of(&case, &state), Errno::Fault.code(), "{case}");
    }
}

/// The result of a scan with the prefix `keys/`, after the key `keys/` + `after`.
fn scan(after: &str, cap: usize, state: &State) -> (i32, Vec<u8>) {
    let (at, len) = match after {
        "" => (0, 0),
        "a" => (1036, 6),
        "a2" => (1024, 7),
        other => panic!("{other}"),
    };
    let handle = format!(
        "(i32.store (i32.const {RESULT_AT}) (call $kv_scan (i32.const 1031) (i32.const 5)
            (i32.const {at}) (i32.const {len}) (i32.const {}) (i32.const {cap})))",
        RESULT_AT + 4
    );
    let bytes = read_by(&handle, 104, state);
    (i32::from_le_bytes(bytes[..4].try_into().unwrap()), bytes[4..].to_vec())
}

#[test]
fn kv_scan_gives_the_entries_of_a_prefix_in_pages() {
    let state =
        keys(&[("key", "no"), ("keys/a", "1"), ("keys/a2", "22"), ("keys/b", ""), ("keyt", "no")]);
    let (len, bytes) = scan("", 100, &state);
    assert_eq!(len, 15 + 17 + 14);
    assert_eq!(&bytes[..15], b"\x06\0\0\0\x01\0\0\0keys/a1");
    assert_eq!(&bytes[15..32], b"\x07\0\0\0\x02\0\0\0keys/a222");
    assert_eq!(&bytes[32..46], b"\x06\0\0\0\0\0\0\0keys/b");
    // A page that holds the first entry and a part of the second: the first alone.
    assert_eq!(scan("", 31, &state).0, 15);
    // The next page begins after the last key of the one before.
    assert_eq!(
        scan("a", 20, &state),
        (17, {
            let mut page = bytes[15..32].to_vec();
            page.resize(100, 0);
            page
        })
    );
    // Nothing fits: the length needed, and nothing written.
    assert_eq!(scan("a", 16, &state), (17, vec![0; 100]));
    assert_eq!(scan("a2", 100, &state).0, 14);
    assert_eq!(scan("a2", 100, &keys(&[("keys/a2", "")])).0, 0);
}

#[test]
fn time_and_random_numbers_are_those_of_the_batch() {
    let handle = format!(
        "(i64.store (i32.const {RESULT_AT}) (call $now (i32.const 0)))
         (i64.store (i32.const {}) (call $now (i32.const 1)))
         (drop (call $random (i32.const {}) (i32.const 11)))
         (drop (call $random (i32.const {}) (i32.const 8)))",
        RESULT_AT + 8,
        RESULT_AT + 16,
        RESULT_AT + 27
    );
    let bytes = read_by(&handle, 35, &State::new());
    assert_eq!(bytes[..8], 1_700_000_000_123_456_789i64.to_le_bytes());
    assert_eq!(bytes[8..16], i64::from(Errno::Invalid.code()).to_le_bytes());
    let mut random = BatchRandom::new(42);
    let mut expected = [0; 19];
    random.fill(&mut expected[..11]);
    random.fill(&mut expected[11..]);
    assert_eq!(bytes[16..], expected);
    assert_eq!(read_by(&handle, 35, &State::new()), bytes);
}

#[test]
fn the_state_is_given_back_before_the_call_returns() {
    let module = Module::compile(&guest("(i64.const 0)"), &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    let mut state = Arc::new(keys(&[("a", "1")]));
    instance.call(&frame(1), Arc::clone(&state));
    assert!(Arc::get_mut(&mut state).is_some(), "a commit would copy the whole state");
}

/// What the function was not granted is there, and says no.
#[test]
fn an_import_that_is_not_granted_answers_that_it_is_not_permitted() {
    let handle = "
        (if (i32.ne (call $kv_get (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 8)) (i32.const -1)) (then unreachable))
        (if (i32.ne (call $kv_scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 8)) (i32.const -1)) (then unreachable))
        (if (i64.ne (call $now (i32.const 0)) (i64.const -1)) (then unreachable))
        (if (i32.ne (call $random (i32.const 8) (i32.const 8)) (i32.const -1)) (then unreachable))
        (i64.const 0)";
    let wasm = guest_with(IMPORTS, "", handle);
    let none = crate::Grants { state: false, clock: false, random: false };
    let verdict = |grants| {
        let module = Module::compile_with(&wasm, &Limits::default(), grants).unwrap();
        let mut instance = module.instantiate(b"{}").unwrap();
        instance.call(&frame(1), Arc::new(State::new())).verdict
    };
    assert_eq!(verdict(none), Verdict::Done(Vec::new()));
    for granted in [
        crate::Grants { state: true, ..none },
        crate::Grants { clock: true, ..none },
        crate::Grants { random: true, ..none },
    ] {
        assert!(matches!(verdict(granted), Verdict::Failed(_)), "{granted:?}");
    }
}
