//! What devices stand on, simulated with faults, from a seed: the same seed is the same world.
//!
//! Also who signs releases and a gateway that serves them, well or not.
//!
//! Not here: what runs on it.

pub mod crypto;
pub mod gateway;
pub mod nor;
pub mod random;
pub mod release;
pub mod uart;
