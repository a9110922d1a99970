//! The gateway's plan in a world: what the configuration file would say.

use std::time::Duration;

use tidegate_broker::{BrokerLimits, TopicFilter};
use tidegate_flow::{FunctionPlan, Gateway, Plan, StreamPlan, UplinkPlan};
use tidegate_stream::trace::Trace;
use tidegate_stream::{LogOptions, Overflow};

use crate::options::Options;
use crate::planted::Planted;

/// The streams in the order of the plan, and of each uplink's lanes.
pub(crate) const STREAMS: [&str; 4] = ["telemetry", "alerts", "journal", "orders"];
/// Id of the gateway.
pub(crate) const GATEWAY: &str = "gw-sim";
/// Name of the function.
pub(crate) const FUNCTION: &str = "threshold";
/// Tries of a record before the function gives it up.
const ATTEMPTS: u16 = 3;

impl Options {
    pub(crate) fn plan(&self, trace: &Trace) -> Plan {
        let filters = |topics: &[&str]| {
            topics.iter().map(|text| TopicFilter::parse(text).expect("a valid filter")).collect()
        };
        let stream = |name: &str, topics: &[&str], max_bytes: u64, overflow| StreamPlan {
            name: name.to_owned(),
            topics: filters(topics),
            max_bytes,
            max_records: None,
            overflow,
            retain: self.retain,
            max_age: None,
            compression: tidegate_stream::Compression::None,
            priority: 0,
        };
        let quotas = self.quotas;
        let telemetry = ["sensors/+/telemetry", "sensors/+/both"];
        let journal = ["sensors/+/journal", "sensors/+/both"];
        Plan {
            gateway: GATEWAY.to_owned(),
            broker: BrokerLimits::default(),
            requires_login: false,
            log: self.log_options(trace),
            streams: vec![
                stream(STREAMS[0], &telemetry, quotas.telemetry, Overflow::Block),
                stream(STREAMS[1], &["alerts/#"], quotas.alerts, Overflow::Block),
                stream(STREAMS[2], &journal, quotas.journal, Overflow::DropOldest),
                stream(STREAMS[3], &["sensors/+/orders"], quotas.orders, Overflow::Reject),
            ],
            functions: vec![FunctionPlan {
                name: FUNCTION.to_owned(),
                input: STREAMS[0].to_owned(),
                publish: filters(&["alerts/#"]),
                batch_records: 64,
                batch_bytes: 64 * 1024,
                attempts: ATTEMPTS,
                state_bytes: 1024 * 1024,
            }],
            uplinks: self.uplink_plans(),
            seed: self.seed,
        }
    }

    fn uplink_plans(&self) -> Vec<UplinkPlan> {
        let plan = |uplink: &crate::options::UplinkKind| UplinkPlan {
            name: uplink.sink.name().to_owned(),
            streams: STREAMS.map(str::to_owned).to_vec(),
            live_first: Vec::new(),
            options: uplink.options.clone(),
        };
        self.uplinks.iter().map(plan).collect()
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
