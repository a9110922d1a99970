//! One thread a function: guests never run on the core's thread.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tidegate_flow::{Call, CallResult, CallVerdict};
use tidegate_runtime::{Instance, Level, Module, Verdict};
use tokio::sync::mpsc::UnboundedSender;

use super::Event;

/// Where the core puts a function's calls: one is under way at a time.
pub(crate) struct FunctionThread {
    calls: SyncSender<Call>,
}

/// What a function thread needs.
pub(crate) struct Loaded {
    /// Index in the plan.
    pub(crate) index: usize,
    /// Its name, for logs.
    pub(crate) name: String,
    /// The checked module.
    pub(crate) module: Module,
    /// Its configuration, JSON.
    pub(crate) config: Vec<u8>,
}

impl FunctionThread {
    /// Starts the thread; it ends when this is dropped.
    pub(crate) fn start(
        loaded: Loaded,
        events: UnboundedSender<Event>,
    ) -> io::Result<FunctionThread> {
        let (calls, queue) = sync_channel(1);
        thread::Builder::new()
            .name(format!("fn-{}", loaded.name))
            .spawn(move || serve(&loaded, &queue, &events))?;
        Ok(FunctionThread { calls })
    }

    /// Hands over a call. False when the thread has died.
    #[must_use]
    pub(crate) fn submit(&self, call: Call) -> bool {
        self.calls.send(call).is_ok()
    }
}

fn serve(loaded: &Loaded, queue: &Receiver<Call>, events: &UnboundedSender<Event>) {
    let mut instance = None;
    while let Ok(call) = queue.recv() {
        if call.fresh {
            instance = None;
        }
        let result = run(loaded, &mut instance, call);
        if matches!(result.verdict, CallVerdict::Failed(_)) {
            instance = None;
        }
        if events.send(Event::Called(loaded.index, result)).is_err() {
            return;
        }
    }
}

fn run(loaded: &Loaded, slot: &mut Option<Instance>, call: Call) -> CallResult {
    let instance = match slot {
        Some(instance) => instance,
        None => match loaded.module.instantiate(&loaded.config) {
            Ok(instance) => slot.insert(instance),
            Err(start) => {
                log_lines(&loaded.name, &start.logs);
                return CallResult {
                    verdict: CallVerdict::Failed(format!("cannot start: {}", start.failure)),
                    fuel: 0,
                    elapsed: std::time::Duration::ZERO,
                    memory_bytes: 0,
                };
            }
        },
    };
    let outcome = instance.call(&call.frame, call.state);
    log_lines(&loaded.name, &outcome.logs);
    CallResult {
        fuel: outcome.fuel,
        elapsed: outcome.elapsed,
        memory_bytes: outcome.memory_bytes as u64,
        verdict: match outcome.verdict {
            Verdict::Done(frame) => CallVerdict::Done(frame),
            Verdict::RetryBatch => CallVerdict::RetryBatch,
            Verdict::DeadLetterBatch => CallVerdict::DeadLetterBatch,
            Verdict::Failed(failure) => CallVerdict::Failed(failure.to_string()),
        },
    }
}

fn log_lines(function: &str, lines: &[(Level, String)]) {
    for (level, text) in lines {
        match level {
            Level::Error => tracing::error!(target: "function", function, "{text}"),
            Level::Warn => tracing::warn!(target: "function", function, "{text}"),
            Level::Info => tracing::info!(target: "function", function, "{text}"),
            Level::Debug => tracing::debug!(target: "function", function, "{text}"),
        }
    }
}
