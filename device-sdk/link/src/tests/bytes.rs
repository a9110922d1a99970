//! Bytes frozen per version: tests/golden/link. Do not change these files, nor this test's
//! expectations: devices in the field speak them.

use std::vec::Vec;

use crate::control::{Control, Terms};
use crate::frame::{Frame, Header};
use crate::session::Session;

macro_rules! golden {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/golden/link/v1/", $name, ".bin"))
    };
}

const TERMS: Terms = Terms { mtu: 256, window: 4 };
const SESSION: Session = Session { device: 0x0123_4567, gateway: 0x89ab_cdef, terms: TERMS };

fn header(channel: u8) -> Header {
    Header {
        from_device: true,
        turn: false,
        reliable: false,
        more: false,
        address: 7,
        credit: 4,
        channel,
        seq: 0,
        ack: 3,
    }
}

fn written(header: Header, session: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = [0; 300];
    let length = header.write(session, payload, &mut out).unwrap();
    out[..length].to_vec()
}

#[test]
fn frozen_control_frames_are_written_and_read() {
    let inside = SESSION.number();
    let down = Header { from_device: false, ..header(0) };
    let turn = Header { turn: true, ..down };
    let open = Control::Open { nonce: 0x0123_4567, terms: TERMS };
    let pong = Control::Pong {
        t1: 1,
        t2: 1_700_000_000_000_000,
        t3: 1_700_000_000_000_001,
        trusted: true,
    };
    let cases: [(Header, u32, Control, &[u8]); 6] = [
        (header(0), 0, open, golden!("open")),
        (down, 0, SESSION.opened(), golden!("opened")),
        (turn, inside, Control::Acknowledge { bitmap: 0b101 }, golden!("acknowledge")),
        (header(0), inside, Control::Ping { t1: 5_000_000 }, golden!("ping")),
        (down, inside, pong, golden!("pong")),
        (turn, 0, Control::Hail, golden!("hail")),
    ];
    for (header, session, control, frozen) in cases {
        let (payload, length) = control.write();
        assert_eq!(written(header, session, &payload[..length]), frozen, "{control:?}");
        assert_eq!(Control::read(&payload[..length]), Some(control));
        let mut longer = payload[..length].to_vec();
        longer.push(9);
        assert_eq!(Control::read(&longer), Some(control), "a later version may add to it");
    }
}

#[test]
fn frozen_data_frames_are_written_and_read() {
    let reliable = Header { reliable: true, more: true, seq: 200, ..header(2) };
    let loose = header(4);
    for (header, payload, frozen) in
        [(reliable, &[0, 1, 0, 2][..], &golden!("data")[..]), (loose, b"booted", golden!("loose"))]
    {
        assert_eq!(written(header, SESSION.number(), payload), frozen);
    }
}

#[test]
fn a_frame_of_another_session_or_with_a_changed_byte_is_none() {
    let session = SESSION.number();
    let mut raw = std::vec![0x68, 7, 0x42, 200, 3, 2, 0, 0xaa, 0xbb];
    let crc = tidegate_wire::crc32c::extend(session, &raw);
    raw.extend(crc.to_le_bytes());
    let frame = Frame::parse(&raw).unwrap();
    assert!(frame.is_of(session));
    assert!(!frame.is_of(session ^ 1) && !frame.is_of(0));
    for bit in 0..raw.len() * 8 {
        let mut changed = raw.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let frame = Frame::parse(&changed);
        assert!(frame.is_none_or(|frame| !frame.is_of(session)), "bit {bit}");
    }
}
