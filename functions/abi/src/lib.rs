//! The contract `tg1` between the gateway and a function: frames, names and codes.
//!
//! A function is a core WebAssembly module. The host hands it one *input frame* per call and
//! gets one *output frame* back; both are drawn byte by byte in `docs/formats/abi-tg1.md`.
//! This crate reads and writes them, on both sides, and knows neither an engine nor a stream.
//!
//! ```
//! use tidegate_abi::{BatchReader, BatchWriter, Kind, MessageRef, Operation, OutputReader, OutputWriter, Qos};
//!
//! let mut batch = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, 7);
//! batch.push(&MessageRef { seq: 41, topic: "sensors/g1/telemetry", payload: b"{}", ..MessageRef::default() })?;
//! let frame = batch.finish();
//!
//! let batch = BatchReader::parse(&frame)?;
//! let mut output = OutputWriter::new();
//! for message in batch.iter() {
//!     output.push(&Operation::Emit {
//!         topic: "copy", payload: message.payload, qos: Qos::AtLeastOnce, retain: false, props: &[],
//!         cause: None,
//!     })?;
//! }
//! assert_eq!(OutputReader::parse(&output.finish())?.count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants:
//! - Every frame is untrusted: `parse` checks all of it and never panics, and what has been
//!   parsed iterates without errors.
//! - An output frame has exactly one encoding: what parses, writes back to the same bytes.
//! - Nothing here allocates except the writers, behind the feature `alloc`.

#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod batch;
mod call;
mod entry;
mod field;
mod frame_error;
mod output;
mod properties;
pub mod property;
mod random;
#[cfg(test)]
mod tests;

#[cfg(feature = "alloc")]
pub use batch::BatchWriter;
pub use batch::{
    BatchHeader, BatchReader, ENTRY_BYTES, HEADER_BYTES, INPUT_MAGIC, InputFlags, Kind, MessageRef,
    Messages, Qos,
};
pub use call::{Errno, HandleResult, export, import};
pub use entry::Entry;
pub use frame_error::{FrameError, FrameTooLarge};
#[cfg(feature = "alloc")]
pub use output::OutputWriter;
pub use output::{
    Level, MetricKind, NackClass, OUTPUT_HEADER_BYTES, OUTPUT_MAGIC, Operation, Operations,
    OutputReader,
};
#[cfg(feature = "alloc")]
pub use properties::write_property;
pub use properties::{Properties, properties};
pub use random::BatchRandom;

/// The most bytes a frame may have: addresses and lengths stay below 2 GiB, so that the sign
/// of `tg_handle`'s result is free for the codes of [`HandleResult`].
pub const MAX_FRAME_BYTES: usize = i32::MAX as usize;
