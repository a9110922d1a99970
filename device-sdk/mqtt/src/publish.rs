//! A message on its way out.

use core::fmt;

use crate::packet::{self, Out, length_bytes, property};

/// What becomes of a message that is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Qos {
    /// It may be lost.
    AtMostOnce,
    /// It is sent again until it is acknowledged: by a Tidegate gateway when it is on flash.
    AtLeastOnce,
}

/// A message to publish.
#[derive(Clone, Copy, Debug)]
pub struct Publish<'a> {
    /// Where to.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// Whether it may be lost.
    pub qos: Qos,
    /// The server keeps it for who subscribes later.
    pub retain: bool,
    /// What the sender of a request wants to see in the reply.
    pub correlation: Option<&'a [u8]>,
    /// User properties, names and values of at most 65,535 bytes. By `tg-pub-boot` and `tg-pub-seq`
    /// (`PublisherIdentity` in `tidegate-wire`) a gateway knows a message that it has already, also
    /// one that was given to a new session.
    pub user: &'a [(&'a str, &'a str)],
    /// Seconds after which it is of no use.
    pub expiry: Option<u32>,
}

impl<'a> Publish<'a> {
    /// A message that must not be lost.
    #[must_use]
    pub const fn new(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
        Publish {
            topic,
            payload,
            qos: Qos::AtLeastOnce,
            retain: false,
            correlation: None,
            user: &[],
            expiry: None,
        }
    }
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum PublishError {
    /// There is no room until others are acknowledged.
    Full,
    /// It is longer than the client's buffer, or than what the server takes.
    TooLong,
    /// The topic is empty, too long or has wildcards.
    Topic,
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PublishError::Full => "too much waits to be acknowledged; try again later",
            PublishError::TooLong => "the message is too long; enlarge the client's buffer",
            PublishError::Topic => "the topic is empty, too long or has wildcards",
        })
    }
}

impl core::error::Error for PublishError {}

impl Publish<'_> {
    pub(crate) fn check(&self) -> Result<(), PublishError> {
        let bytes = self.topic.as_bytes();
        let wild = bytes.iter().any(|byte| matches!(byte, b'+' | b'#' | 0));
        let long = bytes.len() > usize::from(u16::MAX);
        if bytes.is_empty() || long || wild { Err(PublishError::Topic) } else { Ok(()) }
    }

    /// Bytes of the packet.
    pub(crate) fn length(&self) -> usize {
        let rest = self.rest();
        1 + length_bytes(rest) + rest
    }

    fn rest(&self) -> usize {
        let id = match self.qos {
            Qos::AtMostOnce => 0,
            Qos::AtLeastOnce => 2,
        };
        let properties = self.properties();
        let head = 2 + self.topic.len() + id + length_bytes(properties) + properties;
        head + self.payload.len()
    }

    fn properties(&self) -> usize {
        let correlation = self.correlation.map_or(0, |data| 3 + data.len());
        let expiry = if self.expiry.is_some() { 5 } else { 0 };
        let user: usize = self.user.iter().map(|(name, value)| 5 + name.len() + value.len()).sum();
        correlation + expiry + user
    }

    /// Writes the packet; `None` when it does not fit.
    pub(crate) fn write(&self, id: u16, out: &mut [u8]) -> Option<usize> {
        let mut out = Out::new(out);
        out.byte(packet::publish(u8::from(id != 0), self.retain));
        out.length(self.rest());
        out.text(self.topic.as_bytes());
        if id != 0 {
            out.short(id);
        }
        out.length(self.properties());
        if let Some(seconds) = self.expiry {
            out.byte(property::MESSAGE_EXPIRY);
            out.raw(&seconds.to_be_bytes());
        }
        if let Some(data) = self.correlation {
            out.byte(property::CORRELATION_DATA);
            out.text(data);
        }
        for (name, value) in self.user {
            out.byte(property::USER);
            out.text(name.as_bytes());
            out.text(value.as_bytes());
        }
        out.raw(self.payload);
        out.end()
    }
}
