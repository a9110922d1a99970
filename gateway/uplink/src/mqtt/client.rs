//! The state of one connection.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::broken::{Broken, Malformed};
use super::connect::{ClientOptions, Version, put_connect};
use super::in_flight::InFlight;
use super::publish::Publisher;
use super::server::{ConnAck, Delivery, ServerPacket, packet};
use super::verdict::verdict;
use super::wire::MAX_PACKET;
use crate::action::RefuseReason;
use crate::batch::{Batch, Part, SeqRange};
use crate::record::OutboundRecord;

/// Bytes in the outbox from which on nothing more is encoded and nothing more is read, until the
/// socket has taken some. With one message more it is what the outbox may hold.
pub const OUTBOX_BYTES: usize = 64 * 1024;

const PINGREQ: [u8; 2] = [0xc0, 0];
const DISCONNECT: [u8; 2] = [0xe0, 0];
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

/// What the owner has to hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// The server takes messages.
    Opened,
    /// The server has the batch.
    Acknowledged {
        /// As given to [`Client::send`].
        token: u64,
    },
    /// The server has this part of the batch, which went in several messages: one of the other
    /// events follows, about what is left of it.
    Taken {
        /// As given to [`Client::send`].
        token: u64,
        /// Which of its records; never all of them.
        part: Part,
    },
    /// The batch was not taken, or not all of it.
    Refused {
        /// As given to [`Client::send`].
        token: u64,
        /// Why.
        reason: RefuseReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// CONNACK has not arrived.
    Opening,
    Open,
    /// DISCONNECT is in the outbox.
    Left,
}

/// One connection. See the module.
#[derive(Debug)]
pub struct Client {
    version: Version,
    stage: Stage,
    publisher: Publisher,
    keep_alive: Duration,
    /// Largest packet that we take.
    max_packet: u32,
    /// Largest packet that the server takes.
    max_message: u32,
    in_flight: InFlight,
    /// Not encoded yet; bounded by the uplink's window.
    waiting: VecDeque<(u64, Batch)>,
    /// Batches that did not fit into one message, by token.
    split: BTreeMap<u64, Split>,
    events: VecDeque<ClientEvent>,
    /// The first part of a packet; less than `max_packet` and one read.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// How much of the outbox the socket has taken.
    taken: usize,
    /// When to ask whether the server is there.
    ping_at: Option<Instant>,
    is_asked: bool,
}

/// A batch that went in several messages: it is answered when all of them are.
#[derive(Debug)]
struct Split {
    unanswered: usize,
    /// What is on its way, by packet identifier.
    parts: BTreeMap<u16, Part>,
    /// Why part of it was not taken.
    refusal: Option<RefuseReason>,
}

impl Client {
    /// A client whose CONNECT is in the outbox.
    #[must_use]
    pub fn new(options: ClientOptions) -> Client {
        let mut outbox = Vec::new();
        put_connect(&mut outbox, &options);
        Client {
            version: options.version,
            stage: Stage::Opening,
            publisher: Publisher::new(&options),
            keep_alive: options.keep_alive,
            max_packet: options.max_packet,
            max_message: options.max_message.unwrap_or(MAX_PACKET).min(MAX_PACKET),
            in_flight: InFlight::new(options.packet_ids),
            waiting: VecDeque::new(),
            split: BTreeMap::new(),
            events: VecDeque::new(),
            inbox: Vec::new(),
            outbox,
            taken: 0,
            ping_at: None,
            is_asked: false,
        }
    }

    /// Whether CONNACK has come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// How many messages are sent, or encoded, and not acknowledged.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.count()
    }

    /// Whether there is a batch that the server has no room for yet, or the outbox.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes a batch, to be answered under this token by one event. The caller bounds what is
    /// unanswered.
    pub fn send(&mut self, token: u64, batch: Batch) {
        self.waiting.push_back((token, batch));
    }

    /// What is to be written next: as much of what waits as there is room for.
    pub fn outbox(&mut self) -> &[u8] {
        self.encode();
        &self.outbox[self.taken..]
    }

    /// The socket has taken so many bytes of [`outbox`](Self::outbox).
    pub fn written(&mut self, bytes: usize) {
        self.taken = self.outbox.len().min(self.taken + bytes);
        if self.taken == self.outbox.len() {
            self.taken = 0;
            self.outbox.clear();
            // One large message must not hold its memory for ever.
            self.outbox.shrink_to(2 * OUTBOX_BYTES);
        }
    }

    /// False while the server does not take what it is sent: what it says waits in the socket.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.outbox.len() - self.taken < OUTBOX_BYTES
    }

    /// Takes what was read. Events may have come about even when it fails; after that the
    /// connection is over.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub fn handle_input(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Broken> {
        if self.inbox.is_empty() {
            let read = self.read(now, bytes)?;
            self.inbox.extend_from_slice(&bytes[read..]);
            return Ok(());
        }
        let mut inbox = std::mem::take(&mut self.inbox);
        inbox.extend_from_slice(bytes);
        let read = self.read(now, &inbox)?;
        if read < inbox.len() {
            inbox.drain(..read);
            self.inbox = inbox;
        }
        Ok(())
    }

    /// What has happened, until `None`.
    pub fn poll_event(&mut self) -> Option<ClientEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ping_at
    }

    /// Asks the server whether it is there, when that is due.
    ///
    /// # Errors
    /// It has not answered the last time.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Broken> {
        if self.ping_at.is_none_or(|at| now < at) {
            return Ok(());
        }
        if self.is_asked {
            return Err(Broken::Silent);
        }
        self.outbox.extend_from_slice(&PINGREQ);
        self.is_asked = true;
        self.ping_at = now.checked_add(self.keep_alive);
        Ok(())
    }

    /// Says goodbye; nothing is sent after that.
    pub fn leave(&mut self) {
        if self.stage == Stage::Open {
            self.encode();
            self.outbox.extend_from_slice(&DISCONNECT);
            self.stage = Stage::Left;
            self.ping_at = None;
        }
    }

    fn encode(&mut self) {
        if self.stage != Stage::Open {
            return;
        }
        while self.outbox.len() - self.taken < OUTBOX_BYTES
            && let Some(id) = self.in_flight.next_id()
            && let Some((token, batch)) = self.waiting.pop_front()
        {
            let max = self.max_message;
            match self.publisher.publish(&mut self.outbox, &batch, id, max) {
                Ok(()) => {
                    self.in_flight.send(token);
                    self.note_part(token, id, &batch);
                }
                Err(RefuseReason::PacketTooLarge { .. }) if batch.records.len() > 1 => {
                    self.halve(token, batch);
                }
                // What comes behind it is sent all the same, and so in its turn.
                Err(reason) => self.answer(token, None, Some(reason)),
            }
        }
    }

    /// A batch goes in as many messages as it takes: were it refused for its size, a smaller one
    /// behind it would overtake it.
    fn halve(&mut self, token: u64, batch: Batch) {
        let whole = || Split { unanswered: 1, parts: BTreeMap::new(), refusal: None };
        self.split.entry(token).or_insert_with(whole).unanswered += 1;
        let [first, second] = halves(batch);
        self.waiting.push_front((token, second));
        self.waiting.push_front((token, first));
    }

    /// What of a batch in several messages goes under this identifier.
    fn note_part(&mut self, token: u64, id: u16, batch: &Batch) {
        if !self.split.is_empty()
            && let Some(split) = self.split.get_mut(&token)
        {
            split.parts.insert(id, Part::of(batch));
        }
    }

    /// A message of this batch was answered, or could not be sent: then it has no identifier.
    fn answer(&mut self, token: u64, id: Option<u16>, refusal: Option<RefuseReason>) {
        let mut refusal = refusal;
        if !self.split.is_empty()
            && let Some(split) = self.split.get_mut(&token)
        {
            let part = id.and_then(|id| split.parts.remove(&id)).filter(|_| refusal.is_none());
            split.unanswered -= 1;
            split.refusal = split.refusal.take().or(refusal);
            let is_last = split.unanswered == 0;
            // What the server has is not sent again, whatever becomes of the rest.
            if let Some(part) = part.filter(|_| !is_last || split.refusal.is_some()) {
                self.events.push_back(ClientEvent::Taken { token, part });
            }
            if !is_last {
                return;
            }
            refusal = self.split.remove(&token).and_then(|split| split.refusal);
        }
        self.events.push_back(match refusal {
            None => ClientEvent::Acknowledged { token },
            Some(reason) => ClientEvent::Refused { token, reason },
        });
    }

    /// Takes whole packets; answers how many bytes they had.
    fn read(&mut self, now: Instant, bytes: &[u8]) -> Result<usize, Broken> {
        let mut read = 0;
        while let Some((packet, length)) = packet(self.version, self.max_packet, &bytes[read..])? {
            read += length;
            match (self.stage, packet) {
                (Stage::Opening, ServerPacket::ConnAck(connack)) => self.open(now, connack)?,
                (Stage::Opening, ServerPacket::Disconnect { code, said }) => {
                    return Err(Broken::Ended { code, said });
                }
                (Stage::Opening, _) => return Err(Broken::NotConnAck),
                (Stage::Open | Stage::Left, packet) => self.take(packet)?,
            }
        }
        Ok(read)
    }

    fn open(&mut self, now: Instant, connack: ConnAck) -> Result<(), Broken> {
        let ConnAck { code, said, receive_maximum, maximum_qos, .. } = connack;
        if code != 0 {
            return Err(Broken::Refused { code, said });
        }
        if maximum_qos == Some(0) {
            return Err(Broken::Unusable("takes QoS 0 only: it would acknowledge nothing"));
        }
        if receive_maximum == Some(0) {
            let why = "announces a Receive Maximum of 0, which MQTT 5 forbids";
            return Err(Broken::Unusable(why));
        }
        if let Some(most) = receive_maximum {
            self.in_flight.allow(most);
        }
        match connack.maximum_packet_size {
            Some(0) => {
                let why = "announces a Maximum Packet Size of 0, which MQTT 5 forbids";
                return Err(Broken::Unusable(why));
            }
            Some(most) => self.max_message = self.max_message.min(most),
            None => {}
        }
        // A server that switches the keep-alive off has to bear our pace.
        if let Some(seconds) = connack.server_keep_alive.filter(|seconds| *seconds > 0) {
            self.keep_alive = Duration::from_secs(u64::from(seconds));
        }
        self.ping_at = now.checked_add(self.keep_alive);
        self.stage = Stage::Open;
        self.events.push_back(ClientEvent::Opened);
        Ok(())
    }

    fn take(&mut self, packet: ServerPacket) -> Result<(), Broken> {
        match packet {
            ServerPacket::PubAck { id, code } => {
                let malformed = |why: Malformed| Broken::Malformed { packet: "a PUBACK", why };
                let refusal = verdict(code).map_err(malformed)?;
                let token = self.in_flight.answer(id).ok_or(Broken::Unsolicited { id })?;
                self.answer(token, Some(id), refusal);
            }
            ServerPacket::PingResp => self.is_asked = false,
            ServerPacket::Disconnect { code, said } => return Err(Broken::Ended { code, said }),
            ServerPacket::ConnAck(_) => return Err(Broken::Unexpected("a second CONNACK")),
            // Some servers subscribe their clients to something: nobody here wants it, and the
            // server must not wait for an answer.
            ServerPacket::Publish(Delivery::Unanswered) => {}
            ServerPacket::Publish(Delivery::ToAcknowledge(id)) => self.confirm(PUBACK, id),
            ServerPacket::Publish(Delivery::ToReceive(id)) => self.confirm(PUBREC, id),
            ServerPacket::PubRel { id } => self.confirm(PUBCOMP, id),
        }
        Ok(())
    }

    fn confirm(&mut self, packet: u8, id: u16) {
        if self.stage == Stage::Open {
            let [high, low] = id.to_be_bytes();
            self.outbox.extend_from_slice(&[packet, 2, high, low]);
        }
    }
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
