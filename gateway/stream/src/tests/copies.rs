//! Records copied forward: a slow reader keeps its records and not the disk around them.

use super::*;
use crate::frame::Seed;
use crate::scan::Scan;
use crate::segment::{Chunk, FileName, HeaderFound, Place, SegmentHeader};

pub(super) const HOUR_MS: i64 = 3_600_000;

pub(super) fn tiny() -> LogOptions {
    LogOptions {
        segment_bytes: 36 << 10,
        max_frame_bytes: 4 << 10,
        group_bytes: 2 << 10,
        max_pending_bytes: 32 << 10,
        cache_bytes: 2 << 10,
        read_bytes: 8 << 10,
        reserve_segments: 1,
        cursor_delay: Duration::from_millis(5),
        ..LogOptions::default()
    }
}

/// A stream that nobody passes beside one that goes at once.
pub(super) struct Beside {
    pub(super) rig: Rig,
    pub(super) slow: StreamId,
    pub(super) fast: StreamId,
    pub(super) reader: ReaderId,
    /// What `slow` has, from its first record on.
    pub(super) kept: Vec<(Epoch, Record)>,
}

impl Beside {
    pub(super) fn on(rig: Rig, kept: Vec<(Epoch, Record)>) -> Beside {
        let mut rig = rig;
        let slow = rig.stream("slow", config(1 << 30, Overflow::Reject));
        let fast = rig.stream("fast", config(1 << 30, Overflow::Reject));
        rig.log.reader(slow, "stuck").expect("a reader");
        let reader = rig.log.reader(fast, "up").expect("a reader");
        Beside { rig, slow, fast, reader, kept }
    }

    /// One round: a record for each stream, now and then, and housekeeping.
    fn round(&mut self, n: u64) {
        if n.is_multiple_of(12) {
            let mut record = record(self.rig.ms, &numbered(n, 80));
            record.topic = format!("slow/{}", n % 3);
            record.publisher = Some(PublisherIdentity { boot: 1 + n / 500, seq: n });
            let done = self.rig.log.append(self.rig.now, self.slow, &record.as_ref());
            let seq = done.expect("room").seq;
            self.kept.truncate(seq.0 as usize - 1);
            self.kept.push((self.rig.log.epoch(), record));
        }
        let fast = record(self.rig.ms, &numbered(n, 700));
        self.rig.log.append(self.rig.now, self.fast, &fast.as_ref()).expect("room");
        let read = self.rig.log.durable_seq(self.fast);
        self.rig.log.advance(self.rig.now, self.reader, read);
        self.rig.pass(Duration::from_millis(6));
        self.rig.step();
        if n.is_multiple_of(8) {
            self.rig.log.trim(self.rig.now, WallClock::Trusted(self.rig.ms + HOUR_MS));
            self.rig.step();
        }
    }

    pub(super) fn run(&mut self, rounds: std::ops::Range<u64>) {
        for n in rounds {
            if self.rig.disk.has_crashed() {
                return;
            }
            self.round(n);
        }
        self.rig.settle();
    }

    /// All that `slow` has, read by a limit of records.
    pub(super) fn read(&mut self, records: usize) -> Vec<(Seq, Epoch, Record)> {
        let mut all = Vec::new();
        let mut next = Seq(1);
        let limit = ReadLimit { records, bytes: 1 << 20 };
        for _ in 0..100_000 {
            let log = &mut self.rig.log;
            let mut visit = |seq, epoch, r: RecordRef<'_>| all.push((seq, epoch, r.to_record()));
            match log.read(self.rig.now, self.slow, next, limit, &mut visit) {
                ReadOutcome::Read { next: n } | ReadOutcome::Lost { next: n } => next = n,
                ReadOutcome::Fetching => self.rig.step(),
                ReadOutcome::End => return all,
            }
        }
        panic!("reading never ends");
    }

    /// Nothing lost, nothing doubled, nothing changed.
    pub(super) fn check(&mut self, what: &str) {
        for limit in [3, 1_000] {
            let read = self.read(limit);
            let expected = self.kept.iter().enumerate();
            let expected: Vec<_> = expected
                .map(|(index, (epoch, record))| (Seq(index as u64 + 1), *epoch, record.clone()))
                .collect();
            assert_eq!(read.len(), expected.len(), "{what}");
            assert!(read == expected, "{what}: the records are not what was appended");
        }
        assert!(self.rig.log.losses().next().is_none(), "{what}");
    }

    fn disk_bytes(&self) -> u64 {
        self.rig.log.status().disk_bytes
    }
}

pub(super) fn beside(options: LogOptions) -> Beside {
    Beside::on(Rig::new(options), Vec::new())
}

/// After a restart the index of a segment is placed at once: a copy of an old record is in one entry with the
/// records that came after it, beside the entry that the original is still in.
#[test]
fn records_behind_a_copy_are_not_taken_for_as_old_as_it_is() {
    let mut rig = Rig::new(tiny());
    let slow = rig.stream("slow", config(1 << 30, Overflow::Reject));
    let (old_ms, new_ms) = (START_MS, START_MS + HOUR_MS);
    let entry = |first: u64, end: u64, segment: u64, newest_ms: i64| Chunk {
        stream: slow,
        place: Place { segment: SegmentId(segment), offset: 4096 },
        first: Seq(first),
        records: (end - first) as u32,
        bytes: 100 * (end - first) as u32,
        newest_ms,
    };
    rig.log.place(entry(1, 30, 6, old_ms), false);
    rig.log.place(entry(29, 75, 9, new_ms), false);
    // A copy alone is as old as what it is a copy of, whatever stamp it has.
    rig.log.place(entry(1, 9, 10, new_ms), false);
    let chunks = &rig.log.state.stream(slow).expect("it is there").chunks;
    let times: Vec<_> = chunks.iter().map(|c| (c.first.0, c.end().0, c.newest_ms)).collect();
    assert_eq!(times, [(1, 9, old_ms), (9, 29, old_ms), (29, 75, new_ms)]);
}

#[test]
fn a_slow_reader_does_not_pin_the_disk() {
    let mut pinned = beside(LogOptions { copy_bytes: 0, ..tiny() });
    pinned.run(0..3_000);
    pinned.check("without copying");
    assert_eq!(pinned.rig.log.status().copied_bytes, 0);
    let mut copied = beside(tiny());
    copied.run(0..3_000);
    copied.check("with copying");
    let status = copied.rig.log.status();
    assert!(status.copied_bytes > 0);
    assert!(status.copied_bytes * 4 < status.bytes_written, "{status:?}");
    let (with, without) = (copied.disk_bytes(), pinned.disk_bytes());
    assert!(with * 4 < without, "{with} bytes with copying, {without} without");
    let kept: u64 = status.streams.iter().map(|stream| stream.bytes).sum();
    let most = 2 * kept + 10 * (36 << 10);
    assert!(with < most, "{with} bytes for {kept}");
    for rig in [copied.rig.crash(3), copied.rig.reopen()] {
        let mut after = Beside::on(rig, copied.kept.clone());
        after.check("after the next start");
        after.run(3_000..3_300);
        after.check("and further on");
    }
}

#[test]
fn copied_records_keep_the_epoch_that_they_were_appended_in() {
    let mut beside = beside(tiny());
    let mut epochs = std::collections::BTreeSet::new();
    for turn in 0..6u64 {
        beside.run(turn * 400..turn * 400 + 400);
        epochs.insert(beside.rig.log.epoch());
        // A torn write raises the epoch.
        let torn = record(beside.rig.ms, &numbered(0, 900));
        beside.rig.log.append(beside.rig.now, beside.fast, &torn.as_ref()).expect("room");
        beside.rig.disk.crash_at(beside.rig.disk.operations() + 1);
        beside.rig.log.flush(beside.rig.now);
        beside.rig.step();
        let kept = beside.kept.clone();
        beside = Beside::on(beside.rig.crash(turn * 7), kept);
        beside.check(&format!("after {turn} torn writes"));
    }
    assert!(epochs.len() > 2, "{epochs:?}");
    beside.run(3_000..3_400);
    beside.check("in the end");
    assert!(beside.rig.log.status().copied_bytes > 0);
}

#[test]
fn a_record_in_one_frame_with_copies_of_those_before_it_is_read() {
    let mut beside = beside(LogOptions { copy_bytes: 0, ..tiny() });
    let other = beside.rig.stream("other", config(1 << 30, Overflow::Reject));
    (0..3).for_each(|_| beside.round(0));
    for n in (1..400).filter(|n| n % 12 != 0) {
        if n % 20 == 1 {
            beside.rig.append(other, b"stays, and its segment too").expect("room");
        }
        beside.round(n);
    }
    beside.rig.settle();
    // The copies wait for a group to ride in; the record comes into the same.
    beside.rig.log.options.copy_bytes = 1 << 20;
    beside.rig.log.trim(beside.rig.now, WallClock::Trusted(beside.rig.ms + HOUR_MS));
    beside.rig.step();
    beside.round(0);
    beside.rig.settle();
    let chunks = &beside.rig.log.state.stream(beside.slow).expect("a stream").chunks;
    let starts: Vec<_> = chunks.iter().map(|chunk| (chunk.place, chunk.first.0)).collect();
    assert_eq!(starts, [(starts[0].0, 1), (starts[0].0, 4)], "two chunks begin in one frame");
    beside.check("copies and what follows them in one frame");
}

/// Runs with a power cut in the middle of operation `cut`, then goes on.
fn run_with_cut(cut: u64, seed: u64) -> u64 {
    let first = beside(tiny());
    let mut beside = first;
    beside.rig.disk.crash_at(cut);
    beside.run(0..700);
    let operations = beside.rig.disk.operations();
    let acknowledged = beside.rig.log.durable_seq(beside.slow).0 - 1;
    let rig = beside.rig.crash(seed);
    let have = rig.log.next_seq(beside.slow).0 - 1;
    let what = format!("run_with_cut({cut}, {seed})");
    assert!(have >= acknowledged, "{what}: {have} of {acknowledged}");
    let mut kept = std::mem::take(&mut beside.kept);
    kept.truncate(have as usize);
    let mut after = Beside::on(rig, kept);
    after.check(&what);
    after.run(700..800);
    after.check(&what);
    operations
}

#[test]
fn no_power_cut_while_copying_loses_or_doubles_anything() {
    let mut whole = beside(tiny());
    let (mut n, mut copies_from) = (0, 0);
    while whole.rig.log.status().copied_bytes == 0 {
        copies_from = whole.rig.disk.operations();
        whole.round(n);
        n += 1;
    }
    whole.run(n..700);
    assert!(whole.rig.log.status().copied_bytes > 10_000, "{:?}", whole.rig.log.status());
    let all = whole.rig.disk.operations();
    for cut in (copies_from..=all).step_by(3) {
        run_with_cut(cut, cut * 31);
    }
}

#[test]
#[ignore = "the same at every operation, for many seeds; minutes"]
fn a_campaign_of_power_cuts_while_copying() {
    let all = run_with_cut(u64::MAX, 0);
    for salt in 0..10 {
        for cut in 1..=all {
            run_with_cut(cut, cut * 1_000 + salt);
        }
    }
}

#[test]
fn failing_syncs_while_copying_lose_and_double_nothing() {
    let mut beside = beside(tiny());
    for n in 0..1_500 {
        if n % 37 == 5 {
            beside.rig.disk.fail_syncs(1);
        }
        beside.round(n);
        beside.rig.pass(Duration::from_millis(100));
        beside.rig.step();
    }
    beside.rig.settle();
    beside.check("after failing syncs");
    assert!(beside.rig.log.status().copied_bytes > 0);
    let mut after = Beside::on(beside.rig.crash(1), beside.kept.clone());
    after.check("after the next start");
}

#[test]
fn nothing_is_copied_from_a_damaged_segment() {
    let mut beside = beside(LogOptions { copy_bytes: 0, ..tiny() });
    beside.run(0..600);
    let names = beside.rig.disk.list().expect("a list");
    let name = names.iter().find(|name| name.starts_with("seg-")).expect("a segment");
    for at in (4096..30_000).step_by(512) {
        beside.rig.disk.damage(name, at + 70, 1);
    }
    beside.rig.log.options.copy_bytes = 1 << 20;
    beside.run(600..1_200);
    let lost: u64 = beside.rig.log.losses().map(|loss| loss.records).sum();
    let read = beside.read(100).len() as u64;
    assert!(lost > 0);
    assert_eq!(read + lost, beside.kept.len() as u64);
    assert!(beside.rig.disk.list().expect("a list").contains(name), "it is left as it is");
}

#[test]
fn on_a_full_disk_copying_makes_room() {
    let mut beside = beside(LogOptions { copy_bytes: 0, ..tiny() });
    beside.run(0..600);
    beside.rig.disk.set_capacity(beside.rig.disk.used());
    let mut n = 600;
    while !beside.rig.log.status().disk_full {
        beside.round(n);
        n += 1;
        assert!(n < 5_000, "the disk never becomes full");
    }
    let full = beside.disk_bytes();
    beside.rig.log.options.copy_bytes = 1 << 20;
    for _ in 0..400 {
        beside.rig.log.trim(beside.rig.now, WallClock::Trusted(beside.rig.ms + HOUR_MS));
        beside.rig.pass(Duration::from_millis(50));
        beside.rig.step();
    }
    assert!(!beside.rig.log.status().disk_full, "{:?}", beside.rig.log.status());
    beside.run(n..n + 500);
    beside.check("after it was full");
    assert!(beside.disk_bytes() <= full);
}

/// The store as version 1 would have written it.
fn as_version_1(rig: &Rig) {
    for name in rig.disk.list().expect("a list") {
        let FileName::Segment(id) = FileName::parse(&name) else { continue };
        let mut bytes = vec![0; rig.disk.len(&name).expect("a length") as usize];
        rig.disk.read_at(&name, 0, &mut bytes).expect("read");
        let seed = Seed::new(rig.log.store, id);
        let scan = Scan::of(id, &bytes, seed, None, false);
        let reseal = |bytes: &mut [u8], sum: &dyn Fn(&[u8]) -> u32| {
            bytes[4] = 1;
            let end = bytes.len() - 4;
            let crc = sum(&bytes[..end]);
            bytes[end..].copy_from_slice(&crc.to_le_bytes());
        };
        reseal(&mut bytes[..512], &crc32c::crc32c);
        for frame in &scan.frames {
            let at = frame.offset as usize;
            reseal(&mut bytes[at..at + 64], &|bytes| seed.checksum(bytes));
        }
        let trailer = bytes.len() - 512;
        if bytes[trailer..].starts_with(b"TGTR") {
            reseal(&mut bytes[trailer..], &|bytes| seed.checksum(bytes));
        }
        rig.disk.write_at(&name, 0, &bytes).expect("written");
        rig.disk.sync(&name).expect("synced");
    }
}

#[test]
fn a_store_of_version_1_is_read_and_goes_on_in_a_segment_of_this_version() {
    let mut beside = beside(LogOptions { copy_bytes: 0, ..tiny() });
    beside.run(0..400);
    as_version_1(&beside.rig);
    let old = beside.rig.disk.list().expect("a list");
    let mut after = Beside::on(Rig::on(beside.rig.disk.crash(1), tiny()), beside.kept.clone());
    after.check("version 1");
    after.run(400..401);
    let names = after.rig.disk.list().expect("a list");
    let newest = names.iter().rfind(|name| name.starts_with("seg-")).expect("a segment");
    assert!(!old.contains(newest), "it goes on in a new segment");
    let mut header = vec![0; 512];
    after.rig.disk.read_at(newest, 0, &mut header).expect("read");
    let HeaderFound::Valid(header) = SegmentHeader::decode(&header) else { panic!("a header") };
    assert_eq!(header.version, 2);
    after.run(401..1_500);
    after.check("gone on");
    assert!(after.rig.log.status().copied_bytes > 0, "old segments are copied from too");
}
