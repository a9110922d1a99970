//! Why clients were turned away, for the operator's log: most 3.1.1 clients only ever see that
//! the connection was lost. Limited, so that no client can fill the log.

use std::fmt::Display;
use std::time::Instant;

use tidegate_broker::CloseReason;
use tidegate_broker::access::{Action, PUBLISH_DENIED, WILL_DENIED};

use crate::lines::Lines;

/// Lines of each kind in a minute.
const LINES: u32 = 10;

/// Writes the notes.
#[derive(Debug)]
pub(crate) struct ClosingNotes {
    closings: Lines,
    denials: Lines,
}

impl Default for ClosingNotes {
    fn default() -> ClosingNotes {
        ClosingNotes { closings: Lines::a_minute(LINES), denials: Lines::a_minute(LINES) }
    }
}

impl ClosingNotes {
    /// A connection is closed from this side.
    pub(crate) fn note(&mut self, now: Instant, peer: &impl Display, why: &CloseReason) {
        if !concerns_operator(why) {
            tracing::debug!(%peer, %why, "closing a connection");
        } else if let Some(left_out) = self.closings.admit(now) {
            if left_out > 0 {
                tracing::warn!(left_out, "more MQTT connections were closed than are listed here");
            }
            tracing::warn!(%peer, %why, "MQTT connection closed");
        }
    }

    /// A client was not allowed to do something.
    pub(crate) fn denied(
        &mut self,
        now: Instant,
        client: &str,
        user: Option<&str>,
        action: Action,
        topic: &str,
    ) {
        if let Some(left_out) = self.denials.admit(now) {
            if left_out > 0 {
                tracing::warn!(left_out, "more was denied than is listed here");
            }
            tracing::warn!(client, user, %action, topic, "denied by [[mqtt.acl]]");
        }
    }
}

/// Something is wrong with the client or its configuration.
fn concerns_operator(why: &CloseReason) -> bool {
    match why {
        // These have a line of their own.
        CloseReason::Fault { text, .. } if *text == WILL_DENIED => false,
        CloseReason::PublishRefused(text) if text == PUBLISH_DENIED => false,
        CloseReason::Fault { .. } | CloseReason::PublishRefused(_) | CloseReason::TakenOver => true,
        CloseReason::ClientDisconnected
        | CloseReason::Transport(_)
        | CloseReason::ConnectTimeout
        | CloseReason::KeepAliveTimeout
        | CloseReason::TooManyConnections
        | CloseReason::ShuttingDown => false,
    }
}
