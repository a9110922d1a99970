//! What subscribers did not get, told upstream and shown: by client, as records of version 2 in the
//! stream `losses` (docs/formats/loss.md).
//!
//! Invariants:
//! - a record and the note that it was told are one transaction;
//! - it is told only what is on its way to the disk in an earlier transaction;
//! - however many subscribers are slow, at most [`MAX_RECORDS`] records are made in a minute.

use tidegate_broker::{SessionLoss, SessionLossReason};
use tidegate_stream::Transaction;

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::losses::{GROWTH_INTERVAL, MAX_RECORDS, quoted, telling};
use crate::sessions::SPOOL;
use crate::status::{LossTotal, SessionLossStatus};

/// Version of the records' JSON.
const VERSION: u32 = 2;
/// Clients that the status names; all are in the ledger.
const IN_STATUS: usize = 5;

impl Gateway {
    /// Tells what clients lost that the stream `losses` has not, at most once a minute.
    pub(crate) fn tell_session_losses(&mut self, now: Now) {
        if self.sessions.is_waiting() || self.losses.sessions_at.is_some_and(|at| now.instant < at)
        {
            return;
        }
        let untold = self.broker.untold_losses(MAX_RECORDS);
        if untold.is_empty() {
            return;
        }
        let mut transaction = Transaction::new();
        for one in &untold {
            let json = json(&self.name, &one.loss);
            transaction.append(self.losses.stream, telling(now, SPOOL, json));
            self.sessions.stage(one.change.clone(), &mut transaction);
        }
        if let Err(error) = self.log.commit(now.instant, transaction) {
            return self.losses_wait(&error.to_string());
        }
        self.broker.losses_told(&untold);
        self.losses.sessions_at = Some(now.instant + GROWTH_INTERVAL);
    }

    /// What clients lost, as the ledger has it.
    pub(crate) fn session_losses(&self) -> Vec<SessionLossStatus> {
        self.broker.session_losses().iter().map(shown).collect()
    }

    /// The same in all, by reason.
    pub(crate) fn session_totals(&self) -> Vec<LossTotal> {
        let losses = self.broker.session_losses();
        let totals = SessionLossReason::ALL.into_iter().map(|reason| {
            let own = losses.iter().filter(|loss| loss.reason == reason);
            let sum = |(records, bytes): (u64, u64), loss: &SessionLoss| {
                (records.saturating_add(loss.lost.messages), bytes.saturating_add(loss.lost.bytes))
            };
            let (records, bytes) = own.fold((0, 0), sum);
            LossTotal { reason: reason.name().to_owned(), records, bytes }
        });
        totals.filter(|total| total.records > 0).collect()
    }

    /// Those that lost something last, for a glance.
    pub(crate) fn newest_session_losses(&self) -> Vec<SessionLossStatus> {
        let mut losses = self.session_losses();
        losses.sort_by_key(|loss| std::cmp::Reverse(loss.unix_ms));
        losses.truncate(IN_STATUS);
        losses
    }
}

fn shown(loss: &SessionLoss) -> SessionLossStatus {
    SessionLossStatus {
        client: loss.client.to_string(),
        records: loss.lost.messages,
        bytes: loss.lost.bytes,
        reason: loss.reason.name().to_owned(),
        unix_ms: loss.unix_ms,
    }
}

/// The record's payload.
fn json(gateway: &str, loss: &SessionLoss) -> String {
    format!(
        r#"{{"v":{VERSION},"gateway":{},"stream":"{SPOOL}","session":{},"records":{},"bytes":{},"reason":"{}","unix_ms":{}}}"#,
        quoted(gateway),
        quoted(&loss.client),
        loss.lost.messages,
        loss.lost.bytes,
        loss.reason.name(),
        loss.unix_ms
    )
}

#[cfg(test)]
mod tests {
    use tidegate_broker::Amount;

    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/loss/v2/session.json");

    #[test]
    fn the_json_is_frozen() {
        let loss = SessionLoss {
            client: "dash \"7\"".into(),
            reason: SessionLossReason::SessionQuota,
            lost: Amount { messages: 12_500, bytes: 2_100_000 },
            unix_ms: 1_780_000_000_123,
        };
        assert_eq!(json("gw-01", &loss), GOLDEN.trim_end());
    }
}
