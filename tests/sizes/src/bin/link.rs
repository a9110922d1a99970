//! A serial link alone: sends back what comes in.
#![no_std]
#![no_main]

use tidegate_link::Micros;
use tidegate_sizes::board::Board;
use tidegate_sizes::place::Place;
use tidegate_sizes::updating::{self, Serial};

static LINK: Place<Serial> = Place::of(Serial::closed());

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let link = updating::link(&board, &LINK);
    loop {
        let now = Micros(board.clock.millis() * 1_000);
        while let Some(byte) = board.port.read() {
            link.handle_input(now, &[byte]);
        }
        let mut copy = [0; 64];
        let mut answer = None;
        if let Some(message) = link.receive() {
            let length = message.bytes.len().min(copy.len());
            copy[..length].copy_from_slice(&message.bytes[..length]);
            answer = Some((message.channel, length));
        }
        if let Some((channel, length)) = answer {
            let _ = link.send(channel, &copy[..length]); // Without a session it is lost.
        }
        let mut line = [0; 300];
        loop {
            let length = link.poll_output(now, &mut line);
            if length == 0 {
                break;
            }
            for byte in &line[..length] {
                board.port.write(*byte);
            }
        }
    }
}
