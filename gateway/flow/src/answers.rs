//! Answers that are kept, so that a request which comes again is not done again.
//!
//! A request with a key is known by a digest of it. Its answer is in the table `function-answers`
//! from the commit of its effects on (docs/formats/functions.md), as long as it is among the newest
//! [`MAX_KEPT`] of its function and these take no more than [`MAX_KEPT_BYTES`].
//!
//! Invariant: an answer changes in the commit of the call that it is of.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidegate_stream::{DefineError, Log, TableId, Transaction};

use crate::request::{Answer, Once};

/// Name of the table, one for all functions.
const TABLE: &str = "function-answers";
/// Version of each value.
const VERSION: u8 = 1;
/// Most answers that are kept of one function.
pub(crate) const MAX_KEPT: usize = 256;
/// Most bytes of them, keys included: in memory, and in each checkpoint.
pub(crate) const MAX_KEPT_BYTES: usize = 128 * 1024;
/// Longest answer that is kept, media type included, in bytes.
pub(crate) const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// An answer as the table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    seq: u64,
    pub(crate) fingerprint: [u8; 32],
    status: u16,
    media_type: String,
    body: Bytes,
}

impl KeptAnswer {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.seq.to_le_bytes());
        bytes.extend_from_slice(&self.fingerprint);
        bytes.extend_from_slice(&self.status.to_le_bytes());
        bytes.extend_from_slice(&(self.media_type.len() as u16).to_le_bytes());
        bytes.extend_from_slice(self.media_type.as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// `None` for what no gateway of this version wrote.
    fn decode(bytes: &[u8]) -> Option<KeptAnswer> {
        let (version, rest) = bytes.split_first()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (fingerprint, rest) = rest.split_first_chunk::<32>()?;
        let (status, rest) = rest.split_first_chunk::<2>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (media_type, body) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        (*version == VERSION).then_some(KeptAnswer {
            seq: u64::from_le_bytes(*seq),
            fingerprint: *fingerprint,
            status: u16::from_le_bytes(*status),
            media_type: String::from_utf8(media_type.to_vec()).ok()?,
            body: Bytes::copy_from_slice(body),
        })
    }

    /// As it goes to a client that asks again.
    pub(crate) fn answer(self) -> Answer {
        let KeptAnswer { status, media_type, body, .. } = self;
        Answer { status, media_type, body, again: None, repeated: true }
    }
}

/// What a commit changes of a function's answers.
#[derive(Debug, Default)]
pub(crate) struct AnswerChange {
    gone: Vec<u64>,
    new: Option<(u64, Vec<u8>, usize)>,
}

/// The answers that are kept of one function.
#[derive(Debug)]
pub(crate) struct Answers {
    table: TableId,
    /// What keys of the table begin with: the function's name and a zero byte.
    prefix: Vec<u8>,
    /// Key and bytes of each, the oldest first.
    by_age: BTreeMap<u64, (Vec<u8>, usize)>,
    bytes: usize,
}

impl Answers {
    /// Those that the table has, and how many requests the function was given.
    pub(crate) fn define(log: &mut Log, function: &str) -> Result<(Answers, u64), DefineError> {
        let table = log.table(TABLE)?;
        let prefix = [function.as_bytes(), &[0]].concat();
        let (mut by_age, mut sequence) = (BTreeMap::new(), 0);
        for (key, value) in log.table_entries(table).range(prefix.clone()..) {
            match key.strip_prefix(&*prefix) {
                None => break,
                Some([]) => {
                    let last = value.split_first_chunk::<8>();
                    sequence = last.map_or(0, |(last, _)| u64::from_le_bytes(*last));
                }
                Some(_) => {
                    if let Some(kept) = KeptAnswer::decode(value) {
                        by_age.insert(kept.seq, (key.clone(), key.len() + value.len()));
                    }
                }
            }
        }
        let bytes = by_age.values().map(|(_, bytes)| bytes).sum();
        Ok((Answers { table, prefix, by_age, bytes }, sequence))
    }

    fn key(&self, once: &Once) -> Vec<u8> {
        [&self.prefix[..], &once.key].concat()
    }

    /// What a request with this key was answered with.
    pub(crate) fn kept(&self, log: &Log, once: &Once) -> Option<KeptAnswer> {
        KeptAnswer::decode(log.table_entries(self.table).get(&self.key(once))?)
    }

    /// Stages how many requests the function was given, and the answer to the last one, where it
    /// is to be kept.
    pub(crate) fn stage(
        &self,
        seq: u64,
        answer: Option<(&Once, &Answer)>,
        into: &mut Transaction,
    ) -> AnswerChange {
        into.put(self.table, self.prefix.clone(), seq.to_le_bytes().to_vec());
        let Some((once, answer)) = answer else { return AnswerChange::default() };
        let kept = KeptAnswer {
            seq,
            fingerprint: once.fingerprint,
            status: answer.status,
            media_type: answer.media_type.clone(),
            body: answer.body.clone(),
        };
        let (key, value) = (self.key(once), kept.encode());
        let bytes = key.len() + value.len();
        let (mut count, mut total) = (self.by_age.len() + 1, self.bytes + bytes);
        let mut gone = Vec::new();
        for (age, (old, freed)) in &self.by_age {
            if count <= MAX_KEPT && total <= MAX_KEPT_BYTES {
                break;
            }
            into.delete(self.table, old.clone());
            gone.push(*age);
            count -= 1;
            total -= freed;
        }
        into.put(self.table, key.clone(), value);
        AnswerChange { gone, new: Some((seq, key, bytes)) }
    }

    /// What was staged is committed.
    pub(crate) fn install(&mut self, change: AnswerChange) {
        for age in change.gone {
            if let Some((_, bytes)) = self.by_age.remove(&age) {
                self.bytes -= bytes;
            }
        }
        if let Some((seq, key, bytes)) = change.new {
            self.by_age.insert(seq, (key, bytes));
            self.bytes += bytes;
        }
    }
}

/// Room in the log's tables for the answers of so many functions.
pub(crate) fn answer_table_room(functions: usize) -> usize {
    functions * 2 * MAX_KEPT_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> KeptAnswer {
        KeptAnswer {
            seq: 70_000,
            fingerprint: [7; 32],
            status: 201,
            media_type: "application/json".to_owned(),
            body: Bytes::from_static(br#"{"limit":31.5}"#),
        }
    }

    /// Frozen: what an earlier version wrote must stay readable. Files are only ever added.
    #[test]
    fn the_answer_of_version_1_is_the_frozen_one_and_nothing_else_is_one() {
        let frozen = include_bytes!("../../../tests/golden/functions/v1/answer.bin");
        assert_eq!(kept().encode(), frozen);
        assert_eq!(KeptAnswer::decode(frozen), Some(kept()));
        for cut in 0..frozen.len() - kept().body.len() {
            assert_eq!(KeptAnswer::decode(&frozen[..cut]), None, "{cut} bytes");
        }
        assert_eq!(KeptAnswer::decode(&[&[2], &frozen[1..]].concat()), None, "a version");
    }
}
