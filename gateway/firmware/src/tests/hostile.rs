//! Devices that mean ill, or are broken: what they can make the desk do has its limits.

use tidegate_device_sim::random::Random;
use tidegate_wire::message::{
    Answer, Command, Hello, Installed, InstalledList, Message, Order, PROTOCOL, Phase, Reason,
    Refusal, Report, Request, Verdict,
};

use super::fleet::{Fleet, IMAGE, bundle};
use crate::output::written;
use crate::*;

const LIMITS: Limits = Limits { concurrent: 4, bytes_per_second: None };

pub(super) fn hello(block: u16) -> Vec<u8> {
    let one = Installed { id: 0, version: "1", digest: [0; 8], room: 1 << 20, side: None };
    written(&Message::Hello(Hello {
        protocol: PROTOCOL,
        sdk: "x",
        vendor: tidegate_device_sim::release::VENDOR,
        class: tidegate_device_sim::release::CLASS,
        message: 1_280,
        block,
        capabilities: 0,
        boot_abi: 1,
        sequence: 0,
        floor: 0,
        key_set: 1,
        components: InstalledList::new([one]).unwrap(),
        reason: Reason::Power,
        trial: None,
        pending: None,
    }))
    .unwrap()
}

/// A desk with a campaign, and a device that has said hello.
fn desk() -> (Fleet, u64, [u8; 8]) {
    let mut fleet = Fleet::new(LIMITS);
    let now = fleet.moment();
    fleet.desk.handle_message(now, "evil", Via::Mqtt, &hello(224));
    fleet.carry_out();
    let file = bundle(5, b"GOOD");
    let terms = Terms { devices: None, first: None, halt_at: HaltAt::Devices(1) };
    let id = fleet.push(&file, terms).unwrap();
    fleet.run(1, |_| false);
    let manifest = Release::of_bundle::<tidegate_device_sim::crypto::HostHash>(&file).unwrap();
    (fleet, id, manifest.name().short())
}

fn request(manifest: [u8; 8], base: u32, bitmap: u32, tag: u8) -> Request {
    Request { manifest, entry: 0, base, bitmap, credit: 32, tag }
}

/// Blocks that come of a message.
fn blocks(fleet: &mut Fleet, message: &Message<'_>) -> Vec<Read> {
    let now = fleet.moment();
    let bytes = written(message).unwrap();
    fleet.desk.handle_message(now, "evil", Via::Mqtt, &bytes);
    let mut reads = Vec::new();
    while let Some(output) = fleet.desk.poll_output(now) {
        match output {
            Output::Read(read) => {
                fleet.desk.handle_read(now, &read, Ok(()));
                reads.push(read);
            }
            Output::Send(_) | Output::Store(_) => {}
        }
    }
    reads
}

#[test]
fn requests_out_of_range_get_nothing() {
    let (mut fleet, _, manifest) = desk();
    let last = (IMAGE as u32).div_ceil(224) - 1;
    let good = request(manifest, 0, 1, 0);
    let nothing = [
        Request { manifest: [9; 8], ..good },
        Request { entry: 1, ..good },
        Request { entry: 7, ..good },
        request(manifest, last + 1, u32::MAX, 0),
        request(manifest, u32::MAX, u32::MAX, 0),
    ];
    for wrong in nothing {
        assert_eq!(blocks(&mut fleet, &Message::Request(wrong)), [], "{wrong:?}");
    }
    // At the end of what travels the bits beyond it count for nothing.
    let end = blocks(&mut fleet, &Message::Request(request(manifest, last, u32::MAX, 0)));
    assert_eq!(end.len(), 1);
    assert_eq!(usize::from(end[0].length), IMAGE % 224);
    let whole = blocks(&mut fleet, &Message::Request(request(manifest, 0, u32::MAX, 1)));
    assert_eq!(whole.len(), 32);
    let credit = Request { credit: 3, ..request(manifest, 0, u32::MAX, 2) };
    assert_eq!(blocks(&mut fleet, &Message::Request(credit)).len(), 3, "no more than its credit");
}

#[test]
fn a_device_that_has_written_enough_for_a_day_is_asked_again_and_is_no_failure() {
    let (mut fleet, id, _) = desk();
    let full = Verdict::Reject(Refusal::Budget);
    assert!(
        blocks(&mut fleet, &Message::Answer(Answer { campaign: id, verdict: full })).is_empty()
    );
    assert_eq!(fleet.campaign(id).devices[0].stage, "waiting");
    let offers = fleet.sent["evil"];
    fleet.run(5 * 3_600, |_| false);
    assert_eq!(fleet.sent["evil"], offers, "not yet");
    fleet.run(2 * 3_600, |_| false);
    assert!(fleet.sent["evil"] > offers, "again");
}

#[test]
fn blocks_of_a_size_that_is_none_are_not_sent() {
    let (mut fleet, _, manifest) = desk();
    for block in [32, 1_024] {
        let now = fleet.moment();
        fleet.desk.handle_message(now, "evil", Via::Mqtt, &hello(block));
        let reads = blocks(&mut fleet, &Message::Request(request(manifest, 0, 1, 0)));
        assert_eq!(reads.len(), 1);
        assert_eq!(reads[0].length, block);
    }
}

#[test]
fn a_flood_of_requests_gets_a_bounded_number_of_bytes_and_takes_bounded_memory() {
    let (mut fleet, _, manifest) = desk();
    let mut sent = 0;
    for n in 0..20_000_u32 {
        let asks = request(manifest, n % 64, u32::MAX, (n % 24) as u8);
        let reads = blocks(&mut fleet, &Message::Request(asks));
        sent += reads.iter().map(|read| u64::from(read.length)).sum::<u64>();
    }
    assert!(sent <= MAX_RESENT * IMAGE as u64 + 600_000, "{sent}");
    // While nothing is taken, what is asked for does not pile up.
    let now = fleet.moment();
    for n in 0..100_000_u32 {
        let asks = Message::Request(request(manifest, n % 64, u32::MAX, 7));
        fleet.desk.handle_message(now, "evil", Via::Mqtt, &written(&asks).unwrap());
        fleet.desk.handle_message(now, "evil", Via::Mqtt, &hello(224));
        while fleet.desk.outputs.pop_front().is_some() {}
    }
    assert!(fleet.desk.turn.len() <= 1, "{}", fleet.desk.turn.len());
}

#[test]
fn reports_without_end_wear_out_no_flash_and_the_last_word_counts() {
    let (mut fleet, id, _) = desk();
    let now = fleet.moment();
    let mut changes = 0;
    for number in 0..10_000 {
        let phase = if number % 2 == 0 { Phase::Accepted } else { Phase::Staged };
        let report =
            Report { number, campaign: id, from: 0, to: 5, phase, code: 0, retries: 0, bytes: 0 };
        let bytes = written(&Message::Report(report)).unwrap();
        fleet.desk.handle_message(now, "evil", Via::Mqtt, &bytes);
        while let Some(output) = fleet.desk.poll_output(now) {
            if let Output::Store(batch) = output {
                changes += batch.changes.len();
                assert_eq!(batch.then.len(), 1, "each is answered");
            }
        }
    }
    assert!(changes <= 32, "{changes}");
    let report = Report {
        number: 1,
        campaign: id,
        from: 0,
        to: 5,
        phase: Phase::Failed,
        code: Refusal::Content.code(),
        retries: 0,
        bytes: 0,
    };
    fleet.desk.handle_message(now, "evil", Via::Mqtt, &written(&Message::Report(report)).unwrap());
    assert_eq!(fleet.campaign(id).devices[0].stage, "failed");
}

#[test]
fn a_device_speaks_for_no_other_and_what_only_gateways_say_is_dropped() {
    let (mut fleet, id, _) = desk();
    let now = fleet.moment();
    fleet.desk.handle_message(now, "good", Via::Line, &hello(224));
    fleet.carry_out();
    let accept = Message::Answer(Answer { campaign: id, verdict: Verdict::Reject(Refusal::Form) });
    assert!(blocks(&mut fleet, &accept).is_empty());
    let status = fleet.campaign(id);
    let stages: Vec<_> = status.devices.iter().map(|one| (&*one.device, &*one.stage)).collect();
    assert_eq!(stages, [("evil", "rejected"), ("good", "waiting")]);
    let order = Message::Command(Command { campaign: id, order: Order::Cancel });
    assert!(blocks(&mut fleet, &order).is_empty());
    assert_eq!(fleet.campaign(id).state, "running");
    // An answer about a campaign that there is not.
    let accept = Message::Answer(Answer { campaign: 77, verdict: Verdict::Accept });
    assert!(blocks(&mut fleet, &accept).is_empty());
}

/// A desk whose table is full of strangers, each seen a millisecond after the one before.
fn full() -> (Fleet, Moment) {
    let mut fleet = Fleet::new(LIMITS);
    let mut now = fleet.moment();
    for n in 0..MAX_DEVICES {
        now.instant += std::time::Duration::from_millis(1);
        fleet.desk.handle_message(now, &format!("stranger-{n}"), Via::Mqtt, &hello(224));
        while fleet.desk.outputs.pop_front().is_some() {}
    }
    (fleet, now)
}

fn known(fleet: &Fleet, name: &str) -> bool {
    fleet.desk.device_statuses().iter().any(|device| device.device == name)
}

#[test]
fn no_more_devices_are_known_than_the_limit() {
    let (mut fleet, now) = full();
    for n in 0..100 {
        fleet.desk.handle_message(now, &format!("more-{n}"), Via::Mqtt, &hello(224));
        while fleet.desk.outputs.pop_front().is_some() {}
    }
    assert_eq!(fleet.desk.device_statuses().len(), MAX_DEVICES);
    let long = "x".repeat(MAX_NAME + 1);
    for name in ["", long.as_str()] {
        fleet.desk.handle_message(now, name, Via::Mqtt, &hello(224));
        assert_eq!(fleet.desk.poll_output(now), None, "{name}");
    }
    // The flash is written to in rounds, a bounded number of devices each.
    fleet.run(2, |_| false);
    assert!(fleet.table.len() <= 2 * 64, "{}", fleet.table.len());
    fleet.desk.forget(fleet.moment(), "stranger-700").unwrap();
    assert!(fleet.desk.forget(fleet.moment(), "stranger-700").unwrap_err().contains("device ls"));
}

#[test]
fn a_table_full_of_strangers_shuts_nobody_out() {
    let (mut fleet, now) = full();
    // The one that was there first says something: it is not the longest unseen any more.
    fleet.desk.handle_message(now, "stranger-0", Via::Mqtt, &hello(224));
    fleet.desk.handle_message(now, "stranger-1", Via::Line, &hello(224));
    while fleet.desk.outputs.pop_front().is_some() {}
    fleet.desk.handle_message(now, "pump-7", Via::Mqtt, &hello(224));
    assert!(known(&fleet, "pump-7"));
    let gone: Vec<_> = (0..9).filter(|n| !known(&fleet, &format!("stranger-{n}"))).collect();
    assert_eq!(gone, [2], "the longest unseen that is on no line");
    let notes = fleet.desk.outputs.iter().filter_map(|output| match output {
        Output::Store(batch) => batch.notes.first().cloned(),
        Output::Send(_) | Output::Read(_) => None,
    });
    let told = Note::Forgotten { device: "stranger-2".into(), newcomer: "pump-7".into() };
    assert_eq!(notes.collect::<Vec<_>>(), [told]);
    // Under ever new names no more than so many are pushed out in a minute.
    for n in 0..1_000 {
        fleet.desk.handle_message(now, &format!("flood-{n}"), Via::Mqtt, &hello(224));
    }
    let status = fleet.desk.fleet_status();
    assert_eq!(status.made_room, u64::from(MADE_AT_ONCE));
    assert_eq!(status.unremembered, 1_001 - u64::from(MADE_AT_ONCE));
    let later = Moment { instant: now.instant + std::time::Duration::from_secs(61), ..now };
    fleet.desk.handle_message(later, "pump-8", Via::Mqtt, &hello(224));
    assert!(known(&fleet, "pump-8"));
    assert_eq!(fleet.desk.fleet_status().devices, MAX_DEVICES as u64);
}

#[test]
fn who_is_in_the_middle_of_a_release_is_not_forgotten_for_others() {
    let mut fleet = Fleet::new(LIMITS);
    let mut now = fleet.moment();
    for name in ["loads", "named"] {
        fleet.desk.handle_message(now, name, Via::Mqtt, &hello(224));
    }
    fleet.carry_out();
    let named = Terms {
        devices: Some(["loads".into(), "named".into()].into()),
        first: None,
        halt_at: HaltAt::Devices(1),
    };
    let id = fleet.push(&bundle(5, b"GOOD"), named).unwrap();
    fleet.run(1, |_| false);
    let accept = Message::Answer(Answer { campaign: id, verdict: Verdict::Accept });
    fleet.desk.handle_message(now, "loads", Via::Mqtt, &written(&accept).unwrap());
    for n in 0..2 * MAX_DEVICES {
        now.instant += std::time::Duration::from_secs(1);
        fleet.desk.handle_message(now, &format!("stranger-{n}"), Via::Mqtt, &hello(224));
        while fleet.desk.outputs.pop_front().is_some() {}
    }
    assert!(fleet.desk.fleet_status().made_room > 3_000);
    assert!(known(&fleet, "loads") && known(&fleet, "named"));
}

#[test]
fn mutated_messages_change_nothing_that_they_should_not() {
    let (mut fleet, id, manifest) = desk();
    let mut random = Random::new(7);
    let seeds = [
        hello(224),
        written(&Message::Request(request(manifest, 0, 3, 1))).unwrap(),
        written(&Message::Answer(Answer { campaign: id, verdict: Verdict::Accept })).unwrap(),
    ];
    let now = fleet.moment();
    for round in 0..100_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        random.mutate(&mut bytes);
        fleet.desk.handle_message(now, "evil", Via::Mqtt, &bytes);
        while let Some(output) = fleet.desk.poll_output(now) {
            if let Output::Read(read) = output {
                assert!(read.at + u64::from(read.length) <= bundle(5, b"GOOD").len() as u64);
                fleet.desk.handle_read(now, &read, Ok(()));
            }
        }
    }
    assert_eq!(fleet.desk.device_statuses().len(), 1);
    assert_eq!(fleet.desk.reads, 0);
}
