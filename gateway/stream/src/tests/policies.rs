//! Quotas of records, ages, clocks that cannot be trusted, streams without readers, cursors.

use super::keeping::fill;
use super::*;

const HOUR_MS: i64 = 3_600_000;
const HOUR: Duration = Duration::from_secs(3600);

fn first_and_losses(rig: &Rig, stream: StreamId) -> (Seq, Vec<(Seq, Seq, LossReason)>) {
    let losses = rig.log.losses().map(|loss| (loss.first, loss.last, loss.reason)).collect();
    (rig.log.first_seq(stream), losses)
}

#[test]
fn unread_records_go_at_their_highest_age_and_the_ledger_says_so() {
    let mut rig = Rig::new(small());
    let aged = StreamConfig { max_age: Some(HOUR), ..config(1 << 40, Overflow::Block) };
    let a = rig.stream("a", aged);
    let reader = rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 500);
    rig.log.advance(rig.now, reader, Seq(101));
    rig.settle();
    rig.log.trim(rig.now, WallClock::Trusted(START_MS + HOUR_MS - 1));
    assert!(rig.log.first_seq(a) <= Seq(101), "only what was read may go");
    assert_eq!(rig.log.losses().count(), 0);
    rig.log.trim(rig.now, WallClock::Trusted(START_MS + HOUR_MS + 1_000));
    let expected = (Seq(501), vec![(Seq(101), Seq(500), LossReason::Expired)]);
    assert_eq!(first_and_losses(&rig, a), expected);
    assert_eq!(rig.log.cursor(reader), Seq(501));
    rig.settle();
    let after = rig.crash(3);
    assert_eq!(first_and_losses(&after, a), expected);
    assert_eq!(after.log.status().streams[0].lost_records, 400);
}

#[test]
fn nothing_goes_by_time_while_the_clock_is_not_trusted() {
    let mut rig = Rig::new(small());
    let kept =
        StreamConfig { retain: HOUR, max_age: Some(HOUR), ..config(1 << 40, Overflow::Block) };
    let a = rig.stream("a", kept);
    let reader = rig.log.reader(a, "up").expect("a reader");
    let at_once = rig.stream("b", config(1 << 40, Overflow::Block));
    let other = rig.log.reader(at_once, "up").expect("a reader");
    fill(&mut rig, a, 100);
    fill(&mut rig, at_once, 100);
    rig.log.advance(rig.now, reader, Seq(51));
    rig.log.advance(rig.now, other, Seq(101));
    rig.settle();
    rig.log.trim(rig.now, WallClock::Untrusted(rig.ms + 1_000 * HOUR_MS));
    assert_eq!(first_and_losses(&rig, a), (Seq(1), vec![]));
    assert_eq!(rig.log.first_seq(at_once), Seq(101), "retain = 0 needs no clock");
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 2 * HOUR_MS));
    assert_eq!(first_and_losses(&rig, a).0, Seq(101));
}

#[test]
fn a_time_that_cannot_be_right_counts_from_when_a_trusted_clock_first_saw_the_record() {
    let (before_2026, future) = (5_000, START_MS + 900 * HOUR_MS);
    for stamp in [before_2026, future] {
        let mut rig = Rig::new(small());
        let a = rig.stream("a", StreamConfig { max_age: Some(HOUR), ..keep_all() });
        let append = |rig: &mut Rig| {
            rig.log.append(rig.now, a, &record(stamp, &numbered(1, 100)).as_ref()).expect("room");
            rig.settle();
        };
        append(&mut rig);
        rig.log.trim(rig.now, WallClock::Untrusted(START_MS + 500 * HOUR_MS));
        rig.log.trim(rig.now, WallClock::Trusted(START_MS));
        rig.log.trim(rig.now, WallClock::Trusted(START_MS + HOUR_MS - 1));
        assert_eq!(rig.log.first_seq(a), Seq(1), "stamped {stamp}");
        // Another of the kind joins the chunk, which lives as long as its newest.
        append(&mut rig);
        rig.log.trim(rig.now, WallClock::Trusted(START_MS + HOUR_MS));
        assert_eq!(rig.log.first_seq(a), Seq(1), "stamped {stamp}");
        // After a restart it counts anew.
        let mut rig = rig.reopen();
        for (at, first) in [(2, 1), (3, 3)] {
            rig.log.trim(rig.now, WallClock::Trusted(START_MS + at * HOUR_MS));
            assert_eq!(rig.log.first_seq(a), Seq(first), "stamped {stamp}, after {at} hours");
        }
    }
}

#[test]
fn a_record_stamped_by_an_unset_clock_after_a_restart_is_not_as_old_as_those_before_it() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", StreamConfig { max_age: Some(HOUR), ..keep_all() });
    let append = |rig: &mut Rig, stamp| {
        rig.log.append(rig.now, a, &record(stamp, &numbered(1, 100)).as_ref()).expect("room");
        rig.settle();
    };
    append(&mut rig, START_MS);
    // Off for a day; the board has no battery.
    let mut rig = rig.crash(1);
    append(&mut rig, 5_000);
    let day = START_MS + 24 * HOUR_MS;
    for (after, first) in [(1, 1), (HOUR_MS - 1, 1), (HOUR_MS + 1, 3)] {
        rig.log.trim(rig.now, WallClock::Trusted(day + after));
        assert_eq!(rig.log.first_seq(a), Seq(first), "{after} ms after the clock was set");
    }
}

#[test]
fn a_quota_of_records_is_kept_to_the_record() {
    let mut rig = Rig::new(small());
    let counted = StreamConfig { max_records: Some(100), ..keep_all() };
    let a = rig.stream("a", counted);
    let reader = rig.log.reader(a, "up").expect("a reader");
    for n in 0..1_000 {
        rig.append(a, &numbered(n, 50)).expect("room");
        rig.settle();
        let status = rig.log.status().streams.remove(0);
        assert!(status.records <= 100, "{status:?}");
        assert_eq!(status.records, (n + 1).min(100));
    }
    let expected = (Seq(901), vec![(Seq(1), Seq(900), LossReason::Quota)]);
    assert_eq!(first_and_losses(&rig, a), expected);
    assert_eq!(rig.log.cursor(reader), Seq(901));
    rig.settle();
    let mut after = rig.crash(7);
    assert_eq!(first_and_losses(&after, a), expected);
    assert_eq!(after.payloads(a).len(), 100);
    assert_eq!(after.stream("a", counted), a);
    // What a reader has passed goes first and is no loss.
    after.log.advance(after.now, reader, Seq(951));
    after.settle();
    for n in 0..50 {
        after.append(a, &numbered(n, 50)).expect("room");
        after.settle();
    }
    assert_eq!(first_and_losses(&after, a).1, expected.1);
    assert_eq!(after.log.first_seq(a), Seq(951));
}

#[test]
fn a_quota_of_records_rejects_until_readers_have_passed() {
    let mut rig = Rig::new(small());
    let counted = StreamConfig { max_records: Some(10), ..config(1 << 40, Overflow::Reject) };
    let a = rig.stream("a", counted);
    let reader = rig.log.reader(a, "up").expect("a reader");
    for n in 0..10 {
        rig.append(a, &numbered(n, 50)).expect("room");
    }
    let error = rig.append(a, b"x").expect_err("ten are the most");
    let text = "stream \"a\" is full (10 of 10 records): wait for its readers, raise max_records \
                or set overflow = \"drop-oldest\"";
    assert_eq!(error.to_string(), text);
    rig.settle();
    rig.log.advance(rig.now, reader, Seq(4));
    assert!(rig.append(a, b"x").is_err(), "the cursor is not durable");
    rig.settle();
    let mut three = Transaction::new();
    (0..3).for_each(|_| three.append(a, record(rig.ms, b"x")));
    rig.log.commit(rig.now, three.clone()).expect("three have been passed");
    assert!(rig.log.commit(rig.now, three).is_err());
    assert_eq!(first_and_losses(&rig, a), (Seq(4), vec![]));
}

#[test]
fn a_stream_without_readers_keeps_its_records_when_the_clock_jumps() {
    let mut rig = Rig::new(small());
    let day = StreamConfig { retain: 24 * HOUR, ..config(200_000, Overflow::DropOldest) };
    let a = rig.stream("dead-letters", day);
    fill(&mut rig, a, 100);
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1_000_000 * HOUR_MS));
    assert_eq!(first_and_losses(&rig, a), (Seq(1), vec![]));
    // Its quota still holds, and the ledger says so.
    fill(&mut rig, a, 2_000);
    let (first, losses) = first_and_losses(&rig, a);
    assert_eq!(losses, [(Seq(1), Seq(first.0 - 1), LossReason::Quota)]);
    // Its highest age too.
    rig.stream("dead-letters", StreamConfig { max_age: Some(HOUR), ..day });
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1_000_000 * HOUR_MS));
    let (first, losses) = first_and_losses(&rig, a);
    assert_eq!(first, Seq(2_101));
    assert_eq!(losses.last().map(|loss| (loss.1, loss.2)), Some((Seq(2_100), LossReason::Expired)));
}

#[test]
fn a_cursor_stays_within_its_stream() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", StreamConfig { max_records: Some(50), ..keep_all() });
    let reader = rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 80);
    assert_eq!(rig.log.first_seq(a), Seq(31));
    for (to, counts) in [(1_000, 81), (40, 40), (3, 31), (81, 81)] {
        rig.log.advance(rig.now, reader, Seq(to));
        assert_eq!(rig.log.cursor(reader), Seq(counts), "moved to {to}");
        let mut tx = Transaction::new();
        tx.advance(reader, Seq(to));
        rig.log.commit(rig.now, tx).expect("room");
        assert_eq!(rig.log.cursor(reader), Seq(counts), "moved to {to}");
    }
    let mut tx = Transaction::new();
    tx.append(a, record(rig.ms, b"its own"));
    tx.advance(reader, Seq(82));
    rig.log.commit(rig.now, tx).expect("room");
    assert_eq!(rig.log.cursor(reader), Seq(82), "a commit may pass its own records");
    rig.settle();
    let after = rig.crash(1);
    assert_eq!((after.log.cursor(reader), after.log.next_seq(a)), (Seq(82), Seq(82)));
    assert_eq!(after.log.losses().count(), 1);
}

#[test]
fn a_reader_that_has_gone_back_is_given_what_it_had_passed() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", config(1 << 40, Overflow::Block));
    let reader = rig.log.reader(a, "up").expect("a reader");
    fill(&mut rig, a, 20);
    rig.log.advance(rig.now, reader, Seq(21));
    rig.settle();
    rig.log.advance(rig.now, reader, Seq(1));
    rig.log.trim(rig.now, WallClock::Trusted(rig.ms + 1));
    assert_eq!(rig.read_all(a).len(), 20);
}
