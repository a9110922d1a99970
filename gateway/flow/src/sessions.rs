//! Sessions of MQTT clients on the disk: one table with what must survive, and one stream, the
//! spool, with the messages that kept sessions have still to get (`docs/formats/sessions.md`).
//!
//! Invariants:
//! - changes reach the log in the order in which the broker made them;
//! - the broker is offered a spool record when it is durable, and not before;
//! - the spool's cursor moves in the transaction that says where the sessions are, never before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_broker::{Broker, Change, Message, PersistTicket, QoS, SpoolTarget, TopicName};
use tidegate_stream::{
    AppendError, CommitError, Committed, DefineError, Log, LogOptions, Overflow, ReadLimit,
    ReadOutcome, ReaderId, Record, RecordRef, Seq, StreamConfig, StreamId, TableId, Transaction,
};

use crate::answers::answer_table_room;
use crate::attributes::{self, Attributes};
use crate::clock::{ClockQuality, Now};
use crate::firmware::FIRMWARE_TABLE_BYTES;
use crate::gateway::{Gateway, Notice, Output, PlantedBug};
use crate::letters::LETTER_TABLE_BYTES;
use crate::plan::Plan;
use crate::release::{Release, Spooled};
use crate::retry::lane_table_room;

/// Name of the spool; no stream of a configuration can be called so.
pub(crate) const SPOOL: &str = "$mqtt";
/// Name of the table.
const TABLE: &str = "mqtt";
/// Name of the spool's reader.
const READER: &str = "sessions";
/// Room in the log's tables for sessions and subscriptions, beside the retained messages.
const SESSION_TABLE_BYTES: usize = 128 << 20;
/// What a change takes in a frame beside its key and value.
const CHANGE_COST: usize = 64;
/// What one look into the spool for sessions that are behind brings.
const SWEEP: ReadLimit = ReadLimit { records: 64, bytes: 256 << 10 };

/// The table, the spool, and what the log has not taken yet.
pub(crate) struct Sessions {
    pub(crate) table: TableId,
    pub(crate) spool: StreamId,
    pub(crate) reader: ReaderId,
    /// Not committed yet, for lack of room.
    waiting: VecDeque<Pending>,
    /// Most bytes of changes in one transaction, so that it fits a frame.
    max_bytes: usize,
    /// The spool is being read from the disk, or the ledger is still on its way there.
    fetching: bool,
    /// The same for counting what was there before the start.
    counting: bool,
    /// The operator knows that the log does not take the changes.
    told: bool,
}

enum Pending {
    Changes(Transaction, Option<PersistTicket>),
    Spool(Arc<Message>, Vec<u8>, Option<Change>),
}

/// The log's options with room for what the broker and the retry lanes keep in its tables.
pub(crate) fn with_table_room(plan: &Plan) -> LogOptions {
    let mut options = plan.log.clone();
    options.max_table_bytes += plan.broker.max_retained_bytes + SESSION_TABLE_BYTES;
    options.max_table_bytes += lane_table_room(plan.functions.len()) + LETTER_TABLE_BYTES;
    options.max_table_bytes += answer_table_room(plan.functions.len());
    options.max_table_bytes += FIRMWARE_TABLE_BYTES;
    options
}

impl Sessions {
    pub(crate) fn define(log: &mut Log, plan: &Plan) -> Result<Sessions, DefineError> {
        let config = StreamConfig {
            max_bytes: plan.broker.max_queued_bytes as u64,
            overflow: Overflow::DropOldest,
            retain: Duration::ZERO,
            ..StreamConfig::default()
        };
        let spool = log.stream(SPOOL, config)?;
        let reader = log.reader(spool, READER)?;
        let table = log.table(TABLE)?;
        let (max_bytes, waiting) = (plan.log.max_frame_bytes / 4, VecDeque::new());
        let (fetching, counting, told) = (false, false, false);
        Ok(Sessions { table, spool, reader, waiting, max_bytes, fetching, counting, told })
    }

    /// Gives the broker what an earlier life of the gateway left.
    pub(crate) fn restore(&self, log: &Log, broker: &mut Broker, now: Now) {
        broker.keep_sessions();
        broker.set_clock(now.instant, trusted(now));
        broker.note_unix_ms(now.unix_ms);
        let entries = log.table_entries(self.table);
        let entries = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        // Also what the log has to write once more before it is read: nobody offers that again.
        broker.restore(now.instant, entries, log.next_seq(self.spool).0);
    }

    /// Whether changes wait that have to reach the log before others.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Queues changes in as many transactions as they need, in order, and returns the last one.
    /// What a part of them says is true without the rest, if the broker made them in this order.
    fn split(&mut self, changes: Vec<Change>) -> Transaction {
        let (mut transaction, mut bytes) = (Transaction::new(), 0);
        let mut after_loss = false;
        for change in changes {
            let more = change.key.len() + change.value.as_ref().map_or(0, Vec::len) + CHANGE_COST;
            let together =
                std::mem::replace(&mut after_loss, change.is_of_ledger()) && !change.is_of_ledger();
            if bytes > 0 && bytes + more > self.max_bytes && !together {
                let full = std::mem::take(&mut transaction);
                self.waiting.push_back(Pending::Changes(full, None));
                bytes = 0;
            }
            bytes += more;
            self.stage(change, &mut transaction);
        }
        transaction
    }

    pub(crate) fn stage(&self, change: Change, into: &mut Transaction) {
        match change.value {
            Some(value) => into.put(self.table, change.key, value),
            None => into.delete(self.table, change.key),
        }
    }
}

fn trusted(now: Now) -> Option<i64> {
    (now.clock == ClockQuality::Synced).then_some(now.unix_ms)
}

/// When a message that was taken in at `since` is of no use any more. Time that passed by a clock
/// that cannot be trusted does not count.
fn expires_at(now: Now, expiry_s: Option<u32>, since: Option<i64>) -> Option<Instant> {
    let whole = Duration::from_secs(expiry_s?.into());
    let age = match (since, trusted(now)) {
        (Some(since), Some(today)) => {
            Duration::from_millis(today.saturating_sub(since).max(0) as u64)
        }
        _ => Duration::ZERO,
    };
    now.instant.checked_add(whole.saturating_sub(age))
}

/// A record of the spool.
fn record(now: Now, message: &Message, mut targets: Vec<u8>) -> Record {
    let mut bytes = Vec::new();
    attributes::encode_message(message, now.clock, &mut bytes);
    targets.extend_from_slice(&message.payload);
    Record {
        unix_ms: now.unix_ms,
        topic: message.topic.as_str().to_owned(),
        client: message.publisher.as_deref().unwrap_or_default().to_owned(),
        publisher: None,
        attributes: bytes,
        payload: targets,
    }
}

/// Back from a record; `None` for one that no gateway wrote.
fn message(record: &RecordRef<'_>, attributes: &Attributes, payload: &[u8]) -> Option<Message> {
    Some(Message {
        topic: TopicName::parse(record.topic).ok()?,
        payload: payload.to_vec().into(),
        qos: QoS::from_bits(attributes.qos)?,
        retain: attributes.retain,
        properties: attributes.properties().into(),
        publisher: Some(record.client.into()).filter(|client: &Arc<str>| !client.is_empty()),
    })
}

impl Gateway {
    /// Stages the records that the message found last needs in the spool.
    pub(crate) fn stage_spool(
        &self,
        now: Now,
        message: &Message,
        records: usize,
        into: &mut Transaction,
    ) {
        for number in 0..records {
            let mut targets = Vec::new();
            self.broker.spool_targets(number, &mut targets);
            into.append(self.sessions.spool, record(now, message, targets));
        }
    }

    /// What was staged is committed: it is offered to the broker once it is durable.
    pub(crate) fn offer_when_durable(
        &mut self,
        now: Now,
        committed: &Committed,
        mut staged: impl Iterator<Item = (Arc<Message>, Vec<SpoolTarget>)>,
    ) {
        for (stream, seq) in &committed.seqs {
            if *stream == self.sessions.spool {
                self.broker.spooled(seq.0);
            }
            if *stream == self.sessions.spool
                && let Some((message, targets)) = staged.next()
            {
                let expires_at = expires_at(now, message.properties.message_expiry, None);
                let spooled = Spooled { seq: seq.0, message, targets, expires_at };
                self.waiting.push_back((committed.position, Release::Spooled(Box::new(spooled))));
            }
        }
    }

    /// Changes that the broker waits for.
    pub(crate) fn persist(
        &mut self,
        now: Now,
        changes: Vec<Change>,
        ticket: PersistTicket,
        hurry: bool,
    ) {
        let early = self.leaves_early(&changes);
        let mut transaction = self.sessions.split(changes);
        if hurry {
            transaction.hurry();
        }
        let awaits = (!early).then_some(ticket);
        self.sessions.waiting.push_back(Pending::Changes(transaction, awaits));
        self.commit_sessions(now);
        if early {
            self.broker.persisted(now.instant, ticket);
        }
    }

    /// The mistakes of those who do not wait for the disk.
    fn leaves_early(&self, changes: &[Change]) -> bool {
        let kind = match self.planted {
            Some(PlantedBug::ConnackNotAwaited) => b's',
            Some(PlantedBug::SubackNotAwaited) => b'f',
            Some(PlantedBug::PubrelNotAwaited) => b'o',
            Some(PlantedBug::PubcompNotAwaited) => b'i',
            Some(_) | None => return false,
        };
        let has = |kind| changes.iter().any(|change| change.key.first() == Some(&kind));
        // A new session says where it is, too; that is CONNACK's.
        has(kind) && (kind == b's' || !has(b's'))
    }

    /// Stages a change with the message that it belongs to; behind it, if `bug` is planted.
    pub(crate) fn stage_with_message(
        &mut self,
        bug: PlantedBug,
        change: Change,
        into: &mut Transaction,
    ) {
        if self.planted != Some(bug) {
            return self.sessions.stage(change, into);
        }
        let mut later = Transaction::new();
        self.sessions.stage(change, &mut later);
        self.sessions.waiting.push_back(Pending::Changes(later, None));
    }

    /// A change that nobody waits for.
    pub(crate) fn write_change(&mut self, now: Now, change: Change) {
        let transaction = self.sessions.split(vec![change]);
        self.sessions.waiting.push_back(Pending::Changes(transaction, None));
        self.commit_sessions(now);
    }

    /// A message on its way to one session only.
    pub(crate) fn spool(
        &mut self,
        now: Now,
        message: Arc<Message>,
        targets: Vec<u8>,
        change: Option<Change>,
    ) {
        self.sessions.waiting.push_back(Pending::Spool(message, targets, change));
        self.commit_sessions(now);
    }

    /// Commits what waits, in order, as far as the log takes it.
    pub(crate) fn commit_sessions(&mut self, now: Now) {
        while !self.stopping
            && let Some(pending) = self.sessions.waiting.pop_front()
        {
            let put_back = match pending {
                Pending::Changes(transaction, ticket) => {
                    self.commit_changes(now, transaction, ticket)
                }
                Pending::Spool(message, targets, change) => {
                    self.commit_spool(now, message, targets, change)
                }
            };
            if let Some(pending) = put_back {
                self.sessions.waiting.push_front(pending);
                return;
            }
        }
    }

    fn commit_changes(
        &mut self,
        now: Now,
        transaction: Transaction,
        ticket: Option<PersistTicket>,
    ) -> Option<Pending> {
        let position = if transaction.is_empty() {
            self.log.end()
        } else {
            match self.log.commit(now.instant, transaction.clone()) {
                Ok(committed) => {
                    self.sessions.told = false;
                    committed.position
                }
                Err(error) => {
                    self.sessions_wait(&error);
                    return Some(Pending::Changes(transaction, ticket));
                }
            }
        };
        let ticket = ticket?;
        if position <= self.log.durable() {
            self.broker.persisted(now.instant, ticket);
        } else {
            self.waiting.push_back((position, Release::Persisted(ticket)));
        }
        None
    }

    /// Clients wait for changes that the log does not take. It is tried again; what does not pass
    /// by itself, as the memory of a busy log does, the operator is told once.
    pub(crate) fn sessions_wait(&mut self, error: &CommitError) {
        let passes = matches!(error, CommitError::Append(AppendError::Busy { .. }));
        if !passes && !std::mem::replace(&mut self.sessions.told, true) {
            self.emit(Output::Notice(Notice::SessionsWait { why: error.to_string() }));
        }
    }

    fn commit_spool(
        &mut self,
        now: Now,
        message: Arc<Message>,
        targets: Vec<u8>,
        change: Option<Change>,
    ) -> Option<Pending> {
        let (decoded, _) = SpoolTarget::decode_all(&targets)?;
        let target = decoded.first()?.clone();
        let mut transaction = Transaction::new();
        if let Some(change) = &change {
            self.sessions.stage(change.clone(), &mut transaction);
        }
        transaction.append(self.sessions.spool, record(now, &message, targets.clone()));
        match self.log.commit(now.instant, transaction) {
            Ok(committed) => {
                self.offer_when_durable(now, &committed, std::iter::once((message, decoded)));
                None
            }
            Err(CommitError::Append(AppendError::Busy { .. } | AppendError::DiskFull)) => {
                Some(Pending::Spool(message, targets, change))
            }
            Err(_) => {
                self.broker.replay_dropped(now.instant, &target);
                None
            }
        }
    }

    /// Writes down how far the sessions are, at most once a second, and lets the spool go that
    /// nobody needs any more.
    pub(crate) fn note_sessions(&mut self, now: Now) {
        self.commit_sessions(now);
        if self.sessions.is_waiting() {
            return;
        }
        self.broker.set_clock(now.instant, trusted(now));
        self.broker.note_unix_ms(now.unix_ms);
        let (spool, reader) = (self.sessions.spool, self.sessions.reader);
        self.broker.spool_lost(self.log.first_seq(spool).0);
        let Some((changes, mut oldest)) = self.broker.take_progress(now.instant) else { return };
        if self.planted == Some(PlantedBug::SpoolPassedEarly) {
            oldest = self.log.durable_seq(spool).0;
        }
        if changes.is_empty() && self.log.cursor(reader) >= Seq(oldest) {
            return;
        }
        let mut transaction = self.sessions.split(changes);
        transaction.advance(reader, Seq(oldest));
        self.sessions.waiting.push_back(Pending::Changes(transaction, None));
        self.commit_sessions(now);
    }

    /// The disk has read something, or it is durable now that something is gone: a read begins
    /// again.
    pub(crate) fn wake_sessions(&mut self) {
        self.sessions.fetching = false;
        self.sessions.counting = false;
    }

    /// Reads the spool for sessions that are behind and have room. True when that moved anything.
    pub(crate) fn sweep(&mut self, now: Now) -> bool {
        if self.sessions.fetching {
            return false;
        }
        let Some(from) = self.broker.spool_wanted() else { return false };
        let broker = &self.broker;
        let mut found = Vec::new();
        let mut visit = |seq: Seq, _, record: RecordRef<'_>| {
            let Some((targets, payload)) = SpoolTarget::decode_all(record.payload) else { return };
            if !broker.is_wanted(from, seq.0, &targets) {
                return;
            }
            let Ok(attributes) = Attributes::decode(record.attributes) else { return };
            let since = (attributes.clock == ClockQuality::Synced).then_some(record.unix_ms);
            let expires_at = expires_at(now, attributes.expiry_s, since);
            if let Some(message) = message(&record, &attributes, payload) {
                found.push((seq.0, Arc::new(message), targets, expires_at));
            }
        };
        let outcome = self.log.read(now.instant, self.sessions.spool, Seq(from), SWEEP, &mut visit);
        let next = match outcome {
            ReadOutcome::Read { next } => next.0,
            ReadOutcome::Lost { next } => {
                self.broker.spool_gone(from, next.0);
                next.0
            }
            ReadOutcome::Fetching => {
                self.sessions.fetching = true;
                return false;
            }
            ReadOutcome::End => return false,
        };
        for (seq, message, targets, expires_at) in found {
            self.broker.offer_again(now.instant, (from, seq), &message, &targets, expires_at);
        }
        self.broker.read_through(from, next);
        true
    }

    /// Counts what waits in the spool since before the start, for the quotas of sessions. True
    /// when that moved anything.
    pub(crate) fn count_spool(&mut self, now: Now) -> bool {
        if self.sessions.counting {
            return false;
        }
        let Some(from) = self.broker.uncounted_from() else { return false };
        let broker = &self.broker;
        let mut found = Vec::new();
        let mut visit = |seq: Seq, _, record: RecordRef<'_>| {
            let Some((targets, payload)) = SpoolTarget::decode_all(record.payload) else { return };
            let Ok(attributes) = Attributes::decode(record.attributes) else { return };
            if broker.counts(seq.0, &targets)
                && let Some(message) = message(&record, &attributes, payload)
            {
                found.push((seq.0, message, targets));
            }
        };
        let outcome = self.log.read(now.instant, self.sessions.spool, Seq(from), SWEEP, &mut visit);
        let next = match outcome {
            ReadOutcome::Read { next } => next.0,
            ReadOutcome::Lost { next } => {
                self.broker.spool_gone(from, next.0);
                next.0
            }
            ReadOutcome::Fetching => {
                self.sessions.counting = true;
                return false;
            }
            // The rest is to be written once more before it is read.
            ReadOutcome::End => return false,
        };
        for (seq, message, targets) in found {
            self.broker.count(now.instant, seq, &message, &targets);
        }
        self.broker.counted_through(next);
        true
    }
}
