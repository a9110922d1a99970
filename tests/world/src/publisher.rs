//! A simulated sensor: publishes numbered readings with a window, sends again what was not
//! acknowledged when its connection was lost and what was refused, and remembers what was
//! acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use tidegate_broker::ConnId;

use crate::mqtt::{self, Incoming, Version};
use crate::options::{Options, Sensor};

/// Wait before a reading that was refused is sent again.
const REFUSED_WAIT: Duration = Duration::from_millis(60);
/// How often the wait for an answer doubles.
const MAX_DOUBLINGS: u32 = 3;

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its client id, also the sensor's name in topics.
    pub(crate) name: String,
    pub(crate) sensor: Sensor,
    /// The connection, while it believes to have one.
    pub(crate) conn: Option<ConnId>,
    /// Readings that the gateway acknowledged.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Readings that the gateway refused at least once: they come behind later ones.
    pub(crate) refused: BTreeSet<u64>,
    /// Publishes sent again.
    pub(crate) sent_again: u64,
    /// What the gateway did wrong, in its eyes.
    pub(crate) complaints: Vec<String>,
    window: usize,
    padding: u64,
    /// How long it waits for an answer; doubled each time that was in vain.
    patience: Duration,
    first_patience: Duration,
    keep_alive: u16,
    /// The next reading to send for the first time.
    next: u64,
    /// Readings on their way, oldest first.
    in_flight: VecDeque<Sent>,
    /// Refused readings and when to send them again.
    later: VecDeque<(Duration, Reading)>,
    ready: bool,
    /// When it last heard from the gateway, and last sent something.
    heard_at: Duration,
    sent_at: Duration,
    packet_id: u16,
    boot: u64,
    number: u64,
    inbox: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    reading: u64,
    /// The publisher's own number for it.
    number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    packet: u16,
    at: Duration,
    what: Reading,
}

/// What a publisher wants to do when it looks at the clock.
pub(crate) enum Tick {
    Send(Vec<u8>),
    /// It takes its connection for dead.
    HangUp,
}

impl Publisher {
    pub(crate) fn new(name: String, sensor: Sensor, keep_alive: u16, options: &Options) -> Self {
        Publisher {
            name,
            sensor,
            keep_alive,
            window: options.window,
            padding: options.padding,
            patience: options.patience,
            first_patience: options.patience,
            conn: None,
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            sent_again: 0,
            complaints: Vec::new(),
            next: 0,
            in_flight: VecDeque::new(),
            later: VecDeque::new(),
            ready: false,
            heard_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            packet_id: 0,
            boot: 7,
            number: 0,
            inbox: Vec::new(),
        }
    }

    /// Whether each reading carries a publisher identity.
    pub(crate) fn is_identified(&self) -> bool {
        self.sensor.version == Version::V5
    }

    /// Where it stands, in words.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} ({:?}, {:?}, connection {:?}, {} under way, {} refused, {} of {} sent)",
            self.name,
            self.sensor.version,
            self.sensor.route,
            self.conn,
            self.in_flight.len(),
            self.later.len(),
            self.next,
            self.sensor.readings,
        )
    }

    /// Everything sent and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        !self.has_more() && !self.waits()
    }

    /// Whether something that it sent is not acknowledged.
    pub(crate) fn waits(&self) -> bool {
        !self.in_flight.is_empty() || !self.later.is_empty()
    }

    /// Whether there are readings that were never sent.
    pub(crate) fn has_more(&self) -> bool {
        self.next < self.sensor.readings
    }

    /// It begins to connect.
    pub(crate) fn dials(&mut self, conn: ConnId) {
        self.conn = Some(conn);
        self.ready = false;
        self.inbox.clear();
    }

    /// The transport stands: the CONNECT to send.
    pub(crate) fn connect(&mut self, now: Duration) -> Vec<u8> {
        (self.heard_at, self.sent_at) = (now, now);
        mqtt::connect(self.sensor.version, &self.name, self.keep_alive)
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self) {
        self.conn = None;
        self.ready = false;
        if self.sensor.route.refuses() {
            // Any of them may have been refused, and the answer did not arrive.
            self.refused.extend(self.in_flight.iter().map(|sent| sent.what.reading));
        }
    }

    /// It restarts, and forgets what it had sent. Only what was acknowledged is promised.
    pub(crate) fn restart(&mut self) {
        self.lost();
        self.in_flight.clear();
        self.later.clear();
        self.boot += 1;
        self.number = 0;
    }

    /// Bytes from the gateway; answers the bytes to send.
    pub(crate) fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        self.heard_at = now;
        self.inbox.extend_from_slice(bytes);
        let mut out = Vec::new();
        for packet in mqtt::incoming(&mut self.inbox) {
            match packet {
                Incoming::ConnAck => {
                    self.ready = true;
                    // In the order of their numbers: a gateway that has restarted does not know
                    // of a refusal before the newest number that it holds.
                    let unanswered = self.in_flight.drain(..).map(|sent| sent.what);
                    let refused = self.later.drain(..).map(|(_, what)| what);
                    let mut again: Vec<Reading> = unanswered.chain(refused).collect();
                    again.sort_unstable_by_key(|what| what.reading);
                    for what in again {
                        self.sent_again += 1;
                        self.send(now, what, &mut out);
                    }
                }
                Incoming::PubAck { id, reason } => self.answered(now, id, reason),
                Incoming::Other(_) => {}
            }
        }
        out
    }

    /// The sensor measured: sends the next reading if the window allows.
    pub(crate) fn measure(&mut self, now: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        if self.has_room() && self.has_more() {
            self.number += 1;
            let what = Reading { reading: self.next, number: self.number };
            self.next += 1;
            self.send(now, what, &mut out);
        }
        out
    }

    /// It looks at the clock.
    pub(crate) fn tick(&mut self, now: Duration) -> Tick {
        let mut out = Vec::new();
        while self.has_room() && self.later.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, what)) = self.later.pop_front() {
                self.sent_again += 1;
                self.send(now, what, &mut out);
            }
        }
        if self.conn.is_none() {
            return Tick::Send(out);
        }
        let unanswered = self.in_flight.front().map_or(self.heard_at.max(self.sent_at), |s| s.at);
        let waits = !self.in_flight.is_empty() || !self.ready || self.sent_at > self.heard_at;
        if waits && unanswered.max(self.heard_at) + self.patience <= now {
            let longest = self.first_patience * (1 << MAX_DOUBLINGS);
            self.patience = (self.patience * 2).min(longest);
            return Tick::HangUp;
        }
        let idle = Duration::from_millis(u64::from(self.keep_alive) * 500);
        if self.ready && self.keep_alive > 0 && self.sent_at + idle <= now {
            self.sent_at = now;
            out.extend(mqtt::ping());
        }
        Tick::Send(out)
    }

    fn has_room(&self) -> bool {
        self.ready && self.in_flight.len() < self.window
    }

    fn answered(&mut self, now: Duration, id: u16, reason: u8) {
        let Some(at) = self.in_flight.iter().position(|sent| sent.packet == id) else {
            let complaint = format!("{}: PUBACK {id} for nothing that is in flight", self.name);
            return self.complaints.push(complaint);
        };
        if at > 0 {
            // [MQTT-4.6.0-2]
            self.complaints.push(format!("{}: PUBACK {id} out of order", self.name));
        }
        let Some(Sent { what, .. }) = self.in_flight.remove(at) else { return };
        if reason < 0x80 {
            self.acknowledged.insert(what.reading);
            self.patience = self.first_patience;
        } else {
            self.refused.insert(what.reading);
            self.later.push_back((now + REFUSED_WAIT, what));
        }
    }

    fn send(&mut self, now: Duration, what: Reading, out: &mut Vec<u8>) {
        self.packet_id = self.packet_id % u16::MAX + 1;
        self.sent_at = now;
        self.in_flight.push_back(Sent { packet: self.packet_id, at: now, what });
        let user = if self.is_identified() {
            let boot = self.boot.to_string();
            vec![("tg-pub-boot", boot), ("tg-pub-seq", what.number.to_string())]
        } else {
            Vec::new()
        };
        let topic = format!("sensors/{}/{}", self.name, self.sensor.route.leaf());
        let payload = self.payload(what.reading);
        let version = self.sensor.version;
        out.extend(mqtt::publish(version, &topic, self.packet_id, payload.as_bytes(), &user));
    }

    fn payload(&self, reading: u64) -> String {
        let name = &self.name;
        let notes = "x".repeat((reading * 37 % self.padding) as usize);
        match kind_of(reading) {
            ReadingKind::Ordinary => {
                format!("{{\"id\":\"{name}-{reading}\",\"value\":21.5,\"notes\":\"{notes}\"}}")
            }
            ReadingKind::Over => {
                format!("{{\"id\":\"{name}-{reading}\",\"value\":31.5,\"notes\":\"{notes}\"}}")
            }
            ReadingKind::Poison => format!("{{\"id\":\"{name}-{reading}\",\"value\":\"?\"}}"),
        }
    }
}

/// What the function has to make of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadingKind {
    /// Nothing.
    Ordinary,
    /// An alert: it is over the limit.
    Over,
    /// A dead letter: it has no number.
    Poison,
}

/// See [`ReadingKind`].
pub(crate) fn kind_of(reading: u64) -> ReadingKind {
    match reading % 40 {
        3 | 13 | 23 | 33 => ReadingKind::Over,
        7 => ReadingKind::Poison,
        _ => ReadingKind::Ordinary,
    }
}
