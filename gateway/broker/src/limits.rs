//! Every bound of the broker, its default, what it costs at worst and what happens when it is
//! reached.

use std::time::Duration;

use crate::connection::Phase;

/// Bytes behind a CONNECT that wait until it is known who the client is. The shell stops reading
/// meanwhile; this is what one read may bring.
const MAX_HELD_BEFORE_LOGIN: usize = 64 * 1024;

/// What happens to a subscriber that does not take its messages in time, if its session ends with
/// its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SlowSubscriber {
    /// The newest message for it is dropped.
    #[default]
    DropNewest,
    /// The oldest messages are dropped that it has not been sent.
    DropOldest,
    /// It is disconnected (MQTT 5: 0x97), and its session ends.
    Disconnect,
}

/// The bounds of one broker. All sizes are in bytes.
///
/// Worst-case memory with the defaults: 64 MiB of queued messages over all sessions and as much
/// again of their encoded form, 64 MiB of other unsent bytes, 16 MiB of retained messages, 50 MiB
/// of filters, and for each open connection 16 KiB of unsent bytes and half a megabyte of unread
/// ones. A kept session has at most 384 bytes for its quota, and 128 KiB and one message of what
/// waits while it is connected, inside the 64 MiB: 10,000 that are away take 4 MB for it. What
/// sessions lost takes half a megabyte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Open network connections. One more is closed at once, before its first byte is read.
    /// Default 1,024.
    pub max_connections: usize,
    /// Largest packet before CONNECT has been accepted. The connection is closed on the header
    /// alone. Default 4 KiB, which bounds the will message too.
    pub max_packet_before_connect: u32,
    /// Largest packet afterwards, advertised to MQTT 5 clients; beyond it DISCONNECT 0x95 or,
    /// with 3.1.1, close. Default 256 KiB.
    pub max_packet: u32,
    /// Publishes of one connection that wait for their acknowledgement, advertised as Receive
    /// Maximum. At this many, reading a 3.1.1 connection pauses; an MQTT 5 client that sends
    /// one more is disconnected with 0x93. A session has at most four times as many QoS 2
    /// messages between PUBLISH and PUBREL; beyond, the connection is closed with 0x93.
    /// Default 1,024; 0 counts as 1.
    pub receive_maximum: u16,
    /// Publishes of one client in a second, on average; a second's worth may come at once. Beyond,
    /// reading from it pauses until the next one is due. Default: no limit.
    pub max_publishes_per_second: Option<u32>,
    /// The same over all connections from one address, which have their turns one after the
    /// other. Default: no limit.
    pub max_publishes_per_second_per_address: Option<u32>,
    /// Bytes that may arrive for a connection after its reading was paused (what the shell had
    /// read already). Beyond them the connection is closed. Default 256 KiB.
    pub max_held_bytes: usize,
    /// Topic aliases an MQTT 5 client may set up; each costs a topic. A higher alias is answered
    /// with DISCONNECT 0x94. Default 32.
    pub topic_alias_maximum: u16,
    /// Topic aliases used towards an MQTT 5 client that takes as many; each keeps a topic.
    /// Default 32.
    pub max_outbound_aliases: u16,
    /// User properties in one message; beyond them DISCONNECT 0x97. Default 64.
    pub max_user_properties: usize,
    /// Time from [`Caller::since`](crate::Caller::since) to the CONNECT packet; then the
    /// connection is closed. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest keep-alive in seconds; MQTT 5 clients that ask for more, or for none, are given
    /// this one (Server Keep Alive). `None`, the default, accepts whatever the client asks for,
    /// 0 (no keep-alive) included.
    pub max_keep_alive: Option<u16>,
    /// Length of a client identifier; a longer one is refused (0x85, or 2 with 3.1.1).
    /// Default 256.
    pub max_client_id_bytes: usize,
    /// Levels of a topic or filter. A deeper topic is refused as invalid. Default 32, at most
    /// [`MAX_LEVELS`](crate::topic::MAX_LEVELS).
    pub max_topic_levels: usize,
    /// Bytes of a topic or filter: what it costs where it is kept, in subscriptions, aliases and
    /// queues. A longer topic is refused as invalid, a longer filter with SUBACK 0x8F (0x80 with
    /// 3.1.1). Default 1,024.
    pub max_topic_bytes: usize,
    /// Unsent bytes of one connection. Above, QoS 0 messages to it are dropped and counted,
    /// those with QoS 1 and 2 wait in its session, and reading from it pauses until half is sent.
    /// Default 1 MiB.
    pub max_unsent_bytes: usize,
    /// The same over all connections: beyond it, what is said above holds for each connection
    /// with more than `min_unsent_bytes`. Messages with QoS 1 and 2 are not held back by it, as
    /// `max_queued_bytes` bounds them. Default 64 MiB.
    pub max_unsent_bytes_total: usize,
    /// Unsent bytes that each connection may have whatever the others do, so that clients that
    /// do not read take nothing from those that do. Default 16 KiB.
    pub min_unsent_bytes: usize,
    /// Messages with QoS 1 and 2 under way to one client, in addition to what the client allows by its
    /// Receive Maximum. More wait in the session. Default 1,000; 0 counts as 1.
    pub max_inflight: u16,
    /// Sessions, connected or not. For one more, the session that has been without a connection
    /// for longest is given up and counted; if all are connected, CONNECT is refused (0x97, or
    /// 3 with 3.1.1). Default 2,048.
    pub max_sessions: usize,
    /// Longest life of a session without a connection; longer wishes are shortened and MQTT 5
    /// clients are told. It is also the life of a 3.1.1 session with clean session 0.
    /// Default 7 days.
    pub max_session_expiry: Duration,
    /// Subscriptions of one session; beyond, SUBACK 0x97 (0x80 with 3.1.1). Default 1,000.
    pub max_subscriptions_per_session: usize,
    /// Subscriptions of all sessions; beyond, as above. Default 50,000.
    pub max_subscriptions: usize,
    /// Bytes of messages with QoS 1 and 2 one session may hold that ends with its connection,
    /// waiting or under way. Beyond a quarter of it publishers wait, as long as the client takes a
    /// quarter in each 100 ms. When full, `slow_subscriber` says what happens; nobody else is held
    /// up. Default 4 MiB; never less than `max_packet`.
    pub max_queued_bytes_per_session: usize,
    /// The same over all sessions; messages shared by several sessions count for each.
    /// Default 64 MiB.
    pub max_queued_bytes: usize,
    /// What happens when a session that ends with its connection is full. Default: the newest
    /// message is dropped.
    pub slow_subscriber: SlowSubscriber,
    /// Messages that may wait in the spool for one kept session, those under way included. Beyond
    /// it an eighth of the quota is given up, the oldest first, and entered in the loss ledger;
    /// what has been sent on the present connection stays. It costs no memory. Default 100,000.
    pub max_spooled_messages_per_session: u64,
    /// The same in bytes. Default 16 MiB; never less than twice `max_packet`.
    pub max_spooled_bytes_per_session: usize,
    /// Retained messages. A further one is delivered but not retained, and counted.
    /// Default 10,000.
    pub max_retained: usize,
    /// Bytes of retained messages; beyond, as above. Default 16 MiB.
    pub max_retained_bytes: usize,
}

impl Default for BrokerLimits {
    fn default() -> BrokerLimits {
        BrokerLimits {
            max_connections: 1024,
            max_packet_before_connect: 4 * 1024,
            max_packet: 256 * 1024,
            receive_maximum: 1024,
            max_publishes_per_second: None,
            max_publishes_per_second_per_address: None,
            max_held_bytes: 256 * 1024,
            topic_alias_maximum: 32,
            max_outbound_aliases: 32,
            max_user_properties: 64,
            connect_timeout: Duration::from_secs(10),
            max_keep_alive: None,
            max_client_id_bytes: 256,
            max_topic_levels: 32,
            max_topic_bytes: 1024,
            max_unsent_bytes: 1024 * 1024,
            max_unsent_bytes_total: 64 * 1024 * 1024,
            min_unsent_bytes: 16 * 1024,
            max_inflight: 1000,
            max_sessions: 2048,
            max_session_expiry: Duration::from_secs(7 * 24 * 3600),
            max_subscriptions_per_session: 1000,
            max_subscriptions: 50_000,
            max_queued_bytes_per_session: 4 * 1024 * 1024,
            max_queued_bytes: 64 * 1024 * 1024,
            slow_subscriber: SlowSubscriber::DropNewest,
            max_spooled_messages_per_session: 100_000,
            max_spooled_bytes_per_session: 16 * 1024 * 1024,
            max_retained: 10_000,
            max_retained_bytes: 16 * 1024 * 1024,
        }
    }
}

impl BrokerLimits {
    /// Bytes that may wait for a connection that is not read.
    pub(crate) fn held_bytes(&self, phase: &Phase) -> usize {
        match phase {
            Phase::AwaitingConnect | Phase::Authenticating(_) | Phase::Settling(_) => {
                MAX_HELD_BEFORE_LOGIN
            }
            Phase::Open(_) | Phase::Closing => self.max_packet as usize + self.max_held_bytes,
        }
    }

    /// The same limits with contradictions removed: values that would allow nothing at all are
    /// raised to the least that works.
    pub(crate) fn sane(mut self) -> BrokerLimits {
        self.receive_maximum = self.receive_maximum.max(1);
        self.max_inflight = self.max_inflight.max(1);
        self.max_packet = self.max_packet.max(64);
        self.max_packet_before_connect = self.max_packet_before_connect.max(64);
        self.max_topic_levels = self.max_topic_levels.clamp(1, crate::topic::MAX_LEVELS);
        let one = self.max_packet as usize + crate::delivery::DELIVERY_OVERHEAD;
        self.max_queued_bytes_per_session = self.max_queued_bytes_per_session.max(one);
        self.max_queued_bytes = self.max_queued_bytes.max(one);
        self.max_spooled_bytes_per_session = self.max_spooled_bytes_per_session.max(2 * one);
        self.max_spooled_messages_per_session = self.max_spooled_messages_per_session.max(1);
        self
    }
}
