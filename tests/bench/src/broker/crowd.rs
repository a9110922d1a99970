//! Many on one side: one publisher and hundreds of subscribers; a hundred publishers at full speed
//! with a subscriber that never reads beside one that does.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{BENCH, Field, IDLE_LIMIT, PAYLOAD_BYTES, Settings, WINDOW};
use crate::contender::Contender;
use crate::leftovers::ScratchDir;
use crate::load::{Generator, Load, Phase};
use crate::medium::Medium;
use crate::packet::Qos;
use crate::procfs;
use crate::quantile::median;
use crate::report::{Bar, Row};

const SUBSCRIBERS: usize = 500;
/// Deliveries that may be under way to them.
const IN_FLIGHT: u64 = 20_000;
const WARM_UP: u64 = 20;
/// Deliveries a CPU second, as a multiple of the peer's.
const FAN_OUT_TIMES: f64 = 2.0;
const OVERLOAD_PUBLISHERS: usize = 100;
const MAX_OVERLOAD_MB: f64 = 24.0;

/// One contender in one run.
#[derive(Debug, Clone)]
struct Sample {
    phase: Phase,
    cpu: Duration,
    peak_rss: u64,
    /// Messages that a gateway says it dropped for somebody.
    dropped: Option<f64>,
}

#[derive(Debug, Default)]
struct Samples {
    ours: Vec<Sample>,
    theirs: Vec<Sample>,
}

/// A row's figure and its bar.
type Metric<'a> = (&'static str, &'static str, Option<Bar>, &'a dyn Fn(&Sample) -> Option<f64>);

/// One publisher, all subscribers.
pub(crate) fn fan_out(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for qos in [Qos::Zero, Qos::One] {
        let name = format!("qos{}, 1 publisher, {SUBSCRIBERS} subscribers", qos.level());
        let load = Load {
            qos,
            publishers: 1,
            window: WINDOW,
            in_flight: IN_FLIGHT,
            payload_bytes: PAYLOAD_BYTES,
            subscribers: SUBSCRIBERS,
            ..Load::default()
        };
        let messages = settings.messages / 100;
        let limit = Duration::from_secs(settings.seconds);
        let samples = measure(&name, load, (WARM_UP, messages, limit), settings, field, medium)?;
        let none = (qos == Qos::One).then_some(Bar::UpTo(0.0));
        rows.extend(samples.rows(
            &name,
            field,
            &[
                ("deliveries_per_second", "msg/s", None, &|s| Some(s.rate())),
                (
                    "deliveries_per_cpu_second",
                    "msg/CPU s",
                    Some(Bar::TimesPeer(FAN_OUT_TIMES)),
                    &|s| Some(s.phase.delivered as f64 / s.cpu.as_secs_f64()),
                ),
                ("peak_rss", "MB", None, &|s| Some(s.peak_rss as f64 / 1e6)),
                ("lost", "messages", none, &|s| Some(s.phase.lost as f64)),
            ],
        ));
    }
    Ok(rows)
}

/// All publishers as fast as they are acknowledged; one subscriber reads, one does not.
pub(crate) fn overload(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let name = format!("overload: qos1, {OVERLOAD_PUBLISHERS} publishers, a stuck subscriber");
    let load = Load {
        qos: Qos::One,
        publishers: OVERLOAD_PUBLISHERS,
        window: WINDOW,
        in_flight: u64::MAX,
        payload_bytes: PAYLOAD_BYTES,
        subscribers: 1,
        stuck: 1,
        ..Load::default()
    };
    let limit = Duration::from_secs(settings.overload_seconds);
    let samples = measure(&name, load, (0, u64::from(u32::MAX), limit), settings, field, medium)?;
    let none = Some(Bar::UpTo(0.0));
    let rss = Some(Bar::UpTo(MAX_OVERLOAD_MB));
    Ok(samples.rows(
        &name,
        field,
        &[
            ("messages_per_second", "msg/s", None, &|s| Some(s.rate())),
            ("peak_rss", "MB", rss, &|s| Some(s.peak_rss as f64 / 1e6)),
            ("lost_by_the_one_that_reads", "messages", none, &|s| Some(s.phase.lost as f64)),
            ("unacknowledged", "messages", none, &|s| {
                Some(s.phase.published.saturating_sub(s.phase.acknowledged) as f64)
            }),
            ("dropped_for_the_stuck_one", "messages", None, &|s| s.dropped),
        ],
    ))
}

/// Both contenders in turns; `drive`: messages before the measurement, messages, longest time.
fn measure(
    name: &str,
    load: Load,
    drive: (u64, u64, Duration),
    settings: &Settings,
    field: &Field,
    medium: &Medium,
) -> Result<Samples> {
    let mut samples = Samples::default();
    for run in 1..=settings.runs {
        for (contender, into) in
            [(&field.peer, &mut samples.theirs), (&field.ours, &mut samples.ours)]
        {
            let label = contender.label();
            let sample = measure_one(contender, load, drive, medium)
                .with_context(|| format!("{label}: {name}"))?;
            let rate = sample.rate();
            eprintln!("run {run} of {}: {name}: {label}: {rate:.0} msg/s", settings.runs);
            into.push(sample);
        }
    }
    Ok(samples)
}

fn measure_one(
    contender: &Contender,
    load: Load,
    (warm_up, messages, limit): (u64, u64, Duration),
    medium: &Medium,
) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let broker = contender.start(scratch.path())?;
    let pid = broker.pid();
    let measured = || {
        let mut generator = Generator::connect(broker.address, load)?;
        generator.drive(warm_up, limit)?;
        let before = procfs::cpu_time_when_idle(pid, IDLE_LIMIT)?;
        let phase = generator.drive(messages, limit)?;
        let cpu = procfs::cpu_time_when_idle(pid, IDLE_LIMIT)?.since(&before);
        let dropped = match contender {
            Contender::Tidegate(_) => broker.status()?.pointer("/broker/dropped").cloned(),
            Contender::Mosquitto(_) => None,
        };
        let (dropped, peak_rss) = (dropped.and_then(|n| n.as_f64()), procfs::resident(pid)?.peak);
        Ok::<Sample, anyhow::Error>(Sample { phase, cpu, peak_rss, dropped })
    };
    let sample = measured()
        .with_context(|| format!("the broker's log ends with:\n{}", broker.log_tail()))?;
    broker.kill()?;
    Ok(sample)
}

impl Sample {
    fn rate(&self) -> f64 {
        self.phase.delivered as f64 / self.phase.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Samples {
    fn rows(&self, case: &str, field: &Field, metrics: &[Metric<'_>]) -> Vec<Row> {
        let row = |(metric, unit, bar, pick): &Metric<'_>| {
            Row::new(BENCH, case, metric, unit, median(self.ours.iter().filter_map(pick)))
                .beside(field.peer.label(), median(self.theirs.iter().filter_map(pick)))
                .with_bar(*bar)
        };
        metrics.iter().map(row).collect()
    }
}
