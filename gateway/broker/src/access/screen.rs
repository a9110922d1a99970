//! What waits for a client that may no longer have it: the rules have changed since.
//!
//! A subscription is judged when it is made, so what is delivered for it needs no further
//! question. Messages that were queued before rules changed do: each by its own topic, so that a
//! client still gets what it may have.

use std::sync::Arc;

use crate::broker::Broker;
use crate::durable::SpoolTarget;
use crate::event::BrokerEvent;
use crate::message::Message;

use super::{Access, Action};

/// Which messages of a session have been sent on the present connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screened {
    /// None: it has no connection yet.
    All,
    /// Those that are not to be sent again.
    Unsent,
}

impl Broker {
    /// Drops what waits for a session on topics that its client may not read. What is in the
    /// spool is judged as it is read from there.
    pub(crate) fn screen(&mut self, slot: u32, access: &Access, screened: Screened) {
        let Some(session) = self.sessions.get_mut(slot).filter(|_| !access.is_everything()) else {
            return;
        };
        if let (Some(durable), Some(kept)) = (&self.durable, &mut session.kept) {
            kept.judged_below = durable.end.max(durable.head);
        }
        let mut denied = session
            .inflight
            .give_up_all(screened, |delivery| !access.may_receive(&delivery.message().topic));
        let mut begun = Vec::new();
        let waiting = std::mem::take(&mut session.queue);
        for delivery in waiting {
            if access.may_receive(&delivery.message().topic) {
                session.queue.push_back(delivery);
                continue;
            }
            if session.pass_over(delivery.seq, delivery.qos()) {
                begun.push(delivery.seq);
            }
            denied.push(delivery);
        }
        if denied.is_empty() {
            return;
        }
        for delivery in denied {
            if let Some(session) = self.sessions.get_mut(slot) {
                session.held_bytes -= delivery.bytes();
            }
            self.queued_bytes -= delivery.bytes();
            self.deny_delivery(slot, access.user(), delivery.message());
        }
        self.note_progress(slot);
        self.say_released(slot, begun);
    }

    /// Whether the spool record `seq` is one that its session may not have any more; then it is
    /// done with.
    pub(crate) fn is_denied(
        &mut self,
        slot: u32,
        seq: u64,
        message: &Message,
        target: &SpoolTarget,
    ) -> bool {
        let Some(session) = self.sessions.get(slot) else { return false };
        let Some(kept) = &session.kept else { return false };
        // A retained message may have been asked for before the change and written after it.
        if seq >= kept.judged_below && !target.replay {
            return false;
        }
        let connection = session.connection.and_then(|at| self.connections.get(at));
        let Some(open) = connection.and_then(|connection| connection.open()) else { return false };
        if open.access.may_receive(&message.topic) {
            return false;
        }
        let user = open.access.user().cloned();
        let session = self.sessions.get_mut(slot);
        let begun = session.is_some_and(|session| session.pass_over(seq, target.qos));
        self.deny_delivery(slot, user.as_ref(), message);
        self.note_progress(slot);
        if begun {
            self.say_released(slot, [seq]);
        }
        true
    }

    fn deny_delivery(&mut self, slot: u32, user: Option<&Arc<str>>, message: &Message) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.dropped += 1;
        self.counters.denied_deliveries += 1;
        self.events.push_back(BrokerEvent::Denied {
            client: session.client.clone(),
            user: user.cloned(),
            action: Action::Receive,
            topic: message.topic.to_string(),
        });
    }
}
