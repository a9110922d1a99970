//! Holds a module that somebody else has built against the contract, promise by promise.
//!
//! Nothing is known about what the function is for. So nothing is said about its results, but about
//! what holds for all of them: it takes frames of each kind and size, its output is one that the
//! gateway takes, and what it says depends on the frame and the state alone.
//!
//! ```no_run
//! use tidegate_runtime::conformance::{Subject, check};
//! use tidegate_runtime::Limits;
//!
//! let wasm = std::fs::read("threshold.wasm")?;
//! let subject = Subject { config: r#"{"limit":30}"#, ..Subject::default() };
//! let report = check(&wasm, &subject, &Limits::default());
//! for finding in &report.findings {
//!     println!("{finding}");
//! }
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Not here: what the function should answer (that is `tidegate fn test`), and how fast it is.

mod frames;
mod output;
mod promises;
mod stage;

use crate::{Limits, Module};
use stage::Stage;
use std::fmt;

/// What the module is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its configuration, JSON. The function must accept it.
    pub config: &'a str,
    /// Topic of the messages that it is given.
    pub topic: &'a str,
    /// Payload of most of them; others are empty, large, or no text.
    pub payload: &'a [u8],
}

impl Default for Subject<'_> {
    fn default() -> Self {
        Self { config: "{}", topic: "sensors/g1/telemetry", payload: br#"{"id":"1","value":31.5}"# }
    }
}

/// What was checked and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Promises that were looked at, in words, in order.
    pub checked: Vec<&'static str>,
    /// What is wrong; none = the module keeps the contract as far as this can see.
    pub findings: Vec<Finding>,
    /// The linear memory after the start, and after the longest run; bytes.
    pub memory_bytes: (usize, usize),
    /// Fuel for each message in a batch of 64.
    pub fuel_per_message: u64,
}

/// One promise that the module does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The promise.
    pub promise: &'static str,
    /// What happened instead.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.text)
    }
}

/// Runs a module through all promises. Takes well below a second for a small function. Fuel and time
/// are 20 times the limits: they bound what a function is for, which is not looked at here.
pub fn check(wasm: &[u8], subject: &Subject<'_>, limits: &Limits) -> Report {
    let limits = &Limits {
        fuel_per_batch: limits.fuel_per_batch.saturating_mul(20),
        fuel_per_message: limits.fuel_per_message.saturating_mul(20),
        deadline: limits.deadline.saturating_mul(100),
        start_deadline: limits.start_deadline.saturating_mul(10),
        ..limits.clone()
    };
    let mut report = Report {
        checked: Vec::new(),
        findings: Vec::new(),
        memory_bytes: (0, 0),
        fuel_per_message: 0,
    };
    let promise = "the module can be installed";
    report.checked.push(promise);
    let module = match Module::compile(wasm, limits) {
        Ok(module) => module,
        Err(error) => {
            report.findings.push(Finding { promise, text: error.to_string() });
            return report;
        }
    };
    let promise = "it accepts its configuration";
    report.checked.push(promise);
    match module.instantiate(subject.config.as_bytes()) {
        Ok(instance) => report.memory_bytes.0 = instance.memory_bytes(),
        Err(error) => {
            let text = format!("{error}; the configuration is {}", subject.config);
            report.findings.push(Finding { promise, text });
            return report;
        }
    }
    let mut stage = Stage::new(&module, subject);
    for &(promise, look) in promises::ALL {
        report.checked.push(promise);
        if let Err(text) = look(&mut stage) {
            report.findings.push(Finding { promise, text });
        }
    }
    report.memory_bytes.1 = stage.most_memory;
    report.fuel_per_message = stage.fuel_per_message;
    report
}
