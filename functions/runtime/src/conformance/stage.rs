//! Where the module is put through its calls.

use super::Subject;
use super::output;
use crate::{Failure, Instance, Module, Outcome, State, Verdict};
use std::sync::Arc;
use tidegate_abi::BatchReader;

/// The module, and what was seen of it so far.
pub(super) struct Stage<'a> {
    module: &'a Module,
    pub(super) subject: &'a Subject<'a>,
    pub(super) most_memory: usize,
    pub(super) fuel_per_message: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(module: &'a Module, subject: &'a Subject<'a>) -> Self {
        Self { module, subject, most_memory: 0, fuel_per_message: 0 }
    }

    /// A new instance with the subject's configuration.
    pub(super) fn instance(&self) -> Result<Instance, String> {
        let config = self.subject.config.as_bytes();
        self.module.instantiate(config).map_err(|error| format!("a later start failed: {error}"))
    }

    /// Starts an instance with another configuration: whether it takes it, and how it failed.
    pub(super) fn start_with(&self, config: &[u8]) -> Result<(), Failure> {
        match self.module.instantiate(config) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.failure),
        }
    }

    /// Gives a frame, and checks what comes back against everything that holds for all outputs.
    pub(super) fn give(
        &mut self,
        instance: &mut Instance,
        frame: &[u8],
        state: &Arc<State>,
    ) -> Result<Verdict, String> {
        let outcome = instance.call(frame, Arc::clone(state));
        self.most_memory = self.most_memory.max(outcome.memory_bytes);
        let Outcome { verdict, logs, .. } = outcome;
        let said = logs.last().map(|(_, line)| format!("; it said: {line}")).unwrap_or_default();
        match verdict {
            Verdict::Failed(failure) => Err(format!("{failure}{said}")),
            Verdict::Done(output) => {
                let header = BatchReader::parse(frame).map_err(|error| error.to_string())?.header();
                output::check(&output, header)?;
                Ok(Verdict::Done(output))
            }
            Verdict::RetryBatch | Verdict::DeadLetterBatch => Ok(verdict),
        }
    }

    /// Gives a frame to a new instance.
    pub(super) fn give_new(&mut self, frame: &[u8], state: &Arc<State>) -> Result<Verdict, String> {
        let mut instance = self.instance()?;
        self.give(&mut instance, frame, state)
    }
}
