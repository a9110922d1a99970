//! Nothing but the board: what every program has.
#![no_std]
#![no_main]

use tidegate_sizes::board::Board;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    loop {
        if let Some(byte) = board.port.read() {
            board.port.write(byte);
        }
    }
}
