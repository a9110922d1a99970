//! What happens to clients, told as messages: `$SYS/broker/events/NAME` (docs/formats/events.md).
//! A stream that takes the topic keeps them, for functions and as an audit log.
//!
//! Invariant: what clients do cannot fill the flash by this. Beyond [`BURST`] at once, or
//! [`PER_SECOND`] for long, events are left out and counted; the next one says how many.

use std::time::Instant;

use tidegate_broker::{BrokerEvent, Message, QoS, TopicName, Version};

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::losses::quoted;

/// Version of the JSON.
const VERSION: u32 = 1;
/// The topic of an event is this and its name.
const TOPIC: &str = "$SYS/broker/events/";
/// Events that are told for long.
const PER_SECOND: f64 = 100.0;
/// Events that are told at once.
const BURST: f64 = 1_000.0;

/// How many may be told now.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: f64,
    at: Option<Instant>,
    /// Left out since the last one that was told.
    suppressed: u64,
}

impl Default for Allowance {
    fn default() -> Allowance {
        Allowance { left: BURST, at: None, suppressed: 0 }
    }
}

impl Allowance {
    /// Whether one may be told; if so, how many were left out before it.
    pub(crate) fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = self.at.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.at = Some(now);
        self.left = (self.left + passed * PER_SECOND).min(BURST);
        if self.left < 1.0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1.0;
        Some(std::mem::take(&mut self.suppressed))
    }
}

/// Its name, and its members beside those that all have, as JSON.
pub(crate) fn told(event: &BrokerEvent) -> Option<(&'static str, Vec<(&'static str, String)>)> {
    Some(match event {
        BrokerEvent::Connected { client, version, peer, .. } => {
            let version = match version {
                Version::V3_1_1 => "3.1.1",
                Version::V5 => "5",
            };
            let members =
                [("client", quoted(client)), ("peer", quoted(peer)), ("mqtt", quoted(version))];
            ("connected", members.to_vec())
        }
        BrokerEvent::Disconnected { client, why } => {
            let members = [("client", quoted(client)), ("why", quoted(&why.to_string()))];
            ("disconnected", members.to_vec())
        }
        BrokerEvent::TakenOver { client, from, by } => {
            let members = [("client", quoted(client)), ("from", quoted(from)), ("by", quoted(by))];
            ("taken-over", members.to_vec())
        }
        BrokerEvent::Subscribed { client, filter, qos } => {
            let members = [
                ("client", quoted(client)),
                ("filter", quoted(filter.as_str())),
                ("qos", (*qos as u8).to_string()),
            ];
            ("subscribed", members.to_vec())
        }
        BrokerEvent::Unsubscribed { client, filter } => {
            let members = [("client", quoted(client)), ("filter", quoted(filter.as_str()))];
            ("unsubscribed", members.to_vec())
        }
        BrokerEvent::Denied { client, user, action, topic } => {
            let mut members = vec![
                ("client", quoted(client)),
                ("action", quoted(&action.to_string())),
                ("topic", quoted(topic)),
            ];
            members.extend(user.as_ref().map(|user| ("user", quoted(user))));
            ("denied", members)
        }
        BrokerEvent::Publish { .. }
        | BrokerEvent::Persist { .. }
        | BrokerEvent::Spool { .. }
        | BrokerEvent::Writable(_)
        | BrokerEvent::Close { .. }
        | BrokerEvent::Pause(_)
        | BrokerEvent::Resume(_)
        | BrokerEvent::Authenticate { .. } => return None,
    })
}

/// The JSON of an event: its members beside those that all have, their values as JSON.
pub(crate) fn json(now: Now, gateway: &str, event: &str, members: &[(&str, String)]) -> String {
    let (gateway, unix_ms) = (quoted(gateway), now.unix_ms);
    let mut json =
        format!(r#"{{"v":{VERSION},"gateway":{gateway},"event":"{event}","unix_ms":{unix_ms}"#);
    for (member, value) in members {
        json.push_str(&format!(r#","{member}":{value}"#));
    }
    json.push('}');
    json
}

impl Gateway {
    /// Publishes what an event says, if it is one that is told and anybody wants it.
    pub(crate) fn tell_event(&mut self, now: Now, event: &BrokerEvent) {
        let Some((name, mut members)) = told(event) else { return };
        let Ok(topic) = TopicName::parse(&format!("{TOPIC}{name}")) else { return };
        if self.stopping || !self.wants(&topic) {
            return;
        }
        let Some(suppressed) = self.events.take(now.instant) else { return };
        if suppressed > 0 {
            members.push(("suppressed", suppressed.to_string()));
        }
        let json = json(now, &self.name, name, &members);
        let mut message = Message::new(topic, json, QoS::AtLeastOnce);
        message.properties.payload_format = Some(true);
        message.properties.content_type = Some("application/json".to_owned());
        self.publish(now, message);
    }

    /// Whether a stream takes this topic, or somebody has subscribed to it.
    fn wants(&self, topic: &TopicName) -> bool {
        let mut streams = Vec::new();
        self.routes.streams_of(topic, &mut streams);
        !streams.is_empty() || self.broker.has_subscribers(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_left_out_and_counted_and_time_makes_room_again() {
        let mut allowance = Allowance::default();
        #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
        let start = Instant::now();
        let told = (0..1_500).filter_map(|_| allowance.take(start)).count();
        assert_eq!(told, 1_000);
        let later = start + Duration::from_millis(20);
        assert_eq!(allowance.take(later), Some(500));
        assert_eq!(allowance.take(later), Some(0));
        assert_eq!(allowance.take(later), None);
    }
}
