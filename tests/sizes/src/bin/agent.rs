//! The agent alone, without libraries for hash and curve: messages are raw on the port.
#![no_std]
#![no_main]

use tidegate_agent::{Agent, Millis, Next};
use tidegate_sizes::board::{self, Board};
use tidegate_sizes::hardware::Hardware;
use tidegate_sizes::place::Place;
use tidegate_sizes::updating;

static AGENT: Place<Agent<'static, Hardware>> = Place::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let agent = AGENT.build(|| updating::agent(&board, Hardware));
    if agent.begin(Millis(board.clock.millis()), &mut board.nor).is_ok() {
        run(&mut board, agent);
    }
    board::restart()
}

fn run(board: &mut Board, agent: &mut Agent<'static, Hardware>) {
    agent.self_test(true);
    agent.allow_restart(true);
    let mut message = [0; 256];
    let mut length = 0;
    loop {
        while let Some(byte) = board.port.read() {
            if let Some(place) = message.get_mut(length) {
                *place = byte;
            }
            length += 1;
        }
        let now = Millis(board.clock.millis());
        let whole = message.get(..length).unwrap_or_default();
        if agent.handle_message(now, &mut board.nor, whole).is_err() {
            return;
        }
        let mut out = [0; 512];
        while let Ok(Some(length)) = agent.poll_output(now, &mut board.nor, &mut out) {
            for byte in out.get(..length).unwrap_or_default() {
                board.port.write(*byte);
            }
        }
        match agent.poll(now, &mut board.nor) {
            Ok(Next::Work | Next::Wait(_)) => {}
            Ok(Next::Restart) | Err(_) => return,
        }
    }
}
