//! The check of modules finds what is wrong with them, and the guest that checks hosts likes this one.

use super::*;
use crate::conformance::{Subject, check};
use crate::{Failure, Verdict};
use tidegate_abi::OutputReader;

const HOST_CHECK: &str = include_str!("../../../abi/conformance.wat");

fn host_state() -> State {
    let pairs: [(&[u8], &[u8]); 4] =
        [(b"a", b"12345"), (b"b/1", b"x"), (b"b/2", b"yy"), (b"c", b"")];
    pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

fn one_entry(kind: Kind, batch_id: u64) -> Vec<u8> {
    let mut writer = BatchWriter::new(kind, 1_700_000_000_000_000_000, batch_id);
    writer.push(&MessageRef { seq: 1, topic: "t", ..MessageRef::default() }).unwrap();
    writer.finish()
}

#[test]
fn this_host_keeps_every_promise_that_a_guest_can_see() {
    let wasm = wat::parse_str(HOST_CHECK).unwrap();
    let module = Module::compile(&wasm, &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    for kind in [Kind::Messages, Kind::Timer, Kind::Request, Kind::Event] {
        let outcome = instance.call(&one_entry(kind, 42), Arc::new(host_state()));
        match outcome.verdict {
            Verdict::Done(output) => {
                let output = OutputReader::parse(&output).unwrap();
                assert_eq!(output.count(), 8, "{kind:?}");
            }
            other => panic!("{kind:?}: {other:?}"),
        }
        assert_eq!(outcome.logs.len(), 3);
    }
}

#[test]
fn the_guest_names_the_promise_that_a_host_breaks() {
    let wasm = wat::parse_str(HOST_CHECK).unwrap();
    let module = Module::compile(&wasm, &Limits::default()).unwrap();
    let broken = |change: &dyn Fn(&mut State)| {
        let mut state = host_state();
        change(&mut state);
        let mut instance = module.instantiate(b"{}").unwrap();
        match instance.call(&one_entry(Kind::Messages, 42), Arc::new(state)).verdict {
            Verdict::Failed(Failure::Refused { code }) => -100 - code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken(&|state| drop(state.remove(b"a".as_slice()))), 9);
    assert_eq!(broken(&|state| drop(state.insert(b"missing".to_vec(), vec![]))), 11);
    assert_eq!(broken(&|state| drop(state.insert(b"b/11".to_vec(), vec![]))), 13);
}

/// A module as the contract wants it, that does nothing.
fn quiet(handle: &str, extra: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 40)
            (func (export "tg_abi_1"))
            (func (export "tg_buffer") (param i32) (result i32) (i32.const {INPUT_AT}))
            (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
            (func (export "tg_handle") (param $ptr i32) (param $len i32) (result i64) {handle})
            {extra})"#
    );
    wat::parse_str(text).unwrap()
}

/// An output frame as data at 1024, and the result that names it.
fn output_of(operations: &[Operation<'_>]) -> (String, String) {
    let frame = output(operations);
    let bytes: String = frame.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let code = (1024u64 << 32) | frame.len() as u64;
    (format!("(data (i32.const 1024) \"{bytes}\")"), format!("(i64.const {code})"))
}

fn said_about(wasm: &[u8]) -> Vec<String> {
    let report = check(wasm, &Subject::default(), &Limits::default());
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_module_that_does_nothing_keeps_all_promises() {
    let report = check(&quiet("(i64.const 0)", ""), &Subject::default(), &Limits::default());
    assert_eq!(report.findings, []);
    assert!(report.checked.len() >= 18, "{}", report.checked.len());
    assert!(report.fuel_per_message > 0 || report.memory_bytes == (40 << 16, 40 << 16));
}

#[test]
fn a_module_that_cannot_be_installed_or_started_is_told_why() {
    let text = check(b"\0asm", &Subject::default(), &Limits::default()).findings[0].to_string();
    assert!(text.starts_with("the module can be installed: "), "{text}");
    let refusing = quiet("(i64.const 0)", "");
    let subject = Subject { config: "{", ..Subject::default() };
    assert_eq!(check(&refusing, &subject, &Limits::default()).findings, []);
}

#[test]
fn each_broken_promise_is_told_in_words() {
    // Its buffer is at 32,768 of a memory of one page.
    let found = said_about(&guest("(i64.const 0)"));
    let small = "tg_buffer(65536): the function's buffer for 65536 bytes at 32768 is outside";
    assert!(found.iter().any(|text| text.contains(small)), "{found:?}");
    let kind = "(i32.load16_u offset=4 (local.get $ptr))";
    for (code, promise) in [(2, "timers"), (3, "a request"), (4, "unknown events")] {
        let trap =
            format!("(if (i32.eq {kind} (i32.const {code})) (then (unreachable))) (i64.const 0)");
        let found = said_about(&quiet(&trap, ""));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(promise), "{found:?}");
    }
    let counts = r#"(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (if (i32.eq (global.get $n) (i32.const 2)) (then (return (i64.const -1)))) (i64.const 0)"#;
    let found = said_about(&quiet(counts, "(global $n (mut i32) (i32.const 0))"));
    assert!(found.iter().any(|text| text.contains("the same instance again")), "{found:?}");
    let grows = "(drop (memory.grow (i32.const 1))) (i64.const 0)";
    let limits = Limits { memory_bytes: 1 << 30, ..Limits::default() };
    let found = check(&quiet(grows, ""), &Subject::default(), &limits).findings;
    assert!(found.iter().any(|finding| finding.text.contains("not given back")), "{found:?}");
}

#[test]
fn outputs_that_the_gateway_would_refuse_are_told() {
    let emit = |topic, cause| Operation::Emit {
        topic,
        payload: b"",
        qos: tidegate_abi::Qos::AtMostOnce,
        retain: false,
        props: b"",
        cause,
    };
    let respond = |status| Operation::Respond { status, content_type: "", body: b"" };
    let cases: [(&[Operation<'_>], &str); 5] = [
        (&[emit("a/#", None)], "EMIT to `a/#`, which is no topic"),
        (&[emit("a", std::num::NonZeroU16::new(1))], "bit 0 of the flags was not set"),
        (&[emit("a", std::num::NonZeroU16::new(999))], "names the cause 999"),
        (&[respond(200)], "RESPOND in the output to a frame of Messages"),
        (
            &[Operation::TimerSet { name: "", delay_ms: 1, period_ms: 0 }],
            "TIMER_SET without a name",
        ),
    ];
    for (operations, expected) in cases {
        let (data, handle) = output_of(operations);
        let found = said_about(&quiet(&handle, &data));
        assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}");
    }
}

const PANIC: &str = r#"(import "tg1" "log" (func $log (param i32 i32 i32)))"#;

#[test]
fn a_trap_is_told_with_the_guests_file_and_line() {
    let data = r#"(data (i32.const 8) "panicked at src/lib.rs:41: no limit")"#;
    let handle = "(call $log (i32.const 1) (i32.const 8) (i32.const 35)) (unreachable)";
    match call(&guest_with(PANIC, data, handle)).verdict {
        Verdict::Failed(failure) => {
            let text = failure.to_string();
            let expected = "the function trapped: panicked at src/lib.rs:41: no limit (";
            assert!(text.starts_with(expected), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn last_words_are_those_of_the_same_call_and_outlive_the_limit_of_log_text() {
    let data = r#"(data (i32.const 8) "panicked at src/lib.rs:41: no limit")
        (global $n (mut i32) (i32.const 0))"#;
    let handle = r#"(global.set $n (i32.add (global.get $n) (i32.const 1)))
        (if (i32.eq (global.get $n) (i32.const 1)) (then
            (call $log (i32.const 1) (i32.const 8) (i32.const 35)) (return (i64.const 0))))
        (unreachable)"#;
    let limits = Limits { log_bytes: 1, ..Limits::default() };
    let module = Module::compile(&guest_with(PANIC, data, handle), &limits).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    assert_eq!(instance.call(&frame(1), Arc::default()).verdict, Verdict::Done(vec![]));
    match instance.call(&frame(1), Arc::default()).verdict {
        Verdict::Failed(Failure::Trap { text }) => assert!(!text.contains("panicked"), "{text}"),
        other => panic!("{other:?}"),
    }
    let both = "(call $log (i32.const 1) (i32.const 8) (i32.const 35)) (unreachable)";
    let module = Module::compile(&guest_with(PANIC, data, both), &limits).unwrap();
    let outcome = module.instantiate(b"{}").unwrap().call(&frame(1), Arc::default());
    assert!(
        matches!(outcome.verdict, Verdict::Failed(Failure::Trap { text }) if text.contains(":41:"))
    );
}
