//! Clients that were not let in: each is counted by reason, and logged with who and why. The log
//! is limited, so that no client can fill it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::lines::Lines;

/// Lines of the log in a minute.
const LINES: u32 = 20;

/// Why a client was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    BadCredentials,
    NoCredentials,
    ClientId,
    BadCertificate,
    ExpiredCertificate,
    RevokedCertificate,
    NoCertificate,
    NoIdentity,
    Tls,
    WebSocket,
    Origin,
    Proxy,
    HandshakeTimeout,
    ManyConnections,
    ManyConnects,
    ManyFailures,
    ClientConnects,
    UserFailures,
    Busy,
}

impl Reason {
    const ALL: [Reason; 19] = [
        Reason::BadCredentials,
        Reason::NoCredentials,
        Reason::ClientId,
        Reason::BadCertificate,
        Reason::ExpiredCertificate,
        Reason::RevokedCertificate,
        Reason::NoCertificate,
        Reason::NoIdentity,
        Reason::Tls,
        Reason::WebSocket,
        Reason::Origin,
        Reason::Proxy,
        Reason::HandshakeTimeout,
        Reason::ManyConnections,
        Reason::ManyConnects,
        Reason::ManyFailures,
        Reason::ClientConnects,
        Reason::UserFailures,
        Reason::Busy,
    ];

    /// As the status and the metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::BadCredentials => "bad-credentials",
            Reason::NoCredentials => "no-credentials",
            Reason::ClientId => "client-id",
            Reason::BadCertificate => "bad-certificate",
            Reason::ExpiredCertificate => "expired-certificate",
            Reason::RevokedCertificate => "revoked-certificate",
            Reason::NoCertificate => "no-certificate",
            Reason::NoIdentity => "no-identity",
            Reason::Tls => "tls",
            Reason::WebSocket => "websocket",
            Reason::Origin => "origin",
            Reason::Proxy => "proxy-header",
            Reason::HandshakeTimeout => "handshake-timeout",
            Reason::ManyConnections => "connections-per-address",
            Reason::ManyConnects => "connects-per-minute",
            Reason::ManyFailures => "failed-logins-per-minute",
            Reason::ClientConnects => "connects-per-minute-per-client",
            Reason::UserFailures => "failed-logins-per-minute-per-user",
            Reason::Busy => "busy",
        }
    }
}

/// Who was turned away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    /// Where it is.
    pub(crate) peer: &'a str,
    pub(crate) listener: &'a str,
    /// Client identifier, when it is known.
    pub(crate) client: Option<&'a str>,
    /// The name it gave or has, when it is known.
    pub(crate) user: Option<&'a str>,
}

/// The counts, shared by all threads.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    counts: [AtomicU64; Reason::ALL.len()],
    log: Mutex<Lines>,
}

impl Default for TurnedAway {
    fn default() -> TurnedAway {
        TurnedAway { counts: Default::default(), log: Mutex::new(Lines::a_minute(LINES)) }
    }
}

impl TurnedAway {
    /// Counts one and logs it.
    pub(crate) fn note(&self, now: Instant, reason: Reason, who: Who<'_>, why: &str) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let admitted = self.log.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(left_out) = admitted else { return };
        if left_out > 0 {
            tracing::warn!(left_out, "more MQTT clients were turned away than are listed here");
        }
        let Who { peer, listener, client, user } = who;
        let reason = reason.name();
        tracing::warn!(peer, listener, client, user, reason, why, "MQTT client turned away");
    }

    /// How many for each reason that there was.
    pub(crate) fn counts(&self) -> Vec<tidegate_flow::status::TurnedAway> {
        let counted = Reason::ALL.iter().zip(&self.counts);
        counted
            .map(|(reason, count)| tidegate_flow::status::TurnedAway {
                reason: reason.name().to_owned(),
                count: count.load(Ordering::Relaxed),
            })
            .filter(|one| one.count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let counted = TurnedAway::default();
        let who = Who { peer: "127.0.0.1:1", listener: "mqtt", client: None, user: None };
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            counted.note(Instant::now(), reason, who, "");
        }
        let mut counts = counted.counts();
        assert!(counts.iter().all(|one| one.count == 1));
        counts.dedup_by(|one, other| one.reason == other.reason);
        assert_eq!(counts.len(), Reason::ALL.len());
    }
}
