//! The NATS driver: one connection at a time, publishes pipelined, each acknowledged by the stream
//! that stores it.
//!
//! Not here: retries, windows, delays (the uplink core); what a session reads before it publishes
//! (`opening.rs`), what may be published when (`lane.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_uplink::{Action, Batch, Held, LaneId, RefuseReason, UplinkEvent};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, sleep_until, timeout};

use super::complaint;
use super::headers;
use super::jetstream::{self, Verdict};
use super::lane::{Outgoing, Place, Step};
use super::link::Broken;
use super::opening::{self, Opened, Subject, open};
use super::protocol::{self, Message, ServerOp};
use super::target::NatsTarget;
use crate::uplinks::sessions::{self, After, Asked};

/// Time for what is written to leave when the daemon shuts down.
const FAREWELL: Duration = Duration::from_millis(500);
/// Actions taken, and things heard, before either side gets its turn again.
const TURN: usize = 256;
/// Unanswered PINGs after which the server is taken to be gone.
const MAX_PINGS: u32 = 2;

/// See [`Target::run`](crate::uplinks::Target::run).
pub async fn run(
    servers: Vec<NatsTarget>,
    lanes: Vec<String>,
    actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let serve = async |target: &NatsTarget, session, actions: &mut Receiver<Action>| match connect(
        target, &lanes, session, actions,
    )
    .await
    {
        Ok(opened) => {
            let (lanes, events, waiting) = (&*lanes, &events, BTreeMap::new());
            let open = Session { target, lanes, session, events, opened, waiting, pings: 0 };
            open.run(actions).await
        }
        Err(NotOpened::Failed(why)) => {
            events(UplinkEvent::Disconnected { session, why });
            After::Idle
        }
        Err(NotOpened::Told(after)) => after,
    };
    sessions::run(&servers, actions, &events, serve).await;
}

/// Why there is no session.
enum NotOpened {
    Failed(String),
    Told(After),
}

/// Opens a session, unless it is told to give up.
async fn connect(
    target: &NatsTarget,
    lanes: &[String],
    session: u64,
    actions: &mut Receiver<Action>,
) -> Result<Opened, NotOpened> {
    let mut opening = std::pin::pin!(timeout(target.connect_timeout(), open(target, lanes)));
    loop {
        tokio::select! {
            opened = &mut opening => {
                let late = || {
                    let (at, within) = (target.address(), target.connect_timeout());
                    format!("{at} was not ready within {within:?}")
                };
                return opened.unwrap_or_else(|_| Err(late())).map_err(NotOpened::Failed);
            }
            action = actions.recv() => match sessions::asked(session, action) {
                Asked::End(after) => return Err(NotOpened::Told(after)),
                // Nothing is sent before the session is open.
                Asked::Send(..) | Asked::Other => {}
            },
        }
    }
}

struct Session<'a, E> {
    target: &'a NatsTarget,
    /// Names of the lanes.
    lanes: &'a [String],
    session: u64,
    events: &'a E,
    opened: Opened,
    /// Waiting for their acknowledgement: lane and record, by token.
    waiting: BTreeMap<u64, (usize, Place)>,
    pings: u32,
}

/// Why a session cannot go on.
enum End {
    Lost(String),
    /// The stream takes nothing for now.
    Busy(String),
    /// The server hung up because of a message.
    Expelled(RefuseReason, String),
}

impl<E: Fn(UplinkEvent)> Session<'_, E> {
    async fn run(mut self, actions: &mut Receiver<Action>) -> After {
        let lanes = self.opened.subjects.iter().enumerate();
        let held = lanes.filter_map(|(at, subject)| {
            let (Place { epoch, seq }, newest) = (subject.lane.held()?, subject.lane.newest()?);
            Some(Held { lane: LaneId(at), epoch, seq, newest: (newest.epoch, newest.seq) })
        });
        (self.events)(UplinkEvent::Connected { session: self.session, held: held.collect() });
        match self.serve(actions).await {
            Ok(After::Close) => {
                // Late or not, the daemon ends now.
                let _ = timeout(FAREWELL, self.opened.link.flush()).await;
                After::Close
            }
            Ok(after) => after,
            Err(End::Lost(why)) => {
                (self.events)(UplinkEvent::Disconnected { session: self.session, why });
                After::Idle
            }
            Err(End::Busy(why)) => {
                let (session, retry_after) = (self.session, None);
                (self.events)(UplinkEvent::Busy { session, retry_after, why });
                After::Idle
            }
            Err(End::Expelled(reason, why)) => {
                (self.events)(UplinkEvent::Expelled { session: self.session, reason, why });
                After::Idle
            }
        }
    }

    async fn serve(&mut self, actions: &mut Receiver<Action>) -> Result<After, End> {
        let keep_alive = self.target.keep_alive();
        let mut ping_at = Instant::now() + keep_alive;
        loop {
            tokio::select! {
                heard = self.opened.link.hear() => {
                    ping_at = Instant::now() + keep_alive;
                    self.pings = 0;
                    self.hear(heard.map_err(|broken| self.broken(broken))?)?;
                    for _ in 1..TURN {
                        match self.opened.link.heard().map_err(|broken| self.broken(broken))? {
                            Some(op) => self.hear(op)?,
                            None => break,
                        }
                    }
                }
                action = actions.recv() => {
                    if let Some(after) = self.take(action)? {
                        return Ok(after);
                    }
                    for _ in 1..TURN {
                        // Closed as well: the next turn says so.
                        let Ok(action) = actions.try_recv() else { break };
                        if let Some(after) = self.take(Some(action))? {
                            return Ok(after);
                        }
                    }
                }
                () = sleep_until(ping_at) => {
                    if self.pings == MAX_PINGS {
                        let (at, time) = (self.target.address(), keep_alive * (MAX_PINGS + 1));
                        return Err(End::Lost(format!("{at} has said nothing for {time:?}")));
                    }
                    self.pings += 1;
                    ping_at = Instant::now() + keep_alive;
                    protocol::ping(&mut self.opened.link.out);
                }
            }
        }
    }

    fn broken(&self, broken: Broken) -> End {
        let at = self.target.address();
        End::Lost(match broken {
            Broken::Io(error) => complaint::unreachable(&at, &error),
            Broken::Closed | Broken::Protocol(_) => format!("{at} {broken}"),
        })
    }

    fn take(&mut self, action: Option<Action>) -> Result<Option<After>, End> {
        match sessions::asked(self.session, action) {
            Asked::Send(token, batch) => self.send(token, batch)?,
            Asked::End(after) => return Ok(Some(after)),
            Asked::Other => {}
        }
        Ok(None)
    }

    fn send(&mut self, token: u64, batch: Batch) -> Result<(), End> {
        let Batch { lane, stream, epoch, records, .. } = batch;
        let count = records.len();
        let (Ok([record]), Some(subject)) =
            (<[_; 1]>::try_from(records), self.opened.subjects.get_mut(lane.0))
        else {
            let what =
                format!("{count} records for lane {}: the driver sends them one by one", lane.0);
            self.refuse(token, RefuseReason::Unencodable(what));
            return Ok(());
        };
        let place = Place { epoch, seq: record.seq };
        let message = record.into_message(&self.target.gateway, &stream, epoch);
        let step = subject.lane.send(Outgoing { token, place, message });
        self.step(lane.0, step);
        Ok(())
    }

    fn step(&mut self, lane: usize, step: Step) {
        match step {
            Step::Publish { outgoing, fence } => self.publish(lane, outgoing, fence),
            Step::Present { token } => self.acknowledge(token),
            Step::Wait => {}
        }
    }

    fn publish(&mut self, lane: usize, outgoing: Outgoing, fence: Option<u64>) {
        let Outgoing { token, place, mut message } = outgoing;
        let Some(subject) = self.opened.subjects.get_mut(lane) else { return };
        let (gateway, stream) = (&self.target.gateway, &self.lanes[lane]);
        let id = format!("{gateway}/{}/{stream}/{}", place.epoch.0, place.seq.0);
        let fence = fence.map(|last| last.to_string());
        let mut for_server = vec![(jetstream::MESSAGE_ID, id.as_str())];
        for_server.extend(fence.as_deref().map(|last| (jetstream::FENCE, last)));
        if let Some(floor) = subject.lane.floor(place) {
            message.headers.push((jetstream::FLOOR.to_owned(), jetstream::show_floor(floor)));
        }
        let headers = headers::encode(&for_server, &message);
        let bytes = (headers.len() + message.payload.len()) as u64;
        if bytes > subject.max_bytes {
            let max = Some(subject.max_bytes);
            let reason = RefuseReason::PacketTooLarge { bytes: Some(bytes), max };
            self.refused(lane, token, place, reason);
            return;
        }
        let reply = format!("{}.{token}", self.opened.inbox);
        let out = &mut self.opened.link.out;
        protocol::publish_with_headers(out, &subject.name, &reply, &headers, &message.payload);
        self.waiting.insert(token, (lane, place));
    }

    fn hear(&mut self, op: ServerOp) -> Result<(), End> {
        match op {
            ServerOp::Message(message) => self.answered(&message),
            ServerOp::Ping => {
                protocol::pong(&mut self.opened.link.out);
                Ok(())
            }
            ServerOp::Error(said) => self.complained(&said),
            ServerOp::Pong | ServerOp::Ok | ServerOp::Info(_) => Ok(()),
        }
    }

    fn answered(&mut self, message: &Message) -> Result<(), End> {
        let token = message.subject.strip_prefix(&*self.opened.inbox);
        let token = token.and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        let Some(token) = token.filter(|_| message.subscription == opening::ANSWERS) else {
            return Ok(());
        };
        let Some((lane, place)) = self.waiting.remove(&token) else { return Ok(()) };
        let status = match headers::decode(&message.headers) {
            Some((status, _)) => status,
            None => String::new(),
        };
        let lost = |why: String| End::Lost(format!("{}: {why}", self.target.address()));
        let subject = self.opened.subjects[lane].name.as_str();
        match jetstream::verdict(&status, &message.payload).map_err(lost)? {
            Verdict::Stored { stream, at, duplicate } => {
                self.stored(lane, token, place, Ack { stream, at, duplicate })?;
            }
            Verdict::FenceFailed(said) => {
                return Err(lost(format!(
                    "{subject} has got a message since it was read: {said}; the session begins \
                     anew (if this goes on, somebody else publishes there)"
                )));
            }
            Verdict::Gone(said) => return Err(lost(format!("publish to {subject}: {said}"))),
            Verdict::Refused(reason) => self.refused(lane, token, place, reason),
            Verdict::Busy(said) => {
                let at = self.target.address();
                return Err(End::Busy(format!("{at}, publish to {subject}: {said}")));
            }
        }
        Ok(())
    }

    fn stored(&mut self, lane: usize, token: u64, place: Place, ack: Ack) -> Result<(), End> {
        let subject = &mut self.opened.subjects[lane];
        let at = self.target.address();
        if ack.stream != subject.stream {
            return Err(End::Lost(format!(
                "{at}: {} was taken by the stream {} when the session began, and now is by {}; \
                 the session begins anew",
                subject.name,
                subject.stream,
                jetstream::cleaned(&ack.stream)
            )));
        }
        let released = subject.lane.acknowledged(place, ack.at, ack.duplicate);
        let released = released.map_err(|renumbered| {
            End::Lost(format!(
                "{at}: the stream {} gave a message the sequence {} after {}: it was made anew; \
                 the session begins anew",
                subject.stream, renumbered.at, renumbered.newest
            ))
        })?;
        self.acknowledge(token);
        released.into_iter().for_each(|outgoing| self.publish(lane, outgoing, None));
        Ok(())
    }

    /// A record that the server will not take. Those that waited behind it go now, in their order.
    fn refused(&mut self, lane: usize, token: u64, place: Place, reason: RefuseReason) {
        let behind = self.opened.subjects[lane].lane.refused(place);
        self.refuse(token, reason);
        for outgoing in behind {
            let step = self.opened.subjects[lane].lane.send(outgoing);
            self.step(lane, step);
        }
    }

    /// A line that begins with -ERR. Most are followed by the end of the connection; one that
    /// forbids a publish is not, and that publish is never answered.
    fn complained(&mut self, said: &str) -> Result<(), End> {
        let at = self.target.address();
        let why = complaint::complaint(&at, said);
        let lower = said.to_ascii_lowercase();
        if lower.contains("maximum payload violation") {
            let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
            return Err(End::Expelled(reason, why));
        }
        let named = |subject: &Subject| said.contains(&format!("\"{}\"", subject.name));
        let lane = self.opened.subjects.iter().position(named);
        let first = self.waiting.iter().find(|(_, (of, _))| Some(*of) == lane);
        match first.map(|(token, _)| *token) {
            Some(token) if lower.contains("permissions violation") => {
                tracing::error!("{why}");
                self.waiting.remove(&token);
                self.refuse(token, RefuseReason::NotAuthorized);
                Ok(())
            }
            Some(_) | None => Err(End::Lost(why)),
        }
    }

    fn acknowledge(&self, token: u64) {
        (self.events)(UplinkEvent::Acknowledged { session: self.session, token });
    }

    fn refuse(&self, token: u64, reason: RefuseReason) {
        (self.events)(UplinkEvent::Refused { session: self.session, token, reason });
    }
}

/// The stream's acknowledgement of a message.
struct Ack {
    stream: String,
    at: u64,
    duplicate: bool,
}
