//! Segment files: their names, the header that says what a file is, and the footer that lets a
//! sealed one be used without reading it. Drawn byte by byte in docs/formats/log.md.

use crate::frame::{BLOCK, FORMAT_VERSION, SECTOR, Seed, is_read, read_u16, read_u32, read_u64};
use crate::ids::{Epoch, SegmentId, Seq, StreamId};
use crate::wall_clock;

/// Where the first frame of a segment starts: the header has a block of its own.
pub(crate) const FIRST_FRAME: u32 = BLOCK as u32;
/// Bytes of the header and of the trailer.
pub(crate) const HEADER: usize = SECTOR;
/// Bytes of one chunk in a footer.
const CHUNK: usize = 32;

const HEADER_MAGIC: [u8; 4] = *b"TGSG";
pub(crate) const TRAILER_MAGIC: [u8; 4] = *b"TGTR";
const HAS_PREVIOUS: u32 = 1;
const HAS_CHECKPOINT: u32 = 2;

/// What a file's name says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileName {
    Segment(SegmentId),
    /// Prepared, or recycled: may become a segment.
    Spare(u64),
    /// Being prepared: worth nothing after a restart.
    Unfinished(u64),
    /// Damaged, kept for inspection.
    Damaged(u64),
    Foreign,
}

impl FileName {
    pub(crate) fn parse(name: &str) -> FileName {
        let number = |prefix: &str, suffix: &str| {
            let hex = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
            let lower = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (hex.len() == 16 && lower).then(|| u64::from_str_radix(hex, 16).ok()).flatten()
        };
        if let Some(id) = number("seg-", ".log") {
            FileName::Segment(SegmentId(id))
        } else if let Some(id) = number("spare-", ".log") {
            FileName::Spare(id)
        } else if let Some(id) = number("spare-", ".tmp") {
            FileName::Unfinished(id)
        } else if let Some(id) = number("damaged-", ".log") {
            FileName::Damaged(id)
        } else {
            FileName::Foreign
        }
    }
}

pub(crate) fn segment_name(id: SegmentId) -> String {
    format!("seg-{:016x}.log", id.0)
}

pub(crate) fn spare_name(id: u64) -> String {
    format!("spare-{id:016x}.log")
}

pub(crate) fn unfinished_name(id: u64) -> String {
    format!("spare-{id:016x}.tmp")
}

pub(crate) fn damaged_name(id: SegmentId) -> String {
    format!("damaged-{:016x}.log", id.0)
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: SegmentId,
    pub(crate) offset: u32,
}

/// What a segment says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The format of what is written to the segment.
    pub(crate) version: u16,
    pub(crate) store: u64,
    pub(crate) segment: SegmentId,
    pub(crate) epoch: Epoch,
    pub(crate) bytes: u32,
    pub(crate) created_ms: i64,
    pub(crate) first_commit: u64,
    /// Where the log ended before this segment: everything between there and here is void.
    pub(crate) previous_end: Option<Place>,
    /// First part of the newest complete checkpoint.
    pub(crate) checkpoint: Option<Place>,
}

/// What the first sector of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFound {
    Valid(SegmentHeader),
    /// Written by this newer format: hands off.
    Newer(u16),
    /// Anything else.
    Unusable,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&HEADER_MAGIC);
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(HEADER as u16).to_le_bytes());
        out.extend_from_slice(&self.store.to_le_bytes());
        out.extend_from_slice(&self.segment.0.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.extend_from_slice(&self.created_ms.to_le_bytes());
        out.extend_from_slice(&self.first_commit.to_le_bytes());
        let mut flags = 0;
        for (place, flag) in [(self.previous_end, HAS_PREVIOUS), (self.checkpoint, HAS_CHECKPOINT)]
        {
            let place = place.inspect(|_| flags |= flag);
            let place = place.unwrap_or(Place { segment: SegmentId(0), offset: 0 });
            out.extend_from_slice(&place.segment.0.to_le_bytes());
            out.extend_from_slice(&place.offset.to_le_bytes());
        }
        out.extend_from_slice(&flags.to_le_bytes());
        out.resize(HEADER - 4, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        out
    }

    /// Reads the first sector of a file.
    pub(crate) fn decode(bytes: &[u8]) -> HeaderFound {
        let whole = bytes.len() >= HEADER
            && bytes[..4] == HEADER_MAGIC
            && crc32c::crc32c(&bytes[..HEADER - 4]) == read_u32(bytes, HEADER - 4);
        if !whole {
            return HeaderFound::Unusable;
        }
        let version = read_u16(bytes, 4);
        if version > FORMAT_VERSION {
            return HeaderFound::Newer(version);
        }
        if !is_read(version) || read_u16(bytes, 6) as usize != HEADER {
            return HeaderFound::Unusable;
        }
        let flags = read_u32(bytes, 72);
        let place = |at, flag| {
            (flags & flag != 0).then(|| Place {
                segment: SegmentId(read_u64(bytes, at)),
                offset: read_u32(bytes, at + 8),
            })
        };
        HeaderFound::Valid(SegmentHeader {
            version,
            store: read_u64(bytes, 8),
            segment: SegmentId(read_u64(bytes, 16)),
            epoch: Epoch(read_u32(bytes, 24)),
            bytes: read_u32(bytes, 28),
            created_ms: read_u64(bytes, 32) as i64,
            first_commit: read_u64(bytes, 40),
            previous_end: place(48, HAS_PREVIOUS),
            checkpoint: place(60, HAS_CHECKPOINT),
        })
    }
}

/// Consecutive records of one stream in one segment: what the index knows of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) stream: StreamId,
    /// The frame that holds the first of them.
    pub(crate) place: Place,
    pub(crate) first: Seq,
    pub(crate) records: u32,
    /// Their share of the segment.
    pub(crate) bytes: u32,
    pub(crate) newest_ms: i64,
}

impl Chunk {
    /// First sequence behind it.
    pub(crate) fn end(&self) -> Seq {
        self.first.plus(u64::from(self.records))
    }
}

/// What is known of a sealed segment without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Where its frames end.
    pub(crate) end: u32,
    pub(crate) first_commit: u64,
    pub(crate) last_commit: u64,
    pub(crate) chunks: Vec<Chunk>,
}

impl Footer {
    /// Bytes at the end of a segment that a footer of `chunks` takes.
    pub(crate) fn len_for(chunks: usize) -> u32 {
        ((chunks * CHUNK).next_multiple_of(SECTOR) + HEADER) as u32
    }

    /// The bytes to write so that they end where the segment ends, trailer included.
    pub(crate) fn encode(&self, store: u64, segment: SegmentId, segment_bytes: u32) -> Vec<u8> {
        let len = self.chunks.len() * CHUNK;
        let mut out = Vec::with_capacity(Footer::len_for(self.chunks.len()) as usize);
        for chunk in &self.chunks {
            out.extend_from_slice(&chunk.stream.0.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&chunk.place.offset.to_le_bytes());
            out.extend_from_slice(&chunk.first.0.to_le_bytes());
            out.extend_from_slice(&chunk.records.to_le_bytes());
            out.extend_from_slice(&chunk.bytes.to_le_bytes());
            out.extend_from_slice(&chunk.newest_ms.to_le_bytes());
        }
        let crc = Seed::new(store, segment).checksum(&out);
        out.resize(len.next_multiple_of(SECTOR), 0);
        let start = segment_bytes - Footer::len_for(self.chunks.len());
        let trailer = out.len();
        out.extend_from_slice(&TRAILER_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(HEADER as u16).to_le_bytes());
        out.extend_from_slice(&store.to_le_bytes());
        out.extend_from_slice(&segment.0.to_le_bytes());
        out.extend_from_slice(&start.to_le_bytes());
        out.extend_from_slice(&(len as u32).to_le_bytes());
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.first_commit.to_le_bytes());
        out.extend_from_slice(&self.last_commit.to_le_bytes());
        out.resize(trailer + HEADER - 4, 0);
        let crc = Seed::new(store, segment).checksum(&out[trailer..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// What the last sector of a segment says about its footer: where it is, how long.
    pub(crate) fn locate(trailer: &[u8], store: u64, segment: SegmentId) -> Option<FooterPlace> {
        let seed = Seed::new(store, segment);
        let valid = trailer.len() == HEADER
            && trailer[..4] == TRAILER_MAGIC
            && is_read(read_u16(trailer, 4))
            && read_u64(trailer, 8) == store
            && read_u64(trailer, 16) == segment.0
            && seed.checksum(&trailer[..HEADER - 4]) == read_u32(trailer, HEADER - 4);
        valid.then(|| FooterPlace {
            start: read_u32(trailer, 24),
            len: read_u32(trailer, 28),
            crc: read_u32(trailer, 32),
            end: read_u32(trailer, 36),
            first_commit: read_u64(trailer, 40),
            last_commit: read_u64(trailer, 48),
        })
    }
}

/// A footer that is still to be read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FooterPlace {
    pub(crate) start: u32,
    pub(crate) len: u32,
    crc: u32,
    pub(crate) end: u32,
    first_commit: u64,
    last_commit: u64,
}

impl FooterPlace {
    /// Takes the footer from the bytes at its place.
    pub(crate) fn decode(self, bytes: &[u8], store: u64, segment: SegmentId) -> Option<Footer> {
        let whole = bytes.len() == self.len as usize
            && bytes.len().is_multiple_of(CHUNK)
            && Seed::new(store, segment).checksum(bytes) == self.crc;
        if !whole {
            return None;
        }
        let chunks = bytes.chunks_exact(CHUNK).map(|raw| Chunk {
            stream: StreamId(read_u16(raw, 0)),
            place: Place { segment, offset: read_u32(raw, 4) },
            first: Seq(read_u64(raw, 8)),
            records: read_u32(raw, 16),
            bytes: read_u32(raw, 20),
            newest_ms: read_u64(raw, 24) as i64,
        });
        Some(Footer {
            end: self.end,
            first_commit: self.first_commit,
            last_commit: self.last_commit,
            chunks: chunks.collect(),
        })
    }
}

/// Collects the index of a segment while its frames become known, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct SegmentIndex {
    pub(crate) chunks: Vec<Chunk>,
}

/// A chunk ends when it holds this many bytes of its stream ...
const CHUNK_BYTES: u32 = 64 << 10;
/// ... or spans this much of the segment, so that a search reads no more than that.
const CHUNK_SPAN: u32 = 512 << 10;

impl SegmentIndex {
    /// Adds the records of one section. Gives the chunk's number and whether it is new.
    pub(crate) fn add(&mut self, records: Chunk) -> (usize, bool) {
        // Copies may lie between the records that a chunk goes on with, and have chunks of theirs.
        let goes_on =
            |chunk: &Chunk| chunk.stream == records.stream && chunk.end() == records.first;
        if let Some(index) = self.chunks.iter().rposition(goes_on) {
            let chunk = &mut self.chunks[index];
            let room =
                chunk.bytes < CHUNK_BYTES && records.place.offset - chunk.place.offset < CHUNK_SPAN;
            if room {
                chunk.records += records.records;
                chunk.bytes += records.bytes;
                chunk.newest_ms = wall_clock::newest(chunk.newest_ms, records.newest_ms);
                return (index, false);
            }
        }
        self.chunks.push(records);
        (self.chunks.len() - 1, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_place() -> impl Strategy<Value = Place> {
        (any::<u64>(), any::<u32>())
            .prop_map(|(segment, offset)| Place { segment: SegmentId(segment), offset })
    }

    prop_compose! {
        fn any_header()(
            numbers: (u64, u64, u32, u32, i64, u64),
            previous_end in proptest::option::of(any_place()),
            checkpoint in proptest::option::of(any_place()),
        ) -> SegmentHeader {
            let (store, segment, epoch, bytes, created_ms, first_commit) = numbers;
            SegmentHeader {
                version: FORMAT_VERSION, store, segment: SegmentId(segment), epoch: Epoch(epoch), bytes, created_ms,
                first_commit, previous_end, checkpoint,
            }
        }
    }

    proptest! {
        #[test]
        fn every_header_comes_back(header in any_header()) {
            let bytes = header.encode();
            prop_assert_eq!(bytes.len(), HEADER);
            prop_assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Valid(header));
        }

        #[test]
        fn a_header_with_a_changed_bit_is_unusable(header in any_header(), at in 0..HEADER, bit in 0..8) {
            let mut bytes = header.encode();
            bytes[at] ^= 1u8 << bit;
            prop_assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Unusable);
        }

        #[test]
        fn every_footer_comes_back(
            store: u64, segment: u64, end: u32,
            raw in proptest::collection::vec((any::<u16>(), any::<u32>(), any::<u64>(), any::<u32>(), any::<u32>(), any::<i64>()), 0..40),
        ) {
            let segment = SegmentId(segment);
            let chunks = raw.into_iter().map(|(stream, offset, first, records, bytes, newest_ms)| Chunk {
                stream: StreamId(stream), place: Place { segment, offset }, first: Seq(first), records, bytes, newest_ms,
            }).collect();
            let footer = Footer { end, first_commit: 4, last_commit: 9, chunks };
            let bytes = footer.encode(store, segment, 1 << 20);
            prop_assert_eq!(bytes.len() as u32, Footer::len_for(footer.chunks.len()));
            let place = Footer::locate(&bytes[bytes.len() - HEADER..], store, segment).expect("a trailer");
            let start = bytes.len() - ((1 << 20) - place.start) as usize;
            let body = &bytes[start..start + place.len as usize];
            prop_assert_eq!(place.decode(body, store, segment), Some(footer));
            prop_assert!(Footer::locate(&bytes[bytes.len() - HEADER..], store, SegmentId(segment.0 ^ 1)).is_none());
        }
    }

    #[test]
    fn a_header_of_a_newer_format_is_recognised() {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            store: 1,
            segment: SegmentId(1),
            epoch: Epoch(1),
            bytes: 4096,
            created_ms: 0,
            first_commit: 1,
            previous_end: None,
            checkpoint: None,
        };
        let mut bytes = header.encode();
        bytes[4] = FORMAT_VERSION as u8 + 1;
        assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Unusable);
        let crc = crc32c::crc32c(&bytes[..HEADER - 4]);
        bytes[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), HeaderFound::Newer(FORMAT_VERSION + 1));
    }

    #[test]
    fn file_names_are_read_strictly() {
        assert_eq!(FileName::parse(&segment_name(SegmentId(10))), FileName::Segment(SegmentId(10)));
        assert_eq!(FileName::parse(&spare_name(u64::MAX)), FileName::Spare(u64::MAX));
        assert_eq!(FileName::parse(&unfinished_name(1)), FileName::Unfinished(1));
        assert_eq!(FileName::parse(&damaged_name(SegmentId(2))), FileName::Damaged(2));
        for name in ["seg-1.log", "seg-000000000000000G.log", "seg-000000000000000A.log", "x"] {
            assert_eq!(FileName::parse(name), FileName::Foreign);
        }
    }
}
