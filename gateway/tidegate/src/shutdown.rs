//! The wish to stop, from the signals to every thread.

use std::process;
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Asks all holders of a [`Shutdown`] to stop. Dropping it asks, too.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Tells when to stop.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Trigger {
    /// Asks to stop. Asking twice is the same as once.
    pub fn pull(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// A pair.
    pub fn new() -> (Trigger, Self) {
        let (sender, receiver) = watch::channel(false);
        (Trigger(sender), Self(receiver))
    }

    /// Whether to stop.
    pub fn requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when it is time to stop; at once when it already is.
    pub async fn wait(&self) {
        // An error means that nobody can ask any more: that is a reason to stop as well.
        let _ = self.0.clone().wait_for(|stop| *stop).await;
    }
}

/// Turns the first SIGTERM or SIGINT into a clean shutdown; the second one ends the process at
/// once. Listens on a thread of its own, because a store may be recovering for a while before
/// any other thread has time.
///
/// # Errors
/// The system gives no thread or no signal handler.
pub fn on_signals() -> anyhow::Result<Shutdown> {
    let (trigger, shutdown) = Shutdown::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    drop(guard);
    thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(128 << 10)
        .spawn(move || runtime.block_on(listen(trigger, terminate, interrupt)))
        .context("cannot start a thread")?;
    Ok(shutdown)
}

async fn listen(trigger: Trigger, mut terminate: Signal, mut interrupt: Signal) {
    let name = either(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = name, "shutting down; the same signal again ends it at once");
    trigger.pull();
    let name = either(&mut terminate, &mut interrupt).await;
    tracing::warn!(signal = name, "ended at once; the store is recovered at the next start");
    process::exit(1);
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_who_waits_is_told() {
        let (trigger, shutdown) = Shutdown::new();
        assert!(!shutdown.requested());
        let other = shutdown.clone();
        tokio::join!(shutdown.wait(), other.wait(), async { trigger.pull() });
        assert!(shutdown.requested() && other.requested());
    }

    #[tokio::test]
    async fn a_lost_trigger_is_a_reason_to_stop() {
        let (trigger, shutdown) = Shutdown::new();
        drop(trigger);
        shutdown.wait().await;
        assert!(shutdown.requested());
    }
}
