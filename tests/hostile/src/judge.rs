//! What came of a module.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_abi::{BatchWriter, Kind, MessageRef};
use tidegate_runtime::{Limits, Module, State, Verdict};

/// What must come of a module. The words are part of what the operator reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not installed.
    Refused(&'static str),
    /// Installed, and no instance of it starts.
    NotStarted(&'static str),
    /// Started, and its call fails.
    Fails(&'static str),
    /// Its call is within all bounds of the runtime. What it asks for may be refused later.
    Handled,
}

/// What came of it, and how long that took.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// How far it came.
    pub came: Came,
    /// Time to compile it, or to refuse that.
    pub install: Duration,
    /// Time to start an instance, and to find that this fails.
    pub start: Duration,
    /// Time of its call.
    pub call: Duration,
}

/// How far a module came, and the words that ended it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Not installed.
    Refused(String),
    /// Not started.
    NotStarted(String),
    /// Its call failed.
    Failed(String),
    /// Its call ended in good order.
    Handled,
}

impl Fate {
    /// Whether this is what came of it.
    #[must_use]
    pub fn is(self, came: &Came) -> bool {
        match (self, came) {
            (Fate::Refused(words), Came::Refused(text))
            | (Fate::NotStarted(words), Came::NotStarted(text))
            | (Fate::Fails(words), Came::Failed(text)) => text.contains(words),
            (Fate::Handled, Came::Handled) => true,
            (Fate::Refused(_) | Fate::NotStarted(_) | Fate::Fails(_) | Fate::Handled, _) => false,
        }
    }
}

/// The default limits, without end to the fuel: the clock must be what stops a guest, and a
/// start may take no longer than a call.
#[must_use]
pub fn harsh_limits() -> Limits {
    let limits = Limits::default();
    Limits {
        fuel_per_batch: u64::MAX,
        first_call_fuel: u64::MAX,
        start_deadline: limits.deadline,
        ..limits
    }
}

/// Installs a module, starts it and gives it one batch.
#[must_use]
pub fn judge(wasm: &[u8], limits: &Limits) -> Judgement {
    let nothing = Duration::ZERO;
    let mut judgement =
        Judgement { came: Came::Handled, install: nothing, start: nothing, call: nothing };
    let started = Instant::now();
    let module = Module::compile(wasm, limits);
    judgement.install = started.elapsed();
    let module = match module {
        Ok(module) => module,
        Err(error) => return Judgement { came: Came::Refused(error.to_string()), ..judgement },
    };
    let started = Instant::now();
    let instance = module.instantiate(b"{}");
    judgement.start = started.elapsed();
    let mut instance = match instance {
        Ok(instance) => instance,
        Err(error) => return Judgement { came: Came::NotStarted(error.to_string()), ..judgement },
    };
    let state = Arc::new(state());
    let started = Instant::now();
    let outcome = instance.call(&batch(), state);
    judgement.call = started.elapsed();
    if let Verdict::Failed(failure) = outcome.verdict {
        judgement.came = Came::Failed(failure.to_string());
    }
    judgement
}

/// 16 readings.
fn batch() -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, 42);
    for seq in 0..16 {
        let topic = "sensors/a/telemetry";
        let message = MessageRef { seq, topic, payload: b"21.5", ..MessageRef::default() };
        // 16 short messages always fit.
        let _ = writer.push(&message);
    }
    writer.finish()
}

/// 10,000 entries, about 1 MB: what a scan goes through.
fn state() -> State {
    (0..10_000)
        .map(|number| (format!("keys/{number:05}").into_bytes(), vec![b'v'; 90]))
        .collect::<BTreeMap<_, _>>()
}
