//! Going on where an opened log ended.
//!
//! After an unclean end the last frame is written once more, and what is behind it is zeroed, and
//! both are synced: what was only in the page cache becomes durable, and what a torn write left
//! can never become valid. Where that fails, the frame is not durable: it goes to a new segment,
//! from memory, as after any failed write, and until then its records are not read.

use std::time::Instant;

use crate::checkpoint::part_bytes;
use crate::frame::{BLOCK, FORMAT_VERSION, SECTOR, UnsealedFrame};
use crate::group::{Sealed, SealedRecords};
use crate::ids::{Position, SegmentId};
use crate::log::{Active, Log};
use crate::planted::PlantedBug;
use crate::recovery::{Contents, Opening};
use crate::scan::{Scan, ScannedFrame};
use crate::segment::{Chunk, Place, segment_name};

/// The longest frame that an earlier start may have been configured for, in bytes: a segment of
/// the default size takes two.
const LONGEST_FRAME: usize = 3 << 20;

impl Opening<'_> {
    /// Goes on in the newest segment, if that is in order.
    pub(crate) fn take_up(
        &mut self,
        log: &mut Log,
        contents: &Contents,
        id: SegmentId,
        clean: bool,
    ) {
        let Some(scan) = contents.scans.get(&id) else { return };
        let Some(len) = self.candidates.iter().find(|c| c.id == id).map(|c| c.len) else { return };
        let (Some(first), Some(last)) = (scan.frames.first(), scan.frames.last()) else { return };
        log.log_end = Some(Place { segment: id, offset: scan.end });
        let sound = !scan.damaged
            && len == self.options.segment_bytes
            && !self.is_unreadable(id)
            && self.writes_this_format(id);
        let trusting = self.options.plants(PlantedBug::RecoveredTailUnsynced);
        let proven = clean || trusting || self.make_end_durable(scan, len);
        log.active = Some(Active {
            id,
            len,
            offset: scan.end,
            index: scan.index(),
            first_commit: first.commit,
            last_commit: last.commit,
            // The header of a segment begun in vain says that the log ends here. Its name is given
            // back in no hurry, and may be there again after a power cut: only a later segment
            // voids it for good, so what comes now must not go in front of it.
            closed: !(sound && proven) || self.unused,
        });
        if !proven {
            let bytes = std::mem::take(&mut self.last_frame);
            log.hold_back(last, bytes);
        }
    }

    /// A program of an older format would take what is written now for a torn write. It refuses
    /// a store as soon as one header has a newer format.
    fn writes_this_format(&self, id: SegmentId) -> bool {
        let header = self.candidates.iter().find(|c| c.id == id).and_then(|c| c.header);
        header.is_none_or(|header| header.version == FORMAT_VERSION)
    }

    /// See the module.
    fn make_end_durable(&mut self, scan: &Scan, len: u32) -> bool {
        let Some(last) = scan.frames.last() else { return true };
        let name = segment_name(scan.segment);
        let mut bytes = self.last_frame.clone();
        bytes.resize(last.padded as usize, 0);
        let tail = self.read_tail(scan.segment, scan.end, len);
        self.recovery.torn_bytes = self.recovery.torn_bytes.max(used_len(&tail) as u64);
        // What cannot be read now may be a frame that can be read later.
        if last.offset + last.padded == scan.end && !self.is_unreadable(scan.segment) {
            bytes.resize(bytes.len() + used_len(&tail), 0);
        }
        let written = self
            .disk
            .write_at(&name, u64::from(last.offset), &bytes)
            .and_then(|()| self.disk.sync(&name))
            .and_then(|()| self.disk.sync_dir());
        if let Err(error) = &written {
            let note = format!("cannot write the end of {name} again: {error}; going on behind it");
            self.recovery.notes.push(note);
        }
        written.is_ok()
    }

    /// Whether there is no trace of a write behind the last frame. Only then is it sure that
    /// no acknowledged frame was lost there.
    pub(crate) fn ends_in_zeros(&mut self, contents: &Contents) -> bool {
        if self.unused {
            return false;
        }
        let Some(last) = self.candidates.last() else { return true };
        let (id, len) = (last.id, last.len);
        // Of a file that was cut short nobody knows what was behind the cut.
        if last.header.is_some_and(|header| len < header.bytes) {
            return false;
        }
        let Some(scan) = contents.scans.get(&id).filter(|scan| !scan.damaged) else { return false };
        let bytes = self.read_tail(id, scan.end, len);
        self.recovery.torn_bytes = used_len(&bytes) as u64;
        self.recovery.torn_bytes == 0 && !self.is_unreadable(id)
    }

    pub(crate) fn is_unreadable(&self, id: SegmentId) -> bool {
        self.unreadable.contains(&segment_name(id))
    }

    /// What an unfinished write may have touched, also one of a time with larger frames.
    fn read_tail(&mut self, id: SegmentId, end: u32, len: u32) -> Vec<u8> {
        let frame = self.options.max_frame_bytes.max(LONGEST_FRAME);
        let longest = frame + part_bytes(frame);
        let tail = (len.saturating_sub(end) as usize).min(longest + 2 * BLOCK);
        self.read(&segment_name(id), u64::from(end), tail)
    }
}

impl Log {
    /// Damage to the last frame has to be told from a torn write later too.
    pub(crate) fn prove_end_later(&mut self, now: Instant, contents: &Contents, id: SegmentId) {
        let last = contents.scans.get(&id).and_then(|scan| scan.frames.last());
        let records = last.into_iter().flat_map(|frame| &frame.records);
        self.note_records_for_mark(now, records.map(|chunk| chunk.stream));
    }

    /// The newest frame counts again once it is written to a new segment. Nothing is recycled
    /// before a checkpoint behind it is complete: what it freed may still be needed. The log still
    /// ends behind it: the frame may have been durable all along, and the new segment's header,
    /// which says where, may reach the disk without the frame.
    fn hold_back(&mut self, frame: &ScannedFrame, bytes: Vec<u8>) {
        let records = frame.records.iter().filter(|chunk| self.withdraw(chunk));
        let records = records.map(SealedRecords::of).collect();
        self.end = Position(self.end.0 + 1);
        self.open.end = self.end;
        self.retry = Some(Sealed {
            frame: UnsealedFrame::of(bytes),
            commit: frame.commit,
            end: self.end,
            records,
            copies: frame.copies.iter().map(SealedRecords::of).collect(),
            cursors: Vec::new(),
            part: None,
        });
        self.checkpoint = None;
        self.checkpoint_before = None;
        self.begin_checkpoint(false);
    }

    /// Takes records that are not durable out of the index, if they are in it.
    fn withdraw(&mut self, records: &Chunk) -> bool {
        let Some(stream) = self.state.stream_mut(records.stream) else { return false };
        let newest = stream.chunks.back_mut().filter(|last| last.end() == records.end());
        let Some(last) = newest.filter(|_| records.end() == stream.durable) else { return false };
        stream.durable = records.first;
        stream.pending += u64::from(records.bytes);
        if last.first < records.first {
            let bytes = records.bytes.min(last.bytes);
            stream.bytes -= u64::from(bytes);
            last.bytes -= bytes;
            last.records -= records.records;
            let segment = last.place.segment;
            self.release(segment, bytes, 0);
            return true;
        }
        stream.bytes -= u64::from(last.bytes);
        let (segment, bytes) = (last.place.segment, last.bytes);
        stream.chunks.pop_back();
        self.release(segment, bytes, 1);
        true
    }
}

/// Bytes up to the last that is not zero, in whole sectors.
fn used_len(bytes: &[u8]) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    used.next_multiple_of(SECTOR).min(bytes.len().next_multiple_of(SECTOR))
}
