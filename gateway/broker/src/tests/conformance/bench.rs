//! Clients that speak bytes, at a broker in simulated time.

use std::time::Duration;

use tidegate_peer::Version;
use tidegate_peer::decode::{self, Message, Packet};
use tidegate_peer::encode::{self, Connect, Publish};

use crate::tests::peer::World;
use crate::{BrokerLimits, CloseReason, ConnId};

pub(super) const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

pub(super) struct Bench {
    pub(super) world: World,
}

/// One connection, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) conn: ConnId,
    pub(super) version: Version,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench { world: World::new() }
    }

    pub(super) fn with(limits: BrokerLimits) -> Bench {
        Bench { world: World::with(limits) }
    }

    /// A connection that has sent nothing.
    pub(super) fn open(&mut self, version: Version) -> Line {
        let said = match version {
            Version::V3_1_1 => crate::Version::V3_1_1,
            Version::V5 => crate::Version::V5,
        };
        Line { conn: self.world.open(said), version }
    }

    /// A connection that has sent CONNECT, with what came back.
    pub(super) fn hello(&mut self, connect: &Connect) -> (Line, Vec<Packet>) {
        let line = self.open(connect.version);
        self.send(line, &connect.bytes());
        (line, self.got(line))
    }

    /// A connection that was let in, and what followed CONNACK.
    pub(super) fn resume(&mut self, connect: &Connect) -> (Line, bool, Vec<Packet>) {
        let (line, mut got) = self.hello(connect);
        match got.first() {
            Some(Packet::Connack { code: 0, present, .. }) => {
                let present = *present;
                got.remove(0);
                (line, present, got)
            }
            other => panic!("not let in: {other:?}, closed {:?}", self.why(line)),
        }
    }

    /// A connection that was let in.
    pub(super) fn connect(&mut self, connect: &Connect) -> Line {
        self.resume(connect).0
    }

    /// A connection with a new session that ends with it.
    pub(super) fn client(&mut self, version: Version, id: &str) -> Line {
        self.connect(&encode::connect(version, id))
    }

    /// The same with subscriptions.
    pub(super) fn subscriber(
        &mut self,
        version: Version,
        id: &str,
        filters: &[(&str, u8)],
    ) -> Line {
        let line = self.client(version, id);
        self.subscribe(line, filters);
        line
    }

    /// Subscribes and returns what followed SUBACK. Everything is granted.
    pub(super) fn subscribe(&mut self, line: Line, filters: &[(&str, u8)]) -> Vec<Packet> {
        self.send(line, &encode::subscribe(line.version, 77, filters));
        let mut got = self.got(line);
        match got.first() {
            Some(Packet::Suback { id: 77, codes, .. }) if codes.iter().all(|code| *code < 3) => {}
            other => panic!("not subscribed: {other:?}"),
        }
        got.remove(0);
        got
    }

    pub(super) fn send(&mut self, line: Line, bytes: &[u8]) {
        self.world.send(line.conn, bytes);
    }

    pub(super) fn publish(&mut self, line: Line, publish: &Publish) {
        self.send(line, &publish.bytes(line.version));
    }

    /// The packets sent to the client since the last time.
    pub(super) fn got(&mut self, line: Line) -> Vec<Packet> {
        decode::packets(line.version, &self.world.raw(line.conn))
    }

    /// The messages among them.
    pub(super) fn messages(&mut self, line: Line) -> Vec<Message> {
        messages(self.got(line))
    }

    /// Their payloads.
    pub(super) fn payloads(&mut self, line: Line) -> Vec<String> {
        payloads(&self.messages(line))
    }

    /// Why the broker closed the connection; `None` if it did not.
    pub(super) fn why(&self, line: Line) -> Option<&CloseReason> {
        self.world.closed(line.conn)
    }

    pub(super) fn is_closed(&self, line: Line) -> bool {
        self.why(line).is_some()
    }

    /// The network fails.
    pub(super) fn cut(&mut self, line: Line) {
        self.world.cut(line.conn);
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.world.pass(Duration::from_secs(seconds));
    }

    /// What a new subscriber finds retained under `filter`.
    pub(super) fn retained(&mut self, filter: &str) -> Vec<Message> {
        let line = self.client(Version::V5, "looks-for-retained");
        let found = messages(self.subscribe(line, &[(filter, 2)]));
        self.send(line, encode::DISCONNECT);
        found
    }
}

pub(super) fn messages(packets: Vec<Packet>) -> Vec<Message> {
    let messages = packets.into_iter().filter_map(|packet| match packet {
        Packet::Publish(message) => Some(message),
        _ => None,
    });
    messages.collect()
}

pub(super) fn payloads(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|m| String::from_utf8(m.payload.clone()).unwrap()).collect()
}

/// A client that was let in sends `bytes`: nothing of them has an effect, the connection is
/// closed, and an MQTT 5 client is told `reason`.
pub(super) fn ends(version: Version, bytes: &[u8], reason: u8) {
    let mut bench = Bench::new();
    let watcher = bench.subscriber(Version::V5, "watcher", &[("#", 0)]);
    let line = bench.client(version, "c");
    // What comes after the offence is not looked at either.
    let after = encode::publish("after", "x").bytes(version);
    bench.send(line, &[bytes, &after].concat());
    let got = bench.got(line);
    let hint = &bytes[..bytes.len().min(40)];
    match (version, &got[..]) {
        (Version::V3_1_1, []) => {}
        (Version::V5, [Packet::Disconnect { code, .. }]) => {
            assert_eq!(*code, reason, "0x{code:02X} for {hint:02x?}");
        }
        other => panic!("{other:?} for {hint:02x?}"),
    }
    assert!(bench.is_closed(line), "still open after {hint:02x?}");
    assert_eq!(bench.payloads(watcher), [""; 0], "for {hint:02x?}");
}

/// A CONNECT is refused: the connection is closed, and what follows has no effect. Returns the
/// code of CONNACK, if one was sent.
pub(super) fn refused(version: Version, connect: &[u8]) -> Option<u8> {
    refused_by(&mut Bench::new(), version, connect)
}

pub(super) fn refused_by(bench: &mut Bench, version: Version, connect: &[u8]) -> Option<u8> {
    let watcher = bench.subscriber(Version::V5, "watcher", &[("#", 0)]);
    let line = bench.open(version);
    let after = encode::publish("after", "x").bytes(version);
    bench.send(line, &[connect, &after].concat());
    let code = match &bench.got(line)[..] {
        [] => None,
        [Packet::Connack { present: false, code, .. }] if *code > 0 => Some(*code),
        other => panic!("{other:?} for {connect:02x?}"),
    };
    assert!(bench.is_closed(line), "still open after {connect:02x?}");
    assert_eq!(bench.payloads(watcher), [""; 0]);
    code
}
