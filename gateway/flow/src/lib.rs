//! The gateway as one value: topic to stream, stream to function, results and cursor in one
//! commit, stream to uplink. No I/O: see [`Gateway`].

pub mod attributes;
mod call;
mod clock;
mod effects;
mod events;
mod figures;
mod foreign;
mod function;
mod gateway;
mod hold;
mod import;
mod ingest;
mod key;
mod late;
pub mod latency;
mod losses;
mod plan;
mod refusal;
mod release;
mod report;
mod route;
mod seal;
mod session_losses;
mod sessions;
mod setback;
mod standstill;
pub mod status;
mod told;
mod trace;
mod uplink;
mod verdict;

#[cfg(test)]
mod tests;

pub use call::{Call, CallResult, CallVerdict, State};
pub use clock::{ClockQuality, Now};
pub use gateway::{BuildError, Gateway, Login, Notice, Output, PlantedBug};
pub use import::{ImportBatch, ImportError};
pub use key::{KeyError, PartitionKey};
pub use late::{LATE_SUFFIX, LateLimits};
pub use plan::{
    DEAD_LETTER_STREAM, FunctionPlan, LOSS_STREAM, Plan, RESERVED_STREAMS, Setback, StreamPlan,
    UplinkPlan,
};
pub use tidegate_uplink::UplinkEvent;
