//! MQTT, telemetry, and an agent with the curve and hash of libraries.
#![no_std]
#![no_main]

use firmware_crypto::Salty;
use tidegate_agent::Agent;
use tidegate_sizes::board::{self, Board};
use tidegate_sizes::place::Place;
use tidegate_sizes::sensor::{self, Buffers};
use tidegate_sizes::updating;

static BUFFERS: Place<Buffers<1_280>> = Place::of(Buffers::new());
static AGENT: Place<Agent<'static, Salty>> = Place::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let agent = AGENT.build(|| updating::agent(&board, Salty));
    sensor::run_updating(&mut board, BUFFERS.take(), agent);
    board::restart()
}
