//! SUBSCRIBE and UNSUBSCRIBE: what a session wants to get.

use std::time::Instant;

use mqtt_protocol_core::mqtt::result_code::MqttError;

use crate::broker::Broker;
use crate::delivery::append;
use crate::message::QoS;
use crate::packet::fault::{Fault, Reason};
use crate::packet::subscribe::{self, Entry, SendRetained};
use crate::session::{Replay, Subscriber, Subscription};
use crate::topic::TopicFilter;

impl Broker {
    pub(crate) fn handle_subscribe(
        &mut self,
        now: Instant,
        slot: u32,
        body: &[u8],
    ) -> Result<(), Fault> {
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        let (version, session) = (open.version, open.session);
        let packet = subscribe::decode(version, body)?;
        let granted: Vec<_> = packet
            .entries
            .iter()
            .map(|entry| self.subscribe(session, entry, packet.subscription_id))
            .collect();
        self.reply(slot, subscribe::suback(version, packet.id, &granted))?;
        self.pump(now, session);
        Ok(())
    }

    /// One entry of SUBSCRIBE; what was asked for before with the same filter is replaced
    /// [MQTT-3.8.4-3].
    fn subscribe(&mut self, slot: u32, entry: &Entry, id: Option<u32>) -> Result<QoS, Reason> {
        let limits = &self.limits;
        let filter = TopicFilter::parse(&entry.filter).map_err(|_| Reason::TopicFilterInvalid)?;
        if filter.is_shared() {
            return Err(Reason::SharedNotSupported);
        }
        if filter.as_str().len() > limits.max_topic_bytes
            || filter.levels().count() > limits.max_topic_levels
        {
            return Err(Reason::TopicFilterInvalid);
        }
        self.check_subscription(slot, &filter)?;
        let limits = &self.limits;
        let session = self.sessions.get_mut(slot).ok_or(Reason::ImplementationSpecific)?;
        let subscription = Subscription {
            qos: entry.qos,
            no_local: entry.no_local,
            retain_as_published: entry.retain_as_published,
            id,
        };
        let is_new = !session.subscriptions.contains_key(&filter);
        if is_new
            && (session.subscriptions.len() >= limits.max_subscriptions_per_session
                || self.subscribers.len() >= limits.max_subscriptions)
        {
            return Err(Reason::QuotaExceeded);
        }
        if !is_new {
            self.subscribers.remove(&filter, |subscriber| subscriber.session == slot);
        }
        self.subscribers.insert(&filter, Subscriber { session: slot, subscription });
        session.subscriptions.insert(filter.clone(), subscription);
        session.replays.retain(|replay| replay.filter != filter);
        // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]
        let wants_retained = match entry.retained {
            SendRetained::Always => true,
            SendRetained::IfNew => is_new,
            SendRetained::Never => false,
        };
        if wants_retained {
            session.replays.push_back(Replay { filter, subscription, after: None });
        }
        Ok(subscription.qos)
    }

    pub(crate) fn handle_unsubscribe(
        &mut self,
        now: Instant,
        slot: u32,
        body: &[u8],
    ) -> Result<(), Fault> {
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        let (version, session) = (open.version, open.session);
        let (id, filters) = subscribe::decode_unsubscribe(version, body)?;
        let existed: Vec<_> =
            filters.iter().map(|filter| self.unsubscribe(session, filter)).collect();
        self.reply(slot, subscribe::unsuback(version, id, &existed))?;
        self.pump(now, session);
        Ok(())
    }

    /// Whether there was such a subscription; `None` if it is no filter.
    pub(crate) fn unsubscribe(&mut self, slot: u32, filter: &str) -> Option<bool> {
        let filter = TopicFilter::parse(filter).ok()?;
        let session = self.sessions.get_mut(slot)?;
        session.replays.retain(|replay| replay.filter != filter);
        let existed = session.subscriptions.remove(&filter).is_some();
        if existed {
            // [MQTT-3.10.4-2]: no new messages; those queued already still go out.
            self.subscribers.remove(&filter, |subscriber| subscriber.session == slot);
        }
        Some(existed)
    }

    /// Sends an answer the client waits for.
    fn reply(&mut self, slot: u32, packet: Result<Vec<u8>, MqttError>) -> Result<(), Fault> {
        let packet = packet.map_err(|_| {
            Fault::new(Reason::ImplementationSpecific, "the answer cannot be encoded")
        })?;
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        let max_packet = connection.open().map_or(u32::MAX, |open| open.max_packet);
        if packet.len() > max_packet as usize {
            // [MQTT-3.1.2-24]: it must not be sent, and the client cannot do without.
            let text = "the answer is larger than the client accepts";
            return Err(Fault::new(Reason::PacketTooLarge, text));
        }
        append(connection, &mut self.events, |out| out.extend_from_slice(&packet));
        Ok(())
    }
}
