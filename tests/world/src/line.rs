//! A device's end of its connection: when it takes it for dead, and when it says that it is
//! alive.

use std::time::Duration;

use tidegate_broker::ConnId;

use crate::mqtt::{self, Incoming, Version};

/// How often the wait for an answer doubles.
const MAX_DOUBLINGS: u32 = 3;

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Line {
    /// The connection, while the device believes to have one.
    pub(crate) conn: Option<ConnId>,
    /// CONNACK has come.
    pub(crate) ready: bool,
    keep_alive: u16,
    /// How long it waits for an answer; doubled each time that was in vain.
    patience: Duration,
    first_patience: Duration,
    /// When it last heard from the gateway, and last sent something.
    heard_at: Duration,
    sent_at: Duration,
    /// When it first sent something since it has heard last.
    asked_at: Option<Duration>,
    inbox: Vec<u8>,
}

/// What a device wants to do when it looks at the clock.
pub(crate) enum Tick {
    Send(Vec<u8>),
    /// It takes its connection for dead.
    HangUp,
}

impl Line {
    pub(crate) fn new(keep_alive: u16, patience: Duration) -> Line {
        Line {
            conn: None,
            ready: false,
            keep_alive,
            patience,
            first_patience: patience,
            heard_at: Duration::ZERO,
            sent_at: Duration::ZERO,
            asked_at: None,
            inbox: Vec::new(),
        }
    }

    pub(crate) fn keep_alive(&self) -> u16 {
        self.keep_alive
    }

    /// The device begins to connect.
    pub(crate) fn dials(&mut self, conn: ConnId) {
        self.conn = Some(conn);
        self.ready = false;
        self.inbox.clear();
    }

    /// The transport stands, and CONNECT goes out.
    pub(crate) fn connects(&mut self, now: Duration) {
        (self.heard_at, self.sent_at, self.asked_at) = (now, now, Some(now));
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self) {
        self.conn = None;
        self.ready = false;
    }

    /// Something goes out.
    pub(crate) fn sends(&mut self, now: Duration) {
        self.sent_at = now;
        self.asked_at.get_or_insert(now);
    }

    /// What it waited for has come.
    pub(crate) fn answered(&mut self) {
        self.patience = self.first_patience;
    }

    /// Bytes have come: the packets that are whole.
    pub(crate) fn receive(
        &mut self,
        now: Duration,
        version: Version,
        bytes: &[u8],
    ) -> Vec<Incoming> {
        self.heard_at = now;
        self.asked_at = None;
        self.inbox.extend_from_slice(bytes);
        mqtt::incoming(version, &mut self.inbox)
    }

    /// The device looks at the clock and has `out` to send; `oldest`: since when something of it
    /// has been without an answer.
    pub(crate) fn tick(
        &mut self,
        now: Duration,
        oldest: Option<Duration>,
        mut out: Vec<u8>,
    ) -> Tick {
        if self.conn.is_none() {
            return Tick::Send(out);
        }
        let unanswered = oldest.or(self.asked_at).or((!self.ready).then_some(self.heard_at));
        if unanswered.is_some_and(|at| at.max(self.heard_at) + self.patience <= now) {
            let longest = self.first_patience * (1 << MAX_DOUBLINGS);
            self.patience = (self.patience * 2).min(longest);
            return Tick::HangUp;
        }
        let idle = Duration::from_millis(u64::from(self.keep_alive) * 500);
        if self.ready && self.keep_alive > 0 && self.sent_at + idle <= now {
            self.sends(now);
            out.extend(mqtt::ping());
        }
        Tick::Send(out)
    }
}
