//! What a function may use.

use std::time::Duration;

/// The bounds of one function. Each has a default that suits a small gateway.
///
/// The most resident memory that one instance can cost is about
/// `memory_bytes + stack_bytes + output_bytes + log_bytes + 16 * table_elements`, beside the
/// translated module: `module_bytes` and at most about 12 times `code_bytes`, shared by its
/// instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Fuel for one call, whatever its size. One unit is one Wasm instruction, but a block is
    /// paid whole when it is entered, its branches not taken included: 0.2 to 2 ns of a
    /// desktop, ten times that of a small gateway. Default 10,000,000.
    pub fuel_per_batch: u64,
    /// Fuel that each entry of the batch adds. Default 1,000,000.
    pub fuel_per_message: u64,
    /// Fuel for `_initialize` and `tg_init` together. Default 50,000,000. Translation costs no
    /// fuel: it happens once, when the module is compiled.
    pub first_call_fuel: u64,
    /// Fuel after which a running guest is halted to look at the clock: at most 0.3 ms on a
    /// desktop. A call that needs less is never halted. Default 100,000.
    pub fuel_slice: u64,
    /// How long one call may take by the clock on the wall. Default 100 ms.
    pub deadline: Duration,
    /// How long `_initialize` and `tg_init` may take together. Default 1 s.
    pub start_deadline: Duration,
    /// Linear memory, bytes. Default 16 MiB; at most 2 GiB - 64 KiB, because addresses must
    /// stay positive as `i32`.
    pub memory_bytes: usize,
    /// Elements of all tables together; tables do not grow. Default 10,000.
    pub table_elements: usize,
    /// Calls inside calls. Default 1,000.
    pub stack_depth: usize,
    /// The interpreter's stack of values, bytes. Default 1,000,000.
    pub stack_bytes: usize,
    /// Bytes of one output frame. Default 1 MiB.
    pub output_bytes: usize,
    /// Calls of imports during one call. Default 100,000.
    pub host_calls: u32,
    /// Bytes of log text kept from one call; what comes after is counted, not kept.
    /// Default 16 KiB.
    pub log_bytes: usize,
    /// Bytes of a module, looked at before anything of it is parsed. Default 8 MiB.
    pub module_bytes: usize,
    /// Bytes of a module's code, the bodies of all its functions. Default 2 MiB,
    /// which take at most 0.2 s of a desktop to translate.
    pub code_bytes: usize,
}

/// Which imports a function may use beside `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grants {
    /// Its state: `kv_get`, `kv_scan`.
    pub state: bool,
    /// The time of the batch: `now`.
    pub clock: bool,
    /// Random numbers: `random`.
    pub random: bool,
}

impl Grants {
    /// All of them: for a function that the operator has named in the configuration.
    pub const ALL: Grants = Grants { state: true, clock: true, random: true };
}

impl Limits {
    /// The most that [`memory_bytes`](Self::memory_bytes) can be: 2 GiB less one page.
    pub const MAX_MEMORY_BYTES: usize = (i32::MAX as usize) & !0xffff;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel_per_batch: 10_000_000,
            fuel_per_message: 1_000_000,
            first_call_fuel: 50_000_000,
            fuel_slice: 100_000,
            deadline: Duration::from_millis(100),
            start_deadline: Duration::from_secs(1),
            memory_bytes: 16 << 20,
            table_elements: 10_000,
            stack_depth: 1_000,
            stack_bytes: 1_000_000,
            output_bytes: 1 << 20,
            host_calls: 100_000,
            log_bytes: 16 << 10,
            module_bytes: 8 << 20,
            code_bytes: 2 << 20,
        }
    }
}
