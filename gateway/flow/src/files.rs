//! Files that become records, each once (docs/formats/functions.md, Files).
//!
//! The shell finds a file in a folder, reads it, and hands it over. When it is on flash as a record
//! the shell takes the file out of the folder and says so. Between the two a power cut, or a kill, may
//! come: so the record's commit notes what the file was, and the note goes when the file has gone.
//!
//! Invariants:
//! - the record and the note are one transaction;
//! - a file that the note describes is no new file: it is not taken again.
//!
//! The table `files`: key the folder's name in the configuration, a zero byte, the file's name; value
//! version (1), then the file's mark (32). There is one entry for each file that is in the log and
//! still in its folder, so seldom more than one a folder.
//!
//! Not here: folders, reading, and what makes a mark.

use std::collections::BTreeMap;

use tidegate_stream::{
    AppendError, CommitError, DefineError, Log, Position, Record, TableId, Transaction,
};

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::status::FolderStatus;

/// Name of the table.
const TABLE: &str = "files";
/// Version of its values.
const VERSION: u8 = 1;

/// Bytes that tell one file from another of the same name.
pub type FileMark = [u8; 32];

/// A file as it is to be taken in.
#[derive(Debug, Clone)]
pub struct FileDrop {
    /// The folder's name in the configuration.
    pub folder: String,
    /// The file's name.
    pub name: String,
    /// What it is told from a later one of that name by.
    pub mark: FileMark,
    /// Name of the stream that takes it.
    pub stream: String,
    /// What it becomes.
    pub record: Record,
}

/// Why a file was not taken in. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not now: the disk has to catch up first. Try again in a moment.
    #[error("the disk does not take more right now")]
    Later,
    /// Not before something has made room, or was repaired; in words.
    #[error("{0}")]
    Waits(String),
    /// Never; in words.
    #[error("{0}")]
    Never(String),
}

/// What has become of the files of each folder.
pub(crate) struct Files {
    table: TableId,
    folders: BTreeMap<String, FolderStatus>,
}

impl Files {
    pub(crate) fn define(log: &mut Log) -> Result<Files, DefineError> {
        Ok(Files { table: log.table(TABLE)?, folders: BTreeMap::new() })
    }

    fn folder(&mut self, name: &str) -> &mut FolderStatus {
        let new = || FolderStatus { name: name.to_owned(), ..FolderStatus::default() };
        self.folders.entry(name.to_owned()).or_insert_with(new)
    }

    pub(crate) fn status(&self) -> Vec<FolderStatus> {
        self.folders.values().cloned().collect()
    }
}

impl Gateway {
    /// Files of a folder that are in the log and were still in the folder when that was last known.
    pub fn files_left(&mut self, folder: &str) -> Vec<String> {
        self.files.folder(folder);
        let prefix = key(folder, "");
        let entries = self.log.table_entries(self.files.table).range(prefix.clone()..);
        let names = entries.map_while(|(key, _)| key.strip_prefix(&*prefix));
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    /// Takes a file in, unless it is in already. It is on flash when the log is durable through the
    /// position: then, and not before, it may be taken out of its folder.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn take_file(&mut self, now: Now, file: &FileDrop) -> Result<Position, FileError> {
        if self.stopping {
            return Err(FileError::Waits("the gateway is shutting down".to_owned()));
        }
        let key = key(&file.folder, &file.name);
        let value = [&[VERSION][..], &file.mark].concat();
        if self.log.table_entries(self.files.table).get(&key) == Some(&value) {
            return Ok(self.log.end());
        }
        let Some(stream) = self.routes.id(&file.stream) else {
            return Err(FileError::Waits(format!("there is no stream \"{}\"", file.stream)));
        };
        let mut transaction = Transaction::new();
        transaction.append(stream, file.record.clone());
        if self.planted != Some(crate::PlantedBug::FileNotNoted) {
            transaction.put(self.files.table, key, value);
        }
        transaction.hurry();
        let committed = self.log.commit(now.instant, transaction).map_err(refusal)?;
        let folder = self.files.folder(&file.folder);
        folder.taken += 1;
        folder.bytes += file.record.payload.len() as u64;
        Ok(committed.position)
    }

    /// A file has left its folder for good: one of that name is a new one from now on. What the log
    /// has no room to forget now is forgotten with the next start.
    pub fn forget_file(&mut self, now: Now, folder: &str, name: &str) {
        let key = key(folder, name);
        if self.stopping || !self.log.table_entries(self.files.table).contains_key(&key) {
            return;
        }
        let mut transaction = Transaction::new();
        transaction.delete(self.files.table, key);
        if let Err(error) = self.log.commit(now.instant, transaction) {
            self.files.folder(folder).last_failure = Some(error.to_string());
        }
    }

    /// A file was put aside, and why.
    pub fn file_refused(&mut self, folder: &str, why: String) {
        let folder = self.files.folder(folder);
        folder.refused += 1;
        folder.last_failure = Some(why);
    }
}

fn refusal(error: CommitError) -> FileError {
    let text = error.to_string();
    match error {
        CommitError::Append(AppendError::Busy { .. }) => FileError::Later,
        CommitError::Append(AppendError::TooLarge { .. }) => FileError::Never(text),
        CommitError::Append(
            AppendError::StreamFull { .. } | AppendError::DiskFull | AppendError::UnknownStream(_),
        )
        | CommitError::TablesFull { .. }
        | CommitError::UnknownReader(_)
        | CommitError::UnknownTable(_) => FileError::Waits(text),
    }
}

fn key(folder: &str, name: &str) -> Vec<u8> {
    [folder.as_bytes(), &[0], name.as_bytes()].concat()
}
