//! The data team's end: subscribes to `tidegate/#` at the upstream broker, applies the
//! documented dedupe by (gateway, epoch, stream, sequence) from the MQTT 5 user properties, and
//! remembers which payload ids came, in which order. It holds its own state, so a test may kill
//! anything else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::link::Link;
use crate::mqtt::{self, Connect, Inbound, Packet, Version};
use crate::publisher::parse_message_id;
use crate::seen::SeqSet;

const FILTER: &str = "tidegate/#";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(50);
/// Oddities that are kept word for word; more are only counted.
const MAX_ODDITIES: usize = 20;

/// Identity of a record, as the gateway sends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// `tg-gw`.
    pub gateway: String,
    /// `tg-epoch`.
    pub epoch: u32,
    /// `tg-stream`.
    pub stream: String,
    /// `tg-seq`.
    pub seq: u64,
}

impl Identity {
    /// Reads the identity from user properties.
    ///
    /// # Errors
    /// Names the property that is missing or malformed.
    pub fn parse(user: &[(String, String)]) -> Result<Identity> {
        let find = |name: &str| {
            let mut values = user.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
            let value = values.next().with_context(|| format!("user property {name} missing"))?;
            ensure!(values.next().is_none(), "user property {name} twice");
            Ok(value)
        };
        let epoch = find("tg-epoch")?;
        let seq = find("tg-seq")?;
        Ok(Identity {
            gateway: find("tg-gw")?.clone(),
            epoch: epoch.parse().with_context(|| format!("tg-epoch {epoch:?}"))?,
            stream: find("tg-stream")?.clone(),
            seq: seq.parse().with_context(|| format!("tg-seq {seq:?}"))?,
        })
    }
}

/// A message after the dedupe.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// Its identity.
    pub identity: Identity,
    /// All user properties.
    pub user: Vec<(String, String)>,
    /// Upstream topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// A record of one sensor in one stream, after the dedupe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrived {
    /// Epoch of the record.
    pub epoch: u32,
    /// Its number in the stream.
    pub seq: u64,
    /// The number that the payload's id carries.
    pub number: u64,
}

/// The payload ids of one sensor in one stream, after the dedupe.
#[derive(Debug, Default, Clone)]
pub struct Ids {
    /// The numbers that came.
    pub numbers: SeqSet,
    /// Records whose number had come before.
    pub repeated: u64,
}

/// Everything that came. Its memory does not grow with the number of messages, unless the
/// consumer keeps them.
#[derive(Debug, Default, Clone)]
pub struct Arrivals {
    /// Messages received, repetitions included; each has one record, unless many are unpacked.
    pub received: u64,
    /// Records after the dedupe.
    pub unique: u64,
    /// Records that the dedupe discarded.
    pub discarded: u64,
    /// Payload ids by stream and sensor name.
    pub ids: BTreeMap<String, BTreeMap<String, Ids>>,
    /// Messages whose payload carries no id of the rig.
    pub foreign: u64,
    /// Messages without identity, lost connections and the like, in words.
    pub oddities: Vec<String>,
    /// Which sequence numbers came.
    pub seen: BTreeMap<(String, u32, String), SeqSet>,
    /// Whole messages after the dedupe, when the consumer was told to keep them.
    pub kept: Vec<Arrival>,
    /// Kept messages that came again under the same identity with another payload: the dedupe
    /// would have lost a record.
    pub conflicts: Vec<Identity>,
    index: BTreeMap<Identity, usize>,
    keep: bool,
}

impl Arrivals {
    /// How many distinct payload ids of a stream came.
    pub fn distinct(&self, stream: &str) -> u64 {
        self.ids.get(stream).into_iter().flatten().map(|(_, ids)| ids.numbers.count()).sum()
    }

    /// How many records of a stream carried a payload id that had come before, after the dedupe.
    pub fn repeated(&self, stream: &str) -> u64 {
        self.ids.get(stream).into_iter().flatten().map(|(_, ids)| ids.repeated).sum()
    }

    /// The payload numbers of one sensor in a stream.
    pub fn numbers(&self, stream: &str, name: &str) -> SeqSet {
        let ids = self.ids.get(stream).and_then(|names| names.get(name));
        ids.map(|ids| ids.numbers.clone()).unwrap_or_default()
    }

    /// The kept records of one sensor in a stream, in the order of their arrival.
    pub fn records(&self, stream: &str, name: &str) -> Vec<Arrived> {
        let of_stream = self.kept.iter().filter(|arrival| arrival.identity.stream == stream);
        let records = of_stream.filter_map(|arrival| {
            let (of, number) = payload_id(&arrival.payload)?;
            let Identity { epoch, seq, .. } = arrival.identity;
            (of == name).then_some(Arrived { epoch, seq, number })
        });
        records.collect()
    }

    fn take(&mut self, message: Inbound) {
        let identity = match Identity::parse(&message.user) {
            Ok(identity) => identity,
            Err(error) => return self.odd(format!("on {}: {error:#}", message.topic)),
        };
        let key = (identity.gateway.clone(), identity.epoch, identity.stream.clone());
        if !self.seen.entry(key).or_default().insert(identity.seq) {
            self.discarded += 1;
            self.compare(identity, &message.payload);
            return;
        }
        self.unique += 1;
        match payload_id(&message.payload) {
            Some((name, number)) => {
                let of_stream = self.ids.entry(identity.stream.clone()).or_default();
                let ids = of_stream.entry(name).or_default();
                if !ids.numbers.insert(number) {
                    ids.repeated += 1;
                }
            }
            None => self.foreign += 1,
        }
        if self.keep {
            let Inbound { topic, payload, user, .. } = message;
            self.index.insert(identity.clone(), self.kept.len());
            self.kept.push(Arrival { identity, user, topic, payload });
        }
    }

    /// A repetition must be one.
    fn compare(&mut self, identity: Identity, payload: &[u8]) {
        let Some(first) = self.index.get(&identity) else { return };
        if self.kept[*first].payload != payload {
            self.conflicts.push(identity);
        }
    }

    fn odd(&mut self, what: String) {
        if self.oddities.len() < MAX_ODDITIES {
            self.oddities.push(what);
        }
    }
}

/// Sensor name and number in a payload `{"id":"NAME-000123",..}`.
pub fn payload_id(payload: &[u8]) -> Option<(String, u64)> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    let (name, number) = parse_message_id(value.get("id")?.as_str()?)?;
    Some((name.to_owned(), number))
}

/// Takes a message apart: a message for each of its records, the envelope as user properties.
pub type Unpack = Box<dyn FnMut(Inbound) -> Result<Vec<Inbound>> + Send>;

/// How a consumer reads.
struct Reading {
    address: SocketAddr,
    version: Version,
    each: Box<dyn FnMut(&Inbound) + Send>,
    unpack: Unpack,
}

impl Reading {
    fn new(address: SocketAddr) -> Reading {
        let unpack = Box::new(|message| Ok(vec![message]));
        Reading { address, version: Version::V5, each: Box::new(|_| {}), unpack }
    }

    fn take(&mut self, message: Inbound, arrivals: &Mutex<Arrivals>) {
        (self.each)(&message);
        let topic = message.topic.clone();
        let records = (self.unpack)(message);
        let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.received += 1;
        match records {
            Ok(records) => records.into_iter().for_each(|record| arrivals.take(record)),
            Err(error) => arrivals.odd(format!("on {topic}: {error:#}")),
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    arrivals: Mutex<Arrivals>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running consumer, a thread of its own.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Consumer {
    /// Subscribes at a broker; returns once the subscription stands.
    ///
    /// # Errors
    /// When the broker cannot be reached or refuses.
    pub fn start(address: SocketAddr) -> Result<Consumer> {
        Self::launch(Reading::new(address), false)
    }

    /// Like [`Consumer::start`], and keeps every message after the dedupe.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    pub fn start_keeping(address: SocketAddr) -> Result<Consumer> {
        Self::launch(Reading::new(address), true)
    }

    /// Like [`Consumer::start_keeping`], in this version of MQTT, for messages that hold many
    /// records.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    pub fn start_unpacking(
        address: SocketAddr,
        version: Version,
        unpack: Unpack,
    ) -> Result<Consumer> {
        Self::launch(Reading { version, unpack, ..Reading::new(address) }, true)
    }

    /// Like [`Consumer::start`], and calls `each` with every message before the dedupe.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    pub fn start_with(
        address: SocketAddr,
        each: impl FnMut(&Inbound) + Send + 'static,
    ) -> Result<Consumer> {
        Self::launch(Reading { each: Box::new(each), ..Reading::new(address) }, false)
    }

    fn launch(mut reading: Reading, keep: bool) -> Result<Consumer> {
        let shared = Arc::new(Shared::default());
        shared.lock().keep = keep;
        let mut link = subscribe(&shared, &mut reading)?;
        let working = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while let Err(error) = consume(&mut link, &working, &mut reading) {
                let address = reading.address;
                working.lock().odd(format!("subscription at {address} ended: {error:#}"));
                while !working.stop.load(Ordering::Relaxed) {
                    match subscribe(&working, &mut reading) {
                        Ok(new) => {
                            link = new;
                            break;
                        }
                        Err(_) => thread::sleep(TURN),
                    }
                }
            }
        });
        Ok(Consumer { shared, thread: Some(thread) })
    }

    /// What came so far. The guard blocks the consumer: keep it short.
    pub fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.shared.lock()
    }

    /// Waits until `condition` holds; `false` when it does not at the deadline.
    pub fn wait_until(
        &self,
        deadline: Instant,
        mut condition: impl FnMut(&Arrivals) -> bool,
    ) -> bool {
        let mut arrivals = self.shared.lock();
        loop {
            if condition(&arrivals) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(arrivals, left);
            arrivals = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has printed its message already.
            let _ = thread.join();
        }
    }
}

fn subscribe(shared: &Shared, reading: &mut Reading) -> Result<Link> {
    let Reading { address, version, .. } = *reading;
    let connect = Connect {
        version,
        client: "rig-consumer",
        keep_alive: KEEP_ALIVE.as_secs() as u16 * 2,
        clean: false,
    };
    let mut link = Link::open(address, &connect, CONNECT_TIMEOUT)?;
    let mut bytes = Vec::new();
    mqtt::encode_subscribe(&mut bytes, version, FILTER);
    link.send(&bytes)?;
    loop {
        match link.receive(Instant::now() + CONNECT_TIMEOUT)? {
            Some(Packet::SubAck { codes }) if codes == [1] => return Ok(link),
            // What the broker has kept for the session comes before its answer.
            Some(Packet::Publish(message)) => {
                let mut acknowledgement = Vec::new();
                if let Some(packet_id) = message.packet_id {
                    mqtt::encode_puback(&mut acknowledgement, packet_id);
                }
                reading.take(message, &shared.arrivals);
                link.send(&acknowledgement)?;
            }
            other => bail!("{address} answered the subscription to {FILTER} with {other:?}"),
        }
    }
}

/// Takes in one batch and acknowledges it.
fn consume(link: &mut Link, shared: &Shared, reading: &mut Reading) -> Result<()> {
    let mut acknowledgements = Vec::new();
    let mut pinged = Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        let mut packet = link.receive(Instant::now() + TURN)?;
        while let Some(received) = packet {
            match received {
                Packet::Publish(message) => {
                    if let Some(packet_id) = message.packet_id {
                        mqtt::encode_puback(&mut acknowledgements, packet_id);
                    }
                    reading.take(message, &shared.arrivals);
                }
                Packet::PingResp => {}
                other => bail!("the broker sent {other:?}"),
            }
            packet = link.buffered()?;
        }
        shared.changed.notify_all();
        if pinged.elapsed() > KEEP_ALIVE {
            mqtt::encode_ping(&mut acknowledgements);
            pinged = Instant::now();
        }
        if !acknowledgements.is_empty() {
            link.send(&acknowledgements)?;
            acknowledgements.clear();
        }
    }
    Ok(())
}
