//! From topic to streams.

use std::time::Duration;

use tidegate_broker::{FilterTree, TopicName};
use tidegate_stream::{Log, Overflow, StreamConfig, StreamId};

use crate::gateway::BuildError;
use crate::key::PartitionKey;
use crate::plan::{
    DEAD_LETTER_STREAM, EVENT_STREAM, FIRMWARE_STREAM, FUNCTION_STREAM, FunctionPlan, LOSS_STREAM,
    Plan,
};

/// Most bytes that dead letters keep; the oldest go first, into the loss ledger.
const DEAD_LETTER_BYTES: u64 = 16 * 1024 * 1024;

/// Most bytes that records of losses keep: some 10,000 of them.
const LOSS_BYTES: u64 = 4 * 1024 * 1024;

/// Most bytes that events of functions keep: some thousand of them.
const FUNCTION_BYTES: u64 = 1024 * 1024;

/// Quota of the stream that tells of firmware: some 10,000 events.
const FIRMWARE_BYTES: u64 = 2 * 1024 * 1024;

/// Most bytes of events that functions have not handled: some 10,000 of them.
const EVENT_BYTES: u64 = 4 * 1024 * 1024;

/// What is in a reserved stream stays until the quota or an operator removes it, also what an
/// uplink has sent: ten years.
const RESERVED_RETAIN: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The configured streams and the topics that feed them.
pub(crate) struct Routes {
    tree: FilterTree<StreamId>,
    streams: Vec<StreamRoute>,
}

/// One stream.
pub(crate) struct StreamRoute {
    pub(crate) name: String,
    pub(crate) id: StreamId,
    pub(crate) overflow: Overflow,
    pub(crate) priority: u8,
    pub(crate) key: Option<PartitionKey>,
}

impl Routes {
    /// Defines the plan's streams in the log, the reserved ones last.
    pub(crate) fn define(log: &mut Log, plan: &Plan) -> Result<Routes, BuildError> {
        let mut routes = Routes { tree: FilterTree::new(), streams: Vec::new() };
        for stream in &plan.streams {
            let config = StreamConfig {
                max_bytes: stream.max_bytes,
                max_records: stream.max_records,
                overflow: stream.overflow,
                retain: stream.retain,
                max_age: stream.max_age,
                compression: stream.compression,
            };
            let id = log.stream(&stream.name, config)?;
            for filter in &stream.topics {
                routes.tree.insert(filter, id);
            }
            routes.streams.push(StreamRoute {
                name: stream.name.clone(),
                id,
                overflow: stream.overflow,
                priority: stream.priority,
                key: stream.key.clone(),
            });
        }
        routes.reserve(log, DEAD_LETTER_STREAM, DEAD_LETTER_BYTES, RESERVED_RETAIN)?;
        routes.reserve(log, LOSS_STREAM, LOSS_BYTES, RESERVED_RETAIN)?;
        routes.reserve(log, FUNCTION_STREAM, FUNCTION_BYTES, RESERVED_RETAIN)?;
        routes.reserve(log, FIRMWARE_STREAM, FIRMWARE_BYTES, RESERVED_RETAIN)?;
        let was_there = log.streams().any(|(_, name)| name == EVENT_STREAM);
        if was_there || plan.functions.iter().any(FunctionPlan::is_told) {
            routes.reserve_events(log)?;
        }
        Ok(routes)
    }

    /// Defines the stream of what functions are told of. It keeps what they have not handled.
    pub(crate) fn reserve_events(&mut self, log: &mut Log) -> Result<(), BuildError> {
        self.reserve(log, EVENT_STREAM, EVENT_BYTES, Duration::ZERO)
    }

    /// Defines a stream that is in every gateway, unless the plan has it.
    fn reserve(
        &mut self,
        log: &mut Log,
        name: &str,
        max_bytes: u64,
        retain: Duration,
    ) -> Result<(), BuildError> {
        if self.id(name).is_some() {
            return Ok(());
        }
        let overflow = Overflow::DropOldest;
        let config = StreamConfig { max_bytes, overflow, retain, ..StreamConfig::default() };
        let id = log.stream(name, config)?;
        let name = name.to_owned();
        self.streams.push(StreamRoute { name, id, overflow, priority: 0, key: None });
        Ok(())
    }

    /// The streams that this topic feeds, each once, in ascending order.
    pub(crate) fn streams_of(&self, topic: &TopicName, found: &mut Vec<StreamId>) {
        found.clear();
        self.tree.matches(topic, |id| found.push(*id));
        found.sort_unstable();
        found.dedup();
    }

    /// The stream of this name.
    pub(crate) fn id(&self, name: &str) -> Option<StreamId> {
        self.streams.iter().find(|stream| stream.name == name).map(|stream| stream.id)
    }

    /// The stream of this name, or an error that names who wants it.
    pub(crate) fn required(&self, name: &str, user: &str) -> Result<StreamId, BuildError> {
        self.id(name).ok_or_else(|| BuildError::UnknownStream {
            user: user.to_owned(),
            stream: name.to_owned(),
        })
    }

    /// The name of this stream.
    pub(crate) fn name(&self, id: StreamId) -> &str {
        self.streams.iter().find(|stream| stream.id == id).map_or("", |stream| &stream.name)
    }

    /// The policy of this stream.
    pub(crate) fn overflow(&self, id: StreamId) -> Overflow {
        self.streams
            .iter()
            .find(|stream| stream.id == id)
            .map_or(Overflow::DropOldest, |stream| stream.overflow)
    }

    /// The uplinks' priority of this stream.
    pub(crate) fn priority(&self, id: StreamId) -> u8 {
        self.streams.iter().find(|stream| stream.id == id).map_or(0, |stream| stream.priority)
    }

    /// Where the records of this stream have their partition key.
    pub(crate) fn key(&self, id: StreamId) -> Option<&PartitionKey> {
        self.streams.iter().find(|stream| stream.id == id)?.key.as_ref()
    }

    /// All streams, in the order of the plan.
    pub(crate) fn streams(&self) -> &[StreamRoute] {
        &self.streams
    }
}
