//! The example function as a module, beside the same code run natively.
//!
//! Needs the module: `cargo xtask wasm` builds it, and `cargo xtask test` says in
//! TIDEGATE_FUNCTIONS where it is. Without the variable there is nothing to compare.

use super::*;
use crate::{Failure, Verdict};
use std::collections::BTreeMap;
use tidegate_abi::OutputReader;
use tidegate_guest::native;
use tidegate_threshold::Threshold;

const CONFIG: &[u8] = br#"{"limit":30.0,"hysteresis":1.0}"#;

fn module() -> Option<Module> {
    let Some(folder) = std::env::var_os("TIDEGATE_FUNCTIONS") else {
        eprintln!("not compared: TIDEGATE_FUNCTIONS is not set; run cargo xtask test");
        return None;
    };
    let path = std::path::Path::new(&folder).join("threshold.wasm");
    let wasm = std::fs::read(&path).unwrap();
    Some(Module::compile(&wasm, &Limits::default()).unwrap())
}

/// A batch of readings that go up and down, some of them broken.
fn readings(batch: u64, count: u64) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, batch);
    for seq in batch * count..(batch + 1) * count {
        let value = 20 + seq * 7919 % 23;
        let payload = match seq % 17 {
            5 => "not JSON".to_owned(),
            11 => r#"{"id":"no value"}"#.to_owned(),
            _ => format!(r#"{{"id":"r-{seq}","value":{value}.{}0}}"#, seq % 10),
        };
        let topic = format!("sensors/g{}/telemetry", seq % 5);
        let ts_ns = 1_700_000_000_000_000_000 + seq as i64 * 1_000_000;
        let message = MessageRef {
            seq,
            ts_ns,
            topic: &topic,
            payload: payload.as_bytes(),
            ..MessageRef::default()
        };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

fn commit(state: &mut State, output: &[u8]) {
    for operation in OutputReader::parse(output).unwrap().iter() {
        match operation {
            Operation::KvPut { key, value, .. } => drop(state.insert(key.to_vec(), value.to_vec())),
            Operation::KvDel { key } => drop(state.remove(key)),
            _ => {}
        }
    }
}

#[test]
fn module_and_native_code_give_the_same_output_batch_after_batch() {
    let Some(module) = module() else { return };
    let mut instance = module.instantiate(CONFIG).unwrap();
    let mut same = native::Instance::<Threshold>::new(CONFIG).unwrap();
    let mut state: State = BTreeMap::new();
    let mut alerts = 0;
    for batch in 0..50 {
        let frame = readings(batch, 1 + batch % 64);
        let expected = same.call(&frame, &state).unwrap();
        let outcome = instance.call(&frame, Arc::new(state.clone()));
        assert_eq!(outcome.verdict, Verdict::Done(expected.clone()), "batch {batch}");
        if !expected.is_empty() {
            alerts += OutputReader::parse(&expected)
                .unwrap()
                .iter()
                .filter(|operation| matches!(operation, Operation::Emit { .. }))
                .count();
            commit(&mut state, &expected);
        }
    }
    assert!(alerts > 50, "{alerts} alerts");
}

#[test]
fn a_batch_of_64_readings_stays_far_below_its_limits() {
    let Some(module) = module() else { return };
    let mut instance = module.instantiate(CONFIG).unwrap();
    let outcome = instance.call(&readings(0, 64), Arc::default());
    assert!(outcome.fuel < 64 * 40_000, "{} units of fuel", outcome.fuel);
    assert!(outcome.memory_bytes <= 3 * 65_536, "{} bytes", outcome.memory_bytes);
}

#[test]
fn a_thousand_batches_do_not_make_the_module_grow() {
    let Some(module) = module() else { return };
    let mut instance = module.instantiate(CONFIG).unwrap();
    let first = instance.call(&readings(0, 64), Arc::default()).memory_bytes;
    for batch in 1..1_000 {
        let outcome = instance.call(&readings(batch, 64), Arc::default());
        assert!(matches!(outcome.verdict, Verdict::Done(_)));
        assert_eq!(outcome.memory_bytes, first, "batch {batch}");
    }
}

#[test]
fn the_module_says_what_is_wrong_with_its_configuration() {
    let Some(module) = module() else { return };
    let error = module.instantiate(br#"{"limits":30}"#).unwrap_err();
    assert_eq!(error.failure, Failure::Configuration { code: 1 });
    assert!(error.to_string().contains("unknown key `limits`"), "{error}");
}

#[test]
fn the_module_keeps_the_contract() {
    let Some(folder) = std::env::var_os("TIDEGATE_FUNCTIONS") else { return };
    let wasm = std::fs::read(std::path::Path::new(&folder).join("threshold.wasm")).unwrap();
    let config = std::str::from_utf8(CONFIG).unwrap();
    let subject = crate::conformance::Subject { config, ..Default::default() };
    let report = crate::conformance::check(&wasm, &subject, &Limits::default());
    assert_eq!(report.findings, []);
}

/// Quiet readings of 128 bytes, or such that each make an alert.
fn long_readings(count: u64, value: &str) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, 7);
    for seq in 0..count {
        let head = format!(r#"{{"id":"s-{seq:012}","value":{value},"pad":""#);
        let payload = format!(r#"{head}{}"}}"#, "A".repeat(126 - head.len()));
        let topic = format!("sensors/{}/telemetry", seq % 10);
        let payload = payload.as_bytes();
        let message = MessageRef { seq, topic: &topic, payload, ..MessageRef::default() };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

#[test]
fn a_reading_and_an_alert_cost_no_more_fuel_than_they_did() {
    let Some(module) = module() else { return };
    let mut instance = module.instantiate(br#"{"limit":30,"every":true}"#).unwrap();
    let mut fuel = |value| {
        let outcome = instance.call(&long_readings(256, value), Arc::new(State::new()));
        assert!(matches!(outcome.verdict, Verdict::Done(_)));
        outcome.fuel / 256
    };
    let (quiet, alert) = (fuel("21.5"), fuel("31.5"));
    assert!(quiet <= 1_600 && alert <= 8_000, "{quiet} for a reading, {alert} with an alert");
}
