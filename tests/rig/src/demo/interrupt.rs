//! Ctrl-C and SIGTERM: the first asks the demo to end properly, the second to give up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

/// Counts the signals.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    count: Arc<AtomicUsize>,
}

impl Interrupt {
    pub(super) fn install() -> Result<Interrupt> {
        let count = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&count);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot watch for signals")?;
        std::thread::spawn(move || {
            runtime.block_on(async move {
                let interrupts = signal(SignalKind::interrupt());
                let (Ok(mut interrupt), Ok(mut terminate)) =
                    (interrupts, signal(SignalKind::terminate()))
                else {
                    eprintln!("cannot watch for signals: Ctrl-C ends the demo at once");
                    return;
                };
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                    }
                    counting.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        Ok(Interrupt { count })
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}
