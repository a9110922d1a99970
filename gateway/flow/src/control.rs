//! Stopping and starting a function while the gateway runs, with its backlog kept, and moving its
//! cursors.
//!
//! Invariants:
//! - what was asked for is in the table of notes, and holds across a restart, before it is
//!   reported durable;
//! - a call that a reset makes void changes nothing, however it ends.

use serde::{Deserialize, Serialize};
use tidegate_stream::{CommitError, Position, Record, Seq, StreamId, Transaction};

use crate::clock::Now;
use crate::gateway::Gateway;
use crate::origin::Origin;
use crate::plan::EventKind;
use crate::progress::Progress;

/// Whether a function takes up records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It does.
    Running,
    /// It does up to these sequences, and is paused then.
    Draining(Vec<(StreamId, Seq)>),
    /// It does not; its records wait, under the stream's quota.
    Paused,
}

/// Where a cursor is moved to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetTo {
    /// The oldest record that is kept.
    Start,
    /// Behind the newest record.
    End,
    /// This sequence: from the oldest that is kept to the one that the next record gets.
    Seq(u64),
    /// The first record in the stream that was received at or after this time, in milliseconds
    /// since 1970.
    Time(i64),
}

/// What a reset did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetDone {
    /// It holds across a power cut once [`Log::durable`](tidegate_stream::Log::durable) has
    /// reached this.
    pub position: Position,
    /// Name of the stream.
    pub stream: String,
    /// Where the cursor was.
    pub from: u64,
    /// Where it is. With [`ResetTo::Time`] it is at, or a little in front of, the record meant:
    /// what is older is passed without a call.
    pub to: u64,
}

/// Why a function was not paused, resumed, drained or reset. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such function.
    #[error("no function \"{name}\"; there are: {}", there.join(", "))]
    NoFunction {
        /// The name asked for.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// It does not read that stream, or several and none was named.
    #[error("function \"{function}\" reads {}: name one of them", reads.join(", "))]
    WhichStream {
        /// The function.
        function: String,
        /// The streams that it reads.
        reads: Vec<String>,
    },
    /// The stream does not have that record.
    #[error("stream \"{stream}\" has no sequence {seq}: it keeps {first} to {next}, the next one")]
    NotKept {
        /// The stream.
        stream: String,
        /// The sequence asked for.
        seq: u64,
        /// The oldest one kept.
        first: u64,
        /// What the next record gets.
        next: u64,
    },
    /// The gateway is on its way down.
    #[error("the gateway is shutting down")]
    Stopping,
    /// The log takes nothing right now.
    #[error("{0}")]
    Log(#[from] CommitError),
}

impl Gateway {
    /// Pauses a function: no call is begun any more. Those under way end, and count. Its backlog
    /// is kept, under the quota of its streams, also across a restart, until it is resumed.
    ///
    /// Answers the position from which on this holds across a power cut.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn pause_function(&mut self, now: Now, name: &str) -> Result<Position, ControlError> {
        let index = self.controlled(name)?;
        self.pause_when_told(now, index)
    }

    /// Lets a paused or draining function go on.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn resume_function(&mut self, now: Now, name: &str) -> Result<Position, ControlError> {
        let index = self.controlled(name)?;
        self.set_mode(now, index, Mode::Running)
    }

    /// Lets a function handle what is in its streams now, and in its retry lane, and pauses it
    /// then. [`FunctionStatus::state`](crate::status::FunctionStatus::state) goes from `draining`
    /// to `paused`.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn drain_function(&mut self, now: Now, name: &str) -> Result<Position, ControlError> {
        let index = self.controlled(name)?;
        if self.functions[index].intakes.len() <= 1 && self.functions[index].events.is_some() {
            // Nothing but events: the last of them is that it is paused.
            return self.pause_when_told(now, index);
        }
        let end = |stream: StreamId| (stream, self.log.next_seq(stream));
        let ends = self.functions[index].intakes.iter().map(|intake| end(intake.stream)).collect();
        self.set_mode(now, index, Mode::Draining(ends))
    }

    /// Moves the cursor of a function in one of its streams (that may be left out when it reads
    /// only one) back, to handle records again, or forward, to skip some. Records in its retry
    /// lane from there on are taken out: they come again from the stream; earlier ones stay, and
    /// are handled. State and earlier outputs stay as they are. Calls under way do not count.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub fn reset_function(
        &mut self,
        now: Now,
        name: &str,
        stream: Option<&str>,
        to: ResetTo,
    ) -> Result<ResetDone, ControlError> {
        let index = self.controlled(name)?;
        let source = self.named_source(index, stream)?;
        let id = self.functions[index].intakes[source].stream;
        let stream = self.routes.name(id).to_owned();
        let (first, next) = (self.log.first_seq(id), self.log.next_seq(id));
        let (to, since_ms) = match to {
            ResetTo::Seq(seq) if !(first.0..=next.0).contains(&seq) => {
                let (first, next) = (first.0, next.0);
                return Err(ControlError::NotKept { stream, seq, first, next });
            }
            ResetTo::Seq(seq) => (Seq(seq), None),
            ResetTo::Start => (first, None),
            ResetTo::End => (next, None),
            ResetTo::Time(unix_ms) => (self.log.seq_before(id, unix_ms), Some(unix_ms)),
        };
        let from = self.functions[index].intakes[source].progress.next().0;
        let transaction = self.stage_reset(index, source, to, since_ms);
        let position = self.log.commit(now.instant, transaction)?.position;
        self.apply_reset(index, source, to, since_ms);
        Ok(ResetDone { position, stream, from, to: to.0 })
    }

    fn stage_reset(
        &self,
        index: usize,
        source: usize,
        to: Seq,
        since_ms: Option<i64>,
    ) -> Transaction {
        let run = &self.functions[index];
        let (name, intake) = (run.plan.name.as_str(), &run.intakes[source]);
        let mut transaction = Transaction::new();
        transaction.hurry();
        transaction.advance(intake.reader, to);
        self.notes.delete_progress(name, intake.stream, &mut transaction);
        self.notes.put_since(name, intake.stream, since_ms, &mut transaction);
        for (stream, seq, note) in self.notes.tries(&self.log, name) {
            if stream == intake.stream && (seq >= to || note.record.is_none()) {
                self.notes.delete_try(name, (stream, seq), &mut transaction);
            }
        }
        transaction
    }

    fn apply_reset(&mut self, index: usize, source: usize, to: Seq, since_ms: Option<i64>) {
        let run = &mut self.functions[index];
        let mut back = Vec::new();
        for worker in &mut run.workers {
            if let Some(running) = &mut worker.running
                && let Origin::Records(_) = running.origin
            {
                let origin = std::mem::replace(&mut running.origin, Origin::Void);
                back.extend(origin.into_records());
            }
        }
        back.extend(self.void_canary_calls(index));
        let run = &mut self.functions[index];
        run.release(&back);
        run.give_back(back);
        run.queue.retain(|one| one.source != source || (one.is_kept() && one.seq < to));
        run.recount_lane();
        let intake = &mut run.intakes[source];
        intake.progress = Progress::new(to);
        intake.head = to;
        intake.noted = false;
        intake.since_ms = since_ms;
        intake.since_noted = since_ms.is_some();
        intake.tried.clear();
        run.wake();
    }

    /// Pauses a function that has drained.
    pub(crate) fn end_drain(&mut self, now: Now, index: usize) -> bool {
        if !self.functions[index].is_drained() {
            return false;
        }
        // Without room for the note it stays drained, and is asked again.
        self.pause_when_told(now, index).is_ok()
    }

    pub(crate) fn set_mode(
        &mut self,
        now: Now,
        index: usize,
        mode: Mode,
    ) -> Result<Position, ControlError> {
        self.set_mode_with(now, index, mode, None)
    }

    /// The same, with a record in the same commit.
    pub(crate) fn set_mode_with(
        &mut self,
        now: Now,
        index: usize,
        mode: Mode,
        record: Option<(StreamId, Record)>,
    ) -> Result<Position, ControlError> {
        let run = &mut self.functions[index];
        let mut transaction = Transaction::new();
        transaction.hurry();
        if let Some((stream, record)) = record {
            transaction.append(stream, record);
        }
        self.notes.put_mode(&run.plan.name, &mode, &mut transaction);
        let position = self.log.commit(now.instant, transaction)?.position;
        if mode == Mode::Running && run.mode != Mode::Running {
            run.schedules.resumed(now);
            run.unstarted = run.plan.events.contains(&EventKind::Start);
        }
        run.set_mode(mode);
        Ok(position)
    }

    pub(crate) fn controlled(&self, name: &str) -> Result<usize, ControlError> {
        if self.stopping {
            return Err(ControlError::Stopping);
        }
        let named = self.present().find(|(_, run)| run.plan.name == name);
        named.map(|(index, _)| index).ok_or_else(|| {
            let there = self.present().map(|(_, run)| run.plan.name.clone()).collect();
            ControlError::NoFunction { name: name.to_owned(), there }
        })
    }

    fn named_source(&self, index: usize, stream: Option<&str>) -> Result<usize, ControlError> {
        let plan = &self.functions[index].plan;
        let named = match stream {
            Some(name) => plan.inputs.iter().position(|input| input.stream == name),
            None => (plan.inputs.len() == 1).then_some(0),
        };
        named.ok_or_else(|| ControlError::WhichStream {
            function: plan.name.clone(),
            reads: plan.inputs.iter().map(|input| input.stream.clone()).collect(),
        })
    }
}
