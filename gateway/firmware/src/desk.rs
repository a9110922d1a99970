//! The desk: which devices there are, which campaigns, and what is to be said to whom.
//!
//! Invariants:
//! - what a device has reported is put down before it hears that it was received;
//! - to a device goes no block that it has not asked for, and no more of a release than
//!   [`MAX_RESENT`] allows, however often it asks;
//! - everything that a device can make grow has a limit: see [`MAX_DEVICES`], [`MAX_ASKED`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_wire::digest::{Digest, Digest8};
use tidegate_wire::message::{Command, Message, Order, Reason};

use crate::about::About;
use crate::campaign::{Campaign, MAX_NAME, State, Terms};
use crate::forgetting::Forgotten;
use crate::member::{Member, Stage};
use crate::output::{Batch, Letter, Note, Output, Topic, Via, written};
use crate::pace::Pace;
use crate::serving::Asked;
use crate::table::Key;
use crate::{Release, campaign::MAX_LISTED};

/// Devices that are known: some 600 bytes each in memory, with what the log keeps of them.
pub const MAX_DEVICES: usize = 4_096;
/// Campaigns that are kept; the oldest that has ended goes for a new one.
pub const MAX_CAMPAIGNS: usize = 8;
/// How often what has to be done by the clock is looked for, while there is something to do.
pub(crate) const ROUND: Duration = Duration::from_secs(1);
/// Devices that are written down in one round.
const DEVICES_OF_A_ROUND: usize = 64;
/// A device whose hello changes is written down so often at most.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// What the operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Devices that load at a time.
    pub concurrent: u32,
    /// Bytes of blocks a second, to all devices together.
    pub bytes_per_second: Option<u64>,
}

/// One moment.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic time.
    pub instant: Instant,
    /// The wall clock, milliseconds since 1970.
    pub unix_ms: i64,
    /// Whether that can be trusted.
    pub is_trusted: bool,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) about: About,
    pub(crate) via: Via,
    /// When it was heard last; `None`: not since the start of the gateway.
    pub(crate) heard: Option<Instant>,
    pub(crate) on_trial: bool,
    pub(crate) pending: Option<Digest8>,
    /// It has just taken a release back, and will report it.
    pub(crate) reverted: Option<Instant>,
    pub(crate) asked: Asked,
    written: Option<Instant>,
}

/// Why a campaign does not begin, or does not end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeskError {
    /// Another one is in its way.
    #[error(
        "campaign {campaign} brings sequence {sequence} to the same class; sign with a greater \
         sequence, or end it with `tidegate device firmware cancel {campaign}`"
    )]
    InTheWay {
        /// Which one.
        campaign: u64,
        /// Its sequence.
        sequence: u64,
    },
    /// Too many run.
    #[error("{MAX_CAMPAIGNS} campaigns run; end one with `tidegate device firmware cancel`")]
    TooMany,
    /// The list of devices.
    #[error("a campaign names 1 to {MAX_LISTED} devices, each by 1 to {MAX_NAME} bytes")]
    Devices,
    /// No such campaign.
    #[error("there is no campaign {0}; see `tidegate device firmware status`")]
    Unknown(u64),
    /// It does not run.
    #[error("campaign {0} is {1} already")]
    Ended(u64, &'static str),
    /// The log could not take it.
    #[error("the campaign is too long to be written down")]
    Full,
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    pub(crate) limits: Limits,
    pub(crate) devices: BTreeMap<Arc<str>, Device>,
    pub(crate) campaigns: BTreeMap<u64, Campaign>,
    last_id: u64,
    pub(crate) pace: Pace,
    /// When the pace lets the next block go.
    pub(crate) paced: Option<Instant>,
    /// Devices that have asked for blocks, in the order of their turns.
    pub(crate) turn: VecDeque<Arc<str>>,
    /// Blocks that are being read.
    pub(crate) reads: usize,
    pub(crate) outputs: VecDeque<Output>,
    /// Devices to be written down.
    pub(crate) unwritten: BTreeSet<Arc<str>>,
    next_round: Option<Instant>,
    pub(crate) forgotten: Forgotten,
}

impl Desk {
    /// A desk that nobody has come to yet.
    #[must_use]
    pub fn new(limits: Limits) -> Desk {
        Desk {
            limits,
            devices: BTreeMap::new(),
            campaigns: BTreeMap::new(),
            last_id: 0,
            pace: Pace::new(limits.bytes_per_second),
            paced: None,
            turn: VecDeque::new(),
            reads: 0,
            outputs: VecDeque::new(),
            unwritten: BTreeSet::new(),
            next_round: None,
            forgotten: Forgotten::default(),
        }
    }

    /// A desk that goes on with what an earlier one has had put down. What cannot be read is left
    /// out, and counted.
    pub fn restore<'e>(
        limits: Limits,
        now: Instant,
        entries: impl Iterator<Item = (&'e [u8], &'e [u8])>,
    ) -> (Desk, usize) {
        let mut desk = Desk::new(limits);
        let (mut unread, mut members) = (0, Vec::new());
        for (key, value) in entries {
            match Key::decode(key) {
                Some(Key::Device(name)) => match About::decode(value) {
                    Ok(about) => drop(desk.devices.insert(name, Device::new(about))),
                    Err(_) => unread += 1,
                },
                Some(Key::Campaign(id)) => match Campaign::decode(value) {
                    Ok(campaign) => drop(desk.campaigns.insert(id, campaign)),
                    Err(_) => unread += 1,
                },
                Some(Key::Member(id, name)) => match Member::decode(value) {
                    Ok(member) => members.push((id, name, member)),
                    Err(_) => unread += 1,
                },
                None => unread += 1,
            }
        }
        for (id, name, member) in members {
            match desk.campaigns.get_mut(&id) {
                Some(campaign) => drop(campaign.members.insert(name, member)),
                None => unread += 1,
            }
        }
        desk.last_id = desk.campaigns.keys().next_back().copied().unwrap_or(0);
        if desk.campaigns.values().any(Campaign::is_running) {
            desk.next_round = Some(now + ROUND);
        }
        (desk, unread)
    }

    /// Bundles that campaigns need, by the SHA-256 of their files.
    #[must_use]
    pub fn needed(&self) -> BTreeSet<Digest> {
        let running = self.campaigns.values().filter(|campaign| campaign.is_running());
        running.map(|campaign| campaign.bundle).collect()
    }

    /// A device has said something. What is malformed or unknown is dropped.
    pub fn handle_message(&mut self, now: Moment, device: &str, via: Via, bytes: &[u8]) {
        if device.is_empty() || device.len() > MAX_NAME {
            return;
        }
        let Ok(message) = Message::read(bytes) else { return };
        match (self.devices.get_mut(device), &message) {
            (Some(known), _) => (known.via, known.heard) = (via, Some(now.instant)),
            (None, Message::Hello(_)) => {}
            // Who it is has to be known first.
            (None, _) => return self.ask_who(device, via),
        }
        match message {
            Message::Hello(hello) => self.handle_hello(now, device, via, &hello),
            Message::Answer(answer) => self.handle_answer(now, device, answer),
            Message::Request(request) => self.handle_request(now, device, request),
            Message::Report(report) => self.handle_report(now, device, &report),
            Message::Welcome(_)
            | Message::Offer(_)
            | Message::Block(_)
            | Message::Command(_)
            | Message::Received(_)
            | Message::Unknown(_) => {}
        }
    }

    fn handle_hello(
        &mut self,
        now: Moment,
        name: &str,
        via: Via,
        hello: &tidegate_wire::message::Hello<'_>,
    ) {
        let about = About::of(hello, now.unix_ms);
        self.welcome(now, name, via, hello.protocol);
        let known = self.devices.get_key_value(name).map(|(name, _)| name.clone());
        let name = match known {
            Some(name) => name,
            None if self.devices.len() >= MAX_DEVICES && !self.make_place(now, name) => return,
            None => {
                let name: Arc<str> = name.into();
                self.devices.insert(name.clone(), Device::new(about.clone()));
                self.unwritten.insert(name.clone());
                self.wake(now.instant);
                name
            }
        };
        let Some(device) = self.devices.get_mut(&name) else { return };
        if !device.about.says_the_same(&about) {
            self.unwritten.insert(name.clone());
            self.next_round.get_or_insert(now.instant + ROUND);
        }
        (device.via, device.heard, device.about) = (via, Some(now.instant), about);
        (device.on_trial, device.pending) = (hello.trial.is_some(), hello.pending);
        device.reverted = (hello.reason == Reason::Reverted).then_some(now.instant);
        device.asked.clear();
        self.consider(now, &name, true);
        let pending = self.devices.get(&name).and_then(|device| device.pending);
        pending.into_iter().for_each(|pending| self.recall(&name, pending));
    }

    /// A device that is in the middle of a release that was ended hears of it.
    pub(crate) fn recall(&mut self, name: &Arc<str>, pending: Digest8) {
        if self.devices.get(name).is_none_or(|device| device.on_trial) {
            return;
        }
        let named = |campaign: &&Campaign| campaign.release.name().short() == pending;
        let mut campaigns = self.campaigns.iter().filter(|(_, campaign)| named(campaign));
        let Some((id, campaign)) = campaigns.next_back() else { return };
        if matches!(campaign.state, State::Halted | State::Cancelled) {
            let id = *id;
            self.order(name, id, Order::Cancel);
        }
    }

    pub(crate) fn order(&mut self, name: &Arc<str>, campaign: u64, order: Order) {
        self.say(name, Topic::Command, &Message::Command(Command { campaign, order }));
    }

    pub(crate) fn say(&mut self, name: &Arc<str>, topic: Topic, message: &Message<'_>) {
        let Some(letter) = self.letter(name, topic, message) else { return };
        self.outputs.push_back(Output::Send(letter));
    }

    fn letter(&self, name: &Arc<str>, topic: Topic, message: &Message<'_>) -> Option<Letter> {
        self.devices.get(name)?.letter(name, topic, message)
    }

    fn ask_who(&mut self, device: &str, via: Via) {
        let message = Message::Command(Command { campaign: 0, order: Order::Hello });
        let Some(bytes) = written(&message) else { return };
        let (device, topic) = (device.into(), Topic::Command);
        self.outputs.push_back(Output::Send(Letter { device, via, topic, bytes }));
    }

    /// `greatest`: the version that the device speaks; it speaks the one below as well.
    fn welcome(&mut self, now: Moment, name: &str, via: Via, greatest: u8) {
        let seconds = u64::try_from(now.unix_ms / 1_000).ok();
        let welcome = tidegate_wire::message::Welcome {
            protocol: tidegate_wire::message::PROTOCOL.min(greatest),
            time: seconds.filter(|_| now.is_trusted),
        };
        let Some(bytes) = written(&Message::Welcome(welcome)) else { return };
        let (device, topic) = (name.into(), Topic::Command);
        self.outputs.push_back(Output::Send(Letter { device, via, topic, bytes }));
    }

    /// Begins a campaign with a bundle whose file is there; answers its number. A campaign that
    /// brings the same release to the same devices goes on instead.
    ///
    /// # Errors
    /// See [`DeskError`]; nothing has changed.
    pub fn start(
        &mut self,
        now: Moment,
        bundle: Digest,
        release: Release,
        terms: Terms,
    ) -> Result<u64, DeskError> {
        let fits = |name: &Arc<str>| (1..=MAX_NAME).contains(&name.len());
        let list = terms.devices.as_ref();
        if list
            .is_some_and(|list| !(1..=MAX_LISTED).contains(&list.len()) || !list.iter().all(fits))
        {
            return Err(DeskError::Devices);
        }
        let (class, sequence) = (release.class(), release.sequence());
        let rivals = self.campaigns.iter().filter(|(_, one)| {
            let wide = one.terms.devices.is_none() || terms.devices.is_none();
            one.is_running()
                && one.release.class() == class
                && (wide || one.terms.devices == terms.devices)
        });
        let mut replaced = Vec::new();
        for (id, rival) in rivals {
            if rival.bundle == bundle && rival.terms == terms {
                return Ok(*id);
            }
            if rival.release.sequence() >= sequence {
                let sequence = rival.release.sequence();
                return Err(DeskError::InTheWay { campaign: *id, sequence });
            }
            if rival.terms.devices.is_some() || terms.devices.is_none() {
                replaced.push(*id);
            }
        }
        let mut batch = Batch::default();
        self.make_room(replaced.len(), &mut batch)?;
        let id = self.last_id + 1;
        let mut campaign = Campaign {
            bundle,
            release,
            terms,
            state: State::Running,
            started_unix_ms: now.unix_ms,
            ended_unix_ms: None,
            reason: String::new(),
            members: BTreeMap::new(),
        };
        let members = self.devices.iter().filter(|(name, device)| {
            campaign.is_for(name, (device.about.vendor, device.about.class))
        });
        let members = members.map(|(name, _)| (name.clone(), Member::new(now.unix_ms)));
        campaign.members = members.collect();
        let value = campaign.encode().map_err(|_| DeskError::Full)?;
        batch.changes.push((Key::Campaign(id).encode(), Some(value)));
        batch.notes.push(note(id, &campaign));
        self.last_id = id;
        self.campaigns.insert(id, campaign);
        self.outputs.push_back(Output::Store(batch));
        for old in replaced {
            self.end(now, old, State::Replaced, &format!("by campaign {id}"));
        }
        self.next_round = Some(now.instant);
        Ok(id)
    }

    /// The oldest that have ended go; `ends` of those that run are about to.
    fn make_room(&mut self, ends: usize, batch: &mut Batch) -> Result<(), DeskError> {
        let running = self.campaigns.values().filter(|campaign| campaign.is_running()).count();
        if running.saturating_sub(ends) >= MAX_CAMPAIGNS {
            return Err(DeskError::TooMany);
        }
        while self.campaigns.len() >= MAX_CAMPAIGNS {
            let ended = self.campaigns.iter().find(|(_, campaign)| !campaign.is_running());
            let Some((id, campaign)) = ended.map(|(id, campaign)| (*id, campaign)) else { break };
            let members = campaign.members.keys().cloned();
            let keys = members.map(|name| Key::Member(id, name)).chain([Key::Campaign(id)]);
            batch.changes.extend(keys.map(|key| (key.encode(), None)));
            self.campaigns.remove(&id);
        }
        Ok(())
    }

    /// Ends a campaign. Devices that load are told to forget it.
    ///
    /// # Errors
    /// There is no such campaign, or it has ended.
    pub fn cancel(&mut self, now: Moment, id: u64) -> Result<(), DeskError> {
        let campaign = self.campaigns.get(&id).ok_or(DeskError::Unknown(id))?;
        if !campaign.is_running() {
            return Err(DeskError::Ended(id, campaign.state.name()));
        }
        self.end(now, id, State::Cancelled, "");
        Ok(())
    }

    pub(crate) fn end(&mut self, now: Moment, id: u64, state: State, reason: &str) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.end(state, reason, now.unix_ms);
        let mut batch = Batch::default();
        // It was encoded at its start, and the reason has its limit.
        let Ok(value) = campaign.encode() else { return };
        batch.changes.push((Key::Campaign(id).encode(), Some(value)));
        batch.notes.push(note(id, campaign));
        let loading = campaign.members.iter().filter(|(_, member)| {
            let offered = member.stage == Stage::Waiting && member.offers > 0;
            offered || matches!(member.stage, Stage::Accepted | Stage::Staged)
        });
        let loading: Vec<Arc<str>> = loading.map(|(name, _)| name.clone()).collect();
        self.outputs.push_back(Output::Store(batch));
        if matches!(state, State::Halted | State::Cancelled) {
            for name in loading {
                self.order(&name, id, Order::Cancel);
            }
        }
    }

    /// The time of [`Desk::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.paced.is_some_and(|at| at <= now.instant) {
            self.paced = None;
        }
        if self.next_round.is_none_or(|at| at > now.instant) {
            return;
        }
        self.next_round = None;
        let goes_on = self.offer_round(now);
        let unwritten = self.write_round(now);
        self.next_round = [goes_on, unwritten].into_iter().flatten().min();
    }

    /// When [`Desk::handle_timeout`] must be called at the latest; `None`: there is nothing to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.next_round, self.paced].into_iter().flatten().min()
    }

    /// The next thing to be done; call until it answers `None`.
    pub fn poll_output(&mut self, now: Moment) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.next_read(now).map(Output::Read))
    }

    pub(crate) fn wake(&mut self, now: Instant) {
        let at = now + ROUND;
        self.next_round = Some(self.next_round.map_or(at, |next| next.min(at)));
    }

    /// Writes devices down that have changed, some at a time.
    fn write_round(&mut self, now: Moment) -> Option<Instant> {
        let mut batch = Batch::default();
        let mut next = None;
        for name in std::mem::take(&mut self.unwritten) {
            let Some(device) = self.devices.get_mut(&name) else { continue };
            let due = device.written.map_or(now.instant, |at| at + WRITE_EVERY);
            if due > now.instant || batch.changes.len() >= DEVICES_OF_A_ROUND {
                let at = due.max(now.instant + ROUND);
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
                self.unwritten.insert(name);
                continue;
            }
            device.written = Some(now.instant);
            if let Ok(value) = device.about.encode() {
                batch.changes.push((Key::Device(name).encode(), Some(value)));
            }
        }
        if !batch.changes.is_empty() {
            self.outputs.push_back(Output::Store(batch));
        }
        next
    }
}

impl Device {
    /// A message for it, if it takes one as long.
    pub(crate) fn letter(
        &self,
        name: &Arc<str>,
        topic: Topic,
        message: &Message<'_>,
    ) -> Option<Letter> {
        let bytes = written(message)?;
        let fits = bytes.len() <= usize::from(self.about.message);
        fits.then(|| Letter { device: name.clone(), via: self.via, topic, bytes })
    }

    fn new(about: About) -> Device {
        Device {
            about,
            via: Via::Mqtt,
            heard: None,
            on_trial: false,
            pending: None,
            reverted: None,
            asked: Asked::default(),
            written: None,
        }
    }
}

fn note(campaign: u64, of: &Campaign) -> Note {
    let (state, sequence, reason) = (of.state.name(), of.release.sequence(), of.reason.clone());
    Note::Campaign { campaign, state, sequence, reason }
}
