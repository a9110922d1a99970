//! What bootloader and application share of QEMU's `virt` with a RISC-V of 32 bits: drivers, where things are in
//! flash, whom the device trusts.
//!
//! The machine runs programs in RAM: the bootloader, which QEMU puts there, copies the application from flash and
//! jumps. It has no watchdog. All unsafe code of this board's firmware is here.
#![no_std]

mod board;
mod clock;
mod flash;
mod layout;
mod line;

pub use board::{Board, restart};
pub use clock::Clock;
pub use flash::Nor;
pub use layout::{IDENTITY, LAYOUT, trust};
pub use line::Line;

/// A register of 32 bits, or a word of the flash.
fn read(address: usize) -> u32 {
    // SAFETY: the callers name registers of this board, which may be read at any time, and its flash.
    unsafe { (address as *const u32).read_volatile() }
}

/// A register of 32 bits, or a word of the flash.
fn write(address: usize, value: u32) {
    // SAFETY: the callers name registers of this board, and its flash, which are no memory of the program.
    unsafe { (address as *mut u32).write_volatile(value) }
}

/// A register of 8 bits.
fn read_byte(address: usize) -> u8 {
    // SAFETY: as above.
    unsafe { (address as *const u8).read_volatile() }
}

/// A register of 8 bits.
fn write_byte(address: usize, value: u8) {
    // SAFETY: as above.
    unsafe { (address as *mut u8).write_volatile(value) }
}
