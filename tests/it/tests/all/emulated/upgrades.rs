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

use super::device::{Device, Firmware};
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
    device: Device,
    gateway: Gateway,
    old: Vec<u8>,
    new: Vec<u8>,
    seed: u64,
}

impl Bench {
    fn new(firmware: &Firmware, scratch: &Scratch, release: &str, attempts: u8) -> Bench {
        let new = firmware.image(release);
        Bench {
            device: Device::new(firmware, scratch, "sensor-1"),
            gateway: Gateway::new(serving(&new, attempts)),
            old: firmware.image("sensor-1"),
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

fn serving(image: &[u8], attempts: u8) -> Served {
    let components = [release::component(0, image, None)];
    let policy = Policy { attempts, ..Policy::default() };
    let manifest = Manifest { policy, ..release::manifest(5, &components) };
    let envelope = release::signed(&manifest, &Key::new(RELEASE));
    Served { campaign: 7, envelope, second: None, key_set: None, entries: vec![image.to_vec()] }
}

#[test]
fn firmware_in_qemu_takes_a_release_and_confirms_it() {
    let Some(firmware) = Firmware::find() else { return };
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
    let Some(firmware) = Firmware::find() else { return };
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

/// What the power is to be cut in the middle of.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Transfer,
    Exchange,
    Trial,
    Any,
}

impl Moment {
    const ALL: [Moment; 4] = [Moment::Transfer, Moment::Exchange, Moment::Trial, Moment::Any];
    /// Most milliseconds between its beginning and the cut.
    const LATEST: [usize; 4] = [300, 400, 120, 2_500];

    fn has_come(self, bench: &Bench, sent: usize) -> bool {
        match (self, bench.device.state().phase) {
            (Moment::Transfer, _) => bench.gateway.sent > sent,
            (Moment::Exchange, phase) => phase == Phase::Staged || phase == Phase::Swapping,
            (Moment::Trial, phase) => phase == Phase::Trial,
            (Moment::Any, _) => true,
        }
    }
}

const CUTS: usize = 60;

#[test]
fn firmware_in_qemu_survives_60_power_cuts_and_the_upgrade_completes() {
    let Some(firmware) = Firmware::find() else { return };
    let _machine = beside_others();
    let scratch = Scratch::new("cuts").unwrap();
    let mut bench = Bench::new(&firmware, &scratch, "sensor-2", 10);
    let mut random = Random::new(0x7e57);
    let (mut completed, mut cuts, mut found) = (0, 0, std::collections::BTreeMap::new());
    let mut desk = bench.start();
    while cuts < CUTS {
        let at = random.below(Moment::ALL.len());
        let (moment, sent) = (Moment::ALL[at], bench.gateway.sent);
        let delay = Duration::from_millis(random.below(Moment::LATEST[at]) as u64);
        let mut began = None;
        // Cut at that moment, unless the upgrade has ended before.
        bench.run_until(&mut desk, "the moment to cut", |_, bench| {
            let ended = bench.last() == Some(message::Phase::Confirmed);
            if began.is_none() && moment.has_come(bench, sent) {
                began = Some(Instant::now());
            }
            ended || began.is_some_and(|began| began.elapsed() >= delay)
        });
        bench.device.cut();
        cuts += 1;
        let phase = bench.device.state().phase;
        *found.entry(format!("{moment:?} in {phase:?}")).or_insert(0) += 1;
        // Whatever was going on: an image that is whole starts, and says hello.
        desk = bench.start();
        bench.run_until(&mut desk, "a hello", |desk, _| desk.hellos > 0);
        let state = bench.device.state();
        let (old, new) = (bench.device.runs(&bench.old), bench.device.runs(&bench.new));
        // It may be exchanging already, in which nobody should look at it.
        let phase = if bench.device.state() == state { state.phase } else { Phase::Swapping };
        match phase {
            Phase::Idle => assert!(if state.sequence == 5 { new } else { old }, "{state:?}"),
            Phase::Trial => assert!(new, "{state:?}"),
            // The agent has staged it since.
            Phase::Staged => assert!(old, "{state:?}"),
            Phase::Swapping | Phase::Reverting => {}
        }
        assert_ne!(state.outcome, Outcome::Refused);
        if bench.last() == Some(message::Phase::Confirmed) || state.attempts == 1 {
            // From the beginning, with another device.
            bench.run_until(&mut desk, "the upgrade completes", |_, bench| {
                bench.last() == Some(message::Phase::Confirmed)
            });
            assert_eq!(bench.device.state().sequence, 5);
            assert!(bench.device.runs(&bench.new));
            completed += 1;
            bench.device.cut();
            bench.device.fill(&bench.old);
            bench.gateway = Gateway::new(serving(&bench.new, 10));
            desk = bench.start();
        }
    }
    bench.run_until(&mut desk, "the upgrade completes", |_, bench| {
        bench.last() == Some(message::Phase::Confirmed)
    });
    assert!(bench.device.runs(&bench.new));
    println!("{cuts} cuts, {completed} and one upgrades completed; phases found: {found:?}");
}
