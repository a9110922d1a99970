//! One rollout: which release, for whom, and what ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use tidegate_wire::cbor::{Fields, FormError, Full, Reader, Writer, required};
use tidegate_wire::digest::Digest;

use crate::bundle::Release;
use crate::member::{Member, Stage};

/// Version of the table.
const FORMAT: u64 = 1;
/// Most devices that a campaign names. The entry has at most 40 KB then.
pub const MAX_LISTED: usize = 512;
/// Most bytes of a device's name.
pub const MAX_NAME: usize = 64;
/// Most bytes of an entry beside the header and the names.
const REST: usize = 256;
/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 128;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const BUNDLE: u64 = 1;
    pub(super) const HEADER: u64 = 2;
    pub(super) const DEVICES: u64 = 3;
    pub(super) const FIRST: u64 = 4;
    pub(super) const HALT_COUNT: u64 = 5;
    pub(super) const HALT_PERCENT: u64 = 6;
    pub(super) const STATE: u64 = 7;
    pub(super) const STARTED: u64 = 8;
    pub(super) const ENDED: u64 = 9;
    pub(super) const REASON: u64 = 10;
    pub(super) const NAME: u64 = 11;
}

/// How a rollout goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Only these devices; `None`: all of the release's class, those that come later included.
    pub devices: Option<BTreeSet<Arc<str>>>,
    /// So many have to be confirmed before further ones are offered it.
    pub first: Option<u32>,
    /// So many failures end it.
    pub halt_at: HaltAt,
}

/// How many failures are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltAt {
    /// So many devices.
    Devices(u32),
    /// So many of a hundred of those that it is for and that are known.
    Percent(u8),
}

/// What has become of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It goes on.
    Running,
    /// Each device that it names has come to an end.
    Done,
    /// Too many have failed, or the bundle cannot be read.
    Halted,
    /// The operator has ended it.
    Cancelled,
    /// A newer one for the same class has taken its place.
    Replaced,
}

impl State {
    const ALL: [State; 5] =
        [State::Running, State::Done, State::Halted, State::Cancelled, State::Replaced];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Done => "done",
            State::Halted => "halted",
            State::Cancelled => "cancelled",
            State::Replaced => "replaced",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Campaign {
    /// The file's SHA-256.
    pub(crate) bundle: Digest,
    pub(crate) release: Release,
    pub(crate) terms: Terms,
    pub(crate) state: State,
    pub(crate) started_unix_ms: i64,
    pub(crate) ended_unix_ms: Option<i64>,
    /// Why it ended.
    pub(crate) reason: String,
    pub(crate) members: BTreeMap<Arc<str>, Member>,
}

impl Campaign {
    /// Whether it is for this device.
    pub(crate) fn is_for(&self, device: &str, class: ([u8; 16], [u8; 16])) -> bool {
        let named = self.terms.devices.as_ref().is_none_or(|devices| devices.contains(device));
        named && self.release.class() == class
    }

    /// Whether it names this device, rather than all of a class.
    pub(crate) fn names(&self, device: &str) -> bool {
        self.terms.devices.as_ref().is_some_and(|devices| devices.contains(device))
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }

    pub(crate) fn count(&self, stage: Stage) -> u32 {
        self.members.values().filter(|member| member.stage == stage).count() as u32
    }

    pub(crate) fn failures(&self) -> u32 {
        self.members.values().filter(|member| member.is_failure()).count() as u32
    }

    /// Whether as many have failed as are too many.
    pub(crate) fn is_too_bad(&self) -> bool {
        let failures = self.failures();
        let known = self.terms.devices.as_ref().map_or(self.members.len(), BTreeSet::len);
        match self.terms.halt_at {
            HaltAt::Devices(most) => failures >= most.max(1),
            HaltAt::Percent(percent) => {
                failures > 0 && u64::from(failures) * 100 >= u64::from(percent) * known as u64
            }
        }
    }

    /// How many more may be offered it now: as long as not enough are confirmed, only so many are
    /// under way that could make it enough.
    pub(crate) fn room(&self, now: Instant) -> u32 {
        let Some(first) = self.terms.first else { return u32::MAX };
        let confirmed = self.count(Stage::Confirmed);
        if confirmed >= first {
            return u32::MAX;
        }
        let under_way = self.members.values().filter(|member| match member.stage {
            Stage::Waiting => member.is_loading(now),
            Stage::Accepted | Stage::Staged | Stage::Trial => true,
            Stage::Confirmed
            | Stage::Reverted
            | Stage::Failed
            | Stage::Rejected
            | Stage::Forgotten => false,
        });
        first.saturating_sub(confirmed + under_way.count() as u32)
    }

    /// Whether all that it names have come to an end. One for a whole class goes on.
    pub(crate) fn is_over(&self) -> bool {
        let ended = |name: &Arc<str>| self.members.get(name).is_some_and(|one| one.stage.is_end());
        self.terms.devices.as_ref().is_some_and(|devices| devices.iter().all(ended))
    }

    pub(crate) fn end(&mut self, state: State, reason: &str, unix_ms: i64) {
        let most = reason.floor_char_boundary(MAX_REASON);
        (self.state, self.ended_unix_ms) = (state, Some(unix_ms));
        self.reason = reason.get(..most).unwrap_or_default().to_owned();
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Full> {
        let header = self.release.header()?;
        let names = self.terms.devices.as_ref().map_or(0, BTreeSet::len);
        let mut out = vec![0; header.len() + names * (MAX_NAME + 2) + REST + MAX_REASON];
        let mut writer = Writer::new(&mut out);
        let percent = match self.terms.halt_at {
            HaltAt::Devices(count) => (key::HALT_COUNT, u64::from(count)),
            HaltAt::Percent(percent) => (key::HALT_PERCENT, u64::from(percent)),
        };
        let optional = [names > 0, self.terms.first.is_some(), self.ended_unix_ms.is_some()];
        writer.map(8 + optional.into_iter().filter(|there| *there).count())?;
        writer.uint(key::FORMAT)?;
        writer.uint(FORMAT)?;
        writer.uint(key::BUNDLE)?;
        writer.bytes(&self.bundle.0)?;
        writer.uint(key::HEADER)?;
        writer.bytes(&header)?;
        if let Some(devices) = self.terms.devices.as_ref().filter(|devices| !devices.is_empty()) {
            writer.uint(key::DEVICES)?;
            writer.array(devices.len())?;
            devices.iter().try_for_each(|device| writer.text(device))?;
        }
        if let Some(first) = self.terms.first {
            writer.uint(key::FIRST)?;
            writer.uint(first.into())?;
        }
        writer.uint(percent.0)?;
        writer.uint(percent.1)?;
        writer.uint(key::STATE)?;
        writer.uint(State::ALL.iter().position(|one| *one == self.state).unwrap_or(0) as u64)?;
        writer.uint(key::STARTED)?;
        writer.uint(self.started_unix_ms.max(0) as u64)?;
        if let Some(ended) = self.ended_unix_ms {
            writer.uint(key::ENDED)?;
            writer.uint(ended.max(0) as u64)?;
        }
        writer.uint(key::REASON)?;
        writer.text(&self.reason)?;
        writer.uint(key::NAME)?;
        writer.bytes(&self.release.name().0)?;
        let length = writer.len();
        out.truncate(length);
        Ok(out)
    }

    /// Without its members.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Campaign, FormError> {
        let mut reader = Reader::new(bytes);
        let (mut format, mut bundle, mut header, mut name) = (None, None, None, None);
        let (mut devices, mut first, mut halt_at) = (None, None, None);
        let (mut state, mut started, mut ended, mut reason) = (None, None, None, None);
        let mut fields = Fields::of(&mut reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
                key::BUNDLE => bundle = Some(Digest(*fields.array()?)),
                key::HEADER => header = Some(fields.value().bytes()?),
                key::DEVICES => devices = Some(read_devices(&mut fields, key)?),
                key::FIRST => first = Some(fields.number(1..=u32::MAX)?),
                key::HALT_COUNT => halt_at = Some(HaltAt::Devices(fields.number(1..=u32::MAX)?)),
                key::HALT_PERCENT => halt_at = Some(HaltAt::Percent(fields.number(1..=100)?)),
                key::STATE => {
                    let number = fields.number(0..=State::ALL.len() as u64 - 1)?;
                    state = State::ALL.get(number as usize).copied();
                }
                key::STARTED => started = Some(fields.number(0..=i64::MAX as u64)? as i64),
                key::ENDED => ended = Some(fields.number(0..=i64::MAX as u64)? as i64),
                key::REASON => reason = Some(fields.text(MAX_REASON)?.to_owned()),
                key::NAME => name = Some(Digest(*fields.array()?)),
                _ => fields.skip()?,
            }
        }
        reader.end()?;
        required(format, key::FORMAT)?;
        let (header, name) = (required(header, key::HEADER)?, required(name, key::NAME)?);
        let release = Release::read_named(header, |_| name);
        Ok(Campaign {
            bundle: required(bundle, key::BUNDLE)?,
            release: release.map_err(|_| FormError::range(key::HEADER))?,
            terms: Terms { devices, first, halt_at: required(halt_at, key::HALT_COUNT)? },
            state: required(state, key::STATE)?,
            started_unix_ms: required(started, key::STARTED)?,
            ended_unix_ms: ended,
            reason: required(reason, key::REASON)?,
            members: BTreeMap::new(),
        })
    }
}

fn read_devices(fields: &mut Fields<'_, '_>, key: u64) -> Result<BTreeSet<Arc<str>>, FormError> {
    let count = fields.value().array()?;
    if !(1..=MAX_LISTED).contains(&count) {
        return Err(FormError::range(key));
    }
    let mut devices = BTreeSet::new();
    for _ in 0..count {
        devices.insert(fields.text(MAX_NAME)?.into());
    }
    Ok(devices)
}
