//! The configuration as meaning: what each part of the daemon is told, after every check.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_broker::TopicFilter;
use tidegate_flow::{
    EventKind, HttpRoute, InputPlan, Ordering, PartitionKey, SchedulePlan, WatchPlan,
};
use tidegate_stream::{Compression, Overflow};

use super::folders::FolderSettings;
use super::listeners::ListenerSettings;
use super::routes::RouteSettings;
use super::security::SecuritySettings;
use super::serial::SerialSettings;
use crate::packages::{BUNDLES, Ceiling, PACKAGES, Shelf, Store, TrustedKeys};
use crate::secrets::Vault;
use crate::uplinks::Target;

/// Everything that `tidegate run` needs to know. Built by [`crate::config::load`] alone, so a
/// value of this type has passed every check of the file itself.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The gateway's id.
    pub gateway: String,
    /// Where the store, the lock and the administration socket live.
    pub data_dir: PathBuf,
    /// `[mqtt]`
    pub mqtt: MqttSettings,
    /// Who is let in, and what they may do.
    pub security: SecuritySettings,
    /// `[serial.NAME]`, in the order of the file.
    pub serial: Vec<SerialSettings>,
    /// `[firmware]`
    pub firmware: FirmwareSettings,
    /// Where HTTP listens; `None` when it is off.
    pub http: Option<SocketAddr>,
    /// `[[http.route]]`, and where the routes of functions are served.
    pub routes: RouteSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[storage]`
    pub storage: StorageSettings,
    /// `[stream.NAME]`, in the order of the file.
    pub streams: Vec<StreamSettings>,
    /// `[files.NAME]`, in the order of the file.
    pub folders: Vec<FolderSettings>,
    /// `[function.NAME]`, in the order of the file.
    pub functions: Vec<FunctionSettings>,
    /// `[functions]`: what may be pushed.
    pub packages: PackageSettings,
    /// `[uplink.NAME]`, in the order of the file.
    pub uplinks: Vec<UplinkSettings>,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttSettings {
    /// Where devices connect; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// Open connections.
    pub max_connections: usize,
    /// Largest packet after CONNECT, in bytes.
    pub max_packet: u32,
    /// Unacknowledged publishes of one connection.
    pub receive_maximum: u16,
    /// Time to a complete CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive of an MQTT 5 client; `None`: whatever it asks for.
    pub max_keep_alive: Option<Duration>,
    /// Sessions, connected or not.
    pub max_sessions: usize,
    /// Longest life of a session whose client is away.
    pub max_session_expiry: Duration,
    /// Bytes queued for one subscriber.
    pub max_session_queue: usize,
    /// Bytes queued for all subscribers.
    pub max_queue: usize,
    /// Retained messages.
    pub max_retained: usize,
    /// Bytes of retained messages.
    pub max_retained_bytes: usize,
}

/// `[log]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Least important messages written.
    pub level: LogLevel,
    /// How they are written.
    pub format: LogFormat,
}

/// Importance of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something needs attention.
    Warn,
    /// The course of events.
    Info,
    /// Details for the one who looks for a fault.
    Debug,
    /// Everything.
    Trace,
}

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people and the journal.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[storage]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// Size of a segment file.
    pub segment_bytes: u32,
    /// A group is synced at this size.
    pub group_bytes: usize,
    /// Longest wait of a record for its sync.
    pub max_ack_delay: Duration,
    /// A group is synced when nothing arrives for this long.
    pub quiet: Duration,
    /// Newest records kept in memory.
    pub cache_bytes: usize,
    /// Bytes written that the card is rated for.
    pub endurance: Option<u64>,
}

/// `[stream.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// NAME.
    pub name: String,
    /// Topic filters that feed it.
    pub topics: Vec<TopicFilter>,
    /// Quota, in bytes.
    pub max_bytes: u64,
    /// Quota, in records.
    pub max_records: Option<u64>,
    /// What happens at a quota.
    pub overflow: Overflow,
    /// Time kept after every reader has passed.
    pub retain: Duration,
    /// Uplinks send streams of a higher priority first.
    pub priority: u8,
    /// Time kept at most, read or not.
    pub max_age: Option<Duration>,
    /// How groups of its records are written.
    pub compression: Compression,
    /// Where its records have their partition key.
    pub key: Option<PartitionKey>,
}

/// `[function.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionSettings {
    /// NAME.
    pub name: String,
    /// The module's file. It need not be there: a gateway starts without it, and the function's
    /// records wait.
    pub module: PathBuf,
    /// The streams that it reads, each once.
    pub inputs: Vec<InputPlan>,
    /// What waits while a record does.
    pub ordering: Ordering,
    /// Calls under way at a time.
    pub workers: usize,
    /// Topic filters that it may publish to.
    pub publish: Vec<TopicFilter>,
    /// Its configuration, as JSON.
    pub config: Vec<u8>,
    /// Most records in one call.
    pub batch_records: usize,
    /// Most payload bytes in one call.
    pub batch_bytes: usize,
    /// Longest wait of records for a fuller batch.
    pub batch_window: Duration,
    /// Times that a record is tried.
    pub attempts: u16,
    /// How long a record is tried.
    pub retry_max_age: Duration,
    /// Most linear memory, in bytes.
    pub memory_bytes: usize,
    /// Fuel of a call.
    pub fuel_per_batch: u64,
    /// Fuel that each record adds.
    pub fuel_per_message: u64,
    /// Longest time of a call.
    pub deadline: Duration,
    /// Most bytes of state.
    pub state_bytes: usize,
    /// Most timers.
    pub timers: usize,
    /// When it is called by the clock.
    pub schedules: Vec<SchedulePlan>,
    /// What it is told of.
    pub events: Vec<EventKind>,
    /// Whose state it is told of when that changes.
    pub watches: Vec<WatchPlan>,
    /// The HTTP routes that it answers.
    pub routes: Vec<HttpRoute>,
    /// The secrets that it may read.
    pub secrets: Vec<String>,
}

/// `[functions]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageSettings {
    /// Whose packages are taken; without any, none are.
    pub trusted: TrustedKeys,
    /// Most bytes on the disk.
    pub max_bytes: u64,
    /// How long a version must run without failure before it is kept.
    pub trial: Duration,
    /// What pushed functions may have.
    pub ceiling: Ceiling,
}

/// `[firmware]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareSettings {
    /// Most bytes of bundles on the disk.
    pub max_bundle_bytes: u64,
    /// How many devices load at a time, and how fast all of them together.
    pub limits: tidegate_firmware::Limits,
}

/// `[uplink.NAME]`
#[derive(Debug, Clone)]
pub struct UplinkSettings {
    /// NAME.
    pub name: String,
    /// The upstream's servers, with their certificates and logins.
    pub target: Target,
    /// Streams that it sends, in the order of the lanes.
    pub streams: Vec<String>,
    /// Of those, the ones whose fresh records go before a backlog.
    pub live_first: Vec<String>,
    /// Records in flight.
    pub window: usize,
    /// Bytes in flight.
    pub window_bytes: usize,
    /// Records of one batch.
    pub batch_records: usize,
    /// Bytes of one batch.
    pub batch_bytes: usize,
    /// Longest wait of a record for its batch to fill.
    pub batch_age: Duration,
    /// Batches a second.
    pub max_batches_per_second: Option<u64>,
    /// Bytes a second.
    pub max_bytes_per_second: Option<u64>,
    /// Bytes a second of what was there before the connection.
    pub max_backfill_bytes_per_second: Option<u64>,
    /// A link silent for this long is dead.
    pub ack_timeout: Duration,
    /// Time for a connection to be ready.
    pub connect_timeout: Duration,
    /// First wait after a failure.
    pub backoff_min: Duration,
    /// Longest wait.
    pub backoff_max: Duration,
}

impl MqttSettings {
    /// Where all listeners listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().flat_map(|listener| listener.listen.iter().copied()).collect()
    }
}

impl Settings {
    /// The file that keeps a second daemon out of the data directory.
    pub fn lock_file(&self) -> PathBuf {
        self.data_dir.join(LOCK_FILE)
    }

    /// The directory of the segment files.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join(STORE_DIR)
    }

    /// The packages that are kept here, and the keys that they must be signed with.
    ///
    /// # Errors
    /// Their directory cannot be made.
    pub fn store(&self) -> anyhow::Result<Store> {
        let path = self.data_dir.join(PACKAGES_DIR);
        let shelf = Shelf::open(&path, &PACKAGES, self.packages.max_bytes)
            .with_context(|| format!("cannot use the directory of packages {}", path.display()))?;
        let (trusted, vault) = (Arc::new(self.packages.trusted.clone()), self.vault());
        Ok(Store { shelf, trusted, vault })
    }

    /// The bundles of firmware that are kept here.
    ///
    /// # Errors
    /// Their directory cannot be made.
    pub(crate) fn bundles(&self) -> anyhow::Result<Shelf> {
        let path = self.data_dir.join(BUNDLES_DIR);
        Shelf::open(&path, &BUNDLES, self.firmware.max_bundle_bytes)
            .with_context(|| format!("cannot use the directory of firmware {}", path.display()))
    }

    /// The secrets of functions.
    pub(crate) fn vault(&self) -> Vault {
        Vault::of(&self.data_dir, None)
    }

    /// The administration socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join(ADMIN_SOCKET)
    }
}

/// Name of the lock file in the data directory.
pub const LOCK_FILE: &str = "tidegate.lock";
/// Name of the segments' directory in the data directory.
pub const STORE_DIR: &str = "log";
/// Name of the directory of packages in the data directory.
pub const PACKAGES_DIR: &str = "packages";
/// Name of the directory of firmware bundles in the data directory.
const BUNDLES_DIR: &str = "firmware";
/// Name of the administration socket in the data directory.
pub const ADMIN_SOCKET: &str = "admin.sock";
