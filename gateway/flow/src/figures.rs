//! What the rest of the gateway says and hears over MQTT without a socket: messages of its own,
//! subscribers of its own, and the figures under `$SYS`.

use std::sync::Arc;
use std::time::Duration;

use tidegate_broker::{LocalId, Message, QoS, TopicFilter, TopicName};

use crate::clock::Now;
use crate::gateway::Gateway;

/// How often the figures are published.
pub(crate) const FIGURES_EVERY: Duration = Duration::from_secs(10);

/// Publisher of the gateway's own messages.
const CLIENT: &str = "tidegate";

impl Gateway {
    /// Publishes a message of the gateway itself, as if a client had: to the streams that take
    /// its topic and to the subscribers. Nobody waits for it.
    pub fn publish(&mut self, now: Now, message: Message) {
        self.take_publish(now, None, CLIENT.into(), Arc::new(message), None);
    }

    /// Subscribes something inside the gateway to what is published from now on; at most
    /// `max_bytes` wait for [`Gateway::take`], what comes beyond is dropped and counted.
    pub fn subscribe(&mut self, filter: &TopicFilter, max_bytes: usize) -> LocalId {
        self.broker.subscribe_local(filter, max_bytes)
    }

    /// The next message for a subscriber inside the gateway.
    pub fn take(&mut self, subscriber: LocalId) -> Option<Arc<Message>> {
        self.broker.take_local(subscriber)
    }

    /// Ends a subscription inside the gateway.
    pub fn unsubscribe(&mut self, subscriber: LocalId) {
        self.broker.unsubscribe_local(subscriber);
    }

    /// Publishes the figures, retained, under the topics that other brokers have made usual.
    pub(crate) fn publish_figures(&mut self, now: Now) {
        let stats = self.broker.stats();
        let counters = stats.counters;
        let connected = stats.sessions.iter().filter(|session| session.connected).count() as u64;
        let sessions = stats.sessions.len() as u64;
        let received = counters.received_qos0 + counters.received_qos1 + counters.received_qos2;
        let sent = counters.sent_qos0 + counters.sent_qos1 + counters.sent_qos2;
        let dropped = counters.dropped_qos0
            + counters.dropped_qos1
            + counters.dropped_spooled
            + counters.dropped_too_large
            + counters.dropped_expired;
        let uptime = now.instant.saturating_duration_since(self.started).as_secs();
        let figures = [
            ("uptime", uptime),
            ("clients/connected", connected),
            ("clients/disconnected", sessions.saturating_sub(connected)),
            ("clients/total", sessions),
            ("subscriptions/count", stats.subscriptions as u64),
            ("retained messages/count", stats.retained as u64),
            ("messages/received", received),
            ("messages/sent", sent),
            ("publish/messages/dropped", dropped),
        ];
        for (name, value) in figures {
            let Ok(topic) = TopicName::parse(&format!("$SYS/broker/{name}")) else { continue };
            let mut message = Message::new(topic, value.to_string(), QoS::AtMostOnce);
            message.retain = true;
            self.broker.publish(now.instant, &Arc::new(message));
        }
    }
}
