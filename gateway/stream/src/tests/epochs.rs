//! Which epochs a store knows as its own. The files in tests/golden/log/v2 are frozen: do not
//! change them.

use super::damage::last_frame;
use super::*;
use crate::epochs::Epochs;

/// Of a former store, between that of a store made without a clock and that of its next life.
const FOREIGN: Epoch = Epoch(1_700_000_000);
const LISTED: &[u8] = include_bytes!("../../../../tests/golden/log/v2/checkpoint-epochs.bin");

fn open(disk: CrashDisk, unix_ms: i64) -> Rig {
    let now = any_instant();
    let (log, recovery) = Log::open(&disk, small(), now, unix_ms, 0xfeed).expect("a store opens");
    Rig { disk, log, now, ms: unix_ms, recovery }
}

/// A store made without a clock, with records, and its epoch.
fn made_without_clock() -> (Rig, Epoch) {
    let mut rig = open(CrashDisk::new(), 5_000);
    let a = rig.stream("a", keep_all());
    for n in 0..20 {
        rig.append(a, &numbered(n, 100)).expect("room");
        rig.settle();
    }
    let epoch = rig.log.epoch();
    assert!(epoch < FOREIGN);
    (rig, epoch)
}

/// As after a power cut that left a torn write behind.
fn torn(rig: &Rig) -> CrashDisk {
    let (name, at) = last_frame(rig);
    let disk = rig.disk.crash(5);
    disk.damage(&name, at + 70, 1);
    disk
}

#[test]
fn an_epoch_between_two_of_the_store_is_not_its_own() {
    let (rig, low) = made_without_clock();
    let mut after = open(torn(&rig), START_MS);
    assert!(after.recovery.new_epoch);
    let a = after.stream("a", keep_all());
    for life in 0..3 {
        let epoch = after.log.epoch();
        let own = [low, epoch].map(|epoch| after.log.has_had(epoch));
        assert_eq!(own, [true; 2], "life {life}");
        assert!(!after.log.has_had(FOREIGN), "life {life}");
        assert!(!after.log.has_had(Epoch(epoch.0 + 1)), "life {life}");
        after.append(a, b"more").expect("room");
        after.settle();
        if life == 1 {
            after.log.shut_down(after.now);
            after.settle();
        }
        after = open(after.disk.after_kill(), START_MS);
    }
}

#[test]
fn the_list_outlives_the_segments_that_its_epochs_were_written_to() {
    let (rig, low) = made_without_clock();
    let mut after = open(torn(&rig), START_MS);
    let a = after.stream("a", config(64 << 10, Overflow::DropOldest));
    for n in 0..4_000 {
        after.append(a, &numbered(n, 200)).expect("room");
        after.settle();
    }
    let after = open(after.disk.after_kill(), START_MS);
    assert!(after.log.first_seq(a) > Seq(1_000));
    assert!(after.log.has_had(low) && !after.log.has_had(FOREIGN));
}

#[test]
fn a_store_of_a_program_without_the_list_knows_it_from_then_on() {
    let (mut rig, low) = made_without_clock();
    // What that program wrote last: a checkpoint without the section.
    rig.log.state.epochs = Epochs::default();
    rig.log.begin_checkpoint(false);
    for payload in [b"with it", b"the end"] {
        rig.append(StreamId(0), payload).expect("room");
        rig.settle();
    }
    let after = open(torn(&rig), START_MS);
    assert!(after.recovery.new_epoch);
    let older = Epoch(low.0 - 1);
    let own = [older, low, after.log.epoch()].map(|epoch| after.log.has_had(epoch));
    assert_eq!(own, [true; 3], "nobody knows what came before");
    assert!(!after.log.has_had(FOREIGN));
}

fn state() -> crate::state::State {
    let mut state = crate::state::State::default();
    state.epochs.forget_through(Epoch(1_699_999_999));
    for epoch in [1_700_000_000, 1_700_000_001, 1_800_000_000] {
        state.epochs.note(Epoch(epoch));
    }
    state
}

#[test]
fn a_list_that_was_written_once_is_read_and_written_the_same_today() {
    let (read, broken) = crate::state::State::decode(LISTED, &LogOptions::default());
    assert_eq!(broken, 0);
    assert_eq!(read.epochs, state().epochs);
    assert_eq!(state().encode(), LISTED);
}

#[test]
#[ignore = "writes the file once; never replaces it"]
fn write_the_file_of_this_version() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/log/v2/checkpoint-epochs.bin");
    if std::fs::metadata(path).is_ok_and(|found| found.len() > 0) {
        return;
    }
    std::fs::write(path, state().encode()).expect("written");
}
