//! Wills: messages for the case that a client goes without saying goodbye.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::durable::WillKey;
use crate::message::Message;
use crate::packet::connect::ConnectWill;

/// The will of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) delay: Duration,
    /// Where it is on the disk.
    pub(crate) key: WillKey,
}

/// A will that is published unless its client returns before `at` [MQTT-3.1.3-9].
#[derive(Debug, Clone)]
pub(crate) struct DelayedWill {
    pub(crate) message: Arc<Message>,
    pub(crate) at: Instant,
    pub(crate) key: WillKey,
}

impl Will {
    pub(crate) fn new(will: ConnectWill, client: &Arc<str>) -> Will {
        Will {
            delay: Duration::from_secs(will.delay.into()),
            key: None,
            message: Arc::new(Message {
                topic: will.topic,
                payload: will.payload.into(),
                qos: will.qos,
                retain: will.retain,
                properties: will.properties.into(),
                publisher: Some(client.clone()),
            }),
        }
    }
}

/// What becomes of the will when a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WillFate {
    /// The client said goodbye [MQTT-3.14.4-3].
    Discard,
    /// At once or after its delay [MQTT-3.1.2-8].
    Publish,
}
