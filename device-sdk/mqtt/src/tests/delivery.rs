//! Nothing is lost, however often connections and sessions are.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::vec::Vec;
use tidegate_peer::encode;

use super::{CONNACK, CONNACK_PRESENT, config};
use crate::{Client, Event, Micros, Publish, PublishError};

const NOW: Micros = Micros(5);

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    /// So many bytes of the client's arrive.
    Carry(usize),
    /// The server answers so many of what has arrived.
    Answer(usize),
    /// The connection breaks; whether the server keeps the session.
    Break(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..30).prop_map(Step::Publish),
        4 => (1_usize..60).prop_map(Step::Carry),
        2 => (1_usize..4).prop_map(Step::Answer),
        1 => any::<bool>().prop_map(Step::Break),
    ]
}

/// What a server has of a connection.
#[derive(Default)]
struct Server {
    bytes: Vec<u8>,
    unanswered: Vec<u16>,
    /// Numbers of messages, in the order in which they came, and whether they were marked as sent again.
    came: Vec<(u32, bool)>,
    let_in: bool,
}

impl Server {
    /// Whole packets, by the length in their second byte.
    fn read(&mut self) {
        while let Some(length) = self.bytes.get(1).copied().map(usize::from)
            && self.bytes.len() >= 2 + length
        {
            let packet: Vec<u8> = self.bytes.drain(..2 + length).collect();
            match packet[0] {
                0x10 => self.let_in = true,
                0x82 => {}
                first => {
                    assert_eq!(first & 0xf7, 0x32);
                    assert_eq!(packet[2..5], *b"\0\x01t");
                    self.unanswered.push(u16::from_be_bytes([packet[5], packet[6]]));
                    let number = u32::from_be_bytes(packet[8..12].try_into().unwrap());
                    self.came.push((number, first & 8 == 8));
                }
            }
        }
    }
}

fn carry(client: &mut Client<'_>, server: &mut Server, most: usize) {
    let mut left = most;
    while left > 0 {
        let output = client.output(NOW);
        let count = output.len().min(left);
        server.bytes.extend_from_slice(&output[..count]);
        client.sent(NOW, count);
        left -= count;
        if count == 0 {
            break;
        }
    }
    server.read();
}

proptest! {
    #[test]
    fn what_was_taken_arrives_in_order_until_it_is_acknowledged(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut shelf, mut input) = ([0; 200], [0; 64]);
        let mut client = Client::new(config(&["t"]), &mut shelf, &mut input);
        let mut server = Server::default();
        let (mut taken, mut acknowledged) = (0_u32, BTreeSet::new());
        let mut numbers = std::collections::BTreeMap::new();
        let mut arrived = BTreeSet::new();
        let mut present = false;
        client.connected(NOW);
        // In the end everything arrives.
        let tail = (0..80).flat_map(|_| [Step::Carry(100), Step::Answer(9)]);
        for step in steps.into_iter().chain(tail) {
            match step {
                Step::Publish(length) => {
                    let mut payload = taken.to_be_bytes().to_vec();
                    payload.resize(4 + usize::from(length), 7);
                    match client.publish(&Publish::new("t", &payload)) {
                        Ok(id) => {
                            numbers.insert(id, taken);
                            taken += 1;
                        }
                        Err(error) => prop_assert_eq!(error, PublishError::Full),
                    }
                }
                Step::Carry(most) => carry(&mut client, &mut server, most),
                Step::Answer(most) => {
                    let mut bytes = Vec::new();
                    if core::mem::take(&mut server.let_in) {
                        bytes.extend_from_slice(if present { CONNACK_PRESENT } else { CONNACK });
                    }
                    let most = most.min(server.unanswered.len());
                    for id in server.unanswered.drain(..most) {
                        bytes.extend(encode::ack(0x40, id));
                    }
                    let mut rest = &bytes[..];
                    while let Some(event) = client.handle_input(NOW, &mut rest) {
                        match event {
                            Event::Acknowledged { id, reason: 0 } => {
                                prop_assert!(arrived.contains(&numbers[&id]));
                                acknowledged.insert(numbers[&id]);
                            }
                            Event::Up { .. } => {}
                            other => panic!("{other:?}"),
                        }
                    }
                }
                Step::Break(keeps) => {
                    client.disconnected();
                    server.bytes.clear();
                    server.unanswered.clear();
                    server.let_in = false;
                    present = keeps;
                    client.connected(NOW);
                }
            }
            let mut first_seen = Vec::new();
            for (number, again) in server.came.drain(..) {
                // Who is marked as sent again was there.
                prop_assert!(!again || arrived.contains(&number));
                if arrived.insert(number) {
                    first_seen.push(number);
                }
            }
            prop_assert!(first_seen.is_sorted());
        }
        prop_assert_eq!(acknowledged.len(), taken as usize);
        prop_assert!(client.is_settled());
    }
}
