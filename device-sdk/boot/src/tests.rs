//! Bytes frozen per version: tests/golden/flash. Do not change these files, nor this test's
//! expectations: bootloaders in the field, which are never replaced, read them. Whole upgrades with power
//! cuts are in `tidegate-agent`.

use embedded_storage::nor_flash::NorFlash;
use tidegate_device_sim::crypto::{Host, Key};
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::release;

use crate::*;

type Flash4 = Nor<4, 4_096>;

const STATE: State = State {
    phase: Phase::Trial,
    sides: 0b01,
    next_sides: 0b10,
    attempts: 2,
    ledger: Some(1),
    outcome: Outcome::Reverted,
    code: 19,
    reported: true,
    step: 0x0102_0304,
    pages: [1, 2, 3, 0x0405],
    sequence: 0x1122_3344_5566_7788,
    floor: 0x0102_0304_0506_0708,
    key_set: 9,
    manifest: *b"manifest",
};

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

const PARTS: [Part; 1] =
    [Part { id: 0, kind: Kind::Swapped, a: region(0x6000, 0x8000), b: region(0x8000, 0xb000) }];

const LAYOUT: Layout<'static> = Layout {
    state: region(0, 0x2000),
    keys: region(0x2000, 0x4000),
    ledgers: [region(0x4000, 0x5000), region(0x5000, 0x6000)],
    parts: &PARTS,
};

#[test]
fn the_frozen_state_is_written_and_read() {
    let frozen = include_bytes!("../../../tests/golden/flash/v1/state.bin");
    assert_eq!(STATE.write(7), *frozen);
    assert_eq!(State::read(frozen), Some((7, STATE)));
    for bit in 0..64 * 8 {
        let mut changed = *frozen;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(State::read(&changed), None, "bit {bit}");
    }
}

#[test]
fn the_frozen_ledger_is_written_and_read() {
    let mut nor = Flash4::new(11, 1);
    let flash = &mut Flash::new(&mut nor);
    let second = Some(&b"second"[..]);
    let taken = Taken { campaign: 7, from: 41, envelope: b"envelope", second };
    let mut ledger = Ledger::begin(flash, LAYOUT.ledgers[1], &taken).unwrap();
    let done = |page| PageDone { part: 1, page, travelled: 0x1234, crc: 0xdead_beef };
    ledger.add(flash, done(0)).unwrap();
    ledger.add(flash, done(1)).unwrap();
    let frozen = include_bytes!("../../../tests/golden/flash/v1/ledger.bin");
    assert_eq!(nor.look(0x5000, 1_400), frozen);
    let flash = &mut Flash::new(&mut nor);
    let mut ledger = Ledger::open(flash, LAYOUT.ledgers[1]).unwrap().unwrap();
    assert_eq!((ledger.campaign, ledger.from), (7, 41));
    let mut buffer = [0; Ledger::RELEASE];
    assert_eq!(ledger.release(flash, &mut buffer), Ok((&b"envelope"[..], second)));
    assert_eq!(ledger.next_done(flash), Ok(Some(done(0))));
    assert_eq!(ledger.next_done(flash), Ok(Some(done(1))));
    assert_eq!(ledger.next_done(flash), Ok(None));
    assert_eq!(Ledger::open(flash, LAYOUT.ledgers[0]), Ok(None));
}

#[test]
fn the_frozen_key_set_is_stored_and_counts_when_the_state_says_so() {
    let (root, release_key) = (Key::new(1), Key::new(3));
    let factory = release::key_set(1, 1, &[&release_key], 10, &root);
    let trust = Trust { roots: [root.public(); 2], factory: &factory };
    let second = release::key_set(2, 1, &[&release_key], 20, &root);
    let mut nor = Flash4::new(11, 1);
    let flash = &mut Flash::new(&mut nor);
    KeyStore::store(flash, &LAYOUT, &State::FACTORY, 2, &second).unwrap();
    let load = |flash: &mut Flash<'_, Flash4>, key_set| {
        let state = State { key_set, ..State::FACTORY };
        let set = KeyStore::load(flash, &LAYOUT, &trust, &state, &Host).unwrap();
        set.map(|set| (set.version, set.sequence_cap))
    };
    assert_eq!(load(flash, 0), Some((1, 10)), "stored, but the state does not say so");
    assert_eq!(load(flash, 2), Some((2, 20)));
    assert_eq!(load(flash, 3), None);
    // The third goes beside the second.
    let third = release::key_set(3, 1, &[&release_key], 30, &root);
    let state = State { key_set: 2, ..State::FACTORY };
    KeyStore::store(flash, &LAYOUT, &state, 3, &third).unwrap();
    assert_eq!((load(flash, 2), load(flash, 3)), (Some((2, 20)), Some((3, 30))));
    let frozen = include_bytes!("../../../tests/golden/flash/v1/keys.bin");
    assert_eq!(nor.look(0x2000, 256), frozen);
}

/// Thousands of records: each unit is erased in turn, and the newest counts after each.
#[test]
fn the_newest_state_counts_however_many_there_were() {
    let mut nor = Flash4::new(11, 1);
    let flash = &mut Flash::new(&mut nor);
    let mut log = StateLog::load(flash, &LAYOUT).unwrap();
    assert_eq!(*log.state(), State::FACTORY);
    for sequence in 1..1_000 {
        log.store(flash, &LAYOUT, State { sequence, ..STATE }).unwrap();
        let loaded = StateLog::load(flash, &LAYOUT).unwrap();
        assert_eq!(loaded.state().sequence, sequence);
    }
    assert!(nor.erases[0] <= 8 && nor.erases[1] <= 8, "64 records an erase");
}

#[test]
fn an_exchange_of_128_kb_erases_each_unit_of_the_state_a_few_times() {
    const LARGE: [Part; 1] = [Part {
        id: 0,
        kind: Kind::Swapped,
        a: region(0x6000, 0x2_6000),
        b: region(0x2_6000, 0x4_7000),
    }];
    let layout = Layout { parts: &LARGE, ..LAYOUT };
    let mut nor = Flash4::new(0x47, 1);
    let old = release::image(1, 0x2_0000);
    let new = release::image(2, 0x2_0000);
    nor.put(0x6000, &old);
    nor.put(0x2_6000, &new);
    let root = Key::new(1);
    let factory = release::key_set(1, 1, &[&Key::new(3)], 10, &root);
    let trust = Trust { roots: [root.public(); 2], factory: &factory };
    let flash = &mut Flash::new(&mut nor);
    let mut log = StateLog::load(flash, &layout).unwrap();
    let state =
        State { phase: Phase::Swapping, attempts: 1, pages: [32, 0, 0, 0], ..State::FACTORY };
    log.store(flash, &layout, state).unwrap();
    let started = start(&mut nor, &layout, &trust, &Host, &mut || ()).unwrap();
    assert_eq!((started.entry, started.trial), (0x6000, Some(0)));
    assert_eq!(nor.look(0x6000, new.len()), new);
    assert_eq!(nor.look(0x2_7000, old.len()), old);
    // Nobody confirms it.
    let started = start(&mut nor, &layout, &trust, &Host, &mut || ()).unwrap();
    assert_eq!((started.entry, started.trial), (0x6000, None));
    assert_eq!(nor.look(0x6000, old.len()), old);
    assert!(nor.erases[0] + nor.erases[1] <= 3, "{:?}", &nor.erases[..2]);
    assert!(nor.erases[6..].iter().all(|erases| *erases <= 3));
}

#[test]
fn a_layout_is_checked() {
    let check = |layout: Layout<'_>| layout.check(4_096, 8);
    assert_eq!(check(LAYOUT), Ok(()));
    assert_eq!(LAYOUT.check(16_384, 8), Err(LayoutError::Region(LAYOUT.state)));
    let overlapping = Layout { keys: region(0x1000, 0x3000), ..LAYOUT };
    assert_eq!(check(overlapping), Err(LayoutError::Overlap(LAYOUT.state, overlapping.keys)));
    let part = |id, a, b| Part { id, kind: Kind::Swapped, a, b };
    let small = [part(0, region(0x6000, 0x8000), region(0x8000, 0xa000))];
    let refused = check(Layout { parts: &small, ..LAYOUT });
    assert_eq!(refused, Err(LayoutError::Region(small[0].b)), "B has no page more");
    let named = [part(1, region(0x6000, 0x8000), region(0x8000, 0xb000))];
    assert_eq!(check(Layout { parts: &named, ..LAYOUT }), Err(LayoutError::Parts));
    assert_eq!(check(Layout { parts: &[], ..LAYOUT }), Err(LayoutError::Parts));
    let large = [part(0, region(0x6000, 0x10_6000), region(0x10_6000, 0x20_7000))];
    let refused = check(Layout { parts: &large, ..LAYOUT });
    assert_eq!(refused, Err(LayoutError::Journal { pages: 256, records: 176 }));
}

#[test]
fn a_flash_with_words_of_32_bytes_takes_records_and_ledgers() {
    let mut nor = Nor::<32, 8_192>::new(16, 1);
    let double = |from: u32, to: u32| region(2 * from, 2 * to);
    let parts =
        [Part { id: 0, kind: Kind::Swapped, a: double(0x6000, 0x8000), b: double(0x8000, 0xb000) }];
    let layout = Layout {
        state: double(0, 0x2000),
        keys: double(0x2000, 0x4000),
        ledgers: [double(0x4000, 0x5000), double(0x5000, 0x6000)],
        parts: &parts,
    };
    assert_eq!(layout.check(8_192, 32), Ok(()));
    nor.erase(0, 8_192).unwrap();
    let flash = &mut Flash::new(&mut nor);
    let mut log = StateLog::load(flash, &layout).unwrap();
    log.store(flash, &layout, STATE).unwrap();
    assert_eq!(*StateLog::load(flash, &layout).unwrap().state(), STATE);
    let taken = Taken { campaign: 7, from: 41, envelope: b"envelope", second: None };
    let mut ledger = Ledger::begin(flash, layout.ledgers[0], &taken).unwrap();
    let done = PageDone { part: 0, page: 0, travelled: 5, crc: 6 };
    ledger.add(flash, done).unwrap();
    ledger.add(flash, PageDone { page: 1, ..done }).unwrap();
    let mut ledger = Ledger::open(flash, layout.ledgers[0]).unwrap().unwrap();
    assert_eq!(ledger.next_done(flash), Ok(Some(done)));
    assert_eq!(ledger.next_done(flash), Ok(Some(PageDone { page: 1, ..done })));
    assert!(!nor.misused);
}
