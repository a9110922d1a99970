//! The gateway: broker, log, functions and uplinks as one value without I/O.
//!
//! Bytes, disk replies, call results and uplink events go in by the `handle_*` methods; after
//! each, [`Gateway::poll_output`] says what the shell is to do, and
//! [`Gateway::poll_timeout`] when to come back without being asked.
//!
//! Invariants:
//! - A publish that has a stream is acknowledged only when the log says `durable` of a position
//!   at or above its own.
//! - What a function did (records, state, cursor) is one transaction of the log; its messages
//!   reach subscribers only after that transaction is durable.
//! - An uplink's cursor moves only on the upstream's acknowledgement.
//!
//! Deliberately not here: sockets, files, threads, clocks, the Wasm engine.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_broker::access::{Access, Action as ClientAction, Credentials, LoginError};
use tidegate_broker::{Broker, Caller, CloseReason, ConnId, Message, Ticket};
use tidegate_stream::{
    Disk, DiskReply, DiskRequest, Log, OpenError, Position, ReaderId, Recovery, Seq, StreamId,
};
use tidegate_uplink::{Action, UplinkEvent};

use crate::ages::Ages;
use crate::call::{Call, CallId, CallResult};
use crate::clock::Now;
use crate::events::Allowance;
use crate::figures::FIGURES_EVERY;
use crate::files::Files;
use crate::firmware::Firmware;
use crate::function::FunctionRun;
use crate::hold::Hold;
use crate::import::Imports;
use crate::key::PartitionKey;
use crate::latency::Latency;
use crate::letters::Letters;
use crate::losses::Losses;
use crate::notes::{NoteOf, Notes};
use crate::plan::Plan;
use crate::refusal::Refusals;
use crate::release::{Release, Spooled};
use crate::request::{Answer, Open, RequestId};
use crate::roster::Roster;
use crate::route::Routes;
use crate::sessions::{Sessions, with_table_room};
use crate::standstill::Standstill;
use crate::tidings::Tidings;
use crate::time::Time;
use crate::uplink::UplinkRun;
use crate::versions::{FunctionOrder, Versions};

/// How often retention, quotas and checkpoints are looked after.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

/// What an emitted message costs beside its bytes while it waits for the disk.
const MESSAGE_COST: usize = 256;

/// Wait before publishes that have no room in their stream are tried again. Thousands may wait,
/// and other streams may bring a thousand groups a second.
const RETRY_HELD: Duration = Duration::from_millis(10);

/// What the shell is to do next.
#[derive(Debug)]
pub enum Output {
    /// [`Gateway::unsent`] of this connection has bytes for its socket.
    Writable(ConnId),
    /// Close this connection when what it still holds is sent.
    Close(ConnId, CloseReason),
    /// Stop reading from this connection.
    Pause(ConnId),
    /// Go on reading from this connection.
    Resume(ConnId),
    /// Find out who this client is and tell [`Gateway::authenticated`].
    Authenticate(ConnId, Login),
    /// Do this on the disk and hand the reply to [`Gateway::handle_disk`].
    Disk(DiskRequest),
    /// Tell the client of this request.
    Answer(RequestId, Answer),
    /// Call this function and hand the result to [`Gateway::handle_call`].
    Call(Call),
    /// Hand this to the driver of the uplink with this index in the plan.
    Uplink(usize, Action),
    /// Start or stop what takes the calls of a function.
    Function(FunctionOrder),
    /// Read this block of a bundle and hand it to [`Gateway::handle_firmware_read`].
    ReadFirmware(tidegate_firmware::Read),
    /// Send this to a device on a serial line.
    Letter(tidegate_firmware::Letter),
    /// Something an operator should read.
    Notice(Notice),
}

/// A client that wants to be let in.
#[derive(Debug)]
pub struct Login {
    /// Its client identifier.
    pub client: std::sync::Arc<str>,
    /// What it shows.
    pub credentials: Credentials,
}

/// News for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A client's session began.
    ClientConnected {
        /// Client id.
        client: String,
        /// Address.
        peer: String,
    },
    /// A client's connection ended.
    ClientDisconnected {
        /// Client id.
        client: String,
        /// Why.
        why: String,
    },
    /// A client was not allowed to do something.
    Denied {
        /// Client id.
        client: String,
        /// The name it has logged in with.
        user: Option<String>,
        /// What it wanted to do.
        action: ClientAction,
        /// The topic or the filter.
        topic: String,
    },
    /// A function wrote a log line.
    FunctionLog {
        /// The function's name.
        function: String,
        /// Severity, as the ABI numbers it.
        level: u8,
        /// The line.
        text: String,
    },
    /// A call failed and will be made again, in smaller batches or later.
    CallFailed {
        /// The function's name.
        function: String,
        /// Records in the batch.
        records: usize,
        /// What happened.
        failure: String,
    },
    /// The call of a request failed; its client is told, without the reason.
    RequestFailed {
        /// The function's name.
        function: String,
        /// The pattern of the route.
        route: String,
        /// What happened.
        failure: String,
    },
    /// A record went to the dead-letter stream.
    DeadLettered {
        /// The function's name.
        function: String,
        /// The stream and sequence it came from.
        stream: String,
        /// Its sequence there.
        seq: u64,
        /// Why.
        reason: String,
    },
    /// A version of a function failed on trial.
    RolledBack {
        /// The function's name.
        function: String,
        /// The version that failed.
        version: String,
        /// The version that runs again, if there was one.
        to: Option<String>,
        /// Why.
        reason: String,
    },
    /// The log does not take that a version failed on trial: it stands still.
    VersionWaits {
        /// The function's name.
        function: String,
        /// Why.
        why: String,
    },
    /// An uplink is connected.
    UplinkConnected {
        /// The uplink's name.
        uplink: String,
    },
    /// An uplink lost its connection, or could not get one for the first time since it had one.
    UplinkDown {
        /// The uplink's name.
        uplink: String,
        /// Why.
        why: String,
    },
    /// A server holds less than it acknowledged.
    Setback {
        /// The uplink's name.
        uplink: String,
        /// What is missing, and what is done about it.
        what: String,
    },
    /// The log does not take changes of sessions: clients that connect or subscribe wait.
    SessionsWait {
        /// Why.
        why: String,
    },
    /// As many devices are known as can be: one was forgotten for another.
    DeviceForgotten {
        /// The one that was not seen for longest.
        device: Arc<str>,
        /// The one that is remembered instead.
        newcomer: Arc<str>,
    },
    /// The log does not take what has become of firmware.
    FirmwareNotKept {
        /// Why.
        why: String,
    },
    /// The stream `losses` does not take what the ledger says; it is told later.
    LossesWait {
        /// Why.
        why: String,
    },
    /// An uplink will not deliver this record.
    Rejected {
        /// The uplink's name.
        uplink: String,
        /// The stream.
        stream: String,
        /// The sequence.
        seq: u64,
        /// What the upstream said.
        reason: String,
    },
}

/// Why a gateway could not be built from its plan and store.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store has no room for another name.
    #[error("{0}")]
    Define(#[from] tidegate_stream::DefineError),
    /// The plan names a stream that it does not define.
    #[error("{user} uses stream \"{stream}\", which is not configured")]
    UnknownStream {
        /// What uses it.
        user: String,
        /// The missing stream.
        stream: String,
    },
}

/// The gateway. See the module documentation.
pub struct Gateway {
    pub(crate) name: String,
    pub(crate) started: Instant,
    pub(crate) broker: Broker,
    pub(crate) log: Log,
    pub(crate) routes: Routes,
    pub(crate) functions: Roster<FunctionRun>,
    pub(crate) notes: Notes,
    pub(crate) letters: Letters,
    /// Calls begun so far.
    pub(crate) calls: u64,
    pub(crate) versions: Versions,
    pub(crate) firmware: Firmware,
    pub(crate) time: Time,
    /// Requests without an answer.
    pub(crate) open: Open,
    pub(crate) uplinks: Roster<UplinkRun>,
    pub(crate) losses: Losses,
    pub(crate) sessions: Sessions,
    pub(crate) imports: Imports,
    pub(crate) files: Files,
    pub(crate) events: Allowance,
    pub(crate) tidings: Tidings,
    pub(crate) waiting: VecDeque<(Position, Release)>,
    pub(crate) hold: Hold,
    pub(crate) refusals: Refusals,
    pub(crate) standstill: Standstill,
    pub(crate) counters: Counters,
    /// From the arrival of a publish to its acknowledgement.
    pub(crate) ack_latency: Latency,
    pub(crate) ages: Ages,
    pub(crate) scratch: Vec<u8>,
    outputs: VecDeque<Output>,
    released: Position,
    /// Position of the newest record that a client sent.
    pub(crate) newest_record: Position,
    next_trim: Instant,
    next_figures: Instant,
    /// When publishes that wait for room in their stream are tried again.
    retry_held_at: Option<Instant>,
    /// Most user properties of a message that a client may send.
    pub(crate) max_user_properties: usize,
    /// Bytes of the messages in `waiting`.
    pub(crate) undelivered_bytes: usize,
    /// The final checkpoint is on its way: nothing more is begun, or the end would not be clean.
    pub(crate) stopping: bool,
    pub(crate) planted: Option<PlantedBug>,
}

/// Counters that neither the broker nor the log keeps.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counters {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) duplicates: u64,
}

/// Mistakes that the simulator must find; never set outside tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlantedBug {
    /// A function's cursor is committed in a group of its own, before its outputs.
    CursorApart,
    /// An uplink's cursor moves when a record is sent, not when it is acknowledged.
    CursorMovedOnSend,
    /// A publish that is held back is acknowledged at once.
    HeldAcknowledged,
    /// A publish that came before is acknowledged at once, though the first copy may still be on
    /// its way to the disk.
    RepeatAcknowledgedEarly,
    /// A session begins before the late ranges are durable.
    LateRangesNotAwaited,
    /// A live lane sends what it has asked for, before its grant is durable.
    GrantNotAwaited,
    /// A batch is sent before its boundaries are durable.
    SealNotAwaited,
    /// What a function has done beyond its cursor is not noted.
    BeyondNotNoted,
    /// What a function has done of its retry lane stays there.
    LaneNotCleared,
    /// That a packet identifier is in use is committed after its message, and PUBREC does not wait
    /// for it.
    ReceiptApart,
    /// What is retained is committed after the publish, and its acknowledgement does not wait for
    /// it.
    RetainedApart,
    /// CONNACK leaves before its session is durable.
    ConnackNotAwaited,
    /// SUBACK leaves before its subscriptions are durable.
    SubackNotAwaited,
    /// PUBREL leaves before it is durable that the client has the message.
    PubrelNotAwaited,
    /// PUBCOMP leaves before it is durable that the packet identifier is free.
    PubcompNotAwaited,
    /// Functions are told of what a call changes by a commit before that of the call.
    ToldApart,
    /// That a file was taken in is not noted.
    FileNotNoted,
    /// That a run of a schedule is done is committed in a group of its own, before its effects.
    RunApart,
    /// The answer to a request with a key is not kept.
    AnswerNotKept,
    /// The answer to a request leaves before its effects are durable.
    AnswerNotAwaited,
    /// The spool's cursor passes what clients have not acknowledged.
    SpoolPassedEarly,
}

impl Gateway {
    /// Opens the store and prepares everything in the plan.
    ///
    /// `entropy` makes the identity of a new store, and the identifiers of clients that bring
    /// none: a fresh random number at each start.
    pub fn open(
        plan: Plan,
        disk: &dyn Disk,
        now: Now,
        entropy: u64,
    ) -> Result<(Gateway, Recovery), BuildError> {
        let (mut log, recovery) =
            Log::open(disk, with_table_room(&plan), now.instant, now.unix_ms, entropy)?;
        let routes = Routes::define(&mut log, &plan)?;
        let notes = Notes::define(&mut log, plan.log.max_frame_bytes)?;
        let functions = plan
            .functions
            .iter()
            .map(|function| {
                FunctionRun::define(&mut log, &routes, notes, function, now.instant, plan.seed)
            })
            .collect::<Result<Roster<_>, _>>()?;
        let uplinks = plan
            .uplinks
            .iter()
            .enumerate()
            .map(|(index, uplink)| {
                UplinkRun::define(&mut log, &routes, now, uplink, plan.seed ^ index as u64)
            })
            .collect::<Result<Roster<_>, _>>()?;
        let losses = Losses::define(&mut log, &routes)?;
        let imports = Imports::define(&mut log)?;
        let files = Files::define(&mut log)?;
        let sessions = Sessions::define(&mut log, &plan)?;
        let versions = Versions::define(&mut log, &routes, &plan)?;
        let firmware = Firmware::define(&mut log, &routes, now)?;
        drop_unplanned_readers(&mut log, functions.iter(), &versions, &uplinks, sessions.reader);
        notes.forget(&mut log, now.instant, |log, note| {
            versions.has_function(log, note.function) || is_of_use(log, functions.iter(), note)
        });
        let letters = Letters::define(&mut log, &routes, now)?;
        Gateway::forget_schedules(&mut log, now.instant, |log, name| {
            versions.has_function(log, name) || functions.iter().any(|run| run.plan.name == name)
        });
        let refusals = Refusals::define(&mut log)?;
        let max_user_properties = plan.broker.max_user_properties;
        let mut broker = Broker::new(plan.broker);
        broker.seed_client_ids(entropy);
        if plan.requires_login {
            broker.require_login();
        }
        sessions.restore(&log, &mut broker, now);
        let gateway = Gateway {
            name: plan.gateway,
            started: now.instant,
            time: Time::hear(&mut broker),
            broker,
            released: log.durable(),
            newest_record: log.end(),
            log,
            routes,
            functions,
            notes,
            letters,
            calls: 0,
            versions,
            firmware,
            open: Open::default(),
            uplinks,
            losses,
            sessions,
            imports,
            files,
            events: Allowance::default(),
            tidings: Tidings::default(),
            waiting: VecDeque::new(),
            hold: Hold::default(),
            refusals,
            standstill: Standstill::default(),
            counters: Counters::default(),
            ack_latency: Latency::default(),
            ages: Ages::default(),
            scratch: Vec::new(),
            outputs: VecDeque::new(),
            next_trim: now.instant,
            next_figures: now.instant,
            retry_held_at: None,
            max_user_properties,
            undelivered_bytes: 0,
            stopping: false,
            planted: None,
        };
        Ok((gateway, recovery))
    }

    /// Plants a mistake for the simulator to find.
    #[cfg(feature = "planted-bugs")]
    pub fn plant(&mut self, bug: PlantedBug) {
        self.planted = Some(bug);
    }

    /// A client's connection was accepted.
    pub fn handle_open(&mut self, now: Now, conn: ConnId, peer: String) {
        self.broker.handle_open(now.instant, conn, peer);
    }

    /// The same, with more to say of where it comes from.
    pub fn handle_caller(&mut self, now: Now, conn: ConnId, caller: Caller) {
        self.broker.handle_caller(now.instant, conn, caller);
    }

    /// Bytes arrived on a connection.
    pub fn handle_bytes(&mut self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.broker.handle_bytes(now.instant, conn, bytes);
        self.take_broker_events(now);
    }

    /// The shell knows who a client is, or that it is not let in; also for a client that is in
    /// already, when what it may do has changed.
    pub fn authenticated(&mut self, now: Now, conn: ConnId, outcome: Result<Access, LoginError>) {
        self.broker.authenticated(now.instant, conn, outcome);
        self.take_broker_events(now);
    }

    /// A connection ended without our asking.
    pub fn handle_closed(&mut self, now: Now, conn: ConnId, why: &str) {
        self.broker.handle_closed(now.instant, conn, why);
        self.take_broker_events(now);
    }

    /// The bytes that this connection's socket should send; `None` when the connection is gone.
    pub fn unsent(&mut self, conn: ConnId) -> Option<&mut tidegate_broker::Outbox> {
        self.broker.unsent(conn)
    }

    /// False while the log's memory is full: the shell reads from no client until it is true.
    pub fn wants_input(&self) -> bool {
        !self.hold.is_congested()
    }

    /// The shell stops reading from the clients, or goes on. Meanwhile nobody is late.
    pub fn handle_reading(&mut self, now: Now, reads: bool) {
        self.broker.handle_reading(now.instant, reads);
    }

    /// The disk has done a request.
    pub fn handle_disk(&mut self, now: Now, reply: DiskReply) {
        let read = reply.is_read();
        self.log.handle_disk(now.instant, reply);
        if read {
            self.wake_readers();
            self.wake_sessions();
        }
    }

    /// A function call has ended. Nothing happens when it is not under way any more.
    pub fn handle_call(&mut self, now: Now, call: CallId, result: CallResult) {
        self.take_call_result(now, call, result);
    }

    /// An uplink's driver reports.
    pub fn handle_uplink(&mut self, now: Now, uplink: usize, event: UplinkEvent) {
        if let Some(event) = self.admit_session(now, uplink, event) {
            self.begin(now, uplink, event);
        }
    }

    /// The time of [`Gateway::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Now) {
        if self.broker.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.broker.handle_timeout(now.instant);
            self.take_broker_events(now);
        }
        if now.instant >= self.next_trim {
            if !self.stopping {
                self.ages.note(now, &self.log);
                self.note_sessions(now);
                self.meet_clock(now);
                self.note_schedules(now);
                self.tell_of_disk(now);
                self.expire_all(now);
                self.log.trim(now.instant, now.wall_clock());
                self.tell_losses(now);
                self.tell_session_losses(now);
            }
            if now.instant >= self.next_figures && !self.stopping {
                self.publish_figures(now);
                self.next_figures = now.instant + FIGURES_EVERY;
            }
            self.next_trim = now.instant + TRIM_INTERVAL;
            self.retry_held(now);
        }
        if !self.stopping && self.versions.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.judge_trials(now);
            self.judge_canaries(now);
        }
        if !self.stopping {
            self.pass_firmware_time(now);
        }
        if self.open.poll_timeout().is_some_and(|at| at <= now.instant) {
            self.answer_late(now);
        }
        if self.retry_held_at.is_some_and(|at| at <= now.instant) {
            self.retry_held_at = None;
            self.retry_held(now);
        }
    }

    /// When [`Gateway::handle_timeout`] must be called at the latest.
    pub fn poll_timeout(&self) -> Instant {
        // On the way down neither is served any more, so their times would never be met.
        let served = !self.stopping;
        let functions = self.functions.iter().filter(|_| served && !self.has_enough_undelivered());
        let functions = functions.filter_map(FunctionRun::poll_timeout);
        let uplinks = self.uplinks.iter().filter(|_| served);
        let uplinks = uplinks.filter_map(UplinkRun::poll_timeout);
        let trials = self.versions.poll_timeout().filter(|_| served);
        let requests = self.open.poll_timeout();
        let firmware = self.firmware.poll_timeout().filter(|_| served);
        [self.broker.poll_timeout(), self.log.poll_timeout(), self.retry_held_at, trials, requests]
            .into_iter()
            .flatten()
            .chain(functions)
            .chain(firmware)
            .chain(uplinks)
            .fold(self.next_trim, Instant::min)
    }

    /// The next thing for the shell to do; call until it answers `None`.
    pub fn poll_output(&mut self, now: Now) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if let Some(request) = self.log.poll_disk(now.instant) {
                return Some(Output::Disk(request));
            }
            if !self.step(now) {
                return None;
            }
        }
    }

    /// Stops taking work: says goodbye to clients, writes a checkpoint, flushes. The shell goes
    /// on with `poll_output` and `handle_disk` until [`Gateway::is_idle`]. What a call that is
    /// still under way has done does not count: its records are handled again after the restart.
    pub fn shut_down(&mut self, now: Now) {
        self.broker.disconnect_all(now.instant);
        self.take_broker_events(now);
        self.note_sessions(now);
        self.stopping = true;
        self.log.shut_down(now.instant);
    }

    /// Everything taken in is on flash.
    pub fn is_settled(&self) -> bool {
        self.log.durable() >= self.log.end()
    }

    /// After [`Gateway::shut_down`]: the final checkpoint is on flash too.
    pub fn is_idle(&self) -> bool {
        self.log.is_idle()
    }

    /// The gateway's id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The log, for looking at it.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The log, for reading records.
    pub fn log_mut(&mut self) -> &mut Log {
        &mut self.log
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<StreamId> {
        self.routes.id(name)
    }

    /// Where the records of this stream have their partition key.
    pub fn partition_key(&self, stream: StreamId) -> Option<&PartitionKey> {
        self.routes.key(stream)
    }

    /// The names of all streams, in the order of the plan.
    pub fn stream_names(&self) -> impl Iterator<Item = &str> {
        self.routes.streams().iter().map(|stream| stream.name.as_str())
    }

    pub(crate) fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    /// One round of everything that can move by itself. False when nothing moved.
    fn step(&mut self, now: Now) -> bool {
        let mut moved = self.release_durable(now);
        if !self.stopping {
            moved |= self.sweep(now);
            moved |= self.count_spool(now);
            moved |= self.step_firmware(now);
            moved |= self.step_time(now);
            let mut next = 0;
            while let Some(index) = self.functions.from(next) {
                moved |= self.step_function(now, index);
                next = index + 1;
            }
            next = 0;
            while let Some(index) = self.uplinks.from(next) {
                moved |= self.step_uplink(now, index);
                next = index + 1;
            }
        }
        moved | self.take_broker_events(now)
    }

    /// Lets go what waited for the disk.
    fn release_durable(&mut self, now: Now) -> bool {
        let durable = self.log.durable();
        if durable <= self.released {
            return false;
        }
        self.released = durable;
        while self.waiting.front().is_some_and(|(position, _)| *position <= durable) {
            if let Some((_, release)) = self.waiting.pop_front() {
                self.let_go(now, release);
            }
        }
        self.release_seals();
        self.release_firmware(now);
        self.release_sessions(now);
        self.standstill.round_ended();
        self.wake_readers();
        self.wake_sessions();
        self.commit_sessions(now);
        if self.hold.is_busy() {
            self.retry_held(now);
        } else if !self.hold.is_empty() {
            self.retry_held_at.get_or_insert(now.instant + RETRY_HELD);
        }
        true
    }

    fn let_go(&mut self, now: Now, release: Release) {
        match release {
            Release::Acknowledge(ticket, arrived) => {
                self.ack_latency.add(now.instant.saturating_duration_since(arrived), 1);
                self.standstill.acknowledged(ticket);
                self.acknowledge(now, ticket);
            }
            Release::Deliver(message, shares) => {
                self.undelivered_bytes =
                    self.undelivered_bytes.saturating_sub(undelivered_bytes(&message));
                self.broker.publish_beside(now.instant, &message, &shares);
            }
            Release::Spooled(spooled) => {
                let Spooled { seq, message, targets, expires_at } = *spooled;
                self.broker.offer(now.instant, seq, &message, &targets, expires_at);
            }
            Release::Answer(id, answer) => self.answer(id, *answer),
            Release::Persisted(ticket) => self.broker.persisted(now.instant, ticket),
        }
    }

    pub(crate) fn acknowledge(&mut self, now: Now, ticket: Ticket) {
        self.counters.acknowledged += 1;
        self.broker.acknowledge(now.instant, ticket, tidegate_broker::Answer::Success);
    }

    pub(crate) fn wake_readers(&mut self) {
        for function in self.functions.iter_mut() {
            function.wake_to_read();
        }
        for uplink in self.uplinks.iter_mut() {
            uplink.wake();
        }
    }
}

/// What a message costs while it waits for the disk.
pub(crate) fn undelivered_bytes(message: &Message) -> usize {
    message.payload.len() + message.topic.as_str().len() + message.properties.bytes() + MESSAGE_COST
}

/// A cursor that nothing moves any more would keep records for ever.
pub(crate) fn drop_unplanned_readers<'a>(
    log: &mut Log,
    functions: impl Iterator<Item = &'a FunctionRun>,
    versions: &Versions,
    uplinks: &Roster<UplinkRun>,
    sessions: ReaderId,
) {
    let read = functions.flat_map(|run| run.intakes.iter().map(|intake| intake.reader));
    let sent = uplinks.iter().flat_map(|run| run.lanes.iter().map(|lane| lane.reader));
    let planned: BTreeSet<ReaderId> = read.chain(sent).chain([sessions]).collect();
    let is_unplanned = |(reader, _, name): &(ReaderId, StreamId, &str)| {
        !planned.contains(reader) && !versions.has_reader(log, name)
    };
    let unplanned: Vec<ReaderId> =
        log.readers().filter(is_unplanned).map(|(reader, _, _)| reader).collect();
    unplanned.into_iter().for_each(|reader| log.drop_reader(reader));
}

/// Whether a note of the table of functions is about something that there still is.
pub(crate) fn is_of_use<'a>(
    log: &Log,
    mut functions: impl Iterator<Item = &'a FunctionRun>,
    note: &NoteOf<'_>,
) -> bool {
    let Some(run) = functions.find(|run| run.plan.name == note.function) else {
        return false;
    };
    let Some(stream) = note.stream else { return true };
    let intake = run.intakes.iter().find(|intake| intake.stream == stream);
    let is_there = |seq: Seq| intake.is_some_and(|intake| seq >= log.cursor(intake.reader));
    intake.is_some() && note.counted.is_none_or(is_there)
}
