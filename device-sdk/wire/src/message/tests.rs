//! Bytes frozen per version of the protocol: tests/golden/device-messages. Do not change these
//! files, nor this test's expectations: devices in the field speak them.

use proptest::prelude::*;
use std::vec::Vec;

use super::*;
use crate::manifest::Side;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/golden/device-messages/v1/", $name, ".cbor"))
    };
}

const DIGEST: [u8; 8] = *b"\x01\x23\x45\x67\x89\xab\xcd\xef";

fn hello() -> Hello<'static> {
    let installed =
        |id, side| Installed { id, version: "1.4.2", digest: DIGEST, room: 65_536, side };
    Hello {
        protocol: PROTOCOL,
        sdk: "0.1.0",
        vendor: [0x11; 16],
        class: [0x22; 16],
        message: 1_280,
        block: 224,
        capabilities: capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS,
        boot_abi: 1,
        sequence: 41,
        floor: 40,
        key_set: 3,
        components: InstalledList::new([installed(0, None), installed(1, Some(Side::B))]).unwrap(),
        reason: Reason::Reverted,
        trial: Some(2),
        pending: Some(DIGEST),
    }
}

fn report() -> Report {
    let phase = Phase::Reverted;
    Report { number: 9, campaign: 7, from: 41, to: 42, phase, code: 16, retries: 3, bytes: 70_000 }
}

const REQUEST: Request =
    Request { manifest: DIGEST, entry: 1, base: 300, bitmap: 0x8000_0001, credit: 8, tag: 23 };

fn every_message() -> [(Message<'static>, &'static [u8]); 14] {
    let small = Hello { trial: None, pending: None, reason: Reason::Power, ..hello() };
    let offer = Offer { campaign: 7, envelope: b"manifest", second: None, key_set: None };
    let whole = Offer { second: Some(b"second"), key_set: Some(b"keys"), ..offer };
    let answer = |verdict| Message::Answer(Answer { campaign: 7, verdict });
    let command = Command { campaign: 7, order: Order::Apply };
    [
        (Message::Hello(hello()), golden!("hello")),
        (Message::Hello(small), golden!("hello-small")),
        (Message::Welcome(Welcome { protocol: 1, time: Some(1_800_000_000) }), golden!("welcome")),
        (Message::Welcome(Welcome { protocol: 1, time: None }), golden!("welcome-untimed")),
        (Message::Offer(offer), golden!("offer")),
        (Message::Offer(whole), golden!("offer-whole")),
        (answer(Verdict::Accept), golden!("accept")),
        (answer(Verdict::Defer(600)), golden!("defer")),
        (answer(Verdict::Reject(Refusal::Floor)), golden!("reject")),
        (Message::Request(REQUEST), golden!("request")),
        (Message::Block(Block { tag: 23, index: 300, data: &[0xda; 224] }), golden!("block")),
        (Message::Command(command), golden!("command")),
        (Message::Report(report()), golden!("report")),
        (Message::Received(Received { number: 9 }), golden!("received")),
    ]
}

fn written(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; MAX_MESSAGE];
    let length = message.write(&mut out).unwrap();
    out[..length].to_vec()
}

#[test]
fn frozen_messages_are_written_and_read() {
    for (message, frozen) in every_message() {
        assert_eq!(written(&message), frozen, "{message:?}");
        assert_eq!(Message::read(frozen), Ok(message));
    }
}

/// Each with one pair more: passed over from 0 on, refused below.
#[test]
fn keys_of_later_versions_are_passed_over_and_critical_ones_refused() {
    for (message, frozen) in every_message() {
        let mut later = frozen.to_vec();
        later[0] += 1;
        later.extend_from_slice(b"\x18\x63\x82\x01\xa1\x01\xf5");
        assert_eq!(Message::read(&later), Ok(message));
        let mut critical = frozen.to_vec();
        critical[0] += 1;
        critical.extend_from_slice(b"\x21\x00");
        assert_eq!(Message::read(&critical), Err(FormError::Critical { key: -2 }));
    }
}

#[test]
fn each_cut_is_refused() {
    for (message, frozen) in every_message() {
        for cut in 0..frozen.len() {
            assert!(Message::read(&frozen[..cut]).is_err(), "{message:?}, {cut}");
        }
        let mut out = [0; MAX_MESSAGE];
        for room in 0..frozen.len() {
            assert_eq!(message.write(&mut out[..room]), Err(Full), "{message:?}, {room}");
        }
    }
}

#[test]
fn a_kind_of_a_later_version_is_unknown() {
    assert_eq!(Message::read(b"\xa2\x00\x18\x2a\x01\x02"), Ok(Message::Unknown(42)));
    assert_eq!(Message::read(b"\xa1\x01\x02"), Err(FormError::Missing { key: 0 }));
    assert_eq!(Message::read(b"\xa0"), Err(FormError::Missing { key: 0 }));
}

#[test]
fn values_out_of_range_are_refused() {
    for (message, at, key) in [
        (Message::Request(Request { bitmap: 0, ..REQUEST }), "no block", 4),
        (Message::Request(Request { credit: 0, ..REQUEST }), "no credit", 5),
        (Message::Request(Request { credit: 33, ..REQUEST }), "too much credit", 5),
        (Message::Request(Request { tag: 24, ..REQUEST }), "a long tag", 6),
        (Message::Block(Block { tag: 0, index: 0, data: &[] }), "an empty block", 3),
        (Message::Block(Block { tag: 0, index: 0, data: &[0; 1_025] }), "a long block", 3),
        (Message::Hello(Hello { block: 16, ..hello() }), "blocks too small", 6),
    ] {
        assert_eq!(Message::read(&written(&message)), Err(FormError::range(key)), "{at}");
    }
}

#[test]
fn codes_are_what_they_were() {
    for code in 1..=u8::MAX {
        assert_eq!(Refusal::of(code).code(), code);
        assert_eq!(Phase::of(code).code(), code);
    }
    assert_eq!((Refusal::Form.code(), Refusal::Floor.code(), Refusal::Flash.code()), (1, 8, 17));
    assert_eq!((Phase::Accepted.code(), Phase::Failed.code()), (1, 6));
}

#[test]
fn the_largest_offer_fits_the_largest_message() {
    let envelope = [0; crate::manifest::MAX_ENVELOPE];
    let second = [0; crate::sign1::OVERHEAD + 1];
    let key_set = [0; crate::key_set::MAX_KEY_SET];
    let offer = Offer {
        campaign: u64::MAX,
        envelope: &envelope,
        second: Some(&second),
        key_set: Some(&key_set),
    };
    written(&Message::Offer(offer));
}

proptest! {
    #[test]
    fn requests_blocks_and_reports_survive_the_round_trip(
        manifest in any::<[u8; 8]>(),
        (entry, base, bitmap) in (0..8u8, any::<u32>(), 1..=u32::MAX),
        (credit, tag) in (1..=32u8, 0..=MAX_TAG),
        data in prop::collection::vec(any::<u8>(), 1..1_024),
        numbers in any::<[u32; 3]>(),
        sequences in any::<[u64; 3]>(),
        (phase, code) in (1..=255u8, any::<u8>()),
    ) {
        let request = Request { manifest, entry, base, bitmap, credit, tag };
        let block = Block { tag, index: base, data: &data };
        let [number, retries, bytes] = numbers;
        let [campaign, from, to] = sequences;
        let phase = Phase::of(phase);
        let report = Report { number, campaign, from, to, phase, code, retries, bytes };
        for message in [Message::Request(request), Message::Block(block), Message::Report(report)] {
            let bytes = written(&message);
            prop_assert_eq!(Message::read(&bytes), Ok(message));
        }
    }

    #[test]
    fn bytes_of_any_kind_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Message::read(&bytes);
        let _ = crate::manifest::Manifest::read(&bytes);
        let _ = crate::key_set::KeySet::read(&bytes);
    }
}
