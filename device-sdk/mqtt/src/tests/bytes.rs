//! What goes out is what an independent encoder makes of the same, and whatever comes in does no harm.

use proptest::prelude::*;
use std::vec::Vec;
use tidegate_peer::Version::V5;
use tidegate_peer::encode::{self, prop as property};

use super::{CONNACK, CONNACK_PRESENT, config, drain, first, up};
use crate::{Client, Config, Event, Login, Message, Micros, Publish, PublishError, Qos, Why};

const NOW: Micros = Micros(1_000_000);

#[test]
fn packets_are_those_of_an_independent_encoder() {
    let (mut shelf, mut input) = ([0; 512], [0; 256]);
    let login = Some(Login { user: "pump", password: b"\0secret" });
    let mut client = Client::new(
        Config { login, keep_alive: 60, ..config(&["a/#", "b"]) },
        &mut shelf,
        &mut input,
    );
    let properties = Publish {
        correlation: Some(b"c-1"),
        user: &[("tg-pub-boot", "7"), ("tg-pub-seq", "41")],
        expiry: Some(9),
        retain: true,
        ..Publish::new("s/t", b"21.5")
    };
    assert_eq!(client.publish(&Publish { qos: Qos::AtMostOnce, ..Publish::new("s", b"") }), Ok(0));
    assert_eq!(client.publish(&properties), Ok(1));
    let (connect, rest) = up(&mut client, NOW, CONNACK);
    let expected = encode::connect(V5, "pump-7");
    let mut expected = expected.keep().keep_alive(60);
    expected.properties.clear();
    let mut expected = expected
        .with(property::four(property::SESSION_EXPIRY, 86_400))
        .with(property::two(property::RECEIVE_MAXIMUM, 4))
        .with(property::four(property::MAX_PACKET, 256));
    expected.user = Some(b"pump".to_vec());
    expected.password = Some(b"\0secret".to_vec());
    assert_eq!(connect, expected.bytes());
    let publish = encode::publish("s/t", "21.5")
        .qos(1, 1)
        .retain()
        .with(property::four(property::MESSAGE_EXPIRY, 9))
        .with(property::bytes(property::CORRELATION, "c-1"))
        .with(property::user("tg-pub-boot", "7"))
        .with(property::user("tg-pub-seq", "41"));
    let all = [
        encode::subscribe(V5, 0xff00, &[("a/#", 1)]),
        encode::subscribe(V5, 0xff01, &[("b", 1)]),
        encode::publish("s", "").bytes(V5),
        publish.bytes(V5),
    ];
    assert_eq!(rest, all.concat());
    client.leave();
    assert_eq!(drain(&mut client, NOW), b"\xe0\0");
    assert!(!client.is_up());
}

#[test]
fn a_message_is_acknowledged_after_it_was_handed_over() {
    let (mut shelf, mut input) = ([0; 64], [0; 64]);
    let mut client = Client::new(config(&[]), &mut shelf, &mut input);
    up(&mut client, NOW, CONNACK);
    let message = encode::publish("cmd/x", "go")
        .qos(1, 77)
        .with(property::bytes(property::RESPONSE_TOPIC, "r/1"))
        .with(property::subscription_id(200))
        .with(property::user("a", "b"))
        .with(property::bytes(property::CORRELATION, "c"))
        .bytes(V5);
    let expected = Message {
        topic: "cmd/x",
        payload: b"go",
        retain: false,
        response_topic: Some("r/1"),
        correlation: Some(b"c"),
    };
    // In two pieces.
    assert_eq!(first(&mut client, NOW, &message[..9]), None);
    assert_eq!(first(&mut client, NOW, &message[9..]), Some(Event::Message(expected)));
    assert_eq!(drain(&mut client, NOW), encode::ack(0x40, 77));
    assert!(client.is_settled());
    // A server that sends more than it may, before it is answered.
    for id in 1..=4 {
        let message = encode::publish("a", "").qos(1, id).bytes(V5);
        assert!(matches!(first(&mut client, NOW, &message), Some(Event::Message(_))));
    }
    let message = encode::publish("a", "").qos(1, 5).bytes(V5);
    assert_eq!(first(&mut client, NOW, &message), Some(Event::Down(Why::Malformed)));
}

#[test]
fn what_cannot_be_taken_is_refused_with_the_reason() {
    let (mut shelf, mut input) = ([0; 64], [0; 64]);
    let mut client = Client::new(config(&[]), &mut shelf, &mut input);
    for topic in ["", "a/+", "#"] {
        assert_eq!(client.publish(&Publish::new(topic, b"")), Err(PublishError::Topic));
    }
    assert_eq!(client.publish(&Publish::new("a", &[0; 60])), Err(PublishError::TooLong));
    assert_eq!(client.publish(&Publish::new("a", &[0; 30])), Ok(1));
    assert_eq!(client.publish(&Publish::new("a", &[0; 30])), Err(PublishError::Full));
    assert_eq!(client.publish(&Publish::new("a", &[0; 2])), Ok(3));
    // The server takes packets of 20 bytes at most: what is longer has no place to go.
    client.connected(NOW);
    drain(&mut client, NOW);
    let connack = encode::packet(0x20, b"\0\0\x05\x27\0\0\0\x14");
    assert_eq!(first(&mut client, NOW, &connack), Some(Event::Up { session_present: false }));
    assert_eq!(client.dropped(), 1);
    assert_eq!(drain(&mut client, NOW).len(), 2 + 3 + 2 + 1 + 2);
    assert_eq!(client.publish(&Publish::new("a", &[0; 30])), Err(PublishError::TooLong));
}

#[test]
fn more_is_sent_than_the_server_takes_only_when_it_has_answered() {
    let (mut shelf, mut input) = ([0; 256], [0; 64]);
    let mut client = Client::new(config(&[]), &mut shelf, &mut input);
    for _ in 0..5 {
        client.publish(&Publish::new("a", b"x")).unwrap();
    }
    client.connected(NOW);
    drain(&mut client, NOW);
    let connack = encode::packet(0x20, b"\0\0\x03\x21\0\x02");
    assert_eq!(first(&mut client, NOW, &connack), Some(Event::Up { session_present: false }));
    assert_eq!(drain(&mut client, NOW).len(), 2 * 9);
    let acknowledged = Event::Acknowledged { id: 2, reason: 0x87 };
    assert_eq!(first(&mut client, NOW, &encode::ack_with(0x40, 2, 0x87)), Some(acknowledged));
    assert_eq!(drain(&mut client, NOW).len(), 9);
    // Neither what was never sent nor what is gone is acknowledged.
    assert_eq!(first(&mut client, NOW, &encode::ack(0x40, 5)), None);
    assert_eq!(first(&mut client, NOW, &encode::ack(0x40, 2)), None);
}

#[test]
fn a_server_that_breaks_the_rules_is_left() {
    let cases: [(&[u8], Why); 8] = [
        (b"\xe0\0", Why::Server(0)),
        (b"\xe0\x02\x8b\0", Why::Server(0x8b)),
        (b"\x30\x05\0\x01aab", Why::Malformed),
        (b"\x34\x06\0\x01a\0\x01\0", Why::Malformed),
        (b"\x30\x03\0\0\0", Why::Malformed),
        (b"\x30\x80\x80\x80\x80\x01", Why::Malformed),
        (b"\x30\x85\0\0\x01a\0b", Why::Malformed),
        (b"\x30\x7f", Why::TooLong),
    ];
    for (bytes, why) in cases {
        let (mut shelf, mut input) = ([0; 64], [0; 64]);
        let mut client = Client::new(config(&[]), &mut shelf, &mut input);
        up(&mut client, NOW, CONNACK_PRESENT);
        let mut rest = bytes;
        assert_eq!(client.handle_input(NOW, &mut rest), Some(Event::Down(why)), "{bytes:?}");
        assert_eq!(drain(&mut client, NOW), []);
        let mut more = &b"\x20\x03\0\0\0"[..];
        assert_eq!(client.handle_input(NOW, &mut more), None);
    }
    let (mut shelf, mut input) = ([0; 64], [0; 64]);
    let mut client = Client::new(config(&[]), &mut shelf, &mut input);
    client.connected(NOW);
    drain(&mut client, NOW);
    assert_eq!(first(&mut client, NOW, b"\x20\x03\0\x87\0"), Some(Event::Refused(0x87)));
}

proptest! {
    #[test]
    fn no_bytes_do_harm(
        before in any::<bool>(),
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        kinds in prop::collection::vec(prop::sample::select(std::vec![0x20_u8, 0x30, 0x32, 0x40, 0x90, 0xd0, 0xe0]), 12),
    ) {
        let (mut shelf, mut input) = ([0; 64], [0; 32]);
        let mut client = Client::new(config(&["a"]), &mut shelf, &mut input);
        let _ = client.publish(&Publish::new("a", b"x"));
        client.connected(NOW);
        drain(&mut client, NOW);
        if before {
            first(&mut client, NOW, CONNACK);
        }
        for (chunk, kind) in chunks.iter().zip(kinds) {
            // Packets with a right head are more telling than noise.
            let packet: Vec<u8> = encode::packet(kind, chunk);
            for bytes in [&packet[..], chunk] {
                let mut rest = bytes;
                while client.handle_input(NOW, &mut rest).is_some() {}
                prop_assert!(rest.is_empty());
                let _ = client.publish(&Publish::new("a", b"y"));
                drain(&mut client, NOW);
            }
        }
    }
}
