//! The low-power pattern: measure into the queue, and now and then switch the radio on, connect, flush, leave,
//! switch it off and sleep.
//!
//! ```
//! use tidegate_telemetry::{Duty, Rhythm, Step};
//! use tidegate_mqtt::Micros;
//!
//! // Every 15 minutes, or when the queue is half full; 20 s at most, 1 s for commands.
//! let mut duty = Duty::new(Rhythm {
//!     every: Micros::from_millis(900_000),
//!     most_awake: Micros::from_millis(20_000),
//!     listen: Micros::from_millis(1_000),
//! });
//! # let (mut shelf, mut input, mut waiting) = ([0; 64], [0; 64], [0; 64]);
//! # let mut client = tidegate_mqtt::Client::new(
//! #     tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
//! # let mut queue = tidegate_telemetry::Queue::new(&mut waiting, tidegate_telemetry::Overflow::DropOldest);
//! # let now = Micros(0);
//! match duty.step(now, &queue, &client) {
//!     Step::Sleep { until } => { /* set the wake-up timer, and sleep until then or until something is measured */ }
//!     Step::SwitchOn => { /* radio on, connect, and client.connected(now) */ }
//!     Step::Work => { /* queue.flush(...), client.output(...), client.handle_input(...) */ }
//!     Step::Leave => { /* client.leave(), and send what client.output(...) gives */ }
//!     Step::SwitchOff => { /* close, radio off, and client.disconnected() */ }
//! }
//! # assert_eq!(duty.step(now, &queue, &client), Step::Work);
//! ```
//!
//! Invariant: the radio is on for at most [`Rhythm::most_awake`] at a time; what is not acknowledged by then
//! stays in client and queue, for the next time.
//!
//! Not here: the radio, the timer, sleep itself.

use tidegate_mqtt::{Client, Micros};

use crate::queue::Queue;

/// How often, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Rhythm {
    /// From one connection to the next. A queue that is half full does not wait for it.
    pub every: Micros,
    /// How long the radio may be on, whatever comes of it.
    pub most_awake: Micros,
    /// How long to listen for commands after everything was sent.
    pub listen: Micros,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Step {
    /// Sleep, until then or until something was measured.
    Sleep {
        /// When to wake at the latest.
        until: Micros,
    },
    /// Switch the radio on, and connect.
    SwitchOn,
    /// Flush the queue, carry bytes.
    Work,
    /// End the connection as it should end.
    Leave,
    /// Switch the radio off.
    SwitchOff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asleep {
        until: Micros,
    },
    Awake {
        since: Micros,
        /// When everything was sent.
        sent: Option<Micros>,
    },
    Leaving {
        since: Micros,
    },
}

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Duty {
    rhythm: Rhythm,
    phase: Phase,
    /// The last time was in vain: a half-full queue is no reason to try again at once.
    failed: bool,
}

impl Duty {
    /// Connects at once.
    #[must_use]
    pub const fn new(rhythm: Rhythm) -> Duty {
        Duty { rhythm, phase: Phase::Asleep { until: Micros(0) }, failed: false }
    }

    /// What to do now. To be called after something was measured, when bytes have come in or went out, and at
    /// [`Duty::next_deadline`].
    pub fn step(&mut self, now: Micros, queue: &Queue<'_>, client: &Client<'_>) -> Step {
        match self.phase {
            Phase::Asleep { until } if now < until && (self.failed || !queue.is_half_full()) => {
                Step::Sleep { until }
            }
            Phase::Asleep { .. } => {
                self.phase = Phase::Awake { since: now, sent: None };
                Step::SwitchOn
            }
            Phase::Awake { since, .. } | Phase::Leaving { since }
                if now >= since.after(self.rhythm.most_awake) =>
            {
                self.rest(now, true)
            }
            Phase::Awake { since, sent } => {
                let settled = client.is_up() && queue.is_empty() && client.is_settled();
                let sent = if settled { Some(sent.unwrap_or(now)) } else { None };
                self.phase = Phase::Awake { since, sent };
                if sent.is_none_or(|sent| now < sent.after(self.rhythm.listen)) {
                    return Step::Work;
                }
                self.phase = Phase::Leaving { since };
                Step::Leave
            }
            Phase::Leaving { .. } if client.is_settled() => self.rest(now, false),
            Phase::Leaving { .. } => Step::Work,
        }
    }

    /// When [`Duty::step`] has to be called, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Micros {
        match self.phase {
            Phase::Asleep { until } => until,
            Phase::Awake { since, sent } => {
                let most = since.after(self.rhythm.most_awake);
                sent.map_or(most, |sent| sent.after(self.rhythm.listen).min(most))
            }
            Phase::Leaving { since } => since.after(self.rhythm.most_awake),
        }
    }

    fn rest(&mut self, now: Micros, failed: bool) -> Step {
        self.phase = Phase::Asleep { until: now.after(self.rhythm.every) };
        self.failed = failed;
        Step::SwitchOff
    }
}
