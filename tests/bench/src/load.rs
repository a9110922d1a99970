//! The load generator: publishers and subscribers on a connection each, all on one thread
//! that must be cheap beside the broker under test.
//!
//! - QoS 1 publishers keep at most `window` messages unacknowledged each.
//! - QoS 0 has no acknowledgement, so a publisher that is not held back only measures how a
//!   broker drops. Publishing therefore pauses while `in_flight` messages are on their way between
//!   publishers and subscriber.
//! - With a pace, messages are sent when they are due, whatever the broker does (an open loop),
//!   and their latency counts from then.
//! - Each message carries publisher and sequence, so losses and duplicates are counted, not
//!   estimated.
//!
//! Deliberately not here: reconnects.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::connection::{Connection, Poller, Room};
use crate::contender::TOPIC_ROOT;
use crate::packet::{self, MessageTag, Packet, Qos};
use crate::random::Random;
use crate::template::{Filling, PublishTemplate};

/// Messages that a QoS 0 publisher hands over in one turn.
const BURST: usize = 20;
/// A QoS 0 publisher with so many unsent bytes skips its turn.
const MAX_UNSENT: usize = 64 * 1024;
/// No progress for so long ends a phase: what is missing by then is lost.
const STALL: Duration = Duration::from_secs(5);
/// The same with a pace: the gateway may wait 10 s for messages to share a sync.
const PACED_STALL: Duration = Duration::from_secs(20);
/// Messages in; acknowledgements out.
const SUBSCRIBER_ROOM: Room = Room { inbox: 256 * 1024, unsent: 16 * 1024 };
/// What never comes to be read.
const STUCK_ROOM: Room = Room { inbox: 4 * 1024, unsent: 4 * 1024 };
/// Longest wait for something to happen.
const TURN: Duration = Duration::from_millis(100);
/// Acknowledgements in; the window bounds what is out.
const PUBLISHER_ROOM: Room = Room { inbox: 8 * 1024, unsent: usize::MAX };

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Quality of service of publishers and subscriber.
    pub(crate) qos: Qos,
    /// Connections that publish.
    pub(crate) publishers: usize,
    /// Most unacknowledged messages of a QoS 1 publisher.
    pub(crate) window: usize,
    /// Most deliveries on their way to the subscribers, of all publishers together.
    pub(crate) in_flight: u64,
    /// Bytes of a payload, at least 12.
    pub(crate) payload_bytes: usize,
    /// What they hold.
    pub(crate) filling: Filling,
    /// Connections that subscribe to everything. Without any, nothing is delivered and `in_flight`
    /// does not apply.
    pub(crate) subscribers: usize,
    /// Connections that subscribe to everything and never read again.
    pub(crate) stuck: usize,
    /// When messages are due; `None`: whenever the windows allow it. With a pace neither the
    /// windows nor `in_flight` apply.
    pub(crate) pace: Option<Pace>,
}

impl Default for Load {
    /// One QoS 1 publisher with a window of 20, 128 B of text, nobody who subscribes.
    fn default() -> Load {
        Load {
            qos: Qos::One,
            publishers: 1,
            window: 20,
            in_flight: 0,
            payload_bytes: 128,
            filling: Filling::Text,
            subscribers: 0,
            stuck: 0,
            pace: None,
        }
    }
}

/// An open loop of all publishers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Messages a second.
    pub(crate) per_second: u32,
    /// How they are spread.
    pub(crate) arrivals: Arrivals,
}

/// How messages are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrivals {
    /// The same time between any two.
    Even,
    /// Independent of each other, as those of many sensors are (a Poisson process).
    Random,
}

impl Pace {
    /// Time to the next message.
    fn gap(self, random: &mut Random) -> Duration {
        let mean = 1.0 / f64::from(self.per_second);
        Duration::from_secs_f64(match self.arrivals {
            Arrivals::Even => mean,
            Arrivals::Random => -random.unit().ln() * mean,
        })
    }
}

/// What came of one phase.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phase {
    /// Messages handed to the broker.
    pub(crate) published: u64,
    /// PUBACKs received.
    pub(crate) acknowledged: u64,
    /// Different messages that reached a subscriber, for each of them.
    pub(crate) delivered: u64,
    /// Messages that never did.
    pub(crate) lost: u64,
    /// Messages that came again or out of order.
    pub(crate) repeated: u64,
    /// From the first publish to the last delivery or acknowledgement.
    pub(crate) elapsed: Duration,
    /// Publish to PUBACK in microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
    /// Processor time of this program.
    pub(crate) generator_cpu: Duration,
}

/// Publishers and subscribers, connected.
#[derive(Debug)]
pub(crate) struct Generator {
    load: Load,
    poller: Poller,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Held open.
    _stuck: Vec<Connection>,
    turn: usize,
    /// When the next message is due, with a pace.
    due: Instant,
    random: Random,
    published: u64,
    acknowledged: u64,
    latencies: Vec<u32>,
}

#[derive(Debug)]
struct Publisher {
    connection: Connection,
    template: PublishTemplate,
    next_seq: u64,
    unacknowledged: VecDeque<(u16, Instant)>,
}

#[derive(Debug)]
struct Subscriber {
    connection: Connection,
    tally: Tally,
}

impl Generator {
    /// Connects everybody; the subscription is granted before this returns.
    pub(crate) fn connect(address: SocketAddr, load: Load) -> Result<Generator> {
        let poller = Poller::new()?;
        let mut publishers = Vec::with_capacity(load.publishers);
        for number in 0..load.publishers {
            let client = format!("bench-pub-{number}");
            let mut connection =
                Connection::open(&poller, number, address, &client, PUBLISHER_ROOM)?;
            connection.stop_blocking()?;
            let topic = format!("{TOPIC_ROOT}/{number}");
            let publisher = u32::try_from(number).context("too many publishers")?;
            let Load { qos, payload_bytes, filling, .. } = load;
            let template = PublishTemplate::new(&topic, qos, publisher, payload_bytes, filling);
            let unacknowledged = VecDeque::with_capacity(load.window);
            publishers.push(Publisher { connection, template, next_seq: 0, unacknowledged });
        }
        let subscribed = |number: usize, client: &str, room| {
            let mut connection = Connection::open(&poller, number, address, client, room)?;
            connection.subscribe(&format!("{TOPIC_ROOT}/#"), load.qos)?;
            connection.stop_blocking()?;
            Ok::<Connection, anyhow::Error>(connection)
        };
        let mut subscribers = Vec::with_capacity(load.subscribers);
        for index in 0..load.subscribers {
            let (number, client) = (load.publishers + index, format!("bench-sub-{index}"));
            let connection = subscribed(number, &client, SUBSCRIBER_ROOM)?;
            subscribers.push(Subscriber { connection, tally: Tally::new(load.publishers) });
        }
        let mut stuck = Vec::with_capacity(load.stuck);
        for index in 0..load.stuck {
            let connection = subscribed(usize::MAX, &format!("bench-stuck-{index}"), STUCK_ROOM)?;
            connection.ignore(&poller)?;
            stuck.push(connection);
        }
        Ok(Generator {
            load,
            poller,
            publishers,
            subscribers,
            _stuck: stuck,
            turn: 0,
            due: Instant::now(),
            random: Random::new(1),
            published: 0,
            acknowledged: 0,
            latencies: Vec::new(),
        })
    }

    /// Publishes `messages` more, or as many as fit into `limit`, and waits until all of them
    /// are acknowledged and delivered, or nothing has moved for five seconds.
    pub(crate) fn drive(&mut self, messages: u64, limit: Duration) -> Result<Phase> {
        let before = self.tally();
        let (published, acknowledged) = (self.published, self.acknowledged);
        self.latencies.clear();
        let cpu = own_cpu();
        let start = Instant::now();
        self.due = start;
        let mut last_progress = start;
        let mut ready = Vec::new();
        loop {
            let publishing = self.published < published + messages && start.elapsed() < limit;
            if publishing {
                let remaining = published + messages - self.published;
                match self.load.pace {
                    None => self.publish(remaining)?,
                    Some(pace) => self.publish_due(pace, remaining)?,
                }
            } else if self.settled() || last_progress.elapsed() > self.stall() {
                break;
            }
            if publishing && last_progress.elapsed() > self.stall() {
                break;
            }
            let turn = match self.load.pace {
                Some(_) if publishing => {
                    TURN.min(self.due.saturating_duration_since(Instant::now()))
                }
                Some(_) | None => TURN,
            };
            self.poller.wait(turn, &mut ready)?;
            let moved = self.acknowledged + self.tally().delivered;
            for &number in &ready {
                self.handle_ready(number)?;
            }
            if self.acknowledged + self.tally().delivered > moved {
                last_progress = Instant::now();
            }
        }
        let after = self.tally();
        let mut latencies = std::mem::take(&mut self.latencies);
        latencies.sort_unstable();
        let published = self.published - published;
        let delivered = after.delivered - before.delivered;
        let lost = (published * self.subscribers.len() as u64).saturating_sub(delivered);
        Ok(Phase {
            published,
            acknowledged: self.acknowledged - acknowledged,
            delivered,
            lost,
            repeated: after.repeated - before.repeated,
            elapsed: last_progress - start,
            latencies,
            generator_cpu: own_cpu().saturating_sub(cpu),
        })
    }

    fn stall(&self) -> Duration {
        if self.load.pace.is_some() { PACED_STALL } else { STALL }
    }

    /// Everything published has been acknowledged and has reached the subscriber, or is known to
    /// be lost because a later one came.
    fn settled(&self) -> bool {
        let acknowledged = match self.load.qos {
            Qos::Zero => true,
            Qos::One => self.acknowledged == self.published,
        };
        acknowledged && self.underway() == 0
    }

    /// Deliveries on their way to the subscribers.
    fn underway(&self) -> u64 {
        let tally = self.tally();
        let due = self.published * self.subscribers.len() as u64;
        due.saturating_sub(tally.delivered + tally.skipped)
    }

    /// Of all subscribers together.
    fn tally(&self) -> Counts {
        let counts = self.subscribers.iter().map(|subscriber| subscriber.tally.counts);
        counts.fold(Counts::default(), |sum, one| Counts {
            delivered: sum.delivered + one.delivered,
            skipped: sum.skipped + one.skipped,
            repeated: sum.repeated + one.repeated,
        })
    }

    /// Fills every window, publisher after publisher, until nothing more may be sent.
    fn publish(&mut self, remaining: u64) -> Result<()> {
        let now = Instant::now();
        let mut room = match self.subscribers.len() as u64 {
            0 => remaining,
            count => {
                remaining.min(self.load.in_flight.saturating_sub(self.underway()).div_ceil(count))
            }
        };
        let mut idle = 0;
        while room > 0 && idle < self.publishers.len() {
            let index = self.turn;
            self.turn = (self.turn + 1) % self.publishers.len();
            let publisher = &mut self.publishers[index];
            let count = publisher.may_send(&self.load).min(usize::try_from(room)?);
            for _ in 0..count {
                publisher.send(self.load.qos, now);
            }
            idle = if count == 0 { idle + 1 } else { 0 };
            room -= count as u64;
            self.published += count as u64;
        }
        self.flush()
    }

    /// Sends what is due by now, publisher after publisher.
    fn publish_due(&mut self, pace: Pace, remaining: u64) -> Result<()> {
        let (now, mut room) = (Instant::now(), remaining);
        while self.due <= now && room > 0 {
            let index = self.turn;
            self.turn = (self.turn + 1) % self.publishers.len();
            self.publishers[index].send(self.load.qos, self.due);
            self.due += pace.gap(&mut self.random);
            self.published += 1;
            room -= 1;
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<()> {
        for publisher in &mut self.publishers {
            if publisher.connection.unsent() > 0 {
                publisher.connection.flush(&self.poller)?;
            }
        }
        Ok(())
    }

    fn handle_ready(&mut self, number: usize) -> Result<()> {
        if let Some(publisher) = self.publishers.get_mut(number) {
            let acknowledged = publisher.receive(&mut self.latencies)?;
            self.acknowledged += acknowledged;
            return publisher.connection.flush(&self.poller);
        }
        let index = number - self.publishers.len();
        let Some(subscriber) = self.subscribers.get_mut(index) else { return Ok(()) };
        subscriber.connection.flush(&self.poller)?;
        if subscriber.connection.is_congested() {
            return Ok(());
        }
        subscriber.receive()?;
        subscriber.connection.flush(&self.poller)
    }
}

impl Publisher {
    fn may_send(&self, load: &Load) -> usize {
        match load.qos {
            Qos::Zero if self.connection.unsent() >= MAX_UNSENT => 0,
            Qos::Zero => BURST,
            Qos::One => load.window.saturating_sub(self.unacknowledged.len()),
        }
    }

    fn send(&mut self, qos: Qos, now: Instant) {
        // 2.3.1: identifiers are not 0; far fewer than 65,535 are in use at a time.
        let id = (self.next_seq % u64::from(u16::MAX)) as u16 + 1;
        self.template.encode(self.connection.outbox(), id, self.next_seq);
        self.next_seq += 1;
        if qos == Qos::One {
            self.unacknowledged.push_back((id, now));
        }
    }

    fn receive(&mut self, latencies: &mut Vec<u32>) -> Result<u64> {
        let unacknowledged = &mut self.unacknowledged;
        let mut acknowledged = 0;
        let mut strange = None;
        let mut now = None;
        self.connection.receive(|packet, _| {
            let now = *now.get_or_insert_with(Instant::now);
            let found = match packet {
                Packet::PubAck { id } => take(unacknowledged, id),
                Packet::ConnAck { .. } | Packet::SubAck { .. } => None,
                Packet::Publish { .. } | Packet::PingResp => None,
            };
            match found {
                Some(sent) => {
                    acknowledged += 1;
                    latencies.push(u32::try_from((now - sent).as_micros()).unwrap_or(u32::MAX));
                }
                None => strange = Some(format!("{packet:?}")),
            }
        })?;
        match strange {
            Some(packet) => anyhow::bail!("a publisher got {packet}, which it did not ask for"),
            None => Ok(acknowledged),
        }
    }
}

/// [MQTT-4.6.0-2] puts acknowledgements in order, so the first is nearly always the one.
fn take(unacknowledged: &mut VecDeque<(u16, Instant)>, id: u16) -> Option<Instant> {
    let at = unacknowledged.iter().position(|(expected, _)| *expected == id)?;
    unacknowledged.remove(at).map(|(_, sent)| sent)
}

impl Subscriber {
    fn receive(&mut self) -> Result<()> {
        let tally = &mut self.tally;
        let mut strange = None;
        self.connection.receive(|packet, outbox| match packet {
            Packet::Publish { id, payload, .. } => {
                if let Some(id) = id {
                    packet::encode_puback(outbox, id);
                }
                if !MessageTag::read(payload).is_some_and(|tag| tally.count(tag)) {
                    strange = Some("a message that nobody published".to_owned());
                }
            }
            Packet::ConnAck { .. } | Packet::SubAck { .. } | Packet::PubAck { .. } => {
                strange = Some(format!("{packet:?}"));
            }
            Packet::PingResp => {}
        })?;
        match strange {
            Some(what) => anyhow::bail!("the subscriber got {what}"),
            None => Ok(()),
        }
    }
}

/// What the subscriber has seen. [MQTT-4.6.0-6] keeps the order of a publisher's messages, so a
/// gap is a loss (or a message out of order, which then counts as repeated when it comes).
#[derive(Debug)]
struct Tally {
    expected: Vec<u64>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    delivered: u64,
    skipped: u64,
    repeated: u64,
}

impl Tally {
    fn new(publishers: usize) -> Tally {
        Tally { expected: vec![0; publishers], counts: Counts::default() }
    }

    /// `false` when there is no such publisher.
    fn count(&mut self, tag: MessageTag) -> bool {
        let Some(expected) = self.expected.get_mut(tag.publisher as usize) else { return false };
        if tag.seq < *expected {
            self.counts.repeated += 1;
            return true;
        }
        self.counts.skipped += tag.seq - *expected;
        self.counts.delivered += 1;
        *expected = tag.seq + 1;
        true
    }
}

/// Processor time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(publisher: u32, seq: u64) -> MessageTag {
        MessageTag { publisher, seq }
    }

    #[test]
    fn gaps_are_losses_and_repetitions_are_not_deliveries() {
        let mut tally = Tally::new(2);
        for seen in [tag(0, 0), tag(0, 1), tag(1, 0), tag(0, 4), tag(0, 4), tag(0, 2), tag(1, 1)] {
            assert!(tally.count(seen));
        }
        assert_eq!(tally.counts, Counts { delivered: 5, skipped: 2, repeated: 2 });
        assert!(!tally.count(tag(2, 0)), "a third publisher was invented");
    }

    #[test]
    fn an_acknowledgement_out_of_order_finds_its_message() {
        let start = Instant::now();
        let later = start + Duration::from_millis(1);
        let mut sent = VecDeque::from([(1, start), (2, later)]);
        assert_eq!(take(&mut sent, 2), Some(later));
        assert_eq!(take(&mut sent, 2), None);
        assert_eq!(take(&mut sent, 1), Some(start));
    }
}
