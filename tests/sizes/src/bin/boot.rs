//! The bootloader.
#![no_std]
#![no_main]

use tidegate_sizes::board::Board;
use tidegate_sizes::device::{LAYOUT, TRUST};
use tidegate_sizes::hardware::Hardware;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    loop {
        if let Ok(started) =
            tidegate_boot::start(&mut board.nor, &LAYOUT, &TRUST, &Hardware, &mut || ())
        {
            // Where the jump would be.
            for byte in started.entry.to_le_bytes() {
                board.port.write(byte);
            }
        }
    }
}
