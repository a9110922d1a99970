//! What a client is owed, with or without a connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backpressure::Strain;
use crate::delivery::Delivery;
use crate::durable::{Kept, Reads};
use crate::inflight::Inflight;
use crate::limits::BrokerLimits;
use crate::losses::Lost;
use crate::message::QoS;
use crate::receipts::Receipts;
use crate::topic::{TopicFilter, TopicName};
use crate::will::DelayedWill;

/// One session. It holds what [MQTT-4.1.0-1] asks for, and ends when it has been without a
/// connection for `expiry`.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<str>,
    /// The name its client has logged in with: nobody else gets what is queued here.
    pub(crate) user: Option<Arc<str>>,
    /// Place of the connection.
    pub(crate) connection: Option<u32>,
    /// Place of the connection that gets it when it is on the disk.
    pub(crate) claimed: Option<u32>,
    /// What of it is on the disk; `None`: nothing, and nothing will be.
    pub(crate) kept: Option<Box<Kept>>,
    /// Zero: it ends with its connection.
    pub(crate) expiry: Duration,
    /// When it lost its last connection.
    pub(crate) detached_at: Option<Instant>,
    /// When it ends, while there is no connection.
    pub(crate) ends_at: Option<Instant>,
    pub(crate) will: Option<DelayedWill>,
    pub(crate) timer: Option<Instant>,
    pub(crate) subscriptions: BTreeMap<TopicFilter, Subscription>,
    /// Messages with QoS 1 and 2 that wait for the window or for room.
    pub(crate) queue: VecDeque<Delivery>,
    pub(crate) inflight: Inflight,
    /// Messages of QoS 2 that the client has published and not released.
    pub(crate) receipts: Receipts,
    /// Bytes of both.
    pub(crate) held_bytes: usize,
    /// Retained messages still to be given to new subscriptions.
    pub(crate) replays: VecDeque<Replay>,
    /// When it was last given retained messages, and how many topics may still be looked at for
    /// it at that time.
    pub(crate) walked: Option<(Instant, usize)>,
    /// When the walk goes on that stopped for having taken long enough.
    pub(crate) walk_at: Option<Instant>,
    pub(crate) dropped: u64,
    /// Of that, with QoS 1 and 2, what the loss ledger does not have yet.
    pub(crate) lost: Lost,
    /// The last message for it found no room, and nothing was acknowledged since.
    pub(crate) choked: bool,
    pub(crate) strain: Strain,
    /// The delivery this session was last considered for, and its place there: a message that
    /// matches several subscriptions is delivered once.
    pub(crate) considered: (u64, usize),
}

/// What a client asked for with one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) id: Option<u32>,
}

/// Who subscribes, as the filter tree knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Subscriber {
    /// One session.
    Session {
        /// Its place.
        session: u32,
        /// What it asked for.
        subscription: Subscription,
    },
    /// One of the sessions in the group at this place.
    Group(u32),
    /// The subscriber inside the gateway at this place.
    Local(u32),
}

impl Subscriber {
    pub(crate) fn is_session(&self, slot: u32) -> bool {
        matches!(self, Subscriber::Session { session, .. } if *session == slot)
    }
}

/// A walk over the retained messages for a new subscription. It goes on where it stopped when
/// the client has taken what it was sent, so it needs no queue.
#[derive(Debug, Clone)]
pub(crate) struct Replay {
    pub(crate) filter: TopicFilter,
    pub(crate) subscription: Subscription,
    pub(crate) after: Option<TopicName>,
    /// Number of the newest retained message when the subscription was made: those kept later
    /// come as they are published, and only so.
    pub(crate) newest: u64,
}

impl Session {
    pub(crate) fn new(client: Arc<str>, limits: &BrokerLimits) -> Session {
        Session {
            client,
            user: None,
            connection: None,
            claimed: None,
            kept: None,
            expiry: Duration::ZERO,
            detached_at: None,
            ends_at: None,
            will: None,
            timer: None,
            subscriptions: BTreeMap::new(),
            queue: VecDeque::new(),
            inflight: Inflight::new(limits.max_inflight),
            receipts: Receipts::default(),
            held_bytes: 0,
            replays: VecDeque::new(),
            walked: None,
            walk_at: None,
            dropped: 0,
            lost: Lost::default(),
            choked: false,
            strain: Strain::default(),
            considered: (0, 0),
        }
    }

    /// Keeps it on the disk under this number.
    pub(crate) fn keep_as(&mut self, number: Option<u64>) {
        if let Some(number) = number {
            self.kept = Some(Box::new(Kept::new(number)));
            self.inflight.keep_done();
        }
    }

    /// The spool record at which it reads, unless it reads live.
    pub(crate) fn reads_from(&self) -> Option<u64> {
        match self.kept.as_ref()?.reads {
            Reads::From(at) => Some(at),
            Reads::Live => None,
        }
    }

    /// Whether something waits for the client.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.queue.is_empty()
            || !self.replays.is_empty()
            || self.inflight.has_unsent()
            || self.kept.as_ref().is_some_and(|kept| kept.reads != Reads::Live)
    }

    /// When something has to happen to it by itself.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let will = self.will.as_ref().map(|will| will.at);
        [will, self.ends_at, self.walk_at, self.strain.until].into_iter().flatten().min()
    }
}
