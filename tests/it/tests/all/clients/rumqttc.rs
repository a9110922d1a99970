//! rumqttc, driven like the others, without a process of its own: each connection has a thread.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use rumqttc::{TlsConfiguration, Transport, v5};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::driver::Driver;

/// Requests that a connection may have waiting.
const REQUESTS: usize = 16;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// MQTT 5: not authorized, and any other refusal.
const NOT_AUTHORIZED: u8 = 0x87;
const REFUSED: u8 = 0x80;

/// Connections of rumqttc.
#[derive(Default)]
pub(super) struct Clients {
    open: HashMap<String, Open>,
    events: Option<Sender<Value>>,
    directory: PathBuf,
}

/// A connection; dropping `_alive` ends it without a DISCONNECT.
struct Open {
    client: Client,
    _alive: oneshot::Sender<()>,
}

enum Client {
    V4(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Clients {
    pub(super) fn start() -> Clients {
        // Fails when another test was first, with the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Clients::default()
    }

    fn transport(&self, command: &Value) -> Transport {
        if command["transport"] == "tcp" {
            return Transport::Tcp;
        }
        let read = |name| std::fs::read(self.directory.join(name)).unwrap();
        Transport::Tls(TlsConfiguration::Simple {
            ca: read("ca.pem"),
            alpn: None,
            client_auth: Some((read("client.pem"), read("client.key"))),
        })
    }

    fn connect(&mut self, name: &str, command: &Value) {
        let (stop, stopped) = oneshot::channel();
        let transport = self.transport(command);
        let tell = Tell { name: name.to_owned(), events: self.events.clone().unwrap() };
        let (id, port) = (text(&command["id"]), number(&command["port"]) as u16);
        let clean = command["clean"] == true;
        let will = &command["will"];
        let client = if command["version"] == 5 {
            let mut options = v5::MqttOptions::new(id, "localhost", port);
            options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_start(clean);
            options.set_session_expiry_interval(Some(number(&command["expiry"]) as u32));
            if will.is_object() {
                let (topic, payload) = (text(&will["topic"]), text(&will["payload"]));
                let quality = v5_quality(&will["qos"]);
                options.set_last_will(v5::mqttbytes::v5::LastWill::new(
                    topic, payload, quality, false, None,
                ));
            }
            let (client, events) = v5::AsyncClient::new(options, REQUESTS);
            thread::spawn(move || follow_5(events, stopped, &tell));
            Client::V5(client)
        } else {
            let mut options = rumqttc::MqttOptions::new(id, "localhost", port);
            options.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_session(clean);
            if will.is_object() {
                let (topic, payload) = (text(&will["topic"]), text(&will["payload"]));
                let quality = quality(&will["qos"]);
                options.set_last_will(rumqttc::LastWill::new(topic, payload, quality, false));
            }
            let (client, events) = rumqttc::AsyncClient::new(options, REQUESTS);
            thread::spawn(move || follow_4(events, stopped, &tell));
            Client::V4(client)
        };
        self.open.insert(name.to_owned(), Open { client, _alive: stop });
    }
}

impl Driver for Clients {
    fn begin(&mut self, directory: &Path) -> Receiver<Value> {
        let (send, receive) = channel();
        self.events = Some(send);
        self.directory = directory.to_owned();
        receive
    }

    fn send(&mut self, command: &Value) {
        let name = command["client"].as_str().unwrap();
        match command["do"].as_str().unwrap() {
            "connect" => self.connect(name, command),
            "drop" => drop(self.open.remove(name)),
            "subscribe" => match &self.open[name].client {
                Client::V4(client) => {
                    client
                        .try_subscribe(text(&command["filter"]), quality(&command["qos"]))
                        .unwrap();
                }
                Client::V5(client) => subscribe_5(client, command),
            },
            "publish" => match &self.open[name].client {
                Client::V4(client) => {
                    let (topic, payload) = (text(&command["topic"]), text(&command["payload"]));
                    let retain = command["retain"] == true;
                    client.try_publish(topic, quality(&command["qos"]), retain, payload).unwrap();
                }
                Client::V5(client) => publish_5(client, command),
            },
            "disconnect" => match &self.open[name].client {
                Client::V4(client) => client.try_disconnect().unwrap(),
                Client::V5(client) => client.try_disconnect().unwrap(),
            },
            other => panic!("unknown command {other}"),
        }
    }
}

fn subscribe_5(client: &v5::AsyncClient, command: &Value) {
    let (filter, quality) = (text(&command["filter"]), v5_quality(&command["qos"]));
    match command["identifier"].as_u64() {
        Some(id) => {
            let properties = v5::mqttbytes::v5::SubscribeProperties {
                id: Some(id as usize),
                user_properties: Vec::new(),
            };
            client.try_subscribe_with_properties(filter, quality, properties).unwrap();
        }
        None => client.try_subscribe(filter, quality).unwrap(),
    }
}

fn publish_5(client: &v5::AsyncClient, command: &Value) {
    let user = command["user"].as_array().into_iter().flatten();
    let properties = v5::mqttbytes::v5::PublishProperties {
        user_properties: user.map(|pair| (text(&pair[0]), text(&pair[1]))).collect(),
        message_expiry_interval: command["expiry"].as_u64().map(|expiry| expiry as u32),
        topic_alias: command["alias"].as_u64().map(|alias| alias as u16),
        ..Default::default()
    };
    let (topic, payload) = (text(&command["topic"]), text(&command["payload"]));
    let (quality, retain) = (v5_quality(&command["qos"]), command["retain"] == true);
    client.try_publish_with_properties(topic, quality, retain, payload, properties).unwrap();
}

/// Reports the events of one connection.
struct Tell {
    name: String,
    events: Sender<Value>,
}

impl Tell {
    fn event(&self, event: &str, more: Value) {
        let mut more = more;
        more["event"] = event.into();
        more["client"] = self.name.as_str().into();
        // The test may be over.
        let _ = self.events.send(more);
    }

    fn published(&self, reason: u8) {
        self.event("published", json!({"reason": reason}));
    }
}

/// Messages of QoS 2 before their PUBREL, after which they are told. rumqttc tells them before: who
/// then leaves, and comes back with a new client, gets a PUBREL that this one takes for an error.
#[derive(Default)]
struct Held(HashMap<u16, Value>);

impl Held {
    fn message(&mut self, id: u16, message: Value, tell: &Tell) {
        if message["qos"] == 2 {
            self.0.insert(id, message);
        } else {
            tell.event("message", message);
        }
    }

    fn release(&mut self, id: u16, tell: &Tell) {
        if let Some(message) = self.0.remove(&id) {
            tell.event("message", message);
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn follow_4(mut events: rumqttc::EventLoop, mut stopped: oneshot::Receiver<()>, tell: &Tell) {
    use rumqttc::{Event, Outgoing, Packet};
    let mut held = Held::default();
    runtime().block_on(async {
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                _ = &mut stopped => break,
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                    let reason = u8::from(ack.code != rumqttc::ConnectReturnCode::Success);
                    tell.event(
                        "connected",
                        json!({"reason": reason, "session": ack.session_present}),
                    );
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    let reason = match ack.return_codes[0] {
                        rumqttc::SubscribeReasonCode::Success(quality) => quality as u8,
                        rumqttc::SubscribeReasonCode::Failure => REFUSED,
                    };
                    tell.event("subscribed", json!({"reason": reason}));
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let more = json!({
                        "topic": message.topic,
                        "payload": String::from_utf8_lossy(&message.payload),
                        "qos": message.qos as u8,
                        "retain": message.retain,
                    });
                    held.message(message.pkid, more, tell);
                }
                Ok(Event::Incoming(Packet::PubRel(release))) => held.release(release.pkid, tell),
                Ok(
                    Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))
                    | Event::Outgoing(Outgoing::Publish(0)),
                ) => tell.published(0),
                Ok(_) => {}
                Err(error) => {
                    tell.event("error", json!({"text": error.to_string()}));
                    break;
                }
            }
        }
    });
    drop(events);
    tell.event("closed", json!({}));
}

fn follow_5(mut events: v5::EventLoop, mut stopped: oneshot::Receiver<()>, tell: &Tell) {
    use v5::Event;
    use v5::mqttbytes::v5::{Packet, PubAckReason, PubRecReason, SubscribeReasonCode};
    let mut held = Held::default();
    runtime().block_on(async {
        loop {
            let event = tokio::select! {
                event = events.poll() => event,
                _ = &mut stopped => break,
            };
            match event {
                Ok(Event::Incoming(Packet::ConnAck(ack))) => {
                    let success = v5::mqttbytes::v5::ConnectReturnCode::Success;
                    let reason = u8::from(ack.code != success);
                    tell.event(
                        "connected",
                        json!({"reason": reason, "session": ack.session_present}),
                    );
                }
                Ok(Event::Incoming(Packet::SubAck(ack))) => {
                    let reason = match ack.return_codes[0] {
                        SubscribeReasonCode::Success(quality) => quality as u8,
                        _ => REFUSED,
                    };
                    tell.event("subscribed", json!({"reason": reason}));
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    held.message(message.pkid, message_5(&message), tell);
                }
                Ok(Event::Incoming(Packet::PubRel(release))) => held.release(release.pkid, tell),
                Ok(Event::Incoming(Packet::PubAck(ack))) => tell.published(match ack.reason {
                    PubAckReason::Success => 0,
                    PubAckReason::NotAuthorized => NOT_AUTHORIZED,
                    _ => REFUSED,
                }),
                Ok(Event::Incoming(Packet::PubRec(ack))) => match ack.reason {
                    PubRecReason::Success => {}
                    PubRecReason::NotAuthorized => tell.published(NOT_AUTHORIZED),
                    _ => tell.published(REFUSED),
                },
                Ok(
                    Event::Incoming(Packet::PubComp(_))
                    | Event::Outgoing(rumqttc::Outgoing::Publish(0)),
                ) => tell.published(0),
                Ok(_) => {}
                Err(error) => {
                    tell.event("error", json!({"text": error.to_string()}));
                    break;
                }
            }
        }
    });
    drop(events);
    tell.event("closed", json!({}));
}

fn message_5(message: &v5::mqttbytes::v5::Publish) -> Value {
    let properties = message.properties.clone().unwrap_or_default();
    json!({
        "topic": String::from_utf8_lossy(&message.topic),
        "payload": String::from_utf8_lossy(&message.payload),
        "qos": message.qos as u8,
        "retain": message.retain,
        "user": properties.user_properties,
        "expiry": properties.message_expiry_interval,
        "identifiers": properties.subscription_identifiers,
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn quality(value: &Value) -> rumqttc::QoS {
    rumqttc::qos(number(value) as u8).unwrap()
}

fn v5_quality(value: &Value) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(number(value) as u8).unwrap()
}
