//! What a gateway is to do, as the configuration file says it, parsed once into meaning. The
//! shell checks and builds it; nothing here is validated a second time.

use std::time::Duration;

use tidegate_broker::{BrokerLimits, TopicFilter};
use tidegate_stream::{Compression, LogOptions, Overflow};
use tidegate_uplink::UplinkOptions;

use crate::cron::Cron;
use crate::http_route::HttpRoute;
use crate::key::PartitionKey;
use crate::late::LateLimits;

/// The stream that dead-lettered records go to, in every gateway.
pub const DEAD_LETTER_STREAM: &str = "dead-letters";

/// The stream that tells what the loss ledger says, in every gateway (`docs/formats/loss.md`).
pub const LOSS_STREAM: &str = "losses";

/// The stream that tells what becomes of pushed functions, in every gateway
/// (`docs/formats/package.md`).
pub const FUNCTION_STREAM: &str = "function-events";

/// The stream that tells how devices come along with firmware, in every gateway
/// (`docs/formats/firmware-campaigns.md`).
pub const FIRMWARE_STREAM: &str = "firmware-events";

/// The stream of what functions are told of, in a gateway where one wants it. Its name is
/// reserved.
pub const EVENT_STREAM: &str = "gateway-events";

/// Names of streams that exist in every gateway and cannot be configured.
pub const RESERVED_STREAMS: [&str; 4] =
    [DEAD_LETTER_STREAM, LOSS_STREAM, FUNCTION_STREAM, FIRMWARE_STREAM];

/// A whole gateway.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The gateway's id; part of every record's identity.
    pub gateway: String,
    /// Limits of the MQTT side.
    pub broker: BrokerLimits,
    /// Whether the shell is asked who a client is. If not, everybody may do everything.
    pub requires_login: bool,
    /// Options of the durable log.
    pub log: LogOptions,
    /// The streams. A topic that matches two goes to both.
    pub streams: Vec<StreamPlan>,
    /// The functions.
    pub functions: Vec<FunctionPlan>,
    /// The uplinks.
    pub uplinks: Vec<UplinkPlan>,
    /// Seed of the retry jitter.
    pub seed: u64,
}

/// One stream.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamPlan {
    /// Its name.
    pub name: String,
    /// The topics that feed it.
    pub topics: Vec<TopicFilter>,
    /// The quota, in bytes.
    pub max_bytes: u64,
    /// The quota, in records.
    pub max_records: Option<u64>,
    /// What happens at a quota.
    pub overflow: Overflow,
    /// How long records stay after every reader has passed them.
    pub retain: Duration,
    /// An uplink sends what a stream of a higher priority has before what others have; streams
    /// of the same priority take turns.
    pub priority: u8,
    /// How long records stay at most, read or not.
    pub max_age: Option<Duration>,
    /// How groups of its records are written.
    pub compression: Compression,
    /// Where its records have their partition key.
    pub key: Option<PartitionKey>,
}

/// Most workers of a function: threads, each with an instance of its own.
pub const MAX_WORKERS: usize = 16;

/// Most timers of a function: with the longest names 32 KiB in memory, and in each checkpoint.
pub const MAX_TIMERS: usize = 64;

/// Most streams that a function reads.
pub const MAX_INPUTS: usize = 16;

/// Most schedules of a function, each with a note of some 100 bytes.
pub const MAX_SCHEDULES: usize = 16;

/// Most watches of a function: each is looked at for each key that a commit changes.
pub const MAX_WATCHES: usize = 16;

/// Most runs that [`Missed::All`] makes up for at once; older ones are counted only.
pub const MAX_CAUGHT_UP: u64 = 1000;

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionPlan {
    /// Its name.
    pub name: String,
    /// The streams that it reads, each once (at most [`MAX_INPUTS`]). The place in this list is the
    /// `source` of a record in the input frame.
    pub inputs: Vec<InputPlan>,
    /// What waits while a record does.
    pub ordering: Ordering,
    /// Calls under way at a time (1 to [`MAX_WORKERS`]); with [`Ordering::Strict`] always one.
    pub workers: usize,
    /// The topics that it may publish to; nothing else.
    pub publish: Vec<TopicFilter>,
    /// Most records in one call (1 to 4096).
    pub batch_records: usize,
    /// Most payload bytes in one call.
    pub batch_bytes: usize,
    /// How long records wait for a batch to fill.
    pub batch_window: Duration,
    /// Times a record is tried before it is dead-lettered (1 to 100).
    pub attempts: u16,
    /// How long a record is tried at most before it is dead-lettered.
    pub retry_max_age: Duration,
    /// Most bytes of state, keys and values.
    pub state_bytes: usize,
    /// Most timers that it may have set (0 to [`MAX_TIMERS`]); with 0 it may set none.
    pub timers: usize,
    /// When it is called by the clock (at most [`MAX_SCHEDULES`], each name once).
    pub schedules: Vec<SchedulePlan>,
    /// What it is told of (each kind once).
    pub events: Vec<EventKind>,
    /// Whose state it is told of when that changes (at most [`MAX_WATCHES`]).
    pub watches: Vec<WatchPlan>,
    /// The HTTP routes that it answers.
    pub routes: Vec<HttpRoute>,
}

/// Keys of another function's state of which a function is told when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchPlan {
    /// The other function's name.
    pub function: String,
    /// What the keys begin with; empty: all keys.
    pub prefix: String,
}

/// What a function can be told of (`docs/formats/abi-tg1.md`, Events).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// It runs, and is given something from now on.
    Start,
    /// It is about to end in good order.
    Stop,
    /// An uplink is connected.
    Online,
    /// An uplink is lost.
    Offline,
    /// An MQTT client has come.
    Connected,
    /// An MQTT client has gone.
    Disconnected,
    /// What the log holds has risen above a level, or fallen below it.
    Disk,
    /// A key of a state that it watches has changed.
    State,
}

impl EventKind {
    /// Those that are told to who names them; [`EventKind::State`] comes with a watch.
    pub const NAMED: [EventKind; 7] = [
        EventKind::Start,
        EventKind::Stop,
        EventKind::Online,
        EventKind::Offline,
        EventKind::Connected,
        EventKind::Disconnected,
        EventKind::Disk,
    ];

    /// The event's name, as the function reads it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Start => "start",
            EventKind::Stop => "stop",
            EventKind::Online => "online",
            EventKind::Offline => "offline",
            EventKind::Connected => "connected",
            EventKind::Disconnected => "disconnected",
            EventKind::Disk => "disk",
            EventKind::State => "state",
        }
    }

    /// The kind of this name, of [`EventKind::NAMED`].
    #[must_use]
    pub fn named(name: &str) -> Option<EventKind> {
        EventKind::NAMED.into_iter().find(|kind| kind.name() == name)
    }
}

/// Calls of a function by the clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulePlan {
    /// What the function knows it by: the name of the timer that it is given. No timer that it
    /// sets may have it.
    pub name: String,
    /// When.
    pub rhythm: Rhythm,
    /// What becomes of runs whose time has passed.
    pub missed: Missed,
}

/// When a schedule is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rhythm {
    /// In intervals from its beginning on (1 ms or longer), by monotonic time while the gateway
    /// runs, and by the wall clock over a restart.
    Every(Duration),
    /// By a time table in UTC, while the wall clock can be trusted.
    Cron(Cron),
}

/// What becomes of the runs that were due while the gateway was off, the function paused, or the
/// clock not to be trusted. Runs that were due one after the other while the function was busy
/// come once with the first two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missed {
    /// They are left out: the next one is the next in time.
    Skip,
    /// They come once, as the newest of them.
    Once,
    /// Each comes, the oldest first; at most [`MAX_CAUGHT_UP`], the newest.
    All,
}

/// A stream that a function reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlan {
    /// The stream's name.
    pub stream: String,
    /// The topics whose records it gets; the others are passed. Without any, all.
    pub topics: Vec<TopicFilter>,
}

/// What waits while a record of a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Everything behind it: one call at a time, in sequence.
    Strict,
    /// What has the same partition key of its stream. Records without a key count as one key.
    PerKey,
    /// Nothing.
    None,
}

impl FunctionPlan {
    /// A function with the defaults of the configuration, that reads all of a stream and may
    /// publish nothing.
    #[must_use]
    pub fn new(name: &str, stream: &str) -> FunctionPlan {
        FunctionPlan {
            name: name.to_owned(),
            inputs: vec![InputPlan { stream: stream.to_owned(), topics: Vec::new() }],
            ordering: Ordering::Strict,
            workers: 1,
            publish: Vec::new(),
            batch_records: 256,
            batch_bytes: 256 * 1024,
            batch_window: Duration::ZERO,
            attempts: 5,
            retry_max_age: Duration::from_secs(3600),
            state_bytes: 1 << 20,
            timers: 16,
            schedules: Vec::new(),
            events: Vec::new(),
            watches: Vec::new(),
            routes: Vec::new(),
        }
    }

    /// Whether it is told of anything beside records.
    pub(crate) fn is_told(&self) -> bool {
        !self.events.is_empty() || !self.watches.is_empty()
    }

    /// Whether it is told of this key in the state of a function.
    pub(crate) fn watches(&self, function: &str, key: &[u8]) -> bool {
        let fits = |watch: &WatchPlan| {
            watch.function == function && key.starts_with(watch.prefix.as_bytes())
        };
        self.watches.iter().any(fits)
    }
}

/// One uplink.
#[derive(Debug, Clone, PartialEq)]
pub struct UplinkPlan {
    /// Its name.
    pub name: String,
    /// Names of the streams that it sends, in order of the lanes.
    pub streams: Vec<String>,
    /// Of those, the ones whose fresh records go before a backlog, which then follows in a lane
    /// of its own.
    pub live_first: Vec<String>,
    /// What follows when its server holds less than it acknowledged.
    pub setback: Setback,
    /// When a backlog of those is put off.
    pub late: LateLimits,
    /// Window, backoff, time-outs.
    pub options: UplinkOptions,
}

/// What follows when a server, asked what it holds, has less than it acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setback {
    /// It cannot be asked.
    Unseen,
    /// The operator is told: what is missing may have been deleted there on purpose.
    Told,
    /// What is kept is sent again: the server leaves out what it has, so there are no duplicates.
    SentAgain,
}
