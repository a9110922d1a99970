//! What is on its way: sent, or about to be, and not answered.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::batch::{Part, SeqRange};

/// One batch on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) lane: usize,
    pub(crate) range: SeqRange,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) sent_at: Instant,
    /// When the oldest of its records was received, milliseconds since 1970.
    pub(crate) oldest_ms: i64,
}

/// All of them, by token, that is in the order of sending.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    by_token: BTreeMap<u64, Flight>,
    records: usize,
    bytes: usize,
}

impl Flights {
    pub(crate) fn insert(&mut self, token: u64, flight: Flight) {
        self.records += flight.records;
        self.bytes += flight.bytes;
        self.by_token.insert(token, flight);
    }

    pub(crate) fn remove(&mut self, token: u64) -> Option<Flight> {
        let flight = self.by_token.remove(&token)?;
        self.records -= flight.records;
        self.bytes -= flight.bytes;
        Some(flight)
    }

    /// Takes some records out of a batch that goes on; `None` when they are not some of it.
    pub(crate) fn remove_part(&mut self, token: u64, part: Part) -> Option<Flight> {
        let flight = self.by_token.get_mut(&token)?;
        let within =
            flight.range.contains(part.range.first) && flight.range.contains(part.range.last);
        if !within || part.records >= flight.records || part.bytes > flight.bytes {
            return None;
        }
        let Part { range, records, bytes } = part;
        flight.records -= records;
        flight.bytes -= bytes;
        self.records -= records;
        self.bytes -= bytes;
        Some(Flight { range, records, bytes, ..*flight })
    }

    pub(crate) fn clear(&mut self) {
        *self = Flights::default();
    }

    pub(crate) fn oldest(&self) -> Option<Flight> {
        self.by_token.first_key_value().map(|(_, flight)| *flight)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}
