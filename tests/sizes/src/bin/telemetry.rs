//! Records over MQTT and a serial link that is measured by itself: what the client and telemetry take is the
//! difference to `link`.
#![no_std]
#![no_main]

use tidegate_link::Micros;
use tidegate_mqtt::{Client, Config, Event, Incoming, Line, Qos};
use tidegate_sizes::board::Board;
use tidegate_sizes::place::Place;
use tidegate_sizes::updating::{self, Serial};
use tidegate_telemetry::{Cbor, Fixed, Overflow, Queue, ReplyTo, Time, record};

static LINK: Place<Serial> = Place::of(Serial::closed());
static CLIENT: Place<Client<'static>> = Place::new();
static SHELF: Place<[u8; 512]> = Place::of([0; 512]);
static INPUT: Place<[u8; 256]> = Place::of([0; 256]);
static WAITING: Place<[u8; 512]> = Place::of([0; 512]);

record! {
    struct Reading: "reading/1" {
        value: Fixed<2>,
        count: u32,
        time: Time,
    }
}

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    let link = updating::link(&board, &LINK);
    let config = Config { subscriptions: &["commands/pump-7/#"], ..Config::new("pump-7") };
    let client = CLIENT.build(|| Client::new(config, SHELF.take(), INPUT.take()));
    let mut queue = Queue::new(WAITING.take(), Overflow::DropOldest);
    let mut line = Line::new(board.clock.millis() as u32);
    let mut count = 0;
    loop {
        let now = Micros(board.clock.millis() * 1_000);
        while let Some(byte) = board.port.read() {
            link.handle_input(now, &[byte]);
        }
        count += 1;
        let time = Time::of(link.clock(), now);
        queue.push_record::<64, Cbor>(&Reading { value: Fixed(count as i32), count, time });
        let mut reply = None;
        line.exchange(now, link, client, |incoming| {
            if let Incoming::Mqtt(Event::Message(message)) = incoming {
                reply = ReplyTo::of(&message);
            }
        });
        if let Some(reply) = reply {
            let _ = reply.give(client, b"done"); // Who asked asks again.
        }
        queue.flush(client, "sensors/pump-7/telemetry", Qos::AtLeastOnce);
        let mut frame = [0; Serial::MAX_OUTPUT];
        loop {
            let length = link.poll_output(now, &mut frame);
            if length == 0 {
                break;
            }
            for byte in frame.get(..length).unwrap_or_default() {
                board.port.write(*byte);
            }
        }
    }
}
