//! Statuses for tests.

use tidegate_flow::latency::BOUNDS_US;
use tidegate_flow::status::{
    BrokerStatus, CampaignFigures, DiskStatus, FirmwareStatus, FleetStatus, FolderStatus,
    FunctionStatus, LatencyStatus, LineDeviceStatus, LineStatus, LossRange, LossReport, LossTotal,
    MetricStatus, ReaderStatus, RoomStatus, ScheduleStatus, SessionLossStatus, Status,
    StreamStatus, UplinkStatus, WearStatus,
};

/// A gateway that has just started without streams.
pub(crate) fn empty_status() -> Status {
    Status {
        gateway: "gw-01".into(),
        epoch: 1,
        uptime_ms: 0,
        broker: BrokerStatus::default(),
        streams: Vec::new(),
        functions: Vec::new(),
        uplinks: Vec::new(),
        folders: Vec::new(),
        firmware: FirmwareStatus::default(),
        lines: Vec::new(),
        fleet: None,
        latency: Vec::new(),
        disk: DiskStatus { state: "ok".into(), ..DiskStatus::default() },
    }
}

/// A gateway in the middle of an outage.
pub(crate) fn status() -> Status {
    Status {
        uptime_ms: 61_500,
        broker: BrokerStatus {
            connections: 3,
            received: 1000,
            session_losses: vec![LossTotal {
                reason: "slow-subscriber".into(),
                records: 12,
                bytes: 2_400,
            }],
            lost_by: session_losses().sessions,
            ..BrokerStatus::default()
        },
        streams: vec![StreamStatus {
            name: "telemetry".into(),
            first_seq: 1,
            next_seq: 1001,
            durable_seq: 1001,
            bytes: 4096,
            max_bytes: 1 << 30,
            appended: 1000,
            lost: 0,
            lost_bytes: 0,
            lost_by_reason: vec![
                LossTotal { reason: "quota".into(), records: 40, bytes: 4_000 },
                LossTotal { reason: "refused".into(), records: 1, bytes: 0 },
            ],
            readers: vec![
                ReaderStatus { name: "fn/threshold".into(), next_seq: 1001, lag: 0, lag_ms: 0 },
                ReaderStatus {
                    name: "uplink/cloud".into(),
                    next_seq: 901,
                    lag: 100,
                    lag_ms: 90_500,
                },
            ],
        }],
        functions: vec![FunctionStatus {
            name: "threshold".into(),
            stream: "telemetry".into(),
            state: "idle".into(),
            lag: 0,
            workers: 1,
            running: 0,
            retry_lane: 0,
            queue_age_ms: 0,
            calls: 20,
            records: 1000,
            emitted: 7,
            failures: 0,
            deadline_misses: 0,
            retries: 0,
            dropped: 0,
            traces_dropped: 0,
            dead_letters: 0,
            state_keys: 3,
            state_bytes: 60,
            state_expired: 2,
            timers: 2,
            timers_given: 9,
            timers_passed: 1,
            requests: 5,
            requests_refused: 1,
            fuel: 12_345,
            busy_us: 250_000,
            cpu_us: 200_000,
            memory_bytes: 131_072,
            memory_high_bytes: 196_608,
            schedules: vec![
                ScheduleStatus {
                    name: "sample".into(),
                    every_ms: Some(10_000),
                    cron: None,
                    next_in_ms: Some(7_500),
                    running: false,
                    last_due_ms: Some(1_780_000_000_000),
                    runs: 9,
                    missed: 2,
                },
                ScheduleStatus {
                    name: "night".into(),
                    every_ms: None,
                    cron: Some("0 3 * * *".into()),
                    next_in_ms: None,
                    running: false,
                    last_due_ms: None,
                    runs: 0,
                    missed: 0,
                },
            ],
            last_failure: None,
            metrics: vec![
                MetricStatus { name: "limit".into(), kind: "gauge".into(), value: 21.5 },
                MetricStatus { name: "over \"limit\"".into(), kind: "counter".into(), value: 7.0 },
            ],
            metrics_dropped: 1,
        }],
        uplinks: vec![UplinkStatus {
            name: "cloud".into(),
            state: "waiting".into(),
            sentence: "attempt 5 in 0.5 s: connection refused".into(),
            since_ms: 2_000,
            retry_in_ms: Some(500),
            last_error: Some("connection refused".into()),
            attempts: 4,
            in_flight: 0,
            sent: 950,
            acknowledged: 900,
            rejected: 0,
            backlog: 100,
            missing: 50,
            setback: Some("the server holds nothing behind record 850".into()),
        }],
        disk: DiskStatus {
            state: "ok".into(),
            bytes_written: 4_000_000_000,
            wear: Some(WearStatus {
                over_ms: 18_000_000,
                device: Some("179:2".into()),
                device_bytes: Some(5_000_000_000),
                unknown: None,
                bytes_per_day: Some(24_000_000_000),
                endurance_bytes: Some(100_000_000_000_000),
                life_years: Some(11.5),
            }),
            room: Some(RoomStatus { size: 32_000_000_000, free: 4_000_000_000 }),
            syncs: Some(times("write-and-sync", "")),
            ..DiskStatus::default()
        },
        folders: vec![FolderStatus {
            name: "reports".into(),
            taken: 12,
            bytes: 4_096,
            refused: 1,
            last_failure: Some("a.csv: has 300000 bytes; max_file allows 262144".into()),
        }],
        firmware: FirmwareStatus {
            campaigns: vec![CampaignFigures {
                campaign: 2,
                version: "1.4.0".into(),
                state: "halted".into(),
                stages: vec![("confirmed".into(), 1), ("failed".into(), 2)],
            }],
        },
        latency: vec![times("publish-to-ack", "")],
        lines: vec![line()],
        fleet: Some(FleetStatus { devices: 4_096, made_room: 9, unremembered: 2 }),
        ..empty_status()
    }
}

/// Eight times of a hop.
fn times(hop: &str, name: &str) -> LatencyStatus {
    LatencyStatus {
        hop: hop.into(),
        name: name.into(),
        buckets: (0..=BOUNDS_US.len()).map(|at| [3, 4, 1].get(at).copied().unwrap_or(0)).collect(),
        sum_us: 4_000,
        p50_us: Some(500),
        p99_us: Some(1_000),
    }
}

/// A line with a device that is there and one that is not.
fn line() -> LineStatus {
    let pump = LineDeviceStatus {
        name: "pump-7".into(),
        address: 1,
        up: true,
        since_ms: Some(30_000),
        frames_in: 2_100,
        damaged: 2,
        repeated_in: 1,
        repeated_out: 4,
        resets: 1,
    };
    let valve = LineDeviceStatus {
        name: "valve-2".into(),
        address: 2,
        up: false,
        since_ms: Some(90_000),
        resets: 1,
        ..LineDeviceStatus::default()
    };
    LineStatus {
        name: "plant".into(),
        port: "/dev/ttyUSB0".into(),
        open: true,
        since_ms: 61_000,
        opened: 2,
        last_error: Some("the port is gone".into()),
        frames_in: 2_100,
        frames_out: 1_900,
        bytes_in: 65_536,
        bytes_out: 32_768,
        damaged: 5,
        repeated_in: 1,
        repeated_out: 4,
        resets: 2,
        devices: vec![pump, valve],
    }
}

/// The ledger of the spool: two clients, of which one has no row of its own any more.
pub(crate) fn session_losses() -> LossReport {
    let session = |client: &str, records| SessionLossStatus {
        client: client.into(),
        records,
        bytes: 200 * records,
        reason: "slow-subscriber".into(),
        unix_ms: 1_700_000_000_000,
    };
    LossReport {
        stream: "$mqtt".into(),
        records: 0,
        bytes: 0,
        forgotten_records: 0,
        forgotten_bytes: 0,
        ranges: Vec::new(),
        sessions: vec![session("", 2), session("dash-7", 10)],
    }
}

/// A ledger that has forgotten its oldest ranges.
pub(crate) fn losses() -> LossReport {
    let range = |first, last, reason: &str| LossRange {
        first,
        last,
        records: last - first + 1,
        bytes: 100 * (last - first + 1),
        reason: reason.into(),
        unix_ms: 1_700_000_000_000,
    };
    LossReport {
        stream: "telemetry".into(),
        records: 71,
        bytes: 7_100,
        forgotten_records: 30,
        forgotten_bytes: 3_000,
        ranges: vec![range(31, 70, "quota"), range(90, 90, "refused")],
        sessions: Vec::new(),
    }
}

/// One function of the configuration and one that was pushed.
pub(crate) fn functions() -> Vec<tidegate_flow::FunctionEntry> {
    use tidegate_flow::{FailedEntry, FunctionEntry, VersionEntry};
    let configured = FunctionEntry {
        name: "threshold".into(),
        source: "configuration".into(),
        state: "idle".into(),
        stream: Some("telemetry".into()),
        lag: Some(0),
        routes: Vec::new(),
        version: None,
        since_unix_ms: None,
        on_trial: false,
        previous: None,
        failed: None,
        canary: None,
        metering: None,
    };
    let version = |label: &str, digit: &str| VersionEntry {
        version: label.into(),
        package: digit.repeat(64),
    };
    let pushed = FunctionEntry {
        name: "spikes".into(),
        source: "pushed".into(),
        version: Some(version("1.0.0", "a")),
        since_unix_ms: Some(1_780_000_000_000),
        failed: Some(FailedEntry {
            version: version("1.1.0", "b"),
            unix_ms: 1_780_000_060_000,
            reason: "the function trapped: unreachable".into(),
        }),
        ..configured.clone()
    };
    vec![configured, pushed]
}
