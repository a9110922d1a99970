//! A release is offered, taken or refused, and ordered about.

use core::fmt;

use super::{begin, bytes, kind, number};
use crate::cbor::{Fields, FormError, Full, Writer, required};

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
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Offer<'a>, FormError> {
        let (mut campaign, mut envelope) = (None, None);
        let (mut second, mut key_set) = (None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => campaign = Some(fields.value().uint()?),
                2 => envelope = Some(fields.value().bytes()?),
                3 => second = Some(fields.value().bytes()?),
                4 => key_set = Some(fields.value().bytes()?),
                _ => fields.skip()?,
            }
        }
        Ok(Offer {
            campaign: required(campaign, 1)?,
            envelope: required(envelope, 2)?,
            second,
            key_set,
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
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Answer, FormError> {
        let (mut campaign, mut verdict) = (None, None);
        let (mut seconds, mut code) = (None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => campaign = Some(fields.value().uint()?),
                2 => verdict = Some(fields.number(0..=2u8)?),
                3 => seconds = Some(fields.number(0..=u32::MAX)?),
                4 => code = Some(fields.number(1..=u8::MAX)?),
                _ => fields.skip()?,
            }
        }
        let verdict = match required(verdict, 2)? {
            0 => Verdict::Accept,
            1 => Verdict::Defer(required(seconds, 3)?),
            _ => Verdict::Reject(Refusal::of(required(code, 4)?)),
        };
        Ok(Answer { campaign: required(campaign, 1)?, verdict })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let more = usize::from(self.verdict != Verdict::Accept);
        begin(writer, kind::ANSWER, 2 + more)?;
        number(writer, 1, self.campaign)?;
        match self.verdict {
            Verdict::Accept => number(writer, 2, 0u8),
            Verdict::Defer(seconds) => {
                number(writer, 2, 1u8)?;
                number(writer, 3, seconds)
            }
            Verdict::Reject(refusal) => {
                number(writer, 2, 2u8)?;
                number(writer, 4, refusal.code())
            }
        }
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
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Command, FormError> {
        let (mut campaign, mut order) = (None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => campaign = Some(fields.value().uint()?),
                2 => {
                    order = Some(match fields.number(1..=u8::MAX)? {
                        1 => Order::Apply,
                        2 => Order::Cancel,
                        3 => Order::Hello,
                        other => Order::Other(other),
                    });
                }
                _ => fields.skip()?,
            }
        }
        Ok(Command { campaign: required(campaign, 1)?, order: required(order, 2)? })
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
