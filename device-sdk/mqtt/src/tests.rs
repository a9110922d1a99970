//! The client against a server that is put together from an independent encoder.

mod bytes;
mod delivery;
mod serial;
mod times;

use std::vec::Vec;

use crate::{Client, Config, Event, Micros};

/// Everything that is to be sent, as if it were.
fn drain(client: &mut Client<'_>, now: Micros) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let count = client.output(now).len();
        all.extend_from_slice(client.output(now));
        client.sent(now, count);
        if count == 0 {
            return all;
        }
    }
}

/// The first event of some bytes, which have to be all that is read for it.
fn first<'c>(client: &'c mut Client<'_>, now: Micros, mut bytes: &[u8]) -> Option<Event<'c>> {
    let event = client.handle_input(now, &mut bytes);
    assert!(bytes.is_empty());
    event
}

const CONNACK: &[u8] = b"\x20\x03\0\0\0";
const CONNACK_PRESENT: &[u8] = b"\x20\x03\x01\0\0";

/// Connects; answers what the client has said.
fn up(client: &mut Client<'_>, now: Micros, connack: &[u8]) -> (Vec<u8>, Vec<u8>) {
    client.connected(now);
    let connect = drain(client, now);
    let present = connack[2] == 1;
    assert_eq!(first(client, now, connack), Some(Event::Up { session_present: present }));
    (connect, drain(client, now))
}

fn config(subscriptions: &'static [&'static str]) -> Config<'static> {
    Config { subscriptions, ..Config::new("pump-7") }
}
