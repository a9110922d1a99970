//! What a session is owed, to its connection: as far as window and outbox allow.

use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::connection::{Connection, Phase};
use crate::delivery::{DELIVERY_OVERHEAD, Delivery, Target, append, cost};
use crate::event::BrokerEvent;
use crate::inflight::{Inflight, WrongStep, id_of};
use crate::message::QoS;
use crate::packet::publish::{self, Naming, Outbound, TooLarge};
use crate::retained::Step;
use crate::session::{Replay, Session};

/// Retained topics looked at for one session without a pause, about a tenth of a millisecond:
/// subscriptions that match few of many retained messages do not hold up others.
pub(crate) const WALK_VISITS: usize = 2_000;

/// Retained messages that are on their way through the spool to one session at a time.
const MAX_REPLAYING: usize = 32;

/// The pause.
const WALK_PAUSE: Duration = Duration::from_millis(1);

/// What became of an attempt to send.
enum Attempt {
    /// It was sent, or dropped as if it had been: larger than the client accepts
    /// [MQTT-3.1.2-25], or expired.
    Done,
    /// The client's window or its outbox is full.
    Wait,
}

/// Appends a PUBLISH in the words of the connection's version, by a topic alias if it may.
fn send(
    connection: &mut Connection,
    events: &mut std::collections::VecDeque<BrokerEvent>,
    outbound: &Outbound<'_>,
) -> Result<(), TooLarge> {
    let Phase::Open(open) = &connection.phase else { return Ok(()) };
    let (version, max_packet) = (open.version, open.max_packet);
    let naming = open.outbound_aliases.naming(&outbound.message.topic);
    append(connection, events, |out| publish::encode(version, outbound, naming, max_packet, out))?;
    if naming != Naming::Name
        && let Phase::Open(open) = &mut connection.phase
    {
        open.outbound_aliases.said(&outbound.message.topic, naming);
    }
    Ok(())
}

impl Broker {
    /// QoS 0: now or never. A session without a connection is not kept any.
    pub(crate) fn send_once(&mut self, session: u32, outbound: &Outbound<'_>) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let Some(slot) = session.connection else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let limits = &self.limits;
        let bytes = cost(outbound.message) - DELIVERY_OVERHEAD;
        let (share, total) = (limits.min_unsent_bytes, limits.max_unsent_bytes_total);
        if connection.outbox.len() >= limits.max_unsent_bytes
            || connection.outbox.exceeds_share(bytes, share, total)
        {
            session.dropped += 1;
            self.counters.dropped_qos0 += 1;
            return;
        }
        match send(connection, &mut self.events, outbound) {
            Ok(()) => self.counters.sent_qos0 += 1,
            Err(TooLarge) => {
                session.dropped += 1;
                self.counters.dropped_too_large += 1;
            }
        }
    }

    /// QoS 1 and 2: sent if nothing waits before it and both window and outbox have room, else
    /// queued in the session, else the policy for slow subscribers says what goes.
    pub(crate) fn send_or_queue(&mut self, now: Instant, slot: u32, delivery: Delivery) {
        let bytes = delivery.bytes();
        if !self.has_queue_room(slot, bytes) && !self.make_queue_room(slot, bytes) {
            return self.lose_slow(slot, bytes);
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.held_bytes += bytes;
        self.queued_bytes += bytes;
        let backlog = session.has_backlog();
        session.queue.push_back(delivery);
        if !backlog {
            self.pump(now, slot);
        }
        self.wait_if_behind(now, slot);
    }

    /// Sends what a session owes, as far as its connection, window and outbox allow: first what
    /// an earlier connection left unfinished, then the queue, then retained messages for new
    /// subscriptions.
    pub(crate) fn pump(&mut self, now: Instant, slot: u32) {
        loop {
            let attempt = match self.sessions.get(slot) {
                Some(session) if session.connection.is_none() => return,
                Some(session) if self.has_doubts(session) => self.send_doubts(slot),
                Some(session) if session.inflight.has_unsent() => self.send_again(now, slot),
                Some(session) if !session.queue.is_empty() => self.send_queued(now, slot),
                Some(session) if !session.replays.is_empty() => self.send_retained(now, slot),
                Some(_) | None => return,
            };
            if let Attempt::Wait = attempt {
                return;
            }
        }
    }

    /// The session with its connection, if that is open and has room; else it is noted that room
    /// is wanted.
    fn with_room(&mut self, slot: u32) -> Option<u16> {
        let session = self.sessions.get(slot)?;
        let connection = self.connections.get_mut(session.connection?)?;
        if connection.outbox.len() >= self.limits.max_unsent_bytes {
            connection.wants_room = true;
            return None;
        }
        connection.open().map(|open| open.window)
    }

    /// PUBRELs of what is gone go before everything else.
    fn has_doubts(&self, session: &Session) -> bool {
        let (Some(durable), Some(kept)) = (&self.durable, &session.kept) else { return false };
        kept.doubts.are_to_be_asked(durable.persisted)
    }

    fn send_doubts(&mut self, slot: u32) -> Attempt {
        if self.with_room(slot).is_none() {
            return Attempt::Wait;
        }
        self.ask_about_doubts(slot);
        Attempt::Done
    }

    /// Repeats the next PUBLISH of an earlier connection, with DUP [MQTT-3.3.1-1] and its
    /// original identifier [MQTT-4.4.0-1].
    fn send_again(&mut self, now: Instant, slot: u32) -> Attempt {
        let Some(window) = self.with_room(slot) else { return Attempt::Wait };
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let Session { inflight, connection, .. } = session;
        let Some(connection) = connection.and_then(|slot| self.connections.get_mut(slot)) else {
            return Attempt::Wait;
        };
        let may_repeat = inflight.may_repeat(window);
        let (id, delivery) = match inflight.next_unsent() {
            None => return Attempt::Done,
            Some(_) if !may_repeat => return Attempt::Wait,
            Some((id, delivery)) => (id, delivery),
        };
        match send(connection, &mut self.events, &delivery.outbound(now, id, true)) {
            Ok(()) => {
                inflight.sent();
                self.counters.sent_again += 1;
            }
            Err(TooLarge) => {
                self.counters.dropped_too_large += 1;
                let given_up = self.settle(slot, |inflight| Ok(inflight.give_up(id)));
                debug_assert!(given_up.is_ok());
            }
        }
        Attempt::Done
    }

    /// Sends the first message of the queue.
    fn send_queued(&mut self, now: Instant, slot: u32) -> Attempt {
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let Some(first) = session.queue.front() else { return Attempt::Done };
        let (number, dup) = match &session.kept {
            Some(kept) => (first.seq, first.seq < kept.dup_below),
            None => (session.inflight.next_number(), false),
        };
        // What has been sent once does not expire any more [MQTT-4.3.3-7], [MQTT-4.4.0-1].
        if !dup && first.is_expired(now) {
            self.counters.dropped_expired += 1; // [MQTT-3.3.2-5]
            self.drop_first(slot);
            return Attempt::Done;
        }
        let connection = session.connection.and_then(|slot| self.connections.get_mut(slot));
        let Some(connection) = connection else { return Attempt::Wait };
        if connection.outbox.len() >= self.limits.max_unsent_bytes {
            connection.wants_room = true;
            return Attempt::Wait;
        }
        let Phase::Open(open) = &connection.phase else { return Attempt::Wait };
        let window = open.window;
        let in_doubt = session.kept.as_ref().is_some_and(|kept| kept.doubts.hold(number));
        if in_doubt || !session.inflight.is_open(window, number) {
            return Attempt::Wait;
        }
        let qos = first.qos();
        let outbound = first.outbound(now, id_of(number), dup);
        match send(connection, &mut self.events, &outbound) {
            Ok(()) => {
                if let Some(delivery) = session.queue.pop_front() {
                    session.inflight.push(number, delivery);
                }
                if let Some(kept) = &mut session.kept {
                    kept.sent_through = kept.sent_through.max(number + 1);
                    // Written down within a second: repetitions have DUP [MQTT-3.3.1-1].
                    if let Some(durable) = &mut self.durable {
                        durable.dirty.insert(slot);
                    }
                }
                match qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.counters.sent_qos1 += 1,
                    QoS::ExactlyOnce => self.counters.sent_qos2 += 1,
                }
            }
            Err(TooLarge) => {
                self.counters.dropped_too_large += 1;
                self.drop_first(slot);
            }
        }
        Attempt::Done
    }

    fn drop_first(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(delivery) = session.queue.pop_front() else { return };
        let begun = session.pass_over(delivery.seq, delivery.qos());
        session.dropped += 1;
        session.choked = false;
        session.held_bytes -= delivery.bytes();
        self.queued_bytes -= delivery.bytes();
        self.spool_done(slot, delivery.seq, delivery.bytes());
        self.note_taken(slot, delivery.bytes());
        self.note_progress(slot);
        if begun {
            self.say_released(slot, [delivery.seq]);
        }
    }

    /// A message under way to a session is done with, if `finish` finds it.
    pub(crate) fn settle(
        &mut self,
        slot: u32,
        finish: impl FnOnce(&mut Inflight) -> Result<Option<Delivery>, WrongStep>,
    ) -> Result<(), WrongStep> {
        let Some(session) = self.sessions.get_mut(slot) else { return Ok(()) };
        if let Some(delivery) = finish(&mut session.inflight)? {
            session.held_bytes -= delivery.bytes();
            session.choked = false;
            self.queued_bytes -= delivery.bytes();
            self.spool_done(slot, delivery.seq, delivery.bytes());
            self.note_taken(slot, delivery.bytes());
        }
        self.note_progress(slot);
        Ok(())
    }

    /// Gives the next retained message to a new subscription.
    fn send_retained(&mut self, now: Instant, slot: u32) -> Attempt {
        if self.with_room(slot).is_none() {
            return Attempt::Wait;
        }
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let mut visits = match session.walked {
            Some((at, left)) if at == now => left,
            _ => WALK_VISITS,
        };
        if visits == 0 {
            session.walk_at = now.checked_add(WALK_PAUSE);
            self.arm_session(slot);
            return Attempt::Wait;
        }
        if session.kept.as_ref().is_some_and(|kept| kept.replaying >= MAX_REPLAYING) {
            return Attempt::Wait; // They come back through the spool.
        }
        let Some(replay) = session.replays.front_mut() else { return Attempt::Done };
        let Replay { filter, subscription, after, newest } = replay;
        let step = self.retained.next(now, filter, after.as_ref(), &mut visits);
        session.walked = Some((now, visits));
        let kept = match step {
            Step::Found(kept) => kept,
            Step::Tired(topic) => {
                *after = Some(topic);
                return Attempt::Done;
            }
            Step::End => {
                session.replays.pop_front();
                return Attempt::Done;
            }
        };
        if session.inflight.len() > 0
            && session.held_bytes + cost(&kept.message) > self.limits.max_queued_bytes_per_session
        {
            return Attempt::Wait; // An acknowledgement makes room for it.
        }
        *after = Some(kept.message.topic.clone());
        // Published since: the subscription has brought it already.
        if kept.number > *newest {
            return Attempt::Done;
        }
        // [MQTT-3.8.3-3]
        if subscription.no_local && kept.message.publisher.as_ref() == Some(&session.client) {
            return Attempt::Done;
        }
        let (subscription, qos) = (*subscription, subscription.qos.min(kept.message.qos));
        if session.kept.is_some() && qos > QoS::AtMostOnce {
            self.replay_through_spool(now, slot, &kept, &subscription);
            return Attempt::Done;
        }
        let target = Target {
            session: slot,
            qos,
            retain: true, // [MQTT-3.3.1-8] (3.1.1): it is an old message.
            subscription_ids: subscription.id.into_iter().collect(),
            share: None,
            spooled: None,
        };
        // A message with QoS 1 or 2 joins the queue, as there is a backlog: this walk. The pump
        // that called goes on with it.
        self.deliver(now, &target, &kept.message, kept.expires_at);
        Attempt::Done
    }
}
