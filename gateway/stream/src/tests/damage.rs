//! Bytes on the medium that are not what was written.

use super::*;
use crate::frame::{FORMAT_VERSION, SECTOR};
use crate::segment::{FIRST_FRAME, FileName, HEADER};

/// A store of a few segments with 200 records, and how many bytes its files have.
fn store(clean: bool) -> (Rig, StreamId) {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let table = rig.log.table("t").expect("a table");
    for n in 0..200 {
        rig.append(a, &numbered(n, 400)).expect("room");
        if n % 10 == 0 {
            let mut tx = Transaction::new();
            tx.put(table, vec![n as u8], vec![1; 50]);
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

fn segments(disk: &CrashDisk) -> Vec<String> {
    let names = disk.list().expect("a list");
    names.into_iter().filter(|n| matches!(FileName::parse(n), FileName::Segment(_))).collect()
}

/// Opens, reads, and checks that what is not there is in the ledger.
fn check(disk: CrashDisk, a: StreamId, what: &str, may_lose: usize) {
    let mut rig = Rig::on(disk, small());
    let id = rig.stream("a", keep_all());
    assert_eq!(id, a, "{what}: the stream has kept its id");
    let read = rig.payloads(a);
    assert!(read.len() + may_lose >= 200, "{what}: only {} records are left", read.len());
    for (seq, payload) in &read {
        assert_eq!(*payload, numbered(seq - 1, 400), "{what}: record {seq}");
    }
    let end = rig.log.next_seq(a).0;
    for seq in (1..end).filter(|seq| !read.contains_key(seq)) {
        let named = rig.log.losses().any(|l| (l.first.0..=l.last.0).contains(&seq));
        assert!(named, "{what}: record {seq} is gone without an entry");
    }
    if end < 201 {
        assert!(rig.recovery.new_epoch, "{what}: sequences from {end} on are used again");
    }
    rig.append(a, b"after").expect("room");
    rig.settle();
    let again = rig.crash(1);
    assert_eq!(again.log.next_seq(a), Seq(end + 1), "{what}");
    let losses: Vec<_> = rig.log.losses().collect();
    assert_eq!(again.log.losses().collect::<Vec<_>>(), losses, "{what}: losses are told once");
}

#[test]
fn a_damaged_byte_anywhere_costs_little_and_is_told() {
    for clean in [false, true] {
        let (rig, a) = store(clean);
        for name in segments(&rig.disk) {
            let len = rig.disk.len(&name).expect("a length") as usize;
            // One byte of each sector, each at another place.
            for at in (0..len).step_by(SECTOR).map(|at| at + at / SECTOR * 37 % SECTOR) {
                let disk = rig.disk.after_kill();
                disk.damage(&name, at, 0x10);
                check(disk, a, &format!("{name} byte {at}, clean {clean}"), 8);
            }
        }
    }
}

#[test]
fn a_damaged_block_costs_what_is_in_it() {
    let (rig, a) = store(true);
    for name in segments(&rig.disk) {
        let len = rig.disk.len(&name).expect("a length") as usize;
        for block in (0..len).step_by(4096) {
            let disk = rig.disk.after_kill();
            (block..block + 4096).for_each(|at| disk.damage(&name, at, 0xff));
            check(disk, a, &format!("{name} block at {block}"), 60);
        }
    }
}

#[test]
fn a_missing_segment_is_a_gap_with_its_sequences() {
    let (rig, a) = store(true);
    for name in segments(&rig.disk) {
        let disk = rig.disk.after_kill();
        disk.remove(&name).expect("removed");
        let mut rig = Rig::on(disk, small());
        if rig.log.streams().next().is_none() {
            continue;
        }
        let read = rig.payloads(a);
        let lost: u64 = rig.log.losses().map(|loss| loss.records).sum();
        assert_eq!(read.len() as u64 + lost, rig.log.next_seq(a).0 - 1, "{name}");
    }
}

#[test]
fn damage_that_appears_later_is_found_by_the_reader_and_told_once() {
    let mut options = small();
    options.cache_bytes = 0;
    let mut rig = Rig::new(options);
    let a = rig.stream("a", keep_all());
    for n in 0..200 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    let name = segments(&rig.disk).remove(0);
    // Behind the first frame there is one with a checkpoint.
    rig.disk.damage(&name, FIRST_FRAME as usize + SECTOR + 10 * 1024 + 100, 1);
    for _ in 0..2 {
        let read = rig.payloads(a);
        let losses: Vec<_> = rig.log.losses().copied().collect();
        assert_eq!(losses.len(), 1, "{losses:?}");
        assert_eq!(losses[0].reason, LossReason::Damaged);
        assert_eq!(read.len() as u64 + losses[0].records, 200);
        for seq in losses[0].first.0..=losses[0].last.0 {
            assert!(!read.contains_key(&seq));
        }
    }
    rig.settle();
    assert_eq!(rig.crash(0).log.losses().count(), 1);
}

#[test]
fn a_store_of_a_newer_format_is_refused_and_left_as_it_is() {
    let (rig, _) = store(true);
    let disk = rig.disk.after_kill();
    let name = segments(&disk).remove(0);
    let mut header = vec![0; HEADER];
    disk.read_at(&name, 0, &mut header).expect("a header");
    header[4..6].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32c::crc32c(&header[..HEADER - 4]);
    header[HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    disk.write_at(&name, 0, &header).expect("written");
    let operations = disk.operations();
    let error = Log::open(&disk, small(), any_instant(), 0, 0).expect_err("refused");
    assert!(matches!(&error, OpenError::NewerFormat { version: 3, .. }), "{error}");
    assert_eq!(disk.operations(), operations);
}

#[test]
fn stale_frames_of_a_recycled_segment_are_not_taken_for_live_ones() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(1 << 40, Overflow::Reject));
    let reader = rig.log.reader(a, "up").expect("a reader");
    for n in 0..3_000 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
        rig.log.advance(rig.now, reader, Seq(n + 1));
        rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1));
        if n % 100 == 0 {
            let mut crashed = rig.crash(n);
            assert_eq!(crashed.log.next_seq(a), Seq(n + 2));
            assert!(crashed.log.losses().next().is_none());
            let first = crashed.log.first_seq(a);
            let read = crashed.read_from(a, first, 50);
            assert_eq!(read.len() as u64, n + 2 - first.0);
        }
    }
    assert!(rig.disk.list().expect("a list").len() < 8, "segments were recycled");
}

#[test]
fn a_sector_that_cannot_be_read_costs_the_frame_in_it() {
    let (rig, a) = store(true);
    let name = segments(&rig.disk).remove(0);
    for offset in [0, FIRST_FRAME as usize, FIRST_FRAME as usize + 9_000, (64 << 10) - 1] {
        let disk = rig.disk.after_kill();
        disk.make_unreadable(&name, offset);
        check(disk, a, &format!("sector at {offset}"), 20);
    }
}

#[test]
fn a_read_that_fails_once_loses_nothing() {
    let mut options = small();
    options.cache_bytes = 0;
    let mut rig = Rig::new(options);
    let a = rig.stream("a", keep_all());
    for n in 0..100 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    rig.disk.fail_reads(1);
    assert_eq!(rig.read_all(a).len(), 100);
    assert_eq!(rig.log.losses().count(), 0);
    assert_eq!(rig.log.status().failures, 1);
}

#[test]
fn a_disk_that_dies_makes_no_reader_go_on_behind_what_it_cannot_read() {
    let mut options = small();
    options.cache_bytes = 0;
    let mut rig = Rig::new(options);
    let a = rig.stream("a", keep_all());
    for n in 0..100 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    rig.disk.fail_reads(u32::MAX);
    rig.disk.fail_writes(u32::MAX);
    let limit = ReadLimit { records: 7, bytes: 3_000 };
    for _ in 0..100 {
        let outcome = rig.log.read(rig.now, a, Seq(1), limit, &mut |seq, _, _| panic!("{seq:?}"));
        assert_eq!(outcome, ReadOutcome::Fetching, "a power cut would bring them back");
        rig.step();
        rig.pass(Duration::from_millis(50));
    }
    let mut again = rig.crash(1);
    assert_eq!(again.payloads(a).len(), 100);
    assert_eq!(again.log.losses().count(), 0);
}

/// Where the last frame of the newest segment is.
pub(super) fn last_frame(rig: &Rig) -> (String, usize) {
    let name = segments(&rig.disk).pop().expect("a segment");
    let mut bytes = vec![0; rig.disk.len(&name).expect("a length") as usize];
    rig.disk.read_at(&name, 0, &mut bytes).expect("read");
    let starts = |at: &usize| bytes[*at..].starts_with(b"TGFR");
    let last = (0..bytes.len()).step_by(SECTOR).rfind(starts).expect("a frame");
    (name, last)
}

#[test]
fn sequences_that_were_behind_an_unreadable_sector_get_a_new_epoch() {
    let (rig, a) = store(false);
    let (name, last) = last_frame(&rig);
    let disk = rig.disk.after_kill();
    disk.make_unreadable(&name, last);
    check(disk, a, "the last frame cannot be read", 8);
}

#[test]
fn sequences_that_were_in_a_damaged_frame_of_an_older_segment_get_a_new_epoch() {
    let mut reused = 0;
    for before in [10, 100, 150, 230] {
        let mut rig = Rig::new(small());
        let seldom = rig.stream("seldom", keep_all());
        let often = rig.stream("often", keep_all());
        for n in 0..before {
            rig.append(often, &numbered(n, 400)).expect("room");
            rig.settle();
        }
        rig.append(seldom, b"acknowledged").expect("room");
        rig.settle();
        let (name, at) = last_frame(&rig);
        for n in 0..100 {
            rig.append(often, &numbered(n, 400)).expect("room");
            rig.settle();
            let disk = rig.disk.after_kill();
            disk.damage(&name, at + 70, 0x10);
            let after = Rig::on(disk, small());
            let again = after.log.next_seq(seldom) < Seq(2);
            reused += u32::from(again && segments(&after.disk).last() != Some(&name));
            assert!(!again || after.recovery.new_epoch, "{before} before, {n} behind");
        }
    }
    assert!(reused > 0, "the case was met");
}

#[test]
fn damage_beside_known_damage_is_told_too() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let mut places = Vec::new();
    for n in 0..20 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
        places.push(last_frame(&rig));
    }
    let disk = rig.disk.after_kill();
    for at in [10, 9, 11] {
        disk.damage(&places[at].0, places[at].1 + 100, 1);
        let mut after = Rig::on(disk.clone(), small());
        let read = after.payloads(a);
        for seq in (1..=20).filter(|seq| !read.contains_key(seq)) {
            let named =
                after.log.losses().filter(|l| (l.first.0..=l.last.0).contains(&seq)).count();
            assert_eq!(named, 1, "record {seq}: {:?}", after.log.losses().collect::<Vec<_>>());
        }
        after.settle();
    }
}

#[test]
fn a_read_that_fails_for_a_moment_while_opening_costs_nothing() {
    let (rig, a) = store(false);
    let table = TableId(0);
    let entries = rig.log.table_entries(table).clone();
    for (failing, after) in (1..=2).flat_map(|failing| (0..30).map(move |after| (failing, after))) {
        let disk = rig.disk.after_kill();
        disk.fail_reads_after(after, failing);
        let mut opened = Rig::on(disk, small());
        opened.disk.fail_reads(0);
        let what = format!("{failing} reads fail after {after}");
        assert_eq!(**opened.log.table_entries(table), *entries, "{what}");
        assert_eq!(opened.payloads(a).len(), 200, "{what}");
        assert!(opened.log.losses().next().is_none(), "{what}");
    }
}

#[test]
fn a_frame_that_cannot_be_read_a_second_time_is_damage_and_not_skipped_in_silence() {
    let (rig, a) = store(false);
    let mut whole = 0;
    for (failing, after) in [3, 12].into_iter().flat_map(|f| (0..40).map(move |after| (f, after))) {
        let disk = rig.disk.after_kill();
        disk.fail_reads_after(after, failing);
        let what = format!("{failing} reads fail after {after}");
        let opened = Rig::on(disk.clone(), small());
        opened.disk.fail_reads(0);
        let entries = opened.log.table_entries(TableId(0)).len();
        assert!(entries == 20 || opened.recovery.new_epoch, "{what}: {entries} entries");
        whole += u32::from(entries == 20);
        check(disk, a, &what, 200);
    }
    assert!(whole > 0);
}

#[test]
fn a_read_that_fails_while_opening_does_not_destroy_what_was_readable() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for n in 0..20 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    for after in 0..12 {
        let disk = rig.disk.after_kill();
        disk.fail_reads_after(after, 2);
        let mut first = Rig::on(disk, small());
        first.disk.fail_reads(0);
        let shown = first.payloads(a);
        for mut again in [first.reopen(), first.crash(after.into())] {
            assert_eq!(again.payloads(a), shown, "reads fail after {after}");
        }
    }
}

#[test]
fn a_file_that_was_cut_short_is_damage_and_no_endless_wait() {
    let mut options = small();
    options.cache_bytes = 0;
    let mut rig = Rig::new(options);
    let a = rig.stream("a", keep_all());
    for n in 0..50 {
        rig.append(a, &numbered(n, 400)).expect("room");
        rig.settle();
    }
    let name = segments(&rig.disk).remove(0);
    rig.disk.cut(&name, FIRST_FRAME as usize + 5 * 1024 + 10);
    let read = rig.payloads(a);
    assert!(read.len() < 50);
    for seq in (1..=50).filter(|seq| !read.contains_key(seq)) {
        assert!(rig.log.losses().any(|l| (l.first.0..=l.last.0).contains(&seq)), "{seq}");
    }
}
