//! Guests whose behaviour is known, written in the text format, on the stage.

use std::sync::Arc;
use std::time::Duration;

use tidegate_abi::{Operation, OutputWriter, Qos};
use tidegate_broker::TopicFilter;
use tidegate_fixtures::{Case, Options, Verdict, check};
use tidegate_flow::{
    EventKind, HttpRoute, InputPlan, Missed, Ordering, Rhythm, SchedulePlan, WatchPlan,
};
use tidegate_runtime::{Limits, Module};

use super::*;
use crate::config::FunctionSettings;

/// Publishes `{"first":true}` in its first call and `{"first":false}` in all others, with a key of
/// state beside it; traps when the first record's payload has three bytes, and asks for the batch
/// again when it has five.
pub(crate) fn guest() -> Vec<u8> {
    let frame = |payload: &str| {
        let mut output = OutputWriter::new();
        let payload = payload.as_bytes();
        let (topic, qos) = ("out", Qos::AtLeastOnce);
        let emit = Operation::Emit { topic, payload, qos, retain: false, props: &[], cause: None };
        output.push(&emit).unwrap();
        output.push(&Operation::KvPut { key: b"k", value: b"v", ttl_ms: 0 }).unwrap();
        output.finish()
    };
    let (first, later) = (frame(r#"{"first":true}"#), frame(r#"{"first":false}"#));
    let data = |bytes: &[u8]| bytes.iter().map(|b| format!("\\{b:02x}")).collect::<String>();
    let code = |at: u64, bytes: &[u8]| at << 32 | bytes.len() as u64;
    // The length of the first record's payload is at 32 + 28 of the frame.
    let text = format!(
        r#"(module
        (memory (export "memory") 1)
        (global $calls (mut i32) (i32.const 0))
        (data (i32.const 1024) "{}")
        (data (i32.const 2048) "{}")
        (func (export "tg_abi_1"))
        (func (export "tg_buffer") (param i32) (result i32) (i32.const 4096))
        (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
        (func (export "tg_handle") (param $ptr i32) (param $len i32) (result i64)
            (local $bytes i32)
            (local.set $bytes (i32.load offset=60 (local.get $ptr)))
            (if (i32.eq (local.get $bytes) (i32.const 3)) (then (unreachable)))
            (if (i32.eq (local.get $bytes) (i32.const 5)) (then (return (i64.const -1))))
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (i32.eq (global.get $calls) (i32.const 1)) (then (return (i64.const {}))))
            (i64.const {})))"#,
        data(&first),
        data(&later),
        code(1024, &first),
        code(2048, &later),
    );
    wat::parse_str(text).unwrap()
}

fn settings(publish: &str) -> FunctionSettings {
    FunctionSettings {
        name: "f".to_owned(),
        module: "f.wasm".into(),
        inputs: vec![InputPlan { stream: "in".to_owned(), topics: Vec::new() }],
        ordering: Ordering::Strict,
        workers: 1,
        publish: vec![TopicFilter::parse(publish).unwrap()],
        config: b"{}".to_vec(),
        batch_records: 256,
        batch_bytes: 256 << 10,
        batch_window: Duration::ZERO,
        attempts: 5,
        retry_max_age: Duration::from_secs(3600),
        memory_bytes: 1 << 20,
        fuel_per_batch: 1_000_000,
        fuel_per_message: 10_000,
        deadline: Duration::from_secs(1),
        state_bytes: 1 << 20,
        routes: Vec::new(),
        secrets: Vec::new(),
        timers: 16,
        schedules: Vec::new(),
        events: Vec::new(),
        watches: Vec::new(),
    }
}

#[test]
fn the_clock_and_events_call_a_function_that_reads_nothing() {
    let beat = Rhythm::Every(Duration::from_secs(10));
    let (name, missed) = ("beat".to_owned(), Missed::Once);
    let settings = FunctionSettings {
        inputs: Vec::new(),
        schedules: vec![SchedulePlan { name, rhythm: beat, missed }],
        events: vec![EventKind::Start, EventKind::Online],
        ..settings("out")
    };
    let text = r#"{"expect":{"payload":{"first":true}}}
{"advance":"25s"}
{"expect":{"payload":{"first":false}}}
{"expect":{"payload":{"first":false}}}
{"event":"online","uplink":"cloud"}
{"expect":{"payload":{"first":false}}}
{"restart":true}
{"expect":{"payload":{"first":true}}}
{"advance":"5s"}
{"expect":{"payload":{"first":false}}}"#;
    let shown = |verdict: &Verdict| -> String {
        verdict.failures.iter().map(|failure| failure.text("case")).collect()
    };
    assert_eq!(shown(&run_with(&settings, text, 1)), "");
    for (step, why) in [
        (r#"{"event":"offline"}"#, "no function is told of \"offline\""),
        (r#"{"event":"moon"}"#, "there is no event \"moon\"; there are: start, stop, online"),
        (r#"{"topic":"a"}"#, "the function reads no stream"),
    ] {
        let failures = shown(&run_with(&settings, step, 1));
        assert!(failures.contains(why), "{failures}");
    }
}

#[test]
fn a_change_in_another_s_state_calls_a_function_that_watches_it() {
    let (function, prefix) = ("limits".to_owned(), "limit/".to_owned());
    let watches = vec![WatchPlan { function, prefix }];
    let settings = FunctionSettings { inputs: Vec::new(), watches, ..settings("out") };
    let failures = |text: &str| -> String {
        let verdict = run_with(&settings, text, 1);
        verdict.failures.iter().map(|failure| failure.text("case")).collect()
    };
    let text = r#"{"event":"state","function":"limits","key":"limit/a","new":"1"}
{"expect":{"payload":{"first":true}}}
{"event":"state","function":"limits","key_hex":"6c696d69742f","old_hex":"ff","new":"2"}
{"expect":{"payload":{"first":false}}}"#;
    assert_eq!(failures(text), "");
    for (step, why) in [
        (r#"{"event":"state","function":"limits","key":"other","new":"1"}"#, "no `watch` names it"),
        (r#"{"event":"state","function":"limits","key":"limit/a"}"#, "nothing has changed"),
        (r#"{"event":"state","key":"limit/a"}"#, "needs `function`"),
    ] {
        let failures = failures(step);
        assert!(failures.contains(why), "{failures}");
    }
}

/// Answers each request with the secret `api-key`, of which it shows eight bytes.
fn answering() -> Vec<u8> {
    let mut output = OutputWriter::new();
    let (status, content_type, body) = (200, "", &b"nothing!"[..]);
    output.push(&Operation::Respond { status, content_type, body }).unwrap();
    let frame: String = output.finish().iter().map(|b| format!("\\{b:02x}")).collect();
    // The body is behind 16 bytes of the frame, 8 of the operation and 16 of its fixed part.
    let text = format!(
        r#"(module
        (import "tg1" "secret_get" (func $get (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 1024) "{frame}")
        (data (i32.const 2048) "api-key")
        (func (export "tg_abi_1"))
        (func (export "tg_buffer") (param i32) (result i32) (i32.const 4096))
        (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
        (func (export "tg_handle") (param i32 i32) (result i64)
            (drop (call $get (i32.const 2048) (i32.const 7) (i32.const 1064) (i32.const 8)))
            (i64.const {})))"#,
        1024_u64 << 32 | 48
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn requests_and_secrets_of_a_case_reach_the_function() {
    let settings = FunctionSettings {
        inputs: Vec::new(),
        routes: vec![HttpRoute::parse("GET,PUT /limit/{id}").unwrap()],
        secrets: vec!["api-key".to_owned()],
        ..settings("out")
    };
    let failures = |text: &str| -> String {
        let verdict = run_module(&answering(), &settings, text, 1);
        verdict.failures.iter().map(|failure| failure.text("case")).collect()
    };
    let text = r#"{"request":"GET /limit/g1"}
{"expect_answer":{"status":200,"text":"nothing!"}}
{"secret":"api-key","text":"s3cret!!"}
{"request":"PUT /limit/g1?x","key":"k1","payload":30,"headers":[["accept","text/plain"]]}
{"secret":"api-key","text":"another!"}
{"request":"PUT /limit/g1?x","key":"k1","payload":30}
{"request":"PUT /limit/g1?x","key":"k1","payload":31}
{"expect_answer":{"text":"s3cret!!","content_type":""}}
{"expect_answer":{"text":"s3cret!!"}}
{"expect_answer":{"status":422}}
{"restart":true}
{"request":"GET /limit/g1","user":"ann"}
{"expect_answer":{"text":"another!"}}"#;
    assert_eq!(failures(text), "");
    for (step, why) in [
        (r#"{"request":"POST /limit/g1"}"#, "/limit/g1 has the methods GET, PUT only"),
        (r#"{"request":"GET /"}"#, "no function answers GET /: no `routes` has it"),
        (r#"{"secret":"other","text":"long enough"}"#, "it is in no `secrets`"),
        (r#"{"secret":"api-key","text":"abc"}"#, "has 3 bytes; allowed: 4 to 8192"),
    ] {
        let failures = failures(step);
        assert!(failures.contains(why), "{failures}");
    }
}

fn run_with(settings: &FunctionSettings, text: &str, batch: usize) -> Verdict {
    run_module(&guest(), settings, text, batch)
}

fn run_module(module: &[u8], settings: &FunctionSettings, text: &str, batch: usize) -> Verdict {
    let module = Module::compile(module, &Part::limits(settings)).unwrap();
    let cast = Cast::alone(settings.plan(), Part::new(settings, Arc::new(module)));
    let case = Case::parse(text).unwrap();
    let mut rehearsal = Rehearsal(Stage::open(cast, case.beginning()).unwrap());
    check(&case, &mut rehearsal, Options { batch })
}

#[track_caller]
fn passes(text: &str) {
    let verdict = run_with(&settings("out"), text, 1);
    let failures: String = verdict.failures.iter().map(|failure| failure.text("case")).collect();
    assert!(verdict.passed(), "{failures}{}", verdict.notes.join("\n"));
}

fn failures(text: &str) -> String {
    let verdict = run_with(&settings("out"), text, 1);
    verdict.failures.iter().map(|failure| failure.text("case")).collect()
}

#[test]
fn outputs_and_state_of_a_real_module_are_compared() {
    passes(
        r#"{"topic":"a","payload":1}
{"expect":{"topic":"out","payload":{"first":true},"function":"f","qos":1,"retain":false}}
{"topic":"a","payload":1}
{"expect":{"payload":{"first":false}}}
{"expect_state":{"k":{"text":"v"}}}"#,
    );
}

#[test]
fn a_restart_forgets_memory_and_keeps_state() {
    passes(
        r#"{"topic":"a","payload":1}
{"expect":{"payload":{"first":true}}}
{"restart":true}
{"expect_state":{"k":{"text":"v"}}}
{"topic":"a","payload":1}
{"expect":{"payload":{"first":true}}}"#,
    );
}

#[test]
fn records_that_come_together_are_one_call() {
    let text = "{\"batch\":3}\n{\"topic\":\"a\"}\n{\"topic\":\"a\"}\n{\"topic\":\"a\"}\n\
                {\"expect\":{\"payload\":{\"first\":true}}}";
    passes(text);
}

#[test]
fn a_record_that_traps_is_a_dead_letter_once_its_attempts_are_over() {
    passes(
        r#"{"topic":"a","text":"bad"}
{"advance":"1m"}
{"expect_dead":{"topic":"a","text":"bad","reason":"trapped","function":"f"}}
{"topic":"a","payload":1}
{"expect":{"payload":{"first":true}}}"#,
    );
}

#[test]
fn a_record_that_still_waits_at_the_end_is_a_failure_that_says_what_to_do() {
    let text = failures("{\"topic\":\"a\",\"text\":\"later\"}\n{\"advance\":\"10ms\"}");
    assert_eq!(
        text,
        "case:2: records are not handled at the end\n    \
         came      1 of f wait for another attempt (it asked for them again); \
         let time pass: {\"advance\":\"1m\"}\n"
    );
}

#[test]
fn what_is_not_granted_is_not_published() {
    let text = "{\"topic\":\"a\",\"payload\":1}\n{\"advance\":\"1m\"}\n\
                {\"expect_dead\":{\"reason\":\"publish to \\\"out\\\" is not granted\"}}";
    let verdict = run_with(&settings("elsewhere"), text, 1);
    assert_eq!(verdict.failures, []);
    let note = "a call of f with 1 records failed: denied: publish to \"out\" is not granted; \
                add it to `publish`";
    assert_eq!(verdict.notes[0], note);
}

#[test]
fn days_pass_in_no_time_and_the_clock_is_exact() {
    let settings = settings("out");
    let module = Module::compile(&guest(), &Limits::default()).unwrap();
    let cast = Cast::alone(settings.plan(), Part::new(&settings, Arc::new(module)));
    let mut stage = Stage::open(cast, 1_000).unwrap();
    stage.advance_to(86_400_000 + 1_234).unwrap();
    assert_eq!(stage.unix_ms(), 86_401_234);
    stage.advance_to(5).unwrap();
    assert_eq!(stage.unix_ms(), 86_401_234);
    stage.trim().unwrap();
    assert_eq!(stage.unix_ms(), 86_401_234);
}

#[test]
fn a_case_gives_the_same_result_each_time() {
    let text = "{\"topic\":\"a\",\"payload\":1}\n{\"advance\":\"1h\"}\n{\"topic\":\"a\"}";
    let first = run_with(&settings("out"), text, 1);
    let second = run_with(&settings("out"), text, 1);
    assert_eq!((first.updated, first.failures), (second.updated, second.failures));
}
