//! Functions that come and go while the gateway runs: which version of a name runs, whether it is on
//! trial, and what takes it back (docs/formats/package.md).
//!
//! Invariants:
//! - The alias of a name and what is told of its change in the stream `function-events` are one
//!   transaction. What runs is what the newest alias says, so a power cut finds the old version
//!   or the new one.
//! - A version keeps the cursor and the state of its name. A call of the version before that is
//!   still under way when it is replaced counts for nothing; its records are handled by the new
//!   one.
//! - The index of a function never means another one: each version has one of its own
//!   (`roster.rs`).
//!
//! Not here: packages, their signatures and where they are kept; which version may be installed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tidegate_stream::{
    CommitError, Log, Position, ReaderId, Record, StreamId, TableId, Transaction,
};
use tidegate_wire::Digest;

use crate::alias::{Alias, FailedVersion, Version};
use crate::attributes::Attributes;
use crate::canary::{CanaryTerms, CanaryTrial};
use crate::clock::Now;
use crate::function::FunctionRun;
use crate::gateway::{BuildError, Gateway, Notice, Output};
use crate::losses::quoted;
use crate::plan::{FUNCTION_STREAM, FunctionPlan, Plan};
use crate::queue::Queue;
use crate::route::Routes;

/// Name of the table: key the function's name, value its [`Alias`].
const TABLE: &str = "packages";
/// Version of the events' JSON.
const VERSION: u32 = 1;
/// Client of the events.
const CLIENT: &str = "tidegate";
/// The topic of an event is this and the name of the function.
const TOPIC: &str = "tidegate/functions/";
/// Most functions, those of the configuration and canaries included: about 1 KiB each, without what they keep.
pub(crate) const MAX_SLOTS: usize = 1024;
/// Wait before a change that the log did not take is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// A version that is to run.
#[derive(Debug, Clone)]
pub struct Install {
    /// What it may do; its name is the one that is replaced.
    pub plan: FunctionPlan,
    /// Which version it is.
    pub version: Version,
    /// Who wants it.
    pub wish: Wish,
}

/// Why a version is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It was pushed: it must run so long without failure before it is kept.
    Pushed(Duration),
    /// It was pushed, to be tried on a share of the keys beside the version that runs.
    Canary(CanaryTerms),
    /// The operator takes it back: it is kept at once.
    TakenBack,
}

/// A version that ran before the gateway was started.
#[derive(Debug, Clone)]
pub struct Resume {
    /// What it may do.
    pub plan: FunctionPlan,
    /// What the version before may do, while this one is on trial.
    pub previous: Option<FunctionPlan>,
    /// How long it must run without failure, if it is on trial: from the start of the gateway.
    pub trial: Duration,
}

/// What the shell is to do about a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionOrder {
    /// Make ready what takes calls with this index.
    Start {
        /// The index.
        function: usize,
        /// The function's name.
        name: String,
        /// Where its module is.
        package: Digest,
        /// Calls that may be under way at a time.
        workers: usize,
    },
    /// No more calls with this index will come.
    Stop {
        /// The index.
        function: usize,
    },
}

/// Why a version is not installed, or not removed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not now: the disk has to catch up first. Try again.
    #[error("the disk does not take more right now")]
    Later,
    /// The name is the operator's.
    #[error(
        "function \"{0}\" is in the configuration; change it there, or take it out and restart"
    )]
    Configured(String),
    /// Nothing was pushed under this name.
    #[error("no function \"{0}\" was pushed")]
    Unknown(String),
    /// Too many at once.
    #[error("the gateway has {MAX_SLOTS} functions; remove one with `tidegate fn rm` first")]
    Slots,
    /// In words.
    #[error("{0}")]
    Refused(String),
}

/// The pushed functions of a gateway.
pub(crate) struct Versions {
    table: TableId,
    stream: StreamId,
    /// For the jitter of the functions' pauses.
    seed: u64,
    /// Names in the configuration.
    configured: BTreeSet<String>,
    /// What runs, by name.
    running: BTreeMap<String, Running>,
}

struct Running {
    slot: usize,
    trial: Option<Trial>,
    canary: Option<CanaryTrial>,
}

struct Trial {
    ends: Instant,
    /// What the version before may do.
    previous: Option<FunctionPlan>,
    /// It failed, and the log has not taken that yet.
    failed: Option<String>,
}

pub(crate) fn readers(run: &FunctionRun) -> Vec<ReaderId> {
    run.intakes.iter().map(|intake| intake.reader).collect()
}

/// What happened to a function, for its event.
pub(crate) struct Told<'a> {
    pub(crate) event: &'static str,
    pub(crate) name: &'a str,
    pub(crate) version: Option<&'a Version>,
    pub(crate) reason: Option<&'a str>,
}

impl Versions {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        plan: &Plan,
    ) -> Result<Versions, BuildError> {
        Ok(Versions {
            table: log.table(TABLE)?,
            stream: routes.required(FUNCTION_STREAM, "what is told of functions")?,
            seed: plan.seed,
            configured: plan.functions.iter().map(|plan| plan.name.clone()).collect(),
            running: BTreeMap::new(),
        })
    }

    /// Takes the names of another plan.
    pub(crate) fn configure(&mut self, functions: &[FunctionPlan]) {
        self.configured = functions.iter().map(|plan| plan.name.clone()).collect();
    }

    /// Whether the cursor of this reader belongs to a function that was pushed: what runs is known
    /// only later, and its records wait until then.
    pub(crate) fn has_reader(&self, log: &Log, reader: &str) -> bool {
        reader.strip_prefix("fn/").is_some_and(|name| self.has_function(log, name))
    }

    /// Whether a function of this name was pushed.
    pub(crate) fn has_function(&self, log: &Log, name: &str) -> bool {
        log.table_entries(self.table).contains_key(name.as_bytes())
    }

    /// Whether what runs in this slot may be taken back.
    pub(crate) fn is_on_trial(&self, slot: usize) -> bool {
        self.running.values().any(|running| running.slot == slot && running.trial.is_some())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let trials = self.running.values().filter_map(|running| running.trial.as_ref());
        let canaries = self.running.values().filter_map(|running| running.canary.as_ref());
        trials.map(|trial| trial.ends).chain(canaries.map(|trial| trial.ends)).min()
    }

    /// Where what runs under a name is.
    pub(crate) fn slot_of(&self, name: &str) -> Option<usize> {
        self.running.get(name).map(|running| running.slot)
    }

    pub(crate) fn canary(&self, name: &str) -> Option<&CanaryTrial> {
        self.running.get(name)?.canary.as_ref()
    }

    pub(crate) fn canary_mut(&mut self, name: &str) -> Option<&mut CanaryTrial> {
        self.running.get_mut(name)?.canary.as_mut()
    }

    /// Another canary, or none, is tried beside what runs; answers the one before.
    pub(crate) fn set_canary(
        &mut self,
        name: &str,
        canary: Option<CanaryTrial>,
    ) -> Option<CanaryTrial> {
        std::mem::replace(&mut self.running.get_mut(name)?.canary, canary)
    }

    /// Names, and slots of what runs under them, of the canaries whose time has come.
    pub(crate) fn canaries_due(&self, now: Instant) -> Vec<(String, usize)> {
        let due = |running: &Running| running.canary.as_ref().is_some_and(|c| c.ends <= now);
        let due = self.running.iter().filter(|(_, running)| due(running));
        due.map(|(name, running)| (name.clone(), running.slot)).collect()
    }

    /// What runs under a name, without a trial.
    pub(crate) fn put(&mut self, name: String, slot: usize) {
        self.running.insert(name, Running { slot, trial: None, canary: None });
    }

    fn of_slot(&mut self, slot: usize) -> Option<(&String, &mut Running)> {
        self.running.iter_mut().find(|(_, running)| running.slot == slot)
    }
}

impl Gateway {
    /// What the names of pushed functions stand for, also of those that do not run.
    pub fn aliases(&self) -> impl Iterator<Item = (&str, Alias)> {
        let entries = self.log.table_entries(self.versions.table).iter();
        entries.filter_map(|(name, value)| {
            Some((std::str::from_utf8(name).ok()?, Alias::decode(value)?))
        })
    }

    /// What this name stands for.
    pub fn alias(&self, name: &str) -> Option<Alias> {
        let entry = self.log.table_entries(self.versions.table).get(name.as_bytes())?;
        Alias::decode(entry)
    }

    /// Whether a function of this name is in the configuration.
    pub fn is_configured(&self, name: &str) -> bool {
        self.versions.configured.contains(name)
    }

    /// Goes on with the version that a name stands for, after the start of the gateway. Answers its
    /// index.
    ///
    /// # Errors
    /// The name is in the configuration by now, stands for nothing, or the store has no room.
    pub fn resume_version(&mut self, now: Now, resume: Resume) -> Result<usize, VersionError> {
        let name = resume.plan.name.clone();
        if self.is_configured(&name) {
            return Err(VersionError::Configured(name));
        }
        let alias = self.alias(&name).filter(|alias| alias.current.is_some());
        let alias = alias.ok_or_else(|| VersionError::Unknown(name.clone()))?;
        let run = self.define_version(now, &resume.plan)?;
        let ends = now.instant + resume.trial;
        let trial = Trial { ends, previous: resume.previous, failed: None };
        let slot = self.run_version(name.clone(), run, alias.on_trial.then_some(trial));
        if let Some(version) = alias.current {
            self.order_start(slot, name, version.package);
        }
        Ok(slot)
    }

    /// Lets a version run in place of the one before. It is on flash when the log is durable
    /// through the position.
    ///
    /// # Errors
    /// See [`VersionError`].
    pub fn install(&mut self, now: Now, install: Install) -> Result<Position, VersionError> {
        let name = install.plan.name.clone();
        if self.stopping {
            return Err(VersionError::Refused("the gateway is shutting down".to_owned()));
        }
        if self.is_configured(&name) {
            return Err(VersionError::Configured(name));
        }
        let old = self.alias(&name).unwrap_or_default();
        if let Some(canary) = &old.canary {
            let label = &canary.version.label;
            return Err(VersionError::Refused(format!(
                "version {label} is tried as a canary; wait for its end, or take it back with \
                 `tidegate fn rollback {name}`"
            )));
        }
        // A version that is still on trial is nothing to go back to.
        let previous = if old.on_trial { old.previous } else { old.current };
        let previous = previous.filter(|version| version.package != install.version.package);
        let (event, trial) = match install.wish {
            Wish::Pushed(length) => ("installed", Some(length)),
            Wish::TakenBack => ("taken-back", None),
            Wish::Canary(terms) => return self.install_canary(now, &install, terms),
        };
        let alias = Alias {
            current: Some(install.version.clone()),
            on_trial: trial.is_some(),
            since_unix_ms: now.unix_ms,
            previous,
            failed: old.failed,
            canary: None,
        };
        let run = self.define_version(now, &install.plan)?;
        let told = Told { event, name: &name, version: Some(&install.version), reason: None };
        let position = self.commit_alias(now, &name, Some(&alias), &told)?;
        let before = self.stop_version(&name).filter(|_| alias.previous.is_some());
        let trial = trial.map(|length| Trial {
            ends: now.instant + length,
            previous: before,
            failed: None,
        });
        let slot = self.run_version(name.clone(), run, trial);
        self.order_start(slot, name, install.version.package);
        Ok(position)
    }

    /// Takes a pushed function out: its cursor goes, its state stays for one that has its name.
    ///
    /// # Errors
    /// See [`VersionError`].
    pub fn remove_version(&mut self, now: Now, name: &str) -> Result<Position, VersionError> {
        let alias = self.alias(name).ok_or_else(|| VersionError::Unknown(name.to_owned()))?;
        let version = alias.current.as_ref();
        let told = Told { event: "removed", name, version, reason: None };
        let position = self.commit_alias(now, name, None, &told)?;
        self.stop_version(name);
        if !self.is_configured(name) {
            self.forget_function(now, name);
        }
        Ok(position)
    }

    /// Tells in the stream `function-events` that a version was refused before anything changed.
    pub fn tell_refused(&mut self, now: Now, name: &str, version: &Version, reason: &str) {
        let (version, reason) = (Some(version), Some(reason));
        let told = Told { event: "refused", name, version, reason };
        let mut transaction = Transaction::new();
        transaction.append(self.versions.stream, self.event_record(now, &told));
        // Who pushed it is told in any case; the record of it is worth no more than this try.
        let _ = self.log.commit(now.instant, transaction);
    }

    /// The shell could not make this index ready.
    pub fn not_started(&mut self, now: Now, function: usize, why: String) {
        if !self.functions.contains(function) {
            return;
        }
        if let Some(main) = self.functions.get(function).and_then(|run| run.canary_of) {
            return self.canary_not_started(now, main, &why);
        }
        if !self.failed_on_trial(now, function, &why) {
            self.park_function(function, why);
        }
    }

    /// A call failed. If the version is on trial it is taken back, and the answer is true: what the
    /// call was about is nobody's any more, and will be read again.
    pub(crate) fn failed_on_trial(&mut self, now: Now, slot: usize, failure: &str) -> bool {
        let Some((name, running)) = self.versions.of_slot(slot) else { return false };
        let Some(trial) = &mut running.trial else { return false };
        let name = name.clone();
        if trial.failed.is_none() {
            trial.failed = Some(failure.to_owned());
            self.park_function(slot, format!("on trial: {failure}"));
            self.roll_back(now, &name);
        }
        true
    }

    /// Ends the trials whose time has come.
    pub(crate) fn judge_trials(&mut self, now: Now) {
        let due = |running: &Running| running.trial.as_ref().is_some_and(|t| t.ends <= now.instant);
        let due = self.versions.running.iter().filter(|(_, running)| due(running));
        let names: Vec<String> = due.map(|(name, _)| name.clone()).collect();
        for name in names {
            let trial = self.versions.running.get(&name).and_then(|r| r.trial.as_ref());
            if trial.is_some_and(|trial| trial.failed.is_some()) {
                self.roll_back(now, &name);
            } else {
                self.confirm(now, &name);
            }
        }
    }

    fn confirm(&mut self, now: Now, name: &str) {
        let Some(alias) = self.alias(name) else { return };
        let alias = Alias { on_trial: false, ..alias };
        let version = alias.current.as_ref();
        let told = Told { event: "confirmed", name, version, reason: None };
        let done = self.commit_alias(now, name, Some(&alias), &told).is_ok();
        let Some(running) = self.versions.running.get_mut(name) else { return };
        match &mut running.trial {
            Some(trial) if !done => trial.ends = now.instant + AGAIN,
            trial => {
                *trial = None;
                let kept = self.functions.get(running.slot).map(readers).unwrap_or_default();
                self.drop_readers_of(name, &kept);
            }
        }
    }

    /// Takes the version before back, or none when there was none.
    fn roll_back(&mut self, now: Now, name: &str) {
        let Some(alias) = self.alias(name) else { return };
        let running = self.versions.running.get_mut(name);
        let Some(trial) = running.and_then(|running| running.trial.as_mut()) else { return };
        let reason = trial.failed.clone().unwrap_or_default();
        let plan = trial.previous.clone();
        // Until the log has taken it, it is tried again, and the version stands still.
        trial.ends = now.instant + AGAIN;
        let failed = alias.current.clone().map(|version| FailedVersion {
            version,
            unix_ms: now.unix_ms,
            reason: reason.clone(),
        });
        let after = Alias {
            current: alias.previous.clone(),
            on_trial: false,
            since_unix_ms: now.unix_ms,
            previous: None,
            failed,
            canary: None,
        };
        let run = match plan.as_ref().map(|plan| self.define_version(now, plan)).transpose() {
            Ok(run) => run,
            Err(error) => return self.tell_version_waits(name, &error),
        };
        let (version, reason) = (alias.current.as_ref(), Some(reason.as_str()));
        let told = Told { event: "rolled-back", name, version, reason };
        if let Err(error) = self.commit_alias(now, name, Some(&after), &told) {
            return self.tell_version_waits(name, &error);
        }
        self.stop_version(name);
        self.emit(Output::Notice(Notice::RolledBack {
            function: name.to_owned(),
            version: alias.current.map(|version| version.label).unwrap_or_default(),
            to: after.current.as_ref().map(|version| version.label.clone()),
            reason: reason.unwrap_or_default().to_owned(),
        }));
        match (run, after.current) {
            (Some(run), Some(version)) => {
                let slot = self.run_version(name.to_owned(), run, None);
                self.order_start(slot, name.to_owned(), version.package);
            }
            // Nothing to go back to: nobody holds the records any more.
            (_, None) => self.forget_function(now, name),
            // Its plan is not known: the records wait for the next start, or the next push.
            (None, Some(_)) => {}
        }
    }

    pub(crate) fn tell_version_waits(&mut self, name: &str, error: &VersionError) {
        let (function, why) = (name.to_owned(), error.to_string());
        self.emit(Output::Notice(Notice::VersionWaits { function, why }));
    }

    pub(crate) fn define_version(
        &mut self,
        now: Now,
        plan: &FunctionPlan,
    ) -> Result<FunctionRun, VersionError> {
        if self.functions.len() >= MAX_SLOTS {
            return Err(VersionError::Slots);
        }
        let refused = |error: BuildError| VersionError::Refused(error.to_string());
        if plan.is_told() {
            self.routes.reserve_events(&mut self.log).map_err(refused)?;
        }
        let (notes, seed) = (self.notes, self.versions.seed);
        FunctionRun::define(&mut self.log, &self.routes, notes, plan, now.instant, seed)
            .map_err(refused)
    }

    /// Gives a version a slot. What it does not read any more is not kept for it; on trial the
    /// cursors of the version before stay, which may be wanted again.
    fn run_version(&mut self, name: String, run: FunctionRun, trial: Option<Trial>) -> usize {
        if trial.is_none() {
            let kept = readers(&run);
            self.drop_readers_of(&name, &kept);
        }
        let slot = self.functions.push(run);
        self.versions.running.insert(name, Running { slot, trial, canary: None });
        slot
    }

    pub(crate) fn order_start(&mut self, function: usize, name: String, package: Digest) {
        let workers = self.functions.get(function).map_or(0, |run| run.workers.len());
        let order = FunctionOrder::Start { function, name, package, workers };
        self.emit(Output::Function(order));
    }

    /// Empties the slot of what runs under a name; answers the plan to go back to: its own, or
    /// while it was on trial that of the version before.
    pub(crate) fn stop_version(&mut self, name: &str) -> Option<FunctionPlan> {
        let Running { slot, trial, canary } = self.versions.running.remove(name)?;
        if let Some(canary) = canary {
            self.empty_slot(canary.slot);
        }
        self.park_function(slot, "another version runs".to_owned());
        self.dismiss_requests(slot);
        let plan = self.functions.get(slot).map(|run| run.plan.clone());
        self.empty_slot(slot);
        trial.map_or(plan, |trial| trial.previous)
    }

    /// Nothing runs there any more; the end of a call that is still under way is nobody's.
    pub(crate) fn empty_slot(&mut self, slot: usize) {
        if let Some(run) = self.functions.get_mut(slot) {
            run.workers.iter_mut().for_each(|worker| worker.running = None);
            // What it had read ahead, which may be megabytes.
            run.queue = Queue::default();
        }
        self.functions.remove(slot);
        self.emit(Output::Function(FunctionOrder::Stop { function: slot }));
    }

    /// Drops the cursors of a name, but for those of what runs now.
    pub(crate) fn drop_readers_of(&mut self, name: &str, kept: &[ReaderId]) {
        let reader = format!("fn/{name}");
        let others =
            self.log.readers().filter(|(id, _, found)| *found == reader && !kept.contains(id));
        let gone: Vec<ReaderId> = others.map(|(id, _, _)| id).collect();
        gone.into_iter().for_each(|id| self.log.drop_reader(id));
    }

    /// Nothing of how far a function was is kept: only its state.
    fn forget_function(&mut self, now: Now, name: &str) {
        self.drop_readers_of(name, &[]);
        self.notes.forget(&mut self.log, now.instant, |_, note| note.function != name);
        Gateway::forget_schedules(&mut self.log, now.instant, |_, function| function != name);
    }

    pub(crate) fn commit_alias(
        &mut self,
        now: Now,
        name: &str,
        alias: Option<&Alias>,
        told: &Told<'_>,
    ) -> Result<Position, VersionError> {
        let mut transaction = Transaction::new();
        match alias {
            Some(alias) => {
                transaction.put(self.versions.table, name.as_bytes().to_vec(), alias.encode());
            }
            None => transaction.delete(self.versions.table, name.as_bytes().to_vec()),
        }
        transaction.append(self.versions.stream, self.event_record(now, told));
        transaction.hurry();
        let committed = self.log.commit(now.instant, transaction);
        committed.map(|committed| committed.position).map_err(refusal)
    }

    fn event_record(&self, now: Now, told: &Told<'_>) -> Record {
        let attributes = Attributes {
            clock: now.clock,
            content_type: Some("application/json".to_owned()),
            payload_utf8: true,
            ..Attributes::default()
        };
        let mut bytes = Vec::new();
        attributes.encode(&mut bytes);
        Record {
            unix_ms: now.unix_ms,
            topic: format!("{TOPIC}{}", told.name),
            client: CLIENT.to_owned(),
            publisher: None,
            attributes: bytes,
            payload: told.json(&self.name, now.unix_ms).into_bytes(),
        }
    }
}

impl Told<'_> {
    fn json(&self, gateway: &str, unix_ms: i64) -> String {
        let Told { event, name, .. } = self;
        let mut json = format!(
            r#"{{"v":{VERSION},"gateway":{},"function":{},"event":"{event}","unix_ms":{unix_ms}"#,
            quoted(gateway),
            quoted(name)
        );
        if let Some(version) = self.version {
            let (label, package) = (quoted(&version.label), version.package);
            json.push_str(&format!(r#","version":{label},"package":"{package}""#));
        }
        if let Some(reason) = self.reason {
            json.push_str(&format!(r#","reason":{}"#, quoted(reason)));
        }
        json.push('}');
        json
    }
}

fn refusal(error: CommitError) -> VersionError {
    if error.is_busy() { VersionError::Later } else { VersionError::Refused(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/package/v1/event.json");

    #[test]
    fn the_json_of_an_event_is_frozen() {
        let version = Version { package: Digest([7; 32]), label: "1.1.0".to_owned() };
        let told = Told {
            event: "rolled-back",
            name: "threshold",
            version: Some(&version),
            reason: Some("the function trapped: \"unreachable\""),
        };
        assert_eq!(told.json("gw-01", 1_780_000_000_123), GOLDEN.trim_end());
    }
}
