//! Records and their encoding inside a Records section.
//!
//! Records of one stream follow each other without gaps in sequence, so the section's header
//! gives the first sequence and a record stores none. What repeats from record to record (topic,
//! client, the publisher's boot) is written once in a section and then named by number. Drawn
//! byte by byte in docs/formats/log.md.

use crate::ids::{Seq, StreamId};
use crate::{varint, wall_clock};

/// Who published, in the publisher's own counting: `boot` changes when it starts again with
/// `seq` at the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherIdentity {
    /// Which run of the publisher.
    pub boot: u64,
    /// Number of the message in that run.
    pub seq: u64,
}

/// A record, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// When the gateway received it, milliseconds since 1970 by the gateway's clock.
    pub unix_ms: i64,
    /// The topic that it was published to.
    pub topic: &'a str,
    /// The client that published it.
    pub client: &'a str,
    /// The publisher's identity, if it gave one.
    pub publisher: Option<PublisherIdentity>,
    /// Opaque to the log, at most [`crate::MAX_ATTRIBUTE_BYTES`].
    pub attributes: &'a [u8],
    /// The message itself.
    pub payload: &'a [u8],
}

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// See [`RecordRef::unix_ms`].
    pub unix_ms: i64,
    /// See [`RecordRef::topic`].
    pub topic: String,
    /// See [`RecordRef::client`].
    pub client: String,
    /// See [`RecordRef::publisher`].
    pub publisher: Option<PublisherIdentity>,
    /// See [`RecordRef::attributes`].
    pub attributes: Vec<u8>,
    /// See [`RecordRef::payload`].
    pub payload: Vec<u8>,
}

impl Record {
    /// Borrows it.
    #[must_use]
    pub fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            unix_ms: self.unix_ms,
            topic: &self.topic,
            client: &self.client,
            publisher: self.publisher,
            attributes: &self.attributes,
            payload: &self.payload,
        }
    }
}

impl RecordRef<'_> {
    /// A copy that owns its parts.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record {
            unix_ms: self.unix_ms,
            topic: self.topic.to_owned(),
            client: self.client.to_owned(),
            publisher: self.publisher,
            attributes: self.attributes.to_vec(),
            payload: self.payload.to_vec(),
        }
    }

    /// The most bytes that this record can take in a section.
    pub(crate) fn bound(&self) -> usize {
        const NUMBERS: usize = 48;
        NUMBERS + self.topic.len() + self.client.len() + self.attributes.len() + self.payload.len()
    }
}

/// Says that an origin definition follows (instead of naming an earlier one).
const NEW_ORIGIN: u64 = 0;
/// Flag of an origin: its records carry the publisher's sequence; its boot is in the origin.
const ORIGIN_HAS_PUBLISHER: u8 = 1;
/// Origins that the writer remembers. Two that share a slot only cost a definition more.
const ORIGIN_SLOTS: usize = 256;

/// Where an origin's definition is, in the section's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Origin {
    topic: (u32, u32),
    client: (u32, u32),
    boot: Option<u64>,
}

impl Origin {
    fn names<'a>(&self, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let topic = bytes.get(self.topic.0 as usize..self.topic.1 as usize)?;
        let client = bytes.get(self.client.0 as usize..self.client.1 as usize)?;
        Some((topic, client))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    hash: u32,
    /// Number of the origin, from 1; 0: the slot is empty.
    number: u32,
    origin: Origin,
}

/// The records of one stream that wait for the next group, encoded as they will be written.
#[derive(Debug)]
pub(crate) struct RecordSection {
    pub(crate) stream: StreamId,
    pub(crate) first: Seq,
    pub(crate) count: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) newest_ms: i64,
    previous_ms: i64,
    origins: u32,
    slots: Box<[Slot; ORIGIN_SLOTS]>,
}

impl RecordSection {
    /// An empty section; times are relative to `base_ms`.
    pub(crate) fn new(stream: StreamId, first: Seq, base_ms: i64) -> RecordSection {
        RecordSection {
            stream,
            first,
            count: 0,
            bytes: Vec::new(),
            newest_ms: wall_clock::NO_TIME,
            previous_ms: base_ms,
            origins: 0,
            slots: Box::new([Slot::default(); ORIGIN_SLOTS]),
        }
    }

    /// Empties it for use by another stream or group; its memory stays.
    pub(crate) fn reset(&mut self, stream: StreamId, first: Seq, base_ms: i64) {
        self.stream = stream;
        self.first = first;
        self.count = 0;
        self.bytes.clear();
        self.newest_ms = wall_clock::NO_TIME;
        self.previous_ms = base_ms;
        self.origins = 0;
        self.slots.fill(Slot::default());
    }

    /// Appends a record; gives the bytes that it took.
    pub(crate) fn push(&mut self, record: &RecordRef<'_>) -> usize {
        let before = self.bytes.len();
        self.put_origin(record);
        varint::put_signed(&mut self.bytes, record.unix_ms.wrapping_sub(self.previous_ms));
        self.previous_ms = record.unix_ms;
        self.newest_ms = wall_clock::newest(self.newest_ms, record.unix_ms);
        if let Some(publisher) = record.publisher {
            varint::put(&mut self.bytes, publisher.seq);
        }
        varint::put_bytes(&mut self.bytes, record.attributes);
        varint::put_bytes(&mut self.bytes, record.payload);
        self.count += 1;
        self.bytes.len() - before
    }

    #[inline]
    fn put_origin(&mut self, record: &RecordRef<'_>) {
        let boot = record.publisher.map(|publisher| publisher.boot);
        let (topic, client) = (record.topic.as_bytes(), record.client.as_bytes());
        let hash = crc32c::crc32c_append(crc32c::crc32c(topic), client)
            ^ boot.map_or(0, |boot| (boot ^ (boot >> 32)) as u32 | 1);
        let index = hash as usize % ORIGIN_SLOTS;
        let slot = &self.slots[index];
        if slot.number != 0
            && slot.hash == hash
            && slot.origin.boot == boot
            && slot.origin.names(&self.bytes) == Some((topic, client))
        {
            varint::put(&mut self.bytes, u64::from(slot.number));
            return;
        }
        let origin = define_origin(&mut self.bytes, topic, client, boot);
        self.origins += 1;
        self.slots[index] = Slot { hash, number: self.origins, origin };
    }
}

fn define_origin(bytes: &mut Vec<u8>, topic: &[u8], client: &[u8], boot: Option<u64>) -> Origin {
    varint::put(bytes, NEW_ORIGIN);
    bytes.push(if boot.is_some() { ORIGIN_HAS_PUBLISHER } else { 0 });
    varint::put_bytes(bytes, topic);
    let topic = ((bytes.len() - topic.len()) as u32, bytes.len() as u32);
    varint::put_bytes(bytes, client);
    let client = ((bytes.len() - client.len()) as u32, bytes.len() as u32);
    if let Some(boot) = boot {
        bytes.extend_from_slice(&boot.to_le_bytes());
    }
    Origin { topic, client, boot }
}

/// Reads the records of a section one after the other. Keeps its place without borrowing the
/// bytes, so that reading goes on later where it stopped.
#[derive(Debug, Clone)]
pub(crate) struct SectionReader {
    at: usize,
    next: Seq,
    left: u32,
    previous_ms: i64,
    origins: Vec<Origin>,
}

/// Where a reader was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderPlace {
    at: usize,
    next: Seq,
    left: u32,
    previous_ms: i64,
    origins: usize,
}

impl SectionReader {
    pub(crate) fn new(first: Seq, count: u32, base_ms: i64) -> SectionReader {
        SectionReader { at: 0, next: first, left: count, previous_ms: base_ms, origins: Vec::new() }
    }

    /// The next record of `bytes`, which must be those of the section that this reader was made
    /// for. `None` at the end, and when the bytes are not what a section holds.
    pub(crate) fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<(Seq, RecordRef<'a>)> {
        if self.left == 0 {
            return None;
        }
        let mut at = self.at;
        let origin = self.origin(bytes, &mut at)?;
        let (topic, client) = origin.names(bytes)?;
        let unix_ms = self.previous_ms.wrapping_add(varint::get_signed(bytes, &mut at)?);
        let publisher = match origin.boot {
            Some(boot) => Some(PublisherIdentity { boot, seq: varint::get(bytes, &mut at)? }),
            None => None,
        };
        let attributes = varint::get_bytes(bytes, &mut at)?;
        let payload = varint::get_bytes(bytes, &mut at)?;
        let record = RecordRef {
            unix_ms,
            topic: std::str::from_utf8(topic).ok()?,
            client: std::str::from_utf8(client).ok()?,
            publisher,
            attributes,
            payload,
        };
        let seq = self.next;
        self.at = at;
        self.previous_ms = unix_ms;
        self.next = seq.plus(1);
        self.left -= 1;
        Some((seq, record))
    }

    /// Goes back to before the record that was read last. `place` is from before that read.
    pub(crate) fn rewind(&mut self, place: ReaderPlace) {
        self.at = place.at;
        self.next = place.next;
        self.left = place.left;
        self.previous_ms = place.previous_ms;
        self.origins.truncate(place.origins);
    }

    /// Where it is, for [`SectionReader::rewind`].
    pub(crate) fn place(&self) -> ReaderPlace {
        let (at, next, left, previous_ms) = (self.at, self.next, self.left, self.previous_ms);
        ReaderPlace { at, next, left, previous_ms, origins: self.origins.len() }
    }

    #[inline]
    fn origin(&mut self, bytes: &[u8], at: &mut usize) -> Option<Origin> {
        let number = varint::get(bytes, at)?;
        if number != NEW_ORIGIN {
            let index = usize::try_from(number - 1).ok()?;
            return self.origins.get(index).copied();
        }
        let flags = *bytes.get(*at)?;
        *at += 1;
        if flags & !ORIGIN_HAS_PUBLISHER != 0 {
            return None;
        }
        let topic = varint::get_span(bytes, at)?;
        let client = varint::get_span(bytes, at)?;
        let boot = if flags & ORIGIN_HAS_PUBLISHER == 0 {
            None
        } else {
            let raw = bytes.get(*at..*at + 8)?;
            *at += 8;
            Some(u64::from_le_bytes(raw.try_into().ok()?))
        };
        let span = |(start, end): (usize, usize)| (start as u32, end as u32);
        let origin = Origin { topic: span(topic), client: span(client), boot };
        self.origins.push(origin);
        Some(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let publisher = proptest::option::of((0..3u64, any::<u64>()));
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        (any::<i64>(), "[a-c]{0,3}", "[x-z]{0,2}", publisher, bytes(), bytes()).prop_map(
            |(unix_ms, topic, client, publisher, attributes, payload)| Record {
                unix_ms,
                topic,
                client,
                publisher: publisher.map(|(boot, seq)| PublisherIdentity { boot, seq }),
                attributes,
                payload,
            },
        )
    }

    proptest! {
        #[test]
        fn every_section_comes_back(
            records in proptest::collection::vec(any_record(), 0..80), base: i64, first in 1..u64::MAX / 2,
        ) {
            let mut section = RecordSection::new(StreamId(3), Seq(first), base);
            for record in &records {
                let took = section.push(&record.as_ref());
                prop_assert!(took <= record.as_ref().bound());
            }
            let mut reader = SectionReader::new(Seq(first), section.count, base);
            for (index, record) in records.iter().enumerate() {
                let (seq, read) = reader.read(&section.bytes).expect("a record");
                prop_assert_eq!(seq, Seq(first + index as u64));
                prop_assert_eq!(read, record.as_ref());
            }
            prop_assert!(reader.read(&section.bytes).is_none());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, count: u32, base: i64) {
            let mut reader = SectionReader::new(Seq(1), count, base);
            while reader.read(&bytes).is_some() {}
        }
    }

    #[test]
    fn a_record_costs_few_bytes_beyond_its_payload_once_its_origin_is_known() {
        let mut section = RecordSection::new(StreamId(0), Seq(1), 1_700_000_000_000);
        let publisher = |seq| Some(PublisherIdentity { boot: u64::MAX, seq });
        let record = |ms: i64, seq| Record {
            unix_ms: 1_700_000_000_000 + ms,
            topic: "sensors/kitchen/telemetry".into(),
            client: "kitchen".into(),
            publisher: publisher(seq),
            attributes: vec![],
            payload: vec![7; 128],
        };
        section.push(&record(0, 1_000_000).as_ref());
        assert_eq!(section.push(&record(5, 1_000_001).as_ref()), 128 + 8);
    }
}
