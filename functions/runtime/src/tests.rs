//! Guests that misbehave, written in the text format.

mod conformance;
mod install;
mod json;
mod json_each;
mod running;
mod secrets;
mod state;
mod templates;
mod threshold;

use crate::{Limits, Module, Outcome, State};
use std::sync::Arc;
use tidegate_abi::{BatchWriter, Kind, MessageRef, Operation, OutputWriter};

/// Where the input buffer of the test guests is.
const INPUT_AT: usize = 32_768;

/// A guest with this body of `tg_handle`; `extra` are further fields of the module, imports
/// first.
fn guest_with(imports: &str, extra: &str, handle: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            {imports}
            (memory (export "memory") 1)
            (func (export "tg_abi_1"))
            (func (export "tg_buffer") (param i32) (result i32) (i32.const {INPUT_AT}))
            (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
            (func (export "tg_handle") (param $ptr i32) (param $len i32) (result i64) {handle})
            {extra})"#
    );
    wat::parse_str(text).unwrap()
}

fn guest(handle: &str) -> Vec<u8> {
    guest_with("", "", handle)
}

/// A guest that returns these bytes as its output, whatever its input.
fn guest_that_returns(output: &[u8]) -> Vec<u8> {
    let bytes: String = output.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let code = (1024u64 << 32) | output.len() as u64;
    guest_with("", &format!("(data (i32.const 1024) \"{bytes}\")"), &format!("(i64.const {code})"))
}

/// An input frame of so many records.
fn frame(count: u32) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_123_456_789, 42);
    for seq in 0..count {
        let message = MessageRef {
            seq: seq.into(),
            topic: "sensors/a/t",
            payload: b"21.5",
            ..MessageRef::default()
        };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

fn output(operations: &[Operation<'_>]) -> Vec<u8> {
    let mut writer = OutputWriter::new();
    for operation in operations {
        writer.push(operation).unwrap();
    }
    writer.finish()
}

/// Compiles with these limits and makes one call with one record.
fn call_with(wasm: &[u8], limits: &Limits, state: State) -> Outcome {
    let module = Module::compile(wasm, limits).unwrap();
    module.instantiate(b"{}").unwrap().call(&frame(1), Arc::new(state))
}

fn call(wasm: &[u8]) -> Outcome {
    call_with(wasm, &Limits::default(), State::new())
}

/// Limits under which only the deadline can stop a loop.
fn fuel_without_end() -> Limits {
    Limits { fuel_per_batch: u64::MAX, ..Limits::default() }
}
