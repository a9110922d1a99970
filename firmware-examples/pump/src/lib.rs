//! A sensor on a serial line: measures, publishes, takes commands, upgrades itself. For any board that has a line, a
//! clock and flash.
//!
//! Every 200 ms it publishes a reading to `sensors/pump-7/telemetry`; `commands/pump-7/fan` with `on` or `off`
//! switches its fan, and is answered. Without the fan it gets hotter and hotter.
#![no_std]

mod board;

use firmware_crypto::Salty;
use tidegate_agent::{Agent, Budget, Config as AgentConfig, Millis, Next, Obedience};
use tidegate_link::{Config as LinkConfig, Link, Micros, Outgoing, Role};
use tidegate_mqtt::{Client, Config, Event, Incoming, Line, Message, Qos};
use tidegate_telemetry::{Fixed, Json, Level, Log, Overflow, Queue, ReplyTo, Time, record};
use tidegate_wire::message::{CHANNEL, Reason};

pub use board::{Board, Device};

const TELEMETRY: &str = "sensors/pump-7/telemetry";
const LOGS: &str = "logs/pump-7";
const FAN: &str = "commands/pump-7/fan";
const INTERVAL: Micros = Micros::from_millis(200);

record! {
    /// What is measured.
    struct Reading: "pump/1" {
        /// How many were before it since the start.
        id: u32,
        /// Degrees Celsius.
        value: Fixed<1>,
        fan: bool,
        firmware: &'static str,
        time: Time,
    }
}

/// What there is to measure.
struct Pump {
    tenths: i32,
    fan: bool,
}

impl Pump {
    fn pass_time(&mut self) {
        let change = if self.fan { -5 } else { 2 };
        self.tenths = (self.tenths + change).clamp(200, 900);
    }

    /// Carries a command out; what there is to say of it.
    fn command(&mut self, message: &Message<'_>) -> &'static [u8] {
        match (message.topic, message.payload) {
            (FAN, b"on") => self.fan = true,
            (FAN, b"off") => self.fan = false,
            _ => return b"there is no such command",
        }
        b"done"
    }
}

/// Runs until the device has to start again. Releases whose self-test fails must not stay.
pub fn run(board: &mut impl Board, device: &Device, version: &'static str, self_test: bool) {
    let mut link: Link<256, 4, 1280> =
        Link::new(LinkConfig::new(Role::Device, 1), device.starts.into());
    let (mut shelf, mut input, mut waiting, mut lines) = ([0; 1024], [0; 512], [0; 2048], [0; 512]);
    let config = Config { subscriptions: &["commands/pump-7/#"], ..Config::new("pump-7") };
    let mut client = Client::new(config, &mut shelf, &mut input);
    let mut line = Line::new(device.starts);
    let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
    let mut log = Log::new(&mut lines, Level::Info);
    let config = AgentConfig {
        layout: device.layout,
        trust: device.trust,
        identity: device.identity,
        factory_version: "1.0.0",
        block: 472,
        window: 4,
        message: 1_280,
        budget: Budget { erases: 512, tries: 8 },
        obedience: Obedience::Gateway,
    };
    let agent = Agent::start(Millis(0), board.nor(), &config, Salty, Reason::Power);
    let Ok(mut agent) = agent else { return };
    agent.self_test(self_test);
    let mut firmware = Outgoing::<512>::new();
    let mut pump = Pump { tenths: 250, fan: false };
    let (mut id, mut measure_at) = (0, Micros(0));
    let mut frame = [0; Link::<256, 4, 1280>::MAX_OUTPUT];
    log.say(Level::Info, Time::unknown(), version);
    loop {
        board.feed_watchdog();
        let now = Micros(board.micros());
        let millis = Millis(now.0 / 1_000);
        while let Some(byte) = board.read() {
            link.handle_input(now, &[byte]);
        }
        if now >= measure_at {
            measure_at = now.after(INTERVAL);
            pump.pass_time();
            let time = Time::of(link.clock(), now);
            let (value, fan) = (Fixed(pump.tenths), pump.fan);
            queue.push_record::<160, Json>(&Reading { id, value, fan, firmware: version, time });
            id += 1;
        }
        let (mut reply, mut failed) = (None, false);
        line.exchange(now, &mut link, &mut client, |incoming| match incoming {
            Incoming::Mqtt(Event::Message(message)) => {
                let said = pump.command(&message);
                reply = ReplyTo::of(&message).map(|to| (to, said));
            }
            Incoming::Other { channel: CHANNEL, bytes } => {
                failed |= agent.handle_message(millis, board.nor(), bytes).is_err();
            }
            Incoming::LinkUp => agent.connected(),
            Incoming::Mqtt(_) | Incoming::Other { .. } | Incoming::LinkDown => {}
        });
        if reply.is_some_and(|(to, said)| to.give(&mut client, said).is_err()) {
            log.say(Level::Warn, Time::unknown(), "a reply was lost");
        }
        queue.flush(&mut client, TELEMETRY, Qos::AtLeastOnce);
        log.flush(&mut client, LOGS);
        let mut said = false;
        if link.is_up()
            && let Some(room) = firmware.room()
            && let Ok(Some(length)) = agent.poll_output(millis, board.nor(), room)
        {
            firmware.put(CHANNEL, length);
            said = true;
        }
        firmware.send(&mut link);
        let next = agent.poll(millis, board.nor());
        loop {
            let length = link.poll_output(now, &mut frame);
            if length == 0 {
                break;
            }
            board.write(&frame[..length]);
        }
        match next {
            _ if failed => return,
            Ok(Next::Work) => {}
            Ok(Next::Restart) if said => {} // What it says of it goes out first.
            Ok(Next::Wait(_)) => board.sleep(),
            Ok(Next::Restart) | Err(_) => return,
        }
    }
}
