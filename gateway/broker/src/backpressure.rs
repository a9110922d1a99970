//! Publishers wait for a subscriber that reads fast and is behind for a moment.
//!
//! Invariants:
//! - nobody is waited for longer than [`PATIENCE`] without having taken a quarter of its quota
//!   in that time: a client that is stuck, or only slow, falls under its policy or its quota;
//! - whoever was given up on is not waited for again before it has caught up and a pause has
//!   passed, which doubles each time: it cannot slow down others by stopping and starting;
//! - a client whose own session is owed something is never held back: its acknowledgements may
//!   stand behind its publishes.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::durable::Amount;
use crate::event::BrokerEvent;
use crate::limits::BrokerLimits;
use crate::session::Session;

/// Time in which a subscriber that publishers wait for has to take a quarter of its quota.
const PATIENCE: Duration = Duration::from_millis(100);

/// Part of the quota beyond which a session is behind.
const BEHIND: u64 = 4;

/// Part of the quota within which it has caught up.
const CAUGHT_UP: u64 = 8;

/// The first pause after giving up on a session, and how often it is doubled at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 6;

/// How publishers stand to one session.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// They wait for it until then.
    pub(crate) until: Option<Instant>,
    /// What it has taken since that was set.
    taken: Amount,
    /// It was given up on and has not caught up since.
    given_up: bool,
    /// It is not waited for before.
    not_before: Option<Instant>,
    /// How often it has been given up on since the last time that waiting helped.
    doublings: u32,
}

impl Session {
    /// What waits for the client and is under way to it, and the quota for that.
    fn owed(&self, limits: &BrokerLimits) -> (Amount, Amount) {
        match &self.kept {
            Some(kept) => (kept.backlog.total(), limits.session_quota()),
            None => {
                let bytes = limits.max_queued_bytes_per_session as u64;
                (Amount::one(self.held_bytes), Amount { messages: u64::MAX, bytes })
            }
        }
    }

    /// Whether the client is to take, or to acknowledge, anything.
    fn is_owed_something(&self) -> bool {
        self.inflight.len() > 0 || self.has_backlog()
    }
}

impl Broker {
    /// More waits for this session.
    pub(crate) fn wait_if_behind(&mut self, now: Instant, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let (owed, quota) = session.owed(&self.limits);
        let strain = &mut session.strain;
        if !owed.exceeds_part(BEHIND, quota)
            || session.connection.is_none()
            || strain.until.is_some()
            || strain.given_up
            || strain.not_before.is_some_and(|at| at > now)
        {
            return;
        }
        (strain.until, strain.taken) = (now.checked_add(PATIENCE), Amount::default());
        self.waited_for.insert(slot);
        self.arm_session(slot);
    }

    /// A session is done with a message of so many bytes.
    pub(crate) fn note_taken(&mut self, slot: u32, bytes: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.strain.until.is_none() && !session.strain.given_up {
            return;
        }
        let (owed, quota) = session.owed(&self.limits);
        let strain = &mut session.strain;
        if !owed.exceeds_part(CAUGHT_UP, quota) {
            strain.given_up = false;
            if strain.until.take().is_some() {
                strain.doublings = 0;
                self.waited_for.remove(&slot);
            }
            return;
        }
        if let Some(until) = &mut strain.until {
            strain.taken = strain.taken.plus(Amount::one(bytes));
            if strain.taken.exceeds_part(BEHIND, quota)
                && let Some(now) = self.now
            {
                (*until, strain.taken) = (now + PATIENCE, Amount::default());
                self.arm_session(slot);
            }
        }
    }

    /// A session's time is over if it is waited for still.
    pub(crate) fn give_up_waiting(&mut self, now: Instant, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let strain = &mut session.strain;
        if strain.until.take_if(|at| *at <= now).is_some() {
            strain.given_up = true;
            strain.not_before = now.checked_add(FIRST_PAUSE * (1 << strain.doublings));
            strain.doublings = (strain.doublings + 1).min(MAX_DOUBLINGS);
            self.waited_for.remove(&slot);
        }
    }

    /// Nobody waits for a session without a connection.
    pub(crate) fn forget_strain(&mut self, slot: u32) {
        self.waited_for.remove(&slot);
        if let Some(session) = self.sessions.get_mut(slot) {
            session.strain.until = None;
        }
    }

    /// Stops reading from a publisher while others are waited for.
    pub(crate) fn waits_for_others(&mut self, slot: u32) -> bool {
        if self.waited_for.is_empty() {
            return false;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let Some(open) = connection.open() else { return false };
        if self.sessions.get(open.session).is_none_or(Session::is_owed_something) {
            return false;
        }
        connection.paused = true;
        self.events.push_back(BrokerEvent::Pause(connection.id));
        self.held_back.insert(slot);
        self.counters.held_back += 1;
        true
    }

    /// Goes on reading from the next connection that waited for others.
    pub(crate) fn resume_held_back(&mut self) -> bool {
        if !self.waited_for.is_empty() {
            return false;
        }
        let (Some(slot), Some(now)) = (self.held_back.pop_first(), self.now) else { return false };
        self.resume_if_possible(now, slot);
        true
    }
}
