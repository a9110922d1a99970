//! A simulated device with a kept session: it subscribes once, goes away and comes back, and
//! expects that nothing was lost meanwhile. Its half of the session (the packet identifiers that
//! it has confirmed with PUBREC) and what it got are on its own flash.
//!
//! What it can judge by itself it does at once: that the session is there, that an identifier
//! always brings the same message, that repetitions are marked, order and window. Packet
//! identifiers rise, as docs/formats/sessions.md says of a spool with fewer than 65,535 records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::device::Device;
use crate::line::{Line, Tick};
use crate::mqtt::{self, Connect, Incoming, Message, Qos};
use crate::options::{Options, SubscriberKind};

/// One subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    /// Its client id.
    pub(crate) name: String,
    pub(crate) kind: SubscriberKind,
    pub(crate) line: Line,
    /// When SUBACK came: from then on nothing may be missing.
    pub(crate) subscribed_at: Option<Duration>,
    /// What it got with QoS 1 and 2, by packet identifier.
    pub(crate) got: BTreeMap<u16, Got>,
    /// Publishes that came again.
    pub(crate) repeated: u64,
    /// What the gateway did wrong, in its eyes.
    pub(crate) complaints: Vec<String>,
    /// The gateway has said that it knows the session.
    known: bool,
    /// Identifiers that it has confirmed with PUBREC, and that are not released.
    taken: BTreeSet<u16>,
    /// Of the present connection: the newest identifier, and those that it has not acknowledged to
    /// the end.
    newest: u16,
    unfinished: BTreeSet<u16>,
    /// Acknowledgements that it has not sent yet.
    owed: Vec<u8>,
}

/// A message that it got.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) message: Message,
    /// How often it was taken for a new one.
    pub(crate) times: u64,
}

impl Subscriber {
    pub(crate) fn new(name: String, kind: SubscriberKind, options: &Options) -> Subscriber {
        Subscriber {
            name,
            kind,
            // Who has nothing to send finds out by its pings that the gateway is gone.
            line: Line::new(1, options.patience),
            subscribed_at: None,
            got: BTreeMap::new(),
            repeated: 0,
            complaints: Vec::new(),
            known: false,
            taken: BTreeSet::new(),
            newest: 0,
            unfinished: BTreeSet::new(),
            owed: Vec::new(),
        }
    }

    /// Identifiers that it has confirmed with PUBREC, and that no PUBREL has freed.
    pub(crate) fn unreleased(&self) -> impl Iterator<Item = u16> {
        self.taken.iter().copied()
    }

    /// Where it stands, in words.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} (connection {:?}, subscribed {:?}, {} got, {} not released)",
            self.name,
            self.line.conn,
            self.subscribed_at,
            self.got.len(),
            self.taken.len()
        )
    }

    /// It says goodbye; its session goes on.
    pub(crate) fn leave(&mut self) -> Vec<u8> {
        let ready = self.line.ready;
        self.lost();
        if ready { mqtt::disconnect() } else { Vec::new() }
    }

    fn complain(&mut self, what: &str) {
        self.complaints.push(format!("{}: {what}", self.name));
    }

    fn let_in(&mut self, present: bool, out: &mut Vec<u8>) {
        self.line.ready = true;
        if std::mem::replace(&mut self.known, true) && !present {
            self.complain("its session is gone");
        }
        if self.subscribed_at.is_none() {
            let filters = self.kind.interests.iter().map(|(what, qos)| (what.filter(), *qos));
            let filters: Vec<_> = filters.collect();
            out.extend(mqtt::subscribe(self.kind.version, &filters));
        }
    }

    fn take(&mut self, message: Message, out: &mut Vec<u8>) {
        let id = message.id;
        if message.qos == Qos::AtMostOnce {
            return;
        }
        if id <= self.newest {
            self.complain(&format!("{id} came after {}", self.newest));
        }
        self.newest = id;
        self.unfinished.insert(id);
        if self.unfinished.len() > self.kind.receive_maximum.into() {
            self.complain(&format!("{} messages at a time", self.unfinished.len()));
        }
        let qos = message.qos;
        // What is confirmed is only confirmed again [MQTT-4.3.3-10].
        let new = qos == Qos::AtLeastOnce || self.taken.insert(id);
        self.note(message, new);
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => {
                self.unfinished.remove(&id);
                out.extend(mqtt::puback(id));
            }
            Qos::ExactlyOnce => out.extend(mqtt::pubrec(id)),
        }
    }

    fn note(&mut self, message: Message, new: bool) {
        let id = message.id;
        let Some(got) = self.got.get_mut(&id) else {
            let got = Got { message, times: 1 };
            self.got.insert(id, got);
            return;
        };
        self.repeated += 1;
        got.times += u64::from(new);
        let (before, times) = (&got.message, got.times);
        let same = (&before.topic, &before.payload, before.qos)
            == (&message.topic, &message.payload, message.qos);
        if !same {
            let what = format!("{id} was {before:?} and is {message:?}");
            return self.complain(&what);
        }
        if !message.dup {
            self.complain(&format!("{id} came again without DUP")); // [MQTT-3.3.1-1]
        }
        if message.qos == Qos::ExactlyOnce && times > 1 {
            self.complain(&format!("{id}, of QoS 2, came {times} times"));
        }
    }
}

impl Device for Subscriber {
    fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    fn connect(&mut self, now: Duration) -> Vec<u8> {
        self.line.connects(now);
        self.newest = 0;
        self.unfinished.clear();
        self.owed.clear();
        mqtt::connect(&Connect {
            version: self.kind.version,
            client: &self.name,
            keep_alive: self.line.keep_alive(),
            kept: true,
            receive_maximum: Some(self.kind.receive_maximum),
        })
    }

    fn lost(&mut self) {
        self.line.lost();
    }

    fn restart(&mut self) {
        self.lost();
    }

    fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for packet in self.line.receive(now, self.kind.version, bytes) {
            match packet {
                Incoming::ConnAck { present } => self.let_in(present, &mut out),
                Incoming::Publish(message) => self.take(message, &mut out),
                Incoming::PubRel { id } => {
                    self.taken.remove(&id);
                    self.unfinished.remove(&id);
                    out.extend(mqtt::pubcomp(id));
                }
                Incoming::SubAck { codes } => {
                    let asked: Vec<u8> =
                        self.kind.interests.iter().map(|(_, qos)| *qos as u8).collect();
                    if codes != asked {
                        self.complain(&format!("granted {codes:?} of {asked:?}"));
                    }
                    self.subscribed_at.get_or_insert(now);
                }
                Incoming::PubAck { .. }
                | Incoming::PubRec { .. }
                | Incoming::PubComp { .. }
                | Incoming::Other(_) => {}
            }
        }
        self.line.answered();
        if self.kind.lazy {
            // It works on them before it says so.
            self.owed.extend(out);
            return Vec::new();
        }
        out
    }

    fn tick(&mut self, now: Duration) -> Tick {
        // Nobody answers acknowledgements: its pings tell it whether the gateway is there.
        let out = if self.line.ready { std::mem::take(&mut self.owed) } else { Vec::new() };
        self.line.tick(now, None, out)
    }
}
