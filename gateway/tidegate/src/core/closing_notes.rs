//! Why clients were turned away, for the operator's log: most 3.1.1 clients only ever see that
//! the connection was lost. Limited, so that no client can fill the log.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_broker::CloseReason;

/// Lines in one [`WINDOW`].
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Writes the notes.
#[derive(Debug, Default)]
pub(crate) struct ClosingNotes {
    window: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl ClosingNotes {
    /// A connection is closed from this side.
    pub(crate) fn note(&mut self, now: Instant, peer: SocketAddr, why: &CloseReason) {
        if !concerns_operator(why) {
            tracing::debug!(%peer, %why, "closing a connection");
        } else if let Some(left_out) = self.admit(now) {
            if left_out > 0 {
                tracing::warn!(left_out, "more MQTT connections were closed than are listed here");
            }
            tracing::warn!(%peer, %why, "MQTT connection closed");
        }
    }

    /// Whether there may be another line, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|began| now >= began + WINDOW) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

/// Something is wrong with the client or its configuration.
fn concerns_operator(why: &CloseReason) -> bool {
    match why {
        CloseReason::Fault { .. } | CloseReason::PublishRefused(_) | CloseReason::TakenOver => true,
        CloseReason::ClientDisconnected
        | CloseReason::Transport(_)
        | CloseReason::ConnectTimeout
        | CloseReason::KeepAliveTimeout
        | CloseReason::TooManyConnections
        | CloseReason::ShuttingDown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_limited_and_those_left_out_are_counted() {
        let mut notes = ClosingNotes::default();
        let now = Instant::now();
        let admitted: Vec<_> = (0..LINES + 5).filter_map(|_| notes.admit(now)).collect();
        assert_eq!(admitted, [0; LINES as usize]);
        assert_eq!(notes.admit(now + WINDOW), Some(5));
        assert_eq!(notes.admit(now + WINDOW), Some(0));
    }
}
