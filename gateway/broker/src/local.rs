//! Subscribers inside the gateway: no socket, no session, a queue with a bound.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::broker::Broker;
use crate::delivery::cost;
use crate::message::Message;
use crate::session::Subscriber;
use crate::topic::{TopicFilter, TopicName};

/// One subscriber inside the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(u32);

/// What it has not taken yet.
#[derive(Debug)]
pub(crate) struct Local {
    filter: TopicFilter,
    queue: VecDeque<Arc<Message>>,
    bytes: usize,
    max_bytes: usize,
    dropped: u64,
}

impl Local {
    pub(crate) fn offer(&mut self, message: &Arc<Message>) {
        let bytes = cost(message);
        if self.bytes + bytes > self.max_bytes {
            self.dropped += 1;
            return;
        }
        self.bytes += bytes;
        self.queue.push_back(message.clone());
    }
}

impl Broker {
    /// Whether anybody has subscribed to this topic.
    #[must_use]
    pub fn has_subscribers(&self, topic: &TopicName) -> bool {
        let mut any = false;
        self.subscribers.matches(topic, |_| any = true);
        any
    }

    /// Subscribes something inside the gateway to what is published from now on, with the same
    /// matching as for clients. Messages wait for [`take_local`](Broker::take_local); what is
    /// beyond `max_bytes`, counted as in a session's queue, is dropped and counted.
    pub fn subscribe_local(&mut self, filter: &TopicFilter, max_bytes: usize) -> LocalId {
        let local = Local {
            filter: filter.clone(),
            queue: VecDeque::new(),
            bytes: 0,
            max_bytes,
            dropped: 0,
        };
        let slot = self.locals.insert(local);
        self.subscribers.insert(filter, Subscriber::Local(slot));
        LocalId(slot)
    }

    /// Ends it, with what it has not taken.
    pub fn unsubscribe_local(&mut self, id: LocalId) {
        if let Some(local) = self.locals.remove(id.0) {
            let this = |subscriber: &Subscriber| matches!(subscriber, Subscriber::Local(slot) if *slot == id.0);
            self.subscribers.remove(&local.filter, this);
        }
    }

    /// The next message for it.
    pub fn take_local(&mut self, id: LocalId) -> Option<Arc<Message>> {
        let local = self.locals.get_mut(id.0)?;
        let message = local.queue.pop_front()?;
        local.bytes -= cost(&message);
        Some(message)
    }

    /// Messages that it missed because it did not take them in time.
    pub fn dropped_local(&self, id: LocalId) -> u64 {
        self.locals.get(id.0).map_or(0, |local| local.dropped)
    }
}
