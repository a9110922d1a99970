//! What gateway and device say to each other about firmware: docs/formats/device-messages.md.
//!
//! A message is one map; key 0 says which. The same bytes travel as MQTT payloads and on the
//! channel [`CHANNEL`] of a serial link.
//!
//! Invariant: what is read is within the ranges of the tables, whatever the peer sent. A kind that
//! this version does not know is [`Message::Unknown`], to be passed over.
//!
//! Not here: who may send what, and when.

mod hello;
mod offer;
mod report;
mod transfer;

#[cfg(test)]
mod tests;

pub use hello::{Hello, Installed, InstalledList, Reason, Welcome};
pub use offer::{Answer, Command, Offer, Order, Refusal, Verdict};
pub use report::{Phase, Received, Report};
pub use transfer::{Block, MAX_TAG, Request};

use crate::cbor::{Fields, FormError, Full, Reader, Writer};

/// Version of the upgrade protocol.
pub const PROTOCOL: u8 = 1;
/// The channel of these messages on a serial link.
pub const CHANNEL: u8 = 1;
/// Most bytes of a message: an offer with a key set and two signatures.
pub const MAX_MESSAGE: usize = 1_664;

/// What a device can do, as bits.
pub mod capability {
    /// Decodes heatshrink.
    pub const HEATSHRINK: u64 = 1;
    /// Decodes changes to the image that runs.
    pub const DELTA: u64 = 1 << 1;
    /// Runs images in place, at either side.
    pub const IN_PLACE: u64 = 1 << 2;
    /// Takes key sets.
    pub const KEY_SETS: u64 = 1 << 3;
}

/// Numbers of the kinds.
mod kind {
    pub(super) const HELLO: u64 = 1;
    pub(super) const OFFER: u64 = 2;
    pub(super) const ANSWER: u64 = 3;
    pub(super) const REQUEST: u64 = 4;
    pub(super) const BLOCK: u64 = 5;
    pub(super) const COMMAND: u64 = 6;
    pub(super) const REPORT: u64 = 7;
    pub(super) const RECEIVED: u64 = 8;
    pub(super) const WELCOME: u64 = 9;
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "messages are read, looked at once, and dropped")]
pub enum Message<'a> {
    /// Device: what it is and runs.
    Hello(Hello<'a>),
    /// Gateway: the answer to that.
    Welcome(Welcome),
    /// Gateway: a release.
    Offer(Offer<'a>),
    /// Device: whether it takes it.
    Answer(Answer),
    /// Device: which blocks it wants.
    Request(Request),
    /// Gateway: one of them.
    Block(Block<'a>),
    /// Gateway: what to do with a release.
    Command(Command),
    /// Device: how far it is.
    Report(Report),
    /// Gateway: that it has a report.
    Received(Received),
    /// Something that a later version knows.
    Unknown(u64),
}

/// What a gateway says. A device reads this, so that nothing is linked that reads what devices say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToDevice<'a> {
    /// See [`Message::Welcome`].
    Welcome(Welcome),
    /// See [`Message::Offer`].
    Offer(Offer<'a>),
    /// See [`Message::Block`].
    Block(Block<'a>),
    /// See [`Message::Command`].
    Command(Command),
    /// See [`Message::Received`].
    Received(Received),
    /// Something that a later version knows, or that devices say.
    Unknown(u64),
}

impl<'a> ToDevice<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn read(bytes: &'a [u8]) -> Result<ToDevice<'a>, FormError> {
        let mut reader = Reader::new(bytes);
        let mut fields = Fields::of(&mut reader)?;
        let kind = fields.kind()?;
        let message = ToDevice::rest(kind, &mut fields)?;
        reader.end()?;
        Ok(message)
    }

    fn rest(kind: u64, fields: &mut Fields<'_, 'a>) -> Result<ToDevice<'a>, FormError> {
        Ok(match kind {
            kind::OFFER => ToDevice::Offer(Offer::read(fields)?),
            kind::BLOCK => ToDevice::Block(Block::read(fields)?),
            kind::COMMAND => ToDevice::Command(Command::read(fields)?),
            kind::RECEIVED => ToDevice::Received(Received::read(fields)?),
            kind::WELCOME => ToDevice::Welcome(Welcome::read(fields)?),
            unknown => {
                fields.rest(&[])?;
                ToDevice::Unknown(unknown)
            }
        })
    }
}

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn read(bytes: &'a [u8]) -> Result<Message<'a>, FormError> {
        let mut reader = Reader::new(bytes);
        let mut fields = Fields::of(&mut reader)?;
        let message = match fields.kind()? {
            kind::HELLO => Message::Hello(Hello::read(&mut fields)?),
            kind::ANSWER => Message::Answer(Answer::read(&mut fields)?),
            kind::REQUEST => Message::Request(Request::read(&mut fields)?),
            kind::REPORT => Message::Report(Report::read(&mut fields)?),
            other => ToDevice::rest(other, &mut fields)?.into(),
        };
        reader.end()?;
        Ok(message)
    }

    /// Writes it; answers the bytes written. A device writes each of its messages by their own
    /// functions, so that nothing is linked that writes what gateways say.
    ///
    /// # Errors
    /// `out` is too small. An unknown message cannot be written: [`Full`] as well.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(out);
        match self {
            Message::Hello(hello) => return hello.write(out),
            Message::Answer(answer) => return answer.write(out),
            Message::Request(request) => return request.write(out),
            Message::Report(report) => return report.write(out),
            Message::Welcome(welcome) => welcome.write(&mut writer)?,
            Message::Offer(offer) => offer.write(&mut writer)?,
            Message::Block(block) => block.write(&mut writer)?,
            Message::Command(command) => command.write(&mut writer)?,
            Message::Received(received) => received.write(&mut writer)?,
            Message::Unknown(_) => return Err(Full),
        }
        Ok(writer.len())
    }
}

impl<'a> From<ToDevice<'a>> for Message<'a> {
    fn from(message: ToDevice<'a>) -> Message<'a> {
        match message {
            ToDevice::Welcome(welcome) => Message::Welcome(welcome),
            ToDevice::Offer(offer) => Message::Offer(offer),
            ToDevice::Block(block) => Message::Block(block),
            ToDevice::Command(command) => Message::Command(command),
            ToDevice::Received(received) => Message::Received(received),
            ToDevice::Unknown(kind) => Message::Unknown(kind),
        }
    }
}

/// The head of a message: its map, and its kind.
fn begin(writer: &mut Writer<'_>, kind: u64, pairs: usize) -> Result<(), Full> {
    writer.map(1 + pairs)?;
    number(writer, 0, kind)
}

/// A key and a number. The key is a byte, so that it takes one register and not two.
fn number(writer: &mut Writer<'_>, key: u8, value: impl Into<u64>) -> Result<(), Full> {
    long(writer, key, value.into())
}

#[inline(never)]
fn long(writer: &mut Writer<'_>, key: u8, value: u64) -> Result<(), Full> {
    writer.uint(key.into())?;
    writer.uint(value)
}

/// A key and bytes.
#[inline(never)]
fn bytes(writer: &mut Writer<'_>, key: u8, value: &[u8]) -> Result<(), Full> {
    writer.uint(key.into())?;
    writer.bytes(value)
}

/// A key and text.
fn text(writer: &mut Writer<'_>, key: u8, value: &str) -> Result<(), Full> {
    writer.uint(key.into())?;
    writer.text(value)
}
