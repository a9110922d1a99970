//! Bytes frozen for format version 2: tests/golden/log/v2. Do not change these files, nor this
//! test.

use super::golden::*;
use super::*;
use crate::compression::{self, Coding};
use crate::copied::{CopiedSection, Records};
use crate::frame::{Frame, FrameWriter, Kind, Seed};
use crate::record::RecordSection;
use crate::segment::{Footer, HEADER, HeaderFound, SegmentHeader};
use crate::state::State;

const HEADER_V2: &[u8] = include_bytes!("../../../../tests/golden/log/v2/segment-header.bin");
const FRAME_V2: &[u8] = include_bytes!("../../../../tests/golden/log/v2/frame.bin");
const COMPRESSED_V2: &[u8] = include_bytes!("../../../../tests/golden/log/v2/frame-compressed.bin");
const FOOTER_V2: &[u8] = include_bytes!("../../../../tests/golden/log/v2/footer.bin");
const CHECKPOINT_V2: &[u8] = include_bytes!("../../../../tests/golden/log/v2/checkpoint.bin");

fn header_v2() -> SegmentHeader {
    SegmentHeader { version: 2, ..header() }
}

fn limited() -> StreamConfig {
    StreamConfig {
        max_records: Some(1_000_000),
        max_age: Some(Duration::from_secs(86_400)),
        ..config(1 << 20, Overflow::Block)
    }
}

fn state_v2() -> State {
    let mut state = state();
    state.define_stream(StreamId(1), "alerts".into(), limited());
    state
}

/// The records of version 1's frame, copied forward from an earlier epoch.
fn copied() -> Vec<u8> {
    let mut sections = Vec::new();
    for (index, record) in records().iter().enumerate() {
        let (seq, epoch) = (Seq(10 + index as u64), Epoch(1_600_000_000));
        CopiedSection::push(&mut sections, StreamId(1), seq, epoch, &record.as_ref());
    }
    assert_eq!(sections.len(), 1);
    sections[0].payload(None).1
}

/// A frame with every kind of section, as a group writes them.
fn frame() -> Vec<u8> {
    let mut section = RecordSection::new(StreamId(1), Seq(1_000), 1_700_000_000_000);
    records().iter().for_each(|record| {
        section.push(&record.as_ref());
    });
    let mut writer = FrameWriter::new(STORE, 99, Epoch(1_700_000_000), 1_700_000_000_000, 0);
    let def = crate::state::encode_stream_def("alerts", &limited());
    writer.section(Kind::StreamDef, 1, 1, Seq(0), &def);
    let def = crate::state::encode_reader_def(StreamId(1), "uplink/cloud");
    writer.section(Kind::ReaderDef, 4, 1, Seq(17), &def);
    writer.section(Kind::TableDef, 2, 1, Seq(0), b"\x05state");
    writer.section(Kind::Records, 1, section.count, section.first, &section.bytes);
    writer.section(Kind::Copied, 1, section.count, Seq(10), &copied());
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

fn many() -> Vec<Record> {
    records().into_iter().cycle().take(200).collect()
}

/// A frame whose records are compressed, in both kinds of section.
fn frame_compressed() -> Vec<u8> {
    let mut copied = Vec::new();
    for (index, record) in many().iter().enumerate() {
        let (seq, epoch) = (Seq(10 + index as u64), Epoch(1_600_000_000));
        CopiedSection::push(&mut copied, StreamId(1), seq, epoch, &record.as_ref());
    }
    let section = &copied[0].section;
    let packed = compression::compress(&section.bytes).expect("it pays");
    let mut writer = FrameWriter::new(STORE, 99, Epoch(1_700_000_000), 1_700_000_000_000, 0);
    let body = (Coding::Lz4, packed.as_slice());
    writer.records(Kind::Records, StreamId(1), section.count, Seq(1_000), body);
    let (coding, payload) = copied[0].payload(Some(&packed));
    writer.records(Kind::Copied, StreamId(1), section.count, Seq(10), (coding, &payload));
    writer.finish().seal(Seed::new(STORE, SEGMENT), 4096)
}

#[test]
fn what_version_2_compressed_is_read_today() {
    let read = Frame::verify(COMPRESSED_V2, Seed::new(STORE, SEGMENT)).expect("a frame");
    let sections: Vec<_> = read.sections().collect();
    assert_eq!(
        sections.iter().map(|s| (s.kind.code(), s.coding)).collect::<Vec<_>>(),
        [(4, 1), (13, 1)]
    );
    for (section, (epoch, first)) in
        sections.iter().zip([(1_700_000_000, 1_000), (1_600_000_000, 10)])
    {
        let found = Records::of(&read, section).expect("records");
        assert_eq!((found.epoch, found.first), (Epoch(epoch), Seq(first)));
        let (mut reader, body) = (found.reader(), found.open().expect("a body"));
        let mut all = Vec::new();
        while let Some((_, record)) = reader.read(body.bytes()) {
            all.push(record.to_record());
        }
        assert_eq!(all, many());
    }
}

#[test]
fn what_version_2_wrote_is_read_and_written_the_same_today() {
    assert_eq!(SegmentHeader::decode(HEADER_V2), HeaderFound::Valid(header_v2()));
    assert_eq!(header_v2().encode(), HEADER_V2);

    let trailer = &FOOTER_V2[FOOTER_V2.len() - HEADER..];
    let place = Footer::locate(trailer, STORE, SEGMENT).expect("a trailer");
    let body = &FOOTER_V2[..place.len as usize];
    assert_eq!(place.decode(body, STORE, SEGMENT), Some(footer()));
    assert_eq!(footer().encode(STORE, SEGMENT, 8 << 20), FOOTER_V2);

    let (state, broken) = State::decode(CHECKPOINT_V2, &LogOptions::default());
    assert_eq!(broken, 0);
    assert_eq!(state.streams[1].config, limited());
    assert_eq!(state.encode(), CHECKPOINT_V2);
    assert_eq!(state_v2().encode(), CHECKPOINT_V2);

    let read = Frame::verify(FRAME_V2, Seed::new(STORE, SEGMENT)).expect("a frame");
    let kinds: Vec<_> = read.sections().map(|section| section.kind.code()).collect();
    assert_eq!(kinds, [1, 2, 3, 4, 13, 5, 6, 12, 7, 8, 9]);
    for (kind, epoch, first) in
        [(Kind::Records, 1_700_000_000, 1_000), (Kind::Copied, 1_600_000_000, 10)]
    {
        let section = read.sections().find(|s| s.kind == kind).expect("a section");
        let found = Records::of(&read, &section).expect("records");
        assert_eq!((found.epoch, found.first), (Epoch(epoch), Seq(first)));
        let mut reader = found.reader();
        let mut all = Vec::new();
        let body = found.open().expect("a body");
        while let Some((_, record)) = reader.read(body.bytes()) {
            all.push(record.to_record());
        }
        assert_eq!(all, records());
    }
    assert_eq!(frame(), FRAME_V2);
    let mut state = State::default();
    let applied = |s| state.apply(&s, read.base_ms, &LogOptions::default());
    assert!(read.sections().map(applied).all(|result| result.is_ok()));
}

#[test]
#[ignore = "writes the files of a new format version, once; never replaces one"]
fn write_the_files_of_this_version() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/log/v2/");
    let files = [
        ("segment-header.bin", header_v2().encode()),
        ("frame.bin", frame()),
        ("frame-compressed.bin", frame_compressed()),
        ("footer.bin", footer().encode(STORE, SEGMENT, 8 << 20)),
        ("checkpoint.bin", state_v2().encode()),
    ];
    for (name, bytes) in files {
        let path = format!("{folder}{name}");
        if std::fs::metadata(&path).is_ok_and(|found| found.len() > 0) {
            continue;
        }
        std::fs::write(&path, bytes).expect("written");
    }
}
