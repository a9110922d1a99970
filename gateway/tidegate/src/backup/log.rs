//! The segments of a log that may be written to meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use ring::digest::{SHA256, digest};
use tidegate_stream::{SegmentEnd, is_segment, newer_format, segment_end};

use super::{Copied, create, finish, make_directory, sync_directory};
use crate::config::STORE_DIR;
use crate::hex;

/// Rounds until no segment was given back meanwhile. From the second on only what has changed is
/// copied, so that a round takes as long as one segment.
const MAX_ROUNDS: usize = 50;
/// The newest segments, which may be written to: the last one, and the one before while the next is
/// being prepared.
const OPEN: usize = 2;

/// What changes when a file does: inode, size and time of change.
type Look = (u64, u64, i64, i64);

/// Copies the segments as they were at one moment.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<Vec<Copied>> {
    make_directory(to)?;
    let mut done: BTreeMap<String, (Look, Option<Copied>)> = BTreeMap::new();
    for _ in 0..MAX_ROUNDS {
        let before = segments(from)?;
        for (gone, _) in done.extract_if(.., |name, _| !before.contains_key(name)) {
            remove(&to.join(gone))?;
        }
        let open_from = before.len().saturating_sub(OPEN);
        for (index, (name, look)) in before.iter().enumerate() {
            if done.get(name).is_some_and(|(seen, _)| seen == look) {
                continue;
            }
            let Some(copied) = copy_segment(from, to, name, index >= open_from)? else { continue };
            done.insert(name.clone(), (*look, copied));
        }
        let after = segments(from)?;
        if before.keys().all(|name| after.contains_key(name) && done.contains_key(name)) {
            sync_directory(to)?;
            return Ok(done.into_values().filter_map(|(_, copied)| copied).collect());
        }
    }
    anyhow::bail!(
        "segments were given back faster than they could be copied, {MAX_ROUNDS} times; try again \
         when less is written, or with the gateway stopped"
    )
}

/// The segments that there are, in the order of the log.
fn segments(store: &Path) -> anyhow::Result<BTreeMap<String, Look>> {
    let failed = || format!("cannot read {}", store.display());
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(store).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_segment(&name) {
            continue;
        }
        match entry.metadata() {
            Ok(about) => {
                let look = (about.ino(), about.size(), about.mtime(), about.mtime_nsec());
                found.insert(name, look);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(failed),
        }
    }
    Ok(found)
}

/// Copies a segment; of one that may be written to, what stands. `None`: it is gone;
/// `Some(None)`: nothing of it stands yet.
fn copy_segment(
    from: &Path,
    to: &Path,
    name: &str,
    open: bool,
) -> anyhow::Result<Option<Option<Copied>>> {
    let (source, target) = (from.join(name), to.join(name));
    let mut bytes = match fs::read(&source) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {name}")),
    };
    if let Some(format) = newer_format(&bytes) {
        anyhow::bail!(
            "{name} has format {format}, which this program does not know: back up with the newer program that wrote it"
        );
    }
    let mut end = bytes.len();
    if open {
        match segment_end(name, &bytes) {
            SegmentEnd::Unused => {
                remove(&target)?;
                return Ok(Some(None));
            }
            SegmentEnd::At(at) => {
                end = at;
                bytes[at..].fill(0);
            }
        }
    }
    let mut file = create(&target)?;
    let written = file.write_all(&bytes[..end]).and_then(|()| finish(&file, bytes.len() as u64));
    written.with_context(|| format!("cannot write {}", target.display()))?;
    let sha256 = hex::encode(digest(&SHA256, &bytes).as_ref());
    let name = format!("{STORE_DIR}/{name}");
    Ok(Some(Some(Copied { name, bytes: bytes.len() as u64, sha256 })))
}

fn remove(file: &Path) -> anyhow::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", file.display()))
        }
        _ => Ok(()),
    }
}
