//! Wills on the disk: the will of a client with a kept session comes out also when the gateway
//! itself has lost its power.
//!
//! A will has a key of its own from before CONNACK until it is published or discarded. It is
//! deleted in the transaction that has the message, so that it is published once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{self, Reader, put, put_bytes, put_message_expiry, put_option, put_texts};
use crate::broker::Broker;
use crate::event::BrokerEvent;
use crate::message::{Message, Properties, QoS};
use crate::topic::TopicName;
use crate::will::{DelayedWill, Will};

use super::Change;

/// The key of a will that is on the disk.
pub(crate) type WillKey = Option<Box<[u8]>>;

/// The value of a will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WillValue {
    pub(crate) message: Message,
    pub(crate) delay: Duration,
}

impl WillValue {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Message { topic, payload, qos, retain, properties, publisher } = &self.message;
        let mut out = vec![format::VERSION];
        out.push(*qos as u8 | u8::from(*retain) << 2);
        out.push(format::payload_format(properties));
        put(&mut out, self.delay.as_secs());
        put_message_expiry(&mut out, properties);
        put_bytes(&mut out, topic.as_str().as_bytes());
        put_option(&mut out, publisher.as_deref().map(str::as_bytes));
        put_texts(&mut out, properties);
        out.extend_from_slice(payload);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<WillValue> {
        let mut reader = Reader::versioned(bytes)?;
        let flags = reader.u8()?;
        let payload_format = reader.payload_format()?;
        let delay = Duration::from_secs(reader.number()?);
        let message_expiry = reader.message_expiry()?;
        let topic = TopicName::parse(&reader.text()?).ok()?;
        let publisher = reader.optional_text()?.map(Into::into);
        let properties = Properties { payload_format, message_expiry, ..reader.texts()? };
        let message = Message {
            topic,
            payload: reader.0.to_vec().into(),
            qos: QoS::from_bits(flags & 3)?,
            retain: flags & 4 != 0,
            properties: properties.into(),
            publisher,
        };
        Some(WillValue { message, delay })
    }
}

impl Broker {
    /// Puts down the will of a client that is let in, if its session is kept and outlives the
    /// connection.
    pub(crate) fn keep_will(&mut self, session: u32, will: &mut Will) {
        let Some(durable) = &mut self.durable else { return };
        let Some(session) = self.sessions.get(session).filter(|s| !s.expiry.is_zero()) else {
            return;
        };
        let Some(kept) = &session.kept else { return };
        let number = durable.next_will;
        durable.next_will += 1;
        let key = format::key(format::WILL, kept.number, &number.to_be_bytes());
        let value = WillValue { message: Message::clone(&will.message), delay: will.delay };
        durable.put(key.clone(), value.encode());
        will.key = Some(key.into());
    }

    /// A will that is not to be published is gone from the disk too, soon: nobody waits for it,
    /// but a power cut would bring it out.
    pub(crate) fn discard_will(&mut self, key: WillKey) {
        if let (Some(durable), Some(key)) = (&mut self.durable, key) {
            durable.delete(key.into());
            durable.hurried = true;
        }
    }

    /// A will is due.
    pub(crate) fn publish_will(&mut self, client: Arc<str>, message: Arc<Message>, key: WillKey) {
        let change = key.map(|key| Change { key: key.into(), value: None });
        if change.is_some() {
            // That there is such a will comes before that it has been published.
            self.hand_out_changes();
        }
        self.announce(BrokerEvent::Publish { ticket: None, client, message, change });
    }

    /// A will of an earlier life of the broker: its client's connection has ended when that did.
    /// Of several the last is that of the connection, and those before were due already.
    pub(super) fn restore_will(&mut self, now: Instant, key: &[u8], value: &[u8]) -> Option<()> {
        let (session, rest) = format::split_key(key)?;
        let number = u64::from_be_bytes(rest.try_into().ok()?);
        let WillValue { message, delay } = WillValue::decode(value)?;
        let durable = self.durable.as_mut()?;
        durable.next_will = durable.next_will.max(number + 1);
        let slot = durable.by_number.get(&session).copied();
        let client = message.publisher.clone()?;
        let (message, key) = (Arc::new(message), Some(key.into()));
        let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) else {
            self.publish_will(client, message, key);
            return Some(());
        };
        // What remains of its time away is known by when the session ends.
        let left = session.ends_at.map_or(session.expiry, |at| at.saturating_duration_since(now));
        let away = session.expiry.saturating_sub(left);
        let at = now.checked_add(delay.saturating_sub(away));
        let earlier = session.will.take();
        session.will = at.map(|at| DelayedWill { message, at, key });
        if let Some(earlier) = earlier {
            self.publish_will(client, earlier.message, earlier.key);
        }
        Some(())
    }
}
