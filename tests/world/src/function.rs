//! The function between the streams, run natively: the same code that is compiled to
//! WebAssembly, and a count of what it has seen, kept in its state.

use std::collections::BTreeMap;

use tidegate_guest::{Batch, Config, Error, Event, Function, Out, State, native};
use tidegate_threshold::Threshold;

use crate::clerk::Clerk;
use crate::plan::Role;

/// Configuration of the threshold function: an alert for each reading over the limit.
const CONFIG: &[u8] = br#"{"limit":30.0,"hysteresis":1.0,"every":true}"#;

/// How much state the function keeps beside its counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSize {
    /// A few bytes a sensor.
    Small,
    /// So much that a checkpoint has several parts.
    Large,
}

/// What the keys of its counts begin with.
pub(crate) const COUNTS: &str = "n/";

/// What is known of it from outside: how many readings of each sensor it has handled.
pub(crate) fn count_key(sensor: &str) -> Vec<u8> {
    format!("{COUNTS}{sensor}").into_bytes()
}

/// Runs one of the functions on an input frame.
pub(crate) fn call(
    role: Role,
    size: StateSize,
    frame: &[u8],
    state: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Vec<u8>, String> {
    let ended = match (role, size) {
        (Role::Threshold, StateSize::Small) => native::run::<Counting<8>>(CONFIG, frame, state),
        (Role::Threshold, StateSize::Large) => native::run::<Counting<400>>(CONFIG, frame, state),
        (Role::Watcher, _) => native::run::<Watching>(b"{}", frame, state),
        (Role::Clerk, _) => native::run::<Clerk>(b"{}", frame, state),
    };
    ended.map_err(|ended| format!("{ended:?}"))
}

/// Notes of a sensor, and readings in a row that write the same one: so few that a batch
/// changes one or two, so many that a checkpoint spans segments.
const NOTES_KEPT: u64 = 12;
const NOTE_READINGS: u64 = 8;

/// `functions/examples/threshold`, counting, with notes of so many bytes.
struct Counting<const NOTES: usize>(Threshold);

impl<const NOTES: usize> Function for Counting<NOTES> {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        Threshold::new(config).map(Counting)
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            let sensor = message.topic_level(1).unwrap_or("").to_owned();
            let key = count_key(&sensor);
            let count = state.get::<u64>(&key)?.unwrap_or(0) + 1;
            state.put(&key, &count);
            let note = count / NOTE_READINGS % NOTES_KEPT;
            state.put(format!("note/{sensor}/{note}").as_bytes(), &vec![count as u8; NOTES]);
        }
        self.0.handle(batch, out, state)
    }
}

/// Key of what is wrong with what the watcher was told.
pub(crate) const BROKEN: &[u8] = b"broken";

/// Remembers what it was told last of each count, and whether each change began where the one
/// before had ended: then none was lost, none came twice, and they came in order.
struct Watching;

impl Function for Watching {
    fn new(_: &Config<'_>) -> Result<Self, Error> {
        Ok(Watching)
    }

    fn handle(&mut self, _: &Batch<'_>, _: &mut Out<'_>, _: &mut State<'_>) -> Result<(), Error> {
        Err(Error::new("it reads no stream"))
    }

    fn on_event(
        &mut self,
        event: &Event<'_>,
        _: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        let Some(change) = event.change() else { return Err(Error::new("no change")) };
        let key = change.key();
        let told = state.get::<Vec<u8>>(&key)?;
        if told != change.before() {
            let (before, key) = (change.before(), String::from_utf8_lossy(&key).into_owned());
            state.put(BROKEN, &format!("{key}: told {told:?}, then that it was {before:?}"));
        }
        if let Some(after) = change.after() {
            state.put(&key, &after);
        }
        Ok(())
    }
}
