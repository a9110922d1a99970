//! The envelope: what a record carries besides its payload when it leaves the gateway.
//! The document is `docs/formats/envelope.md`.

use std::borrow::Cow;
use std::fmt;

use tidegate_stream::{Epoch, Seq};
use tidegate_wire::headers as names;
use tidegate_wire::{Decimal, ENVELOPE_VERSION, PublisherIdentity, topics};

use crate::action::OutboundMessage;

/// Largest number of headers that [`Envelope::parse`] looks at.
pub const MAX_HEADERS: usize = 1_024;

/// What a consumer recognises a duplicate by: no two different records ever have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// Gateway id.
    pub gateway: String,
    /// Epoch of the record.
    pub epoch: Epoch,
    /// Name of the stream.
    pub stream: String,
    /// Number of the record in the stream.
    pub seq: Seq,
}

/// How far the time of receipt can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// The wall clock had been set from a trusted source.
    Synced,
    /// It had not: the time may be wrong by years, the order of records holds nevertheless.
    Unsynced,
}

/// One record on its way up, borrowed from the record or from the received headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Gateway id.
    pub gateway: &'a str,
    /// Epoch of the record.
    pub epoch: Epoch,
    /// Name of the stream.
    pub stream: &'a str,
    /// Number of the record in the stream.
    pub seq: Seq,
    /// Topic under which the gateway received the message.
    pub topic: &'a str,
    /// Client id of the publisher.
    pub client: &'a str,
    /// Partition key, where the record has one.
    pub key: Option<&'a str>,
    /// Time of receipt, milliseconds since 1970-01-01 UTC.
    pub unix_ms: i64,
    /// Quality of that time.
    pub clock: Clock,
    /// Identity given by the publisher.
    pub publisher: Option<PublisherIdentity>,
    /// The publisher had set RETAIN.
    pub retain: bool,
    /// Message expiry interval in seconds from the time of receipt.
    pub expiry_s: Option<u32>,
    /// Response topic as given by the publisher.
    pub response_topic: Option<&'a str>,
    /// Correlation data as given by the publisher.
    pub correlation: Option<Cow<'a, [u8]>>,
    /// The publisher's own properties, in order; names may repeat.
    pub user: Vec<(&'a str, &'a str)>,
}

/// Why headers are not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A header that every envelope has is absent.
    #[error("header {name} is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A header that may appear once appears again.
    #[error("header {name} appears twice")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// A value is not what the document says.
    #[error("header {name} has the value {value:?}: {why}")]
    Value {
        /// The header.
        name: &'static str,
        /// What it holds, cut to 64 characters.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// Written by a newer gateway.
    #[error("envelope version {version} is newer than {ENVELOPE_VERSION}, the one known here")]
    Version {
        /// Its version.
        version: u64,
    },
    /// More than [`MAX_HEADERS`].
    #[error("{count} headers are more than the {MAX_HEADERS} allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// `tidegate/{gateway}/{stream}`: where a stream arrives upstream.
#[must_use]
pub fn upstream_topic(gateway: &str, stream: &str) -> String {
    format!("{}/{gateway}/{stream}", topics::UPSTREAM)
}

impl Envelope<'_> {
    /// The dedupe key.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            gateway: self.gateway.to_owned(),
            epoch: self.epoch,
            stream: self.stream.to_owned(),
            seq: self.seq,
        }
    }

    /// The message that carries this envelope and `payload`.
    #[must_use]
    pub fn encode(
        &self,
        payload: Vec<u8>,
        content_type: Option<String>,
        payload_is_text: bool,
    ) -> OutboundMessage {
        let mut headers = Vec::with_capacity(12 + self.user.len());
        self.each_header(|name, value| headers.push((name.to_owned(), value.to_owned())));
        let topic = upstream_topic(self.gateway, self.stream);
        OutboundMessage { topic, payload, headers, content_type, payload_is_text }
    }

    /// Each header in its place: name and value.
    pub(crate) fn each_header(&self, mut put: impl FnMut(&str, &str)) {
        put(names::VERSION, Decimal::new(ENVELOPE_VERSION).as_str());
        put(names::GATEWAY, self.gateway);
        put(names::EPOCH, Decimal::new(u64::from(self.epoch.0)).as_str());
        put(names::STREAM, self.stream);
        put(names::SEQ, Decimal::new(self.seq.0).as_str());
        put(names::TOPIC, self.topic);
        put(names::CLIENT, self.client);
        match u64::try_from(self.unix_ms) {
            Ok(since) => put(names::TIME, Decimal::new(since).as_str()),
            Err(_) => put(names::TIME, &self.unix_ms.to_string()),
        }
        put(names::CLOCK, self.clock.name());
        if let Some(key) = self.key {
            put(names::KEY, key);
        }
        if let Some(publisher) = self.publisher {
            put(names::PUB_BOOT, Decimal::new(publisher.boot).as_str());
            put(names::PUB_SEQ, Decimal::new(publisher.seq).as_str());
        }
        if self.retain {
            put(names::RETAIN, "1");
        }
        if let Some(expiry) = self.expiry_s {
            put(names::EXPIRY, Decimal::new(u64::from(expiry)).as_str());
        }
        if let Some(topic) = self.response_topic {
            put(names::RESPONSE_TOPIC, topic);
        }
        if let Some(correlation) = &self.correlation {
            put(names::CORRELATION, &hex(correlation));
        }
        for (name, value) in &self.user {
            // The publisher's identity is above already.
            let identity = *name == names::PUB_BOOT || *name == names::PUB_SEQ;
            if names::is_reserved(name) && !(identity && self.publisher.is_some()) {
                put(&format!("{}{name}", names::ESCAPE), value);
            } else if !names::is_reserved(name) {
                put(name, value);
            }
        }
    }
}

impl<'a> Envelope<'a> {
    /// Reads the envelope from the headers of a received message, in any order. Headers that
    /// start with `tg-` and are not known here are left out: a newer gateway may add some
    /// without a new version.
    ///
    /// # Errors
    /// Says which header is missing, repeated or wrong.
    pub fn parse(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Envelope<'a>, EnvelopeError> {
        let found = Found::collect(headers)?;
        let version = number(names::VERSION, found.required(names::VERSION)?)?;
        if version > ENVELOPE_VERSION {
            return Err(EnvelopeError::Version { version });
        }
        if version == 0 {
            return Err(bad(names::VERSION, "0", "versions begin at 1"));
        }
        Ok(Envelope {
            gateway: found.required(names::GATEWAY)?,
            epoch: Epoch(number32(names::EPOCH, found.required(names::EPOCH)?)?),
            stream: found.required(names::STREAM)?,
            seq: Seq(number(names::SEQ, found.required(names::SEQ)?)?),
            topic: found.required(names::TOPIC)?,
            client: found.required(names::CLIENT)?,
            key: found.optional(names::KEY),
            unix_ms: time(found.required(names::TIME)?)?,
            clock: clock(found.required(names::CLOCK)?)?,
            publisher: publisher(&found)?,
            retain: found.optional(names::RETAIN).map(retain).transpose()?.unwrap_or(false),
            expiry_s: found
                .optional(names::EXPIRY)
                .map(|value| number32(names::EXPIRY, value))
                .transpose()?,
            response_topic: found.optional(names::RESPONSE_TOPIC),
            correlation: found.optional(names::CORRELATION).map(unhex).transpose()?.map(Cow::Owned),
            user: found.user,
        })
    }
}

/// The reserved headers by place in `KNOWN`, and the publisher's own.
struct Found<'a> {
    known: [Option<&'a str>; KNOWN.len()],
    user: Vec<(&'a str, &'a str)>,
}

const KNOWN: [&str; 16] = [
    names::VERSION,
    names::GATEWAY,
    names::EPOCH,
    names::STREAM,
    names::SEQ,
    names::TOPIC,
    names::CLIENT,
    names::TIME,
    names::CLOCK,
    names::KEY,
    names::PUB_BOOT,
    names::PUB_SEQ,
    names::RETAIN,
    names::EXPIRY,
    names::RESPONSE_TOPIC,
    names::CORRELATION,
];

impl<'a> Found<'a> {
    fn collect(
        headers: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Found<'a>, EnvelopeError> {
        let mut found = Found { known: [None; KNOWN.len()], user: Vec::new() };
        for (at, (name, value)) in headers.into_iter().enumerate() {
            if at >= MAX_HEADERS {
                return Err(EnvelopeError::TooMany { count: at + 1 });
            }
            if let Some(own) = name.strip_prefix(names::ESCAPE) {
                found.user.push((own, value));
            } else if !names::is_reserved(name) {
                found.user.push((name, value));
            } else if let Some(place) = KNOWN.iter().position(|known| *known == name)
                && found.known[place].replace(value).is_some()
            {
                return Err(EnvelopeError::Repeated { name: name.to_owned() });
            }
        }
        Ok(found)
    }

    fn optional(&self, name: &'static str) -> Option<&'a str> {
        KNOWN.iter().position(|known| *known == name).and_then(|place| self.known[place])
    }

    fn required(&self, name: &'static str) -> Result<&'a str, EnvelopeError> {
        self.optional(name).ok_or(EnvelopeError::Missing { name })
    }
}

fn publisher(found: &Found<'_>) -> Result<Option<PublisherIdentity>, EnvelopeError> {
    match (found.optional(names::PUB_BOOT), found.optional(names::PUB_SEQ)) {
        (None, None) => Ok(None),
        (Some(boot), Some(seq)) => Ok(Some(PublisherIdentity {
            boot: number(names::PUB_BOOT, boot)?,
            seq: number(names::PUB_SEQ, seq)?,
        })),
        (None, Some(_)) => Err(EnvelopeError::Missing { name: names::PUB_BOOT }),
        (Some(_), None) => Err(EnvelopeError::Missing { name: names::PUB_SEQ }),
    }
}

fn bad(name: &'static str, value: &str, why: impl fmt::Display) -> EnvelopeError {
    let value = value.chars().take(64).collect();
    EnvelopeError::Value { name, value, why: why.to_string() }
}

fn number(name: &'static str, value: &str) -> Result<u64, EnvelopeError> {
    Decimal::parse(value).map_err(|why| bad(name, value, why))
}

fn number32(name: &'static str, value: &str) -> Result<u32, EnvelopeError> {
    let wide = number(name, value)?;
    u32::try_from(wide).map_err(|_| bad(name, value, "is larger than 4294967295"))
}

fn time(value: &str) -> Result<i64, EnvelopeError> {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let canonical = Decimal::parse(digits).map_err(|why| bad(names::TIME, value, why))?;
    if canonical == 0 && digits.len() != value.len() {
        return Err(bad(names::TIME, value, "zero has no sign"));
    }
    value.parse().map_err(|_| bad(names::TIME, value, "does not fit 64 bits"))
}

fn clock(value: &str) -> Result<Clock, EnvelopeError> {
    match value {
        names::CLOCK_SYNCED => Ok(Clock::Synced),
        names::CLOCK_UNSYNCED => Ok(Clock::Unsynced),
        _ => Err(bad(names::CLOCK, value, "is neither \"synced\" nor \"unsynced\"")),
    }
}

fn retain(value: &str) -> Result<bool, EnvelopeError> {
    if value == "1" { Ok(true) } else { Err(bad(names::RETAIN, value, "is not 1")) }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| DIGITS[usize::from(digit)]).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    let wrong = || bad(names::CORRELATION, text, "is not an even number of digits 0-9a-f");
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong());
    }
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect::<Option<Vec<u8>>>()
        .ok_or_else(wrong)
}

impl Clock {
    fn name(self) -> &'static str {
        match self {
            Clock::Synced => names::CLOCK_SYNCED,
            Clock::Unsynced => names::CLOCK_UNSYNCED,
        }
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.gateway, self.epoch.0, self.stream, self.seq.0)
    }
}
