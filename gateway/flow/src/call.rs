//! A function call as the shell sees it: what to run, and what came of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A function's durable state, as of the start of a call.
pub type State = Arc<BTreeMap<Vec<u8>, Vec<u8>>>;

/// Which call it is. A result for a call that is no longer wanted is known by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallId {
    /// Index of the function in the plan.
    pub function: usize,
    /// Which of the function's workers makes it: below
    /// [`FunctionPlan::workers`](crate::FunctionPlan::workers).
    pub worker: usize,
    /// No other call of this gateway has it.
    pub(crate) serial: u64,
}

/// One call to make. At most one a worker is under way.
#[derive(Debug)]
pub struct Call {
    /// Which one it is; its result comes back under this.
    pub id: CallId,
    /// The input frame (`docs/formats/abi-tg1.md`).
    pub frame: Vec<u8>,
    /// Its state. The caller drops it before it reports the result, so that the commit changes
    /// it in place.
    pub state: State,
    /// The instance of the worker's last call must not be used again.
    pub fresh: bool,
}

/// What came of a call.
#[derive(Debug)]
pub struct CallResult {
    /// How it ended.
    pub verdict: CallVerdict,
    /// Fuel used.
    pub fuel: u64,
    /// Time in the guest, on the wall.
    pub elapsed: Duration,
    /// Of that, time on a processor.
    pub cpu: Duration,
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
    /// It missed its deadline; otherwise as [`CallVerdict::Failed`].
    Late(String),
}
