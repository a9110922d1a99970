//! What clients that are connected do.

use tidegate_broker::{ConnId, Ticket};
use tidegate_peer::Version;
use tidegate_peer::encode::{self, PUBACK, PUBCOMP, PUBREC, PUBREL, prop};

use super::{FILTERS, Machine, TOPICS};
use crate::input::Input;
use crate::model::{Ack, Message, Reply, Subscription};

impl Machine {
    pub(super) fn publish(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let (topic, how) = (input.one_of(&TOPICS), input.byte());
        let retain = how & 0x0C == 0;
        // Empty payloads are all alike: with QoS 0 it makes no difference which one it was.
        let clears = retain && how & 0x30 == 0;
        // The identifier of a QoS 2 message that 3.1.1 is told was taken, and was not, is not
        // kept on the disk: it makes no difference to a client that repeats its message.
        let in_form_only = topic.starts_with('$') && version == Version::V3_1_1;
        let qos = match how % 3 {
            _ if clears => 0,
            2 if in_form_only => 1,
            qos => qos,
        };
        let payload = match how & 0x30 {
            _ if clears => String::new(),
            0x10 => self.payload(50),
            _ => self.payload(0),
        };
        let id = 1 + u16::from(how & 3);
        let Some(session) = self.model.sessions.get_mut(&client) else { return };
        let again = qos == 2 && session.received.contains(&id);
        // Taken in form only, with 3.1.1; refused with MQTT 5, unless it is a repetition.
        let reserved = topic.starts_with('$');
        let refused = reserved && !again && version == Version::V5;
        let code = if refused { 0x90 } else { 0 };
        let mut publish = encode::publish(topic, &payload);
        publish.retain = retain;
        let mut message = Message { topic, payload, qos, retain, publisher: client, expires: None };
        publish = publish.qos(qos, if qos == 1 { id + 10 } else { id });
        publish.dup = again;
        if version == Version::V5 && !again && !reserved {
            let more = input.byte();
            if more & 3 == 0 && !clears {
                let seconds = 1 + u32::from(more >> 2);
                message.expires = Some(self.model.now + u64::from(seconds));
                publish = publish.with(prop::four(prop::MESSAGE_EXPIRY, seconds));
            }
            if let Some(link) = session.link.as_mut().filter(|_| more & 0x18 == 0x18) {
                let alias = 1 + u16::from(more >> 6);
                publish = publish.with(prop::two(prop::ALIAS, alias));
                match link.own_aliases.get(&alias) {
                    Some(known) if more & 0x20 == 0 => {
                        message.topic = known;
                        publish.topic.clear();
                    }
                    _ => {
                        link.own_aliases.insert(alias, topic);
                    }
                }
            }
        }
        if !again && !reserved {
            self.model.publish(&message);
        }
        let before = self.owner.tickets.len();
        self.owner.send(conn, &publish.bytes(version));
        let ticket = self.owner.tickets.get(before).copied();
        let accepted = !again && !reserved && qos > 0;
        assert_eq!(ticket.is_some(), accepted && self.owner.waits, "asked of the owner");
        self.expect_ack(client, &publish, ticket, code);
    }

    /// PUBACK or PUBREC, when the owner has answered and those before it have left.
    fn expect_ack(
        &mut self,
        client: usize,
        publish: &encode::Publish,
        ticket: Option<Ticket>,
        code: u8,
    ) {
        let Some(session) = self.model.sessions.get_mut(&client) else { return };
        let id = publish.id;
        let ack = match publish.qos {
            1 => Ack { kind: PUBACK, id, code, waits_for: ticket },
            2 => {
                if code == 0 {
                    session.received.insert(id);
                }
                // A repetition waits for the answer to the first copy.
                session.unanswered.extend(ticket.map(|ticket| (id, ticket)));
                let waits_for = session.unanswered.get(&id).copied();
                Ack { kind: PUBREC, id, code, waits_for }
            }
            _ => return,
        };
        session.acknowledge(ack);
    }

    pub(super) fn subscribe(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let id = input.below(5) as u32;
        let id = Some(id).filter(|id| *id > 0 && version == Version::V5);
        let mut filters = Vec::new();
        let mut codes = Vec::new();
        for _ in 0..1 + input.below(2) {
            let (filter, how) = (input.one_of(&FILTERS), input.byte());
            let qos = how % 3;
            let mut wish =
                Subscription { qos, no_local: false, retain_as_published: false, handling: 0, id };
            if version == Version::V5 {
                // No Local would be an error for a group, and a retained message looks like that
                // of another subscription.
                let alone = !filter.starts_with("$share");
                wish.no_local = how & 4 != 0 && alone;
                wish.retain_as_published = how & 8 != 0 && alone;
                wish.handling = (how >> 4) % 3;
            }
            let options = qos
                | u8::from(wish.no_local) << 2
                | u8::from(wish.retain_as_published) << 3
                | wish.handling << 4;
            filters.push((filter, options));
            codes.push(qos);
            self.model.subscribe(client, filter, wish);
        }
        let properties: Vec<_> =
            id.map(|id| prop::subscription_id(id as usize)).into_iter().collect();
        self.expect(client, Reply::Suback { id: 77, codes });
        self.owner.send(conn, &encode::subscribe_with(version, 77, &filters, &properties));
    }

    pub(super) fn unsubscribe(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let filters = [input.one_of(&FILTERS), input.one_of(&FILTERS)];
        let existed = filters.map(|filter| self.model.unsubscribe(client, filter));
        let codes = match version {
            Version::V3_1_1 => vec![],
            Version::V5 => existed.map(|existed| if existed { 0 } else { 0x11 }).to_vec(),
        };
        self.expect(client, Reply::Unsuback { id: 78, codes });
        self.owner.send(conn, &encode::unsubscribe(version, 78, &filters));
    }

    /// The next answer to one of the messages that the client has been sent.
    pub(super) fn acknowledge(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let Some(session) = self.model.sessions.get_mut(&client) else { return };
        let here: Vec<usize> =
            (0..session.sent.len()).filter(|at| session.sent[*at].here).collect();
        let (which, how) = (input.byte(), input.byte());
        let Some(&at) = here.get(usize::from(which) % here.len().max(1)) else { return };
        let refuses = version == Version::V5 && how % 8 == 7;
        let sent = &mut session.sent[at];
        let id = sent.id;
        let (bytes, done) = match (sent.copy.qos, sent.released, refuses) {
            (1, _, false) => (encode::ack(PUBACK, id), true),
            (1, _, true) => (encode::ack_with(PUBACK, id, 0x97), true),
            (_, false, true) => (encode::ack_with(PUBREC, id, 0x80), true),
            (_, false, false) => (encode::ack(PUBREC, id), false),
            (_, true, _) if how % 8 == 6 => (encode::ack(PUBREC, id), false),
            (_, true, _) => (encode::ack(PUBCOMP, id), true),
        };
        if done {
            session.sent.remove(at);
        } else {
            sent.released = true;
            session.replies.push_back(Reply::Ack { kind: PUBREL, id, code: 0 });
        }
        self.owner.send(conn, &bytes);
    }

    pub(super) fn release(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let id = 1 + input.below(4) as u16;
        let Some(session) = self.model.sessions.get_mut(&client) else { return };
        if session.unanswered.contains_key(&id) {
            return; // PUBREL before PUBREC would be an error.
        }
        let known = session.received.remove(&id);
        let code = if known || version == Version::V3_1_1 { 0 } else { 0x92 };
        session.replies.push_back(Reply::Ack { kind: PUBCOMP, id, code });
        self.owner.send(conn, &encode::ack(PUBREL, id));
    }

    /// PINGREQ, and answers to messages that there are not.
    pub(super) fn stray(
        &mut self,
        client: usize,
        conn: ConnId,
        version: Version,
        input: &mut Input<'_>,
    ) {
        let id = 60_000;
        let bytes = match input.below(4) {
            0 => {
                self.expect(client, Reply::Pingresp);
                encode::PINGREQ.to_vec()
            }
            1 => encode::ack(PUBACK, id),
            2 => {
                let code = if version == Version::V5 { 0x92 } else { 0 };
                self.expect(client, Reply::Ack { kind: PUBREL, id, code });
                encode::ack(PUBREC, id)
            }
            _ => encode::ack(PUBCOMP, id),
        };
        self.owner.send(conn, &bytes);
    }
}
