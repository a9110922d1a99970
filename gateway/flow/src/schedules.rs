//! Calls by the clock that the configuration asks for: when they are due, what of them is done,
//! and what becomes of those that could not be given.
//!
//! A schedule has a time line of its own: an interval goes by monotonic time, a time table by the
//! wall clock as it was last trusted. In the log is up to which time what was due is done
//! (docs/formats/functions.md); what is due follows from that alone.
//!
//! Invariants:
//! - that a run is done is in the commit of its call;
//! - a schedule is in one call at a time, and its runs are in the order of their times;
//! - no time table is followed before the clock could be trusted.

use std::time::{Duration, Instant};

use tidegate_stream::{DefineError, Log, TableId, Transaction};

use crate::clock::{ClockQuality, Now};
use crate::gateway::Gateway;
use crate::plan::{FunctionPlan, MAX_CAUGHT_UP, Missed, Rhythm, SchedulePlan};
use crate::status::ScheduleStatus;
use crate::timers::{Fired, Whose};

/// Name of the table, one for all functions.
const TABLE: &str = "function-schedules";
/// Version of each value.
const VERSION: u8 = 1;
/// A clock that is set back by more than this was wrong before: time tables begin anew.
const MAX_SET_BACK_MS: i64 = 3_600_000;
/// Notes forgotten in one transaction.
const FORGOTTEN_AT_ONCE: usize = 256;

/// What the table has of a schedule: up to when what was due is done, milliseconds since 1970;
/// `None` when no clock could tell. And of which rhythm that is.
type Note = (Option<i64>, String);

fn encode(done: Option<i64>, rhythm: &str) -> Vec<u8> {
    let kind = u8::from(done.is_none());
    [&[VERSION, kind][..], &done.unwrap_or(0).to_le_bytes(), rhythm.as_bytes()].concat()
}

/// `None` for what no gateway of this version wrote.
fn decode(bytes: &[u8]) -> Option<Note> {
    let (head, rest) = bytes.split_first_chunk::<2>()?;
    let (done, rhythm) = rest.split_first_chunk::<8>()?;
    let done = i64::from_le_bytes(*done);
    let rhythm = std::str::from_utf8(rhythm).ok()?.to_owned();
    match *head {
        [VERSION, 0] => Some((Some(done), rhythm)),
        [VERSION, 1] if done == 0 => Some((None, rhythm)),
        _ => None,
    }
}

/// A rhythm on a time line of milliseconds.
impl Rhythm {
    /// As the table has it.
    fn text(&self) -> String {
        match self {
            Rhythm::Every(period) => format!("every {}", period.as_micros()),
            Rhythm::Cron(cron) => format!("cron {}", cron.as_str()),
        }
    }

    /// When it is due first after this.
    fn next_after(&self, done: i64) -> Option<i64> {
        match self {
            Rhythm::Every(period) => done.checked_add(ms(*period)),
            Rhythm::Cron(cron) => cron.next_after(done),
        }
    }

    /// How often it is due after `due`, when it is, up to and at `by`.
    fn further(&self, due: i64, by: i64) -> u64 {
        match self {
            Rhythm::Every(period) => (by.saturating_sub(due) / ms(*period)).cast_unsigned(),
            Rhythm::Cron(cron) => cron.count(due, by),
        }
    }

    /// The last time that it is due up to `by`, and so many before that.
    fn before_last(&self, due: i64, by: i64, before: u64) -> i64 {
        match self {
            Rhythm::Every(period) => {
                let after = self.further(due, by).saturating_sub(before).cast_signed();
                due.saturating_add(after.saturating_mul(ms(*period)))
            }
            Rhythm::Cron(cron) => {
                let last = |at: i64| cron.last_by(at).unwrap_or(due).max(due);
                (0..before).fold(last(by), |at, _| last(at - 1))
            }
        }
    }
}

/// At least one, so that time passes.
fn ms(period: Duration) -> i64 {
    i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1)
}

/// Milliseconds, fixed to a moment of monotonic time.
#[derive(Debug, Clone, Copy)]
struct Line {
    instant: Instant,
    ms: i64,
}

impl Line {
    fn of(now: Now) -> Line {
        Line { instant: now.instant, ms: now.unix_ms }
    }

    fn at(self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.instant).as_millis();
        self.ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    /// When it shows this; its beginning for what was before.
    fn when(self, ms: i64) -> Option<Instant> {
        let ahead = u64::try_from(ms.saturating_sub(self.ms)).unwrap_or(0);
        self.instant.checked_add(Duration::from_millis(ahead))
    }
}

/// How far a schedule is.
#[derive(Debug, Clone, Copy)]
enum Course {
    /// Nothing is known since the start; the table has this.
    Unmet(Option<i64>),
    /// An interval that began at the start, because no clock could tell how far it had been; the
    /// table says this, for a clock that can.
    Provisional(Line, i64),
    /// Its time line.
    Met(Line),
}

/// A schedule of a function.
#[derive(Debug)]
struct Schedule {
    plan: SchedulePlan,
    course: Course,
    /// Up to when on its time line what was due is done.
    done: i64,
    /// When it is due first after that.
    due: Option<i64>,
    /// The table has it.
    noted: bool,
    /// How often it was due since it was given last, and was left out.
    left_out: u64,
    in_call: bool,
    /// Given, not done, and to be given again then.
    again: Option<(Fired, Instant)>,
    /// What became of it since the start.
    past: Past,
}

/// For the operator.
#[derive(Debug, Clone, Copy, Default)]
struct Past {
    runs: u64,
    missed: u64,
    /// When the last run was due, milliseconds since 1970.
    last_ms: Option<i64>,
}

impl Schedule {
    fn line(&self) -> Option<Line> {
        match self.course {
            Course::Unmet(_) => None,
            Course::Provisional(line, _) | Course::Met(line) => Some(line),
        }
    }

    fn set_done(&mut self, done: i64) {
        self.done = done;
        self.due = self.plan.rhythm.next_after(done);
    }

    /// Looks at the clock.
    fn meet_clock(&mut self, now: Now) {
        if self.in_call || self.again.is_some() {
            return;
        }
        let trusted = now.clock == ClockQuality::Synced;
        match (&self.plan.rhythm, self.course) {
            (Rhythm::Every(_), Course::Met(_)) => {}
            (Rhythm::Every(_), Course::Unmet(Some(done)) | Course::Provisional(_, done))
                if trusted =>
            {
                self.course = Course::Met(Line::of(now));
                self.set_done(done.min(now.unix_ms));
                self.leave_out(now);
            }
            (Rhythm::Every(_), Course::Unmet(noted)) => {
                let line = Line::of(now);
                self.course =
                    noted.map_or(Course::Met(line), |done| Course::Provisional(line, done));
                self.set_done(line.ms);
            }
            (Rhythm::Every(_), Course::Provisional(..)) => {}
            (Rhythm::Cron(_), _) if !trusted => {}
            (Rhythm::Cron(_), Course::Unmet(noted)) => {
                self.course = Course::Met(Line::of(now));
                self.set_done(noted.unwrap_or(now.unix_ms));
                self.begin_anew_after_set_back(now);
                self.leave_out(now);
            }
            (Rhythm::Cron(_), Course::Provisional(..) | Course::Met(_)) => {
                self.course = Course::Met(Line::of(now));
                self.begin_anew_after_set_back(now);
            }
        }
    }

    fn begin_anew_after_set_back(&mut self, now: Now) {
        if self.done.saturating_sub(now.unix_ms) > MAX_SET_BACK_MS {
            self.set_done(now.unix_ms);
        }
    }

    /// What was due until now and not given is over, where the configuration wants it so.
    fn leave_out(&mut self, now: Now) {
        let (Some(line), Some(due)) = (self.line(), self.due) else { return };
        let at = line.at(now.instant);
        let waits = self.in_call || self.again.is_some();
        if self.plan.missed != Missed::Skip || waits || due > at {
            return;
        }
        self.left_out += self.plan.rhythm.further(due, at) + 1;
        self.set_done(self.plan.rhythm.before_last(due, at, 0));
    }

    /// When it may be given.
    fn next(&self) -> Option<Instant> {
        if self.in_call {
            return None;
        }
        match &self.again {
            Some((_, at)) => Some(*at),
            None => self.line()?.when(self.due?),
        }
    }

    /// Gives it, when it is due.
    fn take(&mut self, now: Now, seq: u64) -> Option<Fired> {
        if let Some((fired, _)) = self.again.take() {
            return Some(fired);
        }
        self.meet_clock(now);
        let (Some(line), Some(due)) = (self.line(), self.due) else { return None };
        let at = line.at(now.instant);
        if due > at {
            return None;
        }
        let further = self.plan.rhythm.further(due, at);
        let left_out = match self.plan.missed {
            Missed::Skip | Missed::Once => further,
            Missed::All => (further + 1).saturating_sub(MAX_CAUGHT_UP),
        };
        let given = match left_out {
            0 => due,
            _ => self.plan.rhythm.before_last(due, at, further - left_out),
        };
        // From here on it goes by this line, whatever a clock may say of the one before.
        self.course = Course::Met(line);
        Some(Fired {
            name: self.plan.name.clone(),
            whose: Whose::Schedule { given },
            seq,
            due_ms: match self.plan.rhythm {
                Rhythm::Every(_) => now.unix_ms.saturating_sub(at - given),
                Rhythm::Cron(_) => given,
            },
            missed: self.left_out + left_out,
            attempt: 0,
        })
    }

    /// That everything up to `done` is done, as the table has it.
    fn note(&self, now: Now, done: i64) -> Vec<u8> {
        let wall = match (&self.plan.rhythm, self.line(), now.clock) {
            (Rhythm::Cron(_), ..) => Some(done),
            (Rhythm::Every(_), Some(line), ClockQuality::Synced) => {
                Some(now.unix_ms.saturating_sub(line.at(now.instant) - done))
            }
            (Rhythm::Every(_), _, ClockQuality::Unsynced) | (Rhythm::Every(_), None, _) => None,
        };
        encode(wall, &self.plan.rhythm.text())
    }
}

/// The schedules of a function.
#[derive(Debug)]
pub(crate) struct Schedules {
    table: TableId,
    /// What keys of the table begin with: the function's name and a zero byte.
    prefix: Vec<u8>,
    all: Vec<Schedule>,
    /// Keys of schedules that it does not have any more.
    useless: Vec<Vec<u8>>,
}

impl Schedules {
    /// Those of the plan, as far as the table says.
    pub(crate) fn define(log: &mut Log, plan: &FunctionPlan) -> Result<Schedules, DefineError> {
        let table = log.table(TABLE)?;
        let prefix = [plan.name.as_bytes(), &[0]].concat();
        let entries = log.table_entries(table);
        let schedule = |plan: &SchedulePlan| {
            let entry = entries.get(&[&prefix, plan.name.as_bytes()].concat());
            let note = entry.and_then(|value| decode(value));
            let note = note.filter(|(_, rhythm)| *rhythm == plan.rhythm.text());
            Schedule {
                plan: plan.clone(),
                noted: note.is_some(),
                course: Course::Unmet(note.and_then(|(done, _)| done)),
                done: 0,
                due: None,
                left_out: 0,
                in_call: false,
                again: None,
                past: Past::default(),
            }
        };
        let all: Vec<Schedule> = plan.schedules.iter().map(schedule).collect();
        let own = entries.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let known = |key: &[u8]| all.iter().any(|one| one.plan.name.as_bytes() == key);
        let useless = own.filter(|(key, _)| !known(&key[prefix.len()..]));
        let useless = useless.map(|(key, _)| key.clone()).collect();
        Ok(Schedules { table, useless, all, prefix })
    }

    /// When the next one may be given.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.all.iter().filter_map(Schedule::next).min()
    }

    pub(crate) fn meet_clock(&mut self, now: Now) {
        self.all.iter_mut().for_each(|schedule| schedule.meet_clock(now));
    }

    /// The function runs again after a pause.
    pub(crate) fn resumed(&mut self, now: Now) {
        self.all.iter_mut().for_each(|schedule| schedule.leave_out(now));
    }

    /// Takes up the one that has been due longest, if one is. `seq` is its number.
    pub(crate) fn take_due(&mut self, now: Now, seq: u64) -> Option<Fired> {
        let due = self.all.iter_mut().filter(|one| one.next().is_some_and(|at| at <= now.instant));
        let schedule = due.min_by_key(|schedule| schedule.next())?;
        let fired = schedule.take(now, seq)?;
        schedule.in_call = true;
        Some(fired)
    }

    fn named(&mut self, fired: &Fired) -> Option<&mut Schedule> {
        self.all.iter_mut().find(|schedule| schedule.plan.name == fired.name)
    }

    /// It was not done: it is given again then, as it was, with so many tries failed.
    pub(crate) fn give_again(&mut self, fired: &Fired, at: Instant, attempt: u16) {
        let Some(schedule) = self.named(fired) else { return };
        schedule.in_call = false;
        schedule.again = Some((Fired { attempt, ..fired.clone() }, at));
    }

    /// Stages that a run is done.
    pub(crate) fn stage(&self, now: Now, fired: &Fired, into: &mut Transaction) {
        let Whose::Schedule { given } = fired.whose else { return };
        let schedule = self.all.iter().find(|schedule| schedule.plan.name == fired.name);
        let Some(schedule) = schedule else { return };
        into.put(self.table, self.key(&fired.name), schedule.note(now, given));
    }

    /// What was staged is committed.
    pub(crate) fn install(&mut self, fired: &Fired) {
        let Whose::Schedule { given } = fired.whose else { return };
        let Some(schedule) = self.named(fired) else { return };
        (schedule.in_call, schedule.noted, schedule.left_out) = (false, true, 0);
        schedule.past.runs += 1;
        schedule.past.missed += fired.missed;
        schedule.past.last_ms = Some(fired.due_ms);
        schedule.set_done(given);
    }

    /// What the operator sees of them.
    pub(crate) fn status(&self, now: Now) -> Vec<ScheduleStatus> {
        let status = |one: &Schedule| {
            let next = one.next().map(|at| at.saturating_duration_since(now.instant));
            let (every, cron) = match &one.plan.rhythm {
                Rhythm::Every(period) => (Some(ms(*period).unsigned_abs()), None),
                Rhythm::Cron(cron) => (None, Some(cron.as_str().to_owned())),
            };
            ScheduleStatus {
                name: one.plan.name.clone(),
                every_ms: every,
                cron,
                next_in_ms: next.map(|wait| wait.as_millis() as u64),
                running: one.in_call,
                last_due_ms: one.past.last_ms,
                runs: one.past.runs,
                missed: one.past.missed + one.left_out,
            }
        };
        self.all.iter().map(status).collect()
    }

    fn key(&self, name: &str) -> Vec<u8> {
        [&self.prefix, name.as_bytes()].concat()
    }
}

impl Gateway {
    /// Notes when schedules that are new have begun, so that what is missed from then on is
    /// known, and forgets those that are gone.
    pub(crate) fn note_schedules(&mut self, now: Now) {
        let mut next = 0;
        while let Some(index) = self.functions.from(next) {
            next = index + 1;
            // A canary has none of its own: those of the version that runs are given.
            if self.functions[index].parked || self.functions[index].canary_of.is_some() {
                continue;
            }
            // The version before may have them, and be taken back.
            let forgets = !self.versions.is_on_trial(index);
            let schedules = &self.functions[index].schedules;
            let mut transaction = Transaction::new();
            let begun = |one: &&Schedule| !one.noted && one.line().is_some() && !one.in_call;
            let begun: Vec<String> =
                schedules.all.iter().filter(begun).map(|one| one.plan.name.clone()).collect();
            for one in schedules.all.iter().filter(|one| begun.contains(&one.plan.name)) {
                transaction.put(
                    schedules.table,
                    schedules.key(&one.plan.name),
                    one.note(now, one.done),
                );
            }
            let useless = schedules.useless.iter().filter(|_| forgets);
            let useless = useless.take(FORGOTTEN_AT_ONCE).cloned().collect::<Vec<_>>();
            useless.iter().for_each(|key| transaction.delete(schedules.table, key.clone()));
            // What the log has no room for now is tried again in a second.
            let nothing = begun.is_empty() && useless.is_empty();
            if nothing || self.log.commit(now.instant, transaction).is_err() {
                continue;
            }
            let schedules = &mut self.functions[index].schedules;
            schedules.useless.drain(..useless.len());
            let begun = |one: &&mut Schedule| begun.contains(&one.plan.name);
            schedules.all.iter_mut().filter(begun).for_each(|one| one.noted = true);
        }
    }

    /// Forgets the schedules of functions that are not there any more.
    pub(crate) fn forget_schedules(
        log: &mut Log,
        now: Instant,
        is_there: impl Fn(&Log, &str) -> bool,
    ) {
        let Ok(table) = log.table(TABLE) else { return };
        let name = |key: &[u8]| key.split(|byte| *byte == 0).next().map(<[u8]>::to_vec);
        let gone = |key: &&Vec<u8>| {
            let name = name(key).and_then(|name| String::from_utf8(name).ok());
            !name.is_some_and(|name| is_there(log, &name))
        };
        let gone: Vec<Vec<u8>> = log.table_entries(table).keys().filter(gone).cloned().collect();
        for keys in gone.chunks(FORGOTTEN_AT_ONCE) {
            let mut transaction = Transaction::new();
            keys.iter().for_each(|key| transaction.delete(table, key.clone()));
            // What the log has no room for now goes at the next start.
            if log.commit(now, transaction).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cron::Cron;

    /// Frozen: what an earlier version wrote must stay readable. Files are only ever added.
    #[test]
    fn the_schedules_of_version_1_are_the_frozen_ones_and_nothing_else_is_one() {
        let golden: [(&[u8], Option<i64>, &str); 2] = [
            (
                include_bytes!("../../../tests/golden/functions/v1/schedule-cron.bin"),
                Some(1_780_000_200_000),
                "cron */5 * * * *",
            ),
            (
                include_bytes!("../../../tests/golden/functions/v1/schedule-every.bin"),
                None,
                "every 10000000",
            ),
        ];
        for (frozen, done, rhythm) in golden {
            assert_eq!(encode(done, rhythm), frozen);
            assert_eq!(decode(frozen), Some((done, rhythm.to_owned())));
            for cut in 0..10 {
                assert_eq!(decode(&frozen[..cut]), None, "{cut} bytes");
            }
            assert_eq!(decode(&[&[2], &frozen[1..]].concat()), None, "a version");
            assert_eq!(decode(&[&[1, 2], &frozen[2..]].concat()), None, "a kind");
        }
    }

    #[test]
    fn an_interval_and_a_time_table_count_and_go_back_alike() {
        let minutely = [
            Rhythm::Every(Duration::from_secs(60)),
            Rhythm::Cron(Cron::parse("* * * * *").unwrap()),
        ];
        for rhythm in minutely {
            let (due, by) = (600_000, 1_230_000);
            assert_eq!(rhythm.next_after(due), Some(660_000));
            assert_eq!((rhythm.further(due, due), rhythm.further(due, by)), (0, 10));
            assert_eq!(rhythm.before_last(due, by, 0), 1_200_000);
            assert_eq!(rhythm.before_last(due, by, 3), 1_020_000);
        }
    }
}
