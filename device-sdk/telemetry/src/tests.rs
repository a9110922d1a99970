//! A sensor with a simulated radio, whose time on is what its battery pays for.

use std::vec::Vec;

use tidegate_mqtt::{Client, Config, Event, Micros, Qos};

use crate::{Duty, Overflow, Queue, Rhythm, Step};

/// From switching on to the first byte: registration, address, TCP.
const ATTACH: u64 = 1_500_000;
/// Each way of the air.
const DELAY: u64 = 60_000;
/// A byte at 20 kbit/s.
const BYTE: u64 = 400;
const SECOND: u64 = 1_000_000;

/// A server at the other end of the air: it takes everything, and counts it.
#[derive(Default)]
struct Server {
    bytes: Vec<u8>,
    payloads: Vec<Vec<u8>>,
    goodbyes: usize,
}

impl Server {
    /// What it answers.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while let Some(&[first, length, ..]) =
            self.bytes.first_chunk::<2>().map(<[u8; 2]>::as_slice)
        {
            let whole = 2 + usize::from(length);
            assert!(length < 128, "short packets alone");
            if self.bytes.len() < whole {
                break;
            }
            let packet: Vec<u8> = self.bytes.drain(..whole).collect();
            match first >> 4 {
                1 => answers.extend([0x20, 3, 1, 0, 0]),
                3 => {
                    let topic = usize::from(packet[3]);
                    let (id, payload) = packet[4 + topic..].split_at(2);
                    answers.extend([0x40, 2, id[0], id[1]]);
                    // Behind the length of the properties.
                    let payload = payload[1..].to_vec();
                    if !self.payloads.contains(&payload) {
                        self.payloads.push(payload);
                    }
                }
                14 => self.goodbyes += 1,
                other => panic!("packet {other}"),
            }
        }
        answers
    }
}

/// What a day costs.
#[derive(Debug)]
struct Day {
    /// Microseconds with the radio on.
    on: u64,
    arrived: usize,
    dropped: u32,
    goodbyes: usize,
}

/// Measures every 10 s for six hours; the air is cut in between for `outage` seconds.
fn live(rhythm: Rhythm, outage: core::ops::Range<u64>) -> Day {
    let (mut shelf, mut input, mut waiting) = ([0; 2_048], [0; 64], [0; 4_096]);
    let mut client = Client::new(Config::new("pump-7"), &mut shelf, &mut input);
    let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
    let mut duty = Duty::new(rhythm);
    let mut server = Server::default();
    let (mut now, mut on, mut attached) = (0_u64, 0, None);
    let mut measured = 0_u32;
    let end = 6 * 3_600 * SECOND;
    while now < end {
        while u64::from(measured) * 10 * SECOND <= now {
            queue.push(&measured.to_be_bytes());
            measured += 1;
        }
        let at = Micros(now);
        let before = now;
        match duty.step(at, &queue, &client) {
            Step::Sleep { until } => {
                now = until.0.min(u64::from(measured) * 10 * SECOND).max(now + 1);
                continue;
            }
            Step::SwitchOn => {
                now += ATTACH;
                client.connected(Micros(now));
                attached = Some(());
                server.bytes.clear();
            }
            Step::Work => {
                queue.flush(&mut client, "s/t", Qos::AtLeastOnce);
                now = carry(&mut client, &mut server, now, &outage).unwrap_or(now + SECOND / 10);
            }
            Step::Leave => {
                client.leave();
                now = carry(&mut client, &mut server, now, &outage).unwrap_or(now + 1);
            }
            Step::SwitchOff => {
                client.disconnected();
                attached = None;
            }
        }
        on += if attached.is_some() { now - before } else { 0 };
    }
    let (arrived, goodbyes) = (server.payloads.len(), server.goodbyes);
    let waits = queue_length(&mut queue);
    assert!(
        arrived + waits + queue.dropped() as usize >= measured as usize - 90,
        "{arrived}, {waits}"
    );
    Day { on, arrived, dropped: queue.dropped(), goodbyes }
}

fn queue_length(queue: &mut Queue<'_>) -> usize {
    let mut count = 0;
    while !queue.is_empty() {
        queue.pop();
        count += 1;
    }
    count
}

/// What the client has to say, and the answer; when that was, `None` when nothing was said.
fn carry(
    client: &mut Client<'_>,
    server: &mut Server,
    mut now: u64,
    outage: &core::ops::Range<u64>,
) -> Option<u64> {
    let mut said = Vec::new();
    loop {
        let bytes = client.output(Micros(now));
        if bytes.is_empty() {
            break;
        }
        said.extend_from_slice(bytes);
        let count = bytes.len();
        now += count as u64 * BYTE;
        client.sent(Micros(now), count);
    }
    if said.is_empty() {
        return None;
    }
    if outage.contains(&(now / SECOND)) {
        return Some(now);
    }
    let answers = server.take(&said);
    now += 2 * DELAY + answers.len() as u64 * BYTE;
    let mut rest = &answers[..];
    while let Some(event) = client.handle_input(Micros(now), &mut rest) {
        assert!(!matches!(event, Event::Down(_) | Event::Refused(_)), "{event:?}");
    }
    Some(now)
}

fn rhythm(every_s: u64) -> Rhythm {
    Rhythm {
        every: Micros(every_s * SECOND),
        most_awake: Micros(20 * SECOND),
        listen: Micros(SECOND / 2),
    }
}

#[test]
fn a_sensor_that_connects_every_15_minutes_has_its_radio_on_for_a_twentieth_of_the_time() {
    let often = live(rhythm(10), 0..0);
    let seldom = live(rhythm(900), 0..0);
    for day in [&often, &seldom] {
        assert!(day.arrived >= 2_160 - 90 && day.dropped == 0, "{day:?}");
        assert!(day.goodbyes > 20, "the server is told: {day:?}");
    }
    assert!(seldom.on * 10 < often.on, "{seldom:?} against {often:?}");
    // Of six hours.
    assert!(seldom.on < 6 * 3_600 * SECOND / 20, "{seldom:?}");
}

#[test]
fn an_hour_without_air_costs_20_s_of_radio_each_time_and_loses_nothing_that_fits_the_queue() {
    let day = live(rhythm(900), 7_200..10_800);
    assert!(day.arrived >= 2_160 - 90 && day.dropped == 0, "{day:?}");
    let without = live(rhythm(900), 0..0);
    assert!(day.on < without.on + 6 * 21 * SECOND, "{day:?} against {without:?}");
}
