//! What must be remembered of functions beside their cursors and their state: the table
//! `functions` of the log (docs/formats/functions.md).
//!
//! Invariant: a note changes in the commit that makes it true. Guests cannot see the table.

use std::time::{Duration, Instant};

use tidegate_stream::{DefineError, Log, Record, Seq, StreamId, TableId, Transaction};

use crate::control::Mode;
use crate::progress::Progress;

/// Name of the table.
const TABLE: &str = "functions";
/// Version of each value.
const VERSION: u8 = 1;

/// What a note is about; a byte of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum About {
    Progress = b'd',
    Try = b'l',
    Mode = b'm',
    Since = b't',
}

/// What the table has of a record that was tried, or waits behind one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TryNote {
    pub(crate) failed: u16,
    /// Time since the first failure, while the gateway ran.
    pub(crate) waited: Duration,
    /// The record, where its stream is not to keep it.
    pub(crate) record: Option<Record>,
}

/// The table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notes {
    table: TableId,
    max_bytes: usize,
}

/// What a note is about, for who forgets what is of no use.
pub(crate) struct NoteOf<'k> {
    pub(crate) function: &'k str,
    pub(crate) stream: Option<StreamId>,
    /// Of a record that is in its stream: the count of its tries.
    pub(crate) counted: Option<Seq>,
}

/// Notes forgotten in one transaction.
const FORGOTTEN_AT_ONCE: usize = 256;

impl Notes {
    /// For a log with frames of so many bytes at most.
    pub(crate) fn define(log: &mut Log, max_frame_bytes: usize) -> Result<Notes, DefineError> {
        Ok(Notes { table: log.table(TABLE)?, max_bytes: max_frame_bytes / 4 })
    }

    /// Most bytes of notes in one transaction, so that it fits a frame.
    pub(crate) fn max_bytes(self) -> usize {
        self.max_bytes
    }

    /// What of a stream is done, when there was something beyond the cursor.
    pub(crate) fn progress(self, log: &Log, function: &str, stream: StreamId) -> Option<Progress> {
        Progress::decode(self.get(log, &key(function, About::Progress, Some(stream), None))?)
    }

    /// From which time of receipt on it reads a stream.
    pub(crate) fn since(self, log: &Log, function: &str, stream: StreamId) -> Option<i64> {
        let value = self.get(log, &key(function, About::Since, Some(stream), None))?;
        let (version, time) = value.split_first()?;
        let time = i64::from_le_bytes(time.try_into().ok()?);
        (*version == VERSION).then_some(time)
    }

    /// Whether it runs.
    pub(crate) fn mode(self, log: &Log, function: &str) -> Mode {
        let value = self.get(log, &key(function, About::Mode, None, None));
        value.and_then(|value| decode_mode(value)).unwrap_or(Mode::Running)
    }

    /// The records that were tried, or wait behind one, in order of stream and sequence.
    pub(crate) fn tries(
        self,
        log: &Log,
        function: &str,
    ) -> impl Iterator<Item = (StreamId, Seq, TryNote)> {
        let prefix = key(function, About::Try, None, None);
        let entries = log.table_entries(self.table).range(prefix.clone()..);
        let own = entries.take_while(move |(key, _)| key.starts_with(&prefix));
        own.filter_map(move |(key, value)| {
            let (head, seq) = key.split_last_chunk::<8>()?;
            let (_, stream) = head.split_last_chunk::<2>()?;
            let note = decode_try(value)?;
            Some((StreamId(u16::from_be_bytes(*stream)), Seq(u64::from_be_bytes(*seq)), note))
        })
    }

    /// Whether there is a note of this record.
    pub(crate) fn has_try(self, log: &Log, function: &str, (stream, seq): (StreamId, Seq)) -> bool {
        self.get(log, &key(function, About::Try, Some(stream), Some(seq))).is_some()
    }

    pub(crate) fn put_progress(
        self,
        function: &str,
        stream: StreamId,
        progress: &Progress,
        into: &mut Transaction,
    ) {
        let key = key(function, About::Progress, Some(stream), None);
        into.put(self.table, key, progress.encode());
    }

    pub(crate) fn delete_progress(self, function: &str, stream: StreamId, into: &mut Transaction) {
        into.delete(self.table, key(function, About::Progress, Some(stream), None));
    }

    pub(crate) fn put_try(
        self,
        function: &str,
        (stream, seq): (StreamId, Seq),
        note: &TryNote,
        into: &mut Transaction,
    ) {
        let key = key(function, About::Try, Some(stream), Some(seq));
        into.put(self.table, key, encode_try(note));
    }

    pub(crate) fn delete_try(
        self,
        function: &str,
        (stream, seq): (StreamId, Seq),
        into: &mut Transaction,
    ) {
        into.delete(self.table, key(function, About::Try, Some(stream), Some(seq)));
    }

    pub(crate) fn put_since(
        self,
        function: &str,
        stream: StreamId,
        since_ms: Option<i64>,
        into: &mut Transaction,
    ) {
        let key = key(function, About::Since, Some(stream), None);
        match since_ms {
            Some(time) => {
                into.put(self.table, key, [&[VERSION][..], &time.to_le_bytes()].concat());
            }
            None => into.delete(self.table, key),
        }
    }

    pub(crate) fn put_mode(self, function: &str, mode: &Mode, into: &mut Transaction) {
        let key = key(function, About::Mode, None, None);
        match encode_mode(mode) {
            Some(value) => into.put(self.table, key, value),
            None => into.delete(self.table, key),
        }
    }

    /// Deletes what is of no use: of a function, or an input of one, that is not there any more,
    /// or of a record that is gone.
    pub(crate) fn forget(
        self,
        log: &mut Log,
        now: Instant,
        is_of_use: impl Fn(&Log, &NoteOf<'_>) -> bool,
    ) {
        let entries = log.table_entries(self.table).iter();
        let useless = entries
            .filter(|(key, value)| !note_of(key, value).is_some_and(|note| is_of_use(log, &note)));
        let useless: Vec<Vec<u8>> = useless.map(|(key, _)| key.clone()).collect();
        for keys in useless.chunks(FORGOTTEN_AT_ONCE) {
            let mut transaction = Transaction::new();
            keys.iter().for_each(|key| transaction.delete(self.table, key.clone()));
            // What the log has no room for now goes at the next start.
            if log.commit(now, transaction).is_err() {
                return;
            }
        }
    }

    fn get<'l>(self, log: &'l Log, key: &[u8]) -> Option<&'l Vec<u8>> {
        log.table_entries(self.table).get(key)
    }
}

/// Name, a zero byte, what it is about; then stream and sequence, where it is about one.
fn key(function: &str, about: About, stream: Option<StreamId>, seq: Option<Seq>) -> Vec<u8> {
    let mut key = function.as_bytes().to_vec();
    key.extend_from_slice(&[0, about as u8]);
    key.extend(stream.into_iter().flat_map(|stream| stream.0.to_be_bytes()));
    key.extend(seq.into_iter().flat_map(|seq| seq.0.to_be_bytes()));
    key
}

fn note_of<'k>(key: &'k [u8], value: &[u8]) -> Option<NoteOf<'k>> {
    let end = key.iter().position(|byte| *byte == 0)?;
    let function = std::str::from_utf8(&key[..end]).ok()?;
    let stream_and_seq = key.get(end + 2..)?;
    let stream = stream_and_seq.first_chunk::<2>();
    let seq = stream_and_seq.get(2..).and_then(|seq| seq.first_chunk::<8>());
    Some(NoteOf {
        function,
        stream: stream.map(|stream| StreamId(u16::from_be_bytes(*stream))),
        counted: seq
            .filter(|_| value.get(1) == Some(&COUNT))
            .map(|seq| Seq(u64::from_be_bytes(*seq))),
    })
}

const COUNT: u8 = 0;
const WHOLE: u8 = 1;

fn encode_try(note: &TryNote) -> Vec<u8> {
    let mut bytes = vec![VERSION, if note.record.is_some() { WHOLE } else { COUNT }];
    bytes.extend_from_slice(&note.failed.to_le_bytes());
    let waited = u64::try_from(note.waited.as_millis()).unwrap_or(u64::MAX);
    bytes.extend_from_slice(&waited.to_le_bytes());
    let Some(record) = &note.record else { return bytes };
    bytes.extend_from_slice(&record.unix_ms.to_le_bytes());
    let attributes = record.attributes.as_slice();
    for field in [record.topic.as_bytes(), record.client.as_bytes(), attributes] {
        bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
        bytes.extend_from_slice(field);
    }
    bytes.extend_from_slice(&record.payload);
    bytes
}

fn decode_try(bytes: &[u8]) -> Option<TryNote> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (failed, rest) = rest.split_first_chunk::<2>()?;
    let (waited, rest) = rest.split_first_chunk::<8>()?;
    let record = match *head {
        [VERSION, COUNT] => None,
        [VERSION, WHOLE] => Some(decode_record(rest)?),
        _ => return None,
    };
    let waited = Duration::from_millis(u64::from_le_bytes(*waited));
    Some(TryNote { failed: u16::from_le_bytes(*failed), waited, record })
}

fn decode_record(bytes: &[u8]) -> Option<Record> {
    let (unix_ms, mut rest) = bytes.split_first_chunk::<8>()?;
    let mut field = || {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let (field, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = behind;
        Some(field.to_vec())
    };
    let (topic, client, attributes) = (field()?, field()?, field()?);
    Some(Record {
        unix_ms: i64::from_le_bytes(*unix_ms),
        topic: String::from_utf8(topic).ok()?,
        client: String::from_utf8(client).ok()?,
        publisher: None,
        attributes,
        payload: rest.to_vec(),
    })
}

const PAUSED: u8 = 1;
const DRAINING: u8 = 2;
/// Stream and sequence of an end to drain to.
const END_BYTES: usize = 10;

/// `None` for a function that runs: it needs no note.
fn encode_mode(mode: &Mode) -> Option<Vec<u8>> {
    match mode {
        Mode::Running => None,
        Mode::Paused => Some(vec![VERSION, PAUSED]),
        Mode::Draining(ends) => {
            let mut bytes = vec![VERSION, DRAINING];
            for (stream, end) in ends {
                bytes.extend_from_slice(&stream.0.to_le_bytes());
                bytes.extend_from_slice(&end.0.to_le_bytes());
            }
            Some(bytes)
        }
    }
}

fn decode_mode(bytes: &[u8]) -> Option<Mode> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    match *head {
        [VERSION, PAUSED] => Some(Mode::Paused),
        [VERSION, DRAINING] => {
            let (ends, _) = rest.as_chunks::<END_BYTES>();
            let end = |bytes: &[u8; END_BYTES]| {
                let (stream, seq) = bytes.split_first_chunk::<2>()?;
                let seq = u64::from_le_bytes(seq.try_into().ok()?);
                Some((StreamId(u16::from_le_bytes(*stream)), Seq(seq)))
            };
            Some(Mode::Draining(ends.iter().filter_map(end).collect()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            unix_ms: 1_780_000_000_123,
            topic: "sensors/a".to_owned(),
            client: "s1".to_owned(),
            publisher: None,
            attributes: vec![1, 1, 0, 2],
            payload: b"21.5".to_vec(),
        }
    }

    fn whole() -> TryNote {
        let waited = Duration::from_millis(1_500);
        TryNote { failed: 3, waited, record: Some(record()) }
    }

    #[test]
    fn notes_are_what_they_were_when_they_are_read_back() {
        let count = TryNote { failed: 9, waited: Duration::ZERO, record: None };
        for note in [count, whole()] {
            assert_eq!(decode_try(&encode_try(&note)), Some(note));
        }
        let ends = vec![(StreamId(3), Seq(70_000)), (StreamId(258), Seq(1))];
        for mode in [Mode::Paused, Mode::Draining(ends), Mode::Draining(Vec::new())] {
            assert_eq!(encode_mode(&mode).and_then(|bytes| decode_mode(&bytes)), Some(mode));
        }
        assert_eq!(encode_mode(&Mode::Running), None);
    }

    #[test]
    fn a_note_that_ends_early_or_is_of_another_version_counts_as_not_there() {
        let bytes = encode_try(&whole());
        for len in 0..bytes.len() - record().payload.len() {
            assert_eq!(decode_try(&bytes[..len]), None, "{len} bytes");
        }
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(decode_try(&newer), None);
        assert_eq!(decode_mode(&[2, PAUSED]), None);
    }

    #[test]
    fn keys_keep_what_belongs_together_in_order() {
        let key = |seq| key("f", About::Try, Some(StreamId(1)), Some(Seq(seq)));
        assert!(key(2) < key(300) && key(300) < key(70_000));
        let about = |key: &[u8], value: &[u8]| {
            let note = note_of(key, value).unwrap();
            (note.function.to_owned(), note.stream, note.counted)
        };
        let stream = Some(StreamId(1));
        assert_eq!(about(&key(5), &[1, WHOLE]), ("f".to_owned(), stream, None));
        assert_eq!(about(&key(5), &[1, COUNT]), ("f".to_owned(), stream, Some(Seq(5))));
        let mode = super::key("fn-2", About::Mode, None, None);
        assert_eq!(about(&mode, &[1, PAUSED]), ("fn-2".to_owned(), None, None));
    }

    /// Frozen: what an earlier version wrote must stay readable. Files are only ever added.
    #[test]
    fn the_notes_of_version_1_are_the_frozen_ones() {
        let golden: [(&[u8], Vec<u8>); 4] = [
            (include_bytes!("../../../tests/golden/functions/v1/try.bin"), encode_try(&whole())),
            (
                include_bytes!("../../../tests/golden/functions/v1/count.bin"),
                encode_try(&TryNote { record: None, ..whole() }),
            ),
            (
                include_bytes!("../../../tests/golden/functions/v1/draining.bin"),
                encode_mode(&Mode::Draining(vec![(StreamId(3), Seq(70_000))])).unwrap(),
            ),
            (include_bytes!("../../../tests/golden/functions/v1/progress.bin"), {
                let mut progress = Progress::new(Seq(1_000));
                progress.finish(Seq(1_001), Seq(1_004));
                progress.finish(Seq(1_020), Seq(1_021));
                progress.encode()
            }),
        ];
        for (frozen, encoded) in golden {
            assert_eq!(encoded, frozen);
        }
    }
}
