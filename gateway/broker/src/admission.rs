//! CONNECT: who is let in, and with which session.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::access::{Access, Screened, Throttle};
use crate::aliases::OutboundAliases;
use crate::broker::Broker;
use crate::connection::{Candidate, Open, Phase};
use crate::delivery::append;
use crate::durable::{PersistTicket, Reads, format};
use crate::event::{BrokerEvent, CloseReason};
use crate::limits::BrokerLimits;
use crate::packet::connect::{
    self, Connect, IDENTIFIER_REJECTED, NOT_AUTHORIZED, Refusal, SERVER_UNAVAILABLE, Welcome,
};
use crate::packet::fault::{Fault, Reason};
use crate::packet::frame::Frame;
use crate::packet::{Version, ack};
use crate::pending::PendingAcks;
use crate::session::Session;
use crate::will::{Will, WillFate};

impl Broker {
    pub(crate) fn handle_connect(&mut self, now: Instant, slot: u32, frame: Frame<'_>) {
        let candidate = connect::decode(frame.body).and_then(|connect| {
            let minimal = frame.check_minimal(connect.version);
            minimal.map_err(|fault| Refusal::of(&connect, fault, SERVER_UNAVAILABLE))?;
            let (client, assigned) = self.client_id(&connect)?;
            Ok(Candidate { connect, client, assigned })
        });
        let admitted = candidate.and_then(|candidate| {
            if self.requires_login {
                self.ask_who(slot, candidate);
                return Ok(());
            }
            self.admit(now, slot, candidate, Access::everything())
        });
        if let Err(refusal) = admitted {
            self.refuse(now, slot, &refusal);
        }
    }

    pub(crate) fn refuse(&mut self, now: Instant, slot: u32, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if let Some(connack) = connect::refusal(refusal) {
            append(connection, &mut self.events, |out| out.extend_from_slice(&connack));
        }
        self.counters.faults += 1;
        let Fault { reason, text } = refusal.fault;
        let why = CloseReason::Fault { code: reason as u8, text };
        self.close(now, slot, why, None, WillFate::Discard);
    }

    pub(crate) fn admit(
        &mut self,
        now: Instant,
        slot: u32,
        candidate: Candidate,
        access: Access,
    ) -> Result<(), Refusal> {
        self.check_will_topic(&candidate.connect)?;
        self.check_will(&candidate, &access)?;
        let Candidate { mut connect, client, assigned } = candidate;
        let granted = self.granted_expiry(connect.session_expiry);
        let keep_alive = self.granted_keep_alive(&connect);
        let BrokerLimits { receive_maximum, max_packet, topic_alias_maximum, .. } = self.limits;
        let connack = |session_present| {
            let welcome = Welcome {
                session_present, // [MQTT-3.2.2-2], [MQTT-3.2.2-3]
                receive_maximum,
                max_packet,
                topic_alias_maximum,
                assigned_client: assigned.then_some(&*client),
                session_expiry: (granted != Duration::from_secs(connect.session_expiry.into()))
                    .then_some(granted.as_secs().try_into().unwrap_or(u32::MAX)),
                keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive),
            };
            connect::welcome(connect.version, &welcome)
        };
        if connack(false).len() > connect.max_packet as usize {
            // [MQTT-3.1.2-24]
            let text = "CONNACK is larger than the client accepts";
            return Err(Refusal::silent(Fault::new(Reason::PacketTooLarge, text)));
        }
        let before = self.durable.as_ref().map(|durable| durable.mark());
        let (session, present) = self.session_for(now, slot, &client, &connect, &access)?;
        let connack = connack(present);
        if let Some(session) = self.sessions.get_mut(session) {
            session.claimed = Some(slot);
            session.user = access.user().cloned();
            session.expiry = granted;
            session.ends_at = None;
            // [MQTT-3.1.3-9]: the client is back in time.
            let will = session.will.take();
            self.discard_will(will.and_then(|will| will.key));
        }
        let mut will = connect.will.take().map(|will| Will::new(will, &client));
        will.iter_mut().for_each(|will| self.keep_will(session, will));
        self.arm_session(session);
        self.drop_denied_subscriptions(session, &access);
        self.screen(session, &access, Screened::All);
        self.write_session(now, session);
        self.write_what_is_released(session);
        let waits = self.awaits_disk(session, before);
        let opening = Opening { connect, client, session, will, keep_alive, access, connack };
        match waits {
            Some(ticket) => self.settle_in(slot, Settling { ticket, opening }),
            None => self.open(now, slot, opening),
        }
        Ok(())
    }

    /// A will is published where its client could publish: topics that begin with `$` are the
    /// gateway's own (section 4.7.2).
    fn check_will_topic(&self, connect: &Connect) -> Result<(), Refusal> {
        let Some(will) = &connect.will else { return Ok(()) };
        let text = if will.topic.is_reserved() {
            "topics that begin with $ are the gateway's own"
        } else if will.topic.as_str().len() > self.limits.max_topic_bytes
            || will.topic.levels().count() > self.limits.max_topic_levels
        {
            "the will's topic is longer or deeper than allowed"
        } else {
            return Ok(());
        };
        Err(Refusal::of(connect, Fault::new(Reason::TopicNameInvalid, text), NOT_AUTHORIZED))
    }

    /// What CONNACK has to wait for: the changes of its CONNECT, those after `before`, and those
    /// of an earlier connection of the same session.
    fn awaits_disk(
        &self,
        session: u32,
        before: Option<(PersistTicket, usize)>,
    ) -> Option<PersistTicket> {
        let durable = self.durable.as_ref()?;
        if Some(durable.mark()) != before {
            return Some(durable.next_ticket);
        }
        let kept = self.sessions.get(session)?.kept.as_ref()?;
        (kept.ticket >= durable.persisted).then_some(kept.ticket)
    }

    fn settle_in(&mut self, slot: u32, settling: Settling) {
        let (Some(durable), Some(connection)) = (&mut self.durable, self.connections.get_mut(slot))
        else {
            return;
        };
        durable.hurried = true;
        durable.holding.insert(slot);
        connection.phase = Phase::Settling(Box::new(settling));
        connection.paused = true;
        self.events.push_back(BrokerEvent::Pause(connection.id));
    }

    /// What the CONNECT of this connection changed is durable.
    pub(crate) fn let_in(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitingConnect);
        let Phase::Settling(settling) = phase else { return };
        connection.paused = false;
        connection.heard = now;
        self.events.push_back(BrokerEvent::Resume(connection.id));
        self.open(now, slot, settling.opening);
        self.read_unread(now, slot);
    }

    fn open(&mut self, now: Instant, slot: u32, opening: Opening) {
        let Opening { connect, client, session, will, keep_alive, access, connack } = opening;
        let mut released = Vec::new();
        if let Some(owner) = self.sessions.get_mut(session) {
            owner.claimed = None;
            owner.connection = Some(slot);
            owner.inflight.restart();
            released.extend(owner.inflight.released());
            if let (Some(durable), Some(kept)) = (&mut self.durable, &owner.kept)
                && kept.reads != Reads::Live
            {
                durable.behind.insert(session);
            }
        }
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let patience = Duration::from_millis(u64::from(keep_alive) * 1500);
        let patience = (keep_alive > 0).then_some(patience);
        let first_ticket = self.next_ticket.get(slot as usize).copied().unwrap_or(0);
        connection.phase = Phase::Open(Box::new(Open {
            session,
            client: client.clone(),
            version: connect.version,
            patience,
            window: connect.receive_maximum.min(self.limits.max_inflight),
            max_packet: connect.max_packet,
            problem_info: connect.problem_info,
            will,
            pending: PendingAcks::new(first_ticket),
            unfinished: 0,
            held: VecDeque::new(),
            aliases: Vec::new(),
            outbound_aliases: OutboundAliases::new(
                connect.topic_alias_maximum,
                self.limits.max_outbound_aliases,
            ),
            last_topic: None,
            access,
            allowed_topic: None,
            throttle: Throttle::default(),
            due: None,
        }));
        append(connection, &mut self.events, |out| {
            out.extend_from_slice(&connack);
            // [MQTT-4.4.0-1]
            released.iter().for_each(|id| out.extend(ack::success(ack::PUBREL, *id)));
        });
        self.events.push_back(BrokerEvent::Connected {
            conn: connection.id,
            client,
            version: connect.version,
            peer: connection.peer.clone(),
        });
        self.arm_connection(slot, patience.and_then(|patience| now.checked_add(patience)));
        self.pump(now, session);
    }

    /// The client identifier, and whether the broker gave it.
    fn client_id(&mut self, connect: &Connect) -> Result<(Arc<str>, bool), Refusal> {
        let refusal = |text| {
            let fault = Fault::new(Reason::ClientIdNotValid, text);
            Refusal::of(connect, fault, IDENTIFIER_REJECTED)
        };
        if connect.client.len() > self.limits.max_client_id_bytes {
            return Err(refusal("the client identifier is too long"));
        }
        if !connect.client.is_empty() {
            return Ok((connect.client.as_str().into(), false));
        }
        if connect.version == Version::V3_1_1 && !connect.clean_start {
            // [MQTT-3.1.3-7], [MQTT-3.1.3-8]
            return Err(refusal("a session to keep needs a client identifier"));
        }
        // [MQTT-3.1.3-6], [MQTT-3.1.3-7] (5): unique among those in use.
        loop {
            let id: Arc<str> = format!("auto-{:016x}", self.next_random()).into();
            if !self.by_client.contains_key(&id) {
                return Ok((id, true));
            }
        }
    }

    /// SplitMix64: every value once before any repeats.
    fn next_random(&mut self) -> u64 {
        self.id_seed = self.id_seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.id_seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn granted_expiry(&self, wished: u32) -> Duration {
        let wished = match wished {
            connect::NEVER => Duration::MAX,
            seconds => Duration::from_secs(seconds.into()),
        };
        wished.min(self.limits.max_session_expiry)
    }

    fn granted_keep_alive(&self, connect: &Connect) -> u16 {
        match self.limits.max_keep_alive {
            Some(max)
                if connect.version == Version::V5
                    && (connect.keep_alive == 0 || connect.keep_alive > max) =>
            {
                max
            }
            Some(_) | None => connect.keep_alive,
        }
    }

    /// The session of this client, and whether it was there before.
    fn session_for(
        &mut self,
        now: Instant,
        newcomer: u32,
        client: &Arc<str>,
        connect: &Connect,
        access: &Access,
    ) -> Result<(u32, bool), Refusal> {
        let present = self.by_client.get(client).and_then(|session| self.sessions.get(*session));
        if present.is_some_and(|s| s.user.is_some() && s.user.as_ref() != access.user()) {
            // What is queued there is not for this user, and the connection is another's.
            let text = "the client identifier is in use by another user";
            let fault = Fault::new(Reason::ClientIdNotValid, text);
            return Err(Refusal::of(connect, fault, IDENTIFIER_REJECTED));
        }
        if let Some(other) = present.and_then(|session| session.connection.or(session.claimed)) {
            // [MQTT-3.1.4-3] (5), [MQTT-3.1.4-2] (3.1.1)
            let peer = |slot| self.connections.get(slot).map(|c| c.peer.clone());
            self.events.push_back(BrokerEvent::TakenOver {
                client: client.clone(),
                from: peer(other).unwrap_or_default(),
                by: peer(newcomer).unwrap_or_default(),
            });
            let goodbye = Some((Reason::SessionTakenOver, None));
            self.close(now, other, CloseReason::TakenOver, goodbye, WillFate::Publish);
        }
        // The session may have ended with the connection taken over.
        if let Some(&session) = self.by_client.get(client) {
            if !connect.clean_start {
                return Ok((session, true)); // [MQTT-3.1.2-5]
            }
            self.end_session(now, session); // [MQTT-3.1.2-4]
        }
        if self.sessions.len() >= self.limits.max_sessions && !self.evict_session(now) {
            let text = "there are as many sessions as are allowed";
            let fault = Fault::new(Reason::QuotaExceeded, text);
            return Err(Refusal::of(connect, fault, SERVER_UNAVAILABLE));
        }
        let mut session = Session::new(client.clone(), &self.limits);
        let kept = self.granted_expiry(connect.session_expiry) > Duration::ZERO;
        let number = self.durable.as_mut().filter(|_| kept).map(|durable| {
            durable.next_number += 1;
            // What an ended session left in the spool must not reach a later one.
            durable.put(vec![format::NEXT], format::encode_next(durable.next_number));
            durable.next_number - 1
        });
        session.keep_as(number);
        let slot = self.sessions.insert(session);
        if let (Some(durable), Some(number)) = (&mut self.durable, number) {
            durable.by_number.insert(number, slot);
            // Where it begins in the spool: what it is sent before it says so is after that.
            durable.urgent.insert(slot);
        }
        self.by_client.insert(client.clone(), slot);
        Ok((slot, false))
    }

    /// Gives up the session that has been without a connection for longest.
    fn evict_session(&mut self, now: Instant) -> bool {
        let oldest = self
            .sessions
            .iter()
            .filter(|(_, session)| session.connection.or(session.claimed).is_none())
            .min_by_key(|(slot, session)| (session.detached_at, *slot))
            .map(|(slot, _)| slot);
        match oldest {
            Some(slot) => {
                self.counters.sessions_evicted += 1;
                self.end_session(now, slot);
                true
            }
            None => false,
        }
    }
}

/// What a connection is opened with.
#[derive(Debug)]
pub(crate) struct Opening {
    connect: Connect,
    client: Arc<str>,
    pub(crate) session: u32,
    pub(crate) will: Option<Will>,
    keep_alive: u16,
    access: Access,
    connack: Vec<u8>,
}

/// A client that is let in once its session is on the disk.
#[derive(Debug)]
pub(crate) struct Settling {
    pub(crate) ticket: PersistTicket,
    pub(crate) opening: Opening,
}
