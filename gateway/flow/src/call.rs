//! A function call as the shell sees it: what to run, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A function's durable state, as of the start of a call.
pub type State = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

/// One call to make. At most one a function is under way.
#[derive(Debug)]
pub struct Call {
    /// Index of the function in the plan.
    pub function: usize,
    /// The input frame (`docs/formats/abi-tg1.md`).
    pub frame: Vec<u8>,
    /// Its state. The caller drops it before it reports the result, so that the commit changes
    /// it in place.
    pub state: State,
    /// The instance of the last call must not be used again.
    pub fresh: bool,
}

/// What came of a call.
#[derive(Debug)]
pub struct CallResult {
    /// How it ended.
    pub verdict: CallVerdict,
    /// Fuel used.
    pub fuel: u64,
    /// Time in the guest.
    pub elapsed: Duration,
    /// Linear memory of the instance afterwards, in bytes.
    pub memory_bytes: u64,
}

/// How a call ended.
#[derive(Debug)]
pub enum CallVerdict {
    /// It returned an output frame; empty means no output.
    Done(Vec<u8>),
    /// It asks to have the batch again.
    RetryBatch,
    /// It gives the whole batch up.
    DeadLetterBatch,
    /// It broke a bound or trapped; nothing it did counts. In words, for the operator.
    Failed(String),
}
