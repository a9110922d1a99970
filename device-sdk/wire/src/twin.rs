//! The twin of a device: what it should be like, said by the operator ([`Desired`]), and what it is
//! like, said by itself ([`Reported`]). Bytes: docs/formats/twin.md.
//!
//! Invariant: what [`Desired::read`] and [`Reported::read`] let through can be walked over without a
//! further check.
//!
//! Not here: topics, who keeps the two, what properties mean.

mod desired;
mod property;
mod reported;

#[cfg(test)]
mod tests;

pub use desired::{Desired, write_desired};
pub use property::{Properties, Property, Value};
pub use reported::{Reported, begin_reported, write_refused};

/// Most bytes of either side of a twin.
pub const MAX_TWIN: usize = 1_024;
/// Most properties, those included that were removed.
pub const MAX_PROPERTIES: usize = 32;
/// Most bytes of a property's name, and of a text.
pub const MAX_NAME: usize = 32;
/// See [`MAX_NAME`].
pub const MAX_TEXT: usize = 64;

/// Version of the format.
const FORMAT: u64 = 1;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const VERSION: u64 = 1;
    pub(super) const PROPERTIES: u64 = 2;
    /// Of desired ones.
    pub(super) const COMPLETE_FROM: u64 = 3;
    /// Of reported ones.
    pub(super) const REFUSED: u64 = 3;
}
