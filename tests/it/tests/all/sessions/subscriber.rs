//! A subscriber with a kept session that comes and goes: with a goodbye, by a link that just
//! ends, or by a second connection that takes the session over. What it has confirmed and what it
//! got outlive its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_peer::Version;
use tidegate_peer::decode::{Message, Packet};
use tidegate_peer::encode::{DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, ack, connect, subscribe};
use tidegate_rig::publisher::parse_message_id;
use tidegate_rig::sensors::Random;

use super::line::Line;
use crate::setup::PATIENCE;

/// Pause between two looks.
const RETRY: Duration = Duration::from_millis(5);

/// What it got, as its application sees it.
#[derive(Default)]
pub(crate) struct Inbox {
    /// Publisher and number, by packet identifier; fewer than 65,535 come, so that each stands for
    /// one message.
    pub(crate) got: BTreeMap<u16, (String, u64)>,
    pub(crate) distinct: BTreeSet<(String, u64)>,
    /// PUBLISHes that came again.
    pub(crate) again: u64,
    pub(crate) connections: u64,
}

pub(crate) struct Subscriber {
    pub(crate) inbox: Arc<Mutex<Inbox>>,
    subscribed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Subscriber {
    /// `work` counts what goes on elsewhere: it stays away until that has grown.
    pub(crate) fn start(
        address: SocketAddr,
        name: &'static str,
        (version, qos): (Version, u8),
        work: Arc<AtomicU64>,
        seed: u64,
    ) -> Subscriber {
        let (inbox, stop) = (Arc::new(Mutex::new(Inbox::default())), Arc::default());
        let subscribed: Arc<AtomicBool> = Arc::default();
        let mut device = Device {
            name,
            version,
            qos,
            inbox: inbox.clone(),
            stop: Arc::clone(&stop),
            subscribed: subscribed.clone(),
            known: false,
            taken: BTreeSet::new(),
            work,
            random: Random::new(seed),
            before: None,
        };
        let thread = thread::spawn(move || device.run(address));
        Subscriber { inbox, subscribed, stop, thread }
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::Acquire)
    }

    pub(crate) fn finish(self) -> Inbox {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap();
        std::mem::take(&mut *self.inbox.lock().unwrap())
    }
}

struct Device {
    name: &'static str,
    version: Version,
    qos: u8,
    inbox: Arc<Mutex<Inbox>>,
    stop: Arc<AtomicBool>,
    subscribed: Arc<AtomicBool>,
    known: bool,
    /// Identifiers confirmed with PUBREC and not released.
    taken: BTreeSet<u16>,
    work: Arc<AtomicU64>,
    random: Random,
    /// The connection before, which the next one takes over from.
    before: Option<Line>,
}

impl Device {
    fn run(&mut self, address: SocketAddr) {
        let deadline = Instant::now() + PATIENCE;
        while !self.stops() {
            assert!(Instant::now() < deadline, "{}: not done within {PATIENCE:?}", self.name);
            if self.connection(address).is_err() {
                thread::sleep(RETRY);
            }
        }
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// One connection, for so many messages; then it goes in one of three ways.
    fn connection(&mut self, address: SocketAddr) -> io::Result<()> {
        let hello = connect(self.version, self.name).keep();
        let (mut line, present, mut packets) = Line::open(address, &hello)?;
        self.before = None;
        assert!(present || !self.known, "{}: no session", self.name);
        self.known = true;
        self.inbox.lock().unwrap().connections += 1;
        if !self.subscribed.load(Ordering::Acquire) {
            line.send(&subscribe(self.version, 1, &[("sensors/#", self.qos)]))?;
        }
        let mut left = self.random.integer(50, 400);
        while left > 0 && !self.stops() {
            let mut out = Vec::new();
            for packet in packets.drain(..) {
                left = left.saturating_sub(1);
                self.take(packet, &mut out);
            }
            line.send(&out)?;
            packets = line.receive()?;
        }
        match self.random.integer(0, 2) {
            0 => line.send(DISCONNECT)?,
            1 => {}
            _ => {
                self.before = Some(line);
                return Ok(());
            }
        }
        drop(line);
        self.stay_away();
        Ok(())
    }

    fn stay_away(&mut self) {
        let until = self.work.load(Ordering::Acquire) + self.random.integer(10, 300);
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.work.load(Ordering::Acquire) < until && Instant::now() < deadline {
            if self.stops() {
                return;
            }
            thread::sleep(RETRY);
        }
    }

    fn take(&mut self, packet: Packet, out: &mut Vec<u8>) {
        match packet {
            Packet::Suback { codes, .. } => {
                assert_eq!(codes, [self.qos]);
                self.subscribed.store(true, Ordering::Release);
            }
            Packet::Publish(message) => {
                let (id, qos) = (message.id, message.qos);
                self.note(&message);
                out.extend(ack(if qos == 2 { PUBREC } else { PUBACK }, id));
            }
            Packet::Ack { kind: PUBREL, id, .. } => {
                self.taken.remove(&id);
                out.extend(ack(PUBCOMP, id));
            }
            Packet::Disconnect { .. } => {}
            other => panic!("{}: got {other:?}", self.name),
        }
    }

    fn note(&mut self, message: &Message) {
        let text = String::from_utf8_lossy(&message.payload);
        // Of a QoS 1 publisher it is a field of JSON.
        let id = text.split('"').find(|part| parse_message_id(part).is_some());
        let (publisher, number) = parse_message_id(id.unwrap()).unwrap();
        let what = (publisher.to_owned(), number);
        let mut inbox = self.inbox.lock().unwrap();
        let before = inbox.got.get(&message.id).cloned();
        let new = match message.qos {
            2 => self.taken.insert(message.id),
            _ => before.is_none(),
        };
        if let Some(before) = before {
            let (name, id) = (self.name, message.id);
            assert!(!new, "{name}: {what:?} of QoS 2 came twice");
            assert_eq!(before, what, "{name}: identifier {id} stands for another message");
            assert!(message.dup, "{name}: {what:?} came again without DUP");
            inbox.again += 1;
            return;
        }
        assert!(new, "{}: {what:?} is hidden behind one that was confirmed", self.name);
        inbox.distinct.insert(what.clone());
        inbox.got.insert(message.id, what);
    }
}
