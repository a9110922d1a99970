//! The bytes of keys and values, as drawn in docs/formats/sessions.md.

use std::ops::Range;
use std::time::Duration;

use super::backlog::Amount;
use crate::losses::Row;

use crate::message::{Message, Properties, QoS};
use crate::session::Subscription;
use crate::topic::{TopicFilter, TopicName};

pub(crate) const SESSION: u8 = b's';
pub(crate) const SUBSCRIPTION: u8 = b'f';
pub(crate) const RECEIPT: u8 = b'i';
pub(crate) const PLACE: u8 = b'o';
pub(crate) const RETAINED: u8 = b'r';
/// A will that has been neither published nor discarded.
pub(crate) const WILL: u8 = b'w';
/// What an ended session has left in the spool.
pub(crate) const ESTATE: u8 = b'e';
/// What a client lost.
pub(crate) const LOSS: u8 = b'l';
/// The whole key of the number that the next session gets.
pub(crate) const NEXT: u8 = b'n';

pub(super) const VERSION: u8 = 1;
/// Of targets of which one has a shared subscription.
const VERSION_SHARED: u8 = 2;
/// Version of a place with a floor above its first record.
const FLOOR_VERSION: u8 = 2;
/// Version of a place with records in doubt; it says its floor too.
const DOUBT_VERSION: u8 = 3;

/// Who gets a message of the spool, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolTarget {
    /// The session's number.
    pub session: u64,
    /// With which QoS, 1 or 2.
    pub qos: QoS,
    /// With the RETAIN flag.
    pub retain: bool,
    /// It was appended for this target only: a retained message for a new subscription, or one
    /// that came from a session that has ended.
    pub replay: bool,
    /// The identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<u32>,
    /// The shared subscription that chose the session.
    pub share: Option<TopicFilter>,
}

/// The value of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SessionValue {
    pub(crate) client: String,
    pub(crate) user: Option<String>,
    pub(crate) expiry: Duration,
    pub(crate) presence: Presence,
}

/// Whether the client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Connected,
    /// It has gone; the time of day if it could be trusted.
    Gone(Option<i64>),
}

/// The value of a session's place in the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlaceValue {
    pub(crate) first: u64,
    pub(crate) sent_through: u64,
    /// Records before this one are given up, except those in `settled`; at least `first`.
    pub(crate) floor: u64,
    /// What was under way before it, and is given up if this is read back.
    pub(crate) owed: Amount,
    /// Records that are gone and may have been sent with QoS 2, in order.
    pub(crate) in_doubt: Vec<Range<u64>>,
    /// Later records that are finished (false), or that the client has confirmed with PUBREC
    /// (true), in order.
    pub(crate) settled: Vec<(u64, bool)>,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RetainedValue {
    pub(crate) message: Message,
    /// When it expires, in milliseconds since 1970; `None` for never, or when only the seconds
    /// in its properties are known.
    pub(crate) expires_ms: Option<i64>,
}

pub(crate) fn key(kind: u8, session: u64, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + rest.len());
    key.push(kind);
    key.extend_from_slice(&session.to_be_bytes());
    key.extend_from_slice(rest);
    key
}

pub(crate) fn receipt_key(session: u64, id: u16) -> Vec<u8> {
    key(RECEIPT, session, &id.to_be_bytes())
}

pub(crate) fn retained_key(topic: &TopicName) -> Vec<u8> {
    let topic = topic.as_str().as_bytes();
    let mut key = Vec::with_capacity(1 + topic.len());
    key.push(RETAINED);
    key.extend_from_slice(topic);
    key
}

pub(crate) fn encode_next(number: u64) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, number);
    out
}

pub(crate) fn decode_next(key: &[u8], value: &[u8]) -> Option<u64> {
    let mut reader = Reader::versioned(value).filter(|_| key.len() == 1)?;
    let number = reader.number()?;
    reader.end(number)
}

/// A key's session and what comes behind it.
pub(crate) fn split_key(key: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = key.get(1..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), rest))
}

impl SessionValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        let (present, gone_ms) = match self.presence {
            Presence::Connected => (0, 0),
            Presence::Gone(None) => (1, 0),
            Presence::Gone(Some(unix_ms)) => (2, unix_ms),
        };
        out.push(present);
        out.extend_from_slice(&gone_ms.to_le_bytes());
        put(&mut out, self.expiry.as_secs());
        put_bytes(&mut out, self.client.as_bytes());
        put_option(&mut out, self.user.as_deref().map(str::as_bytes));
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<SessionValue> {
        let mut reader = Reader::versioned(bytes)?;
        let presence = match (reader.u8()?, reader.i64()?) {
            (0, _) => Presence::Connected,
            (1, _) => Presence::Gone(None),
            (2, unix_ms) => Presence::Gone(Some(unix_ms)),
            _ => return None,
        };
        let expiry = Duration::from_secs(reader.number()?);
        let client = reader.text()?;
        let user = reader.optional_text()?;
        reader.end(SessionValue { client, user, expiry, presence })
    }
}

pub(crate) fn encode_subscription(subscription: &Subscription) -> Vec<u8> {
    let Subscription { qos, no_local, retain_as_published, id } = *subscription;
    let flags = qos as u8 | u8::from(no_local) << 2 | u8::from(retain_as_published) << 3;
    let mut out = vec![VERSION, flags];
    put(&mut out, id.unwrap_or(0).into());
    out
}

pub(crate) fn decode_subscription(key: &[u8], value: &[u8]) -> Option<(TopicFilter, Subscription)> {
    let mut reader = Reader::versioned(value)?;
    let flags = reader.u8()?;
    let subscription = Subscription {
        qos: QoS::from_bits(flags & 3)?,
        no_local: flags & 4 != 0,
        retain_as_published: flags & 8 != 0,
        id: Some(u32::try_from(reader.number()?).ok()?).filter(|id| *id > 0),
    };
    let filter = TopicFilter::parse(std::str::from_utf8(key).ok()?).ok()?;
    reader.end((filter, subscription))
}

impl PlaceValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let version = match (self.in_doubt.is_empty(), self.floor > self.first) {
            (false, _) => DOUBT_VERSION,
            (true, true) => FLOOR_VERSION,
            (true, false) => VERSION,
        };
        let mut out = vec![version];
        put(&mut out, self.first);
        put(&mut out, self.sent_through.saturating_sub(self.first));
        if version >= FLOOR_VERSION {
            put(&mut out, self.floor - self.first);
            put(&mut out, self.owed.messages);
            put(&mut out, self.owed.bytes);
        }
        if version >= DOUBT_VERSION {
            put(&mut out, self.in_doubt.len() as u64);
            let mut end = 0;
            for range in &self.in_doubt {
                put(&mut out, range.start - end);
                put(&mut out, range.end - range.start);
                end = range.end;
            }
        }
        let mut before = self.first;
        for (seq, received) in &self.settled {
            put(&mut out, (seq - before) << 1 | u64::from(*received));
            before = *seq;
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<PlaceValue> {
        let (version, rest) = bytes.split_first()?;
        let version = *version;
        if !(VERSION..=DOUBT_VERSION).contains(&version) {
            return None;
        }
        let mut reader = Reader(rest);
        let first = reader.number()?;
        let sent_through = first.checked_add(reader.number()?)?;
        let (mut floor, mut owed) = (first, Amount::default());
        if version >= FLOOR_VERSION {
            floor = first.checked_add(reader.number()?)?;
            owed = Amount { messages: reader.number()?, bytes: reader.number()? };
        }
        let in_doubt = match version {
            DOUBT_VERSION => read_ranges(&mut reader)?,
            _ => Vec::new(),
        };
        let mut place =
            PlaceValue { first, sent_through, floor, owed, in_doubt, settled: Vec::new() };
        let mut before = first;
        while !reader.0.is_empty() {
            let entry = reader.number()?;
            before = before.checked_add(entry >> 1)?;
            place.settled.push((before, entry & 1 != 0));
        }
        Some(place)
    }
}

fn read_ranges(reader: &mut Reader<'_>) -> Option<Vec<Range<u64>>> {
    let (mut ranges, mut end) = (Vec::new(), 0_u64);
    for _ in 0..reader.number()? {
        let start = end.checked_add(reader.number()?)?;
        end = start.checked_add(reader.number()?)?;
        ranges.push(start..end);
    }
    Some(ranges)
}

pub(crate) fn loss_key(reason: u8, client: &str) -> Vec<u8> {
    let mut key = vec![LOSS, reason];
    key.extend_from_slice(client.as_bytes());
    key
}

/// The reason and the client in a key.
pub(crate) fn split_loss_key(key: &[u8]) -> Option<(u8, &str)> {
    let (reason, client) = key.get(1..)?.split_first()?;
    Some((*reason, std::str::from_utf8(client).ok()?))
}

pub(crate) fn encode_loss(row: &Row) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(&row.unix_ms.to_le_bytes());
    for Amount { messages, bytes } in [row.lost, row.told] {
        put(&mut out, messages);
        put(&mut out, bytes);
    }
    out
}

pub(crate) fn decode_loss(bytes: &[u8]) -> Option<Row> {
    let mut reader = Reader::versioned(bytes)?;
    let unix_ms = reader.i64()?;
    let lost = Amount { messages: reader.number()?, bytes: reader.number()? };
    let told = Amount { messages: reader.number()?, bytes: reader.number()? };
    reader.end(Row { lost, told, unix_ms })
}

impl RetainedValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Message { payload, qos, properties, publisher, .. } = &self.message;
        let mut out = vec![VERSION];
        out.extend_from_slice(&[*qos as u8, payload_format(properties)]);
        out.extend_from_slice(&self.expires_ms.unwrap_or(i64::MAX).to_le_bytes());
        put_message_expiry(&mut out, properties);
        put_option(&mut out, publisher.as_deref().map(str::as_bytes));
        put_texts(&mut out, properties);
        out.extend_from_slice(payload);
        out
    }

    pub(crate) fn decode(topic: TopicName, bytes: &[u8]) -> Option<RetainedValue> {
        let mut reader = Reader::versioned(bytes)?;
        let qos = QoS::from_bits(reader.u8()?)?;
        let payload_format = reader.payload_format()?;
        let expires_ms = Some(reader.i64()?).filter(|unix_ms| *unix_ms != i64::MAX);
        let message_expiry = reader.message_expiry()?;
        let publisher = reader.optional_text()?;
        let properties = Properties { payload_format, message_expiry, ..reader.texts()? };
        let message = Message {
            topic,
            payload: reader.0.to_vec().into(),
            qos,
            retain: true,
            properties: properties.into(),
            publisher: publisher.map(Into::into),
        };
        Some(RetainedValue { message, expires_ms })
    }
}

/// Appends the targets as they stand in front of a spool record's payload.
pub(crate) fn encode_targets<'a>(
    targets: impl ExactSizeIterator<Item = &'a SpoolTarget> + Clone,
    out: &mut Vec<u8>,
) {
    let shared = targets.clone().any(|target| target.share.is_some());
    out.push(if shared { VERSION_SHARED } else { VERSION });
    put(out, targets.len() as u64);
    for target in targets {
        put(out, target.session);
        let flags = target.qos as u8 | u8::from(target.retain) << 2 | u8::from(target.replay) << 3;
        out.push(flags | u8::from(target.share.is_some()) << 4);
        put(out, target.subscription_ids.len() as u64);
        target.subscription_ids.iter().for_each(|id| put(out, (*id).into()));
        target.share.iter().for_each(|share| put_bytes(out, share.as_str().as_bytes()));
    }
}

impl SpoolTarget {
    /// Whether it came from a session that has ended.
    pub(crate) fn is_moved(&self) -> bool {
        self.replay && self.share.is_some()
    }

    /// The targets in front of a spool record's payload, and the payload; `None` for bytes that
    /// no broker wrote.
    pub fn decode_all(bytes: &[u8]) -> Option<(Vec<SpoolTarget>, &[u8])> {
        let (version, rest) = bytes.split_first()?;
        let mut reader = match *version {
            VERSION | VERSION_SHARED => Reader(rest),
            _ => return None,
        };
        let count = reader.number()?;
        let mut targets = Vec::new();
        for _ in 0..count {
            let session = reader.number()?;
            let flags = reader.u8()?;
            let ids = reader.number()?;
            let ids = (0..ids).map(|_| u32::try_from(reader.number()?).ok());
            let subscription_ids = ids.collect::<Option<Vec<u32>>>()?;
            let share = match flags & 16 {
                0 => None,
                _ => Some(TopicFilter::parse(&reader.text()?).ok()?),
            };
            targets.push(SpoolTarget {
                session,
                qos: QoS::from_bits(flags & 3)?,
                retain: flags & 4 != 0,
                replay: flags & 8 != 0,
                subscription_ids,
                share,
            });
        }
        Some((targets, reader.0))
    }
}

pub(super) fn payload_format(properties: &Properties) -> u8 {
    match properties.payload_format {
        None => 0,
        Some(false) => 1,
        Some(true) => 2,
    }
}

pub(super) fn put_message_expiry(out: &mut Vec<u8>, properties: &Properties) {
    put(out, properties.message_expiry.map_or(0, |seconds| u64::from(seconds) + 1));
}

/// The properties that are texts or bytes.
pub(super) fn put_texts(out: &mut Vec<u8>, properties: &Properties) {
    put_option(out, properties.content_type.as_deref().map(str::as_bytes));
    put_option(out, properties.response_topic.as_deref().map(str::as_bytes));
    put_option(out, properties.correlation_data.as_deref());
    put(out, properties.user.len() as u64);
    for (name, value) in &properties.user {
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
}

pub(super) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Nothing, or a length that is one more than that of the bytes behind it.
pub(super) fn put_option(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put(out, bytes.map_or(0, |bytes| bytes.len() as u64 + 1));
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// `None` for a version that this program does not know.
    pub(super) fn versioned(bytes: &'a [u8]) -> Option<Reader<'a>> {
        let (version, rest) = bytes.split_first()?;
        (*version == VERSION).then_some(Reader(rest))
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn i64(&mut self) -> Option<i64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_le_bytes(*bytes))
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let count = self.number()?;
        text(self.take(count)?)
    }

    pub(super) fn payload_format(&mut self) -> Option<Option<bool>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(false)),
            2 => Some(Some(true)),
            _ => None,
        }
    }

    pub(super) fn message_expiry(&mut self) -> Option<Option<u32>> {
        match self.number()? {
            0 => Some(None),
            more => u32::try_from(more - 1).ok().map(Some),
        }
    }

    /// What [`put_texts`] has written.
    pub(super) fn texts(&mut self) -> Option<Properties> {
        let mut properties = Properties {
            content_type: self.optional_text()?,
            response_topic: self.optional_text()?,
            correlation_data: self.option()?.map(<[u8]>::to_vec),
            ..Properties::default()
        };
        for _ in 0..self.number()? {
            properties.user.push((self.text()?, self.text()?));
        }
        Some(properties)
    }

    pub(super) fn optional_text(&mut self) -> Option<Option<String>> {
        match self.option()? {
            None => Some(None),
            Some(bytes) => text(bytes).map(Some),
        }
    }

    fn option(&mut self) -> Option<Option<&'a [u8]>> {
        match self.number()? {
            0 => Some(None),
            more => self.take(more - 1).map(Some),
        }
    }
}
