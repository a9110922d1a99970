//! Secrets: who reads them, when a new value counts, and where they do not show.

use super::{frame, guest_with, output};
use crate::{Failure, Level, Limits, Module, SecretValue, Secrets, State, Verdict};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_abi::{MetricKind, NackClass, Operation, OutputReader};

const IMPORTS: &str = r#"
    (import "tg1" "secret_get" (func $secret (param i32 i32 i32 i32) (result i32)))
    (import "tg1" "log" (func $log (param i32 i32 i32)))"#;

fn secrets(value: Option<&str>) -> Secrets {
    let value = value.and_then(|text| SecretValue::new(text.as_bytes().to_vec()));
    Secrets::new(BTreeMap::from([("key".to_owned(), value)]))
}

/// What `secret_get` answers for this name with so much room.
fn answer(secrets: Secrets, name: &str, cap: i32) -> i32 {
    let len = name.len();
    let handle = format!(
        "(i64.extend_i32_s (i32.sub (call $secret (i32.const 8) (i32.const {len}) (i32.const 64)
         (i32.const {cap})) (i32.const 1000)))"
    );
    let extra = format!("(data (i32.const 8) \"{name}\")");
    let module =
        Module::compile(&guest_with(IMPORTS, &extra, &handle), &Limits::default()).unwrap();
    let mut instance = module.instantiate_with(b"{}", Arc::new(secrets)).unwrap();
    match instance.call(&frame(1), Arc::new(State::new())).verdict {
        Verdict::Failed(Failure::Refused { code }) => i32::try_from(code + 1000).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_granted_secret_is_read_and_no_other_is() {
    assert_eq!(answer(secrets(Some("s3cret-value")), "key", 64), 12);
    assert_eq!(answer(secrets(Some("s3cret-value")), "key", 3), 12, "too little room: the length");
    assert_eq!(answer(secrets(Some("s3cret-value")), "key", i32::MAX), 12);
    assert_eq!(answer(secrets(Some("s3cret-value")), "other", 64), -1);
    assert_eq!(answer(secrets(None), "key", 64), -2, "granted, and not set");
    assert_eq!(answer(Secrets::default(), "key", 64), -1);
}

/// Logs the secret with something around it, and then does this.
fn teller(then: &str) -> Vec<u8> {
    let handle = format!(
        r"(local $n i32)
        (local.set $n (call $secret (i32.const 8) (i32.const 3) (i32.const 75) (i32.const 64)))
        (call $log (i32.const 3) (i32.const 64) (i32.add (local.get $n) (i32.const 11)))
        {then}"
    );
    guest_with(
        IMPORTS,
        r#"(data (i32.const 8) "key") (data (i32.const 64) "panicked at")"#,
        &handle,
    )
}

#[test]
fn a_new_value_counts_from_the_next_call_on_and_neither_shows_in_logs() {
    let module = Module::compile(&teller("(i64.const 0)"), &Limits::default()).unwrap();
    let first = secrets(Some("first-value"));
    let second =
        Secrets::new(BTreeMap::from([("key".to_owned(), SecretValue::new(b"two!".to_vec()))]));
    let mut instance = module.instantiate_with(b"{}", Arc::new(first)).unwrap();
    let lines = |instance: &mut crate::Instance| {
        let outcome = instance.call(&frame(1), Arc::new(State::new()));
        assert_eq!(outcome.verdict, Verdict::Done(Vec::new()));
        outcome.logs
    };
    let masked = [(Level::Info, "panicked at***".to_owned())];
    assert_eq!(lines(&mut instance), masked);
    instance.give_secrets(Arc::new(second));
    assert_eq!(lines(&mut instance), masked);
}

#[test]
fn the_reason_of_a_trap_does_not_tell_a_secret() {
    let module = Module::compile(&teller("unreachable"), &Limits::default()).unwrap();
    let secrets = Arc::new(secrets(Some("s3cret-value")));
    let outcome = module.instantiate_with(b"{}", secrets).unwrap().call(&frame(1), Arc::default());
    let Verdict::Failed(failure) = outcome.verdict else { panic!("{outcome:?}") };
    let shown = format!("{failure} {failure:?} {:?}", outcome.logs);
    assert!(shown.contains("panicked at***") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn an_output_tells_people_no_secret_and_is_otherwise_as_it_was() {
    let value = "s3cret-value";
    let emit = Operation::Emit {
        topic: "t",
        payload: value.as_bytes(),
        qos: tidegate_abi::Qos::AtLeastOnce,
        retain: false,
        props: &[],
        cause: None,
    };
    let said = |text: &'static str| {
        let name = if text.contains("***") { "m***" } else { "ms3cret-value" };
        [
            emit,
            Operation::Log { level: Level::Warn, text },
            Operation::Nack { index: 0, class: NackClass::Dead, code: 7, text },
            Operation::Metric { name, kind: MetricKind::Gauge, value: 1.5 },
            Operation::Respond { status: 200, content_type: "a/b", body: b"s3cret-value" },
        ]
    };
    let bytes = output(&said("no s3cret-value here"));
    let data: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let code = 1024u64 << 32 | bytes.len() as u64;
    let extra = format!("(data (i32.const 1024) \"{data}\")");
    let wasm = guest_with(IMPORTS, &extra, &format!("(i64.const {code})"));
    let module = Module::compile(&wasm, &Limits::default()).unwrap();
    let call = |secrets: Secrets| {
        let mut instance = module.instantiate_with(b"{}", Arc::new(secrets)).unwrap();
        match instance.call(&frame(1), Arc::default()).verdict {
            Verdict::Done(frame) => frame,
            other => panic!("{other:?}"),
        }
    };
    let masked = call(secrets(Some(value)));
    let operations: Vec<_> = OutputReader::parse(&masked).unwrap().iter().collect();
    assert_eq!(operations, said("no *** here"));
    assert_eq!(call(secrets(None)), bytes);
}
