//! The gateway as one value: topic to stream, stream to function, results and cursor in one
//! commit, stream to uplink. No I/O: see [`Gateway`].

pub mod attributes;
mod call;
mod clock;
mod function;
mod gateway;
mod hold;
mod ingest;
mod late;
pub mod latency;
mod plan;
mod refusal;
mod release;
mod report;
mod route;
mod seal;
mod standstill;
pub mod status;
mod uplink;
mod verdict;

#[cfg(test)]
mod tests;

pub use call::{Call, CallResult, CallVerdict, State};
pub use clock::{ClockQuality, Now};
pub use gateway::{BuildError, Gateway, Notice, Output, PlantedBug};
pub use late::LATE_SUFFIX;
pub use plan::{DEAD_LETTER_STREAM, FunctionPlan, Plan, StreamPlan, UplinkPlan};
pub use tidegate_uplink::UplinkEvent;
