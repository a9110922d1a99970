//! What waits for the disk.

use std::sync::Arc;
use std::time::Instant;

use tidegate_broker::{Message, PersistTicket, SpoolTarget, Ticket, TopicFilter};

use crate::request::{Answer, RequestId};

/// Done when the log is durable through the position that it waits for.
#[derive(Debug)]
pub(crate) enum Release {
    /// Acknowledge a publish that arrived then.
    Acknowledge(Ticket, Instant),
    /// Deliver what a function emitted, beside those shared subscriptions that get it from the
    /// spool.
    Deliver(Arc<Message>, Vec<TopicFilter>),
    /// Offer it to the sessions that it was spooled for.
    Spooled(Box<Spooled>),
    /// Answer a request.
    Answer(RequestId, Box<Answer>),
    /// Tell the broker that its changes are on the disk.
    Persisted(PersistTicket),
}

/// A record of the spool.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) seq: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) targets: Vec<SpoolTarget>,
    pub(crate) expires_at: Option<Instant>,
}
