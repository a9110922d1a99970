//! Runs functions: WebAssembly modules that speak the contract `tg1`, in wasmi.
//!
//! Knows no streams and no MQTT: frames in, frames out, the state as it was at the batch's
//! start to read from. What a guest may use is bounded on every side by [`Limits`], and what it
//! does wrong is a value: [`InstallError`] for a module that cannot be used, [`Failure`] for a
//! call that went wrong.
//!
//! ```
//! use std::sync::Arc;
//! use tidegate_runtime::{Limits, Module, State, Verdict};
//!
//! # let wasm = wat::parse_str(r#"(module (memory (export "memory") 1)
//! #   (func (export "tg_abi_1"))
//! #   (func (export "tg_buffer") (param i32) (result i32) (i32.const 1024))
//! #   (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
//! #   (func (export "tg_handle") (param i32 i32) (result i64) (i64.const 0)))"#)?;
//! use tidegate_abi::{BatchWriter, Kind};
//! let frame = BatchWriter::new(Kind::Messages, 0, 1).finish();
//!
//! let module = Module::compile(&wasm, &Limits::default())?;
//! let mut instance = module.instantiate(br#"{"limit":30}"#)?;
//! let outcome = instance.call(&frame, Arc::new(State::new()));
//! assert_eq!(outcome.verdict, Verdict::Done(Vec::new()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//! - The host enters the guest at top level only. No import calls back into it: that would grow
//!   the native stack by the guest's will.
//! - A guest is stopped at the latest one slice of fuel ([`Limits::fuel_slice`]) after its
//!   deadline, however it loops.
//! - After a [`Failure`] an instance is spent: its memory may be half-written. Make a new one.
//! - The same frame and the same state give the same output: the only clock and the only
//!   randomness are functions of the batch.

pub mod conformance;
mod failure;
mod imports;
mod install;
mod instance;
mod json;
mod limits;
mod mask;
mod outline;
mod secrets;
#[cfg(test)]
mod tests;

pub use failure::{Failure, Outcome, StartFailure, Verdict};
pub use install::{InstallError, Module};
pub use instance::Instance;
pub use limits::{Grants, Limits};
pub use secrets::{MAX_SECRET, MIN_SECRET, SecretValue, Secrets};
pub use tidegate_abi::Level;

/// A function's key-value state, as committed before the batch.
pub type State = std::collections::BTreeMap<Vec<u8>, Vec<u8>>;
