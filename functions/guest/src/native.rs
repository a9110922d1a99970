//! Runs a function as native code, without an engine: in tests, and in the simulator.
//!
//! The same frames go in and come out as with the module. What is missing is the cage: no fuel,
//! no deadline, no memory limit, and a panic is a panic of the caller.

use crate::function::{Config, Error, Function, call};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::RefCell;
use core::ops::Bound;
use tidegate_abi::{HandleResult, Level};

/// State by key.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// Runs one batch through a fresh instance and returns its output frame, empty when there is
/// no output.
///
/// # Errors
/// [`Ended`], when the function did not accept its configuration or the batch.
pub fn run<F: Function>(config: &[u8], frame: &[u8], state: &Entries) -> Result<Vec<u8>, Ended> {
    let mut instance = Instance::<F>::new(config).map_err(Ended::Configuration)?;
    instance.call(frame, state)
}

/// Why there is no output frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The function does not accept its configuration.
    Configuration(Error),
    /// It wants the batch again later.
    Retry,
    /// It gives the batch up.
    DeadLetter,
    /// It could not read the input frame, or its output does not fit into one.
    Failed(i64),
}

/// A function that has taken its configuration.
#[derive(Debug)]
pub struct Instance<F> {
    function: F,
    logs: Vec<(Level, String)>,
    secrets: BTreeMap<String, Vec<u8>>,
}

impl<F: Function> Instance<F> {
    /// Gives the function its configuration.
    ///
    /// # Errors
    /// What the function says about it.
    pub fn new(config: &[u8]) -> Result<Self, Error> {
        let function = F::new(&Config::parse(config)?)?;
        Ok(Self { function, logs: Vec::new(), secrets: BTreeMap::new() })
    }

    /// Sets a secret, which the function may read from then on.
    pub fn set_secret(&mut self, name: &str, value: &[u8]) {
        self.secrets.insert(name.to_string(), value.to_vec());
    }

    /// Gives it a batch, and the state as it was committed before it.
    ///
    /// # Errors
    /// When it asks for the batch again, or gives it up.
    pub fn call(&mut self, frame: &[u8], state: &Entries) -> Result<Vec<u8>, Ended> {
        let host = Host { state, logs: RefCell::new(Vec::new()), secrets: &self.secrets };
        let reply = call(&mut self.function, frame, &host, Vec::new());
        self.logs.extend(host.logs.into_inner());
        match reply.result {
            HandleResult::Done | HandleResult::Output { .. } => Ok(reply.frame),
            HandleResult::Retry => Err(Ended::Retry),
            HandleResult::DeadLetter => Err(Ended::DeadLetter),
            HandleResult::Failed(code) => Err(Ended::Failed(code)),
        }
    }

    /// What it has logged since this was called last.
    pub fn take_logs(&mut self) -> Vec<(Level, String)> {
        core::mem::take(&mut self.logs)
    }
}

/// Natively the function's own reader does it.
pub(crate) fn json_find<const N: usize>(_: &[u8], _: [&str; N]) -> Option<[[usize; 2]; N]> {
    None
}

/// As the gateway's imports want it; here nobody reads it.
pub(crate) fn table<const N: usize>(_: &[&str; N]) -> [[usize; 2]; N] {
    [[0; 2]; N]
}

/// As [`json_find`].
pub(crate) fn json_find_each<const N: usize>(
    _: &[u8],
    _: u32,
    _: &[[usize; 2]; N],
    _: &mut [u64],
) -> usize {
    0
}

/// Entries of one page of a scan, few, so that tests cross pages.
const PAGE_ENTRIES: usize = 16;

/// The host, as a function's [`Out`](crate::Out) and [`State`](crate::State) see it.
pub(crate) struct Host<'a> {
    state: &'a Entries,
    logs: RefCell<Vec<(Level, String)>>,
    secrets: &'a BTreeMap<String, Vec<u8>>,
}

impl Host<'_> {
    pub(crate) fn kv_get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state.get(key).cloned()
    }

    pub(crate) fn secret_get(&self, name: &str) -> Option<Vec<u8>> {
        self.secrets.get(name).cloned()
    }

    /// Some entries with this prefix whose keys come after `after`, in order; none = the end.
    pub(crate) fn kv_scan(&self, prefix: &[u8], after: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let start = if after.is_empty() { Bound::Included(prefix) } else { Bound::Excluded(after) };
        self.state
            .range::<[u8], _>((start, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(PAGE_ENTRIES)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    pub(crate) fn log(&self, level: Level, text: &str) {
        self.logs.borrow_mut().push((level, text.to_string()));
    }
}
