//! Looks at a store offline and reports every damage: file, offset, length, what it was, and
//! which records of which streams it may have cost. Nothing is changed.
//!
//! What the store should hold is what [`Log::open`] makes of it; what it does hold is found by
//! reading every segment from end to end, also those that opening knows by their footer only.
//!
//! Memory: what opening the store takes, and one segment at a time (at most 64 MiB); at most
//! [`MAX_DAMAGE`] entries of damage.
//!
//! Deliberately not here: repair. The next start goes on behind any damage, and enters what it
//! cost into the loss ledger.

mod segments;
mod sequences;

use std::fmt;
use std::time::Instant;

use crate::disk::Disk;
use crate::ids::{Epoch, Seq, StreamId};
use crate::log::Log;
use crate::options::LogOptions;
use crate::read_only::ReadOnlyDisk;
use crate::recovery::{OpenError, survey};

use sequences::Sequences;

/// Most damage that a report lists; what is beyond is counted.
pub const MAX_DAMAGE: usize = 10_000;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DamageKind {
    /// A segment's header. It costs nothing: every frame says whose it is.
    Header,
    /// The file is shorter than its header says; the rest is gone.
    Truncated,
    /// The medium does not give these bytes back.
    Unreadable,
    /// A frame: one group of commits.
    Frame,
    /// A part of a checkpoint, and with it the frame that carries it. An older checkpoint, and
    /// the frames after that, hold the same.
    CheckpointPart,
    /// A segment with a newer checkpoint than any that is there is gone.
    CheckpointMissing,
    /// The index of a sealed segment. It costs nothing: the segment is read instead.
    Footer,
    /// An unfinished write behind the last frame of the log, or damage to what was the last
    /// frame: nobody can tell.
    TornEnd,
}

impl DamageKind {
    /// The word that reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DamageKind::Header => "header",
            DamageKind::Truncated => "truncated",
            DamageKind::Unreadable => "unreadable",
            DamageKind::Frame => "frame",
            DamageKind::CheckpointPart => "checkpoint-part",
            DamageKind::CheckpointMissing => "checkpoint-missing",
            DamageKind::Footer => "footer",
            DamageKind::TornEnd => "torn-end",
        }
    }
}

impl DamageKind {
    /// Whether records may be gone with it.
    fn holds_records(self) -> bool {
        match self {
            DamageKind::Truncated
            | DamageKind::Unreadable
            | DamageKind::Frame
            | DamageKind::CheckpointPart
            | DamageKind::CheckpointMissing
            | DamageKind::TornEnd => true,
            DamageKind::Header | DamageKind::Footer => false,
        }
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Consecutive records of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// The stream.
    pub stream: StreamId,
    /// First sequence.
    pub first: Seq,
    /// Last sequence.
    pub last: Seq,
}

/// One damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
    /// How much, in bytes.
    pub len: u64,
    /// What it was.
    pub kind: DamageKind,
    /// Records that are not there and may have been in it: of each stream what is missing
    /// between the records found before and behind it. Records that the stream no longer keeps
    /// are left out.
    pub sequences: Vec<Sequence>,
}

/// Records that should be there and are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// First sequence.
    pub first: Seq,
    /// Last sequence.
    pub last: Seq,
    /// The loss ledger names all of them.
    pub told: bool,
}

/// What is there of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamContents {
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Oldest record kept.
    pub first: Seq,
    /// What the next record gets.
    pub next: Seq,
    /// Records that can be read, of those kept.
    pub records: u64,
    /// Those that cannot.
    pub missing: Vec<Missing>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verification {
    /// A newer version of this program wrote this file: the file and its format. Then nothing
    /// else was looked at.
    pub newer: Option<(String, u16)>,
    /// The store's random number.
    pub store: u64,
    /// Epoch of the newest records.
    pub epoch: Epoch,
    /// It was shut down; nothing is in doubt at its end.
    pub clean: bool,
    /// Segments that were read.
    pub segments: usize,
    /// Bytes that were read for it.
    pub bytes: u64,
    /// Valid frames.
    pub frames: u64,
    /// Files with damage that the daemon set aside earlier.
    pub kept_aside: usize,
    /// All damage, in the order of the log.
    pub damage: Vec<Damage>,
    /// Damage beyond [`MAX_DAMAGE`].
    pub more_damage: u64,
    /// The streams in order of their ids.
    pub streams: Vec<StreamContents>,
    /// What else is worth telling, in words.
    pub notes: Vec<String>,
}

impl Verification {
    /// Whether nothing is damaged and no record is missing that the ledger does not name.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let untold = |stream: &StreamContents| stream.missing.iter().any(|missing| !missing.told);
        self.newer.is_none() && self.damage.is_empty() && !self.streams.iter().any(untold)
    }
}

/// Reads the store in `disk`, which no daemon uses meanwhile. `now` is any moment.
///
/// # Errors
/// The directory cannot be listed.
pub fn verify(disk: &dyn Disk, now: Instant) -> Result<Verification, std::io::Error> {
    let disk = ReadOnlyDisk::new(disk);
    let (log, recovery) = match Log::open(&disk, LogOptions::default(), now, 0, 0) {
        Ok(opened) => opened,
        Err(OpenError::NewerFormat { file, version }) => {
            return Ok(Verification { newer: Some((file, version)), ..Verification::default() });
        }
        Err(OpenError::List(error)) => return Err(error),
    };
    let survey = match survey(&disk) {
        Ok(survey) => survey,
        Err(OpenError::NewerFormat { file, version }) => {
            return Ok(Verification { newer: Some((file, version)), ..Verification::default() });
        }
        Err(OpenError::List(error)) => return Err(error),
    };
    let mut report = Verification {
        store: survey.store,
        epoch: survey.epoch,
        clean: recovery.clean,
        segments: survey.segments.len(),
        kept_aside: survey.kept_aside,
        notes: recovery.notes.clone(),
        ..Verification::default()
    };
    let mut sequences = Sequences::of(&log);
    segments::check(&disk, &survey, log.checkpoint, &mut report, &mut sequences);
    sequences.finish(&log, &recovery, &mut report);
    // Names of segments sort in the order of the log.
    report.damage.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok(report)
}

impl Verification {
    /// Enters a damage; its number, if there is room for it.
    fn enter(&mut self, file: &str, offset: usize, len: usize, kind: DamageKind) {
        if self.damage.len() >= MAX_DAMAGE {
            self.more_damage += 1;
            return;
        }
        let (offset, len) = (offset as u64, len as u64);
        let file = file.to_owned();
        self.damage.push(Damage { file, offset, len, kind, sequences: Vec::new() });
    }
}
