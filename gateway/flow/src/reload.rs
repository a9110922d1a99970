//! Another plan for a gateway that runs: streams, functions and uplinks come, change and go, and
//! no connection ends, no record is lost and none is handled twice.
//!
//! What a start from the new plan would make of the store, this makes of it while it runs.
//!
//! Invariants:
//! - Either everything of the new plan counts, or nothing: whatever may fail comes first, and what
//!   it has defined in the log until then is taken back.
//! - What does not differ goes on as if nothing had happened. What differs is begun anew, at its
//!   cursors: a call that is under way counts for nothing, and what an uplink has on its way is
//!   sent again on its next session, which begins when everything is durable that it builds on.
//! - An index that has been given out never means another function, or another uplink.
//!
//! Not here: limits of the log and of the broker's connections, which a start alone can change;
//! files, modules, drivers.

use std::collections::BTreeSet;

use tidegate_stream::ReaderId;

use crate::clock::Now;
use crate::function::FunctionRun;
use crate::gateway::{BuildError, Gateway, drop_unplanned_readers, is_of_use};
use crate::plan::{FunctionPlan, Plan, RESERVED_STREAMS, UplinkPlan};
use crate::route::Routes;
use crate::sessions::with_table_room;
use crate::uplink::UplinkRun;
use crate::versions::MAX_SLOTS;

/// Most uplinks: some 2 KiB each.
pub const MAX_UPLINK_SLOTS: usize = 1024;

/// A plan that takes the place of another.
#[derive(Debug, Clone, Copy)]
pub struct Reload<'a> {
    /// The plan that counts now.
    pub before: &'a Plan,
    /// The one that is to count.
    pub after: &'a Plan,
    /// Functions that are begun anew though their plan is the same: their module or its
    /// configuration is not.
    pub functions: &'a BTreeSet<String>,
    /// Uplinks that are begun anew though their plan is the same: their server is not.
    pub uplinks: &'a BTreeSet<String>,
}

/// What the shell is to do about a new plan. What has to stop of functions comes as
/// [`FunctionOrder`](crate::FunctionOrder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Functions that begin.
    pub functions: Vec<Begun>,
    /// Uplinks that begin.
    pub uplinks: Vec<Begun>,
    /// Indices of uplinks that have ended.
    pub ended: Vec<usize>,
}

/// Something that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// Its place in the new plan.
    pub place: usize,
    /// The index that calls, events and actions have for it.
    pub index: usize,
}

/// Why a plan does not count. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The gateway is on its way down.
    #[error("the gateway is shutting down")]
    Stopping,
    /// A function of this name was pushed.
    #[error(
        "function \"{0}\" was pushed to this gateway; remove it with `tidegate fn rm {0}` first, \
         or restart the gateway"
    )]
    Pushed(String),
    /// A function that was pushed reads what would go, or change.
    #[error(
        "function \"{function}\", which was pushed to this gateway, reads stream \"{stream}\", \
         which {why}; remove the function with `tidegate fn rm {function}` first, or restart the \
         gateway"
    )]
    Read {
        /// The function.
        function: String,
        /// The stream.
        stream: String,
        /// What would become of it.
        why: &'static str,
    },
    /// Too many at once.
    #[error("the configuration has more than {max} {what}; take some out")]
    Slots {
        /// Functions or uplinks.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

/// What differs between two plans, by indices.
#[derive(Debug, Default)]
struct Difference {
    /// Slots of functions that end.
    ended: Vec<usize>,
    /// Functions of the new plan that begin.
    functions: Vec<usize>,
    /// Slots of uplinks that end.
    closed: Vec<usize>,
    /// Uplinks of the new plan that begin.
    uplinks: Vec<usize>,
}

/// What begins, made ready.
struct Ready {
    functions: Vec<(usize, FunctionRun)>,
    uplinks: Vec<(usize, UplinkRun)>,
}

impl Gateway {
    /// Takes another plan in place of the one that counts. Its gateway id, its log's options and
    /// what clients are told of at CONNECT are those of the start, whatever it says.
    ///
    /// # Errors
    /// See [`ReloadError`]; nothing has changed then.
    pub fn reload(&mut self, now: Now, reload: &Reload<'_>) -> Result<Reloaded, ReloadError> {
        if self.stopping {
            return Err(ReloadError::Stopping);
        }
        self.check_pushed(reload)?;
        let difference = self.difference(reload);
        self.check_slots(&difference)?;
        let known: BTreeSet<ReaderId> = self.log.readers().map(|(id, _, _)| id).collect();
        match self.make_ready(now, reload.after, &difference) {
            Ok((routes, ready)) => {
                Ok(self.change_over(now, reload.after, &difference, routes, ready))
            }
            Err(error) => {
                // The streams are as they were; what was new to the log is gone again.
                let restored = Routes::define(&mut self.log, reload.before);
                let new: Vec<ReaderId> = self.log.readers().map(|(id, _, _)| id).collect();
                for reader in new.into_iter().filter(|reader| !known.contains(reader)) {
                    self.log.drop_reader(reader);
                }
                restored.map(drop)?;
                Err(error.into())
            }
        }
    }

    /// What was pushed is not in the plan, and goes on.
    fn check_pushed(&self, reload: &Reload<'_>) -> Result<(), ReloadError> {
        let names = |plan: &Plan| -> BTreeSet<String> {
            plan.functions.iter().map(|function| function.name.clone()).collect()
        };
        let (before, after) = (names(reload.before), names(reload.after));
        if let Some(name) =
            before.symmetric_difference(&after).find(|name| self.alias(name).is_some())
        {
            return Err(ReloadError::Pushed(name.clone()));
        }
        for (_, run) in self.present().filter(|(_, run)| !self.is_configured(&run.plan.name)) {
            for input in &run.plan.inputs {
                let Some(why) = what_becomes(reload, &input.stream) else { continue };
                let (function, stream) = (run.plan.name.clone(), input.stream.clone());
                return Err(ReloadError::Read { function, stream, why });
            }
        }
        Ok(())
    }

    fn difference(&self, reload: &Reload<'_>) -> Difference {
        let mut difference = Difference::default();
        let wanted = |plan: &&FunctionPlan| !reload.begins_anew(plan);
        for (slot, run) in self.present().filter(|(_, run)| self.is_configured(&run.plan.name)) {
            let same = reload.after.functions.iter().filter(wanted).any(|plan| *plan == run.plan);
            if !same {
                difference.ended.push(slot);
            }
        }
        let ended = |slot: usize, slots: &[usize]| slots.contains(&slot);
        for (place, plan) in reload.after.functions.iter().enumerate() {
            let goes_on = |(slot, run): (usize, &FunctionRun)| {
                run.plan.name == plan.name && !ended(slot, &difference.ended)
            };
            if !self.present().any(goes_on) {
                difference.functions.push(place);
            }
        }
        let present = || self.uplinks.entries();
        for (slot, run) in present() {
            let same = |plan: &UplinkPlan| *plan == run.plan && !reload.is_rerouted(plan);
            if !reload.after.uplinks.iter().any(same) {
                difference.closed.push(slot);
            }
        }
        for (place, plan) in reload.after.uplinks.iter().enumerate() {
            let goes_on = |(slot, run): (usize, &UplinkRun)| {
                run.plan.name == plan.name && !ended(slot, &difference.closed)
            };
            if !present().any(goes_on) {
                difference.uplinks.push(place);
            }
        }
        difference
    }

    fn check_slots(&self, difference: &Difference) -> Result<(), ReloadError> {
        let full = |what, max| Err(ReloadError::Slots { what, max });
        if self.functions.len() + difference.functions.len() > MAX_SLOTS {
            return full("functions", MAX_SLOTS);
        }
        if self.uplinks.len() + difference.uplinks.len() > MAX_UPLINK_SLOTS {
            return full("uplinks", MAX_UPLINK_SLOTS);
        }
        Ok(())
    }

    /// Everything that may fail.
    fn make_ready(
        &mut self,
        now: Now,
        after: &Plan,
        difference: &Difference,
    ) -> Result<(Routes, Ready), BuildError> {
        let routes = Routes::define(&mut self.log, after)?;
        let mut ready = Ready { functions: Vec::new(), uplinks: Vec::new() };
        for place in &difference.functions {
            let plan = &after.functions[*place];
            let (log, seed) = (&mut self.log, after.seed);
            let run = FunctionRun::define(log, &routes, self.notes, plan, now.instant, seed)?;
            ready.functions.push((*place, run));
        }
        for place in &difference.uplinks {
            let plan = &after.uplinks[*place];
            let seed = after.seed ^ *place as u64;
            let run = UplinkRun::define(&mut self.log, &routes, now, plan, seed)?;
            ready.uplinks.push((*place, run));
        }
        Ok((routes, ready))
    }

    /// From here on nothing fails.
    fn change_over(
        &mut self,
        now: Now,
        after: &Plan,
        difference: &Difference,
        routes: Routes,
        ready: Ready,
    ) -> Reloaded {
        for slot in &difference.ended {
            self.park_function(*slot, "it is not in the configuration any more".to_owned());
            self.dismiss_requests(*slot);
            self.empty_slot(*slot);
        }
        difference.closed.iter().for_each(|slot| self.uplinks.remove(*slot));
        self.routes = routes;
        self.versions.configure(&after.functions);
        self.log.set_table_room(with_table_room(after).max_table_bytes);
        self.broker.set_quotas(&after.broker);
        let mut begun = (Vec::new(), Vec::new());
        for (place, run) in ready.functions {
            begun.0.push(Begun { place, index: self.functions.push(run) });
        }
        for (place, mut run) in ready.uplinks {
            // What an uplink of its name has asked for is part of what it builds on.
            run.late.await_all(&self.log);
            begun.1.push(Begun { place, index: self.uplinks.push(run) });
        }
        self.forget_unplanned(now);
        self.wake_readers();
        self.log.flush(now.instant);
        Reloaded { functions: begun.0, uplinks: begun.1, ended: difference.closed.clone() }
    }

    /// Drops cursors, notes and schedules of what there is no more.
    fn forget_unplanned(&mut self, now: Now) {
        let Gateway { log, functions, versions, uplinks, sessions, notes, .. } = self;
        let present: Vec<&FunctionRun> = functions.iter().collect();
        drop_unplanned_readers(log, present.iter().copied(), versions, uplinks, sessions.reader);
        notes.forget(log, now.instant, |log, note| {
            versions.has_function(log, note.function)
                || is_of_use(log, present.iter().copied(), note)
        });
        Gateway::forget_schedules(log, now.instant, |log, name| {
            versions.has_function(log, name) || present.iter().any(|run| run.plan.name == name)
        });
    }
}

impl Reload<'_> {
    fn begins_anew(&self, plan: &FunctionPlan) -> bool {
        let reads = |input: &crate::plan::InputPlan| self.is_keyed_anew(&input.stream);
        self.functions.contains(&plan.name) || plan.inputs.iter().any(reads)
    }

    /// Whether the records of a stream have another partition key than before.
    fn is_keyed_anew(&self, stream: &str) -> bool {
        let (before, after) = (find(self.before, stream), find(self.after, stream));
        before.zip(after).is_some_and(|(before, after)| before.key != after.key)
    }

    fn is_rerouted(&self, plan: &UplinkPlan) -> bool {
        let turn = |name: &String| {
            let (before, after) = (find(self.before, name), find(self.after, name));
            before.map(|stream| stream.priority) != after.map(|stream| stream.priority)
        };
        self.uplinks.contains(&plan.name) || plan.streams.iter().any(turn)
    }
}

fn find<'a>(plan: &'a Plan, name: &str) -> Option<&'a crate::plan::StreamPlan> {
    plan.streams.iter().find(|stream| stream.name == name)
}

/// What would become of a stream that a pushed function reads, if that cannot be.
fn what_becomes(reload: &Reload<'_>, stream: &str) -> Option<&'static str> {
    if RESERVED_STREAMS.contains(&stream) {
        return None;
    }
    match find(reload.after, stream) {
        None => Some("would go"),
        Some(_) if reload.is_keyed_anew(stream) => Some("would have another key"),
        Some(_) => None,
    }
}
