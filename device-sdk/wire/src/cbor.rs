//! CBOR (RFC 8949) in its one deterministic encoding, without allocation.
//!
//! Invariant: [`Reader`] accepts exactly what [`Writer`] can write: shortest lengths, definite
//! sizes, UTF-8 text. What is read can be written again to the same bytes, so that a signature
//! or a hash over it has one meaning.
//!
//! The order of a map's keys is the reader's user to check: formats of this project have fixed
//! keys, read in ascending order ([`Fields`] for those that later versions may add to).
//!
//! Not here: floats except to be passed over, tags other than small ones, nesting of its own (a
//! reader's user goes exactly as deep as its format).

mod error;
mod fields;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use error::{CborError, Kind};
pub use fields::{Field, Fields, FormError, Value, required};
pub use read::Reader;
pub use write::{Full, Writer, head_bytes};

/// Most bytes of an item's head: its first byte and a 64-bit number.
pub const MAX_HEAD: usize = 9;

/// Major types, the three highest bits of an item's first byte.
mod major {
    pub(super) const UINT: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const TAG: u8 = 6;
}

/// Values of major type 7.
mod simple {
    pub(super) const FALSE: u8 = 0xf4;
    pub(super) const TRUE: u8 = 0xf5;
    pub(super) const NULL: u8 = 0xf6;
}
