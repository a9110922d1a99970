//! Publishers on one side, the upstream's subscriber on the other, on one thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::arrivals::Arrivals;
use super::{IN_FLIGHT, PAYLOAD_BYTES, PUBLISHERS, WINDOW};
use crate::connection::{Connection, Poller, Room};
use crate::contender::TOPIC_ROOT;
use crate::packet::{Packet, Qos};
use crate::template::{Filling, PublishTemplate};

const ROOM: Room = Room { inbox: 256 * 1024, unsent: usize::MAX };
/// No progress for so long ends a phase: what is missing by then is lost.
const STALL: Duration = Duration::from_secs(10);
/// Longest wait for the way to be open, and how often it is tried.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
const OPEN_EVERY: Duration = Duration::from_millis(250);
const TURN: Duration = Duration::from_millis(50);

/// When messages are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Whenever the windows allow it.
    Window,
    /// So many a second, whatever the others do.
    Even(u32),
}

/// What came of one phase.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase {
    /// Different messages that arrived.
    pub(super) arrived: u64,
    /// Messages that did not.
    pub(super) lost: u64,
    /// Messages that came again.
    pub(super) repeated: u64,
    /// From the first publish to the last arrival.
    pub(super) elapsed: Duration,
    /// From when a message was due to its arrival in microseconds, sorted; with a pace only.
    pub(super) latencies: Vec<u32>,
}

/// The generator, connected on both sides.
pub(super) struct Through {
    poller: Poller,
    publishers: Vec<Publisher>,
    subscriber: Connection,
    arrivals: Arrivals,
    /// What arrived since it was last looked at.
    fresh: Vec<(usize, u64)>,
    published: u64,
    turn: usize,
}

struct Publisher {
    connection: Connection,
    template: PublishTemplate,
    /// Number of its next reading.
    next: u64,
    unacknowledged: usize,
}

impl Publisher {
    fn send(&mut self) {
        // 2.3.1: identifiers are not 0; far fewer than 65,535 are in use at a time.
        let id = (self.next % u64::from(u16::MAX)) as u16 + 1;
        self.template.encode(self.connection.outbox(), id, self.next);
        self.next += 1;
        self.unacknowledged += 1;
    }
}

impl Through {
    /// Connects everybody.
    pub(super) fn connect(broker: SocketAddr, upstream: SocketAddr) -> Result<Through> {
        let poller = Poller::new()?;
        let mut publishers = Vec::with_capacity(PUBLISHERS);
        for number in 0..PUBLISHERS {
            let client = format!("bench-pub-{number}");
            let mut connection = Connection::open(&poller, number, broker, &client, ROOM)?;
            connection.stop_blocking()?;
            let topic = format!("{TOPIC_ROOT}/{number}");
            let (qos, filling) = (Qos::One, Filling::Reading);
            let template = PublishTemplate::new(&topic, qos, number as u32, PAYLOAD_BYTES, filling);
            publishers.push(Publisher { connection, template, next: 0, unacknowledged: 0 });
        }
        let mut subscriber = Connection::open(&poller, PUBLISHERS, upstream, "bench-sub", ROOM)?;
        subscriber.subscribe("#", Qos::Zero)?;
        subscriber.stop_blocking()?;
        let arrivals = Arrivals::new(PUBLISHERS);
        let (fresh, published, turn) = (Vec::new(), 0, 0);
        Ok(Through { poller, publishers, subscriber, arrivals, fresh, published, turn })
    }

    /// Publishes a reading now and then until one of them arrives, then waits for the rest: from
    /// here on nothing is lost because somebody is not there yet.
    pub(super) fn wait_until_open(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.arrivals.unique == 0 {
            ensure!(start.elapsed() < OPEN_LIMIT, "nothing arrives within {OPEN_LIMIT:?}");
            self.publishers[0].send();
            self.flush()?;
            let tried = Instant::now();
            while tried.elapsed() < OPEN_EVERY && self.arrivals.unique == 0 {
                self.wait(TURN)?;
            }
        }
        let mut last = Instant::now();
        while last.elapsed() < OPEN_EVERY * 2 {
            let before = self.arrivals.unique;
            self.wait(TURN)?;
            if self.arrivals.unique > before {
                last = Instant::now();
            }
        }
        self.published = self.arrivals.unique;
        Ok(())
    }

    /// Publishes so many messages, or as many as fit into `limit`, and waits until all have
    /// arrived, or nothing has moved for ten seconds.
    pub(super) fn drive(&mut self, messages: u64, limit: Duration, pace: Pace) -> Result<Phase> {
        let (published, arrived) = (self.published, self.arrivals.unique);
        let repeated = self.arrivals.repeated;
        let start = Instant::now();
        let due = |number: u64| match pace {
            Pace::Window => start,
            Pace::Even(rate) => start + Duration::from_secs_f64(number as f64 / f64::from(rate)),
        };
        // The numbers that the publishers begin with: a message's place in the phase.
        let begin: Vec<u64> = self.publishers.iter().map(|publisher| publisher.next).collect();
        self.turn = 0;
        let (mut latencies, mut progress) = (Vec::new(), start);
        loop {
            let sent = self.published - published;
            let publishing = sent < messages && start.elapsed() < limit;
            if publishing {
                match pace {
                    Pace::Window => self.fill_windows(messages - sent),
                    Pace::Even(_) => {
                        while self.published - published < messages
                            && due(self.published - published) <= Instant::now()
                        {
                            self.send_next();
                        }
                    }
                }
                self.flush()?;
            } else if self.arrivals.unique == self.published {
                break;
            }
            if progress.elapsed() > STALL {
                break;
            }
            let wait = match pace {
                Pace::Even(_) if publishing => {
                    due(self.published - published).saturating_duration_since(Instant::now())
                }
                Pace::Even(_) | Pace::Window => TURN,
            };
            self.wait(wait.min(TURN))?;
            for (publisher, number) in std::mem::take(&mut self.fresh) {
                progress = Instant::now();
                let Some(place) = number.checked_sub(begin[publisher]) else { continue };
                if pace != Pace::Window {
                    let number = place * PUBLISHERS as u64 + publisher as u64;
                    let took = progress.saturating_duration_since(due(number));
                    latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                }
            }
        }
        latencies.sort_unstable();
        let lost = self.published - self.arrivals.unique;
        // What was lost here must not count again.
        self.published = self.arrivals.unique;
        Ok(Phase {
            arrived: self.arrivals.unique - arrived,
            lost,
            repeated: self.arrivals.repeated - repeated,
            elapsed: progress - start,
            latencies,
        })
    }

    fn fill_windows(&mut self, remaining: u64) {
        let underway = self.published - self.arrivals.unique;
        let mut room = remaining.min(IN_FLIGHT.saturating_sub(underway));
        let mut idle = 0;
        while room > 0 && idle < self.publishers.len() {
            if self.publishers[self.turn].unacknowledged < WINDOW {
                self.send_next();
                (room, idle) = (room - 1, 0);
            } else {
                self.turn = (self.turn + 1) % self.publishers.len();
                idle += 1;
            }
        }
    }

    fn send_next(&mut self) {
        self.publishers[self.turn].send();
        self.turn = (self.turn + 1) % self.publishers.len();
        self.published += 1;
    }

    fn flush(&mut self) -> Result<()> {
        for publisher in &mut self.publishers {
            if publisher.connection.unsent() > 0 {
                publisher.connection.flush(&self.poller)?;
            }
        }
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        let mut ready = Vec::new();
        self.poller.wait(limit, &mut ready)?;
        for number in ready {
            if let Some(publisher) = self.publishers.get_mut(number) {
                let mut acknowledged = 0;
                publisher.connection.receive(|packet, _| {
                    acknowledged += usize::from(matches!(packet, Packet::PubAck { .. }));
                })?;
                publisher.unacknowledged = publisher.unacknowledged.saturating_sub(acknowledged);
                publisher.connection.flush(&self.poller)?;
                continue;
            }
            let (arrivals, fresh) = (&mut self.arrivals, &mut self.fresh);
            self.subscriber.receive(|packet, _| {
                if let Packet::Publish { payload, .. } = packet {
                    fresh.extend(arrivals.note(payload));
                }
            })?;
        }
        Ok(())
    }
}
