//! A module and its instance, called on the spot.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_flow::{Call, CallResult, CallVerdict};
use tidegate_runtime::{Instance, Level, SecretValue, Secrets, StartFailure, Verdict};

use super::cast::Part;

/// One function under rehearsal.
pub(super) struct Guest {
    part: Part,
    instance: Option<Instance>,
    values: BTreeMap<String, Option<SecretValue>>,
    secrets: Arc<Secrets>,
    pub(super) cost: Cost,
    /// What it logged since this was taken last.
    pub(super) logs: Vec<String>,
}

/// What a function's calls cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Calls made.
    pub(crate) calls: u64,
    /// Fuel of all of them.
    pub(crate) fuel: u64,
    /// The longest, by the real clock.
    pub(crate) longest: Duration,
    /// The function's deadline on a gateway.
    pub(crate) deadline: Duration,
}

/// Why a function does not start.
#[derive(Debug)]
pub(crate) struct StartError {
    function: String,
    why: StartFailure,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not start: {}", self.function, self.why)
    }
}

impl std::error::Error for StartError {}

impl Guest {
    /// Starts an instance.
    pub(super) fn start(part: Part) -> Result<Guest, StartError> {
        let cost = Cost { deadline: part.deadline, ..Cost::default() };
        let values: BTreeMap<_, _> = part.secrets.iter().map(|name| (name.clone(), None)).collect();
        let secrets = Arc::new(Secrets::new(values.clone()));
        let logs = Vec::new();
        let mut guest = Guest { part, instance: None, values, secrets, cost, logs };
        guest.restart()?;
        Ok(guest)
    }

    /// A new instance takes over.
    pub(super) fn restart(&mut self) -> Result<(), StartError> {
        self.instance = None;
        let instance = self.part.module.instantiate_with(&self.part.config, self.secrets.clone());
        let instance =
            instance.map_err(|why| StartError { function: self.part.name.clone(), why })?;
        self.instance = Some(instance);
        Ok(())
    }

    /// Gives a secret this value, from the next call on. False when the function may not read it.
    pub(super) fn set_secret(&mut self, name: &str, value: &SecretValue) -> bool {
        let Some(place) = self.values.get_mut(name) else { return false };
        *place = Some(value.clone());
        self.secrets = Arc::new(self.secrets.replaced(self.values.clone()));
        if let Some(instance) = &mut self.instance {
            instance.give_secrets(self.secrets.clone());
        }
        true
    }

    /// Makes a call, in a new instance where the last one has failed.
    pub(super) fn call(&mut self, call: Call) -> CallResult {
        if call.fresh {
            self.instance = None;
        }
        if self.instance.is_none()
            && let Err(error) = self.restart()
        {
            return failed(format!("cannot start: {}", error.why));
        }
        let Some(instance) = &mut self.instance else {
            return failed("it has no instance".to_owned());
        };
        let outcome = instance.call(&call.frame, call.state);
        self.logs.extend(outcome.logs.into_iter().map(|(level, text)| line(level, &text)));
        self.cost.calls += 1;
        self.cost.fuel += outcome.fuel;
        self.cost.longest = self.cost.longest.max(outcome.elapsed);
        let verdict = match outcome.verdict {
            Verdict::Done(frame) => CallVerdict::Done(frame),
            Verdict::RetryBatch => CallVerdict::RetryBatch,
            Verdict::DeadLetterBatch => CallVerdict::DeadLetterBatch,
            Verdict::Failed(failure) => {
                self.instance = None;
                CallVerdict::Failed(failure.to_string())
            }
        };
        CallResult {
            verdict,
            fuel: outcome.fuel,
            elapsed: outcome.elapsed,
            cpu: outcome.elapsed,
            memory_bytes: outcome.memory_bytes as u64,
        }
    }
}

fn failed(why: String) -> CallResult {
    CallResult {
        verdict: CallVerdict::Failed(why),
        fuel: 0,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        memory_bytes: 0,
    }
}

fn line(level: Level, text: &str) -> String {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
    };
    format!("{level}: {text}")
}
