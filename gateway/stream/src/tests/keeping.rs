//! Quotas, retention, the ledger, recycling, checkpoints, opening a large store.

use super::*;

pub(super) fn fill(rig: &mut Rig, stream: StreamId, records: u64) {
    for n in 0..records {
        rig.append(stream, &numbered(n, 200)).expect("room");
        rig.pass(Duration::from_millis(1));
        rig.step();
    }
    rig.settle();
}

#[test]
fn nobody_goes_on_behind_a_drop_that_a_power_cut_could_take_back() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(60_000, Overflow::DropOldest));
    rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 500);
    rig.settle();
    let before = rig.log.first_seq(a);
    while rig.log.first_seq(a) == before {
        let record = record(rig.ms, &[7; 200]);
        rig.log.append(rig.now, a, &record.as_ref()).expect("room");
    }
    let limit = ReadLimit { records: 1, bytes: 1 };
    let mut none = |_, _, _: RecordRef<'_>| {};
    let outcome = rig.log.read(rig.now, a, before, limit, &mut none);
    assert_eq!(outcome, ReadOutcome::Fetching);
    let after = rig.crash(1);
    assert_eq!(after.log.first_seq(a), before, "there again, and nobody had gone on");
    rig.settle();
    let outcome = rig.log.read(rig.now, a, before, limit, &mut none);
    assert_eq!(outcome, ReadOutcome::Lost { next: rig.log.first_seq(a) });
}

#[test]
fn at_its_quota_a_stream_drops_the_oldest_and_the_ledger_says_which() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(300_000, Overflow::DropOldest));
    let reader = rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 5_000);
    let status = rig.log.status().streams.remove(0);
    assert!(status.bytes <= 300_000, "{status:?}");
    assert!(status.bytes > 150_000, "{status:?}");
    let first = rig.log.first_seq(a);
    assert!(first > Seq(1));
    assert_eq!(rig.log.cursor(reader), first);
    let losses: Vec<_> = rig.log.losses().copied().collect();
    assert_eq!(losses.len(), 1, "neighbours are one entry: {losses:?}");
    assert_eq!((losses[0].first, losses[0].last), (Seq(1), Seq(first.0 - 1)));
    assert_eq!(losses[0].records, first.0 - 1);
    assert_eq!(losses[0].reason, LossReason::Quota);
    let mut none = |_, _, _: RecordRef<'_>| {};
    let limit = ReadLimit { records: 1, bytes: 1 };
    let outcome = rig.log.read(rig.now, a, Seq(3), limit, &mut none);
    assert_eq!(outcome, ReadOutcome::Lost { next: first });
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
    rig.settle();
    let after = rig.crash(1);
    assert_eq!(after.log.losses().copied().collect::<Vec<_>>(), losses);
    assert_eq!(after.log.first_seq(a), first);
    assert_eq!(after.log.cursor(reader), first);
}

#[test]
fn a_stream_that_rejects_takes_records_again_once_its_readers_have_passed() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(100_000, Overflow::Reject));
    let reader = rig.log.reader(a, "up").expect("a reader");
    let mut n = 0;
    let error = loop {
        match rig.append(a, &numbered(n, 200)) {
            Ok(_) => n += 1,
            Err(error) => break error,
        }
        rig.settle();
    };
    assert!(error.to_string().starts_with("stream \"a\" is full"), "{error}");
    assert_eq!(rig.log.losses().count(), 0);
    rig.log.advance(rig.now, reader, Seq(n + 1));
    rig.settle();
    rig.append(a, b"again").expect("the reader has passed");
    assert_eq!(rig.log.losses().count(), 0, "what was read is no loss");
}

#[test]
fn records_stay_until_every_reader_has_passed_and_they_are_old() {
    let mut rig = Rig::new(small());
    let keep = StreamConfig { retain: Duration::from_secs(60), ..config(1 << 40, Overflow::Block) };
    let a = rig.stream("a", keep);
    let fast = rig.log.reader(a, "fast").expect("a reader");
    let slow = rig.log.reader(a, "slow").expect("a reader");
    fill(&mut rig, a, 2_000);
    rig.log.advance(rig.now, fast, Seq(2_001));
    rig.settle();
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 100_000));
    assert_eq!(rig.log.first_seq(a), Seq(1), "slow has not passed");
    rig.log.advance(rig.now, slow, Seq(2_001));
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 100_000));
    assert_eq!(rig.log.first_seq(a), Seq(1), "slow's cursor is not durable");
    rig.settle();
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
    assert_eq!(rig.log.first_seq(a), Seq(1), "not old");
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 100_000));
    assert_eq!(rig.log.first_seq(a), Seq(2_001));
    rig.settle();
    let after = rig.crash(2);
    assert_eq!((after.log.first_seq(a), after.log.next_seq(a)), (Seq(2_001), Seq(2_001)));
    assert_eq!(after.log.losses().count(), 0);
}

#[test]
fn a_dropped_reader_holds_nothing_back() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(1 << 40, Overflow::Block));
    let up = rig.log.reader(a, "up").expect("a reader");
    let gone = rig.log.reader(a, "gone").expect("a reader");
    fill(&mut rig, a, 500);
    rig.log.advance(rig.now, up, Seq(501));
    rig.log.drop_reader(gone);
    rig.settle();
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1));
    rig.settle();
    assert_eq!(rig.log.first_seq(a), Seq(501));
    let mut after = rig.crash(0);
    assert_eq!(after.log.readers().map(|(_, _, name)| name).collect::<Vec<_>>(), ["up"]);
    assert_eq!(after.log.reader(a, "new"), Ok(gone), "its id is free");
    assert_eq!(after.log.cursor(gone), Seq(501), "a new reader starts at the oldest kept");
}

#[test]
fn a_checkpoint_larger_than_a_segment_is_found_again() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(100_000, Overflow::DropOldest));
    let table = rig.log.table("t").expect("a table");
    for n in 0..400u32 {
        let mut tx = Transaction::new();
        tx.put(table, n.to_le_bytes().to_vec(), vec![n as u8; 1_000]);
        rig.log.commit(rig.now, tx).expect("room");
        rig.settle();
    }
    let entries = rig.log.table_entries(table).clone();
    for n in 0..10_000 {
        rig.append(a, &numbered(n, 200)).expect("room");
        rig.pass(Duration::from_micros(300));
        rig.step();
        if n % 100 == 0 {
            rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
        }
    }
    rig.settle();
    for seed in 0..5 {
        let after = rig.crash(seed);
        assert_eq!(**after.log.table_entries(table), *entries);
        assert_eq!(after.log.next_seq(a), Seq(10_001));
    }
    let kept = rig.disk.list().expect("a list").len() * (64 << 10);
    assert!(kept < 4_000_000, "{kept} bytes on disk although all but 500 KB may go");
    rig.log.shut_down(rig.now);
    rig.settle();
    assert!(rig.crash(9).recovery.clean);
}

#[test]
fn a_large_store_opens_by_its_footers() {
    let mut options = small();
    options.segment_bytes = 256 << 10;
    options.max_frame_bytes = 64 << 10;
    options.group_bytes = 32 << 10;
    let mut rig = Rig::new(options);
    let a = rig.stream("a", keep_all());
    let b = rig.stream("b", keep_all());
    for n in 0..100_000u64 {
        let stream = if n % 20 == 0 { b } else { a };
        rig.append(stream, &numbered(n, 150)).expect("room");
        if n % 100 == 0 {
            rig.pass(Duration::from_millis(1));
            rig.step();
        }
    }
    rig.settle();
    let total = rig.log.status().disk_bytes;
    assert!(total > 16 << 20);
    let disk = rig.disk.crash(1);
    let mut after = Rig::on(disk.clone(), rig.log.options.clone());
    let read = after.recovery.bytes_read;
    assert!(read < 3 << 20, "{read} of {total} bytes read");
    assert!(after.recovery.scanned_segments <= 3, "{:?}", after.recovery);
    let before = disk.counts().read_bytes;
    for (stream, from) in [(a, 50_001), (b, 2_501), (a, 7), (b, 4_999)] {
        let got = after.read_from_once(stream, Seq(from));
        assert_eq!(got, Seq(from));
    }
    let read = disk.counts().read_bytes - before;
    assert!(read < 2 << 20, "{read} bytes for four records");
    assert_eq!(after.read_from(b, Seq(1), 100).len(), 5_000);
}

#[test]
fn a_stream_goes_on_where_it_was_with_a_new_configuration() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(10, Overflow::Reject));
    assert!(rig.append(a, b"too much").is_err());
    assert_eq!(rig.stream("a", keep_all()), a);
    rig.append(a, b"fits").expect("room");
    rig.settle();
    let mut after = rig.crash(0);
    assert_eq!(after.log.status().streams[0].max_bytes, 1 << 40);
    assert_eq!(after.stream("b", keep_all()), StreamId(1));
    assert_eq!(after.stream("a", keep_all()), a);
}

#[test]
fn names_and_numbers_of_things_are_limited() {
    let mut rig = Rig::new(small());
    assert!(matches!(rig.log.stream("", keep_all()), Err(DefineError::NameLength { .. })));
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    assert!(matches!(rig.log.table(&long), Err(DefineError::NameLength { .. })));
    for n in 0..MAX_STREAMS {
        rig.stream(&format!("s{n}"), keep_all());
    }
    let error = rig.log.stream("more", keep_all()).expect_err("too many");
    assert_eq!(error, DefineError::TooMany { what: "streams", max: MAX_STREAMS });
    rig.settle();
    assert_eq!(rig.crash(0).log.streams().count(), MAX_STREAMS);
}

impl Rig {
    /// The first sequence that reading from `from` gives.
    fn read_from_once(&mut self, stream: StreamId, from: Seq) -> Seq {
        let limit = ReadLimit { records: 1, bytes: 1 };
        for _ in 0..100 {
            let mut got = None;
            let mut visit = |seq, _, _: RecordRef<'_>| got = Some(seq);
            match self.log.read(self.now, stream, from, limit, &mut visit) {
                ReadOutcome::Read { .. } => return got.expect("a record"),
                ReadOutcome::Fetching => self.step(),
                other => panic!("{other:?}"),
            }
        }
        panic!("too many disk reads for one record");
    }
}

#[test]
fn records_that_expired_before_a_restart_are_not_counted_as_lost_after_it() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(30_000, Overflow::DropOldest));
    let reader = rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 10);
    rig.log.advance(rig.now, reader, Seq(11));
    rig.settle();
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
    assert_eq!(rig.log.first_seq(a), Seq(11));
    fill(&mut rig, a, 5);
    let mut rig = rig.reopen();
    assert_eq!(rig.log.first_seq(a), Seq(11));
    fill(&mut rig, a, 200);
    let first = rig.log.losses().next().expect("the quota was reached").first;
    assert_eq!(first, Seq(11));
}
