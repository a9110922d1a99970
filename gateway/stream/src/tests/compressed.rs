//! Streams whose records are compressed.

use super::*;
use crate::frame::{Kind, Seed};
use crate::scan::Scan;
use crate::segment::FileName;

fn lz4(max_bytes: u64) -> StreamConfig {
    StreamConfig { compression: Compression::Lz4, ..config(max_bytes, Overflow::DropOldest) }
}

fn json(n: u64) -> Vec<u8> {
    format!(
        "{{\"device\":\"kitchen\",\"ts\":{},\"temperature\":{}.{:02},\"status\":\"ok\",\"n\":{n}}}",
        1_800_000_000_000u64 + n * 7,
        20 + n % 9,
        n * 37 % 100
    )
    .into_bytes()
}

/// Groups of forty records.
fn fill(rig: &mut Rig, stream: StreamId, numbers: std::ops::Range<u64>) {
    for n in numbers {
        rig.append(stream, &json(n)).expect("room");
        if n % 40 == 39 {
            rig.settle();
        }
    }
    rig.settle();
}

/// How many sections with records are written in each coding.
fn codings(rig: &Rig) -> BTreeMap<(Kind, u8), usize> {
    let mut found = BTreeMap::new();
    for name in rig.disk.list().expect("a list") {
        let FileName::Segment(id) = FileName::parse(&name) else { continue };
        let mut bytes = vec![0; rig.disk.len(&name).expect("a length") as usize];
        rig.disk.read_at(&name, 0, &mut bytes).expect("read");
        let scan = Scan::of(id, &bytes, Seed::new(rig.log.store, id), None, false);
        for frame in &scan.frames {
            let frame = crate::frame::Frame::trusted(&bytes[frame.offset as usize..]);
            for section in frame.expect("a frame").sections() {
                if matches!(section.kind, Kind::Records | Kind::Copied) {
                    *found.entry((section.kind, section.coding)).or_default() += 1;
                }
            }
        }
    }
    found
}

#[test]
fn compressed_records_are_read_like_others_by_any_limit() {
    let mut rig = Rig::new(small());
    let (a, b) = (rig.stream("a", lz4(1 << 30)), rig.stream("b", config(1 << 30, Overflow::Block)));
    fill(&mut rig, a, 0..2_000);
    fill(&mut rig, b, 0..2_000);
    let found = codings(&rig);
    assert!(found[&(Kind::Records, 1)] >= 50 && found[&(Kind::Records, 0)] >= 50, "{found:?}");
    let status = rig.log.status();
    let (packed, plain) = (status.streams[0].bytes, status.streams[1].bytes);
    assert!(packed * 2 < plain, "{packed} bytes compressed, {plain} plain");
    for mut rig in [rig.crash(1), rig.reopen(), rig] {
        for records in [1, 7, 40, 1_000] {
            let read = rig.read_from(a, Seq(1), records);
            assert_eq!(read.len(), 2_000);
            for (seq, record) in read {
                assert_eq!(record.payload, json(seq.0 - 1));
            }
        }
        assert_eq!(rig.log.next_seq(a), Seq(2_001));
        assert!(rig.log.losses().next().is_none());
    }
}

#[test]
fn what_is_compressed_counts_for_what_it_takes_on_disk() {
    let mut rig = Rig::new(small());
    let (a, b) =
        (rig.stream("a", lz4(60_000)), rig.stream("b", config(60_000, Overflow::DropOldest)));
    fill(&mut rig, a, 0..4_000);
    fill(&mut rig, b, 0..4_000);
    let status = rig.log.status();
    assert!(status.streams.iter().all(|stream| stream.bytes <= 60_000), "{status:?}");
    assert!(status.streams[0].records > 2 * status.streams[1].records, "{status:?}");
}

#[test]
fn compression_can_be_turned_on_and_off() {
    let mut rig = Rig::new(small());
    let plain = config(1 << 30, Overflow::DropOldest);
    for (turn, config) in [plain, lz4(1 << 30), plain, lz4(1 << 30)].into_iter().enumerate() {
        let a = rig.stream("a", config);
        fill(&mut rig, a, turn as u64 * 200..turn as u64 * 200 + 200);
        rig = rig.reopen();
        assert_eq!(rig.log.state.streams[0].config, config);
    }
    let read = rig.read_all(StreamId(0));
    assert_eq!(read.len(), 800);
    assert!(read.iter().all(|(seq, record)| record.payload == json(seq.0 - 1)));
}

#[test]
fn a_publisher_in_compressed_records_is_remembered() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", lz4(1 << 30));
    for seq in 1..=40 {
        let mut record = record(rig.ms, &json(seq));
        record.publisher = Some(PublisherIdentity { boot: 7, seq });
        rig.log.append(rig.now, a, &record.as_ref()).expect("room");
    }
    rig.settle();
    assert!(codings(&rig).contains_key(&(Kind::Records, 1)));
    let last = rig.crash(1).log.publisher_last("kitchen");
    assert_eq!(last, Some(PublisherIdentity { boot: 7, seq: 40 }));
}

#[test]
fn damage_to_a_compressed_section_costs_that_section() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", lz4(1 << 30));
    fill(&mut rig, a, 0..400);
    let (name, at) = super::damage::last_frame(&rig);
    fill(&mut rig, a, 400..800);
    let disk = rig.disk.after_kill();
    disk.damage(&name, at + 300, 4);
    let mut after = Rig::on(disk, small());
    let read = after.payloads(a);
    let losses: Vec<_> = after.log.losses().map(|loss| (loss.first, loss.last)).collect();
    assert_eq!(losses, [(Seq(361), Seq(400))]);
    assert_eq!(read.len(), 760);
    assert!(read.iter().all(|(seq, payload)| *payload == json(seq - 1)));
}

#[test]
fn compressed_records_are_copied_forward_compressed() {
    let options = LogOptions { reserve_segments: 1, ..small() };
    let mut rig = Rig::new(options);
    let slow = rig.stream("slow", lz4(1 << 30));
    let fast = rig.stream("fast", config(1 << 30, Overflow::DropOldest));
    rig.log.reader(slow, "stuck").expect("a reader");
    let reader = rig.log.reader(fast, "up").expect("a reader");
    for turn in 0..120u64 {
        if turn % 10 == 0 {
            fill(&mut rig, slow, turn * 4..turn * 4 + 40);
        }
        for n in 0..30 {
            rig.append(fast, &numbered(n, 400)).expect("room");
            rig.settle();
        }
        rig.log.advance(rig.now, reader, rig.log.durable_seq(fast));
        rig.settle();
        rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
        rig.settle();
    }
    assert!(rig.log.status().copied_bytes > 0);
    assert!(codings(&rig).contains_key(&(Kind::Copied, 1)), "{:?}", codings(&rig));
    for mut rig in [rig.crash(3), rig] {
        let read = rig.payloads(slow);
        assert_eq!(read.len(), 480);
        assert!(read.iter().all(|(seq, payload)| *payload == json(seq - 1)));
    }
}
