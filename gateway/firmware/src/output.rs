//! What the desk wants done.

use std::sync::Arc;

use tidegate_wire::digest::Digest;
use tidegate_wire::message::{Block, MAX_MESSAGE, Message};

use crate::member::Stage;

/// The way to a device: that by which it spoke last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// MQTT.
    Mqtt,
    /// A channel of a serial link.
    Line,
}

/// What a message is, and so by which topic it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// `tg/{device}/ota/offer`
    Offer,
    /// `tg/{device}/ota/blk`
    Block,
    /// `tg/{device}/ota/cmd`
    Command,
}

impl Topic {
    /// Its last level.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Topic::Offer => "offer",
            Topic::Block => "blk",
            Topic::Command => "cmd",
        }
    }
}

/// A message for a device. It may be lost: what matters is said again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whom it is for.
    pub device: Arc<str>,
    /// Which way.
    pub via: Via,
    /// What it is.
    pub topic: Topic,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A block that is to be read from a bundle and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The campaign that it belongs to.
    pub campaign: u64,
    /// Whom it is for.
    pub device: Arc<str>,
    /// Which way.
    pub via: Via,
    /// The bundle, by the SHA-256 of its file.
    pub bundle: Digest,
    /// Where in the file.
    pub at: u64,
    /// Bytes, 1 to 1,024.
    pub length: u16,
    /// The block's number, and the tag of its request.
    pub index: u32,
    /// See [`Read::index`].
    pub tag: u8,
}

impl Read {
    /// The message, once the bytes are there; `None` when they are others than were wanted.
    #[must_use]
    pub fn letter(&self, data: &[u8]) -> Option<Letter> {
        if data.len() != usize::from(self.length) {
            return None;
        }
        let block = Block { tag: self.tag, index: self.index, data };
        let (device, via) = (self.device.clone(), self.via);
        Some(Letter { device, via, topic: Topic::Block, bytes: written(&Message::Block(block))? })
    }
}

/// What is to be put down together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys, with their values; `None` removes.
    pub changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What is told of it.
    pub notes: Vec<Note>,
    /// What may leave only when this, and everything before it, is on flash.
    pub then: Vec<Letter>,
}

/// Something that people want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// As many devices are known as can be, and one was forgotten for another.
    Forgotten {
        /// Which device.
        device: Arc<str>,
        /// For which.
        newcomer: Arc<str>,
    },
    /// A campaign has begun or ended.
    Campaign {
        /// Which one.
        campaign: u64,
        /// Its state's name.
        state: &'static str,
        /// Sequence of its release.
        sequence: u64,
        /// Why it ended.
        reason: String,
    },
    /// A device has come to a stage.
    Device {
        /// Which campaign.
        campaign: u64,
        /// Which device.
        device: Arc<str>,
        /// Where it is.
        stage: Stage,
        /// Sequence of the release.
        sequence: u64,
        /// Why, as a code of the messages; 0: nothing is wrong.
        code: u8,
        /// Bytes of blocks that it says to have had.
        bytes: u32,
        /// Requests that it says to have repeated.
        retries: u32,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send it.
    Send(Letter),
    /// Read it, and tell [`crate::Desk::handle_read`].
    Read(Read),
    /// Put it down.
    Store(Batch),
}

/// The bytes of a message; `None` never, for those that the desk makes.
pub(crate) fn written(message: &Message<'_>) -> Option<Vec<u8>> {
    let mut out = [0; MAX_MESSAGE];
    let length = message.write(&mut out).ok()?;
    out.get(..length).map(<[u8]>::to_vec)
}
