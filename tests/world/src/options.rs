//! What kind of world: everything that is decided before it begins.

use std::time::Duration;

use tidegate_uplink::UplinkOptions;

use crate::function::StateSize;
use crate::mqtt::Version;
use crate::planted::Planted;
use crate::random::Random;
use crate::sink::SinkKind;

/// The options of a world.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// The devices.
    pub sensors: Vec<Sensor>,
    /// Unacknowledged publishes of each sensor.
    pub window: usize,
    /// Mean time between two readings of a sensor.
    pub gap: Duration,
    /// Most bytes that a reading has besides its number.
    pub padding: u64,
    /// How long a sensor waits for an acknowledgement before it takes its connection for dead.
    pub patience: Duration,
    /// Mean time between two troubles of the connections between sensors and gateway.
    pub link_trouble: Option<Duration>,
    /// How the gateway's lives end, in order; the last goes on to the end of the world.
    pub ends: Vec<End>,
    /// Whether each of power cut, partition and full disk has to bite before the sensors stop.
    pub must_bite: bool,
    /// Silences between gateway and upstreams.
    pub partitions: Vec<Spell>,
    /// Times without space on the disk.
    pub full_disks: Vec<Spell>,
    /// Times in which a broker upstream refuses messages for its quota.
    pub busy: Vec<Spell>,
    /// From a backup of the upstreams' databases to their restart with it.
    pub setbacks: Vec<Spell>,
    /// Times at which the next sync fails.
    pub failed_syncs: Vec<Duration>,
    /// Times at which the next write fails half way.
    pub failed_writes: Vec<Duration>,
    /// Times and milliseconds by which the wall clock jumps.
    pub clock_jumps: Vec<(Duration, i64)>,
    /// Whether the clock is not set for a while after each boot.
    pub unsynced_boot: bool,
    /// One disk request in so many takes up to 200 ms.
    pub slow_disk: Option<u64>,
    /// Size of a segment file: small, so that a short run seals, recycles and checkpoints often.
    pub segment_bytes: u32,
    /// The largest frame.
    pub frame_bytes: usize,
    /// Quotas of the streams.
    pub quotas: Quotas,
    /// How long records stay after every reader has passed them.
    pub retain: Duration,
    /// The uplinks.
    pub uplinks: Vec<UplinkKind>,
    /// What the function keeps.
    pub state: StateSize,
    /// One call of the function in so many fails.
    pub failing_calls: Option<u64>,
    /// A mistake for the judge to find.
    pub planted: Option<Planted>,
}

/// A device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensor {
    /// What it speaks; MQTT 5 devices number their publishes.
    pub version: Version,
    /// Where its readings go.
    pub route: Route,
    /// How many it makes at least.
    pub readings: u64,
}

/// Where readings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A stream that holds publishers back when it is full, read by the function.
    Telemetry,
    /// A stream that drops the oldest.
    Journal,
    /// A stream that refuses.
    Orders,
    /// The first two, in one publish.
    Both,
}

impl Route {
    /// The last level of the topic.
    pub(crate) fn leaf(self) -> &'static str {
        match self {
            Route::Telemetry => "telemetry",
            Route::Journal => "journal",
            Route::Orders => "orders",
            Route::Both => "both",
        }
    }

    /// Whether one of its streams refuses publishes rather than holding them back.
    pub(crate) fn refuses(self) -> bool {
        matches!(self, Route::Orders | Route::Both)
    }

    /// The streams that it feeds.
    pub(crate) fn streams(self) -> &'static [&'static str] {
        match self {
            Route::Telemetry => &["telemetry"],
            Route::Journal => &["journal"],
            Route::Orders => &["orders"],
            Route::Both => &["telemetry", "journal"],
        }
    }
}

/// How a life of the gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The power fails in the middle of this disk operation of the life, counted from 1.
    PowerCut(u64),
    /// The process is killed there; what it wrote stays in the page cache.
    Kill(u64),
    /// It is told to stop after so long, and starts again.
    Restart(Duration),
}

/// A time in which something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spell {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts at least.
    pub length: Duration,
}

/// Most bytes of each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Of `telemetry`, which blocks.
    pub telemetry: u64,
    /// Of `alerts`, which blocks.
    pub alerts: u64,
    /// Of `journal`, which drops the oldest.
    pub journal: u64,
    /// Of `orders`, which refuses.
    pub orders: u64,
}

/// An uplink and the sink at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkKind {
    /// What is there.
    pub sink: SinkKind,
    /// Window, backoff, time-outs.
    pub options: UplinkOptions,
}

const AMPLE: u64 = 64 * 1024 * 1024;

impl Options {
    /// 2,000 readings of four sensors, half of them with publisher identities; the power fails
    /// at the given disk operation.
    pub fn power_cut(seed: u64, at: Option<u64>) -> Options {
        let sensor = |version| Sensor { version, route: Route::Telemetry, readings: 500 };
        Options {
            seed,
            sensors: vec![
                sensor(Version::V5),
                sensor(Version::V311),
                sensor(Version::V5),
                sensor(Version::V311),
            ],
            window: 20,
            gap: Duration::from_millis(4),
            padding: 1,
            // After a power cut nothing comes back: who has nothing more to send finds out by this.
            patience: Duration::from_secs(5),
            link_trouble: None,
            ends: at.map(End::PowerCut).into_iter().collect(),
            must_bite: false,
            partitions: Vec::new(),
            full_disks: Vec::new(),
            busy: Vec::new(),
            setbacks: Vec::new(),
            failed_syncs: Vec::new(),
            failed_writes: Vec::new(),
            clock_jumps: Vec::new(),
            unsynced_boot: false,
            slow_disk: None,
            segment_bytes: 128 * 1024,
            frame_bytes: 64 * 1024,
            quotas: Quotas { telemetry: AMPLE, alerts: AMPLE, journal: AMPLE, orders: AMPLE },
            retain: Duration::ZERO,
            uplinks: vec![UplinkKind {
                sink: SinkKind::Consumer,
                options: UplinkOptions::default(),
            }],
            state: StateSize::Small,
            failing_calls: None,
            planted: None,
        }
    }

    /// A smaller world in which everything goes wrong that can.
    pub fn storm(seed: u64) -> Options {
        let random = &mut Random::new(seed);
        let quotas = quotas(random);
        Options {
            sensors: sensors(random),
            window: random.range(1, 40) as usize,
            gap: random.micros(300, 12_000),
            padding: random.pick(&[80, 400, 1_500, 1_500]),
            patience: random.millis(150, 1_500),
            link_trouble: Some(random.millis(10, 150)),
            ends: ends(random),
            must_bite: true,
            partitions: spells(random, 2, 400),
            full_disks: full_disks(random, quotas),
            busy: spells(random, 1, 300),
            failed_syncs: times(random, 3),
            failed_writes: times(random, 2),
            clock_jumps: clock_jumps(random),
            unsynced_boot: random.one_in(3),
            slow_disk: random.one_in(2).then(|| random.range(10, 200)),
            segment_bytes: random.pick(&[36, 48, 64, 128]) * 1024,
            frame_bytes: random.pick(&[4, 8, 16]) * 1024,
            quotas,
            retain: Duration::from_millis(random.pick(&[0, 0, 0, 300, 2_000])),
            uplinks: uplinks(random),
            state: random.pick(&[StateSize::Small, StateSize::Large]),
            failing_calls: random.one_in(2).then_some(12),
            setbacks: if random.one_in(3) { spells(random, 1, 300) } else { Vec::new() },
            ..Options::power_cut(seed, None)
        }
    }

    /// The same world with a mistake in it.
    pub fn with(self, planted: Planted) -> Options {
        Options { planted: Some(planted), ..self }
    }
}

/// One that the function reads, one for the stream that drops, and up to three of any kind.
fn sensors(random: &mut Random) -> Vec<Sensor> {
    const ANY: [Route; 4] = [Route::Telemetry, Route::Journal, Route::Orders, Route::Both];
    let more = random.range(0, 4);
    let mut routes = vec![Route::Telemetry, Route::Journal];
    routes.extend((0..more).map(|_| random.pick(&ANY)));
    let sensor = |route| Sensor {
        version: random.pick(&[Version::V5, Version::V311]),
        route,
        readings: random.range(30, 150),
    };
    routes.into_iter().map(sensor).collect()
}

/// Up to three power cuts, with kills and restarts among them. Some soon after the start: that
/// is when the end of the log has just been taken up again.
fn ends(random: &mut Random) -> Vec<End> {
    let count = random.range(1, 5);
    let mut ends = Vec::new();
    for _ in 0..count {
        let operation = random.pick(&[12, 60, 400, 900]);
        let operation = random.range(1, operation);
        match random.range(0, 6) {
            0..3 => ends.push(End::PowerCut(operation)),
            // What a kill leaves in the page cache is lost if power fails before a sync.
            3 => ends.extend([End::Kill(operation), End::PowerCut(random.range(1, 7))]),
            4 => ends.push(End::Kill(operation)),
            _ => ends.push(End::Restart(random.millis(5, 400))),
        }
    }
    ends.push(End::PowerCut(random.range(20, 500)));
    ends
}

/// At least one; mostly short, because while an upstream is silent nothing is trimmed, and
/// recycled segments must be seen too.
fn spells(random: &mut Random, most: u64, length: u64) -> Vec<Spell> {
    let count = random.range(1, most + 1);
    let spell = |random: &mut Random| {
        let length = if random.one_in(5) { 8 * length } else { length };
        Spell { at: random.millis(0, 500), length: random.millis(10, length) }
    };
    (0..count).map(|_| spell(random)).collect()
}

/// Streams with small quotas never need more room than they had in the beginning: there the disk
/// is full from then on.
fn full_disks(random: &mut Random, quotas: Quotas) -> Vec<Spell> {
    let mut spells = spells(random, 1, 400);
    if quotas.telemetry < AMPLE {
        spells.iter_mut().for_each(|spell| spell.at = random.micros(0, 9_000));
    }
    spells
}

fn times(random: &mut Random, most: u64) -> Vec<Duration> {
    (0..random.range(0, most + 1)).map(|_| random.millis(0, 900)).collect()
}

/// Seconds, days, or to where the clock of a board without a battery begins.
fn clock_jumps(random: &mut Random) -> Vec<(Duration, i64)> {
    const JUMPS: [i64; 7] =
        [2_000, -2_000, 86_400_000, -86_400_000, 3_600_000, -400, -1_780_272_000_000];
    (0..random.range(0, 3)).map(|_| (random.millis(0, 900), random.pick(&JUMPS))).collect()
}

fn quotas(random: &mut Random) -> Quotas {
    let kib = |random: &mut Random, sizes: &[u64]| random.pick(sizes) * 1024;
    Quotas {
        telemetry: kib(random, &[64 * 1024, 64 * 1024, 160, 80]),
        alerts: kib(random, &[64 * 1024, 64 * 1024, 48]),
        journal: kib(random, &[12, 24, 48]),
        orders: kib(random, &[16, 40, 64 * 1024]),
    }
}

/// One to three of the kinds, each at most once.
fn uplinks(random: &mut Random) -> Vec<UplinkKind> {
    let window = random.millis(400, 2_500);
    let all = [SinkKind::Consumer, SinkKind::Committed, SinkKind::Windowed { window }];
    let leave_out = random.range(0, 5) as usize;
    let alone = random.one_in(4).then(|| random.range(0, 3) as usize);
    let chosen = |at: usize| alone.map_or(at != leave_out, |alone| at == alone);
    let kinds = all.into_iter().enumerate().filter(|(at, _)| chosen(*at));
    kinds.map(|(_, sink)| UplinkKind { sink, options: uplink_options(random) }).collect()
}

fn uplink_options(random: &mut Random) -> UplinkOptions {
    let backoff_min = random.millis(2, 40);
    UplinkOptions {
        window: random.pick(&[1, 7, 40, 100, 400]),
        window_bytes: random.pick(&[600, 16 * 1024, 1024 * 1024]),
        backoff_min,
        backoff_max: backoff_min * 20,
        ack_timeout: random.millis(60, 600),
        connect_timeout: random.millis(50, 500),
        batch_records: random.pick(&[1, 1, 5, 50]),
        batch_age: Duration::from_millis(random.pick(&[0, 0, 10])),
        ..UplinkOptions::default()
    }
}
