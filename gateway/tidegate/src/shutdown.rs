//! The wish to stop, from the signals to every thread.

use std::process;
use std::sync::Arc;
use std::thread;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Whether to stop; shared by all threads.
#[derive(Debug, Clone)]
pub struct Shutdown {
    sender: Arc<watch::Sender<bool>>,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { sender: Arc::new(watch::Sender::new(false)) }
    }
}

impl Shutdown {
    /// Asks everybody to stop. Asking twice is the same as once.
    pub fn request(&self) {
        self.sender.send_replace(true);
    }

    /// Whether somebody has asked.
    pub fn requested(&self) -> bool {
        *self.sender.borrow()
    }

    /// Turns to `true` when somebody asks.
    pub fn receiver(&self) -> watch::Receiver<bool> {
        self.sender.subscribe()
    }

    /// Returns when somebody asks; at once when it has happened.
    pub async fn wait(&self) {
        // It fails only without a sender, and `self` is one.
        let _ = self.receiver().wait_for(|stop| *stop).await;
    }
}

/// Turns the first SIGTERM or SIGINT into a clean shutdown; the second one ends the process at
/// once. Listens on a thread of its own, because a store may be recovering for a while before
/// any other thread has time.
///
/// # Errors
/// The system gives no thread or no signal handler.
pub fn on_signals() -> anyhow::Result<Shutdown> {
    let shutdown = Shutdown::default();
    let asks = shutdown.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let guard = runtime.enter();
    let terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    drop(guard);
    thread::Builder::new()
        .name("signals".to_owned())
        .stack_size(128 << 10)
        .spawn(move || runtime.block_on(listen(asks, terminate, interrupt)))
        .context("cannot start a thread")?;
    Ok(shutdown)
}

async fn listen(shutdown: Shutdown, mut terminate: Signal, mut interrupt: Signal) {
    let name = either(&mut terminate, &mut interrupt).await;
    tracing::info!(signal = name, "shutting down; the same signal again ends it at once");
    shutdown.request();
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
        let shutdown = Shutdown::default();
        assert!(!shutdown.requested());
        let other = shutdown.clone();
        let mut receiver = shutdown.receiver();
        tokio::join!(shutdown.wait(), other.wait(), async { shutdown.request() });
        assert!(other.requested());
        assert!(*receiver.wait_for(|stop| *stop).await.unwrap());
    }

    #[tokio::test]
    async fn who_comes_late_is_told_at_once() {
        let shutdown = Shutdown::default();
        shutdown.request();
        shutdown.wait().await;
    }
}
