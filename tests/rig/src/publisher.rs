//! A QoS 1 publisher as a good device does it: a window of unacknowledged messages, and after a
//! lost connection all of them again, in order, marked as sent before. It records what was
//! acknowledged, which is what the gateway is judged by.
//!
//! Messages are numbered from 0 for each publisher; the payload carries the number as
//! `"id":"NAME-000123"`. With an identity, message `n` also carries `tg-pub-seq` `n + 1`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::link::Link;
use crate::mqtt::{self, Connect, Outbound, Packet, Version};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(50);
/// Longest wait for a packet before the loop looks at its orders again.
const TURN: Duration = Duration::from_millis(20);
/// With a message unacknowledged and nothing heard for this long, the link counts as dead.
const SILENCE: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What a source has for its publisher.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// A message to publish now.
    Message {
        /// Topic name.
        topic: String,
        /// Payload.
        payload: Vec<u8>,
    },
    /// Nothing before this time.
    At(Instant),
    /// Nothing any more.
    End,
}

/// Where a publisher's messages come from.
pub trait Source: Send {
    /// The message with this number, or when to ask again. `now` is the caller's clock.
    fn next(&mut self, number: u64, now: Instant) -> Next;
}

/// A payload as every message of the rig carries it.
pub fn message_id(name: &str, number: u64) -> String {
    format!("{name}-{number:06}")
}

/// The publisher and number of a message id; the opposite of [`message_id`].
pub fn parse_message_id(id: &str) -> Option<(&str, u64)> {
    let (name, number) = id.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}

/// How a publisher behaves.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// The gateway.
    pub address: SocketAddr,
    /// Client id, also the name in the payload ids.
    pub name: String,
    /// Protocol version.
    pub version: Version,
    /// Most messages sent and not yet acknowledged (1 to 1000).
    pub window: usize,
    /// Boot number to send as publisher identity; MQTT 5 only.
    pub identity: Option<u64>,
}

/// Counters of a publisher at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Messages sent at least once.
    pub published: u64,
    /// Of those, acknowledged.
    pub acknowledged: u64,
    /// Of those, refused with a reason; not sent again.
    pub refused: u64,
    /// Messages sent again after a lost connection.
    pub resent: u64,
    /// Connections made.
    pub connections: u64,
}

/// What a publisher did, once it has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name.
    pub name: String,
    /// Final counters.
    pub progress: Progress,
    /// Numbers of the acknowledged messages, in the order of their acknowledgements.
    pub acknowledged: Vec<u64>,
    /// Numbers of the refused messages and the reason codes.
    pub refused: Vec<(u64, u8)>,
    /// Messages still unacknowledged when it was told to give up.
    pub unacknowledged: Vec<u64>,
    /// The last reason why a connection ended or failed.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    give_up: AtomicBool,
    published: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    resent: AtomicU64,
    connections: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Shared {
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn giving_up(&self) -> bool {
        self.give_up.load(Ordering::Relaxed)
    }
}

/// A running publisher, a thread of its own. Dropping it gives up at once.
#[derive(Debug)]
pub struct Publisher {
    name: String,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Report>>,
}

impl Publisher {
    /// Starts to publish what `source` has.
    ///
    /// # Errors
    /// When the options contradict each other.
    pub fn start(options: PublisherOptions, source: Box<dyn Source>) -> Result<Publisher> {
        ensure!((1..=1000).contains(&options.window), "window {} not in 1..=1000", options.window);
        ensure!(
            options.identity.is_none() || options.version == Version::V5,
            "publisher {}: an identity needs MQTT 5",
            options.name
        );
        let shared = Arc::new(Shared::default());
        let name = options.name.clone();
        let worker = Worker {
            options,
            source,
            shared: Arc::clone(&shared),
            waiting: VecDeque::new(),
            number: 0,
            acknowledged: Vec::new(),
            refused: Vec::new(),
            not_before: None,
            ended: false,
        };
        let thread = Some(thread::spawn(move || worker.run()));
        Ok(Publisher { name, shared, thread })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counters so far.
    pub fn progress(&self) -> Progress {
        progress(&self.shared)
    }

    /// Why the last connection ended or failed.
    pub fn last_error(&self) -> Option<String> {
        self.shared.error().clone()
    }

    /// Takes no more messages from the source; what was sent is still brought through.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Whether everything that there was to send has been answered.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until everything is answered, at most until the deadline, and then gives up.
    ///
    /// # Errors
    /// When the publisher's thread panicked.
    pub fn finish(mut self, deadline: Instant) -> Result<Report> {
        while !self.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.give_up.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(report)) => Ok(report),
            _ => bail!("publisher {} panicked", self.name),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.give_up.store(true, Ordering::Relaxed);
    }
}

fn progress(shared: &Shared) -> Progress {
    // Acknowledged first: it must never be seen above published.
    let acknowledged = shared.acknowledged.load(Ordering::Acquire);
    Progress {
        acknowledged,
        published: shared.published.load(Ordering::Acquire),
        refused: shared.refused.load(Ordering::Relaxed),
        resent: shared.resent.load(Ordering::Relaxed),
        connections: shared.connections.load(Ordering::Relaxed),
    }
}

/// A message that waits for its acknowledgement.
#[derive(Debug)]
struct Waiting {
    number: u64,
    topic: String,
    payload: Vec<u8>,
}

impl Waiting {
    /// Packet ids follow the numbers; with at most 1000 in flight no two are equal.
    fn packet_id(&self) -> u16 {
        (self.number % 65_535) as u16 + 1
    }
}

struct Worker {
    options: PublisherOptions,
    source: Box<dyn Source>,
    shared: Arc<Shared>,
    waiting: VecDeque<Waiting>,
    number: u64,
    acknowledged: Vec<u64>,
    refused: Vec<(u64, u8)>,
    not_before: Option<Instant>,
    ended: bool,
}

impl Worker {
    fn run(mut self) -> Report {
        while !self.is_done() {
            if let Err(error) = self.connection() {
                *self.shared.error() = Some(format!("{error:#}"));
                if !self.shared.giving_up() {
                    thread::sleep(RETRY);
                }
            }
        }
        Report {
            name: self.options.name,
            progress: progress(&self.shared),
            acknowledged: self.acknowledged,
            refused: self.refused,
            unacknowledged: self.waiting.iter().map(|waiting| waiting.number).collect(),
            last_error: self.shared.error().clone(),
        }
    }

    fn is_done(&self) -> bool {
        let empty = self.waiting.is_empty();
        self.shared.giving_up() || empty && (self.ended || self.shared.stopping())
    }

    /// One connection from CONNECT to its end; an error is the reason to make another.
    fn connection(&mut self) -> Result<()> {
        let connect = Connect {
            version: self.options.version,
            client: &self.options.name,
            keep_alive: 60,
            clean: false,
        };
        let mut link = Link::open(self.options.address, &connect, CONNECT_TIMEOUT)?;
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let mut bytes = Vec::new();
        for waiting in &self.waiting {
            encode(&mut bytes, &self.options, waiting, true);
        }
        self.shared.resent.fetch_add(self.waiting.len() as u64, Ordering::Relaxed);
        let mut heard = Instant::now();
        let mut sent = heard;
        while !self.is_done() {
            self.fill(&mut bytes);
            let now = Instant::now();
            if now - sent > KEEP_ALIVE && bytes.is_empty() {
                mqtt::encode_ping(&mut bytes);
            }
            if !bytes.is_empty() {
                link.send(&bytes)?;
                bytes.clear();
                sent = now;
            }
            if self.receive(&mut link)? || self.waiting.is_empty() {
                heard = Instant::now();
            }
            ensure!(heard.elapsed() < SILENCE, "no acknowledgement for {SILENCE:?}");
        }
        mqtt::encode_disconnect(&mut bytes);
        link.send(&bytes)
    }

    /// Takes messages from the source until the window is full.
    fn fill(&mut self, bytes: &mut Vec<u8>) {
        let now = Instant::now();
        self.not_before = None;
        while self.waiting.len() < self.options.window && !self.ended && !self.shared.stopping() {
            match self.source.next(self.number, now) {
                Next::Message { topic, payload } => {
                    let waiting = Waiting { number: self.number, topic, payload };
                    encode(bytes, &self.options, &waiting, false);
                    self.waiting.push_back(waiting);
                    self.number += 1;
                    self.shared.published.store(self.number, Ordering::Release);
                }
                Next::At(time) => {
                    self.not_before = Some(time);
                    return;
                }
                Next::End => self.ended = true,
            }
        }
    }

    /// Takes in what has come; waits for it no longer than until the next message is due.
    fn receive(&mut self, link: &mut Link) -> Result<bool> {
        let turn = Instant::now() + TURN;
        let until = self.not_before.map_or(turn, |due| due.min(turn));
        let mut packet = link.receive(until)?;
        let heard = packet.is_some();
        while let Some(received) = packet {
            match received {
                Packet::PubAck { packet_id, reason } => self.answered(packet_id, reason)?,
                Packet::PingResp => {}
                Packet::Disconnect { reason } => {
                    bail!("the gateway ended the connection: reason {reason:#04x}")
                }
                other => bail!("the gateway sent {other:?}"),
            }
            packet = link.buffered()?;
        }
        Ok(heard)
    }

    /// Acknowledgements come in the order of the messages [MQTT-4.6.0-2].
    fn answered(&mut self, packet_id: u16, reason: u8) -> Result<()> {
        let Some(first) = self.waiting.pop_front() else {
            bail!("acknowledgement {packet_id} for nothing")
        };
        ensure!(
            first.packet_id() == packet_id,
            "acknowledgement {packet_id} out of order: {} is the oldest unacknowledged",
            first.packet_id()
        );
        if reason < 0x80 {
            self.acknowledged.push(first.number);
            self.shared.acknowledged.fetch_add(1, Ordering::Release);
        } else {
            self.refused.push((first.number, reason));
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn encode(bytes: &mut Vec<u8>, options: &PublisherOptions, waiting: &Waiting, again: bool) {
    let boot = options.identity.map(|boot| boot.to_string());
    let seq = (waiting.number + 1).to_string();
    let with_identity;
    let user: &[(&str, &str)] = match &boot {
        Some(boot) => {
            with_identity = [("tg-pub-boot", boot.as_str()), ("tg-pub-seq", seq.as_str())];
            &with_identity
        }
        None => &[],
    };
    let message = Outbound {
        topic: &waiting.topic,
        payload: &waiting.payload,
        packet_id: waiting.packet_id(),
        again,
        user,
    };
    mqtt::encode_publish(bytes, options.version, &message);
}
