//! Keys of state with a time to live, and their end.
//!
//! When a key expires is kept beside its value, in a table of its own (docs/formats/functions.md);
//! in memory the keys stand in the order of that time.
//!
//! Invariants:
//! - the expiry of a key changes in the commit that changes the key;
//! - a key that has expired goes, by a commit, before a call that begins later reads the state;
//! - nothing expires by a clock that cannot be trusted.

use std::collections::BTreeSet;

use tidegate_stream::{DefineError, Log, TableId, Transaction};

use crate::clock::{ClockQuality, Now};
use crate::function::NO_ROOM_PAUSE;
use crate::gateway::Gateway;
use crate::watching::{Change, MAX_TOLD_BYTES};

/// Name of the table, one for all functions.
const TABLE: &str = "function-expiries";
/// Version of each value.
const VERSION: u8 = 1;
/// Bytes of a value. They count in the quota of the state, as the key does once more.
const ENTRY_BYTES: usize = 10;
/// What two deleted keys cost in a transaction beside the keys.
const DELETED_COST: usize = 256;

/// When a key expires. In order of it, with those behind that wait for the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Expiry {
    /// At this time, in milliseconds since 1970.
    At(i64),
    /// So many milliseconds after the moment from which on the clock can be trusted.
    After(u64),
}

impl Expiry {
    /// Of a key that is written now.
    fn of(now: Now, ttl_ms: u64) -> Expiry {
        match now.clock {
            ClockQuality::Synced => {
                let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
                Expiry::At(now.unix_ms.saturating_add(ttl_ms))
            }
            ClockQuality::Unsynced => Expiry::After(ttl_ms),
        }
    }

    fn encode(self) -> Vec<u8> {
        let (kind, number) = match self {
            Expiry::At(unix_ms) => (0, unix_ms.to_le_bytes()),
            Expiry::After(ttl_ms) => (1, ttl_ms.to_le_bytes()),
        };
        [&[VERSION, kind][..], &number].concat()
    }

    /// `None` for what no gateway of this version wrote.
    fn decode(bytes: &[u8]) -> Option<Expiry> {
        let (head, number) = bytes.split_first_chunk::<2>()?;
        let number: [u8; 8] = number.try_into().ok()?;
        match *head {
            [VERSION, 0] => Some(Expiry::At(i64::from_le_bytes(number))),
            [VERSION, 1] => Some(Expiry::After(u64::from_le_bytes(number))),
            _ => None,
        }
    }
}

/// A key whose expiry changes.
pub(crate) struct ExpiryChange {
    key: Vec<u8>,
    old: Option<Expiry>,
    new: Option<Expiry>,
}

impl ExpiryChange {
    /// What the expiry of the key counts in the quota of the state, before and after.
    pub(crate) fn bytes(&self) -> (usize, usize) {
        let cost = Expiries::cost(&self.key);
        (self.old.map_or(0, |_| cost), self.new.map_or(0, |_| cost))
    }
}

/// The keys of a function that have a time to live.
#[derive(Debug)]
pub(crate) struct Expiries {
    table: TableId,
    /// What keys of the table begin with: the function's name and a zero byte.
    prefix: Vec<u8>,
    keys: BTreeSet<(Expiry, Vec<u8>)>,
}

impl Expiries {
    pub(crate) fn define(log: &mut Log, function: &str) -> Result<Expiries, DefineError> {
        let table = log.table(TABLE)?;
        let prefix = [function.as_bytes(), &[0]].concat();
        let entries = log.table_entries(table).range(prefix.clone()..);
        let own = entries.map_while(|(key, value)| Some((key.strip_prefix(&*prefix)?, value)));
        let keys = own.filter_map(|(key, value)| Some((Expiry::decode(value)?, key.to_vec())));
        let keys = keys.collect();
        Ok(Expiries { table, prefix, keys })
    }

    /// What all of them count in the quota of the state.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.iter().map(|(_, key)| Expiries::cost(key)).sum()
    }

    /// What the expiry of this key counts in the quota of the state.
    fn cost(key: &[u8]) -> usize {
        key.len() + ENTRY_BYTES
    }

    /// Stages that a key is written with this time to live, or without one (0), or deleted.
    /// Answers what changes by it, if anything does.
    pub(crate) fn stage(
        &self,
        log: &Log,
        now: Now,
        key: &[u8],
        ttl_ms: u64,
        into: &mut Transaction,
    ) -> Option<ExpiryChange> {
        let entry = [&self.prefix[..], key].concat();
        let old = log.table_entries(self.table).get(&entry);
        let old = old.and_then(|value| Expiry::decode(value));
        let new = (ttl_ms > 0).then(|| Expiry::of(now, ttl_ms));
        match new {
            Some(expiry) => into.put(self.table, entry, expiry.encode()),
            None if old.is_some() => into.delete(self.table, entry),
            None => return None,
        }
        Some(ExpiryChange { key: key.to_vec(), old, new })
    }

    /// What was staged is committed.
    pub(crate) fn install(&mut self, changes: Vec<ExpiryChange>) {
        for ExpiryChange { key, old, new } in changes {
            let mut place = (Expiry::At(0), key);
            if let Some(old) = old {
                place.0 = old;
                self.keys.remove(&place);
            }
            if let Some(new) = new {
                place.0 = new;
                self.keys.insert(place);
            }
        }
    }

    /// What there is to be done at this moment, as much as one transaction takes.
    fn due(&self, now: Now, max_bytes: usize) -> Vec<ExpiryChange> {
        if now.clock == ClockQuality::Unsynced {
            return Vec::new();
        }
        let gone = self.keys.iter().take_while(|(expiry, _)| match expiry {
            Expiry::At(unix_ms) => *unix_ms <= now.unix_ms,
            Expiry::After(_) => false,
        });
        let waiting = self.keys.range((Expiry::After(0), Vec::new())..);
        let mut bytes = 0;
        let mut changes = Vec::new();
        for (old, key) in gone.chain(waiting) {
            bytes += 2 * key.len() + DELETED_COST;
            if bytes > max_bytes && !changes.is_empty() {
                break;
            }
            let new = match old {
                Expiry::At(_) => None,
                Expiry::After(ttl_ms) => Some(Expiry::of(now, *ttl_ms)),
            };
            changes.push(ExpiryChange { key: key.clone(), old: Some(*old), new });
        }
        changes
    }
}

/// What came of looking for keys that have expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expired {
    /// There are none.
    None,
    /// Some are gone; there may be more.
    Some,
    /// The log had no room: no call may begin yet.
    NoRoom,
}

impl Gateway {
    /// Takes keys that have expired out of the state of a function, and gives those that wait for
    /// the clock their time.
    pub(crate) fn expire(&mut self, now: Now, index: usize) -> Expired {
        let run = &self.functions[index];
        let mut changes = run.expiries.due(now, self.notes.max_bytes());
        if changes.is_empty() {
            return Expired::None;
        }
        let mut transaction = Transaction::new();
        let (mut freed, mut told, mut done) = (0, 0, 0);
        let held = self.log.table_entries(run.table);
        for change in &changes {
            // As much as one commit may tell; the rest comes with the next.
            if told > MAX_TOLD_BYTES / 2 {
                break;
            }
            done += 1;
            let entry = [&run.expiries.prefix[..], &change.key].concat();
            if let Some(expiry) = change.new {
                transaction.put(run.expiries.table, entry, expiry.encode());
                continue;
            }
            transaction.delete(run.expiries.table, entry);
            freed += Expiries::cost(&change.key);
            if let Some(value) = held.get(&change.key) {
                freed += change.key.len() + value.len();
                transaction.delete(run.table, change.key.clone());
                let gone = Change { key: &change.key, old: Some(value), new: None };
                let (name, gone) = (&run.plan.name, std::iter::once(gone));
                told += self.stage_told(now, name, 0, gone, &mut transaction);
            }
        }
        changes.truncate(done);
        let committed = self.log.commit(now.instant, transaction);
        let run = &mut self.functions[index];
        if let Err(error) = committed {
            run.tally.last_failure = Some(error.to_string());
            run.not_before = Some(now.instant + NO_ROOM_PAUSE);
            return Expired::NoRoom;
        }
        run.tally.expired += changes.iter().filter(|change| change.new.is_none()).count() as u64;
        run.state_bytes = run.state_bytes.saturating_sub(freed);
        run.expiries.install(changes);
        Expired::Some
    }

    /// The same for all functions, whether one is called or not. One that is not loaded keeps
    /// what it has.
    pub(crate) fn expire_all(&mut self, now: Now) {
        let mut next = 0;
        while let Some(index) = self.functions.from(next) {
            let run = &self.functions[index];
            let keeps = run.parked || run.canary_of.is_some();
            while !keeps && self.expire(now, index) == Expired::Some {}
            next = index + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Expiry = Expiry::At(1_780_000_060_123);
    const AFTER: Expiry = Expiry::After(86_400_000);

    /// Frozen: what an earlier version wrote must stay readable. Files are only ever added.
    #[test]
    fn the_expiries_of_version_1_are_the_frozen_ones() {
        let at = include_bytes!("../../../tests/golden/functions/v1/expiry-at.bin");
        let after = include_bytes!("../../../tests/golden/functions/v1/expiry-after.bin");
        assert_eq!((AT.encode(), AFTER.encode()), (at.to_vec(), after.to_vec()));
    }

    #[test]
    fn an_expiry_is_what_it_was_when_it_is_read_back_and_nothing_else_is_one() {
        for expiry in [AT, AFTER, Expiry::At(i64::MIN), Expiry::After(u64::MAX)] {
            assert_eq!(Expiry::decode(&expiry.encode()), Some(expiry));
        }
        let bytes = AT.encode();
        for cut in 0..bytes.len() {
            assert_eq!(Expiry::decode(&bytes[..cut]), None, "{cut} bytes");
        }
        assert_eq!(Expiry::decode(&[&bytes[..], &[0]].concat()), None, "a byte more");
        assert_eq!(Expiry::decode(&[&[2], &bytes[1..]].concat()), None, "another version");
        assert_eq!(Expiry::decode(&[&[1, 2], &bytes[2..]].concat()), None, "another kind");
    }
}
