//! Frames: one group commit each, the unit that is there as a whole or not at all. Drawn byte by
//! byte in docs/formats/log.md.
//!
//! All checksums are CRC-32C that start from a value made of the store's and the segment's id,
//! so what a recycled file held in its former life never passes for live data.

use crate::compression::Coding;
use crate::ids::{Epoch, SegmentId, Seq, StreamId};

/// First bytes of every frame.
pub(crate) const MAGIC: [u8; 4] = *b"TGFR";
/// The format that this code writes, and the newest that it reads. Version 1 has no copied
/// records.
pub(crate) const FORMAT_VERSION: u16 = 2;
/// The oldest format that this code reads.
const OLDEST_VERSION: u16 = 1;
/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 64;
/// Bytes of a section's header.
pub(crate) const SECTION_HEADER: usize = 24;
/// What a disk writes as a whole or not at all, at best. Frames start at multiples of it.
pub(crate) const SECTOR: usize = 512;
/// What a flash device likes to write at once.
pub(crate) const BLOCK: usize = 4096;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    StreamDef,
    ReaderDef,
    TableDef,
    Records,
    Table,
    Cursors,
    Losses,
    Checkpoint,
    Clean,
    StreamState,
    Publishers,
    Trims,
    Copied,
    Epochs,
}

impl Kind {
    pub(crate) const ALL: [Kind; 14] = [
        Kind::StreamDef,
        Kind::ReaderDef,
        Kind::TableDef,
        Kind::Records,
        Kind::Table,
        Kind::Cursors,
        Kind::Losses,
        Kind::Checkpoint,
        Kind::Clean,
        Kind::StreamState,
        Kind::Publishers,
        Kind::Trims,
        Kind::Copied,
        Kind::Epochs,
    ];

    pub(crate) fn code(self) -> u8 {
        match self {
            Kind::StreamDef => 1,
            Kind::ReaderDef => 2,
            Kind::TableDef => 3,
            Kind::Records => 4,
            Kind::Table => 5,
            Kind::Cursors => 6,
            Kind::Losses => 7,
            Kind::Checkpoint => 8,
            Kind::Clean => 9,
            Kind::StreamState => 10,
            Kind::Publishers => 11,
            Kind::Trims => 12,
            Kind::Copied => 13,
            Kind::Epochs => 14,
        }
    }

    fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Whether this code reads that format.
pub(crate) fn is_read(version: u16) -> bool {
    (OLDEST_VERSION..=FORMAT_VERSION).contains(&version)
}

/// Where checksums start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(store: u64, segment: SegmentId) -> Seed {
        let store = crc32c::crc32c(&store.to_le_bytes());
        Seed(crc32c::crc32c_append(store, &segment.0.to_le_bytes()))
    }

    /// The planted mistake: the same for all segments.
    pub(crate) fn without_segment(store: u64) -> Seed {
        Seed(crc32c::crc32c(&store.to_le_bytes()))
    }

    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(self.0, bytes)
    }
}

/// Puts a frame together.
#[derive(Debug)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    sections: u32,
}

impl FrameWriter {
    pub(crate) fn new(store: u64, commit: u64, epoch: Epoch, base_ms: i64, room: usize) -> Self {
        let mut bytes = Vec::with_capacity((room + HEADER).next_multiple_of(SECTOR));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&(HEADER as u16).to_le_bytes());
        bytes.extend_from_slice(&store.to_le_bytes());
        bytes.extend_from_slice(&commit.to_le_bytes());
        bytes.extend_from_slice(&base_ms.to_le_bytes());
        bytes.extend_from_slice(&epoch.0.to_le_bytes());
        bytes.resize(HEADER, 0);
        FrameWriter { bytes, sections: 0 }
    }

    pub(crate) fn section(&mut self, kind: Kind, id: u16, count: u32, first: Seq, payload: &[u8]) {
        put_section(&mut self.bytes, kind, id, count, first, payload);
        self.sections += 1;
    }

    /// A section with records, its body written as `coding` says.
    pub(crate) fn records(
        &mut self,
        kind: Kind,
        stream: StreamId,
        count: u32,
        first: Seq,
        (coding, payload): (Coding, &[u8]),
    ) {
        let header = self.bytes.len();
        self.section(kind, stream.0, count, first, payload);
        self.bytes[header + 1] = coding.code();
    }

    /// The frame, not yet sealed for a place.
    pub(crate) fn finish(mut self) -> UnsealedFrame {
        let total = self.bytes.len() as u32;
        self.bytes[36..40].copy_from_slice(&self.sections.to_le_bytes());
        self.bytes[40..44].copy_from_slice(&total.to_le_bytes());
        UnsealedFrame { bytes: self.bytes, total: total as usize }
    }
}

/// Appends a section without its checksum. A checkpoint's body is made of such sections too.
pub(crate) fn put_section(
    out: &mut Vec<u8>,
    kind: Kind,
    id: u16,
    count: u32,
    first: Seq,
    payload: &[u8],
) {
    out.push(kind.code());
    out.push(0);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&first.0.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// A complete frame without the parts that depend on where it is written.
#[derive(Debug, Clone)]
pub(crate) struct UnsealedFrame {
    bytes: Vec<u8>,
    total: usize,
}

impl UnsealedFrame {
    /// Bytes that the frame takes on disk at `offset`.
    pub(crate) fn padded_len(&self, offset: u32) -> usize {
        padded_len(offset as usize, self.total)
    }

    /// The bytes to write at `offset` of the segment that `seed` stands for, padding included.
    pub(crate) fn seal(&mut self, seed: Seed, offset: u32) -> Vec<u8> {
        let padded = self.padded_len(offset);
        self.bytes.truncate(self.total);
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes[44..48].copy_from_slice(&(padded as u32).to_le_bytes());
        let mut at = HEADER;
        while at + SECTION_HEADER <= self.total {
            let len = read_u32(&bytes, at + 16) as usize;
            let end = at + SECTION_HEADER + len;
            let crc = section_checksum(seed, &bytes[at..end]);
            bytes[at + 20..at + 24].copy_from_slice(&crc.to_le_bytes());
            at = end;
        }
        let crc = seed.checksum(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(padded, 0);
        // Small frames stay in the cache by the thousand.
        bytes.shrink_to_fit();
        bytes
    }

    /// A frame that was read, to be written at another place.
    pub(crate) fn of(bytes: Vec<u8>) -> UnsealedFrame {
        let total = bytes.len();
        UnsealedFrame { bytes, total }
    }

    /// Takes back what [`UnsealedFrame::seal`] gave, to seal it again for another place.
    pub(crate) fn restore(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes;
    }
}

/// Frames never share a sector with an earlier one, because rewriting a synced sector could tear
/// it; and where less than a quarter of the frame is lost by it they end at a block's end,
/// because flash writes whole blocks: measured over a day at 10,000 records/s, ending at block
/// ends writes 1.27 bytes for each payload byte, rewriting the last block 1.43.
fn padded_len(offset: usize, total: usize) -> usize {
    let end = offset + total;
    let block_end = end.next_multiple_of(BLOCK);
    let end = if block_end - end < total / 4 { block_end } else { end.next_multiple_of(SECTOR) };
    end - offset
}

/// Covers the section's header without its checksum, then its payload.
fn section_checksum(seed: Seed, section: &[u8]) -> u32 {
    let header = seed.checksum(&section[..SECTION_HEADER - 4]);
    crc32c::crc32c_append(header, &section[SECTION_HEADER..])
}

/// Whether a section's checksum is right.
pub(crate) fn is_sound_section(seed: Seed, section: &[u8]) -> bool {
    section.len() >= SECTION_HEADER && section_checksum(seed, section) == read_u32(section, 20)
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|raw| raw.try_into().ok()).map_or(0, u16::from_le_bytes)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// They do not begin like one of this segment.
    NotAFrame,
    /// The frame goes on behind them: this many bytes are needed.
    Short(usize),
    /// A header that is right, and content that is not; this many bytes.
    Corrupt(usize),
}

/// A verified frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) commit: u64,
    pub(crate) epoch: Epoch,
    pub(crate) base_ms: i64,
    pub(crate) total: usize,
    /// Bytes to the next frame.
    pub(crate) padded: usize,
    bytes: &'a [u8],
}

/// A section of a verified frame.
#[derive(Debug, Clone)]
pub(crate) struct Section<'a> {
    pub(crate) kind: Kind,
    /// How records in it are written.
    pub(crate) coding: u8,
    pub(crate) id: u16,
    pub(crate) count: u32,
    pub(crate) first: Seq,
    pub(crate) payload: &'a [u8],
}

/// The store that bytes at a frame's start claim to belong to, unverified.
pub(crate) fn claimed_store(bytes: &[u8]) -> Option<u64> {
    (bytes.len() >= HEADER && bytes[..4] == MAGIC).then(|| read_u64(bytes, 8))
}

impl<'a> Frame<'a> {
    /// Verifies the frame at the start of `bytes`, which may go on behind it.
    pub(crate) fn verify(bytes: &'a [u8], seed: Seed) -> Result<Frame<'a>, Broken> {
        let frame = Frame::header(bytes, seed)?;
        if bytes.len() < frame.total {
            return Err(Broken::Short(frame.total));
        }
        let frame = Frame { bytes: &bytes[..frame.total], ..frame };
        let mut at = HEADER;
        for _ in 0..read_u32(bytes, 36) {
            let Some(header) = frame.bytes.get(at..at + SECTION_HEADER) else {
                return Err(Broken::Corrupt(frame.padded));
            };
            let end = at + SECTION_HEADER + read_u32(header, 16) as usize;
            let Some(section) = frame.bytes.get(at..end) else {
                return Err(Broken::Corrupt(frame.padded));
            };
            if section_checksum(seed, section) != read_u32(header, 20) {
                return Err(Broken::Corrupt(frame.padded));
            }
            at = end;
        }
        if at == frame.total { Ok(frame) } else { Err(Broken::Corrupt(frame.padded)) }
    }

    fn header(bytes: &'a [u8], seed: Seed) -> Result<Frame<'a>, Broken> {
        if bytes.len() < HEADER {
            return Err(Broken::Short(HEADER));
        }
        let known = bytes[..4] == MAGIC
            && is_read(read_u16(bytes, 4))
            && read_u16(bytes, 6) as usize == HEADER
            && seed.checksum(&bytes[..HEADER - 4]) == read_u32(bytes, HEADER - 4);
        let total = read_u32(bytes, 40) as usize;
        let padded = read_u32(bytes, 44) as usize;
        if !known || total < HEADER || padded < total || !padded.is_multiple_of(SECTOR) {
            return Err(Broken::NotAFrame);
        }
        Ok(Frame {
            commit: read_u64(bytes, 16),
            base_ms: read_u64(bytes, 24) as i64,
            epoch: Epoch(read_u32(bytes, 32)),
            total,
            padded,
            bytes,
        })
    }

    /// Takes bytes that were verified, or sealed here, for what they are.
    pub(crate) fn trusted(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let total = read_u32(bytes, 40) as usize;
        Some(Frame {
            commit: read_u64(bytes, 16),
            base_ms: read_u64(bytes, 24) as i64,
            epoch: Epoch(read_u32(bytes, 32)),
            total,
            padded: read_u32(bytes, 44) as usize,
            bytes: bytes.get(..total)?,
        })
    }

    /// Its sections in order. Kinds that this version does not know are left out.
    pub(crate) fn sections(&self) -> impl Iterator<Item = Section<'a>> + use<'a> {
        sections(self.bytes, HEADER)
    }
}

/// The sections in `bytes` from `at` on.
pub(crate) fn sections<'a>(
    bytes: &'a [u8],
    mut at: usize,
) -> impl Iterator<Item = Section<'a>> + use<'a> {
    std::iter::from_fn(move || {
        while at + SECTION_HEADER <= bytes.len() {
            let start = at + SECTION_HEADER;
            let range = start..start + read_u32(bytes, at + 16) as usize;
            let payload = bytes.get(range.clone())?;
            let header = at;
            at = range.end;
            let Some(kind) = Kind::from_code(bytes[header]) else { continue };
            return Some(Section {
                kind,
                coding: bytes[header + 1],
                id: read_u16(bytes, header + 2),
                count: read_u32(bytes, header + 4),
                first: Seq(read_u64(bytes, header + 8)),
                payload,
            });
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(sections: &[(u16, u32, u64, Vec<u8>)]) -> UnsealedFrame {
        let mut writer = FrameWriter::new(9, 7, Epoch(3), -5, 0);
        for (id, count, first, payload) in sections {
            writer.section(Kind::Records, *id, *count, Seq(*first), payload);
        }
        writer.finish()
    }

    proptest! {
        #[test]
        fn every_frame_comes_back(
            sections: Vec<(u16, u32, u64, Vec<u8>)>, offset in 0..100u32, segment: u64,
        ) {
            let offset = offset * SECTOR as u32;
            let seed = Seed::new(9, SegmentId(segment));
            let bytes = sample(&sections).seal(seed, offset);
            prop_assert!(bytes.len().is_multiple_of(SECTOR));
            let frame = Frame::verify(&bytes, seed).expect("a frame");
            prop_assert_eq!((frame.commit, frame.epoch, frame.base_ms), (7, Epoch(3), -5));
            prop_assert_eq!(frame.padded, bytes.len());
            let read: Vec<_> = frame.sections()
                .map(|s| (s.id, s.count, s.first.0, s.payload.to_vec())).collect();
            prop_assert_eq!(read, sections);
            let other = Seed::new(9, SegmentId(segment ^ 1));
            prop_assert_eq!(Frame::verify(&bytes, other).err(), Some(Broken::NotAFrame));
        }

        #[test]
        fn a_changed_bit_is_noticed(payload: Vec<u8>, at: prop::sample::Index, bit in 0..8) {
            let seed = Seed::new(9, SegmentId(1));
            let mut frame = sample(&[(1, 1, 1, payload)]);
            let total = frame.total;
            let mut bytes = frame.seal(seed, 0);
            bytes[at.index(total)] ^= 1u8 << bit;
            prop_assert!(Frame::verify(&bytes, seed).is_err());
        }

        #[test]
        fn any_bytes_are_verified_without_panic(bytes: Vec<u8>) {
            prop_assert!(Frame::verify(&bytes, Seed::new(9, SegmentId(1))).is_err());
        }
    }

    #[test]
    fn a_frame_sealed_again_for_another_segment_belongs_there_only() {
        let mut frame = sample(&[(1, 1, 1, vec![1, 2, 3])]);
        let first = frame.seal(Seed::new(9, SegmentId(1)), 0);
        frame.restore(first);
        let second = frame.seal(Seed::new(9, SegmentId(2)), 512);
        assert!(Frame::verify(&second, Seed::new(9, SegmentId(1))).is_err());
        assert!(Frame::verify(&second, Seed::new(9, SegmentId(2))).is_ok());
    }

    #[test]
    fn a_frame_ends_at_a_block_only_when_that_costs_less_than_a_quarter() {
        assert_eq!(padded_len(0, 100), 512);
        assert_eq!(padded_len(0, 3_000), 3_072);
        assert_eq!(padded_len(0, 3_900), 4_096);
        assert_eq!(padded_len(512, 30_000), 7 * 4_096 + 3_584);
        assert_eq!(padded_len(4_096, 16_000), 16_384);
    }
}
