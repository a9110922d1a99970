//! From an accepted message to the subscribers: whom it concerns, and with what.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::event::BrokerEvent;
use crate::message::{Message, QoS};
use crate::packet::publish::Outbound;
use crate::session::Subscriber;
use crate::sharing::Eligible;
use crate::topic::TopicFilter;

/// What a message costs in a queue beside its bytes, in round figures: about 100 bytes of its own,
/// 90 for its place in a queue that has up to twice as many as it uses.
pub(crate) const DELIVERY_OVERHEAD: usize = 256;

/// A message with QoS 1 or 2 on its way to one session.
#[derive(Debug)]
pub(crate) struct Delivery {
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
    subscription_ids: Box<[u32]>,
    expires_at: Option<Instant>,
    /// The shared subscription that chose this session.
    pub(crate) share: Option<TopicFilter>,
    /// Its place in the spool, for a session that is kept.
    pub(crate) seq: u64,
}

impl Delivery {
    pub(crate) fn new(
        message: Arc<Message>,
        qos: QoS,
        retain: bool,
        subscription_ids: &[u32],
        expires_at: Option<Instant>,
    ) -> Delivery {
        let subscription_ids = subscription_ids.into();
        Delivery { message, qos, retain, subscription_ids, expires_at, share: None, seq: 0 }
    }

    pub(crate) fn qos(&self) -> QoS {
        self.qos
    }

    pub(crate) fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub(crate) fn expires_at(&self) -> Option<Instant> {
        self.expires_at
    }

    /// Bytes accounted for it.
    pub(crate) fn bytes(&self) -> usize {
        cost(&self.message)
    }

    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn outbound(&self, now: Instant, id: u16, dup: bool) -> Outbound<'_> {
        Outbound {
            message: &self.message,
            qos: self.qos,
            retain: self.retain,
            dup,
            id,
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
pub(crate) fn seconds_left(now: Instant, expires_at: Option<Instant>) -> Option<u32> {
    let left = expires_at?.saturating_duration_since(now);
    Some(left.as_millis().div_ceil(1000).try_into().unwrap_or(u32::MAX))
}

/// One session a message concerns, with what its matching subscriptions say together.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) session: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: Vec<u32>,
    /// The shared subscription that chose the session.
    pub(crate) share: Option<TopicFilter>,
    /// The session gets it from the spool: as the only copy or the first, second and so on.
    pub(crate) spooled: Option<usize>,
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

impl Broker {
    /// Delivers `message` to the subscribers whose subscriptions match, keeps it if it is to be
    /// retained, and returns how many matched: one for each shared subscription. Never waits for
    /// a slow one: see [`BrokerLimits`](crate::BrokerLimits) for what happens then. Sessions that
    /// are kept on the disk get messages with QoS 1 and 2 from the spool only, not from here.
    pub fn publish(&mut self, now: Instant, message: &Arc<Message>) -> usize {
        self.find(message);
        self.deliver_found(now, message)
    }

    /// Fills `targets` with the sessions that the message concerns, and notes which subscribers
    /// inside the gateway it does.
    /// `beside`: the spool serves these shared subscriptions, and kept members of no other.
    pub(crate) fn find_targets(
        &mut self,
        message: &Arc<Message>,
        targets: &mut Vec<Target>,
        beside: Option<&[TopicFilter]>,
    ) {
        self.deliveries += 1;
        let (this, sessions) = (self.deliveries, &mut self.sessions);
        let (groups, inside) = (&mut self.groups, &mut self.inside);
        inside.clear();
        let from = message.publisher.as_deref();
        self.subscribers.matches(&message.topic, |subscriber| {
            let (slot, subscription) = match subscriber {
                Subscriber::Session { session, subscription } => (session, subscription),
                Subscriber::Group(group) => {
                    let Some(group) = groups.get_mut(*group) else { return };
                    if beside.is_some_and(|served| served.contains(&group.filter)) {
                        return;
                    }
                    let eligible =
                        if beside.is_some() { Eligible::InMemory } else { Eligible::All };
                    let chosen = group.choose(sessions, message, eligible);
                    targets.extend(chosen.map(|member| Target {
                        session: member.session,
                        qos: member.subscription.qos.min(message.qos), // [MQTT-4.8.2-3]
                        retain: message.retain && member.subscription.retain_as_published,
                        subscription_ids: member.subscription.id.into_iter().collect(),
                        share: Some(group.filter.clone()),
                        spooled: None,
                    }));
                    return;
                }
                Subscriber::Local(local) => return inside.push(*local),
            };
            let Some(session) = sessions.get_mut(*slot) else { return };
            // [MQTT-3.8.3-3]
            if subscription.no_local && from == Some(&*session.client) {
                return;
            }
            // [MQTT-3.3.1-12], [MQTT-3.3.1-13]; 3.1.1 clients never ask for it.
            let retain = message.retain && subscription.retain_as_published;
            let qos = subscription.qos.min(message.qos);
            match session.considered {
                // [MQTT-3.3.4-2]: overlapping subscriptions deliver once, with the highest QoS
                // and all identifiers [MQTT-3.3.4-4].
                (delivery, at) if delivery == this => {
                    let target: &mut Target = &mut targets[at];
                    target.qos = target.qos.max(qos);
                    target.retain |= retain;
                    target.subscription_ids.extend(subscription.id);
                }
                _ => {
                    session.considered = (this, targets.len());
                    targets.push(Target {
                        session: *slot,
                        qos,
                        retain,
                        subscription_ids: subscription.id.into_iter().collect(),
                        share: None,
                        spooled: None,
                    });
                }
            }
        });
    }

    pub(crate) fn deliver_all(
        &mut self,
        now: Instant,
        message: &Arc<Message>,
        targets: &[Target],
    ) -> usize {
        if message.retain && self.retained.store(now, message).is_err() {
            self.counters.not_retained += 1;
        }
        let expires_at = expires_at(now, message);
        for target in targets.iter().filter(|target| target.spooled.is_none()) {
            self.deliver(now, target, message, expires_at);
        }
        for local in &self.inside {
            self.locals.get_mut(*local).into_iter().for_each(|local| local.offer(message));
        }
        targets.len() + self.inside.len()
    }

    pub(crate) fn deliver(
        &mut self,
        now: Instant,
        target: &Target,
        message: &Arc<Message>,
        expires_at: Option<Instant>,
    ) {
        let ids = &target.subscription_ids;
        match target.qos {
            QoS::AtMostOnce => {
                let outbound = Outbound {
                    message,
                    qos: QoS::AtMostOnce,
                    retain: target.retain,
                    dup: false,
                    id: 0,
                    expiry: seconds_left(now, expires_at),
                    subscription_ids: ids,
                };
                self.send_once(target.session, &outbound);
            }
            qos @ (QoS::AtLeastOnce | QoS::ExactlyOnce) => {
                let mut delivery =
                    Delivery::new(message.clone(), qos, target.retain, ids, expires_at);
                delivery.share.clone_from(&target.share);
                self.send_or_queue(now, target.session, delivery);
            }
        }
    }
}
