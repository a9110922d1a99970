//! What devices stand on, simulated with faults, from a seed: the same seed is the same world.
//!
//! Not here: what runs on it.

pub mod random;
pub mod uart;
