//! How connections and sessions end.

use std::time::{Duration, Instant};

use crate::admission::Opening;
use crate::broker::Broker;
use crate::connection::{Open, Phase};
use crate::delivery::append;
use crate::event::{BrokerEvent, CloseReason};
use crate::message::QoS;
use crate::packet::disconnect::Goodbye;
use crate::packet::fault::{Fault, Reason};
use crate::packet::{Version, connect, disconnect};
use crate::timers::Timer;
use crate::will::{DelayedWill, Will, WillFate};

impl Broker {
    /// Ends a connection for a fault of the peer. An MQTT 5 client is told the reason
    /// [MQTT-4.13.1-1].
    pub(crate) fn close_for(&mut self, now: Instant, slot: u32, fault: Fault) {
        self.counters.faults += 1;
        let why = CloseReason::Fault { code: fault.reason as u8, text: fault.text };
        self.close(now, slot, why, Some((fault.reason, Some(fault.text))), WillFate::Publish);
    }

    /// Ends a connection from this side. Before CONNECT no goodbye is sent [MQTT-3.14.0-1].
    pub(crate) fn close(
        &mut self,
        now: Instant,
        slot: u32,
        why: CloseReason,
        goodbye: Option<(Reason, Option<&str>)>,
        will: WillFate,
    ) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_closing() {
            return;
        }
        if let (Some(open), Some((reason, text))) = (connection.open(), goodbye)
            && open.version == Version::V5
        {
            let text = text.filter(|_| open.problem_info);
            let fits = |packet: &Vec<u8>| packet.len() <= open.max_packet as usize;
            // [MQTT-3.14.2-3]: rather without the text than too large.
            let packet = Some(disconnect::encode(reason, text))
                .filter(fits)
                .or_else(|| Some(disconnect::encode(reason, None)).filter(fits));
            if let Some(packet) = packet {
                append(connection, &mut self.events, |out| out.extend_from_slice(&packet));
            }
        }
        let conn = connection.id;
        self.events.push_back(BrokerEvent::Close { conn, why: why.clone() });
        self.detach(now, slot, why, will);
    }

    /// A client's DISCONNECT.
    pub(crate) fn handle_goodbye(
        &mut self,
        now: Instant,
        slot: u32,
        goodbye: Goodbye,
    ) -> Result<(), Fault> {
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        if let (Some(seconds), Some(session)) =
            (goodbye.session_expiry, self.sessions.get_mut(open.session))
        {
            if session.expiry.is_zero() && seconds > 0 {
                // Section 3.14.2.2.2 calls it a protocol error.
                return Err(Fault::protocol(
                    "a session that ends with its connection cannot be kept",
                ));
            }
            let wished = match seconds {
                connect::NEVER => Duration::MAX,
                seconds => Duration::from_secs(seconds.into()),
            };
            session.expiry = wished.min(self.limits.max_session_expiry);
        }
        let will = if goodbye.with_will { WillFate::Publish } else { WillFate::Discard };
        self.close(now, slot, CloseReason::ClientDisconnected, None, will);
        Ok(())
    }

    /// Parts a connection from its session. Nothing is read from it any more; what is unsent
    /// stays until the connection is forgotten.
    pub(crate) fn detach(&mut self, now: Instant, slot: u32, why: CloseReason, will: WillFate) {
        self.arm_connection(slot, None);
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.unread = Vec::new();
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        let open = match phase {
            Phase::Open(open) => open,
            Phase::Settling(settling) => return self.unclaim(now, settling.opening),
            Phase::AwaitingConnect | Phase::Authenticating(_) | Phase::Closing => return,
        };
        self.events.push_back(BrokerEvent::Disconnected { client: open.client.clone(), why });
        self.leave_session(now, *open, will);
    }

    /// A client that was to be let in has gone before.
    fn unclaim(&mut self, now: Instant, opening: Opening) {
        let Opening { session: slot, will, .. } = opening;
        self.discard_will(will.and_then(|will| will.key));
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.claimed = None;
        session.detached_at = Some(now);
        session.ends_at = now.checked_add(session.expiry);
        if session.expiry.is_zero() {
            return self.end_session(now, slot);
        }
        self.arm_session(slot);
        self.note_progress(slot);
    }

    fn leave_session(&mut self, now: Instant, open: Open, fate: WillFate) {
        self.forget_strain(open.session);
        let Some(session) = self.sessions.get_mut(open.session) else { return };
        session.connection = None;
        session.walk_at = None;
        session.detached_at = Some(now);
        session.ends_at = now.checked_add(session.expiry);
        if session.kept.is_some() {
            let ticket = self.durable.as_ref().map_or_else(Default::default, |d| d.next_ticket);
            self.queued_bytes -= session.forget_messages(ticket);
            if let Some(durable) = &mut self.durable {
                durable.behind.remove(&open.session);
                durable.dirty.insert(open.session);
            }
        }
        for (ticket, id) in session.receipts.restart() {
            self.orphans.insert(ticket, (open.session, id));
        }
        let ends_now = session.expiry.is_zero();
        match (fate, open.will) {
            (WillFate::Publish, Some(Will { message, delay, key })) => {
                // [MQTT-3.1.2-10], [MQTT-3.1.3-9]: after its delay or with the session, whichever
                // is first; session_due and end_session publish it.
                if delay.is_zero() || ends_now {
                    self.publish_will(open.client, message, key);
                } else {
                    session.will =
                        now.checked_add(delay).map(|at| DelayedWill { message, at, key });
                }
            }
            (WillFate::Discard, Some(will)) => self.discard_will(will.key),
            (WillFate::Publish | WillFate::Discard, None) => {}
        }
        if ends_now {
            self.end_session(now, open.session);
        } else {
            self.arm_session(open.session);
        }
    }

    /// The timer of a session: its will is due, its end has come, or a walk over the retained
    /// messages goes on.
    pub(crate) fn session_due(&mut self, now: Instant, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        session.timer = None;
        if session.will.as_ref().is_some_and(|will| will.at <= now) {
            self.publish_delayed_will(slot);
        }
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.ends_at.is_some_and(|at| at <= now) {
            self.end_session(now, slot);
            return;
        }
        self.give_up_waiting(now, slot);
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if session.walk_at.take_if(|at| *at <= now).is_some() {
            self.pump(now, slot);
        }
        self.arm_session(slot);
    }

    pub(crate) fn publish_delayed_will(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(DelayedWill { message, key, .. }) = session.will.take() {
            let client = session.client.clone();
            self.publish_will(client, message, key);
        }
    }

    /// Forgets a session without a connection: its subscriptions, its messages, and with it its
    /// will is due [MQTT-3.1.2-8].
    pub(crate) fn end_session(&mut self, now: Instant, slot: u32) {
        self.publish_delayed_will(slot);
        let Some(mut session) = self.sessions.remove(slot) else { return };
        self.timers.set(Timer::Session(slot), &mut session.timer, None);
        self.by_client.remove(&session.client);
        // Should what follows be cut off, the session goes on and this means nothing.
        self.leave_estate(slot, &session);
        self.forget_kept(slot, &mut session);
        self.queued_bytes -= session.held_bytes;
        self.subscriptions -= session.subscriptions.len();
        for (ticket, _) in session.receipts.restart() {
            self.orphans.remove(&ticket);
        }
        for filter in session.subscriptions.keys() {
            self.leave_filter(filter, slot);
        }
        // What was sent with QoS 2 is nobody else's [MQTT-4.8.2-5].
        let sent = session.inflight.into_unacknowledged();
        let sent = sent.filter(|delivery| delivery.qos() == QoS::AtLeastOnce);
        for delivery in sent.chain(session.queue) {
            if let Some(share) = &delivery.share {
                self.give_on(now, delivery.message(), share, delivery.expires_at(), None);
            }
        }
    }

    /// The socket is gone.
    pub(crate) fn forget_connection(&mut self, slot: u32) {
        if let Some(connection) = self.connections.remove(slot) {
            self.by_id.remove(&connection.id);
            connection.crowd.into_iter().for_each(|crowd| self.crowds.leave(crowd));
            if connection.listed {
                self.handed_out.retain(|listed| *listed != slot);
            }
        }
    }
}
