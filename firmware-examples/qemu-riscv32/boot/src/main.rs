//! Bootloader of QEMU's `virt` with a RISC-V: all its decisions are `tidegate_boot::start`'s.
#![no_std]
#![no_main]

use firmware_crypto::Salty;
use qemu_riscv32::{Board, LAYOUT, restart, trust};

#[riscv_rt::entry]
fn main() -> ! {
    let mut board = Board::take();
    let Some(trust) = trust() else { restart() };
    // There is no watchdog to feed.
    let started = tidegate_boot::start(&mut board.nor, &LAYOUT, &trust, &Salty, &mut || {});
    let Ok(started) = started else { restart() };
    let room = LAYOUT.parts.first().map_or(0, |part| part.room());
    let Err(_) = board.jump(started.entry, room as usize);
    restart()
}
