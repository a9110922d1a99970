//! Bootloader of QEMU's `mps2-an386`: all its decisions are `tidegate_boot::start`'s.
#![no_std]
#![no_main]

use firmware_crypto::Salty;
use mps2_an386::{Board, LAYOUT, restart, trust};

#[cortex_m_rt::entry]
fn main() -> ! {
    let (Some(mut board), Some(trust)) = (Board::take(), trust()) else { restart() };
    let Board { nor, watchdog, .. } = &mut board;
    let Ok(started) = tidegate_boot::start(nor, &LAYOUT, &trust, &Salty, &mut || watchdog.feed())
    else {
        board.console.write(b"boot: the flash has failed\n");
        restart()
    };
    board.console.write(if started.trial.is_some() { b"boot: trial\n" } else { b"boot: start\n" });
    // Whatever runs has to feed it.
    board.watchdog.arm();
    board.jump(started.entry)
}
