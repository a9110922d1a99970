//! What an offline look at a store finds.

use std::collections::BTreeSet;

use super::*;
use crate::frame::{FORMAT_VERSION, SECTOR};
use crate::segment::{FIRST_FRAME, FileName, HEADER};
use crate::verify::{Damage, DamageKind, Missing, Verification, verify};

const RECORDS: u64 = 200;

/// A store of a few segments with two streams.
fn store(clean: bool) -> (Rig, StreamId) {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let b = rig.stream("b", keep_all());
    let table = rig.log.table("t").expect("a table");
    for n in 0..RECORDS {
        rig.append(a, &numbered(n, 400)).expect("room");
        if n % 7 == 0 {
            rig.append(b, &numbered(n, 100)).expect("room");
            let mut tx = Transaction::new();
            tx.put(table, vec![n as u8], vec![1; 90]);
            rig.log.commit(rig.now, tx).expect("room");
        }
        rig.settle();
    }
    if clean {
        rig.log.shut_down(rig.now);
        rig.settle();
    }
    (rig, a)
}

fn look(disk: &CrashDisk) -> Verification {
    let operations = disk.operations();
    let report = verify(disk, any_instant()).expect("a report");
    assert_eq!(disk.operations(), operations, "looking changes nothing");
    report
}

fn segments(disk: &CrashDisk) -> Vec<String> {
    let names = disk.list().expect("a list");
    names.into_iter().filter(|n| matches!(FileName::parse(n), FileName::Segment(_))).collect()
}

fn bytes_of(disk: &CrashDisk, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; disk.len(name).expect("a length") as usize];
    disk.read_at(name, 0, &mut bytes).expect("read");
    bytes
}

/// Where the frames of a segment begin.
fn frames(disk: &CrashDisk, name: &str) -> Vec<usize> {
    let bytes = bytes_of(disk, name);
    (0..bytes.len()).step_by(SECTOR).filter(|at| bytes[*at..].starts_with(b"TGFR")).collect()
}

fn kinds(report: &Verification) -> Vec<DamageKind> {
    report.damage.iter().map(|damage| damage.kind).collect()
}

fn missing(report: &Verification, stream: StreamId) -> Vec<(u64, u64, bool)> {
    let stream = report.streams.iter().find(|found| found.id == stream).expect("the stream");
    let shown = |m: &Missing| (m.first.0, m.last.0, m.told);
    stream.missing.iter().map(shown).collect()
}

#[test]
fn a_sound_store_has_no_damage_whether_it_was_shut_down_or_killed() {
    for clean in [false, true] {
        let (rig, a) = store(clean);
        let report = look(&rig.disk.after_kill());
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.clean, clean);
        assert!(report.segments >= 3 && report.frames >= RECORDS, "{report:?}");
        let stream = &report.streams[usize::from(a.0)];
        assert_eq!((stream.name.as_str(), stream.records), ("a", RECORDS));
        assert_eq!((stream.first, stream.next), (Seq(1), Seq(RECORDS + 1)));
        assert_eq!((report.epoch, report.notes.len()), (Epoch(EPOCH), 0), "{:?}", report.notes);
    }
}

#[test]
fn an_empty_directory_is_a_sound_store_without_streams() {
    let report = look(&CrashDisk::new());
    assert!(report.is_sound() && report.streams.is_empty(), "{report:?}");
}

#[test]
fn what_recycled_segments_held_before_is_no_damage() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(1 << 40, Overflow::Reject));
    let reader = rig.log.reader(a, "up").expect("a reader");
    let mut torn = 0;
    for n in 0..3_000 {
        rig.append(a, &numbered(n, 100 + (n as usize * 37) % 300)).expect("room");
        rig.settle();
        rig.log.advance(rig.now, reader, Seq(n + 1));
        rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1));
        if n % 50 == 0 {
            let report = look(&rig.disk.after_kill());
            assert!(report.is_sound(), "{n}: {report:?}");
            // Power fails in the middle of the next write.
            let mut dying = rig.reopen();
            dying.settle();
            dying.disk.crash_at(dying.disk.operations() + 1);
            dying.append(a, &numbered(n, 3_000)).expect("room");
            dying.settle();
            let report = look(&dying.disk.crash(n));
            assert!(kinds(&report).iter().all(|kind| *kind == DamageKind::TornEnd), "{report:?}");
            torn += report.damage.len();
        }
    }
    assert!(torn > 0, "a torn end was met");
}

#[test]
fn a_changed_byte_is_reported_where_it_is_with_what_it_cost_or_costs_nothing() {
    let mut seen = BTreeSet::new();
    for clean in [false, true] {
        let (rig, a) = store(clean);
        for name in segments(&rig.disk) {
            let len = rig.disk.len(&name).expect("a length") as usize;
            for at in (0..len).step_by(SECTOR).map(|at| at + at / SECTOR * 37 % SECTOR) {
                let disk = rig.disk.after_kill();
                disk.damage(&name, at, 0x10);
                let report = look(&disk);
                let what = format!("{name} byte {at}, clean {clean}: {report:?}");
                assert!(report.damage.len() <= 1, "{what}");
                for damage in &report.damage {
                    let range = damage.offset as usize..(damage.offset + damage.len) as usize;
                    assert!(damage.file == name && range.contains(&at), "{what}");
                    seen.insert(damage.kind.name());
                }
                let mut after = Rig::on(disk, small());
                let read = after.payloads(a);
                let there = report.streams[usize::from(a.0)].records;
                assert_eq!(read.len() as u64, there, "{what}");
                let gone: Vec<u64> = (1..=RECORDS).filter(|seq| !read.contains_key(seq)).collect();
                let named = |seq: &u64| {
                    let of = |d: &Damage| {
                        let mut own = d.sequences.iter().filter(|s| s.stream == a);
                        own.any(|s| (s.first.0..=s.last.0).contains(seq))
                    };
                    report.damage.iter().any(of)
                };
                let torn = kinds(&report) == [DamageKind::TornEnd];
                assert!(torn || gone.iter().all(named), "{gone:?} {what}");
                assert!(gone.is_empty() || !report.is_sound(), "{what}");
            }
        }
    }
    let all: Vec<_> = seen.into_iter().collect();
    assert_eq!(all, ["checkpoint-part", "footer", "frame", "header", "torn-end"]);
}

#[test]
fn a_damaged_header_is_reported_and_costs_no_record() {
    let (rig, a) = store(true);
    let name = segments(&rig.disk).remove(1);
    let disk = rig.disk.after_kill();
    disk.damage(&name, 20, 1);
    let report = look(&disk);
    assert_eq!(kinds(&report), [DamageKind::Header], "{report:?}");
    assert_eq!((report.damage[0].offset, report.damage[0].len), (0, HEADER as u64));
    assert_eq!(missing(&report, a), []);
}

#[test]
fn a_damaged_frame_is_reported_with_the_records_of_each_stream_that_were_in_it() {
    let (rig, a) = store(true);
    let name = segments(&rig.disk).remove(1);
    let at = frames(&rig.disk, &name);
    let disk = rig.disk.after_kill();
    (10..16).for_each(|frame| disk.damage(&name, at[frame] + 70, 1));
    let report = look(&disk);
    assert_eq!(kinds(&report), [DamageKind::Frame; 6], "{report:?}");
    let offsets: Vec<_> = report.damage.iter().map(|damage| damage.offset as usize).collect();
    assert_eq!(offsets, at[10..16]);
    let gone = missing(&report, a);
    assert!(matches!(gone[..], [(first, last, false)] if last == first + 5), "{gone:?}");
    assert!(report.damage.iter().all(|d| d.sequences.iter().any(|s| s.first.0 == gone[0].0)));
    assert!(!report.is_sound());
}

#[test]
fn what_the_ledger_names_already_is_told_and_the_damage_is_reported_all_the_same() {
    let (rig, a) = store(false);
    let name = segments(&rig.disk).pop().expect("a segment");
    let at = frames(&rig.disk, &name)[3];
    let disk = rig.disk.after_kill();
    disk.damage(&name, at + 70, 1);
    assert!(matches!(missing(&look(&disk), a)[..], [(_, _, false)]));
    let mut daemon = Rig::on(disk, small());
    daemon.settle();
    let report = look(&daemon.disk);
    assert!(matches!(missing(&report, a)[..], [(_, _, true)]), "{report:?}");
    assert_eq!(kinds(&report), [DamageKind::Frame]);
}

#[test]
fn a_damaged_part_of_a_checkpoint_is_told_apart() {
    let (rig, _) = store(true);
    let name = segments(&rig.disk).pop().expect("a segment");
    // The last frame is the one with the checkpoint that ends the store.
    let at = *frames(&rig.disk, &name).last().expect("a frame");
    let disk = rig.disk.after_kill();
    disk.damage(&name, at + 64 + 24 + 40, 1);
    let report = look(&disk);
    assert_eq!(kinds(&report), [DamageKind::TornEnd], "behind the last valid frame: {report:?}");
    let mut rig = Rig::on(rig.disk.after_kill(), small());
    let a = rig.stream("a", keep_all());
    rig.append(a, b"behind the checkpoint").expect("room");
    rig.settle();
    rig.disk.damage(&name, at + 64 + 24 + 40, 1);
    let report = look(&rig.disk);
    assert_eq!(kinds(&report), [DamageKind::CheckpointPart], "{report:?}");
}

#[test]
fn a_damaged_footer_is_reported_and_a_missing_one_is_not() {
    let (rig, _) = store(true);
    let name = segments(&rig.disk).remove(0);
    let len = rig.disk.len(&name).expect("a length") as usize;
    for at in [len - 1, len - HEADER, len - HEADER + 17, len - HEADER + 9, len - 2 * SECTOR] {
        let disk = rig.disk.after_kill();
        disk.damage(&name, at, 1);
        assert_eq!(kinds(&look(&disk)), [DamageKind::Footer], "byte {at} of {len}");
    }
    let disk = rig.disk.after_kill();
    disk.write_at(&name, (len - HEADER) as u64, &[0; HEADER]).expect("written");
    assert!(verify(&disk, any_instant()).expect("a report").is_sound());
}

#[test]
fn a_file_that_was_cut_short_is_reported_from_where_it_ends() {
    let (rig, a) = store(true);
    let name = segments(&rig.disk).remove(0);
    let disk = rig.disk.after_kill();
    let at = FIRST_FRAME as usize + 5 * 1024 + 10;
    disk.cut(&name, at);
    let report = look(&disk);
    let cut = report.damage.iter().find(|d| d.kind == DamageKind::Truncated).expect("reported");
    assert_eq!((cut.offset as usize, cut.len as usize), (at, (64 << 10) - at));
    let gone = missing(&report, a);
    assert!(matches!(gone[..], [(_, _, false)]), "{gone:?}");
    assert!(cut.sequences.iter().any(|s| s.stream == a && s.last.0 == gone[0].1), "{cut:?}");
}

#[test]
fn a_missing_segment_is_a_gap_that_nobody_has_told() {
    let (rig, a) = store(true);
    let name = segments(&rig.disk).remove(1);
    let disk = rig.disk.after_kill();
    disk.remove(&name).expect("removed");
    let report = verify(&disk, any_instant()).expect("a report");
    assert!(matches!(missing(&report, a)[..], [(_, _, false)]), "{report:?}");
    assert!(!report.is_sound());
}

#[test]
fn a_missing_segment_with_the_newest_checkpoint_is_reported() {
    let (mut rig, a) = store(true);
    for n in 0..RECORDS {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    let pointed = rig.log.checkpoint.expect("a checkpoint");
    let newest = segments(&rig.disk).pop().expect("a segment");
    let name = crate::segment::segment_name(pointed.segment);
    assert_ne!(name, newest);
    let disk = rig.disk.after_kill();
    disk.remove(&name).expect("removed");
    let report = verify(&disk, any_instant()).expect("a report");
    let lost = report.damage.iter().find(|d| d.kind == DamageKind::CheckpointMissing);
    assert_eq!(lost.map(|d| d.file.as_str()), Some(name.as_str()), "{report:?}");
}

#[test]
fn a_sector_that_cannot_be_read_is_reported() {
    let (rig, _) = store(true);
    let name = segments(&rig.disk).remove(0);
    for offset in [0, FIRST_FRAME as usize + 9_000, (64 << 10) - 1] {
        let disk = rig.disk.after_kill();
        disk.make_unreadable(&name, offset);
        let report = look(&disk);
        let here = |d: &&Damage| (d.offset..d.offset + d.len).contains(&(offset as u64));
        let found: Vec<_> = report.damage.iter().filter(here).map(|d| d.kind).collect();
        assert!(found.contains(&DamageKind::Unreadable), "sector at {offset}: {report:?}");
    }
}

#[test]
fn a_damaged_last_frame_is_a_torn_end_and_an_unused_segment_behind_it_hides_nothing() {
    let (rig, _) = store(false);
    let name = segments(&rig.disk).pop().expect("a segment");
    let at = *frames(&rig.disk, &name).last().expect("a frame");
    for byte in [0, 5, 9, 18, 33, 41, 62, 100] {
        let disk = rig.disk.after_kill();
        disk.damage(&name, at + byte, 1);
        disk.create("seg-00000000000000ff.log", 64 << 10).expect("created");
        let report = verify(&disk, any_instant()).expect("a report");
        assert_eq!(kinds(&report), [DamageKind::TornEnd], "byte {byte}: {report:?}");
        assert_eq!(report.damage[0].offset as usize, at);
    }
}

#[test]
fn a_store_of_a_newer_format_is_reported_and_not_looked_into() {
    let (rig, _) = store(true);
    let disk = rig.disk.after_kill();
    let name = segments(&disk).remove(0);
    let mut header = bytes_of(&disk, &name)[..HEADER].to_vec();
    header[4..6].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    disk.write_at(&name, 0, &header).expect("written");
    let report = look(&disk);
    assert_eq!(report.newer, Some((name, FORMAT_VERSION + 1)));
    assert!(!report.is_sound() && report.streams.is_empty());
}

#[test]
fn a_segment_of_another_store_is_noted_and_left_out() {
    let (rig, _) = store(true);
    let disk = rig.disk.after_kill();
    let name = segments(&disk).remove(0);
    let mut header = bytes_of(&disk, &name)[..HEADER].to_vec();
    header[8] ^= 1;
    header[16..24].copy_from_slice(&0_u64.to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    let foreign = "seg-0000000000000000.log";
    disk.create(foreign, 64 << 10).expect("created");
    disk.write_at(foreign, 0, &header).expect("written");
    let report = verify(&disk, any_instant()).expect("a report");
    assert!(report.is_sound(), "{report:?}");
    assert!(report.notes.iter().any(|note| note.contains(foreign)), "{:?}", report.notes);
}

#[test]
fn records_that_were_copied_forward_are_found_where_they_are_now() {
    let mut rig = Rig::new(LogOptions { cursor_delay: Duration::from_millis(5), ..small() });
    let slow = rig.stream("slow", config(1 << 30, Overflow::Reject));
    let fast = rig.stream("fast", config(1 << 30, Overflow::Reject));
    rig.log.reader(slow, "stuck").expect("a reader");
    let reader = rig.log.reader(fast, "up").expect("a reader");
    for n in 0..2_000 {
        if n % 20 == 0 {
            rig.append(slow, &numbered(n, 80)).expect("room");
        }
        rig.append(fast, &numbered(n, 700)).expect("room");
        let read = rig.log.durable_seq(fast);
        rig.log.advance(rig.now, reader, read);
        rig.pass(Duration::from_millis(6));
        rig.step();
        rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 3_600_000));
        rig.step();
    }
    rig.settle();
    assert!(rig.log.status().copied_bytes > 0);
    let report = look(&rig.disk.after_kill());
    assert!(report.is_sound(), "{report:?}");
    assert_eq!(report.streams[usize::from(slow.0)].records, 100);
}

#[test]
fn any_bytes_in_place_of_a_segment_are_reported_without_panic() {
    let (rig, _) = store(false);
    let mut seed = 1_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize
    };
    for _ in 0..200 {
        let disk = rig.disk.after_kill();
        let names = segments(&disk);
        let name = &names[random() % names.len()];
        for _ in 0..1 + random() % 6 {
            let at = random() % (64 << 10);
            let noise: Vec<u8> = (0..1 + random() % 2_000).map(|_| random() as u8).collect();
            let end = noise.len().min((64 << 10) - at);
            disk.write_at(name, at as u64, &noise[..end]).expect("written");
        }
        let report = verify(&disk, any_instant()).expect("a report");
        let kept: u64 = report.streams.iter().map(|stream| stream.records).sum();
        assert!(kept <= RECORDS + RECORDS.div_ceil(7), "{report:?}");
    }
}
