//! From publish to the upstream's subscriber, at an even rate whatever the brokers do.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::upstream::{Broker, Kind};
use super::{BENCH, Field, PAYLOAD_BYTES, PUBLISHERS, Settings};
use crate::connection::{Connection, Poller, Room};
use crate::contender::{Contender, Gateway, Mosquitto, Running, TOPIC_ROOT};
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::packet::{MessageTag, Packet, Qos};
use crate::quantile::{median, percentile};
use crate::report::{Bar, Row};
use crate::template::{Filling, PublishTemplate};

/// Messages a second.
const RATES: [u32; 2] = [1_000, 10_000];
/// Milliseconds to the subscriber that 99 of 100 records may take.
const P99_MS: f64 = 100.0;
const ROOM: Room = Room { inbox: 256 * 1024, unsent: usize::MAX };
/// After so long without a message the rest does not come.
const STALL: Duration = Duration::from_secs(10);
/// Messages at the beginning that do not count: the link comes up.
const WARM_UP: u64 = 1_000;

/// Times of one run in microseconds, sorted.
type Sample = Vec<u32>;

pub(super) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for rate in RATES {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 1..=settings.runs {
            ours.push(through_gateway(rate, settings, field, medium).context("the gateway")?);
            theirs.push(through_bridge(rate, settings, field, medium).context("the bridge")?);
            let p99 = |samples: &[Sample]| samples.last().and_then(|sample| at(sample, 99.0));
            let (a, b) = (p99(&ours), p99(&theirs));
            eprintln!("run {run} of {}: {rate} msg/s: p99 {a:?} ms, bridge {b:?}", settings.runs);
        }
        rows.extend(compare(rate, field, &ours, &theirs));
    }
    Ok(rows)
}

fn at(sample: &Sample, percent: f64) -> Option<f64> {
    percentile(sample, percent).map(|us| f64::from(us) / 1e3)
}

fn compare(rate: u32, field: &Field, ours: &[Sample], theirs: &[Sample]) -> Vec<Row> {
    let case = format!("publish to sink, {rate} msg/s");
    let peer = format!("{} bridge", field.mosquitto.version);
    let row = |metric, percent, bar| {
        let of = |samples: &[Sample]| median(samples.iter().filter_map(|one| at(one, percent)));
        Row::new(BENCH, &case, metric, "ms", of(ours)).beside(&peer, of(theirs)).with_bar(bar)
    };
    vec![
        row("latency_p50", 50.0, None),
        row("latency_p99", 99.0, Some(Bar::UpTo(P99_MS))),
        row("latency_max", 100.0, None),
    ]
}

fn through_gateway(
    rate: u32,
    settings: &Settings,
    field: &Field,
    medium: &Medium,
) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let mut upstream = Broker::down(medium)?;
    upstream.start(field)?;
    let uplink = Some(format!("mqtt://{}", upstream.address));
    let keys = Kind::Mosquitto.keys();
    let gateway = Gateway { uplink, uplink_keys: keys, ..field.gateway.clone() };
    let gateway = Contender::Tidegate(gateway).start(scratch.path())?;
    let sample = measure(rate, settings, &gateway, upstream.address, "tidegate/#");
    let sample = sample.with_context(|| format!("its log ends with:\n{}", gateway.log_tail()))?;
    gateway.kill()?;
    Ok(sample)
}

fn through_bridge(
    rate: u32,
    settings: &Settings,
    field: &Field,
    medium: &Medium,
) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let mut upstream = Broker::down(medium)?;
    upstream.start(field)?;
    let bridge = Mosquitto { bridge: Some(upstream.address), ..field.mosquitto.clone() };
    let broker = Contender::Mosquitto(bridge).start(scratch.path())?;
    let filter = format!("{TOPIC_ROOT}/#");
    let sample = measure(rate, settings, &broker, upstream.address, &filter)?;
    broker.kill()?;
    Ok(sample)
}

/// Publishers and the subscriber, on one thread.
struct Open {
    poller: Poller,
    publishers: Vec<(Connection, PublishTemplate)>,
    subscriber: Connection,
    rate: f64,
    start: Instant,
    sent: u64,
    arrived: u64,
    times: Vec<u32>,
}

fn measure(
    rate: u32,
    settings: &Settings,
    broker: &Running,
    upstream: SocketAddr,
    filter: &str,
) -> Result<Sample> {
    let mut open = Open::connect(rate, broker.address, upstream, filter)?;
    let messages = WARM_UP + u64::from(rate) * settings.seconds;
    open.run(messages)?;
    let mut times = open.times;
    times.sort_unstable();
    Ok(times)
}

impl Open {
    fn connect(rate: u32, broker: SocketAddr, upstream: SocketAddr, filter: &str) -> Result<Open> {
        let poller = Poller::new()?;
        let mut publishers = Vec::with_capacity(PUBLISHERS);
        for number in 0..PUBLISHERS {
            let client = format!("bench-pub-{number}");
            let mut connection = Connection::open(&poller, number, broker, &client, ROOM)?;
            connection.stop_blocking()?;
            let topic = format!("{TOPIC_ROOT}/{number}");
            let (qos, filling) = (Qos::One, Filling::Text);
            let template = PublishTemplate::new(&topic, qos, number as u32, PAYLOAD_BYTES, filling);
            publishers.push((connection, template));
        }
        let mut subscriber = Connection::open(&poller, PUBLISHERS, upstream, "bench-sub", ROOM)?;
        subscriber.subscribe(filter, Qos::Zero)?;
        subscriber.stop_blocking()?;
        Ok(Open {
            poller,
            publishers,
            subscriber,
            rate: f64::from(rate),
            start: Instant::now(),
            sent: 0,
            arrived: 0,
            times: Vec::new(),
        })
    }

    /// When the message with this number is due: publishers take turns.
    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }

    fn run(&mut self, messages: u64) -> Result<()> {
        let mut ready = Vec::new();
        let mut moved = Instant::now();
        while self.arrived < messages {
            let missing = messages - self.arrived;
            ensure!(moved.elapsed() < STALL, "{missing} of {messages} did not arrive");
            self.send_due(messages)?;
            let wait = match self.sent < messages {
                true => self.due(self.sent).saturating_duration_since(Instant::now()),
                false => Duration::from_millis(50),
            };
            self.poller.wait(wait, &mut ready)?;
            let before = self.arrived;
            for &number in &ready {
                self.handle_ready(number)?;
            }
            if self.arrived > before {
                moved = Instant::now();
            }
        }
        Ok(())
    }

    fn send_due(&mut self, messages: u64) -> Result<()> {
        let now = Instant::now();
        while self.sent < messages && self.due(self.sent) <= now {
            let turn = self.publishers.len() as u64;
            let (seq, at) = (self.sent / turn, (self.sent % turn) as usize);
            let (connection, template) = &mut self.publishers[at];
            let id = (seq % u64::from(u16::MAX)) as u16 + 1;
            template.encode(connection.outbox(), id, seq);
            self.sent += 1;
        }
        for (connection, _) in &mut self.publishers {
            if connection.unsent() > 0 {
                connection.flush(&self.poller)?;
            }
        }
        Ok(())
    }

    fn handle_ready(&mut self, number: usize) -> Result<()> {
        if let Some((connection, _)) = self.publishers.get_mut(number) {
            // Acknowledgements: an open loop does not wait for them.
            connection.receive(|_, _| {})?;
            return connection.flush(&self.poller);
        }
        let (now, turn) = (Instant::now(), self.publishers.len() as u64);
        let mut numbers = Vec::new();
        self.subscriber.receive(|packet, _| {
            if let Packet::Publish { payload, .. } = packet {
                numbers.extend(
                    MessageTag::read(payload).map(|tag| tag.seq * turn + u64::from(tag.publisher)),
                );
            }
        })?;
        for number in numbers {
            self.arrived += 1;
            if number >= WARM_UP {
                let took = now.saturating_duration_since(self.due(number));
                self.times.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
        }
        Ok(())
    }
}
