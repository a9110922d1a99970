//! Dead letters that are settled: handed to their function once more, or purged by the operator.
//!
//! A stream gives nothing out of its middle, so what is settled is noted as ranges of sequences in
//! the table `dead-letters` of the log (docs/formats/functions.md).
//!
//! Invariants:
//! - a letter is settled in the commit that puts its record into the retry lane, so that a power
//!   cut finds it in one of the two places;
//! - ranges ascend and do not touch.

use std::time::Duration;

use tidegate_stream::{
    CommitError, Log, Position, ReadLimit, ReadOutcome, Record, Seq, StreamId, TableId, Transaction,
};

use crate::attributes::{Attributes, DeadLetter};
use crate::clock::Now;
use crate::control::ControlError;
use crate::gateway::{BuildError, Gateway};
use crate::notes::TryNote;
use crate::plan::DEAD_LETTER_STREAM;
use crate::queue::{InputRecord, Kept, Tries};
use crate::route::Routes;

/// Name of the table.
const TABLE: &str = "dead-letters";
/// Version of each value.
const VERSION: u8 = 1;
/// Ranges of settled letters with open ones between them: with more, nothing is settled.
const MAX_RANGES: usize = 4_096;
/// What a range takes of the tables.
const RANGE_BYTES: usize = 64;
/// Room for all of them.
pub(crate) const LETTER_TABLE_BYTES: usize = MAX_RANGES * RANGE_BYTES;

/// Why a dead letter was not settled. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// Not now: the disk has to deliver it, or to catch up. Try again.
    #[error("the disk does not take or give more right now")]
    Later,
    /// Not before the function has handled what it was handed last. Try again.
    #[error(
        "the retry lane of function \"{0}\" has no room; it goes on when what is in it is handled"
    )]
    LaneFull(String),
    /// There is no such function.
    #[error(transparent)]
    Function(#[from] ControlError),
    /// The stream does not have it.
    #[error("there is no dead letter {seq}: the stream keeps {first} to {next}, the next one")]
    NotKept {
        /// The sequence asked for.
        seq: u64,
        /// The oldest one kept.
        first: u64,
        /// What the next one gets.
        next: u64,
    },
    /// Another function gave the record up.
    #[error("dead letter {seq} is of function \"{of}\"")]
    OfAnother {
        /// The sequence asked for.
        seq: u64,
        /// The function.
        of: String,
    },
    /// It was redriven, or purged.
    #[error("dead letter {0} is settled already")]
    Settled(u64),
    /// Where it came from is no input of the function any more.
    #[error("function \"{function}\" does not read stream \"{stream}\" any more")]
    NotRead {
        /// The function.
        function: String,
        /// The stream.
        stream: String,
    },
    /// The function will be given the record anyway.
    #[error(
        "record {seq} of stream \"{stream}\" comes again by itself: the cursor was reset, or it is \
         in the retry lane"
    )]
    StillToCome {
        /// The stream.
        stream: String,
        /// Its sequence there.
        seq: u64,
    },
    /// Too many letters are open between settled ones.
    #[error("open and settled letters take turns too often; settle the oldest open ones first")]
    TooMany,
    /// The log refuses.
    #[error("{0}")]
    Log(CommitError),
}

impl From<CommitError> for LetterError {
    fn from(error: CommitError) -> LetterError {
        if error.is_busy() { LetterError::Later } else { LetterError::Log(error) }
    }
}

/// The table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letters {
    table: TableId,
    stream: StreamId,
}

impl Letters {
    pub(crate) fn define(log: &mut Log, routes: &Routes, now: Now) -> Result<Letters, BuildError> {
        let stream = routes.required(DEAD_LETTER_STREAM, "what functions give up")?;
        let letters = Letters { table: log.table(TABLE)?, stream };
        letters.forget_beyond(log, now);
        Ok(letters)
    }

    /// What damage took from the end of the stream leaves no marks on the letters that get the
    /// same sequences later.
    fn forget_beyond(self, log: &mut Log, now: Now) {
        let next = log.next_seq(self.stream);
        let mut transaction = Transaction::new();
        for (key, value) in log.table_entries(self.table).iter() {
            match decode(key, value) {
                Some((_, end)) if end <= next => {}
                Some((first, _)) if first < next => {
                    transaction.put(self.table, key.clone(), encode(next));
                }
                Some(_) | None => transaction.delete(self.table, key.clone()),
            }
        }
        if !transaction.is_empty() {
            // What the log has no room for now goes at the next start.
            let _ = log.commit(now.instant, transaction);
        }
    }

    /// The range that has this sequence, or ends in front of it.
    fn before(self, log: &Log, seq: Seq) -> Option<(Seq, Seq)> {
        let entries = log.table_entries(self.table);
        let (key, value) = entries.range(..=key(seq)).next_back()?;
        decode(key, value)
    }

    fn is_settled(self, log: &Log, seq: Seq) -> bool {
        self.before(log, seq).is_some_and(|(_, end)| seq < end)
    }

    /// Stages that a letter is settled.
    fn stage(self, log: &Log, seq: Seq, into: &mut Transaction) -> Result<(), LetterError> {
        let entries = log.table_entries(self.table);
        let kept_from = log.first_seq(self.stream);
        let ranges = entries.iter().filter_map(|(key, value)| decode(key, value));
        let gone = ranges.take_while(|(_, end)| *end <= kept_from && *end < seq);
        let gone: Vec<Seq> = gone.map(|(first, _)| first).collect();
        let before = self.before(log, seq).filter(|(_, end)| *end == seq);
        let behind = entries.get(&key(seq.plus(1)));
        let behind = behind.and_then(|value| decode(&key(seq.plus(1)), value));
        if before.is_none() && behind.is_none() && entries.len() - gone.len() >= MAX_RANGES {
            return Err(LetterError::TooMany);
        }
        gone.into_iter().for_each(|first| into.delete(self.table, key(first)));
        if behind.is_some() {
            into.delete(self.table, key(seq.plus(1)));
        }
        let first = before.map_or(seq, |(first, _)| first);
        let end = behind.map_or(seq.plus(1), |(_, end)| end);
        into.put(self.table, key(first), encode(end));
        Ok(())
    }
}

impl Gateway {
    /// Whether a record of the stream `dead-letters` was redriven or purged.
    pub fn is_settled_letter(&self, seq: Seq) -> bool {
        self.letters.is_settled(&self.log, seq)
    }

    /// Hands a record that a function gave up to it once more: it goes to its retry lane, as one
    /// that was never tried, and the letter is settled. Answers the position from which on this
    /// holds across a power cut.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub fn redrive(&mut self, now: Now, name: &str, seq: u64) -> Result<Position, LetterError> {
        let index = self.controlled(name)?;
        let (letter, attributes, record) = self.open_letter(now, name, Seq(seq))?;
        let run = &self.functions[index];
        let source = run.plan.inputs.iter().position(|input| input.stream == letter.stream);
        let Some(source) = source else {
            return Err(LetterError::NotRead { function: name.to_owned(), stream: letter.stream });
        };
        let (intake, origin) = (&run.intakes[source], Seq(letter.seq));
        let done = intake.progress.gap(origin).0 != origin;
        if !done || self.notes.has_try(&self.log, name, (intake.stream, origin)) {
            return Err(LetterError::StillToCome { stream: letter.stream, seq: letter.seq });
        }
        if !run.lane.has_room() {
            return Err(LetterError::LaneFull(name.to_owned()));
        }
        let mut input = InputRecord::new(source, origin, record.clone(), attributes);
        input.key = intake.key_of(&input);
        input.tries = Tries { kept: Kept::Whole, ..Tries::NONE };
        let mut transaction = Transaction::new();
        transaction.hurry();
        self.letters.stage(&self.log, Seq(seq), &mut transaction)?;
        let note = TryNote { failed: 0, waited: Duration::ZERO, record: Some(record) };
        self.notes.put_try(name, (intake.stream, origin), &note, &mut transaction);
        let position = self.log.commit(now.instant, transaction)?.position;
        let run = &mut self.functions[index];
        run.lane.add(&input);
        run.queue.push(input);
        run.wake();
        Ok(position)
    }

    /// Settles a letter without doing anything with its record. The function may be gone.
    ///
    /// # Errors
    /// See [`LetterError`].
    pub fn purge_letter(
        &mut self,
        now: Now,
        name: &str,
        seq: u64,
    ) -> Result<Position, LetterError> {
        if self.stopping {
            return Err(ControlError::Stopping.into());
        }
        self.open_letter(now, name, Seq(seq))?;
        let mut transaction = Transaction::new();
        transaction.hurry();
        self.letters.stage(&self.log, Seq(seq), &mut transaction)?;
        Ok(self.log.commit(now.instant, transaction)?.position)
    }

    /// A letter of this function that is not settled: why it is one, and the record as it was.
    fn open_letter(
        &mut self,
        now: Now,
        name: &str,
        seq: Seq,
    ) -> Result<(DeadLetter, Attributes, Record), LetterError> {
        if self.is_settled_letter(seq) {
            return Err(LetterError::Settled(seq.0));
        }
        let stream = self.letters.stream;
        let (first, next) = (self.log.first_seq(stream).0, self.log.next_seq(stream).0);
        let not_kept = LetterError::NotKept { seq: seq.0, first, next };
        if !(first..next).contains(&seq.0) {
            return Err(not_kept);
        }
        let mut found = None;
        let limit = ReadLimit { records: 1, bytes: usize::MAX };
        let outcome = self.log.read(now.instant, stream, seq, limit, &mut |at, _, record| {
            if at == seq {
                found = Some(record.to_record());
            }
        });
        match outcome {
            ReadOutcome::Fetching => return Err(LetterError::Later),
            ReadOutcome::Read { .. } | ReadOutcome::Lost { .. } | ReadOutcome::End => {}
        }
        let mut record = found.ok_or(not_kept)?;
        let mut attributes = Attributes::decode(&record.attributes).unwrap_or_default();
        let letter = attributes.dead.take().filter(|letter| letter.function == name);
        let Some(letter) = letter else {
            let of = Attributes::decode(&record.attributes).ok().and_then(|found| found.dead);
            let of = of.map_or_else(|| "nobody".to_owned(), |letter| letter.function);
            return Err(LetterError::OfAnother { seq: seq.0, of });
        };
        record.attributes.clear();
        attributes.encode(&mut record.attributes);
        Ok((letter, attributes, record))
    }
}

fn key(first: Seq) -> Vec<u8> {
    first.0.to_be_bytes().to_vec()
}

fn encode(end: Seq) -> Vec<u8> {
    [&[VERSION][..], &end.0.to_le_bytes()].concat()
}

/// First sequence and the one behind the last. `None` for what no gateway of this version wrote.
fn decode(key: &[u8], value: &[u8]) -> Option<(Seq, Seq)> {
    let first = u64::from_be_bytes(key.try_into().ok()?);
    let (version, end) = value.split_first()?;
    let end = u64::from_le_bytes(end.try_into().ok()?);
    (*version == VERSION && first < end).then_some((Seq(first), Seq(end)))
}
