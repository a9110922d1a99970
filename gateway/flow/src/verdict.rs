//! From a call's verdict to one transaction of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_abi::OutputReader;
use tidegate_broker::{Message, QoS, SpoolTarget, TopicFilter};
use tidegate_stream::{AppendError, CommitError, Loss, LossReason, Record, StreamId, Transaction};

use crate::attributes::{Attributes, DeadLetter};
use crate::call::CallVerdict;
use crate::clock::Now;
use crate::effects::Effects;
use crate::expiry::ExpiryChange;
use crate::function::{FunctionRun, NO_ROOM_PAUSE};
use crate::gateway::{Gateway, Notice, Output, PlantedBug, undelivered_bytes};
use crate::plan::{DEAD_LETTER_STREAM, Ordering};
use crate::queue::InputRecord;
use crate::release::Release;

/// What goes to subscribers when the transaction is durable.
#[derive(Default)]
struct Staged {
    /// Each message, with the shared subscriptions that get it from the spool.
    deliveries: Vec<(Arc<Message>, Vec<TopicFilter>)>,
    /// For each record of the spool.
    spooled: Vec<(Arc<Message>, Vec<SpoolTarget>)>,
}

/// The state of a function after a commit.
struct StagedState {
    /// As its quota counts them.
    bytes: usize,
    expiries: Vec<ExpiryChange>,
}

impl Gateway {
    /// Decides what a call's end means for the batch.
    pub(crate) fn judge(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        verdict: CallVerdict,
    ) {
        match verdict {
            CallVerdict::Done(frame) => match self.effects(now, index, &batch, &frame) {
                Ok(effects) => self.apply(now, index, batch, effects),
                Err(failure) => self.failed(now, index, batch, failure),
            },
            CallVerdict::Failed(failure) | CallVerdict::Late(failure) => {
                self.failed(now, index, batch, failure);
            }
            CallVerdict::RetryBatch => {
                let why = "the function asked to have the batch again".to_owned();
                self.try_again(now, index, batch, why);
            }
            CallVerdict::DeadLetterBatch => {
                let why = "the function gave the batch up".to_owned();
                let dead = (0..batch.len()).map(|record| (record, why.clone())).collect();
                let effects = Effects { dead, ..Effects::default() };
                self.apply(now, index, batch, effects);
            }
        }
    }

    pub(crate) fn failed(
        &mut self,
        now: Now,
        index: usize,
        mut batch: Vec<InputRecord>,
        failure: String,
    ) {
        let run = &mut self.functions[index];
        run.tally.failures += 1;
        run.tally.last_failure = Some(failure.clone());
        let first = batch.first().filter(|one| batch.len() == 1 && one.tries.failed == 0);
        run.tally.erred += u64::from(first.is_some());
        if self.failed_on_trial(now, index, &failure) {
            return;
        }
        let run = &self.functions[index];
        let function = run.plan.name.clone();
        let notice =
            Notice::CallFailed { function, records: batch.len(), failure: failure.clone() };
        self.emit(Output::Notice(notice));
        if batch.len() > 1 {
            divide(&mut batch);
            self.again(index, batch);
        } else {
            self.try_again(now, index, batch, failure);
        }
    }

    /// The records go back to the queue: their call is made again, sooner or later.
    pub(crate) fn again(&mut self, index: usize, batch: Vec<InputRecord>) {
        let run = &mut self.functions[index];
        run.tally.retries += 1;
        run.give_back(batch);
    }

    /// Another try of the same batch after a pause; with no tries left, a smaller one or the
    /// dead letters.
    fn try_again(&mut self, now: Now, index: usize, mut batch: Vec<InputRecord>, why: String) {
        let run = &mut self.functions[index];
        let last = batch.iter().any(|one| run.is_last_try(one, now.instant));
        if last && batch.len() > 1 {
            divide(&mut batch);
            return self.again(index, batch);
        }
        let together = batch.len();
        run.delay(now.instant, &mut batch);
        if last {
            let dead = BTreeMap::from([(0, why)]);
            let effects = Effects { dead, ..Effects::default() };
            return self.commit(now, index, batch, effects);
        }
        for one in &mut batch {
            one.tries.company = one.tries.company.min(together);
        }
        self.again(index, batch);
    }

    /// Commits the effects, unless a record that the function wants to have again stands in
    /// front of another of its lane that the function has done.
    fn apply(&mut self, now: Now, index: usize, mut batch: Vec<InputRecord>, mut effects: Effects) {
        effects.retry.retain(|at, _| !effects.dead.contains_key(at));
        if effects.retry.is_empty() {
            self.count_erred(index, &batch, &effects);
            return self.commit(now, index, batch, effects);
        }
        let run = &mut self.functions[index];
        if overtakes(run.plan.ordering, &batch, &effects.retry) {
            for at in effects.retry.keys() {
                batch[*at].tries.company = 1;
            }
            return self.again(index, batch);
        }
        self.count_erred(index, &batch, &effects);
        let run = &mut self.functions[index];
        if effects.retry.len() == batch.len() {
            // Nothing is acknowledged, so nothing else counts.
            effects = Effects { retry: effects.retry, ..Effects::default() };
        }
        for (at, why) in std::mem::take(&mut effects.retry) {
            if run.is_last_try(&batch[at], now.instant) {
                effects.dead.insert(at, why);
            } else {
                effects.retry.insert(at, why);
            }
        }
        if effects.retry.len() < batch.len() {
            return self.commit(now, index, batch, effects);
        }
        batch.iter_mut().for_each(|one| retry_alone(run, now, one));
        self.again(index, batch);
    }

    /// Counts the records that are given up, or wanted again, at their first try.
    fn count_erred(&mut self, index: usize, batch: &[InputRecord], effects: &Effects) {
        let erred = effects.dead.keys().chain(effects.retry.keys());
        let first = erred.filter(|at| batch.get(**at).is_some_and(|one| one.tries.failed == 0));
        self.functions[index].tally.erred += first.count() as u64;
    }

    pub(crate) fn commit(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        mut effects: Effects,
    ) {
        let mut result = self.try_commit(now, index, &batch, &effects);
        if let Err(CommitError::Append(AppendError::TooLarge { .. })) = result
            && effects.drop_traces()
        {
            result = self.try_commit(now, index, &batch, &effects);
        }
        match result {
            Ok(()) => self.committed(now, index, batch, effects),
            Err(error) if effects.done.is_some() => {
                self.request_not_committed(now, index, effects, &error);
            }
            Err(error) if effects.fired.is_some() => {
                self.timer_not_committed(now, index, effects, &error);
            }
            Err(error) => self.not_committed(now, index, batch, &effects, error),
        }
    }

    /// The one commit of a call: what it did, and what is done by it.
    fn try_commit(
        &mut self,
        now: Now,
        index: usize,
        batch: &[InputRecord],
        effects: &Effects,
    ) -> Result<(), CommitError> {
        let mut transaction = Transaction::new();
        let staged = self.stage_emits(now, index, effects, &mut transaction);
        let state = self.stage_state(now, index, effects, &mut transaction);
        self.stage_told_of_call(now, index, effects, &mut transaction);
        let run = &self.functions[index];
        let fired = effects.fired.as_ref();
        let timers = run.timers.stage(now, fired, &effects.timers, &mut transaction);
        self.stage_run(now, index, effects, &mut transaction);
        self.stage_dead_letters(index, batch, effects, &mut transaction);
        let request = effects.done.as_deref();
        let answers = request.map(|done| self.stage_request(index, done, &mut transaction));
        if !staged.deliveries.is_empty() {
            transaction.hurry();
        }
        let run = &self.functions[index];
        let done = batch.iter().enumerate().filter(|(at, _)| !effects.retry.contains_key(at));
        let done = done.map(|(_, one)| one);
        let changes = if self.planted == Some(PlantedBug::CursorApart) {
            let mut apart = Transaction::new();
            let changes = self.stage_done(run, done, &mut apart);
            self.commit_apart(now, apart);
            changes
        } else {
            self.stage_done(run, done, &mut transaction)
        };
        let committed = self.log.commit(now.instant, transaction)?;
        for (message, shares) in staged.deliveries {
            self.undelivered_bytes += undelivered_bytes(&message);
            let release = Release::Deliver(message, shares);
            self.waiting.push_back((committed.position, release));
        }
        self.offer_when_durable(now, &committed, staged.spooled.into_iter());
        let run = &mut self.functions[index];
        run.state_bytes = state.bytes;
        run.expiries.install(state.expiries);
        run.timers.install(fired, timers);
        if let Some(fired) = fired {
            run.schedules.install(fired);
        }
        run.answers.install(answers.unwrap_or_default());
        run.install(changes);
        if let Some(done) = request {
            self.request_committed(index, done, committed.position);
        }
        Ok(())
    }

    pub(crate) fn committed(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        mut effects: Effects,
    ) {
        let logs = std::mem::take(&mut effects.logs);
        let slot = effects.canary.unwrap_or(index);
        let run = &mut self.functions[slot];
        run.tally.emitted += effects.emits.len() as u64;
        run.tally.dead_letters += effects.dead.len() as u64;
        run.tally.dropped += effects.dropped as u64;
        run.tally.traces_dropped += effects.traces_dropped;
        run.tally.timers_given += u64::from(effects.fired.is_some());
        effects.metrics.into_iter().for_each(|reported| run.tally.metrics.take(reported));
        let function = run.plan.name.clone();
        let mut notices = Vec::new();
        for (record, reason) in effects.dead {
            let one = &batch[record];
            notices.push(Notice::DeadLettered {
                function: function.clone(),
                stream: self.routes.name(run.intakes[one.source].stream).to_owned(),
                seq: one.seq.0,
                reason,
            });
        }
        self.records_done(now, (index, slot), batch, &effects.retry);
        for notice in notices {
            self.emit(Output::Notice(notice));
        }
        for (level, text) in logs {
            let function = function.clone();
            self.emit(Output::Notice(Notice::FunctionLog { function, level, text }));
        }
    }

    /// The records of a batch are done, but for those that are to be tried again.
    fn records_done(
        &mut self,
        now: Now,
        (index, slot): (usize, usize),
        batch: Vec<InputRecord>,
        retry: &BTreeMap<usize, String>,
    ) {
        let mut back = Vec::new();
        for (at, mut one) in batch.into_iter().enumerate() {
            let run = &mut self.functions[index];
            if retry.contains_key(&at) {
                // What a canary gives up is new to the version that runs.
                if slot == index {
                    retry_alone(run, now, &mut one);
                }
                back.push(one);
                continue;
            }
            if one.is_kept() {
                run.lane.remove(&one);
            }
            let tally = &mut self.functions[slot].tally;
            tally.records += 1;
            tally.latency.add_age(one.record.unix_ms, now.unix_ms, 1);
        }
        if !back.is_empty() {
            self.again(index, back);
        }
    }

    /// The log had no room: the batch goes again later, unless it can never fit.
    fn not_committed(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        effects: &Effects,
        error: CommitError,
    ) {
        match error {
            CommitError::Append(
                AppendError::StreamFull { .. } | AppendError::Busy { .. } | AppendError::DiskFull,
            ) => self.commit_later(now, index, batch, &error),
            CommitError::Append(AppendError::TooLarge { .. } | AppendError::UnknownStream(_))
            | CommitError::TablesFull { .. }
            | CommitError::UnknownReader(_)
            | CommitError::UnknownTable(_) => {
                let letter = effects.emits.is_empty()
                    && effects.state.is_empty()
                    && effects.timers.is_empty();
                if let Some(slot) = effects.canary {
                    self.canary_call_failed(index, slot, batch, error.to_string());
                } else if batch.len() == 1 && effects.dead.len() == 1 && letter {
                    self.give_up(now, index, batch, &error);
                } else {
                    self.failed(now, index, batch, error.to_string());
                }
            }
        }
    }

    fn commit_later(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        error: &CommitError,
    ) {
        let run = &mut self.functions[index];
        run.tally.last_failure = Some(error.to_string());
        run.not_before = Some(now.instant + NO_ROOM_PAUSE);
        self.again(index, batch);
    }

    /// Not even its copy in the dead-letter stream can be committed: the record is a loss.
    fn give_up(&mut self, now: Now, index: usize, batch: Vec<InputRecord>, error: &CommitError) {
        let run = &self.functions[index];
        let mut transaction = Transaction::new();
        let changes = self.stage_done(run, batch.iter(), &mut transaction);
        for input in &batch {
            transaction.loss(Loss {
                stream: run.intakes[input.source].stream,
                first: input.seq,
                last: input.seq,
                records: 1,
                bytes: input.record.payload.len() as u64,
                reason: LossReason::DeadLetter,
                unix_ms: now.unix_ms,
            });
        }
        let reason = format!("{error}, also as a dead letter: it is in the loss ledger only");
        match self.log.commit(now.instant, transaction) {
            Ok(_) => {
                self.functions[index].install(changes);
                let dead = (0..batch.len()).map(|at| (at, reason.clone())).collect();
                let effects = Effects { dead, ..Effects::default() };
                self.committed(now, index, batch, effects);
            }
            Err(error) => self.commit_later(now, index, batch, &error),
        }
    }

    fn stage_emits(
        &mut self,
        now: Now,
        index: usize,
        effects: &Effects,
        transaction: &mut Transaction,
    ) -> Staged {
        let client: Arc<str> = format!("fn/{}", self.functions[index].plan.name).into();
        let mut streams: Vec<StreamId> = Vec::new();
        let mut staged = Staged::default();
        for emit in &effects.emits {
            self.routes.streams_of(&emit.topic, &mut streams);
            let mut attributes = emit.attributes.clone();
            attributes.clock = now.clock;
            for stream in &streams {
                transaction.append(
                    *stream,
                    record(now.unix_ms, &client, emit.topic.as_str(), &attributes, &emit.payload),
                );
            }
            let message = Arc::new(Message {
                topic: emit.topic.clone(),
                payload: emit.payload.clone(),
                qos: QoS::from_bits(attributes.qos).unwrap_or(QoS::AtLeastOnce),
                retain: attributes.retain,
                properties: attributes.properties().into(),
                publisher: None,
            });
            let records = self.broker.find(&message);
            self.stage_spool(now, &message, records, transaction);
            if let Some(change) = self.broker.retained_change(now.instant, &message) {
                self.sessions.stage(change, transaction);
            }
            let targets = self.broker.found_targets(records).into_iter();
            staged.spooled.extend(targets.map(|targets| (message.clone(), targets)));
            staged.deliveries.push((message, self.broker.found_shares()));
        }
        staged
    }

    /// Stages the state changes and answers what will then be held.
    fn stage_state(
        &self,
        now: Now,
        index: usize,
        effects: &Effects,
        into: &mut Transaction,
    ) -> StagedState {
        let run = &self.functions[index];
        let held = self.log.table_entries(run.table);
        let mut staged = StagedState { bytes: run.state_bytes, expiries: Vec::new() };
        for (key, change) in &effects.state {
            if let Some(old) = held.get(key) {
                staged.bytes = staged.bytes.saturating_sub(key.len() + old.len());
            }
            let ttl_ms = change.as_ref().map_or(0, |written| written.ttl_ms);
            if let Some(change) = run.expiries.stage(&self.log, now, key, ttl_ms, into) {
                let (old, new) = change.bytes();
                staged.bytes = staged.bytes.saturating_sub(old) + new;
                staged.expiries.push(change);
            }
            match change {
                Some(written) => {
                    staged.bytes += key.len() + written.value.len();
                    into.put(run.table, key.clone(), written.value.clone());
                }
                None => into.delete(run.table, key.clone()),
            }
        }
        staged
    }

    fn stage_dead_letters(
        &self,
        index: usize,
        batch: &[InputRecord],
        effects: &Effects,
        into: &mut Transaction,
    ) {
        let Some(stream) = self.routes.id(DEAD_LETTER_STREAM) else { return };
        let run = &self.functions[index];
        for (at, reason) in &effects.dead {
            let input = &batch[*at];
            let bytes = input.attributes.encode_dead(DeadLetter {
                function: run.plan.name.clone(),
                stream: self.routes.name(run.intakes[input.source].stream).to_owned(),
                seq: input.seq.0,
                attempts: input.tries.failed.max(1),
                reason: shortened(reason),
            });
            into.append(
                stream,
                Record { attributes: bytes, publisher: None, ..input.record.clone() },
            );
        }
    }

    /// What those are told who watch what the call changes.
    fn stage_told_of_call(
        &mut self,
        now: Now,
        index: usize,
        effects: &Effects,
        into: &mut Transaction,
    ) {
        let (name, changes) = (&self.functions[index].plan.name, self.changes(index, effects));
        if self.planted == Some(PlantedBug::ToldApart) {
            let mut apart = Transaction::new();
            self.stage_told(now, name, effects.hops, changes, &mut apart);
            if !apart.is_empty() {
                self.commit_apart(now, apart);
            }
            return;
        }
        self.stage_told(now, name, effects.hops, changes, into);
    }

    /// That a run of a schedule is done.
    fn stage_run(&mut self, now: Now, index: usize, effects: &Effects, into: &mut Transaction) {
        let Some(fired) = &effects.fired else { return };
        let mut apart = Transaction::new();
        let planted = self.planted == Some(PlantedBug::RunApart);
        let into = if planted { &mut apart } else { into };
        self.functions[index].schedules.stage(now, fired, into);
        if !apart.is_empty() {
            self.commit_apart(now, apart);
        }
    }

    /// The mistake that [`PlantedBug::CursorApart`] and its like stand for.
    fn commit_apart(&mut self, now: Now, alone: Transaction) {
        if self.log.commit(now.instant, alone).is_ok() {
            self.log.flush(now.instant);
            while let Some(request) = self.log.poll_disk(now.instant) {
                self.emit(Output::Disk(request));
            }
        }
    }

    /// Reads an output frame and checks everything in it before any of it counts.
    pub(crate) fn effects(
        &self,
        now: Now,
        index: usize,
        batch: &[InputRecord],
        frame: &[u8],
    ) -> Result<Effects, String> {
        let none = Effects::new(self.max_user_properties);
        self.read_effects(now, index, batch, frame, none)
    }

    /// The same, for effects that may have more than others.
    pub(crate) fn read_effects(
        &self,
        now: Now,
        index: usize,
        batch: &[InputRecord],
        frame: &[u8],
        mut effects: Effects,
    ) -> Result<Effects, String> {
        let run = &self.functions[index];
        if frame.is_empty() {
            return Ok(effects);
        }
        let hops = batch.iter().map(|input| input.attributes.hops).max().unwrap_or(0);
        let hops = hops.saturating_add(1);
        let reader = OutputReader::parse(frame).map_err(|error| format!("bad output: {error}"))?;
        for operation in reader.iter() {
            effects.take(&run.plan, batch, hops, &operation)?;
        }
        effects.hops = hops;
        self.break_circle(index, batch.len(), &mut effects);
        self.check_told(now, index, &effects)?;
        let bytes = self.stage_state(now, index, &effects, &mut Transaction::new()).bytes;
        if bytes > run.plan.state_bytes {
            return Err(format!(
                "its state would take {bytes} bytes, more than its quota of {}",
                run.plan.state_bytes
            ));
        }
        let (timers, before) = (run.timers.len_after(&effects.timers), run.timers.len());
        if timers > run.plan.timers && timers > before {
            let most = run.plan.timers;
            return Err(format!("it would have {timers} timers, more than `timers` = {most}"));
        }
        Ok(effects)
    }
}

/// Half as many of these may stand together in a call as did.
pub(crate) fn divide(batch: &mut [InputRecord]) {
    let company = (batch.len() / 2).max(1);
    for one in batch {
        one.tries.company = company;
    }
}

/// A record that the function wants to have again waits, and comes alone.
fn retry_alone(run: &FunctionRun, now: Now, one: &mut InputRecord) {
    run.delay(now.instant, std::slice::from_mut(one));
    one.tries.company = 1;
}

/// Whether one of those to be tried again stands in front of another of its lane that is not.
pub(crate) fn overtakes(
    ordering: Ordering,
    batch: &[InputRecord],
    retry: &BTreeMap<usize, String>,
) -> bool {
    let done = |at: &usize| !retry.contains_key(at);
    let behind = |at: &usize| at + 1..batch.len();
    match ordering {
        Ordering::Strict => retry.keys().any(|at| behind(at).any(|later| done(&later))),
        Ordering::PerKey => {
            let same = |at: &usize, later: &usize| batch[*later].key == batch[*at].key;
            retry.keys().any(|at| behind(at).any(|later| done(&later) && same(at, &later)))
        }
        Ordering::None => false,
    }
}

/// Longest reason in a dead letter, in bytes: a function may write any text.
const MAX_REASON_BYTES: usize = 1024;

pub(crate) fn shortened(reason: &str) -> String {
    let cut = reason.floor_char_boundary(MAX_REASON_BYTES);
    if cut == reason.len() { reason.to_owned() } else { format!("{}…", &reason[..cut]) }
}

fn record(
    unix_ms: i64,
    client: &str,
    topic: &str,
    attributes: &Attributes,
    payload: &Bytes,
) -> Record {
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    Record {
        unix_ms,
        topic: topic.to_owned(),
        client: client.to_owned(),
        publisher: None,
        attributes: bytes,
        payload: payload.to_vec(),
    }
}
