//! Reads each segment from end to end.

use crate::copied::Records;
use crate::disk::{Disk, read_full};
use crate::frame::{
    BLOCK, Broken, Frame, HEADER as FRAME_HEADER, Kind, MAGIC, SECTION_HEADER, SECTOR, Seed,
    is_sound_section, read_u32, read_u64,
};
use crate::ids::SegmentId;
use crate::recovery::{Candidate, Survey};
use crate::segment::{
    FIRST_FRAME, Footer, FooterPlace, HEADER, Place, TRAILER_MAGIC, segment_name,
};

use super::sequences::Sequences;
use super::{DamageKind, Verification};

/// How many ids before its own a recycled file may have had, for all that is looked.
const FORMER_LIVES: u64 = 65_536;

/// Checks all segments in the order of the log. `checkpoint`: the newest that is complete.
pub(super) fn check(
    disk: &dyn Disk,
    survey: &Survey,
    checkpoint: Option<Place>,
    report: &mut Verification,
    sequences: &mut Sequences,
) {
    check_checkpoint_is_there(survey, checkpoint, report);
    let with_header = survey.segments.iter().rposition(|segment| segment.header.is_some());
    for (index, segment) in survey.segments.iter().enumerate() {
        // What is behind it has no header: begun and not used, at best.
        let may_end_the_log = with_header.is_none_or(|last| index >= last);
        Check::read(disk, survey.store, segment, report).run(may_end_the_log, report, sequences);
    }
}

/// The newest header names a checkpoint; its segment is gone only when a newer one is there.
fn check_checkpoint_is_there(
    survey: &Survey,
    newest_found: Option<Place>,
    report: &mut Verification,
) {
    let newest = survey.segments.iter().rev().find_map(|segment| segment.header);
    let Some(place) = newest.and_then(|header| header.checkpoint) else { return };
    let is_there = survey.segments.iter().any(|segment| segment.id == place.segment);
    if !is_there && newest_found.is_none_or(|found| found < place) {
        let name = segment_name(place.segment);
        report.enter(&name, place.offset as usize, 0, DamageKind::CheckpointMissing);
    }
}

/// One segment.
struct Check<'s> {
    store: u64,
    segment: &'s Candidate,
    name: String,
    seed: Seed,
    bytes: Vec<u8>,
    /// Blocks that the medium does not give back.
    unreadable: Vec<usize>,
}

/// What the last sector of a segment is.
enum Trailer {
    Valid(FooterPlace),
    Damaged,
    /// No footer was written: zeros, frames, or what the file held before.
    None,
}

impl<'s> Check<'s> {
    fn read(
        disk: &dyn Disk,
        store: u64,
        segment: &'s Candidate,
        report: &mut Verification,
    ) -> Check<'s> {
        let name = segment_name(segment.id);
        let mut bytes = vec![0; segment.len as usize];
        let mut unreadable = Vec::new();
        match read_full(disk, &name, 0, &mut bytes) {
            Ok(read) => bytes.truncate(read),
            Err(_) => {
                // Block by block, so that one bad sector hides no more than its block.
                for (index, block) in bytes.chunks_mut(BLOCK).enumerate() {
                    if read_full(disk, &name, (index * BLOCK) as u64, block).is_err() {
                        block.fill(0);
                        unreadable.push(index * BLOCK);
                    }
                }
            }
        }
        report.bytes += bytes.len() as u64;
        let seed = Seed::new(store, segment.id);
        Check { store, segment, name, seed, bytes, unreadable }
    }

    fn run(&self, may_end_the_log: bool, report: &mut Verification, sequences: &mut Sequences) {
        let trailer = self.trailer();
        let footer = match &trailer {
            Trailer::Valid(place) => self.footer(*place),
            Trailer::Damaged | Trailer::None => None,
        };
        let walked = self.walk(report, sequences);
        let certain = self.segment.cut.or(footer.as_ref().map(|footer| footer.end));
        let certain = self.within_file(certain.unwrap_or(0) as usize);
        if walked.end < certain {
            self.enter_gap(walked.end, certain, report);
        } else if may_end_the_log && certain == 0 && !walked.clean {
            self.check_end(&walked, report);
        }
        let used = walked.frames > 0 || walked.end < certain;
        self.check_edges(used, &trailer, footer.is_some(), report);
        for block in &self.unreadable {
            report.enter(&self.name, *block, BLOCK, DamageKind::Unreadable);
        }
    }

    /// What is behind the end of a file whose header gives its length is reported as such.
    fn within_file(&self, end: usize) -> usize {
        if self.segment.header.is_some() { end.min(self.bytes.len()) } else { end }
    }

    /// Header, length and footer.
    fn check_edges(&self, used: bool, trailer: &Trailer, footer: bool, report: &mut Verification) {
        match &self.segment.header {
            None if used => report.enter(&self.name, 0, HEADER, DamageKind::Header),
            // Begun, and nothing written to it.
            None => {}
            Some(header) if self.bytes.len() < header.bytes as usize => {
                let missing = header.bytes as usize - self.bytes.len();
                report.enter(&self.name, self.bytes.len(), missing, DamageKind::Truncated);
            }
            Some(_) => {}
        }
        let at = self.bytes.len().saturating_sub(HEADER);
        match trailer {
            Trailer::Valid(place) if !footer => {
                let (start, len) = (place.start as usize, place.len as usize);
                report.enter(&self.name, start, len, DamageKind::Footer);
            }
            Trailer::Damaged => report.enter(&self.name, at, HEADER, DamageKind::Footer),
            Trailer::Valid(_) | Trailer::None => {}
        }
    }

    fn trailer(&self) -> Trailer {
        let Some(at) = self.bytes.len().checked_sub(HEADER) else { return Trailer::None };
        let sector = &self.bytes[at..];
        let id = self.segment.id;
        if let Some(place) = Footer::locate(sector, self.store, id) {
            let inside = place.end <= place.start
                && u64::from(place.start) + u64::from(place.len) <= at as u64;
            return if inside { Trailer::Valid(place) } else { Trailer::Damaged };
        }
        let (store, segment) = (read_u64(sector, 8), SegmentId(read_u64(sector, 16)));
        if Footer::locate(sector, store, segment).is_some() {
            return Trailer::None;
        }
        // Two of its three names are right: it was this segment's, and something in it is not.
        let names = [sector[..4] == TRAILER_MAGIC, store == self.store, segment == id];
        let right = names.iter().filter(|right| **right).count();
        if right >= 2 { Trailer::Damaged } else { Trailer::None }
    }

    fn footer(&self, place: FooterPlace) -> Option<Footer> {
        let start = place.start as usize;
        let bytes = self.bytes.get(start..start + place.len as usize)?;
        place.decode(bytes, self.store, self.segment.id)
    }

    /// Goes from frame to frame, and enters what is between them.
    fn walk(&self, report: &mut Verification, sequences: &mut Sequences) -> Walked {
        let limit = self.segment.cut.map_or(self.bytes.len(), |cut| cut as usize);
        let limit = limit.min(self.bytes.len());
        let mut at = FIRST_FRAME as usize;
        let mut walked = Walked { end: at, commit: 0, frames: 0, clean: false };
        while at < limit {
            let frame = Frame::verify(&self.bytes[at..limit], self.seed).ok();
            // Within a segment commit numbers rise.
            let Some(frame) = frame.filter(|frame| frame.commit > walked.commit) else {
                at += SECTOR;
                continue;
            };
            if at > walked.end {
                self.enter_gap(walked.end, at, report);
            }
            walked.clean = false;
            for section in frame.sections() {
                walked.clean |= section.kind == Kind::Clean;
                if let Some(records) = Records::of(&frame, &section) {
                    sequences.see(&records, report.damage.len());
                }
            }
            at += frame.padded;
            walked = Walked { end: at, commit: frame.commit, frames: walked.frames + 1, ..walked };
        }
        report.frames += walked.frames;
        walked
    }

    /// Enters what is not valid from `from` to `end`, frame by frame where their headers are
    /// still there.
    fn enter_gap(&self, from: usize, end: usize, report: &mut Verification) {
        let mut at = from;
        let mut nameless = from;
        while at < end {
            let Some((padded, kind)) = self.broken_frame(at, end) else {
                at += SECTOR;
                continue;
            };
            if at > nameless {
                report.enter(&self.name, nameless, at - nameless, DamageKind::Frame);
            }
            let len = padded.min(end - at);
            report.enter(&self.name, at, len, kind);
            at += len.next_multiple_of(SECTOR);
            nameless = at;
        }
        if end > nameless {
            report.enter(&self.name, nameless, end - nameless, DamageKind::Frame);
        }
    }

    /// Length and kind of a frame whose header is right and whose content is not.
    fn broken_frame(&self, at: usize, end: usize) -> Option<(usize, DamageKind)> {
        let end = end.min(self.bytes.len());
        let bytes = self.bytes.get(at..end)?;
        match Frame::verify(bytes, self.seed) {
            // A valid one, though with a commit number that is too low: not of this place.
            Ok(_) | Err(Broken::NotAFrame) => None,
            Err(Broken::Short(_)) if bytes.len() < FRAME_HEADER => None,
            Err(Broken::Short(padded)) => Some((padded, DamageKind::Frame)),
            Err(Broken::Corrupt(padded)) => {
                let parts_only = only_parts_are_broken(bytes, self.seed);
                let kind = if parts_only { DamageKind::CheckpointPart } else { DamageKind::Frame };
                Some((padded, kind))
            }
        }
    }

    /// Behind the last frame of the log is nothing, or what the file held in a former life, or
    /// what an unfinished write left.
    fn check_end(&self, walked: &Walked, report: &mut Verification) {
        let end = walked.end;
        let first = self.segment.header.map_or(1, |header| header.first_commit);
        let expected = if walked.frames > 0 { walked.commit + 1 } else { first };
        let Some(bytes) = self.bytes.get(end..) else { return };
        if let Some((padded, _)) = self.broken_frame(end, self.bytes.len()) {
            report.enter(&self.name, end, padded.min(bytes.len()), DamageKind::TornEnd);
        } else if self.is_damaged_header(bytes, expected) {
            let claimed = (read_u32(bytes, 44) as usize).clamp(SECTOR, 64 << 20);
            let len = claimed.next_multiple_of(SECTOR).min(bytes.len());
            report.enter(&self.name, end, len, DamageKind::TornEnd);
        }
    }

    /// Whether this was the header of the frame with this commit number, and of no former life.
    fn is_damaged_header(&self, bytes: &[u8], commit: u64) -> bool {
        if bytes.len() < FRAME_HEADER {
            return false;
        }
        let mut expected = MAGIC.to_vec();
        expected.extend_from_slice(&bytes[4..8]);
        expected.extend_from_slice(&self.store.to_le_bytes());
        let wrong = expected.iter().zip(bytes).filter(|(expected, found)| expected != found);
        if wrong.count() > 1 {
            return false;
        }
        if read_u64(bytes, 16) == commit {
            return true;
        }
        let id = self.segment.id.0;
        let former = id.saturating_sub(FORMER_LIVES)..id;
        let crc = read_u32(bytes, FRAME_HEADER - 4);
        let is_of = |id: u64| {
            Seed::new(self.store, SegmentId(id)).checksum(&bytes[..FRAME_HEADER - 4]) == crc
        };
        !former.rev().any(is_of)
    }
}

/// How far the valid frames go.
struct Walked {
    /// Behind the last of them.
    end: usize,
    /// Its number.
    commit: u64,
    frames: u64,
    /// It ends with the mark of a clean end.
    clean: bool,
}

/// Whether all sections of a frame are right but those with parts of a checkpoint.
fn only_parts_are_broken(bytes: &[u8], seed: Seed) -> bool {
    let total = (read_u32(bytes, 40) as usize).min(bytes.len());
    let mut at = FRAME_HEADER;
    let mut parts = 0;
    for _ in 0..read_u32(bytes, 36) {
        let Some(header) = bytes.get(at..at + SECTION_HEADER) else { return false };
        let end = at + SECTION_HEADER + read_u32(header, 16) as usize;
        let Some(section) = bytes[..total].get(at..end) else { return false };
        if !is_sound_section(seed, section) {
            if section[0] != Kind::Checkpoint.code() {
                return false;
            }
            parts += 1;
        }
        at = end;
    }
    parts > 0 && at == total
}
