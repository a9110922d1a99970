//! What kind of world: everything that is decided before it begins.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tidegate_broker::{BrokerLimits, TopicFilter};
use tidegate_flow::{FunctionPlan, Gateway, Plan, StreamPlan, UplinkPlan};
use tidegate_guest::native;
use tidegate_stream::{LogOptions, Overflow};
use tidegate_threshold::Threshold;
use tidegate_uplink::UplinkOptions;

use crate::mqtt::Version;
use crate::publisher::Publisher;
use crate::random::Random;

/// Configuration of the threshold function: an alert for each reading over the limit.
const THRESHOLD_CONFIG: &[u8] = br#"{"limit":30.0,"hysteresis":1.0,"every":true}"#;

/// The options of a world.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// Version and number of readings of each sensor.
    pub sensors: Vec<(Version, u64)>,
    /// Unacknowledged publishes of each sensor.
    pub window: usize,
    /// Mean time between two readings of a sensor.
    pub gap: Duration,
    /// Disk operations at which the power fails, ascending.
    pub cuts: Vec<u64>,
    /// Start and length of each silence between gateway and upstream.
    pub partitions: Vec<(Duration, Duration)>,
    /// Start and length of each time without space on the disk.
    pub full_disks: Vec<(Duration, Duration)>,
    /// Times at which the next sync fails.
    pub failed_syncs: Vec<Duration>,
    /// Size of a segment file: small, so that a short run seals, recycles and checkpoints often.
    pub segment_bytes: u32,
    /// The function between the two streams.
    pub function: NativeFunction,
    /// A mistake for the judge to find.
    pub planted: Option<Planted>,
}

/// A mistake that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// PUBACK before the sync.
    AckBeforeSync,
    /// The checksum does not cover which segment a frame belongs to.
    CrcWithoutSegment,
    /// The function's cursor is committed before its outputs.
    CursorApart,
}

impl Planted {
    /// Every one.
    pub const ALL: [Planted; 3] =
        [Planted::AckBeforeSync, Planted::CrcWithoutSegment, Planted::CursorApart];
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Planted::AckBeforeSync => "ack-before-sync",
            Planted::CrcWithoutSegment => "crc-without-segment",
            Planted::CursorApart => "cursor-apart",
        })
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Planted, String> {
        Planted::ALL.into_iter().find(|planted| planted.to_string() == text).ok_or_else(|| {
            format!(
                "unknown bug \"{text}\"; known: {}",
                Planted::ALL.map(|p| p.to_string()).join(", ")
            )
        })
    }
}

/// A function run natively: the same code that is compiled to WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeFunction {
    /// `functions/examples/threshold`.
    Threshold,
}

impl NativeFunction {
    /// Runs it on an input frame.
    pub fn call(self, frame: &[u8], state: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, String> {
        match self {
            NativeFunction::Threshold => native::run::<Threshold>(THRESHOLD_CONFIG, frame, state)
                .map_err(|ended| format!("{ended:?}")),
        }
    }
}

impl Options {
    /// 2,000 readings of four sensors, half of them with publisher identities; the power fails
    /// at the given disk operation.
    pub fn power_cut(seed: u64, at: Option<u64>) -> Options {
        Options {
            seed,
            sensors: vec![
                (Version::V5, 500),
                (Version::V311, 500),
                (Version::V5, 500),
                (Version::V311, 500),
            ],
            window: 20,
            gap: Duration::from_millis(4),
            cuts: at.into_iter().collect(),
            partitions: Vec::new(),
            full_disks: Vec::new(),
            failed_syncs: Vec::new(),
            segment_bytes: 128 * 1024,
            function: NativeFunction::Threshold,
            planted: None,
        }
    }

    /// A smaller world in which everything goes wrong that can: power cuts, a silent upstream, a
    /// full disk, failed syncs.
    pub fn storm(seed: u64) -> Options {
        let mut random = Random::new(seed);
        let millis =
            |random: &mut Random, low, high| Duration::from_millis(random.range(low, high));
        let mut cuts: Vec<u64> = (0..random.range(1, 4)).map(|_| random.range(1, 1_500)).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let sensors = (0..random.range(1, 5))
            .map(|_| {
                let version = if random.one_in(2) { Version::V5 } else { Version::V311 };
                (version, random.range(50, 250))
            })
            .collect();
        // Mostly short: while the upstream is silent nothing is trimmed, and recycled segments
        // must be seen too.
        let silence = if random.one_in(4) { 20_000 } else { 400 };
        Options {
            sensors,
            window: random.range(1, 40) as usize,
            gap: Duration::from_micros(random.range(300, 40_000)),
            segment_bytes: (16 * 1024) << random.range(0, 4),
            cuts,
            partitions: vec![(millis(&mut random, 0, 600), millis(&mut random, 50, silence))],
            full_disks: vec![(millis(&mut random, 0, 800), millis(&mut random, 10, 3_000))],
            failed_syncs: (0..random.range(0, 3)).map(|_| millis(&mut random, 0, 900)).collect(),
            ..Options::power_cut(seed, None)
        }
    }

    /// The same world with a mistake in it.
    pub fn with(self, planted: Planted) -> Options {
        Options { planted: Some(planted), ..self }
    }

    pub(crate) fn publishers(&self) -> Vec<Publisher> {
        let name = |index: usize| format!("s{index}");
        self.sensors
            .iter()
            .enumerate()
            .map(|(index, (version, total))| {
                Publisher::new(name(index), *version, *total, self.window)
            })
            .collect()
    }

    pub(crate) fn plan(&self) -> Plan {
        let filter = |text: &str| TopicFilter::parse(text).expect("a valid filter");
        let stream = |name: &str, topic: &str| StreamPlan {
            name: name.to_owned(),
            topics: vec![filter(topic)],
            max_bytes: 64 * 1024 * 1024,
            max_records: None,
            overflow: Overflow::Block,
            retain: Duration::ZERO,
            priority: 0,
            max_age: None,
        };
        Plan {
            gateway: "gw-sim".to_owned(),
            broker: BrokerLimits::default(),
            log: self.log_options(),
            streams: vec![stream("telemetry", "sensors/+/telemetry"), stream("alerts", "alerts/#")],
            functions: vec![FunctionPlan {
                name: "threshold".to_owned(),
                input: "telemetry".to_owned(),
                publish: vec![filter("alerts/#")],
                batch_records: 64,
                batch_bytes: 64 * 1024,
                attempts: 3,
                state_bytes: 1024 * 1024,
            }],
            uplinks: vec![UplinkPlan {
                name: "cloud".to_owned(),
                streams: vec!["telemetry".to_owned(), "alerts".to_owned()],
                live_first: Vec::new(),
                options: UplinkOptions::default(),
            }],
            seed: self.seed,
        }
    }

    fn log_options(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            max_frame_bytes: self.segment_bytes as usize / 2,
            planted: match self.planted {
                Some(Planted::AckBeforeSync) => Some(tidegate_stream::PlantedBug::AckBeforeSync),
                Some(Planted::CrcWithoutSegment) => {
                    Some(tidegate_stream::PlantedBug::CrcWithoutSegment)
                }
                Some(Planted::CursorApart) | None => None,
            },
            ..LogOptions::default()
        }
    }

    pub(crate) fn plant(&self, mut gateway: Gateway) -> Gateway {
        if self.planted == Some(Planted::CursorApart) {
            gateway.plant(tidegate_flow::PlantedBug::CursorApart);
        }
        gateway
    }
}
