//! From a call's verdict to one transaction of the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_abi::OutputReader;
use tidegate_broker::{Message, QoS, SpoolTarget, TopicFilter};
use tidegate_stream::{
    AppendError, CommitError, Loss, LossReason, Record, Seq, StreamId, Transaction,
};

use crate::attributes::{Attributes, DeadLetter};
use crate::call::CallVerdict;
use crate::clock::Now;
use crate::effects::Effects;
use crate::function::InputRecord;
use crate::gateway::{Gateway, Notice, Output, PlantedBug, undelivered_bytes};
use crate::plan::DEAD_LETTER_STREAM;
use crate::release::Release;

/// What goes to subscribers when the transaction is durable.
#[derive(Default)]
struct Staged {
    /// Each message, with the shared subscriptions that get it from the spool.
    deliveries: Vec<(Arc<Message>, Vec<TopicFilter>)>,
    /// For each record of the spool.
    spooled: Vec<(Arc<Message>, Vec<SpoolTarget>)>,
}

impl Gateway {
    /// Decides what a call's end means for the batch.
    pub(crate) fn judge(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        verdict: CallVerdict,
    ) {
        match verdict {
            CallVerdict::Done(frame) => match self.effects(index, &batch, &frame) {
                Ok(effects) => self.apply(now, index, batch, next, effects),
                Err(failure) => self.failed(now, index, batch, next, failure),
            },
            CallVerdict::Failed(failure) => {
                self.functions[index].fresh = true;
                self.failed(now, index, batch, next, failure);
            }
            CallVerdict::RetryBatch => {
                let why = "the function asked to have the batch again".to_owned();
                self.try_again(now, index, batch, next, why);
            }
            CallVerdict::DeadLetterBatch => {
                let why = "the function gave the batch up".to_owned();
                let dead = (0..batch.len()).map(|record| (record, why.clone())).collect();
                let effects = Effects { dead, ..Effects::default() };
                self.apply(now, index, batch, next, effects);
            }
        }
    }

    pub(crate) fn failed(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        failure: String,
    ) {
        let run = &mut self.functions[index];
        run.tally.failures += 1;
        run.tally.last_failure = Some(failure.clone());
        let function = run.plan.name.clone();
        let notice =
            Notice::CallFailed { function, records: batch.len(), failure: failure.clone() };
        self.emit(Output::Notice(notice));
        if batch.len() > 1 {
            self.functions[index].shrink_to(batch.len() / 2);
        } else {
            self.try_again(now, index, batch, next, failure);
        }
    }

    /// Another try of the same batch; with no tries left, a smaller one or the dead letters.
    fn try_again(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        why: String,
    ) {
        let run = &mut self.functions[index];
        run.attempts += 1;
        if run.attempts < run.plan.attempts {
            run.retry_later(now);
        } else if batch.len() > 1 {
            run.shrink_to(batch.len() / 2);
        } else {
            let dead = BTreeMap::from([(0, why)]);
            let effects = Effects { dead, ..Effects::default() };
            self.apply(now, index, batch, next, effects);
        }
    }

    /// Commits the effects with the cursor, or makes the batch end before the record that the
    /// function wants to have again.
    fn apply(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        effects: Effects,
    ) {
        match effects.retry {
            Some((0, why)) if batch.len() == 1 => self.try_again(now, index, batch, next, why),
            Some((at, _)) => self.functions[index].shrink_to(at),
            None => self.commit(now, index, batch, next, effects),
        }
    }

    fn commit(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        mut effects: Effects,
    ) {
        let mut result = self.try_commit(now, index, &batch, next, &effects);
        if let Err(CommitError::Append(AppendError::TooLarge { .. })) = result
            && effects.drop_traces()
        {
            result = self.try_commit(now, index, &batch, next, &effects);
        }
        match result {
            Ok(()) => {
                let logs = std::mem::take(&mut effects.logs);
                let latency = &mut self.functions[index].tally.latency;
                for input in &batch {
                    latency.add_age(input.record.unix_ms, now.unix_ms, 1);
                }
                self.committed(index, &batch, &effects, logs);
            }
            Err(error) => self.not_committed(now, index, batch, next, error),
        }
    }

    fn try_commit(
        &mut self,
        now: Now,
        index: usize,
        batch: &[InputRecord],
        next: Seq,
        effects: &Effects,
    ) -> Result<(), CommitError> {
        let mut transaction = Transaction::new();
        let staged = self.stage_emits(now, index, effects, &mut transaction);
        let state_bytes = self.stage_state(index, effects, &mut transaction);
        self.stage_dead_letters(index, batch, effects, &mut transaction);
        if !staged.deliveries.is_empty() {
            transaction.hurry();
        }
        let reader = self.functions[index].reader;
        if self.planted == Some(PlantedBug::CursorApart) {
            self.commit_cursor_apart(now, reader, next);
        } else {
            transaction.advance(reader, next);
        }
        let committed = self.log.commit(now.instant, transaction)?;
        for (message, shares) in staged.deliveries {
            self.undelivered_bytes += undelivered_bytes(&message);
            let release = Release::Deliver(message, shares);
            self.waiting.push_back((committed.position, release));
        }
        self.offer_when_durable(now, &committed, staged.spooled.into_iter());
        self.functions[index].state_bytes = state_bytes;
        Ok(())
    }

    fn committed(
        &mut self,
        index: usize,
        batch: &[InputRecord],
        effects: &Effects,
        logs: Vec<(u8, String)>,
    ) {
        let run = &mut self.functions[index];
        run.tally.records += batch.len() as u64;
        run.tally.emitted += effects.emits.len() as u64;
        run.tally.dead_letters += effects.dead.len() as u64;
        run.tally.dropped += effects.dropped as u64;
        run.tally.traces_dropped += effects.traces_dropped;
        run.move_on();
        let (function, stream) = (run.plan.name.clone(), run.plan.input.clone());
        for (record, reason) in &effects.dead {
            let notice = Notice::DeadLettered {
                function: function.clone(),
                stream: stream.clone(),
                seq: batch[*record].seq.0,
                reason: reason.clone(),
            };
            self.emit(Output::Notice(notice));
        }
        for (level, text) in logs {
            let function = function.clone();
            self.emit(Output::Notice(Notice::FunctionLog { function, level, text }));
        }
    }

    /// The log had no room: the batch goes again later, unless it can never fit.
    fn not_committed(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        error: CommitError,
    ) {
        match error {
            CommitError::Append(
                AppendError::StreamFull { .. } | AppendError::Busy { .. } | AppendError::DiskFull,
            ) => {
                let run = &mut self.functions[index];
                run.tally.last_failure = Some(error.to_string());
                run.attempts = 0;
                run.retry_later(now);
            }
            CommitError::Append(AppendError::TooLarge { .. } | AppendError::UnknownStream(_))
            | CommitError::TablesFull { .. }
            | CommitError::UnknownReader(_)
            | CommitError::UnknownTable(_) => {
                let run = &self.functions[index];
                if batch.len() == 1 && run.attempts >= run.plan.attempts {
                    self.give_up(now, index, batch, next, &error);
                } else {
                    self.failed(now, index, batch, next, error.to_string());
                }
            }
        }
    }

    /// Not even its copy in the dead-letter stream can be committed: the record is a loss.
    fn give_up(
        &mut self,
        now: Now,
        index: usize,
        batch: Vec<InputRecord>,
        next: Seq,
        error: &CommitError,
    ) {
        let run = &self.functions[index];
        let mut transaction = Transaction::new();
        transaction.advance(run.reader, next);
        for input in &batch {
            transaction.loss(Loss {
                stream: run.stream,
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
                let dead = (0..batch.len()).map(|at| (at, reason.clone())).collect();
                let effects = Effects { dead, ..Effects::default() };
                self.committed(index, &batch, &effects, Vec::new());
            }
            Err(error) => {
                let run = &mut self.functions[index];
                run.tally.last_failure = Some(error.to_string());
                run.retry_later(now);
            }
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
                properties: attributes.properties(),
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

    /// Stages the state changes and answers the bytes of state that will then be held.
    fn stage_state(&self, index: usize, effects: &Effects, into: &mut Transaction) -> usize {
        let run = &self.functions[index];
        let held = self.log.table_entries(run.table);
        let mut bytes = run.state_bytes;
        for (key, change) in &effects.state {
            if let Some(old) = held.get(key) {
                bytes = bytes.saturating_sub(key.len() + old.len());
            }
            match change {
                Some(value) => {
                    bytes += key.len() + value.len();
                    into.put(run.table, key.clone(), value.clone());
                }
                None => into.delete(run.table, key.clone()),
            }
        }
        bytes
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
                stream: run.plan.input.clone(),
                seq: input.seq.0,
                attempts: run.attempts.max(1),
                reason: shortened(reason),
            });
            into.append(
                stream,
                Record { attributes: bytes, publisher: None, ..input.record.clone() },
            );
        }
    }

    /// The mistake that [`PlantedBug::CursorApart`] stands for.
    fn commit_cursor_apart(&mut self, now: Now, reader: tidegate_stream::ReaderId, next: Seq) {
        let mut alone = Transaction::new();
        alone.advance(reader, next);
        if self.log.commit(now.instant, alone).is_ok() {
            self.log.flush(now.instant);
            while let Some(request) = self.log.poll_disk(now.instant) {
                self.emit(Output::Disk(request));
            }
        }
    }

    /// Reads an output frame and checks everything in it before any of it counts.
    fn effects(
        &self,
        index: usize,
        batch: &[InputRecord],
        frame: &[u8],
    ) -> Result<Effects, String> {
        let run = &self.functions[index];
        let mut effects = Effects::new(self.max_user_properties);
        if frame.is_empty() {
            return Ok(effects);
        }
        let hops = batch.iter().map(|input| input.attributes.hops).max().unwrap_or(0);
        let hops = hops.saturating_add(1);
        let reader = OutputReader::parse(frame).map_err(|error| format!("bad output: {error}"))?;
        for operation in reader.iter() {
            effects.take(&run.plan, batch, hops, &operation)?;
        }
        let bytes = self.stage_state(index, &effects, &mut Transaction::new());
        if bytes > run.plan.state_bytes {
            return Err(format!(
                "its state would take {bytes} bytes, more than its quota of {}",
                run.plan.state_bytes
            ));
        }
        Ok(effects)
    }
}

/// Longest reason in a dead letter, in bytes: a function may write any text.
const MAX_REASON_BYTES: usize = 1024;

fn shortened(reason: &str) -> String {
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
