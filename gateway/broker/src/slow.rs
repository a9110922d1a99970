//! A subscriber that does not take its messages in time, and whose session ends with its
//! connection: what goes then.
//!
//! Invariant: nothing here takes longer the more is lost, and nobody else waits for it.

use crate::broker::Broker;
use crate::durable::Amount;
use crate::event::ConnId;
use crate::limits::SlowSubscriber;
use crate::losses::SessionLossReason;
use crate::packet::fault::{Fault, Reason};

impl Broker {
    /// Whether a session may hold so many bytes more.
    pub(crate) fn has_queue_room(&self, slot: u32, bytes: usize) -> bool {
        let Some(session) = self.sessions.get(slot) else { return false };
        session.held_bytes + bytes <= self.limits.max_queued_bytes_per_session
            && self.queued_bytes + bytes <= self.limits.max_queued_bytes
    }

    /// Does what the policy says about a full session; true if there is room then.
    pub(crate) fn make_queue_room(&mut self, slot: u32, bytes: usize) -> bool {
        match self.limits.slow_subscriber {
            SlowSubscriber::DropNewest => false,
            SlowSubscriber::DropOldest => {
                while !self.has_queue_room(slot, bytes) {
                    let session = self.sessions.get_mut(slot);
                    let Some(oldest) = session.and_then(|session| session.queue.pop_front()) else {
                        return false; // The rest is under way.
                    };
                    let oldest = oldest.bytes();
                    if let Some(session) = self.sessions.get_mut(slot) {
                        session.held_bytes -= oldest;
                    }
                    self.queued_bytes -= oldest;
                    self.lose_slow(slot, oldest);
                }
                true
            }
            SlowSubscriber::Disconnect => {
                let limit = self.limits.max_queued_bytes_per_session;
                let session = self.sessions.get(slot);
                // Where all sessions together are at their limit, this one is not at fault.
                let session = session.filter(|session| session.held_bytes + bytes > limit);
                let connection = session.and_then(|session| session.connection);
                // Not at once: the message that is being delivered may concern others whose
                // sessions would change with this one's end.
                let conn = connection.and_then(|at| self.connections.get(at)).map(|c| c.id);
                self.too_slow.extend(conn);
                false
            }
        }
    }

    /// A message for this session goes.
    pub(crate) fn lose_slow(&mut self, slot: u32, bytes: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.dropped += 1;
        session.choked = true;
        self.counters.dropped_qos1 += 1;
        if let Some(durable) = &mut self.durable {
            if session.lost.is_nothing() {
                durable.lossy.insert(slot);
            }
            session.lost.add(SessionLossReason::SlowSubscriber, Amount::one(bytes));
        }
    }

    /// Ends the connection of a client that did not keep up.
    pub(crate) fn end_slow(&mut self, conn: ConnId) {
        let Some(now) = self.now else { return };
        let Some(&slot) = self.by_id.get(&conn) else { return };
        if self.connections.get(slot).is_none_or(|connection| connection.open().is_none()) {
            return;
        }
        self.counters.slow_disconnected += 1;
        let text = "the client takes its messages too slowly";
        self.close_for(now, slot, Fault::new(Reason::QuotaExceeded, text));
    }
}
