//! Damage to the last records told apart from a torn write.

use super::damage::last_frame;
use super::*;

const PAUSE: Duration = Duration::from_secs(10);

/// Twenty records, all acknowledged, and where the last frame is.
fn twenty() -> (Rig, StreamId, (String, usize)) {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for n in 0..20 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
    }
    let last = last_frame(&rig);
    (rig, a, last)
}

#[test]
fn damage_to_the_last_records_is_told_with_its_range_once_the_log_was_quiet() {
    for quiet in [false, true] {
        let (mut rig, a, (name, at)) = twenty();
        if quiet {
            rig.pass(PAUSE);
            rig.step();
        }
        let disk = rig.disk.crash(5);
        disk.damage(&name, at + 70, 1);
        let mut after = Rig::on(disk, small());
        let losses: Vec<_> = after.log.losses().map(|l| (l.first, l.last, l.reason)).collect();
        if quiet {
            assert_eq!(losses, [(Seq(20), Seq(20), LossReason::Damaged)]);
            assert_eq!(after.log.next_seq(a), Seq(21));
            assert_eq!(after.recovery.torn_bytes, 0);
        } else {
            assert_eq!(losses, []);
            assert!(after.recovery.new_epoch, "nobody knows whether it was acknowledged");
            assert!(after.recovery.torn_bytes > 0);
        }
        assert_eq!(after.payloads(a).len(), 19);
    }
}

#[test]
fn damage_before_a_mark_is_told_for_all_streams_that_had_records() {
    let mut rig = Rig::new(small());
    let (a, b) = (rig.stream("a", keep_all()), rig.stream("b", keep_all()));
    rig.settle();
    rig.append(b, b"seldom").expect("room");
    rig.settle();
    let (name, at) = last_frame(&rig);
    for n in 0..20 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
    }
    rig.pass(PAUSE);
    rig.step();
    let disk = rig.disk.crash(5);
    disk.damage(&name, at + 70, 1);
    let after = Rig::on(disk, small());
    let losses: Vec<_> = after.log.losses().map(|l| (l.stream, l.first, l.last)).collect();
    assert_eq!(losses, [(b, Seq(1), Seq(1))]);
    assert_eq!((after.log.next_seq(a), after.log.next_seq(b)), (Seq(21), Seq(2)));
}

#[test]
fn a_pause_costs_one_mark_and_no_more() {
    let (mut rig, a, _) = twenty();
    for _ in 0..5 {
        let before = rig.log.status().groups;
        assert_eq!(rig.log.poll_timeout(), Some(rig.now + PAUSE));
        rig.pass(PAUSE - Duration::from_millis(1));
        rig.step();
        assert_eq!(rig.log.status().groups, before);
        rig.pass(Duration::from_millis(1));
        rig.step();
        assert_eq!(rig.log.status().groups, before + 1);
        for _ in 0..100 {
            rig.pass(PAUSE);
            rig.step();
            assert_eq!(rig.log.poll_timeout(), None);
        }
        assert_eq!(rig.log.status().groups, before + 1);
        rig.append(a, b"more").expect("room");
        rig.settle();
    }
}

#[test]
fn no_mark_is_written_when_cursors_say_the_same() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let fast = rig.log.reader(a, "fast").expect("a reader");
    rig.log.reader(a, "slow").expect("a reader");
    for n in 0..20 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
        rig.log.advance(rig.now, fast, Seq(n + 2));
        rig.settle();
    }
    let before = rig.log.status().groups;
    rig.pass(PAUSE);
    rig.step();
    assert_eq!(rig.log.status().groups, before);
    assert_eq!(rig.log.poll_timeout(), None);
}

#[test]
fn a_store_that_ended_without_a_mark_gets_it_after_the_restart() {
    let (rig, a, (name, at)) = twenty();
    let mut rig = rig.crash(1);
    rig.pass(PAUSE);
    rig.step();
    let disk = rig.disk.crash(2);
    disk.damage(&name, at + 70, 1);
    let after = Rig::on(disk, small());
    assert_eq!(
        after.log.losses().map(|l| (l.first, l.last)).collect::<Vec<_>>(),
        [(Seq(20), Seq(20))]
    );
    assert_eq!(after.log.next_seq(a), Seq(21));
}

#[test]
fn no_power_cut_while_a_mark_is_written_loses_anything() {
    let (rig, a, _) = twenty();
    let operations = rig.disk.operations();
    for cut in 1..8 {
        for seed in 0..8 {
            let (mut rig, _, _) = twenty();
            assert_eq!(rig.disk.operations(), operations, "the runs are the same");
            rig.disk.crash_at(operations + cut);
            rig.pass(PAUSE);
            rig.step();
            rig.append(a, b"after").expect("room");
            rig.settle();
            let mut after = rig.crash(seed);
            let read = after.payloads(a);
            assert!((20..=21).contains(&read.len()), "cut {cut}, seed {seed}: {read:?}");
            assert!(after.log.losses().next().is_none(), "cut {cut}, seed {seed}");
            after.append(a, b"more").expect("room");
            after.settle();
            assert_eq!(after.crash(seed).read_all(a).len(), read.len() + 1);
        }
    }
}
