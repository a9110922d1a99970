//! Functions that are told of what changes in the state of another
//! (docs/formats/abi-tg1.md, Events, `state`).
//!
//! What a commit changes is told in that commit: one record of the stream of events for each key
//! and each function that watches it, so that it survives, and counts, with the change.
//!
//! Invariants:
//! - a key is told when its value after a commit differs from the one before, and only then;
//! - what is told of one key stands in the order of its changes, and each `old` is the `new` before;
//! - functions cannot call each other in a circle for ever by this: the record has passed one more
//!   function than those of the call, see [`MAX_HOPS`].

use tidegate_stream::{Record, Transaction};

use crate::clock::Now;
use crate::effects::{Effects, MAX_HOPS};
use crate::gateway::Gateway;
use crate::losses::quoted;
use crate::plan::{EVENT_STREAM, EventKind, FunctionPlan};
use crate::tidings::{addressee, event_record};

/// Longest value that is told as it is, in bytes; of a longer one its length is.
pub(crate) const MAX_TOLD_VALUE: usize = 4096;
/// Most bytes that the changes of one commit take as events: so they fit beside the outputs.
pub(crate) const MAX_TOLD_BYTES: usize = 256 << 10;

/// A key of a state, and its value before and after a commit; `None`: it is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) old: Option<&'a [u8]>,
    pub(crate) new: Option<&'a [u8]>,
}

impl Gateway {
    /// Stages what those are told who watch these keys of a function's state. Answers the bytes
    /// that it takes.
    pub(crate) fn stage_told<'a>(
        &self,
        now: Now,
        function: &str,
        hops: u8,
        changes: impl Iterator<Item = Change<'a>>,
        into: &mut Transaction,
    ) -> usize {
        let Some(stream) = self.routes.id(EVENT_STREAM) else { return 0 };
        let watchers: Vec<&FunctionPlan> = self.watchers(function).collect();
        if watchers.is_empty() {
            return 0;
        }
        let mut bytes = 0;
        for change in changes.filter(|change| change.old != change.new) {
            for plan in watchers.iter().filter(|plan| plan.watches(function, change.key)) {
                let record = self.change_record(now, plan, function, hops, change);
                bytes += record.payload.len() + record.client.len() + record.attributes.len();
                into.append(stream, record);
            }
        }
        bytes
    }

    /// What a call wants to change.
    pub(crate) fn changes<'a>(
        &'a self,
        index: usize,
        effects: &'a Effects,
    ) -> impl Iterator<Item = Change<'a>> {
        let held = self.log.table_entries(self.functions[index].table);
        effects.state.iter().map(|(key, written)| Change {
            key,
            old: held.get(key).map(Vec::as_slice),
            new: written.as_ref().map(|written| written.value.as_slice()),
        })
    }

    /// Whether what a call changes can be told.
    ///
    /// # Errors
    /// It would take too many bytes; in words.
    pub(crate) fn check_told(
        &self,
        now: Now,
        index: usize,
        effects: &Effects,
    ) -> Result<(), String> {
        let (name, mut unused) = (&self.functions[index].plan.name, Transaction::new());
        let changes = self.changes(index, effects);
        let bytes = self.stage_told(now, name, effects.hops, changes, &mut unused);
        if bytes <= MAX_TOLD_BYTES {
            return Ok(());
        }
        Err(format!(
            "what it changes in its state would take {bytes} bytes to tell those who watch it, more \
             than {MAX_TOLD_BYTES}: change fewer keys in a call, or let a narrower prefix be watched"
        ))
    }

    /// Whether somebody is told of this key.
    pub(crate) fn is_watched(&self, function: &str, key: &[u8]) -> bool {
        self.watchers(function).any(|plan| plan.watches(function, key))
    }

    /// Tells those who watch this key as if it had changed: for tests of functions.
    ///
    /// # Errors
    /// No function watches it, or the log has no room; in words.
    pub fn tell_of_change(
        &mut self,
        now: Now,
        function: &str,
        key: &[u8],
        (old, new): (Option<&[u8]>, Option<&[u8]>),
    ) -> Result<(), String> {
        if old == new {
            return Err("\"old\" and \"new\" are the same: nothing has changed".to_owned());
        }
        let mut transaction = Transaction::new();
        let change = std::iter::once(Change { key, old, new });
        if self.stage_told(now, function, 1, change, &mut transaction) == 0 {
            let key = String::from_utf8_lossy(key);
            return Err(format!(
                "no function is told of \"{key}\" in the state of \"{function}\": no `watch` names it"
            ));
        }
        transaction.hurry();
        self.log.commit(now.instant, transaction).map(drop).map_err(|error| error.to_string())
    }

    fn watchers(&self, function: &str) -> impl Iterator<Item = &FunctionPlan> {
        let plans = self.present().map(|(_, run)| &run.plan);
        plans.filter(move |plan| plan.watches.iter().any(|watch| watch.function == function))
    }

    fn change_record(
        &self,
        now: Now,
        watcher: &FunctionPlan,
        function: &str,
        hops: u8,
        change: Change<'_>,
    ) -> Record {
        let mut members = vec![("function", quoted(function))];
        members.push(plain(("key", "key_hex"), change.key));
        if let Some(old) = change.old {
            members.push(value(["old", "old_hex", "old_bytes"], old));
        }
        if let Some(new) = change.new {
            members.push(value(["new", "new_hex", "new_bytes"], new));
        }
        let client = addressee(&watcher.name);
        event_record(now, &self.name, client, EventKind::State, &members, hops)
    }

    /// The records of a call have passed too many functions to be told of what they change.
    pub(crate) fn break_circle(&self, index: usize, records: usize, into: &mut Effects) {
        if into.hops <= MAX_HOPS {
            return;
        }
        let name = &self.functions[index].plan.name;
        let before = into.state.len();
        into.state.retain(|key, _| !self.is_watched(name, key));
        if into.state.len() < before {
            let why = format!("passed more than {MAX_HOPS} functions: a loop of watched state");
            into.dead.extend((0..records).map(|record| (record, why.clone())));
        }
    }
}

fn plain((text, digits): (&'static str, &'static str), bytes: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(bytes) {
        Ok(found) => (text, quoted(found)),
        Err(_) => {
            let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
            let hex = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
            (digits, quoted(&hex.collect::<String>()))
        }
    }
}

fn value([text, digits, length]: [&'static str; 3], bytes: &[u8]) -> (&'static str, String) {
    match bytes.len() > MAX_TOLD_VALUE {
        true => (length, bytes.len().to_string()),
        false => plain((text, digits), bytes),
    }
}
