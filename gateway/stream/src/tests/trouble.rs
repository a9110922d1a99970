//! Failing syncs and writes, full disks.

use super::*;

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_until_it_is_in_a_new_segment() {
    for how in 0..2 {
        let mut rig = Rig::new(small());
        let a = rig.stream("a", keep_all());
        for n in 0..20 {
            rig.append(a, &numbered(n, 100)).expect("room");
            rig.settle();
        }
        let before = rig.log.durable();
        let segments = rig.log.status().segments;
        rig.append(a, b"in trouble").expect("room");
        if how == 0 {
            rig.disk.fail_next_sync();
        } else {
            rig.disk.fail_writes(1);
        }
        rig.log.flush(rig.now);
        rig.step();
        assert_eq!(rig.log.durable(), before);
        assert!(rig.log.status().retrying);
        assert_eq!(rig.read_all(a).len(), 20, "what was durable can be read");
        // Power fails now: the record is there or not, the others are.
        let have = rig.crash(7).read_all(a).len();
        assert!(have == 20 || have == 21, "{have}");
        rig.settle();
        assert_eq!(rig.log.durable(), rig.log.end());
        assert_eq!(rig.log.status().segments, segments + 1);
        for mut rig in [rig.crash(8), rig.reopen(), rig] {
            let read = rig.payloads(a);
            assert_eq!(read.len(), 21);
            assert_eq!(read[&21], b"in trouble");
            assert!(rig.log.losses().next().is_none());
        }
    }
}

#[test]
fn syncs_that_fail_again_and_again_delay_and_lose_nothing() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for n in 0..200u64 {
        if n % 9 == 0 {
            rig.disk.fail_syncs((n % 4) as u32 + 1);
        }
        rig.append(a, &numbered(n, 300)).expect("room");
        rig.settle();
        if n % 25 == 0 {
            let mut crashed = rig.crash(n);
            assert_eq!(crashed.read_all(a).len() as u64, n + 1);
            assert!(crashed.log.losses().next().is_none());
        }
    }
    assert_eq!(rig.read_all(a).len(), 200);
    rig.disk.fail_syncs(0);
    rig.log.shut_down(rig.now);
    rig.settle();
    assert!(rig.crash(1).recovery.clean);
}

#[test]
fn a_power_cut_after_failed_syncs_loses_nothing_acknowledged() {
    for seed in 0..60 {
        let mut rig = Rig::new(small());
        let a = rig.stream("a", keep_all());
        rig.disk.crash_at(30 + seed * 2);
        let mut acknowledged = 0;
        for n in 0..500u64 {
            if n % 7 == 3 {
                rig.disk.fail_syncs(1);
            }
            if rig.append(a, &numbered(n, 200)).is_err() || rig.disk.has_crashed() {
                break;
            }
            rig.settle();
            acknowledged = rig.log.durable_seq(a).0 - 1;
        }
        assert!(rig.disk.has_crashed());
        let mut after = rig.crash(seed);
        let read = after.payloads(a);
        assert!(read.len() as u64 >= acknowledged, "{} of {acknowledged}", read.len());
        assert!(read.iter().all(|(seq, payload)| *payload == numbered(seq - 1, 200)));
    }
}

#[test]
fn a_full_disk_refuses_appends_keeps_reading_and_goes_on_when_there_is_room() {
    let options = small();
    let segment = u64::from(options.segment_bytes);
    let disk = CrashDisk::new();
    disk.set_capacity(segment * 6);
    let mut rig = Rig::on(disk, options);
    let a = rig.stream("a", keep_all());
    let reader = rig.log.reader(a, "up").expect("a reader");
    let mut n = 0;
    let error = loop {
        match rig.append(a, &numbered(n, 200)) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        rig.pass(Duration::from_millis(1));
        rig.step();
        assert!(n < 100_000, "the disk never becomes full");
    };
    assert_eq!(error, AppendError::DiskFull);
    rig.settle();
    assert_eq!(rig.read_all(a).len() as u64, n, "what was accepted is durable and readable");
    assert_eq!(rig.crash(5).read_all(a).len() as u64, n);
    // The reader catches up: its cursor and the trim work although the disk is full.
    rig.log.stream("a", config(1 << 40, Overflow::Reject)).expect("a stream");
    for seq in 1..=n {
        rig.log.advance(rig.now, reader, Seq(seq + 1));
        rig.pass(Duration::from_millis(200));
        rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
        rig.step();
    }
    rig.settle();
    assert!(!rig.log.status().disk_full, "{:?}", rig.log.status());
    for n in 0..100 {
        rig.append(a, &numbered(n, 200)).expect("there is room again");
        rig.settle();
    }
    assert_eq!(rig.crash(6).log.next_seq(a), Seq(n + 101));
}

#[test]
fn a_full_disk_goes_on_by_itself_when_somebody_else_makes_room() {
    let options = small();
    let disk = CrashDisk::new();
    disk.set_capacity(u64::from(options.segment_bytes) * 4);
    let mut rig = Rig::on(disk, options);
    let a = rig.stream("a", keep_all());
    let mut n = 0;
    while rig.append(a, &numbered(n, 200)).is_ok() {
        n += 1;
        rig.pass(Duration::from_millis(1));
        rig.step();
    }
    rig.settle();
    rig.disk.set_capacity(u64::MAX);
    for _ in 0..100 {
        rig.pass(Duration::from_millis(100));
        rig.step();
    }
    rig.append(a, &numbered(n, 200)).expect("there is room again");
    rig.settle();
    assert_eq!(rig.crash(1).read_all(a).len() as u64, n + 1);
}

#[test]
fn a_disk_that_was_always_full_opens_and_refuses() {
    let disk = CrashDisk::new();
    disk.set_capacity(1_000);
    let mut rig = Rig::on(disk, small());
    let a = rig.stream("a", keep_all());
    rig.append(a, b"first").expect("nobody knows yet");
    for _ in 0..20 {
        rig.pass(Duration::from_millis(500));
        rig.step();
    }
    assert_eq!(rig.append(a, b"second"), Err(AppendError::DiskFull));
    assert_eq!(rig.log.durable(), Position(0));
    rig.disk.set_capacity(u64::MAX);
    rig.pass(Duration::from_secs(5));
    rig.settle();
    assert_eq!(rig.payloads(a), BTreeMap::from([(1, b"first".to_vec())]));
}

#[test]
fn too_much_pending_is_refused_until_the_disk_has_caught_up() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let mut n = 0;
    let error = loop {
        match rig.append(a, &numbered(n, 500)) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Busy { .. }), "{error}");
    rig.settle();
    assert_eq!(rig.append(a, b"x").map(|done| done.seq), Ok(Seq(n + 1)));
    assert_eq!(rig.read_all(a).len() as u64, n);
}

#[test]
fn a_transaction_is_all_or_nothing_in_memory_too() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(2_000, Overflow::Reject));
    let b = rig.stream("b", keep_all());
    let table = rig.log.table("t").expect("a table");
    let mut tx = Transaction::new();
    tx.append(b, record(1, b"b"));
    tx.put(table, b"k".to_vec(), b"v".to_vec());
    tx.append(a, record(1, &[0; 3_000]));
    let error = rig.log.commit(rig.now, tx).expect_err("a is too small");
    assert!(matches!(error, CommitError::Append(AppendError::StreamFull { .. })), "{error}");
    assert_eq!((rig.log.next_seq(a), rig.log.next_seq(b)), (Seq(1), Seq(1)));
    assert!(rig.log.table_entries(table).is_empty());
    let mut tx = Transaction::new();
    tx.append(b, record(1, &[0; 5_000]));
    tx.append(b, record(1, &[0; 5_000]));
    let error = rig.log.commit(rig.now, tx).expect_err("more than a frame");
    assert!(matches!(error, CommitError::Append(AppendError::TooLarge { .. })), "{error}");
    let mut tx = Transaction::new();
    tx.advance(ReaderId(9), Seq(1));
    assert_eq!(rig.log.commit(rig.now, tx), Err(CommitError::UnknownReader(ReaderId(9))));
}

#[test]
fn a_last_frame_that_cannot_be_written_again_counts_only_in_a_new_segment() {
    for failing_writes in [false, true] {
        let mut rig = Rig::new(small());
        let a = rig.stream("a", keep_all());
        let table = rig.log.table("t").expect("a table");
        for n in 0..20 {
            rig.append(a, &numbered(n, 100)).expect("room");
            rig.settle();
        }
        let mut tx = Transaction::new();
        tx.append(a, record(rig.ms, &numbered(20, 100)));
        tx.put(table, b"k".to_vec(), b"v".to_vec());
        rig.log.commit(rig.now, tx).expect("room");
        rig.disk.fail_syncs(9);
        rig.log.flush(rig.now);
        rig.step();
        // The process ends, and the next one cannot write the end of the log again.
        let disk = rig.disk.after_kill();
        if failing_writes {
            disk.fail_writes(1);
        } else {
            disk.fail_syncs(1);
        }
        let mut after = Rig::on(disk, small());
        assert!(after.log.durable() < after.log.end());
        assert_eq!(after.log.durable_seq(a), Seq(21));
        for seed in 0..8 {
            let have = after.crash(seed).read_all(a).len();
            assert!(have == 20 || have == 21, "{have}: what is durable is there");
        }
        after.settle();
        assert_eq!(after.log.durable_seq(a), Seq(22));
        after.append(a, &numbered(21, 100)).expect("room");
        after.settle();
        for mut again in [after.crash(1), after.reopen(), after] {
            let read = again.payloads(a);
            assert_eq!(read.len(), 22);
            assert!(read.iter().all(|(seq, payload)| *payload == numbered(seq - 1, 100)));
            assert_eq!(again.log.table_entries(table).len(), 1);
            assert!(again.log.losses().next().is_none());
        }
    }
}

#[test]
fn a_last_frame_that_was_durable_stays_so_while_it_is_written_to_a_new_segment() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for n in 0..21 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
    }
    for operation in 1..8 {
        // The power fails; the next life cannot sync the end of the log, and power fails again.
        let disk = rig.disk.crash(operation);
        disk.fail_syncs(1);
        let mut after = Rig::on(disk, small());
        after.disk.crash_at(after.disk.operations() + operation);
        after.settle();
        for seed in 0..60 {
            let mut again = after.crash(seed);
            assert_eq!(again.read_all(a).len(), 21, "operation {operation}, seed {seed}");
            assert_eq!(again.recovery.damaged_segments, 0, "operation {operation}, seed {seed}");
        }
    }
}

#[test]
fn what_only_the_page_cache_held_after_a_failed_sync_is_durable_once_it_counts() {
    for rotate in [false, true] {
        let mut rig = Rig::new(small());
        let a = rig.stream("a", keep_all());
        let mut n = 0;
        loop {
            let at_end =
                rig.log.active.as_ref().is_some_and(|active| active.len - active.offset < 1_500);
            if n == 20 && !rotate || at_end {
                break;
            }
            rig.append(a, &numbered(n, 100)).expect("room");
            rig.settle();
            n += 1;
        }
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.disk.fail_syncs(9);
        rig.log.flush(rig.now);
        rig.step();
        // The process ends; reads still show the frame; then power fails.
        let mut after = rig.reopen();
        let have = after.read_all(a).len() as u64;
        assert!(have >= n);
        assert_eq!(after.log.durable_seq(a), Seq(have + 1));
        for seed in 0..8 {
            assert_eq!(after.crash(seed).read_all(a).len() as u64, have, "rotate {rotate}");
        }
    }
}
