//! One network connection: from its first byte to its last.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::{Access, Throttle};
use crate::admission::Settling;
use crate::aliases::OutboundAliases;
use crate::durable::PersistTicket;
use crate::event::ConnId;
use crate::limits::BrokerLimits;
use crate::outbox::Outbox;
use crate::packet::Version;
use crate::packet::connect::Connect;
use crate::packet::fault::{Fault, Reason};
use crate::packet::publish::{Inbound, topic_text};
use crate::pending::PendingAcks;
use crate::topic::TopicName;
use crate::will::Will;

/// Where a new connection comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For logs only.
    pub peer: String,
    /// Connections with the same address share
    /// [`max_publishes_per_second_per_address`](BrokerLimits::max_publishes_per_second_per_address).
    pub address: Option<IpAddr>,
    /// When it was accepted, before any handshakes below MQTT: its connect timeout runs from then.
    pub since: Instant,
}

/// A connection and the bytes on both sides of it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnId,
    pub(crate) peer: String,
    /// Place of its address among those with a rate.
    pub(crate) crowd: Option<u32>,
    pub(crate) phase: Phase,
    /// Bytes that make no whole packet yet, or that arrived while reading was paused.
    pub(crate) unread: Vec<u8>,
    pub(crate) outbox: Outbox,
    /// The shell has been asked to stop reading.
    pub(crate) paused: bool,
    /// Something waits until the outbox has room again.
    pub(crate) wants_room: bool,
    /// It is on the list of connections to look at after their outbox was handed out.
    pub(crate) listed: bool,
    /// When it began, later when the last whole packet arrived.
    pub(crate) heard: Instant,
    pub(crate) timer: Option<Instant>,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
    AwaitingConnect,
    /// The owner finds out who the client is; reading is paused.
    Authenticating(Box<Candidate>),
    /// Its session has to be on the disk before it is let in; reading is paused.
    Settling(Box<Settling>),
    Open(Box<Open>),
    /// It gets its last bytes and takes none.
    Closing,
}

/// A client whose CONNECT can be accepted if it is who it says.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) connect: Connect,
    pub(crate) client: Arc<str>,
    /// The broker gave the client identifier.
    pub(crate) assigned: bool,
}

/// A connection whose CONNECT was accepted.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) session: u32,
    pub(crate) client: Arc<str>,
    pub(crate) version: Version,
    /// Silence allowed: one and a half times the keep-alive [MQTT-3.1.2-22]; `None` for ever.
    pub(crate) patience: Option<Duration>,
    /// Messages with QoS 1 or 2 the client takes at a time.
    pub(crate) window: u16,
    /// The largest packet the client takes.
    pub(crate) max_packet: u32,
    pub(crate) problem_info: bool,
    pub(crate) will: Option<Will>,
    pub(crate) pending: PendingAcks,
    /// Publishes with QoS 1 or 2 of this connection that are not finished: what Receive Maximum
    /// bounds [MQTT-3.3.4-7].
    pub(crate) unfinished: u32,
    /// Packets that leave when the changes of their ticket are durable.
    pub(crate) held: VecDeque<(PersistTicket, Box<[u8]>)>,
    /// Topics by alias - 1 [MQTT-3.3.2-7].
    pub(crate) aliases: Vec<Option<TopicName>>,
    pub(crate) outbound_aliases: OutboundAliases,
    /// The topic published to last: publishers tend to stay with theirs.
    pub(crate) last_topic: Option<TopicName>,
    pub(crate) access: Access,
    /// The topic that was last found to be allowed.
    pub(crate) allowed_topic: Option<TopicName>,
    pub(crate) throttle: Throttle,
    /// The publish that comes next has been counted against the rates, and is not read before.
    pub(crate) due: Option<Instant>,
}

impl Connection {
    pub(crate) fn new(
        id: ConnId,
        caller: Caller,
        crowd: Option<u32>,
        outbox: Outbox,
    ) -> Connection {
        Connection {
            id,
            peer: caller.peer,
            crowd,
            phase: Phase::AwaitingConnect,
            unread: Vec::new(),
            outbox,
            paused: false,
            wants_room: false,
            listed: false,
            heard: caller.since,
            timer: None,
        }
    }

    pub(crate) fn open(&self) -> Option<&Open> {
        match &self.phase {
            Phase::Open(open) => Some(open),
            Phase::AwaitingConnect
            | Phase::Authenticating(_)
            | Phase::Settling(_)
            | Phase::Closing => None,
        }
    }

    pub(crate) fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.phase {
            Phase::Open(open) => Some(open),
            Phase::AwaitingConnect
            | Phase::Authenticating(_)
            | Phase::Settling(_)
            | Phase::Closing => None,
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }
}

impl Open {
    /// The topic of an inbound message: said, known by its alias, or both.
    pub(crate) fn topic(
        &mut self,
        inbound: &Inbound<'_>,
        limits: &BrokerLimits,
    ) -> Result<TopicName, Fault> {
        const ALIAS: Fault = Fault::new(Reason::TopicAliasInvalid, "the topic alias is not valid");
        let place = match inbound.alias {
            None => None,
            // [MQTT-3.3.2-8], [MQTT-3.3.2-9]
            Some(alias) if alias == 0 || alias > limits.topic_alias_maximum => {
                return Err(ALIAS);
            }
            Some(alias) => Some(usize::from(alias) - 1),
        };
        if inbound.topic.is_empty() && self.version == Version::V5 {
            // Section 3.3.2.1: nothing else can say the topic.
            let place = place.ok_or(Fault::protocol("neither a topic nor a topic alias"))?;
            let known = self.aliases.get(place).cloned().flatten();
            return known.ok_or(Fault::protocol("the topic alias has not been set up"));
        }
        let topic = self.named_topic(inbound.topic, limits)?;
        if let Some(place) = place {
            if self.aliases.len() <= place {
                self.aliases.resize(place + 1, None);
            }
            self.aliases[place] = Some(topic.clone());
        }
        Ok(topic)
    }

    fn named_topic(&mut self, bytes: &[u8], limits: &BrokerLimits) -> Result<TopicName, Fault> {
        if let Some(topic) = &self.last_topic
            && topic.as_str().as_bytes() == bytes
        {
            return Ok(topic.clone());
        }
        if bytes.len() > limits.max_topic_bytes {
            return Err(Fault::new(Reason::TopicNameInvalid, "the topic is too long"));
        }
        let invalid = Fault::new(Reason::TopicNameInvalid, "the topic name is not valid");
        let topic = TopicName::parse(topic_text(bytes)?).map_err(|_| invalid)?;
        if topic.levels().count() > limits.max_topic_levels {
            return Err(Fault::new(Reason::TopicNameInvalid, "the topic has too many levels"));
        }
        self.last_topic = Some(topic.clone());
        Ok(topic)
    }
}
