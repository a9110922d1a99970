//! The MQTT 5 driver: one connection at a time, QoS 1, acknowledgements as they come.
//!
//! rumqttc keeps unacknowledged messages and sends them again when it reconnects. The uplink core
//! does that, from the log; so each session gets a client and an event loop of its own, which die
//! with it, sockets included.
//!
//! Which message an acknowledgement is for: rumqttc takes requests in the order in which they
//! were handed over and reports each packet id in that same order (`Outgoing::Publish`), so the
//! tokens wait in a queue until their packet id is known.
//!
//! Not here: retries, windows, delays and timeouts other than the keep-alive (the uplink core).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use tidegate_uplink::{Action, Batch, OutboundMessage, RefuseReason, UplinkEvent};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::complaint::{self, Stage};
use super::packet;
use super::target::{MAX_PACKET, MqttTarget};

/// Time for a DISCONNECT to leave when the daemon shuts down.
const FAREWELL: Duration = Duration::from_millis(500);

/// See [`Target::run`](crate::uplinks::Target::run).
pub async fn run(
    servers: Vec<MqttTarget>,
    mut actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let mut wanted = None;
    loop {
        let (session, endpoint) = match wanted.take() {
            Some(next) => next,
            None => match actions.recv().await {
                Some(Action::Connect { session, endpoint }) => (session, endpoint),
                // Of a session that has ended, or none of ours.
                Some(
                    Action::Disconnect { .. }
                    | Action::Send { .. }
                    | Action::Seal { .. }
                    | Action::Advance { .. }
                    | Action::Reject { .. },
                ) => continue,
                None => return,
            },
        };
        let Some(target) = servers.get(endpoint % servers.len().max(1)) else { return };
        match Session::new(target, session, &events).serve(&mut actions).await {
            After::Idle => {}
            After::Connect(session, endpoint) => wanted = Some((session, endpoint)),
            After::Close => return,
        }
    }
}

/// What comes after a session.
enum After {
    Idle,
    Connect(u64, usize),
    Close,
}

struct Session<'a, E> {
    target: &'a MqttTarget,
    session: u64,
    events: &'a E,
    client: AsyncClient,
    stage: Stage,
    /// Largest packet that the server takes.
    max_packet: u32,
    /// Handed to rumqttc, packet id not known yet.
    queued: VecDeque<u64>,
    /// Waiting for their PUBACK, by packet id.
    sent: BTreeMap<u16, u64>,
    event_loop: Option<EventLoop>,
}

impl<'a, E: Fn(UplinkEvent)> Session<'a, E> {
    fn new(target: &'a MqttTarget, session: u64, events: &'a E) -> Session<'a, E> {
        // The core never has more than its window in flight: this never fills up.
        let room = target.window().max(1) + 1;
        let (client, event_loop) = AsyncClient::new(target.mqtt_options(), room);
        Session {
            target,
            session,
            events,
            client,
            stage: Stage::Opening,
            max_packet: MAX_PACKET,
            queued: VecDeque::new(),
            sent: BTreeMap::new(),
            event_loop: Some(event_loop),
        }
    }

    async fn serve(mut self, actions: &mut Receiver<Action>) -> After {
        let Some(mut event_loop) = self.event_loop.take() else { return After::Idle };
        loop {
            let polled = {
                // Polling is not cancel safe (a PUBLISH may be lost half-way into the socket's
                // buffer), so one poll goes on across any number of actions.
                let mut poll = std::pin::pin!(event_loop.poll());
                loop {
                    tokio::select! {
                        polled = &mut poll => break Some(polled),
                        action = actions.recv() => match self.take(action) {
                            Next::Go => {}
                            Next::End(after) => return after,
                            Next::Farewell => break None,
                        },
                    }
                }
            };
            let heard = match polled {
                None => return self.farewell(event_loop).await,
                Some(Err(error)) => Err(error),
                Some(Ok(event)) => self.hear(event, &mut event_loop),
            };
            match heard {
                Ok(()) => {}
                Err(error) => {
                    let (target, session) = (self.target, self.session);
                    (self.events)(complaint::ended(target, session, self.stage, &error));
                    return After::Idle;
                }
            }
        }
    }

    fn take(&mut self, action: Option<Action>) -> Next {
        match action {
            Some(Action::Send { session, token, batch }) if session == self.session => {
                self.send_batch(token, batch);
                Next::Go
            }
            Some(Action::Disconnect { session, .. }) if session == self.session => {
                Next::End(After::Idle)
            }
            Some(Action::Connect { session, endpoint }) => {
                Next::End(After::Connect(session, endpoint))
            }
            Some(
                Action::Send { .. }
                | Action::Seal { .. }
                | Action::Disconnect { .. }
                | Action::Advance { .. }
                | Action::Reject { .. },
            ) => Next::Go,
            None if self.stage == Stage::Open => Next::Farewell,
            None => Next::End(After::Close),
        }
    }

    fn send_batch(&mut self, token: u64, batch: Batch) {
        let Batch { stream, epoch, mut records, .. } = batch;
        match (records.pop(), records.len()) {
            (Some(record), 0) => {
                self.send(token, record.into_message(self.target.gateway(), &stream, epoch));
            }
            (_, more) => {
                let why = format!("{} records in a message that carries one", more + 1);
                self.refuse(token, RefuseReason::Unencodable(why));
            }
        }
    }

    fn send(&mut self, token: u64, message: OutboundMessage) {
        let publish = match packet::publish(message, self.max_packet) {
            Ok(publish) => publish,
            Err(reason) => return self.refuse(token, reason),
        };
        // The topic was text before, and checked.
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let properties = publish.properties.unwrap_or_default();
        let (qos, payload) = (QoS::AtLeastOnce, publish.payload);
        match self.client.try_publish_with_properties(topic, qos, false, payload, properties) {
            Ok(()) => self.queued.push_back(token),
            // More than the window in flight: sent again like any other refused message.
            Err(_) => self.refuse(token, RefuseReason::QuotaExceeded),
        }
    }

    fn refuse(&self, token: u64, reason: RefuseReason) {
        (self.events)(UplinkEvent::Refused { session: self.session, token, reason });
    }

    fn hear(&mut self, event: Event, event_loop: &mut EventLoop) -> Result<(), ConnectionError> {
        match event {
            Event::Incoming(Packet::ConnAck(connack)) => self.opened(&connack, event_loop)?,
            Event::Incoming(Packet::PubAck(puback)) => {
                if let Some(token) = self.sent.remove(&puback.pkid) {
                    match complaint::refusal(puback.reason) {
                        Some(reason) => self.refuse(token, reason),
                        None => {
                            let session = self.session;
                            (self.events)(UplinkEvent::Acknowledged { session, token });
                        }
                    }
                }
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                if let Some(token) = self.queued.pop_front() {
                    self.sent.insert(packet_id, token);
                }
            }
            Event::Incoming(_) | Event::Outgoing(_) => {}
        }
        Ok(())
    }

    fn opened(
        &mut self,
        connack: &ConnAck,
        event_loop: &mut EventLoop,
    ) -> Result<(), ConnectionError> {
        let limits = connack.properties.as_ref();
        if limits.and_then(|limits| limits.max_qos) == Some(0) {
            return Err(unusable("takes QoS 0 only: it would acknowledge nothing"));
        }
        if limits.and_then(|limits| limits.receive_max) == Some(0) {
            return Err(unusable("announces a Receive Maximum of 0, which MQTT 5 forbids"));
        }
        if let Some(max) = limits.and_then(|limits| limits.max_packet_size) {
            self.max_packet = max.min(MAX_PACKET);
        }
        if event_loop.options.keep_alive().is_zero() {
            // The server switched the keep-alive off; rumqttc would take that for "ping without
            // pause". We go on at our own pace, which a server has to bear.
            event_loop.options.set_keep_alive(self.target.keep_alive());
        }
        self.stage = Stage::Open;
        (self.events)(UplinkEvent::Connected { session: self.session, held: Vec::new() });
        Ok(())
    }

    /// Sends DISCONNECT, so that the server does not take the shutdown for a broken link.
    async fn farewell(self, mut event_loop: EventLoop) -> After {
        let left = async {
            if self.client.try_disconnect().is_err() {
                return;
            }
            while let Ok(event) = event_loop.poll().await {
                if event == Event::Outgoing(Outgoing::Disconnect) {
                    return;
                }
            }
        };
        // Late or not, the daemon ends now.
        let _ = timeout(FAREWELL, left).await;
        After::Close
    }
}

/// What to do after an action.
enum Next {
    Go,
    End(After),
    Farewell,
}

fn unusable(why: &str) -> ConnectionError {
    ConnectionError::Io(std::io::Error::other(format!("the server {why}")))
}
