//! The gateway as one value: topic to stream, stream to function, results and cursor in one
//! commit, stream to uplink. No I/O: see [`Gateway`].

mod ages;
mod alias;
mod answering;
mod answers;
pub mod attributes;
mod call;
mod calling;
mod canary;
mod clock;
mod control;
mod cron;
mod effects;
mod events;
mod expiry;
mod figures;
mod files;
mod firing;
mod firmware;
mod foreign;
mod function;
mod gateway;
mod hold;
mod http_route;
mod import;
mod ingest;
mod intake;
mod key;
mod late;
pub mod latency;
mod letters;
mod listing;
mod losses;
mod metric;
mod notes;
mod origin;
mod plan;
mod progress;
mod queue;
mod refusal;
mod release;
mod reload;
mod report;
mod request;
mod retry;
mod roster;
mod route;
mod schedules;
mod seal;
mod session_losses;
mod sessions;
mod setback;
mod standstill;
pub mod status;
mod tally;
mod tidings;
mod time;
mod timers;
mod told;
mod trace;
mod twin;
mod uplink;
mod verdict;
mod versions;
mod watching;

#[cfg(test)]
mod tests;

pub use alias::{Alias, CanaryVersion, FailedVersion, Version};
pub use call::{Call, CallId, CallResult, CallVerdict, State};
pub use canary::{CanaryTerms, MAX_SHARE, SHARES};
pub use clock::{ClockQuality, Now};
pub use control::{ControlError, ResetDone, ResetTo};
pub use cron::{Cron, CronError};
pub use files::{FileDrop, FileError, FileMark};
pub use gateway::{BuildError, Gateway, Login, Notice, Output, PlantedBug};
pub use http_route::{HTTP_METHODS, HttpRoute, HttpRouteError, NotText, Parameters};
pub use import::{ImportBatch, ImportError};
pub use key::{KeyError, PartitionKey};
pub use late::{LATE_SUFFIX, LateLimits};
pub use letters::LetterError;
pub use listing::{CanaryEntry, FailedEntry, FunctionEntry, Metering, VersionEntry};
pub use plan::{
    DEAD_LETTER_STREAM, EVENT_STREAM, EventKind, FIRMWARE_STREAM, FUNCTION_STREAM, FunctionPlan,
    InputPlan, LOSS_STREAM, MAX_CAUGHT_UP, MAX_INPUTS, MAX_SCHEDULES, MAX_TIMERS, MAX_WATCHES,
    MAX_WORKERS, Missed, Ordering, Plan, RESERVED_STREAMS, Rhythm, SchedulePlan, Setback,
    StreamPlan, UplinkPlan, WatchPlan,
};
pub use reload::{Begun, MAX_UPLINK_SLOTS, Reload, ReloadError, Reloaded};
pub use request::{Answer, MAX_WAITING_REQUESTS, Once, Request, RequestId};
pub use tidegate_uplink::UplinkEvent;
pub use twin::{TwinProperty, TwinStatus};
pub use versions::{FunctionOrder, Install, Resume, VersionError, Wish};
