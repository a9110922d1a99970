//! One stream that a function reads: which of its records, from where on, and what of it is done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tidegate_broker::{TopicFilter, TopicName};
use tidegate_stream::{Log, ReadLimit, ReadOutcome, ReaderId, RecordRef, Seq, StreamId};

use crate::attributes::Attributes;
use crate::gateway::BuildError;
use crate::key::PartitionKey;
use crate::notes::Notes;
use crate::plan::{EVENT_STREAM, EventKind, FunctionPlan, InputPlan, Ordering};
use crate::progress::{MAX_AHEAD, Progress};
use crate::queue::{InputRecord, Key, Queue, Tries};
use crate::route::Routes;
use crate::tidings::addressee;

/// An input and how far it is.
pub(crate) struct Intake {
    pub(crate) stream: StreamId,
    pub(crate) reader: ReaderId,
    topics: Vec<TopicFilter>,
    /// Where records have their key, where the ordering asks for it.
    key: Option<PartitionKey>,
    /// The same whatever the ordering is.
    pub(crate) share_key: Option<PartitionKey>,
    pub(crate) progress: Progress,
    /// The table of notes has something beyond the cursor.
    pub(crate) noted: bool,
    /// Records that were received before this are passed.
    pub(crate) since_ms: Option<i64>,
    /// The table of notes has such a time.
    pub(crate) since_noted: bool,
    /// What earlier lives of the gateway tried of records that are still to be read.
    pub(crate) tried: BTreeMap<Seq, Tries>,
    /// The next sequence to read.
    pub(crate) head: Seq,
    /// There may be something to read.
    pub(crate) awake: bool,
    /// Of the stream of events: the publisher that stands for this function. What is for another
    /// is passed.
    addressee: Option<String>,
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The queue, or the cursor, is further than before.
    Moved,
    /// Nothing is there now.
    Nothing,
}

impl Intake {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        notes: Notes,
        plan: &FunctionPlan,
        input: &InputPlan,
    ) -> Result<Intake, BuildError> {
        let stream = routes.required(&input.stream, &format!("function \"{}\"", plan.name))?;
        let reader = log.reader(stream, &format!("fn/{}", plan.name))?;
        let cursor = log.cursor(reader);
        let noted = notes.progress(log, &plan.name, stream);
        let mut progress = noted.clone().unwrap_or_else(|| Progress::new(cursor));
        progress.raise(cursor);
        let share_key = routes.key(stream).cloned();
        let key = match plan.ordering {
            Ordering::PerKey => share_key.clone(),
            Ordering::Strict | Ordering::None => None,
        };
        let since_ms = notes.since(log, &plan.name, stream);
        Ok(Intake {
            since_ms,
            since_noted: since_ms.is_some(),
            tried: BTreeMap::new(),
            stream,
            reader,
            topics: input.topics.clone(),
            key,
            share_key,
            head: progress.next(),
            progress,
            noted: noted.is_some(),
            awake: true,
            addressee: None,
        })
    }

    /// Where a function reads the events that it wants, if it wants any: from the next one on.
    pub(crate) fn define_events(
        log: &mut Log,
        now: Instant,
        routes: &Routes,
        notes: Notes,
        plan: &FunctionPlan,
    ) -> Result<Option<Intake>, BuildError> {
        if !plan.is_told() {
            return Ok(None);
        }
        let stream = routes.required(EVENT_STREAM, &format!("function \"{}\"", plan.name))?;
        let name = format!("fn/{}", plan.name);
        let is_new = !log.readers().any(|(_, of, known)| of == stream && known == name);
        let state = (!plan.watches.is_empty()).then_some(EventKind::State);
        let kinds = plan.events.iter().copied().chain(state);
        let topics = kinds.filter_map(|kind| TopicFilter::parse(kind.name()).ok());
        let input = InputPlan { stream: EVENT_STREAM.to_owned(), topics: topics.collect() };
        if is_new {
            let reader = log.reader(stream, &name)?;
            log.advance(now, reader, log.next_seq(stream));
        }
        let intake = Intake::define(log, routes, notes, plan, &input)?;
        Ok(Some(Intake { addressee: Some(addressee(&plan.name)), ..intake }))
    }

    /// Reads what comes next into the queue, behind what is there.
    pub(crate) fn fill(
        &mut self,
        log: &mut Log,
        now: Instant,
        source: usize,
        limit: ReadLimit,
        queue: &mut Queue,
    ) -> Filled {
        self.follow_log(log, queue, source);
        let (from, gap) = self.progress.gap(self.head);
        self.head = from;
        let ahead = (self.progress.next().0 + MAX_AHEAD).saturating_sub(from.0);
        let records = limit.records.min(usize::try_from(ahead.min(gap)).unwrap_or(usize::MAX));
        if records == 0 {
            return Filled::Nothing;
        }
        let limit = ReadLimit { records, ..limit };
        let stream = self.stream;
        let outcome = {
            let mut visit = |seq, _, record: RecordRef<'_>| self.take(source, seq, &record, queue);
            log.read(now, stream, from, limit, &mut visit)
        };
        match outcome {
            ReadOutcome::Read { next } => self.head = next,
            ReadOutcome::Lost { next } => {
                self.progress.finish(from, next);
                self.head = next;
            }
            ReadOutcome::Fetching | ReadOutcome::End => {
                self.awake = false;
                return Filled::Nothing;
            }
        }
        log.advance(now, self.reader, self.progress.next());
        Filled::Moved
    }

    /// The log has moved the cursor over records that went unread: who waits for them here
    /// would wait for what the ledger calls lost.
    pub(crate) fn follow_log(&mut self, log: &Log, queue: &mut Queue, source: usize) {
        let cursor = log.cursor(self.reader);
        if cursor <= self.progress.next() {
            return;
        }
        self.progress.raise(cursor);
        queue.retain(|one| one.source != source || one.is_kept() || one.seq >= cursor);
    }

    fn take(&mut self, source: usize, seq: Seq, record: &RecordRef<'_>, queue: &mut Queue) {
        if self.passes(record) {
            return self.progress.finish(seq, seq.plus(1));
        }
        self.since_ms = None;
        // Attributes are ours; what cannot be read is damage that the checksums missed, and the
        // record is still worth more with defaults than lost.
        let attributes = Attributes::decode(record.attributes).unwrap_or_default();
        let mut input = InputRecord::new(source, seq, record.to_record(), attributes);
        input.key = self.key_of(&input);
        if !self.tried.is_empty() {
            input.tries = self.tried.remove(&seq).unwrap_or(Tries::NONE);
        }
        queue.push(input);
    }

    pub(crate) fn key_of(&self, input: &InputRecord) -> Key {
        let (record, user) = (&input.record, &input.attributes.user);
        self.key.as_ref()?.of(&record.topic, &record.client, user).map(Arc::from)
    }

    /// Whether a record is done without a call.
    fn passes(&self, record: &RecordRef<'_>) -> bool {
        if self.since_ms.is_some_and(|since| record.unix_ms < since) {
            return true;
        }
        let is_for_another =
            |own: &String| record.client.starts_with("fn/") && record.client != own;
        if self.addressee.as_ref().is_some_and(is_for_another) {
            return true;
        }
        if self.topics.is_empty() {
            return false;
        }
        let matches = |topic: TopicName| self.topics.iter().any(|filter| filter.matches(&topic));
        !TopicName::parse(record.topic).is_ok_and(matches)
    }
}
