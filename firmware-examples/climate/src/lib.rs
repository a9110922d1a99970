//! A BME280 on I2C whose readings go over a serial line to a gateway. What a board has to bring is the bus, the
//! port and the clock, as `embedded-hal-async`, `embedded-io-async` and `embassy-time` have them.
//!
//! Every 10 s it publishes a reading to `sensors/climate-1/telemetry`; `commands/climate-1/interval` with a number of
//! seconds, 1 to 3,600, changes that, and is answered.
#![no_std]

mod measuring;

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use embassy_futures::select::{Either, select};
use embassy_time::{Instant, Timer};
use embedded_hal_async::i2c::I2c;
use embedded_io_async::{Read, Write};
use tidegate_link::{Config as LinkConfig, Link, Micros, Role};
use tidegate_mqtt::{Client, Config, Event, Incoming, Line, Message, Qos};
use tidegate_telemetry::{Fixed, Json, Level, Log, Overflow, Queue, ReplyTo, Time, record};

use self::measuring::{Measured, Sensor};

const TELEMETRY: &str = "sensors/climate-1/telemetry";
const LOGS: &str = "logs/climate-1";
const INTERVAL: &str = "commands/climate-1/interval";
const FIRST_INTERVAL: Micros = Micros::from_millis(10_000);

record! {
    /// What is measured.
    struct Reading: "climate/1" {
        /// How many were before it since the start.
        id: u32,
        /// Degrees Celsius.
        temperature: Fixed<2>,
        /// Percent.
        humidity: Fixed<1>,
        /// Pascal.
        pressure: u32,
        time: Time,
    }
}

/// Carries a command out; what there is to say of it.
fn command(message: &Message<'_>, interval: &mut Micros) -> &'static [u8] {
    let text = core::str::from_utf8(message.payload).unwrap_or_default();
    match (message.topic, text.parse()) {
        (INTERVAL, Ok(seconds @ 1..=3_600_u32)) => {
            *interval = Micros::from_millis(1_000 * u64::from(seconds));
            b"done"
        }
        (INTERVAL, _) => b"a number of seconds, 1 to 3600",
        _ => b"there is no such command",
    }
}

fn now() -> Micros {
    Micros(Instant::now().as_micros())
}

/// Measures and publishes. `seed` should differ between starts, and between devices.
pub async fn run(bus: impl I2c, mut port: impl Read + Write, seed: u64) -> ! {
    let mut sensor = Sensor::new(bus);
    let mut link: Link<256, 4, 512> = Link::new(LinkConfig::new(Role::Device, 1), seed);
    let (mut shelf, mut input, mut waiting, mut lines) = ([0; 1024], [0; 256], [0; 2048], [0; 512]);
    let config = Config { subscriptions: &[INTERVAL], ..Config::new("climate-1") };
    let mut client = Client::new(config, &mut shelf, &mut input);
    let mut line = Line::new(seed as u32);
    let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
    let mut log = Log::new(&mut lines, Level::Info);
    let mut frame = [0; Link::<256, 4, 512>::MAX_OUTPUT];
    let (mut id, mut interval, mut measure_at) = (0, FIRST_INTERVAL, now());
    loop {
        if now() >= measure_at {
            measure_at = measure_at.after(interval);
            match sensor.measure().await {
                Ok(Measured { temperature, humidity, pressure }) => {
                    let time = Time::of(link.clock(), now());
                    let reading = Reading { id, temperature, humidity, pressure, time };
                    queue.push_record::<160, Json>(&reading);
                    id += 1;
                }
                Err(what) => log.say(Level::Warn, Time::of(link.clock(), now()), what),
            }
        }
        let mut reply = None;
        line.exchange(now(), &mut link, &mut client, |incoming| match incoming {
            Incoming::Mqtt(Event::Message(message)) => {
                let said = command(&message, &mut interval);
                reply = ReplyTo::of(&message).map(|to| (to, said));
            }
            Incoming::Mqtt(_) | Incoming::Other { .. } | Incoming::LinkUp | Incoming::LinkDown => {}
        });
        if reply.is_some_and(|(to, said)| to.give(&mut client, said).is_err()) {
            log.say(Level::Warn, Time::unknown(), "a reply was lost");
        }
        queue.flush(&mut client, TELEMETRY, Qos::AtLeastOnce);
        log.flush(&mut client, LOGS);
        loop {
            let length = link.poll_output(now(), &mut frame);
            // What a port loses is sent again.
            if length == 0 || port.write_all(&frame[..length]).await.is_err() {
                break;
            }
        }
        let due = [link.next_deadline(), line.next_deadline(&client), Some(measure_at)];
        let due = due.into_iter().flatten().min().unwrap_or(measure_at);
        let mut bytes = [0; 64];
        let came = select(port.read(&mut bytes), Timer::at(Instant::from_micros(due.0))).await;
        if let Either::First(Ok(count)) = came {
            link.handle_input(now(), &bytes[..count]);
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
