//! The envelope's bytes: frozen files, round trips, refusals.

use std::borrow::Cow;

use proptest::prelude::*;
use tidegate_stream::{Epoch, Seq};
use tidegate_wire::PublisherIdentity;

use crate::OutboundMessage;
use crate::envelope::{Clock, Envelope, EnvelopeError, MAX_HEADERS};

fn minimal() -> Envelope<'static> {
    Envelope {
        gateway: "gw-01",
        epoch: Epoch(1),
        stream: "telemetry",
        seq: Seq(1),
        topic: "sensors/pump/telemetry",
        client: "pump",
        key: None,
        unix_ms: 0,
        clock: Clock::Unsynced,
        publisher: None,
        retain: false,
        expiry_s: None,
        response_topic: None,
        correlation: None,
        user: Vec::new(),
    }
}

fn full() -> Envelope<'static> {
    Envelope {
        epoch: Epoch(u32::MAX),
        seq: Seq(u64::MAX),
        topic: "sensors/Pumpe Süd/telemetry",
        client: "pump, \"south\"",
        unix_ms: 1_767_225_600_123,
        clock: Clock::Synced,
        publisher: Some(PublisherIdentity { boot: 7, seq: 41 }),
        retain: true,
        expiry_s: Some(3_600),
        response_topic: Some("replies/pump"),
        correlation: Some(Cow::Borrowed(&[0x00, 0x7f, 0xff])),
        user: vec![("unit", "°C"), ("unit", "K"), ("", ""), ("tg-seq", "forged")],
        ..minimal()
    }
}

fn keyed() -> Envelope<'static> {
    let user = vec![("tg-key", "forged")];
    Envelope { key: Some("Halle 3/pump"), retain: true, user, ..minimal() }
}

/// One header a line, as in the document; then the rest of the message.
fn text(message: &OutboundMessage) -> String {
    let mut lines = vec![format!("topic: {}", message.topic)];
    lines.extend(message.content_type.iter().map(|kind| format!("content type: {kind}")));
    lines.push(format!("payload is text: {}", message.payload_is_text));
    lines.extend(message.headers.iter().map(|(name, value)| format!("header {name}: {value}")));
    let payload: String = message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
    lines.push(format!("payload: {payload}"));
    lines.join("\n") + "\n"
}

fn borrowed(message: &OutboundMessage) -> Vec<(&str, &str)> {
    message.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn version_1_is_written_as_frozen_in_the_golden_files() {
    // Do not change these files: they are what consumers already hold.
    let least = minimal().encode(b"12.5".to_vec(), None, false);
    assert_eq!(text(&least), include_str!("../../../../tests/golden/envelope/v1/minimal.txt"));
    let json = Some("application/json".to_owned());
    let most = full().encode(br#"{"t":12.5}"#.to_vec(), json, true);
    assert_eq!(text(&most), include_str!("../../../../tests/golden/envelope/v1/full.txt"));
    let with_key = keyed().encode(b"12.5".to_vec(), None, false);
    assert_eq!(text(&with_key), include_str!("../../../../tests/golden/envelope/v1/keyed.txt"));
}

#[test]
fn version_1_is_read_back_from_the_golden_files() {
    let files = [
        (include_str!("../../../../tests/golden/envelope/v1/minimal.txt"), minimal()),
        (include_str!("../../../../tests/golden/envelope/v1/full.txt"), full()),
        (include_str!("../../../../tests/golden/envelope/v1/keyed.txt"), keyed()),
    ];
    for (file, envelope) in files {
        let headers = file
            .lines()
            .filter_map(|line| line.strip_prefix("header "))
            .map(|line| line.split_once(": ").unwrap());
        assert_eq!(Envelope::parse(headers), Ok(envelope));
    }
}

#[test]
fn publisher_cannot_forge_the_identity_nor_lose_a_property() {
    let envelope = Envelope {
        user: vec![("tg-seq", "1"), ("tg-x-tg-gw", "twice"), ("tg-pub-boot", "broken")],
        ..minimal()
    };
    let message = envelope.encode(Vec::new(), None, false);
    assert_eq!(Envelope::parse(borrowed(&message)), Ok(envelope));
}

#[test]
fn identity_of_the_publisher_is_not_repeated_among_its_properties() {
    let user = vec![("tg-pub-boot", "7"), ("unit", "C"), ("tg-pub-seq", "41")];
    let message = Envelope { user, ..full() }.encode(Vec::new(), None, false);
    let parsed = Envelope::parse(borrowed(&message)).unwrap();
    assert_eq!(parsed.publisher, Some(PublisherIdentity { boot: 7, seq: 41 }));
    assert_eq!(parsed.user, [("unit", "C")]);
}

#[test]
fn each_required_header_is_missed_when_absent_and_refused_when_repeated() {
    let message = minimal().encode(Vec::new(), None, false);
    assert_eq!(message.headers.len(), 9);
    for at in 0..9 {
        let mut headers = borrowed(&message);
        let (name, value) = headers.remove(at);
        match Envelope::parse(headers.clone()) {
            Err(EnvelopeError::Missing { name: missing }) => assert_eq!(missing, name),
            other => panic!("without {name}: {other:?}"),
        }
        headers.extend([(name, value), (name, value)]);
        let repeated = EnvelopeError::Repeated { name: name.to_owned() };
        assert_eq!(Envelope::parse(headers), Err(repeated));
    }
}

#[test]
fn wrong_values_are_refused_with_their_header_and_value() {
    let message = full().encode(Vec::new(), None, false);
    let wrong = [
        ("tg-v", "0"),
        ("tg-v", "v1"),
        ("tg-epoch", "4294967296"),
        ("tg-epoch", "01"),
        ("tg-seq", "-1"),
        ("tg-seq", ""),
        ("tg-time", "-0"),
        ("tg-time", "9223372036854775808"),
        ("tg-time", "1.5"),
        ("tg-clock", "Synced"),
        ("tg-pub-seq", "+1"),
        ("tg-retain", "0"),
        ("tg-expiry", "4294967296"),
        ("tg-correlation", "0"),
        ("tg-correlation", "0G"),
        ("tg-correlation", "ÄÄ"),
    ];
    for (header, value) in wrong {
        let headers = borrowed(&message);
        let changed = headers
            .iter()
            .map(|(name, old)| if *name == header { (*name, value) } else { (*name, *old) });
        match Envelope::parse(changed) {
            Err(EnvelopeError::Value { name, value: shown, .. }) => {
                assert_eq!((name, shown.as_str()), (header, value));
            }
            other => panic!("{header} = {value:?}: {other:?}"),
        }
    }
    let newer = borrowed(&message)
        .into_iter()
        .map(|(name, value)| if name == "tg-v" { (name, "2") } else { (name, value) });
    assert_eq!(Envelope::parse(newer), Err(EnvelopeError::Version { version: 2 }));
}

#[test]
fn headers_of_a_newer_gateway_are_left_out_and_too_many_are_refused() {
    let message = minimal().encode(Vec::new(), None, false);
    let mut headers = borrowed(&message);
    headers.insert(0, ("tg-hop", "2"));
    assert_eq!(Envelope::parse(headers.clone()), Ok(minimal()));
    headers.resize(MAX_HEADERS + 1, ("a", "b"));
    assert!(matches!(Envelope::parse(headers), Err(EnvelopeError::TooMany { .. })));
}

proptest! {
    #[test]
    fn any_envelope_survives_the_round_trip(
        texts in proptest::array::uniform4("\\PC{0,12}"),
        key in proptest::option::of("\\PC{0,12}"),
        epoch in any::<u32>(),
        seq in any::<u64>(),
        unix_ms in any::<i64>(),
        publisher in proptest::option::of((any::<u64>(), any::<u64>())),
        expiry_s in proptest::option::of(any::<u32>()),
        correlation in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        user in proptest::collection::vec(("(tg-(x-)?)?\\PC{0,6}", "\\PC{0,6}"), 0..6),
    ) {
        let envelope = Envelope {
            gateway: &texts[0],
            epoch: Epoch(epoch),
            stream: &texts[1],
            seq: Seq(seq),
            topic: &texts[2],
            client: &texts[3],
            key: key.as_deref(),
            unix_ms,
            publisher: publisher.map(|(boot, seq)| PublisherIdentity { boot, seq }),
            expiry_s,
            correlation: correlation.map(Cow::Owned),
            user: user.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            ..minimal()
        };
        let message = envelope.encode(Vec::new(), None, false);
        prop_assert_eq!(Envelope::parse(borrowed(&message)), Ok(envelope));
    }

    #[test]
    fn any_headers_are_parsed_or_refused_without_a_panic(
        headers in proptest::collection::vec(
            ("(tg-(v|gw|epoch|stream|seq|topic|client|time|clock|pub-seq|correlation)|\\PC{0,4})",
             "(1|-?[0-9]{1,20}|synced|[0-9a-f]{0,4}|\\PC{0,8})"), 0..20),
    ) {
        let _ = Envelope::parse(headers.iter().map(|(n, v)| (n.as_str(), v.as_str())));
    }
}
