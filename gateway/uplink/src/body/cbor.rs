//! The batch as CBOR (RFC 8949), in its deterministic encoding: definite lengths, shortest
//! numbers, keys in rising order. Written by hand: the schema is fixed, and a general encoder
//! would cost the core a dependency.

use super::{BODY_VERSION, capacity};
use crate::batch::Batch;
use crate::envelope::Clock;
use crate::record::OutboundRecord;

/// Bytes around the fields of a record, rounded up.
const AROUND: usize = 48;

/// The upper three bits of an item's first byte.
#[derive(Clone, Copy)]
enum Major {
    Unsigned = 0,
    Negative = 1,
    Bytes = 2,
    Text = 3,
    Array = 4,
    Map = 5,
}

const TRUE: u8 = 0xf5;

/// Keys of the batch.
mod batch_key {
    pub(super) const VERSION: u64 = 0;
    pub(super) const GATEWAY: u64 = 1;
    pub(super) const EPOCH: u64 = 2;
    pub(super) const STREAM: u64 = 3;
    pub(super) const RECORDS: u64 = 4;
}

/// Keys of a record.
mod key {
    pub(super) const SEQ: u64 = 0;
    pub(super) const TIME: u64 = 1;
    pub(super) const TOPIC: u64 = 2;
    pub(super) const CLIENT: u64 = 3;
    pub(super) const PAYLOAD: u64 = 4;
    pub(super) const UNSYNCED: u64 = 5;
    pub(super) const PUBLISHER: u64 = 6;
    pub(super) const RETAIN: u64 = 7;
    pub(super) const EXPIRY: u64 = 8;
    pub(super) const RESPONSE_TOPIC: u64 = 9;
    pub(super) const CORRELATION: u64 = 10;
    pub(super) const USER: u64 = 11;
    pub(super) const CONTENT_TYPE: u64 = 12;
    pub(super) const IS_TEXT: u64 = 13;
    pub(super) const KEY: u64 = 14;
}

pub(super) fn encode(gateway: &str, batch: &Batch) -> Vec<u8> {
    let mut out = Cbor { bytes: Vec::with_capacity(capacity(batch, AROUND)) };
    out.head(Major::Map, 5);
    out.unsigned(batch_key::VERSION);
    out.unsigned(BODY_VERSION);
    out.unsigned(batch_key::GATEWAY);
    out.text(gateway);
    out.unsigned(batch_key::EPOCH);
    out.unsigned(u64::from(batch.epoch.0));
    out.unsigned(batch_key::STREAM);
    out.text(&batch.stream);
    out.unsigned(batch_key::RECORDS);
    out.head(Major::Array, batch.records.len() as u64);
    for one in &batch.records {
        record(&mut out, one);
    }
    out.bytes
}

fn record(out: &mut Cbor, record: &OutboundRecord) {
    out.head(Major::Map, 5 + options(record));
    out.unsigned(key::SEQ);
    out.unsigned(record.seq.0);
    out.unsigned(key::TIME);
    out.signed(record.unix_ms);
    out.unsigned(key::TOPIC);
    out.text(&record.topic);
    out.unsigned(key::CLIENT);
    out.text(&record.client);
    out.unsigned(key::PAYLOAD);
    out.byte_string(&record.payload);
    if is_unsynced(record) {
        out.flag(key::UNSYNCED);
    }
    if let Some(publisher) = record.publisher {
        out.unsigned(key::PUBLISHER);
        out.head(Major::Array, 2);
        out.unsigned(publisher.boot);
        out.unsigned(publisher.seq);
    }
    if record.retain {
        out.flag(key::RETAIN);
    }
    if let Some(seconds) = record.expiry_s {
        out.unsigned(key::EXPIRY);
        out.unsigned(u64::from(seconds));
    }
    if let Some(topic) = &record.response_topic {
        out.unsigned(key::RESPONSE_TOPIC);
        out.text(topic);
    }
    if let Some(correlation) = &record.correlation {
        out.unsigned(key::CORRELATION);
        out.byte_string(correlation);
    }
    if !record.user.is_empty() {
        out.unsigned(key::USER);
        out.head(Major::Array, record.user.len() as u64);
        for (name, value) in &record.user {
            out.head(Major::Array, 2);
            out.text(name);
            out.text(value);
        }
    }
    if let Some(kind) = &record.content_type {
        out.unsigned(key::CONTENT_TYPE);
        out.text(kind);
    }
    if record.payload_is_text {
        out.flag(key::IS_TEXT);
    }
    if let Some(key) = &record.key {
        out.unsigned(key::KEY);
        out.text(key);
    }
}

/// How many of the optional fields this record has.
fn options(record: &OutboundRecord) -> u64 {
    let present = [
        is_unsynced(record),
        record.publisher.is_some(),
        record.retain,
        record.expiry_s.is_some(),
        record.response_topic.is_some(),
        record.correlation.is_some(),
        !record.user.is_empty(),
        record.content_type.is_some(),
        record.payload_is_text,
        record.key.is_some(),
    ];
    present.into_iter().map(u64::from).sum()
}

fn is_unsynced(record: &OutboundRecord) -> bool {
    match record.clock {
        Clock::Synced => false,
        Clock::Unsynced => true,
    }
}

struct Cbor {
    bytes: Vec<u8>,
}

impl Cbor {
    /// The type and the argument of an item, in the fewest bytes.
    fn head(&mut self, major: Major, argument: u64) {
        let major = (major as u8) << 5;
        let wide = argument.to_be_bytes();
        match argument {
            0..=0x17 => self.bytes.push(major | argument as u8),
            0x18..=0xff => self.bytes.extend([major | 0x18, argument as u8]),
            0x100..=0xffff => self.long(major | 0x19, &wide[6..]),
            0x1_0000..=0xffff_ffff => self.long(major | 0x1a, &wide[4..]),
            0x1_0000_0000.. => self.long(major | 0x1b, &wide),
        }
    }

    fn long(&mut self, first: u8, rest: &[u8]) {
        self.bytes.push(first);
        self.bytes.extend_from_slice(rest);
    }

    fn unsigned(&mut self, value: u64) {
        self.head(Major::Unsigned, value);
    }

    fn signed(&mut self, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.unsigned(value),
            // -1 - n, for which all bits of n are those of the value turned over.
            Err(_) => self.head(Major::Negative, !(value as u64)),
        }
    }

    fn text(&mut self, text: &str) {
        self.head(Major::Text, text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn byte_string(&mut self, bytes: &[u8]) {
        self.head(Major::Bytes, bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }

    fn flag(&mut self, key: u64) {
        self.unsigned(key);
        self.bytes.push(TRUE);
    }
}
