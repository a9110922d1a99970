//! What is asked of each store: keep a batch of records of several streams so that they are
//! durable on return, count them, and forget them.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;

use super::ours::Ours;
#[cfg(feature = "peers")]
use super::peers::{Redb, Sled, Sqlite};
use crate::random::Random;

/// Streams that records are spread over, in turn.
pub(crate) const STREAMS: u16 = 16;
/// Payload bytes of a record.
pub(crate) const PAYLOAD_BYTES: usize = 128;
/// Time stamp of the first record; each batch is a millisecond later.
pub(crate) const START_MS: i64 = 1_700_000_000_000;

/// Who keeps the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The log of this repository, on its real files.
    Tidegate,
    /// sled 0.34: one tree a stream, `flush` for each batch.
    #[cfg(feature = "peers")]
    Sled,
    /// redb: one table, one transaction with immediate durability for each batch.
    #[cfg(feature = "peers")]
    Redb,
    /// SQLite: one table, WAL, `synchronous=FULL`, one transaction for each batch.
    #[cfg(feature = "peers")]
    Sqlite,
}

impl Engine {
    /// All others than ours.
    pub(crate) const PEERS: &'static [Engine] = &[
        #[cfg(feature = "peers")]
        Engine::Sled,
        #[cfg(feature = "peers")]
        Engine::Redb,
        #[cfg(feature = "peers")]
        Engine::Sqlite,
    ];

    /// Name in the tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Engine::Tidegate => "tidegate",
            #[cfg(feature = "peers")]
            Engine::Sled => "sled 0.34",
            #[cfg(feature = "peers")]
            Engine::Redb => "redb 4",
            #[cfg(feature = "peers")]
            Engine::Sqlite => "SQLite",
        }
    }

    /// Opens the store in `dir`, and makes one when there is none.
    pub(crate) fn open(self, dir: &Path) -> Result<Box<dyn Store>> {
        Ok(match self {
            Engine::Tidegate => Box::new(Ours::open(dir)?),
            #[cfg(feature = "peers")]
            Engine::Sled => Box::new(Sled::open(dir)?),
            #[cfg(feature = "peers")]
            Engine::Redb => Box::new(Redb::open(dir)?),
            #[cfg(feature = "peers")]
            Engine::Sqlite => Box::new(Sqlite::open(dir)?),
        })
    }
}

/// A store under test.
pub(crate) trait Store {
    /// Keeps the records; they are durable when this returns.
    fn keep(&mut self, batch: &[Entry]) -> Result<()>;

    /// Does what the store puts off to times when nothing is asked of it.
    fn settle(&mut self) -> Result<()> {
        Ok(())
    }

    /// Records kept.
    fn count(&mut self) -> Result<u64>;

    /// Forgets all records, in the way that its documentation has for it, and waits until it does
    /// no more about them.
    fn forget(&mut self) -> Result<()>;
}

/// A record to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// From 0 to `STREAMS`.
    pub(crate) stream: u16,
    /// From 1, without gaps in its stream.
    pub(crate) seq: u64,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// Random bytes.
    pub(crate) payload: [u8; PAYLOAD_BYTES],
}

#[cfg(feature = "peers")]
impl Entry {
    /// Time and payload as one value, for stores that know keys and values only.
    pub(crate) fn value(&self) -> [u8; 8 + PAYLOAD_BYTES] {
        let mut value = [0; 8 + PAYLOAD_BYTES];
        value[..8].copy_from_slice(&self.unix_ms.to_le_bytes());
        value[8..].copy_from_slice(&self.payload);
        value
    }
}

/// Where records come from.
#[derive(Debug)]
pub(crate) struct Supply {
    given: u64,
    random: Random,
    unix_ms: i64,
}

impl Supply {
    /// From the first record on.
    pub(crate) fn new() -> Supply {
        Supply { given: 0, random: Random::new(7), unix_ms: START_MS }
    }

    /// Records given so far.
    pub(crate) fn given(&self) -> u64 {
        self.given
    }

    /// Replaces the batch by the next `records`.
    pub(crate) fn fill(&mut self, batch: &mut Vec<Entry>, records: usize) {
        batch.clear();
        self.unix_ms += 1;
        for _ in 0..records {
            let mut payload = [0; PAYLOAD_BYTES];
            self.random.fill(&mut payload);
            let stream = (self.given % u64::from(STREAMS)) as u16;
            let seq = self.given / u64::from(STREAMS) + 1;
            batch.push(Entry { stream, seq, unix_ms: self.unix_ms, payload });
            self.given += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leftovers::ScratchDir;

    #[test]
    fn every_engine_finds_what_it_kept_when_it_is_opened_again() {
        for engine in [Engine::Tidegate].iter().chain(Engine::PEERS) {
            let scratch = ScratchDir::new(&std::env::temp_dir()).unwrap();
            let (mut supply, mut batch) = (Supply::new(), Vec::new());
            for size in [1, 64, 100] {
                let mut store = engine.open(scratch.path()).unwrap();
                supply.fill(&mut batch, size);
                store.keep(&batch).unwrap();
                store.settle().unwrap();
                assert_eq!(store.count().unwrap(), supply.given(), "{}", engine.label());
            }
            let mut store = engine.open(scratch.path()).unwrap();
            assert_eq!(store.count().unwrap(), 165, "{}", engine.label());
            store.forget().unwrap();
            assert_eq!(store.count().unwrap(), 0, "{}", engine.label());
            drop(store);
            assert_eq!(engine.open(scratch.path()).unwrap().count().unwrap(), 0);
        }
    }
}
