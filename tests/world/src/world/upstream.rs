//! The other ends of the uplinks: connections that carry messages in order, fall silent, break
//! with answers under way, and may deliver what was sent on them after they were given up.

use std::time::Duration;

use tidegate_flow::UplinkEvent;
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Action, Batch, Held, LaneId, RefuseReason};

use super::{Event, World};
use crate::plan::{GATEWAY, STREAMS};
use crate::sink::{Arrived, Backup, Sink, SinkKind};

/// One uplink's other end.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) kind: SinkKind,
    pub(crate) sink: Sink,
    /// Nothing gets through, and nobody is told.
    pub(super) silent: bool,
    /// It refuses messages for its quota until then.
    pub(super) busy_until: Duration,
    /// It has done so.
    pub(crate) has_refused: bool,
    backup: Option<Backup>,
    /// It was restored from its backup, and nobody has asked it since.
    pub(super) is_set_back: bool,
    /// The connection that stands: of this life, and this session.
    session: Option<(u64, u64)>,
    /// A connection that was given up, whose messages may arrive until then.
    ghost: Option<((u64, u64), Duration)>,
    /// When the last message, and the last answer, sent so far arrive.
    up_at: Duration,
    down_at: Duration,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Transmission {
    session: u64,
    token: u64,
    batch: Batch,
}

impl Upstream {
    pub(super) fn new(kind: SinkKind) -> Upstream {
        Upstream {
            kind,
            sink: Sink::new(kind),
            silent: false,
            busy_until: Duration::ZERO,
            has_refused: false,
            backup: None,
            is_set_back: false,
            session: None,
            ghost: None,
            up_at: Duration::ZERO,
            down_at: Duration::ZERO,
        }
    }

    /// The gateway, or its machine, is gone: what it sent may still arrive for a moment.
    pub(super) fn abandon(&mut self, until: Duration) {
        if let Some(session) = self.session.take() {
            self.ghost = Some((session, until));
        }
    }

    /// Something was lost on the connection: nothing behind it arrives either, and the gateway
    /// has to find out by itself.
    fn breaks(&mut self) {
        (self.session, self.ghost) = (None, None);
    }

    /// What the sink says it holds, when it is asked.
    fn held(&self) -> Vec<Held> {
        let held = |(lane, stream): (usize, &&str)| {
            let (epoch, seq) = self.sink.held(stream)?;
            Some(Held::through(LaneId(lane), Epoch(epoch), Seq(seq)))
        };
        STREAMS.iter().enumerate().filter_map(held).collect()
    }

    /// Whether a message of this session still arrives.
    fn hears(&self, session: (u64, u64), now: Duration) -> bool {
        let ghost = self.ghost.is_some_and(|(ghost, until)| ghost == session && now < until);
        !self.silent && (self.session == Some(session) || ghost)
    }
}

impl World {
    pub(super) fn drive_uplink(&mut self, uplink: usize, action: Action) {
        match action {
            Action::Connect { session, .. } => {
                let wait = self.random.micros(300, 8_000);
                self.time.after(wait, Event::Answers(self.life, uplink, session));
            }
            Action::Send { session, token, batch } => {
                let latency = self.random.micros(200, 3_000);
                let clock = self.time.clock;
                let upstream = &mut self.upstreams[uplink];
                upstream.up_at = upstream.up_at.max(clock + latency);
                let sent = Transmission { session, token, batch };
                let wait = upstream.up_at - clock;
                self.time.after(wait, Event::Takes(self.life, uplink, sent));
            }
            Action::Disconnect { session, .. } => {
                let until = self.time.clock + self.random.micros(0, 10_000);
                let upstream = &mut self.upstreams[uplink];
                if upstream.session == Some((self.life, session)) {
                    upstream.abandon(until);
                }
            }
            Action::Advance { .. } | Action::Reject { .. } | Action::Seal { .. } => {
                self.fault("the gateway gave its own business to a driver");
            }
        }
    }

    /// The server answers a connection, or a partition does not let it.
    pub(super) fn upstream_answers(&mut self, uplink: usize, session: u64) {
        if self.upstreams[uplink].silent {
            self.partition_bites();
            // Sometimes the network says so; else the gateway has to find out.
            if self.random.one_in(2) {
                let why = "no route to host".to_owned();
                self.uplink_hears(uplink, UplinkEvent::Disconnected { session, why });
            }
            return;
        }
        let upstream = &mut self.upstreams[uplink];
        upstream.session = Some((self.life, session));
        upstream.is_set_back = false;
        (upstream.up_at, upstream.down_at) = (self.time.clock, self.time.clock);
        let held = upstream.held();
        self.uplink_hears(uplink, UplinkEvent::Connected { session, held });
    }

    pub(super) fn upstreams_back_up(&mut self) {
        for upstream in &mut self.upstreams {
            upstream.backup = upstream.sink.backup();
        }
    }

    /// Servers with a backup start again with it.
    pub(super) fn upstreams_are_set_back(&mut self) {
        for uplink in 0..self.upstreams.len() {
            let upstream = &mut self.upstreams[uplink];
            let Some(backup) = upstream.backup.take() else { continue };
            self.tally.set_back += 1;
            self.tally.set_back_records += upstream.sink.restore(backup);
            upstream.is_set_back = true;
            let session = upstream.session.filter(|(life, _)| *life == self.life);
            upstream.breaks();
            if let Some((_, session)) = session {
                let why = "connection reset".to_owned();
                self.uplink_hears(uplink, UplinkEvent::Disconnected { session, why });
            }
        }
    }

    pub(super) fn upstream_takes(&mut self, life: u64, uplink: usize, sent: Transmission) {
        let Transmission { session, token, batch } = sent;
        let clock = self.time.clock;
        let upstream = &mut self.upstreams[uplink];
        if !upstream.hears((life, session), clock) {
            if upstream.silent {
                upstream.breaks();
                self.partition_bites();
            }
            return;
        }
        self.tally.transmissions += 1;
        if clock < upstream.busy_until {
            self.tally.busy += 1;
            return self.refuse(life, uplink, session, token);
        }
        for record in batch.records {
            let message = record.into_message(GATEWAY, &batch.stream, batch.epoch);
            upstream.sink.take(clock, Arrived::from_headers(&message.headers, &message.payload));
        }
        self.answer(life, uplink, session, |session| UplinkEvent::Acknowledged { session, token });
    }

    /// The server is busy: a broker refuses the single message, any other takes nothing more on
    /// this connection.
    fn refuse(&mut self, life: u64, uplink: usize, session: u64, token: u64) {
        if self.upstreams[uplink].kind == SinkKind::Consumer {
            self.upstreams[uplink].has_refused = true;
            let reason = RefuseReason::QuotaExceeded;
            let refused = |session| UplinkEvent::Refused { session, token, reason };
            return self.answer(life, uplink, session, refused);
        }
        let wait = self.random.millis(1, 100);
        let retry_after = self.random.one_in(2).then_some(wait);
        let busy = |session| UplinkEvent::Busy { session, retry_after, why: "busy".to_owned() };
        self.answer(life, uplink, session, busy);
        self.upstreams[uplink].breaks();
    }

    /// An answer leaves the server, behind those before it; it may be lost like anything else.
    fn answer(
        &mut self,
        life: u64,
        uplink: usize,
        session: u64,
        event: impl FnOnce(u64) -> UplinkEvent,
    ) {
        let latency = self.random.micros(200, 3_000);
        let clock = self.time.clock;
        let upstream = &mut self.upstreams[uplink];
        if upstream.session != Some((life, session)) {
            return;
        }
        upstream.down_at = upstream.down_at.max(clock + latency);
        self.time.after(upstream.down_at - clock, Event::Hears(life, uplink, event(session)));
    }

    pub(super) fn uplink_hears(&mut self, uplink: usize, event: UplinkEvent) {
        let answers = matches!(
            event,
            UplinkEvent::Acknowledged { .. }
                | UplinkEvent::Refused { .. }
                | UplinkEvent::Busy { .. }
        );
        if answers && self.upstreams[uplink].silent {
            self.upstreams[uplink].breaks();
            return self.partition_bites();
        }
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_uplink(now, uplink, event);
        }
    }
}
