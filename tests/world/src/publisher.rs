//! A simulated sensor: publishes numbered readings with a window, sends again what was not
//! acknowledged when its connection was lost and what was refused, and remembers what was
//! acknowledged. One with QoS 2 keeps its half of the session on its own flash: it goes on with
//! the same packet identifiers, and with PUBREL where it has had PUBREC.

mod reading;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::device::Device;
use crate::line::{Line, Tick};
use crate::mqtt::{self, Connect, Incoming, Message, Qos, Version};
use crate::options::{Options, Route, Sensor};
pub(crate) use reading::{ReadingKind, is_empty, kind_of, payload};

/// Wait before a reading that was refused is sent again.
const REFUSED_WAIT: Duration = Duration::from_millis(60);

/// One publisher.
#[derive(Debug)]
pub(crate) struct Publisher {
    /// Its client id, also the sensor's name in topics.
    pub(crate) name: String,
    pub(crate) sensor: Sensor,
    pub(crate) line: Line,
    /// Readings that the gateway acknowledged, with PUBACK or PUBREC.
    pub(crate) acknowledged: BTreeSet<u64>,
    /// Readings that the gateway refused at least once: they come behind later ones.
    pub(crate) refused: BTreeSet<u64>,
    /// When each reading was sent for the first time, and how often in all.
    pub(crate) sent: Vec<(Duration, u64)>,
    /// Publishes sent again.
    pub(crate) sent_again: u64,
    /// PUBRELs sent again.
    pub(crate) released_again: u64,
    /// What the gateway did wrong, in its eyes.
    pub(crate) complaints: Vec<String>,
    window: usize,
    padding: u64,
    /// The gateway has said that it knows the session.
    known: bool,
    /// Readings on their way, oldest first.
    in_flight: VecDeque<Sent>,
    /// Refused readings and when to send them again.
    later: VecDeque<(Duration, Reading)>,
    packet_id: u16,
    boot: u64,
    number: u64,
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
    step: Step,
}

/// How far the handing over of a reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Published,
    /// PUBREC has come, and PUBREL was sent so often.
    Released(u64),
}

impl Publisher {
    pub(crate) fn new(name: String, sensor: Sensor, keep_alive: u16, options: &Options) -> Self {
        Publisher {
            name,
            sensor,
            line: Line::new(keep_alive, options.patience),
            window: options.window,
            padding: options.padding,
            acknowledged: BTreeSet::new(),
            refused: BTreeSet::new(),
            sent: Vec::new(),
            sent_again: 0,
            released_again: 0,
            complaints: Vec::new(),
            known: false,
            in_flight: VecDeque::new(),
            later: VecDeque::new(),
            packet_id: 0,
            boot: 7,
            number: 0,
        }
    }

    fn is_kept(&self) -> bool {
        self.sensor.qos == Qos::ExactlyOnce
    }

    /// Whether each reading carries a publisher identity.
    fn is_identified(&self) -> bool {
        self.sensor.version == Version::V5 && !self.is_kept()
    }

    /// Whether each reading has to be in its streams once. What goes to no stream is not known by
    /// its identity.
    pub(crate) fn is_once(&self) -> bool {
        self.is_kept() || (self.is_identified() && !self.sensor.route.streams().is_empty())
    }

    /// Where it publishes to.
    pub(crate) fn topic(&self) -> String {
        format!("sensors/{}/{}", self.name, self.sensor.route.leaf())
    }

    /// What a reading says.
    pub(crate) fn payload(&self, number: u64) -> String {
        reading::payload(&self.name, self.sensor.route, self.padding, number)
    }

    /// Where it stands, in words.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} ({:?}, {:?}, connection {:?}, {} under way, {} refused, {} of {} sent)",
            self.name,
            self.sensor.version,
            self.sensor.route,
            self.line.conn,
            self.in_flight.len(),
            self.later.len(),
            self.next(),
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
        self.next() < self.sensor.readings
    }

    /// The next reading to send for the first time.
    pub(crate) fn next(&self) -> u64 {
        self.sent.len() as u64
    }

    /// The sensor measured: sends the next reading if the window allows.
    pub(crate) fn measure(&mut self, now: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        if self.has_room() && self.has_more() {
            self.number += 1;
            let what = Reading { reading: self.next(), number: self.number };
            self.sent.push((now, 0));
            self.send(now, what, &mut out);
        }
        out
    }

    fn has_room(&self) -> bool {
        self.line.ready && self.in_flight.len() < self.window
    }

    /// A session of its own for each connection: in the order of their numbers, as a gateway that
    /// has restarted does not know of a refusal before the newest number that it holds.
    fn begin_anew(&mut self, now: Duration, out: &mut Vec<u8>) {
        let unanswered = self.in_flight.drain(..).map(|sent| sent.what);
        let refused = self.later.drain(..).map(|(_, what)| what);
        let mut again: Vec<Reading> = unanswered.chain(refused).collect();
        again.sort_unstable_by_key(|what| what.reading);
        for what in again {
            self.sent_again += 1;
            self.send(now, what, out);
        }
    }

    /// The session goes on: what is unfinished is said again, under its identifier
    /// [MQTT-4.4.0-1].
    fn go_on(&mut self, now: Duration, present: bool, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.known, true) && !present {
            self.complaints.push(format!("{}: its session is gone", self.name));
        }
        self.line.sends(now);
        for at in 0..self.in_flight.len() {
            self.in_flight[at].at = now;
            let Sent { packet, what, .. } = self.in_flight[at];
            match &mut self.in_flight[at].step {
                Step::Published => {
                    self.sent_again += 1;
                    self.publish(packet, what, true, out);
                }
                Step::Released(times) => {
                    *times += 1;
                    self.released_again += 1;
                    out.extend(mqtt::pubrel(packet));
                }
            }
        }
    }

    /// PUBACK or PUBREC: the oldest one that has none is taken, or refused.
    fn answered(&mut self, now: Duration, id: u16, reason: u8) -> Option<usize> {
        let published = |sent: &Sent| sent.step == Step::Published;
        let Some(at) = self.in_flight.iter().position(|s| s.packet == id && published(s)) else {
            let complaint = format!("{}: answer {id} for nothing that is in flight", self.name);
            self.complaints.push(complaint);
            return None;
        };
        if self.in_flight.iter().take(at).any(published) {
            // [MQTT-4.6.0-2], [MQTT-4.6.0-3]
            self.complaints.push(format!("{}: answer {id} out of order", self.name));
        }
        let what = self.in_flight[at].what;
        if reason < 0x80 {
            self.acknowledged.insert(what.reading);
            self.line.answered();
            return Some(at);
        }
        self.in_flight.remove(at);
        self.refused.insert(what.reading);
        self.later.push_back((now + REFUSED_WAIT, what));
        None
    }

    fn received(&mut self, now: Duration, id: u16, reason: u8, out: &mut Vec<u8>) {
        if let Some(at) = self.answered(now, id, reason) {
            self.in_flight[at].step = Step::Released(1);
            self.in_flight[at].at = now;
            self.line.sends(now);
            out.extend(mqtt::pubrel(id));
        }
    }

    fn completed(&mut self, id: u16, reason: u8) {
        let released = |sent: &Sent| sent.packet == id && sent.step != Step::Published;
        let Some(at) = self.in_flight.iter().position(released) else {
            return self.complaints.push(format!("{}: PUBCOMP {id} for nothing", self.name));
        };
        if self.in_flight[at].step == Step::Released(1) && reason != 0 {
            let complaint = format!("{}: PUBCOMP {id} with {reason:#x} at once", self.name);
            self.complaints.push(complaint);
        }
        self.in_flight.remove(at);
        self.line.answered();
    }

    fn send(&mut self, now: Duration, what: Reading, out: &mut Vec<u8>) {
        self.packet_id = if self.is_kept() {
            // Free ones are used again as soon as they are: that is hardest for the gateway.
            let used = |id: &u16| self.in_flight.iter().any(|sent| sent.packet == *id);
            (1..).find(|id| !used(id)).unwrap_or(1)
        } else {
            self.packet_id % u16::MAX + 1
        };
        self.line.sends(now);
        let packet = self.packet_id;
        self.in_flight.push_back(Sent { packet, at: now, what, step: Step::Published });
        self.publish(packet, what, false, out);
    }

    fn publish(&mut self, id: u16, what: Reading, dup: bool, out: &mut Vec<u8>) {
        if let Some((_, times)) = self.sent.get_mut(what.reading as usize) {
            *times += 1;
        }
        let user = if self.is_identified() {
            let boot = self.boot.to_string();
            vec![("tg-pub-boot", boot), ("tg-pub-seq", what.number.to_string())]
        } else {
            Vec::new()
        };
        let message = Message {
            topic: self.topic(),
            payload: self.payload(what.reading).into_bytes(),
            qos: self.sensor.qos,
            retain: self.sensor.route == Route::State,
            dup,
            id,
        };
        out.extend(mqtt::publish(self.sensor.version, &message, &user));
    }
}

impl Device for Publisher {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn connect(&mut self, now: Duration) -> Vec<u8> {
        self.line.connects(now);
        mqtt::connect(&Connect {
            version: self.sensor.version,
            client: &self.name,
            keep_alive: self.line.keep_alive(),
            kept: self.is_kept(),
            receive_maximum: None,
        })
    }

    fn lost(&mut self) {
        self.line.lost();
        if self.sensor.route.refuses() {
            // Any of them may have been refused, and the answer did not arrive.
            self.refused.extend(self.in_flight.iter().map(|sent| sent.what.reading));
        }
    }

    /// It forgets what it had sent, unless it has it on flash. Only what was acknowledged is
    /// promised.
    fn restart(&mut self) {
        self.lost();
        if !self.is_kept() {
            self.in_flight.clear();
            self.later.clear();
            self.boot += 1;
            self.number = 0;
        }
    }

    fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for packet in self.line.receive(now, self.sensor.version, bytes) {
            match packet {
                Incoming::ConnAck { present } => {
                    self.line.ready = true;
                    if self.is_kept() {
                        self.go_on(now, present, &mut out);
                    } else {
                        self.begin_anew(now, &mut out);
                    }
                }
                Incoming::PubAck { id, reason } => {
                    if let Some(at) = self.answered(now, id, reason) {
                        self.in_flight.remove(at);
                    }
                }
                Incoming::PubRec { id, reason } => self.received(now, id, reason, &mut out),
                Incoming::PubComp { id, reason } => self.completed(id, reason),
                Incoming::Publish(_)
                | Incoming::PubRel { .. }
                | Incoming::SubAck { .. }
                | Incoming::Other(_) => {}
            }
        }
        out
    }

    fn tick(&mut self, now: Duration) -> Tick {
        let mut out = Vec::new();
        while self.has_room() && self.later.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, what)) = self.later.pop_front() {
                self.sent_again += 1;
                self.send(now, what, &mut out);
            }
        }
        let oldest = self.in_flight.iter().map(|sent| sent.at).min();
        self.line.tick(now, oldest, out)
    }
}
