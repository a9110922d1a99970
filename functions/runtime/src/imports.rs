//! What a guest can ask the host for: reading, and logging. Module `tg1`.
//!
//! Every import counts against [`Limits::host_calls`] and costs fuel, a base and so much per
//! byte, so that a guest cannot hide its work on the host's side. None of them enters the guest.

use crate::json::{self, Question, QuestionForEach};
use crate::limits::{Grants, Limits};
use crate::{SecretValue, Secrets, State};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;
use tidegate_abi::{BatchRandom, Errno, Level, import};
use wasmi::errors::HostError;
use wasmi::{Caller, Error, Linker, Memory, ValType};
use wasmi_core::LimiterError;

/// Fuel for any import, about what crossing over costs in time.
const CALL_FUEL: u64 = 100;
/// Bytes handled by an import for one unit of fuel, beside the base.
const BYTES_PER_FUEL: u64 = 16;
/// Fuel for each entry that a scan visits, beside its bytes.
const SCAN_ENTRY_FUEL: u64 = 20;

/// How a line begins that says where a guest panicked, before it traps.
const PANIC: &[u8] = b"panicked at ";
/// The most bytes of such a line that go into the failure.
const MAX_PANIC_BYTES: usize = 1024;

/// Most bytes that one call of `random` fills: more would take longer than a slice of fuel may.
const RANDOM_BYTES: u32 = 64 << 10;

/// What the engine keeps beside the guest.
pub(crate) struct Guest {
    /// The guest's memory, known once it is instantiated.
    pub(crate) memory: Option<Memory>,
    pub(crate) limits: Limits,
    /// Present during a call only, so that the caller's state is never shared for longer.
    pub(crate) state: Option<Arc<State>>,
    pub(crate) now_ns: i64,
    pub(crate) random: BatchRandom,
    pub(crate) host_calls: u32,
    /// Fuel that imports used beyond what was left of the slice.
    pub(crate) fuel_debt: u64,
    /// The memory that was refused to the guest, if any was.
    pub(crate) refused_memory: Option<usize>,
    /// Set after instantiation: from then on tables keep their size.
    pub(crate) running: bool,
    pub(crate) table_elements: usize,
    pub(crate) logs: Logs,
    /// What it may read, and what is kept out of its texts.
    pub(crate) secrets: Arc<Secrets>,
    /// The last line of this call that says where the guest panicked.
    pub(crate) last_words: Option<String>,
}

impl Guest {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            memory: None,
            logs: Logs::new(limits.log_bytes),
            limits,
            state: None,
            now_ns: 0,
            random: BatchRandom::new(0),
            host_calls: 0,
            fuel_debt: 0,
            refused_memory: None,
            running: false,
            table_elements: 0,
            last_words: None,
            secrets: Arc::default(),
        }
    }

    fn log(&mut self, level: Level, text: &[u8]) {
        let secrets = self.secrets.clone();
        let text = &*secrets.masked(text);
        // Also beyond `log_bytes`: a panic after a flood of lines still has a place.
        if text.starts_with(PANIC) {
            let text = text.get(..MAX_PANIC_BYTES).unwrap_or(text);
            self.last_words = Some(String::from_utf8_lossy(text).into_owned());
        }
        self.logs.push(level, text);
    }
}

/// Lines logged by one call, up to a number of bytes.
pub(crate) struct Logs {
    lines: Vec<(Level, String)>,
    bytes_left: usize,
    dropped: u64,
}

impl Logs {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { lines: Vec::new(), bytes_left: bytes, dropped: 0 }
    }

    fn push(&mut self, level: Level, text: &[u8]) {
        // An empty line costs a byte too, or their number would have no bound.
        let bytes = text.len().max(1);
        if self.dropped > 0 || bytes > self.bytes_left {
            self.dropped += 1;
            return;
        }
        self.bytes_left -= bytes;
        self.lines.push((level, String::from_utf8_lossy(text).into_owned()));
    }

    /// The lines, and a last one that says how many are missing.
    pub(crate) fn take(&mut self, bytes: usize) -> Vec<(Level, String)> {
        let Self { mut lines, dropped, .. } = std::mem::replace(self, Self::new(bytes));
        if dropped > 0 {
            let text = format!("{dropped} more lines were not kept: log_bytes is {bytes} a call");
            lines.push((Level::Warn, text));
        }
        lines
    }
}

impl wasmi::ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        if desired <= self.limits.memory_bytes {
            return Ok(true);
        }
        // A trap, not a -1: what an allocator does when it is refused memory is the least
        // tested path of any guest, and the operator wants to read the real reason.
        self.refused_memory = Some(desired);
        Err(LimiterError::ResourceLimiterDeniedAllocation)
    }

    /// Tables are made by instantiation and keep their size. wasmi 2.0.0 halts a `table.grow`
    /// that runs out of fuel without saving where it was, so it must not be resumed; refusing
    /// growth keeps guests off that path.
    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool, LimiterError> {
        let elements = self.table_elements.saturating_add(desired.saturating_sub(current));
        if self.running || elements > self.limits.table_elements {
            return Ok(false);
        }
        self.table_elements = elements;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        16
    }

    fn memories(&self) -> usize {
        1
    }
}

/// The error by which an import ends a call that asked too often.
#[derive(Debug)]
pub(crate) struct TooManyHostCalls;

impl fmt::Display for TooManyHostCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many calls of imports")
    }
}

impl HostError for TooManyHostCalls {}

/// Name, parameters and results of every import, for the checks at install.
pub(crate) const SIGNATURES: [(&str, &[ValType], &[ValType]); 8] = {
    use ValType::{I32, I64};
    [
        (import::KV_GET, &[I32; 4], &[I32]),
        (import::KV_SCAN, &[I32; 6], &[I32]),
        (import::NOW, &[I32], &[I64]),
        (import::RANDOM, &[I32; 2], &[I32]),
        (import::LOG, &[I32; 3], &[]),
        (import::SECRET_GET, &[I32; 4], &[I32]),
        (import::JSON_FIND, &[I32; 5], &[I32]),
        (import::JSON_FIND_EACH, &[I32; 7], &[I32]),
    ]
};

/// Defines all imports: those that are granted as they are, the others so that they answer -EPERM.
pub(crate) fn define(linker: &mut Linker<Guest>, grants: Grants) -> Result<(), Error> {
    if grants.state {
        linker.func_wrap(import::MODULE, import::KV_GET, kv_get)?;
        linker.func_wrap(import::MODULE, import::KV_SCAN, kv_scan)?;
    } else {
        let denied = |caller: Caller<'_, Guest>, _: i32, _: i32, _: i32, _: i32| denied(caller);
        linker.func_wrap(import::MODULE, import::KV_GET, denied)?;
        linker.func_wrap(import::MODULE, import::KV_SCAN, denied_scan)?;
    }
    if grants.clock {
        linker.func_wrap(import::MODULE, import::NOW, now)?;
    } else {
        let denied = |caller: Caller<'_, Guest>, _: i32| denied(caller).map(i64::from);
        linker.func_wrap(import::MODULE, import::NOW, denied)?;
    }
    if grants.random {
        linker.func_wrap(import::MODULE, import::RANDOM, random)?;
    } else {
        let denied = |caller: Caller<'_, Guest>, _: i32, _: i32| denied(caller);
        linker.func_wrap(import::MODULE, import::RANDOM, denied)?;
    }
    linker.func_wrap(import::MODULE, import::LOG, log)?;
    linker.func_wrap(import::MODULE, import::SECRET_GET, secret_get)?;
    linker.func_wrap(import::MODULE, import::JSON_FIND, json_find)?;
    linker.func_wrap(import::MODULE, import::JSON_FIND_EACH, json_find_each)?;
    Ok(())
}

/// What an import that is not granted answers; it costs what any call does.
fn denied(mut caller: Caller<'_, Guest>) -> Result<i32, Error> {
    enter(&mut caller)?;
    Ok(Errno::NotPermitted.code())
}

fn denied_scan(
    caller: Caller<'_, Guest>,
    _prefix: i32,
    _prefix_len: i32,
    _after: i32,
    _after_len: i32,
    _buf: i32,
    _cap: i32,
) -> Result<i32, Error> {
    denied(caller)
}

fn kv_get(
    mut caller: Caller<'_, Guest>,
    key: i32,
    key_len: i32,
    buf: i32,
    cap: i32,
) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, guest) = split(&mut caller);
    let Some(key) = range(key, key_len).and_then(|range| memory.get(range)) else {
        return Ok(Errno::Fault.code());
    };
    let Some(value) = guest.state.as_deref().and_then(|state| state.get(key)) else {
        return Ok(Errno::NoEntry.code());
    };
    let mut bytes = key.len();
    if value.len() <= cap as u32 as usize {
        let Some(target) = span(buf, value.len()).and_then(|range| memory.get_mut(range)) else {
            return Ok(Errno::Fault.code());
        };
        target.copy_from_slice(value);
        bytes += value.len();
    }
    let len = length(value.len());
    charge(&mut caller, bytes as u64 / BYTES_PER_FUEL)?;
    Ok(len)
}

/// As `kv_get`, for the secrets that the function is granted; -EPERM for other names.
fn secret_get(
    mut caller: Caller<'_, Guest>,
    name: i32,
    name_len: i32,
    buf: i32,
    cap: i32,
) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, guest) = split(&mut caller);
    let Some(name) = range(name, name_len).and_then(|range| memory.get(range)) else {
        return Ok(Errno::Fault.code());
    };
    let Some(granted) = guest.secrets.get(name) else {
        return Ok(Errno::NotPermitted.code());
    };
    let Some(value) = granted.map(SecretValue::expose) else {
        return Ok(Errno::NoEntry.code());
    };
    if value.len() <= cap as u32 as usize {
        let Some(target) = span(buf, value.len()).and_then(|range| memory.get_mut(range)) else {
            return Ok(Errno::Fault.code());
        };
        target.copy_from_slice(value);
    }
    let bytes = value.len();
    charge(&mut caller, bytes as u64 / BYTES_PER_FUEL)?;
    Ok(length(bytes))
}

/// Entries whose keys start with the prefix and come after `after`, as many as fit: repeated
/// `u32 key_len, u32 value_len, key, value`. Returns the bytes written, 0 when there are no
/// more; when not even the first entry fits, the bytes that it needs, and writes nothing.
fn kv_scan(
    mut caller: Caller<'_, Guest>,
    prefix: i32,
    prefix_len: i32,
    after: i32,
    after_len: i32,
    buf: i32,
    cap: i32,
) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, guest) = split(&mut caller);
    // The prefix is read where it is: it may be as long as the memory, and is the guest's to choose.
    let slice = |at, len| range(at, len).and_then(|range| memory.get(range));
    let room = range(buf, cap).filter(|range| memory.get(range.clone()).is_some());
    let (Some(prefix), Some(after), Some(room)) =
        (slice(prefix, prefix_len), slice(after, after_len), room)
    else {
        return Ok(Errno::Fault.code());
    };
    let asked = prefix.len() + after.len();
    let (mut fitting, mut written, mut needed) = (Vec::new(), 0, 0);
    for (key, value) in entries_after(guest.state.as_deref(), prefix, after) {
        let bytes = 8 + key.len() + value.len();
        if bytes > room.len() - written {
            needed = bytes;
            break;
        }
        written += bytes;
        fitting.push((key, value));
    }
    let visited = fitting.len() as u64;
    let mut at = room.start;
    for (key, value) in fitting {
        let lengths = [(key.len() as u32).to_le_bytes(), (value.len() as u32).to_le_bytes()];
        for part in [lengths.as_flattened(), key, value] {
            memory[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
    }
    let bytes = (asked + written) as u64;
    charge(&mut caller, visited * SCAN_ENTRY_FUEL + bytes / BYTES_PER_FUEL)?;
    Ok(length(if written > 0 { written } else { needed }))
}

fn entries_after<'s, 'k>(
    state: Option<&'s State>,
    prefix: &'k [u8],
    after: &'k [u8],
) -> impl Iterator<Item = (&'s Vec<u8>, &'s Vec<u8>)> + use<'s, 'k> {
    let start = if after >= prefix { Bound::Excluded(after) } else { Bound::Included(prefix) };
    // An empty `after` means "from the start", also for an empty prefix.
    let start = if after.is_empty() { Bound::Included(prefix) } else { start };
    state
        .into_iter()
        .flat_map(move |state| state.range::<[u8], _>((start, Bound::Unbounded)))
        .take_while(move |(key, _)| key.starts_with(prefix))
}

fn now(mut caller: Caller<'_, Guest>, clock: i32) -> Result<i64, Error> {
    enter(&mut caller)?;
    if clock != import::CLOCK_BATCH {
        return Ok(Errno::Invalid.code().into());
    }
    Ok(caller.data().now_ns)
}

fn random(mut caller: Caller<'_, Guest>, buf: i32, len: i32) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, guest) = split(&mut caller);
    let Some(target) = range(buf, len).and_then(|range| memory.get_mut(range)) else {
        return Ok(Errno::Fault.code());
    };
    if len as u32 > RANDOM_BYTES {
        return Ok(Errno::Invalid.code());
    }
    guest.random.fill(target);
    let bytes = target.len() as u64;
    charge(&mut caller, bytes)?;
    Ok(0)
}

/// Where the values at some paths are in a JSON text: see [`json`].
fn json_find(
    mut caller: Caller<'_, Guest>,
    text: i32,
    text_len: i32,
    paths: i32,
    count: i32,
    found: i32,
) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, _) = split(&mut caller);
    let [paths, count, found] = [paths, count, found].map(|number| number as u32 as usize);
    let question = Question { text: range(text, text_len), paths, count, found };
    let (answered, fuel) = json::find(memory, &question);
    charge(&mut caller, fuel)?;
    Ok(answered.map_or_else(Errno::code, |()| 0))
}

/// The same for the payloads of an input frame, from one entry on; for how many it has answered.
#[allow(clippy::too_many_arguments)] // They are the guest's.
fn json_find_each(
    mut caller: Caller<'_, Guest>,
    frame: i32,
    frame_len: i32,
    first: i32,
    paths: i32,
    count: i32,
    found: i32,
    entries: i32,
) -> Result<i32, Error> {
    enter(&mut caller)?;
    let (memory, _) = split(&mut caller);
    let [first, paths, count, found, entries] =
        [first, paths, count, found, entries].map(|number| number as u32 as usize);
    let frame = range(frame, frame_len);
    let question = QuestionForEach { frame, first, paths, count, found, entries };
    let (answered, fuel) = json::find_each(memory, &question);
    charge(&mut caller, fuel)?;
    Ok(answered.map_or_else(Errno::code, length))
}

/// An unknown level counts as an error, a bad pointer as an empty line: a log call has no way
/// to fail, and a wrong one should be seen.
fn log(mut caller: Caller<'_, Guest>, level: i32, text: i32, len: i32) -> Result<(), Error> {
    enter(&mut caller)?;
    let (memory, guest) = split(&mut caller);
    let text = range(text, len).and_then(|range| memory.get(range)).unwrap_or(&[]);
    let level = u16::try_from(level).ok().and_then(Level::from_code).unwrap_or(Level::Error);
    guest.log(level, text);
    let bytes = text.len() as u64;
    charge(&mut caller, bytes / BYTES_PER_FUEL)
}

/// Counts the call and takes its base price.
fn enter(caller: &mut Caller<'_, Guest>) -> Result<(), Error> {
    let guest = caller.data_mut();
    if guest.host_calls >= guest.limits.host_calls {
        return Err(Error::host(TooManyHostCalls));
    }
    guest.host_calls += 1;
    charge(caller, CALL_FUEL)
}

/// Takes fuel from the running slice, and notes what it cannot cover: the slice then ends with
/// the guest's next instruction.
fn charge(caller: &mut Caller<'_, Guest>, fuel: u64) -> Result<(), Error> {
    let left = caller.get_fuel()?;
    caller.data_mut().fuel_debt += fuel.saturating_sub(left);
    caller.set_fuel(left.saturating_sub(fuel))
}

/// The guest's memory and the host's side of it. Without a memory (before the module is
/// instantiated nothing of it runs) every pointer is outside.
fn split<'a>(caller: &'a mut Caller<'_, Guest>) -> (&'a mut [u8], &'a mut Guest) {
    match caller.data().memory {
        Some(memory) => memory.data_and_store_mut(caller),
        None => (&mut [], caller.data_mut()),
    }
}

/// A range of the guest's memory, from numbers that are unsigned as far as Wasm is concerned.
fn range(at: i32, len: i32) -> Option<std::ops::Range<usize>> {
    span(at, len as u32 as usize)
}

fn span(at: i32, len: usize) -> Option<std::ops::Range<usize>> {
    let at = at as u32 as usize;
    Some(at..at.checked_add(len)?)
}

/// A length as an import returns it. State values are far below 2 GiB.
fn length(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
