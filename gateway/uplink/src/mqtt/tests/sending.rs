//! What the client writes, and which answer is for what.

use std::time::Duration;

use proptest::prelude::*;
use tidegate_stream::{Epoch, Seq};
use tidegate_wire::PublisherIdentity;

use super::*;
use crate::{BodyFormat, Clock, Part, RefuseReason};

#[test]
fn connect_is_these_bytes() {
    let login = Some(("bob".to_owned(), "pw".to_owned()));
    let mut client = Client::new(ClientOptions { login, ..options(Version::V5) });
    let expected = [
        b"\x10\x29\x00\x04MQTT\x05".as_slice(),
        b"\xc2\x00\x1e",             // user name, password, clean start; 30 s
        b"\x05\x27\x00\x00\x04\x00", // 1,024 bytes at most
        b"\x00\x0etidegate-gw-up",
        b"\x00\x03bob\x00\x02pw",
    ];
    assert_eq!(sent(&mut client), expected.concat());
    let login = Some(("bob".to_owned(), String::new()));
    let mut client = Client::new(ClientOptions { login, ..options(Version::V311) });
    let expected =
        [b"\x10\x1f\x00\x04MQTT\x04\x82\x00\x1e".as_slice(), b"\x00\x0etidegate-gw-up\x00\x03bob"];
    assert_eq!(sent(&mut client), expected.concat(), "an empty password is left out");
}

#[test]
fn example_of_the_envelope_document_is_what_is_sent() {
    let mut client = open(Version::V5);
    client.send(1, one(b"12.5"));
    let wire = sent(&mut client);
    let begin = b"\x32\x92\x01\x00\x0dtidegate/gw/s\x00\x01\x7c\x26\x00\x04tg-v\x00\x011";
    assert_eq!(&wire[..begin.len()], begin);
    assert!(wire.ends_with(b"\x26\x00\x08tg-clock\x00\x06synced12.5"));
    assert_eq!(wire.len(), 3 + 146);
}

#[test]
fn each_answer_reaches_the_batch_it_is_for_in_whatever_order() {
    let mut client = open(Version::V5);
    for token in 10..14 {
        client.send(token, one(token.to_string().as_bytes()));
    }
    let ids: Vec<u16> =
        publishes(Version::V5, &sent(&mut client)).iter().map(|publish| publish.id).collect();
    assert_eq!(ids, [1, 2, 3, 4]);
    let input = [[0x40, 3, 0, 3, 0x10, 0x40, 2, 0], [1, 0x40, 4, 0, 4, 0x97, 0, 0x40]].concat();
    client.handle_input(some_instant(), &input).unwrap();
    client.handle_input(some_instant(), &[3, 0, 2, 0x95]).unwrap();
    assert_eq!(
        events(&mut client),
        [
            ClientEvent::Acknowledged { token: 12 },
            ClientEvent::Acknowledged { token: 10 },
            ClientEvent::Refused { token: 13, reason: RefuseReason::QuotaExceeded },
            ClientEvent::Refused {
                token: 11,
                reason: RefuseReason::PacketTooLarge { bytes: None, max: None }
            },
        ]
    );
}

#[test]
fn no_more_is_on_its_way_than_the_server_allows_and_nothing_is_lost_over_it() {
    // Receive Maximum 2.
    let connack = [0x20, 6, 0, 0, 3, 0x21, 0, 2];
    let mut client = welcomed(options(Version::V5), &connack);
    for token in 0..5 {
        client.send(token, one(token.to_string().as_bytes()));
    }
    let mut seen = Vec::new();
    for token in 0..5 {
        let publishes = publishes(Version::V5, &sent(&mut client));
        assert!(publishes.len() <= 2);
        seen.extend(publishes);
        let [high, low] = seen[token].id.to_be_bytes();
        client.handle_input(some_instant(), &[0x40, 2, high, low]).unwrap();
        assert_eq!(events(&mut client), [ClientEvent::Acknowledged { token: token as u64 }]);
    }
    let payloads: Vec<&[u8]> = seen.iter().map(|publish| &publish.payload[..]).collect();
    assert_eq!(payloads, [b"0", b"1", b"2", b"3", b"4"]);
}

#[test]
fn packet_ids_go_round_the_longest_unused_first() {
    let ids = ClientOptions { packet_ids: 3, ..options(Version::V5) };
    let mut client = welcomed(ids, &[0x20, 3, 0, 0, 0]);
    let mut used = Vec::new();
    for token in 0..7 {
        client.send(token, one(b"x"));
        let id = publishes(Version::V5, &sent(&mut client))[0].id;
        used.push(id);
        client.handle_input(some_instant(), &[0x40, 2, 0, id as u8]).unwrap();
    }
    assert_eq!(used, [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(events(&mut client).len(), 7);
}

#[test]
fn batch_that_is_too_large_goes_in_several_messages_and_is_answered_once() {
    let packing = Some(BodyFormat::Ndjson);
    let options = ClientOptions { packing, max_message: Some(700), ..options(Version::V5) };
    let mut client = welcomed(options, &[0x20, 3, 0, 0, 0]);
    let record = |seq, payload| OutboundRecord { seq: Seq(seq), payload, ..Default::default() };
    let mut records: Vec<OutboundRecord> = (1..=20).map(|seq| record(seq, vec![b'x'])).collect();
    records[7].payload = vec![b'x'; 1_000];
    client.send(1, batch("s", records));
    client.send(2, batch("s", vec![record(21, vec![b'x'])]));
    let messages = publishes(Version::V5, &sent(&mut client));
    assert!(messages.len() > 3);
    let seqs = messages.iter().flat_map(|message| {
        assert_eq!(message.content_type.as_deref(), Some("application/x-ndjson"));
        assert!(message.is_text && message.user.is_empty());
        let lines = str::from_utf8(&message.payload).unwrap().lines();
        let seqs = lines.map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap()
        });
        seqs.collect::<Vec<u64>>()
    });
    let expected: Vec<u64> = (1..=21).filter(|seq| *seq != 8).collect();
    assert_eq!(seqs.collect::<Vec<u64>>(), expected, "in order, without the one that does not fit");
    let mut taken = Vec::new();
    for message in &messages {
        client.handle_input(some_instant(), &[0x40, 2, 0, message.id as u8]).unwrap();
        let mut news = events(&mut client);
        if message == messages.last().unwrap() {
            assert_eq!(news, [ClientEvent::Acknowledged { token: 2 }]);
            break;
        }
        if message == messages.iter().rev().nth(1).unwrap() {
            match news.pop() {
                Some(ClientEvent::Refused {
                    token: 1,
                    reason: RefuseReason::PacketTooLarge { .. },
                }) => {}
                other => panic!("{other:?}"),
            }
        }
        match news[..] {
            [ClientEvent::Taken { token: 1, part }] => {
                let seqs = part.range.first.0..=part.range.last.0;
                assert_eq!(seqs.clone().count(), part.records);
                taken.extend(seqs);
            }
            _ => panic!("{news:?}"),
        }
    }
    assert_eq!(taken, expected[..19], "what the server has, each once");
}

#[test]
fn of_a_batch_in_several_messages_the_last_answer_is_for_all_that_is_left() {
    let packing = Some(BodyFormat::Ndjson);
    let options = ClientOptions { packing, max_message: Some(400), ..options(Version::V5) };
    let mut client = welcomed(options, &[0x20, 3, 0, 0, 0]);
    let record = |seq| OutboundRecord { seq: Seq(seq), ..Default::default() };
    let records: Vec<OutboundRecord> = (1..=4).map(record).collect();
    let bytes = records[0].len_bytes() * 2;
    client.send(1, batch("s", records));
    let messages = publishes(Version::V5, &sent(&mut client));
    assert_eq!(messages.len(), 2);
    // In whatever order they are answered, and the first of them with a quota.
    client.handle_input(some_instant(), &[0x40, 2, 0, 2, 0x40, 3, 0, 1, 0x97]).unwrap();
    let range = SeqRange { first: Seq(3), last: Seq(4) };
    let expected = [
        ClientEvent::Taken { token: 1, part: Part { range, records: 2, bytes } },
        ClientEvent::Refused { token: 1, reason: RefuseReason::QuotaExceeded },
    ];
    assert_eq!(events(&mut client), expected);
    client.send(2, batch("s", (1..=4).map(record).collect()));
    let ids: Vec<u8> =
        publishes(Version::V5, &sent(&mut client)).iter().map(|sent| sent.id as u8).collect();
    client.handle_input(some_instant(), &[0x40, 2, 0, ids[0], 0x40, 2, 0, ids[1]]).unwrap();
    let range = SeqRange { first: Seq(1), last: Seq(2) };
    let expected = [
        ClientEvent::Taken { token: 2, part: Part { range, records: 2, bytes } },
        ClientEvent::Acknowledged { token: 2 },
    ];
    assert_eq!(events(&mut client), expected);
}

#[test]
fn size_is_judged_to_the_byte() {
    let mut client = Client::new(options(Version::V5));
    client.send(1, one(b"12.5"));
    sent(&mut client);
    // Maximum Packet Size 148; the packet of the envelope's document has 149.
    client.handle_input(some_instant(), &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 148]).unwrap();
    client.send(2, one(b"1.5"));
    assert_eq!(sent(&mut client).len(), 148);
    let (bytes, max) = (Some(149), Some(148));
    let reason = RefuseReason::PacketTooLarge { bytes, max };
    let expected = [ClientEvent::Opened, ClientEvent::Refused { token: 1, reason }];
    assert_eq!(events(&mut client), expected);
}

#[test]
fn what_mqtt_cannot_carry_is_refused_with_its_name_and_nothing_of_it_is_sent() {
    let long = "x".repeat(65_536);
    let user = |name: &str, value: &str| {
        let user = vec![(name.to_owned(), value.to_owned())];
        batch("s", vec![OutboundRecord { user, ..OutboundRecord::default() }])
    };
    let content_type = Some(long.clone());
    let kind = OutboundRecord { content_type, ..OutboundRecord::default() };
    let topic = OutboundRecord { topic: "a\0".to_owned(), ..OutboundRecord::default() };
    let cases = [
        (batch("a/#", vec![OutboundRecord::default()]), "\"tidegate/gw/a/#\" is no topic name"),
        (batch("a\0", vec![OutboundRecord::default()]), "topic holds U+0000"),
        (batch("s", vec![topic]), "tg-topic holds U+0000"),
        (user("unit", &long), "unit is 65536 bytes long"),
        (user(&long, "C"), "name of a user property is 65536 bytes long"),
        (user("unit", "\0"), "unit holds U+0000"),
        (batch("s", vec![kind]), "content type is 65536 bytes long"),
        (batch("s", vec![OutboundRecord::default(); 2]), "2 records in a message that carries one"),
    ];
    for (batch, why) in cases {
        let mut client = open(Version::V5);
        client.send(7, batch);
        assert_eq!(sent(&mut client), [0; 0], "{why}");
        match &events(&mut client)[..] {
            [ClientEvent::Refused { token: 7, reason: RefuseReason::Unencodable(what) }] => {
                assert!(what.starts_with(why), "{what}");
            }
            other => panic!("{why}: {other:?}"),
        }
    }
}

#[test]
fn server_that_does_not_answer_a_ping_is_gone() {
    let start = some_instant();
    let mut client = Client::new(options(Version::V5));
    sent(&mut client);
    assert_eq!(client.poll_timeout(), None);
    // Its own keep-alive: 10 s.
    client.handle_input(start, &[0x20, 6, 0, 0, 3, 0x13, 0, 10]).unwrap();
    let after = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(client.poll_timeout(), Some(after(10)));
    client.handle_timeout(after(9)).unwrap();
    assert_eq!(sent(&mut client), [0; 0]);
    client.handle_timeout(after(10)).unwrap();
    assert_eq!(sent(&mut client), [0xc0, 0]);
    client.handle_input(after(11), &[0xd0, 0]).unwrap();
    client.handle_timeout(after(20)).unwrap();
    assert_eq!(sent(&mut client), [0xc0, 0]);
    assert_eq!(client.handle_timeout(after(30)), Err(Broken::Silent));
}

#[test]
fn goodbye_comes_behind_what_was_sent_and_nothing_comes_behind_it() {
    let mut client = open(Version::V5);
    client.send(1, one(b"last"));
    client.leave();
    client.send(2, one(b"too late"));
    client.handle_input(some_instant(), &[0x32, 8, 0, 1, b'a', 0, 9, 0, b'h', b'i']).unwrap();
    client.handle_timeout(some_instant() + Duration::from_secs(60)).unwrap();
    let bytes = sent(&mut client);
    let (publish, goodbye) = bytes.split_at(bytes.len() - 2);
    assert_eq!(publishes(Version::V5, publish)[0].payload, b"last");
    assert_eq!(goodbye, [0xe0, 0]);
}

prop_compose! {
    fn record()(
        seq in 1..u64::MAX,
        topic in "[a-z/ä]{1,40}",
        client in "[a-z0-9 ]{0,20}",
        key in proptest::option::of("[a-z]{1,300}"),
        unix_ms in any::<i64>(),
        synced in any::<bool>(),
        publisher in proptest::option::of((any::<u64>(), any::<u64>())),
        retain in any::<bool>(),
        expiry_s in proptest::option::of(any::<u32>()),
        correlation in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
        user in proptest::collection::vec(("(tg-)?[a-z]{0,9}", "[^\u{0}]{0,30}"), 0..4),
        content_type in proptest::option::of("[a-z/]{1,20}"),
        payload_is_text in any::<bool>(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
    ) -> OutboundRecord {
        OutboundRecord {
            seq: Seq(seq),
            topic,
            client,
            key,
            unix_ms,
            clock: if synced { Clock::Synced } else { Clock::Unsynced },
            publisher: publisher.map(|(boot, seq)| PublisherIdentity { boot, seq }),
            retain,
            expiry_s,
            response_topic: content_type.clone(),
            correlation,
            user,
            content_type,
            payload_is_text,
            payload,
        }
    }
}

proptest! {
    #[test]
    fn record_arrives_as_the_message_that_it_is(
        records in proptest::collection::vec(record(), 1..8),
        portion in 1_usize..200,
    ) {
        let mut client = open(Version::V5);
        for (token, record) in records.iter().enumerate() {
            client.send(token as u64, batch("s", vec![record.clone()]));
        }
        // A socket that takes little at a time.
        let mut bytes = Vec::new();
        while let out @ [_, ..] = client.outbox() {
            let some = &out[..out.len().min(portion)];
            bytes.extend_from_slice(some);
            let count = some.len();
            client.written(count);
        }
        let messages = publishes(Version::V5, &bytes);
        prop_assert_eq!(messages.len(), records.len());
        for (message, record) in messages.into_iter().zip(records) {
            let expected = record.into_message("gw", "s", Epoch(1));
            prop_assert_eq!(message.topic, expected.topic);
            prop_assert_eq!(message.payload, expected.payload);
            prop_assert_eq!(message.user, expected.headers);
            prop_assert_eq!(message.content_type, expected.content_type);
            prop_assert_eq!(message.is_text, expected.payload_is_text);
        }
    }
}
