//! The other ends of the uplinks: connections that carry messages in order, fall silent, break
//! with answers under way, and may deliver what was sent on them after they were given up.

use std::time::Duration;

use tidegate_flow::{LATE_SUFFIX, UplinkEvent};
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Action, Batch, Held, LaneId, RefuseReason};

use super::{Event, World};
use crate::options::UplinkKind;
use crate::plan::GATEWAY;
use crate::sink::{Arrived, Backup, Delivery, Sink, SinkKind};

/// One uplink's other end: a sink, and its replicas, which share what they hold.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) kind: SinkKind,
    pub(crate) sink: Sink,
    /// Names of the streams that it gets.
    pub(crate) streams: Vec<&'static str>,
    /// By replica: nothing gets through, and nobody is told.
    pub(super) silent: Vec<bool>,
    /// The replica that never answers.
    dead: Option<usize>,
    /// Payload bytes of several records that it takes as one.
    max_object: Option<usize>,
    /// It refuses messages for its quota until then.
    pub(super) busy_until: Duration,
    /// It has done so.
    pub(crate) has_refused: bool,
    backup: Option<Backup>,
    /// It was restored from its backup, and nobody has asked it since.
    pub(super) is_set_back: bool,
    /// The connection that stands.
    connection: Option<Connection>,
    /// A connection that was given up, whose messages may arrive until then.
    ghost: Option<(Connection, Duration)>,
    /// When the last message, and the last answer, sent so far arrive.
    up_at: Duration,
    down_at: Duration,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// Of this life, and this session.
    session: (u64, u64),
    replica: usize,
}

/// A message on its way.
#[derive(Debug)]
pub(super) struct Transmission {
    session: u64,
    token: u64,
    batch: Batch,
}

impl Upstream {
    pub(super) fn new(uplink: &UplinkKind) -> Upstream {
        Upstream {
            kind: uplink.sink,
            sink: Sink::new(uplink.sink),
            streams: uplink.streams.clone(),
            silent: vec![false; uplink.options.endpoints],
            dead: uplink.dead_replica,
            max_object: uplink.max_object,
            busy_until: Duration::ZERO,
            has_refused: false,
            backup: None,
            is_set_back: false,
            connection: None,
            ghost: None,
            up_at: Duration::ZERO,
            down_at: Duration::ZERO,
        }
    }

    /// The gateway, or its machine, is gone: what it sent may still arrive for a moment.
    pub(super) fn abandon(&mut self, until: Duration) {
        if let Some(connection) = self.connection.take() {
            self.ghost = Some((connection, until));
        }
    }

    /// Something was lost on the connection: nothing behind it arrives either, and the gateway
    /// has to find out by itself.
    fn breaks(&mut self) {
        (self.connection, self.ghost) = (None, None);
    }

    /// What the sink says it holds of the lanes with these names, when it is asked.
    fn held(&self, lanes: &[String]) -> Vec<Held> {
        let held = |(lane, stream): (usize, &String)| {
            let (epoch, seq) = self.sink.held(stream)?;
            Some(Held::through(LaneId(lane), Epoch(epoch), Seq(seq)))
        };
        lanes.iter().enumerate().filter_map(held).collect()
    }

    /// The connection on which a message of this session still arrives, if there is one.
    fn carrier(&self, session: (u64, u64), now: Duration) -> Option<Connection> {
        let ghost = self.ghost.filter(|(_, until)| now < *until).map(|(ghost, _)| ghost);
        [self.connection, ghost].into_iter().flatten().find(|c| c.session == session)
    }

    /// Whether a batch is larger than what is taken as one object.
    fn is_too_large(&self, batch: &Batch) -> bool {
        let bytes: usize = batch.records.iter().map(|record| record.payload.len()).sum();
        batch.records.len() > 1 && self.max_object.is_some_and(|max| bytes > max)
    }

    fn take(&mut self, now: Duration, batch: Batch) {
        let stream = batch.stream.to_string();
        let arrived = |record: tidegate_uplink::OutboundRecord| {
            let message = record.into_message(GATEWAY, &batch.stream, batch.epoch);
            Arrived::from_headers(&message.headers, &message.payload)
        };
        let (first, last) = (batch.range.first.0, batch.range.last.0);
        let records = batch.records.into_iter().map(arrived).collect();
        self.sink.take(now, Delivery { stream, epoch: batch.epoch.0, first, last, records });
    }
}

impl World {
    pub(super) fn drive_uplink(&mut self, uplink: usize, action: Action) {
        match action {
            Action::Connect { session, endpoint } => {
                let wait = self.random.micros(300, 8_000);
                let connection = Connection { session: (self.life, session), replica: endpoint };
                self.time.after(wait, Event::Answers(uplink, connection));
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
                if upstream.connection.is_some_and(|c| c.session == (self.life, session)) {
                    upstream.abandon(until);
                }
            }
            Action::Advance { .. } | Action::Reject { .. } | Action::Seal { .. } => {
                self.fault("the gateway gave its own business to a driver");
            }
        }
    }

    /// A replica answers a connection, or a partition does not let it.
    pub(super) fn upstream_answers(&mut self, uplink: usize, connection: Connection) {
        let (life, session) = connection.session;
        if life != self.life {
            return;
        }
        let dead = self.upstreams[uplink].dead == Some(connection.replica);
        if dead || self.upstreams[uplink].silent[connection.replica] {
            if !dead {
                self.partition_bites();
            }
            // Sometimes the network says so; else the gateway has to find out.
            if self.random.one_in(2) {
                let why = "no route to host".to_owned();
                self.uplink_hears(uplink, UplinkEvent::Disconnected { session, why });
            }
            return;
        }
        self.tally.failovers += u64::from(connection.replica > 0);
        self.session_begins(uplink);
        let lanes = self.gateway.as_ref().map(|gateway| gateway.uplink_lanes(uplink));
        let upstream = &mut self.upstreams[uplink];
        upstream.connection = Some(connection);
        upstream.is_set_back = false;
        (upstream.up_at, upstream.down_at) = (self.time.clock, self.time.clock);
        let held = upstream.held(&lanes.unwrap_or_default());
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
            let session = upstream.connection.map(|connection| connection.session);
            let session = session.filter(|(life, _)| *life == self.life);
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
        let Some(carrier) = upstream.carrier((life, session), clock) else { return };
        if upstream.silent[carrier.replica] {
            upstream.breaks();
            return self.partition_bites();
        }
        self.tally.transmissions += 1;
        if clock < upstream.busy_until {
            self.tally.busy += 1;
            return self.refuse(life, uplink, session, token);
        }
        if upstream.is_too_large(&batch) {
            return self.expel(life, uplink, session);
        }
        self.tally.late_records +=
            if batch.stream.ends_with(LATE_SUFFIX) { batch.records.len() as u64 } else { 0 };
        upstream.take(clock, batch);
        self.answer(life, uplink, session, |session| UplinkEvent::Acknowledged { session, token });
    }

    /// An object is too large for the server: that ends the connection.
    fn expel(&mut self, life: u64, uplink: usize, session: u64) {
        self.tally.too_large += 1;
        let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
        let why = "the object is too large".to_owned();
        self.answer(life, uplink, session, |session| UplinkEvent::Expelled {
            session,
            reason,
            why,
        });
        self.upstreams[uplink].breaks();
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
        if upstream.connection.is_none_or(|c| c.session != (life, session)) {
            return;
        }
        upstream.down_at = upstream.down_at.max(clock + latency);
        self.time.after(upstream.down_at - clock, Event::Hears(life, uplink, event(session)));
    }

    pub(super) fn uplink_hears(&mut self, uplink: usize, event: UplinkEvent) {
        let answers = matches!(
            event,
            UplinkEvent::Acknowledged { .. }
                | UplinkEvent::Taken { .. }
                | UplinkEvent::Refused { .. }
                | UplinkEvent::Busy { .. }
                | UplinkEvent::Expelled { .. }
        );
        let upstream = &mut self.upstreams[uplink];
        if answers && upstream.connection.is_some_and(|c| upstream.silent[c.replica]) {
            upstream.breaks();
            return self.partition_bites();
        }
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_uplink(now, uplink, event);
        }
    }
}
