//! A version that is tried on a share of the keys, beside the one that runs.
//!
//! Both have one cursor, one queue and one state: the canary is a second place where calls of the
//! same function go, with a slot and workers of its own. The hash of a record's key says which of
//! the two gets it. What the canary fails or gives up goes to the present version, so a bad canary
//! costs a call and no record. It is judged by what it fails, by its deadline and by its time for a
//! record, against the present version meanwhile, and promoted or taken back by that.
//!
//! Invariants:
//! - what the canary does counts by the same commit as that of the present version;
//! - a record is in one call, of one of the two;
//! - that it begins, is promoted or is taken back is in the alias and on the stream
//!   `function-events` in one commit.

use std::time::{Duration, Instant};

use tidegate_stream::Position;

use crate::alias::{Alias, CanaryVersion, FailedVersion};
use crate::call::CallVerdict;
use crate::clock::Now;
use crate::effects::Effects;
use crate::function::FunctionRun;
use crate::gateway::{Gateway, Notice, Output};
use crate::intake::Intake;
use crate::origin::Origin;
use crate::plan::{FunctionPlan, Ordering};
use crate::queue::InputRecord;
use crate::tally::Tally;
use crate::versions::{AGAIN, Install, Told, VersionError, readers};

/// Parts that a share is counted in: hundredths of a percent.
pub const SHARES: u16 = 10_000;
/// The largest share: the present version stays the measure.
pub const MAX_SHARE: u16 = SHARES / 2;
/// Records that it fails before it is judged by that.
const MIN_ERRORS: u64 = 3;
/// Records of it before its share of failed ones says something.
const MIN_SEEN: u64 = 20;
/// Deadlines that it misses before it is judged by that.
const MIN_LATE: u64 = 2;
/// Records of each before times are compared.
const MIN_TIMED: u64 = 50;
/// It may fail, or miss, twice as much as the present version, and one in a hundred.
const ALLOWED: f64 = 0.01;
/// It may take three times as long for a record, and this.
const SLOWER: f64 = 3.0;
const NOISE_US: f64 = 500.0;

/// On what terms a canary is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryTerms {
    /// Its share of the keys, in hundredths of a percent: 1 to [`MAX_SHARE`].
    pub share: u16,
    /// Records that it must have been given before it is promoted.
    pub records: u32,
    /// How long it must have been tried before it is promoted.
    pub length: Duration,
}

/// What the function's run knows of its canary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beside {
    pub(crate) slot: usize,
    pub(crate) share: u16,
    /// Calls of it under way.
    pub(crate) running: usize,
}

/// A canary that is tried.
pub(crate) struct CanaryTrial {
    pub(crate) slot: usize,
    terms: CanaryTerms,
    pub(crate) ends: Instant,
    /// The present version when it began.
    before: Seen,
    /// It was judged bad, and the log has not taken that yet.
    failed: Option<String>,
}

/// Which of the two versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Present,
    Canary,
}

/// What goes to one side only.
#[derive(Clone, Copy)]
pub(crate) struct Split<'a> {
    pub(crate) share: u16,
    pub(crate) intakes: &'a [Intake],
    /// The intake of events: those are of no key, and the present version's.
    pub(crate) events: Option<usize>,
    pub(crate) side: Side,
}

impl Split<'_> {
    /// Whether a record is of this side.
    pub(crate) fn has(&self, one: &InputRecord) -> bool {
        if self.events == Some(one.source) {
            return self.side == Side::Present;
        }
        let canary = !one.tries.handed_back && self.part_of(one) < self.share;
        canary == (self.side == Side::Canary)
    }

    /// By the partition key of the stream, else by the topic: the same for all records of a key.
    fn part_of(&self, one: &InputRecord) -> u16 {
        let (record, user) = (&one.record, &one.attributes.user);
        let key = self.intakes.get(one.source).and_then(|intake| intake.share_key.as_ref());
        let key = key.and_then(|key| key.of(&record.topic, &record.client, user));
        part(key.unwrap_or(&record.topic))
    }
}

impl std::fmt::Debug for Split<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Split { share, side, events: _, intakes: _ } = self;
        f.debug_struct("Split").field("share", share).field("side", side).finish_non_exhaustive()
    }
}

/// FNV-1a, mixed once more: short keys differ in few bits.
fn part(key: &str) -> u16 {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut z = key.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) % u64::from(SHARES)) as u16
}

/// What was seen of a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// Records handled.
    records: u64,
    /// Records that it failed or gave up, or wanted again, at the first try.
    erred: u64,
    calls: u64,
    late: u64,
    busy: Duration,
}

impl Seen {
    fn of(tally: &Tally) -> Seen {
        Seen {
            records: tally.records,
            erred: tally.erred,
            calls: tally.calls,
            late: tally.deadline_misses,
            busy: tally.busy,
        }
    }

    fn since(self, before: Seen) -> Seen {
        Seen {
            records: self.records.saturating_sub(before.records),
            erred: self.erred.saturating_sub(before.erred),
            calls: self.calls.saturating_sub(before.calls),
            late: self.late.saturating_sub(before.late),
            busy: self.busy.saturating_sub(before.busy),
        }
    }

    fn us_per_record(self) -> f64 {
        self.busy.as_secs_f64() * 1e6 / self.records.max(1) as f64
    }
}

fn share_of(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Why a canary is taken back, if it is to be.
fn fault(canary: Seen, present: Seen) -> Option<String> {
    let given = canary.records + canary.erred;
    if canary.late >= MIN_LATE
        && share_of(canary.late, canary.calls)
            > 2.0 * share_of(present.late, present.calls) + ALLOWED
    {
        return Some(format!(
            "it missed its deadline in {} of {} calls, the present version in {} of {}",
            canary.late, canary.calls, present.late, present.calls
        ));
    }
    let nothing_went_well = canary.records == 0;
    if canary.erred >= MIN_ERRORS
        && (nothing_went_well || given >= MIN_SEEN)
        && share_of(canary.erred, given) > 2.0 * share_of(present.erred, present.records) + ALLOWED
    {
        return Some(format!(
            "it failed {} of {given} records, the present version {} of {}",
            canary.erred, present.erred, present.records
        ));
    }
    let (us, present_us) = (canary.us_per_record(), present.us_per_record());
    if canary.records.min(present.records) >= MIN_TIMED
        && us > SLOWER * present_us
        && us > present_us + NOISE_US
    {
        return Some(format!(
            "it takes {us:.0} us a record, the present version {present_us:.0} us"
        ));
    }
    None
}

impl Gateway {
    /// Tries a version on a share of the keys. It is on flash when the log is durable through the
    /// position.
    pub(crate) fn install_canary(
        &mut self,
        now: Now,
        install: &Install,
        terms: CanaryTerms,
    ) -> Result<Position, VersionError> {
        let name = install.plan.name.clone();
        let refused = |text: &str| Err(VersionError::Refused(text.to_owned()));
        let Some(alias) = self.alias(&name).filter(|alias| alias.current.is_some()) else {
            return refused("there is no version yet that a canary could run beside");
        };
        if alias.on_trial {
            return refused("the present version is on trial; wait for the end of that");
        }
        let Some(main) = self.versions.slot_of(&name) else {
            return refused("the present version does not run; push without --canary");
        };
        if !(1..=MAX_SHARE).contains(&terms.share) {
            return refused("the share of a canary is 0.01 % to 50 % of the keys");
        }
        if install.plan.inputs.is_empty() {
            return refused(
                "it reads no stream, so there are no keys to share; push without --canary",
            );
        }
        let present = &self.functions[main].plan;
        if present.inputs != install.plan.inputs
            || present.ordering != install.plan.ordering
            || present.events != install.plan.events
        {
            return refused(
                "a canary reads the same streams and topics, in the same ordering, and is told of \
                 the same events, as the present version; push without --canary",
            );
        }
        let run = self.define_version(now, &install.plan)?;
        let (share, records) = (terms.share, terms.records);
        let canary = CanaryVersion { version: install.version.clone(), share, records };
        let alias = Alias { canary: Some(canary), ..alias };
        let reason = format!("on {} % of the keys", f64::from(share) / 100.0);
        let told = Told {
            event: "canary",
            name: &name,
            version: Some(&install.version),
            reason: Some(&reason),
        };
        let position = self.commit_alias(now, &name, Some(&alias), &told)?;
        self.begin_canary(now, main, run, terms);
        Ok(position)
    }

    /// Goes on with the canary of a name after the start of the gateway: its trial begins anew.
    ///
    /// # Errors
    /// There is none, the present version does not run, or the store has no room.
    pub fn resume_canary(
        &mut self,
        now: Now,
        plan: &FunctionPlan,
        length: Duration,
    ) -> Result<usize, VersionError> {
        let unknown = || VersionError::Unknown(plan.name.clone());
        let canary = self.alias(&plan.name).and_then(|alias| alias.canary).ok_or_else(unknown)?;
        let main = self.versions.slot_of(&plan.name).ok_or_else(unknown)?;
        let run = self.define_version(now, plan)?;
        let terms = CanaryTerms { share: canary.share, records: canary.records, length };
        Ok(self.begin_canary(now, main, run, terms))
    }

    /// Takes the canary of a name back, for a reason in words.
    ///
    /// # Errors
    /// There is none, or the log does not take it now.
    pub fn withdraw_canary(
        &mut self,
        now: Now,
        name: &str,
        reason: &str,
    ) -> Result<Position, VersionError> {
        let alias = self.alias(name).ok_or_else(|| VersionError::Unknown(name.to_owned()))?;
        let Some(canary) = alias.canary.clone() else {
            return Err(VersionError::Refused(format!("function \"{name}\" has no canary")));
        };
        let (version, unix_ms, reason) = (canary.version, now.unix_ms, reason.to_owned());
        let failed = Some(FailedVersion { version: version.clone(), unix_ms, reason });
        let after = Alias { canary: None, failed, ..alias };
        let reason = after.failed.as_ref().map(|failed| failed.reason.as_str());
        let told = Told { event: "rolled-back", name, version: Some(&version), reason };
        let position = self.commit_alias(now, name, Some(&after), &told)?;
        self.end_canary(name);
        self.emit(Output::Notice(Notice::RolledBack {
            function: name.to_owned(),
            version: version.label,
            to: after.current.map(|current| current.label),
            reason: reason.unwrap_or_default().to_owned(),
        }));
        Ok(position)
    }

    fn begin_canary(
        &mut self,
        now: Now,
        main: usize,
        mut run: FunctionRun,
        terms: CanaryTerms,
    ) -> usize {
        let name = run.plan.name.clone();
        run.canary_of = Some(main);
        let slot = self.functions.push(run);
        let before = Seen::of(&self.functions[main].tally);
        let beside = Beside { slot, share: terms.share, running: 0 };
        self.functions[main].canary = Some(beside);
        self.functions[main].wake();
        let ends = now.instant + terms.length;
        let trial = CanaryTrial { slot, terms, ends, before, failed: None };
        self.versions.set_canary(&name, Some(trial));
        let canary = self.alias(&name).and_then(|alias| alias.canary);
        if let Some(canary) = canary {
            self.order_start(slot, name, canary.version.package);
        }
        slot
    }

    /// What the canary has in its calls goes to the present version, and its slot is empty.
    fn end_canary(&mut self, name: &str) {
        let Some(trial) = self.versions.set_canary(name, None) else { return };
        let Some(main) = self.functions[trial.slot].canary_of else { return };
        let mut back = Vec::new();
        for worker in &mut self.functions[trial.slot].workers {
            let running = worker.running.take();
            back.extend(running.into_iter().flat_map(|running| running.origin.into_records()));
        }
        self.empty_slot(trial.slot);
        let run = &mut self.functions[main];
        run.canary = None;
        run.release(&back);
        run.give_back(back);
        run.wake();
    }

    /// The calls of a function's canary that are under way do not count. Answers their records.
    pub(crate) fn void_canary_calls(&mut self, main: usize) -> Vec<InputRecord> {
        let Some(beside) = self.functions[main].canary else { return Vec::new() };
        let workers = self.functions[beside.slot].workers.iter_mut();
        let running = workers.filter_map(|worker| worker.running.as_mut());
        let origins = running.map(|running| std::mem::replace(&mut running.origin, Origin::Void));
        origins.flat_map(Origin::into_records).collect()
    }

    /// A batch for one of the versions, with the slot that its call goes to.
    pub(crate) fn pick_batch(
        &mut self,
        now: Now,
        main: usize,
    ) -> Option<(usize, Vec<InputRecord>)> {
        let run = &mut self.functions[main];
        if !run.takes_work() {
            return None;
        }
        let Some(beside) = run.canary else {
            return Some((main, run.pick(now.instant, None)?));
        };
        let strict = run.plan.ordering == Ordering::Strict;
        if strict && !run.is_idle() {
            return None;
        }
        let canary = &self.functions[beside.slot];
        let canary_is_free = !canary.parked && canary.free_worker().is_some();
        let run = &mut self.functions[main];
        let present_is_free = run.free_worker().is_some();
        for (slot, side, is_free) in
            [(main, Side::Present, present_is_free), (beside.slot, Side::Canary, canary_is_free)]
        {
            if is_free && let Some(batch) = run.pick(now.instant, Some(side)) {
                return Some((slot, batch));
            }
        }
        None
    }

    /// Decides what the end of a call of the canary means for its batch.
    pub(crate) fn judge_canary_call(
        &mut self,
        now: Now,
        (main, slot): (usize, usize),
        mut batch: Vec<InputRecord>,
        verdict: CallVerdict,
    ) {
        match verdict {
            CallVerdict::Done(frame) => match self.effects(now, slot, &batch, &frame) {
                Ok(effects) => {
                    let effects = Effects { canary: Some(slot), ..effects };
                    self.apply_canary(now, (main, slot), batch, effects);
                }
                Err(failure) => self.canary_call_failed(main, slot, batch, failure),
            },
            CallVerdict::Failed(failure) | CallVerdict::Late(failure) => {
                self.canary_call_failed(main, slot, batch, failure);
            }
            CallVerdict::RetryBatch | CallVerdict::DeadLetterBatch => {
                self.functions[slot].tally.erred += batch.len() as u64;
                batch.iter_mut().for_each(hand_back);
                self.again(main, batch);
            }
        }
        self.weigh_canary(now, main);
    }

    /// What it gives up, or wants again, the present version gets.
    fn apply_canary(
        &mut self,
        now: Now,
        (main, slot): (usize, usize),
        mut batch: Vec<InputRecord>,
        mut effects: Effects,
    ) {
        let dead = std::mem::take(&mut effects.dead);
        effects.retry.extend(dead);
        self.functions[slot].tally.erred += effects.retry.len() as u64;
        for at in effects.retry.keys() {
            hand_back(&mut batch[*at]);
        }
        let ordering = self.functions[main].plan.ordering;
        let nothing_done = effects.retry.len() == batch.len() && !batch.is_empty();
        if nothing_done || crate::verdict::overtakes(ordering, &batch, &effects.retry) {
            return self.again(main, batch);
        }
        self.commit(now, main, batch, effects);
    }

    pub(crate) fn canary_call_failed(
        &mut self,
        main: usize,
        slot: usize,
        mut batch: Vec<InputRecord>,
        failure: String,
    ) {
        let tally = &mut self.functions[slot].tally;
        tally.failures += 1;
        tally.last_failure = Some(failure.clone());
        match batch.as_mut_slice() {
            [one] => {
                tally.erred += 1;
                hand_back(one);
            }
            many => crate::verdict::divide(many),
        }
        let function = self.functions[slot].plan.name.clone();
        let failure = format!("canary: {failure}");
        self.emit(Output::Notice(Notice::CallFailed { function, records: batch.len(), failure }));
        self.again(main, batch);
    }

    /// Takes the canary back if it is bad, or promotes it if it has been good for long enough.
    fn weigh_canary(&mut self, now: Now, main: usize) {
        let name = self.functions[main].plan.name.clone();
        let Some(trial) = self.versions.canary(&name) else { return };
        let canary = &self.functions[trial.slot];
        let seen = Seen::of(&canary.tally);
        let present = Seen::of(&self.functions[main].tally).since(trial.before);
        let last = canary.tally.last_failure.as_ref();
        let fault = fault(seen, present).map(|fault| match last {
            Some(last) => format!("{fault}; the last failure: {last}"),
            None => fault,
        });
        let fault = match (&trial.failed, canary.parked) {
            (Some(failed), _) => Some(failed.clone()),
            (None, true) => Some(last.cloned().unwrap_or_else(|| "it does not run".to_owned())),
            (None, false) => fault,
        };
        let given = seen.records + seen.erred;
        let is_over = now.instant >= trial.ends && given >= u64::from(trial.terms.records);
        match fault {
            Some(reason) => self.canary_is_bad(now, &name, &reason),
            None if is_over => {
                let reason = format!(
                    "it handled {} records and failed {}, the present version {} and {}",
                    seen.records, seen.erred, present.records, present.erred
                );
                self.promote_canary(now, &name, &reason);
            }
            None => {}
        }
    }

    /// Until the log has taken it, it is tried again, and the canary gets nothing.
    fn canary_is_bad(&mut self, now: Now, name: &str, reason: &str) {
        let Err(error) = self.withdraw_canary(now, name, reason) else { return };
        let Some(trial) = self.versions.canary_mut(name) else { return };
        trial.failed = Some(reason.to_owned());
        trial.ends = now.instant + AGAIN;
        let slot = trial.slot;
        self.functions[slot].parked = true;
        self.tell_version_waits(name, &error);
    }

    /// The time of canaries has come: those that have had enough records are judged.
    pub(crate) fn judge_canaries(&mut self, now: Now) {
        for (name, main) in self.versions.canaries_due(now.instant) {
            self.weigh_canary(now, main);
            if let Some(trial) = self.versions.canary_mut(&name).filter(|t| t.ends <= now.instant) {
                trial.ends = now.instant + AGAIN;
            }
        }
    }

    /// The shell could not make a canary ready.
    pub(crate) fn canary_not_started(&mut self, now: Now, main: usize, why: &str) {
        let name = self.functions[main].plan.name.clone();
        self.canary_is_bad(now, &name, &format!("it cannot start: {why}"));
    }

    /// Lets it run in place of the present version: in the slot that it has, with cursor and state.
    fn promote_canary(&mut self, now: Now, name: &str, reason: &str) {
        let Some(slot) = self.versions.canary(name).map(|trial| trial.slot) else { return };
        let Some(alias) = self.alias(name) else { return };
        let Some(canary) = alias.canary.clone() else { return };
        let plan = self.functions[slot].plan.clone();
        let after = Alias {
            current: Some(canary.version.clone()),
            on_trial: false,
            since_unix_ms: now.unix_ms,
            previous: alias.current,
            failed: alias.failed,
            canary: None,
        };
        let told =
            Told { event: "promoted", name, version: Some(&canary.version), reason: Some(reason) };
        // Without room in the log it goes on as a canary, and is judged again.
        let Ok(mut run) = self.define_version(now, &plan) else { return };
        if self.commit_alias(now, name, Some(&after), &told).is_err() {
            return;
        }
        self.versions.set_canary(name, None);
        self.stop_version(name);
        let tally = std::mem::take(&mut self.functions[slot].tally);
        let kept = readers(&run);
        run.tally = tally;
        self.functions[slot] = run;
        self.versions.put(name.to_owned(), slot);
        self.drop_readers_of(name, &kept);
    }
}

/// The present version handles it, with all its tries.
fn hand_back(one: &mut InputRecord) {
    one.tries.handed_back = true;
    one.tries.company = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(records: u64, erred: u64, late: u64, us: u64) -> Seen {
        let busy = Duration::from_micros(us * records);
        Seen { records, erred, calls: records / 4 + late, late, busy }
    }

    #[test]
    fn a_canary_is_judged_by_what_it_fails_misses_and_takes() {
        let present = seen(1_000, 1, 0, 20);
        let is_bad = |canary| fault(canary, present).is_some();
        for good in [
            seen(0, 0, 0, 0),
            seen(0, 2, 0, 0),
            seen(15, 3, 0, 20),
            seen(500, 3, 0, 20),
            seen(500, 0, 1, 20),
            seen(500, 0, 0, 500),
            seen(40, 0, 0, 5_000),
        ] {
            assert!(!is_bad(good), "{good:?}: {:?}", fault(good, present));
        }
        for (bad, words) in [
            (seen(0, 3, 0, 0), "it failed 3 of 3 records"),
            (seen(95, 5, 0, 20), "it failed 5 of 100 records, the present version 1 of 1000"),
            (seen(100, 0, 2, 20), "it missed its deadline in 2 of 27 calls"),
            (seen(100, 0, 0, 600), "it takes 600 us a record, the present version 20 us"),
        ] {
            let reason = fault(bad, present).unwrap();
            assert!(reason.contains(words), "{reason}");
        }
    }

    #[test]
    fn data_that_hurts_both_versions_takes_no_canary_back() {
        assert_eq!(fault(seen(95, 5, 0, 20), seen(950, 40, 0, 20)), None);
        assert_eq!(fault(seen(100, 0, 5, 20), seen(1_000, 0, 60, 20)), None);
    }

    #[test]
    fn keys_are_shared_out_evenly_and_always_the_same_way() {
        let canary =
            |share| (0..10_000).filter(|n| part(&format!("sensors/{n}/telemetry")) < share).count();
        assert!((900..1_100).contains(&canary(1_000)), "{}", canary(1_000));
        assert!((4_800..5_200).contains(&canary(5_000)), "{}", canary(5_000));
        assert_eq!(part("k1"), part("k1"));
    }
}
