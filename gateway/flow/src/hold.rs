//! Publishes that the log cannot take right now: its memory is full, or the stream is at its
//! quota and its policy is `block`. They keep their order and are tried again when something
//! has become durable or was trimmed. Their acknowledgement waits, which slows QoS 1 publishers
//! down; beyond the limit new ones are refused.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_broker::{Change, Message, Ticket};
use tidegate_stream::StreamId;

use crate::ingest::publisher_of;

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
    /// The streams that they go to: thousands may wait for one, and each publish to another
    /// asks.
    waiting: BTreeSet<StreamId>,
    /// The clients that number what they publish: were a later number stored first, the one held
    /// would pass for a duplicate of it, and be acknowledged without being stored.
    numbered: BTreeSet<Arc<str>>,
    bytes: usize,
    busy: bool,
    /// Publishes tried again so far.
    #[cfg(test)]
    pub(crate) retried: u64,
}

/// One publish held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) ticket: Option<Ticket>,
    pub(crate) client: Arc<str>,
    pub(crate) message: Arc<Message>,
    /// Where it goes; the spool, if to no other.
    pub(crate) streams: Vec<StreamId>,
    /// What is to be put down with it: that its packet identifier is in use, or that a will is
    /// published.
    pub(crate) change: Option<Change>,
    /// Records that it needs in the spool.
    pub(crate) spooled: usize,
}

impl Held {
    fn bytes(&self) -> usize {
        let message = &self.message;
        message.payload.len() + message.topic.as_str().len() + message.properties.bytes() + OVERHEAD
    }

    fn is_numbered(&self) -> bool {
        matches!(publisher_of(&self.message), Ok(Some(_)))
    }
}

impl Hold {
    /// True when a publish must wait behind one that is held already: one for the same stream, or
    /// one of the same client when both are numbered.
    pub(crate) fn is_behind(&self, next: &Held) -> bool {
        next.streams.iter().any(|stream| self.waiting.contains(stream))
            || (self.numbered.contains(&next.client) && next.is_numbered())
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
        self.waiting.extend(&held.streams);
        if held.is_numbered() {
            self.numbered.insert(held.client.clone());
        }
        self.queue.push_back(held);
        Ok(())
    }

    /// Takes everything out, for another try.
    pub(crate) fn take(&mut self) -> VecDeque<Held> {
        self.bytes = 0;
        self.waiting.clear();
        self.numbered.clear();
        self.busy = false;
        #[cfg(test)]
        {
            self.retried += self.queue.len() as u64;
        }
        std::mem::take(&mut self.queue)
    }

    /// The log said that its memory is full.
    pub(crate) fn set_busy(&mut self) {
        self.busy = true;
    }

    /// Whether something waits for the log's memory: any progress of the disk makes room there.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy
    }

    /// The shell should stop reading for now.
    pub(crate) fn is_congested(&self) -> bool {
        self.busy && self.bytes > CONGESTED_BYTES
    }
}

#[cfg(test)]
mod tests {
    use tidegate_broker::{QoS, TopicName};

    use super::*;

    fn held(streams: &[u16]) -> Held {
        let message = Message::new(TopicName::parse("t").unwrap(), "", QoS::AtMostOnce);
        let streams = streams.iter().map(|stream| StreamId(*stream)).collect();
        Held {
            ticket: None,
            client: "c".into(),
            message: Arc::new(message),
            streams,
            change: None,
            spooled: 0,
        }
    }

    #[test]
    fn a_publish_waits_behind_those_to_one_of_its_streams_only() {
        let mut hold = Hold::default();
        assert!(!hold.is_behind(&held(&[1])));
        hold.push(held(&[1, 2])).unwrap();
        hold.push(held(&[4])).unwrap();
        assert!(hold.is_behind(&held(&[3, 2])));
        assert!(!hold.is_behind(&held(&[3])));
        assert_eq!(hold.take().len(), 2);
        assert!(!hold.is_behind(&held(&[1, 4])));
    }

    #[test]
    fn properties_count_against_the_bytes_held() {
        let mut hold = Hold::default();
        let mut count = 0;
        loop {
            let mut next = held(&[1]);
            let mut message = Message::clone(&next.message);
            message.properties.user.push(("k".to_owned(), "v".repeat(60_000)));
            next.message = Arc::new(message);
            if hold.push(next).is_err() {
                break;
            }
            count += 1;
        }
        assert!(count * 60_000 <= MAX_HELD_BYTES, "{count} publishes of 60 kB");
    }
}
