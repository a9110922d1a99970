//! How far one device is with one campaign.

use std::time::Instant;

use tidegate_wire::cbor::{Fields, FormError, Full, Reader, Writer, required};
use tidegate_wire::message::{Phase, Refusal, Report};

/// Version of the table.
const FORMAT: u64 = 1;
/// Most bytes of an entry.
const MAX_ENTRY: usize = 64;
/// Reports of a device about one campaign that are written down; further ones only when they say
/// how it ended, so that no device can wear the flash out.
const MAX_REPORTS: u16 = 32;
/// The same, of those that say how it ended.
const MAX_ENDINGS: u16 = 48;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const STAGE: u64 = 1;
    pub(super) const CODE: u64 = 2;
    pub(super) const RETRIES: u64 = 3;
    pub(super) const BYTES: u64 = 4;
    pub(super) const SINCE: u64 = 5;
    pub(super) const REPORTS: u64 = 6;
}

/// How far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has not answered an offer.
    Waiting,
    /// It has taken it, and loads.
    Accepted,
    /// It has everything.
    Staged,
    /// It runs it on trial.
    Trial,
    /// It has proved itself there.
    Confirmed,
    /// It has gone back to what ran before.
    Reverted,
    /// It has given it up.
    Failed,
    /// It does not take it.
    Rejected,
    /// The gateway has forgotten the device before it came to an end.
    Forgotten,
}

impl Stage {
    /// In the order of their numbers.
    pub const ALL: [Stage; 9] = [
        Stage::Waiting,
        Stage::Accepted,
        Stage::Staged,
        Stage::Trial,
        Stage::Confirmed,
        Stage::Reverted,
        Stage::Failed,
        Stage::Rejected,
        Stage::Forgotten,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Accepted => "accepted",
            Stage::Staged => "staged",
            Stage::Trial => "trial",
            Stage::Confirmed => "confirmed",
            Stage::Reverted => "reverted",
            Stage::Failed => "failed",
            Stage::Rejected => "rejected",
            Stage::Forgotten => "forgotten",
        }
    }

    /// Whether nothing more is to come.
    #[must_use]
    pub fn is_end(self) -> bool {
        self >= Stage::Confirmed
    }

    /// What a report says; `None` for what a later version knows.
    pub(crate) fn of(phase: Phase) -> Option<Stage> {
        match phase {
            Phase::Accepted => Some(Stage::Accepted),
            Phase::Staged => Some(Stage::Staged),
            Phase::Trial => Some(Stage::Trial),
            Phase::Confirmed => Some(Stage::Confirmed),
            Phase::Reverted => Some(Stage::Reverted),
            Phase::Failed => Some(Stage::Failed),
            Phase::Other(_) => None,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) stage: Stage,
    /// Why it failed, was taken back or rejected: a [`Refusal`]'s code.
    pub(crate) code: u8,
    pub(crate) retries: u32,
    pub(crate) bytes: u32,
    /// When it came to this stage, in milliseconds since 1970.
    pub(crate) since_unix_ms: i64,
    pub(crate) reports: u16,
    /// Not to be offered before; not kept.
    pub(crate) again: Option<Instant>,
    /// Offers without an answer; not kept.
    pub(crate) offers: u32,
    /// It is taken for busy with the release until then; not kept.
    pub(crate) busy_until: Option<Instant>,
    /// Bytes of blocks that were sent since the start of the gateway.
    pub(crate) sent: u64,
}

impl Member {
    pub(crate) fn new(since_unix_ms: i64) -> Member {
        Member {
            stage: Stage::Waiting,
            code: 0,
            retries: 0,
            bytes: 0,
            since_unix_ms,
            reports: 0,
            again: None,
            offers: 0,
            busy_until: None,
            sent: 0,
        }
    }

    /// Whether it stands against the campaign.
    pub(crate) fn is_failure(&self) -> bool {
        match self.stage {
            Stage::Reverted => true,
            Stage::Failed => self.code != Refusal::Cancelled.code(),
            Stage::Waiting
            | Stage::Accepted
            | Stage::Staged
            | Stage::Trial
            | Stage::Confirmed
            | Stage::Rejected
            | Stage::Forgotten => false,
        }
    }

    /// Whether it takes a place among those that load at a time.
    pub(crate) fn is_loading(&self, now: Instant) -> bool {
        let busy = self.busy_until.is_some_and(|until| until > now);
        busy && matches!(self.stage, Stage::Waiting | Stage::Accepted)
    }

    /// It wants to be asked later.
    pub(crate) fn defer(&mut self, again: Instant) {
        self.again = Some(again);
        (self.busy_until, self.offers) = (None, 0);
    }

    /// Takes in a report; false when it says nothing new, or too much was said.
    pub(crate) fn take(&mut self, stage: Stage, report: &Report, unix_ms: i64) -> bool {
        let most = if stage.is_end() { MAX_ENDINGS } else { MAX_REPORTS };
        let same = self.stage == stage && self.code == report.code;
        if same || self.reports >= most {
            return false;
        }
        self.reports += 1;
        (self.stage, self.code, self.since_unix_ms) = (stage, report.code, unix_ms);
        (self.retries, self.bytes) = (report.retries, report.bytes);
        true
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Full> {
        let mut out = [0; MAX_ENTRY];
        let mut writer = Writer::new(&mut out);
        let numbers = [
            (key::FORMAT, FORMAT),
            (key::STAGE, Stage::ALL.iter().position(|one| *one == self.stage).unwrap_or(0) as u64),
            (key::CODE, self.code.into()),
            (key::RETRIES, self.retries.into()),
            (key::BYTES, self.bytes.into()),
            (key::SINCE, self.since_unix_ms.max(0) as u64),
            (key::REPORTS, self.reports.into()),
        ];
        writer.map(numbers.len())?;
        for (key, number) in numbers {
            writer.uint(key)?;
            writer.uint(number)?;
        }
        let length = writer.len();
        Ok(out.get(..length).unwrap_or_default().to_vec())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Member, FormError> {
        let mut reader = Reader::new(bytes);
        let mut member = Member::new(0);
        let (mut format, mut stage) = (None, None);
        let mut fields = Fields::of(&mut reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
                key::STAGE => {
                    let number = fields.number(0..=Stage::ALL.len() as u64 - 1)?;
                    stage = Stage::ALL.get(number as usize).copied();
                }
                key::CODE => member.code = fields.number(0..=u8::MAX)?,
                key::RETRIES => member.retries = fields.number(0..=u32::MAX)?,
                key::BYTES => member.bytes = fields.number(0..=u32::MAX)?,
                // At most `i64::MAX`.
                key::SINCE => {
                    member.since_unix_ms = fields.number(0..=i64::MAX as u64)? as i64;
                }
                key::REPORTS => member.reports = fields.number(0..=u16::MAX)?,
                _ => fields.skip()?,
            }
        }
        reader.end()?;
        required(format, key::FORMAT)?;
        Ok(Member { stage: required(stage, key::STAGE)?, ..member })
    }
}
