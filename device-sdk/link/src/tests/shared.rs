//! Several devices on one line.

use std::vec::Vec;

use tidegate_device_sim::uart::{Faults, Line};

use super::{Device, Gateway};
use crate::{Bus, Config, Micros, Role, Turns};

struct Shared {
    now: u64,
    bus: Bus,
    links: Vec<Gateway>,
    devices: Vec<Device>,
    /// What everybody hears: one pair of wires.
    line: Line,
    received: Vec<Vec<Vec<u8>>>,
}

impl Shared {
    fn new(count: u8, faults: Faults, seed: u64) -> Shared {
        let config = |role, address| Config { turns: Turns::Shared, ..Config::new(role, address) };
        let seeds = |address: u8| seed * 100 + u64::from(address);
        Shared {
            now: 0,
            bus: Bus::new(Micros::from_millis(65)),
            links: (1..=count).map(|a| Gateway::new(config(Role::Gateway, a), seeds(a))).collect(),
            devices: (1..=count).map(|a| Device::new(config(Role::Device, a), !seeds(a))).collect(),
            line: Line::new(115_200, faults, seed),
            received: std::vec![Vec::new(); usize::from(count)],
        }
    }

    /// A millisecond. Answers how many spoke at once.
    fn step(&mut self) -> usize {
        let now = Micros(self.now);
        let bytes = self.line.receive(self.now, usize::MAX);
        if !bytes.is_empty() {
            self.bus.handle_input(now, &bytes, &mut self.links);
            self.devices.iter_mut().for_each(|device| device.handle_input(now, &bytes));
        }
        for (link, received) in self.links.iter_mut().zip(&mut self.received) {
            while let Some(message) = link.receive() {
                received.push(message.bytes.to_vec());
            }
        }
        let mut speakers = 0;
        if self.line.free_at() <= self.now {
            let mut out = [0; Gateway::MAX_OUTPUT];
            let mut speak = |line: &mut Line, length: usize, out: &[u8]| {
                line.send(now.0, &out[..length]);
                speakers += usize::from(length > 0);
            };
            let length = self.bus.poll_output(now, &mut self.links, &mut out);
            speak(&mut self.line, length, &out);
            for device in &mut self.devices {
                let length = device.poll_output(now, &mut out);
                speak(&mut self.line, length, &out);
            }
        }
        self.now += 1_000;
        speakers
    }
}

#[test]
fn one_speaks_at_a_time_and_everybody_is_heard() {
    let mut shared = Shared::new(5, Faults::default(), 1);
    let mut sent = [0u32; 5];
    for _ in 0..20_000 {
        assert!(shared.step() <= 1, "two spoke at once");
        for (device, sent) in shared.devices.iter_mut().zip(&mut sent) {
            if *sent < 40 && device.send(2, &sent.to_be_bytes()) == Ok(4) {
                *sent += 1;
            }
        }
    }
    for (device, received) in shared.received.iter().enumerate() {
        let numbers: Vec<Vec<u8>> = (0..40u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(received, &numbers, "device {device}");
    }
}

#[test]
fn a_device_that_is_not_there_does_not_hold_up_the_others() {
    let mut shared = Shared::new(3, Faults::default(), 2);
    shared.devices.remove(1);
    for _ in 0..5_000 {
        shared.step();
    }
    let up: Vec<bool> = shared.links.iter().map(Gateway::is_up).collect();
    assert_eq!(up, [true, false, true]);
}

#[test]
fn on_a_bad_shared_line_messages_keep_their_order() {
    for seed in 0..10 {
        let mut shared = Shared::new(3, Faults::all(200), seed);
        let mut sent = [0u32; 3];
        for _ in 0..30_000 {
            shared.step();
            for (device, sent) in shared.devices.iter_mut().zip(&mut sent) {
                if device.send(2, &sent.to_be_bytes()) == Ok(4) {
                    *sent += 1;
                }
            }
        }
        for received in &shared.received {
            assert!(received.len() > 100, "seed {seed}: {}", received.len());
            assert!(received.is_sorted(), "seed {seed}");
        }
    }
}
