//! From a backup to a data directory that a gateway can run on.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Component, Path};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tidegate_stream::{Log, LogOptions};

use super::{LIST, List, VERSION, copy, make_directory, make_empty, sync_directory};
use crate::config::STORE_DIR;
use crate::disk::FileDisk;

/// The list of a backup is no longer.
const MAX_LIST: u64 = 64 << 20;
/// Tables of a store that is only opened and closed may take what they take.
const ANY_TABLES: usize = usize::MAX / 2;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Restored {
    /// When the backup was made, in milliseconds since 1970.
    pub(crate) made_unix_ms: u64,
    /// The epoch that new records get.
    pub(crate) epoch: u32,
    /// Streams with their oldest sequence and the next one.
    pub(crate) streams: Vec<(String, u64, u64)>,
    /// What is worth telling of the store, in words.
    pub(crate) notes: Vec<String>,
}

/// Copies a backup into a new data directory, and begins a new epoch there. Everything belongs to whom the
/// directory belongs to: root restores for the gateway's user.
///
/// # Errors
/// `from` is no complete backup, or differs from its list; `to` holds something already; or
/// something cannot be read or written.
pub(crate) fn restore(from: &Path, to: &Path) -> anyhow::Result<Restored> {
    let list = read_list(from)?;
    make_empty(to)?;
    for file in &list.files {
        let path = Path::new(&file.name);
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        anyhow::ensure!(plain, "{LIST} names {:?}, which is not below the backup", file.name);
        let target = to.join(path);
        if let Some(above) = target.parent() {
            make_directory(above)?;
        }
        let copied = copy(&from.join(path), &target, &file.name)?;
        anyhow::ensure!(
            copied == *file,
            "{} is not what was backed up ({} bytes, SHA-256 {}); the backup is damaged",
            from.join(path).display(),
            copied.bytes,
            copied.sha256
        );
    }
    make_directory(&to.join(STORE_DIR))?;
    let restored = begin_epoch(&to.join(STORE_DIR), list.made_unix_ms)?;
    hand_over(to)?;
    sync_directory(to)?;
    Ok(restored)
}

/// Gives what is in a directory to its owner.
fn hand_over(to: &Path) -> anyhow::Result<()> {
    let failed = || format!("cannot give {} to its owner", to.display());
    let owner = fs::metadata(to).with_context(failed)?;
    let mut open = vec![to.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let about = entry.metadata().with_context(failed)?;
            if (about.uid(), about.gid()) != (owner.uid(), owner.gid()) {
                lchown(entry.path(), Some(owner.uid()), Some(owner.gid())).with_context(failed)?;
            }
            if about.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(())
}

fn read_list(from: &Path) -> anyhow::Result<List> {
    let file = from.join(LIST);
    let length = fs::metadata(&file).map(|about| about.len());
    let length = length.with_context(|| {
        format!("{} is no complete backup: {LIST} cannot be read", from.display())
    })?;
    anyhow::ensure!(length <= MAX_LIST, "{} has {length} bytes", file.display());
    let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let value: serde_json::Value = serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not JSON", file.display()))?;
    let version = value.get("v").and_then(serde_json::Value::as_u64);
    anyhow::ensure!(
        version == Some(u64::from(VERSION)),
        "{} has version {version:?}, this program knows {VERSION}: use the program that made it",
        file.display()
    );
    serde_json::from_value(value).with_context(|| format!("{} is malformed", file.display()))
}

/// Opens the store as a copy, which raises its epoch, and brings that to the disk.
fn begin_epoch(store: &Path, made_unix_ms: u64) -> anyhow::Result<Restored> {
    let disk = FileDisk::open(store)
        .with_context(|| format!("cannot open the store's directory {}", store.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let unix_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let options =
        LogOptions { is_copy: true, max_table_bytes: ANY_TABLES, ..LogOptions::default() };
    let entropy = u64::from(now.subsec_nanos()) | 1;
    let (mut log, recovery) = Log::open(&disk, options, Instant::now(), unix_ms, entropy)?;
    log.shut_down(Instant::now());
    while !log.is_idle() {
        let now = Instant::now();
        match log.poll_disk(now) {
            Some(request) => log.handle_disk(Instant::now(), request.perform(&disk)),
            None => {
                let at = log.poll_timeout().context("the store does not come to rest")?;
                if let Some(error) = log.status().last_error {
                    anyhow::bail!("cannot write the store in {}: {error}", store.display());
                }
                thread::sleep(at.saturating_duration_since(now));
            }
        }
    }
    let status = log.status();
    let streams = status.streams.into_iter();
    let streams = streams.map(|stream| (stream.name, stream.first_seq.0, stream.next_seq.0));
    let lost = recovery.losses.iter().map(|loss| {
        format!("records {} to {} of stream {} are lost", loss.first, loss.last, loss.stream)
    });
    Ok(Restored {
        made_unix_ms,
        epoch: log.epoch().0,
        streams: streams.collect(),
        notes: recovery.notes.iter().cloned().chain(lost).collect(),
    })
}
