//! A device that is started again and again until an upgrade has ended.

use std::boxed::Box;
use std::vec::Vec;

use tidegate_boot::{Identity, Kind, Layout, Part, Region, Started, State, StateLog, Trust, start};
use tidegate_device_sim::crypto::{Host, Key};
use tidegate_device_sim::gateway::{Gateway, Served};
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::random::Random;
use tidegate_device_sim::release::{self, CLASS, VENDOR};
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::manifest::{Component, Encoding, Manifest, Side};
use tidegate_wire::message::{Reason, capability};

use crate::{Agent, Budget, Config, Millis, Next, Obedience};

pub(super) type Flash = Nor<8, 4_096>;
pub(super) type DeviceAgent<'l> = Agent<'l, Host>;

pub(super) const A: Region = Region { from: 0x6000, to: 0xc000 };
const B: Region = Region { from: 0xc000, to: 0x1_3000 };
const MODEL_A: Region = Region { from: 0x1_3000, to: 0x1_5000 };
const MODEL_B: Region = Region { from: 0x1_5000, to: 0x1_7000 };
const UNITS: usize = 0x17;

pub(super) const SWAPPED: [Part; 2] = [
    Part { id: 0, kind: Kind::Swapped, a: A, b: B },
    Part { id: 1, kind: Kind::InPlace, a: MODEL_A, b: MODEL_B },
];
pub(super) const IN_PLACE: [Part; 2] = [
    Part { id: 0, kind: Kind::InPlace, a: A, b: B },
    Part { id: 1, kind: Kind::InPlace, a: MODEL_A, b: MODEL_B },
];

pub(super) const DEVICE: [u8; 16] = [0xde; 16];

pub(super) fn layout(parts: &[Part]) -> Layout<'_> {
    let region = |from, to| Region { from, to };
    Layout {
        state: region(0, 0x2000),
        keys: region(0x2000, 0x4000),
        ledgers: [region(0x4000, 0x5000), region(0x5000, 0x6000)],
        parts,
    }
}

/// Seeds of the keys.
pub(super) const ROOT: u8 = 1;
pub(super) const RELEASE: u8 = 3;
pub(super) const OTHER: u8 = 4;

pub(super) fn roots() -> [PublicKey; 2] {
    [Key::new(ROOT).public(), Key::new(2).public()]
}

/// What an image does when it runs is in its first bytes.
pub(super) fn behaving(how: &[u8; 4], seed: u64, size: usize) -> Vec<u8> {
    let mut image = release::image(seed, size);
    image[..4].copy_from_slice(how);
    image
}

/// What becomes of one start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// The power went.
    PowerLost,
    /// It wanted to start again, or its watchdog did.
    Again,
    /// Nothing is left to do.
    Ended,
}

pub(super) struct World<'w> {
    pub(super) nor: Flash,
    pub(super) layout: Layout<'w>,
    pub(super) factory: Vec<u8>,
    pub(super) gateway: Gateway,
    pub(super) now: u64,
    /// Images that may run, whole.
    pub(super) images: Vec<Vec<u8>>,
    pub(super) config: fn(&mut Config<'_>),
    /// Messages lost, in a million.
    pub(super) loss: u32,
    pub(super) random: Random,
    pub(super) starts: u32,
}

impl<'w> World<'w> {
    /// A device that runs `old`, and a gateway that serves a release.
    pub(super) fn new(parts: &'w [Part], old: &[u8], served: Served) -> World<'w> {
        let mut nor = Flash::new(UNITS, 1);
        nor.put(A.from as usize, old);
        let key = Key::new(RELEASE);
        World {
            nor,
            layout: layout(parts),
            factory: release::key_set(1, 1, &[&key], 1_000, &Key::new(ROOT)),
            gateway: Gateway::new(served),
            now: 0,
            images: std::vec![old.to_vec()],
            config: |_| (),
            loss: 0,
            random: Random::new(1),
            starts: 0,
        }
    }

    pub(super) fn state(&mut self) -> State {
        let layout = self.layout;
        let mut flash = tidegate_boot::Flash::new(&mut self.nor);
        *StateLog::load(&mut flash, &layout).unwrap().state()
    }

    /// Starts until nothing is left to do.
    pub(super) fn run(&mut self) {
        for _ in 0..40 {
            if self.start_once() == Ran::Ended {
                return;
            }
        }
        panic!("it does not end: {:?}, {:?}", self.state(), self.gateway.reports);
    }

    pub(super) fn start_once(&mut self) -> Ran {
        self.starts += 1;
        let trust = Trust { roots: roots(), factory: &self.factory.clone() };
        let started = match start(&mut self.nor, &self.layout, &trust, &Host, &mut || ()) {
            Ok(started) => started,
            Err(_) => {
                assert!(!self.nor.misused, "a word was written twice");
                self.nor.power_on();
                return Ran::PowerLost;
            }
        };
        let image = self.running(&started);
        match &image[..4] {
            // The watchdog does it.
            b"HANG" => Ran::Again,
            how => self.application(how == b"GOOD", &trust),
        }
    }

    /// The bootloader alone.
    pub(super) fn boot(&mut self) -> Started {
        let trust = Trust { roots: roots(), factory: &self.factory.clone() };
        start(&mut self.nor, &self.layout, &trust, &Host, &mut || ()).unwrap()
    }

    /// The image that was started, which has to be whole.
    pub(super) fn running(&self, started: &Started) -> Vec<u8> {
        let at = started.entry as usize;
        let whole = |image: &&Vec<u8>| self.nor.look(at, image.len()) == image.as_slice();
        let found = self.images.iter().find(whole);
        found.unwrap_or_else(|| panic!("a broken image was started at {at:#x}")).clone()
    }

    fn application(&mut self, is_good: bool, trust: &Trust<'_>) -> Ran {
        match self.talk(is_good, trust) {
            Ok(ran) => ran,
            Err(_) => {
                assert!(!self.nor.misused, "a word was written twice");
                self.nor.power_on();
                Ran::PowerLost
            }
        }
    }

    fn talk(
        &mut self,
        is_good: bool,
        trust: &Trust<'_>,
    ) -> Result<Ran, tidegate_boot::FlashFailed> {
        let mut agent = self.agent(trust)?;
        agent.self_test(is_good);
        for _ in 0..5_000 {
            let quiet = self.exchange(&mut agent)?;
            match agent.poll(Millis(self.now), &mut self.nor)? {
                Next::Work => {}
                Next::Restart => return Ok(Ran::Again),
                Next::Wait(None) if quiet => return Ok(Ran::Ended),
                Next::Wait(Some(until)) if quiet => self.now = until.0.max(self.now + 1),
                Next::Wait(_) => {}
            }
            self.now += 1;
        }
        Ok(Ran::Again)
    }

    pub(super) fn agent<'t>(
        &mut self,
        trust: &Trust<'t>,
    ) -> Result<DeviceAgent<'t>, tidegate_boot::FlashFailed>
    where
        'w: 't,
    {
        let capabilities = capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS;
        let mut config = Config {
            layout: self.layout,
            trust: *trust,
            identity: Identity { vendor: VENDOR, class: CLASS, device: DEVICE, capabilities },
            factory_version: "1.0.0",
            block: 224,
            window: 8,
            message: 1_280,
            budget: Budget { erases: 100, tries: 8 },
            obedience: Obedience::Gateway,
        };
        (self.config)(&mut config);
        let config = Box::leak(Box::new(config));
        Agent::start(Millis(self.now), &mut self.nor, config, Host, Reason::Power)
    }

    /// Carries messages both ways; true when there were none.
    pub(super) fn exchange(
        &mut self,
        agent: &mut DeviceAgent<'_>,
    ) -> Result<bool, tidegate_boot::FlashFailed> {
        let mut quiet = true;
        let mut out = [0; 512];
        while let Some(length) = agent.poll_output(Millis(self.now), &mut self.nor, &mut out)? {
            quiet = false;
            if !self.random.chance(self.loss) {
                self.gateway.take(&out[..length]);
            }
        }
        while let Some(message) = self.gateway.give() {
            quiet = false;
            if !self.random.chance(self.loss) {
                agent.handle_message(Millis(self.now), &mut self.nor, &message)?;
            }
        }
        Ok(quiet)
    }
}

/// How an image is to travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Whole,
    Compressed,
    Delta,
}

pub(super) const EVERY_WAY: [How; 3] = [How::Whole, How::Compressed, How::Delta];

/// A manifest's entry, and what travels for it.
pub(super) fn entry(
    id: u8,
    how: How,
    base: &[u8],
    image: &[u8],
    side: Option<Side>,
) -> (Component<'static>, Vec<u8>) {
    let plain = release::component(id, image, side);
    match how {
        How::Whole => (plain, image.to_vec()),
        How::Compressed => {
            let bytes = tidegate_patch::compressed(image);
            let (size, digest) = (bytes.len() as u32, release::digest(&bytes));
            (Component { encoding: Encoding::Heatshrink { size, digest }, ..plain }, bytes)
        }
        How::Delta => {
            let bytes = tidegate_patch::delta(base, image);
            let (size, digest) = (bytes.len() as u32, release::digest(&bytes));
            let (base_size, base) = (base.len() as u32, release::digest(base));
            let encoding = Encoding::Delta { size, digest, base_size, base };
            (Component { encoding, ..plain }, bytes)
        }
    }
}

/// What a gateway serves of a manifest, signed by a release key.
pub(super) fn served(manifest: &Manifest<'_>, entries: Vec<Vec<u8>>) -> Served {
    let envelope = release::signed(manifest, &Key::new(RELEASE));
    Served { campaign: 7, envelope, second: None, key_set: None, entries }
}

/// A release of sequence 5 with one image for part 0.
pub(super) fn one(how: How, old: &[u8], new: &[u8], side: Option<Side>) -> Served {
    let (component, bytes) = entry(0, how, old, new, side);
    served(&release::manifest(5, &[component]), std::vec![bytes])
}
