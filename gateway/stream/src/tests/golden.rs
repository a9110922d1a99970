//! Bytes frozen per format version: tests/golden/log/v1. Do not change these files, nor this
//! test: whatever is written to a store once has to be read for ever. Version 2 is in
//! golden_v2.rs.

use super::*;
use crate::frame::{Frame, Kind, Seed};
use crate::record::SectionReader;
use crate::segment::{Chunk, Footer, HEADER, HeaderFound, Place, SegmentHeader};
use crate::state::State;

const HEADER_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/segment-header.bin");
const FRAME_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/frame.bin");
const FOOTER_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/footer.bin");
const CHECKPOINT_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/checkpoint.bin");

pub(super) const STORE: u64 = 0x0123_4567_89ab_cdef;
pub(super) const SEGMENT: SegmentId = SegmentId(7);

pub(super) fn header() -> SegmentHeader {
    SegmentHeader {
        version: 1,
        store: STORE,
        segment: SEGMENT,
        epoch: Epoch(1_700_000_000),
        bytes: 8 << 20,
        created_ms: 1_700_000_123_456,
        first_commit: 99,
        previous_end: Some(Place { segment: SegmentId(5), offset: 0x7f_f000 }),
        checkpoint: Some(Place { segment: SegmentId(3), offset: 0x1200 }),
    }
}

pub(super) fn records() -> Vec<Record> {
    let mut records = vec![record(1_700_000_000_000, b"one"), record(1_700_000_000_005, b"two")];
    records[1].publisher = Some(PublisherIdentity { boot: 0xfeed, seq: 300 });
    records.push(Record { payload: b"three".to_vec(), ..records[1].clone() });
    records[2].publisher = Some(PublisherIdentity { boot: 0xfeed, seq: 301 });
    records.push(Record { unix_ms: 1_699_999_999_999, ..records[0].clone() });
    records
}

pub(super) fn loss() -> Loss {
    Loss {
        stream: StreamId(1),
        first: Seq(1),
        last: Seq(500),
        records: 500,
        bytes: 70_000,
        reason: LossReason::Quota,
        unix_ms: 1_700_000_000_000,
    }
}

pub(super) fn state() -> State {
    let mut state = State::default();
    state.define_stream(StreamId(0), "telemetry".into(), config(1 << 30, Overflow::DropOldest));
    state.define_stream(StreamId(1), "alerts".into(), config(1 << 20, Overflow::Block));
    state.define_reader(ReaderId(0), StreamId(0), "fn/threshold".into(), Seq(41));
    state.define_table(TableId(0), "fn/threshold".into());
    state.change_table(TableId(0), b"kitchen".to_vec(), Some(b"high".to_vec()));
    state.enter_loss(loss(), &LogOptions::default());
    state.publishers.note("kitchen", PublisherIdentity { boot: 0xfeed, seq: 301 }, 8);
    state
}

pub(super) fn footer() -> Footer {
    let chunk = |stream, offset, first| Chunk {
        stream: StreamId(stream),
        place: Place { segment: SEGMENT, offset },
        first: Seq(first),
        records: 512,
        bytes: 65_536,
        newest_ms: 1_700_000_000_000,
    };
    let chunks = vec![chunk(0, 4096, 1), chunk(1, 4096, 1_000), chunk(0, 81_920, 513)];
    Footer { end: 163_840, first_commit: 99, last_commit: 140, chunks }
}

#[test]
fn what_version_1_wrote_is_read_today() {
    assert_eq!(SegmentHeader::decode(HEADER_V1), HeaderFound::Valid(header()));
    assert_eq!(header().encode(), HEADER_V1);

    let trailer = &FOOTER_V1[FOOTER_V1.len() - HEADER..];
    let place = Footer::locate(trailer, STORE, SEGMENT).expect("a trailer");
    let body = &FOOTER_V1[..place.len as usize];
    assert_eq!(place.decode(body, STORE, SEGMENT), Some(footer()));

    let (state, broken) = State::decode(CHECKPOINT_V1, &LogOptions::default());
    assert_eq!(broken, 0);
    assert_eq!(state.encode(), CHECKPOINT_V1);
    assert_eq!(self::state().encode(), CHECKPOINT_V1);

    let read = Frame::verify(FRAME_V1, Seed::new(STORE, SEGMENT)).expect("a frame");
    assert_eq!((read.commit, read.epoch), (99, Epoch(1_700_000_000)));
    let kinds: Vec<_> = read.sections().map(|section| section.kind.code()).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 12, 7, 8, 9]);
    let section = read.sections().find(|s| s.kind == Kind::Records).expect("records");
    let mut reader = SectionReader::new(section.first, section.count, read.base_ms);
    let mut all = Vec::new();
    while let Some((_, record)) = reader.read(section.payload) {
        all.push(record.to_record());
    }
    assert_eq!(all, records());
    let mut state = State::default();
    let applied = |s| state.apply(&s, read.base_ms, &LogOptions::default());
    assert!(read.sections().map(applied).all(|result| result.is_ok()));
}
