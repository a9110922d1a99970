//! The function between the streams, run natively: the same code that is compiled to
//! WebAssembly, and a count of what it has seen, kept in its state.

use std::collections::BTreeMap;

use tidegate_guest::{Batch, Config, Error, Function, Out, State, native};
use tidegate_threshold::Threshold;

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

/// What is known of it from outside: how many readings of each sensor it has handled.
pub(crate) fn count_key(sensor: &str) -> Vec<u8> {
    format!("n/{sensor}").into_bytes()
}

/// Runs it on an input frame.
pub(crate) fn call(
    size: StateSize,
    frame: &[u8],
    state: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Vec<u8>, String> {
    let ended = match size {
        StateSize::Small => native::run::<Counting<8>>(CONFIG, frame, state),
        StateSize::Large => native::run::<Counting<400>>(CONFIG, frame, state),
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
