//! What sessions did not get of the messages with QoS 1 and 2 that were for them: how much, why
//! and when, by client, for the owner's loss ledger (docs/formats/loss.md).
//!
//! Invariants:
//! - nothing is counted here for each message: sessions add it up, and it is fetched once a
//!   second, or in the change that says from where on a kept session reads;
//! - there are at most [`MAX_ROWS`] rows, with the client's identifier at most half a kilobyte
//!   each. For one more, the one that has grown least recently is added to the row without a name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::durable::{Amount, Change, format};

/// Most rows.
pub(crate) const MAX_ROWS: usize = 1_024;

/// The client of the row for all that have none of their own.
const REST: &str = "";

/// Why a session did not get messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SessionLossReason {
    /// They were the oldest of a kept session at its quota.
    SessionQuota,
    /// They were the oldest in the spool of all kept sessions, which was at its quota.
    SpoolQuota,
    /// The session ends with its connection, and its client was too slow.
    SlowSubscriber,
}

impl SessionLossReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [SessionLossReason; 3] = [
        SessionLossReason::SessionQuota,
        SessionLossReason::SpoolQuota,
        SessionLossReason::SlowSubscriber,
    ];

    /// The number that stores have for it; it never changes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            SessionLossReason::SessionQuota => 1,
            SessionLossReason::SpoolQuota => 2,
            SessionLossReason::SlowSubscriber => 3,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<SessionLossReason> {
        SessionLossReason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The word that commands, metrics and loss records use; it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            SessionLossReason::SessionQuota => "session-quota",
            SessionLossReason::SpoolQuota => "spool-quota",
            SessionLossReason::SlowSubscriber => "slow-subscriber",
        }
    }
}

/// What one session lost and nobody has fetched yet, by reason.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lost([Amount; SessionLossReason::ALL.len()]);

impl Lost {
    pub(crate) fn add(&mut self, reason: SessionLossReason, more: Amount) {
        let own = &mut self.0[usize::from(reason.code()) - 1];
        *own = own.plus(more);
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.0.iter().all(|amount| amount.is_nothing())
    }

    fn by_reason(self) -> impl Iterator<Item = (SessionLossReason, Amount)> {
        SessionLossReason::ALL.into_iter().zip(self.0).filter(|(_, amount)| !amount.is_nothing())
    }
}

/// What a client lost for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLoss {
    /// Its client identifier; empty for all clients together that have no row of their own.
    pub client: Arc<str>,
    /// Why.
    pub reason: SessionLossReason,
    /// How much.
    pub lost: Amount,
    /// When the last of it was lost, in milliseconds since 1970 as the owner told the time; to
    /// about a second.
    pub unix_ms: i64,
}

/// What is to be told of a client, and what the table says once it is told.
#[derive(Debug)]
pub struct UntoldLoss {
    /// What has come since it was told last.
    pub loss: SessionLoss,
    /// Belongs into the transaction that tells it.
    pub change: Change,
}

type Key = (Arc<str>, SessionLossReason);

/// A row as the table has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) lost: Amount,
    /// Of that, what was told.
    pub(crate) told: Amount,
    pub(crate) unix_ms: i64,
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct SessionLosses {
    rows: BTreeMap<Key, Row>,
    /// Rows that the table does not have like this; they can wait.
    unwritten: BTreeSet<Key>,
    /// Rows that were added to another one: both are written together.
    folded: Vec<Key>,
    /// Where telling goes on.
    told_up_to: Option<Key>,
}

impl SessionLosses {
    /// Adds what a session lost. Its rows are written soon; those of a kept session in the
    /// changes of its place, so for it they come back at once.
    pub(crate) fn add(
        &mut self,
        client: &Arc<str>,
        lost: Lost,
        unix_ms: i64,
        with_place: bool,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (reason, amount) in lost.by_reason() {
            let key = (client.clone(), reason);
            while !self.rows.contains_key(&key) && self.rows.len() >= MAX_ROWS {
                self.fold_oldest();
            }
            let row = self.rows.entry(key.clone()).or_default();
            row.lost = row.lost.plus(amount);
            row.unix_ms = row.unix_ms.max(unix_ms);
            if with_place {
                self.unwritten.remove(&key);
                changes.push(self.change(&key));
            } else {
                self.unwritten.insert(key);
            }
        }
        changes
    }

    /// Makes room for a row.
    fn fold_oldest(&mut self) {
        let named = self.rows.iter().filter(|((client, _), _)| &**client != REST);
        let oldest = named.min_by_key(|(_, row)| row.unix_ms).map(|(key, _)| key.clone());
        let Some(oldest) = oldest else { return };
        let Some(row) = self.rows.remove(&oldest) else { return };
        let rest_key = (Arc::from(REST), oldest.1);
        let rest = self.rows.entry(rest_key.clone()).or_default();
        rest.lost = rest.lost.plus(row.lost);
        rest.told = rest.told.plus(row.told);
        rest.unix_ms = rest.unix_ms.max(row.unix_ms);
        self.unwritten.remove(&oldest);
        self.folded.extend([oldest, rest_key]);
    }

    /// What the table has to say of rows that have changed: of at most `max`, and of all that
    /// were added to others.
    pub(crate) fn changes(&mut self, max: usize) -> Vec<Change> {
        let mut keys = std::mem::take(&mut self.folded);
        keys.sort_unstable();
        keys.dedup();
        while keys.len() < max
            && let Some(key) = self.unwritten.pop_first()
        {
            keys.push(key);
        }
        keys.iter().map(|key| self.change(key)).collect()
    }

    fn change(&self, (client, reason): &Key) -> Change {
        let row = self.rows.get(&(client.clone(), *reason));
        let key = format::loss_key(reason.code(), client);
        Change { key, value: row.map(format::encode_loss) }
    }

    /// A row as the table has it.
    pub(crate) fn restore(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let (code, client) = format::split_loss_key(key)?;
        let key = (Arc::from(client), SessionLossReason::from_code(code)?);
        self.rows.insert(key, format::decode_loss(value)?);
        Some(())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = SessionLoss> {
        self.rows.iter().map(|((client, reason), row)| SessionLoss {
            client: client.clone(),
            reason: *reason,
            lost: row.lost,
            unix_ms: row.unix_ms,
        })
    }

    /// What has not been told yet of at most `max` rows, in turn.
    pub(crate) fn untold(&self, max: usize) -> Vec<UntoldLoss> {
        let passed = |key: &Key| self.told_up_to.as_ref().is_some_and(|up_to| key <= up_to);
        let (first, then) = (
            self.rows.iter().filter(|(key, _)| !passed(key)),
            self.rows.iter().filter(|(key, _)| passed(key)),
        );
        let untold = first.chain(then).filter(|(_, row)| row.lost.messages > row.told.messages);
        let untold = untold.take(max).map(|((client, reason), row)| UntoldLoss {
            loss: SessionLoss {
                client: client.clone(),
                reason: *reason,
                lost: row.lost.minus(row.told),
                unix_ms: row.unix_ms,
            },
            change: Change {
                key: format::loss_key(reason.code(), client),
                value: Some(format::encode_loss(&Row { told: row.lost, ..*row })),
            },
        });
        untold.collect()
    }

    /// This was told, and the table says so.
    pub(crate) fn told(&mut self, told: &[UntoldLoss]) {
        for UntoldLoss { loss, .. } in told {
            let key = (loss.client.clone(), loss.reason);
            if let Some(row) = self.rows.get_mut(&key) {
                row.told = row.told.plus(loss.lost);
                self.unwritten.remove(&key);
            }
            self.told_up_to = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(messages: u64) -> Lost {
        let mut lost = Lost::default();
        lost.add(SessionLossReason::SlowSubscriber, Amount { messages, bytes: messages * 100 });
        lost
    }

    #[test]
    fn beyond_the_bound_clients_are_summed_under_no_name() {
        let mut losses = SessionLosses::default();
        let clients = 3_000;
        for number in 0..clients {
            losses.add(&format!("c{number}").into(), lost(2), number, false);
        }
        let rows: Vec<_> = losses.all().collect();
        assert!(rows.len() <= MAX_ROWS, "{}", rows.len());
        assert_eq!(rows.iter().map(|row| row.lost.messages).sum::<u64>(), 2 * clients as u64);
        assert_eq!(&*rows[0].client, REST);
        assert!(rows.iter().any(|row| *row.client == *format!("c{}", clients - 1)));
        // The table ends up with the same rows.
        let mut table = BTreeMap::new();
        loop {
            let changes = losses.changes(64);
            if changes.is_empty() {
                break;
            }
            for change in changes {
                match change.value {
                    Some(value) => table.insert(change.key, value),
                    None => table.remove(&change.key),
                };
            }
        }
        let mut again = SessionLosses::default();
        table.iter().for_each(|(key, value)| again.restore(key, value).unwrap());
        assert_eq!(again.all().collect::<Vec<_>>(), rows);
    }

    #[test]
    fn each_loss_is_told_once_and_all_have_their_turn() {
        let mut losses = SessionLosses::default();
        let mut told = BTreeMap::new();
        for round in 0..20 {
            for client in ["a", "b", "c", "d", "e"] {
                losses.add(&client.into(), lost(3), round, false);
            }
            let untold = losses.untold(2);
            assert!(untold.len() <= 2);
            for one in &untold {
                *told.entry(one.loss.client.clone()).or_default() += one.loss.lost.messages;
            }
            losses.told(&untold);
        }
        for _ in 0..3 {
            let untold = losses.untold(2);
            for one in &untold {
                *told.entry(one.loss.client.clone()).or_default() += one.loss.lost.messages;
            }
            losses.told(&untold);
        }
        assert!(losses.untold(9).is_empty());
        assert_eq!(told.into_values().collect::<Vec<u64>>(), [60; 5]);
    }

    #[test]
    fn every_reason_has_a_name_and_a_number_of_its_own() {
        let names: BTreeSet<_> =
            SessionLossReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), SessionLossReason::ALL.len());
        for reason in SessionLossReason::ALL {
            assert_eq!(SessionLossReason::from_code(reason.code()), Some(reason));
        }
    }
}
