//! What the settings mean to each core.

use tidegate_broker::BrokerLimits;
use tidegate_flow::{FunctionPlan, LateLimits, Plan, StreamPlan, UplinkPlan};
use tidegate_runtime::Limits;
use tidegate_stream::LogOptions;
use tidegate_uplink::UplinkOptions;

use super::listeners::ListenerSettings;
use super::settings::{FunctionSettings, Settings, UplinkSettings};

/// Streams that a publish of the largest size fits for certain when its topic matches them all.
const MAX_STREAM_COPIES: usize = 3;

/// Copies of a publish beside those in streams: two in the spool for kept sessions, of which the
/// second is for shared subscriptions, and one retained.
const COPIES_BESIDE: usize = 3;

/// Memory for one transaction at most; a segment has room for two.
const MAX_TRANSACTION: usize = 3 * 1024 * 1024;

impl Settings {
    /// The whole gateway, as the flow core wants it. Everything in it is in the order of the
    /// settings, so that an index means the same in both.
    #[must_use]
    pub fn plan(&self) -> Plan {
        Plan {
            gateway: self.gateway.clone(),
            broker: self.broker_limits(),
            requires_login: self.requires_login(),
            log: self.log_options(),
            streams: self.streams.iter().map(stream_plan).collect(),
            functions: self.functions.iter().map(FunctionSettings::plan).collect(),
            uplinks: self.uplinks.iter().map(uplink_plan).collect(),
            seed: seed(&self.gateway),
        }
    }

    /// Whether anything depends on who a client is.
    pub(crate) fn requires_login(&self) -> bool {
        let closed = |listener: &ListenerSettings| {
            !listener.allow_anonymous || listener.client_id_is_username
        };
        let counted = self.security.limits.connects_per_minute_per_client.is_some();
        self.security.policy.is_some()
            || counted
            || !self.serial.is_empty()
            || self.mqtt.listeners.iter().any(closed)
    }

    fn broker_limits(&self) -> BrokerLimits {
        let (mqtt, limits) = (&self.mqtt, &self.security.limits);
        BrokerLimits {
            max_connections: mqtt.max_connections,
            max_packet: mqtt.max_packet,
            receive_maximum: mqtt.receive_maximum,
            max_publishes_per_second: limits.publishes_per_second,
            max_publishes_per_second_per_address: limits.publishes_per_second_per_address,
            connect_timeout: mqtt.connect_timeout,
            max_keep_alive: mqtt
                .max_keep_alive
                .map(|time| time.as_secs().try_into().unwrap_or(u16::MAX)),
            max_sessions: mqtt.max_sessions,
            max_session_expiry: mqtt.max_session_expiry,
            max_queued_bytes_per_session: mqtt.max_session_queue,
            max_queued_bytes: mqtt.max_queue,
            slow_subscriber: limits.slow_subscriber,
            max_spooled_messages_per_session: limits.spool_messages_per_session,
            max_spooled_bytes_per_session: limits.spool_bytes_per_session,
            max_retained: mqtt.max_retained,
            max_retained_bytes: mqtt.max_retained_bytes,
            ..BrokerLimits::default()
        }
    }

    fn log_options(&self) -> LogOptions {
        let storage = &self.storage;
        LogOptions {
            segment_bytes: storage.segment_bytes,
            group_bytes: storage.group_bytes,
            max_ack_delay: storage.max_ack_delay,
            quiet: storage.quiet,
            cache_bytes: storage.cache_bytes,
            max_frame_bytes: self.largest_transaction(),
            ..LogOptions::default()
        }
    }

    /// A publish is one transaction: its record in each stream that its topic matches, for
    /// sessions that are kept, and as a retained message. The largest one has to fit.
    fn largest_transaction(&self) -> usize {
        let default = LogOptions::default().max_frame_bytes;
        let copies = self.streams.len().min(MAX_STREAM_COPIES) + COPIES_BESIDE;
        (self.mqtt.max_packet as usize * copies).clamp(default, MAX_TRANSACTION)
    }
}

impl FunctionSettings {
    /// The bounds of the function's instance.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let limits = Limits::default();
        Limits {
            fuel_per_batch: self.fuel_per_batch,
            fuel_per_message: self.fuel_per_message,
            deadline: self.deadline,
            memory_bytes: self.memory_bytes,
            // A start may take longer than a call, never less.
            first_call_fuel: limits.first_call_fuel.max(self.fuel_per_batch),
            start_deadline: limits.start_deadline.max(self.deadline),
            ..limits
        }
    }

    /// The function, as the flow core wants it.
    #[must_use]
    pub fn plan(&self) -> FunctionPlan {
        function_plan(self)
    }
}

fn stream_plan(stream: &super::StreamSettings) -> StreamPlan {
    StreamPlan {
        name: stream.name.clone(),
        topics: stream.topics.clone(),
        max_bytes: stream.max_bytes,
        max_records: stream.max_records,
        overflow: stream.overflow,
        retain: stream.retain,
        priority: stream.priority,
        max_age: stream.max_age,
        compression: stream.compression,
        key: stream.key.clone(),
    }
}

fn function_plan(function: &FunctionSettings) -> FunctionPlan {
    FunctionPlan {
        name: function.name.clone(),
        inputs: function.inputs.clone(),
        ordering: function.ordering,
        workers: function.workers,
        publish: function.publish.clone(),
        batch_records: function.batch_records,
        batch_bytes: function.batch_bytes,
        batch_window: function.batch_window,
        attempts: function.attempts,
        retry_max_age: function.retry_max_age,
        state_bytes: function.state_bytes,
        timers: function.timers,
        schedules: function.schedules.clone(),
        events: function.events.clone(),
        watches: function.watches.clone(),
        routes: function.routes.clone(),
    }
}

fn uplink_plan(uplink: &UplinkSettings) -> UplinkPlan {
    UplinkPlan {
        name: uplink.name.clone(),
        streams: uplink.streams.clone(),
        live_first: uplink.live_first.clone(),
        setback: uplink.target.setback(),
        late: LateLimits::default(),
        options: UplinkOptions {
            window: uplink.window,
            window_bytes: uplink.window_bytes,
            backoff_min: uplink.backoff_min,
            backoff_max: uplink.backoff_max,
            ack_timeout: uplink.ack_timeout,
            connect_timeout: uplink.connect_timeout,
            endpoints: uplink.target.endpoints(),
            batch_records: uplink.batch_records,
            batch_bytes: uplink.batch_bytes,
            batch_age: uplink.batch_age,
            sealed: uplink.target.is_sealed(),
            max_batches_per_second: uplink.max_batches_per_second,
            max_bytes_per_second: uplink.max_bytes_per_second,
            max_backfill_bytes_per_second: uplink.max_backfill_bytes_per_second,
            ..UplinkOptions::default()
        },
    }
}

/// Gateways retry at different moments because their ids differ (FNV-1a).
fn seed(gateway: &str) -> u64 {
    gateway.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Defaults that the cores have too must be the same there: the reference states them once.
/// `deadline` differs on purpose: on a gateway that is busy elsewhere, a call may be kept off
/// the processor for longer than a guest needs.
#[cfg(test)]
pub(super) fn assert_defaults(settings: &Settings) {
    let plan = settings.plan();
    assert_eq!(plan.broker, BrokerLimits::default());
    let max_frame_bytes = settings.largest_transaction();
    let log = LogOptions { max_frame_bytes, ..LogOptions::default() };
    assert_eq!(format!("{:?}", plan.log), format!("{log:?}"));
    for uplink in &plan.uplinks {
        assert_eq!(uplink.options, UplinkOptions::default());
    }
    for function in &settings.functions {
        let deadline = std::time::Duration::from_secs(1);
        assert_eq!(function.limits(), Limits { deadline, ..Limits::default() });
        let publish = function.publish.clone();
        let core = FunctionPlan::new(&function.name, &function.inputs[0].stream);
        assert_eq!(function_plan(function), FunctionPlan { publish, ..core });
    }
}
