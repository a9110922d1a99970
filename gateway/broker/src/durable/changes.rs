//! Changes on their way to the disk, and what waits for them.

use std::time::{Duration, Instant};

use super::format::{self, PlaceValue, Presence, SessionValue};
use super::{Amount, Change, Durable, PersistTicket, enter_losses};
use crate::broker::Broker;
use crate::connection::Phase;
use crate::delivery::append;
use crate::event::BrokerEvent;
use crate::session::Session;

/// Least time between two writings of what sessions lost that end with their connection: they are
/// gone after a power cut, and so may be what is not written yet.
const LOSSES_EVERY: Duration = Duration::from_secs(10);

/// Rows of theirs that are written at a time, about a hundred bytes each: less than a kilobyte a
/// second, however many are slow.
const MAX_LOSS_CHANGES: usize = 64;

impl Broker {
    /// From now on sessions with an expiry are kept: the owner carries out
    /// [`BrokerEvent::Persist`] and says so with [`persisted`](Broker::persisted), appends
    /// matching messages to the spool, and offers them back when they are durable.
    pub fn keep_sessions(&mut self) {
        self.durable.get_or_insert_with(|| Box::new(Durable::new()));
        self.retained.note_expired();
    }

    /// The time of day, for how long a client has been away. `None` when it cannot be trusted.
    pub fn set_clock(&mut self, now: Instant, unix_ms: Option<i64>) {
        if let Some(durable) = &mut self.durable {
            durable.clock = unix_ms.map(|unix_ms| (now, unix_ms));
        }
    }

    /// The changes of this ticket, and all before, are on the disk.
    pub fn persisted(&mut self, now: Instant, ticket: PersistTicket) {
        self.now = Some(now);
        let Some(durable) = &mut self.durable else { return };
        durable.persisted = durable.persisted.max(PersistTicket(ticket.0 + 1));
        let holding: Vec<u32> = durable.holding.iter().copied().collect();
        for slot in holding {
            self.release_held(now, slot);
        }
        let doubtful = self.durable.as_mut().map(|durable| std::mem::take(&mut durable.doubtful));
        for slot in doubtful.into_iter().flatten() {
            self.pump(now, slot);
        }
    }

    /// Sends what waited for the disk on this connection, or lets its client in.
    fn release_held(&mut self, now: Instant, slot: u32) {
        let Some(durable) = &mut self.durable else { return };
        let persisted = durable.persisted;
        let Some(connection) = self.connections.get_mut(slot) else {
            durable.holding.remove(&slot);
            return;
        };
        match &mut connection.phase {
            Phase::Settling(settling) if settling.ticket < persisted => {
                durable.holding.remove(&slot);
                self.let_in(now, slot);
            }
            Phase::Settling(_) => {}
            Phase::Open(open) => {
                let mut ready = Vec::new();
                while let Some((_, packet)) = open.held.pop_front_if(|(t, _)| *t < persisted) {
                    ready.extend_from_slice(&packet);
                }
                if open.held.is_empty() {
                    durable.holding.remove(&slot);
                }
                if !ready.is_empty() {
                    append(connection, &mut self.events, |out| out.extend_from_slice(&ready));
                }
            }
            Phase::AwaitingConnect | Phase::Authenticating(_) | Phase::Closing => {
                durable.holding.remove(&slot);
            }
        }
    }

    /// Sends a packet, once the changes made so far are durable if `session` is kept.
    pub(crate) fn send_when_durable(&mut self, slot: u32, session: u32, packet: &[u8]) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let ticket = match (&mut self.durable, self.sessions.get_mut(session)) {
            (Some(durable), Some(Session { kept: Some(kept), .. })) => {
                durable.hurried = true;
                kept.ticket = durable.next_ticket;
                durable.holding.insert(slot);
                Some(durable.next_ticket)
            }
            _ => None,
        };
        match (ticket, connection.open_mut()) {
            (Some(ticket), Some(open)) => open.held.push_back((ticket, packet.into())),
            _ => append(connection, &mut self.events, |out| out.extend_from_slice(packet)),
        }
    }

    /// Hands out the changes made so far.
    pub(crate) fn hand_out_changes(&mut self) {
        let Some(durable) = &mut self.durable else { return };
        for slot in std::mem::take(&mut durable.urgent) {
            if let Some(session) = self.sessions.get_mut(slot) {
                write_place(durable, session);
            }
        }
        if durable.changes.is_empty() && !durable.hurried {
            return;
        }
        let ticket = durable.next_ticket;
        durable.next_ticket.0 += 1;
        self.events.push_back(BrokerEvent::Persist {
            changes: std::mem::take(&mut durable.changes),
            ticket,
            hurry: std::mem::take(&mut durable.hurried),
        });
    }

    /// Notes what the table has to say of a session; true if it says something else now.
    pub(crate) fn write_session(&mut self, now: Instant, slot: u32) -> bool {
        let (Some(durable), Some(session)) = (&mut self.durable, self.sessions.get_mut(slot))
        else {
            return false;
        };
        let here = session.connection.is_some() || session.claimed.is_some();
        let presence = match here {
            true => Presence::Connected,
            false => {
                let since = session.detached_at.unwrap_or(now);
                Presence::Gone(durable.unix_ms(since))
            }
        };
        let value = SessionValue {
            client: session.client.to_string(),
            user: session.user.as_deref().map(str::to_owned),
            expiry: session.expiry,
            presence,
        };
        let Some(kept) = &mut session.kept else { return false };
        let value = value.encode();
        if value == kept.written {
            return false;
        }
        kept.written.clone_from(&value);
        kept.ticket = durable.next_ticket;
        durable.put(format::key(format::SESSION, kept.number, &[]), value);
        true
    }

    /// Something of a kept session changed that may wait.
    pub(crate) fn note_progress(&mut self, slot: u32) {
        let Some(durable) = &mut self.durable else { return };
        let Some(session) = self.sessions.get_mut(slot).filter(|s| s.kept.is_some()) else {
            return;
        };
        let unread = session.unread_from().unwrap_or(u64::MAX);
        session.inflight.trim(unread);
        durable.dirty.insert(slot);
    }

    /// What has changed in the last second and nobody waits for, and the oldest spool record that
    /// any session needs once that is durable: both belong in one transaction.
    pub fn take_progress(&mut self, now: Instant) -> Option<(Vec<Change>, u64)> {
        self.now = Some(now);
        for topic in self.retained.take_expired(now) {
            self.durable.as_mut()?.delete(format::retained_key(&topic));
        }
        for slot in std::mem::take(&mut self.durable.as_mut()?.dirty) {
            let durable = self.durable.as_mut()?;
            if let Some(session) = self.sessions.get_mut(slot) {
                write_place(durable, session);
            }
            // Behind its place, so that one that has gone says with it how far it got.
            self.write_session(now, slot);
        }
        self.gather_losses(now);
        let durable = self.durable.as_mut()?;
        let head = durable.head;
        let sessions = durable.by_number.values().filter_map(|slot| self.sessions.get(*slot));
        let places =
            sessions.map(|session| session.needs_from(head)).chain(durable.estates.oldest());
        let oldest = places.fold(head, u64::min);
        durable.write_estates();
        Some((std::mem::take(&mut durable.changes), oldest))
    }

    /// What sessions lost that end with their connection.
    fn gather_losses(&mut self, now: Instant) {
        let Some(durable) = &mut self.durable else { return };
        while let Some(slot) = durable.lossy.pop_first() {
            if let Some(session) = self.sessions.get_mut(slot) {
                enter_losses(durable, session);
            }
        }
        if durable.losses_at.is_none_or(|at| at <= now) {
            let changes = durable.losses.changes(MAX_LOSS_CHANGES);
            if !changes.is_empty() {
                durable.losses_at = now.checked_add(LOSSES_EVERY);
                durable.changes.extend(changes);
            }
        }
    }

    /// A session ends: nothing of it stays in the table, but what it lost.
    pub(crate) fn forget_kept(&mut self, slot: u32, session: &mut Session) {
        let Some(durable) = &mut self.durable else { return };
        durable.lossy.remove(&slot);
        enter_losses(durable, session);
        let Some(kept) = &session.kept else { return };
        let number = kept.number;
        durable.by_number.remove(&number);
        durable.urgent.remove(&slot);
        durable.dirty.remove(&slot);
        durable.behind.remove(&slot);
        durable.doubtful.remove(&slot);
        // Without this the rest means nothing, should it be cut off.
        durable.delete(format::key(format::SESSION, number, &[]));
        for filter in session.subscriptions.keys() {
            let filter = filter.as_str().as_bytes();
            durable.delete(format::key(format::SUBSCRIPTION, number, filter));
        }
        for id in session.receipts.ids() {
            durable.delete(format::receipt_key(number, id));
        }
        durable.delete(format::key(format::PLACE, number, &[]));
    }
}

/// Where a kept session is in the spool.
pub(super) fn place_value(session: &Session, head: u64) -> Option<PlaceValue> {
    let first = session.place(head);
    let kept = session.kept.as_ref()?;
    let floor = kept.floor.max(first);
    let owed = session.under_way(floor).fold(Amount::default(), |sum, (_, one)| sum.plus(one));
    // Before the floor what is done with says nothing.
    let said = |(seq, received): &(u64, bool)| *seq >= floor || (*seq >= first && *received);
    Some(PlaceValue {
        first,
        sent_through: kept.sent_through.max(first),
        floor,
        owed,
        in_doubt: kept.doubts.ranges().to_vec(),
        settled: session.inflight.settled().filter(said).collect(),
    })
}

/// Says where the session is in the spool, and what it lost since that was said last.
fn write_place(durable: &mut Durable, session: &mut Session) {
    let Some(place) = place_value(session, durable.head) else { return };
    let Some(number) = session.kept.as_ref().map(|kept| kept.number) else { return };
    let key = format::key(format::PLACE, number, &[]);
    enter_losses(durable, session); // Right before it: the owner keeps the two together.
    durable.put(key, place.encode());
}
