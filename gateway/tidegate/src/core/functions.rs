//! One thread a worker, each with an instance of its own: guests never run on the core's thread.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use rustix::process::nice;
use rustix::time::{ClockId, clock_gettime};
use tidegate_flow::{Call, CallResult, CallVerdict};
use tidegate_runtime::{Failure, Instance, Level, Module, Secrets, Verdict};
use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use crate::guest_log::{GuestLog, LineKind};
use crate::secrets::Granted;

/// How much nicer guests are than the core: of a processor that both want they get a quarter, so
/// that functions in an endless loop do not delay acknowledgements.
const BEHIND_THE_CORE: i32 = 5;

/// Where the core puts a function's calls: one is under way at a time for each worker.
pub(crate) struct FunctionThreads {
    /// By the number of the worker.
    workers: Vec<SyncSender<Call>>,
}

/// What a function's threads need.
pub(crate) struct Loaded {
    /// Its name, for logs.
    pub(crate) name: String,
    /// The checked module.
    pub(crate) module: Module,
    /// Its configuration, JSON.
    pub(crate) config: Vec<u8>,
    /// Where its lines go.
    pub(crate) log: GuestLog,
    /// The secrets that it may read.
    pub(crate) granted: Granted,
}

impl FunctionThreads {
    /// Starts so many threads; they end when this is dropped. An instance is made when its
    /// worker is called for the first time.
    pub(crate) fn start(
        loaded: Loaded,
        workers: usize,
        events: &UnboundedSender<Event>,
    ) -> io::Result<FunctionThreads> {
        let (name, loaded) = (loaded.name.clone(), Arc::new(loaded));
        // What is there already cannot fail to be loaded, so its index does not matter.
        Self::spawn(0, &name, workers, Arc::new(move || Ok(loaded.clone())), events)
    }

    /// Starts the threads, the first of which loads the module: they take calls meanwhile. When
    /// that fails, they say so and end.
    pub(crate) fn start_with(
        index: usize,
        name: &str,
        workers: usize,
        load: impl Fn() -> Result<Loaded, String> + Send + Sync + 'static,
        events: &UnboundedSender<Event>,
    ) -> io::Result<FunctionThreads> {
        let loaded = OnceLock::new();
        let once = move || loaded.get_or_init(|| load().map(Arc::new)).clone();
        Self::spawn(index, name, workers, Arc::new(once), events)
    }

    fn spawn(
        index: usize,
        name: &str,
        workers: usize,
        loaded: Arc<dyn Fn() -> Result<Arc<Loaded>, String> + Send + Sync>,
        events: &UnboundedSender<Event>,
    ) -> io::Result<FunctionThreads> {
        let start = |worker: usize| {
            let (calls, queue) = sync_channel(1);
            let (loaded, events) = (loaded.clone(), events.clone());
            let name = match worker {
                0 => format!("fn-{name}"),
                _ => format!("fn{worker}-{name}"),
            };
            let work = move || {
                if let Err(error) = nice(BEHIND_THE_CORE) {
                    tracing::debug!(%error, "guests are as urgent as the core here");
                }
                match loaded() {
                    Ok(loaded) => serve(&loaded, &queue, &events),
                    // The core's thread is gone only when everything ends.
                    Err(why) => drop(events.send(Event::NotStarted(index, why))),
                }
            };
            thread::Builder::new().name(name).spawn(work)?;
            Ok(calls)
        };
        Ok(FunctionThreads { workers: (0..workers).map(start).collect::<io::Result<_>>()? })
    }

    /// Hands over a call. False when its thread has died.
    #[must_use]
    pub(crate) fn submit(&self, call: Call) -> bool {
        self.workers.get(call.id.worker).is_some_and(|calls| calls.send(call).is_ok())
    }
}

fn serve(loaded: &Loaded, queue: &Receiver<Call>, events: &UnboundedSender<Event>) {
    let (mut instance, mut granted) = (None, loaded.granted.clone());
    while let Ok(call) = queue.recv() {
        if call.fresh {
            instance = None;
        }
        let id = call.id;
        let result = run(loaded, &mut instance, granted.now(), call);
        match result.verdict {
            CallVerdict::Failed(_) | CallVerdict::Late(_) => instance = None,
            CallVerdict::Done(_) | CallVerdict::RetryBatch | CallVerdict::DeadLetterBatch => {}
        }
        if events.send(Event::Called(id, result)).is_err() {
            return;
        }
    }
}

fn run(
    loaded: &Loaded,
    slot: &mut Option<Instance>,
    secrets: Arc<Secrets>,
    call: Call,
) -> CallResult {
    let instance = match slot {
        Some(instance) => {
            instance.give_secrets(secrets);
            instance
        }
        None => match loaded.module.instantiate_with(&loaded.config, secrets) {
            Ok(instance) => slot.insert(instance),
            Err(start) => {
                log_lines(loaded, &start.logs);
                return CallResult {
                    verdict: CallVerdict::Failed(format!("cannot start: {}", start.failure)),
                    fuel: 0,
                    elapsed: Duration::ZERO,
                    cpu: Duration::ZERO,
                    memory_bytes: 0,
                };
            }
        },
    };
    let before = processor_time();
    let outcome = instance.call(&call.frame, call.state);
    let cpu = processor_time().saturating_sub(before);
    log_lines(loaded, &outcome.logs);
    CallResult {
        fuel: outcome.fuel,
        elapsed: outcome.elapsed,
        cpu,
        memory_bytes: outcome.memory_bytes as u64,
        verdict: match outcome.verdict {
            Verdict::Done(frame) => CallVerdict::Done(frame),
            Verdict::RetryBatch => CallVerdict::RetryBatch,
            Verdict::DeadLetterBatch => CallVerdict::DeadLetterBatch,
            Verdict::Failed(failure @ Failure::Deadline { .. }) => {
                CallVerdict::Late(failure.to_string())
            }
            Verdict::Failed(failure) => CallVerdict::Failed(failure.to_string()),
        },
    }
}

/// Time that this thread has had on a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

fn log_lines(loaded: &Loaded, lines: &[(Level, String)]) {
    let function = loaded.name.as_str();
    for (level, text) in lines {
        let kind = match level {
            Level::Error => LineKind::Error,
            Level::Warn => LineKind::Warn,
            Level::Info => LineKind::Info,
            Level::Debug => LineKind::Debug,
        };
        loaded.log.push(function, kind, text);
        match level {
            Level::Error => tracing::error!(target: "function", function, "{text}"),
            Level::Warn => tracing::warn!(target: "function", function, "{text}"),
            Level::Info => tracing::info!(target: "function", function, "{text}"),
            Level::Debug => tracing::debug!(target: "function", function, "{text}"),
        }
    }
}
