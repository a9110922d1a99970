//! Link and agent.
#![no_std]
#![no_main]

use tidegate_agent::Agent;
use tidegate_sizes::board::Board;
use tidegate_sizes::libraries::Salty;
use tidegate_sizes::place::Place;
use tidegate_sizes::updating::{self, Serial};

static LINK: Place<Serial> = Place::new();
static AGENT: Place<Agent<'static, Salty>> = Place::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let link = LINK.put(updating::link(&board));
    loop {
        if let Some(agent) = updating::agent(&mut board, Salty) {
            updating::run(&mut board, link, AGENT.put(agent));
        }
    }
}
