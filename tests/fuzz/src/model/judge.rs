//! What a client was sent, compared with what it is owed.

use tidegate_peer::Version;
use tidegate_peer::decode::{Message as Received, Packet};
use tidegate_peer::encode::{PUBREL, prop};

use super::{Copy, Model, Reply, Sent, Share};

/// What the client speaks, and when it was sent.
#[derive(Clone, Copy)]
struct To {
    version: Version,
    now: u64,
}

/// Whether `received` is this copy.
fn is(copy: &Copy, received: &Received, topic: &str, to: To) -> bool {
    let mut ids = received.properties.numbers(prop::SUBSCRIPTION_ID);
    ids.sort_unstable();
    let expiry = received.properties.number(prop::MESSAGE_EXPIRY).map(u64::from);
    let left = copy.message.expires.map(|at| at.saturating_sub(to.now));
    copy.message.topic == topic
        && copy.message.payload.as_bytes() == received.payload
        && copy.qos == received.qos
        && copy.retain == received.retain
        && (to.version == Version::V3_1_1 || (copy.ids == ids && expiry == left))
}

impl Model {
    /// One packet to the client, but CONNACK and DISCONNECT.
    pub(crate) fn receive(&mut self, client: usize, packet: &Packet) {
        match packet {
            Packet::Publish(message) => self.receive_publish(client, message),
            Packet::Ack { kind: PUBREL, id, code: 0, .. } if self.repeats_pubrel(client, *id) => {}
            Packet::Ack { kind, id, code, .. } => {
                self.reply(client, &Reply::Ack { kind: *kind, id: *id, code: *code });
            }
            Packet::Suback { id, codes, .. } => {
                self.reply(client, &Reply::Suback { id: *id, codes: codes.clone() });
            }
            Packet::Unsuback { id, codes, .. } => {
                self.reply(client, &Reply::Unsuback { id: *id, codes: codes.clone() });
            }
            Packet::Pingresp => self.reply(client, &Reply::Pingresp),
            Packet::Connack { .. } | Packet::Disconnect { .. } | Packet::Auth { .. } => {
                panic!("unexpected {packet:?}")
            }
        }
    }

    fn reply(&mut self, client: usize, got: &Reply) {
        let session = self.sessions.get_mut(&client).expect("a session");
        let expected = session.replies.pop_front();
        assert_eq!(expected.as_ref(), Some(got), "answer to client {client}");
    }

    /// Whether PUBREL is the repetition of an earlier connection's. How they mix with repeated
    /// PUBLISHes is left open.
    fn repeats_pubrel(&mut self, client: usize, id: u16) -> bool {
        let session = self.sessions.get_mut(&client).expect("a session");
        let due = |sent: &&mut Sent| !sent.here && sent.released && sent.id == id;
        session.sent.iter_mut().find(due).map(|sent| sent.here = true).is_some()
    }

    fn receive_publish(&mut self, client: usize, received: &Received) {
        let now = self.now;
        let session = self.sessions.get_mut(&client).expect("a session");
        let link = session.link.as_mut().expect("a connection");
        let topic = match received.properties.number(prop::ALIAS) {
            None => received.topic.clone(),
            Some(alias) => {
                assert!(alias > 0 && alias <= link.alias_maximum.into(), "alias {alias}");
                if received.topic.is_empty() {
                    link.aliases.get(&alias).expect("an alias that was set up").clone()
                } else {
                    link.aliases.insert(alias, received.topic.clone());
                    received.topic.clone()
                }
            }
        };
        if received.dup {
            let to = To { version: link.version, now };
            return self.receive_again(client, received, &topic, to);
        }
        let (window, to) = (link.window, To { version: link.version, now });
        let copy = self.take(client, received, &topic, to);
        let session = self.sessions.get_mut(&client).expect("a session");
        if received.qos == 0 {
            return;
        }
        assert!(!copy.message.is_expired(now), "expired: {copy:?}");
        assert!(
            session.sent.iter().all(|sent| sent.id != received.id),
            "identifier {} is in use",
            received.id
        );
        assert!(session.sent.iter().all(|sent| sent.here), "before what is to be sent again");
        let id = received.id;
        let identified = to.version == Version::V5;
        session.sent.push(Sent { id, copy, identified, released: false, here: true, counts: true });
        assert!(session.counted() <= window, "more than Receive Maximum");
    }

    /// Finds what was owed and crosses it off.
    fn take(&mut self, client: usize, received: &Received, topic: &str, to: To) -> Copy {
        let now = to.now;
        let session = self.sessions.get_mut(&client).expect("a session");
        let same = |copy: &Copy| is(copy, received, topic, to);
        if received.qos == 0
            && let Some(at) = session.due.iter().position(same)
        {
            let copy = session.due.remove(at);
            let earlier = session.due[..at].iter().find(|other| ordered(other, &copy));
            assert!(earlier.is_none(), "{copy:?} before {earlier:?}");
            return copy;
        }
        if let Some(at) = session.queue.iter().position(same)
            && let Some(copy) = session.queue.remove(at)
        {
            let earlier = session
                .queue
                .iter()
                .take(at)
                .find(|other| ordered(other, &copy) && !other.message.is_expired(now))
                .cloned();
            let earlier = earlier.filter(|other| session.fits(other));
            assert!(earlier.is_none(), "{copy:?} before {earlier:?}");
            return copy;
        }
        // What must come before what may: a subscription that is made twice before its retained
        // messages are sent may bring them once or twice, for example.
        self.take_retained(client, &same, false)
            .or_else(|| self.take_share(client, &same, false))
            .or_else(|| self.take_retained(client, &same, true))
            .or_else(|| self.take_share(client, &same, true))
            .unwrap_or_else(|| panic!("client {client} is not owed {received:?} on {topic}"))
    }

    fn take_retained(
        &mut self,
        client: usize,
        same: &impl Fn(&Copy) -> bool,
        optional: bool,
    ) -> Option<Copy> {
        let retained = &mut self.sessions.get_mut(&client)?.retained;
        let at = retained.iter().position(|r| r.optional == optional && same(&r.copy))?;
        Some(retained.remove(at).copy)
    }

    /// A copy out of a shared subscription.
    fn take_share(
        &mut self,
        client: usize,
        same: &impl Fn(&Copy) -> bool,
        optional: bool,
    ) -> Option<Copy> {
        let of = |share: &Share| {
            let copies = share.members.iter().filter(|(member, _)| *member == client);
            copies.map(|(_, copy)| copy).find(|copy| same(copy)).cloned()
        };
        let mut shares = self.shares.iter().enumerate();
        let (at, copy) = shares
            .by_ref()
            .filter(|(_, share)| share.optional == optional)
            .find_map(|(at, share)| Some((at, of(share)?)))?;
        let share = self.shares.remove(at);
        self.assigned.push((client, copy.clone(), share));
        Some(copy)
    }

    fn receive_again(&mut self, client: usize, received: &Received, topic: &str, to: To) {
        let session = self.sessions.get_mut(&client).expect("a session");
        let window = session.link.as_ref().map_or(0, |link| link.window);
        let first = session.sent.iter_mut().find(|sent| !sent.here);
        let Some(sent) = first else { panic!("nothing is to be sent again, but {received:?}") };
        assert!(!sent.released, "PUBLISH after PUBREL: {received:?}");
        let to = if sent.identified { to } else { To { version: Version::V3_1_1, ..to } };
        let expected = (sent.id, is(&sent.copy, received, topic, to));
        assert_eq!(expected, (received.id, true), "{received:?} instead of {sent:?}");
        sent.here = true;
        sent.counts = true;
        assert!(session.counted() <= window, "more than Receive Maximum");
    }

    /// After a step everything that could be sent has been sent.
    pub(crate) fn check(&mut self) {
        self.expire();
        let mut settled = true;
        for (client, session) in &mut self.sessions {
            if session.link.is_none() {
                continue;
            }
            if self.letting_in {
                session.due.clear();
            }
            assert!(session.due.is_empty(), "client {client} did not get {:?}", session.due);
            assert!(session.replies.is_empty(), "no answer to {client}: {:?}", session.replies);
            let window = session.link.as_ref().map_or(0, |link| link.window);
            let full = session.outstanding() >= window;
            let mut again = session.sent.iter().filter(|sent| !sent.here);
            let missing = again.find(|sent| sent.released || !full);
            assert!(missing.is_none(), "client {client} was not sent again {missing:?}");
            if session.is_open() {
                // What is too large for the client is given up in its turn.
                let queue = std::mem::take(&mut session.queue);
                session.queue = queue.into_iter().filter(|copy| session.fits(copy)).collect();
                assert!(session.queue.is_empty(), "client {client} waits for {:?}", session.queue);
                session.retained.retain(|retained| !retained.optional);
                let retained = &session.retained;
                assert!(retained.is_empty(), "client {client} waits for {retained:?}");
            }
            settled &= session.is_idle();
        }
        for share in &self.shares {
            let due = share.at_once || (settled && self.all_here(share));
            assert!(!due || share.optional, "no member got {share:?}");
        }
        self.shares.iter_mut().for_each(|share| share.at_once = false);
        self.letting_in = false;
    }

    /// Whether every member has a connection: a message that waits in the session of a member
    /// that is away may wait on.
    fn all_here(&self, share: &Share) -> bool {
        let here = |member: usize| self.sessions.get(&member).is_none_or(|s| s.link.is_some());
        share.members.iter().all(|(member, _)| here(*member))
    }
}

/// Whether the order of the two must be kept: one publisher, one topic, one QoS.
fn ordered(one: &Copy, other: &Copy) -> bool {
    one.message.topic == other.message.topic
        && one.message.publisher == other.message.publisher
        && one.qos == other.qos
        && one.message.qos == other.message.qos
}
