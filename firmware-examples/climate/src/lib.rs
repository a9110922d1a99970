//! A BME280 on I2C whose readings go over a serial line to a gateway. What a board has to bring is the bus, the
//! port and the clock, as `embedded-hal-async`, `embedded-io-async` and `embassy-time` have them; and the flash, as
//! `embedded-storage` has it, where it upgrades itself.
//!
//! Every 10 s it publishes a reading to `sensors/climate-1/telemetry`; `commands/climate-1/interval` with a number of
//! seconds, 1 to 3,600, changes that, and is answered.
#![no_std]

mod measuring;
mod upgrading;

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use embassy_time::{Instant, Timer};
use embedded_hal_async::i2c::I2c;
use embedded_io_async::{Read, Write};
use tidegate_embassy::{EmbassyTimer, carry_line};
use tidegate_link::{Config as LinkConfig, Link, Micros, Role};
use tidegate_mqtt::{Client, Config, Event, Incoming, Line, Message, Qos};
use tidegate_telemetry::{Fixed, Json, Level, Log, Overflow, Queue, ReplyTo, Time, record};

use self::measuring::{Measured, Sensor};
pub use self::upgrading::{Firmware, Upgrading, config};

/// The line: frames of 256 bytes, four on their way in, one out.
pub type Serial = Link<256, 4, 1280, 1>;

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

/// Measures, publishes, and takes firmware. `seed` should differ between starts, and between devices.
pub async fn run(
    bus: impl I2c,
    mut port: impl Read + Write,
    seed: u64,
    mut firmware: impl Firmware,
) -> ! {
    let mut sensor = Sensor::new(bus);
    let mut link = Serial::new(LinkConfig::new(Role::Device, 1), seed);
    let (mut shelf, mut input, mut waiting, mut lines) = ([0; 1024], [0; 256], [0; 2048], [0; 512]);
    let config = Config { subscriptions: &[INTERVAL], ..Config::new("climate-1") };
    let mut client = Client::new(config, &mut shelf, &mut input);
    let mut line = Line::new(seed as u32);
    let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
    let mut log = Log::new(&mut lines, Level::Info);
    let mut frame = [0; Serial::MAX_OUTPUT];
    let (mut id, mut interval, mut measure_at) = (0, FIRST_INTERVAL, now());
    loop {
        if now() >= measure_at {
            measure_at = measure_at.after(interval);
            match sensor.measure().await {
                Ok(Measured { temperature, humidity, pressure }) => {
                    firmware.is_well();
                    let time = Time::of(link.clock(), now());
                    let reading = Reading { id, temperature, humidity, pressure, time };
                    queue.push_record::<160, Json>(&reading);
                    id += 1;
                }
                Err(what) => log.say(Level::Warn, Time::of(link.clock(), now()), what),
            }
        }
        queue.flush(&mut client, TELEMETRY, Qos::AtLeastOnce);
        log.flush(&mut client, LOGS);
        let due = firmware.work(&mut link).map_or(measure_at, |due| due.min(measure_at));
        let due = Timer::at(Instant::from_micros(due.0));
        let carried = (&mut link, &mut line, &mut client);
        let mut reply = None;
        let take = |incoming: Incoming<'_>| match incoming {
            Incoming::Mqtt(Event::Message(message)) => {
                let said = command(&message, &mut interval);
                reply = ReplyTo::of(&message).map(|to| (to, said));
            }
            Incoming::Other { channel, bytes } => firmware.take(channel, bytes),
            Incoming::LinkUp => firmware.connected(),
            Incoming::Mqtt(_) | Incoming::LinkDown => {}
        };
        if carry_line(&mut port, &EmbassyTimer, &mut frame, carried, due, take).await.is_err() {
            // What a port loses is sent again; one that is broken is not asked all the time.
            Timer::after_millis(10).await;
        }
        if reply.is_some_and(|(to, said)| to.give(&mut client, said).is_err()) {
            log.say(Level::Warn, Time::unknown(), "a reply was lost");
        }
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
