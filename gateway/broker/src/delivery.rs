//! From an accepted message to the subscribers: whom it concerns, and what each is sent now or
//! later.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::connection::{Connection, Phase};
use crate::event::BrokerEvent;
use crate::message::{Message, QoS};
use crate::packet::publish::{self, Outbound, TooLarge};
use crate::retained::Step;
use crate::session::{Replay, Session, Subscriber};

/// What a message costs in a queue beside its bytes, in round figures.
pub(crate) const DELIVERY_OVERHEAD: usize = 128;

/// Retained topics looked at for one session without a pause, about a tenth of a millisecond:
/// subscriptions that match few of many retained messages do not hold up others.
pub(crate) const WALK_VISITS: usize = 2_000;

/// The pause.
const WALK_PAUSE: Duration = Duration::from_millis(1);

/// A QoS 1 message on its way to one session.
#[derive(Debug)]
pub(crate) struct Delivery {
    message: Arc<Message>,
    retain: bool,
    subscription_ids: Box<[u32]>,
    expires_at: Option<Instant>,
}

impl Delivery {
    pub(crate) fn new(
        message: Arc<Message>,
        retain: bool,
        subscription_ids: &[u32],
        expires_at: Option<Instant>,
    ) -> Delivery {
        Delivery { message, retain, subscription_ids: subscription_ids.into(), expires_at }
    }

    /// Bytes accounted for it.
    pub(crate) fn bytes(&self) -> usize {
        cost(&self.message)
    }

    fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    fn outbound(&self, now: Instant, id: u16, dup: bool) -> Outbound<'_> {
        Outbound {
            message: &self.message,
            retain: self.retain,
            dup,
            id: Some(id),
            expiry: seconds_left(now, self.expires_at),
            subscription_ids: &self.subscription_ids,
        }
    }
}

/// Bytes accounted for a message that is kept.
pub(crate) fn cost(message: &Message) -> usize {
    message.payload.len()
        + message.topic.as_str().len()
        + message.properties.bytes()
        + DELIVERY_OVERHEAD
}

/// When a message received now is of no use any more.
pub(crate) fn expires_at(now: Instant, message: &Message) -> Option<Instant> {
    now.checked_add(Duration::from_secs(message.properties.message_expiry?.into()))
}

/// Whole seconds left, rounded up so that a second is not lost on every hop.
fn seconds_left(now: Instant, expires_at: Option<Instant>) -> Option<u32> {
    let left = expires_at?.saturating_duration_since(now);
    Some(left.as_millis().div_ceil(1000).try_into().unwrap_or(u32::MAX))
}

/// One session a message concerns, with what its matching subscriptions say together.
#[derive(Debug)]
pub(crate) struct Target {
    session: u32,
    qos: QoS,
    retain: bool,
    subscription_ids: Vec<u32>,
}

/// Appends packets to a connection and says so when there were none before.
pub(crate) fn append<R>(
    connection: &mut Connection,
    events: &mut VecDeque<BrokerEvent>,
    encode: impl FnOnce(&mut Vec<u8>) -> R,
) -> R {
    let was_empty = connection.outbox.is_empty();
    let result = connection.outbox.append(encode);
    if was_empty && !connection.outbox.is_empty() {
        events.push_back(BrokerEvent::Writable(connection.id));
    }
    result
}

/// What became of an attempt to send.
enum Attempt {
    Sent,
    /// Larger than the client accepts: dropped as if it had been sent [MQTT-3.1.2-25].
    TooLarge,
    /// The client's window or its outbox is full.
    Wait,
}

impl Broker {
    /// Delivers `message` to the sessions whose subscriptions match, keeps it if it is to be
    /// retained, and returns how many sessions matched. Never waits for a slow one: see
    /// [`BrokerLimits`](crate::BrokerLimits) for what happens then.
    pub fn publish(&mut self, now: Instant, message: &Arc<Message>) -> usize {
        self.now = Some(now);
        if message.retain && self.retained.store(now, message).is_err() {
            self.counters.not_retained += 1;
        }
        let mut targets = std::mem::take(&mut self.targets);
        targets.clear();
        self.find_targets(message, &mut targets);
        let expires_at = expires_at(now, message);
        for target in &targets {
            self.deliver(now, target, message, expires_at);
        }
        let matched = targets.len();
        self.targets = targets;
        matched
    }

    fn find_targets(&mut self, message: &Message, targets: &mut Vec<Target>) {
        self.deliveries += 1;
        let (this, sessions) = (self.deliveries, &mut self.sessions);
        let from = message.publisher.as_deref();
        self.subscribers.matches(&message.topic, |subscriber| {
            let Subscriber { session: slot, subscription } = subscriber;
            let Some(session) = sessions.get_mut(*slot) else { return };
            // [MQTT-3.8.3-3]
            if subscription.no_local && from == Some(&*session.client) {
                return;
            }
            // [MQTT-3.3.1-12], [MQTT-3.3.1-13]; 3.1.1 clients never ask for it.
            let retain = message.retain && subscription.retain_as_published;
            match session.considered {
                // [MQTT-3.3.4-2]: overlapping subscriptions deliver once, with the highest QoS
                // and all identifiers [MQTT-3.3.4-4].
                (delivery, at) if delivery == this => {
                    let target: &mut Target = &mut targets[at];
                    target.qos = target.qos.max(subscription.qos);
                    target.retain |= retain;
                    target.subscription_ids.extend(subscription.id);
                }
                _ => {
                    session.considered = (this, targets.len());
                    targets.push(Target {
                        session: *slot,
                        qos: subscription.qos,
                        retain,
                        subscription_ids: subscription.id.into_iter().collect(),
                    });
                }
            }
        });
    }

    fn deliver(
        &mut self,
        now: Instant,
        target: &Target,
        message: &Arc<Message>,
        expires_at: Option<Instant>,
    ) {
        let ids = &target.subscription_ids;
        match target.qos.min(message.qos) {
            QoS::AtMostOnce => {
                let outbound = Outbound {
                    message,
                    retain: target.retain,
                    dup: false,
                    id: None,
                    expiry: seconds_left(now, expires_at),
                    subscription_ids: ids,
                };
                self.send_once(target.session, &outbound);
            }
            QoS::AtLeastOnce => {
                let delivery = Delivery::new(message.clone(), target.retain, ids, expires_at);
                self.send_or_queue(now, target.session, delivery);
            }
        }
    }

    /// QoS 0: now or never. A session without a connection is not kept any.
    fn send_once(&mut self, session: u32, outbound: &Outbound<'_>) {
        let Some(session) = self.sessions.get_mut(session) else { return };
        let Some(slot) = session.connection else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Phase::Open(open) = &connection.phase else { return };
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
        let (version, max_packet) = (open.version, open.max_packet);
        let sent = append(connection, &mut self.events, |out| {
            publish::encode(version, outbound, max_packet, out)
        });
        match sent {
            Ok(()) => self.counters.sent_qos0 += 1,
            Err(TooLarge) => {
                session.dropped += 1;
                self.counters.dropped_too_large += 1;
            }
        }
    }

    /// QoS 1: sent if nothing waits before it and both window and outbox have room, else queued
    /// in the session, else dropped.
    fn send_or_queue(&mut self, now: Instant, slot: u32, delivery: Delivery) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let bytes = delivery.bytes();
        if session.held_bytes + bytes > self.limits.max_queued_bytes_per_session
            || self.queued_bytes + bytes > self.limits.max_queued_bytes
        {
            session.dropped += 1;
            self.counters.dropped_qos1 += 1;
            return;
        }
        session.held_bytes += bytes;
        self.queued_bytes += bytes;
        let backlog = session.has_backlog();
        session.queue.push_back(delivery);
        if !backlog {
            self.pump(now, slot);
        }
    }

    /// Sends what a session owes, as far as its connection, window and outbox allow: first what
    /// an earlier connection left unacknowledged, then the queue, then retained messages for
    /// new subscriptions.
    pub(crate) fn pump(&mut self, now: Instant, slot: u32) {
        loop {
            let attempt = match self.sessions.get(slot) {
                Some(session) if session.connection.is_none() => return,
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

    /// Repeats the next message of an earlier connection, with DUP [MQTT-3.3.1-1] and its
    /// original identifier [MQTT-4.4.0-1].
    fn send_again(&mut self, now: Instant, slot: u32) -> Attempt {
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let Session { inflight, connection, .. } = session;
        let Some(connection) = connection.and_then(|slot| self.connections.get_mut(slot)) else {
            return Attempt::Wait;
        };
        let Phase::Open(open) = &connection.phase else { return Attempt::Wait };
        if !inflight.may_repeat(open.window) {
            return Attempt::Wait;
        }
        if connection.outbox.len() >= self.limits.max_unsent_bytes {
            connection.wants_room = true;
            return Attempt::Wait;
        }
        let (version, max_packet) = (open.version, open.max_packet);
        let Some((id, delivery)) = inflight.next_unsent() else { return Attempt::Sent };
        let outbound = delivery.outbound(now, id, true);
        let sent = append(connection, &mut self.events, |out| {
            publish::encode(version, &outbound, max_packet, out)
        });
        match sent {
            Ok(()) => {
                inflight.sent();
                self.counters.sent_again += 1;
                Attempt::Sent
            }
            Err(TooLarge) => {
                self.settle(slot, id);
                self.counters.dropped_too_large += 1;
                Attempt::TooLarge
            }
        }
    }

    /// Sends the first message of the queue.
    fn send_queued(&mut self, now: Instant, slot: u32) -> Attempt {
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let Some(first) = session.queue.front() else { return Attempt::Sent };
        if first.is_expired(now) {
            self.counters.dropped_expired += 1; // [MQTT-3.3.2-5]
            self.drop_first(slot);
            return Attempt::Sent;
        }
        let Some(slot_of_connection) = session.connection else { return Attempt::Wait };
        let Some(connection) = self.connections.get_mut(slot_of_connection) else {
            return Attempt::Wait;
        };
        let Phase::Open(open) = &connection.phase else { return Attempt::Wait };
        if !session.inflight.is_open(open.window) {
            return Attempt::Wait;
        }
        if connection.outbox.len() >= self.limits.max_unsent_bytes {
            connection.wants_room = true;
            return Attempt::Wait;
        }
        let (version, max_packet) = (open.version, open.max_packet);
        let outbound = first.outbound(now, session.inflight.next_id(), false);
        let sent = append(connection, &mut self.events, |out| {
            publish::encode(version, &outbound, max_packet, out)
        });
        match sent {
            Ok(()) => {
                if let Some(delivery) = session.queue.pop_front() {
                    session.inflight.push(delivery);
                }
                self.counters.sent_qos1 += 1;
                Attempt::Sent
            }
            Err(TooLarge) => {
                self.counters.dropped_too_large += 1;
                self.drop_first(slot);
                Attempt::TooLarge
            }
        }
    }

    fn drop_first(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(delivery) = session.queue.pop_front() else { return };
        session.dropped += 1;
        session.held_bytes -= delivery.bytes();
        self.queued_bytes -= delivery.bytes();
    }

    /// The message under way to a session under `id` is done with.
    pub(crate) fn settle(&mut self, slot: u32, id: u16) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(delivery) = session.inflight.acknowledge(id) {
            session.held_bytes -= delivery.bytes();
            self.queued_bytes -= delivery.bytes();
        }
    }

    /// Gives the next retained message to a new subscription.
    fn send_retained(&mut self, now: Instant, slot: u32) -> Attempt {
        let Some(session) = self.sessions.get_mut(slot) else { return Attempt::Wait };
        let connection = session.connection.and_then(|slot| self.connections.get_mut(slot));
        let Some(connection) = connection else { return Attempt::Wait };
        if connection.outbox.len() >= self.limits.max_unsent_bytes {
            connection.wants_room = true;
            return Attempt::Wait;
        }
        let mut visits = match session.walked {
            Some((at, left)) if at == now => left,
            _ => WALK_VISITS,
        };
        if visits == 0 {
            session.walk_at = now.checked_add(WALK_PAUSE);
            self.arm_session(slot);
            return Attempt::Wait;
        }
        let Some(replay) = session.replays.front_mut() else { return Attempt::Sent };
        let Replay { filter, subscription, after } = replay;
        let step = self.retained.next(now, filter, after.as_ref(), &mut visits);
        session.walked = Some((now, visits));
        let kept = match step {
            Step::Found(kept) => kept,
            Step::Tired(topic) => {
                *after = Some(topic);
                return Attempt::Sent;
            }
            Step::End => {
                session.replays.pop_front();
                return Attempt::Sent;
            }
        };
        if session.inflight.len() > 0
            && session.held_bytes + cost(&kept.message) > self.limits.max_queued_bytes_per_session
        {
            return Attempt::Wait; // A PUBACK makes room for it.
        }
        *after = Some(kept.message.topic.clone());
        // [MQTT-3.8.3-3]
        if subscription.no_local && kept.message.publisher.as_ref() == Some(&session.client) {
            return Attempt::Sent;
        }
        let target = Target {
            session: slot,
            qos: subscription.qos,
            retain: true, // [MQTT-3.3.1-8] (3.1.1): it is an old message.
            subscription_ids: subscription.id.into_iter().collect(),
        };
        // A QoS 1 message joins the queue, as there is a backlog: this walk. The pump that
        // called goes on with it.
        self.deliver(now, &target, &kept.message, kept.expires_at);
        Attempt::Sent
    }
}
