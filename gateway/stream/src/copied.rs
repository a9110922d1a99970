//! Records that were copied forward: a section that carries, besides the records, the epoch and
//! the base time that those of an ordinary section have from their frame.

use crate::compression::{self, Body, Coding};
use crate::frame::{Frame, Kind, Section};
use crate::ids::{Epoch, Seq, StreamId};
use crate::record::{RecordRef, RecordSection, SectionReader};
use crate::wall_clock;

/// Bytes in front of the records.
pub(crate) const COPIED_HEADER: usize = 12;

/// The records of a section, wherever their epoch comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Records<'a> {
    pub(crate) stream: StreamId,
    pub(crate) first: Seq,
    pub(crate) count: u32,
    pub(crate) epoch: Epoch,
    base_ms: i64,
    coding: u8,
    body: &'a [u8],
    pub(crate) copied: bool,
}

impl<'a> Records<'a> {
    /// Those of a frame's section, if it has any.
    pub(crate) fn of(frame: &Frame<'_>, section: &Section<'a>) -> Option<Records<'a>> {
        let (epoch, base_ms, body, copied) = match section.kind {
            Kind::Records => (frame.epoch, frame.base_ms, section.payload, false),
            Kind::Copied => {
                let (header, body) = section.payload.split_at_checked(COPIED_HEADER)?;
                let (epoch, base) = header.split_at_checked(4)?;
                let epoch = Epoch(u32::from_le_bytes(epoch.try_into().ok()?));
                (epoch, i64::from_le_bytes(base.try_into().ok()?), body, true)
            }
            Kind::StreamDef
            | Kind::ReaderDef
            | Kind::TableDef
            | Kind::Table
            | Kind::Cursors
            | Kind::Losses
            | Kind::Checkpoint
            | Kind::Clean
            | Kind::StreamState
            | Kind::Publishers
            | Kind::Trims
            | Kind::Epochs => return None,
        };
        let (stream, first, count) = (StreamId(section.id), section.first, section.count);
        let coding = section.coding;
        Some(Records { stream, first, count, epoch, base_ms, coding, body, copied })
    }

    /// First sequence behind them.
    pub(crate) fn end(&self) -> Seq {
        self.first.plus(u64::from(self.count))
    }

    /// What the reader reads; `None` when no program of this format wrote it.
    pub(crate) fn open(&self) -> Option<Body<'a>> {
        compression::open(self.coding, self.body)
    }

    pub(crate) fn reader(&self) -> SectionReader {
        SectionReader::new(self.first, self.count, self.base_ms)
    }

    /// The time by which they go.
    pub(crate) fn newest_ms(&self) -> i64 {
        let mut reader = self.reader();
        let mut newest = wall_clock::NO_TIME;
        let Some(body) = self.open() else { return newest };
        while let Some((_, record)) = reader.read(body.bytes()) {
            newest = wall_clock::newest(newest, record.unix_ms);
        }
        newest
    }
}

/// Records on their way forward, of one epoch and without a gap.
#[derive(Debug)]
pub(crate) struct CopiedSection {
    epoch: Epoch,
    base_ms: i64,
    pub(crate) section: RecordSection,
}

impl CopiedSection {
    fn new(stream: StreamId, first: Seq, epoch: Epoch, record: &RecordRef<'_>) -> CopiedSection {
        let base_ms = record.unix_ms;
        CopiedSection { epoch, base_ms, section: RecordSection::new(stream, first, base_ms) }
    }

    /// Adds a record to the last section of `sections`, or to a new one.
    pub(crate) fn push(
        sections: &mut Vec<CopiedSection>,
        stream: StreamId,
        seq: Seq,
        epoch: Epoch,
        record: &RecordRef<'_>,
    ) {
        let goes_on = sections.last().is_some_and(|last| {
            last.epoch == epoch && last.section.first.plus(u64::from(last.section.count)) == seq
        });
        if !goes_on {
            sections.push(CopiedSection::new(stream, seq, epoch, record));
        }
        if let Some(last) = sections.last_mut() {
            last.section.push(record);
        }
    }

    /// Bytes of the section's payload at most.
    pub(crate) fn len(&self) -> usize {
        COPIED_HEADER + self.section.bytes.len()
    }

    /// The section's payload, with the records as they are or `packed`.
    pub(crate) fn payload(&self, packed: Option<&[u8]>) -> (Coding, Vec<u8>) {
        let (coding, body) = match packed {
            Some(packed) => (Coding::Lz4, packed),
            None => (Coding::Plain, self.section.bytes.as_slice()),
        };
        let mut out = Vec::with_capacity(COPIED_HEADER + body.len());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.base_ms.to_le_bytes());
        out.extend_from_slice(body);
        (coding, out)
    }
}
