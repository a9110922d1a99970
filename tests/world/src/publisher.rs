//! A simulated sensor: publishes numbered readings with a window, sends again what was not
//! acknowledged when its connection was lost, and remembers what was.

use std::collections::{BTreeSet, VecDeque};

use tidegate_broker::ConnId;

use crate::mqtt::{self, Incoming, Version};

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its client id, also the sensor's name in topics.
    pub(crate) name: String,
    /// The connection, while there is one.
    pub(crate) conn: Option<ConnId>,
    /// Ids of readings that the gateway acknowledged.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Readings that the gateway refused.
    pub(crate) refused: u64,
    version: Version,
    identified: bool,
    window: usize,
    total: u64,
    /// The next reading to send for the first time.
    next: u64,
    /// Readings on their way, oldest first, with their packet ids.
    in_flight: VecDeque<(u16, u64)>,
    ready: bool,
    packet_id: u16,
    inbox: Vec<u8>,
}

impl Publisher {
    /// A publisher that will send `total` readings, at most `window` unacknowledged.
    pub(crate) fn new(name: String, version: Version, total: u64, window: usize) -> Publisher {
        Publisher {
            identified: version == Version::V5,
            name,
            version,
            window,
            total,
            conn: None,
            acknowledged: BTreeSet::new(),
            refused: 0,
            next: 0,
            in_flight: VecDeque::new(),
            ready: false,
            packet_id: 0,
            inbox: Vec::new(),
        }
    }

    /// Whether each reading carries a publisher identity.
    pub(crate) fn is_identified(&self) -> bool {
        self.identified
    }

    /// Everything sent and acknowledged or refused.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.total && self.in_flight.is_empty()
    }

    /// Whether there are readings that were never sent.
    pub(crate) fn has_more(&self) -> bool {
        self.next < self.total
    }

    /// A new connection: the CONNECT to send.
    pub(crate) fn connect(&mut self, conn: ConnId) -> Vec<u8> {
        self.conn = Some(conn);
        self.ready = false;
        self.inbox.clear();
        mqtt::connect(self.version, &self.name)
    }

    /// The connection is gone.
    pub(crate) fn disconnected(&mut self) {
        self.conn = None;
        self.ready = false;
    }

    /// Bytes from the gateway; answers the bytes to send.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.inbox.extend_from_slice(bytes);
        let mut out = Vec::new();
        for packet in mqtt::incoming(&mut self.inbox) {
            match packet {
                Incoming::ConnAck => {
                    self.ready = true;
                    let again: Vec<u64> = self.in_flight.drain(..).map(|(_, id)| id).collect();
                    for reading in again {
                        self.send(reading, &mut out);
                    }
                }
                Incoming::PubAck { id, reason } => self.answered(id, reason),
                Incoming::Other(_) => {}
            }
        }
        out
    }

    /// The sensor measured: sends the next reading if the window allows.
    pub(crate) fn measure(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.ready && self.next < self.total && self.in_flight.len() < self.window {
            let reading = self.next;
            self.next += 1;
            self.send(reading, &mut out);
        }
        out
    }

    fn answered(&mut self, id: u16, reason: u8) {
        let Some(at) = self.in_flight.iter().position(|(packet, _)| *packet == id) else {
            panic!("{}: PUBACK {id} for nothing that is in flight", self.name);
        };
        let (_, reading) = self.in_flight.remove(at).expect("found above");
        if reason < 0x80 {
            self.acknowledged.insert(reading);
        } else {
            self.refused += 1;
        }
    }

    fn send(&mut self, reading: u64, out: &mut Vec<u8>) {
        self.packet_id = self.packet_id % u16::MAX + 1;
        self.in_flight.push_back((self.packet_id, reading));
        let user = if self.identified {
            vec![("tg-pub-boot", "7".to_owned()), ("tg-pub-seq", (reading + 1).to_string())]
        } else {
            Vec::new()
        };
        let topic = format!("sensors/{}/telemetry", self.name);
        let payload = format!(
            "{{\"id\":\"{}-{reading}\",\"value\":{}}}",
            self.name,
            if is_over(reading) { "31.5" } else { "21.5" }
        );
        out.extend(mqtt::publish(self.version, &topic, self.packet_id, payload.as_bytes(), &user));
    }
}

/// Whether this reading is over the limit and must raise an alert.
pub(crate) fn is_over(reading: u64) -> bool {
    reading % 10 == 3
}
