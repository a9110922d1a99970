//! How far a device is with a release.

use super::{begin, kind, number};
use crate::cbor::{Field, Fields, FormError, Full, Writer};

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
    const TABLE: [Field; 8] = [
        Field::number(1, 0..=u32::MAX).required(),
        Field::long(2, 0).required(),
        Field::long(3, 0).required(),
        Field::long(4, 0).required(),
        Field::number(5, 1..=u8::MAX as u32).required(),
        Field::number(6, 0..=u8::MAX as u32).required(),
        Field::number(7, 0..=u32::MAX).required(),
        Field::number(8, 0..=u32::MAX).required(),
    ];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Report, FormError> {
        let [number, campaign, from, to, phase, code, retries, bytes] =
            fields.rest(&Report::TABLE)?;
        Ok(Report {
            number: number.number(),
            campaign: campaign.long(),
            from: from.long(),
            to: to.long(),
            phase: Phase::of(phase.byte()),
            code: code.byte(),
            retries: retries.number(),
            bytes: bytes.number(),
        })
    }

    /// Writes it as a message; answers the bytes written.
    ///
    /// # Errors
    /// `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(out);
        begin(&mut writer, kind::REPORT, 8)?;
        let numbers: [u64; 8] = [
            self.number.into(),
            self.campaign,
            self.from,
            self.to,
            self.phase.code().into(),
            self.code.into(),
            self.retries.into(),
            self.bytes.into(),
        ];
        for (key, value) in (1..).zip(numbers) {
            number(&mut writer, key, value)?;
        }
        Ok(writer.len())
    }
}

/// The gateway has a report; it is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The report's number.
    pub number: u32,
}

impl Received {
    const TABLE: [Field; 1] = [Field::number(1, 0..=u32::MAX).required()];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Received, FormError> {
        let [number] = fields.rest(&Received::TABLE)?;
        Ok(Received { number: number.number() })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::RECEIVED, 1)?;
        number(writer, 1, self.number)
    }
}
