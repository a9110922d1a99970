//! The snapshot that the operator sees.

use std::collections::BTreeMap;
use std::time::Instant;

use tidegate_firmware::CampaignStatus;
use tidegate_stream::{
    LostTotal, ReaderId, ReaderStatus as LogReaderStatus, StreamId, StreamStatus as LogStreamStatus,
};
use tidegate_uplink::UplinkState;

use crate::clock::Now;
use crate::control::Mode;
use crate::function::FunctionRun;
use crate::gateway::Gateway;
use crate::intake::Intake;
use crate::latency::{Latency, quantile_us};
use crate::sessions::SPOOL;
use crate::status::{
    BrokerStatus, CampaignFigures, DiskStatus, FirmwareStatus, FunctionStatus, LatencyStatus,
    LossRange, LossReport, LossTotal, ReaderStatus, Status, StreamStatus, UplinkStatus,
};
use crate::uplink::UplinkRun;

impl Gateway {
    /// What the gateway does right now.
    pub fn status(&self, now: Now) -> Status {
        let log = self.log.status();
        let streams = self.routes.streams().iter().filter_map(|route| {
            let stream = log.streams.iter().find(|stream| stream.id == route.id)?;
            Some(self.stream_status(now, stream))
        });
        Status {
            gateway: self.name.clone(),
            epoch: log.epoch.0,
            uptime_ms: now.instant.saturating_duration_since(self.started).as_millis() as u64,
            broker: self.broker_status(),
            streams: streams.collect(),
            functions: self.present().map(|(_, run)| self.function_status(now, run)).collect(),
            uplinks: self.present_uplinks().map(|run| self.uplink_status(now, run)).collect(),
            folders: self.files.status(),
            firmware: self.firmware_figures(),
            lines: Vec::new(),
            fleet: self.fleet_status(),
            latency: self.latencies(),
            disk: DiskStatus {
                segments: log.segments as u64,
                spare_segments: log.spare_segments as u64,
                bytes: log.disk_bytes,
                groups: log.groups,
                bytes_written: log.bytes_written,
                payload_bytes: log.payload_bytes,
                failures: log.failures,
                state: log.last_error.clone().unwrap_or_else(|| "ok".to_owned()),
                ..DiskStatus::default()
            },
        }
    }

    /// What the ledger says of a stream of this name, also of one that is no longer in the plan;
    /// `None` when there never was one.
    pub fn losses(&self, name: &str) -> Option<LossReport> {
        let log = self.log.status();
        let stream = log.streams.iter().find(|stream| stream.name == name)?;
        let own = self.log.losses().filter(|loss| loss.stream == stream.id);
        let ranges: Vec<LossRange> = own
            .map(|loss| LossRange {
                first: loss.first.0,
                last: loss.last.0,
                records: loss.records,
                bytes: loss.bytes,
                reason: loss.reason.name().to_owned(),
                unix_ms: loss.unix_ms,
            })
            .collect();
        let named = |of: fn(&LossRange) -> u64| ranges.iter().map(of).fold(0, u64::saturating_add);
        Some(LossReport {
            stream: name.to_owned(),
            records: stream.lost_records,
            bytes: stream.lost_bytes,
            forgotten_records: stream.lost_records.saturating_sub(named(|range| range.records)),
            forgotten_bytes: stream.lost_bytes.saturating_sub(named(|range| range.bytes)),
            ranges,
            sessions: if name == SPOOL { self.session_losses() } else { Vec::new() },
        })
    }

    fn stream_status(&self, now: Now, stream: &LogStreamStatus) -> StreamStatus {
        let reader = |reader: &LogReaderStatus| ReaderStatus {
            name: reader.name.clone(),
            next_seq: reader.next_seq.0,
            lag: stream.next_seq.0.saturating_sub(reader.next_seq.0),
            lag_ms: self.ages.of(now, &self.log, stream.id, reader.next_seq).unwrap_or(0),
        };
        StreamStatus {
            name: stream.name.clone(),
            first_seq: stream.first_seq.0,
            next_seq: stream.next_seq.0,
            durable_seq: stream.durable_seq.0,
            bytes: stream.bytes,
            max_bytes: stream.max_bytes,
            appended: stream.appended,
            lost: stream.lost_records,
            lost_bytes: stream.lost_bytes,
            lost_by_reason: stream.lost_by_reason.iter().map(loss_total).collect(),
            readers: stream.readers.iter().map(reader).collect(),
        }
    }

    fn firmware_figures(&self) -> FirmwareStatus {
        let figures = |campaign: CampaignStatus| {
            let mut stages: BTreeMap<String, u64> = BTreeMap::new();
            for device in &campaign.devices {
                *stages.entry(device.stage.clone()).or_default() += 1;
            }
            let (campaign, version, state) = (campaign.campaign, campaign.version, campaign.state);
            CampaignFigures { campaign, version, state, stages: stages.into_iter().collect() }
        };
        FirmwareStatus { campaigns: self.campaigns().into_iter().map(figures).collect() }
    }

    /// The functions that there are, with their indices.
    pub(crate) fn present(&self) -> impl Iterator<Item = (usize, &FunctionRun)> {
        self.functions.entries().filter(|(_, run)| run.canary_of.is_none())
    }

    /// The uplinks that there are.
    fn present_uplinks(&self) -> impl Iterator<Item = &UplinkRun> {
        self.uplinks.iter()
    }

    fn latencies(&self) -> Vec<LatencyStatus> {
        let mut hops = vec![hop("publish-to-ack", "", &self.ack_latency)];
        for (_, run) in self.present() {
            hops.push(hop("receipt-to-function", &run.plan.name, &run.tally.latency));
            hops.push(hop("function-call", &run.plan.name, &run.tally.call_time));
        }
        for run in self.present_uplinks() {
            hops.push(hop("receipt-to-upstream", &run.plan.name, &run.latency));
            hops.push(hop("send-to-upstream-ack", &run.plan.name, &run.round_trip));
        }
        hops
    }

    fn broker_status(&self) -> BrokerStatus {
        let stats = self.broker.stats();
        let counters = stats.counters;
        BrokerStatus {
            connections: stats.connections as u64,
            sessions: stats.sessions.len() as u64,
            subscriptions: stats.subscriptions as u64,
            retained: stats.retained as u64,
            received: counters.received_qos0 + counters.received_qos1 + counters.received_qos2,
            acknowledged: self.counters.acknowledged,
            refused: self.counters.refused,
            duplicates: self.counters.duplicates,
            delivered: counters.sent_qos0 + counters.sent_qos1 + counters.sent_qos2,
            dropped: counters.dropped_qos0
                + counters.dropped_qos1
                + counters.dropped_spooled
                + counters.dropped_too_large
                + counters.dropped_expired,
            pending_acknowledgements: self.waiting.len() as u64,
            denied_publishes: stats.counters.denied_publishes,
            denied_subscriptions: stats.counters.denied_subscriptions,
            denied_deliveries: stats.counters.denied_deliveries,
            slowed_by_client: stats.counters.slowed_by_client,
            slowed_by_address: stats.counters.slowed_by_address,
            held_back: stats.counters.held_back,
            session_losses: self.session_totals(),
            lost_by: self.newest_session_losses(),
            slow_disconnected: counters.slow_disconnected,
            turned_away: Vec::new(),
        }
    }

    pub(crate) fn function_status(&self, now: Now, run: &FunctionRun) -> FunctionStatus {
        let tally = &run.tally;
        let streams: Vec<&str> = run.plan.inputs.iter().map(|input| &*input.stream).collect();
        let age = |oldest: i64| u64::try_from(now.unix_ms.saturating_sub(oldest)).unwrap_or(0);
        let running = run.workers.iter().filter(|worker| worker.running.is_some()).count();
        FunctionStatus {
            name: run.plan.name.clone(),
            stream: streams.join(", "),
            state: function_state(now, run).to_owned(),
            lag: self.function_lag(run),
            workers: run.workers.len() as u64,
            running: running as u64,
            retry_lane: run.lane.records as u64,
            queue_age_ms: run.oldest_ms().map_or(0, age),
            calls: tally.calls,
            records: tally.records,
            emitted: tally.emitted,
            failures: tally.failures,
            deadline_misses: tally.deadline_misses,
            retries: tally.retries,
            dropped: tally.dropped,
            traces_dropped: tally.traces_dropped,
            dead_letters: tally.dead_letters,
            state_keys: self.log.table_entries(run.table).len() as u64,
            state_bytes: run.state_bytes as u64,
            state_expired: tally.expired,
            timers: run.timers.len() as u64,
            timers_given: tally.timers_given,
            timers_passed: tally.timers_passed,
            requests: tally.requests,
            requests_refused: tally.requests_refused,
            fuel: tally.fuel,
            busy_us: tally.busy.as_micros() as u64,
            cpu_us: tally.cpu.as_micros() as u64,
            memory_bytes: tally.memory_bytes,
            memory_high_bytes: tally.memory_high_bytes,
            schedules: run.schedules.status(now),
            last_failure: tally.last_failure.clone(),
            metrics: tally.metrics.status(),
            metrics_dropped: tally.metrics.dropped,
        }
    }

    /// Records that are neither done nor, by a topic filter that has seen them, passed.
    fn function_lag(&self, run: &FunctionRun) -> u64 {
        let of = |intake: &Intake| {
            self.lag(intake.stream, intake.reader).saturating_sub(intake.progress.beyond())
        };
        run.intakes.iter().map(of).sum::<u64>() + run.lane.records as u64
    }

    fn uplink_status(&self, now: Now, run: &UplinkRun) -> UplinkStatus {
        let status = run.core.status();
        let elapsed = |since: Instant| now.instant.saturating_duration_since(since).as_millis();
        let (state, since_ms, retry_in_ms, attempts) = match &status.state {
            UplinkState::Connecting { since, .. } => ("connecting", elapsed(*since), None, 0),
            UplinkState::Connected { since, .. } => ("connected", elapsed(*since), None, 0),
            UplinkState::Waiting { retry_at, attempts, .. } => {
                let wait = retry_at.map(|at| at.saturating_duration_since(now.instant));
                ("waiting", 0, wait.map(|wait| wait.as_millis() as u64), *attempts)
            }
            UplinkState::Stopped => ("stopped", 0, None, 0),
        };
        UplinkStatus {
            name: run.plan.name.clone(),
            state: state.to_owned(),
            sentence: status.state.sentence(now.instant),
            since_ms: since_ms as u64,
            retry_in_ms,
            last_error: status.last_error.clone(),
            attempts: u64::from(attempts),
            in_flight: status.in_flight as u64,
            sent: status.sent,
            acknowledged: status.acknowledged,
            rejected: status.rejected,
            backlog: run.lanes.iter().map(|lane| self.lag(lane.stream, lane.reader)).sum(),
            missing: run.setbacks.missing,
            setback: run.setbacks.last.clone(),
        }
    }

    fn lag(&self, stream: StreamId, reader: ReaderId) -> u64 {
        self.log.next_seq(stream).0.saturating_sub(self.log.cursor(reader).0)
    }
}

fn function_state(now: Now, run: &FunctionRun) -> &'static str {
    match &run.mode {
        _ if run.parked => "not loaded",
        Mode::Paused => "paused",
        Mode::Draining(_) => "draining",
        Mode::Running if !run.is_idle() => "running",
        Mode::Running if run.is_backing_off(now.instant) => "backing off",
        Mode::Running => "idle",
    }
}

pub(crate) fn hop(hop: &str, name: &str, latency: &Latency) -> LatencyStatus {
    let buckets = latency.counts().to_vec();
    LatencyStatus {
        hop: hop.to_owned(),
        name: name.to_owned(),
        sum_us: latency.sum_us(),
        p50_us: quantile_us(&buckets, 0.5),
        p99_us: quantile_us(&buckets, 0.99),
        buckets,
    }
}

fn loss_total(total: &LostTotal) -> LossTotal {
    let reason = total.reason.name().to_owned();
    LossTotal { reason, records: total.records, bytes: total.bytes }
}
