//! What a message, a subscription and the passing of time make the broker owe to whom.

use std::collections::BTreeMap;

use super::matching::{matches, shared};
use super::{Copy, Message, Model, Retained, Session, Share, Subscription};

impl Session {
    pub(super) fn copy(message: &Message, of: &[Subscription]) -> Option<Copy> {
        let qos = of.iter().map(|subscription| subscription.qos).max()?.min(message.qos);
        let retain = message.retain && of.iter().any(|s| s.retain_as_published);
        let mut ids: Vec<u32> = of.iter().filter_map(|subscription| subscription.id).collect();
        ids.sort_unstable();
        Some(Copy { message: message.clone(), qos, retain, ids })
    }

    /// Whether the client accepts a packet as large as this copy makes it. Clients that say
    /// something of it speak MQTT 5 and take no aliases.
    pub(super) fn fits(&self, copy: &Copy) -> bool {
        let id = if copy.qos > 0 { 2 } else { 0 };
        let expiry = if copy.message.expires.is_some() { 5 } else { 0 };
        // Subscription identifiers here are below 128, and so is the length of the properties.
        let properties = 1 + expiry + 2 * copy.ids.len();
        let length = 2 + copy.message.topic.len() + id + properties + copy.message.payload.len();
        let header = if length < 128 { 2 } else { 3 };
        header + length <= self.max_packet
    }

    fn owe(&mut self, copy: Copy) {
        if copy.qos > 0 {
            self.queue.push_back(copy);
        } else if self.link.is_some() && self.fits(&copy) {
            self.due.push(copy);
        }
    }
}

impl Model {
    /// A message has been accepted.
    pub(crate) fn publish(&mut self, message: &Message) {
        if message.retain {
            self.keep(message);
        }
        let mut groups: BTreeMap<&'static str, Vec<(usize, Copy)>> = BTreeMap::new();
        for (client, session) in &mut self.sessions {
            let own = message.publisher == *client;
            let matching: Vec<Subscription> = session
                .subscriptions
                .iter()
                .filter(|(filter, subscription)| {
                    matches(filter, message.topic) && !(own && subscription.no_local)
                })
                .map(|(_, subscription)| *subscription)
                .collect();
            if let Some(copy) = Session::copy(message, &matching) {
                session.owe(copy);
            }
            for (filter, subscription) in &session.subscriptions {
                if shared(filter).is_some_and(|filter| matches(filter, message.topic))
                    && let Some(copy) = Session::copy(message, &[*subscription])
                {
                    groups.entry(filter).or_default().push((*client, copy));
                }
            }
        }
        for (filter, members) in groups {
            let takes = |(client, copy): &(usize, Copy)| {
                copy.qos > 0 || self.sessions.get(client).is_some_and(|s| s.link.is_some())
            };
            let may_miss = self.letting_in && members.iter().any(|(_, copy)| copy.qos == 0);
            let optional = may_miss
                || !members.iter().any(takes)
                || members
                    .iter()
                    .any(|(client, copy)| self.sessions.get(client).is_some_and(|s| !s.fits(copy)));
            let online: Vec<&Session> = members
                .iter()
                .filter_map(|(client, _)| self.sessions.get(client))
                .filter(|session| session.link.is_some())
                .collect();
            // With room for a copy by another subscription, too.
            let ready = |session: &&Session| session.is_idle() && session.has_room_for(2);
            let busy = self.shares.iter().flat_map(|share| &share.members);
            let busy = busy.into_iter().any(|(client, _)| members.iter().any(|(m, _)| m == client));
            // Who is being let in has no connection yet where the owner keeps sessions: a will that
            // its takeover brings out may go to the session of a member that is away.
            let settled = !busy && !self.letting_in;
            let at_once = !optional && settled && !online.is_empty() && online.iter().all(ready);
            let message = message.clone();
            self.shares.push(Share { filter, message, members, optional, at_once });
        }
    }

    fn keep(&mut self, message: &Message) {
        for session in self.sessions.values_mut() {
            for retained in &mut session.retained {
                retained.optional |= retained.copy.message.topic == message.topic;
            }
        }
        if message.payload.is_empty() {
            self.retained.remove(message.topic);
        } else {
            self.retained.insert(message.topic, message.clone());
        }
    }

    /// One filter of a SUBSCRIBE of `client`.
    pub(crate) fn subscribe(&mut self, client: usize, filter: &'static str, wish: Subscription) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let is_new = session.subscriptions.insert(filter, wish).is_none();
        forget_retained(session, filter);
        if shared(filter).is_some() || wish.handling == 2 || (wish.handling == 1 && !is_new) {
            return;
        }
        for message in self.retained.values() {
            let own = wish.no_local && message.publisher == client;
            if !own && matches(filter, message.topic) && !message.is_expired(now) {
                let ids = wish.id.into_iter().collect();
                let qos = wish.qos.min(message.qos);
                let copy = Copy { message: message.clone(), qos, retain: true, ids };
                let optional = !session.fits(&copy);
                session.retained.push(Retained { filter, copy, optional });
            }
        }
    }

    /// One filter of an UNSUBSCRIBE. Returns whether there was such a subscription.
    pub(crate) fn unsubscribe(&mut self, client: usize, filter: &'static str) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        forget_retained(session, filter);
        for share in &mut self.shares {
            // Messages that a member got in its queue still reach it, others go elsewhere.
            share.optional |= share.members.iter().any(|(member, _)| *member == client);
        }
        session.subscriptions.remove(filter).is_some()
    }

    /// Publishes the wills that came up in this step.
    pub(crate) fn publish_wills(&mut self) {
        for will in std::mem::take(&mut self.wills) {
            let mut message = will;
            // Its expiry begins when it is published.
            message.expires = message.expires.map(|seconds| self.now + seconds);
            self.publish(&message);
        }
    }

    pub(super) fn due_will(&mut self, session: Session) {
        self.wills.extend(session.will.map(|(will, _)| will.message));
    }

    /// The next time at which something happens by itself, not after `end`.
    pub(crate) fn next_event(&self, end: u64) -> Option<u64> {
        let wills = self.sessions.values().filter_map(|s| s.will.as_ref().map(|(_, at)| *at));
        let ends = self.sessions.values().filter_map(|session| session.ends);
        wills.chain(ends).filter(|at| *at <= end).min()
    }

    /// It is `now`: delayed wills and the ends of sessions.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = now;
        let clients: Vec<usize> = self.sessions.keys().copied().collect();
        for client in clients {
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            if let Some((will, _)) = session.will.take_if(|(_, at)| *at <= now) {
                self.wills.push(will.message);
            }
            if session.ends.is_some_and(|at| at <= now)
                && let Some(session) = self.end(client)
            {
                self.due_will(session);
            }
        }
        self.expire();
    }

    /// Drops what has expired before its delivery began.
    pub(crate) fn expire(&mut self) {
        let now = self.now;
        self.retained.retain(|_, message| !message.is_expired(now));
        for session in self.sessions.values_mut() {
            session.queue.retain(|copy| !copy.message.is_expired(now));
            session.retained.retain(|retained| !retained.copy.message.is_expired(now));
        }
        self.shares.retain(|share| !share.message.is_expired(now));
    }
}

fn forget_retained(session: &mut Session, filter: &str) {
    let of_filter = session.retained.iter_mut().filter(|retained| retained.filter == filter);
    of_filter.for_each(|retained| retained.optional = true);
}
