//! Bytes frozen per version: tests/golden/manifest. Do not change these files, nor this test's
//! expectations: devices in the field read them.

use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::cbor::{CborError, Writer};
use crate::digest::Digest;

const SMALL: &[u8] = include_bytes!("../../../../tests/golden/manifest/v1/small.cbor");
const FULL: &[u8] = include_bytes!("../../../../tests/golden/manifest/v1/full.cbor");

fn image(id: u8) -> Component<'static> {
    Component {
        id,
        version: "1.0.0",
        size: 4_096,
        digest: Digest([id; 32]),
        encoding: Encoding::None,
        side: None,
    }
}

fn small<'a>(components: &'a [Component<'a>]) -> Manifest<'a> {
    Manifest {
        sequence: 1,
        vendor: [0x11; 16],
        class: [0x22; 16],
        devices: Devices::ALL,
        floor: 0,
        components: Components::new(components).unwrap(),
        current: (0, u64::MAX),
        needs: Needs::default(),
        not_after: None,
        policy: Policy::default(),
        label: "",
    }
}

fn every_encoding() -> [Component<'static>; 4] {
    let (digest, base) = (Digest([0xe0; 32]), Digest([0xba; 32]));
    let delta = Encoding::Delta { size: 1_300, digest, base_size: 58_000, base };
    let packed = Encoding::Heatshrink { size: 40_000, digest };
    let version = "2.0.0+build.7";
    let image = Component { version, size: 58_100, ..image(0) };
    [
        Component { encoding: delta, side: Some(Side::A), ..image },
        Component { encoding: packed, side: Some(Side::B), ..image },
        Component { encoding: packed, ..image },
        Component { id: 3, ..image },
    ]
}

fn full<'a>(components: &'a [Component<'a>], devices: &'a [u8]) -> Manifest<'a> {
    Manifest {
        sequence: 300,
        devices: Devices::new(devices).unwrap(),
        floor: 299,
        components: Components::new(components).unwrap(),
        current: (7, 299),
        needs: Needs { capabilities: 3, boot_abi: 2 },
        not_after: Some(1_900_000_000),
        policy: Policy {
            apply: Apply::Window { from: 120, minutes: 90 },
            self_test: 60,
            contact: 3_600,
            attempts: 5,
        },
        label: "pump controller, spring release",
        ..small(components)
    }
}

fn written(manifest: &Manifest<'_>) -> Vec<u8> {
    let mut out = [0; MAX_MANIFEST];
    let length = manifest.write(&mut out).unwrap();
    out[..length].to_vec()
}

#[test]
fn frozen_manifests_are_written_and_read() {
    let images = [image(0)];
    let encodings = every_encoding();
    let devices = [0xde; 32];
    for (manifest, frozen) in [(small(&images), SMALL), (full(&encodings, &devices), FULL)] {
        assert_eq!(written(&manifest), frozen);
        assert_eq!(Manifest::read(frozen), Ok(manifest));
    }
}

/// The pairs of a small manifest, each changed or left out by the tests below.
fn with(change: impl Fn(&mut Writer<'_>), skip: u64, pairs: usize) -> Vec<u8> {
    let images = [image(0)];
    let whole = written(&small(&images));
    let mut out = [0; MAX_MANIFEST];
    let mut writer = Writer::new(&mut out);
    writer.map(pairs).unwrap();
    let mut reader = Reader::new(&whole);
    for _ in 0..reader.map().unwrap() {
        let from = reader.position();
        let key = reader.uint().unwrap();
        reader.skip(4).unwrap();
        if key != skip {
            writer.raw(&whole[from..reader.position()]).unwrap();
        }
    }
    change(&mut writer);
    let length = writer.len();
    out[..length].to_vec()
}

#[test]
fn a_key_that_is_not_known_is_passed_over_and_a_critical_one_is_refused() {
    let images = [image(0)];
    let later = with(|w| w.raw(b"\x18\x40\xa1\x01\x83\xf6\xf9\x3c\x00\x62ab").unwrap(), 99, 7);
    assert_eq!(Manifest::read(&later), Ok(small(&images)));
    let critical = with(|w| w.raw(b"\x20\x01").unwrap(), 99, 7);
    assert_eq!(Manifest::read(&critical), Err(FormError::Critical { key: -1 }));
    let deep = with(|w| w.raw(b"\x18\x40\x81\x81\x81\x81\x81\x00").unwrap(), 99, 7);
    let refused = Manifest::read(&deep);
    assert!(matches!(refused, Err(FormError::Encoding(CborError::TooDeep { .. }))), "{refused:?}");
}

#[test]
fn each_key_that_has_to_be_there_is_missed() {
    for key in [0, 1, 2, 3, 5, 6] {
        let without = with(|_| (), key, 5);
        assert_eq!(Manifest::read(&without), Err(FormError::missing(key)));
    }
}

#[test]
fn keys_out_of_order_or_twice_are_refused() {
    for again in [6, 0, 5] {
        let bytes = with(
            |writer| {
                writer.uint(again).unwrap();
                writer.uint(1).unwrap();
            },
            99,
            7,
        );
        assert_eq!(Manifest::read(&bytes), Err(FormError::Order { key: again as u16 }));
    }
}

#[test]
fn a_floor_above_the_sequence_and_a_range_that_is_empty_are_refused() {
    let images = [image(0)];
    let floor = written(&Manifest { floor: 2, ..small(&images) });
    assert_eq!(Manifest::read(&floor), Err(FormError::range(key::FLOOR)));
    let current = written(&Manifest { current: (2, 1), ..small(&images) });
    assert_eq!(Manifest::read(&current), Err(FormError::range(key::CURRENT)));
    let never = written(&Manifest { sequence: 0, ..small(&images) });
    assert_eq!(Manifest::read(&never), Err(FormError::range(key::SEQUENCE)));
}

#[test]
fn components_without_bytes_with_an_unknown_id_or_too_many_are_refused() {
    for (component, key) in [
        (Component { size: 0, ..image(0) }, 2),
        (Component { size: MAX_IMAGE + 1, ..image(0) }, 2),
        (image(MAX_ID + 1), 0),
        (Component { version: "a version that takes more than 24 bytes", ..image(0) }, 1),
    ] {
        let bytes = written(&small(&[component]));
        assert_eq!(Manifest::read(&bytes), Err(FormError::range(key)));
    }
    assert_eq!(Components::new(&[]), None);
    assert_eq!(Components::new(&[image(0); 9]), None);
}

#[test]
fn an_image_as_it_is_has_no_base_and_no_second_size() {
    let bytes = written(&small(&[every_encoding()[0]]));
    // The encoding is the pair 4: 2; as it is would be 4: 0, packed without a base 4: 1.
    let at = bytes.windows(4).position(|w| w == [4, 2, 5, 0x19]).unwrap();
    for encoding in [0, 1] {
        let mut changed = bytes.clone();
        changed[at + 1] = encoding;
        assert_eq!(Manifest::read(&changed), Err(FormError::Range { key: 4 }));
    }
}

#[test]
fn a_device_is_meant_by_name_or_by_none() {
    let names = [[7; DEVICE_BYTES], [9; DEVICE_BYTES]].concat();
    let some = Devices::new(&names).unwrap();
    assert!(some.contains(&[9; 16]) && !some.contains(&[8; 16]));
    assert!(Devices::ALL.contains(&[8; 16]));
    assert_eq!(Devices::new(&names[1..]), None);
    assert_eq!(Devices::new(&[0; 17 * 16]), None);
}

#[test]
fn what_is_longer_than_a_manifest_may_be_is_not_written() {
    let components = [every_encoding()[0]; 8];
    let mut out = [0; 4_096];
    assert_eq!(small(&components).write(&mut out), Err(crate::cbor::Full));
}

fn components() -> impl Strategy<Value = Vec<Component<'static>>> {
    let sizes = (0..=MAX_ID, 1..=MAX_IMAGE, 1..=MAX_IMAGE, 1..=MAX_IMAGE);
    let component = (sizes, any::<[u8; 3]>(), 0..3usize, 0..3usize);
    let component = component.prop_map(|((id, size, travels, base_size), fill, encoding, side)| {
        let [digest, base, own] = fill.map(|byte| Digest([byte; 32]));
        Component {
            id,
            version: ["", "0.1.0-rc.1", "123456789012345678901234"][usize::from(id) % 3],
            size,
            digest: own,
            encoding: match encoding {
                0 => Encoding::None,
                1 => Encoding::Heatshrink { size: travels, digest },
                _ => Encoding::Delta { size: travels, digest, base_size, base },
            },
            side: [None, Some(Side::A), Some(Side::B)][side],
        }
    });
    prop::collection::vec(component, 1..=4)
}

proptest! {
    #[test]
    fn every_manifest_survives_the_round_trip(
        components in components(),
        sequence in 1..u64::MAX,
        below in any::<u64>(),
        current in any::<(u64, u64)>(),
        not_after in any::<Option<u64>>(),
        devices in 0usize..4,
        deadlines in (1..=Policy::MAX_DEADLINE, 1..=Policy::MAX_DEADLINE),
        (attempts, apply) in (1..=10u8, 0..3usize),
        label in "[a-z ]{0,64}",
    ) {
        let names = std::vec![0x5a; devices * DEVICE_BYTES];
        let apply = [Apply::Auto, Apply::Ask, Apply::Window { from: 1_439, minutes: 1_440 }][apply];
        let manifest = Manifest {
            sequence,
            floor: below % sequence,
            current: (current.0.min(current.1), current.0.max(current.1)),
            not_after,
            devices: Devices::new(&names).unwrap_or(Devices::ALL),
            policy: Policy { apply, self_test: deadlines.0, contact: deadlines.1, attempts },
            label: &label,
            ..small(&components)
        };
        let bytes = written(&manifest);
        prop_assert_eq!(Manifest::read(&bytes), Ok(manifest));
        for cut in 0..bytes.len() {
            prop_assert!(Manifest::read(&bytes[..cut]).is_err());
        }
    }
}
