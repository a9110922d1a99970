//! Numbers for whoever watches the broker.

use std::sync::Arc;

use crate::durable::Amount;

/// What the broker holds and what it has done since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerStats {
    /// Open network connections, those before CONNECT included.
    pub connections: usize,
    /// Subscriptions of all sessions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// Their bytes.
    pub retained_bytes: usize,
    /// Bytes of the messages with QoS 1 and 2 that wait or are under way, over all sessions.
    pub queued_bytes: usize,
    /// What has been done.
    pub counters: Counters,
    /// Each session, in order of its client identifier.
    pub sessions: Vec<SessionStats>,
}

/// Totals since the broker was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// QoS 0 messages taken in.
    pub received_qos0: u64,
    /// QoS 1 messages taken in.
    pub received_qos1: u64,
    /// QoS 2 messages taken in, repetitions not counted.
    pub received_qos2: u64,
    /// PUBACKs and PUBRECs sent with success, repetitions not counted.
    pub acknowledged: u64,
    /// Publishes refused by the owner.
    pub refused: u64,
    /// Publishes of clients to topics that begin with `$`: those are the gateway's.
    pub refused_reserved: u64,
    /// QoS 0 messages sent to subscribers.
    pub sent_qos0: u64,
    /// QoS 1 messages sent to subscribers, repetitions not counted.
    pub sent_qos1: u64,
    /// QoS 2 messages sent to subscribers, repetitions not counted.
    pub sent_qos2: u64,
    /// Messages with QoS 1 and 2 sent again after a reconnect.
    pub sent_again: u64,
    /// QoS 0 messages dropped: the subscriber reads too slowly.
    pub dropped_qos0: u64,
    /// Messages with QoS 1 and 2 dropped: the subscriber's session is full.
    pub dropped_qos1: u64,
    /// Messages with QoS 1 and 2 given up in the spool: a kept session, or all together, is at
    /// its quota.
    pub dropped_spooled: u64,
    /// Connections ended because their client did not keep up with what it subscribed to.
    pub slow_disconnected: u64,
    /// Messages dropped: larger than the subscriber accepts.
    pub dropped_too_large: u64,
    /// Messages dropped: expired while they waited.
    pub dropped_expired: u64,
    /// Messages delivered but not retained: the retained store is full.
    pub not_retained: u64,
    /// Sessions given up for a new one.
    pub sessions_evicted: u64,
    /// Connections ended for a fault of the peer.
    pub faults: u64,
    /// Publishes that their client was not allowed to make, wills included.
    pub denied_publishes: u64,
    /// Subscriptions that their client was not allowed to make.
    pub denied_subscriptions: u64,
    /// Messages that waited for a client that may not have them any more.
    pub denied_deliveries: u64,
    /// Publishes read later than they came, for the rate of their client.
    pub slowed_by_client: u64,
    /// Publishes read later than they came, for the rate of their address.
    pub slowed_by_address: u64,
    /// Times that reading from a publisher paused because a subscriber that reads fast was behind.
    pub held_back: u64,
    /// Connections ended for silence.
    pub keep_alive_timeouts: u64,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStats {
    /// Its client identifier.
    pub client: Arc<str>,
    /// Whether it has a connection.
    pub connected: bool,
    /// Its subscriptions.
    pub subscriptions: usize,
    /// Messages with QoS 1 and 2 waiting.
    pub queued: usize,
    /// Messages with QoS 1 and 2 under way.
    pub inflight: usize,
    /// Bytes of both.
    pub queued_bytes: usize,
    /// What waits for it in the spool and counts against its quota, if it is kept.
    pub spooled: Amount,
    /// Messages dropped for it.
    pub dropped: u64,
}
