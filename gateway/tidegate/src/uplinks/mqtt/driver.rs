//! The MQTT driver: one connection at a time, QoS 1, acknowledgements as they come; for both
//! versions of the protocol.
//!
//! rumqttc keeps unacknowledged messages and sends them again when it reconnects. The uplink core
//! does that, from the log; so each session gets a client and an event loop of its own, which die
//! with it, sockets included.
//!
//! Which message an acknowledgement is for: rumqttc takes requests in the order in which they
//! were handed over and reports each packet id in that same order (`Outgoing::Publish`), so the
//! tokens wait in a queue until their packet id is known.
//!
//! Not here: retries, windows, delays and timeouts other than the keep-alive (the uplink core);
//! what differs between the versions (`v5.rs`, `v311.rs`).

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tidegate_uplink::{Action, Batch, OutboundRecord, RefuseReason, SeqRange, UplinkEvent};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::complaint::Stage;
use super::target::{MAX_PACKET, MqttTarget, Version};
use super::v5::V5;
use super::v311::V311;
use crate::uplinks::sessions::{self, After, Asked};

/// Time for a DISCONNECT to leave when the daemon shuts down.
const FAREWELL: Duration = Duration::from_millis(500);

/// A version of MQTT, by rumqttc's client for it.
pub(super) trait Protocol {
    type Client;
    type EventLoop;
    type Error;

    /// A client, with room for so many messages that are not written yet, and its connection.
    fn client(target: &MqttTarget, room: usize) -> (Self::Client, Self::EventLoop);

    /// The next thing that happens on the connection. Not cancel safe: a PUBLISH may be lost
    /// half-way into the socket's buffer.
    async fn poll(
        target: &MqttTarget,
        event_loop: &mut Self::EventLoop,
    ) -> Result<Heard, Self::Error>;

    /// Hands a batch over, encoded as one message. A batch of several records is left as it was.
    fn publish(
        target: &MqttTarget,
        client: &Self::Client,
        batch: &mut Batch,
        max_packet: u32,
    ) -> Result<(), RefuseReason>;

    /// Asks for a DISCONNECT; false when there is no room for one.
    fn leave(client: &Self::Client) -> bool;

    /// What the end of a connection means.
    fn ended(target: &MqttTarget, session: u64, stage: Stage, error: &Self::Error) -> UplinkEvent;
}

/// What happened on a connection.
pub(super) enum Heard {
    /// The server takes messages, of at most so many bytes where it says so.
    Opened { max_packet: Option<u32> },
    /// A message was written under this packet id.
    Sent(u16),
    /// The server has the message, or refuses it.
    Answered(u16, Option<RefuseReason>),
    /// DISCONNECT was written.
    Left,
    /// Nothing that matters here.
    Other,
}

/// See [`Target::run`](crate::uplinks::Target::run).
pub async fn run(
    servers: Vec<MqttTarget>,
    actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let serve = async |target: &MqttTarget, session, actions: &mut Receiver<Action>| match target
        .version()
    {
        Version::V5 => Session::<V5, _>::new(target, session, &events).serve(actions).await,
        Version::V311 => Session::<V311, _>::new(target, session, &events).serve(actions).await,
    };
    sessions::run(&servers, actions, &events, serve).await;
}

struct Session<'a, P: Protocol, E> {
    target: &'a MqttTarget,
    session: u64,
    events: &'a E,
    client: P::Client,
    stage: Stage,
    /// Largest packet that the server takes.
    max_packet: u32,
    /// Handed to rumqttc, packet id not known yet.
    queued: VecDeque<u64>,
    /// Waiting for their PUBACK, by packet id.
    sent: BTreeMap<u16, u64>,
    /// Batches that did not fit into one message, by token.
    split: BTreeMap<u64, Split>,
    event_loop: Option<P::EventLoop>,
}

impl<'a, P: Protocol, E: Fn(UplinkEvent)> Session<'a, P, E> {
    fn new(target: &'a MqttTarget, session: u64, events: &'a E) -> Session<'a, P, E> {
        // The core never has more than its window in flight: this never fills up.
        let room = target.window().max(1) + 1;
        let (client, event_loop) = P::client(target, room);
        Session {
            target,
            session,
            events,
            client,
            stage: Stage::Opening,
            max_packet: target.max_message().unwrap_or(MAX_PACKET),
            queued: VecDeque::new(),
            sent: BTreeMap::new(),
            split: BTreeMap::new(),
            event_loop: Some(event_loop),
        }
    }

    async fn serve(mut self, actions: &mut Receiver<Action>) -> After {
        let Some(mut event_loop) = self.event_loop.take() else { return After::Idle };
        loop {
            let polled = {
                // Polling is not cancel safe, so one poll goes on across any number of actions.
                let mut poll = std::pin::pin!(P::poll(self.target, &mut event_loop));
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
            match polled {
                None => return self.farewell(event_loop).await,
                Some(Ok(heard)) => self.hear(heard),
                Some(Err(error)) => {
                    let (target, session) = (self.target, self.session);
                    (self.events)(P::ended(target, session, self.stage, &error));
                    return After::Idle;
                }
            }
        }
    }

    fn take(&mut self, action: Option<Action>) -> Next {
        match sessions::asked(self.session, action) {
            Asked::Send(token, batch) => {
                self.send(token, batch);
                Next::Go
            }
            Asked::End(After::Close) if self.stage == Stage::Open => Next::Farewell,
            Asked::End(after) => Next::End(after),
            Asked::Other => Next::Go,
        }
    }

    /// Sends a batch, in as many messages as it takes: were it refused for its size, a smaller one
    /// behind it would overtake it.
    fn send(&mut self, token: u64, mut batch: Batch) {
        match P::publish(self.target, &self.client, &mut batch, self.max_packet) {
            Ok(()) => self.queued.push_back(token),
            Err(RefuseReason::PacketTooLarge { .. }) if batch.records.len() > 1 => {
                self.send_split(token, batch);
            }
            Err(reason) => self.refuse(token, reason),
        }
    }

    fn send_split(&mut self, token: u64, batch: Batch) {
        let mut split = Split { unanswered: 0, refusal: None };
        let mut rest = halves(batch).to_vec();
        rest.reverse();
        while let Some(mut batch) = rest.pop() {
            match P::publish(self.target, &self.client, &mut batch, self.max_packet) {
                Ok(()) => {
                    self.queued.push_back(token);
                    split.unanswered += 1;
                }
                Err(RefuseReason::PacketTooLarge { .. }) if batch.records.len() > 1 => {
                    rest.extend(halves(batch).into_iter().rev());
                }
                // What comes behind it is sent all the same, and so in its turn.
                Err(reason) => split.refusal = Some(reason),
            }
        }
        match split {
            Split { unanswered: 0, refusal: Some(reason) } => self.refuse(token, reason),
            split => {
                self.split.insert(token, split);
            }
        }
    }

    fn refuse(&self, token: u64, reason: RefuseReason) {
        (self.events)(UplinkEvent::Refused { session: self.session, token, reason });
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Opened { max_packet } => {
                self.max_packet = self.max_packet.min(max_packet.unwrap_or(MAX_PACKET));
                self.stage = Stage::Open;
                (self.events)(UplinkEvent::Connected { session: self.session, held: Vec::new() });
            }
            Heard::Sent(packet_id) => {
                if let Some(token) = self.queued.pop_front() {
                    self.sent.insert(packet_id, token);
                }
            }
            Heard::Answered(packet_id, refusal) => {
                let Some(token) = self.sent.remove(&packet_id) else { return };
                let mut refusal = refusal;
                if let Entry::Occupied(mut split) = self.split.entry(token) {
                    let split_now = split.get_mut();
                    split_now.refusal = split_now.refusal.take().or(refusal);
                    split_now.unanswered -= 1;
                    if split_now.unanswered > 0 {
                        return;
                    }
                    refusal = split.remove().refusal;
                }
                match refusal {
                    Some(reason) => self.refuse(token, reason),
                    None => {
                        let session = self.session;
                        (self.events)(UplinkEvent::Acknowledged { session, token });
                    }
                }
            }
            Heard::Left | Heard::Other => {}
        }
    }

    /// Sends DISCONNECT, so that the server does not take the shutdown for a broken link.
    async fn farewell(self, mut event_loop: P::EventLoop) -> After {
        let left = async {
            if !P::leave(&self.client) {
                return;
            }
            while let Ok(heard) = P::poll(self.target, &mut event_loop).await {
                if matches!(heard, Heard::Left) {
                    return;
                }
            }
        };
        // Late or not, the daemon ends now.
        let _ = timeout(FAREWELL, left).await;
        After::Close
    }
}

/// A batch that went in several messages: it is answered when all of them are.
struct Split {
    unanswered: usize,
    /// Why part of it was not taken.
    refusal: Option<RefuseReason>,
}

/// The records in two batches, of which neither is empty if there are two records or more.
fn halves(mut batch: Batch) -> [Batch; 2] {
    let records = batch.records.split_off(batch.records.len() / 2);
    let range = |records: &[OutboundRecord], range: SeqRange| SeqRange {
        first: records.first().map_or(range.first, |record| record.seq),
        last: records.last().map_or(range.last, |record| record.seq),
    };
    let second = Batch {
        lane: batch.lane,
        stream: batch.stream.clone(),
        epoch: batch.epoch,
        range: range(&records, batch.range),
        records,
    };
    batch.range = range(&batch.records, batch.range);
    [batch, second]
}

/// What to do after an action.
enum Next {
    Go,
    End(After),
    Farewell,
}
