//! Shared subscriptions: `$share/NAME/filter`, each message to one member of the group.

use crate::broker::Broker;
use crate::message::{Message, QoS};
use crate::session::{Session, Subscriber, Subscription};
use crate::slots::Slots;
use crate::topic::{SharedFilter, TopicFilter};

/// The sessions that share one subscription.
#[derive(Debug)]
pub(crate) struct Group {
    /// What they subscribed to, `$share/NAME/` included.
    pub(crate) filter: TopicFilter,
    members: Vec<Member>,
    /// The member whose turn it is.
    next: usize,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    pub(crate) session: u32,
    pub(crate) subscription: Subscription,
}

/// Which members of a group a message may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eligible {
    All,
    /// Those whose sessions are not on the disk.
    InMemory,
}

impl Group {
    /// Who gets this message: members take turns. One that can be sent it at once goes before one
    /// that has a backlog, and that before one without a connection, which is chosen only for
    /// what its session keeps. One that had no room for the last one is chosen if there is no
    /// other.
    pub(crate) fn choose(
        &mut self,
        sessions: &Slots<Session>,
        message: &Message,
        eligible: Eligible,
    ) -> Option<Member> {
        let count = self.members.len();
        let (mut behind, mut absent, mut full) = (None, None, None);
        for step in 0..count {
            let at = (self.next + step) % count;
            let member = self.members[at];
            let Some(session) = sessions.get(member.session) else { continue };
            if eligible == Eligible::InMemory && session.kept.is_some() {
                continue;
            }
            if session.connection.is_some() && !session.has_backlog() {
                self.next = (at + 1) % count;
                return Some(member);
            }
            let keeps = message.qos.min(member.subscription.qos) > QoS::AtMostOnce;
            match session.connection {
                Some(_) if session.choked && keeps => drop(full.get_or_insert(at)),
                Some(_) => drop(behind.get_or_insert(at)),
                None if keeps => drop(absent.get_or_insert(at)),
                None => {}
            }
        }
        let at = behind.or(absent).or(full)?;
        self.next = (at + 1) % count;
        Some(self.members[at])
    }

    /// Whether there is a member beside this one.
    pub(crate) fn has_other(&self, session: u32) -> bool {
        self.members.iter().any(|member| member.session != session)
    }

    /// Adds a member or changes what it asked for.
    fn join(&mut self, member: Member) {
        match self.members.iter_mut().find(|known| known.session == member.session) {
            Some(known) => *known = member,
            None => self.members.push(member),
        }
    }

    fn leave(&mut self, session: u32) {
        if let Some(at) = self.members.iter().position(|member| member.session == session) {
            self.members.remove(at);
            if self.next > at {
                self.next -= 1;
            }
        }
    }
}

impl Broker {
    /// `session` shares in the subscription `filter`, which says `shared`.
    pub(crate) fn join_group(
        &mut self,
        filter: &TopicFilter,
        shared: &SharedFilter,
        session: u32,
        subscription: Subscription,
    ) {
        let slot = match self.by_share.get(filter) {
            Some(slot) => *slot,
            None => {
                let slot = self.groups.insert(Group {
                    filter: filter.clone(),
                    members: Vec::new(),
                    next: 0,
                });
                self.by_share.insert(filter.clone(), slot);
                self.subscribers.insert(&shared.filter, Subscriber::Group(slot));
                slot
            }
        };
        if let Some(group) = self.groups.get_mut(slot) {
            group.join(Member { session, subscription });
        }
    }

    pub(crate) fn leave_group(
        &mut self,
        filter: &TopicFilter,
        shared: &SharedFilter,
        session: u32,
    ) {
        let Some(&slot) = self.by_share.get(filter) else { return };
        let Some(group) = self.groups.get_mut(slot) else { return };
        group.leave(session);
        if group.members.is_empty() {
            self.groups.remove(slot);
            self.by_share.remove(filter);
            let this =
                |subscriber: &Subscriber| matches!(subscriber, Subscriber::Group(s) if *s == slot);
            self.subscribers.remove(&shared.filter, this);
        }
    }
}
