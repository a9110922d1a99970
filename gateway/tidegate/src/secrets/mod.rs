//! Secrets of functions, by name: encrypted on the disk, given to the functions that are granted
//! them (docs/formats/secrets.md).
//!
//! Invariants:
//! - a value is on the disk only encrypted, and never in a log, a status or an error;
//! - a value that is set counts from the next call on of a function that is granted it.

mod granted;
mod vault;

pub(crate) use granted::Granted;
pub(crate) use vault::Vault;

/// Most secrets that a function may be granted.
pub(crate) const MAX_GRANTED: usize = 64;
