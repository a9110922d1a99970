//! What calls a function besides records: timers, requests, events.

use crate::batch::{Batch, pairs, property as value, sound};
use crate::json::{Json, JsonError};
use crate::text::cut;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_abi::{Entry, property};

/// A timer that is due.
#[derive(Debug, Clone, Copy)]
pub struct Timer<'a> {
    pub(crate) entry: Entry<'a>,
    pub(crate) batch: Batch<'a>,
}

impl<'a> Timer<'a> {
    /// Its name: that of [`Out::set_timer`](crate::Out::set_timer), or of a trigger in the
    /// configuration.
    pub fn name(&self) -> &'a str {
        sound(self.entry.topic())
    }

    /// When it was due, nanoseconds since 1970; the newest time, when several were missed.
    pub fn due_ns(&self) -> i64 {
        sound(self.entry.ts_ns())
    }

    /// How many further times it was due since it was given last.
    pub fn missed(&self) -> u64 {
        let missed = value(&self.entry, property::MISSED).unwrap_or("");
        let ten = |sum: u64| sum.saturating_mul(10);
        missed.bytes().fold(0, |sum, digit| ten(sum).saturating_add(u64::from(digit & 15)))
    }

    /// How often the function has been given it before.
    pub fn attempt(&self) -> u16 {
        sound(self.entry.attempt())
    }

    /// The batch that it came in: its time, and random numbers.
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }
}

/// An event: of the function itself, of a device, of an uplink, of the disk.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub(crate) entry: Entry<'a>,
    pub(crate) batch: Batch<'a>,
}

impl<'a> Event<'a> {
    /// `start`, `stop`, `online`, `connected`, ...: see the contract. Names are added: ignore those
    /// that you do not know.
    pub fn name(&self) -> &'a str {
        sound(self.entry.topic())
    }

    /// When it happened, nanoseconds since 1970.
    pub fn time_ns(&self) -> i64 {
        sound(self.entry.ts_ns())
    }

    /// What is known about it: a JSON object.
    ///
    /// # Errors
    /// When it is no JSON, which no gateway sends.
    pub fn json(&self) -> Result<Json<'a>, JsonError> {
        Json::parse(self.payload())
    }

    /// The same as bytes.
    pub fn payload(&self) -> &'a [u8] {
        sound(self.entry.payload())
    }

    /// The batch that it came in: its time, and random numbers.
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }
}

/// A request over HTTP that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub(crate) entry: Entry<'a>,
    pub(crate) batch: Batch<'a>,
}

impl<'a> Request<'a> {
    /// The pattern as the configuration has it: `/sensors/{id}/limit`.
    pub fn route(&self) -> &'a str {
        sound(self.entry.topic())
    }

    /// `GET`, `PUT`, ...
    pub fn method(&self) -> &'a str {
        value(&self.entry, property::METHOD).unwrap_or("")
    }

    /// The path as sent, percent-encoding included, without the query.
    pub fn path(&self) -> &'a str {
        value(&self.entry, property::PATH).unwrap_or("")
    }

    /// Who asks, where the route demands to know that.
    pub fn user(&self) -> Option<&'a str> {
        value(&self.entry, property::USER)
    }

    /// A parameter of the pattern, percent-encoding resolved: `id` of `/sensors/{id}/limit`.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut found = self
            .properties()
            .filter_map(|(key, value)| (property::parameter(key)? == name).then_some(value));
        found.next()
    }

    /// The first header with this name, which is in lower case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        value(&self.entry, name)
    }

    /// The first value of a name in the query, percent-encoding and `+` resolved; empty for a name
    /// without a value. `None` also when it is no UTF-8.
    pub fn query(&self, name: &str) -> Option<String> {
        let mut rest = value(&self.entry, property::QUERY);
        while let Some(query) = rest {
            let (pair, after) = cut(query, b'&');
            let (key, value) = cut(pair, b'=');
            if decoded(key).as_deref() == Some(name) {
                return decoded(value.unwrap_or(""));
            }
            rest = after;
        }
        None
    }

    /// The body.
    pub fn body(&self) -> &'a [u8] {
        sound(self.entry.payload())
    }

    /// When all of it was there, nanoseconds since 1970.
    pub fn time_ns(&self) -> i64 {
        sound(self.entry.ts_ns())
    }

    /// All properties, as the contract has them: the parts above, then the headers.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        pairs(&self.entry)
    }

    /// The batch that it came in: its time, and random numbers.
    pub fn batch(&self) -> Batch<'a> {
        self.batch
    }
}

/// `a%20b+c` as `a b c`.
fn decoded(text: &str) -> Option<String> {
    let mut plain = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut hex = || Some(char::from(bytes.next()?).to_digit(16)? as u8);
        plain.push(match byte {
            b'%' => hex()? << 4 | hex()?,
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Media type of the body; empty = none.
    pub media_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Without a body.
    pub fn status(status: u16) -> Self {
        Self { status, media_type: "", body: Vec::new() }
    }

    /// With a text.
    pub fn text(status: u16, body: &str) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: body.into() }
    }

    /// With JSON.
    pub fn json(status: u16, body: &str) -> Self {
        Self { status, media_type: "application/json", body: body.into() }
    }
}
