//! A sensor on a stream of bytes, TCP for instance: measures, publishes, waits for the
//! acknowledgement; takes firmware where it has an agent.

use tidegate_agent::{Agent, Millis, Next};
use tidegate_mqtt::{Client, Config, Event, Micros, Publish, Qos};
use tidegate_telemetry::{Cbor, Fixed, Overflow, Queue, Time, TimeSync, record};
use tidegate_wire::crypto::Crypto;

use crate::board::Board;

/// Where readings go.
const TELEMETRY: &str = "sensors/pump-7/telemetry";
/// What the agent hears, and says; one topic, as what is said says what it is.
const TO_DEVICE: &str = "tg/pump-7/ota/+";
const FROM_DEVICE: &str = "tg/pump-7/ota/state";
/// Where it asks for the time, and hears it.
const ASKS: &str = "tg/pump-7/time/req";
const HEARS: &str = "tg/pump-7/time/now";
/// Bytes of records that wait: eight of them.
const WAITING: usize = 320;
const INTERVAL: Micros = Micros::from_millis(1_000);

record! {
    /// What is measured.
    struct Reading: "reading/1" {
        /// Degrees Celsius.
        value: Fixed<2>,
        /// How many were before it since the start.
        seq: u32,
        /// When it was measured.
        time: Time,
    }
}

/// Memory of the client and of records that wait.
#[derive(Debug)]
pub struct Buffers<const INPUT: usize> {
    shelf: [u8; 512],
    input: [u8; INPUT],
    waiting: [u8; WAITING],
}

impl<const INPUT: usize> Buffers<INPUT> {
    /// Empty ones.
    #[must_use]
    pub const fn new() -> Buffers<INPUT> {
        Buffers { shelf: [0; 512], input: [0; INPUT], waiting: [0; WAITING] }
    }
}

impl<const INPUT: usize> Default for Buffers<INPUT> {
    fn default() -> Buffers<INPUT> {
        Buffers::new()
    }
}

/// Client and queue.
#[derive(Debug)]
struct Sensor<'b> {
    client: Client<'b>,
    queue: Queue<'b>,
    measure_at: Micros,
    seq: u32,
}

impl<'b> Sensor<'b> {
    fn new<const INPUT: usize>(
        buffers: &'b mut Buffers<INPUT>,
        subscriptions: &'b [&'b str],
    ) -> Sensor<'b> {
        let config = Config { subscriptions, keep_alive: 60, ..Config::new("pump-7") };
        let client = Client::new(config, &mut buffers.shelf, &mut buffers.input);
        let queue = Queue::new(&mut buffers.waiting, Overflow::DropOldest);
        Sensor { client, queue, measure_at: Micros(0), seq: 0 }
    }

    /// Measures when it is time, and sends what there is.
    fn pass_time(&mut self, now: Micros, board: &mut Board, time: impl FnOnce() -> Time) {
        if now >= self.measure_at {
            self.measure_at = now.after(INTERVAL);
            let value = Fixed(i32::from(board.port.read().unwrap_or_default()));
            let reading = Reading { value, seq: self.seq, time: time() };
            self.queue.push_record::<64, Cbor>(&reading);
            self.seq += 1;
        }
        self.queue.flush(&mut self.client, TELEMETRY, Qos::AtLeastOnce);
        loop {
            let bytes = self.client.output(now);
            let length = bytes.len();
            if length == 0 {
                return;
            }
            for byte in bytes {
                board.port.write(*byte);
            }
            self.client.sent(now, length);
        }
    }
}

/// Measures and publishes.
pub fn run(board: &mut Board, buffers: &'static mut Buffers<128>) -> ! {
    let mut sensor = Sensor::new(buffers, &[]);
    sensor.client.connected(Micros(0));
    loop {
        let now = Micros(board.clock.millis() * 1_000);
        while let Some(byte) = board.port.read() {
            let mut bytes = &[byte][..];
            if let Some(Event::Down(_)) = sensor.client.handle_input(now, &mut bytes) {
                sensor.client.connected(now);
            }
        }
        sensor.pass_time(now, board, Time::unknown);
    }
}

/// The same, with the gateway's time.
pub fn run_timed(
    board: &mut Board,
    buffers: &'static mut Buffers<128>,
    sync: &'static mut TimeSync,
) -> ! {
    let mut sensor = Sensor::new(buffers, &[HEARS]);
    sensor.client.connected(Micros(0));
    loop {
        let now = Micros(board.clock.millis() * 1_000);
        while let Some(byte) = board.port.read() {
            let mut bytes = &[byte][..];
            match sensor.client.handle_input(now, &mut bytes) {
                Some(Event::Down(_)) => sensor.client.connected(now),
                Some(Event::Message(message)) => drop(sync.take(now, &message)),
                Some(_) | None => {}
            }
        }
        // What is not taken now stays due.
        let _ = sync.ask(now, &mut sensor.client, ASKS);
        sensor.pass_time(now, board, || Time::of(sync.clock(), now));
    }
}

/// Measures, publishes and takes firmware, until the device has to start again.
pub fn run_updating<C: Crypto>(
    board: &mut Board,
    buffers: &'static mut Buffers<1_280>,
    agent: &mut Agent<'static, C>,
) {
    if agent.begin(Millis(board.clock.millis()), &mut board.nor).is_err() {
        return;
    }
    agent.self_test(true);
    let mut sensor = Sensor::new(buffers, &[TO_DEVICE]);
    sensor.client.connected(Micros(0));
    loop {
        let millis = Millis(board.clock.millis());
        let now = Micros(millis.0 * 1_000);
        while let Some(byte) = board.port.read() {
            let mut bytes = &[byte][..];
            match sensor.client.handle_input(now, &mut bytes) {
                Some(Event::Up { .. }) => agent.connected(),
                Some(Event::Down(_)) => sensor.client.connected(now),
                Some(Event::Message(message)) => {
                    if agent.handle_message(millis, &mut board.nor, message.payload).is_err() {
                        return;
                    }
                }
                Some(Event::Subscribed { .. } | Event::Acknowledged { .. } | Event::Refused(_))
                | None => {}
            }
        }
        let mut out = [0; 300];
        if let Ok(Some(length)) = agent.poll_output(millis, &mut board.nor, &mut out) {
            // What is lost is said again.
            let said = Publish::new(FROM_DEVICE, out.get(..length).unwrap_or_default());
            let _ = sensor.client.publish(&said);
        }
        match agent.poll(millis, &mut board.nor) {
            Ok(Next::Work | Next::Wait(_)) => {}
            Ok(Next::Restart) | Err(_) => return,
        }
        sensor.pass_time(now, board, Time::unknown);
    }
}
