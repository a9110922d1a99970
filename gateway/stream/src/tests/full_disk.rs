//! Copying forward on a full disk: the last prepared segment is for cursors, trims and
//! checkpoints, and copies stay out of it.

use super::copies::{Beside, HOUR_MS, beside, tiny};
use super::*;

/// More than there is to copy.
const COPY_ALL: usize = 1 << 20;

/// A log that has copied nothing, on a disk so full that it takes no record any more. Its reserve
/// is whole, and a little of each segment is kept.
fn full(reserve_segments: usize) -> Beside {
    let mut beside = beside(LogOptions { copy_bytes: 0, reserve_segments, ..tiny() });
    beside.run(0..600);
    beside.rig.disk.set_capacity(beside.rig.disk.used());
    for n in 600.. {
        assert!(n < 5_000, "the disk never becomes full");
        let slow = n % 12 == 0;
        let record = record(beside.rig.ms, &numbered(n, if slow { 80 } else { 700 }));
        let stream = if slow { beside.slow } else { beside.fast };
        match beside.rig.log.append(beside.rig.now, stream, &record.as_ref()) {
            Ok(_) if slow => beside.kept.push((beside.rig.log.epoch(), record)),
            Ok(_) => {}
            Err(AppendError::DiskFull) => break,
            Err(error) => panic!("{error}"),
        }
        beside.rig.settle();
    }
    let end = beside.rig.log.durable_seq(beside.fast);
    beside.rig.log.advance(beside.rig.now, beside.reader, end);
    second(&mut beside, 3);
    assert_eq!(spares(&beside), reserve_segments, "the reserve is whole");
    beside.rig.log.options.copy_bytes = COPY_ALL;
    beside
}

/// Seconds of housekeeping; the last prepared segment stays.
fn second(beside: &mut Beside, seconds: u64) {
    for _ in 0..seconds {
        beside.rig.log.trim(beside.rig.now, WallClock::Trusted(beside.rig.ms + HOUR_MS));
        beside.rig.pass(Duration::from_secs(1));
        beside.rig.step();
        assert!(spares(beside) > 0, "{:?}", beside.rig.log.status());
    }
}

fn spares(beside: &Beside) -> usize {
    beside.rig.log.chores.spares.len()
}

fn takes_records(beside: &mut Beside, from: u64) {
    assert!(!beside.rig.log.status().disk_full, "{:?}", beside.rig.log.status());
    beside.run(from..from + 500);
}

#[test]
fn copies_leave_the_last_prepared_segment_to_cursors_and_trims() {
    let mut beside = full(1);
    second(&mut beside, 20);
    let status = beside.rig.log.status();
    assert!(status.disk_full && status.copied_bytes == 0, "{status:?}");
    // Frames of their own: more of them than the segment in use would have taken.
    let stuck = beside.rig.log.reader(beside.slow, "stuck").expect("a reader");
    for next in 2..=8 {
        beside.rig.log.advance(beside.rig.now, stuck, Seq(next));
        beside.rig.settle();
        assert_eq!(beside.rig.log.status().last_error, status.last_error);
    }
    beside.rig.log.advance(beside.rig.now, stuck, Seq(beside.kept.len() as u64 - 20));
    for _ in 0..20 {
        beside.rig.log.trim(beside.rig.now, WallClock::Trusted(beside.rig.ms + HOUR_MS));
        beside.rig.pass(Duration::from_secs(1));
        beside.rig.step();
    }
    takes_records(&mut beside, 5_000);
    assert!(beside.rig.log.status().copied_bytes > 0, "there is room for copies again");
}

#[test]
fn what_the_reserve_has_beyond_one_segment_is_enough_to_drain_a_full_disk() {
    let mut beside = full(2);
    second(&mut beside, 200);
    assert!(beside.rig.log.status().copied_bytes > 0);
    takes_records(&mut beside, 5_000);
    beside.check("after it was full");
    let mut after = Beside::on(beside.rig.crash(1), beside.kept.clone());
    after.check("after the next start");
}
