//! A gateway and many devices: real agents on simulated flash, messages that take time and get
//! lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_agent::{Agent, Budget, Config, Millis, Next, Obedience};
use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust, start};
use tidegate_device_sim::crypto::{Host, HostHash, Key};
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::random::Random;
use tidegate_device_sim::release::{self, CLASS, VENDOR};
use tidegate_wire::digest::Digest;
use tidegate_wire::message::{Message, Reason, capability};

use super::cable::Cable;
use crate::*;

/// Where images run, in either kind of device.
const RUNS: u32 = 0x6000;

/// A kind of device.
pub(super) struct Board {
    parts: [Part; 1],
    /// Erase units of its flash.
    units: usize,
    /// Bytes of its images: most of what fits.
    pub(super) image: usize,
    /// What it asks for: bytes of a block, and how many at once.
    block: u16,
    window: u8,
}

impl Board {
    const fn new(room: u32, image: usize, block: u16, window: u8) -> Board {
        let a = Region { from: RUNS, to: RUNS + room };
        // One unit more, to exchange pages by.
        let b = Region { from: a.to, to: a.to + room + 0x1000 };
        let parts = [Part { id: 0, kind: Kind::Swapped, a, b }];
        Board { parts, units: b.to as usize / 0x1000, image, block, window }
    }
}

/// As those of which an upgrade is frozen.
pub(super) static SMALL: Board = Board::new(0x8000, 31_000, 224, 8);
/// With blocks that fill two frames of a serial link.
pub(super) static USUAL: Board = Board::new(0x2_0000, 128_000, 472, 4);
/// Bytes of the images of small ones.
pub(super) const IMAGE: usize = 31_000;
/// Time that a message is under way, milliseconds.
const DELAY: u64 = 10;
/// Time of a restart.
const RESTART: u64 = 500;
pub(super) const RELEASE: u8 = 3;

fn layout(board: &'static Board) -> Layout<'static> {
    let region = |from, to| Region { from, to };
    Layout {
        state: region(0, 0x2000),
        keys: region(0x2000, 0x4000),
        ledgers: [region(0x4000, 0x5000), region(0x5000, 0x6000)],
        parts: &board.parts,
    }
}

/// A release of sequence 5 as it is, whose image behaves as its first bytes say.
pub(super) fn bundle(sequence: u64, behaves: &[u8; 4]) -> Vec<u8> {
    bundle_for(&SMALL, sequence, behaves)
}

/// The same for this kind of device.
pub(super) fn bundle_for(board: &Board, sequence: u64, behaves: &[u8; 4]) -> Vec<u8> {
    let mut image = release::image(sequence, board.image);
    image[..4].copy_from_slice(behaves);
    let part = release::component(0, &image, None);
    let manifest = release::signed(&release::manifest(sequence, &[part]), &Key::new(RELEASE));
    [write_head(&manifest, None, None).unwrap(), image].concat()
}

/// One device.
pub(super) struct Device {
    nor: Nor<8, 4_096>,
    agent: Option<Agent<'static, Host>>,
    /// Whether the self-test of what is new passes here.
    passes: bool,
    pub(super) starts: u32,
}

enum Event {
    Up(Arc<str>, Vec<u8>),
    Down(Arc<str>, Vec<u8>),
    Wake(Arc<str>),
    /// A frame reaches one end of a device's serial line: the device's, or the gateway's.
    Frame(Arc<str>, bool, Vec<u8>),
    /// Something on the line is due.
    Line(Arc<str>),
}

/// See the module.
pub(super) struct Fleet {
    board: &'static Board,
    pub(super) desk: Desk,
    pub(super) limits: Limits,
    start: Instant,
    pub(super) ms: u64,
    pub(super) devices: BTreeMap<Arc<str>, Device>,
    /// Bundles by their hashes.
    files: BTreeMap<Digest, Vec<u8>>,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    /// Messages lost, in a million, each way.
    pub(super) loss: u32,
    random: Random,
    /// Bytes that the gateway has sent, by device.
    pub(super) sent: BTreeMap<Arc<str>, u64>,
    /// Devices that are on serial lines; all of them when there are any. What is lost then are frames.
    pub(super) cables: BTreeMap<Arc<str>, Cable>,
    /// What was put down.
    pub(super) table: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) notes: Vec<Note>,
    trust: Trust<'static>,
    old: Vec<u8>,
    next_tick: Option<u64>,
    /// Most devices that loaded at a time, by the requests of the last two seconds.
    pub(super) asked: BTreeMap<Arc<str>, u64>,
    pub(super) most_at_a_time: usize,
    /// Messages as they arrive, if somebody wants them: whether from a device, when, what.
    pub(super) record: Option<Vec<(bool, u64, Vec<u8>)>>,
    /// What the gateway says and when it would arrive, if it is to go nowhere else.
    pub(super) answers: Option<Vec<(u64, Vec<u8>)>>,
    /// What devices say, if it is to go nowhere else.
    pub(super) heard: Option<Vec<(Arc<str>, Vec<u8>)>>,
}

impl Fleet {
    pub(super) fn new(limits: Limits) -> Fleet {
        Fleet::of(&SMALL, limits)
    }

    pub(super) fn of(board: &'static Board, limits: Limits) -> Fleet {
        let key = Key::new(RELEASE);
        let factory = release::key_set(1, 1, &[&key], 1_000, &Key::new(1));
        let roots = [Key::new(1).public(), Key::new(2).public()];
        let mut old = release::image(1, board.image);
        old[..4].copy_from_slice(b"GOOD");
        let start = super::instant();
        Fleet {
            board,
            desk: Desk::new(limits),
            limits,
            start,
            ms: 0,
            devices: BTreeMap::new(),
            files: BTreeMap::new(),
            events: BTreeMap::new(),
            number: 0,
            loss: 0,
            random: Random::new(1),
            sent: BTreeMap::new(),
            cables: BTreeMap::new(),
            table: BTreeMap::new(),
            notes: Vec::new(),
            trust: Trust { roots, factory: Vec::leak(factory) },
            old,
            next_tick: None,
            asked: BTreeMap::new(),
            most_at_a_time: 0,
            record: None,
            answers: None,
            heard: None,
        }
    }

    /// A device that is switched on now.
    pub(super) fn add(&mut self, name: &str, passes: bool) {
        let mut nor = Nor::new(self.board.units, self.devices.len() as u64);
        nor.put(RUNS as usize, &self.old);
        let name: Arc<str> = name.into();
        let device = Device { nor, agent: None, passes, starts: 0 };
        self.devices.insert(name.clone(), device);
        let at = self.ms + self.random.below(1_000) as u64;
        self.put(at, Event::Wake(name));
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            instant: self.start + Duration::from_millis(self.ms),
            unix_ms: 1_700_000_000_000 + self.ms as i64,
            is_trusted: true,
        }
    }

    pub(super) fn push(&mut self, file: &[u8], terms: Terms) -> Result<u64, DeskError> {
        let release = Release::of_bundle::<HostHash>(file).unwrap();
        let hash = release::digest(file);
        self.files.insert(hash, file.to_vec());
        let now = self.moment();
        let started = self.desk.start(now, hash, release, terms);
        self.carry_out();
        started
    }

    /// The gateway is killed, and started again: what was put down is all that it has.
    pub(super) fn restart_gateway(&mut self) {
        let entries = self.table.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let now = self.moment().instant;
        let (desk, unread) = Desk::restore(self.limits, now, entries);
        assert_eq!(unread, 0);
        self.desk = desk;
        self.events.retain(|_, event| matches!(event, Event::Wake(_)));
        // Their connections are new.
        for (name, device) in &mut self.devices {
            if let Some(agent) = &mut device.agent {
                agent.connected();
            }
            self.number += 1;
            self.events.insert((self.ms + 5, self.number), Event::Wake(name.clone()));
        }
        self.carry_out();
    }

    pub(super) fn campaign(&self, id: u64) -> CampaignStatus {
        let statuses = self.desk.campaign_statuses();
        statuses.into_iter().find(|status| status.campaign == id).unwrap()
    }

    pub(super) fn sequence(&self, name: &str) -> u64 {
        let agent = self.devices[name].agent.as_ref();
        agent.map_or(0, |agent| agent.sequence().0)
    }

    /// The image that a device would start.
    pub(super) fn image(&self, name: &str) -> &[u8] {
        self.beginning(name, self.board.image)
    }

    /// Goes on until this holds, or for so many seconds.
    pub(super) fn run(&mut self, seconds: u64, mut done: impl FnMut(&Fleet) -> bool) -> bool {
        let end = self.ms + seconds * 1_000;
        let mut looked = 0;
        loop {
            // To look at all of it after each message would take longer than all of it.
            if self.ms >= looked {
                looked = self.ms + 200;
                if done(self) {
                    return true;
                }
            }
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = [event, self.next_tick].into_iter().flatten().min() else {
                return done(self);
            };
            if at > end {
                self.ms = end;
                return done(self);
            }
            self.ms = self.ms.max(at);
            if event == Some(at) {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happens(event);
                }
            } else {
                let now = self.moment();
                self.desk.handle_timeout(now);
                self.carry_out();
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Frame(name, at_device, frame) => {
                if let Some(cable) = self.cables.get_mut(&name) {
                    cable.take(self.ms, at_device, &frame);
                }
                self.line(&name);
            }
            Event::Line(name) => {
                if self.cables.get_mut(&name).is_some_and(|cable| cable.is_due(self.ms)) {
                    self.line(&name);
                }
            }
            Event::Up(name, bytes) => {
                if let Some(heard) = &mut self.heard {
                    return heard.push((name, bytes));
                }
                if let Some(record) = &mut self.record {
                    record.push((true, self.ms, bytes.clone()));
                }
                if matches!(Message::read(&bytes), Ok(Message::Request(_))) {
                    self.asked.insert(name.clone(), self.ms);
                    let since = self.ms.saturating_sub(1_000);
                    self.asked.retain(|_, at| *at >= since);
                    self.most_at_a_time = self.most_at_a_time.max(self.asked.len());
                }
                let now = self.moment();
                self.desk.handle_message(now, &name, Via::Mqtt, &bytes);
                self.carry_out();
            }
            Event::Down(name, bytes) => {
                if let Some(record) = &mut self.record {
                    record.push((false, self.ms, bytes.clone()));
                }
                self.device(&name, Some(&bytes));
            }
            Event::Wake(name) => self.device(&name, None),
        }
    }

    fn put(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.insert((at, self.number), event);
    }

    /// Does what the desk wants.
    pub(super) fn carry_out(&mut self) {
        let now = self.moment();
        while let Some(output) = self.desk.poll_output(now) {
            match output {
                Output::Send(letter) => self.send(letter, DELAY),
                Output::Read(read) => {
                    let from = read.at as usize;
                    let data = &self.files[&read.bundle][from..from + usize::from(read.length)];
                    let letter = read.letter(data).unwrap();
                    self.desk.handle_read(now, &read, Ok(()));
                    self.send(letter, DELAY);
                }
                Output::Store(batch) => {
                    for (key, value) in batch.changes {
                        match value {
                            Some(value) => drop(self.table.insert(key, value)),
                            None => drop(self.table.remove(&key)),
                        }
                    }
                    self.notes.extend(batch.notes);
                    // It takes a moment until it is on flash.
                    batch.then.into_iter().for_each(|letter| self.send(letter, DELAY + 5));
                }
            }
        }
        let ms = |at: Instant| at.saturating_duration_since(self.start).as_millis() as u64 + 1;
        self.next_tick = self.desk.poll_timeout().map(ms);
    }

    /// A message arrives at a device then.
    pub(super) fn arrives(&mut self, ms: u64, name: &str, bytes: Vec<u8>) {
        self.put(ms, Event::Down(name.into(), bytes));
    }

    /// So many bytes of what a device would start.
    pub(super) fn beginning(&self, name: &str, length: usize) -> &[u8] {
        self.devices[name].nor.look(RUNS as usize, length)
    }

    fn send(&mut self, letter: Letter, delay: u64) {
        if let Some(answers) = &mut self.answers {
            return answers.push((self.ms + delay, letter.bytes));
        }
        *self.sent.entry(letter.device.clone()).or_default() += letter.bytes.len() as u64;
        if let Some(cable) = self.cables.get_mut(&letter.device) {
            cable.say(false, letter.bytes);
            self.put(self.ms + delay - DELAY, Event::Frame(letter.device, false, Vec::new()));
            return;
        }
        if !self.random.chance(self.loss) {
            self.put(self.ms + delay, Event::Down(letter.device, letter.bytes));
        }
    }

    /// Lets a line carry what there is, and hands over what came through.
    fn line(&mut self, name: &Arc<str>) {
        let Some(cable) = self.cables.get_mut(name) else { return };
        let frames = cable.frames(self.ms);
        let (heard, due) = (cable.heard(), cable.next_due(self.ms));
        for (to_device, frame) in frames {
            if !self.random.chance(self.loss) {
                self.put(self.ms + DELAY, Event::Frame(name.clone(), to_device, frame));
            }
        }
        if let Some(due) = due {
            self.put(due, Event::Line(name.clone()));
        }
        for (to_device, message) in heard {
            if to_device {
                self.put(self.ms, Event::Down(name.clone(), message));
            } else {
                let now = self.moment();
                self.desk.handle_message(now, name, Via::Line, &message);
                self.carry_out();
            }
        }
    }

    /// Lets a device run, with a message for it.
    fn device(&mut self, name: &Arc<str>, message: Option<&[u8]>) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let now = Millis(self.ms);
        if device.agent.is_none() {
            device.switch_on(now, name, self.board, self.trust);
        }
        let Device { nor, agent: Some(agent), .. } = device else { return };
        if let Some(message) = message {
            agent.handle_message(now, nor, message).unwrap();
        }
        let mut says = Vec::new();
        let next = loop {
            let mut out = [0; 512];
            while let Some(length) = agent.poll_output(now, nor, &mut out).unwrap() {
                says.push(out[..length].to_vec());
            }
            match agent.poll(now, nor).unwrap() {
                Next::Work => {}
                Next::Restart => break Some(self.ms + RESTART),
                Next::Wait(until) => break until.map(|until| until.0.max(self.ms + 1)),
            }
        };
        if matches!(agent.poll(now, nor), Ok(Next::Restart)) {
            device.agent = None;
        }
        if let Some(cable) = self.cables.get_mut(name) {
            says.into_iter().for_each(|bytes| cable.say(true, bytes));
            self.put(self.ms, Event::Frame(name.clone(), true, Vec::new()));
            if let Some(at) = next {
                self.put(at, Event::Wake(name.clone()));
            }
            return;
        }
        let says: Vec<_> = says.into_iter().filter(|_| !self.random.chance(self.loss)).collect();
        for bytes in says {
            self.put(self.ms + DELAY, Event::Up(name.clone(), bytes));
        }
        // One wake of a device is enough: each looks again when the next is.
        if let Some(at) = next {
            self.put(at, Event::Wake(name.clone()));
        }
    }
}

impl Device {
    fn switch_on(&mut self, now: Millis, name: &str, board: &'static Board, trust: Trust<'static>) {
        self.starts += 1;
        let started = start(&mut self.nor, &layout(board), &trust, &Host, &mut || ()).unwrap();
        let image = self.nor.look(started.entry as usize, 4);
        let passes = image == b"GOOD" && (self.passes || self.starts == 1);
        let mut identity = [0; 16];
        identity.copy_from_slice(&release::digest(name.as_bytes()).0[..16]);
        let capabilities = capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS;
        let config = Box::leak(Box::new(Config {
            layout: layout(board),
            trust,
            identity: Identity { vendor: VENDOR, class: CLASS, device: identity, capabilities },
            factory_version: "1.0.0",
            block: board.block,
            window: board.window,
            message: 1_280,
            budget: Budget { erases: 100, tries: 8 },
            obedience: Obedience::Gateway,
        }));
        let agent = Agent::start(now, &mut self.nor, config, Host, Reason::Power);
        let mut agent = agent.unwrap();
        agent.self_test(passes);
        self.agent = Some(agent);
    }
}
