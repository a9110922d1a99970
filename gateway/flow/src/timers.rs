//! Timers that functions set: when they are due, and what of that is durable.
//!
//! While the gateway runs a timer is due by monotonic time. For the next start the table has its
//! time by the wall clock, or, set while that could not be trusted, the time that was left
//! (docs/formats/functions.md).
//!
//! Invariants:
//! - a timer changes in the commit of the call that sets it, or that it has fired in;
//! - a timer is in one call at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidegate_stream::{DefineError, Log, TableId, Transaction};

use crate::clock::{ClockQuality, Now};
use crate::plan::FunctionPlan;

/// Name of the table, one for all functions.
const TABLE: &str = "function-timers";
/// Version of each value.
const VERSION: u8 = 1;
/// Longest name of a timer, in bytes.
pub(crate) const MAX_NAME: usize = 256;
/// Longest delay and period: a hundred years.
pub(crate) const MAX_SPAN_MS: u64 = 100 * 365 * 86_400_000;

/// What an output frame asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerSet {
    pub(crate) delay_ms: u64,
    /// 0: once.
    pub(crate) period_ms: u64,
}

/// When a timer is due, as the table has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// In milliseconds since 1970.
    At(i64),
    /// So many milliseconds after the next start.
    After(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TimerNote {
    due: Due,
    period_ms: u64,
}

impl TimerNote {
    fn encode(self) -> Vec<u8> {
        let (kind, due) = match self.due {
            Due::At(unix_ms) => (0, unix_ms.to_le_bytes()),
            Due::After(ms) => (1, ms.to_le_bytes()),
        };
        [&[VERSION, kind][..], &due, &self.period_ms.to_le_bytes()].concat()
    }

    /// `None` for what no gateway of this version wrote.
    fn decode(bytes: &[u8]) -> Option<TimerNote> {
        let (head, rest) = bytes.split_first_chunk::<2>()?;
        let (due, period) = rest.split_first_chunk::<8>()?;
        let period_ms = u64::from_le_bytes(period.try_into().ok()?).min(MAX_SPAN_MS);
        let due = match *head {
            [VERSION, 0] => Due::At(i64::from_le_bytes(*due)),
            [VERSION, 1] => Due::After(u64::from_le_bytes(*due)),
            _ => return None,
        };
        Some(TimerNote { due, period_ms })
    }
}

/// A timer of a function.
#[derive(Debug, Clone)]
struct Timer {
    period_ms: u64,
    wait: Wait,
    /// Which TIMER_SET it is of: one that is set anew while it is in a call is another.
    set: u64,
    /// Given, and not done.
    given: Option<Fired>,
}

#[derive(Debug, Clone, Copy)]
enum Wait {
    /// Since the start, for a clock that can be trusted.
    Clock(Due),
    /// Until then; it was due so long before.
    Until(Instant, Duration),
}

impl Wait {
    /// In so many milliseconds; before zero: it was due already.
    fn in_ms(now: Now, ms: i64) -> Wait {
        let ahead = u64::try_from(ms).unwrap_or(0).min(MAX_SPAN_MS);
        let behind = u64::try_from(ms.saturating_neg()).unwrap_or(0);
        Wait::Until(now.instant + Duration::from_millis(ahead), Duration::from_millis(behind))
    }

    /// A period after it was due, which is so long ago.
    fn next(now: Now, period: Duration, ago: Duration) -> Wait {
        Wait::Until(now.instant + period.saturating_sub(ago), ago.saturating_sub(period))
    }
}

/// A timer that has come due, for a call.
#[derive(Debug, Clone)]
pub(crate) struct Fired {
    pub(crate) name: String,
    pub(crate) whose: Whose,
    /// Of all that the function was given.
    pub(crate) seq: u64,
    /// When it was due last, in milliseconds since 1970.
    pub(crate) due_ms: i64,
    /// How often it was due before that and was not given.
    pub(crate) missed: u64,
    /// Tries that have failed.
    pub(crate) attempt: u16,
}

/// Where a timer comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whose {
    /// The function has set it.
    Set {
        /// Which TIMER_SET it is of.
        set: u64,
        /// When it was taken up, and how long after it was due last.
        at: Instant,
        late: Duration,
    },
    /// A schedule of the configuration.
    Schedule {
        /// For when, on the schedule's own time line.
        given: i64,
    },
}

impl Fired {
    /// Whether it is of this timer as it is set now.
    fn is_of(&self, timer: &Timer) -> bool {
        match self.whose {
            Whose::Set { set, .. } => set == timer.set,
            Whose::Schedule { .. } => false,
        }
    }
}

/// A change of a timer that is staged.
pub(crate) struct TimerChange {
    name: String,
    /// Period and wait; `None`: it goes.
    new: Option<(u64, Wait)>,
}

/// The timers of a function.
#[derive(Debug)]
pub(crate) struct Timers {
    table: TableId,
    /// What keys of the table begin with: the function's name and a zero byte.
    prefix: Vec<u8>,
    by_name: BTreeMap<String, Timer>,
    /// Names of those that are in calls, set anew or cancelled since or not.
    in_calls: BTreeSet<String>,
    /// How many were given; what was given and not committed may be numbered again after a start.
    sequence: u64,
    sets: u64,
}

impl Timers {
    /// Those that the table has; none for a function that may not have any.
    pub(crate) fn define(log: &mut Log, plan: &FunctionPlan) -> Result<Timers, DefineError> {
        let table = log.table(TABLE)?;
        let prefix = [plan.name.as_bytes(), &[0]].concat();
        let mut timers = Timers {
            table,
            prefix,
            by_name: BTreeMap::new(),
            in_calls: BTreeSet::new(),
            sequence: 0,
            sets: 0,
        };
        let entries = log.table_entries(table);
        let last = entries.get(&timers.prefix).and_then(|value| value.split_first_chunk::<8>());
        timers.sequence = last.map_or(0, |(sequence, _)| u64::from_le_bytes(*sequence));
        if plan.timers == 0 {
            return Ok(timers);
        }
        for (key, value) in entries.range(timers.prefix.clone()..) {
            let Some(name) = key.strip_prefix(&*timers.prefix) else { break };
            let (Ok(name), Some(note)) = (std::str::from_utf8(name), TimerNote::decode(value))
            else {
                continue;
            };
            // A schedule may have taken the name since.
            if name.is_empty() || plan.schedules.iter().any(|one| one.name == name) {
                continue;
            }
            let wait = Wait::Clock(note.due);
            let timer = Timer { period_ms: note.period_ms, wait, set: 0, given: None };
            timers.by_name.insert(name.to_owned(), timer);
        }
        Ok(timers)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many there will be after these changes.
    pub(crate) fn len_after(&self, changes: &BTreeMap<String, Option<TimerSet>>) -> usize {
        let stay = self.by_name.keys().filter(|name| !changes.contains_key(*name)).count();
        stay + changes.values().flatten().count()
    }

    /// Those that wait for the clock since the start learn when they are due, as far as the clock
    /// tells.
    pub(crate) fn meet_clock(&mut self, now: Now) {
        for timer in self.by_name.values_mut() {
            let Wait::Clock(due) = timer.wait else { continue };
            match (due, now.clock) {
                (Due::After(ms), _) => {
                    timer.wait = Wait::in_ms(now, i64::try_from(ms).unwrap_or(i64::MAX));
                }
                (Due::At(unix_ms), ClockQuality::Synced) => {
                    timer.wait = Wait::in_ms(now, unix_ms.saturating_sub(now.unix_ms));
                }
                (Due::At(_), ClockQuality::Unsynced) => {}
            }
        }
    }

    /// When the next one may be given.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.earliest().map(|(at, _)| at)
    }

    fn earliest(&self) -> Option<(Instant, &String)> {
        let idle = self.by_name.iter().filter(|(name, _)| !self.in_calls.contains(*name));
        let times = idle.filter_map(|(name, timer)| match timer.wait {
            Wait::Until(at, _) => Some((at, name)),
            Wait::Clock(_) => None,
        });
        times.min()
    }

    /// Takes up the one that has been due longest, if one is.
    pub(crate) fn take_due(&mut self, now: Now) -> Option<Fired> {
        let (at, name) = self.earliest().filter(|(at, _)| *at <= now.instant)?;
        let name = name.clone();
        let timer = self.by_name.get_mut(&name)?;
        self.in_calls.insert(name.clone());
        if let Some(given) = &timer.given {
            return Some(given.clone());
        }
        let Wait::Until(_, behind) = timer.wait else { return None };
        let late = behind.saturating_add(now.instant.saturating_duration_since(at));
        let late = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        let period = timer.period_ms * 1_000_000;
        let missed = late.checked_div(period).unwrap_or(0);
        let late = Duration::from_nanos(late - missed * period);
        let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        let due_ms = now.unix_ms.saturating_sub_unsigned(late_ms);
        self.sequence += 1;
        let whose = Whose::Set { set: timer.set, at: now.instant, late };
        let fired = Fired { name, whose, seq: self.sequence, due_ms, missed, attempt: 0 };
        timer.given = Some(fired.clone());
        Some(fired)
    }

    /// The number of a schedule's run: it counts among the timers.
    pub(crate) fn next_seq(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// It was not done: it is given again then, as it was, with so many tries failed.
    pub(crate) fn give_again(&mut self, fired: &Fired, at: Instant, attempt: u16) {
        self.in_calls.remove(&fired.name);
        let Some(timer) = self.by_name.get_mut(&fired.name) else { return };
        if fired.is_of(timer) {
            timer.wait = Wait::Until(at, Duration::ZERO);
            timer.given = Some(Fired { attempt, ..fired.clone() });
        }
    }

    /// Stages what a call sets, and that the timer which it was for is done.
    pub(crate) fn stage(
        &self,
        now: Now,
        fired: Option<&Fired>,
        sets: &BTreeMap<String, Option<TimerSet>>,
        into: &mut Transaction,
    ) -> Vec<TimerChange> {
        let mut changes: Vec<TimerChange> = Vec::new();
        if fired.is_some() {
            into.put(self.table, self.prefix.clone(), self.sequence.to_le_bytes().to_vec());
        }
        let same = |fired: &&Fired| !sets.contains_key(&fired.name);
        if let Some(Fired { name, whose: Whose::Set { set, at, late }, .. }) = fired.filter(same)
            && let Some(timer) = self.by_name.get(name).filter(|timer| timer.set == *set)
        {
            let period = timer.period_ms;
            let ago = *late + now.instant.saturating_duration_since(*at);
            let next = Wait::next(now, Duration::from_millis(period), ago);
            let new = (period > 0).then_some((period, next));
            changes.push(TimerChange { name: name.clone(), new });
        }
        for (name, set) in sets {
            let wait = |set: &TimerSet| Wait::in_ms(now, set.delay_ms.cast_signed());
            let new = set.as_ref().map(|set| (set.period_ms, wait(set)));
            changes.push(TimerChange { name: name.clone(), new });
        }
        for TimerChange { name, new } in &changes {
            let key = [&self.prefix[..], name.as_bytes()].concat();
            match new {
                Some((period_ms, wait)) => {
                    let note = TimerNote { due: note_of(now, *wait), period_ms: *period_ms };
                    into.put(self.table, key, note.encode());
                }
                None => into.delete(self.table, key),
            }
        }
        changes
    }

    /// What was staged is committed.
    pub(crate) fn install(&mut self, fired: Option<&Fired>, changes: Vec<TimerChange>) {
        if let Some(fired) = fired {
            self.in_calls.remove(&fired.name);
        }
        for TimerChange { name, new } in changes {
            let Some((period_ms, wait)) = new else {
                self.by_name.remove(&name);
                continue;
            };
            self.sets += 1;
            let timer = Timer { period_ms, wait, set: self.sets, given: None };
            self.by_name.insert(name, timer);
        }
    }
}

fn note_of(now: Now, wait: Wait) -> Due {
    let Wait::Until(at, behind) = wait else { return Due::After(0) };
    let ahead = at.saturating_duration_since(now.instant).as_millis();
    let ahead = u64::try_from(ahead).unwrap_or(u64::MAX).min(MAX_SPAN_MS);
    match now.clock {
        ClockQuality::Synced => {
            let behind = u64::try_from(behind.as_millis()).unwrap_or(u64::MAX);
            Due::At(now.unix_ms.saturating_add_unsigned(ahead).saturating_sub_unsigned(behind))
        }
        ClockQuality::Unsynced => Due::After(ahead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timers_of_version_1_are_the_frozen_ones_and_nothing_else_is_one() {
        let at = TimerNote { due: Due::At(1_780_000_060_123), period_ms: 60_000 };
        let after = TimerNote { due: Due::After(5_000), period_ms: 0 };
        let golden: [&[u8]; 2] = [
            include_bytes!("../../../tests/golden/functions/v1/timer-at.bin"),
            include_bytes!("../../../tests/golden/functions/v1/timer-after.bin"),
        ];
        for (note, frozen) in [at, after].into_iter().zip(golden) {
            assert_eq!((note.encode(), TimerNote::decode(frozen)), (frozen.to_vec(), Some(note)));
            for cut in 0..frozen.len() {
                assert_eq!(TimerNote::decode(&frozen[..cut]), None, "{cut} bytes");
            }
            assert_eq!(TimerNote::decode(&[frozen, &[0]].concat()), None, "a byte more");
            assert_eq!(TimerNote::decode(&[&[2], &frozen[1..]].concat()), None, "a version");
        }
    }
}
