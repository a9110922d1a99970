//! How long records have waited: when a stream was how far, noted while the gateway runs.
//!
//! The log keeps the time of its records with them, on flash; to say how old the oldest is that a
//! reader has not done would take a read for each question. These notes say it from memory, by the
//! monotonic clock, a second or so exact for what is fresh and some hundredths of its age for what
//! is old. Of records from an earlier life the log's index tells no more than that they are older
//! than the newest beside them.

use std::collections::VecDeque;
use std::time::Instant;

use tidegate_stream::{Log, Seq, StreamId};

use crate::clock::Now;

/// Notes of one stream, 24 bytes each. With as many every second one goes.
const MAX_NOTES: usize = 64;

/// The notes of all streams.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    streams: Vec<(StreamId, VecDeque<(Seq, Instant)>)>,
}

impl Ages {
    /// Notes how far the streams are that somebody reads.
    pub(crate) fn note(&mut self, now: Now, log: &Log) {
        self.streams.retain(|(stream, _)| log.readers().any(|(_, of, _)| of == *stream));
        for (stream, _) in log.streams() {
            let mut readers = log.readers().filter(|(_, of, _)| *of == stream).peekable();
            if readers.peek().is_none() {
                continue;
            }
            let done = readers.map(|(reader, _, _)| log.cursor(reader)).min().unwrap_or(Seq(0));
            let notes = match self.streams.iter_mut().find(|(of, _)| *of == stream) {
                Some((_, notes)) => notes,
                None => {
                    self.streams.push((stream, VecDeque::new()));
                    let Some((_, notes)) = self.streams.last_mut() else { continue };
                    notes
                }
            };
            note(notes, log.next_seq(stream), done, now.instant);
        }
    }

    /// Milliseconds that a record has waited at least; `None` when it is not there yet.
    pub(crate) fn of(&self, now: Now, log: &Log, stream: StreamId, seq: Seq) -> Option<u64> {
        if seq >= log.next_seq(stream) {
            return None;
        }
        let notes = self.streams.iter().find(|(of, _)| *of == stream).map(|(_, notes)| notes);
        // The first note behind it: it was there by then.
        let after = notes.and_then(|notes| notes.iter().find(|(next, _)| *next > seq));
        let first = notes.and_then(|notes| notes.front());
        let waited =
            after.map_or(0, |(_, at)| now.instant.saturating_duration_since(*at).as_millis());
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        if first.is_some_and(|(next, _)| *next <= seq) {
            return Some(waited);
        }
        let newest = log.received_by(stream, seq);
        let older = newest.map_or(0, |ms| now.unix_ms.saturating_sub(ms));
        Some(waited.max(u64::try_from(older).unwrap_or(0)))
    }
}

fn note(notes: &mut VecDeque<(Seq, Instant)>, next: Seq, done: Seq, at: Instant) {
    if notes.back().is_some_and(|(last, _)| *last == next) {
        return;
    }
    // What all have done needs no notes, but for the last of them: it says where others begin.
    while notes.get(1).is_some_and(|(second, _)| *second <= done) {
        notes.pop_front();
    }
    if notes.len() >= MAX_NOTES {
        let mut keep = false;
        notes.retain(|_| {
            keep = !keep;
            keep
        });
    }
    notes.push_back((next, at));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "simulated time has to begin somewhere")]
    fn beginning() -> Instant {
        Instant::now()
    }

    #[test]
    fn notes_grow_coarser_with_age_and_stay_few() {
        let (mut notes, start) = (VecDeque::new(), beginning());
        for second in 0..100_000_u64 {
            note(&mut notes, Seq(second + 1), Seq(0), start + Duration::from_secs(second));
        }
        assert!(notes.len() <= MAX_NOTES);
        assert_eq!(notes.front(), Some(&(Seq(1), start)));
        let (newest, _) = notes[notes.len() - 1];
        assert_eq!(newest, Seq(100_000));
        assert!(notes.iter().is_sorted());
    }

    #[test]
    fn what_all_have_done_is_forgotten() {
        let (mut notes, start) = (VecDeque::new(), beginning());
        for second in 0..50_u64 {
            note(&mut notes, Seq(second + 1), Seq(second), start + Duration::from_secs(second));
        }
        assert!(notes.len() <= 3, "{notes:?}");
    }
}
