//! A publisher of QoS 2 that keeps its half of the session: after a lost connection it goes on
//! with the same packet identifiers, with PUBREL where it has had PUBREC. Each tenth message is
//! retained.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::{PUBREC, PUBREL, ack, connect, publish};
use tidegate_rig::publisher::message_id;

use super::line::Line;
use crate::setup::PATIENCE;

/// Messages that are not finished at a time.
const WINDOW: usize = 20;
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(10);

/// What it has done so far.
#[derive(Default)]
pub(crate) struct Progress {
    /// Messages sent at least once.
    pub(crate) sent: AtomicU64,
    /// Messages before the first one that PUBREC has not come for.
    pub(crate) received: AtomicU64,
    /// PUBCOMPs.
    pub(crate) completed: AtomicU64,
    /// PUBLISHes and PUBRELs sent again.
    pub(crate) again: AtomicU64,
}

pub(crate) struct Publisher {
    pub(crate) progress: Arc<Progress>,
    thread: JoinHandle<()>,
}

/// Whether the message of this number is retained.
pub(crate) fn is_retained(number: u64) -> bool {
    number.is_multiple_of(10)
}

/// Its topic.
pub(crate) fn topic(name: &str, number: u64) -> String {
    let leaf = if is_retained(number) { "state" } else { "counted" };
    format!("sensors/{name}/{leaf}")
}

impl Publisher {
    pub(crate) fn start(address: SocketAddr, name: &'static str, total: u64) -> Publisher {
        let progress = Arc::new(Progress::default());
        let mut device = Device {
            name,
            total,
            unfinished: VecDeque::new(),
            next: 0,
            known: false,
            progress: progress.clone(),
        };
        let thread = thread::spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            while !device.is_done() {
                assert!(Instant::now() < deadline, "{name}: not done within {PATIENCE:?}");
                if device.connection(address, deadline).is_err() {
                    thread::sleep(RETRY);
                }
            }
        });
        Publisher { progress, thread }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub(crate) fn finish(self) {
        self.thread.join().unwrap();
    }
}

struct Device {
    name: &'static str,
    total: u64,
    /// Identifier, number, and whether PUBREC has come; oldest first.
    unfinished: VecDeque<(u16, u64, bool)>,
    next: u64,
    known: bool,
    progress: Arc<Progress>,
}

impl Device {
    fn is_done(&self) -> bool {
        self.next == self.total && self.unfinished.is_empty()
    }

    /// One connection, to its end or until all is done.
    fn connection(&mut self, address: SocketAddr, deadline: Instant) -> io::Result<()> {
        let hello = connect(Version::V5, self.name).keep();
        let (mut line, present, mut packets) = Line::open(address, &hello)?;
        assert!(present || !std::mem::replace(&mut self.known, true), "{}: no session", self.name);
        self.known = true;
        let mut out = Vec::new();
        for (id, number, received) in &self.unfinished {
            out.extend(match received {
                true => ack(PUBREL, *id),
                false => self.message(*number).qos(2, *id).dup().bytes(Version::V5),
            });
        }
        self.progress.again.fetch_add(self.unfinished.len() as u64, Ordering::Relaxed);
        while !self.is_done() && Instant::now() < deadline {
            packets.drain(..).for_each(|packet| self.answered(&packet, &mut out));
            self.fill(&mut out);
            line.send(&out)?;
            out.clear();
            packets = line.receive()?;
        }
        Ok(())
    }

    fn message(&self, number: u64) -> tidegate_peer::encode::Publish {
        let message = publish(&topic(self.name, number), &message_id(self.name, number));
        if is_retained(number) { message.retain() } else { message }
    }

    fn fill(&mut self, out: &mut Vec<u8>) {
        while self.unfinished.len() < WINDOW && self.next < self.total {
            let used = |id: &u16| self.unfinished.iter().any(|(used, ..)| used == id);
            let id = (1..).find(|id| !used(id)).unwrap();
            self.unfinished.push_back((id, self.next, false));
            out.extend(self.message(self.next).qos(2, id).bytes(Version::V5));
            self.next += 1;
            self.progress.sent.store(self.next, Ordering::Release);
        }
    }

    fn answered(&mut self, packet: &Packet, out: &mut Vec<u8>) {
        let Packet::Ack { kind, id, code, .. } = packet else { panic!("got {packet:?}") };
        let at = self.unfinished.iter().position(|(of, ..)| of == id);
        let at = at.unwrap_or_else(|| panic!("{packet:?} for nothing"));
        if *kind == PUBREC {
            assert_eq!(*code, 0, "{packet:?}");
            self.unfinished[at].2 = true;
            let waiting = self.unfinished.iter().filter(|(.., received)| !received);
            let first = waiting.map(|(_, number, _)| *number).min().unwrap_or(self.next);
            self.progress.received.store(first, Ordering::Release);
            out.extend(ack(PUBREL, *id));
        } else {
            assert!(self.unfinished[at].2, "{packet:?} before PUBREC");
            self.unfinished.remove(at);
            self.progress.completed.fetch_add(1, Ordering::Release);
        }
    }
}
