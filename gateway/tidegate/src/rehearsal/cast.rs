//! Who takes part in a rehearsal: one function alone, or all of a gateway's configuration.

use std::sync::Arc;
use std::time::Duration;

use tidegate_broker::{BrokerLimits, TopicFilter, TopicName};
use tidegate_flow::{FunctionPlan, InputPlan, Plan, StreamPlan};
use tidegate_runtime::{Limits, Module};
use tidegate_stream::{Compression, LogOptions, Overflow};

use crate::config::{FunctionSettings, Settings};

/// The stream that takes what functions publish. Not a name that a configuration can have.
pub(super) const OUTPUTS: &str = "(outputs)";
/// What it keeps at most, until it is read: more than one call can publish.
const OUTPUT_BYTES: u64 = 4 << 20;
/// What a stream that a function reads keeps at most.
const INPUT_BYTES: u64 = 64 << 20;
/// Small, because each rehearsal has several, in memory; not less than two frames.
const SEGMENT_BYTES: u32 = 2 << 20;
/// A deadline is by the real clock, and a busy machine must not make a difference: fuel is what
/// bounds a guest here.
const MIN_DEADLINE: Duration = Duration::from_secs(10);

/// The functions of a rehearsal and the streams between them.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    pub(crate) plan: Plan,
    /// In the order of the plan's functions.
    pub(crate) parts: Vec<Part>,
    /// Records go to the streams that their topic feeds; else to what the one function reads.
    by_topic: bool,
}

/// One function.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) module: Arc<Module>,
    /// Its configuration, JSON.
    pub(crate) config: Vec<u8>,
    /// The deadline that it has on a gateway.
    pub(crate) deadline: Duration,
    /// Names of the secrets that it may read.
    pub(crate) secrets: Vec<String>,
}

impl Part {
    /// The limits to compile a function's module with: its own, but for the deadline.
    pub(crate) fn limits(function: &FunctionSettings) -> Limits {
        let limits = function.limits();
        Limits {
            deadline: limits.deadline.max(MIN_DEADLINE),
            start_deadline: limits.start_deadline.max(MIN_DEADLINE),
            ..limits
        }
    }

    /// A function with its module.
    pub(crate) fn new(function: &FunctionSettings, module: Arc<Module>) -> Part {
        Part {
            name: function.name.clone(),
            module,
            config: function.config.clone(),
            deadline: function.deadline,
            secrets: function.secrets.clone(),
        }
    }
}

impl Cast {
    /// One function, which gets every record.
    pub(crate) fn alone(function: FunctionPlan, part: Part) -> Cast {
        let inputs = function.inputs.iter().map(|input| StreamPlan {
            max_bytes: INPUT_BYTES,
            overflow: Overflow::Block,
            ..stream(&input.stream, Vec::new())
        });
        let outputs = stream(OUTPUTS, function.publish.clone());
        let streams = inputs.chain([outputs]).collect();
        let plan = plan(streams, vec![function]);
        Cast { plan, parts: vec![part], by_topic: false }
    }

    /// All functions of a gateway; it has no uplinks, and nobody has to log in.
    pub(crate) fn of_gateway(settings: &Settings, parts: Vec<Part>) -> Cast {
        let Plan { mut streams, functions, .. } = settings.plan();
        let mut publish: Vec<TopicFilter> = Vec::new();
        for filter in functions.iter().flat_map(|function| &function.publish) {
            if !publish.contains(filter) {
                publish.push(filter.clone());
            }
        }
        streams.push(stream(OUTPUTS, publish));
        Cast { plan: plan(streams, functions), parts, by_topic: true }
    }

    /// The streams that take a record.
    ///
    /// # Errors
    /// There is none, or the topic is none; in words.
    pub(crate) fn streams_of(&self, topic: &str) -> Result<Vec<String>, String> {
        let name = TopicName::parse(topic)
            .map_err(|error| format!("the topic \"{topic}\" cannot be published to: {error}"))?;
        if !self.by_topic && self.plan.functions.iter().all(|one| one.inputs.is_empty()) {
            return Err(format!("the function reads no stream: nothing takes \"{topic}\""));
        }
        if !self.by_topic {
            return Ok(self.plan.functions.iter().flat_map(|one| inputs_of(one, &name)).collect());
        }
        let takes = |stream: &&StreamPlan| stream.topics.iter().any(|filter| filter.matches(&name));
        let streams = self.plan.streams.iter().filter(|stream| stream.name != OUTPUTS);
        let found: Vec<String> = streams.filter(takes).map(|stream| stream.name.clone()).collect();
        if found.is_empty() {
            return Err(format!("no stream takes the topic \"{topic}\""));
        }
        Ok(found)
    }
}

/// The inputs of a function that wait for a topic; of several that take any, the first.
fn inputs_of(function: &FunctionPlan, topic: &TopicName) -> Vec<String> {
    let takes = |input: &&InputPlan| input.topics.iter().any(|filter| filter.matches(topic));
    let found: Vec<&InputPlan> = function.inputs.iter().filter(takes).collect();
    let found = match found.is_empty() {
        true => {
            let any = function.inputs.iter().find(|input| input.topics.is_empty());
            any.or(function.inputs.first()).into_iter().collect()
        }
        false => found,
    };
    found.into_iter().map(|input| input.stream.clone()).collect()
}

fn plan(streams: Vec<StreamPlan>, functions: Vec<FunctionPlan>) -> Plan {
    Plan {
        gateway: "rehearsal".to_owned(),
        broker: BrokerLimits::default(),
        requires_login: false,
        log: LogOptions {
            segment_bytes: SEGMENT_BYTES,
            max_ack_delay: Duration::ZERO,
            quiet: Duration::ZERO,
            max_spare_segments: 2,
            ..LogOptions::default()
        },
        streams,
        functions,
        uplinks: Vec::new(),
        seed: 0,
    }
}

fn stream(name: &str, topics: Vec<TopicFilter>) -> StreamPlan {
    StreamPlan {
        name: name.to_owned(),
        topics,
        max_bytes: OUTPUT_BYTES,
        max_records: None,
        overflow: Overflow::DropOldest,
        retain: Duration::ZERO,
        priority: 0,
        max_age: None,
        compression: Compression::None,
        key: None,
    }
}
