//! Sessions that outlive the process: what of them has to be on a disk, and what waits for it.
//!
//! The broker does no I/O. What must survive leaves it as [`Change`]s of one keyed table and
//! comes back at the start; messages with QoS 1 and 2 for such sessions are first appended to one
//! stream by the owner (the spool) and delivered from there once they are durable.
//!
//! Invariants:
//! - Only sessions with an expiry above zero are kept. For others nothing is written.
//! - A kept session is sent a message with QoS 1 or 2 only after it is durable, under a packet
//!   identifier that follows from its place in the spool: after a restart it is the same.
//! - CONNACK, SUBACK and UNSUBACK of a kept session leave when what they say is durable; PUBREC of
//!   a message when its identifier is; PUBREL when it is durable that the client has the message;
//!   PUBCOMP when it is durable that the identifier is free.
//! - A kept session without a connection has no message in memory.
//! - A will of a kept session is on the disk from before CONNACK until it is published or
//!   discarded.

pub(crate) mod backlog;
mod changes;
mod doubts;
mod estate;
pub(crate) mod format;
mod kept;
mod quota;
mod restore;
mod spool;
#[cfg(test)]
mod tests;
mod wills;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use backlog::Amount;
use doubts::Doubts;
use estate::Estates;
pub use format::SpoolTarget;
pub(crate) use kept::{Kept, Reads};
pub(crate) use quota::enter_losses;
pub use restore::Restored;
pub(crate) use wills::WillKey;

use crate::losses::SessionLosses;
use quota::Uncounted;

/// One change of the table that has what must survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Vec<u8>,
    /// The new value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// Whether it is of the loss ledger: then it belongs into one transaction with the change
    /// after it, which says that a session does not get what is lost.
    pub fn is_of_ledger(&self) -> bool {
        self.key.first() == Some(&format::LOSS)
    }
}

/// Names the changes that were handed out together. Those of a higher number came later.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistTicket(pub u64);

/// What the broker knows of what is on the disk.
#[derive(Debug)]
pub(crate) struct Durable {
    /// Not handed out yet, in order.
    pub(crate) changes: Vec<Change>,
    /// Somebody waits for them.
    pub(crate) hurried: bool,
    /// The ticket that they will have.
    pub(crate) next_ticket: PersistTicket,
    /// Tickets before this one are durable.
    pub(crate) persisted: PersistTicket,
    /// Number of the next session. None is used twice, so that nothing of an ended session is
    /// taken for a later one's.
    pub(crate) next_number: u64,
    pub(crate) by_number: BTreeMap<u64, u32>,
    /// What ended sessions have left.
    pub(crate) estates: Estates,
    /// Number of the next will.
    pub(crate) next_will: u64,
    /// Spool records before this sequence have been offered as they became durable.
    pub(crate) head: u64,
    /// Spool records before this sequence have been appended.
    pub(crate) end: u64,
    /// Sessions whose place in the spool has to be written with the next changes.
    pub(crate) urgent: BTreeSet<u32>,
    /// Sessions of which something changed that can wait a second.
    pub(crate) dirty: BTreeSet<u32>,
    /// Sessions with a connection that have not read the spool to its head.
    pub(crate) behind: BTreeSet<u32>,
    /// Sessions whose client is asked about identifiers when the changes are durable.
    pub(crate) doubtful: BTreeSet<u32>,
    /// Connections with something that waits for the disk.
    pub(crate) holding: BTreeSet<u32>,
    /// A moment and its time of day, if that can be trusted.
    pub(crate) clock: Option<(Instant, i64)>,
    /// The time of day, trusted or not, about a second ago.
    pub(crate) unix_now: i64,
    /// What is in the spool since before the start and has not been counted.
    pub(crate) uncounted: Option<Uncounted>,
    pub(crate) losses: SessionLosses,
    /// Sessions that end with their connection and have lost something in the last second.
    pub(crate) lossy: BTreeSet<u32>,
    /// When what they lost is written down next.
    pub(crate) losses_at: Option<Instant>,
}

impl Durable {
    fn new() -> Durable {
        Durable {
            changes: Vec::new(),
            hurried: false,
            next_ticket: PersistTicket(1),
            persisted: PersistTicket(1),
            next_number: 1,
            by_number: BTreeMap::new(),
            estates: Estates::default(),
            next_will: 1,
            head: 1,
            end: 1,
            urgent: BTreeSet::new(),
            dirty: BTreeSet::new(),
            behind: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            holding: BTreeSet::new(),
            clock: None,
            unix_now: 0,
            uncounted: None,
            losses: SessionLosses::default(),
            lossy: BTreeSet::new(),
            losses_at: None,
        }
    }

    /// The time of day at `at`, in milliseconds since 1970.
    fn unix_ms(&self, at: Instant) -> Option<i64> {
        let (then, unix_ms) = self.clock?;
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Some(match at.checked_duration_since(then) {
            Some(after) => unix_ms.saturating_add(millis(after)),
            None => unix_ms.saturating_sub(millis(then.saturating_duration_since(at))),
        })
    }

    /// What has been changed so far: it is the same later if nothing was.
    pub(crate) fn mark(&self) -> (PersistTicket, usize) {
        (self.next_ticket, self.changes.len())
    }

    pub(crate) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change { key, value: Some(value) });
    }

    pub(crate) fn delete(&mut self, key: Vec<u8>) {
        self.changes.push(Change { key, value: None });
    }
}
