//! Servers that do not keep to the rules.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// What comes of these bytes instead of a CONNACK.
fn greeted(version: Version, bytes: &[u8]) -> Broken {
    let mut client = Client::new(options(version));
    client.handle_input(some_instant(), bytes).unwrap_err()
}

/// What comes of these bytes on an open connection on which one message is on its way.
fn told(version: Version, bytes: &[u8]) -> Broken {
    let mut client = open(version);
    client.send(1, one(b"x"));
    sent(&mut client);
    client.handle_input(some_instant(), bytes).unwrap_err()
}

#[test]
fn each_wrong_greeting_is_refused_with_its_fault() {
    let malformed = |why| Broken::Malformed { packet: "a CONNACK", why };
    let refused = |code, said: &str| Broken::Refused { code, said: said.to_owned() };
    let v5: [(&[u8], Broken); 13] = [
        (b"HTTP/1.1 400", Broken::Malformed { packet: "a PUBACK", why: Malformed::Flags }),
        (b"\x15\x03\x03", Broken::Malformed { packet: "a packet", why: Malformed::Type(1) }),
        (&[0x40, 2, 0, 1], Broken::NotConnAck),
        (&[0xf0, 0], Broken::Unexpected("an AUTH")),
        (&[0x20, 3, 0, 0x87, 0], refused(0x87, "")),
        (&[0x20, 8, 0, 0x9f, 5, 0x1f, 0, 2, b'n', b'o'], refused(0x9f, "no")),
        (&[0x20, 3, 2, 0, 0], malformed(Malformed::Flags)),
        (&[0x20, 2, 0, 0], malformed(Malformed::Short)),
        (&[0x20, 4, 0, 0, 0, 0], malformed(Malformed::Long)),
        (&[0x20, 5, 0, 0, 2, 0x7f, 0], malformed(Malformed::Property(0x7f))),
        (&[0x20, 7, 0, 0, 4, 0x1f, 0, 1, 0xff], malformed(Malformed::Text)),
        (&[0x20, 0x83, 0], malformed(Malformed::Length)),
        (&[0x20, 0x80, 0x80, 0x80, 0x80], malformed(Malformed::Length)),
    ];
    for (bytes, fault) in v5 {
        assert_eq!(greeted(Version::V5, bytes), fault, "{bytes:02x?}");
    }
    let unusable: [&[u8]; 3] = [
        &[0x20, 6, 0, 0, 3, 0x21, 0, 0],
        &[0x20, 5, 0, 0, 2, 0x24, 0],
        &[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 0],
    ];
    for bytes in unusable {
        let fault = greeted(Version::V5, bytes);
        assert!(matches!(fault, Broken::Unusable(_)), "{fault:?}");
    }
    assert_eq!(greeted(Version::V311, &[0x20, 2, 0, 5]), refused(5, ""));
    assert_eq!(greeted(Version::V311, &[0x20, 3, 0, 0, 0]), malformed(Malformed::Long));
    let disconnect = Broken::Malformed { packet: "a DISCONNECT", why: Malformed::Type(14) };
    assert_eq!(greeted(Version::V311, &[0xe0, 0]), disconnect);
}

#[test]
fn each_wrong_packet_is_refused_with_its_fault() {
    let puback = |why| Broken::Malformed { packet: "a PUBACK", why };
    let ended = |code, said: &str| Broken::Ended { code, said: said.to_owned() };
    let cases: [(&[u8], Broken); 12] = [
        (&[0x40, 2, 0, 2], Broken::Unsolicited { id: 2 }),
        (&[0x40, 2, 0xff, 0xff], Broken::Unsolicited { id: 0xffff }),
        (&[0x40, 2, 0, 0], puback(Malformed::PacketId)),
        (&[0x40, 3, 0, 1, 0x01], puback(Malformed::Code(1))),
        (&[0x40, 1, 0], puback(Malformed::Short)),
        (&[0x40, 2, 0, 1, 0x40, 2, 0, 1], Broken::Unsolicited { id: 1 }),
        (&[0x20, 3, 0, 0, 0], Broken::Unexpected("a second CONNACK")),
        (&[0x90, 3, 0, 1, 0], Broken::Unexpected("a SUBACK")),
        (&[0xd0, 1, 0], Broken::Malformed { packet: "a PINGRESP", why: Malformed::Long }),
        (&[0xe0, 1, 0x8b], ended(0x8b, "")),
        (&[0xe0, 8, 0x95, 6, 0x1f, 0, 3, b'b', 7, b'g'], ended(0x95, "bg")),
        (&[0x36, 0], Broken::Malformed { packet: "a PUBLISH", why: Malformed::Flags }),
    ];
    for (bytes, fault) in cases {
        assert_eq!(told(Version::V5, bytes), fault, "{bytes:02x?}");
    }
    assert_eq!(told(Version::V311, &[0x40, 3, 0, 1, 0]), puback(Malformed::Long));
}

#[test]
fn packet_that_is_too_large_is_refused_before_its_body_is_stored() {
    let mut client = open(Version::V5);
    // 2 MiB announced, 1,024 bytes taken at most.
    let fault = client.handle_input(some_instant(), &[0x30, 0x80, 0x80, 0x80, 0x01]);
    assert_eq!(fault, Err(Broken::TooLarge { bytes: 2_097_157, max: 1_024 }));
}

#[test]
fn message_that_nobody_asked_for_is_answered_and_dropped() {
    let mut client = open(Version::V5);
    let messages = [
        [0x30, 5, 0, 1, b'a', 0, b'x'].as_slice(),
        &[0x32, 7, 0, 1, b'a', 0, 5, 0, b'x'],
        &[0x34, 7, 0, 1, b'a', 0, 6, 0, b'x'],
        &[0x62, 2, 0, 6],
    ];
    client.handle_input(some_instant(), &messages.concat()).unwrap();
    assert_eq!(sent(&mut client), [0x40, 2, 0, 5, 0x50, 2, 0, 6, 0x70, 2, 0, 6]);
    assert_eq!(events(&mut client), []);
}

#[test]
fn server_that_reads_nothing_is_not_read_from_for_ever() {
    let mut client = open(Version::V5);
    let message = [0x32, 6, 0, 1, b'a', 0, 5, 0].repeat(1_000);
    let mut reads = 0;
    while client.wants_input() {
        client.handle_input(some_instant(), &message).unwrap();
        reads += 1;
        assert!(reads < 100);
    }
    assert!(client.outbox().len() <= OUTBOX_BYTES + 4 * 1_000);
}

#[test]
fn messages_wait_in_their_batches_while_the_server_reads_nothing() {
    let mut client = open(Version::V311);
    for token in 0..16 {
        client.send(token, one(&[b'x'; 30_000]));
    }
    // Base64 would be longer; the text is a JSON string here.
    assert!(client.outbox().len() <= OUTBOX_BYTES + 31_000, "{}", client.outbox().len());
    let all = publishes(Version::V311, &sent(&mut client));
    assert_eq!(all.len(), 16);
}

/// A conversation of a well-behaved server, in pieces.
fn conversation() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let packet = prop_oneof![
        4 => (1_u8..17, prop_oneof![Just(0_u8), Just(0x10), Just(0x87), Just(0x97)]).prop_map(
            |(id, code)| if code == 0 { vec![0x40, 2, 0, id] } else { vec![0x40, 3, 0, id, code] }
        ),
        1 => Just(vec![0xd0, 0]),
        1 => proptest::collection::vec(any::<u8>(), 0..300).prop_map(|payload| {
            let mut packet = vec![0x30];
            wire::put_length(&mut packet, payload.len() + 4);
            packet.extend([0, 1, b'a', 0]);
            packet.extend(payload);
            packet
        }),
    ];
    proptest::collection::vec(packet, 0..30)
}

/// Events, fault and replies after input in these portions.
fn after(input: &[u8], portions: &[usize]) -> (Vec<ClientEvent>, Option<Broken>, Vec<u8>) {
    let mut client = open(Version::V5);
    (0..16).for_each(|token| client.send(token, one(b"x")));
    sent(&mut client);
    let (mut rest, mut fault, mut turn) = (input, None, 0);
    while !rest.is_empty() && fault.is_none() {
        let (some, more) = rest.split_at(rest.len().min(portions[turn % portions.len()]));
        fault = client.handle_input(some_instant(), some).err();
        (rest, turn) = (more, turn + 1);
    }
    (events(&mut client), fault, sent(&mut client))
}

proptest! {
    #[test]
    fn it_does_not_matter_in_which_portions_the_bytes_arrive(
        packets in conversation(),
        portions in proptest::collection::vec(1_usize..40, 1..10),
    ) {
        let input = packets.concat();
        prop_assert_eq!(after(&input, &portions), after(&input, &[usize::MAX]));
    }

    #[test]
    fn no_bytes_break_the_bounds_and_no_batch_is_answered_twice(
        packets in conversation(),
        noise in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        portions in proptest::collection::vec(1_usize..200, 1..10),
    ) {
        let mut input = packets.concat();
        for (place, byte) in noise {
            if !input.is_empty() {
                let place = place.index(input.len());
                input[place] = byte;
            }
        }
        let (events, _, _) = after(&input, &portions);
        let answered: Vec<u64> = events.iter().filter_map(|event| match event {
            ClientEvent::Acknowledged { token } | ClientEvent::Refused { token, .. } => Some(*token),
            ClientEvent::Opened | ClientEvent::Taken { .. } => None,
        }).collect();
        prop_assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), answered.len());
        prop_assert!(answered.iter().all(|token| *token < 16));
    }
}
