//! Link and agent.
#![no_std]
#![no_main]

use tidegate_agent::Agent;
use tidegate_sizes::board::{self, Board};
use tidegate_sizes::hardware::Hardware;
use tidegate_sizes::place::Place;
use tidegate_sizes::updating::{self, Serial};

static LINK: Place<Serial> = Place::of(Serial::closed());
static AGENT: Place<Agent<'static, Hardware>> = Place::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let link = updating::link(&board, &LINK);
    let agent = AGENT.build(|| updating::agent(&board, Hardware));
    updating::run(&mut board, link, agent);
    board::restart()
}
