//! Modules that try to break the bounds of functions, and what must come of each.
//!
//! The set is data for others: this crate's test and its program judge it on the runtime crate,
//! the fuzz targets start from it, the process tests install it in the gateway.

mod calls;
mod features;
mod frames;
mod giant;
mod guest;
mod judge;
mod memory;
mod size;
#[cfg(test)]
mod tests;
mod time;

pub use judge::{Came, Fate, Judgement, harsh_limits, judge};

/// A module that tries something.
#[derive(Debug, Clone, Copy)]
pub struct Hostile {
    /// Its name, also of its file.
    pub name: &'static str,
    /// What it tries.
    pub tries: &'static str,
    /// What must come of it under [`harsh_limits`].
    pub fate: Fate,
    /// Makes its bytes; some have 8 MiB.
    pub module: fn() -> Vec<u8>,
}

/// All of them.
#[must_use]
pub fn set() -> Vec<Hostile> {
    [time::SET, memory::SET, frames::SET, calls::SET, features::SET, size::SET].concat()
}

/// Those of at most 64 KiB: what a fuzzer starts from.
#[must_use]
pub fn small() -> Vec<Hostile> {
    [time::SET, memory::SET, frames::SET, calls::SET, features::SET].concat()
}

/// One line of the set.
const fn hostile(
    name: &'static str,
    tries: &'static str,
    fate: Fate,
    module: fn() -> Vec<u8>,
) -> Hostile {
    Hostile { name, tries, fate, module }
}
