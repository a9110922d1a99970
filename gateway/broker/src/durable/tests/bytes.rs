//! Bytes frozen per format version: tests/golden/sessions. Do not change these files, nor this
//! test: a new version gets new ones.

use std::time::Duration;

use proptest::prelude::*;

use crate::durable::Amount;
use crate::durable::format::*;
use crate::durable::wills::WillValue;
use crate::losses::Row;
use crate::message::{Message, Properties, QoS};
use crate::session::Subscription;
use crate::topic::{TopicFilter, TopicName};

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../../../tests/golden/sessions/v1/", $name))
    };
    (v2 $name:literal) => {
        include_bytes!(concat!("../../../../../tests/golden/sessions/v2/", $name))
    };
    (v3 $name:literal) => {
        include_bytes!(concat!("../../../../../tests/golden/sessions/v3/", $name))
    };
}

fn session() -> SessionValue {
    SessionValue {
        client: "pump-7".to_owned(),
        user: Some("ann".to_owned()),
        expiry: Duration::from_secs(3600),
        presence: Presence::Gone(Some(1_780_000_000_123)),
    }
}

fn subscription() -> Subscription {
    Subscription {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: false,
        id: Some(300),
    }
}

fn place() -> PlaceValue {
    let settled = vec![(1_001, true), (1_002, false), (1_500, true)];
    PlaceValue {
        first: 1_000,
        sent_through: 1_501,
        floor: 1_000,
        owed: Amount::default(),
        in_doubt: vec![],
        settled,
    }
}

fn retained() -> RetainedValue {
    let topic = TopicName::parse("plant/state").unwrap();
    let mut message = Message::new(topic, "on", QoS::AtLeastOnce);
    message.retain = true;
    message.publisher = Some("pump-7".into());
    message.properties = Properties {
        payload_format: Some(true),
        message_expiry: Some(60),
        content_type: Some("text/plain".to_owned()),
        response_topic: None,
        correlation_data: Some(vec![1, 2]),
        user: vec![("unit".to_owned(), "m".to_owned())],
    }
    .into();
    RetainedValue { message, expires_ms: Some(1_780_000_060_000) }
}

fn targets() -> Vec<SpoolTarget> {
    let one = SpoolTarget {
        session: 1,
        qos: QoS::AtLeastOnce,
        retain: false,
        replay: false,
        subscription_ids: vec![],
        share: None,
    };
    let other = SpoolTarget {
        session: 200,
        qos: QoS::ExactlyOnce,
        retain: true,
        replay: true,
        subscription_ids: vec![1, 268_435_455],
        share: None,
    };
    vec![one, other]
}

fn encoded_targets(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_targets(targets().iter(), &mut bytes);
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn values_have_the_bytes_that_they_had() {
    assert_eq!(session().encode(), golden!("session.bin"));
    assert_eq!(encode_subscription(&subscription()), golden!("subscription.bin"));
    assert_eq!(place().encode(), golden!("place.bin"));
    assert_eq!(retained().encode(), golden!("retained.bin"));
    assert_eq!(encoded_targets(b"21.5"), golden!("spool-payload.bin"));
    assert_eq!(encode_next(300), b"\x01\xac\x02");
    assert_eq!(key(SESSION, 7, &[]), b"s\0\0\0\0\0\0\0\x07");
    assert_eq!(key(SUBSCRIPTION, 7, b"a/#"), b"f\0\0\0\0\0\0\0\x07a/#");
    assert_eq!(receipt_key(7, 258), b"i\0\0\0\0\0\0\0\x07\x01\x02");
    assert_eq!(retained_key(&retained().message.topic), b"rplant/state");
}

fn place_with_a_floor() -> PlaceValue {
    let owed = Amount { messages: 3, bytes: 700 };
    PlaceValue { floor: 1_400, owed, ..place() }
}

fn place_with_doubts() -> PlaceValue {
    PlaceValue { in_doubt: vec![100..140, 700..900], ..place_with_a_floor() }
}

fn row() -> Row {
    Row {
        lost: Amount { messages: 1_200, bytes: 240_000 },
        told: Amount { messages: 1_000, bytes: 200_000 },
        unix_ms: 1_780_000_000_123,
    }
}

#[test]
fn frozen_values_of_later_versions_are_written_and_read() {
    assert_eq!(place_with_a_floor().encode(), golden!(v2 "place.bin"));
    assert_eq!(PlaceValue::decode(golden!(v2 "place.bin")), Some(place_with_a_floor()));
    assert_eq!(place_with_doubts().encode(), golden!(v3 "place.bin"));
    assert_eq!(PlaceValue::decode(golden!(v3 "place.bin")), Some(place_with_doubts()));
    assert_eq!(encode_loss(&row()), golden!("loss.bin"));
    assert_eq!(decode_loss(golden!("loss.bin")), Some(row()));
    assert_eq!(loss_key(3, "pump-7"), b"l\x03pump-7");
    assert_eq!(split_loss_key(b"l\x03pump-7"), Some((3, "pump-7")));
}

#[test]
fn frozen_values_are_read() {
    assert_eq!(SessionValue::decode(golden!("session.bin")), Some(session()));
    let (filter, read) = decode_subscription(b"a/#", golden!("subscription.bin")).unwrap();
    assert_eq!((filter.as_str(), read), ("a/#", subscription()));
    assert_eq!(PlaceValue::decode(golden!("place.bin")), Some(place()));
    let topic = retained().message.topic;
    assert_eq!(RetainedValue::decode(topic, golden!("retained.bin")), Some(retained()));
    assert_eq!(decode_next(b"n", b"\x01\xac\x02"), Some(300));
    let read = SpoolTarget::decode_all(golden!("spool-payload.bin"));
    assert_eq!(read, Some((targets(), &b"21.5"[..])));
    assert_eq!(split_key(b"i\0\0\0\0\0\0\0\x07\x01\x02"), Some((7, &[1, 2][..])));
}

fn will() -> WillValue {
    let mut message = retained().message;
    message.payload = "off".into();
    WillValue { message, delay: Duration::from_secs(300) }
}

/// One of them by a shared subscription.
fn shared_targets() -> Vec<SpoolTarget> {
    let mut targets = targets();
    targets[0].share = Some(TopicFilter::parse("$share/g/t").unwrap());
    targets
}

#[test]
fn what_version_2_has_added_has_the_bytes_that_it_had() {
    let frozen = include_bytes!("../../../../../tests/golden/sessions/v2/will.bin");
    assert_eq!(will().encode(), frozen);
    assert_eq!(WillValue::decode(frozen), Some(will()));
    let frozen = include_bytes!("../../../../../tests/golden/sessions/v2/spool-payload.bin");
    let mut bytes = Vec::new();
    encode_targets(shared_targets().iter(), &mut bytes);
    bytes.extend_from_slice(b"21.5");
    assert_eq!(bytes, frozen);
    assert_eq!(SpoolTarget::decode_all(frozen), Some((shared_targets(), &b"21.5"[..])));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = 1 + *first % 3;
        }
        let _ = SessionValue::decode(&bytes);
        let _ = decode_subscription(b"a", &bytes);
        let _ = PlaceValue::decode(&bytes);
        let _ = WillValue::decode(&bytes);
        let _ = SpoolTarget::decode_all(&bytes);
        let _ = RetainedValue::decode(TopicName::parse("t").unwrap(), &bytes);
    }

    #[test]
    fn places_come_back(first in 1..u64::MAX / 4, ahead in 0..5_000u64, floor in 0..3_000u64,
                        steps in prop::collection::vec((1..2_000u64, any::<bool>()), 0..50),
                        doubts in prop::collection::vec((1..90u64, 1..900u64), 0..9)) {
        let mut end = 0;
        let in_doubt = doubts.into_iter().map(|(gap, long)| {
            let start = end + gap;
            end = start + long;
            start..end
        });
        let in_doubt = in_doubt.collect();
        let mut at = first;
        let settled = steps.into_iter().map(|(step, received)| { at += step; (at, received) });
        let place = PlaceValue {
            first,
            sent_through: first + ahead,
            floor: first + floor,
            owed: if floor > 0 { Amount { messages: ahead, bytes: floor } } else { Amount::default() },
            in_doubt,
            settled: settled.collect(),
        };
        prop_assert_eq!(PlaceValue::decode(&place.encode()), Some(place));
    }
}
