//! MQTT, telemetry and the gateway's time.
#![no_std]
#![no_main]

use tidegate_mqtt::Micros;
use tidegate_sizes::board::Board;
use tidegate_sizes::place::Place;
use tidegate_sizes::sensor::{self, Buffers};
use tidegate_telemetry::TimeSync;

static BUFFERS: Place<Buffers<128>> = Place::of(Buffers::new());
static SYNC: Place<TimeSync> = Place::of(TimeSync::new(Micros::from_millis(600_000)));

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    sensor::run_timed(&mut Board::take(), BUFFERS.take(), SYNC.take())
}
