//! Ports in memory, with a gateway's link or a server at the other end.

use core::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

use embedded_io::{ErrorKind, ErrorType, Read, ReadReady, Write};
use tidegate_link::{Config, Link, Micros, Role};
use tidegate_mqtt::{Client, Event, Incoming, Line, Publish, Why};

use crate::{Error, MOST_READS, Port};

type DeviceLink = Link<256, 4, 1_280>;
type GatewayLink = Link<1_024, 8, 8_192>;
type Queue = Rc<RefCell<VecDeque<u8>>>;

/// One end of a cable.
#[derive(Clone, Default)]
struct End {
    comes: Queue,
    goes: Queue,
    closed: bool,
    /// Bytes of one write.
    takes: usize,
}

fn cable() -> (End, End) {
    let (one, other) = (Queue::default(), Queue::default());
    let end = |comes: &Queue, goes: &Queue| End {
        comes: comes.clone(),
        goes: goes.clone(),
        closed: false,
        takes: 7,
    };
    (end(&one, &other), end(&other, &one))
}

impl ErrorType for End {
    type Error = ErrorKind;
}

impl Read for End {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        let mut comes = self.comes.borrow_mut();
        assert!(self.closed || !comes.is_empty(), "it would wait for ever");
        let count = bytes.len().min(comes.len());
        bytes.iter_mut().zip(comes.drain(..count)).for_each(|(place, byte)| *place = byte);
        Ok(count)
    }
}

impl ReadReady for End {
    fn read_ready(&mut self) -> Result<bool, ErrorKind> {
        Ok(self.closed || !self.comes.borrow().is_empty())
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        if self.takes == 0 {
            return Err(ErrorKind::BrokenPipe);
        }
        let count = bytes.len().min(self.takes);
        self.goes.borrow_mut().extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

#[test]
fn a_client_on_a_line_is_carried_to_the_gateway_and_back() {
    let (ours, theirs) = cable();
    let mut link = DeviceLink::new(Config::new(Role::Device, 7), 1);
    let mut gateway = GatewayLink::new(Config::new(Role::Gateway, 7), 2);
    let (mut shelf, mut input) = ([0; 256], [0; 128]);
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
    client.publish(&Publish::new("s/t", b"21.5")).unwrap();
    let mut line = Line::new(1);
    let (mut near, mut far) = ([0; DeviceLink::MAX_OUTPUT], [0; GatewayLink::MAX_OUTPUT]);
    let (mut near, mut far) = (Port::new(ours, &mut near), Port::new(theirs, &mut far));
    let (mut acknowledged, mut ups) = (Vec::new(), 0);
    for ms in 0..200 {
        let now = Micros::from_millis(ms);
        near.carry_line(now, &mut link, &mut line, &mut client, |incoming| match incoming {
            Incoming::Mqtt(Event::Acknowledged { id, reason }) => acknowledged.push((id, reason)),
            Incoming::LinkUp => ups += 1,
            Incoming::Mqtt(_) | Incoming::Other { .. } | Incoming::LinkDown => {}
        })
        .unwrap();
        far.carry_link(now, &mut gateway).unwrap();
        while gateway.take_event().is_some() {}
        // The gateway's broker lets it in, and acknowledges.
        let said: Vec<_> = core::iter::from_fn(|| {
            gateway.receive().map(|message| (message.channel, message.bytes.to_vec()))
        })
        .collect();
        for (channel, bytes) in said {
            assert_eq!(channel, tidegate_mqtt::MQTT);
            let answer: &[u8] = match bytes.first() {
                Some(0x10) => &[0x20, 3, 0, 0, 0],
                Some(0x32) => &[0x40, 2, 0, 1],
                _ => continue,
            };
            assert_eq!(gateway.send(tidegate_mqtt::MQTT, answer), Ok(answer.len()));
        }
    }
    assert_eq!(acknowledged, [(1, 0)]);
    // The gateway's call and the device's first word may cross: then sessions follow each other.
    assert!(ups > 0 && link.is_up());
    assert!(client.is_settled());
}

#[test]
fn a_client_on_a_stream_of_its_own_is_carried_and_told_when_nothing_comes() {
    let (ours, mut server) = cable();
    let (mut shelf, mut input) = ([0; 256], [0; 128]);
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
    let mut port = Port::new(ours, &mut []);
    client.connected(Micros(0));
    let mut events = Vec::new();
    port.carry_client(Micros(0), &mut client, |_| {}).unwrap();
    assert_eq!(server.comes.borrow()[0], 0x10);
    server.write_all(&[0x20, 3, 0, 0]).unwrap();
    port.carry_client(Micros(1), &mut client, |_| panic!("a byte is missing")).unwrap();
    server.write_all(&[0]).unwrap();
    port.carry_client(Micros(2), &mut client, |event| {
        events.push(matches!(event, Event::Up { .. }));
    })
    .unwrap();
    assert_eq!(events, [true]);
    // A server that never answers.
    client.connected(Micros(0));
    let mut why = None;
    port.carry_client(Micros::from_millis(20_000), &mut client, |event| {
        if let Event::Down(told) = event {
            why = Some(told);
        }
    })
    .unwrap();
    assert_eq!(why, Some(Why::Silence));
}

#[test]
fn ports_that_fail_close_or_never_fall_silent_are_noticed() {
    let mut link = DeviceLink::new(Config::new(Role::Device, 7), 1);
    let mut frame = [0; DeviceLink::MAX_OUTPUT];
    let closed = End { closed: true, takes: 7, ..End::default() };
    let mut port = Port::new(closed, &mut frame);
    assert_eq!(port.carry_link(Micros(0), &mut link), Err(Error::Closed));
    let broken = End::default();
    let mut port = Port::new(broken, &mut frame);
    assert_eq!(port.carry_link(Micros(0), &mut link), Err(Error::Port(ErrorKind::BrokenPipe)));
    let mut port = Port::new(End { takes: 7, ..End::default() }, &mut []);
    assert_eq!(port.carry_link(Micros(0), &mut link), Err(Error::Buffer));
    let noisy = End { takes: 7, ..End::default() };
    noisy.comes.borrow_mut().extend([0x55; 64 * (MOST_READS + 1)]);
    let mut port = Port::new(noisy, &mut frame);
    port.carry_link(Micros(0), &mut link).unwrap();
    assert_eq!(port.into_inner().comes.borrow().len(), 64);
}
