//! What a running guest can do wrong. Every one of these ends, in its own words, and the next
//! instance of the same module works.

use super::*;
use crate::{Failure, Level, Verdict};
use std::time::{Duration, Instant};
use tidegate_abi::{FrameError, NackClass, Qos};

/// How late a stop may be noticed on a busy machine. What is tested is that it ends at all, and
/// not with the fuel, which would take minutes.
const LATE: Duration = Duration::from_secs(5);

fn failure(outcome: Outcome) -> Failure {
    match outcome.verdict {
        Verdict::Failed(failure) => failure,
        other => panic!("not a failure: {other:?}"),
    }
}

#[test]
fn a_loop_without_end_is_stopped_at_the_deadline() {
    let limits = Limits { deadline: Duration::from_millis(50), ..fuel_without_end() };
    let started = Instant::now();
    let outcome =
        call_with(&guest("(loop $again (br $again)) (i64.const 0)"), &limits, State::new());
    let took = started.elapsed();
    assert!(took >= limits.deadline && took < LATE, "{took:?}");
    assert!(outcome.fuel > limits.fuel_slice, "{} units", outcome.fuel);
    assert!(matches!(failure(outcome), Failure::Deadline { deadline, elapsed }
        if deadline == limits.deadline && elapsed >= deadline));
}

#[test]
fn a_loop_without_end_is_stopped_when_its_fuel_is_used_up() {
    let limits = Limits {
        fuel_per_batch: 1_000_000,
        fuel_per_message: 250_000,
        deadline: Duration::from_secs(60),
        ..Limits::default()
    };
    let module =
        Module::compile(&guest("(loop $again (br $again)) (i64.const 0)"), &limits).unwrap();
    let outcome = module.instantiate(b"{}").unwrap().call(&frame(4), Arc::default());
    assert!(outcome.fuel <= 2_000_000 && outcome.fuel > 1_990_000, "{} units", outcome.fuel);
    assert_eq!(failure(outcome), Failure::OutOfFuel { fuel: 2_000_000 });
}

#[test]
fn a_loop_in_tg_buffer_or_tg_init_is_stopped_too() {
    for name in ["tg_buffer", "tg_init"] {
        let text = format!(
            r#"(module (memory (export "memory") 1)
              (func (export "tg_abi_1"))
              (func (export "tg_buffer") (param i32) (result i32) {})
              (func (export "tg_init") (param i32 i32) (result i32) {})
              (func (export "tg_handle") (param i32 i32) (result i64) (i64.const 0)))"#,
            if name == "tg_buffer" { "(loop $l (br $l)) (i32.const 0)" } else { "(i32.const 64)" },
            if name == "tg_init" { "(loop $l (br $l)) (i32.const 0)" } else { "(i32.const 0)" },
        );
        let limits = Limits {
            start_deadline: Duration::from_millis(20),
            first_call_fuel: u64::MAX,
            ..Limits::default()
        };
        let module = Module::compile(&wat::parse_str(text).unwrap(), &limits).unwrap();
        let error = module.instantiate(b"{}").unwrap_err();
        assert!(matches!(error.failure, Failure::Deadline { .. }), "{name}: {error}");
    }
}

#[test]
fn one_long_instruction_costs_the_fuel_of_its_bytes() {
    // 1,000 fills of 60 KB at 64 bytes a unit are about 940,000 units.
    let fill = "(local $i i32) (loop $l
        (memory.fill (i32.const 0) (i32.const 7) (i32.const 60000))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 1000)))) (i64.const 0)";
    let outcome = call(&guest(fill));
    assert_eq!(outcome.verdict, Verdict::Done(vec![]));
    assert!(outcome.fuel > 900_000 && outcome.fuel < 1_000_000, "{} units", outcome.fuel);
}

#[test]
fn an_instruction_that_needs_more_than_a_slice_is_not_halted_for_ever() {
    let limits = Limits { fuel_slice: 10, ..Limits::default() };
    let fill = "(memory.fill (i32.const 0) (i32.const 7) (i32.const 60000)) (i64.const 0)";
    assert_eq!(call_with(&guest(fill), &limits, State::new()).verdict, Verdict::Done(vec![]));
}

#[test]
fn memory_without_end_is_refused_at_the_limit() {
    let grow = "(loop $more (drop (memory.grow (i32.const 16))) (br $more)) (i64.const 0)";
    let limits = Limits { memory_bytes: 4 << 20, ..fuel_without_end() };
    let outcome = call_with(&guest(grow), &limits, State::new());
    assert!(outcome.memory_bytes <= limits.memory_bytes);
    // 1 page at the start, then 16 at a time: the step beyond 64 pages is refused.
    let wanted = (1 + 4 * 16) * 65_536;
    assert_eq!(failure(outcome), Failure::MemoryLimit { wanted, limit: limits.memory_bytes });
}

#[test]
fn tables_do_not_grow() {
    let extra = "(table $t 10 100 funcref)";
    let handle = "(i64.extend_i32_s (table.grow $t (ref.null func) (i32.const 1)))";
    // -1 as an i64: the guest's own way to say that the batch should be given again.
    assert_eq!(call(&guest_with("", extra, handle)).verdict, Verdict::RetryBatch);
}

#[test]
fn recursion_without_end_overflows_the_guest_and_not_the_host() {
    let extra = "(func $deep (param i64) (result i64)
        (i64.add (i64.const 1) (call $deep (i64.add (local.get 0) (i64.const 1)))))";
    let outcome = call_with(
        &guest_with("", extra, "(call $deep (i64.const 0))"),
        &fuel_without_end(),
        State::new(),
    );
    assert_eq!(failure(outcome), Failure::StackOverflow { depth: 1_000 });
}

#[test]
fn wide_frames_overflow_the_stack_of_values() {
    let locals = "(local i64)".repeat(1_000);
    let extra = format!(
        "(func $wide (param i64) (result i64) {locals}
        (i64.add (i64.const 1) (call $wide (local.get 0))))"
    );
    let outcome = call(&guest_with("", &extra, "(call $wide (i64.const 0))"));
    assert!(matches!(failure(outcome), Failure::StackOverflow { .. }));
}

#[test]
fn traps_are_reported_in_words() {
    let cases = [
        ("(unreachable)", "unreachable"),
        ("(i64.div_u (i64.const 1) (i64.const 0))", "divide by zero"),
        ("(i64.load (i32.const -8))", "out of bounds memory access"),
        ("(call_indirect $t (result i64) (i32.const 9))", "table"),
    ];
    for (handle, expected) in cases {
        match failure(call(&guest_with("", "(table $t 1 funcref)", handle))) {
            Failure::Trap { text } => assert!(text.contains(expected), "{handle}: {text}"),
            other => panic!("{handle}: {other:?}"),
        }
    }
}

#[test]
fn a_failed_instance_is_spent_and_a_new_one_of_the_same_module_works() {
    // Fails on the first call of an instance only if the batch has a record.
    let handle =
        format!("(if (i32.load (i32.const {})) (then (unreachable))) (i64.const 0)", INPUT_AT + 8);
    let module = Module::compile(&guest(&handle), &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    assert!(matches!(failure(instance.call(&frame(1), Arc::default())), Failure::Trap { .. }));
    assert_eq!(failure(instance.call(&frame(0), Arc::default())), Failure::Spent);
    assert_eq!(instance.stop(), Ok(()));
    let mut fresh = module.instantiate(b"{}").unwrap();
    assert_eq!(fresh.call(&frame(0), Arc::default()).verdict, Verdict::Done(vec![]));
}

#[test]
fn an_abandoned_call_leaves_nothing_behind_for_the_next_instance() {
    let handle = format!(
        "(if (i32.load (i32.const {})) (then (loop $l (br $l)))) (i64.const 0)",
        INPUT_AT + 8
    );
    let limits = Limits { deadline: Duration::from_millis(1), ..fuel_without_end() };
    let module = Module::compile(&guest(&handle), &limits).unwrap();
    for _ in 0..20 {
        let mut instance = module.instantiate(b"{}").unwrap();
        assert!(matches!(
            failure(instance.call(&frame(1), Arc::default())),
            Failure::Deadline { .. }
        ));
        let mut fresh = module.instantiate(b"{}").unwrap();
        assert_eq!(fresh.call(&frame(0), Arc::default()).verdict, Verdict::Done(vec![]));
    }
}

#[test]
fn the_results_of_tg_handle_are_told_apart() {
    let cases = [
        (0, Verdict::Done(vec![])),
        (-1, Verdict::RetryBatch),
        (-2, Verdict::DeadLetterBatch),
        (-3, Verdict::Failed(Failure::Refused { code: -3 })),
        (i64::MIN, Verdict::Failed(Failure::Refused { code: i64::MIN })),
    ];
    for (code, expected) in cases {
        assert_eq!(call(&guest(&format!("(i64.const {code})"))).verdict, expected);
    }
}

#[test]
fn output_frames_are_handed_over_as_they_are() {
    let emit = Operation::Emit {
        topic: "alerts/a",
        payload: b"{}",
        qos: Qos::AtLeastOnce,
        retain: false,
        props: &[],
        cause: None,
    };
    let nack = Operation::Nack { index: 0, class: NackClass::Dead, code: 7, text: "no number" };
    let frame = output(&[emit, nack]);
    assert_eq!(call(&guest_that_returns(&frame)).verdict, Verdict::Done(frame));
}

#[test]
fn bad_output_frames_are_failures() {
    let nack = Operation::Nack { index: 1, class: NackClass::Drop, code: 0, text: "" };
    assert_eq!(
        failure(call(&guest_that_returns(&output(&[nack])))),
        Failure::NackIndex { index: 1, count: 1 }
    );
    assert_eq!(
        failure(call(&guest_that_returns(b"TGO1 and nothing else"))),
        Failure::BadOutput(FrameError::Total { declared: u32::from_le_bytes(*b" not"), have: 21 })
    );
    // One byte: no frame, and not "no output" either.
    assert!(matches!(
        failure(call(&guest_that_returns(b"T"))),
        Failure::BadOutput(FrameError::Short { have: 1, .. })
    ));
}

#[test]
fn output_outside_of_memory_or_longer_than_allowed_is_a_failure() {
    let at_the_end = (65_530u64 << 32) | 16;
    assert_eq!(
        failure(call(&guest(&format!("(i64.const {at_the_end})")))),
        Failure::OutputOutOfMemory { at: 65_530, bytes: 16, memory: 65_536 }
    );
    let huge = (1024u64 << 32) | 0x7fff_ffff;
    assert_eq!(
        failure(call(&guest(&format!("(i64.const {huge})")))),
        Failure::OutputTooLarge { bytes: 0x7fff_ffff, limit: 1 << 20 }
    );
}

#[test]
fn a_buffer_outside_of_memory_is_a_failure() {
    let text = r#"(module (memory (export "memory") 1)
      (func (export "tg_abi_1"))
      (func (export "tg_buffer") (param i32) (result i32) (i32.sub (i32.const 65536) (local.get 0)))
      (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
      (func (export "tg_handle") (param i32 i32) (result i64) (i64.const 0)))"#;
    let ends_exactly = wat::parse_str(text).unwrap();
    assert_eq!(call(&ends_exactly).verdict, Verdict::Done(vec![]));
    let beyond = wat::parse_str(text.replace("65536", "65537")).unwrap();
    let module = Module::compile(&beyond, &Limits::default()).unwrap();
    assert_eq!(
        module.instantiate(b"{}").unwrap_err().failure,
        Failure::BadBuffer { at: 65_535, bytes: 2, memory: 65_536 }
    );
}

#[test]
fn a_malformed_input_frame_never_reaches_the_guest() {
    let module = Module::compile(&guest("(unreachable)"), &Limits::default()).unwrap();
    let outcome = module.instantiate(b"{}").unwrap().call(b"no frame", Arc::default());
    assert!(matches!(failure(outcome), Failure::BadInput(FrameError::Short { have: 8, .. })));
}

#[test]
fn a_frame_larger_than_memory_is_a_failure_of_the_buffer() {
    let module = Module::compile(&guest("(i64.const 0)"), &Limits::default()).unwrap();
    let outcome = module.instantiate(b"{}").unwrap().call(&frame(2_000), Arc::default());
    assert!(matches!(failure(outcome), Failure::BadBuffer { at: INPUT_AT, .. }));
}

#[test]
fn a_flood_of_host_calls_ends_the_call() {
    let imports = r#"(import "tg1" "now" (func $now (param i32) (result i64)))"#;
    let handle = "(loop $l (drop (call $now (i32.const 0))) (br $l)) (i64.const 0)";
    let limits = Limits { host_calls: 1_000, ..fuel_without_end() };
    let outcome = call_with(&guest_with(imports, "", handle), &limits, State::new());
    assert!(outcome.fuel >= 1_000 * 100, "each costs at least its base: {}", outcome.fuel);
    assert_eq!(failure(outcome), Failure::HostCalls { limit: 1_000 });
}

#[test]
fn host_calls_use_up_the_fuel() {
    let imports = r#"(import "tg1" "random" (func $random (param i32 i32) (result i32)))"#;
    let handle =
        "(loop $l (drop (call $random (i32.const 0) (i32.const 60000))) (br $l)) (i64.const 0)";
    let limits = Limits { fuel_per_batch: 1_000_000, fuel_per_message: 0, ..Limits::default() };
    let outcome = call_with(&guest_with(imports, "", handle), &limits, State::new());
    // One call beyond the budget at most: its price is noted when it has happened.
    assert!(outcome.fuel < 1_100_000, "{}", outcome.fuel);
    assert_eq!(failure(outcome), Failure::OutOfFuel { fuel: 1_000_000 });
}

#[test]
fn a_flood_of_log_lines_is_cut_and_counted() {
    let imports = r#"(import "tg1" "log" (func $log (param i32 i32 i32)))"#;
    let handle = r#"(local $i i32) (loop $l
        (call $log (i32.const 3) (i32.const 1024) (i32.const 5))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 100)))) (i64.const 0)"#;
    let wasm = guest_with(imports, r#"(data (i32.const 1024) "hello")"#, handle);
    let limits = Limits { log_bytes: 23, ..Limits::default() };
    let module = Module::compile(&wasm, &limits).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    for _ in 0..2 {
        let logs = instance.call(&frame(1), Arc::default()).logs;
        assert_eq!(logs.len(), 5, "{logs:?}");
        assert_eq!(logs[0], (Level::Info, "hello".to_owned()));
        assert!(logs[4].1.starts_with("96 more lines were not kept"), "{}", logs[4].1);
    }
}

#[test]
fn what_a_guest_logged_before_it_failed_is_kept() {
    let imports = r#"(import "tg1" "log" (func $log (param i32 i32 i32)))"#;
    let handle = "(call $log (i32.const 1) (i32.const 1024) (i32.const 2)) (unreachable)";
    let wasm = guest_with(imports, r#"(data (i32.const 1024) "\ff!")"#, handle);
    assert_eq!(call(&wasm).logs, [(Level::Error, "\u{fffd}!".to_owned())]);
}

#[test]
fn a_refused_configuration_is_a_start_failure_with_its_reason() {
    let text = r#"(module
      (import "tg1" "log" (func $log (param i32 i32 i32)))
      (memory (export "memory") 1)
      (data (i32.const 8) "limit is missing")
      (func (export "tg_abi_1"))
      (func (export "tg_buffer") (param i32) (result i32) (i32.const 1024))
      (func (export "tg_init") (param i32 i32) (result i32)
        (call $log (i32.const 1) (i32.const 8) (i32.const 16)) (i32.const 5))
      (func (export "tg_handle") (param i32 i32) (result i64) (i64.const 0)))"#;
    let module = Module::compile(&wat::parse_str(text).unwrap(), &Limits::default()).unwrap();
    let error = module.instantiate(b"{}").unwrap_err();
    assert_eq!(error.failure, Failure::Configuration { code: 5 });
    assert_eq!(
        error.to_string(),
        "the function does not accept its configuration (tg_init returned 5): limit is missing"
    );
}

#[test]
fn initialize_runs_first_and_stop_last() {
    let extra = r#"(global $ready (mut i64) (i64.const -3))
        (func (export "_initialize") (global.set $ready (i64.const 0)))
        (func (export "tg_stop") (unreachable))"#;
    let module =
        Module::compile(&guest_with("", extra, "(global.get $ready)"), &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    assert_eq!(instance.call(&frame(1), Arc::default()).verdict, Verdict::Done(vec![]));
    assert!(matches!(instance.stop(), Err(Failure::Trap { .. })));
}

#[test]
fn the_same_batch_costs_the_same_fuel_each_time() {
    let handle = "(local $i i32) (loop $l
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 1000)))) (i64.const 0)";
    let module = Module::compile(&guest(handle), &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    let first = instance.call(&frame(3), Arc::default()).fuel;
    assert!(first > 1_000);
    assert_eq!(instance.call(&frame(3), Arc::default()).fuel, first);
    assert_eq!(module.instantiate(b"{}").unwrap().call(&frame(3), Arc::default()).fuel, first);
}

#[test]
fn an_instance_runs_on_another_thread() {
    let module = Module::compile(&guest("(i64.const 0)"), &Limits::default()).unwrap();
    let mut instance = module.instantiate(b"{}").unwrap();
    let outcome =
        std::thread::spawn(move || instance.call(&frame(1), Arc::default())).join().unwrap();
    assert_eq!(outcome.verdict, Verdict::Done(vec![]));
}
