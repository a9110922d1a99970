//! A reference model of MQTT delivery: who must get what, with which QoS, how often and in which
//! order. It is small because it leaves open what the specifications leave open: packet
//! identifiers, which member of a shared subscription is chosen, the order of different topics.
//!
//! `deliver` says what is owed, `judge` compares it with what a client was sent.

mod deliver;
mod judge;
mod matching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_broker::Ticket;
use tidegate_peer::Version;

/// One application message. Payloads are unique, so that a copy can be told from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: &'static str,
    pub(crate) payload: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) publisher: usize,
    /// When it expires, in seconds since the beginning.
    pub(crate) expires: Option<u64>,
}

/// What a client asked for with one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) qos: u8,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    /// 0: sent again, 1: if new, 2: never.
    pub(crate) handling: u8,
    pub(crate) id: Option<u32>,
}

/// One copy of a message for one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) message: Message,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) ids: Vec<u32>,
}

/// A copy with QoS > 0 that has been sent and is not finished.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: u16,
    pub(crate) copy: Copy,
    /// The client spoke MQTT 5 when it was sent first, so that identical copies by different
    /// subscriptions could be told apart.
    pub(crate) identified: bool,
    /// PUBREC has come: only PUBREL is sent now.
    pub(crate) released: bool,
    /// It, or its PUBREL, has been sent on the present connection.
    pub(crate) here: bool,
    /// PUBLISH has been sent on the present connection, and so counts against Receive Maximum.
    pub(crate) counts: bool,
}

/// A retained message that a new subscription brings.
#[derive(Debug, Clone)]
pub(crate) struct Retained {
    pub(crate) filter: &'static str,
    pub(crate) copy: Copy,
    /// It has been replaced or removed since, or the subscription has: it may be left out.
    pub(crate) optional: bool,
}

/// The connection of a session.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) version: Version,
    pub(crate) window: usize,
    pub(crate) alias_maximum: u16,
    pub(crate) will: Option<Will>,
    /// Topics by alias, from the server.
    pub(crate) aliases: BTreeMap<u32, String>,
    /// Topics by alias, to the server.
    pub(crate) own_aliases: BTreeMap<u16, &'static str>,
    /// PUBACKs and PUBRECs, which leave in the order of the publishes.
    pub(crate) acks: VecDeque<Ack>,
}

/// An acknowledgement of a publish of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) kind: u8,
    pub(crate) id: u16,
    pub(crate) code: u8,
    /// The owner's answer to this has still to come.
    pub(crate) waits_for: Option<Ticket>,
}

/// What CONNECT says.
#[derive(Debug, Clone)]
pub(crate) struct Hello {
    pub(crate) clean: bool,
    pub(crate) expiry: u64,
    pub(crate) max_packet: usize,
    pub(crate) link: Link,
}

#[derive(Debug, Clone)]
pub(crate) struct Will {
    pub(crate) message: Message,
    pub(crate) delay: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) link: Option<Link>,
    /// As the client says with each connection; 0: it never connected.
    pub(crate) max_packet: usize,
    pub(crate) expiry: u64,
    pub(crate) ends: Option<u64>,
    pub(crate) will: Option<(Will, u64)>,
    pub(crate) subscriptions: BTreeMap<&'static str, Subscription>,
    /// Owed, with QoS > 0.
    pub(crate) queue: VecDeque<Copy>,
    /// Owed now, with QoS 0.
    pub(crate) due: Vec<Copy>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) retained: Vec<Retained>,
    /// Identifiers received with QoS 2.
    pub(crate) received: BTreeSet<u16>,
    /// Those of them that the owner has not answered.
    pub(crate) unanswered: BTreeMap<u16, Ticket>,
    /// Answers owed to the client now, in order.
    pub(crate) replies: VecDeque<Reply>,
}

/// An answer to a packet of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// By its first byte.
    Ack {
        kind: u8,
        id: u16,
        code: u8,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
    Pingresp,
}

/// A message that one member of a shared subscription must get.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) filter: &'static str,
    pub(crate) message: Message,
    /// Members, with what each would get.
    pub(crate) members: Vec<(usize, Copy)>,
    /// Circumstances under which nobody may get it have come.
    pub(crate) optional: bool,
    /// Members were online and nothing held any of them up: one must get it at once.
    pub(crate) at_once: bool,
}

/// The broker as it should be, with one session at most for each client.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) sessions: BTreeMap<usize, Session>,
    pub(crate) retained: BTreeMap<&'static str, Message>,
    pub(crate) shares: Vec<Share>,
    /// In this step a client waits for its CONNACK: wills may miss it.
    pub(crate) letting_in: bool,
    /// Wills to be published at the end of the step.
    pub(crate) wills: Vec<Message>,
    /// Messages given to a member of a group whose session may still end before it has them.
    pub(crate) assigned: Vec<(usize, Copy, Share)>,
}

impl Message {
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Session {
    /// Messages with QoS > 0 under way on the present connection.
    pub(crate) fn outstanding(&self) -> usize {
        self.sent.iter().filter(|sent| sent.here).count()
    }

    /// Those that certainly count against Receive Maximum.
    pub(crate) fn counted(&self) -> usize {
        self.sent.iter().filter(|sent| sent.counts).count()
    }

    /// The window has room and nothing is left of an earlier connection.
    pub(crate) fn is_open(&self) -> bool {
        let link = self.link.as_ref();
        link.is_some_and(|link| self.outstanding() < link.window)
            && self.sent.iter().all(|sent| sent.here)
    }

    /// Owes an acknowledgement, behind those before it.
    pub(crate) fn acknowledge(&mut self, ack: Ack) {
        if let Some(link) = &mut self.link {
            link.acks.push_back(ack);
        }
        self.release_acks();
    }

    fn release_acks(&mut self) {
        let Some(link) = &mut self.link else { return };
        while let Some(ack) = link.acks.pop_front_if(|ack| ack.waits_for.is_none()) {
            let Ack { kind, id, code, .. } = ack;
            self.replies.push_back(Reply::Ack { kind, id, code });
        }
    }

    pub(crate) fn has_room_for(&self, count: usize) -> bool {
        self.link.as_ref().is_some_and(|link| self.outstanding() + count <= link.window)
    }

    /// Nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_open() && self.queue.is_empty() && self.retained.is_empty()
    }
}

impl Model {
    /// CONNECT of `client`. Returns whether a session is resumed.
    pub(crate) fn connect(&mut self, client: usize, hello: Hello) -> bool {
        let Hello { clean, expiry, max_packet, link } = hello;
        self.leave(client, true);
        // A delayed will is due when a clean start ends its session, and is off otherwise.
        if clean && let Some(session) = self.end(client) {
            self.due_will(session);
        }
        let present = self.sessions.contains_key(&client);
        let session = self.sessions.entry(client).or_default();
        session.link = Some(link);
        session.max_packet = max_packet;
        session.expiry = expiry;
        session.ends = None;
        session.will = None;
        present
    }

    /// The owner has accepted a publish.
    pub(crate) fn answered(&mut self, ticket: Ticket) {
        for session in self.sessions.values_mut() {
            session.unanswered.retain(|_, waiting| *waiting != ticket);
            for ack in session.link.iter_mut().flat_map(|link| &mut link.acks) {
                ack.waits_for = ack.waits_for.filter(|waiting| *waiting != ticket);
            }
            session.release_acks();
        }
    }

    /// The connection of `client` ends; with its will if `with_will`.
    pub(crate) fn leave(&mut self, client: usize, with_will: bool) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let Some(link) = session.link.take() else { return };
        session.due.clear();
        session.replies.clear();
        for sent in &mut session.sent {
            sent.here = false;
            sent.counts = false;
        }
        // What a walk over the retained messages had not come to may come later or not at all.
        session.retained.iter_mut().for_each(|retained| retained.optional = true);
        session.ends = Some(now + session.expiry);
        let ends_now = session.expiry == 0;
        let will = link.will.filter(|_| with_will);
        match will {
            Some(will) if will.delay > 0 && !ends_now => {
                session.will = Some((will.clone(), now + will.delay));
            }
            Some(will) => self.wills.push(will.message),
            None => {}
        }
        if ends_now {
            self.end(client);
        }
    }

    /// The power goes and comes back: every connection ends. Sessions without an expiry are lost
    /// with their wills.
    pub(crate) fn restart(&mut self) {
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let kept = self.sessions.get(&client).is_some_and(|session| session.expiry > 0);
            self.leave(client, kept);
            if let Some(session) = self.sessions.get_mut(&client) {
                session.unanswered.clear();
            }
        }
    }

    /// Forgets the session of `client`.
    fn end(&mut self, client: usize) -> Option<Session> {
        let session = self.sessions.remove(&client)?;
        // Whom a shared message was meant for is not known before it is sent; when that one's
        // session ends, it may go to those who are members then.
        for mut share in std::mem::take(&mut self.shares) {
            if share.members.iter().any(|(member, _)| *member == client) {
                self.reopen(&mut share, client);
            }
            self.shares.push(share);
        }
        // What was under way to a member with QoS 1 may go to another one, once.
        let unfinished =
            |message: &Message| session.sent.iter().any(|sent| sent.copy.message == *message);
        for (member, copy, mut share) in std::mem::take(&mut self.assigned) {
            if member != client {
                self.assigned.push((member, copy, share));
            } else if unfinished(&share.message) && copy.qos != 2 {
                self.reopen(&mut share, client);
                self.shares.push(share);
            }
        }
        Some(session)
    }

    fn reopen(&self, share: &mut Share, without: usize) {
        share.optional = true;
        share.at_once = false;
        share.members.retain(|(member, _)| *member != without);
        for (client, session) in &self.sessions {
            let subscription = session.subscriptions.get(share.filter);
            let copy = subscription.and_then(|s| Session::copy(&share.message, &[*s]));
            let member = copy.map(|copy| (*client, copy));
            share.members.extend(member.filter(|member| !share.members.contains(member)));
        }
    }
}
