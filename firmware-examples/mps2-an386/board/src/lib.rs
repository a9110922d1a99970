//! What bootloader and application share of QEMU's `mps2-an386` (a Cortex-M4): drivers, where things are
//! in flash, whom the device trusts.
//!
//! All unsafe code of this board's firmware is here, each register with its purpose.
#![no_std]

mod board;
mod clock;
mod ethernet;
mod flash;
mod layout;
mod port;
mod watchdog;

pub use board::{Board, restart};
pub use clock::Clock;
pub use ethernet::{Ethernet, FRAME_BYTES};
pub use flash::Nor;
pub use layout::{IDENTITY, LAYOUT, trust};
pub use port::Port;
pub use watchdog::Watchdog;

/// A register.
fn read(address: usize) -> u32 {
    // SAFETY: the callers name registers of this board, which may be read at any time.
    unsafe { (address as *const u32).read_volatile() }
}

/// A register.
fn write(address: usize, value: u32) {
    // SAFETY: the callers name registers of this board, which are no memory of the program.
    unsafe { (address as *mut u32).write_volatile(value) }
}
