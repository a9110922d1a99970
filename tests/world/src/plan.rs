//! The gateway's plan in a world: what the configuration file would say.

use std::time::Duration;

use tidegate_broker::{BrokerLimits, TopicFilter};
use tidegate_flow::{
    EventKind, FunctionPlan, Gateway, HttpRoute, Ordering, PartitionKey, Plan, Setback, StreamPlan,
    UplinkPlan, WatchPlan,
};
use tidegate_stream::trace::Trace;
use tidegate_stream::{LogOptions, Overflow};

use crate::function::COUNTS;
use crate::options::{Options, StreamLimits, UplinkKind};
use crate::planted::Planted;
use crate::sink::SinkKind;

/// The streams in the order of the plan, and of each uplink's lanes.
pub(crate) const STREAMS: [&str; 4] = ["telemetry", "alerts", "journal", "orders"];
/// What each does at its quota.
pub(crate) const OVERFLOW: [Overflow; 4] =
    [Overflow::Block, Overflow::Block, Overflow::DropOldest, Overflow::Reject];
/// Id of the gateway.
pub(crate) const GATEWAY: &str = "gw-sim";
/// Name of the function.
pub(crate) const FUNCTION: &str = "threshold";
/// Name of the one that watches its state.
pub(crate) const WATCHER: &str = "watcher";
/// Name of the one that the clock and requests call.
pub(crate) const CLERK: &str = "clerk";
/// Longer than the wall clock can jump: a session that has ended by it would be nobody's fault.
const FOR_EVER: Duration = Duration::from_secs(200 * 365 * 86_400);
/// Tries of a record before the function gives it up.
const ATTEMPTS: u16 = 3;
/// The same for what comes once: what is given up would be a gap.
const MANY_ATTEMPTS: u16 = 100;

/// One of the functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It reads `telemetry`.
    Threshold,
    /// It is told of the changes of that one's state.
    Watcher,
    /// It is called by the clock and by requests.
    Clerk,
}

impl Options {
    /// The plan of this life of the gateway.
    pub(crate) fn plan(&self, trace: &Trace, life: u64) -> Plan {
        let stream = |at: usize, topics: &[&str]| {
            let StreamLimits { max_bytes, max_records, max_age, compression, priority } =
                self.streams[at];
            StreamPlan {
                name: STREAMS[at].to_owned(),
                topics: filters(topics),
                max_bytes,
                max_records,
                overflow: OVERFLOW[at],
                retain: self.retain,
                max_age,
                compression,
                priority,
                key: (self.workers > 1).then(|| PartitionKey::parse("topic/2").ok()).flatten(),
            }
        };
        let telemetry = ["sensors/+/telemetry", "sensors/+/both"];
        let alerts = ["alerts/#", "runs/#", "answers/#"];
        let journal = ["sensors/+/journal", "sensors/+/both"];
        Plan {
            gateway: GATEWAY.to_owned(),
            broker: self.broker_limits(),
            requires_login: false,
            log: self.log_options(trace),
            streams: vec![
                stream(0, &telemetry),
                stream(1, &alerts),
                stream(2, &journal),
                stream(3, &["sensors/+/orders"]),
            ],
            functions: self.roles().map(|role| self.function_plan(role)).collect(),
            uplinks: self.uplink_plans(life),
            seed: self.seed,
        }
    }

    /// The functions, in the order of the plan.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> {
        let watcher = self.calls.watched.then_some(Role::Watcher);
        let clerk = self.calls.has_clerk().then_some(Role::Clerk);
        [Role::Threshold].into_iter().chain(watcher).chain(clerk)
    }

    fn function_plan(&self, role: Role) -> FunctionPlan {
        let called = |name| FunctionPlan {
            inputs: Vec::new(),
            attempts: MANY_ATTEMPTS,
            ..FunctionPlan::new(name, STREAMS[0])
        };
        match role {
            Role::Threshold => FunctionPlan {
                publish: filters(&["alerts/#"]),
                batch_records: 64,
                batch_bytes: 64 * 1024,
                attempts: ATTEMPTS,
                state_bytes: 1024 * 1024,
                ordering: if self.workers > 1 { Ordering::PerKey } else { Ordering::Strict },
                workers: self.workers,
                ..FunctionPlan::new(FUNCTION, STREAMS[0])
            },
            Role::Watcher => {
                let (function, prefix) = (FUNCTION.to_owned(), COUNTS.to_owned());
                FunctionPlan { watches: vec![WatchPlan { function, prefix }], ..called(WATCHER) }
            }
            Role::Clerk => FunctionPlan {
                publish: filters(&["runs/#", "answers/#"]),
                schedules: self.calls.schedules.clone(),
                routes: vec![HttpRoute::parse("POST /ask").expect("a route")],
                events: self.calls.told_of_start.then_some(EventKind::Start).into_iter().collect(),
                ..called(CLERK)
            },
        }
    }

    fn uplink_plans(&self, life: u64) -> Vec<UplinkPlan> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let plan = |uplink: &UplinkKind| {
            let live = uplink.live_until.is_none_or(|until| life < until);
            UplinkPlan {
                name: uplink.sink.name().to_owned(),
                streams: names(&uplink.streams),
                live_first: if live { names(&uplink.live_first) } else { Vec::new() },
                late: uplink.late,
                setback: match uplink.sink {
                    SinkKind::Consumer | SinkKind::Objects => Setback::Unseen,
                    SinkKind::Committed => Setback::SentAgain,
                    SinkKind::Windowed { .. } => Setback::Told,
                },
                options: uplink.options.clone(),
            }
        };
        self.uplinks.iter().map(plan).collect()
    }

    fn broker_limits(&self) -> BrokerLimits {
        let limits = BrokerLimits { max_session_expiry: FOR_EVER, ..BrokerLimits::default() };
        let max_queued_bytes = self.spool_bytes.unwrap_or(limits.max_queued_bytes);
        BrokerLimits { max_queued_bytes, ..limits }
    }

    fn log_options(&self, trace: &Trace) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            max_frame_bytes: self.frame_bytes,
            max_spare_segments: 4,
            cursor_delay: Duration::from_millis(200),
            planted: match self.planted {
                Some(Planted::Log(bug)) => Some(bug),
                Some(Planted::Flow(_)) | None => None,
            },
            trace: Some(trace.clone()),
            ..LogOptions::default()
        }
    }

    pub(crate) fn plant(&self, mut gateway: Gateway) -> Gateway {
        if let Some(Planted::Flow(bug)) = self.planted {
            gateway.plant(bug);
        }
        gateway
    }
}

fn filters(topics: &[&str]) -> Vec<TopicFilter> {
    topics.iter().map(|text| TopicFilter::parse(text).expect("a valid filter")).collect()
}
