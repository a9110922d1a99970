//! A release is offered, taken or refused, and ordered about.

use core::fmt;

use super::{begin, bytes, kind, number};
use crate::cbor::{Field, Fields, FormError, Full, Writer};

/// The gateway has a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Which rollout it belongs to; the device repeats it in its reports.
    pub campaign: u64,
    /// The manifest in its envelope.
    pub envelope: &'a [u8],
    /// A second signature of the manifest, detached.
    pub second: Option<&'a [u8]>,
    /// A key set in its envelope, newer than the device's.
    pub key_set: Option<&'a [u8]>,
}

impl<'a> Offer<'a> {
    const TABLE: [Field; 4] = [
        Field::long(1, 0).required(),
        Field::bytes(2, 0..=u32::MAX).required(),
        Field::bytes(3, 0..=u32::MAX),
        Field::bytes(4, 0..=u32::MAX),
    ];

    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Offer<'a>, FormError> {
        let [campaign, envelope, second, key_set] = fields.rest(&Offer::TABLE)?;
        Ok(Offer {
            campaign: campaign.long(),
            envelope: envelope.bytes().unwrap_or_default(),
            second: second.bytes(),
            key_set: key_set.bytes(),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let more = usize::from(self.second.is_some()) + usize::from(self.key_set.is_some());
        begin(writer, kind::OFFER, 2 + more)?;
        number(writer, 1, self.campaign)?;
        bytes(writer, 2, self.envelope)?;
        if let Some(second) = self.second {
            bytes(writer, 3, second)?;
        }
        if let Some(key_set) = self.key_set {
            bytes(writer, 4, key_set)?;
        }
        Ok(())
    }
}

/// Why a device does not take a release, or gives it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The manifest is not of a form that this device understands.
    Form,
    /// It is not signed as the device's key set demands.
    Signature,
    /// The key set is broken, signed by no root, or older than the device's.
    KeySet,
    /// For another vendor.
    Vendor,
    /// For another class.
    Class,
    /// For other devices of the class.
    Device,
    /// Its sequence is not above the device's.
    Sequence,
    /// Its sequence is below the device's floor.
    Floor,
    /// Its sequence is above what the key set allows.
    SequenceCap,
    /// The device runs none of the sequences that it is an upgrade from.
    Current,
    /// The device cannot do what it needs.
    Needs,
    /// It is too old.
    Expired,
    /// An image fits no place of the device.
    Size,
    /// No entry of a component can be used here: its side, encoding or base.
    Component,
    /// What the device may write, or try again, in a day is used up.
    Budget,
    /// It has failed here before.
    FailedBefore,
    /// The device's flash does not do what it should.
    Flash,
    /// What has travelled is not what the manifest says.
    Content,
    /// The self-test has not passed in time, or has failed.
    SelfTest,
    /// The gateway was not reached in time.
    Contact,
    /// It has been started as often as it may be, and has not proved itself.
    Attempts,
    /// It was cancelled.
    Cancelled,
    /// Something that a later version knows.
    Other(u8),
}

const REFUSALS: [Refusal; 22] = [
    Refusal::Form,
    Refusal::Signature,
    Refusal::KeySet,
    Refusal::Vendor,
    Refusal::Class,
    Refusal::Device,
    Refusal::Sequence,
    Refusal::Floor,
    Refusal::SequenceCap,
    Refusal::Current,
    Refusal::Needs,
    Refusal::Expired,
    Refusal::Size,
    Refusal::Component,
    Refusal::Budget,
    Refusal::FailedBefore,
    Refusal::Flash,
    Refusal::Content,
    Refusal::SelfTest,
    Refusal::Contact,
    Refusal::Attempts,
    Refusal::Cancelled,
];

impl Refusal {
    /// Its number, from 1.
    #[must_use]
    pub fn code(self) -> u8 {
        if let Refusal::Other(code) = self {
            return code;
        }
        REFUSALS.iter().position(|known| *known == self).map_or(0, |at| at as u8 + 1)
    }

    /// What a number means.
    #[must_use]
    pub fn of(code: u8) -> Refusal {
        let known = usize::from(code).checked_sub(1).and_then(|at| REFUSALS.get(at));
        known.copied().unwrap_or(Refusal::Other(code))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::Form => "the manifest is malformed",
            Refusal::Signature => "the manifest is not signed by keys that the device trusts",
            Refusal::KeySet => "the key set is not signed by root, or is older than the device's",
            Refusal::Vendor => "it is for another vendor",
            Refusal::Class => "it is for another class of devices",
            Refusal::Device => "it is for other devices of the class",
            Refusal::Sequence => "its sequence is not above the one that the device runs",
            Refusal::Floor => "its sequence is below the device's floor",
            Refusal::SequenceCap => "its sequence is above the key set's cap",
            Refusal::Current => "it is no upgrade of what the device runs",
            Refusal::Needs => "the device lacks what it needs",
            Refusal::Expired => "it has expired",
            Refusal::Size => "an image does not fit the device",
            Refusal::Component => "no entry of a component can be used by the device",
            Refusal::Budget => "the device has written or tried enough for a day",
            Refusal::FailedBefore => "it has failed on the device before",
            Refusal::Flash => "the device's flash has failed",
            Refusal::Content => "what has travelled is not what the manifest says",
            Refusal::SelfTest => "the self-test has failed, or has not passed in time",
            Refusal::Contact => "the gateway was not reached in time",
            Refusal::Attempts => "it has not proved itself in the starts that it had",
            Refusal::Cancelled => "it was cancelled",
            Refusal::Other(code) => return write!(f, "refused with code {code}"),
        })
    }
}

/// What the device does with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes it.
    Accept,
    /// It wants to be asked again after so many seconds.
    Defer(u32),
    /// It does not take it.
    Reject(Refusal),
}

/// The device's answer to an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The campaign of the offer.
    pub campaign: u64,
    /// What it does.
    pub verdict: Verdict,
}

impl Answer {
    const TABLE: [Field; 4] = [
        Field::long(1, 0).required(),
        Field::number(2, 0..=2).required(),
        Field::number(3, 0..=u32::MAX),
        Field::number(4, 1..=u8::MAX as u32),
    ];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Answer, FormError> {
        let [campaign, verdict, seconds, code] = fields.rest(&Answer::TABLE)?;
        let verdict = match (verdict.byte(), seconds.is_there(), code.is_there()) {
            (0, ..) => Verdict::Accept,
            (1, true, _) => Verdict::Defer(seconds.number()),
            (1, false, _) => return Err(FormError::Missing { key: 3 }),
            (_, _, true) => Verdict::Reject(Refusal::of(code.byte())),
            (_, _, false) => return Err(FormError::Missing { key: 4 }),
        };
        Ok(Answer { campaign: campaign.long(), verdict })
    }

    /// Writes it as a message; answers the bytes written.
    ///
    /// # Errors
    /// `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let (verdict, more) = match self.verdict {
            Verdict::Accept => (0u8, None),
            Verdict::Defer(seconds) => (1, Some((3, seconds))),
            Verdict::Reject(refusal) => (2, Some((4, refusal.code().into()))),
        };
        let mut writer = Writer::new(out);
        begin(&mut writer, kind::ANSWER, 2 + usize::from(more.is_some()))?;
        number(&mut writer, 1, self.campaign)?;
        number(&mut writer, 2, verdict)?;
        if let Some((key, value)) = more {
            number(&mut writer, key, value)?;
        }
        Ok(writer.len())
    }
}

/// What to do with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start into it, where its policy leaves that to be asked.
    Apply,
    /// Forget it.
    Cancel,
    /// Say hello again.
    Hello,
    /// Something that a later version knows.
    Other(u8),
}

/// An order about a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which one.
    pub campaign: u64,
    /// What to do.
    pub order: Order,
}

impl Command {
    const TABLE: [Field; 2] =
        [Field::long(1, 0).required(), Field::number(2, 1..=u8::MAX as u32).required()];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Command, FormError> {
        let [campaign, order] = fields.rest(&Command::TABLE)?;
        let order = match order.byte() {
            1 => Order::Apply,
            2 => Order::Cancel,
            3 => Order::Hello,
            other => Order::Other(other),
        };
        Ok(Command { campaign: campaign.long(), order })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::COMMAND, 2)?;
        number(writer, 1, self.campaign)?;
        number(
            writer,
            2,
            match self.order {
                Order::Apply => 1,
                Order::Cancel => 2,
                Order::Hello => 3,
                Order::Other(other) => other,
            },
        )
    }
}
