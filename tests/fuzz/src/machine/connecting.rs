//! How clients come and go.

use std::collections::{BTreeMap, VecDeque};

use tidegate_broker::ConnId;
use tidegate_peer::Version;
use tidegate_peer::decode::{self, Packet};
use tidegate_peer::encode::{self, prop};

use super::{CLIENTS, Machine, SMALL, TOPICS, WEEK};
use crate::input::Input;
use crate::model::{Hello, Link, Message, Will};

/// Times of different clients differ: which of two wills comes first at one moment is left open.
fn apart(client: usize, seconds: u32) -> u32 {
    if seconds == 0 { 0 } else { seconds + client as u32 }
}

impl Machine {
    pub(super) fn connect(&mut self, client: usize, input: &mut Input<'_>) {
        let small = client == SMALL.0;
        let choice = input.byte();
        let version = if small || choice & 1 == 0 { Version::V5 } else { Version::V3_1_1 };
        let clean = choice & 6 == 0;
        let mut hello = encode::connect(version, CLIENTS[client]);
        hello.clean = clean;
        let mut link = Link {
            version,
            window: 1000,
            alias_maximum: 0,
            will: None,
            aliases: BTreeMap::new(),
            own_aliases: BTreeMap::new(),
            acks: VecDeque::new(),
        };
        let mut expiry = if clean { 0 } else { WEEK };
        if version == Version::V5 {
            let seconds = apart(client, input.one_of(&[100, 10, 1000, 0]));
            expiry = seconds.into();
            hello.properties.push(prop::four(prop::SESSION_EXPIRY, seconds));
            let window: u16 = input.one_of(&[1000, 1, 2, 5]);
            link.window = window.into();
            hello.properties.push(prop::two(prop::RECEIVE_MAXIMUM, window));
            if small {
                hello.properties.push(prop::four(prop::MAX_PACKET, SMALL.1 as u32));
            } else {
                link.alias_maximum = input.one_of(&[0, 0, 2]);
                hello.properties.push(prop::two(prop::ALIAS_MAXIMUM, link.alias_maximum));
            }
        }
        if choice & 0x18 == 0x18 {
            let (wish, will) = self.will(client, version, input);
            hello.will = Some(wish);
            link.will = Some(will);
        }
        let max_packet = if small { SMALL.1 } else { usize::MAX };
        self.open(client, &hello, Hello { clean, expiry, max_packet, link });
    }

    fn will(
        &mut self,
        client: usize,
        version: Version,
        input: &mut Input<'_>,
    ) -> (encode::Will, Will) {
        let topic = input.one_of(&TOPICS[..TOPICS.len() - 1]);
        let (qos, retain) = (input.one_of(&[0, 1, 2]), input.once_in(2));
        let payload = self.payload(0);
        let mut wish = encode::Will { qos, retain, ..encode::will(topic, &payload) };
        let mut delay = 0;
        if version == Version::V5 {
            delay = apart(client, input.one_of(&[0, 5, 50]));
            wish.properties.push(prop::four(prop::WILL_DELAY, delay));
        }
        let message = Message { topic, payload, qos, retain, publisher: client, expires: None };
        (wish, Will { message, delay: delay.into() })
    }

    fn open(&mut self, client: usize, hello: &encode::Connect, said: Hello) {
        let (version, old) = (hello.version, self.lines[client].take());
        let conn = self.owner.open();
        self.owner.send(conn, &hello.bytes());
        if let Some((old, version)) = old {
            self.ended(old, version, Some(0x8E));
        }
        let present = self.model.connect(client, said);
        self.model.letting_in = self.owner.keeps_sessions();
        self.model.publish_wills();
        self.lines[client] = Some((conn, version));
        let bytes = self.owner.got(conn);
        let packets = decode::packets(version, &bytes);
        let Some((Packet::Connack { code: 0, present: told, .. }, rest)) = packets.split_first()
        else {
            panic!("{} is not let in: {packets:?}", hello.client.escape_ascii());
        };
        assert_eq!(*told, present, "session present of client {client}");
        for packet in rest {
            self.model.receive(client, packet);
        }
    }

    pub(super) fn goodbye(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let mut with_will = false;
        let mut bytes = encode::DISCONNECT.to_vec();
        if version == Version::V5 {
            let how = input.byte();
            with_will = how & 1 != 0;
            let mut properties = vec![];
            if let Some(session) = self.model.sessions.get_mut(&client)
                && session.expiry > 0
                && how & 2 != 0
            {
                let seconds = if how & 4 == 0 { 0 } else { 20 };
                session.expiry = seconds.into();
                properties.push(prop::four(prop::SESSION_EXPIRY, seconds));
            }
            bytes = encode::disconnect(if with_will { 4 } else { 0 }, &properties);
        }
        self.owner.send(conn, &bytes);
        assert!(self.owner.is_closed(conn), "still open after DISCONNECT");
        assert_eq!(self.owner.got(conn), [0u8; 0], "after DISCONNECT");
        self.lines[client] = None;
        self.model.leave(client, with_will);
    }

    /// Breaks the protocol.
    pub(super) fn offend(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let bytes = match input.below(8) {
            0 => vec![0x00, 0],
            1 => encode::publish("a/#", "x").bytes(version),
            2 => encode::publish("a", "x").qos(3, 1).bytes(version),
            3 => encode::publish("a", "x").qos(1, 0).bytes(version),
            4 => encode::connect(version, CLIENTS[client]).bytes(),
            5 => encode::packet(0x80, &[0, 1, 0]),
            6 => encode::unsubscribe(version, 1, &[]),
            _ => vec![0xC1, 0],
        };
        self.owner.send(conn, &bytes);
        self.ended(conn, version, None);
        self.lines[client] = None;
        self.model.leave(client, true);
    }
}
