//! The target `modules`: bytes of a module, changed at any place.
//!
//! A module that was changed is installed, started and called, if it comes that far. Whatever it
//! is, that ends, within its limits and without a panic.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs};

use tidegate_abi::{BatchWriter, Kind, MessageRef};
use tidegate_runtime::{Limits, Module, Outcome, State, Verdict};

use crate::input::Input;

/// Most places of a module that one input changes.
const MAX_CHANGES: usize = 32;
/// The first byte of an input that is a module itself.
const RAW: u8 = 0xff;
/// From this first byte on examples are changed, where there are any.
const EXAMPLES: u8 = 0xa0;
/// How much longer than its deadlines a module may take on a busy machine, installation included.
const GRACE: Duration = Duration::from_secs(5);

/// How far the inputs of this process came.
static INSTALLED: AtomicU64 = AtomicU64::new(0);
static STARTED: AtomicU64 = AtomicU64::new(0);
static HANDLED: AtomicU64 = AtomicU64::new(0);
/// The latest end of a call after its deadline, microseconds.
static LATEST_US: AtomicU64 = AtomicU64::new(0);
/// The same without the time in which the thread waited for a processor.
static OWN_LATEST_US: AtomicU64 = AtomicU64::new(0);
/// How much later than its deadline a guest may be stopped, by what is the runtime's own doing.
const LATE: Duration = Duration::from_millis(20);

/// How far the inputs of this process came: installed, started, and called to a good end.
pub fn reached() -> [u64; 3] {
    [&INSTALLED, &STARTED, &HANDLED].map(|count| count.load(Ordering::Relaxed))
}

/// The same in words.
pub fn tell() -> String {
    let [installed, started, handled] = reached();
    let late = LATEST_US.load(Ordering::Relaxed) as f64 / 1e3;
    let own = OWN_LATEST_US.load(Ordering::Relaxed) as f64 / 1e3;
    format!(
        "{installed} modules installed, {started} started, {handled} handled their batch; the \
         latest ended {late:.1} ms after its deadline, {own:.1} ms without waits for a processor"
    )
}

fn limits() -> Limits {
    let limits = Limits::default();
    Limits {
        // The clock stops a loop, not the fuel.
        fuel_per_batch: u64::MAX,
        first_call_fuel: u64::MAX,
        deadline: Duration::from_millis(10),
        start_deadline: Duration::from_millis(10),
        memory_bytes: 2 << 20,
        ..limits
    }
}

/// The first byte chooses a module of the hostile set, or of the directory
/// `TIDEGATE_FUNCTIONS`; then four bytes say each place, how it is changed, and with what.
pub fn run(bytes: &[u8]) {
    let started = Instant::now();
    let limits = limits();
    let Ok(module) = Module::compile(&changed(bytes), &limits) else {
        return in_time(started);
    };
    INSTALLED.fetch_add(1, Ordering::Relaxed);
    let Ok(mut instance) = module.instantiate(b"{}") else { return in_time(started) };
    STARTED.fetch_add(1, Ordering::Relaxed);
    for _ in 0..2 {
        let state = Arc::new(State::from([(b"k".to_vec(), vec![7; 90])]));
        let before = waited();
        let outcome = instance.call(&batch(), state);
        check(&outcome, &limits, waited().saturating_sub(before));
    }
    // Whatever comes of it: that it ends is what counts.
    let _ = instance.stop();
    in_time(started);
}

fn in_time(started: Instant) {
    let took = started.elapsed();
    assert!(took < GRACE, "{took:?} for one module");
}

/// How long this thread could have run and had no processor, as Linux counts it.
fn waited() -> Duration {
    let counted = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = counted.split(' ').nth(1).and_then(|waited| waited.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn check(outcome: &Outcome, limits: &Limits, waited: Duration) {
    assert!(outcome.memory_bytes <= limits.memory_bytes, "{outcome:?}");
    let logged: usize = outcome.logs.iter().map(|(_, text)| text.len()).sum();
    // Bytes that are no text take three each, and the last line says what is missing.
    assert!(logged <= 3 * limits.log_bytes + 200, "{logged} bytes of log");
    let late = outcome.elapsed.saturating_sub(limits.deadline).as_micros() as u64;
    LATEST_US.fetch_max(late, Ordering::Relaxed);
    let own = outcome.elapsed.saturating_sub(limits.deadline).saturating_sub(waited);
    OWN_LATEST_US.fetch_max(own.as_micros() as u64, Ordering::Relaxed);
    assert!(own <= LATE || cfg!(debug_assertions), "{own:?} after its deadline: {outcome:?}");
    match &outcome.verdict {
        Verdict::Done(output) => {
            assert!(output.len() <= limits.output_bytes);
            HANDLED.fetch_add(1, Ordering::Relaxed);
        }
        Verdict::RetryBatch | Verdict::DeadLetterBatch | Verdict::Failed(_) => {}
    }
}

fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    if choice == RAW {
        return bytes[1..].to_vec();
    }
    let mut module = base(choice).to_vec();
    for _ in 0..MAX_CHANGES {
        if input.is_empty() || module.is_empty() {
            break;
        }
        let place = usize::from(u16::from_le_bytes([input.byte(), input.byte()]));
        let length = module.len();
        let at = (place * length) >> 16;
        let (how, value) = (input.byte(), input.byte());
        match how % 8 {
            0 => module[at] ^= 1 << (value % 8),
            1 => module[at] = module[at].wrapping_add(1),
            2 => module[at] = module[at].wrapping_sub(1),
            3 => module.swap(at, place % length),
            4 => module.insert(at, value),
            5 => drop(module.remove(at)),
            _ => module[at] = value,
        }
    }
    module
}

fn base(choice: u8) -> &'static [u8] {
    static HOSTILE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    static BUILT: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let hostile = HOSTILE
        .get_or_init(|| tidegate_hostile::small().iter().map(|one| (one.module)()).collect());
    let built = BUILT.get_or_init(examples);
    let choice_of = |list: &'static [Vec<u8>], number: u8| &list[usize::from(number) % list.len()];
    if choice >= EXAMPLES && !built.is_empty() {
        choice_of(built, choice - EXAMPLES)
    } else {
        choice_of(hostile, choice)
    }
}

/// The modules in `TIDEGATE_FUNCTIONS`, in the order of their names.
fn examples() -> Vec<Vec<u8>> {
    let Some(folder) = env::var_os("TIDEGATE_FUNCTIONS") else { return Vec::new() };
    let mut files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "wasm"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())))
        .collect()
}

fn batch() -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, 42);
    let payload = br#"{"id":"r-1","value":31.5}"#;
    let topic = "sensors/a/telemetry";
    for seq in 0..4 {
        let message = MessageRef { seq, topic, payload, ..MessageRef::default() };
        assert!(writer.push(&message).is_ok(), "four short messages fit");
    }
    writer.finish()
}
