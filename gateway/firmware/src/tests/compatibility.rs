//! Versions of the protocol that meet: whole upgrades, frozen as they went (tests/golden/device-messages/v1).
//! `exchange.bin` is that between the first devices and the first gateway; since `exchange-2.bin` no two reports of
//! a device have the same number. Do not change these files, nor what is expected of them: devices like that are
//! in the field. A later version adds an exchange of its own, and keeps these.
//!
//! A file is a row of messages, each with its direction (`>` from the device), the millisecond in which it
//! arrived (4 bytes, big-endian), its length (2 bytes) and its bytes.

use tidegate_device_sim::crypto::Key;
use tidegate_device_sim::release;
use tidegate_wire::message::{Message, PROTOCOL};

use super::fleet::{Fleet, RELEASE};
use crate::*;

const FIRST: &[u8] = include_bytes!("../../../../tests/golden/device-messages/v1/exchange.bin");
const LATEST: &[u8] = include_bytes!("../../../../tests/golden/device-messages/v1/exchange-2.bin");
const LIMITS: Limits = Limits { concurrent: 1, bytes_per_second: None };
const DEVICE: &str = "pump-7";
const IMAGE: usize = 1_500;
/// A key that no version knows yet, and its value.
const UNKNOWN: [u8; 4] = [0x18, 0x64, 0x61, b'x'];

/// A message, when it arrived and whether it comes from the device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    by_device: bool,
    ms: u64,
    bytes: Vec<u8>,
}

fn read(mut rest: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    while let Some((head, behind)) = rest.split_first_chunk::<7>() {
        let length = usize::from(u16::from_be_bytes([head[5], head[6]]));
        let (bytes, behind) = behind.split_at(length);
        let ms = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).into();
        all.push(Said { by_device: head[0] == b'>', ms, bytes: bytes.to_vec() });
        rest = behind;
    }
    assert!(rest.is_empty() && all.len() > 10);
    all
}

fn image() -> Vec<u8> {
    let mut image = release::image(5, IMAGE);
    image[..4].copy_from_slice(b"GOOD");
    image
}

/// The release is there, and the campaign runs, before the device comes.
fn gateway() -> (Fleet, u64) {
    let image = image();
    let parts = [release::component(0, &image, None)];
    let manifest = release::manifest(5, &parts);
    let signed = release::signed(&manifest, &Key::new(RELEASE));
    let file = [write_head(&signed, None, None).unwrap(), image].concat();
    let mut fleet = Fleet::new(LIMITS);
    let terms = Terms { devices: None, first: None, halt_at: HaltAt::Devices(1) };
    let id = fleet.push(&file, terms).unwrap();
    (fleet, id)
}

/// As a later version might say it: with something that this one does not know.
fn of_later_version(said: &Said) -> Said {
    let mut bytes = said.bytes.clone();
    assert!((0xa1..0xb7).contains(&bytes[0]), "a map of few pairs");
    bytes[0] += 1;
    bytes.extend(UNKNOWN);
    if let Ok(Message::Hello(_)) = Message::read(&said.bytes) {
        // Behind the kind: key 1, the greatest version that it speaks.
        assert_eq!(bytes[1..5], [0, 1, 1, PROTOCOL]);
        bytes[4] = PROTOCOL + 1;
    }
    Said { bytes, ..said.clone() }
}

/// What was said, but for the number of a report, which is the device's own.
fn unnumbered(bytes: &[u8]) -> Message<'_> {
    let mut message = Message::read(bytes).unwrap();
    if let Message::Report(report) = &mut message {
        report.number = 0;
    }
    message
}

/// The gateway of this version with a device that says what is frozen: it answers as it did.
fn meet_gateway(exchange: &[Said], change: impl Fn(&Said) -> Said) {
    let (mut fleet, id) = gateway();
    fleet.answers = Some(Vec::new());
    for said in exchange.iter().filter(|said| said.by_device) {
        fleet.ms = said.ms;
        let now = fleet.moment();
        fleet.desk.handle_timeout(now);
        let bytes = change(said).bytes;
        fleet.desk.handle_message(now, DEVICE, Via::Mqtt, &bytes);
        fleet.carry_out();
    }
    let mut answers = fleet.answers.take().unwrap();
    // As they would arrive: what has to be on flash first takes longer.
    answers.sort_by_key(|(ms, _)| *ms);
    let expected: Vec<_> = exchange.iter().filter(|said| !said.by_device).collect();
    assert_eq!(answers.len(), expected.len());
    for (at, ((_, answer), expected)) in answers.iter().zip(expected).enumerate() {
        assert_eq!(Message::read(answer), Message::read(&expected.bytes), "answer {at}");
        assert_eq!(*answer, expected.bytes, "answer {at}");
    }
    assert_eq!(fleet.campaign(id).count(Stage::Confirmed), 1);
}

/// The device of this version with a gateway that says what is frozen: it comes to the same end.
fn meet_device(exchange: &[Said], change: impl Fn(&Said) -> Said) {
    let mut fleet = Fleet::new(LIMITS);
    fleet.heard = Some(Vec::new());
    fleet.add(DEVICE, true);
    for said in exchange.iter().filter(|said| !said.by_device) {
        fleet.arrives(said.ms, DEVICE, change(said).bytes);
    }
    fleet.run(600, |fleet| fleet.sequence(DEVICE) == 5);
    assert_eq!(fleet.sequence(DEVICE), 5);
    assert_eq!(fleet.beginning(DEVICE, IMAGE), image());
    let heard = fleet.heard.take().unwrap();
    // All of it in this order; it may say more, and the last may not have gone out yet.
    let mut heard = heard.iter();
    let expected: Vec<_> = exchange.iter().filter(|said| said.by_device).collect();
    let (_, but_last) = expected.split_last().unwrap();
    for (at, expected) in but_last.iter().enumerate() {
        let expected = unnumbered(&expected.bytes);
        assert!(
            heard.any(|(_, bytes)| unnumbered(bytes) == expected),
            "message {at}: {expected:?}"
        );
    }
}

/// An upgrade as it goes now.
fn whole() -> Vec<Said> {
    let (mut fleet, id) = gateway();
    fleet.record = Some(Vec::new());
    fleet.add(DEVICE, true);
    assert!(fleet.run(600, |fleet| fleet.campaign(id).count(Stage::Confirmed) == 1));
    fleet.run(5, |_| false);
    let record = fleet.record.take().unwrap();
    record.into_iter().map(|(by_device, ms, bytes)| Said { by_device, ms, bytes }).collect()
}

#[test]
fn a_whole_upgrade_goes_as_it_is_frozen() {
    assert_eq!(whole(), read(LATEST));
}

#[test]
fn devices_of_the_versions_that_are_frozen_are_upgraded_by_this_gateway() {
    for frozen in [FIRST, LATEST] {
        meet_gateway(&read(frozen), Said::clone);
    }
}

#[test]
fn a_device_of_this_version_is_upgraded_by_gateways_of_the_versions_that_are_frozen() {
    for frozen in [FIRST, LATEST] {
        meet_device(&read(frozen), Said::clone);
    }
}

/// To a later device this gateway is the one below: it says so, and passes over what it does not know.
#[test]
fn a_device_of_the_next_version_is_upgraded_by_this_gateway_in_the_version_of_both() {
    meet_gateway(&read(LATEST), of_later_version);
}

#[test]
fn a_device_of_this_version_is_upgraded_by_a_gateway_of_the_next() {
    meet_device(&read(LATEST), of_later_version);
}

/// Writes what the next version freezes, to `exchange.bin` in the folder for temporary files.
#[test]
#[ignore = "writes the file of a new exchange; replaces none that is frozen"]
fn write_an_exchange() {
    let mut bytes = Vec::new();
    for Said { by_device, ms, bytes: message } in whole() {
        bytes.push(if by_device { b'>' } else { b'<' });
        bytes.extend(u32::try_from(ms).unwrap().to_be_bytes());
        bytes.extend(u16::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
    }
    std::fs::write(std::env::temp_dir().join("exchange.bin"), bytes).unwrap();
}
