//! Upgrades as they should go.

use tidegate_boot::{Outcome, Phase, Trust};
use tidegate_device_sim::release;
use tidegate_wire::manifest::{Apply, Manifest, Policy, Side};
use tidegate_wire::message::{self, Command, Message, Order, Refusal, Verdict};

use super::world::{
    EVERY_WAY, How, IN_PLACE, Ran, SWAPPED, World, behaving, entry, one, roots, served,
};
use crate::{Millis, Next};

fn phases(world: &World<'_>) -> std::vec::Vec<message::Phase> {
    world.gateway.reports.iter().map(|report| report.phase).collect()
}

#[test]
fn a_release_is_taken_tried_and_confirmed_in_every_encoding_and_both_kinds_of_parts() {
    let old = behaving(b"GOOD", 1, 18_000);
    let mut new = release::changed(&old, 2);
    new[..4].copy_from_slice(b"GOOD");
    for (parts, side) in [(&SWAPPED, None), (&IN_PLACE, Some(Side::B))] {
        for how in EVERY_WAY {
            let mut world = World::new(parts, &old, one(how, &old, &new, side));
            world.images.push(new.clone());
            world.run();
            let state = world.state();
            assert_eq!((state.phase, state.outcome), (Phase::Idle, Outcome::Confirmed), "{how:?}");
            assert_eq!((state.sequence, state.ledger, state.reported), (5, Some(0), true));
            assert_eq!(world.gateway.answers[0], Verdict::Accept);
            use message::Phase::{Accepted, Confirmed, Staged, Trial};
            assert_eq!(phases(&world), [Accepted, Staged, Trial, Confirmed]);
            let report = world.gateway.reports[3];
            assert_eq!((report.campaign, report.from, report.to, report.code), (7, 0, 5, 0));
            let at = if side.is_some() { 0xc000 } else { 0x6000 };
            assert_eq!(world.nor.look(at, new.len()), new, "{how:?}");
        }
    }
}

#[test]
fn one_release_follows_the_other_each_as_a_delta_of_the_one_before() {
    let mut running = behaving(b"GOOD", 1, 15_000);
    let (component, bytes) = entry(0, How::Whole, &[], &running, None);
    let served_ = served(&release::manifest(1, &[component]), std::vec![bytes]);
    let mut world = World::new(&SWAPPED, &running.clone(), served_);
    for sequence in 2..8 {
        let mut next = release::changed(&running, sequence);
        next[..4].copy_from_slice(b"GOOD");
        let (component, bytes) = entry(0, How::Delta, &running, &next, None);
        let travelling = bytes.len();
        let served = served(&release::manifest(sequence, &[component]), std::vec![bytes]);
        world.gateway = tidegate_device_sim::gateway::Gateway::new(served);
        world.images = std::vec![running.clone(), next.clone()];
        world.run();
        assert_eq!(world.state().sequence, sequence);
        assert!(travelling < next.len() / 4, "a delta of {travelling} bytes");
        running = next;
    }
}

#[test]
fn an_image_that_fails_its_self_test_goes_back_and_is_not_taken_again() {
    let old = behaving(b"GOOD", 1, 18_000);
    for (how, code, starts) in [(b"FAIL", Refusal::SelfTest, 3), (b"HANG", Refusal::Attempts, 5)] {
        for (parts, side) in [(&SWAPPED, None), (&IN_PLACE, Some(Side::B))] {
            let bad = behaving(how, 2, 20_000);
            let mut world = World::new(parts, &old, one(How::Whole, &old, &bad, side));
            world.images.push(bad);
            world.run();
            let state = world.state();
            assert_eq!((state.phase, state.outcome), (Phase::Idle, Outcome::Reverted));
            assert_eq!((state.sequence, state.floor, state.sides), (0, 0, 0));
            let last = world.gateway.reports.last().unwrap();
            assert_eq!((last.phase, last.code), (message::Phase::Reverted, code.code()));
            assert_eq!(world.starts, starts, "as many trials as its policy says");
            assert_eq!(world.nor.look(0x6000, old.len()), old);
            world.gateway.offer();
            world.run();
            let refused = Verdict::Reject(Refusal::FailedBefore);
            assert_eq!(world.gateway.answers.last(), Some(&refused));
        }
    }
}

#[test]
fn the_components_of_a_bundle_begin_and_end_together() {
    let old = behaving(b"GOOD", 1, 18_000);
    for how in [b"GOOD", b"HANG"] {
        let new = behaving(how, 2, 10_000);
        let model = release::image(3, 5_000);
        let (first, first_bytes) = entry(0, How::Compressed, &[], &new, None);
        let (second, second_bytes) = entry(1, How::Whole, &[], &model, None);
        let bundle = [first, second];
        let manifest = release::manifest(5, &bundle);
        let served = served(&manifest, std::vec![first_bytes, second_bytes]);
        let mut world = World::new(&SWAPPED, &old, served);
        world.images.push(new.clone());
        world.run();
        let confirmed = how == b"GOOD";
        assert_eq!(world.state().sides, if confirmed { 0b10 } else { 0 });
        let running = if confirmed { &new } else { &old };
        assert_eq!(world.nor.look(0x6000, running.len()), running);
        assert_eq!(world.nor.look(0x1_5000, 5_000), model);
    }
}

#[test]
fn of_alternatives_the_first_that_can_be_used_is_taken() {
    let old = behaving(b"GOOD", 1, 18_000);
    let new = behaving(b"GOOD", 2, 18_000);
    // A delta of something else, one for the other side, and what fits.
    let (stranger, stranger_bytes) = entry(0, How::Delta, &new, &new, Some(Side::B));
    let (other, other_bytes) = entry(0, How::Whole, &[], &old, Some(Side::A));
    let (right, right_bytes) = entry(0, How::Compressed, &[], &new, Some(Side::B));
    let alternatives = [stranger, other, right];
    let manifest = release::manifest(5, &alternatives);
    let entries = std::vec![stranger_bytes, other_bytes, right_bytes];
    let mut world = World::new(&IN_PLACE, &old, served(&manifest, entries));
    world.images.push(new.clone());
    world.run();
    assert_eq!(world.state().sequence, 5);
    assert_eq!(world.nor.look(0xc000, new.len()), new);
}

/// Over a transport that loses messages, as MQTT with QoS 0 does. A serial link loses none.
#[test]
fn a_hundredth_of_the_messages_lost_costs_at_most_15_percent_more_bytes() {
    let old = behaving(b"GOOD", 1, 18_000);
    let new = behaving(b"GOOD", 2, 24_000);
    let mut sent = 0;
    for seed in 0..50 {
        let mut world = World::new(&SWAPPED, &old, one(How::Whole, &old, &new, None));
        world.images.push(new.clone());
        world.loss = 10_000;
        world.random = tidegate_device_sim::random::Random::new(seed);
        // A gateway offers until it is answered.
        while world.state().sequence == 0 && world.starts < 60 {
            world.gateway.offer();
            world.run();
        }
        assert_eq!(world.state().sequence, 5, "seed {seed}");
        sent += world.gateway.sent;
    }
    assert!(sent * 100 <= 50 * new.len() * 115, "{sent} bytes for 50 times {}", new.len());
}

fn staged(apply: Apply, with: fn(&mut World<'_>)) -> World<'static> {
    let old = behaving(b"GOOD", 1, 8_000);
    let new = behaving(b"GOOD", 2, 8_000);
    let (component, bytes) = entry(0, How::Whole, &[], &new, None);
    let components = [component];
    let policy = Policy { apply, ..Policy::default() };
    let manifest = Manifest { policy, ..release::manifest(5, &components) };
    let mut world = World::new(&SWAPPED, &old, served(&manifest, std::vec![bytes]));
    world.images.push(new);
    with(&mut world);
    world
}

#[test]
fn a_release_that_waits_to_be_asked_waits() {
    let mut world = staged(Apply::Ask, |_| ());
    assert_eq!(world.start_once(), Ran::Again, "given up waiting");
    assert_eq!(world.state().phase, Phase::Idle);
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    world.gateway.reports.clear();
    while world.gateway.reports.is_empty() {
        world.exchange(&mut agent).unwrap();
        assert_ne!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
    }
    assert_eq!(world.gateway.reports[0].phase, message::Phase::Staged, "nothing travels again");
    world.gateway.say(&Message::Command(Command { campaign: 7, order: Order::Apply }));
    world.exchange(&mut agent).unwrap();
    assert_eq!(agent.poll(Millis(world.now), &mut world.nor), Ok(Next::Restart));
    world.run();
    assert_eq!(world.state().sequence, 5);
}

#[test]
fn a_window_is_waited_for_once_the_time_is_known() {
    let noon = Apply::Window { from: 12 * 60, minutes: 60 };
    let mut world = staged(noon, |_| ());
    assert_eq!(world.start_once(), Ran::Again);
    assert_eq!(world.state().phase, Phase::Idle, "the time is not known");
    // 11:59:00 of some day when the clock of the device is 0.
    let mut world = staged(noon, |world| world.gateway.time = Some(86_400 * 20_000 + 43_140));
    assert_eq!(world.start_once(), Ran::Again);
    assert_eq!(world.state().phase, Phase::Staged);
    assert!(world.now >= 60_000, "{}", world.now);
}

/// What was under way when the device started anew arrives after it: of a report that was said before, or meant
/// for the release before.
#[test]
fn what_was_meant_for_the_start_before_is_taken_for_nothing_else() {
    let mut world = staged(Apply::Auto, |_| ());
    while world.state().phase != Phase::Staged {
        world.start_once();
    }
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    world.boot();
    let mut agent = world.agent(&trust).unwrap();
    agent.self_test(true);
    let before: std::vec::Vec<u32> =
        world.gateway.reports.iter().map(|report| report.number).collect();
    assert_eq!(before.len(), 2, "accepted and staged");
    let welcome = Message::Welcome(message::Welcome { protocol: 1, time: None });
    let hear = |agent: &mut super::world::DeviceAgent<'_>, world: &mut World<'_>, bytes: &[u8]| {
        agent.handle_message(Millis(world.now), &mut world.nor, bytes).unwrap();
        while agent.poll(Millis(world.now), &mut world.nor) == Ok(Next::Work) {}
    };
    hear(&mut agent, &mut world, &tidegate_device_sim::gateway::written(&welcome));
    assert_eq!(world.state().phase, Phase::Trial, "nobody has heard of the new release yet");
    world.exchange(&mut agent).unwrap();
    while agent.poll(Millis(world.now), &mut world.nor) == Ok(Next::Work) {}
    assert_eq!(world.state().outcome, Outcome::Confirmed);
    for number in before {
        let received = Message::Received(message::Received { number });
        hear(&mut agent, &mut world, &tidegate_device_sim::gateway::written(&received));
    }
    assert!(!world.state().reported);
    world.exchange(&mut agent).unwrap();
    assert!(world.state().reported);
    assert_eq!(phases(&world).last(), Some(&message::Phase::Confirmed));
}
