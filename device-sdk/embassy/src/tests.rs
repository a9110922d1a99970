//! Ports in memory under a small executor, with a gateway's link or a server at the other end.

use core::cell::{Cell, RefCell};
use core::future::{Future, pending, poll_fn};
use core::net::SocketAddr;
use core::task::Poll;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

use embassy_futures::block_on;
use embassy_futures::select::{Either, select};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::TcpConnect;
use tidegate_link::{Config, Link, Micros, Role};
use tidegate_mqtt::{Client, Event, Incoming, Line, Publish, Qos, Why};

use crate::{Ended, Error, Timer, carry_client, carry_line, carry_link, serve};

type DeviceLink = Link<256, 4, 1_280>;
type GatewayLink = Link<1_024, 8, 8_192>;
type Queue = Rc<RefCell<VecDeque<u8>>>;

/// Each look at a clock that is waited for takes a tenth of a millisecond.
#[derive(Default)]
struct Clock(Cell<u64>);

impl Timer for Clock {
    fn now(&self) -> Micros {
        Micros(self.0.get())
    }

    fn wait_until(&self, at: Micros) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            self.0.set(self.0.get() + 100);
            cx.waker().wake_by_ref();
            if self.0.get() >= at.0 { Poll::Ready(()) } else { Poll::Pending }
        })
    }
}

/// One end of a cable.
#[derive(Clone, Default)]
struct End {
    comes: Queue,
    goes: Queue,
    closed: bool,
    broken: bool,
}

fn cable() -> (End, End) {
    let (one, other) = (Queue::default(), Queue::default());
    let end = |comes: &Queue, goes: &Queue| End {
        comes: comes.clone(),
        goes: goes.clone(),
        closed: false,
        broken: false,
    };
    (end(&one, &other), end(&other, &one))
}

impl ErrorType for End {
    type Error = ErrorKind;
}

impl Read for End {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        poll_fn(|cx| {
            let mut comes = self.comes.borrow_mut();
            let count = bytes.len().min(comes.len());
            if count == 0 && !self.closed {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            bytes.iter_mut().zip(comes.drain(..count)).for_each(|(place, byte)| *place = byte);
            Poll::Ready(Ok(count))
        })
        .await
    }
}

impl Write for End {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        if self.broken {
            return Err(ErrorKind::BrokenPipe);
        }
        let count = bytes.len().min(7);
        self.goes.borrow_mut().extend(&bytes[..count]);
        Ok(count)
    }

    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

/// What a server answers to whole packets: it lets the client in, and acknowledges.
fn answer(bytes: &[u8]) -> &'static [u8] {
    match bytes.first() {
        Some(0x10) => &[0x20, 3, 0, 0, 0],
        Some(0x32) => &[0x40, 2, 0, 1],
        _ => &[],
    }
}

#[test]
fn a_client_on_a_line_is_carried_to_the_gateway_and_back() {
    let (mut near, mut far) = cable();
    let clock = Clock::default();
    let mut link = DeviceLink::new(Config::new(Role::Device, 7), 1);
    let mut gateway = GatewayLink::new(Config::new(Role::Gateway, 7), 2);
    let (mut shelf, mut input) = ([0; 256], [0; 128]);
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
    client.publish(&Publish::new("s/t", b"21.5")).unwrap();
    let mut line = Line::new(1);
    let acknowledged = Cell::new(None);
    let device = async {
        let mut frame = [0; DeviceLink::MAX_OUTPUT];
        while acknowledged.get().is_none() {
            let all = (&mut link, &mut line, &mut client);
            carry_line(&mut near, &clock, &mut frame, all, pending(), |incoming| {
                if let Incoming::Mqtt(Event::Acknowledged { id, reason }) = incoming {
                    acknowledged.set(Some((id, reason)));
                }
            })
            .await
            .unwrap();
        }
    };
    let other = async {
        let mut frame = [0; GatewayLink::MAX_OUTPUT];
        loop {
            carry_link(&mut far, &clock, &mut frame, &mut gateway, pending()).await.unwrap();
            while gateway.take_event().is_some() {}
            let said: Vec<Vec<u8>> =
                core::iter::from_fn(|| gateway.receive().map(|message| message.bytes.to_vec()))
                    .collect();
            for bytes in said {
                let answer = answer(&bytes);
                assert!(answer.is_empty() || gateway.send(2, answer) == Ok(answer.len()));
            }
        }
    };
    assert!(matches!(block_on(select(device, other)), Either::First(())));
    assert_eq!(acknowledged.get(), Some((1, 0)));
    assert!(clock.now() < Micros::from_millis(1_000), "{:?}", clock.now());
}

#[test]
fn a_call_ends_at_the_deadline_or_when_it_is_woken() {
    let (mut near, _far) = cable();
    let clock = Clock::default();
    let mut link = DeviceLink::new(Config::new(Role::Device, 7), 1);
    let mut frame = [0; DeviceLink::MAX_OUTPUT];
    // The link opens again after 250 ms.
    block_on(carry_link(&mut near, &clock, &mut frame, &mut link, pending())).unwrap();
    let passed = clock.now();
    assert!((200_000..300_000).contains(&passed.0), "{passed:?}");
    block_on(carry_link(&mut near, &clock, &mut frame, &mut link, async {})).unwrap();
    assert!(clock.now().since(passed) < Micros(1_000));
    let short = block_on(carry_link(&mut near, &clock, &mut [], &mut link, pending()));
    assert_eq!(short, Err(Error::Buffer));
    let mut closed = End { closed: true, ..End::default() };
    let ended = block_on(carry_link(&mut closed, &clock, &mut frame, &mut link, pending()));
    assert_eq!(ended, Err(Error::Closed));
}

/// A stack with one server.
struct Stack {
    end: End,
    refuses: bool,
}

impl TcpConnect for Stack {
    type Error = ErrorKind;
    type Connection<'a> = End;

    async fn connect(&self, _: SocketAddr) -> Result<End, ErrorKind> {
        if self.refuses { Err(ErrorKind::ConnectionRefused) } else { Ok(self.end.clone()) }
    }
}

const SERVER: SocketAddr =
    SocketAddr::new(core::net::IpAddr::V4(core::net::Ipv4Addr::LOCALHOST), 1883);

#[test]
fn a_client_connects_publishes_and_leaves_over_tcp() {
    let (near, mut far) = cable();
    let clock = Clock::default();
    let stack = Stack { end: near, refuses: false };
    let (mut shelf, mut input) = ([0; 256], [0; 128]);
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
    let said = RefCell::new(Vec::new());
    let server = async {
        let mut bytes = [0; 128];
        loop {
            let count = far.read(&mut bytes).await.unwrap();
            said.borrow_mut().extend_from_slice(&bytes[..count]);
            far.write_all(answer(&bytes[..count])).await.unwrap();
        }
    };
    let acknowledged = Cell::new(false);
    let mut published = false;
    let work = |client: &mut Client<'_>| {
        if client.is_up() && !published {
            let qos = Qos::AtLeastOnce;
            published = client.publish(&Publish { qos, ..Publish::new("s/t", b"1") }).is_ok();
        }
        !acknowledged.get()
    };
    let every = Micros::from_millis(10);
    let served = serve(&stack, SERVER, &clock, &mut client, every, work, |event| {
        acknowledged.set(acknowledged.get() || matches!(event, Event::Acknowledged { .. }));
    });
    let Either::First(ended) = block_on(select(served, server));
    assert_eq!(ended, Ended::Left);
    while let Some(byte) = stack.end.goes.borrow_mut().pop_front() {
        said.borrow_mut().push(byte);
    }
    assert!(said.borrow().ends_with(&[0xe0, 0]), "it says goodbye: {:?}", said.borrow());
}

#[test]
fn what_ends_a_connection_is_told() {
    let clock = Clock::default();
    let (mut shelf, mut input) = ([0; 256], [0; 128]);
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
    let every = Micros::from_millis(1_000);
    let mut end_of = |stack: Stack| {
        block_on(serve(&stack, SERVER, &clock, &mut client, every, |_| true, |_| {}))
    };
    let refuses = Stack { end: End::default(), refuses: true };
    assert_eq!(end_of(refuses), Ended::Unreachable(ErrorKind::ConnectionRefused));
    let closed = Stack { end: End { closed: true, ..End::default() }, refuses: false };
    assert_eq!(end_of(closed), Ended::Stream(Error::Closed));
    let broken = Stack { end: End { broken: true, ..End::default() }, refuses: false };
    assert_eq!(end_of(broken), Ended::Stream(Error::Port(ErrorKind::BrokenPipe)));
    // Nobody answers the CONNECT for ten seconds.
    let silent = Stack { end: End::default(), refuses: false };
    assert_eq!(end_of(silent), Ended::Client(Why::Silence));
    let full = End::default();
    full.comes.borrow_mut().extend([0x20, 3, 0, 0x87, 0]);
    assert_eq!(end_of(Stack { end: full, refuses: false }), Ended::Refused(0x87));
    let mut port = End::default();
    port.comes.borrow_mut().extend([0xff; 8]);
    client.connected(clock.now());
    let mut down = None;
    let carried = carry_client(&mut port, &clock, &mut client, pending(), |event| {
        if let Event::Down(why) = event {
            down = Some(why);
        }
    });
    block_on(carried).unwrap();
    assert_eq!(down, Some(Why::Malformed));
}
