//! The stores that a log could have been built on, each used as its documentation says and with
//! the durability that it offers.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use redb::{Database, ReadableDatabase, ReadableTableMetadata, TableDefinition};
use rusqlite::Connection;

use super::store::{Entry, STREAMS, Store};

/// sled 0.34. Its `flush` calls `sync_file_range`, which makes no promise about a power cut.
pub(crate) struct Sled {
    db: sled::Db,
    trees: Vec<sled::Tree>,
}

/// How long a store that was dropped may hold its lock: a thread of sled's own lets go of it.
const LET_GO_WITHIN: Duration = Duration::from_secs(10);

impl Sled {
    /// Opens the store in `dir`; nothing is flushed but by `keep`.
    pub(crate) fn open(dir: &Path) -> Result<Sled> {
        let began = Instant::now();
        let db = loop {
            match sled::Config::new().path(dir.join("sled")).flush_every_ms(None).open() {
                Err(sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock")
                        && began.elapsed() < LET_GO_WITHIN =>
                {
                    thread::sleep(Duration::from_millis(1));
                }
                opened => break opened?,
            }
        };
        let tree = |number: u16| db.open_tree(number.to_be_bytes());
        let trees = (0..STREAMS).map(tree).collect::<sled::Result<_>>()?;
        Ok(Sled { db, trees })
    }
}

impl Store for Sled {
    fn keep(&mut self, batch: &[Entry]) -> Result<()> {
        for entry in batch {
            let tree = &self.trees[usize::from(entry.stream)];
            tree.insert(entry.seq.to_be_bytes(), &entry.value()[..])?;
        }
        self.db.flush()?;
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.trees.iter().map(|tree| tree.len() as u64).sum())
    }

    fn forget(&mut self) -> Result<()> {
        for tree in &self.trees {
            tree.clear()?;
        }
        self.db.flush()?;
        Ok(())
    }
}

const RECORDS: TableDefinition<'_, (u16, u64), &[u8]> = TableDefinition::new("records");

/// redb with its default durability, which syncs each commit.
pub(crate) struct Redb(Database);

impl Redb {
    /// Opens the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Redb> {
        let database = Database::create(dir.join("redb"))?;
        let write = database.begin_write()?;
        write.open_table(RECORDS)?;
        write.commit()?;
        Ok(Redb(database))
    }
}

impl Store for Redb {
    fn keep(&mut self, batch: &[Entry]) -> Result<()> {
        let write = self.0.begin_write()?;
        {
            let mut table = write.open_table(RECORDS)?;
            for entry in batch {
                table.insert((entry.stream, entry.seq), &entry.value()[..])?;
            }
        }
        write.commit()?;
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.0.begin_read()?.open_table(RECORDS)?.len()?)
    }

    fn forget(&mut self) -> Result<()> {
        let write = self.0.begin_write()?;
        write.open_table(RECORDS)?.retain(|_, _| false)?;
        write.commit()?;
        self.0.compact()?;
        Ok(())
    }
}

/// SQLite with a write-ahead log that is synced at each commit.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    /// Opens the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("sqlite"))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             CREATE TABLE IF NOT EXISTS records (
                 stream INTEGER NOT NULL,
                 seq INTEGER NOT NULL,
                 unix_ms INTEGER NOT NULL,
                 payload BLOB NOT NULL,
                 PRIMARY KEY (stream, seq)
             ) WITHOUT ROWID;",
        )?;
        Ok(Sqlite(connection))
    }
}

impl Store for Sqlite {
    fn keep(&mut self, batch: &[Entry]) -> Result<()> {
        let transaction = self.0.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4)")?;
            for Entry { stream, seq, unix_ms, payload } in batch {
                insert.execute((stream, i64::try_from(*seq)?, unix_ms, &payload[..]))?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        let count = "SELECT count(*) FROM records";
        let count: i64 = self.0.query_row(count, (), |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }

    fn forget(&mut self) -> Result<()> {
        let tidy = "DELETE FROM records; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);";
        Ok(self.0.execute_batch(tidy)?)
    }
}
