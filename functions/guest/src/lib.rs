//! What the author of a function imports.
//!
//! A function gets batches of records, emits messages, and keeps a little state. It is an
//! ordinary Rust type with two methods; the macro [`function!`] makes a module of it when it is
//! built for `wasm32-unknown-unknown`, and on any other target the same code runs natively, in
//! tests and in the simulator, through [`native`].
//!
//! ```
//! use tidegate_guest::{Batch, Config, Error, Function, Out, State};
//!
//! /// Counts the records of each topic and publishes every hundredth count.
//! struct Hundreds;
//!
//! impl Function for Hundreds {
//!     fn new(_config: &Config<'_>) -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!
//!     fn handle(&mut self, batch: &Batch<'_>, out: &mut Out<'_>, state: &mut State<'_>) -> Result<(), Error> {
//!         for message in batch.messages() {
//!             let count = state.get::<u64>(message.topic().as_bytes())?.unwrap_or(0) + 1;
//!             state.put(message.topic().as_bytes(), &count);
//!             if count % 100 == 0 {
//!                 out.emit_for(&message, "hundreds", message.topic().as_bytes());
//!             }
//!         }
//!         Ok(())
//!     }
//! }
//!
//! tidegate_guest::function!(Hundreds);
//! ```
//!
//! What holds for every function:
//! - Emits, state changes and acknowledgements of a batch commit together or not at all. A
//!   panic, an `Err` or a missed deadline discards all of them.
//! - An output that is emitted for a record carries the record's trace context: see
//!   [`Out::emit_for`].
//! - State reads see what was committed before the batch, and the function's own writes.
//! - Memory (`self`, statics) is a cache: a new instance may take over between any two batches.
//!   Only [`State`] lasts.
//! - A panic ends the call; the operator reads its file, line and reason. The feature `panic-text`
//!   adds the values in the reason.
//! - Interpreted code is slow at reading text and at copying it. [`Batch::pick`] has the gateway find values
//!   in the payloads of a whole batch, [`Out::write_for`] writes an output where it is sent from.
//! - Keep modules small: no floating-point formatting (`format!("{x}")` of an `f64` adds 20 KB).
//!   [`json`] reads numbers and hands out their text as it was written, [`decimal`] writes them. The
//!   features `json` and `cbor` bring serde for payloads and state (`typed`): 46 KB and 28 KB for a
//!   type of four members.

#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod batch;
mod change;
pub mod decimal;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[allow(unsafe_code)] // The border to the host: see the module.
pub mod ffi;
mod function;
#[cfg(test)]
#[allow(unsafe_code)] // The allocator of wasm32, whose tests run here.
#[path = "ffi/heap.rs"]
mod heap;
pub mod json;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
mod out;
#[cfg(any(test, all(target_arch = "wasm32", not(feature = "std"))))]
mod panic;
mod pick;
mod pieces;
mod state;
#[cfg(test)]
mod tests;
pub mod text;
mod trigger;
#[cfg(any(feature = "cbor", feature = "json"))]
pub mod typed;

#[cfg(target_arch = "wasm32")]
use ffi as host;
use host::Host;
#[cfg(not(target_arch = "wasm32"))]
use native as host;

pub use batch::{Batch, Message};
pub use change::Change;
pub use function::{Config, Error, Function};
pub use out::{Emit, Nack, Out};
pub use pick::Picked;
pub use pieces::Pieces;
pub use state::{State, Value};
pub use tidegate_abi::{BatchRandom, Level, Qos};
pub use trigger::{Event, Request, Response, Timer};

/// Logs at once, with a format: `info!(out, "{count} readings")`. A text without arguments adds
/// nothing to a module, the first format about 5 KB.
#[macro_export]
macro_rules! log {
    ($out:expr, $level:ident, $($format:tt)+) => {
        $out.log_format($crate::Level::$level, ::core::format_args!($($format)+))
    };
}

/// Logs that something did not work.
#[macro_export]
macro_rules! error {
    ($out:expr, $($format:tt)+) => { $crate::log!($out, Error, $($format)+) };
}

/// Logs that something is odd.
#[macro_export]
macro_rules! warn {
    ($out:expr, $($format:tt)+) => { $crate::log!($out, Warn, $($format)+) };
}

/// Logs what is good to know.
#[macro_export]
macro_rules! info {
    ($out:expr, $($format:tt)+) => { $crate::log!($out, Info, $($format)+) };
}

/// Logs for the author.
#[macro_export]
macro_rules! debug {
    ($out:expr, $($format:tt)+) => { $crate::log!($out, Debug, $($format)+) };
}

/// Makes a module of a type that implements [`Function`]: `tidegate_guest::function!(MyType);`,
/// once in a crate of the type `cdylib`. On targets other than wasm32 it expands to nothing.
#[macro_export]
macro_rules! function {
    ($function:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static SLOT: $crate::ffi::Slot<$function> = $crate::ffi::Slot::new();

            #[unsafe(no_mangle)]
            extern "C" fn tg_abi_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn tg_buffer(min_len: usize) -> *mut u8 {
                SLOT.buffer(min_len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn tg_init(ptr: *const u8, len: usize) -> i32 {
                SLOT.init(ptr, len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn tg_handle(ptr: *const u8, len: usize) -> i64 {
                SLOT.handle(ptr, len)
            }
        };
    };
}
