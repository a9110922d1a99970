//! The target `uplink`: any bytes from a server, in any portions, at the MQTT client of the uplink.
//! Whatever they are, each batch is answered at most once and only after it was sent, no more are on
//! their way than the server allows, the outbox keeps its bound, and the client writes what the
//! broker core, which shares no code with it, takes for valid packets.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_broker::{BrokerLimits, ConnId};
use tidegate_uplink::mqtt::{Client, ClientEvent, ClientOptions, OUTBOX_BYTES, Version};
use tidegate_uplink::{Batch, LaneId, OutboundRecord, SeqRange};

use crate::input::Input;
use crate::owner::Owner;

const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Packets of the server that are taken at most; replies to one read are no longer than the read.
const MAX_PACKET: u32 = 400;
const PACKET_IDS: u16 = 4;
/// Largest payload of a message.
const MAX_PAYLOAD: usize = 254;

/// The first byte says the version; then come portions of what the server sends, each behind its
/// length, with messages to send and time between them.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let version = if input.byte() & 1 == 0 { Version::V5 } else { Version::V311 };
    let mut side = Side::new(version);
    while !input.is_empty() && side.is_alive {
        let head = input.byte();
        match head {
            0..=199 => side.hear(input.take(usize::from(head))),
            200..=239 => side.send(usize::from(input.byte())),
            240..=249 => side.wait(),
            250..=254 => side.take(usize::from(input.byte())),
            255 => side.client.leave(),
        }
        side.check();
    }
}

/// The client, and a server that checks what it is sent.
struct Side {
    client: Client,
    now: Instant,
    server: Owner,
    conn: ConnId,
    /// What the socket has taken of a packet that is not whole yet.
    sent: Vec<u8>,
    /// Tokens count from 1.
    handed_over: u64,
    answered: BTreeSet<u64>,
    is_alive: bool,
}

impl Side {
    fn new(version: Version) -> Side {
        let client = Client::new(ClientOptions {
            version,
            gateway: "gw".to_owned(),
            client_id: "tidegate-gw-up".to_owned(),
            login: None,
            keep_alive: KEEP_ALIVE,
            max_packet: MAX_PACKET,
            max_message: None,
            packet_ids: PACKET_IDS,
            packing: None,
        });
        let mut server = Owner::new(BrokerLimits::default());
        let conn = server.open();
        let (now, sent, answered) = (Instant::now(), Vec::new(), BTreeSet::new());
        Side { client, now, server, conn, sent, handed_over: 0, answered, is_alive: true }
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.client.wants_input() {
            self.is_alive = self.client.handle_input(self.now, bytes).is_ok();
        }
    }

    fn send(&mut self, size: usize) {
        self.handed_over += 1;
        let record = OutboundRecord {
            topic: "sensors/1".to_owned(),
            client: "c".to_owned(),
            payload: vec![b'x'; size.min(MAX_PAYLOAD)],
            ..OutboundRecord::default()
        };
        let range = SeqRange { first: record.seq, last: record.seq };
        let (stream, epoch) = ("s".into(), tidegate_stream::Epoch(1));
        let batch = Batch { lane: LaneId(0), stream, epoch, range, records: vec![record] };
        self.client.send(self.handed_over, batch);
    }

    fn wait(&mut self) {
        self.now += KEEP_ALIVE;
        self.is_alive = self.client.handle_timeout(self.now).is_ok();
    }

    /// The socket takes so many bytes, and the broker judges the packets that are whole.
    fn take(&mut self, count: usize) {
        let out = self.client.outbox();
        let taken = &out[..out.len().min(count)];
        self.sent.extend_from_slice(taken);
        let taken = taken.len();
        self.client.written(taken);
        while let Some(length) = packet_length(&self.sent) {
            let packet: Vec<u8> = self.sent.drain(..length).collect();
            // Answers to deliveries, of which the broker here made none.
            if !matches!(packet[0], 0x40 | 0x50 | 0x70) {
                self.server.send(self.conn, &packet);
            }
            let goodbye = packet[0] == 0xe0;
            assert_eq!(self.server.is_closed(self.conn), goodbye, "{packet:02x?}");
            assert!(!goodbye || self.sent.is_empty() && self.client.outbox().is_empty());
        }
    }

    fn check(&mut self) {
        while let Some(event) = self.client.poll_event() {
            match event {
                // Nothing here is large enough to go in parts.
                ClientEvent::Opened | ClientEvent::Taken { .. } => {}
                ClientEvent::Acknowledged { token } | ClientEvent::Refused { token, .. } => {
                    assert!((1..=self.handed_over).contains(&token), "nobody sent {token}");
                    assert!(self.answered.insert(token), "{token} is answered twice");
                }
            }
        }
        let out = self.client.outbox().len();
        assert!(out < OUTBOX_BYTES + 4 * MAX_PACKET as usize + 2 * MAX_PAYLOAD, "{out} bytes");
    }
}

/// The length of the packet at the beginning, once all of it is there.
fn packet_length(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for (at, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + length;
            return (bytes.len() >= total).then_some(total);
        }
    }
    None
}
