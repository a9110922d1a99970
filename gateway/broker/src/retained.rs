//! The last message of each topic that was published to be kept.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use crate::broker::Broker;
use crate::delivery::{cost, expires_at};
use crate::message::Message;
use crate::topic::{TopicFilter, TopicName};

/// Retained messages by topic, bounded in number and bytes.
#[derive(Debug)]
pub(crate) struct Retained {
    messages: BTreeMap<TopicName, Kept>,
    bytes: usize,
    /// How many have been kept so far.
    count: u64,
    max_messages: usize,
    max_bytes: usize,
    /// No message expires before this.
    first_expiry: Option<Instant>,
    /// Topics whose message has expired since they were asked for last.
    expired: Vec<TopicName>,
    /// Whether anybody asks.
    notes_expired: bool,
}

/// What one stretch of a walk has come to.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// The next message.
    Found(Kept),
    /// There are no more.
    End,
    /// As many topics as allowed were looked at, up to this one.
    Tired(TopicName),
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// Numbers rise from one to the next.
    pub(crate) number: u64,
    pub(crate) message: Arc<Message>,
    pub(crate) expires_at: Option<Instant>,
}

/// The store is full: the message is not retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Retained {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Retained {
        Retained {
            messages: BTreeMap::new(),
            bytes: 0,
            count: 0,
            max_messages,
            max_bytes,
            first_expiry: None,
            expired: Vec::new(),
            notes_expired: false,
        }
    }

    /// From now on somebody asks which messages have expired.
    pub(crate) fn note_expired(&mut self) {
        self.notes_expired = true;
    }

    /// Topics whose message has expired, and that have none since.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<TopicName> {
        self.drop_expired(now);
        let mut expired = std::mem::take(&mut self.expired);
        expired.retain(|topic| !self.messages.contains_key(topic));
        expired
    }

    /// Messages, the gateway's own not counted: neither are they bounded.
    pub(crate) fn len(&self) -> usize {
        let own = self.messages.range::<str, _>((Bound::Included("$"), Bound::Excluded("%")));
        let own = own.count();
        self.messages.len() - own
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of the message that was kept last.
    pub(crate) fn newest(&self) -> u64 {
        self.count
    }

    /// Replaces the topic's message; an empty payload deletes it [MQTT-3.3.1-6]. If the new
    /// one does not fit, the old one goes all the same: it is not the topic's last any more.
    pub(crate) fn store(&mut self, now: Instant, message: &Arc<Message>) -> Result<(), Full> {
        self.remove(&message.topic);
        if message.payload.is_empty() {
            return Ok(());
        }
        let bytes = counted(message);
        if !self.fits(bytes) {
            self.drop_expired(now);
        }
        if !self.fits(bytes) {
            return Err(Full);
        }
        self.bytes += bytes;
        self.count += 1;
        let expires_at = expires_at(now, message);
        let kept = Kept { number: self.count, message: message.clone(), expires_at };
        self.first_expiry = [self.first_expiry, kept.expires_at].into_iter().flatten().min();
        self.messages.insert(message.topic.clone(), kept);
        Ok(())
    }

    /// Whether [`store`](Retained::store) would keep it.
    pub(crate) fn would_keep(&mut self, now: Instant, message: &Message) -> bool {
        if message.payload.is_empty() {
            return false;
        }
        self.drop_expired(now);
        let old = self.messages.get(&message.topic).map(|kept| counted(&kept.message));
        let replaced = old.is_some_and(|bytes| bytes > 0);
        let messages = self.len() - usize::from(replaced);
        let bytes = self.bytes - old.unwrap_or(0) + counted(message);
        messages < self.max_messages && bytes <= self.max_bytes
    }

    /// The topic's message.
    pub(crate) fn get(&self, now: Instant, topic: &TopicName) -> Option<Arc<Message>> {
        let kept = self.messages.get(topic)?;
        kept.expires_at.is_none_or(|at| at > now).then(|| kept.message.clone())
    }

    /// Whether the topic has one.
    pub(crate) fn contains(&self, topic: &TopicName) -> bool {
        self.messages.contains_key(topic)
    }

    /// One that was kept when the process ended.
    pub(crate) fn restore(
        &mut self,
        message: Arc<Message>,
        expires_at: Option<Instant>,
    ) -> Result<(), Full> {
        let bytes = counted(&message);
        if !self.fits(bytes) {
            return Err(Full);
        }
        self.bytes += bytes;
        self.first_expiry = [self.first_expiry, expires_at].into_iter().flatten().min();
        self.count += 1;
        let kept = Kept { number: self.count, message, expires_at };
        self.messages.insert(kept.message.topic.clone(), kept);
        Ok(())
    }

    fn fits(&self, bytes: usize) -> bool {
        bytes == 0 || self.len() < self.max_messages && self.bytes + bytes <= self.max_bytes
    }

    fn remove(&mut self, topic: &TopicName) {
        if let Some(kept) = self.messages.remove(topic) {
            self.bytes -= counted(&kept.message);
        }
    }

    /// Looks at all messages, but only when one may have expired.
    fn drop_expired(&mut self, now: Instant) {
        if self.first_expiry.is_none_or(|at| at > now) {
            return;
        }
        let (bytes, topics, notes) = (&mut self.bytes, &mut self.expired, self.notes_expired);
        self.messages.retain(|topic, kept| {
            let expired = kept.expires_at.is_some_and(|at| at <= now);
            if expired {
                *bytes -= counted(&kept.message);
                if notes {
                    topics.push(topic.clone());
                }
            }
            !expired
        });
        self.first_expiry = self.messages.values().filter_map(|kept| kept.expires_at).min();
    }

    /// The first message that matches `filter`, has not expired and whose topic comes after
    /// `after`; each topic looked at costs one of `visits`. Calling it with the topic found
    /// last walks over all of them.
    pub(crate) fn next(
        &self,
        now: Instant,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        visits: &mut usize,
    ) -> Step {
        let prefix = filter.literal_prefix();
        let start = match after {
            Some(topic) => Bound::Excluded(topic.as_str()),
            None => Bound::Included(prefix),
        };
        for (topic, kept) in self.messages.range::<str, _>((start, Bound::Unbounded)) {
            if !topic.as_str().starts_with(prefix) {
                break;
            }
            *visits = visits.saturating_sub(1);
            if filter.matches(topic) && kept.expires_at.is_none_or(|at| at > now) {
                return Step::Found(kept.clone());
            }
            if *visits == 0 {
                return Step::Tired(topic.clone());
            }
        }
        Step::End
    }
}

impl Broker {
    /// The retained message of a topic.
    pub fn retained(&self, now: Instant, topic: &TopicName) -> Option<Arc<Message>> {
        self.retained.get(now, topic)
    }
}

/// Bytes that count against the limit: those of topics that clients can publish to.
fn counted(message: &Message) -> usize {
    if message.topic.is_reserved() { 0 } else { cost(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DELIVERY_OVERHEAD;
    use crate::message::QoS;
    use std::time::Duration;

    fn message(topic: &str, payload: &str) -> Arc<Message> {
        let topic = TopicName::parse(topic).unwrap();
        Arc::new(Message::new(topic, payload.to_owned(), QoS::AtMostOnce))
    }

    fn topics(retained: &Retained, now: Instant, filter: &str) -> Vec<String> {
        let filter = TopicFilter::parse(filter).unwrap();
        let mut found: Vec<String> = Vec::new();
        let mut after = None;
        loop {
            // One visit at a time: a walk may be cut anywhere.
            match retained.next(now, &filter, after.as_ref(), &mut 1) {
                Step::Found(kept) => {
                    found.push(kept.message.topic.to_string());
                    after = Some(kept.message.topic.clone());
                }
                Step::Tired(topic) => after = Some(topic),
                Step::End => return found,
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_walk_finds_every_matching_topic_once_in_order() {
        let now = start();
        let mut retained = Retained::new(100, 100_000);
        for topic in ["a", "a/b", "a/b/c", "a-b", "b/b", "$SYS/b"] {
            retained.store(now, &message(topic, "x")).unwrap();
        }
        assert_eq!(topics(&retained, now, "a/#"), ["a", "a/b", "a/b/c"]);
        assert_eq!(topics(&retained, now, "+/b"), ["a/b", "b/b"]);
        assert_eq!(topics(&retained, now, "#"), ["a", "a-b", "a/b", "a/b/c", "b/b"]);
        assert_eq!(topics(&retained, now, "a/b"), ["a/b"]);
        assert_eq!(topics(&retained, now, "$SYS/#"), ["$SYS/b"]);
    }

    #[test]
    fn a_full_store_keeps_what_it_has_until_something_expires() {
        let now = start();
        let mut retained = Retained::new(2, 100_000);
        let mut short = Message::clone(&message("a", "x"));
        short.properties.message_expiry = Some(10);
        retained.store(now, &Arc::new(short)).unwrap();
        retained.store(now, &message("b", "x")).unwrap();
        assert_eq!(retained.store(now, &message("c", "x")), Err(Full));
        let later = now + Duration::from_secs(10);
        assert_eq!(retained.store(later, &message("c", "x")), Ok(()));
        assert_eq!(topics(&retained, later, "#"), ["b", "c"]);
    }

    #[test]
    fn the_gateways_own_messages_take_no_place_of_a_clients() {
        let now = start();
        let mut retained = Retained::new(2, 100_000);
        for topic in ["$SYS/a", "$SYS/b", "$SYS/c", "a"] {
            retained.store(now, &message(topic, "x")).unwrap();
        }
        assert!(retained.would_keep(now, &message("b", "x")));
        retained.store(now, &message("b", "x")).unwrap();
        retained.store(now, &message("$SYS/d", "x")).unwrap();
        assert!(!retained.would_keep(now, &message("c", "x")));
        assert_eq!(retained.store(now, &message("c", "x")), Err(Full));
        assert_eq!(retained.len(), 2);
    }

    #[test]
    fn bytes_come_back_when_messages_go() {
        let now = start();
        let mut retained = Retained::new(10, 10_000);
        retained.store(now, &message("a", "xxxx")).unwrap();
        retained.store(now, &message("a", "yy")).unwrap();
        assert_eq!(retained.bytes(), 2 + 1 + DELIVERY_OVERHEAD);
        retained.store(now, &message("a", "")).unwrap();
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
    }
}
