//! What a client of a kept session is told, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::tests::peer::*;
use crate::{Answer, BrokerEvent, Change, ConnId, Message, PersistTicket, QoS, SpoolTarget};

const NOTHING: [Got; 0] = [];

/// A world whose owner has a disk that is asked to sync by hand.
pub(super) struct Owner {
    pub(super) world: World,
    pub(super) table: BTreeMap<Vec<u8>, Vec<u8>>,
    tickets: Vec<PersistTicket>,
    taken: usize,
}

impl Owner {
    pub(super) fn new() -> Owner {
        let mut world = World::new();
        world.broker.keep_sessions();
        Owner { world, table: BTreeMap::new(), tickets: Vec::new(), taken: 0 }
    }

    /// Carries out the changes that have been asked for.
    pub(super) fn write(&mut self) {
        let events = self.world.events[self.taken..].to_vec();
        self.taken = self.world.events.len();
        for event in events {
            if let BrokerEvent::Persist { changes, ticket, .. } = event {
                changes.into_iter().for_each(|change| self.change(change));
                self.tickets.push(ticket);
            }
        }
    }

    pub(super) fn change(&mut self, Change { key, value }: Change) {
        match value {
            Some(value) => self.table.insert(key, value),
            None => self.table.remove(&key),
        };
    }

    /// All of it is on the disk.
    pub(super) fn sync(&mut self) {
        self.write();
        for ticket in std::mem::take(&mut self.tickets) {
            self.world.broker.persisted(self.world.now, ticket);
        }
        self.world.settle();
    }

    fn kinds(&self) -> String {
        self.table.keys().map(|key| char::from(key[0])).collect()
    }

    pub(super) fn got(&mut self, conn: ConnId) -> Vec<Got> {
        self.world.got(conn)
    }

    /// A client with a kept session that has been let in.
    fn client(&mut self, client: &'static str) -> ConnId {
        let conn = self.world.hello(&v5(client).keep(60));
        self.sync();
        assert!(matches!(self.got(conn)[..], [Got::ConnAck { code: 0, .. }]));
        conn
    }

    pub(super) fn subscriber(&mut self, client: &'static str, level: u8) -> ConnId {
        let conn = self.client(client);
        let version = crate::Version::V5;
        self.world.send(conn, &subscribe(version, 1, &[("t", qos(level))], vec![]));
        self.sync();
        assert!(matches!(self.got(conn)[..], [Got::SubAck { .. }]));
        conn
    }

    /// A message through the spool: `seq` becomes durable at once.
    pub(super) fn spooled(&mut self, seq: u64, payload: &str) -> Vec<SpoolTarget> {
        let topic = "t".parse().unwrap();
        let message = Arc::new(Message::new(topic, payload.to_owned(), QoS::ExactlyOnce));
        assert_eq!(self.world.broker.find(&message), 1);
        let mut bytes = Vec::new();
        self.world.broker.spool_targets(0, &mut bytes);
        self.world.broker.deliver_found(self.world.now, &message);
        let (targets, _) = SpoolTarget::decode_all(&bytes).unwrap();
        self.world.broker.offer(self.world.now, seq, &message, &targets, None);
        self.world.settle();
        targets
    }
}

#[test]
fn connack_suback_and_unsuback_of_a_kept_session_wait_for_the_disk() {
    let mut owner = Owner::new();
    let conn = owner.world.hello(&v5("a").keep(60));
    assert_eq!(owner.got(conn), NOTHING);
    owner.sync();
    assert_eq!(owner.got(conn), [Got::ConnAck { code: 0, present: false }]);
    assert_eq!(owner.kinds(), "nos");
    let version = crate::Version::V5;
    owner.world.send(conn, &subscribe(version, 7, &[("t", qos(1))], vec![]));
    assert_eq!(owner.got(conn), NOTHING);
    owner.world.send(conn, PINGREQ);
    assert_eq!(owner.got(conn), [Got::PingResp], "nothing else waits");
    owner.sync();
    assert_eq!(owner.got(conn), [Got::SubAck { id: 7, codes: vec![1] }]);
    assert_eq!(owner.kinds(), "fnos");
    owner.world.send(conn, b"\xa2\x06\0\x08\0\0\x01t");
    assert_eq!(owner.got(conn), NOTHING);
    owner.sync();
    assert_eq!(owner.got(conn), [Got::UnsubAck { id: 8, codes: vec![0] }]);
    assert_eq!(owner.kinds(), "nos");
}

#[test]
fn a_session_without_expiry_waits_for_nothing_and_writes_nothing() {
    let mut owner = Owner::new();
    let conn = owner.world.subscriber(v5("a"), &[("t", qos(2))]);
    owner.world.publish_twice_sure(conn, "u", "x", 1, Again::First);
    owner.world.send(conn, &ack(PUBREL, 1));
    assert_eq!(owner.got(conn).len(), 2);
    owner.write();
    assert!(owner.tickets.is_empty() && owner.table.is_empty());
}

#[test]
fn a_clean_start_over_a_kept_session_waits_until_that_is_gone() {
    let mut owner = Owner::new();
    let first = owner.subscriber("a", 1);
    let second = owner.world.hello(&v5("a"));
    assert_eq!(owner.got(first), [Got::Disconnect(0x8E)]);
    assert_eq!(owner.got(second), NOTHING);
    owner.sync();
    assert_eq!(owner.got(second), [Got::ConnAck { code: 0, present: false }]);
    assert_eq!(owner.kinds(), "n");
}

#[test]
fn of_two_that_wait_for_the_same_session_the_later_one_is_let_in() {
    let mut owner = Owner::new();
    let first = owner.world.hello(&v5("a").keep(60));
    let second = owner.world.hello(&v5("a").keep(60));
    assert!(owner.world.closed(first).is_some());
    owner.sync();
    assert_eq!(owner.got(first), NOTHING);
    assert_eq!(owner.got(second), [Got::ConnAck { code: 0, present: true }]);
    assert_eq!(owner.world.broker.stats().sessions.len(), 1);
}

#[test]
fn a_client_that_goes_while_it_waits_leaves_its_session() {
    let mut owner = Owner::new();
    let conn = owner.world.hello(&v5("a").keep(60));
    owner.world.cut(conn);
    owner.sync();
    assert_eq!(owner.world.broker.stats().sessions.len(), 1);
    owner.world.pass(Duration::from_secs(60));
    owner.sync();
    assert_eq!(owner.world.broker.stats().sessions.len(), 0);
    assert_eq!(owner.kinds(), "n");
}

#[test]
fn pubrel_leaves_when_it_is_durable_that_the_client_has_the_message() {
    let mut owner = Owner::new();
    let conn = owner.subscriber("s", 2);
    owner.spooled(1, "x");
    assert_eq!(owner.world.payloads(conn), ["x"]);
    owner.world.send(conn, &ack(PUBREC, 2));
    assert_eq!(owner.got(conn), NOTHING);
    // Nor does a new connection bring it forward.
    owner.write();
    owner.world.cut(conn);
    let conn = owner.world.hello(&v5("s").keep(60));
    assert_eq!(owner.got(conn), NOTHING);
    owner.sync();
    let expected = [Got::ConnAck { code: 0, present: true }, Got::PubRel { id: 2, code: 0 }];
    assert_eq!(owner.got(conn), expected);
}

#[test]
fn pubcomp_leaves_when_it_is_durable_that_the_identifier_is_free() {
    let mut owner = Owner::new();
    let conn = owner.client("p");
    owner.world.automatic = false;
    owner.world.publish_twice_sure(conn, "t", "x", 9, Again::First);
    let change = owner.world.events.iter().rev().find_map(|event| match event {
        BrokerEvent::Publish { change, .. } => change.clone(),
        _ => None,
    });
    // The owner puts it down with the message, then answers.
    owner.change(change.unwrap());
    owner.world.answer(owner.world.tickets[0].0, Answer::Success);
    assert_eq!(owner.got(conn), [Got::PubRec { id: 9, code: 0 }]);
    owner.world.send(conn, &ack(PUBREL, 9));
    assert_eq!(owner.got(conn), NOTHING);
    assert_eq!(owner.kinds(), "inos");
    owner.sync();
    assert_eq!(owner.got(conn), [Got::PubComp { id: 9, code: 0 }]);
    assert_eq!(owner.kinds(), "nos");
}

#[test]
fn that_an_identifier_is_free_is_handed_out_before_it_is_used_again() {
    let mut owner = Owner::new();
    let conn = owner.client("p");
    owner.world.publish_twice_sure(conn, "t", "x", 9, Again::First);
    owner.sync();
    let mut bytes = ack(PUBREL, 9);
    let mut again = publish(crate::Version::V5, "t", "y", Some(9), false, vec![]);
    again[0] = 0x34;
    bytes.extend(again);
    let from = owner.world.events.len();
    owner.world.send(conn, &bytes);
    let order: Vec<&str> = owner.world.events[from..]
        .iter()
        .filter_map(|event| match event {
            BrokerEvent::Persist { .. } => Some("free"),
            BrokerEvent::Publish { .. } => Some("used"),
            _ => None,
        })
        .collect();
    assert_eq!(order, ["free", "used"]);
}

#[test]
fn the_number_of_an_ended_session_is_not_given_again_after_a_restart() {
    let mut owner = Owner::new();
    owner.subscriber("a", 1);
    let number = owner.spooled(1, "for a")[0].session;
    let other = owner.world.hello(&v5("a"));
    owner.sync();
    owner.world.send(other, DISCONNECT);
    owner.sync();
    let table = std::mem::take(&mut owner.table);
    let mut owner = Owner::new();
    let entries = table.iter().map(|(key, value)| (&key[..], &value[..]));
    owner.world.broker.restore(owner.world.now, entries, 2);
    owner.subscriber("b", 1);
    assert!(owner.spooled(2, "for b")[0].session > number);
}

#[test]
fn a_session_that_comes_back_goes_on_where_it_was() {
    let mut owner = Owner::new();
    let conn = owner.subscriber("s", 2);
    let mut targets = Vec::new();
    for seq in 1..=3 {
        targets = owner.spooled(seq, &seq.to_string());
    }
    owner.got(conn);
    owner.world.send(conn, &ack(PUBREC, 3));
    owner.sync();
    // The process ends; the table is what is left of it.
    let table = owner.table.clone();
    let mut owner = Owner::new();
    owner.table = table;
    let entries = owner.table.clone();
    let entries = entries.iter().map(|(key, value)| (&key[..], &value[..]));
    let restored = owner.world.broker.restore(owner.world.now, entries, 4);
    assert_eq!((restored.sessions, restored.unknown), (1, 0));
    let conn = owner.world.hello(&v5("s").keep(60));
    owner.sync();
    let present = Got::ConnAck { code: 0, present: true };
    assert_eq!(owner.got(conn), [present, Got::PubRel { id: 3, code: 0 }]);
    // The rest is read from the spool.
    assert_eq!(owner.world.broker.spool_wanted(), Some(1));
    for seq in 1..=3 {
        let topic = "t".parse().unwrap();
        let message = Arc::new(Message::new(topic, seq.to_string(), QoS::ExactlyOnce));
        owner.world.broker.offer_again(owner.world.now, (1, seq), &message, &targets, None);
    }
    owner.world.broker.read_through(1, 4);
    owner.world.settle();
    assert_eq!(owner.world.broker.spool_wanted(), None);
    let received = owner.world.received(conn);
    let ids: Vec<_> = received.iter().map(|r| (r.id, r.payload.as_str())).collect();
    assert_eq!(ids, [(Some(2), "1"), (Some(4), "3")]);
}
