//! Changes that happen together or not at all.

use crate::ids::{ReaderId, Seq, StreamId, TableId};
use crate::ledger::Loss;
use crate::record::Record;

/// Records, table changes, cursor moves and losses that become one frame.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub(crate) records: Vec<(StreamId, Record)>,
    pub(crate) tables: Vec<TableChange>,
    pub(crate) cursors: Vec<(ReaderId, Seq)>,
    pub(crate) losses: Vec<Loss>,
    pub(crate) hurried: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableChange {
    pub(crate) table: TableId,
    pub(crate) key: Vec<u8>,
    /// `None` deletes the key.
    pub(crate) value: Option<Vec<u8>>,
}

impl Transaction {
    /// A transaction that changes nothing.
    #[must_use]
    pub fn new() -> Transaction {
        Transaction::default()
    }

    /// Appends a record.
    pub fn append(&mut self, stream: StreamId, record: Record) {
        self.records.push((stream, record));
    }

    /// Sets a key.
    pub fn put(&mut self, table: TableId, key: Vec<u8>, value: Vec<u8>) {
        self.tables.push(TableChange { table, key, value: Some(value) });
    }

    /// Deletes a key.
    pub fn delete(&mut self, table: TableId, key: Vec<u8>) {
        self.tables.push(TableChange { table, key, value: None });
    }

    /// Moves a cursor; `next` is the first sequence not yet done.
    pub fn advance(&mut self, reader: ReaderId, next: Seq) {
        self.cursors.push((reader, next));
    }

    /// Enters a loss into the ledger.
    pub fn loss(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    /// Somebody waits for it: it is committed as soon as a record would be, also without one.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.tables.is_empty()
            && self.cursors.is_empty()
            && self.losses.is_empty()
    }

    /// The most bytes that it can take in a frame, headers of sections included.
    pub(crate) fn bound(&self) -> usize {
        const SECTION: usize = crate::frame::SECTION_HEADER;
        const ENTRY: usize = 48;
        let records = self.records.iter().map(|(_, r)| r.as_ref().bound() + SECTION);
        let tables = self.tables.iter().map(|change| {
            change.key.len() + change.value.as_ref().map_or(0, Vec::len) + ENTRY + SECTION
        });
        let fixed = (self.cursors.len() + self.losses.len()) * ENTRY + 2 * SECTION;
        records.sum::<usize>() + tables.sum::<usize>() + fixed
    }
}
