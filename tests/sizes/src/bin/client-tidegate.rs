//! On the client of this SDK.
#![no_std]
#![no_main]

use tidegate_mqtt::{Client, Config, Event, Micros, Publish};
use tidegate_sizes::board::Board;
use tidegate_sizes::client::{
    COMMANDS, DEVICE, EXPIRY, INPUT, INTERVAL, KEEP_ALIVE, TELEMETRY, WAITING, obey, reading,
};
use tidegate_sizes::place::Place;

static CLIENT: Place<Client<'static>> = Place::new();
static SHELF: Place<[u8; WAITING]> = Place::of([0; WAITING]);
static BUFFER: Place<[u8; INPUT]> = Place::of([0; INPUT]);

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let config = Config {
        subscriptions: &[COMMANDS],
        keep_alive: KEEP_ALIVE,
        session_expiry: EXPIRY,
        ..Config::new(DEVICE)
    };
    let client = CLIENT.build(|| Client::new(config, SHELF.take(), BUFFER.take()));
    client.connected(Micros(0));
    let (mut due, mut count) = (Micros(0), 0);
    loop {
        let now = Micros(board.clock.millis() * 1_000);
        while let Some(byte) = board.port.read() {
            match client.handle_input(now, &mut &[byte][..]) {
                Some(Event::Message(message)) => obey(message.payload),
                Some(Event::Down(_)) => client.connected(now),
                Some(_) | None => {}
            }
        }
        if now >= due {
            due = now.after(Micros::from_millis(INTERVAL));
            // Without room it is left out.
            let _ = client.publish(&Publish::new(TELEMETRY, &reading(count)));
            count += 1;
        }
        loop {
            let bytes = client.output(now);
            let length = bytes.len();
            if length == 0 {
                break;
            }
            for byte in bytes {
                board.port.write(*byte);
            }
            client.sent(now, length);
        }
    }
}
