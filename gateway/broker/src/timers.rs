//! What has to happen at which time.

use std::collections::BTreeSet;
use std::time::Instant;

/// Whose time has come. Each connection and each session has at most one timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Connect timeout or keep-alive.
    Connection(u32),
    /// Delayed will or end of the session.
    Session(u32),
}

/// Timers in order of their time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, Timer)>,
}

impl Timers {
    /// Sets, moves or cancels `timer`; `armed` is its owner's note of the time it is set to.
    pub(crate) fn set(&mut self, timer: Timer, armed: &mut Option<Instant>, at: Option<Instant>) {
        if let Some(old) = armed.take() {
            self.order.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.order.insert((at, timer));
        }
        *armed = at;
    }

    pub(crate) fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due. Its owner's note is out of date then.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.order.remove(&(at, timer));
        Some(timer)
    }
}
