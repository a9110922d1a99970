//! The quota of a kept session in the spool: what it has, what goes when it is used up, and how it
//! is counted again after a start.
//!
//! Invariants:
//! - what has been sent on the present connection is never given up; it still counts;
//! - the change that says that a session reads from a later place on also says, in the loss
//!   ledger, what it lost by that: neither is on the disk without the other.

use std::time::Instant;

use super::backlog::Amount;
use super::{Durable, Reads, SpoolTarget};
use crate::broker::Broker;
use crate::delivery::cost;
use crate::inflight::id_of;
use crate::limits::BrokerLimits;
use crate::losses::{SessionLoss, SessionLossReason, UntoldLoss};
use crate::message::{Message, QoS};
use crate::packet::ack;
use crate::session::Session;

/// Spool records from before the start that have not been counted yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uncounted {
    pub(crate) next: u64,
    pub(crate) end: u64,
}

impl BrokerLimits {
    /// What one kept session may have in the spool.
    pub(crate) fn session_quota(&self) -> Amount {
        Amount {
            messages: self.max_spooled_messages_per_session,
            bytes: self.max_spooled_bytes_per_session as u64,
        }
    }
}

impl Durable {
    pub(crate) fn is_uncounted(&self, seq: u64) -> bool {
        self.uncounted.is_some_and(|range| (range.next..range.end).contains(&seq))
    }
}

impl Session {
    /// Whether this record is still to be acknowledged by the client.
    fn still_needs(&self, seq: u64) -> bool {
        let Some(kept) = &self.kept else { return false };
        if let Reads::From(at) = kept.reads
            && seq >= at
        {
            return !self.inflight.knows(seq);
        }
        self.inflight.has_published(seq)
            || self.queue.binary_search_by_key(&seq, |delivery| delivery.seq).is_ok()
    }

    /// The messages before `below` that have been sent on the present connection and wait for
    /// their acknowledgement.
    pub(crate) fn under_way(&self, below: u64) -> impl Iterator<Item = (u64, Amount)> {
        let published = self.inflight.published().take_while(move |(seq, _)| *seq < below);
        published.map(|(seq, delivery)| (seq, Amount::one(delivery.bytes())))
    }
}

impl Broker {
    pub(crate) fn session_quota(&self) -> Amount {
        self.limits.session_quota()
    }

    /// A kept session does not need this record any more.
    pub(crate) fn spool_done(&mut self, slot: u32, seq: u64, bytes: usize) {
        if self.durable.as_ref().is_none_or(|durable| durable.is_uncounted(seq)) {
            return;
        }
        let kept = self.sessions.get_mut(slot).and_then(|session| session.kept.as_mut());
        if let Some(kept) = kept {
            kept.backlog.done(seq, Amount::one(bytes));
        }
    }

    /// Gives up the oldest messages of a session until it is within its quota.
    pub(crate) fn keep_quota(&mut self, slot: u32) {
        let quota = self.session_quota();
        while let Some(kept) = self.sessions.get(slot).and_then(|session| session.kept.as_ref())
            && kept.backlog.exceeds(quota)
            && let Some(below) = kept.backlog.end_of_oldest()
        {
            self.give_up(slot, below, SessionLossReason::SessionQuota);
        }
    }

    /// Gives up what waits for a session before the record `below`, except what is under way.
    pub(crate) fn give_up(&mut self, slot: u32, below: u64, reason: SessionLossReason) {
        let Some(durable) = &self.durable else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let counted = |seq: u64| !durable.is_uncounted(seq);
        let (mut from, mut stays) = (below, Amount::default());
        let mut released = Vec::new();
        for (seq, one) in session.under_way(below).filter(|(seq, _)| counted(*seq)) {
            from = from.min(seq);
            stays = stays.plus(one);
        }
        match reason {
            SessionLossReason::SpoolQuota => {
                // What has been read of them can still be sent.
                let read = session.queue.iter().take_while(|delivery| delivery.seq < below);
                for delivery in read.filter(|delivery| counted(delivery.seq)) {
                    from = from.min(delivery.seq);
                    stays = stays.plus(Amount::one(delivery.bytes()));
                }
            }
            SessionLossReason::SessionQuota | SessionLossReason::SlowSubscriber => {
                self.queued_bytes -= session.drop_queued(below, &mut released);
                if let Some(kept) = &mut session.kept {
                    kept.floor = kept.floor.max(below);
                }
            }
        }
        released.extend(session.release_given_up(below, durable.next_ticket));
        if let (Some(Uncounted { next, end }), Some(from)) =
            (durable.uncounted, session.reads_from())
        {
            // Nobody has looked at these.
            session.doubt(from.max(next)..below.min(end), durable.next_ticket);
        }
        let Some(kept) = &mut session.kept else { return };
        let gone = kept.backlog.give_up(below, durable.head, (from, stays));
        if let Reads::From(at) = kept.reads
            && at < below
        {
            kept.reads = Reads::From(below);
        }
        session.lost.add(reason, gone);
        session.dropped += gone.messages;
        self.counters.dropped_spooled += gone.messages;
        self.note_progress(slot);
        self.say_released(slot, released);
        self.write_doubts(slot);
    }

    /// Says PUBREL of these messages of QoS 2, which are given up after they were sent, once it is
    /// durable that they are. Without a connection that is said on the next.
    pub(crate) fn say_released(&mut self, slot: u32, released: impl IntoIterator<Item = u64>) {
        let connection = self.sessions.get(slot).and_then(|session| session.connection);
        let Some(connection) = connection else { return };
        for seq in released {
            if let Some(durable) = &mut self.durable {
                durable.urgent.insert(slot);
            }
            self.send_when_durable(connection, slot, &ack::success(ack::PUBREL, id_of(seq)));
        }
    }

    /// The spool record from which on records from before the start are still to be counted: the
    /// owner reads from there, calls [`count`](Broker::count) and then
    /// [`counted_through`](Broker::counted_through). Until then the quotas of sessions allow that
    /// much more.
    pub fn uncounted_from(&self) -> Option<u64> {
        Some(self.durable.as_ref()?.uncounted?.next)
    }

    /// Whether a session still waits for this record: then it is worth making a message of.
    pub fn counts(&self, seq: u64, targets: &[SpoolTarget]) -> bool {
        let Some(durable) = &self.durable else { return false };
        let slots = targets.iter().filter_map(|target| durable.by_number.get(&target.session));
        let mut sessions = slots.filter_map(|slot| self.sessions.get(*slot));
        durable.is_uncounted(seq) && sessions.any(|session| session.still_needs(seq))
    }

    /// Counts a record, in order.
    pub fn count(&mut self, now: Instant, seq: u64, message: &Message, targets: &[SpoolTarget]) {
        self.now = Some(now);
        let (one, quota) = (Amount::one(cost(message)), self.session_quota());
        for target in targets {
            let Some(durable) = &mut self.durable else { return };
            let Some(&slot) = durable.by_number.get(&target.session) else { continue };
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            if !durable.is_uncounted(seq) || !session.still_needs(seq) {
                continue;
            }
            if let Some(kept) = &mut session.kept {
                kept.backlog.add(seq, one, quota, 0);
                if target.qos == QoS::ExactlyOnce && seq < kept.sent_through {
                    kept.note_halfway(seq);
                }
                if let Reads::From(at) = kept.reads
                    && !kept.found
                    && at <= seq
                {
                    // It needs none of those between, which have been looked at for it.
                    kept.reads = Reads::From(seq);
                }
                kept.found = true;
            }
        }
        if let Some(Uncounted { next, .. }) =
            self.durable.as_mut().and_then(|durable| durable.uncounted.as_mut())
        {
            *next = (*next).max(seq + 1);
        }
        for target in targets {
            let slot = self.durable.as_ref().and_then(|d| d.by_number.get(&target.session));
            if let Some(&slot) = slot {
                self.keep_quota(slot);
            }
        }
    }

    /// The records before `next` have been counted, or are gone. A session that needs none of them
    /// keeps the spool no longer.
    pub fn counted_through(&mut self, next: u64) {
        let Some(durable) = &mut self.durable else { return };
        let Some(range) = &mut durable.uncounted else { return };
        range.next = range.next.max(next);
        let counted = range.next.min(range.end);
        if range.next >= range.end {
            durable.uncounted = None;
        }
        let (done, behind) = (durable.uncounted.is_none(), &durable.behind);
        let moved = |slot: &u32| {
            let kept = self.sessions.get_mut(*slot).and_then(|session| session.kept.as_mut());
            let Some(kept) = kept.filter(|kept| !kept.found) else { return false };
            let moves = matches!(kept.reads, Reads::From(at) if at < counted);
            if moves {
                kept.reads = match kept.offered {
                    _ if !done || behind.contains(slot) => Reads::From(counted),
                    Some(seq) => Reads::From(seq),
                    None => Reads::Live,
                };
            }
            moves
        };
        let slots: Vec<u32> = durable.by_number.values().copied().filter(moved).collect();
        slots.into_iter().for_each(|slot| self.note_progress(slot));
    }

    /// The time of day by the owner's clock, trusted or not: when something was lost.
    pub fn note_unix_ms(&mut self, unix_ms: i64) {
        if let Some(durable) = &mut self.durable {
            durable.unix_now = unix_ms;
        }
    }

    /// What clients lost, in order of their identifiers.
    pub fn session_losses(&self) -> Vec<SessionLoss> {
        self.durable.as_ref().map_or_else(Vec::new, |durable| durable.losses.all().collect())
    }

    /// What has not been told of at most `max` of them. To be called when all changes that were
    /// handed out are on their way to the disk; then [`losses_told`](Broker::losses_told).
    pub fn untold_losses(&self, max: usize) -> Vec<UntoldLoss> {
        self.durable.as_ref().map_or_else(Vec::new, |durable| durable.losses.untold(max))
    }

    /// The changes of all of these are on their way to the disk.
    pub fn losses_told(&mut self, told: &[UntoldLoss]) {
        if let Some(durable) = &mut self.durable {
            durable.losses.told(told);
        }
    }
}

/// Enters what a session lost since this was done last.
pub(crate) fn enter_losses(durable: &mut Durable, session: &mut Session) {
    if session.lost.is_nothing() {
        return;
    }
    let (lost, kept) = (std::mem::take(&mut session.lost), session.kept.is_some());
    let changes = durable.losses.add(&session.client, lost, durable.unix_now, kept);
    durable.changes.extend(changes);
}
