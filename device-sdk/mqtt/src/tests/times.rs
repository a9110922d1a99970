//! Silence.

use super::{CONNACK, config, drain, first, up};
use crate::{Client, Config, Event, Micros, Publish, Why};

const SECOND: u64 = 1_000_000;

#[test]
fn a_connection_that_has_fallen_silent_is_given_up() {
    let (mut shelf, mut input) = ([0; 64], [0; 64]);
    let mut client = Client::new(Config { keep_alive: 60, ..config(&[]) }, &mut shelf, &mut input);
    assert_eq!(client.next_deadline(), None);
    client.connected(Micros(0));
    drain(&mut client, Micros(0));
    assert_eq!(client.next_deadline(), Some(Micros(10 * SECOND)));
    assert_eq!(first(&mut client, Micros(9 * SECOND), b""), None);
    let down = Some(Event::Down(Why::Silence));
    assert_eq!(first(&mut client, Micros(10 * SECOND), b""), down);

    up(&mut client, Micros(0), CONNACK);
    assert_eq!(client.next_deadline(), Some(Micros(45 * SECOND)));
    assert_eq!(drain(&mut client, Micros(44 * SECOND)), b"");
    assert_eq!(drain(&mut client, Micros(45 * SECOND)), b"\xc0\0");
    assert_eq!(first(&mut client, Micros(50 * SECOND), b"\xd0\0"), None);
    // Whatever it says is a sign of life, and whatever is said is one to it.
    client.publish(&Publish::new("a", b"")).unwrap();
    drain(&mut client, Micros(60 * SECOND));
    assert_eq!(drain(&mut client, Micros(104 * SECOND)), b"");
    assert_eq!(drain(&mut client, Micros(105 * SECOND)), b"\xc0\0");
    assert_eq!(first(&mut client, Micros(149 * SECOND), b""), None);
    assert_eq!(first(&mut client, Micros(150 * SECOND), b""), down);
    assert_eq!(client.next_deadline(), None);
}

#[test]
fn the_server_says_how_long_silence_may_be() {
    let (mut shelf, mut input) = ([0; 64], [0; 64]);
    let mut client = Client::new(config(&[]), &mut shelf, &mut input);
    client.connected(Micros(0));
    drain(&mut client, Micros(0));
    first(&mut client, Micros(0), b"\x20\x06\0\0\x03\x13\0\x14");
    assert_eq!(client.next_deadline(), Some(Micros(15 * SECOND)));
}
