//! Functions rehearsed: the whole gateway in memory, with real modules, under a clock that others
//! move. What `tidegate fn test` and `tidegate fn replay` run functions on.
//!
//! Invariants:
//! - The gateway is the one that the daemon runs ([`tidegate_flow::Gateway`]): batches, retries,
//!   dead letters, state and restarts are not imitated.
//! - Time moves by [`Stage::advance_to`] alone, so the same records give the same outputs.
//!   Fuel bounds a guest as ever; its deadline, which is the real clock's, is raised.
//!
//! Not here: what is expected (`tidegate_fixtures`), files, the commands.

mod asking;
mod cast;
mod guest;
mod harvest;
mod stage;
mod subject;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use cast::{Cast, Part};
pub(crate) use guest::Cost;
pub(crate) use stage::Stage;
pub(crate) use subject::Rehearsal;
