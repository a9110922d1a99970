//! MQTT and telemetry.
#![no_std]
#![no_main]

use tidegate_sizes::board::Board;
use tidegate_sizes::place::Place;
use tidegate_sizes::sensor::{self, Buffers};

static BUFFERS: Place<Buffers<128>> = Place::of(Buffers::new());

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    sensor::run(&mut Board::take(), BUFFERS.take())
}
