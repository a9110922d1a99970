//! SUBSCRIBE and UNSUBSCRIBE: what a session wants to get.

use std::time::Instant;

use crate::broker::Broker;
use crate::durable::format;
use crate::event::BrokerEvent;
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
        let mut granted = Vec::with_capacity(packet.entries.len());
        let mut text = "";
        for entry in &packet.entries {
            granted.push(match self.subscribe(session, entry, packet.subscription_id) {
                Ok(qos) => Ok(qos),
                Err(refused) if refused.reason == Reason::ProtocolError => return Err(refused),
                Err(refused) => {
                    text = refused.text;
                    Err(refused.reason)
                }
            });
        }
        self.reply(slot, text, |text| subscribe::suback(version, packet.id, &granted, text))?;
        self.pump(now, session);
        Ok(())
    }

    /// One entry of SUBSCRIBE; what was asked for before with the same filter is replaced
    /// [MQTT-3.8.4-3].
    fn subscribe(&mut self, slot: u32, entry: &Entry, id: Option<u32>) -> Result<QoS, Fault> {
        const INVALID: Fault = Fault::new(Reason::TopicFilterInvalid, "the filter is not valid");
        let limits = &self.limits;
        let filter = TopicFilter::parse(&entry.filter).map_err(|_| INVALID)?;
        let shared = match filter.is_shared() {
            true => Some(filter.shared().ok_or(INVALID)?),
            false => None,
        };
        if shared.is_some() && entry.no_local {
            // [MQTT-3.8.3-4]
            return Err(Fault::protocol("No Local on a shared subscription"));
        }
        if filter.as_str().len() > limits.max_topic_bytes
            || filter.levels().count() > limits.max_topic_levels
        {
            let text = "the filter is longer or deeper than allowed";
            return Err(Fault::new(Reason::TopicFilterInvalid, text));
        }
        self.check_subscription(slot, &filter)?;
        let gone = Fault::new(Reason::ImplementationSpecific, "the session is gone");
        let limits = &self.limits;
        let session = self.sessions.get_mut(slot).ok_or(gone)?;
        let subscription = Subscription {
            qos: entry.qos,
            no_local: entry.no_local,
            retain_as_published: entry.retain_as_published,
            id,
        };
        let is_new = !session.subscriptions.contains_key(&filter);
        if is_new
            && (session.subscriptions.len() >= limits.max_subscriptions_per_session
                || self.subscriptions >= limits.max_subscriptions)
        {
            let text = "there are as many subscriptions as are allowed";
            return Err(Fault::new(Reason::QuotaExceeded, text));
        }
        session.subscriptions.insert(filter.clone(), subscription);
        session.replays.retain(|replay| replay.filter != filter);
        // [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; none for shared subscriptions (section 4.8.2).
        let wants_retained = match entry.retained {
            SendRetained::Always => shared.is_none(),
            SendRetained::IfNew => is_new && shared.is_none(),
            SendRetained::Never => false,
        };
        if wants_retained {
            let filter = filter.clone();
            let newest = self.retained.newest();
            session.replays.push_back(Replay { filter, subscription, after: None, newest });
        }
        let client = session.client.clone();
        self.subscriptions += usize::from(is_new);
        if let (Some(durable), Some(kept)) = (&mut self.durable, &mut session.kept) {
            let key = filter.as_str().as_bytes();
            let key = format::key(format::SUBSCRIPTION, kept.number, key);
            durable.put(key, format::encode_subscription(&subscription));
            kept.ticket = durable.next_ticket;
        }
        match shared {
            Some(shared) => self.join_group(&filter, &shared, slot, subscription),
            None => {
                if !is_new {
                    self.subscribers.remove(&filter, |subscriber| subscriber.is_session(slot));
                }
                let subscriber = Subscriber::Session { session: slot, subscription };
                self.subscribers.insert(&filter, subscriber);
            }
        }
        let qos = subscription.qos;
        self.events.push_back(BrokerEvent::Subscribed { client, filter, qos });
        Ok(qos)
    }

    /// A session is not to be found by this filter any more.
    pub(crate) fn leave_filter(&mut self, filter: &TopicFilter, slot: u32) {
        match filter.shared() {
            Some(shared) => self.leave_group(filter, &shared, slot),
            None => {
                self.subscribers.remove(filter, |subscriber| subscriber.is_session(slot));
            }
        }
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
        self.reply(slot, "", |_| subscribe::unsuback(version, id, &existed))?;
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
            let client = session.client.clone();
            if let (Some(durable), Some(kept)) = (&mut self.durable, &mut session.kept) {
                let key = filter.as_str().as_bytes();
                durable.delete(format::key(format::SUBSCRIPTION, kept.number, key));
                kept.ticket = durable.next_ticket;
            }
            // [MQTT-3.10.4-2]: no new messages; those queued already still go out.
            self.leave_filter(&filter, slot);
            self.subscriptions -= 1;
            self.events.push_back(BrokerEvent::Unsubscribed { client, filter });
        }
        Some(existed)
    }

    /// Sends an answer the client waits for, with a text if it wants one [MQTT-3.1.2-29] and it
    /// fits.
    fn reply(
        &mut self,
        slot: u32,
        text: &str,
        packet: impl Fn(&str) -> Vec<u8>,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        let Some(open) = connection.open() else { return Ok(()) };
        let session = open.session;
        let text = if open.problem_info { text } else { "" };
        let fits = |packet: &Vec<u8>| packet.len() <= open.max_packet as usize;
        let packet = Some(packet(text)).filter(fits).or_else(|| Some(packet("")).filter(fits));
        // [MQTT-3.1.2-24]: it must not be sent, and the client cannot do without.
        let text = "the answer is larger than the client accepts";
        let packet = packet.ok_or(Fault::new(Reason::PacketTooLarge, text))?;
        self.send_when_durable(slot, session, &packet);
        Ok(())
    }
}
