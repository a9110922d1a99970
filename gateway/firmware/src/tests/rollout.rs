//! Rollouts that end as they should.

use tidegate_device_sim::release;

use super::cable::Cable;
use super::fleet::{Fleet, IMAGE, USUAL, bundle, bundle_for};
use crate::*;

fn all(halt_at: HaltAt) -> Terms {
    Terms { devices: None, first: None, halt_at }
}

const UNPACED: Limits = Limits { concurrent: 64, bytes_per_second: None };

fn fleet(count: usize, limits: Limits, passes: impl Fn(usize) -> bool) -> Fleet {
    filled(Fleet::new(limits), count, passes)
}

fn filled(mut fleet: Fleet, count: usize, passes: impl Fn(usize) -> bool) -> Fleet {
    for n in 0..count {
        fleet.add(&format!("pump-{n:04}"), passes(n));
    }
    assert!(fleet.run(60, |fleet| fleet.desk.device_statuses().len() == count), "all say hello");
    fleet
}

fn image_of(bundle: &[u8]) -> &[u8] {
    &bundle[bundle.len() - IMAGE..]
}

/// Has a thousand devices with a release, upgraded with something lost of what is said; answers by how much more
/// than the image the gateway has sent to each: bytes of messages, and bytes on its line if it has one.
fn upgrade_a_thousand(fleet: &mut Fleet) -> Vec<(f64, f64)> {
    let file = bundle_for(&USUAL, 5, b"GOOD");
    let image = &file[file.len() - USUAL.image..];
    let before = fleet.sent.clone();
    let on_line = |fleet: &Fleet, name: &str| fleet.cables.get(name).map_or(0, |cable| cable.sent);
    let line_before: Vec<u64> = before.keys().map(|name| on_line(fleet, name)).collect();
    let id = fleet.push(&file, all(HaltAt::Devices(1))).unwrap();
    let done = |fleet: &Fleet| fleet.campaign(id).count(Stage::Confirmed) == 1_000;
    let ended = fleet.run(4 * 3_600, done);
    let campaign = fleet.campaign(id);
    let left = campaign.devices.iter().filter(|device| device.stage != "confirmed");
    assert!(ended, "{:?}", left.collect::<Vec<_>>());
    let ratio = |bytes: u64| bytes as f64 / image.len() as f64;
    let devices = fleet.sent.iter().zip(line_before);
    let ratios = devices.map(|((name, sent), line)| {
        assert_eq!(fleet.image(name), image, "{name}");
        assert_eq!(fleet.sequence(name), 5, "{name}");
        (ratio(sent - before[name]), ratio(on_line(fleet, name) - line))
    });
    ratios.collect()
}

fn mean_and_most(ratios: impl ExactSizeIterator<Item = f64>) -> (f64, f64) {
    let count = ratios.len() as f64;
    let (sum, most) = ratios.fold((0.0, 0.0_f64), |(sum, most), one| (sum + one, most.max(one)));
    (sum / count, most)
}

#[test]
fn a_thousand_devices_upgrade_with_one_percent_of_the_messages_lost() {
    let mut fleet = filled(Fleet::of(&USUAL, UNPACED), 1_000, |_| true);
    fleet.loss = 10_000;
    let sent = upgrade_a_thousand(&mut fleet);
    let (mean, most) = mean_and_most(sent.iter().map(|(messages, _)| *messages));
    println!("bytes of messages per byte of the image: mean {mean:.3}, at most {most:.3}");
    assert!(mean <= 1.15, "{mean}");
    assert!(most <= 1.5, "{most}");
}

#[test]
fn a_thousand_devices_on_serial_lines_upgrade_with_one_percent_of_the_frames_lost() {
    let mut fleet = Fleet::of(&USUAL, UNPACED);
    fleet.loss = 10_000;
    for n in 0..1_000 {
        let name = format!("pump-{n:04}");
        fleet.cables.insert(name.as_str().into(), Cable::new(n));
    }
    let mut fleet = filled(fleet, 1_000, |_| true);
    let sent = upgrade_a_thousand(&mut fleet);
    let (mean, most) = mean_and_most(sent.iter().map(|(messages, _)| *messages));
    println!("bytes of messages per byte of the image: mean {mean:.3}, at most {most:.3}");
    let (mean, most) = mean_and_most(sent.iter().map(|(_, line)| *line));
    println!("bytes on the line per byte of the image: mean {mean:.3}, at most {most:.3}");
    assert!(most <= 1.15, "{most}");
}

#[test]
fn a_rollout_of_a_hundred_with_ten_percent_that_fail_halts_at_its_threshold() {
    let limits = Limits { concurrent: 4, bytes_per_second: None };
    let mut fleet = fleet(100, limits, |n| n % 10 != 3);
    let id = fleet.push(&bundle(5, b"GOOD"), all(HaltAt::Devices(5))).unwrap();
    let halted = |fleet: &Fleet| fleet.campaign(id).state == "halted";
    assert!(fleet.run(4 * 3_600, halted));
    // Those that were on trial by then come to their end as well.
    fleet.run(3_600, |_| false);
    let status = fleet.campaign(id);
    let reverted = status.count(Stage::Reverted);
    assert!((5..=5 + 4).contains(&reverted), "{reverted}");
    assert!(status.count(Stage::Waiting) >= 40, "the others were left alone");
    assert!(status.reason.contains("5 devices have failed"), "{}", status.reason);
    for device in &status.devices {
        let runs = fleet.sequence(&device.device);
        assert_eq!(runs == 5, device.stage == "confirmed", "{device:?}");
    }
    let told =
        fleet.notes.iter().filter(|note| matches!(note, Note::Campaign { state: "halted", .. }));
    assert_eq!(told.count(), 1);
}

#[test]
fn the_first_are_confirmed_before_others_are_offered_it() {
    let mut fleet = fleet(20, UNPACED, |_| true);
    let terms = Terms { first: Some(3), ..all(HaltAt::Devices(1)) };
    let id = fleet.push(&bundle(5, b"GOOD"), terms).unwrap();
    let mut most = 0;
    let done = |fleet: &Fleet| {
        let status = fleet.campaign(id);
        let confirmed = status.count(Stage::Confirmed);
        let begun = 20 - status.count(Stage::Waiting);
        if confirmed < 3 {
            most = most.max(begun);
        }
        confirmed == 20
    };
    assert!(fleet.run(3_600, done));
    assert_eq!(most, 3);
}

#[test]
fn no_more_load_at_a_time_and_no_more_bytes_leave_than_is_allowed() {
    let limits = Limits { concurrent: 4, bytes_per_second: Some(20_000) };
    let mut fleet = fleet(12, limits, |_| true);
    let (before, begins) = (fleet.sent.values().sum::<u64>(), fleet.ms);
    let id = fleet.push(&bundle(5, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    let done = |fleet: &Fleet| fleet.campaign(id).count(Stage::Confirmed) == 12;
    assert!(fleet.run(3_600, done));
    assert!(fleet.most_at_a_time <= 4, "{}", fleet.most_at_a_time);
    let seconds = (fleet.ms - begins) as f64 / 1_000.0;
    let rate = (fleet.sent.values().sum::<u64>() - before) as f64 / seconds;
    assert!(rate <= 22_000.0, "{rate} bytes a second");
    assert!(seconds >= 12.0 * IMAGE as f64 / 22_000.0, "{seconds}");
}

#[test]
fn a_gateway_that_is_killed_at_any_moment_goes_on_and_ends_right() {
    for kill_after in (200..12_000).step_by(700) {
        let mut fleet = fleet(5, UNPACED, |n| n != 2);
        fleet.loss = 20_000;
        let file = bundle(5, b"GOOD");
        let id = fleet.push(&file, all(HaltAt::Devices(4))).unwrap();
        for _ in 0..3 {
            let at = fleet.ms + kill_after;
            fleet.run(100, |fleet| fleet.ms >= at);
            fleet.restart_gateway();
        }
        let done = |fleet: &Fleet| {
            fleet.campaign(id).devices.iter().all(|device| {
                matches!(device.stage.as_str(), "confirmed" | "reverted" | "rejected")
            })
        };
        assert!(fleet.run(4 * 3_600, done), "{:?}", fleet.campaign(id));
        let status = fleet.campaign(id);
        assert_eq!(status.count(Stage::Confirmed), 4, "{kill_after}: {:?}", status.devices);
        let names: Vec<_> = fleet.devices.keys().cloned().collect();
        for name in names.iter().filter(|name| &***name != "pump-0002") {
            assert_eq!(fleet.image(name), image_of(&file), "{name}");
        }
    }
}

#[test]
fn a_campaign_that_is_cancelled_leaves_devices_with_what_they_run() {
    let limits = Limits { concurrent: 10, bytes_per_second: Some(20_000) };
    let mut fleet = fleet(10, limits, |_| true);
    let id = fleet.push(&bundle(5, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    assert!(fleet.run(60, |fleet| fleet.campaign(id).count(Stage::Accepted) == 10));
    let now = fleet.moment();
    fleet.desk.cancel(now, id).unwrap();
    fleet.carry_out();
    assert_eq!(fleet.desk.cancel(now, id), Err(DeskError::Ended(id, "cancelled")));
    assert_eq!(fleet.desk.cancel(now, 99), Err(DeskError::Unknown(99)));
    let failed = |fleet: &Fleet| fleet.campaign(id).count(Stage::Failed) == 10;
    assert!(fleet.run(3_600, failed), "{:?}", fleet.campaign(id).devices);
    assert!(fleet.campaign(id).devices.iter().all(|device| device.why == "it was cancelled"));
    // The same again, and to the end.
    let id = fleet.push(&bundle(6, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    assert!(fleet.run(3_600, |fleet| fleet.campaign(id).count(Stage::Confirmed) == 10));
}

#[test]
fn a_campaign_waits_for_no_device_that_is_forgotten() {
    let mut fleet = fleet(3, UNPACED, |_| true);
    let named = |names: &[&str]| Terms {
        devices: Some(names.iter().map(|name| (*name).into()).collect()),
        ..all(HaltAt::Devices(1))
    };
    // One has said hello and is gone for good, one was never there, and two are done.
    let now = fleet.moment();
    fleet.desk.handle_message(now, "gone", Via::Mqtt, &super::hostile::hello(224));
    let four = named(&["pump-0000", "pump-0001", "gone", "never"]);
    let id = fleet.push(&bundle(5, b"GOOD"), four).unwrap();
    assert!(fleet.run(3_600, |fleet| fleet.campaign(id).count(Stage::Confirmed) == 2));
    let now = fleet.moment();
    // One that is done does not make it wait again.
    for (at, name) in ["pump-0001", "gone", "never"].into_iter().enumerate() {
        assert_eq!(fleet.campaign(id).state, "running", "before the forgotten number {at}");
        fleet.desk.forget(now, name).unwrap();
        fleet.carry_out();
    }
    let counts = |fleet: &Fleet, id| {
        let campaign = fleet.campaign(id);
        let counts = [Stage::Confirmed, Stage::Forgotten].map(|stage| campaign.count(stage));
        (campaign.state, counts)
    };
    assert_eq!(counts(&fleet, id), ("done".to_owned(), [2, 2]));
    fleet.restart_gateway();
    assert_eq!(counts(&fleet, id), ("done".to_owned(), [2, 2]), "after a restart as well");
    // One that comes back while the campaign runs is offered it again.
    let id = fleet.push(&bundle(6, b"GOOD"), named(&["pump-0000", "late", "never"])).unwrap();
    let now = fleet.moment();
    fleet.desk.forget(now, "late").unwrap();
    fleet.carry_out();
    assert_eq!(counts(&fleet, id).1, [0, 1]);
    fleet.add("late", true);
    assert!(fleet.run(3_600, |fleet| fleet.campaign(id).count(Stage::Confirmed) == 2));
    assert_eq!(counts(&fleet, id), ("running".to_owned(), [2, 0]));
    let now = fleet.moment();
    fleet.desk.forget(now, "never").unwrap();
    fleet.carry_out();
    assert_eq!(counts(&fleet, id), ("done".to_owned(), [2, 1]));
}

#[test]
fn a_release_reaches_devices_that_come_later_and_only_those_that_are_named() {
    let mut fleet = fleet(3, UNPACED, |_| true);
    let named = Terms {
        devices: Some(["pump-0001".into(), "late".into()].into()),
        ..all(HaltAt::Devices(1))
    };
    let id = fleet.push(&bundle(5, b"GOOD"), named.clone()).unwrap();
    let one = |fleet: &Fleet| fleet.campaign(id).count(Stage::Confirmed) == 1;
    assert!(fleet.run(3_600, one));
    assert_eq!(fleet.campaign(id).state, "running");
    fleet.add("late", true);
    assert!(fleet.run(3_600, |fleet| fleet.campaign(id).state == "done"));
    assert_eq!((fleet.sequence("late"), fleet.sequence("pump-0000")), (5, 0));
    // Pushed again it has ended for all that it names at once.
    let again = fleet.push(&bundle(5, b"GOOD"), named).unwrap();
    assert!(fleet.run(60, |fleet| fleet.campaign(again).state == "done"));
}

#[test]
fn a_newer_release_takes_the_place_of_an_older_one_and_no_older_of_a_newer() {
    let limits = Limits { concurrent: 10, bytes_per_second: Some(20_000) };
    let mut fleet = fleet(3, limits, |_| true);
    let first = fleet.push(&bundle(5, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    let same = fleet.push(&bundle(5, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    assert_eq!(first, same, "it goes on");
    let older = fleet.push(&bundle(4, b"GOOD"), all(HaltAt::Devices(1)));
    assert_eq!(older, Err(DeskError::InTheWay { campaign: first, sequence: 5 }));
    assert!(fleet.run(60, |fleet| fleet.campaign(first).count(Stage::Accepted) == 3));
    let second = fleet.push(&bundle(6, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
    assert_eq!(fleet.campaign(first).state, "replaced");
    assert!(fleet.run(3_600, |fleet| fleet.campaign(second).count(Stage::Confirmed) == 3));
}

#[test]
fn a_bundle_that_cannot_be_read_halts_its_campaign() {
    let mut fleet = fleet(1, UNPACED, |_| true);
    let file = bundle(5, b"GOOD");
    let id = fleet.push(&file, all(HaltAt::Devices(1))).unwrap();
    let now = fleet.moment();
    let read = Read {
        campaign: id,
        device: "pump-0000".into(),
        via: Via::Mqtt,
        bundle: release::digest(&file),
        at: 0,
        length: 1,
        index: 0,
        tag: 0,
    };
    assert_eq!(read.letter(b""), None, "other bytes than were wanted");
    fleet.desk.handle_read(now, &read, Err("bad flash"));
    fleet.carry_out();
    assert_eq!(fleet.campaign(id).state, "halted");
    assert!(fleet.campaign(id).reason.contains("bad flash"));
}

#[test]
fn the_oldest_campaigns_that_have_ended_go() {
    let mut fleet = fleet(1, UNPACED, |_| true);
    let mut last = 0;
    for sequence in 2..20 {
        last = fleet.push(&bundle(sequence, b"GOOD"), all(HaltAt::Devices(1))).unwrap();
        let now = fleet.moment();
        fleet.desk.cancel(now, last).unwrap();
        fleet.carry_out();
    }
    let kept = fleet.desk.campaign_statuses();
    assert_eq!(kept.len(), MAX_CAMPAIGNS);
    assert_eq!(kept.first().map(|status| status.campaign), Some(last));
    let campaigns = fleet.table.keys().filter(|key| key.first() == Some(&b'c'));
    assert_eq!(campaigns.count(), MAX_CAMPAIGNS, "what is put down is no more");
}
