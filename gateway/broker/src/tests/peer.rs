//! A broker with simulated time and clients at its sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mqtt_protocol_core::mqtt::packet::{
    Properties, Property, Qos, RetainHandling, SubEntry, SubOpts, v3_1_1, v5_0,
};

use crate::packet::frame;
use crate::{
    Answer, Broker, BrokerEvent, BrokerLimits, CloseReason, ConnId, Message, QoS, Ticket,
    TopicName, Version,
};

/// What a client is sent, in the words of the tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    ConnAck { code: u8, present: bool },
    Publish(Received),
    PubAck { id: u16, code: u8 },
    PubRec { id: u16, code: u8 },
    PubRel { id: u16, code: u8 },
    PubComp { id: u16, code: u8 },
    SubAck { id: u16, codes: Vec<u8> },
    UnsubAck { id: u16, codes: Vec<u8> },
    PingResp,
    Disconnect(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) id: Option<u16>,
    pub(crate) properties: Vec<String>,
}

pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) now: Instant,
    /// Whether publishes are delivered and acknowledged at once, as a flow without disk would.
    pub(crate) automatic: bool,
    pub(crate) tickets: Vec<(Ticket, Arc<Message>)>,
    pub(crate) events: Vec<BrokerEvent>,
    /// Whether sockets take bytes.
    pub(crate) stuck: bool,
    sent: BTreeMap<ConnId, Vec<u8>>,
    versions: BTreeMap<ConnId, Version>,
    next: u64,
}

/// Wishes in CONNECT; the rest as usual.
#[derive(Clone)]
pub(crate) struct Hello {
    pub(crate) version: Version,
    pub(crate) client: &'static str,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) expiry: u32,
    pub(crate) properties: Properties,
    pub(crate) will: Option<(&'static str, &'static str, Qos, bool, Properties)>,
}

pub(crate) fn v3(client: &'static str) -> Hello {
    Hello {
        version: Version::V3_1_1,
        client,
        clean: true,
        keep_alive: 0,
        expiry: 0,
        properties: Properties::new(),
        will: None,
    }
}

pub(crate) fn v5(client: &'static str) -> Hello {
    Hello { version: Version::V5, ..v3(client) }
}

impl Hello {
    /// A session that outlives the connection by this many seconds (3.1.1: until the limit).
    pub(crate) fn keep(mut self, seconds: u32) -> Hello {
        self.clean = false;
        self.expiry = seconds;
        self
    }

    pub(crate) fn will(mut self, topic: &'static str, payload: &'static str) -> Hello {
        self.will = Some((topic, payload, Qos::AtMostOnce, false, Properties::new()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.version {
            Version::V3_1_1 => {
                let mut builder = v3_1_1::Connect::builder()
                    .client_id(self.client)
                    .unwrap()
                    .clean_session(self.clean)
                    .keep_alive(self.keep_alive);
                if let Some((topic, payload, qos, retain, _)) = &self.will {
                    let payload = payload.as_bytes().to_vec();
                    builder = builder.will_message(*topic, payload, *qos, *retain).unwrap();
                }
                builder.build().unwrap().to_continuous_buffer()
            }
            Version::V5 => {
                let mut properties = self.properties.clone();
                if self.expiry > 0 {
                    properties.push(property::session_expiry(self.expiry));
                }
                let mut builder = v5_0::Connect::builder()
                    .client_id(self.client)
                    .unwrap()
                    .clean_start(self.clean)
                    .keep_alive(self.keep_alive)
                    .props(properties);
                if let Some((topic, payload, qos, retain, properties)) = &self.will {
                    let payload = payload.as_bytes().to_vec();
                    builder = builder.will_message(*topic, payload, *qos, *retain).unwrap();
                    builder = builder.will_props(properties.clone());
                }
                builder.build().unwrap().to_continuous_buffer()
            }
        }
    }
}

/// Properties by name.
pub(crate) mod property {
    use mqtt_protocol_core::mqtt::packet::*;

    pub(crate) fn session_expiry(seconds: u32) -> Property {
        SessionExpiryInterval::new(seconds).unwrap().into()
    }
    pub(crate) fn receive_maximum(count: u16) -> Property {
        ReceiveMaximum::new(count).unwrap().into()
    }
    pub(crate) fn max_packet(bytes: u32) -> Property {
        MaximumPacketSize::new(bytes).unwrap().into()
    }
    pub(crate) fn message_expiry(seconds: u32) -> Property {
        MessageExpiryInterval::new(seconds).unwrap().into()
    }
    pub(crate) fn will_delay(seconds: u32) -> Property {
        WillDelayInterval::new(seconds).unwrap().into()
    }
    pub(crate) fn alias_maximum(count: u16) -> Property {
        TopicAliasMaximum::new(count).unwrap().into()
    }
    pub(crate) fn alias(number: u16) -> Property {
        TopicAlias::new(number).unwrap().into()
    }
    pub(crate) fn subscription_id(number: u32) -> Property {
        SubscriptionIdentifier::new(number).unwrap().into()
    }
    pub(crate) fn user(key: &str, value: &str) -> Property {
        UserProperty::new(key, value).unwrap().into()
    }
    pub(crate) fn content_type(name: &str) -> Property {
        ContentType::new(name).unwrap().into()
    }
    pub(crate) fn response_topic(topic: &str) -> Property {
        ResponseTopic::new(topic).unwrap().into()
    }
    pub(crate) fn correlation(bytes: &[u8]) -> Property {
        CorrelationData::new(bytes.to_vec()).unwrap().into()
    }
    pub(crate) fn text_format() -> Property {
        PayloadFormatIndicator::new(PayloadFormat::String).unwrap().into()
    }
    pub(crate) fn no_problem_info() -> Property {
        RequestProblemInformation::new(0).unwrap().into()
    }
    pub(crate) fn authentication(method: &str) -> Property {
        AuthenticationMethod::new(method).unwrap().into()
    }
}

/// PUBLISH as a client sends it.
pub(crate) fn publish(
    version: Version,
    topic: &str,
    payload: &str,
    id: Option<u16>,
    retain: bool,
    properties: Properties,
) -> Vec<u8> {
    let qos = if id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    match version {
        Version::V3_1_1 => v3_1_1::Publish::builder()
            .topic_name(topic)
            .unwrap()
            .qos(qos)
            .retain(retain)
            .packet_id(id)
            .payload(payload.as_bytes())
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Version::V5 => v5_0::Publish::builder()
            .topic_name(topic)
            .unwrap()
            .qos(qos)
            .retain(retain)
            .packet_id(id)
            .props(properties)
            .payload(payload.as_bytes())
            .build()
            .unwrap()
            .to_continuous_buffer(),
    }
}

/// Whether a PUBLISH says that it may have come before.
#[derive(Clone, Copy)]
pub(crate) enum Again {
    First,
    Repeated,
}

/// Options of one subscription.
#[derive(Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) qos: Qos,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) handling: RetainHandling,
}

pub(crate) fn qos(level: u8) -> Wish {
    Wish {
        qos: Qos::try_from(level).unwrap(),
        no_local: false,
        retain_as_published: false,
        handling: RetainHandling::SendRetained,
    }
}

pub(crate) fn subscribe(
    version: Version,
    id: u16,
    wishes: &[(&str, Wish)],
    properties: Properties,
) -> Vec<u8> {
    let entries = wishes
        .iter()
        .map(|(filter, wish)| {
            let mut options = SubOpts::new().set_qos(wish.qos);
            if version == Version::V5 {
                options = options
                    .set_nl(wish.no_local)
                    .set_rap(wish.retain_as_published)
                    .set_rh(wish.handling);
            }
            SubEntry::new(*filter, options).unwrap()
        })
        .collect::<Vec<_>>();
    match version {
        Version::V3_1_1 => v3_1_1::Subscribe::builder()
            .packet_id(id)
            .entries(entries)
            .build()
            .unwrap()
            .to_continuous_buffer(),
        Version::V5 => v5_0::Subscribe::builder()
            .packet_id(id)
            .entries(entries)
            .props(properties)
            .build()
            .unwrap()
            .to_continuous_buffer(),
    }
}

pub(crate) fn puback(id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![0x40, 2, high, low]
}

/// The other acknowledgements, by the first byte: PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
pub(crate) fn ack(first: u8, id: u16) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    vec![first, 2, high, low]
}

pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;
pub(crate) const PINGREQ: &[u8] = &[0xC0, 0];
pub(crate) const DISCONNECT: &[u8] = &[0xE0, 0];

impl World {
    pub(crate) fn new() -> World {
        World::with(BrokerLimits::default())
    }

    #[expect(clippy::disallowed_methods, reason = "simulated time has to start somewhere")]
    pub(crate) fn with(limits: BrokerLimits) -> World {
        World {
            broker: Broker::new(limits),
            now: Instant::now(),
            automatic: true,
            tickets: Vec::new(),
            events: Vec::new(),
            stuck: false,
            sent: BTreeMap::new(),
            versions: BTreeMap::new(),
            next: 0,
        }
    }

    /// A connection that has not sent anything.
    pub(crate) fn open(&mut self, version: Version) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.versions.insert(conn, version);
        self.broker.handle_open(self.now, conn, format!("peer-{}", self.next));
        self.settle();
        conn
    }

    /// A connection that was opened beside this world speaks this version.
    pub(crate) fn learn(&mut self, conn: ConnId, version: Version) {
        self.versions.insert(conn, version);
    }

    /// A connection that has sent `hello`; its CONNACK is still to be read.
    pub(crate) fn hello(&mut self, hello: &Hello) -> ConnId {
        let conn = self.open(hello.version);
        self.send(conn, &hello.bytes());
        conn
    }

    /// A connection that has been let in.
    pub(crate) fn connect(&mut self, hello: Hello) -> ConnId {
        let conn = self.hello(&hello);
        match self.got(conn).first() {
            Some(Got::ConnAck { code: 0, .. }) => conn,
            other => panic!("{} is not let in: {other:?}", hello.client),
        }
    }

    /// The same, leaving what follows CONNACK to be read.
    pub(crate) fn connect_and_keep(&mut self, hello: Hello) -> ConnId {
        let conn = self.hello(&hello);
        let bytes = self.raw(conn);
        let connack = frame::first(&bytes, u32::MAX).unwrap().expect("CONNACK").bytes;
        let first = parse(hello.version, &bytes[..connack]);
        assert!(matches!(first[..], [Got::ConnAck { code: 0, .. }]), "{first:?}");
        self.sent.insert(conn, bytes[connack..].to_vec());
        conn
    }

    /// The same with subscriptions.
    pub(crate) fn subscriber(&mut self, hello: Hello, wishes: &[(&str, Wish)]) -> ConnId {
        let version = hello.version;
        let conn = self.connect(hello);
        self.send(conn, &subscribe(version, 1, wishes, Properties::new()));
        assert!(matches!(self.got(conn).first(), Some(Got::SubAck { id: 1, .. })));
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.broker.handle_bytes(self.now, conn, bytes);
        self.settle();
    }

    pub(crate) fn publish(&mut self, conn: ConnId, topic: &str, payload: &str, id: Option<u16>) {
        self.publish_with(conn, topic, payload, id, false, vec![]);
    }

    pub(crate) fn publish_with(
        &mut self,
        conn: ConnId,
        topic: &str,
        payload: &str,
        id: Option<u16>,
        retain: bool,
        properties: Vec<Property>,
    ) {
        let bytes = publish(self.versions[&conn], topic, payload, id, retain, properties);
        self.send(conn, &bytes);
    }

    /// PUBLISH with QoS 2.
    pub(crate) fn publish_twice_sure(
        &mut self,
        conn: ConnId,
        topic: &str,
        payload: &str,
        id: u16,
        again: Again,
    ) {
        let mut bytes = publish(self.versions[&conn], topic, payload, Some(id), false, vec![]);
        bytes[0] = match again {
            Again::First => 0x34,
            Again::Repeated => 0x3C,
        };
        self.send(conn, &bytes);
    }

    /// A message of the gateway itself.
    pub(crate) fn inject(&mut self, topic: &str, payload: &str, qos: QoS) -> usize {
        let topic = TopicName::parse(topic).unwrap();
        let message = Arc::new(Message::new(topic, payload.to_owned(), qos));
        let matched = self.broker.publish(self.now, &message);
        self.settle();
        matched
    }

    /// The socket breaks.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        self.broker.handle_closed(self.now, conn, "reset");
        self.settle();
    }

    pub(crate) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.broker.acknowledge(self.now, ticket, answer);
        self.settle();
    }

    /// Lets time pass, stopping wherever the broker wants to be woken.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// What the shell does: events until there are none, and bytes to the sockets.
    pub(crate) fn settle(&mut self) {
        while let Some(event) = self.broker.poll_event() {
            match &event {
                BrokerEvent::Publish { ticket, message, .. } => {
                    if self.automatic {
                        self.broker.publish(self.now, message);
                        if let Some(ticket) = ticket {
                            self.broker.acknowledge(self.now, *ticket, Answer::Success);
                        }
                    } else if let Some(ticket) = ticket {
                        self.tickets.push((*ticket, message.clone()));
                    }
                }
                BrokerEvent::Writable(conn) if !self.stuck => self.flush(*conn),
                BrokerEvent::Close { conn, .. } => {
                    self.flush(*conn);
                    self.broker.handle_closed(self.now, *conn, "closed by us");
                }
                _ => {}
            }
            self.events.push(event);
        }
    }

    fn flush(&mut self, conn: ConnId) {
        if let Some(outbox) = self.broker.unsent(conn) {
            let bytes = outbox.as_slice().to_vec();
            outbox.consume(bytes.len());
            self.sent.entry(conn).or_default().extend(bytes);
        }
    }

    /// Sockets take bytes again.
    pub(crate) fn unstick(&mut self) {
        self.stuck = false;
        let conns: Vec<ConnId> = self.versions.keys().copied().collect();
        for conn in conns {
            while self.broker.unsent(conn).is_some_and(|outbox| !outbox.is_empty()) {
                self.flush(conn);
                self.settle();
            }
        }
    }

    /// What a socket has been given since the last time.
    pub(crate) fn raw(&mut self, conn: ConnId) -> Vec<u8> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    /// The same as packets.
    pub(crate) fn got(&mut self, conn: ConnId) -> Vec<Got> {
        let bytes = self.raw(conn);
        parse(self.versions[&conn], &bytes)
    }

    /// The messages among them.
    pub(crate) fn received(&mut self, conn: ConnId) -> Vec<Received> {
        let messages = self.got(conn).into_iter().filter_map(|got| match got {
            Got::Publish(received) => Some(received),
            _ => None,
        });
        messages.collect()
    }

    pub(crate) fn payloads(&mut self, conn: ConnId) -> Vec<String> {
        self.received(conn).into_iter().map(|received| received.payload).collect()
    }

    /// Why the broker closed this connection.
    pub(crate) fn closed(&self, conn: ConnId) -> Option<&CloseReason> {
        self.events.iter().find_map(|event| match event {
            BrokerEvent::Close { conn: closed, why } if *closed == conn => Some(why),
            _ => None,
        })
    }

    /// Topics and payloads of the publishes that came out as events.
    pub(crate) fn published(&self) -> Vec<(String, String)> {
        let published = self.events.iter().filter_map(|event| match event {
            BrokerEvent::Publish { message, .. } => {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                Some((message.topic.to_string(), payload))
            }
            _ => None,
        });
        published.collect()
    }
}

/// Every packet in `bytes`, by the library's parsers.
pub(crate) fn parse(version: Version, bytes: &[u8]) -> Vec<Got> {
    let mut got = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let frame = frame::first(rest, u32::MAX).unwrap().expect("a whole packet");
        got.push(parse_one(version, frame));
        rest = &rest[frame.bytes..];
    }
    got
}

fn parse_one(version: Version, frame: frame::Frame<'_>) -> Got {
    let body = frame.body;
    match (frame.kind, version) {
        (2, Version::V3_1_1) => Got::ConnAck { code: body[1], present: body[0] == 1 },
        (2, Version::V5) => {
            let (packet, used) = v5_0::Connack::parse(body).unwrap();
            assert_eq!(used, body.len());
            Got::ConnAck { code: packet.reason_code() as u8, present: packet.session_present() }
        }
        (3, Version::V3_1_1) => {
            let (packet, _) = v3_1_1::Publish::parse(frame.flags, body.into()).unwrap();
            Got::Publish(Received {
                topic: packet.topic_name().to_owned(),
                payload: String::from_utf8_lossy(packet.payload().as_slice()).into_owned(),
                qos: packet.qos() as u8,
                retain: packet.retain(),
                dup: packet.dup(),
                id: packet.packet_id(),
                properties: vec![],
            })
        }
        (3, Version::V5) => {
            let (packet, _) = v5_0::Publish::parse(frame.flags, body.into()).unwrap();
            Got::Publish(Received {
                topic: packet.topic_name().to_owned(),
                payload: String::from_utf8_lossy(packet.payload().as_slice()).into_owned(),
                qos: packet.qos() as u8,
                retain: packet.retain(),
                dup: packet.dup(),
                id: packet.packet_id(),
                properties: packet.props().iter().map(describe).collect(),
            })
        }
        (kind @ 4..=7, _) => {
            let (id, code, used) = acknowledgement(kind, body);
            assert_eq!(used, body.len());
            match kind {
                4 => Got::PubAck { id, code },
                5 => Got::PubRec { id, code },
                6 => Got::PubRel { id, code },
                _ => Got::PubComp { id, code },
            }
        }
        (9, Version::V3_1_1) => {
            let (packet, _) = v3_1_1::Suback::parse(body).unwrap();
            let codes = packet.return_codes().iter().map(|code| *code as u8).collect();
            Got::SubAck { id: packet.packet_id(), codes }
        }
        (9, Version::V5) => {
            let (packet, _) = v5_0::Suback::parse(body).unwrap();
            let codes = packet.reason_codes().iter().map(|code| *code as u8).collect();
            Got::SubAck { id: packet.packet_id(), codes }
        }
        (11, Version::V3_1_1) => {
            let (packet, _) = v3_1_1::Unsuback::parse(body).unwrap();
            Got::UnsubAck { id: packet.packet_id(), codes: vec![] }
        }
        (11, Version::V5) => {
            let (packet, _) = v5_0::Unsuback::parse(body).unwrap();
            let codes = packet.reason_codes().iter().map(|code| *code as u8).collect();
            Got::UnsubAck { id: packet.packet_id(), codes }
        }
        (13, _) => Got::PingResp,
        (14, Version::V5) => {
            let (packet, used) = v5_0::Disconnect::parse(body).unwrap();
            assert_eq!(used, body.len());
            Got::Disconnect(packet.reason_code().map_or(0, |code| code as u8))
        }
        other => panic!("a server does not send {other:?}"),
    }
}

fn acknowledgement(kind: u8, body: &[u8]) -> (u16, u8, usize) {
    match kind {
        4 => {
            let (packet, used) = v5_0::Puback::parse(body).unwrap();
            (packet.packet_id(), packet.reason_code().map_or(0, |code| code as u8), used)
        }
        5 => {
            let (packet, used) = v5_0::Pubrec::parse(body).unwrap();
            (packet.packet_id(), packet.reason_code().map_or(0, |code| code as u8), used)
        }
        6 => {
            let (packet, used) = v5_0::Pubrel::parse(body).unwrap();
            (packet.packet_id(), packet.reason_code().map_or(0, |code| code as u8), used)
        }
        _ => {
            let (packet, used) = v5_0::Pubcomp::parse(body).unwrap();
            (packet.packet_id(), packet.reason_code().map_or(0, |code| code as u8), used)
        }
    }
}

pub(crate) fn describe(property: &Property) -> String {
    match property {
        Property::PayloadFormatIndicator(p) => format!("format={}", p.val()),
        Property::MessageExpiryInterval(p) => format!("expiry={}", p.val()),
        Property::ContentType(p) => format!("type={}", p.val()),
        Property::ResponseTopic(p) => format!("response={}", p.val()),
        Property::CorrelationData(p) => format!("correlation={:?}", p.val()),
        Property::SubscriptionIdentifier(p) => format!("id={}", p.val()),
        Property::UserProperty(p) => format!("{}={}", p.key(), p.val()),
        Property::ReceiveMaximum(p) => format!("receive={}", p.val()),
        Property::MaximumQos(p) => format!("qos={}", p.val()),
        Property::MaximumPacketSize(p) => format!("packet={}", p.val()),
        Property::TopicAlias(p) => format!("alias={}", p.val()),
        Property::TopicAliasMaximum(p) => format!("aliases={}", p.val()),
        Property::SharedSubscriptionAvailable(p) => format!("shared={}", p.val()),
        Property::SessionExpiryInterval(p) => format!("session={}", p.val()),
        Property::AssignedClientIdentifier(p) => format!("client={}", p.val()),
        Property::ServerKeepAlive(p) => format!("alive={}", p.val()),
        Property::ReasonString(p) => format!("reason={}", p.val()),
        other => panic!("{other:?}"),
    }
}
