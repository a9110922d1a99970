//! What a function is given.

use crate::text::cut;
use tidegate_abi::{
    BatchRandom, BatchReader, FrameError, InputFlags, Kind, MessageRef, Qos, properties,
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
        self.entries().map(|(index, record)| Message { index, record })
    }

    /// What kind its entries are of.
    pub(crate) fn kind(&self) -> Kind {
        self.reader.header().kind
    }

    /// The entries as they are in the frame.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, MessageRef<'a>)> + use<'a> {
        let reader = self.reader;
        (0..reader.header().count).map(move |index| match reader.entry(index) {
            Some(entry) => (index, entry),
            // The gateway has checked it before: whoever calls with this is no gateway.
            None => panic!("the input frame is malformed"),
        })
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

/// One record of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub(crate) index: u32,
    record: MessageRef<'a>,
}

impl<'a> Message<'a> {
    /// The topic it was published to.
    pub fn topic(&self) -> &'a str {
        self.record.topic
    }

    /// One level of the topic, counted from 0.
    pub fn topic_level(&self, level: usize) -> Option<&'a str> {
        let (mut found, mut rest) = cut(self.record.topic, b'/');
        for _ in 0..level {
            (found, rest) = cut(rest?, b'/');
        }
        Some(found)
    }

    /// The bytes as published.
    pub fn payload(&self) -> &'a [u8] {
        self.record.payload
    }

    /// Sequence number in its stream.
    pub fn seq(&self) -> u64 {
        self.record.seq
    }

    /// Time of receipt, nanoseconds since 1970.
    pub fn time_ns(&self) -> i64 {
        self.record.ts_ns
    }

    /// How many tries of it have failed and count: 0 at first.
    pub fn attempt(&self) -> u16 {
        self.record.attempt
    }

    /// Quality of service it was published with.
    pub fn qos(&self) -> Qos {
        self.record.qos
    }

    /// Whether it was published as a retained message.
    pub fn retained(&self) -> bool {
        self.record.retain
    }

    /// Which of the function's inputs it came by, in the order of the configuration.
    pub fn source(&self) -> u32 {
        self.record.source
    }

    /// The publisher's properties, in their order.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        // The gateway has checked them.
        properties(self.record.props).into_iter().flatten()
    }

    /// The first property with this name.
    pub fn property(&self, name: &str) -> Option<&'a str> {
        self.properties().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}
