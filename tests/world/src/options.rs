//! What kind of world: everything that is decided before it begins.

use std::time::Duration;

use tidegate_uplink::UplinkOptions;

use crate::function::StateSize;
use crate::mqtt::{Qos, Version};
use crate::planted::Planted;
use crate::sink::SinkKind;

mod calls;
mod sessions;
mod storm;
mod streams;
mod uplinks;

pub use calls::Calls;
pub use sessions::{Interest, SubscriberKind};
pub use storm::Part;
pub use streams::StreamLimits;
pub use uplinks::UplinkKind;

/// The options of a world.
#[derive(Debug, Clone)]
pub struct Options {
    /// Everything random follows from it.
    pub seed: u64,
    /// The devices that publish.
    pub sensors: Vec<Sensor>,
    /// The devices that subscribe, with sessions that are kept.
    pub subscribers: Vec<SubscriberKind>,
    /// Most bytes in the spool of what they have still to get; `None`: the broker's default.
    pub spool_bytes: Option<usize>,
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
    /// Limits of the streams, in the order of the plan.
    pub streams: [StreamLimits; 4],
    /// How long records stay after every reader has passed them.
    pub retain: Duration,
    /// The uplinks.
    pub uplinks: Vec<UplinkKind>,
    /// What the function keeps.
    pub state: StateSize,
    /// Workers of the function: with several its ordering is per key, a sensor each; with one it
    /// is strict.
    pub workers: usize,
    /// What calls functions beside the records of devices.
    pub calls: Calls,
    /// One call of a function in so many fails.
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
    /// How they are handed over: with QoS 2 its session is kept.
    pub qos: Qos,
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
    /// No stream; the last one is retained.
    State,
}

impl Route {
    /// The last level of the topic.
    pub(crate) fn leaf(self) -> &'static str {
        match self {
            Route::Telemetry => "telemetry",
            Route::Journal => "journal",
            Route::Orders => "orders",
            Route::Both => "both",
            Route::State => "state",
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
            Route::State => &[],
        }
    }
}

/// How a life of the gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The power fails in the middle of this disk operation of the life, counted from 1.
    PowerCut(u64),
    /// The power fails so many disk operations after an upstream has answered that gets late
    /// lanes or sealed batches.
    PowerCutInSession(u64),
    /// The power fails so many disk operations after the first segment of the life is given up.
    PowerCutAtRelease(u64),
    /// The power fails so many disk operations after a second connection has taken a session over
    /// from the first.
    PowerCutAtTakeover(u64),
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

impl Options {
    /// 2,000 readings of four sensors, half of them with publisher identities; the power fails
    /// at the given disk operation.
    pub fn power_cut(seed: u64, at: Option<u64>) -> Options {
        let sensor = |version| Sensor {
            version,
            route: Route::Telemetry,
            qos: Qos::AtLeastOnce,
            readings: 500,
        };
        Options {
            seed,
            sensors: vec![
                sensor(Version::V5),
                sensor(Version::V311),
                sensor(Version::V5),
                sensor(Version::V311),
            ],
            subscribers: Vec::new(),
            spool_bytes: None,
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
            streams: [StreamLimits::default(); 4],
            retain: Duration::ZERO,
            uplinks: vec![UplinkKind::new(SinkKind::Consumer, UplinkOptions::default())],
            state: StateSize::Small,
            workers: 1,
            calls: Calls::default(),
            failing_calls: None,
            planted: None,
        }
    }

    /// The same world with a mistake in it.
    pub fn with(self, planted: Planted) -> Options {
        Options { planted: Some(planted), ..self }
    }
}
