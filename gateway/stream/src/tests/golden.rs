//! Bytes frozen per format version: tests/golden/log/v1. Do not change these files, nor this
//! test: whatever is written to a store once has to be read for ever.

use super::*;
use crate::frame::{Frame, FrameWriter, Kind, Seed};
use crate::record::{RecordSection, SectionReader};
use crate::segment::{Chunk, Footer, HEADER, HeaderFound, Place, SegmentHeader};
use crate::state::State;

const HEADER_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/segment-header.bin");
const FRAME_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/frame.bin");
const FOOTER_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/footer.bin");
const CHECKPOINT_V1: &[u8] = include_bytes!("../../../../tests/golden/log/v1/checkpoint.bin");

const STORE: u64 = 0x0123_4567_89ab_cdef;
const SEGMENT: SegmentId = SegmentId(7);

fn header() -> SegmentHeader {
    SegmentHeader {
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

fn records() -> Vec<Record> {
    let mut records = vec![record(1_700_000_000_000, b"one"), record(1_700_000_000_005, b"two")];
    records[1].publisher = Some(PublisherIdentity { boot: 0xfeed, seq: 300 });
    records.push(Record { payload: b"three".to_vec(), ..records[1].clone() });
    records[2].publisher = Some(PublisherIdentity { boot: 0xfeed, seq: 301 });
    records.push(Record { unix_ms: 1_699_999_999_999, ..records[0].clone() });
    records
}

fn loss() -> Loss {
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

fn state() -> State {
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

/// A frame with every kind of section, as a group writes them.
fn frame() -> Vec<u8> {
    let mut section = RecordSection::new(StreamId(1), Seq(1_000), 1_700_000_000_000);
    records().iter().for_each(|record| {
        section.push(&record.as_ref());
    });
    let mut writer = FrameWriter::new(STORE, 99, Epoch(1_700_000_000), 1_700_000_000_000, 0);
    let def = crate::state::encode_stream_def("alerts", &config(1 << 20, Overflow::Block));
    writer.section(Kind::StreamDef, 1, 1, Seq(0), &def);
    let def = crate::state::encode_reader_def(StreamId(1), "uplink/cloud");
    writer.section(Kind::ReaderDef, 4, 1, Seq(17), &def);
    writer.section(Kind::TableDef, 2, 1, Seq(0), b"\x05state");
    writer.section(Kind::Records, 1, section.count, section.first, &section.bytes);
    let mut changes = Vec::new();
    crate::state::encode_change(&mut changes, b"key", Some(b"value"));
    crate::state::encode_change(&mut changes, b"old", None);
    writer.section(Kind::Table, 2, 2, Seq(0), &changes);
    writer.section(Kind::Cursors, 0, 1, Seq(0), &[4, 0xe9, 0x07]);
    let mut losses = Vec::new();
    loss().encode(&mut losses);
    writer.section(Kind::Trims, 0, 1, Seq(0), &[1, 0xf5, 0x03]);
    writer.section(Kind::Losses, 0, 1, Seq(0), &losses);
    let part = [99u64.to_le_bytes().as_slice(), &state().encode()].concat();
    writer.section(Kind::Checkpoint, 0, 1, Seq(0), &part);
    writer.section(Kind::Clean, 0, 0, Seq(0), &[]);
    writer.finish().seal(Seed::new(STORE, SEGMENT), 4096)
}

fn footer() -> Footer {
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
fn what_version_1_wrote_is_read_and_written_the_same_today() {
    assert_eq!(SegmentHeader::decode(HEADER_V1), HeaderFound::Valid(header()));
    assert_eq!(header().encode(), HEADER_V1);

    let trailer = &FOOTER_V1[FOOTER_V1.len() - HEADER..];
    let place = Footer::locate(trailer, STORE, SEGMENT).expect("a trailer");
    let body = &FOOTER_V1[..place.len as usize];
    assert_eq!(place.decode(body, STORE, SEGMENT), Some(footer()));
    assert_eq!(footer().encode(STORE, SEGMENT, 8 << 20), FOOTER_V1);

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
    assert_eq!(frame(), FRAME_V1);
    let mut state = State::default();
    let applied = |s| state.apply(&s, read.base_ms, &LogOptions::default());
    assert!(read.sections().map(applied).all(|result| result.is_ok()));
}

#[test]
#[ignore = "writes the files of a new format version, once; never replaces one"]
fn write_the_files_of_this_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/log/v1/");
    let files = [
        ("segment-header.bin", header().encode()),
        ("frame.bin", frame()),
        ("footer.bin", footer().encode(STORE, SEGMENT, 8 << 20)),
        ("checkpoint.bin", state().encode()),
    ];
    for (name, bytes) in files {
        let path = format!("{folder}{name}");
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            continue;
        }
        std::fs::write(&path, bytes).expect("written");
    }
}
