//! Publishes that the log cannot take right now: its memory is full, or the stream is at its
//! quota and its policy is `block`. They keep their order and are tried again when something
//! has become durable or was trimmed. Their acknowledgement waits, which slows QoS 1 publishers
//! down; beyond the limit new ones are refused.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_broker::{Message, Ticket};
use tidegate_stream::StreamId;

/// Most payload and topic bytes held, over all clients.
pub(crate) const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;
/// Above this the shell stops reading while the log's memory is full.
const CONGESTED_BYTES: usize = 64 * 1024;
/// What a held publish costs beside its bytes.
const OVERHEAD: usize = 256;

/// The publishes held.
#[derive(Debug, Default)]
pub(crate) struct Hold {
    queue: VecDeque<Held>,
    bytes: usize,
    busy: bool,
}

/// One publish held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) client: Arc<str>,
    pub(crate) message: Arc<Message>,
    pub(crate) streams: Vec<StreamId>,
}

impl Held {
    fn bytes(&self) -> usize {
        self.message.payload.len() + self.message.topic.as_str().len() + OVERHEAD
    }
}

impl Hold {
    /// True when a publish to these streams must wait behind one that is held already.
    pub(crate) fn is_behind(&self, streams: &[StreamId]) -> bool {
        self.queue.iter().any(|held| held.streams.iter().any(|stream| streams.contains(stream)))
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Holds a publish; gives it back when the limit is reached.
    pub(crate) fn push(&mut self, held: Held) -> Result<(), Held> {
        if self.bytes + held.bytes() > MAX_HELD_BYTES {
            return Err(held);
        }
        self.bytes += held.bytes();
        self.queue.push_back(held);
        Ok(())
    }

    /// Takes everything out, for another try.
    pub(crate) fn take(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        self.busy = false;
        std::mem::take(&mut self.queue)
    }

    /// The log said that its memory is full.
    pub(crate) fn set_busy(&mut self) {
        self.busy = true;
    }

    /// The shell should stop reading for now.
    pub(crate) fn is_congested(&self) -> bool {
        self.busy && self.bytes > CONGESTED_BYTES
    }
}
