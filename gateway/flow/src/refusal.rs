//! Numbered publishes that were refused while later ones of the same client were taken: when
//! they come again they are no duplicates, although their number is below the newest.
//!
//! Invariant: what says that a number below the newest is missing is as durable as the newest.
//! The commit that stores a later number carries the entries of those refused before it, and the
//! commit that stores a refused one removes its entry.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tidegate_stream::{DefineError, Log, PublisherIdentity, TableId, Transaction};

/// Most refusals remembered, over all clients; the oldest are forgotten.
const MAX_REFUSALS: usize = 4096;
/// Name of the table with those that a restart must not forget.
const TABLE: &str = "refused-publishes";
/// Bytes of boot and sequence in a key; the client id follows.
const NUMBERS: usize = 16;

type Refused = (Arc<str>, PublisherIdentity);

/// The refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    table: TableId,
    known: BTreeMap<Refused, Kept>,
    /// In order of time, those included that were stored since.
    order: VecDeque<Refused>,
    /// Entries of the table that mean nothing any more.
    obsolete: Vec<Vec<u8>>,
}

/// Whether a refusal is in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    InMemory,
    InTable,
}

impl Refusals {
    /// Those that the log knows.
    pub(crate) fn define(log: &mut Log) -> Result<Refusals, DefineError> {
        let table = log.table(TABLE)?;
        let known = log.table_entries(table).keys().filter_map(|key| refused(key));
        let known: BTreeMap<_, _> = known.map(|refused| (refused, Kept::InTable)).collect();
        let order = known.keys().cloned().collect();
        Ok(Refusals { table, known, order, obsolete: Vec::new() })
    }

    /// This publish was refused.
    pub(crate) fn note(&mut self, client: &Arc<str>, publisher: PublisherIdentity) {
        let refused = (client.clone(), publisher);
        if self.known.contains_key(&refused) {
            return;
        }
        self.known.insert(refused.clone(), Kept::InMemory);
        self.order.push_back(refused);
        if self.order.len() > MAX_REFUSALS
            && let Some(oldest) = self.order.pop_front()
            && self.known.remove(&oldest) == Some(Kept::InTable)
        {
            self.obsolete.push(key(&oldest));
        }
    }

    /// Whether it was refused and not stored since.
    pub(crate) fn contains(&self, client: &Arc<str>, publisher: PublisherIdentity) -> bool {
        !self.known.is_empty() && self.known.contains_key(&(client.clone(), publisher))
    }

    /// What has to be committed together with this publish; usually nothing.
    pub(crate) fn changes(
        &self,
        client: &Arc<str>,
        publisher: PublisherIdentity,
    ) -> Option<Transaction> {
        if self.known.is_empty() && self.obsolete.is_empty() {
            return None;
        }
        let mut changes = Transaction::new();
        for refused in self.passed_by(client, publisher) {
            changes.put(self.table, key(&refused), Vec::new());
        }
        let own = (client.clone(), publisher);
        if self.known.get(&own) == Some(&Kept::InTable) {
            changes.delete(self.table, key(&own));
        }
        for key in &self.obsolete {
            changes.delete(self.table, key.clone());
        }
        (!changes.is_empty()).then_some(changes)
    }

    /// It is in the log now, and with it what [`Refusals::changes`] gave.
    pub(crate) fn stored(&mut self, client: &Arc<str>, publisher: PublisherIdentity) {
        if self.known.is_empty() && self.obsolete.is_empty() {
            return;
        }
        for refused in self.passed_by(client, publisher) {
            self.known.insert(refused, Kept::InTable);
        }
        self.known.remove(&(client.clone(), publisher));
        self.obsolete.clear();
    }

    /// Refusals of smaller numbers that the table does not have yet.
    fn passed_by(&self, client: &Arc<str>, publisher: PublisherIdentity) -> Vec<Refused> {
        let number = |seq| (client.clone(), PublisherIdentity { boot: publisher.boot, seq });
        let smaller = self.known.range(number(0)..number(publisher.seq));
        let new = smaller.filter(|(_, kept)| **kept == Kept::InMemory);
        new.map(|(refused, _)| refused.clone()).collect()
    }
}

fn key((client, publisher): &Refused) -> Vec<u8> {
    let mut key = Vec::with_capacity(NUMBERS + client.len());
    key.extend_from_slice(&publisher.boot.to_be_bytes());
    key.extend_from_slice(&publisher.seq.to_be_bytes());
    key.extend_from_slice(client.as_bytes());
    key
}

/// Back from its key; `None` for what is none.
fn refused(key: &[u8]) -> Option<Refused> {
    let (boot, rest) = key.split_first_chunk()?;
    let (seq, client) = rest.split_first_chunk()?;
    let (boot, seq) = (u64::from_be_bytes(*boot), u64::from_be_bytes(*seq));
    Some((std::str::from_utf8(client).ok()?.into(), PublisherIdentity { boot, seq }))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tidegate_stream::LogOptions;
    use tidegate_stream::crash::CrashDisk;

    use super::*;

    fn number(seq: u64) -> PublisherIdentity {
        PublisherIdentity { boot: 1, seq }
    }

    #[allow(clippy::disallowed_methods)]
    fn beginning() -> Instant {
        Instant::now()
    }

    fn log() -> Log {
        let disk = CrashDisk::new();
        Log::open(&disk, LogOptions::default(), beginning(), 0, 1).unwrap().0
    }

    #[test]
    fn the_newest_refusals_are_remembered_until_they_are_stored() {
        let mut refusals = Refusals::define(&mut log()).unwrap();
        let client: Arc<str> = "c".into();
        for seq in 0..=MAX_REFUSALS as u64 {
            refusals.note(&client, number(seq));
            refusals.note(&client, number(seq));
        }
        assert!(!refusals.contains(&client, number(0)));
        assert!(refusals.contains(&client, number(1)));
        assert!(!refusals.contains(&"d".into(), number(1)));
        refusals.stored(&client, number(1));
        assert!(!refusals.contains(&client, number(1)));
    }

    #[test]
    fn a_refusal_is_kept_with_the_first_later_number_and_goes_with_its_own() {
        let mut log = log();
        let mut refusals = Refusals::define(&mut log).unwrap();
        let client: Arc<str> = "c".into();
        refusals.note(&client, number(5));
        assert!(refusals.changes(&client, number(4)).is_none());
        assert!(refusals.changes(&"d".into(), number(6)).is_none());
        let changes = refusals.changes(&client, number(6)).unwrap();
        log.commit(beginning(), changes).unwrap();
        refusals.stored(&client, number(6));
        assert!(refusals.changes(&client, number(7)).is_none());
        let mut again = Refusals::define(&mut log).unwrap();
        assert!(again.contains(&client, number(5)));
        let changes = again.changes(&client, number(5)).unwrap();
        log.commit(beginning(), changes).unwrap();
        again.stored(&client, number(5));
        assert!(!again.contains(&client, number(5)));
        assert!(log.table_entries(again.table).is_empty());
    }
}
