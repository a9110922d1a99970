//! Reading a segment as a whole, at recovery: which frames are in it, what is damaged.

use crate::checkpoint::PART_HEADER;
use crate::copied::Records;
use crate::disk::{Disk, read_full};
use crate::frame::{BLOCK, Frame, Kind, SECTION_HEADER, SECTOR, Seed, read_u64};
use crate::ids::{Epoch, SegmentId};
use crate::segment::{Chunk, FIRST_FRAME, Place, SegmentIndex};

/// A valid frame.
#[derive(Debug)]
pub(crate) struct ScannedFrame {
    pub(crate) offset: u32,
    pub(crate) total: u32,
    pub(crate) padded: u32,
    pub(crate) commit: u64,
    pub(crate) epoch: Epoch,
    /// It ends with the mark of a clean end.
    pub(crate) clean: bool,
    pub(crate) part: Option<ScannedPart>,
    pub(crate) records: Vec<Chunk>,
    /// Records that were copied forward.
    pub(crate) copies: Vec<Chunk>,
}

/// A part of a checkpoint.
#[derive(Debug)]
pub(crate) struct ScannedPart {
    pub(crate) number: u64,
    pub(crate) index: usize,
    pub(crate) of: usize,
    pub(crate) bytes: Vec<u8>,
}

/// A segment, read.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) segment: SegmentId,
    pub(crate) frames: Vec<ScannedFrame>,
    /// Something between the first frame and the end is not valid.
    pub(crate) damaged: bool,
    /// Behind the last frame.
    pub(crate) end: u32,
}

impl Scan {
    /// Scans `bytes`, a whole segment. `cut`: where the next segment says that this one ends;
    /// without it, it ends with the last valid frame. `any_order`: see
    /// [`crate::options::LogOptions::trusts_stale_frames`].
    pub(crate) fn of(
        segment: SegmentId,
        bytes: &[u8],
        seed: Seed,
        cut: Option<u32>,
        any_order: bool,
    ) -> Scan {
        let limit = cut.map_or(bytes.len(), |cut| bytes.len().min(cut as usize));
        let mut scan = Scan { segment, frames: Vec::new(), damaged: false, end: FIRST_FRAME };
        let (mut at, mut last, mut gap) = (FIRST_FRAME as usize, 0, false);
        while at < limit {
            let frame = Frame::verify(&bytes[at..limit], seed).ok();
            let Some(frame) = frame.filter(|frame| any_order || frame.commit > last) else {
                gap = true;
                at += SECTOR;
                continue;
            };
            scan.damaged |= gap;
            gap = false;
            last = frame.commit;
            scan.frames.push(ScannedFrame::of(&frame, Place { segment, offset: at as u32 }));
            at += frame.padded;
            scan.end = at as u32;
        }
        if cut.is_some() {
            scan.damaged |= gap || bytes.len() < limit;
            scan.end = limit as u32;
        }
        scan
    }

    /// Forgets the frames that a later segment holds again.
    pub(crate) fn forget_from(&mut self, commit: u64) {
        while self.frames.last().is_some_and(|frame| frame.commit >= commit) {
            if let Some(frame) = self.frames.pop() {
                self.end = frame.offset;
            }
        }
    }

    /// The index of its records.
    pub(crate) fn index(&self) -> SegmentIndex {
        let mut index = SegmentIndex::default();
        for frame in &self.frames {
            frame.records.iter().chain(&frame.copies).for_each(|chunk| {
                index.add(*chunk);
            });
        }
        index
    }
}

impl ScannedFrame {
    fn of(frame: &Frame<'_>, place: Place) -> ScannedFrame {
        let mut scanned = ScannedFrame {
            offset: place.offset,
            total: frame.total as u32,
            padded: frame.padded as u32,
            commit: frame.commit,
            epoch: frame.epoch,
            clean: false,
            part: None,
            records: Vec::new(),
            copies: Vec::new(),
        };
        let own = |len: usize| (len + SECTION_HEADER) as u64;
        let records = frame.sections().filter(|s| Records::of(frame, s).is_some());
        let all: u64 = records.map(|s| own(s.payload.len())).sum();
        for section in frame.sections() {
            match section.kind {
                Kind::Clean => scanned.clean = true,
                Kind::Checkpoint if section.payload.len() >= PART_HEADER => {
                    scanned.part = Some(ScannedPart {
                        number: read_u64(section.payload, 0),
                        index: section.first.0 as usize,
                        of: section.count as usize,
                        bytes: section.payload[PART_HEADER..].to_vec(),
                    });
                }
                Kind::Records | Kind::Copied => {
                    let Some(records) = Records::of(frame, &section) else { continue };
                    let share = frame.padded as u64 * own(section.payload.len()) / all.max(1);
                    let list =
                        if records.copied { &mut scanned.copies } else { &mut scanned.records };
                    list.push(Chunk {
                        stream: records.stream,
                        place,
                        first: records.first,
                        records: records.count,
                        bytes: share as u32,
                        newest_ms: records.newest_ms(),
                    });
                }
                Kind::StreamDef
                | Kind::ReaderDef
                | Kind::TableDef
                | Kind::Table
                | Kind::Cursors
                | Kind::Losses
                | Kind::Checkpoint
                | Kind::StreamState
                | Kind::Publishers
                | Kind::Trims => {}
            }
        }
        scanned
    }
}

/// Reads `len` bytes of a file at `offset` into `bytes`, whose room is used again. What cannot be
/// read comes back as zeros, so that one bad sector costs no more than its block; the number of
/// such blocks.
pub(crate) fn read_tolerant(
    disk: &dyn Disk,
    name: &str,
    offset: u64,
    len: usize,
    bytes: &mut Vec<u8>,
) -> usize {
    bytes.clear();
    bytes.resize(len, 0);
    match read_full(disk, name, offset, bytes) {
        Ok(read) => {
            bytes.truncate(read);
            0
        }
        Err(_) => read_blocks(disk, name, offset, bytes),
    }
}

/// How often a block is read before it counts as lost.
const BLOCK_TRIES: usize = 2;

fn read_blocks(disk: &dyn Disk, name: &str, offset: u64, bytes: &mut [u8]) -> usize {
    let mut bad = 0;
    for (index, block) in bytes.chunks_mut(BLOCK).enumerate() {
        let at = offset + (index * BLOCK) as u64;
        let readable = (0..BLOCK_TRIES).any(|_| read_full(disk, name, at, block).is_ok());
        if !readable {
            block.fill(0);
            bad += 1;
        }
    }
    bad
}
