//! Records of another gateway taken into a stream, batch by batch.
//!
//! Invariant: a batch and the note how far the import has come are one transaction, so that an
//! import that was broken off, wherever that was, goes on behind the last record that is in.
//!
//! The note is in the table `imports` of the log: key the stream's name, a zero byte and the
//! import's id; value records done (u64) and the time (i64, milliseconds since 1970),
//! big-endian. At most [`MAX_IMPORTS`] are remembered; the one that was not heard of for longest
//! is forgotten.

use tidegate_stream::{CommitError, DefineError, Log, Position, Record, TableId, Transaction};

use crate::clock::Now;
use crate::gateway::Gateway;

/// Imports remembered, about 200 bytes each.
const MAX_IMPORTS: usize = 256;
/// Name of the table.
const TABLE: &str = "imports";

/// Some records of an import, in order.
#[derive(Debug, Clone)]
pub struct ImportBatch {
    /// Name of the stream that takes them.
    pub stream: String,
    /// Names the import; the same for all its batches.
    pub id: String,
    /// Records of the import before this batch.
    pub start: u64,
    /// The records, to be given new sequences.
    pub records: Vec<Record>,
}

/// Why a batch was not taken in. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// Not now: the disk has to catch up first. Try the same batch again.
    #[error("the disk does not take more right now")]
    Later,
    /// There is no such stream.
    #[error("no stream \"{0}\"")]
    NoStream(String),
    /// The import is somewhere else: another command may be at work on the same file.
    #[error("{done} records of this import are in already; go on behind them")]
    Elsewhere {
        /// Records that are in.
        done: u64,
    },
    /// The log refuses, in words.
    #[error("{0}")]
    Refused(String),
}

/// The imports of a gateway.
pub(crate) struct Imports {
    table: TableId,
}

impl Imports {
    pub(crate) fn define(log: &mut Log) -> Result<Imports, DefineError> {
        Ok(Imports { table: log.table(TABLE)? })
    }
}

impl Gateway {
    /// Records of the import `id` that are in `stream`.
    ///
    /// # Errors
    /// There is no such stream.
    pub fn imported(&self, stream: &str, id: &str) -> Result<u64, ImportError> {
        if self.routes.id(stream).is_none() {
            return Err(ImportError::NoStream(stream.to_owned()));
        }
        let note = self.log.table_entries(self.imports.table).get(&key(stream, id));
        Ok(note.and_then(|note| decode(note)).map_or(0, |(done, _)| done))
    }

    /// Takes a batch in. It is on flash when the log is durable through the position.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn import(&mut self, now: Now, batch: &ImportBatch) -> Result<Position, ImportError> {
        if self.stopping {
            return Err(ImportError::Refused("the gateway is shutting down".to_owned()));
        }
        let done = self.imported(&batch.stream, &batch.id)?;
        let Some(stream) = self.routes.id(&batch.stream) else {
            return Err(ImportError::NoStream(batch.stream.clone()));
        };
        if done != batch.start {
            return Err(ImportError::Elsewhere { done });
        }
        let mut transaction = Transaction::new();
        for record in &batch.records {
            transaction.append(stream, record.clone());
        }
        let done = done + batch.records.len() as u64;
        let key = key(&batch.stream, &batch.id);
        if let Some(oldest) = self.import_to_forget(&key) {
            transaction.delete(self.imports.table, oldest);
        }
        let note = [done.to_be_bytes(), now.unix_ms.to_be_bytes()].concat();
        transaction.put(self.imports.table, key, note);
        transaction.hurry();
        self.log.commit(now.instant, transaction).map(|done| done.position).map_err(refusal)
    }

    fn import_to_forget(&self, new: &[u8]) -> Option<Vec<u8>> {
        let entries = self.log.table_entries(self.imports.table);
        if entries.len() < MAX_IMPORTS || entries.contains_key(new) {
            return None;
        }
        let time = |value: &[u8]| decode(value).map_or(i64::MIN, |(_, time)| time);
        let oldest = entries.iter().min_by_key(|(_, value)| time(value));
        oldest.map(|(key, _)| key.clone())
    }
}

fn refusal(error: CommitError) -> ImportError {
    if error.is_busy() { ImportError::Later } else { ImportError::Refused(error.to_string()) }
}

fn key(stream: &str, id: &str) -> Vec<u8> {
    [stream.as_bytes(), &[0], id.as_bytes()].concat()
}

fn decode(note: &[u8]) -> Option<(u64, i64)> {
    let (done, time) = note.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*done), i64::from_be_bytes(*time.first_chunk::<8>()?)))
}
