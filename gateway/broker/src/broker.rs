//! The state machine as its owner sees it: calls in, events out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use crate::access::Crowds;
use crate::connection::{Caller, Connection, Phase};
use crate::delivery::Target;
use crate::durable::Durable;
use crate::event::{BrokerEvent, CloseReason, ConnId, Ticket};
use crate::filter_tree::FilterTree;
use crate::limits::BrokerLimits;
use crate::local::Local;
use crate::outbox::Outbox;
use crate::packet::fault::{Fault, Reason};
use crate::retained::Retained;
use crate::session::{Session, Subscriber};
use crate::sharing::Group;
use crate::slots::Slots;
use crate::stats::{BrokerStats, Counters, SessionStats};
use crate::timers::{Timer, Timers};
use crate::topic::TopicFilter;
use crate::will::WillFate;

/// An MQTT broker without sockets, clock or threads.
///
/// Its owner reports what happens (`handle_*`), then takes what follows from it: events
/// ([`poll_event`](Broker::poll_event)) until there are none, and bytes to send
/// ([`unsent`](Broker::unsent)). After a portion of bytes has been consumed, it asks for events
/// again: messages that waited for room follow then. Calls with a connection the broker does not
/// know any more are harmless.
#[derive(Debug)]
pub struct Broker {
    pub(crate) limits: BrokerLimits,
    /// The time of the last call that told it.
    pub(crate) now: Option<Instant>,
    pub(crate) connections: Slots<Connection>,
    pub(crate) by_id: BTreeMap<ConnId, u32>,
    /// Number of the next ticket of each place in `connections`. It never goes back, so a
    /// ticket of an earlier connection in the same place finds nothing.
    pub(crate) next_ticket: Vec<u64>,
    pub(crate) sessions: Slots<Session>,
    pub(crate) by_client: BTreeMap<Arc<str>, u32>,
    pub(crate) subscribers: FilterTree<Subscriber>,
    pub(crate) groups: Slots<Group>,
    /// Groups by what their members subscribed to, `$share/NAME/` included.
    pub(crate) by_share: BTreeMap<TopicFilter, u32>,
    pub(crate) locals: Slots<Local>,
    /// Messages of QoS 2 that were not answered when their connection ended: their session and
    /// packet identifier.
    pub(crate) orphans: BTreeMap<Ticket, (u32, u16)>,
    /// `None`: sessions live in memory only.
    pub(crate) durable: Option<Box<Durable>>,
    pub(crate) retained: Retained,
    pub(crate) timers: Timers,
    pub(crate) events: VecDeque<BrokerEvent>,
    /// How many of them are messages that their owner has not taken yet.
    pub(crate) untaken: usize,
    /// Connections whose next packet waits until none is left.
    pub(crate) in_turn: BTreeSet<u32>,
    /// Sessions that publishers wait for.
    pub(crate) waited_for: BTreeSet<u32>,
    /// Connections that are not read meanwhile.
    pub(crate) held_back: BTreeSet<u32>,
    /// Connections whose outbox was handed out while something waited for room.
    pub(crate) handed_out: VecDeque<u32>,
    /// Connections whose client did not keep up, and that are to be ended for it.
    pub(crate) too_slow: BTreeSet<ConnId>,
    /// Unsent bytes of all connections.
    pub(crate) unsent_total: Arc<AtomicUsize>,
    /// Bytes of the messages with QoS 1 and 2 of all sessions.
    pub(crate) queued_bytes: usize,
    pub(crate) counters: Counters,
    /// Counts deliveries, to tell which session has been considered for the present one.
    pub(crate) deliveries: u64,
    /// Subscriptions of all sessions.
    pub(crate) subscriptions: usize,
    /// Kept for its capacity.
    pub(crate) targets: Vec<Target>,
    /// The subscribers inside the gateway that the message found last concerns.
    pub(crate) inside: Vec<u32>,
    /// What client identifiers given out are made of.
    pub(crate) id_seed: u64,
    pub(crate) hearing: Hearing,
    /// The owner is asked who a client is.
    pub(crate) requires_login: bool,
    /// Addresses whose connections share a rate.
    pub(crate) crowds: Crowds,
}

/// Whether the owner reads from the sockets at all.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Hearing {
    /// It does, since then; `None`: it always did.
    Since(Option<Instant>),
    /// It does not: nobody's silence is his own.
    Deaf,
}

impl Hearing {
    /// From when on silence counts for somebody last heard at `heard`.
    fn silent_since(self, now: Instant, heard: Instant) -> Instant {
        match self {
            Hearing::Since(since) => since.map_or(heard, |since| since.max(heard)),
            Hearing::Deaf => now,
        }
    }
}

impl Broker {
    /// A broker without connections and sessions. Limits that would allow nothing at all are
    /// raised to the least that works.
    pub fn new(limits: BrokerLimits) -> Broker {
        let limits = limits.sane();
        Broker {
            now: None,
            connections: Slots::new(),
            by_id: BTreeMap::new(),
            next_ticket: Vec::new(),
            sessions: Slots::new(),
            by_client: BTreeMap::new(),
            subscribers: FilterTree::new(),
            groups: Slots::new(),
            by_share: BTreeMap::new(),
            locals: Slots::new(),
            orphans: BTreeMap::new(),
            durable: None,
            inside: Vec::new(),
            retained: Retained::new(limits.max_retained, limits.max_retained_bytes),
            timers: Timers::default(),
            events: VecDeque::new(),
            untaken: 0,
            in_turn: BTreeSet::new(),
            waited_for: BTreeSet::new(),
            held_back: BTreeSet::new(),
            handed_out: VecDeque::new(),
            too_slow: BTreeSet::new(),
            unsent_total: Arc::default(),
            queued_bytes: 0,
            counters: Counters::default(),
            deliveries: 0,
            subscriptions: 0,
            targets: Vec::new(),
            id_seed: 0,
            hearing: Hearing::Since(None),
            requires_login: false,
            crowds: Crowds::new(),
            limits,
        }
    }

    /// Sets what the client identifiers are made of that clients without one are given. A fresh
    /// random number at each start keeps them apart from those given before.
    pub fn seed_client_ids(&mut self, entropy: u64) {
        self.id_seed = entropy;
    }

    /// Takes those limits of another set that no client has been told of: rates, and what may wait
    /// for subscribers. A rate for each address counts for connections that come.
    pub fn set_quotas(&mut self, limits: &BrokerLimits) {
        let limits = limits.clone().sane();
        self.limits = BrokerLimits {
            max_publishes_per_second: limits.max_publishes_per_second,
            max_publishes_per_second_per_address: limits.max_publishes_per_second_per_address,
            max_queued_bytes_per_session: limits.max_queued_bytes_per_session,
            slow_subscriber: limits.slow_subscriber,
            max_spooled_messages_per_session: limits.max_spooled_messages_per_session,
            max_spooled_bytes_per_session: limits.max_spooled_bytes_per_session,
            ..self.limits.clone()
        };
    }

    /// The limits in force.
    pub fn limits(&self) -> &BrokerLimits {
        &self.limits
    }

    /// A connection has been accepted from `peer` (for logs only).
    pub fn handle_open(&mut self, now: Instant, conn: ConnId, peer: String) {
        self.handle_caller(now, conn, Caller { peer, address: None, since: now });
    }

    /// The same, with more to say of where it comes from.
    pub fn handle_caller(&mut self, now: Instant, conn: ConnId, caller: Caller) {
        self.now = Some(now);
        if self.by_id.contains_key(&conn) {
            return;
        }
        if self.connections.len() >= self.limits.max_connections {
            let why = CloseReason::TooManyConnections;
            self.events.push_back(BrokerEvent::Close { conn, why });
            return;
        }
        let outbox = Outbox::counted_in(&self.unsent_total);
        let limited = self.limits.max_publishes_per_second_per_address.is_some();
        let address = caller.address.filter(|_| limited);
        let crowd = address.map(|address| self.crowds.join(now, address));
        let deadline = caller.since.checked_add(self.limits.connect_timeout);
        let slot = self.connections.insert(Connection::new(conn, caller, crowd, outbox));
        if self.next_ticket.len() <= slot as usize {
            self.next_ticket.resize(slot as usize + 1, 0);
        }
        self.by_id.insert(conn, slot);
        self.arm_connection(slot, deadline);
    }

    /// Bytes have arrived, in portions of any size.
    pub fn handle_bytes(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        self.now = Some(now);
        let Some(&slot) = self.by_id.get(&conn) else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.is_closing() {
            return;
        }
        if connection.unread.is_empty() && !connection.paused {
            let used = self.read(now, slot, bytes);
            self.keep_unread(slot, &bytes[used..]);
            return;
        }
        connection.unread.extend_from_slice(bytes);
        if !connection.paused {
            self.read_unread(now, slot);
        } else if connection.unread.len() > self.limits.held_bytes(&connection.phase) {
            let text = "too much was sent while reading was paused";
            self.close_for(now, slot, Fault::new(Reason::QuotaExceeded, text));
        }
    }

    /// The transport has ended, by itself or after `Close`. If the client has not said goodbye,
    /// its will is due.
    pub fn handle_closed(&mut self, now: Instant, conn: ConnId, why: &str) {
        self.now = Some(now);
        let Some(slot) = self.by_id.get(&conn).copied() else { return };
        let why = CloseReason::Transport(why.to_owned());
        self.detach(now, slot, why, WillFate::Publish);
        self.forget_connection(slot);
    }

    /// The owner stops reading from all sockets, or goes on. Meanwhile clients cannot be heard,
    /// so that no keep-alive and no connect timeout runs out; afterwards they have their full
    /// time again.
    pub fn handle_reading(&mut self, now: Instant, reads: bool) {
        self.now = Some(now);
        self.hearing = match (reads, self.hearing) {
            (true, Hearing::Deaf) => Hearing::Since(Some(now)),
            (true, hears @ Hearing::Since(_)) => hears,
            (false, _) => Hearing::Deaf,
        };
    }

    /// The time given by [`poll_timeout`](Broker::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Connection(slot) => self.connection_due(now, slot),
                Timer::Session(slot) => self.session_due(now, slot),
            }
        }
    }

    /// When [`handle_timeout`](Broker::handle_timeout) is to be called: connect timeouts,
    /// keep-alives, delayed wills, ends of sessions. `None`: nothing is due at any time.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first()
    }

    /// The next event. Call it until there is none, after every other call and after consuming
    /// bytes of an [`Outbox`].
    pub fn poll_event(&mut self) -> Option<BrokerEvent> {
        while self.events.is_empty()
            && let Some(slot) = self.handed_out.pop_front()
        {
            self.after_handing_out(slot);
        }
        while let Some(conn) = self.too_slow.pop_first() {
            self.end_slow(conn);
        }
        while self.events.is_empty()
            && let (Some(slot), Some(now)) = (self.in_turn.pop_first(), self.now)
        {
            self.read_unread(now, slot);
        }
        while self.events.is_empty() && self.resume_held_back() {}
        if self.events.is_empty() {
            self.hand_out_changes();
        }
        let event = self.events.pop_front();
        self.untaken -= usize::from(matches!(event, Some(BrokerEvent::Publish { .. })));
        event
    }

    /// A message for the owner to decide about.
    pub(crate) fn announce(&mut self, publish: BrokerEvent) {
        self.untaken += 1;
        self.events.push_back(publish);
    }

    /// The bytes waiting for this connection; `None` if the broker does not know it (any more).
    pub fn unsent(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        let slot = *self.by_id.get(&conn)?;
        let connection = self.connections.get_mut(slot)?;
        if connection.wants_room && !connection.listed {
            connection.listed = true;
            self.handed_out.push_back(slot);
        }
        Some(&mut connection.outbox)
    }

    /// Its owner may have consumed bytes: what waited for room may follow.
    fn after_handing_out(&mut self, slot: u32) {
        let Some(now) = self.now else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.listed = false;
        if connection.outbox.len() > self.limits.max_unsent_bytes / 2 {
            return;
        }
        connection.wants_room = false;
        if let Phase::Open(open) = &connection.phase {
            let session = open.session;
            self.pump(now, session);
            self.resume_if_possible(now, slot);
        }
    }

    /// Says goodbye to everybody (MQTT 5: DISCONNECT 0x8B) because the gateway stops. No client
    /// has said goodbye, so their wills come out, those with a delay when it has passed.
    pub fn disconnect_all(&mut self, now: Instant) {
        self.now = Some(now);
        let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let goodbye = Some((Reason::ServerShuttingDown, None));
            self.close(now, slot, CloseReason::ShuttingDown, goodbye, WillFate::Publish);
        }
    }

    /// What the broker holds and has done.
    pub fn stats(&self) -> BrokerStats {
        let sessions = self.by_client.values().filter_map(|slot| self.sessions.get(*slot));
        BrokerStats {
            connections: self.connections.len(),
            subscriptions: self.subscriptions,
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            queued_bytes: self.queued_bytes,
            counters: self.counters,
            sessions: sessions
                .map(|session| SessionStats {
                    client: session.client.clone(),
                    connected: session.connection.is_some(),
                    subscriptions: session.subscriptions.len(),
                    queued: session.queue.len(),
                    inflight: session.inflight.len(),
                    queued_bytes: session.held_bytes,
                    spooled: session.kept.as_ref().map(|k| k.backlog.total()).unwrap_or_default(),
                    dropped: session.dropped,
                })
                .collect(),
        }
    }

    pub(crate) fn arm_connection(&mut self, slot: u32, at: Option<Instant>) {
        if let Some(connection) = self.connections.get_mut(slot) {
            self.timers.set(Timer::Connection(slot), &mut connection.timer, at);
        }
    }

    pub(crate) fn arm_session(&mut self, slot: u32) {
        if let Some(session) = self.sessions.get_mut(slot) {
            let at = session.wake_at();
            self.timers.set(Timer::Session(slot), &mut session.timer, at);
        }
    }

    fn connection_due(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        connection.timer = None;
        let silent_since = self.hearing.silent_since(now, connection.heard);
        match &connection.phase {
            Phase::Closing => {}
            Phase::AwaitingConnect | Phase::Authenticating(_) | Phase::Settling(_) => {
                let deadline = silent_since.checked_add(self.limits.connect_timeout);
                if deadline.is_none_or(|at| at > now) {
                    self.arm_connection(slot, deadline);
                    return;
                }
                self.close(now, slot, CloseReason::ConnectTimeout, None, WillFate::Discard);
            }
            Phase::Open(open) => {
                let patience = open.patience;
                if connection.paused {
                    self.resume_if_possible(now, slot);
                }
                let Some(connection) = self.connections.get(slot) else { return };
                if connection.open().is_none() || connection.timer.is_some() {
                    return;
                }
                let Some(patience) = patience else { return };
                // While reading is paused the client cannot be heard.
                let silent_since = if connection.paused { now } else { silent_since };
                let deadline = silent_since.checked_add(patience);
                if deadline.is_some_and(|at| at <= now) {
                    self.counters.keep_alive_timeouts += 1;
                    let goodbye = Some((Reason::KeepAliveTimeout, None));
                    let why = CloseReason::KeepAliveTimeout; // [MQTT-3.1.2-22]
                    self.close(now, slot, why, goodbye, WillFate::Publish);
                } else {
                    self.arm_connection(slot, deadline);
                }
            }
        }
    }
}
