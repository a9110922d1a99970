//! Sessions and retained messages as they come back at a start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{self, PlaceValue, Presence, RetainedValue, SessionValue};
use super::quota::Uncounted;
use super::{Change, Doubts, Kept, PersistTicket, Reads};
use crate::broker::Broker;
use crate::losses::SessionLossReason;
use crate::message::Message;
use crate::session::{Session, Subscriber};
use crate::topic::TopicName;

/// What came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Sessions.
    pub sessions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Entries that say nothing to this program, or of a session that is not there: they are
    /// deleted with the next changes.
    pub unknown: usize,
}

impl Broker {
    /// Takes up what an earlier life of the broker left in the table, in order of the keys, with
    /// a spool whose next record is `head`. To be called before the first connection.
    pub fn restore<'a>(
        &mut self,
        now: Instant,
        entries: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
        head: u64,
    ) -> Restored {
        self.now = Some(now);
        self.keep_sessions();
        if let Some(durable) = &mut self.durable {
            durable.head = head;
        }
        let mut restored = Restored::default();
        // Keys of other kinds sort before those of sessions.
        for (key, value) in entries.clone().filter(|(key, _)| key.first() == Some(&format::SESSION))
        {
            if self.restore_session(now, key, value).is_none() {
                self.forget_key(key, &mut restored);
            }
        }
        for (key, value) in entries {
            let known = match key.first() {
                Some(&format::SESSION) => Some(()),
                Some(&format::NEXT) => self.restore_next(key, value),
                Some(&format::RETAINED) => self.restore_retained(now, key, value),
                Some(&format::WILL) => self.restore_will(now, key, value),
                Some(&format::ESTATE) => format::split_key(key)
                    .and_then(|(number, _)| self.restore_estate(number, value, head)),
                Some(&format::LOSS) => {
                    self.durable.as_mut().and_then(|d| d.losses.restore(key, value))
                }
                _ => self.restore_part(key, value, head),
            };
            if known.is_none() {
                self.forget_key(key, &mut restored);
            }
        }
        let slots: Vec<u32> = self.by_client.values().copied().collect();
        for slot in slots {
            let Some(session) = self.sessions.get(slot) else { continue };
            if session.ends_at.is_some_and(|at| at <= now) {
                self.end_session(now, slot); // It ended while nobody was there to see it.
                continue;
            }
            if session.will.as_ref().is_some_and(|will| will.at <= now) {
                self.publish_delayed_will(slot);
            }
            self.arm_session(slot);
            self.note_progress(slot);
        }
        self.begin_counting(head);
        restored.sessions = self.by_client.len();
        restored.retained = self.retained.len();
        restored
    }

    /// What waits in the spool for sessions that came back has to be counted.
    fn begin_counting(&mut self, head: u64) {
        let sessions = self.by_client.values().filter_map(|slot| self.sessions.get(*slot));
        let next = sessions.map(|session| session.unread_from().unwrap_or(head)).min();
        if let (Some(durable), Some(next)) = (&mut self.durable, next)
            && next < head
        {
            durable.uncounted = Some(Uncounted { next, end: head });
        }
    }

    fn forget_key(&mut self, key: &[u8], restored: &mut Restored) {
        restored.unknown += 1;
        if let Some(durable) = &mut self.durable {
            durable.delete(key.to_vec());
        }
    }

    fn restore_session(&mut self, now: Instant, key: &[u8], value: &[u8]) -> Option<()> {
        let (number, _) = format::split_key(key).filter(|(_, rest)| rest.is_empty())?;
        let said = SessionValue::decode(value)?;
        let durable = self.durable.as_mut()?;
        durable.next_number = durable.next_number.max(number + 1);
        let client: Arc<str> = said.client.into();
        if self.by_client.contains_key(&client) {
            return None;
        }
        // Time away counts when both ends of it can be trusted.
        let away = match (said.presence, durable.unix_ms(now)) {
            (Presence::Gone(Some(since)), Some(today)) => {
                Duration::from_millis(today.saturating_sub(since).max(0) as u64)
            }
            _ => Duration::ZERO,
        };
        let mut session = Session::new(client.clone(), &self.limits);
        session.user = said.user.map(Into::into);
        session.expiry = said.expiry;
        session.detached_at = now.checked_sub(away).or(Some(now));
        session.ends_at = now.checked_add(said.expiry.saturating_sub(away));
        let mut kept = Kept::new(number);
        kept.written = value.to_vec();
        kept.reads = Reads::From(1); // Unless its place says more.
        if said.presence == Presence::Connected {
            kept.begun_below = durable.head;
            // What its client was sent since its place was written is not known, so that each
            // message may be a repetition [MQTT-3.3.1-1].
            kept.sent_through = durable.head;
            kept.dup_below = durable.head;
        }
        session.kept = Some(Box::new(kept));
        session.inflight.keep_done();
        let slot = self.sessions.insert(session);
        self.by_client.insert(client, slot);
        durable.by_number.insert(number, slot);
        Some(())
    }

    fn restore_next(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let next = format::decode_next(key, value)?;
        let durable = self.durable.as_mut()?;
        durable.next_number = durable.next_number.max(next);
        Some(())
    }

    fn restore_part(&mut self, key: &[u8], value: &[u8], head: u64) -> Option<()> {
        let (number, rest) = format::split_key(key)?;
        let slot = *self.durable.as_ref()?.by_number.get(&number)?;
        let session = self.sessions.get_mut(slot)?;
        match *key.first()? {
            format::SUBSCRIPTION => {
                let (filter, subscription) = format::decode_subscription(rest, value)?;
                session.subscriptions.insert(filter.clone(), subscription);
                self.subscriptions += 1;
                match filter.shared() {
                    Some(shared) => self.join_group(&filter, &shared, slot, subscription),
                    None => {
                        let subscriber = Subscriber::Session { session: slot, subscription };
                        self.subscribers.insert(&filter, subscriber);
                    }
                }
            }
            format::RECEIPT => {
                session.receipts.restore(u16::from_be_bytes(rest.try_into().ok()?));
            }
            format::PLACE => {
                let place = PlaceValue::decode(value)?;
                let kept = session.kept.as_mut()?;
                kept.reads = Reads::Live;
                kept.doubts = Doubts::restored(place.in_doubt);
                if place.first < head {
                    if place.floor < head {
                        kept.reads = Reads::From(place.floor);
                    }
                    kept.floor = place.floor;
                    session.lost.add(SessionLossReason::SessionQuota, place.owed);
                    kept.sent_through = kept.sent_through.max(place.sent_through);
                    kept.dup_below = kept.sent_through;
                    let owed = !place.owed.is_nothing();
                    // Behind the head is what damage has taken: those sequences come again.
                    for (seq, received) in place.settled.into_iter().filter(|(seq, _)| *seq < head)
                    {
                        session.inflight.restore(seq, received);
                    }
                    if owed {
                        let ticket = PersistTicket::default();
                        session.doubt(place.first..place.floor.min(head), ticket);
                    }
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn restore_retained(&mut self, now: Instant, key: &[u8], value: &[u8]) -> Option<()> {
        let topic = TopicName::parse(std::str::from_utf8(key.get(1..)?).ok()?).ok()?;
        let kept = RetainedValue::decode(topic, value)?;
        let today = self.durable.as_ref().and_then(|durable| durable.unix_ms(now));
        let expires_at = match (kept.expires_ms, today) {
            (Some(at), Some(today)) if at <= today => return None,
            (Some(at), Some(today)) => {
                now.checked_add(Duration::from_millis(at.saturating_sub(today) as u64))
            }
            _ => crate::delivery::expires_at(now, &kept.message),
        };
        self.retained.restore(Arc::new(kept.message), expires_at).ok()
    }

    /// What the table has to say of a message that is to be retained, in the transaction that has
    /// the message itself; `None` if nothing changes.
    pub fn retained_change(&mut self, now: Instant, message: &Message) -> Option<Change> {
        let durable = self.durable.as_ref()?;
        if !message.retain || message.topic.is_reserved() {
            return None;
        }
        let key = format::retained_key(&message.topic);
        if !self.retained.would_keep(now, message) {
            return self.retained.contains(&message.topic).then_some(Change { key, value: None });
        }
        let expires_at = crate::delivery::expires_at(now, message);
        let expires_ms = expires_at.and_then(|at| durable.unix_ms(at));
        let value = RetainedValue { message: message.clone(), expires_ms }.encode();
        Some(Change { key, value: Some(value) })
    }
}
