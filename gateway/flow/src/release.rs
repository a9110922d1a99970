//! What waits for the disk.

use std::sync::Arc;
use std::time::Instant;

use tidegate_broker::{Message, Ticket};

/// Done when the log is durable through the position that it waits for.
#[derive(Debug)]
pub(crate) enum Release {
    /// Acknowledge a publish that arrived then.
    Acknowledge(Ticket, Instant),
    /// Deliver what a function emitted.
    Deliver(Arc<Message>),
}
