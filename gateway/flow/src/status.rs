//! What the gateway reports about itself: one plain snapshot, the source of `tidegate status`,
//! `/metrics` and `/v1/status`. Counters count since the daemon started unless a field says
//! otherwise. Every list is in the order of the configuration.

use serde::{Deserialize, Serialize};
pub use tidegate_firmware::FleetStatus;

/// The whole gateway at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The gateway's id, from the configuration.
    pub gateway: String,
    /// The epoch that new records get.
    pub epoch: u32,
    /// Milliseconds since the daemon opened its store.
    pub uptime_ms: u64,
    /// The MQTT side.
    pub broker: BrokerStatus,
    /// One entry for each stream, the dead-letter stream included.
    pub streams: Vec<StreamStatus>,
    /// One entry for each function.
    pub functions: Vec<FunctionStatus>,
    /// One entry for each uplink.
    pub uplinks: Vec<UplinkStatus>,
    /// One entry for each folder whose files become records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<FolderStatus>,
    /// Firmware on its way to devices.
    #[serde(default)]
    pub firmware: FirmwareStatus,
    /// One entry for each serial line. The shell keeps them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<LineStatus>,
    /// The devices that are known for their firmware; `None` as long as none has said anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
    /// How long records take, hop by hop.
    pub latency: Vec<LatencyStatus>,
    /// The store.
    pub disk: DiskStatus,
}

/// A folder whose files become records.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FolderStatus {
    /// Its name.
    pub name: String,
    /// Files that became records.
    pub taken: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were put aside, because they cannot become records.
    pub refused: u64,
    /// Why the last one was, or what else went wrong last.
    pub last_failure: Option<String>,
}

/// A serial line with its devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LineStatus {
    /// Its name.
    pub name: String,
    /// The path of its port.
    pub port: String,
    /// Whether the port is open.
    pub open: bool,
    /// Milliseconds since that is so.
    pub since_ms: u64,
    /// Times that the port was opened.
    pub opened: u64,
    /// Why the port was lost, or could not be opened, the last time.
    pub last_error: Option<String>,
    /// Frames of its devices that came in whole.
    pub frames_in: u64,
    /// Frames that were sent.
    pub frames_out: u64,
    /// Bytes that came in, noise included.
    pub bytes_in: u64,
    /// Bytes that were sent.
    pub bytes_out: u64,
    /// Bytes that were no frame, and frames with a wrong CRC or of a session that has ended.
    pub damaged: u64,
    /// Frames that came in again: their acknowledgement was lost, or late.
    pub repeated_in: u64,
    /// Frames that were sent again.
    pub repeated_out: u64,
    /// Sessions with devices that have ended.
    pub resets: u64,
    /// Its devices, in the order of their addresses.
    pub devices: Vec<LineDeviceStatus>,
}

/// A device on a serial line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LineDeviceStatus {
    /// Its name.
    pub name: String,
    /// Its address on the line.
    pub address: u8,
    /// Whether there is a session with it.
    pub up: bool,
    /// Milliseconds since that is so; `None` when it was never there.
    pub since_ms: Option<u64>,
    /// Frames that came in whole.
    pub frames_in: u64,
    /// Frames with its address and a wrong CRC, or of a session that has ended.
    pub damaged: u64,
    /// As in [`LineStatus::repeated_in`].
    pub repeated_in: u64,
    /// As in [`LineStatus::repeated_out`].
    pub repeated_out: u64,
    /// Sessions that have ended.
    pub resets: u64,
}

/// The MQTT side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// Open connections.
    pub connections: u64,
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages held.
    pub retained: u64,
    /// PUBLISH packets taken in.
    pub received: u64,
    /// Of those, the ones acknowledged (QoS 1).
    pub acknowledged: u64,
    /// Of those, the ones refused.
    pub refused: u64,
    /// Of those, the ones dropped because the gateway already held them (publisher identity).
    pub duplicates: u64,
    /// PUBLISH packets queued for subscribers.
    pub delivered: u64,
    /// Messages not delivered because a subscriber was too slow for its queue.
    pub dropped: u64,
    /// Publishes that wait for the disk before they are acknowledged.
    pub pending_acknowledgements: u64,
    /// Publishes that their client was not allowed to make, wills included.
    #[serde(default)]
    pub denied_publishes: u64,
    /// Subscriptions that their client was not allowed to make.
    #[serde(default)]
    pub denied_subscriptions: u64,
    /// Messages that waited for a client that may not have them any more.
    #[serde(default)]
    pub denied_deliveries: u64,
    /// Publishes read later than they came, for the rate of their client.
    #[serde(default)]
    pub slowed_by_client: u64,
    /// Publishes read later than they came, for the rate of their address.
    #[serde(default)]
    pub slowed_by_address: u64,
    /// Times that reading from a publisher paused because a subscriber that reads fast was behind.
    #[serde(default)]
    pub held_back: u64,
    /// Messages that slow or absent subscribers did not get, as the loss ledger has them, by
    /// reason: `session-quota`, `spool-quota`, `slow-subscriber`.
    #[serde(default)]
    pub session_losses: Vec<LossTotal>,
    /// The clients that lost something last.
    #[serde(default)]
    pub lost_by: Vec<SessionLossStatus>,
    /// Connections ended because their client did not keep up.
    #[serde(default)]
    pub slow_disconnected: u64,
    /// Connections and logins that were refused, by reason. The shell counts them.
    #[serde(default)]
    pub turned_away: Vec<TurnedAway>,
}

/// Clients that were not let in, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnedAway {
    /// Such as `bad-credentials` or `revoked-certificate`.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Sequence of the oldest record kept.
    pub first_seq: u64,
    /// Sequence that the next record gets.
    pub next_seq: u64,
    /// First sequence that is not yet on flash.
    pub durable_seq: u64,
    /// Bytes kept, as counted against `max_bytes`.
    pub bytes: u64,
    /// The quota, in bytes.
    pub max_bytes: u64,
    /// Records appended since the daemon started.
    pub appended: u64,
    /// Records lost since the stream was made, also those that the ledger has forgotten.
    pub lost: u64,
    /// Their bytes.
    #[serde(default)]
    pub lost_bytes: u64,
    /// The same by reason: what the ledger named when the daemon started, and all since.
    #[serde(default)]
    pub lost_by_reason: Vec<LossTotal>,
    /// Who reads it, and how far they are.
    pub readers: Vec<ReaderStatus>,
}

/// What a stream lost for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossTotal {
    /// `quota`, `expired`, `damaged`, `dead-letter`, `discarded`, `refused`, `lost-upstream`.
    pub reason: String,
    /// How many records.
    pub records: u64,
    /// How many bytes they took.
    pub bytes: u64,
}

/// The loss ledger of one stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossReport {
    /// The stream's name.
    pub stream: String,
    /// Records lost since the stream was made, also those that the ledger has forgotten.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of those records, the ones that no range names any more.
    pub forgotten_records: u64,
    /// Their bytes.
    pub forgotten_bytes: u64,
    /// What the ledger names, oldest entry first. A record that was lost for two reasons is in
    /// two ranges.
    pub ranges: Vec<LossRange>,
    /// Of the stream `$mqtt`: what each client did not get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionLossStatus>,
}

/// Messages that one client did not get, for one reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionLossStatus {
    /// Its client identifier; empty for those together that the ledger does not name any more.
    pub client: String,
    /// How many messages.
    pub records: u64,
    /// How many bytes, with topic and properties, and 128 for each message.
    pub bytes: u64,
    /// As in [`BrokerStatus::session_losses`].
    pub reason: String,
    /// When the last of them was lost, in milliseconds since 1970.
    pub unix_ms: i64,
}

/// Consecutive records that are gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LossRange {
    /// First sequence.
    pub first: u64,
    /// Last sequence.
    pub last: u64,
    /// How many records.
    pub records: u64,
    /// How many bytes they took; an estimate where they could not be read.
    pub bytes: u64,
    /// As in [`LossTotal::reason`].
    pub reason: String,
    /// When the last of them was lost, in milliseconds since 1970.
    pub unix_ms: i64,
}

/// A reader's cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReaderStatus {
    /// `fn/NAME` or `uplink/NAME`.
    pub name: String,
    /// First sequence not yet done.
    pub next_seq: u64,
    /// Records between the cursor and the end of the stream.
    pub lag: u64,
    /// Milliseconds that the oldest of them has waited at least; 0 when there is none.
    #[serde(default)]
    pub lag_ms: u64,
}

/// One function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionStatus {
    /// Its name.
    pub name: String,
    /// The streams that it reads, with a comma and a space between them.
    pub stream: String,
    /// `running`, `idle`, `backing off`, `draining`, `paused`, `not loaded`.
    pub state: String,
    /// Records that wait, those in the retry lane included.
    pub lag: u64,
    /// Calls that may be under way at a time.
    #[serde(default)]
    pub workers: u64,
    /// Calls under way.
    #[serde(default)]
    pub running: u64,
    /// Records in the retry lane, those that wait behind one of their key included.
    #[serde(default)]
    pub retry_lane: u64,
    /// Milliseconds since the receipt of the oldest record that was read and is not done.
    #[serde(default)]
    pub queue_age_ms: u64,
    /// Calls made.
    pub calls: u64,
    /// Records handled and committed.
    pub records: u64,
    /// Records emitted.
    pub emitted: u64,
    /// Calls that failed (trap, deadline, memory, bad output).
    pub failures: u64,
    /// Of those, the ones that missed their deadline.
    #[serde(default)]
    pub deadline_misses: u64,
    /// Calls that are made again, for all their records or some.
    pub retries: u64,
    /// Records that the function dropped by NACK.
    pub dropped: u64,
    /// Outputs that went without the trace context of their record, for which there was no room.
    #[serde(default)]
    pub traces_dropped: u64,
    /// Records that went to the dead-letter stream.
    pub dead_letters: u64,
    /// Keys of state held.
    pub state_keys: u64,
    /// Bytes of state held, keys and values.
    pub state_bytes: u64,
    /// Keys of state that are gone because their time to live has ended.
    #[serde(default)]
    pub state_expired: u64,
    /// Timers set.
    #[serde(default)]
    pub timers: u64,
    /// Calls for timers that are done, those of timers given up included.
    #[serde(default)]
    pub timers_given: u64,
    /// Timers given up for this time: the function did not take them, or failed too often.
    #[serde(default)]
    pub timers_passed: u64,
    /// Its schedules, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleStatus>,
    /// Requests over HTTP whose answer counted.
    #[serde(default)]
    pub requests: u64,
    /// Requests that were turned away: the function did not run, or was busy.
    #[serde(default)]
    pub requests_refused: u64,
    /// Fuel used.
    pub fuel: u64,
    /// Time spent in the guest, in microseconds.
    pub busy_us: u64,
    /// Of that, time on a processor.
    #[serde(default)]
    pub cpu_us: u64,
    /// Linear memory of the instance, in bytes, at the last call.
    pub memory_bytes: u64,
    /// The most that it was at the end of a call.
    #[serde(default)]
    pub memory_high_bytes: u64,
    /// The last failure, in words.
    pub last_failure: Option<String>,
    /// What the function itself reports, in the order of the names; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricStatus>,
    /// Reported figures that were not taken: beyond 64 names of 64 bytes, of another kind than
    /// before, no number, or of a counter that would fall.
    #[serde(default)]
    pub metrics_dropped: u64,
}

/// When a function is called by the clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleStatus {
    /// The schedule's name.
    pub name: String,
    /// Its interval, in milliseconds; absent for a time table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every_ms: Option<u64>,
    /// Its time table; absent for an interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// Milliseconds until it is due, or is given again after a failure; absent while it runs, and
    /// for a time table while the clock cannot be trusted.
    pub next_in_ms: Option<u64>,
    /// Its call is under way.
    pub running: bool,
    /// When the last run was due, milliseconds since 1970; absent when there was none.
    pub last_due_ms: Option<i64>,
    /// Runs that are done.
    pub runs: u64,
    /// Runs that were left out, as its policy says.
    pub missed: u64,
}

/// A figure that a function reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricStatus {
    /// As the function calls it.
    pub name: String,
    /// `counter` or `gauge`.
    pub kind: String,
    /// The sum of what was reported, or the last of it.
    pub value: f64,
}

/// One uplink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// Its name.
    pub name: String,
    /// `connected`, `connecting`, `waiting`, `stopped`.
    pub state: String,
    /// The same in a sentence for people.
    pub sentence: String,
    /// Milliseconds in that state.
    pub since_ms: u64,
    /// Milliseconds until the next attempt, while waiting.
    pub retry_in_ms: Option<u64>,
    /// Why the last connection ended or failed.
    pub last_error: Option<String>,
    /// Connections tried since the last that worked.
    pub attempts: u64,
    /// Messages sent and not yet acknowledged.
    pub in_flight: u64,
    /// Messages sent, repetitions included.
    pub sent: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages that the upstream refused for good.
    pub rejected: u64,
    /// Records that wait for this uplink, over all its streams.
    pub backlog: u64,
    /// Records that the upstream acknowledged and did not have any more when it was asked.
    #[serde(default)]
    pub missing: u64,
    /// The last time that this was so: what was missing, and what was done.
    #[serde(default)]
    pub setback: Option<String>,
}

/// How long records took on one hop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyStatus {
    /// `publish-to-ack`, `receipt-to-function`, `function-call`, `receipt-to-upstream`, `send-to-upstream-ack`.
    pub hop: String,
    /// The function or uplink; empty for the broker.
    pub name: String,
    /// Records in each bucket of [`BOUNDS_US`](crate::latency::BOUNDS_US), and beyond the last.
    pub buckets: Vec<u64>,
    /// Their times added up, in microseconds.
    pub sum_us: u64,
    /// Half of them took at most so many microseconds, to the bound of the bucket.
    pub p50_us: Option<u64>,
    /// 99 of 100 of them.
    pub p99_us: Option<u64>,
}

/// The store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Segments that hold data.
    pub segments: u64,
    /// Preallocated segments in reserve.
    pub spare_segments: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Groups written and synced.
    pub groups: u64,
    /// Bytes written to segment files.
    pub bytes_written: u64,
    /// Payload bytes appended.
    pub payload_bytes: u64,
    /// Syncs or writes that failed.
    pub failures: u64,
    /// `ok`, or what is wrong, in words.
    pub state: String,
    /// How the flash wears; the shell adds it.
    #[serde(default)]
    pub wear: Option<WearStatus>,
    /// Bytes of the file system of the store, and how many of them are free; the shell adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomStatus>,
    /// How long writes with their syncs took; the shell adds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syncs: Option<LatencyStatus>,
}

/// The file system that the store is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomStatus {
    /// Its bytes.
    pub size: u64,
    /// Bytes that the daemon may still use.
    pub free: u64,
}

/// Firmware on its way to devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FirmwareStatus {
    /// The campaigns, the newest first.
    pub campaigns: Vec<CampaignFigures>,
}

/// A campaign in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CampaignFigures {
    /// Its number.
    pub campaign: u64,
    /// Version of the release.
    pub version: String,
    /// `running`, `done`, `halted`, `cancelled` or `replaced`.
    pub state: String,
    /// Devices at each stage that one is at.
    pub stages: Vec<(String, u64)>,
}

/// How the flash wears, since the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WearStatus {
    /// Milliseconds that were measured.
    pub over_ms: u64,
    /// The partition that holds the store, `MAJOR:MINOR`; `None` when the kernel has none.
    pub device: Option<String>,
    /// Bytes written to that partition, by whomever, as the kernel counts; `None` when it does
    /// not.
    pub device_bytes: Option<u64>,
    /// Why the kernel does not tell. Then the rate is that of `bytes_written`.
    pub unknown: Option<String>,
    /// Bytes a day at the rate so far; `None` in the first minute.
    pub bytes_per_day: Option<u64>,
    /// Bytes that the card is rated for, from the configuration.
    pub endurance_bytes: Option<u64>,
    /// Years until that many are written, at the rate so far; `None` when something for it is
    /// missing.
    pub life_years: Option<f64>,
}
