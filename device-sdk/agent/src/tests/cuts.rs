//! The power goes at every write and every erase.

use std::vec::Vec;

use tidegate_boot::{Outcome, Part, Phase};
use tidegate_device_sim::gateway::Gateway;
use tidegate_device_sim::random::Random;
use tidegate_device_sim::release;
use tidegate_wire::manifest::Side;
use tidegate_wire::message::Refusal;

use super::world::{EVERY_WAY, How, IN_PLACE, Ran, SWAPPED, World, behaving, entry, one, served};

struct Case {
    parts: &'static [Part],
    how: How,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Case {
    fn world(&self) -> World<'static> {
        let side = (self.parts[0].kind == tidegate_boot::Kind::InPlace).then_some(Side::B);
        let mut world =
            World::new(self.parts, &self.old, one(self.how, &self.old, &self.new, side));
        world.images.push(self.new.clone());
        world
    }

    /// An image that hangs goes back, another one stays.
    fn check(&self, world: &mut World<'_>, what: &str) {
        let good = &self.new[..4] == b"GOOD";
        let state = world.state();
        let outcome = if good { Outcome::Confirmed } else { Outcome::Reverted };
        assert_eq!((state.phase, state.outcome), (Phase::Idle, outcome), "{what}");
        assert_eq!(state.sequence, if good { 5 } else { 0 }, "{what}");
        let running = if good { &self.new } else { &self.old };
        let in_place = self.parts[0].kind == tidegate_boot::Kind::InPlace;
        let at = if in_place && good { 0xc000 } else { 0x6000 };
        assert_eq!(world.nor.look(at, running.len()), running, "{what}");
        assert!(
            world.gateway.reports.last().is_some_and(|report| report.phase.code() > 3),
            "{what}"
        );
    }
}

/// Every encoding with an image that stays, and one that goes back.
fn cases(parts: &'static [Part]) -> Vec<Case> {
    let stays = EVERY_WAY.map(|how| (how, b"GOOD"));
    let back = (How::Whole, b"HANG");
    let cases = stays.into_iter().chain([back]).map(|(how, ends)| {
        let old = behaving(b"GOOD", 1, 8_000);
        let mut new = release::changed(&old, 2);
        new.extend(release::image(3, 900));
        new[..4].copy_from_slice(ends);
        Case { parts, how, old, new }
    });
    cases.collect()
}

/// Writes and erases of an upgrade that is not disturbed.
fn operations(case: &Case) -> u64 {
    let mut world = case.world();
    world.run();
    case.check(&mut world, "undisturbed");
    world.nor.operations
}

fn cut_everywhere(parts: &'static [Part]) {
    let mut cuts = 0;
    for case in cases(parts) {
        for at in 0..operations(&case) {
            let mut world = case.world();
            world.nor.reseed(at);
            world.nor.cut_at(at);
            world.run();
            case.check(&mut world, &std::format!("{:?}, cut at {at}", case.how));
            cuts += 1;
        }
    }
    assert!(cuts > 200, "{cuts}");
}

#[test]
fn with_exchange_a_power_cut_at_every_write_and_erase_ends_in_a_whole_image_and_the_upgrade_completes()
 {
    cut_everywhere(&SWAPPED);
}

#[test]
fn in_place_a_power_cut_at_every_write_and_erase_ends_in_a_whole_image_and_the_upgrade_completes() {
    cut_everywhere(&IN_PLACE);
}

/// Cuts that follow each other, each where the one before has led to.
#[test]
fn several_power_cuts_in_a_row_end_in_a_whole_image_too() {
    let mut random = Random::new(5);
    let cases: Vec<Case> = cases(&SWAPPED).into_iter().chain(cases(&IN_PLACE)).collect();
    for round in 0..1_000 {
        let case = &cases[round % cases.len()];
        let mut world = case.world();
        world.nor.reseed(round as u64);
        let mut starts = 0;
        for _ in 0..1 + random.below(6) {
            let next = world.nor.operations + random.below(120) as u64;
            world.nor.cut_at(next);
            while !world.nor.is_dead() && starts < 60 {
                starts += 1;
                if world.start_once() != Ran::Again {
                    break;
                }
            }
            world.nor.power_on();
        }
        world.run();
        case.check(&mut world, &std::format!("round {round}"));
    }
}

/// A record of a half step is torn and reads right once; then the power goes again in the half step that
/// follows from it, and the record reads wrong.
#[test]
fn nothing_rests_on_a_record_of_the_exchange_that_may_be_torn() {
    let case = &cases(&SWAPPED)[3];
    let mut undisturbed = case.world();
    assert_eq!(undisturbed.start_once(), Ran::Again);
    let begins = undisturbed.nor.operations;
    undisturbed.boot();
    let ends = undisturbed.nor.operations;
    for at in begins..ends {
        for seed in 0..12 {
            let mut world = case.world();
            world.nor.reseed(at * 100 + seed);
            world.nor.cut_at(at);
            while world.start_once() != Ran::PowerLost {}
            let next = world.nor.operations + seed % 4;
            world.nor.cut_at(next);
            world.start_once();
            world.nor.power_on();
            world.run();
            case.check(&mut world, &std::format!("cut at {at}, seed {seed}"));
        }
    }
}

/// The record of the confirmation is torn and reads right once; the next release must not erase the way back
/// before that is sure.
#[test]
fn the_way_back_is_not_erased_on_a_confirmation_that_may_be_torn() {
    let case = &cases(&SWAPPED)[0];
    let third = behaving(b"GOOD", 9, 8_000);
    let (component, bytes) = entry(0, How::Whole, &[], &third, None);
    let release = served(&release::manifest(6, &[component]), Vec::from([bytes]));
    for seed in 0..400u64 {
        let mut world = case.world();
        world.images.push(third.clone());
        assert_eq!(world.start_once(), Ran::Again);
        world.boot();
        world.nor.reseed(seed);
        // The next start counts down, then confirms.
        let confirmation = world.nor.operations + 1;
        world.nor.cut_at(confirmation);
        assert_eq!(world.start_once(), Ran::PowerLost);
        world.gateway = Gateway::new(release.clone());
        // The new release is under way when the power goes once more.
        let next = world.nor.operations + 1 + seed % 60;
        world.nor.cut_at(next);
        for _ in 0..3 {
            if world.start_once() == Ran::PowerLost {
                break;
            }
        }
        world.nor.power_on();
        // As often as a trial may begin, and once more.
        for _ in 0..4 {
            let started = world.boot();
            world.running(&started);
        }
        for _ in 0..5 {
            world.gateway.offer();
            world.run();
        }
        let state = world.state();
        // The starts above may have used up those of the new release.
        let used_up = state.outcome == Outcome::Reverted && state.code == Refusal::Attempts.code();
        assert!(state.sequence == 6 || used_up, "seed {seed}: {state:?}");
        assert_eq!(state.phase, Phase::Idle, "seed {seed}");
    }
}

/// Two components: one is exchanged, one runs in place.
#[test]
fn a_bundle_is_all_or_nothing_at_every_power_cut() {
    let old = behaving(b"GOOD", 1, 6_000);
    let model = release::image(7, 4_500);
    for ends in [b"GOOD", b"HANG"] {
        let new = behaving(ends, 2, 6_000);
        let (first, first_bytes) = entry(0, How::Whole, &[], &new, None);
        let (second, second_bytes) = entry(1, How::Compressed, &[], &model, None);
        let components = [first, second];
        let manifest = release::manifest(5, &components);
        let world = || {
            let entries = std::vec![first_bytes.clone(), second_bytes.clone()];
            let mut world = World::new(&SWAPPED, &old, served(&manifest, entries));
            world.images.push(new.clone());
            world
        };
        let mut undisturbed = world();
        undisturbed.run();
        for at in 0..undisturbed.nor.operations {
            let mut world = world();
            world.nor.cut_at(at);
            world.run();
            let state = world.state();
            let good = ends == b"GOOD";
            assert_eq!(
                (state.sequence, state.sides),
                if good { (5, 0b10) } else { (0, 0) },
                "{at}"
            );
            let running = if good { &new } else { &old };
            assert_eq!(world.nor.look(0x6000, running.len()), running, "cut at {at}");
        }
    }
}

#[test]
fn a_transfer_goes_on_where_the_power_went() {
    for how in EVERY_WAY {
        let old = behaving(b"GOOD", 1, 18_000);
        let mut new = behaving(b"GOOD", 9, 24_000);
        new[9_000..20_000].copy_from_slice(&old[1_000..12_000]);
        let undisturbed = one(how, &old, &new, None).entries[0].len();
        let mut world = World::new(&SWAPPED, &old, one(how, &old, &new, None));
        world.images.push(new);
        // Once in each page.
        let mut cut = 40;
        while world.state().sequence == 0 && world.nor.operations < 200 {
            world.nor.cut_at(cut);
            cut += 19;
            world.start_once();
        }
        world.nor.power_on();
        world.run();
        assert_eq!(world.state().sequence, 5);
        let sent = world.gateway.sent;
        assert!(sent < 2 * undisturbed + 20_000, "{how:?}: {sent} bytes for {undisturbed}");
    }
}
