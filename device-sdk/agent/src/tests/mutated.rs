//! Messages changed in any way: no panic, and nothing is written that was not authorised.

use std::vec::Vec;

use tidegate_boot::Trust;
use tidegate_device_sim::crypto::Key;
use tidegate_device_sim::random::Random;
use tidegate_device_sim::{gateway, release};
use tidegate_wire::manifest::{Apply, Devices, Manifest, Policy, Side};
use tidegate_wire::message::{Message, Offer, Verdict};
use tidegate_wire::sign1::Purpose;

use super::world::{A, How, IN_PLACE, RELEASE, World, behaving, entry, one, roots};
use crate::{Millis, Next};

/// Messages that a gateway sends in an upgrade.
fn conversation() -> Vec<Vec<u8>> {
    let old = behaving(b"GOOD", 1, 9_000);
    let new = behaving(b"GOOD", 2, 9_000);
    let mut world = World::new(&IN_PLACE, &old, one(How::Compressed, &old, &new, Some(Side::B)));
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    let mut messages = Vec::new();
    for _ in 0..60 {
        let mut out = [0; 512];
        while let Some(length) =
            agent.poll_output(Millis(world.now), &mut world.nor, &mut out).unwrap()
        {
            world.gateway.take(&out[..length]);
        }
        while let Some(message) = world.gateway.give() {
            agent.handle_message(Millis(world.now), &mut world.nor, &message).unwrap();
            messages.push(message);
        }
        agent.poll(Millis(world.now), &mut world.nor).unwrap();
        world.now += 10;
    }
    messages
}

fn blank() -> World<'static> {
    let old = behaving(b"GOOD", 1, 9_000);
    World::new(&IN_PLACE, &old, one(How::Whole, &old, &old, Some(Side::B)))
}

/// The envelope of an offer.
fn envelope(bytes: &[u8]) -> Option<&[u8]> {
    match Message::read(bytes) {
        Ok(Message::Offer(offer)) => Some(offer.envelope),
        Ok(_) | Err(_) => None,
    }
}

#[test]
fn mutated_messages_make_an_agent_neither_panic_nor_write_what_is_not_signed() {
    mutated_messages(20_000, 11);
}

/// The full count: `cargo test --release -p tidegate-agent -- --ignored a_million`.
#[test]
#[ignore = "a million messages take minutes; the test above takes a part of them"]
fn a_million_mutated_messages() {
    mutated_messages(1_000_000, 12);
}

fn mutated_messages(count: usize, seed: u64) {
    let messages = conversation();
    assert!(messages.len() > 20);
    let mut world = blank();
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    let mut agent = world.agent(&trust).unwrap();
    let mut random = Random::new(seed);
    let mut out = [0; 512];
    for _ in 0..count {
        let original = &messages[random.below(messages.len())];
        let mut bytes = original.clone();
        while bytes == *original {
            random.mutate(&mut bytes);
        }
        agent.handle_message(Millis(world.now), &mut world.nor, &bytes).unwrap();
        agent.poll(Millis(world.now), &mut world.nor).unwrap();
        agent.poll_output(Millis(world.now), &mut world.nor, &mut out).unwrap();
        world.now += 5;
        if world.nor.operations > 0 {
            // The campaign is not signed: an offer with another one is a whole offer.
            assert_eq!(envelope(&bytes), envelope(original), "{bytes:02x?}");
            assert!(envelope(original).is_some());
            world = blank();
            agent = world.agent(&trust).unwrap();
        }
    }
}

/// Whoever holds a release key can sign nonsense: it is refused, or taken and never makes a device start
/// into something that is not whole.
#[test]
fn signed_nonsense_is_refused_or_taken_and_panics_nowhere() {
    signed_nonsense(4_000, 17);
}

/// The full count: `cargo test --release -p tidegate-agent -- --ignored a_million`.
#[test]
#[ignore = "a million manifests take minutes; the test above takes a part of them"]
fn a_million_mutated_manifests() {
    signed_nonsense(1_000_000, 18);
}

fn signed_nonsense(count: usize, seed: u64) {
    let old = behaving(b"GOOD", 1, 9_000);
    let (component, _) = entry(0, How::Delta, &old, &old, Some(Side::B));
    let components = [component];
    let names = [0xde; 32];
    let manifest = Manifest {
        devices: Devices::new(&names).unwrap(),
        policy: Policy { apply: Apply::Window { from: 1, minutes: 2 }, ..Policy::default() },
        not_after: Some(1 << 33),
        label: "label",
        ..release::manifest(5, &components)
    };
    let payload = release::written(&manifest);
    let mut random = Random::new(seed);
    let (mut taken, mut refused) = (0, 0);
    let mut world = blank();
    let factory = world.factory.clone();
    let trust = Trust { roots: roots(), factory: &factory };
    for _ in 0..count {
        let mut bytes = payload.clone();
        for _ in 0..1 + random.below(2) {
            random.mutate(&mut bytes);
        }
        let envelope = release::sealed(&bytes, Purpose::FirmwareManifest, &Key::new(RELEASE));
        let offer = Offer { campaign: 1, envelope: &envelope, second: None, key_set: None };
        let offer = gateway::written(&Message::Offer(offer));
        let mut agent = world.agent(&trust).unwrap();
        agent.handle_message(Millis(0), &mut world.nor, &offer).unwrap();
        let mut out = [0; 512];
        while let Some(length) = agent.poll_output(Millis(0), &mut world.nor, &mut out).unwrap() {
            if let Ok(Message::Answer(answer)) = Message::read(&out[..length]) {
                let accepted = answer.verdict == Verdict::Accept;
                taken += usize::from(accepted);
                refused += usize::from(!accepted);
            }
        }
        if world.nor.operations > 0 {
            world = blank();
        }
    }
    assert!(taken > 50 && refused > 1_000, "{taken} taken, {refused} refused");
}

/// In the middle of a transfer, blocks may be written; but only to where the new image goes.
#[test]
fn mutated_blocks_change_nothing_but_the_place_of_the_new_image() {
    mutated_blocks(40, 13);
}

/// The full count: `cargo test --release -p tidegate-agent -- --ignored a_million`.
#[test]
#[ignore = "a million blocks take minutes; the test above takes a part of them"]
fn a_million_mutated_blocks() {
    mutated_blocks(2_500, 14);
}

/// Four hundred messages a round.
fn mutated_blocks(rounds: usize, seed: u64) {
    let messages = conversation();
    let offer = messages.iter().find(|message| envelope(message).is_some()).unwrap();
    let mut random = Random::new(seed);
    for round in 0..rounds {
        let mut world = blank();
        let factory = world.factory.clone();
        let trust = Trust { roots: roots(), factory: &factory };
        let mut agent = world.agent(&trust).unwrap();
        agent.handle_message(Millis(0), &mut world.nor, offer).unwrap();
        let before = world.state();
        let image = world.nor.look(A.from as usize, A.length() as usize).to_vec();
        let mut out = [0; 512];
        for step in 0..400 {
            let mut bytes = messages[random.below(messages.len())].clone();
            if random.below(4) > 0 {
                random.mutate(&mut bytes);
            }
            let now = Millis(step * 30);
            agent.handle_message(now, &mut world.nor, &bytes).unwrap();
            let next = agent.poll(now, &mut world.nor).unwrap();
            assert_ne!(next, Next::Restart, "round {round}");
            agent.poll_output(now, &mut world.nor, &mut out).unwrap();
        }
        let after = world.state();
        assert_eq!((after.phase, after.sequence), (before.phase, before.sequence));
        assert_eq!(world.nor.look(A.from as usize, A.length() as usize), image);
        assert_eq!(world.nor.look(0x2000, 0x2000), [0xff; 0x2000], "no key set was stored");
        assert!(!world.nor.misused);
    }
}
