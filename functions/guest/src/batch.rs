//! What a function is given.

use crate::text::position;
use core::str::from_utf8;
use tidegate_abi::{
    BatchRandom, BatchReader, Entry, FrameError, InputFlags, Kind, Qos, properties,
};

/// A batch of records, in the order of their stream.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    reader: BatchReader<'a>,
}

impl<'a> Batch<'a> {
    pub(crate) fn open(frame: &'a [u8]) -> Result<Self, FrameError> {
        Ok(Self { reader: BatchReader::open(frame)? })
    }

    /// The records.
    pub fn messages(&self) -> impl Iterator<Item = Message<'a>> + use<'a> {
        (0..).zip(self.reader.entries()).map(|(index, entry)| Message { index, entry })
    }

    /// What kind its entries are of.
    pub(crate) fn kind(&self) -> Kind {
        self.reader.header().kind
    }

    /// The entries as they are in the frame.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        self.reader.entries()
    }

    /// The bytes of the whole frame.
    pub(crate) fn frame(&self) -> &'a [u8] {
        self.reader.frame()
    }

    /// Time of the batch, nanoseconds since 1970. The only clock there is: a replay of the
    /// batch sees the same time.
    pub fn now_ns(&self) -> i64 {
        self.reader.header().now_ns
    }

    /// The same for each attempt at the same records.
    pub fn id(&self) -> u64 {
        self.reader.header().batch_id
    }

    /// Whether the gateway wants to know of which record an output is.
    pub(crate) fn wants_causes(&self) -> bool {
        self.reader.header().flags.contains(InputFlags::CAUSES)
    }

    /// Random numbers, the same in each replay of the batch. Not for keys or secrets.
    pub fn random(&self) -> BatchRandom {
        BatchRandom::new(self.id())
    }
}

/// What an entry says. The gateway has checked it: whoever calls with another one is no gateway.
pub(crate) fn sound<T>(field: Option<T>) -> T {
    match field {
        Some(field) => field,
        None => malformed(),
    }
}

#[cold]
#[inline(never)]
fn malformed() -> ! {
    panic!("the input frame is malformed")
}

/// The first property of an entry with this name.
pub(crate) fn property<'a>(entry: &Entry<'a>, name: &str) -> Option<&'a str> {
    pairs(entry).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// The properties of an entry.
pub(crate) fn pairs<'a>(entry: &Entry<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    properties(sound(entry.props())).into_iter().flatten()
}

/// One record of a batch. What of it is not asked for costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub(crate) index: u32,
    entry: Entry<'a>,
}

impl<'a> Message<'a> {
    /// The topic it was published to.
    pub fn topic(&self) -> &'a str {
        sound(self.entry.topic())
    }

    /// The same as bytes: what is only copied need not be checked again.
    pub fn topic_bytes(&self) -> &'a [u8] {
        sound(self.entry.topic_bytes())
    }

    /// One level of the topic, counted from 0.
    pub fn topic_level(&self, level: usize) -> Option<&'a str> {
        // The slashes of UTF-8 have UTF-8 between them.
        self.topic_level_bytes(level).and_then(|level| from_utf8(level).ok())
    }

    /// The same as bytes.
    pub fn topic_level_bytes(&self, level: usize) -> Option<&'a [u8]> {
        let mut rest = sound(self.entry.topic_bytes());
        for _ in 0..level {
            rest = rest.get(position(rest, b'/')? + 1..)?;
        }
        let end = position(rest, b'/').unwrap_or(rest.len());
        rest.get(..end)
    }

    /// The bytes as published.
    pub fn payload(&self) -> &'a [u8] {
        sound(self.entry.payload())
    }

    /// Sequence number in its stream.
    pub fn seq(&self) -> u64 {
        sound(self.entry.seq())
    }

    /// Time of receipt, nanoseconds since 1970.
    pub fn time_ns(&self) -> i64 {
        sound(self.entry.ts_ns())
    }

    /// How many tries of it have failed and count: 0 at first.
    pub fn attempt(&self) -> u16 {
        sound(self.entry.attempt())
    }

    /// Quality of service it was published with.
    pub fn qos(&self) -> Qos {
        sound(self.entry.qos())
    }

    /// Whether it was published as a retained message.
    pub fn retained(&self) -> bool {
        sound(self.entry.retain())
    }

    /// Which of the function's inputs it came by, in the order of the configuration.
    pub fn source(&self) -> u32 {
        sound(self.entry.source())
    }

    /// The publisher's properties, in their order.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(&self.entry)
    }

    /// The first property with this name.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        property(&self.entry, name)
    }
}
