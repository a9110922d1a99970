//! What stands around the programs whose size is measured: the least that a board needs. QEMU's
//! `mps2-an386` can run them.
//!
//! Not here: interrupts, sleeping. A board support of somebody else's would be measured with them.
#![no_std]

pub mod board;
pub mod client;
pub mod device;
pub mod hardware;
pub mod measure;
pub mod place;
pub mod sensor;
pub mod updating;
