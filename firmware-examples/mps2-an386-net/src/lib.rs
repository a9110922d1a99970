//! A sensor on a network: measures, publishes by MQTT over TCP, takes commands, upgrades itself.
//!
//! Every 200 ms it publishes a reading to `sensors/pump-7/telemetry`; `commands/pump-7/fan` with `on` or `off`
//! switches its fan, and is answered. Without the fan it gets hotter and hotter.
#![no_std]

mod connection;
mod frames;
mod topics;

use firmware_crypto::Salty;
use mps2_an386::{Board, IDENTITY, LAYOUT, restart, trust};
use smoltcp::iface::SocketStorage;
use tidegate_agent::{Agent, Budget, Config as AgentConfig, Millis, Next, Obedience};
use tidegate_boot::Identity;
use tidegate_mqtt::{Client, Config, Event, Message, Micros, Publish, Qos};
use tidegate_telemetry::{
    Fixed, Json, Level, Log, Overflow, Queue, ReplyTo, Time, TimeSync, record,
};
use tidegate_wire::message::Reason;

use self::connection::Connection;
use self::topics::{CLASS, FAN, FIRMWARE, LOGS, SUBSCRIPTIONS, TELEMETRY, TIME, topic};

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
pub fn run(version: &'static str, self_test: bool) -> ! {
    let (Some(mut board), Some(trust)) = (Board::take(), trust()) else { restart() };
    board.console.write(b"sensor: ");
    board.console.write(version.as_bytes());
    board.console.write(b"\n");
    let Ok(starts) = board.nor.count_start() else { restart() };
    let (mut coming, mut going, mut place) = ([0; 4096], [0; 2048], [SocketStorage::EMPTY]);
    let (mut shelf, mut input, mut waiting, mut lines) =
        ([0; 2048], [0; 1536], [0; 2048], [0; 512]);
    let mut connection =
        Connection::new(&mut board.ethernet, &mut place, &mut coming, &mut going, starts);
    let config = Config { keep_alive: 15, subscriptions: SUBSCRIPTIONS, ..Config::new("pump-7") };
    let mut client = Client::new(config, &mut shelf, &mut input);
    let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
    let mut log = Log::new(&mut lines, Level::Info);
    let mut sync = TimeSync::new(Micros::from_millis(600_000));
    let config = AgentConfig {
        layout: LAYOUT,
        trust,
        identity: Identity { class: CLASS, ..IDENTITY },
        factory_version: "1.0.0",
        block: 1_024,
        window: 8,
        message: 1_280,
        budget: Budget { erases: 512, tries: 8 },
        obedience: Obedience::Gateway,
    };
    let agent = Agent::start(Millis(0), &mut board.nor, &config, Salty, Reason::Power);
    let Ok(mut agent) = agent else { restart() };
    agent.self_test(self_test);
    let (mut said, mut length) = ([0; 512], 0);
    let (mut pump, mut id, mut measure_at) = (Pump { tenths: 250, fan: false }, 0, Micros(0));
    log.say(Level::Info, Time::unknown(), version);
    loop {
        board.watchdog.feed();
        let now = Micros(board.clock.micros());
        let millis = Millis(now.0 / 1_000);
        if now >= measure_at {
            measure_at = now.after(INTERVAL);
            pump.pass_time();
            let (value, fan, time) = (Fixed(pump.tenths), pump.fan, Time::of(sync.clock(), now));
            queue.push_record::<160, Json>(&Reading { id, value, fan, firmware: version, time });
            id += 1;
        }
        if length == 0 && client.is_up() {
            let written = agent.poll_output(millis, &mut board.nor, &mut said);
            length = written.ok().flatten().unwrap_or(0);
        }
        let says = &said[..length];
        if length > 0 && client.publish(&Publish::new(topic(says), says)).is_ok() {
            length = 0;
        }
        queue.flush(&mut client, TELEMETRY, Qos::AtLeastOnce);
        log.flush(&mut client, LOGS);
        let _ = sync.ask(now, &mut client, TIME); // What is not taken now stays due.
        let (mut heard, mut reply) = (false, None);
        connection.exchange(now, &mut board.ethernet, &mut client, |event| {
            heard = true;
            match event {
                Event::Message(message) if message.topic.starts_with(FIRMWARE) => {
                    if agent.handle_message(millis, &mut board.nor, message.payload).is_err() {
                        restart()
                    }
                }
                Event::Message(message) if sync.take(now, &message) => {}
                Event::Message(message) => {
                    let answer = pump.command(&message);
                    reply = ReplyTo::of(&message).map(|to| (to, answer));
                }
                Event::Up { .. } => agent.connected(),
                Event::Refused(_) | Event::Down(_) => {}
                Event::Subscribed { .. } | Event::Acknowledged { .. } => {}
            }
        });
        if reply.is_some_and(|(to, answer)| to.give(&mut client, answer).is_err()) {
            log.say(Level::Warn, Time::unknown(), "a reply was lost");
        }
        match agent.poll(millis, &mut board.nor) {
            Ok(Next::Work) => {}
            // What it says of it goes out first.
            Ok(Next::Restart) if length > 0 || (client.is_up() && !client.is_settled()) => {}
            Ok(Next::Wait(_)) if heard => {} // There may be something to say.
            Ok(Next::Wait(_)) => board.sleep(),
            Ok(Next::Restart) | Err(_) => restart(),
        }
    }
}
