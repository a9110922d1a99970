//! The promises to what calls functions beside records: each file is a record once, each request
//! with a key counts once and is answered with that, each run of a schedule comes once, and what is
//! left out is told.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_flow::{Gateway, MAX_CAUGHT_UP, Missed, Rhythm, SchedulePlan};
use tidegate_stream::trace::Traced;

use super::Account;
use crate::clerk::{ANSWERS, COUNT, RUNS, last_key};
use crate::folder::FOLDER;
use crate::plan::{CLERK, STREAMS};
use crate::world::World;

/// An interval is counted in whole milliseconds of three clocks.
const ROUNDING_MS: i64 = 3;
/// How long after its time a run may be done in the end, when nothing is wrong any more: calls fail
/// for a while.
const LATE_MS: i64 = 5_000;
/// A clock that goes back by more lets a time table begin anew; less a little.
const SET_BACK_MS: i64 = 3_600_000 - 1_000;

impl World {
    pub(super) fn judge_calls(
        &self,
        accounts: &[Account<'_>],
        gateway: &mut Gateway,
        wrong: &mut Vec<String>,
    ) {
        let of = |name: &str| accounts.iter().find(|account| account.name == name);
        let (Some(records), Some(done)) = (of(STREAMS[0]), of(STREAMS[1])) else { return };
        wrong.extend(self.callers.complaints.iter().cloned());
        for file in 0..self.options.calls.files {
            let times = records.counts_of(&(FOLDER.to_owned(), file));
            if times != 1 {
                wrong.push(format!("{}: file {file} is there {times} times", records.name));
            }
        }
        if !self.options.calls.has_clerk() {
            return;
        }
        let Ok(table) = gateway.log_mut().table(&format!("fn/{CLERK}")) else { return };
        let state = gateway.log().table_entries(table);
        self.judge_answers(done, state, wrong);
        for schedule in &self.options.calls.schedules {
            self.judge_runs(schedule, done, wrong);
            self.judge_last(schedule, state, wrong);
        }
    }

    /// Each was counted once, and its client was told the number.
    fn judge_answers(
        &self,
        done: &Account<'_>,
        state: &BTreeMap<Vec<u8>, Vec<u8>>,
        wrong: &mut Vec<String>,
    ) {
        let mut counted: BTreeMap<&str, Vec<&[u8]>> = BTreeMap::new();
        for traced in done.records.values() {
            if let Some(wish) = traced.record.topic.strip_prefix(ANSWERS) {
                counted.entry(wish).or_default().push(&traced.record.payload);
            }
        }
        for (wish, told) in self.callers.told() {
            let counts = counted.get(wish.to_string().as_str()).map_or(&[][..], Vec::as_slice);
            if counts != [told.as_bytes()] {
                let counts: Vec<_> = counts.iter().map(|n| String::from_utf8_lossy(n)).collect();
                wrong.push(format!("request {wish} was told {told} and counted as {counts:?}"));
            }
        }
        let count = state.get(COUNT).map(Vec::as_slice);
        let count = count.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
        if count != self.options.calls.requests {
            wrong.push(format!("{CLERK} has counted {count} requests"));
        }
    }

    /// From one run to the next there are as many times as the next says that it has left out.
    fn judge_runs(&self, schedule: &SchedulePlan, done: &Account<'_>, wrong: &mut Vec<String>) {
        let topic = format!("{RUNS}{}", schedule.name);
        let of = |traced: &&&Traced| traced.record.topic == topic;
        let runs: Vec<Run> =
            done.records.values().filter(of).filter_map(|traced| self.run_of(traced)).collect();
        // A run is taken up after the one before it was done.
        let begins = |at: usize| at.checked_sub(1).map_or(Duration::ZERO, |at| runs[at].done);
        for (at, pair) in runs.windows(2).enumerate() {
            let [before, next] = pair else { continue };
            let period = ms(&schedule.rhythm);
            let times = i64::try_from(next.missed + 1).unwrap_or(i64::MAX);
            let off = (next.due_ms - before.due_ms).saturating_sub(times.saturating_mul(period));
            let (may_differ, rounding) = match schedule.rhythm {
                Rhythm::Every(_) => (self.was_touched(begins(at), next.done), ROUNDING_MS),
                Rhythm::Cron(_) => (self.fell_back(begins(at), next.done, SET_BACK_MS), 0),
            };
            if off.abs() > rounding && !may_differ {
                let SchedulePlan { name, missed, .. } = schedule;
                wrong.push(format!(
                    "{name}, {missed:?}, due all {period} ms: {before:?} is followed by {next:?}, \
                     {off} ms off"
                ));
            }
        }
    }

    fn run_of(&self, traced: &Traced) -> Option<Run> {
        let text = std::str::from_utf8(&traced.record.payload).ok()?;
        let (due_ms, missed) = text.split_once(' ')?;
        let done = self.ledger.appended_at(traced.stream, traced.seq)?;
        Some(Run { due_ms: due_ms.parse().ok()?, missed: missed.parse().ok()?, done })
    }

    /// It runs to the end, unless it makes up for each run that it has missed: of those that fail
    /// there may be many, each with its pause.
    fn judge_last(
        &self,
        schedule: &SchedulePlan,
        state: &BTreeMap<Vec<u8>, Vec<u8>>,
        wrong: &mut Vec<String>,
    ) {
        let period = ms(&schedule.rhythm);
        let behind = match schedule.missed {
            Missed::Skip | Missed::Once => period,
            Missed::All => period * MAX_CAUGHT_UP as i64,
        };
        let late_ms = behind + LATE_MS;
        let late = Duration::from_millis(late_ms.unsigned_abs());
        let (end, end_ms) = self.moment();
        let Some(since) = end.checked_sub(late).filter(|since| !self.was_touched(*since, end))
        else {
            return;
        };
        let last = state.get(&last_key(&schedule.name)).map(Vec::as_slice);
        let last = last.and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
        if last.is_none_or(|last| last < end_ms - late_ms) {
            wrong.push(format!(
                "{schedule:?}: the last run was due at {last:?}, and it is {end_ms}; nothing has \
                 happened to the clock since {since:?}"
            ));
        }
    }
}

/// A run that was done.
#[derive(Debug)]
struct Run {
    due_ms: i64,
    missed: u64,
    /// When it was, in the world's time.
    done: Duration,
}

/// From one time to the next.
fn ms(rhythm: &Rhythm) -> i64 {
    match rhythm {
        Rhythm::Every(period) => i64::try_from(period.as_millis()).unwrap_or(i64::MAX),
        // Of every minute.
        Rhythm::Cron(_) => 60_000,
    }
}
