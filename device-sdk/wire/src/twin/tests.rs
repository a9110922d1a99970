//! Bytes frozen per version of the format: tests/golden/twin. Do not change these files, nor this
//! test's expectations: devices in the field speak them.

use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::cbor::FormError;

const DESIRED: &[u8] = include_bytes!("../../../../tests/golden/twin/v1/desired.cbor");
const FIRST: &[u8] = include_bytes!("../../../../tests/golden/twin/v1/desired-first.cbor");
const REPORTED: &[u8] = include_bytes!("../../../../tests/golden/twin/v1/reported.cbor");

fn property<'a>(name: &'a str, since: u64, value: Value<'a>) -> Property<'a> {
    Property { name, since, value }
}

fn properties() -> [Property<'static>; 5] {
    [
        property("on", 7, Value::Bool(true)),
        property("limit", 9, Value::Fixed { number: 215, digits: 1 }),
        property("mode", 8, Value::Text("eco")),
        property("offset", 3, Value::Int(-40)),
        property("old", 6, Value::Nothing),
    ]
}

fn reported() -> Vec<u8> {
    let mut out = [0; MAX_TWIN];
    let mut length = begin_reported(&mut out, 9, true).unwrap();
    // As `tidegate-telemetry` writes a record.
    let record = b"\xa2\x65limit\xc4\x82\x20\x18\xd7\x62on\xf5";
    out[length..length + record.len()].copy_from_slice(record);
    length += record.len();
    length += write_refused(&mut out[length..], "mode", "there is no eco").unwrap();
    out[..length].to_vec()
}

#[test]
fn frozen_twins_are_written_and_read() {
    let mut out = [0; MAX_TWIN];
    let length = write_desired(&mut out, 9, 5, properties().into_iter()).unwrap();
    assert_eq!(&out[..length], DESIRED);
    let desired = Desired::read(DESIRED).unwrap();
    assert_eq!((desired.version, desired.complete_from), (9, 5));
    assert_eq!(desired.properties().collect::<Vec<_>>(), properties());
    let names: Vec<_> = desired.since(6).map(|one| one.name).collect();
    assert_eq!(names, ["on", "limit", "mode"]);
    assert_eq!(desired.since(9).count(), 0);

    let first = [property("interval_s", 1, Value::Int(60))];
    let length = write_desired(&mut out, 1, 0, first.into_iter()).unwrap();
    assert_eq!(&out[..length], FIRST);
    assert_eq!(Desired::read(FIRST).unwrap().complete_from, 0);

    assert_eq!(reported(), REPORTED);
    let read = Reported::read(REPORTED).unwrap();
    assert_eq!((read.desired, read.refused()), (9, Some(("mode", "there is no eco"))));
    let values: Vec<_> = read.properties().map(|one| (one.name, one.value)).collect();
    let limit = Value::Fixed { number: 215, digits: 1 };
    assert_eq!(values, [("limit", limit), ("on", Value::Bool(true))]);
}

#[test]
fn twins_of_later_versions_and_beyond_the_limits_are_refused_and_unknown_keys_passed_over() {
    let later = [&DESIRED[..2], &[2], &DESIRED[3..]].concat();
    assert!(matches!(Desired::read(&later), Err(FormError::Range { key: 0 })));
    let more = [&[0xa5][..], &DESIRED[1..], &[0x04, 0x81, 0x07]].concat();
    assert_eq!(Desired::read(&more).unwrap().version, 9);
    let critical = [&[0xa5][..], &DESIRED[1..], &[0x20, 0x07]].concat();
    assert!(matches!(Desired::read(&critical), Err(FormError::Critical { .. })));
    let mut out = [0; MAX_TWIN];
    let many = (0..MAX_PROPERTIES + 1).map(|_| property("x", 1, Value::Int(1)));
    let many: Vec<_> = many.collect();
    let length = write_desired(&mut out, 1, 0, many.iter().copied()).unwrap();
    assert!(matches!(Desired::read(&out[..length]), Err(FormError::Range { key: 2 })));
    let long = "x".repeat(MAX_NAME + 1);
    for wrong in [property(&long, 1, Value::Int(1)), property("", 1, Value::Int(1))] {
        let length = write_desired(&mut out, 1, 0, [wrong].into_iter()).unwrap();
        assert!(Desired::read(&out[..length]).is_err());
    }
    let text = "x".repeat(MAX_TEXT + 1);
    let length = [property("x", 1, Value::Text(&text))].into_iter();
    let length = write_desired(&mut out, 1, 0, length).unwrap();
    assert!(Desired::read(&out[..length]).is_err());
}

proptest! {
    /// What is read can be walked over to its end, whatever it is.
    #[test]
    fn any_bytes_are_refused_or_can_be_walked_over(
        mut bytes in prop::sample::select(&[DESIRED, FIRST, REPORTED][..]).prop_map(<[u8]>::to_vec),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(desired) = Desired::read(&bytes) {
            let properties = desired.properties();
            prop_assert_eq!(properties.count_left(), properties.count());
        }
        if let Ok(reported) = Reported::read(&bytes) {
            let properties = reported.properties();
            prop_assert_eq!(properties.count_left(), properties.count());
        }
    }
}
