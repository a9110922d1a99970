//! Upgrades of a device in QEMU, by a gateway in this process: the SDK's link, and the simulator's gateway
//! that serves one release.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tidegate_boot::{Outcome, Phase};
use tidegate_device_sim::crypto::Key;
use tidegate_device_sim::gateway::{Gateway, Served};
use tidegate_device_sim::random::Random;
use tidegate_device_sim::release;
use tidegate_link::{Config, Link, Micros, Outgoing, Role};
use tidegate_rig::scratch::Scratch;
use tidegate_wire::manifest::{Manifest, Policy};
use tidegate_wire::message::{self, CHANNEL, MAX_MESSAGE, Message};

use super::cuts::{CUTS, Step, Tally, check_image};
use super::device::{Device, Firmware, Wiring};
use super::model::Model;
use crate::setup::{PATIENCE, beside_others};

/// Seed of the key that signs releases.
const RELEASE: u8 = 3;

type GatewayLink = Link<256, 8, 2048>;

/// The other end of a device's line.
struct Desk {
    port: OwnedFd,
    link: GatewayLink,
    outgoing: Outgoing<MAX_MESSAGE>,
    began: Instant,
    /// Hellos that came on this line.
    hellos: usize,
}

impl Desk {
    fn open(path: &Path, seed: u64) -> Desk {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let port = rustix::fs::open(path, flags, Mode::empty()).unwrap();
        let mut attributes = tcgetattr(&port).unwrap();
        attributes.make_raw();
        tcsetattr(&port, OptionalActions::Now, &attributes).unwrap();
        let link = Link::new(Config::new(Role::Gateway, 1), seed);
        Desk { port, link, outgoing: Outgoing::new(), began: Instant::now(), hellos: 0 }
    }

    /// One round: what is there is carried, then waits for a little.
    fn step(&mut self, gateway: &mut Gateway) {
        let now = Micros(self.began.elapsed().as_micros() as u64);
        while let Some(message) = self.link.receive() {
            // Its MQTT client hears nothing, and tries again now and then.
            if message.channel == CHANNEL {
                let hello = matches!(Message::read(message.bytes), Ok(Message::Hello(_)));
                self.hellos += usize::from(hello);
                gateway.take(message.bytes);
            }
        }
        loop {
            self.outgoing.send(&mut self.link);
            let Some(room) = self.outgoing.room().filter(|_| self.link.is_up()) else { break };
            let Some(message) = gateway.give() else { break };
            room[..message.len()].copy_from_slice(&message);
            self.outgoing.put(CHANNEL, message.len());
        }
        let mut frame = [0; GatewayLink::MAX_OUTPUT];
        loop {
            let length = self.link.poll_output(now, &mut frame);
            if length == 0 || rustix::io::write(&self.port, &frame[..length]).is_err() {
                break;
            }
        }
        let mut waits = [PollFd::new(&self.port, PollFlags::IN)];
        let short = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        poll(&mut waits, Some(&short)).unwrap();
        let mut bytes = [0; 4_096];
        match rustix::io::read(&self.port, &mut bytes) {
            Ok(count) => self.link.handle_input(now, &bytes[..count]),
            // EIO: QEMU has gone.
            Err(error) => assert!(
                [rustix::io::Errno::AGAIN, rustix::io::Errno::IO].contains(&error),
                "{error}"
            ),
        }
    }
}

/// A device, its releases, and who serves them.
struct Bench {
    model: Model,
    device: Device,
    gateway: Gateway,
    old: Vec<u8>,
    new: Vec<u8>,
    seed: u64,
}

impl Bench {
    fn new(firmware: &Firmware, scratch: &Scratch, release: &str, attempts: u8) -> Bench {
        let new = firmware.image(release);
        let (model, first) = (firmware.model, firmware.model.first_image());
        Bench {
            model,
            device: Device::new(firmware, scratch, first, Wiring::Line),
            gateway: Gateway::new(serving(model, &new, attempts)),
            old: firmware.image(first),
            new,
            seed: 1,
        }
    }

    /// Gives the device power; the other end of its line.
    fn start(&mut self) -> Desk {
        self.seed += 1;
        self.device.start();
        Desk::open(&self.device.port(), self.seed)
    }

    fn run_until(
        &mut self,
        desk: &mut Desk,
        what: &str,
        mut done: impl FnMut(&Desk, &Bench) -> bool,
    ) {
        let give_up = Instant::now() + PATIENCE;
        while !done(desk, self) {
            desk.step(&mut self.gateway);
            assert!(
                Instant::now() < give_up,
                "never: {what}; {:?}, {:?}, {:?}\n{}",
                self.device.state(),
                self.gateway.answers,
                self.gateway.reports,
                self.device.console()
            );
        }
    }

    fn last(&self) -> Option<message::Phase> {
        self.gateway.reports.last().map(|report| report.phase)
    }
}

fn serving(model: Model, image: &[u8], attempts: u8) -> Served {
    let components = [release::component(0, image, None)];
    let policy = Policy { attempts, ..Policy::default() };
    let class = model.class();
    let manifest = Manifest { class, policy, ..release::manifest(5, &components) };
    let envelope = release::signed(&manifest, &Key::new(RELEASE));
    Served { campaign: 7, envelope, second: None, key_set: None, entries: vec![image.to_vec()] }
}

#[test]
fn firmware_in_qemu_takes_a_release_and_confirms_it() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let scratch = Scratch::new("upgrade").unwrap();
    let mut bench = Bench::new(&firmware, &scratch, "sensor-2", 3);
    let mut desk = bench.start();
    bench.run_until(&mut desk, "confirmed", |_, bench| {
        bench.last() == Some(message::Phase::Confirmed)
    });
    let state = bench.device.state();
    assert_eq!((state.phase, state.outcome, state.sequence), (Phase::Idle, Outcome::Confirmed, 5));
    assert!(bench.device.runs(&bench.new));
    let console = bench.device.console();
    assert!(console.ends_with("boot: trial\nsensor: 2.0.0\n"), "{console}");
    let phases: Vec<_> = bench.gateway.reports.iter().map(|report| report.phase).collect();
    use message::Phase::{Accepted, Confirmed, Staged, Trial};
    assert_eq!(phases, [Accepted, Staged, Trial, Confirmed]);
}

#[test]
fn firmware_in_qemu_that_is_no_good_goes_back_by_itself() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    for (name, code) in [("sensor-hangs", 21), ("sensor-unwell", 19)] {
        let scratch = Scratch::new("revert").unwrap();
        let mut bench = Bench::new(&firmware, &scratch, name, 2);
        let mut desk = bench.start();
        bench.run_until(&mut desk, "reverted", |_, bench| {
            bench.last() == Some(message::Phase::Reverted)
        });
        let state = bench.device.state();
        let ended = (state.phase, state.outcome, state.sequence, state.code);
        assert_eq!(ended, (Phase::Idle, Outcome::Reverted, 0, code), "{name}");
        assert!(bench.device.runs(&bench.old), "{name}");
        assert!(bench.device.console().ends_with("boot: start\nsensor: 1.0.0\n"), "{name}");
    }
}

#[test]
fn firmware_on_a_riscv_in_qemu_takes_a_release_and_gives_a_bad_one_back() {
    let Some(firmware) = Firmware::find(Model::Riscv) else { return };
    let _machine = beside_others();
    for (name, wanted) in
        [("riscv-2", message::Phase::Confirmed), ("riscv-unwell", message::Phase::Reverted)]
    {
        let scratch = Scratch::new("riscv").unwrap();
        let mut bench = Bench::new(&firmware, &scratch, name, 2);
        let mut desk = bench.start();
        bench.run_until(&mut desk, "some of it is there", |_, bench| bench.gateway.sent > 20_000);
        // What is written is there after a power cut, too.
        bench.device.cut();
        let mut desk = bench.start();
        bench.run_until(&mut desk, "the end", |_, bench| bench.last() == Some(wanted));
        let runs = if name == "riscv-2" { &bench.new } else { &bench.old };
        assert!(bench.device.runs(runs), "{name}");
    }
}

/// Attempts that a trial has, and sequence of the release.
const ATTEMPTS: u8 = 10;
const SEQUENCE: u64 = 5;

impl Bench {
    /// Goes on until the device has been in a step for so long; false when the upgrade has ended before.
    fn run_into(&mut self, desk: &mut Desk, step: Step, delay: Duration) -> bool {
        let mut began = None;
        self.run_until(desk, "the moment to cut", |_, bench| {
            let ended = bench.last() == Some(message::Phase::Confirmed);
            let now = bench.device.step();
            if began.is_none() && now == step {
                began = Some(Instant::now());
            }
            // It is short: the gateway keeps the device waiting meanwhile.
            if began.is_some() && now == Step::Confirm {
                std::thread::sleep(delay);
                return true;
            }
            ended || began.is_some_and(|began| began.elapsed() >= delay)
        });
        began.is_some()
    }

    /// Lets the upgrade complete, and begins it anew with a device as the factory ships it.
    fn renew(&mut self, desk: &mut Desk) -> Desk {
        self.run_until(desk, "the upgrade completes", |_, bench| {
            bench.last() == Some(message::Phase::Confirmed)
        });
        assert_eq!(self.device.state().sequence, SEQUENCE);
        assert!(self.device.runs(&self.new));
        self.device.cut();
        self.device.fill(&self.old);
        self.gateway = Gateway::new(serving(self.model, &self.new, ATTEMPTS));
        self.start()
    }
}

#[test]
fn firmware_in_qemu_survives_60_power_cuts_and_the_upgrade_completes() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let scratch = Scratch::new("cuts").unwrap();
    let mut bench = Bench::new(&firmware, &scratch, "sensor-2", ATTEMPTS);
    let mut random = Random::new(0x7e57);
    let (mut completed, mut tally) = (0, Tally::default());
    let mut desk = bench.start();
    while tally.count() < CUTS {
        let step = tally.next();
        let delay = tally.moment(step, &mut random);
        if !bench.run_into(&mut desk, step, delay) {
            desk = bench.renew(&mut desk);
            completed += 1;
            continue;
        }
        bench.device.cut();
        tally.note(step, bench.device.step());
        // Whatever was going on: an image that is whole starts, and says hello.
        desk = bench.start();
        bench.run_until(&mut desk, "a hello", |desk, _| desk.hellos > 0);
        check_image(&bench.device, &bench.old, &bench.new, SEQUENCE);
        if bench.device.state().attempts == 1 {
            desk = bench.renew(&mut desk);
            completed += 1;
        }
    }
    bench.run_until(&mut desk, "the upgrade completes", |_, bench| {
        bench.last() == Some(message::Phase::Confirmed)
    });
    assert!(bench.device.runs(&bench.new));
    println!("{completed} and one upgrades completed");
    tally.check();
}
