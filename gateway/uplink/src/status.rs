//! What an operator sees of an uplink.

use std::time::{Duration, Instant};

/// Where the connection stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkState {
    /// Asked for, not there yet.
    Connecting {
        /// Session number.
        session: u64,
        /// Since when.
        since: Instant,
    },
    /// Standing.
    Connected {
        /// Session number.
        session: u64,
        /// Since when.
        since: Instant,
        /// The server asked for a pause: until when, and what it said.
        paused: Option<(Instant, String)>,
    },
    /// Between two attempts.
    Waiting {
        /// When the next attempt begins; `None` before the very first, which begins at once.
        retry_at: Option<Instant>,
        /// How the last attempt ended, for the operator.
        why: String,
        /// Attempts since the last acknowledgement.
        attempts: u32,
    },
    /// Shut down for good.
    Stopped,
}

/// A snapshot of one uplink. Counts are since the daemon started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkStatus {
    /// Where the connection stands.
    pub state: UplinkState,
    /// Which of the uplink's servers is in use, or was tried last.
    pub endpoint: usize,
    /// Records sent, or collected for a batch, and not answered.
    pub in_flight: usize,
    /// Their bytes.
    pub in_flight_bytes: usize,
    /// Records that were not sent because the server said that it has them.
    pub held: u64,
    /// Records sent, repeated transmissions included.
    pub sent: u64,
    /// Records that the server acknowledged, repeated ones included.
    pub acknowledged: u64,
    /// Bytes of those.
    pub acknowledged_bytes: u64,
    /// Records in transmissions that the server answered with a refusal.
    pub refused: u64,
    /// Records given up after repeated refusals.
    pub rejected: u64,
    /// Connections that stood.
    pub connections: u64,
    /// When the last acknowledgement came.
    pub last_acknowledged: Option<Instant>,
    /// The last refusal or lost connection, for the operator; stays after recovery.
    pub last_error: Option<String>,
    /// The window is narrowed to one message, to find out which one the server does not bear.
    pub probing: bool,
}

impl UplinkState {
    /// One sentence, for `tidegate status` and the log.
    #[must_use]
    pub fn sentence(&self, now: Instant) -> String {
        match self {
            UplinkState::Connecting { since, .. } => {
                format!("connecting for {}", seconds(now.saturating_duration_since(*since)))
            }
            UplinkState::Connected { since, paused: None, .. } => {
                format!("connected for {}", seconds(now.saturating_duration_since(*since)))
            }
            UplinkState::Connected { paused: Some((until, why)), .. } => {
                format!(
                    "connected, pausing {}: {why}",
                    seconds(until.saturating_duration_since(now))
                )
            }
            UplinkState::Waiting { retry_at, why, attempts } => {
                let wait = retry_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
                format!("attempt {} in {}: {why}", attempts.saturating_add(1), seconds(wait))
            }
            UplinkState::Stopped => "stopped".to_owned(),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
