//! The spool: messages with QoS 1 and 2 for kept sessions, in one stream of the owner's.

use std::sync::Arc;
use std::time::Instant;

use super::Reads;
use super::backlog::Amount;
use super::format::{self, SpoolTarget};
use crate::broker::Broker;
use crate::delivery::{Delivery, Target, cost, seconds_left};
use crate::event::BrokerEvent;
use crate::losses::SessionLossReason;
use crate::message::{Message, QoS};
use crate::retained::Kept as Retained;
use crate::session::Subscription;
use crate::topic::TopicFilter;

impl Broker {
    /// Finds whom a message concerns, and how many records of the spool it needs for them: one,
    /// when any is a kept session, or more, when shared subscriptions give a session more than one
    /// copy. Then [`spool_targets`](Broker::spool_targets) and
    /// [`deliver_found`](Broker::deliver_found) speak of it.
    pub fn find(&mut self, message: &Arc<Message>) -> usize {
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        self.find_targets(message, &mut targets, None);
        let mut records = 0;
        if message.qos > QoS::AtMostOnce && self.keeps_any() {
            for at in 0..targets.len() {
                let Target { session, qos, share, .. } = &targets[at];
                let kept = self.sessions.get(*session).is_some_and(|s| s.kept.is_some());
                if !kept || *qos == QoS::AtMostOnce {
                    continue;
                }
                let mut copy = 0;
                if share.is_some() || !self.groups.is_empty() {
                    let before = &targets[..at];
                    let same = |t: &&Target| t.session == *session && t.spooled.is_some();
                    copy = before.iter().filter(same).count();
                }
                records = records.max(copy + 1);
                targets[at].spooled = Some(copy);
            }
        }
        self.targets = targets;
        records
    }

    fn keeps_any(&self) -> bool {
        self.durable.as_ref().is_some_and(|durable| !durable.by_number.is_empty())
    }

    /// Appends who gets the message found last from its record number `record` in the spool,
    /// counted from 0: this goes in front of the payload.
    pub fn spool_targets(&self, record: usize, out: &mut Vec<u8>) {
        format::encode_targets(self.targets_of(record).iter(), out);
    }

    /// The same, not as bytes, for each of the first `records`.
    pub fn found_targets(&self, records: usize) -> Vec<Vec<SpoolTarget>> {
        (0..records).map(|record| self.targets_of(record)).collect()
    }

    /// The shared subscriptions whose member gets the message found last from the spool.
    pub fn found_shares(&self) -> Vec<TopicFilter> {
        let spooled = self.targets.iter().filter(|target| target.spooled.is_some());
        spooled.filter_map(|target| target.share.clone()).collect()
    }

    fn targets_of(&self, record: usize) -> Vec<SpoolTarget> {
        self.targets
            .iter()
            .filter(|target| target.spooled == Some(record))
            .filter_map(|target| {
                let session = self.sessions.get(target.session)?;
                Some(SpoolTarget {
                    session: session.kept.as_ref()?.number,
                    qos: target.qos,
                    retain: target.retain,
                    replay: false,
                    subscription_ids: target.subscription_ids.clone(),
                    share: target.share.clone(),
                })
            })
            .collect()
    }

    /// Delivers a message whose records in the spool were written some time ago, to everybody
    /// else: not to the shared subscriptions in `shares`, which had a kept session chosen then, and
    /// to none in others.
    pub fn publish_beside(&mut self, now: Instant, message: &Arc<Message>, shares: &[TopicFilter]) {
        self.now = Some(now);
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        self.find_targets(message, &mut targets, Some(shares));
        for target in &mut targets {
            let kept = self.sessions.get(target.session).is_some_and(|s| s.kept.is_some());
            target.spooled = (kept && target.qos > QoS::AtMostOnce).then_some(0);
        }
        self.deliver_all(now, message, &targets);
        self.targets = targets;
    }

    /// Delivers the message found last to everybody who does not get it from the spool, keeps it
    /// if it is to be retained, and returns how many matched in all.
    pub fn deliver_found(&mut self, now: Instant, message: &Arc<Message>) -> usize {
        self.now = Some(now);
        let targets = std::mem::take(&mut self.targets);
        let matched = self.deliver_all(now, message, &targets);
        self.targets = targets;
        matched
    }

    /// The spool record `seq` has been appended, and will be offered when it is durable.
    pub fn spooled(&mut self, seq: u64) {
        if let Some(durable) = &mut self.durable {
            durable.end = durable.end.max(seq + 1);
        }
    }

    /// The spool record `seq` has become durable. Records are offered in order, each once.
    pub fn offer(
        &mut self,
        now: Instant,
        seq: u64,
        message: &Arc<Message>,
        targets: &[SpoolTarget],
        expires_at: Option<Instant>,
    ) {
        self.now = Some(now);
        let (one, quota) = (Amount::one(cost(message)), self.session_quota());
        for target in targets {
            let Some(durable) = &mut self.durable else { return };
            if target.is_moved() {
                durable.estates.arrived();
            }
            let Some(&slot) = durable.by_number.get(&target.session) else {
                self.give_on_late(now, seq, message, target, expires_at);
                continue;
            };
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            let Some(kept) = &mut session.kept else { continue };
            kept.backlog.add(seq, one, quota, durable.uncounted.map_or(0, |range| range.end));
            let exceeds = kept.backlog.exceeds(quota);
            if target.replay && !target.is_moved() {
                kept.replaying = kept.replaying.saturating_sub(1);
            }
            if durable.uncounted.is_some() && kept.offered.is_none() {
                kept.offered = Some(seq);
            }
            if kept.reads == Reads::Live {
                kept.reads = Reads::From(seq);
                if session.connection.is_some() {
                    durable.behind.insert(slot);
                    self.take_record(now, slot, seq, message, target, expires_at);
                    self.forget_full(slot);
                }
            }
            if exceeds {
                self.keep_quota(slot);
            }
            self.wait_if_behind(now, slot);
            if target.replay {
                self.pump(now, slot);
            }
        }
        if let Some(durable) = &mut self.durable {
            durable.head = durable.head.max(seq + 1);
        }
        self.catch_up();
    }

    /// The first spool record that a session with room wants; the owner reads from there and
    /// hands over what it reads with [`offer_again`](Broker::offer_again), then calls
    /// [`read_through`](Broker::read_through).
    pub fn spool_wanted(&self) -> Option<u64> {
        let durable = self.durable.as_ref()?;
        let behind = durable.behind.iter().filter_map(|slot| {
            let session = self.sessions.get(*slot)?;
            let Reads::From(next) = session.kept.as_ref()?.reads else { return None };
            let room = session.has_memory();
            (room && self.queued_bytes < self.limits.max_queued_bytes).then_some(next)
        });
        let wanted = behind.chain(durable.estates.wanted());
        wanted.min().filter(|next| *next < durable.head)
    }

    /// Whether a session that reads from `from` on wants this record: then it is worth making a
    /// message of.
    pub fn is_wanted(&self, from: u64, seq: u64, targets: &[SpoolTarget]) -> bool {
        let Some(durable) = &self.durable else { return false };
        targets.iter().any(|target| {
            if durable.estates.want(from, seq, target) {
                return true;
            }
            let slot = durable.by_number.get(&target.session);
            let slot = slot.filter(|slot| durable.behind.contains(slot));
            let session = slot.and_then(|slot| self.sessions.get(*slot));
            session
                .and_then(|session| session.kept.as_ref())
                .is_some_and(|kept| kept.reads_at(from, seq))
        })
    }

    /// A record that was read for those that are behind, from `from` on, in order.
    pub fn offer_again(
        &mut self,
        now: Instant,
        (from, seq): (u64, u64),
        message: &Arc<Message>,
        targets: &[SpoolTarget],
        expires_at: Option<Instant>,
    ) {
        self.now = Some(now);
        for target in targets {
            let Some(durable) = &self.durable else { return };
            let slot = durable.by_number.get(&target.session).copied();
            if slot.is_none() {
                self.inherit(now, (from, seq), message, target, expires_at);
                continue;
            }
            let Some(slot) = slot.filter(|slot| durable.behind.contains(slot)) else { continue };
            let kept = self.sessions.get_mut(slot).and_then(|session| session.kept.as_mut());
            if let Some(kept) = kept.filter(|kept| kept.reads_at(from, seq)) {
                kept.reads = Reads::From(seq);
                self.take_record(now, slot, seq, message, target, expires_at);
            }
        }
    }

    /// The records from `from` to before `next` have been offered again, or are gone.
    pub fn read_through(&mut self, from: u64, next: u64) {
        let Some(durable) = &mut self.durable else { return };
        durable.estates_read_through(from, next);
        let slots: Vec<u32> = durable.behind.iter().copied().collect();
        for slot in slots {
            let kept = self.sessions.get_mut(slot).and_then(|session| session.kept.as_mut());
            let Some(kept) = kept else { continue };
            if !std::mem::take(&mut kept.full) && kept.reads_at(from, next) {
                kept.reads = Reads::From(next);
            }
        }
        self.catch_up();
    }

    /// Records before `first` are gone without having been read by everybody.
    pub fn spool_lost(&mut self, first: u64) {
        let Some(durable) = &mut self.durable else { return };
        durable.estates_lost(first);
        self.spool_gone(0, first);
        self.catch_up();
    }

    /// The records from `from` to before `next` were found to be gone as they were to be read. To
    /// be called before [`read_through`](Broker::read_through) or
    /// [`counted_through`](Broker::counted_through).
    pub fn spool_gone(&mut self, from: u64, next: u64) {
        let Some(durable) = &self.durable else { return };
        let (uncounted, ticket) = (durable.uncounted, durable.next_ticket);
        let slots: Vec<u32> = durable.by_number.values().copied().collect();
        for slot in slots {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            match session.reads_from() {
                Some(at) if (from..next).contains(&at) => {
                    self.give_up(slot, next, SessionLossReason::SpoolQuota);
                }
                // It still reads what is before them.
                Some(at) if at < from => {
                    if let Some(range) = uncounted {
                        session.doubt(from.max(range.next)..next.min(range.end), ticket);
                        self.write_doubts(slot);
                    }
                }
                Some(_) | None => {}
            }
        }
        if self.uncounted_from().is_some_and(|at| at >= from) {
            self.counted_through(next);
        }
    }

    /// A message that was to be appended for this target only cannot be in the spool: its session
    /// goes without.
    pub fn replay_dropped(&mut self, now: Instant, target: &SpoolTarget) {
        let Some(durable) = &mut self.durable else { return };
        if target.is_moved() {
            durable.estates.arrived();
        }
        let Some(&slot) = durable.by_number.get(&target.session) else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.dropped += 1;
        if let Some(kept) = session.kept.as_mut().filter(|_| !target.is_moved()) {
            kept.replaying = kept.replaying.saturating_sub(1);
        }
        self.pump(now, slot);
    }

    fn forget_full(&mut self, slot: u32) {
        if let Some(kept) = self.sessions.get_mut(slot).and_then(|session| session.kept.as_mut()) {
            kept.full = false;
        }
    }

    /// Those who have read to the head read live from now on.
    fn catch_up(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        let (head, sessions) = (durable.head, &mut self.sessions);
        durable.behind.retain(|slot| {
            let Some(kept) = sessions.get_mut(*slot).and_then(|s| s.kept.as_mut()) else {
                return false;
            };
            if let Reads::From(next) = kept.reads
                && next >= head
            {
                kept.reads = Reads::Live;
            }
            kept.reads != Reads::Live
        });
    }

    /// Takes a record into the memory of a session that reads there, if it has room.
    fn take_record(
        &mut self,
        now: Instant,
        slot: u32,
        seq: u64,
        message: &Arc<Message>,
        target: &SpoolTarget,
        expires_at: Option<Instant>,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.kept.as_ref().is_none_or(|kept| kept.reads != Reads::From(seq)) {
            return;
        }
        let ids = &target.subscription_ids;
        let mut delivery =
            Delivery::new(message.clone(), target.qos, target.retain, ids, expires_at);
        delivery.seq = seq;
        let bytes = delivery.bytes();
        let settled = session.inflight.knows(seq);
        if !settled && (!session.has_memory() || self.queued_bytes >= self.limits.max_queued_bytes)
        {
            if let Some(kept) = &mut session.kept {
                kept.full = true; // It is read again when there is room.
            }
            return;
        }
        if let Some(kept) = &mut session.kept {
            kept.reads = Reads::From(seq + 1);
        }
        if settled || self.is_denied(slot, seq, message, target) {
            return; // An earlier connection got so far that it is not sent again.
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.held_bytes += bytes;
        self.queued_bytes += bytes;
        session.queue.push_back(delivery);
        if session.queue.len() == 1 {
            self.pump(now, slot);
        }
    }

    /// A retained message for a new subscription of a kept session, through the spool. There its
    /// expiry begins again, so what is left of it goes along [MQTT-3.3.2-6].
    pub(crate) fn replay_through_spool(
        &mut self,
        now: Instant,
        slot: u32,
        retained: &Retained,
        subscription: &Subscription,
    ) {
        let mut message = retained.message.clone();
        let left = seconds_left(now, retained.expires_at);
        if left != message.properties.message_expiry {
            Arc::make_mut(&mut message).properties.message_expiry = left;
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(kept) = &mut session.kept else { return };
        kept.replaying += 1;
        let target = SpoolTarget {
            session: kept.number,
            qos: subscription.qos.min(message.qos),
            retain: true, // [MQTT-3.3.1-8]
            replay: true,
            subscription_ids: subscription.id.into_iter().collect(),
            share: None,
        };
        let mut targets = Vec::new();
        format::encode_targets([target].iter(), &mut targets);
        self.events.push_back(BrokerEvent::Spool { message, targets, change: None });
    }
}
