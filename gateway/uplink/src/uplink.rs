//! The state machine of one uplink.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidegate_stream::Seq;

use crate::action::{Action, Held, LaneId, RefuseReason, UplinkEvent, Verdict};
use crate::backoff::Backoff;
use crate::batch::{Batch, Collecting, Part, SeqRange};
use crate::flights::{Flight, Flights};
use crate::lane::{Lane, LaneStart};
use crate::options::{MAX_WINDOW, UplinkOptions};
use crate::rate::Pace;
use crate::status::{UplinkState, UplinkStatus};

/// While others are acknowledged, one message may stay unanswered for this many acknowledgement
/// timeouts; then the server is taken to have lost it.
const OVERDUE_TIMEOUTS: u32 = 6;

/// Sessions in a row that sent something and saw no acknowledgement, before the window is
/// narrowed to one message.
const FRUITLESS_SESSIONS: u32 = 2;

/// No delay is longer, whatever the options say: a time beyond it is a mistake, and adding it to
/// the clock could overflow.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One destination. See the crate's documentation.
#[derive(Debug)]
pub struct Uplink {
    pub(crate) options: UplinkOptions,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) state: State,
    session: u64,
    pub(crate) token: u64,
    /// Lane whose turn it is.
    pub(crate) turn: usize,
    /// Which server was tried last.
    endpoint: usize,
    /// Servers tried since the last acknowledgement.
    endpoints_tried: usize,
    /// At most `window` records, together with `collecting`.
    pub(crate) flights: Flights,
    /// By lane: the batch that is not closed yet.
    pub(crate) collecting: Vec<Option<Collecting>>,
    pub(crate) collected_records: usize,
    pub(crate) collected_bytes: usize,
    /// Closed, not yet polled; a subset of `flights`.
    pub(crate) sends: VecDeque<(u64, Batch)>,
    /// Closed, and waiting for their boundaries to be durable; a subset of `flights`.
    pub(crate) sealing: VecDeque<(u64, Batch)>,
    /// At most one for each batch in `sealing`.
    pub(crate) seals: VecDeque<Action>,
    pub(crate) batch_pace: Option<Pace>,
    pub(crate) byte_pace: Option<Pace>,
    pub(crate) backfill_pace: Option<Pace>,
    /// No batch may go before this.
    pub(crate) batches_until: Option<Instant>,
    /// No lane may be read before this.
    pub(crate) paced_until: Option<Instant>,
    /// No lane may be read for what it is behind with before this.
    pub(crate) backfill_until: Option<Instant>,
    disconnect: Option<Action>,
    /// At most one per slot of the lanes.
    rejects: VecDeque<Action>,
    reconnect: Backoff,
    resend: Backoff,
    /// Newest token at the last refusal: the acknowledgement of a later one ends the trouble.
    refused_token: u64,
    /// Acknowledgements to go until the window is wide again; 0 when it is.
    probation: usize,
    fruitless: u32,
    /// The record for which the server sent us away: until it (or a later one of its lane) is
    /// acknowledged, what other lanes achieve does not shorten the backoff.
    denied: Option<(usize, Seq)>,
    pub(crate) counts: Counts,
    landed: Option<Landed>,
}

/// A batch that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landed {
    /// Its records.
    pub records: u64,
    /// When the oldest of them was received, milliseconds since 1970.
    pub oldest_ms: i64,
    /// From sending it to the acknowledgement.
    pub round_trip: Duration,
}

#[derive(Debug)]
pub(crate) enum State {
    Waiting {
        retry_at: Option<Instant>,
        why: String,
    },
    Connecting {
        since: Instant,
    },
    Connected {
        since: Instant,
        /// Last sign of life that counts: an answer, or the first send into an empty window.
        progress: Instant,
        acknowledged: bool,
        paused: Option<(Instant, String)>,
    },
    Stopped,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    /// Records that the server had already, as it said at the beginning of a session.
    pub(crate) held: u64,
    acknowledged: u64,
    acknowledged_bytes: u64,
    refused: u64,
    rejected: u64,
    connections: u64,
    last_acknowledged: Option<Instant>,
    last_error: Option<String>,
}

impl Uplink {
    /// An uplink that connects at the first [`poll_action`](Self::poll_action). `seed` feeds the
    /// jitter.
    #[must_use]
    pub fn new(options: UplinkOptions, lanes: Vec<LaneStart>, seed: u64) -> Uplink {
        let window = options.window.clamp(1, MAX_WINDOW);
        let options = UplinkOptions {
            window,
            batch_records: options.batch_records.clamp(1, window),
            batch_age: options.batch_age.min(MAX_DELAY),
            endpoints: options.endpoints.max(1),
            backoff_min: options.backoff_min.min(MAX_DELAY),
            backoff_max: options.backoff_max.min(MAX_DELAY),
            ack_timeout: options.ack_timeout.min(MAX_DELAY),
            connect_timeout: options.connect_timeout.min(MAX_DELAY),
            ..options
        };
        let (min, max) = (options.backoff_min, options.backoff_max);
        Uplink {
            reconnect: Backoff::new(min, max, seed),
            resend: Backoff::new(min, max, !seed),
            batch_pace: Pace::new(options.max_batches_per_second),
            byte_pace: Pace::new(options.max_bytes_per_second),
            backfill_pace: Pace::new(options.max_backfill_bytes_per_second),
            batches_until: None,
            paced_until: None,
            backfill_until: None,
            options,
            collecting: lanes.iter().map(|_| None).collect(),
            lanes: lanes.into_iter().map(Lane::new).collect(),
            state: State::Waiting { retry_at: None, why: "not tried yet".to_owned() },
            session: 0,
            token: 0,
            turn: 0,
            endpoint: 0,
            endpoints_tried: 0,
            flights: Flights::default(),
            collected_records: 0,
            collected_bytes: 0,
            sends: VecDeque::new(),
            sealing: VecDeque::new(),
            seals: VecDeque::new(),
            disconnect: None,
            rejects: VecDeque::new(),
            refused_token: 0,
            probation: 0,
            fruitless: 0,
            denied: None,
            counts: Counts::default(),
            landed: None,
        }
    }

    /// The next thing to do; call until `None`, after each event, each batch of offers and at
    /// [`poll_timeout`](Self::poll_timeout). Timeouts take effect here.
    pub fn poll_action(&mut self, now: Instant) -> Option<Action> {
        self.check_clock(now);
        if let Some(action) = self.disconnect.take() {
            return Some(action);
        }
        if let Some(action) = self.rejects.pop_front() {
            return Some(action);
        }
        for (at, lane) in self.lanes.iter_mut().enumerate() {
            if let Some(next) = lane.take_advance() {
                return Some(Action::Advance { lane: LaneId(at), next });
            }
        }
        self.close_aged(now);
        if let Some(seal) = self.seals.pop_front() {
            return Some(seal);
        }
        if let Some((token, batch)) = self.next_send(now) {
            return Some(Action::Send { session: self.session, token, batch });
        }
        if matches!(self.state, State::Waiting { retry_at, .. } if retry_at.is_none_or(|at| at <= now))
        {
            self.session += 1;
            self.state = State::Connecting { since: now };
            let (session, endpoint) = (self.session, self.endpoint);
            return Some(Action::Connect { session, endpoint });
        }
        None
    }

    /// When to call [`poll_action`](Self::poll_action) although nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting { retry_at, .. } => *retry_at,
            State::Connecting { since } => Some(*since + self.options.connect_timeout),
            State::Connected { progress, paused, .. } => {
                let ends = [
                    (!self.flights.is_empty()).then(|| *progress + self.options.ack_timeout),
                    self.flights.oldest().map(|flight| flight.sent_at + self.overdue()),
                    paused.as_ref().map(|(until, _)| *until),
                    self.paced_until,
                    self.backfill_until,
                    self.next_aged(),
                    self.lanes.iter().filter_map(Lane::held_until).min(),
                ];
                ends.into_iter().flatten().min()
            }
            State::Stopped => None,
        }
    }

    /// The read of the record [`wanted`](Self::wanted) found that from there up to `next` all
    /// are gone; that they are lost is in the ledger already.
    pub fn skip(&mut self, lane: LaneId, next: Seq) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.skip(next);
        }
    }

    /// At the beginning of a session: records of this lane below `end` are backlog, which has a
    /// pace of its own.
    pub fn set_backlog(&mut self, lane: LaneId, end: Seq) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.set_backlog(end);
        }
    }

    /// Nothing more to read in this lane for now, or the disk has to be waited for.
    pub fn exhausted(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.exhausted();
        }
    }

    /// There may be something to read in this lane again.
    pub fn wake(&mut self, lane: LaneId) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.wake();
        }
    }

    /// Takes any event of a driver.
    pub fn handle_event(&mut self, now: Instant, event: UplinkEvent) {
        match event {
            UplinkEvent::Connected { session, held } => {
                self.handle_connected(now, session, &held);
            }
            UplinkEvent::Busy { session, retry_after, why } => {
                self.handle_busy(now, session, retry_after, why);
            }
            UplinkEvent::Acknowledged { session, token } => {
                self.handle_acknowledged(now, session, token);
            }
            UplinkEvent::Taken { session, token, part } => {
                self.handle_taken(now, session, token, part);
            }
            UplinkEvent::Refused { session, token, reason } => {
                self.handle_refused(now, session, token, reason);
            }
            UplinkEvent::Disconnected { session, why } => {
                self.handle_disconnected(now, session, why);
            }
            UplinkEvent::Expelled { session, reason, why } => {
                self.handle_expelled(now, session, reason, why);
            }
        }
    }

    /// The connection stands; `held` is what the server says that it has.
    pub fn handle_connected(&mut self, now: Instant, session: u64, held: &[Held]) {
        if session == self.session && matches!(self.state, State::Connecting { .. }) {
            self.counts.connections += 1;
            self.state =
                State::Connected { since: now, progress: now, acknowledged: false, paused: None };
            for (at, lane) in self.lanes.iter_mut().enumerate() {
                let newest = held.iter().filter(|held| held.lane.0 == at);
                lane.set_held(newest.map(|held| (held.epoch, held.seq)).max());
            }
        }
    }

    /// Before [`handle_connected`](Self::handle_connected): the server lost records that it had
    /// acknowledged, and the cursor has gone back to `to`.
    pub fn go_back(&mut self, lane: LaneId, to: Seq) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.go_back(to);
        }
    }

    /// Leaves a session on the caller's word: nothing of it may go on. `why` is a sentence for the
    /// operator, without secrets. The next attempt comes after the usual delay.
    pub fn leave(&mut self, now: Instant, session: u64, why: String) {
        if self.is_open(session) {
            self.end_session(now, why, Ended::ByUs);
        }
    }

    /// The server asked to be left alone.
    pub fn handle_busy(
        &mut self,
        now: Instant,
        session: u64,
        retry_after: Option<Duration>,
        why: String,
    ) {
        if !self.is_open(session) {
            return;
        }
        self.end_session(now, why, Ended::ByPeer);
        let asked = retry_after.map(|wait| now + wait.min(MAX_DELAY));
        if let State::Waiting { retry_at, .. } = &mut self.state {
            *retry_at = (*retry_at).max(asked);
        }
    }

    /// The server has the message.
    pub fn handle_acknowledged(&mut self, now: Instant, session: u64, token: u64) {
        if let Some(flight) = self.land(session, token) {
            self.finish(now, token, flight);
        }
    }

    /// The server has this part of a batch; the answer to the batch is still to come, and is about
    /// what is left of it.
    pub fn handle_taken(&mut self, now: Instant, session: u64, token: u64, part: Part) {
        if session != self.session {
            return;
        }
        if let Some(part) = self.flights.remove_part(token, part) {
            self.finish(now, token, part);
        }
    }

    /// These records are done upstream.
    fn finish(&mut self, now: Instant, token: u64, flight: Flight) {
        if let State::Connected { progress, acknowledged, .. } = &mut self.state {
            *progress = now;
            *acknowledged = true;
        }
        self.lanes[flight.lane].finish_range(flight.range);
        match self.denied {
            Some((lane, seq)) if flight.lane != lane || flight.range.last < seq => {}
            Some(_) | None => {
                self.denied = None;
                self.reconnect.succeeded();
            }
        }
        self.endpoints_tried = 0;
        if token > self.refused_token {
            self.resend.succeeded();
        }
        self.probation = self.probation.saturating_sub(flight.records);
        self.fruitless = 0;
        self.counts.acknowledged += flight.records as u64;
        self.counts.acknowledged_bytes += flight.bytes as u64;
        self.counts.last_acknowledged = Some(now);
        self.landed = Some(Landed {
            records: flight.records as u64,
            oldest_ms: flight.oldest_ms,
            round_trip: now.saturating_duration_since(flight.sent_at),
        });
    }

    /// The server answered, and does not take the message.
    pub fn handle_refused(&mut self, now: Instant, session: u64, token: u64, reason: RefuseReason) {
        let Some(flight) = self.land(session, token) else { return };
        self.counts.refused += flight.records as u64;
        // Without what the server has taken of it, or has been given up before.
        let range = self.lanes[flight.lane].in_flight(flight.range).unwrap_or(flight.range);
        let flight = Flight { range, ..flight };
        let SeqRange { first, last } = range;
        let why = if first == last {
            format!("record {} refused: {reason}", first.0)
        } else {
            format!("records {} to {} refused: {reason}", first.0, last.0)
        };
        self.counts.last_error = Some(why.clone());
        // A refusal of a message that was sent before the last pause began is the same trouble.
        let delay = if token > self.refused_token {
            self.refused_token = self.token;
            Some(self.resend.failed())
        } else {
            None
        };
        let State::Connected { progress, paused, .. } = &mut self.state else { return };
        *progress = now;
        let until = now + delay.unwrap_or(Duration::ZERO);
        match reason.verdict() {
            Verdict::Later => {
                if delay.is_some() {
                    *paused = Some((until, why));
                }
                self.lanes[flight.lane].hold(flight.range, until);
            }
            Verdict::Never => {
                self.lanes[flight.lane].hold(flight.range, until);
                // Of several, the culprit shows when each is sent by itself.
                if flight.records == 1 {
                    self.object(flight, reason);
                }
            }
            Verdict::Leave => {
                self.denied = Some((flight.lane, flight.range.first));
                self.end_session(now, why, Ended::ByUs);
            }
        }
    }

    /// The connection is gone or could not be opened.
    pub fn handle_disconnected(&mut self, now: Instant, session: u64, why: String) {
        if self.is_open(session) {
            self.end_session(now, why, Ended::ByPeer);
        }
    }

    /// The server closed the connection because of one of the messages in flight. With several
    /// in flight the window is narrowed to one until that many are through; with one, that is
    /// the culprit. A sealed batch that is alone in flight is cut anew: its boundaries are of no
    /// use to a server that does not take it.
    pub fn handle_expelled(
        &mut self,
        now: Instant,
        session: u64,
        reason: RefuseReason,
        why: String,
    ) {
        if !self.is_open(session) {
            return;
        }
        let oldest = self.flights.oldest();
        match (oldest, reason.verdict()) {
            (Some(flight), Verdict::Never) if self.flights.records() == 1 => {
                // A server that never took anything may object to every message alike: then
                // giving up one after the other would empty the log into the ledger.
                if self.counts.acknowledged > 0 || self.lanes.iter().any(Lane::is_known) {
                    self.object(flight, reason);
                }
            }
            (oldest, Verdict::Never) => {
                self.probation = self.probation.max(self.flights.records());
                if let Some(flight) =
                    oldest.filter(|oldest| oldest.records == self.flights.records())
                {
                    self.lanes[flight.lane].boundaries.withdraw(flight.range);
                }
            }
            (_, Verdict::Later | Verdict::Leave) => {}
        }
        self.end_session(now, why, Ended::ByPeer);
    }

    /// Ends the session because of something on this side of the link; a new one follows.
    pub fn fail(&mut self, now: Instant, why: String) {
        if self.is_open(self.session) {
            self.end_session(now, why, Ended::ByUs);
        }
    }

    /// Closes the connection and opens none again.
    pub fn shut_down(&mut self, now: Instant) {
        if self.is_open(self.session) {
            self.end_session(now, "shutting down".to_owned(), Ended::ByUs);
        }
        self.state = State::Stopped;
    }

    /// What the last [`handle_event`](Self::handle_event) acknowledged, once.
    pub fn take_landed(&mut self) -> Option<Landed> {
        self.landed.take()
    }

    /// A snapshot for operators.
    #[must_use]
    pub fn status(&self) -> UplinkStatus {
        let session = self.session;
        let state = match &self.state {
            State::Waiting { retry_at, why } => UplinkState::Waiting {
                retry_at: *retry_at,
                why: why.clone(),
                attempts: self.reconnect.failures(),
            },
            State::Connecting { since } => UplinkState::Connecting { session, since: *since },
            State::Connected { since, paused, .. } => {
                UplinkState::Connected { session, since: *since, paused: paused.clone() }
            }
            State::Stopped => UplinkState::Stopped,
        };
        UplinkStatus {
            state,
            in_flight: self.in_flight_records(),
            in_flight_bytes: self.in_flight_bytes(),
            endpoint: self.endpoint,
            held: self.counts.held,
            sent: self.counts.sent,
            acknowledged: self.counts.acknowledged,
            acknowledged_bytes: self.counts.acknowledged_bytes,
            refused: self.counts.refused,
            rejected: self.counts.rejected,
            connections: self.counts.connections,
            last_acknowledged: self.counts.last_acknowledged,
            last_error: self.counts.last_error.clone(),
            probing: self.probation > 0,
        }
    }

    fn is_open(&self, session: u64) -> bool {
        session == self.session
            && matches!(self.state, State::Connecting { .. } | State::Connected { .. })
    }

    pub(crate) fn window(&self) -> usize {
        if self.probation > 0 { 1 } else { self.options.window }
    }

    fn overdue(&self) -> Duration {
        self.options.ack_timeout.saturating_mul(OVERDUE_TIMEOUTS)
    }

    /// Takes an answered message out of the window; `None` when the answer is stale.
    fn land(&mut self, session: u64, token: u64) -> Option<Flight> {
        if session != self.session {
            return None;
        }
        self.flights.remove(token)
    }

    /// The server called this record unacceptable: give it up when it has done so often enough.
    fn object(&mut self, flight: Flight, reason: RefuseReason) {
        let (lane, seq) = (&mut self.lanes[flight.lane], flight.range.first);
        if lane.object(seq) >= self.options.attempts.max(1) {
            lane.give_up(seq);
            self.counts.rejected += 1;
            let lane = LaneId(flight.lane);
            self.rejects.push_back(Action::Reject { lane, seq, reason });
        }
    }

    fn check_clock(&mut self, now: Instant) {
        for until in [&mut self.batches_until, &mut self.paced_until, &mut self.backfill_until] {
            if until.is_some_and(|at| at <= now) {
                *until = None;
            }
        }
        let ack_timeout = self.options.ack_timeout;
        let silence = match &mut self.state {
            State::Connecting { since } if *since + self.options.connect_timeout <= now => {
                format!("no connection within {:?}", self.options.connect_timeout)
            }
            State::Connected { progress, paused, .. } => {
                if paused.as_ref().is_some_and(|(until, _)| *until <= now) {
                    *paused = None;
                }
                let oldest = self.flights.oldest().map(|flight| flight.sent_at);
                match oldest {
                    Some(_) if *progress + ack_timeout <= now => {
                        format!("nothing acknowledged for {ack_timeout:?}, the link is dead")
                    }
                    Some(sent) if sent + ack_timeout.saturating_mul(OVERDUE_TIMEOUTS) <= now => {
                        format!(
                            "a message stayed unanswered for {:?} while others were acknowledged",
                            ack_timeout.saturating_mul(OVERDUE_TIMEOUTS)
                        )
                    }
                    Some(_) | None => {
                        self.lanes.iter_mut().for_each(|lane| lane.release_held(now));
                        return;
                    }
                }
            }
            State::Waiting { .. } | State::Connecting { .. } | State::Stopped => return,
        };
        self.end_session(now, silence, Ended::ByUs);
    }

    fn end_session(&mut self, now: Instant, why: String, ended: Ended) {
        if let State::Connected { since, acknowledged, .. } = self.state {
            // A connection that stood for long is a success even if there was nothing to send.
            let stood = now.saturating_duration_since(since);
            if self.denied.is_none() && stood >= self.options.backoff_max {
                self.reconnect.succeeded();
            }
            if !acknowledged && !self.flights.is_empty() {
                self.fruitless += 1;
                if self.fruitless >= FRUITLESS_SESSIONS {
                    self.probation = self.probation.max(1);
                }
            }
        }
        if matches!(ended, Ended::ByUs) {
            let session = self.session;
            self.disconnect = Some(Action::Disconnect { session, why: why.clone() });
        }
        self.forget_sends();
        self.lanes.iter_mut().for_each(Lane::rewind);
        self.counts.last_error = Some(why.clone());
        let retry_at = now + self.next_endpoint();
        self.state = State::Waiting { retry_at: Some(retry_at), why };
    }

    /// Goes on to the next server; at once as long as there is one that was not tried since the
    /// last acknowledgement, and with a growing delay after each round.
    fn next_endpoint(&mut self) -> Duration {
        self.endpoint = (self.endpoint + 1) % self.options.endpoints;
        self.endpoints_tried += 1;
        if self.endpoints_tried < self.options.endpoints {
            return Duration::ZERO;
        }
        self.endpoints_tried = 0;
        self.reconnect.failed()
    }
}

/// Who closed the connection: the driver has to be told only in one case.
#[derive(Clone, Copy, Debug)]
enum Ended {
    ByUs,
    ByPeer,
}
