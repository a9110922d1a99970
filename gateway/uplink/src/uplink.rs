//! The state machine of one uplink.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use tidegate_stream::Seq;

use crate::action::{Action, LaneId, OutboundMessage, RefuseReason, UplinkEvent, Verdict, Want};
use crate::backoff::Backoff;
use crate::lane::Lane;
use crate::options::{MAX_WINDOW, UplinkOptions};
use crate::status::{UplinkState, UplinkStatus};

/// Records of one lane in a row before the next lane's turn, so that a long backlog of one
/// stream does not hold up the alerts of another.
const TURN_RECORDS: usize = 32;

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
    options: UplinkOptions,
    lanes: Vec<Lane>,
    state: State,
    session: u64,
    token: u64,
    /// Lane whose turn it is.
    turn: usize,
    /// By token, that is in the order of sending; at most `window`.
    flights: BTreeMap<u64, Flight>,
    in_flight_bytes: usize,
    /// Offered, not yet polled; a subset of `flights`.
    sends: VecDeque<(u64, OutboundMessage)>,
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
    counts: Counts,
}

#[derive(Debug)]
enum State {
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

#[derive(Clone, Copy, Debug)]
struct Flight {
    lane: usize,
    seq: Seq,
    bytes: usize,
    sent_at: Instant,
}

#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    acknowledged: u64,
    acknowledged_bytes: u64,
    refused: u64,
    rejected: u64,
    connections: u64,
    last_acknowledged: Option<Instant>,
    last_error: Option<String>,
}

impl Uplink {
    /// An uplink that connects at the first [`poll_action`](Self::poll_action). `lanes` are the
    /// cursors: per stream the first record that is not upstream. `seed` feeds the jitter.
    #[must_use]
    pub fn new(options: UplinkOptions, lanes: Vec<Seq>, seed: u64) -> Uplink {
        let options = UplinkOptions {
            window: options.window.clamp(1, MAX_WINDOW),
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
            options,
            lanes: lanes.into_iter().map(Lane::new).collect(),
            state: State::Waiting { retry_at: None, why: "not tried yet".to_owned() },
            session: 0,
            token: 0,
            turn: 0,
            flights: BTreeMap::new(),
            in_flight_bytes: 0,
            sends: VecDeque::new(),
            disconnect: None,
            rejects: VecDeque::new(),
            refused_token: 0,
            probation: 0,
            fruitless: 0,
            denied: None,
            counts: Counts::default(),
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
        if let Some((token, message)) = self.sends.pop_front() {
            return Some(Action::Send { session: self.session, token, message });
        }
        if matches!(self.state, State::Waiting { retry_at, .. } if retry_at.is_none_or(|at| at <= now))
        {
            self.session += 1;
            self.state = State::Connecting { since: now };
            return Some(Action::Connect { session: self.session });
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
                    self.flights.first_key_value().map(|(_, f)| f.sent_at + self.overdue()),
                    paused.as_ref().map(|(until, _)| *until),
                    self.lanes.iter().filter_map(Lane::held_until).min(),
                ];
                ends.into_iter().flatten().min()
            }
            State::Stopped => None,
        }
    }

    /// What could be sent now: lanes take turns. `None` while not connected, pausing, or when
    /// the window is full. After a read that found nothing, or that has to wait for the disk,
    /// call [`exhausted`](Self::exhausted), else the same is wanted again.
    #[must_use]
    pub fn wanted(&self) -> Option<Want> {
        let State::Connected { paused: None, .. } = self.state else { return None };
        let free = self.window().checked_sub(self.flights.len()).filter(|free| *free > 0)?;
        let bytes = self.options.window_bytes.max(1).checked_sub(self.in_flight_bytes);
        let bytes = bytes.filter(|bytes| *bytes > 0)?;
        let count = self.lanes.len();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        turns.into_iter().find_map(|at| {
            let (from, room) = self.lanes[at].wanted(self.options.window)?;
            let records = room.min(free).min(TURN_RECORDS);
            Some(Want { lane: LaneId(at), from, records, bytes })
        })
    }

    /// Hands over a wanted record; it becomes an [`Action::Send`]. `bytes` counts against the
    /// window. Returns false, and keeps nothing, for a record that is not the one wanted or
    /// finds the window full: it will be wanted again.
    pub fn offer(
        &mut self,
        now: Instant,
        lane: LaneId,
        seq: Seq,
        bytes: usize,
        message: OutboundMessage,
    ) -> bool {
        let full = self.flights.len() >= self.window()
            || self.in_flight_bytes >= self.options.window_bytes.max(1);
        let idle = self.flights.is_empty();
        let State::Connected { progress, paused: None, .. } = &mut self.state else { return false };
        let Some(offered) = self.lanes.get_mut(lane.0) else { return false };
        if full || !offered.offer(seq) {
            return false;
        }
        if idle {
            *progress = now;
        }
        self.turn = (lane.0 + 1) % self.lanes.len();
        self.token += 1;
        self.flights.insert(self.token, Flight { lane: lane.0, seq, bytes, sent_at: now });
        self.in_flight_bytes += bytes;
        self.sends.push_back((self.token, message));
        self.counts.sent += 1;
        true
    }

    /// The read of the record [`wanted`](Self::wanted) found that from there up to `next` all
    /// are gone; that they are lost is in the ledger already.
    pub fn skip(&mut self, lane: LaneId, next: Seq) {
        if let Some(lane) = self.lanes.get_mut(lane.0) {
            lane.skip(next);
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
            UplinkEvent::Connected { session } => self.handle_connected(now, session),
            UplinkEvent::Acknowledged { session, token } => {
                self.handle_acknowledged(now, session, token);
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

    /// The connection stands.
    pub fn handle_connected(&mut self, now: Instant, session: u64) {
        if session == self.session && matches!(self.state, State::Connecting { .. }) {
            self.counts.connections += 1;
            self.state =
                State::Connected { since: now, progress: now, acknowledged: false, paused: None };
        }
    }

    /// The server has the message.
    pub fn handle_acknowledged(&mut self, now: Instant, session: u64, token: u64) {
        let Some(flight) = self.land(session, token) else { return };
        if let State::Connected { progress, acknowledged, .. } = &mut self.state {
            *progress = now;
            *acknowledged = true;
        }
        self.lanes[flight.lane].finish(flight.seq);
        match self.denied {
            Some((lane, seq)) if flight.lane != lane || flight.seq < seq => {}
            Some(_) | None => {
                self.denied = None;
                self.reconnect.succeeded();
            }
        }
        if token > self.refused_token {
            self.resend.succeeded();
        }
        self.probation = self.probation.saturating_sub(1);
        self.fruitless = 0;
        self.counts.acknowledged += 1;
        self.counts.acknowledged_bytes += flight.bytes as u64;
        self.counts.last_acknowledged = Some(now);
    }

    /// The server answered, and does not take the message.
    pub fn handle_refused(&mut self, now: Instant, session: u64, token: u64, reason: RefuseReason) {
        let Some(flight) = self.land(session, token) else { return };
        self.counts.refused += 1;
        let why = format!("record {} refused: {reason}", flight.seq.0);
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
                self.lanes[flight.lane].hold(flight.seq, until);
            }
            Verdict::Never => {
                self.lanes[flight.lane].hold(flight.seq, until);
                self.object(flight, reason);
            }
            Verdict::Leave => {
                self.denied = Some((flight.lane, flight.seq));
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
    /// the culprit.
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
        let only = self.flights.first_key_value().map(|(_, flight)| *flight);
        match (only, reason.verdict()) {
            (Some(flight), Verdict::Never) if self.flights.len() == 1 => {
                // A server that never took anything may object to every message alike: then
                // giving up one after the other would empty the log into the ledger.
                if self.counts.acknowledged > 0 {
                    self.object(flight, reason);
                }
            }
            (_, Verdict::Never) => self.probation = self.probation.max(self.flights.len()),
            (_, Verdict::Later | Verdict::Leave) => {}
        }
        self.end_session(now, why, Ended::ByPeer);
    }

    /// Closes the connection and opens none again.
    pub fn shut_down(&mut self, now: Instant) {
        if self.is_open(self.session) {
            self.end_session(now, "shutting down".to_owned(), Ended::ByUs);
        }
        self.state = State::Stopped;
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
            in_flight: self.flights.len(),
            in_flight_bytes: self.in_flight_bytes,
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

    fn window(&self) -> usize {
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
        let flight = self.flights.remove(&token)?;
        self.in_flight_bytes -= flight.bytes;
        Some(flight)
    }

    /// The server called this record unacceptable: give it up when it has done so often enough.
    fn object(&mut self, flight: Flight, reason: RefuseReason) {
        let lane = &mut self.lanes[flight.lane];
        if lane.object(flight.seq) >= self.options.attempts.max(1) {
            lane.give_up(flight.seq);
            self.counts.rejected += 1;
            let lane = LaneId(flight.lane);
            self.rejects.push_back(Action::Reject { lane, seq: flight.seq, reason });
        }
    }

    fn check_clock(&mut self, now: Instant) {
        let ack_timeout = self.options.ack_timeout;
        let silence = match &mut self.state {
            State::Connecting { since } if *since + self.options.connect_timeout <= now => {
                format!("no connection within {:?}", self.options.connect_timeout)
            }
            State::Connected { progress, paused, .. } => {
                if paused.as_ref().is_some_and(|(until, _)| *until <= now) {
                    *paused = None;
                }
                let oldest = self.flights.first_key_value().map(|(_, flight)| flight.sent_at);
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
        self.flights.clear();
        self.in_flight_bytes = 0;
        self.sends.clear();
        self.lanes.iter_mut().for_each(Lane::rewind);
        self.counts.last_error = Some(why.clone());
        let retry_at = now + self.reconnect.failed();
        self.state = State::Waiting { retry_at: Some(retry_at), why };
    }
}

/// Who closed the connection: the driver has to be told only in one case.
#[derive(Clone, Copy, Debug)]
enum Ended {
    ByUs,
    ByPeer,
}
