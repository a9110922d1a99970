//! A gateway, or a broker, that means ill. Each sentence that is promised about it is a test.

use std::vec::Vec;

use tidegate_boot::{Outcome, Phase, State, StateLog, Trust};
use tidegate_device_sim::crypto::Key;
use tidegate_device_sim::gateway::{Gateway, Served};
use tidegate_device_sim::release::{self, manifest};
use tidegate_wire::manifest::{Devices, Manifest, Needs, Policy};
use tidegate_wire::message::{self, Command, Message, Order, Refusal, Verdict};
use tidegate_wire::sign1::Purpose;

use super::world::{
    DEVICE, How, OTHER, RELEASE, ROOT, Ran, SWAPPED, World, behaving, entry, one, roots, served,
};
use crate::{Budget, Millis, Next, Obedience};

const DAY: u64 = 24 * 3_600 * 1_000;

fn old() -> Vec<u8> {
    behaving(b"GOOD", 1, 9_000)
}

fn new() -> Vec<u8> {
    behaving(b"GOOD", 2, 9_000)
}

fn device(served: Served) -> World<'static> {
    let mut world = World::new(&SWAPPED, &old(), served);
    world.images.push(new());
    world
}

/// The device refuses it, and has not touched its flash.
fn refused(world: &mut World<'_>, why: Refusal) {
    let before = world.nor.operations;
    world.run();
    assert_eq!(world.gateway.answers.last(), Some(&Verdict::Reject(why)));
    assert_eq!(world.nor.operations, before, "{why}: something was written");
    assert_eq!(world.gateway.requests, 0);
}

fn refused_manifest(why: Refusal, change: impl Fn(Manifest<'_>) -> Served) {
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    refused(&mut device(change(manifest(5, &[component]))), why);
}

fn signed_as_it_is(manifest: &Manifest<'_>) -> Served {
    served(manifest, Vec::from([new()]))
}

#[test]
fn it_can_withhold_an_update_and_the_device_goes_on_and_asks_less_and_less() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    world.gateway.served.as_mut().unwrap().entries.clear();
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    while world.now < DAY {
        let quiet = world.exchange(&mut agent).unwrap();
        match agent.poll(Millis(world.now), &mut world.nor).unwrap() {
            Next::Wait(Some(until)) if quiet => world.now = until.0.max(world.now + 1),
            Next::Wait(_) | Next::Work => world.now += 1,
            Next::Restart => panic!("a restart"),
        }
    }
    assert!((20..=300).contains(&world.gateway.requests), "{} in a day", world.gateway.requests);
    assert_eq!(world.state().phase, Phase::Idle);
}

#[test]
fn it_can_drop_reports_and_the_device_repeats_them_over_restarts() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    world.run();
    assert_eq!(world.state().outcome, Outcome::Confirmed);
    // As if "received" had been lost: the next start reports again.
    let layout = world.layout;
    let mut flash = tidegate_boot::Flash::new(&mut world.nor);
    let mut log = StateLog::load(&mut flash, &layout).unwrap();
    let state = State { reported: false, ..*log.state() };
    log.store(&mut flash, &layout, state).unwrap();
    world.gateway.reports.clear();
    world.run();
    assert_eq!(world.gateway.reports.last().unwrap().phase, message::Phase::Confirmed);
    assert!(world.state().reported);
}

#[test]
fn it_cannot_run_unsigned_code() {
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let manifest = manifest(5, &components);
    let payload = release::written(&manifest);
    let purpose = Purpose::FirmwareManifest;
    for (envelope, who) in [
        (payload.clone(), "nobody"),
        (release::signed(&manifest, &Key::new(9)), "a stranger"),
        (release::signed(&manifest, &Key::new(ROOT)), "root, which signs key sets only"),
        (
            release::sealed(&payload, Purpose::FunctionPackage, &Key::new(RELEASE)),
            "the right key for another purpose",
        ),
        (
            {
                let mut envelope = release::sealed(&payload, purpose, &Key::new(RELEASE));
                let at = envelope.len() - 100;
                envelope[at] ^= 1;
                envelope
            },
            "the right key for something else",
        ),
    ] {
        let served = Served { envelope, ..signed_as_it_is(&manifest) };
        std::eprintln!("signed by {who}");
        refused(&mut device(served), Refusal::Signature);
    }
}

/// Even if it could write to the flash of the staged image: the bootloader looks once more.
#[test]
fn it_cannot_run_unsigned_code_by_changing_what_is_staged() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    assert_eq!(world.start_once(), Ran::Again);
    assert_eq!(world.state().phase, Phase::Staged);
    let mut staged = world.nor.look(0xc000, 9_000).to_vec();
    staged[4_000] ^= 1;
    world.nor.put(0xc000, &staged);
    world.run();
    let state = world.state();
    assert_eq!((state.outcome, state.code), (Outcome::Refused, Refusal::Content.code()));
    assert_eq!(world.gateway.reports.last().unwrap().phase, message::Phase::Failed);
    assert_eq!(world.nor.look(0x6000, 9_000), old());
}

/// Device at sequence 5, floor 4.
fn upgraded() -> World<'static> {
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let mut world = device(signed_as_it_is(&Manifest { floor: 4, ..manifest(5, &components) }));
    world.run();
    let state = world.state();
    assert_eq!((state.sequence, state.floor), (5, 4));
    world
}

#[test]
fn it_cannot_go_below_the_floor_nor_back_to_an_older_sequence() {
    let (component, bytes) = entry(0, How::Whole, &[], &old(), None);
    for (sequence, why) in [(3, Refusal::Floor), (4, Refusal::Sequence), (5, Refusal::Sequence)] {
        let mut world = upgraded();
        let components = [component];
        world.gateway =
            Gateway::new(served(&manifest(sequence, &components), Vec::from([bytes.clone()])));
        refused(&mut world, why);
    }
}

/// The record that asks the bootloader for an older release is not enough.
#[test]
fn it_cannot_go_below_the_floor_through_the_bootloader() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    assert_eq!(world.start_once(), Ran::Again);
    let layout = world.layout;
    let mut flash = tidegate_boot::Flash::new(&mut world.nor);
    let mut log = StateLog::load(&mut flash, &layout).unwrap();
    let state = State { floor: 6, sequence: 4, ..*log.state() };
    log.store(&mut flash, &layout, state).unwrap();
    world.run();
    let state = world.state();
    assert_eq!((state.outcome, state.code), (Outcome::Refused, Refusal::Floor.code()));
}

#[test]
fn the_floor_rises_only_with_the_confirmation() {
    let bad = behaving(b"HANG", 2, 9_000);
    let (component, bytes) = entry(0, How::Whole, &[], &bad, None);
    let components = [component];
    let manifest = Manifest { floor: 5, ..manifest(5, &components) };
    let mut world = device(served(&manifest, Vec::from([bytes])));
    world.images.push(bad);
    world.run();
    let state = world.state();
    assert_eq!((state.outcome, state.floor, state.sequence), (Outcome::Reverted, 0, 0));
}

#[test]
fn it_cannot_cross_vendors_classes_and_devices() {
    refused_manifest(Refusal::Vendor, |m| signed_as_it_is(&Manifest { vendor: [9; 16], ..m }));
    refused_manifest(Refusal::Class, |m| signed_as_it_is(&Manifest { class: [9; 16], ..m }));
    let others = [0x77; 32];
    let others = Devices::new(&others).unwrap();
    refused_manifest(Refusal::Device, |m| signed_as_it_is(&Manifest { devices: others, ..m }));
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let mine = Devices::new(&DEVICE).unwrap();
    let mut world =
        device(signed_as_it_is(&Manifest { devices: mine, ..manifest(5, &components) }));
    world.run();
    assert_eq!(world.state().sequence, 5);
}

#[test]
fn it_cannot_install_what_the_device_is_no_base_for_or_cannot_do() {
    refused_manifest(Refusal::Current, |m| signed_as_it_is(&Manifest { current: (1, 4), ..m }));
    let needs = Needs { capabilities: 1 << 40, boot_abi: 0 };
    refused_manifest(Refusal::Needs, |m| signed_as_it_is(&Manifest { needs, ..m }));
    let needs = Needs { capabilities: 0, boot_abi: 99 };
    refused_manifest(Refusal::Needs, |m| signed_as_it_is(&Manifest { needs, ..m }));
    let (delta, bytes) = entry(0, How::Delta, &new(), &old(), None);
    refused(&mut device(served(&manifest(5, &[delta]), Vec::from([bytes]))), Refusal::Component);
}

#[test]
fn it_cannot_install_what_has_expired_once_the_device_knows_the_time() {
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let manifest = Manifest { not_after: Some(1_000), ..manifest(5, &components) };
    let mut world = device(signed_as_it_is(&manifest));
    world.gateway.time = Some(1_001);
    refused(&mut world, Refusal::Expired);
    let mut world = device(signed_as_it_is(&manifest));
    world.run();
    assert_eq!(world.state().sequence, 5, "without a clock it is advice to the gateway");
}

/// The image of one component for another, or of another release.
#[test]
fn it_cannot_mix_components() {
    let model = release::image(3, 9_000);
    let (first, first_bytes) = entry(0, How::Whole, &[], &new(), None);
    let (second, second_bytes) = entry(1, How::Whole, &[], &model[..8_000], None);
    let components = [first, second];
    let manifest = manifest(5, &components);
    let another = behaving(b"GOOD", 8, 9_000);
    for entries in [
        Vec::from([model.clone(), second_bytes.clone()]),
        Vec::from([another, second_bytes]),
        Vec::from([first_bytes, new()[..8_000].to_vec()]),
    ] {
        never_staged(device(served(&manifest, entries)));
    }
}

/// The release is taken, and given up when it turns out wrong.
fn never_staged(mut world: World<'_>) {
    world.run();
    let last = world.gateway.reports.last().unwrap();
    assert_eq!((last.phase, last.code), (message::Phase::Failed, Refusal::Content.code()));
    assert!(!world.gateway.reports.iter().any(|report| report.phase == message::Phase::Staged));
    assert_eq!((world.state().phase, world.state().sequence), (Phase::Idle, 0));
    assert_eq!(world.nor.look(0x6000, 9_000), old());
}

#[test]
fn it_cannot_corrupt_an_image_silently() {
    for how in [How::Whole, How::Compressed, How::Delta] {
        let good = one(how, &old(), &new(), None);
        for at in [0, good.entries[0].len() / 2, good.entries[0].len() - 1] {
            let mut served = good.clone();
            served.entries[0][at] ^= 0x10;
            never_staged(device(served));
        }
    }
}

#[test]
fn it_cannot_make_a_device_restart_when_its_application_does_not_allow_it() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    agent.allow_restart(false);
    for _ in 0..3_000 {
        world.exchange(&mut agent).unwrap();
        let next = agent.poll(Millis(world.now), &mut world.nor).unwrap();
        assert_ne!(next, Next::Restart);
        world.gateway.say(&Message::Command(Command { campaign: 7, order: Order::Apply }));
        world.now += 1_000;
    }
    assert_eq!(world.state().phase, Phase::Idle, "not even a power cut starts it");
    assert_eq!(world.gateway.reports.last().unwrap().phase, message::Phase::Staged);
    agent.allow_restart(true);
    assert_eq!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
}

#[test]
fn it_cannot_say_when_where_only_the_application_may() {
    let apply = tidegate_wire::manifest::Apply::Ask;
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let policy = Policy { apply, ..Policy::default() };
    let mut world = device(signed_as_it_is(&Manifest { policy, ..manifest(5, &components) }));
    world.config = |config| config.obedience = Obedience::Application;
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    for _ in 0..500 {
        world.exchange(&mut agent).unwrap();
        world.gateway.say(&Message::Command(Command { campaign: 7, order: Order::Apply }));
        assert_ne!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
        world.now += 10;
    }
    agent.apply();
    assert_eq!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
}

#[test]
fn sizes_are_checked_before_anything_is_erased() {
    let large = release::image(1, 24_577);
    let (component, bytes) = entry(0, How::Whole, &[], &large, None);
    refused(&mut device(served(&manifest(5, &[component]), Vec::from([bytes]))), Refusal::Size);
    let (unknown, bytes) = entry(3, How::Whole, &[], &new(), None);
    refused(&mut device(served(&manifest(5, &[unknown]), Vec::from([bytes]))), Refusal::Component);
}

/// It serves what is wrong, again and again.
#[test]
fn it_cannot_wear_out_the_flash() {
    let mut served = one(How::Whole, &old(), &new(), None);
    served.entries[0][8_999] ^= 1;
    let mut world = device(served);
    world.config = |config| config.budget = Budget { erases: 40, tries: 1_000 };
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    let mut days = Vec::new();
    for day in 1..=3 {
        while world.now < day * DAY {
            world.exchange(&mut agent).unwrap();
            agent.poll(Millis(world.now), &mut world.nor).unwrap();
            world.gateway.offer();
            world.now += 20_000;
        }
        days.push(world.nor.erases.iter().sum::<u32>());
    }
    // The state is written to for each try, and a dropped ledger is erased.
    assert!(days[0] <= 40 + 20, "{days:?}");
    assert!(days[1] > days[0] && days[2] <= 3 * 60, "a day later there is a new budget: {days:?}");
    assert!(world.gateway.answers.contains(&Verdict::Reject(Refusal::Budget)));
}

#[test]
fn it_cannot_begin_more_releases_a_day_than_the_device_lets_it() {
    let mut served = one(How::Whole, &old(), &new(), None);
    served.entries[0][8_999] ^= 1;
    let mut world = device(served);
    world.config = |config| config.budget = Budget { erases: 10_000, tries: 3 };
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    while world.now < DAY {
        world.exchange(&mut agent).unwrap();
        agent.poll(Millis(world.now), &mut world.nor).unwrap();
        world.gateway.offer();
        world.now += 20_000;
    }
    let failed = |report: &&message::Report| report.phase == message::Phase::Failed;
    assert_eq!(world.gateway.reports.iter().filter(failed).count(), 3);
}

#[test]
fn it_cannot_use_keys_that_are_revoked_nor_bring_old_key_sets_back() {
    let root = Key::new(2);
    let (other, release_key) = (Key::new(OTHER), Key::new(RELEASE));
    // Set 2 revokes the first release key.
    let set = release::key_set(2, 1, &[&other], 1_000, &root);
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let manifest = manifest(5, &components);
    let mut world = device(Served { key_set: Some(set.clone()), ..signed_as_it_is(&manifest) });
    world.run();
    let refused_ = Verdict::Reject(Refusal::Signature);
    assert!(world.gateway.answers.iter().all(|answer| *answer == refused_));
    assert_eq!(world.state().key_set, 2);
    let old_set = release::key_set(1, 1, &[&release_key], 1_000, &root);
    let again = Served { key_set: Some(old_set), ..signed_as_it_is(&manifest) };
    world.gateway = Gateway::new(again);
    refused(&mut world, Refusal::KeySet);
    let forged = release::key_set(3, 1, &[&release_key], 1_000, &release_key);
    world.gateway = Gateway::new(Served { key_set: Some(forged), ..signed_as_it_is(&manifest) });
    refused(&mut world, Refusal::KeySet);
    let envelope = release::signed(&manifest, &other);
    world.gateway = Gateway::new(Served { envelope, ..signed_as_it_is(&manifest) });
    world.run();
    assert_eq!(world.state().sequence, 5);
}

/// The key is revoked while what it has signed is on its way.
#[test]
fn it_cannot_finish_a_release_whose_key_is_revoked_meanwhile() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    agent.allow_restart(false);
    for _ in 0..200 {
        world.exchange(&mut agent).unwrap();
        agent.poll(Millis(world.now), &mut world.nor).unwrap();
        world.now += 10;
    }
    assert_eq!(world.gateway.reports.last().unwrap().phase, message::Phase::Staged);
    let set = release::key_set(2, 1, &[&Key::new(OTHER)], 1_000, &Key::new(ROOT));
    world.gateway.served.as_mut().unwrap().key_set = Some(set);
    world.gateway.offer();
    for _ in 0..20 {
        world.exchange(&mut agent).unwrap();
        agent.allow_restart(true);
        assert_ne!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
    }
    let last = world.gateway.reports.last().unwrap();
    assert_eq!((last.phase, last.code), (message::Phase::Failed, Refusal::Signature.code()));
}

#[test]
fn two_signatures_are_two_where_the_key_set_wants_them() {
    let (first, other) = (Key::new(RELEASE), Key::new(OTHER));
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let manifest = manifest(5, &components);
    for (second, taken) in [
        (None, false),
        (Some(release::second(&manifest, &first)), false),
        (Some(release::second(&manifest, &other)), true),
    ] {
        let mut world = device(Served { second, ..signed_as_it_is(&manifest) });
        world.factory = release::key_set(1, 2, &[&first, &other], 1_000, &Key::new(ROOT));
        world.run();
        let expected = if taken { 5 } else { 0 };
        assert_eq!(world.state().sequence, expected);
        assert_eq!(world.gateway.answers[0] == Verdict::Accept, taken);
    }
}

#[test]
fn a_stolen_release_key_cannot_use_up_all_sequences() {
    let (component, _) = entry(0, How::Whole, &[], &new(), None);
    let components = [component];
    let manifest = manifest(u64::MAX, &components);
    refused(&mut device(signed_as_it_is(&manifest)), Refusal::SequenceCap);
}

/// On trial, and the gateway never answers: after its policy's time the device goes back.
#[test]
fn silence_during_a_trial_brings_back_what_ran_before_after_the_time_of_the_policy() {
    let mut world = device(one(How::Whole, &old(), &new(), None));
    assert_eq!(world.start_once(), Ran::Again);
    assert_eq!(world.boot().trial, Some(2));
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    agent.self_test(true);
    let begun = world.now;
    let mut out = [0; 512];
    loop {
        // Nobody hears it.
        while agent.poll_output(Millis(world.now), &mut world.nor, &mut out).unwrap().is_some() {}
        match agent.poll(Millis(world.now), &mut world.nor).unwrap() {
            Next::Wait(Some(until)) => world.now = until.0,
            Next::Wait(None) | Next::Work => panic!("it waits for nothing"),
            Next::Restart => break,
        }
    }
    assert_eq!(world.now - begun, DAY);
    world.run();
    let state = world.state();
    assert_eq!((state.outcome, state.code), (Outcome::Reverted, Refusal::Contact.code()));
}
