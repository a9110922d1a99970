//! How far a device is with a release.

use super::{begin, kind, number};
use crate::cbor::{Fields, FormError, Full, Writer, required};

/// How far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has taken the offer, and asks for blocks.
    Accepted,
    /// Everything is in flash, and right.
    Staged,
    /// It has been started, on trial.
    Trial,
    /// It has proved itself; there is no way back.
    Confirmed,
    /// It has not, and what ran before runs again.
    Reverted,
    /// It was given up before anything was started.
    Failed,
    /// Something that a later version knows.
    Other(u8),
}

const PHASES: [Phase; 6] = [
    Phase::Accepted,
    Phase::Staged,
    Phase::Trial,
    Phase::Confirmed,
    Phase::Reverted,
    Phase::Failed,
];

impl Phase {
    /// Its number, from 1.
    #[must_use]
    pub fn code(self) -> u8 {
        if let Phase::Other(code) = self {
            return code;
        }
        PHASES.iter().position(|known| *known == self).map_or(0, |at| at as u8 + 1)
    }

    /// What a number means.
    #[must_use]
    pub fn of(code: u8) -> Phase {
        let known = usize::from(code).checked_sub(1).and_then(|at| PHASES.get(at));
        known.copied().unwrap_or(Phase::Other(code))
    }
}

/// Sent again until it is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Names the report until it is received.
    pub number: u32,
    /// The campaign; 0 when the device has forgotten it.
    pub campaign: u64,
    /// Sequence that ran when it was offered.
    pub from: u64,
    /// Sequence of the release.
    pub to: u64,
    /// How far the device is.
    pub phase: Phase,
    /// Why it failed or reverted: a [`super::Refusal`]'s code; 0 when it did not.
    pub code: u8,
    /// Requests that had to be repeated.
    pub retries: u32,
    /// Bytes of blocks that have come in.
    pub bytes: u32,
}

impl Report {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Report, FormError> {
        let mut values = [None; 6];
        let (mut phase, mut code) = (None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 | 7 | 8 => {
                    let at = if key == 1 { 0 } else { key as usize - 3 };
                    values[at] = Some(fields.number(0..=u32::MAX)?.into());
                }
                2..=4 => values[key as usize - 1] = Some(fields.value().uint()?),
                5 => phase = Some(Phase::of(fields.number(1..=u8::MAX)?)),
                6 => code = Some(fields.number(0..=u8::MAX)?),
                _ => fields.skip()?,
            }
        }
        let small = |value: Option<u64>, key| {
            // Read as a `u32` above.
            required(value, key).map(|value: u64| value as u32)
        };
        Ok(Report {
            number: small(values[0], 1)?,
            campaign: required(values[1], 2)?,
            from: required(values[2], 3)?,
            to: required(values[3], 4)?,
            phase: required(phase, 5)?,
            code: required(code, 6)?,
            retries: small(values[4], 7)?,
            bytes: small(values[5], 8)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::REPORT, 8)?;
        number(writer, 1, self.number)?;
        number(writer, 2, self.campaign)?;
        number(writer, 3, self.from)?;
        number(writer, 4, self.to)?;
        number(writer, 5, self.phase.code())?;
        number(writer, 6, self.code)?;
        number(writer, 7, self.retries)?;
        number(writer, 8, self.bytes)
    }
}

/// The gateway has a report; it is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The report's number.
    pub number: u32,
}

impl Received {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Received, FormError> {
        let mut report = None;
        while let Some(key) = fields.next_key()? {
            match key {
                1 => report = Some(fields.number(0..=u32::MAX)?),
                _ => fields.skip()?,
            }
        }
        Ok(Received { number: required(report, 1)? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::RECEIVED, 1)?;
        number(writer, 1, self.number)
    }
}
