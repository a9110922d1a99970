//! Messages through the broker, beside mosquitto in the same run: rate, processor time a message,
//! time to the acknowledgement, memory. Ours keeps every message durably, mosquitto keeps none.
//!
//! A fresh process a case and a run; the brokers take turns within a case, so that whatever else
//! the machine does meets both.

mod crowd;
mod idle_tls;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::contender::{Contender, Running};
use crate::leftovers::ScratchDir;
use crate::load::{Generator, Load, Phase};
use crate::medium::Medium;
use crate::packet::Qos;
use crate::procfs;
use crate::quantile::{median, percentile};
use crate::report::{Bar, Row};

const BENCH: &str = "broker";
const PAYLOAD_BYTES: usize = 128;
const WINDOW: usize = 20;
const PUBLISHERS: [usize; 3] = [1, 10, 100];
/// Longest wait for a broker to finish what it put off.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Messages before the measurement.
const WARM_UP: u64 = 2_000;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Messages a case and run, at most.
    pub(crate) messages: u64,
    /// Time a case and run, at most.
    pub(crate) seconds: u64,
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Numbers of publishers.
    pub(crate) publishers: Vec<usize>,
    /// Most messages between publishers and subscriber.
    pub(crate) in_flight: u64,
    /// Time of the overload.
    pub(crate) overload_seconds: u64,
    /// Clients with TLS that are connected and do nothing.
    pub(crate) idle_connections: usize,
    /// What is measured.
    pub(crate) parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Rate, CPU and latency by number of publishers
    Rates,
    /// One publisher, 500 subscribers
    FanOut,
    /// 100 publishers at full speed, a subscriber that never reads beside one that does
    Overload,
    /// 5,000 idle connections with TLS 1.3: memory of each, time and CPU to let them in
    IdleTls,
}

impl Default for Settings {
    /// About eight minutes.
    fn default() -> Settings {
        Settings {
            messages: 200_000,
            seconds: 10,
            runs: 3,
            publishers: PUBLISHERS.to_vec(),
            in_flight: 2_000,
            overload_seconds: 20,
            idle_connections: 5_000,
            parts: vec![Part::Rates, Part::FanOut, Part::Overload, Part::IdleTls],
        }
    }
}

/// Who is compared.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// The one that is judged.
    pub(crate) ours: Contender,
    /// The same with slow syncs, with the time that each takes longer.
    pub(crate) ours_delayed: Option<(Contender, Duration)>,
    /// The one beside it.
    pub(crate) peer: Contender,
}

/// One load on all contenders.
#[derive(Debug)]
struct Case {
    qos: Qos,
    publishers: usize,
    ours: Vec<Sample>,
    delayed: Vec<Sample>,
    theirs: Vec<Sample>,
}

/// One case, one run, one contender.
#[derive(Debug, Clone, Default)]
struct Sample {
    rate: f64,
    cpu_per_100k: Option<f64>,
    ack_min_ms: Option<f64>,
    ack_p50_ms: Option<f64>,
    ack_p99_ms: Option<f64>,
    peak_rss_mb: f64,
    delivered: u64,
    lost: u64,
    unacknowledged: u64,
    repeated: u64,
    generator_cores: f64,
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings, field: &Field) -> Vec<String> {
    let Settings { messages, seconds, runs, in_flight, .. } = settings;
    let peer = field.peer.label();
    vec![
        format!("medians of {runs} runs, brokers in turns, a fresh process each; up to {messages} messages or {seconds} s"),
        format!("{PAYLOAD_BYTES} B payload, one subscriber of the same QoS; QoS 1 publishers keep up to {WINDOW} messages unacknowledged each"),
        "with 10 publishers and QoS 1 the bar on CPU is a quarter of the peer's, otherwise half".to_owned(),
        format!("publishing pauses while {in_flight} messages are between publishers and subscriber, so that no broker has a reason to drop QoS 0"),
        format!("tidegate stores every message durably before it acknowledges; {peer} stores none (Debian's defaults, but max_queued_messages 0, so that it never drops QoS 1)"),
        "CPU is counted until the broker is idle again: mosquitto 2.0.11 reads one packet of a client in turn, so a busy subscriber's acknowledgements, and the memory of what they acknowledge, wait until the load ends".to_owned(),
        "cpu_of_the_syncs_alone: what the kernel takes for 4 KiB written and synced after 20 ms of sleep, once for each 20 messages, measured by a thread that does nothing else; a broker that syncs each group cannot be below it".to_owned(),
        "idle TLS: rss_per_connection is resident memory with all clients idle, less that before the first, by their number; one ECDSA P-256 certificate for all brokers, no session resumed, eight threads connect".to_owned(),
        "the generator is one thread on the same machine; generator_cpu is its share of a core: near 1, it is the limit and not the broker".to_owned(),
    ]
}

/// Measures and compares.
pub(crate) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for part in &settings.parts {
        rows.extend(match part {
            Part::Rates => rates(settings, field, medium)?,
            Part::FanOut => crowd::fan_out(settings, field, medium)?,
            Part::Overload => crowd::overload(settings, field, medium)?,
            Part::IdleTls => idle_tls::run(settings, field, medium)?,
        });
    }
    Ok(rows)
}

fn rates(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut cases: Vec<Case> = [Qos::Zero, Qos::One]
        .into_iter()
        .flat_map(|qos| settings.publishers.iter().map(move |&publishers| (qos, publishers)))
        .map(|(qos, publishers)| Case {
            qos,
            publishers,
            ours: vec![],
            delayed: vec![],
            theirs: vec![],
        })
        .collect();
    for run in 1..=settings.runs {
        for case in &mut cases {
            let measure = |contender: &Contender, label: &str| {
                let sample = measure(contender, case.load(settings), settings, medium)
                    .with_context(|| format!("{label}: {}", case.name()))?;
                let (name, rate) = (case.name(), sample.rate);
                eprintln!("run {run} of {}: {name}: {label}: {rate:.0} msg/s", settings.runs);
                Ok::<Sample, anyhow::Error>(sample)
            };
            let theirs = measure(&field.peer, field.peer.label())?;
            let ours = measure(&field.ours, field.ours.label())?;
            let delayed = match &field.ours_delayed {
                Some((contender, delay)) => {
                    let label = format!("{}{}", contender.label(), suffix(*delay));
                    Some(measure(contender, &label)?)
                }
                None => None,
            };
            case.theirs.push(theirs);
            case.ours.push(ours);
            case.delayed.extend(delayed);
        }
    }
    let mut rows: Vec<Row> = cases.iter().flat_map(|case| case.rows(field)).collect();
    rows.extend(cases.iter().flat_map(|case| case.delayed_rows(field, medium)));
    Ok(rows)
}

fn suffix(delay: Duration) -> String {
    format!(", sync +{} ms", delay.as_millis())
}

impl Case {
    fn name(&self) -> String {
        let plural = if self.publishers == 1 { "" } else { "s" };
        format!("qos{}, {} publisher{plural}", self.qos.level(), self.publishers)
    }

    fn load(&self, settings: &Settings) -> Load {
        Load {
            qos: self.qos,
            publishers: self.publishers,
            window: WINDOW,
            in_flight: settings.in_flight,
            payload_bytes: PAYLOAD_BYTES,
            subscribers: 1,
            ..Load::default()
        }
    }

    fn rows(&self, field: &Field) -> Vec<Row> {
        let rate_bar = (self.publishers >= 10).then_some(Bar::PeerOrMore);
        let strict = self.qos == Qos::One && self.publishers == 10;
        self.compare(&self.name(), &self.ours, field, rate_bar, if strict { 0.25 } else { 0.5 })
    }

    /// The rate has no bar here: a publisher with a window of 20 cannot pass 20 messages a sync.
    fn delayed_rows(&self, field: &Field, medium: &Medium) -> Vec<Row> {
        let Some((_, delay)) = field.ours_delayed else { return vec![] };
        let name = self.name() + &suffix(delay);
        let mut rows = self.compare(&name, &self.delayed, field, None, 0.5);
        if self.qos == Qos::One {
            let fastest = self.delayed.iter().filter_map(|sample| sample.ack_min_ms);
            let fastest = fastest.min_by(f64::total_cmp);
            let bar = Bar::From(delay.as_secs_f64() * 1e3);
            rows.push(Row::new(BENCH, &name, "ack_min", "ms", fastest).with_bar(Some(bar)));
        }
        if self.qos == Qos::One && self.publishers == 1 {
            // A lone publisher fills its window and waits: a group is its window, and all that
            // the kernel takes for a group's write and sync falls on so few messages.
            let groups = 1e5 / WINDOW as f64;
            let floor = Some(medium.paced_sync_cpu.as_secs_f64() * groups);
            rows.push(Row::new(BENCH, &name, "cpu_of_the_syncs_alone", "CPU s", floor));
        }
        rows
    }

    fn compare(
        &self,
        case: &str,
        ours: &[Sample],
        field: &Field,
        rate_bar: Option<Bar>,
        cpu_share: f64,
    ) -> Vec<Row> {
        let peer = field.peer.label();
        let row = |metric, unit, bar, pick: &dyn Fn(&Sample) -> Option<f64>| {
            Row::new(BENCH, case, metric, unit, median(ours.iter().filter_map(pick)))
                .beside(peer, median(self.theirs.iter().filter_map(pick)))
                .with_bar(bar)
        };
        let total = |metric, bar, pick: &dyn Fn(&Sample) -> u64| {
            let sum = |samples: &[Sample]| Some(samples.iter().map(pick).sum::<u64>() as f64);
            Row::new(BENCH, case, metric, "messages, all runs", sum(ours))
                .beside(peer, sum(&self.theirs))
                .with_bar(bar)
        };
        let cpu_bar = Some(Bar::ShareOfPeer(cpu_share));
        let mut rows = vec![
            row("messages_per_second", "msg/s", rate_bar, &|sample| Some(sample.rate)),
            row("cpu_per_100k_messages", "CPU s", cpu_bar, &|sample| sample.cpu_per_100k),
        ];
        if self.qos == Qos::One {
            rows.push(row("ack_p50", "ms", None, &|sample| sample.ack_p50_ms));
            rows.push(row("ack_p99", "ms", None, &|sample| sample.ack_p99_ms));
        }
        rows.push(row("peak_rss", "MB", None, &|sample| Some(sample.peak_rss_mb)));
        rows.push(total("delivered", None, &|sample| sample.delivered));
        // QoS 0 promises nothing; QoS 1 does.
        let none = (self.qos == Qos::One).then_some(Bar::UpTo(0.0));
        rows.push(total("lost", none, &|sample| sample.lost));
        if self.qos == Qos::One {
            rows.push(total("unacknowledged", none, &|sample| sample.unacknowledged));
        }
        rows.push(total("repeated", None, &|sample| sample.repeated));
        let generator =
            row("generator_cpu", "share of a core", None, &|sample| Some(sample.generator_cores));
        rows.push(generator);
        rows
    }
}

fn measure(
    contender: &Contender,
    load: Load,
    settings: &Settings,
    medium: &Medium,
) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let broker = contender.start(scratch.path())?;
    let sample = measure_running(&broker, load, settings)
        .with_context(|| format!("the broker's log ends with:\n{}", broker.log_tail()))?;
    broker.kill()?;
    Ok(sample)
}

fn measure_running(broker: &Running, load: Load, settings: &Settings) -> Result<Sample> {
    let limit = Duration::from_secs(settings.seconds);
    let mut generator = Generator::connect(broker.address, load)?;
    generator.drive(WARM_UP.min(settings.messages), limit)?;
    let before = procfs::cpu_time_when_idle(broker.pid(), IDLE_LIMIT)?;
    let phase = generator.drive(settings.messages, limit)?;
    let after = procfs::cpu_time_when_idle(broker.pid(), IDLE_LIMIT)?;
    let cpu = after.since(&before);
    let peak_rss = procfs::resident(broker.pid())?.peak;
    Ok(Sample::new(load.qos, &phase, cpu, peak_rss))
}

impl Sample {
    fn new(qos: Qos, phase: &Phase, cpu: Duration, peak_rss: u64) -> Sample {
        let seconds = phase.elapsed.as_secs_f64().max(1e-9);
        let ms = |percent| percentile(&phase.latencies, percent).map(|us| f64::from(us) / 1e3);
        let messages = phase.delivered as f64;
        let unacknowledged = match qos {
            Qos::Zero => 0,
            Qos::One => phase.published.saturating_sub(phase.acknowledged),
        };
        Sample {
            rate: messages / seconds,
            cpu_per_100k: (phase.delivered > 0).then(|| cpu.as_secs_f64() * 1e5 / messages),
            ack_min_ms: ms(0.0),
            ack_p50_ms: ms(50.0),
            ack_p99_ms: ms(99.0),
            peak_rss_mb: peak_rss as f64 / 1e6,
            delivered: phase.delivered,
            lost: phase.lost,
            unacknowledged,
            repeated: phase.repeated,
            generator_cores: phase.generator_cpu.as_secs_f64() / seconds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Mosquitto;

    #[test]
    fn figures_are_of_delivered_messages() {
        let phase = Phase {
            published: 60,
            acknowledged: 58,
            delivered: 50,
            lost: 10,
            elapsed: Duration::from_millis(500),
            latencies: vec![1_000, 2_000, 3_000],
            generator_cpu: Duration::from_millis(250),
            ..Phase::default()
        };
        let sample = Sample::new(Qos::One, &phase, Duration::from_micros(100), 9_000_000);
        assert_eq!(sample.rate, 100.0);
        assert_eq!(sample.cpu_per_100k, Some(0.2));
        assert_eq!(
            (sample.ack_min_ms, sample.ack_p50_ms, sample.ack_p99_ms),
            (Some(1.0), Some(2.0), Some(3.0))
        );
        assert_eq!((sample.peak_rss_mb, sample.generator_cores), (9.0, 0.5));
        assert_eq!((sample.lost, sample.unacknowledged), (10, 2));
    }

    #[test]
    fn mosquitto_beside_itself_delivers_every_message() {
        let Ok(mosquitto) = Mosquitto::find(None) else {
            eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto)");
            return;
        };
        let peer = Contender::Mosquitto(mosquitto);
        let medium = Medium {
            dir: std::env::temp_dir(),
            file_system: "any".into(),
            sync_p50: Duration::ZERO,
            sync_p99: Duration::ZERO,
            paced_sync_cpu: Duration::ZERO,
        };
        let settings = Settings {
            messages: 1_000,
            runs: 1,
            publishers: vec![1, 3],
            parts: vec![Part::Rates],
            ..Settings::default()
        };
        let field = Field { ours: peer.clone(), ours_delayed: None, peer };
        let rows = run(&settings, &field, &medium).unwrap();
        let value = |case: &str, metric: &str| {
            let rows: Vec<_> = rows.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
            let found = rows.iter().find(|row| row["case"] == case && row["metric"] == metric);
            found.unwrap_or_else(|| panic!("no {metric} of {case}"))["ours"].as_f64()
        };
        for case in
            ["qos0, 1 publisher", "qos0, 3 publishers", "qos1, 1 publisher", "qos1, 3 publishers"]
        {
            assert_eq!(value(case, "delivered"), Some(1_000.0), "{case}");
            assert_eq!(value(case, "lost"), Some(0.0), "{case}");
            assert_eq!(value(case, "repeated"), Some(0.0), "{case}");
            assert!(value(case, "messages_per_second") > Some(0.0), "{case}");
            assert!(value(case, "cpu_per_100k_messages") > Some(0.0), "{case}");
        }
        assert!(value("qos1, 1 publisher", "ack_p99") > Some(0.0));
    }
}
