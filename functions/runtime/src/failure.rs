//! How a call ended.

use std::fmt;
use std::time::Duration;
use tidegate_abi::{FrameError, Level};

/// What a call said, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What is to become of the batch.
    pub verdict: Verdict,
    /// Fuel used; the same for the same frame, state and history of the instance.
    pub fuel: u64,
    /// Time used by the clock on the wall.
    pub elapsed: Duration,
    /// Linear memory of the instance after the call, bytes.
    pub memory_bytes: usize,
    /// What the guest logged through the import `log`, in order; kept for failed calls too.
    pub logs: Vec<(Level, String)>,
}

/// What is to become of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Handled. The output frame has been checked, and the entries that its NACKs name exist;
    /// empty = no output.
    Done(Vec<u8>),
    /// The function asks for the whole batch again, later.
    RetryBatch,
    /// The function wants the whole batch among the dead letters.
    DeadLetterBatch,
    /// The call went wrong. Nothing of it counts, and the instance is spent.
    Failed(Failure),
}

/// What went wrong in a call.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Failure {
    /// The guest trapped: a panic, an abort, a division by zero, a wild pointer.
    #[error("the function trapped: {text}")]
    Trap {
        /// The guest's last words, where it has said `panicked at ...`, then the engine's.
        text: String,
    },
    /// More instructions than the batch may cost.
    #[error(
        "the function used up its {fuel} units of fuel; raise fuel_per_message, or look for a loop"
    )]
    OutOfFuel {
        /// The budget of this call.
        fuel: u64,
    },
    /// Longer by the clock than a call may take.
    #[error("the function was stopped after {elapsed:?}: its deadline is {deadline:?}")]
    Deadline {
        /// The limit.
        deadline: Duration,
        /// When it was noticed.
        elapsed: Duration,
    },
    /// More linear memory than the function may have.
    #[error("the function asked for {wanted} bytes of memory, its limit is {limit}")]
    MemoryLimit {
        /// Bytes of memory it would have had.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
    /// Calls nested too deep.
    #[error("the function's calls are nested too deep (stack_depth {depth}): endless recursion?")]
    StackOverflow {
        /// The limit.
        depth: usize,
    },
    /// Too many calls of imports.
    #[error("the function called the gateway more than {limit} times in one call")]
    HostCalls {
        /// The limit.
        limit: u32,
    },
    /// The output frame is longer than allowed.
    #[error("the function's output has {bytes} bytes, its limit is {limit}")]
    OutputTooLarge {
        /// Bytes announced.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The result of `tg_handle` points outside of the guest's memory.
    #[error(
        "the function says its output is {bytes} bytes at {at}, outside of its memory of {memory} bytes"
    )]
    OutputOutOfMemory {
        /// Address.
        at: usize,
        /// Bytes announced.
        bytes: usize,
        /// Bytes of memory.
        memory: usize,
    },
    /// The output frame is not one.
    #[error("the function's output is malformed: {0}")]
    BadOutput(FrameError),
    /// A NACK names an entry that the batch does not have.
    #[error("the function's output refuses entry {index} of a batch of {count}")]
    NackIndex {
        /// The index in the NACK.
        index: u32,
        /// Entries of the batch.
        count: u32,
    },
    /// `tg_buffer` returned a buffer that is not inside the guest's memory.
    #[error(
        "the function's buffer for {bytes} bytes at {at} is outside of its memory of {memory} bytes"
    )]
    BadBuffer {
        /// Address as an unsigned number.
        at: usize,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes of memory.
        memory: usize,
    },
    /// `tg_handle` returned a number below -2.
    #[error("the function returned {code}, which means that it failed")]
    Refused {
        /// The number.
        code: i64,
    },
    /// `tg_init` did not return 0.
    #[error("the function does not accept its configuration (tg_init returned {code})")]
    Configuration {
        /// The number.
        code: i32,
    },
    /// The host gave a frame that is not one.
    #[error("the input frame is malformed: {0}")]
    BadInput(FrameError),
    /// The instance has failed before and was called again.
    #[error("the instance has failed before and cannot be used any more")]
    Spent,
}

/// Why no instance could be started.
#[derive(Debug, Clone, PartialEq)]
pub struct StartFailure {
    /// What went wrong.
    pub failure: Failure,
    /// What the guest logged until then: usually the reason.
    pub logs: Vec<(Level, String)>,
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = self.failure.to_string();
        match self.logs.last() {
            // A panic's line is in the failure already.
            Some((_, text)) if !failure.contains(text.as_str()) => write!(f, "{failure}: {text}"),
            Some(_) | None => f.write_str(&failure),
        }
    }
}

impl std::error::Error for StartFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}
