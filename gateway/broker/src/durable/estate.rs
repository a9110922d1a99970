//! What an ended session leaves: messages that a shared subscription had given to it go to
//! another member of the group (section 4.8.2).
//!
//! The messages are in the spool. What is left of the session is a place there, written in the
//! changes that end it. The spool is read from that place as for a session that is behind, and
//! what another kept session gets is appended anew, in one transaction with the new place: no
//! power cut gives a message twice.
//!
//! Invariants:
//! - What may have been sent with QoS 2 goes to nobody else [MQTT-4.8.2-5].
//! - What is done with goes to nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::format::{self, PlaceValue, SpoolTarget};
use super::{Amount, Change, Durable};
use crate::broker::Broker;
use crate::delivery::{Target, seconds_left};
use crate::event::BrokerEvent;
use crate::message::{Message, QoS};
use crate::session::Session;
use crate::sharing::Eligible;
use crate::topic::TopicFilter;

/// Messages on their way through the spool to other members at a time; more are read when these
/// are durable.
const MAX_MOVING: usize = 32;

/// All estates.
#[derive(Debug, Default)]
pub(crate) struct Estates {
    by_number: BTreeMap<u64, Estate>,
    /// Messages on their way to other members.
    moving: usize,
}

/// What one session has left.
#[derive(Debug)]
struct Estate {
    /// Records before this one have been looked at.
    next: u64,
    /// No record from here on was for the session.
    until: u64,
    /// Records before this one may have been sent.
    sent_through: u64,
    /// Records that are done with, or that the client has confirmed.
    settled: BTreeSet<u64>,
    /// It could not take the record at which it reads.
    full: bool,
    /// The table says something else.
    dirty: bool,
}

impl Estate {
    fn new(place: &PlaceValue, until: u64) -> Estate {
        Estate {
            // What the session gave up is nobody's.
            next: place.first.max(place.floor),
            until,
            sent_through: place.sent_through,
            settled: place.settled.iter().map(|(seq, _)| *seq).collect(),
            full: false,
            dirty: false,
        }
    }

    /// Whether a reader that began at `from` and is at `seq` reads for it.
    fn reads_at(&self, from: u64, seq: u64) -> bool {
        !self.full && (from..=seq).contains(&self.next)
    }

    fn place(&self) -> PlaceValue {
        PlaceValue {
            first: self.next,
            sent_through: self.sent_through.max(self.next),
            in_doubt: Vec::new(),
            floor: self.next,
            owed: Amount::default(),
            settled: self.settled.range(self.next..).map(|seq| (*seq, false)).collect(),
        }
    }

    fn change(&self, number: u64) -> Change {
        let key = format::key(format::ESTATE, number, &[]);
        Change { key, value: Some(self.place().encode()) }
    }

    /// Whether the record goes to another member.
    fn gives(&self, seq: u64, target: &SpoolTarget) -> bool {
        let begun = seq < self.sent_through && target.qos == QoS::ExactlyOnce;
        !begun && !self.settled.contains(&seq)
    }
}

impl Estates {
    /// The first record that any of them wants.
    pub(crate) fn wanted(&self) -> Option<u64> {
        let free = self.moving < MAX_MOVING;
        self.by_number.values().map(|estate| estate.next).min().filter(|_| free)
    }

    /// Whether a record is wanted by one that reads from `from` on.
    pub(crate) fn want(&self, from: u64, seq: u64, target: &SpoolTarget) -> bool {
        target.share.is_some()
            && self.by_number.get(&target.session).is_some_and(|estate| estate.reads_at(from, seq))
    }

    /// The oldest record that any of them needs.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.by_number.values().map(|estate| estate.next).min()
    }

    /// One of the messages under way has arrived, or cannot.
    pub(crate) fn arrived(&mut self) {
        self.moving = self.moving.saturating_sub(1);
    }
}

impl Durable {
    /// The records from `from` to before `next` have been looked at, or are gone.
    pub(super) fn estates_read_through(&mut self, from: u64, next: u64) {
        for estate in self.estates.by_number.values_mut() {
            if !std::mem::take(&mut estate.full) && estate.reads_at(from, next) {
                estate.dirty |= estate.next != next;
                estate.next = next;
            }
        }
        self.close_estates();
    }

    /// Records before `first` are gone.
    pub(super) fn estates_lost(&mut self, first: u64) {
        for estate in self.estates.by_number.values_mut().filter(|estate| estate.next < first) {
            estate.next = first;
            estate.dirty = true;
        }
        self.close_estates();
    }

    fn close_estates(&mut self) {
        let changes = &mut self.changes;
        self.estates.by_number.retain(|number, estate| {
            let goes_on = estate.next < estate.until;
            if !goes_on {
                let key = format::key(format::ESTATE, *number, &[]);
                changes.push(Change { key, value: None });
            }
            goes_on
        });
    }

    /// Notes how far they are.
    pub(super) fn write_estates(&mut self) {
        for (number, estate) in &mut self.estates.by_number {
            if std::mem::take(&mut estate.dirty) {
                self.changes.push(estate.change(*number));
            }
        }
    }
}

impl Broker {
    /// A session ends. What it has not finished of its shared subscriptions stays for others, if
    /// there are any.
    pub(crate) fn leave_estate(&mut self, slot: u32, session: &Session) {
        let shares = session.subscriptions.keys().filter(|filter| filter.is_shared());
        let others = shares.filter_map(|filter| self.by_share.get(filter));
        let mut others = others.filter_map(|group| self.groups.get(*group));
        if !others.any(|group| group.has_other(slot)) {
            return;
        }
        let (Some(durable), Some(kept)) = (&mut self.durable, &session.kept) else { return };
        let Some(place) = super::changes::place_value(session, durable.head) else { return };
        let place = PlaceValue { sent_through: place.sent_through.max(kept.begun_below), ..place };
        let until = durable.end.max(durable.head);
        if place.first >= until {
            return;
        }
        let estate = Estate::new(&place, until);
        durable.changes.push(estate.change(kept.number));
        durable.estates.by_number.insert(kept.number, estate);
    }

    /// What an earlier life of the broker had still to give to others.
    pub(super) fn restore_estate(&mut self, number: u64, value: &[u8], head: u64) -> Option<()> {
        let durable = self.durable.as_mut()?;
        let place = PlaceValue::decode(value)?;
        if place.first >= head || durable.by_number.contains_key(&number) {
            return None;
        }
        durable.next_number = durable.next_number.max(number + 1);
        durable.estates.by_number.insert(number, Estate::new(&place, head));
        Some(())
    }

    /// A record that was read for an estate, from `from` on.
    pub(super) fn inherit(
        &mut self,
        now: Instant,
        (from, seq): (u64, u64),
        message: &Arc<Message>,
        target: &SpoolTarget,
        expires_at: Option<Instant>,
    ) {
        let Some(durable) = &mut self.durable else { return };
        let Estates { by_number, moving } = &mut durable.estates;
        let Some(estate) = by_number.get_mut(&target.session) else { return };
        if !estate.reads_at(from, seq) {
            return;
        }
        if *moving >= MAX_MOVING {
            estate.full = true; // It is read again when these have arrived.
            return;
        }
        estate.next = seq + 1;
        estate.dirty = true;
        if let Some(share) = target.share.as_ref().filter(|_| estate.gives(seq, target)) {
            self.give_on(now, message, share, expires_at, Some(target.session));
        }
    }

    /// A record has become durable whose session has ended while it was under way.
    pub(super) fn give_on_late(
        &mut self,
        now: Instant,
        seq: u64,
        message: &Arc<Message>,
        target: &SpoolTarget,
        expires_at: Option<Instant>,
    ) {
        let Some(share) = &target.share else { return };
        let estates = self.durable.as_ref().map(|durable| &durable.estates.by_number);
        let estate = estates.and_then(|estates| estates.get(&target.session));
        if estate.is_none_or(|estate| seq >= estate.until) {
            self.give_on(now, message, share, expires_at, None);
        }
    }

    /// Gives a message to another member of its group.
    pub(crate) fn give_on(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        share: &TopicFilter,
        expires_at: Option<Instant>,
        estate: Option<u64>,
    ) {
        if expires_at.is_some_and(|at| at <= now) {
            self.counters.dropped_expired += 1; // [MQTT-3.3.2-5]
            return;
        }
        let group = self.by_share.get(share).and_then(|slot| self.groups.get_mut(*slot));
        let Some(group) = group else { return };
        let Some(member) = group.choose(&self.sessions, message, Eligible::All) else { return };
        let target = Target {
            session: member.session,
            qos: member.subscription.qos.min(message.qos),
            retain: message.retain && member.subscription.retain_as_published,
            subscription_ids: member.subscription.id.into_iter().collect(),
            share: Some(share.clone()),
            spooled: None,
        };
        let kept = self.sessions.get(member.session).and_then(|session| session.kept.as_ref());
        match kept.map(|kept| kept.number).filter(|_| target.qos > QoS::AtMostOnce) {
            Some(number) => self.move_to(now, message, (number, target), expires_at, estate),
            None => self.deliver(now, &target, message, expires_at),
        }
    }

    /// Appends a message to the spool for one kept session. There its expiry begins again, so
    /// what is left of it goes along [MQTT-3.3.2-6].
    fn move_to(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        (session, target): (u64, Target),
        expires_at: Option<Instant>,
        estate: Option<u64>,
    ) {
        // What has been changed so far comes before.
        self.hand_out_changes();
        let Some(durable) = &mut self.durable else { return };
        durable.estates.moving += 1;
        let change = estate.and_then(|number| {
            let estate = durable.estates.by_number.get(&number)?;
            Some(estate.change(number))
        });
        let mut message = message.clone();
        let left = seconds_left(now, expires_at);
        if left != message.properties.message_expiry {
            Arc::make_mut(&mut message).properties.message_expiry = left;
        }
        let target = SpoolTarget {
            session,
            qos: target.qos,
            retain: target.retain,
            replay: true,
            subscription_ids: target.subscription_ids,
            share: target.share,
        };
        let mut targets = Vec::new();
        format::encode_targets([target].iter(), &mut targets);
        self.events.push_back(BrokerEvent::Spool { message, targets, change });
    }
}
