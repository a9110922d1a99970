//! Names and codes of the calls that cross the border.

/// Names of what a module exports.
pub mod export {
    /// The linear memory.
    pub const MEMORY: &str = "memory";
    /// `() -> ()`: marks a module as written for this contract; never called.
    pub const MARKER: &str = "tg_abi_1";
    /// `() -> ()`: optional; called once, before everything else (WASI reactors have it).
    pub const INITIALIZE: &str = "_initialize";
    /// `(min_len: i32) -> i32`: the input buffer, at least `min_len` bytes; the host writes the
    /// configuration or a frame there before the next call.
    pub const BUFFER: &str = "tg_buffer";
    /// `(ptr: i32, len: i32) -> i32`: takes the configuration; 0 = ok.
    pub const INIT: &str = "tg_init";
    /// `(ptr: i32, len: i32) -> i64`: takes an input frame; see [`HandleResult`](crate::HandleResult).
    pub const HANDLE: &str = "tg_handle";
    /// `() -> ()`: optional; called before an instance is given up in good order.
    pub const STOP: &str = "tg_stop";
}

/// Names of what a module may import.
pub mod import {
    /// The module of all imports.
    pub const MODULE: &str = "tg1";
    /// `(key: i32, key_len: i32, buf: i32, cap: i32) -> i32`
    pub const KV_GET: &str = "kv_get";
    /// `(prefix: i32, prefix_len: i32, after: i32, after_len: i32, buf: i32, cap: i32) -> i32`
    pub const KV_SCAN: &str = "kv_scan";
    /// `(clock: i32) -> i64`
    pub const NOW: &str = "now";
    /// `(buf: i32, len: i32) -> i32`
    pub const RANDOM: &str = "random";
    /// `(level: i32, text: i32, len: i32) -> ()`
    pub const LOG: &str = "log";
    /// `(name: i32, name_len: i32, buf: i32, cap: i32) -> i32`
    pub const SECRET_GET: &str = "secret_get";
    /// `(text: i32, text_len: i32, paths: i32, count: i32, found: i32) -> i32`
    pub const JSON_FIND: &str = "json_find";
    /// `(frame: i32, frame_len: i32, first: i32, paths: i32, count: i32, found: i32, entries: i32) -> i32`
    pub const JSON_FIND_EACH: &str = "json_find_each";
    /// Longest text that [`JSON_FIND`] and [`JSON_FIND_EACH`] read in a call, in bytes.
    pub const JSON_TEXT_BYTES: usize = 16 << 10;
    /// Most paths that it looks for at a time.
    pub const JSON_PATHS: usize = 8;
    /// Longest of these, in bytes.
    pub const JSON_PATH_BYTES: usize = 256;
    /// Most dots in all of them together.
    pub const JSON_DOTS: usize = 8;
    /// Most entries that [`JSON_FIND_EACH`] answers for in a call.
    pub const JSON_ENTRIES: usize = 256;
    /// Bytes of what it says of a value: `u32` start, `u32` end, `f64` number.
    pub const JSON_PLACE_BYTES: usize = 16;
    /// The start of the first value of an entry whose payload it has not read.
    pub const JSON_UNREAD: u32 = u32::MAX;
    /// The only clock of [`NOW`]: the batch's time, nanoseconds since 1970.
    pub const CLOCK_BATCH: i32 = 0;
}

/// What imports return, negated, when they fail. The numbers are those of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Errno {
    /// The configuration grants the function no such right.
    NotPermitted = 1,
    /// There is no such key.
    NoEntry = 2,
    /// Pointer and length are not inside the guest's memory.
    Fault = 14,
    /// An argument has no meaning, such as an unknown clock.
    Invalid = 22,
}

impl Errno {
    /// The value as the import returns it: below zero.
    pub const fn code(self) -> i32 {
        -(self as i32)
    }
}

/// The result of `tg_handle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandleResult {
    /// 0: every record is acknowledged, there is no output.
    Done,
    /// Above 0: an output frame of `len` bytes at `ptr`.
    Output {
        /// Address in the guest's memory.
        ptr: u32,
        /// Bytes.
        len: u32,
    },
    /// -1: nothing happened; give the batch again.
    Retry,
    /// -2: nothing happened; dead-letter the batch.
    DeadLetter,
    /// Below -2: a failure like a trap.
    Failed(i64),
}

impl HandleResult {
    /// Reads the result of `tg_handle`.
    pub const fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Done,
            -1 => Self::Retry,
            -2 => Self::DeadLetter,
            1.. => Self::Output { ptr: (code >> 32) as u32, len: code as u32 },
            _ => Self::Failed(code),
        }
    }

    /// The result of `tg_handle` as a number. An output frame at or above 2 GiB has none; it
    /// comes out negative, so the host takes it for a failure.
    pub const fn code(self) -> i64 {
        match self {
            Self::Done => 0,
            Self::Output { ptr, len } => ((ptr as u64) << 32 | len as u64) as i64,
            Self::Retry => -1,
            Self::DeadLetter => -2,
            Self::Failed(code) => code,
        }
    }
}
