//! The border to the host, on wasm32: the imports of `tg1`, and what stands behind the exports.
//!
//! The only unsafe code of this crate. It rests on two facts: a module has one thread, and the
//! host enters it at top level only, never from inside an import. The pointers that the imports
//! take are those of slices that live as long as the call.

use crate::function::{Config, Function, call};
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::marker::PhantomData;
use tidegate_abi::{HandleResult, Level};

#[cfg(not(feature = "std"))]
mod heap;

mod tg1 {
    #[link(wasm_import_module = "tg1")]
    unsafe extern "C" {
        pub(super) fn kv_get(key: *const u8, key_len: usize, buf: *mut u8, cap: usize) -> i32;
        pub(super) fn kv_scan(
            prefix: *const u8,
            prefix_len: usize,
            after: *const u8,
            after_len: usize,
            buf: *mut u8,
            cap: usize,
        ) -> i32;
        pub(super) fn secret_get(name: *const u8, name_len: usize, buf: *mut u8, cap: usize)
        -> i32;
        pub(super) fn json_find(
            text: *const u8,
            text_len: usize,
            paths: *const [usize; 2],
            count: usize,
            found: *mut [usize; 2],
        ) -> i32;
        pub(super) fn json_find_each(
            frame: *const u8,
            frame_len: usize,
            first: usize,
            paths: *const [usize; 2],
            count: usize,
            found: *mut u64,
            entries: usize,
        ) -> i32;
        pub(super) fn log(level: i32, text: *const u8, len: usize);
    }
}

/// What std would do, for modules without it.
#[cfg(not(feature = "std"))]
mod without_std {
    use super::heap::{Heap, Source};

    /// Bytes of a page of linear memory.
    const PAGE: usize = 65_536;

    #[global_allocator]
    static HEAP: Heap<LinearMemory> = Heap::new(LinearMemory);

    struct LinearMemory;

    impl Source for LinearMemory {
        fn initial(&self) -> (usize, usize) {
            unsafe extern "C" {
                static __heap_base: u8;
            }
            // The linker puts this symbol behind the stack and the data; nobody uses what
            // follows it. Only its address is taken.
            let first = &raw const __heap_base as usize;
            (first, core::arch::wasm32::memory_size(0) * PAGE)
        }

        fn more(&self, bytes: usize) -> Option<(usize, usize)> {
            let pages = bytes.div_ceil(PAGE);
            let first = core::arch::wasm32::memory_grow(0, pages);
            (first != usize::MAX).then(|| (first * PAGE, (first + pages) * PAGE))
        }

        fn exhausted(&self) -> ! {
            super::log_bytes(tidegate_abi::Level::Error, b"panicked at memory: used up");
            core::arch::wasm32::unreachable()
        }
    }

    /// Logs where the panic is, and traps: the gateway takes the last line of a call that begins
    /// with `panicked at` for the reason of the trap.
    #[panic_handler]
    fn panicked(info: &core::panic::PanicInfo<'_>) -> ! {
        super::log_bytes(tidegate_abi::Level::Error, crate::panic::said(info).bytes());
        core::arch::wasm32::unreachable()
    }
}

/// The function of a module, and its buffers. Made by [`function!`](crate::function!).
#[doc(hidden)]
pub struct Slot<F> {
    inner: RefCell<Inner<F>>,
}

struct Inner<F> {
    function: Option<F>,
    input: Vec<u8>,
    /// The last output frame, which the host reads after `tg_handle` has returned.
    output: Vec<u8>,
}

// SAFETY: wasm32-unknown-unknown without the atomics feature has one thread, and the host does
// not share a module's memory between instances.
unsafe impl<F> Sync for Slot<F> {}

/// Returned when a call comes while another runs, before `tg_init`, or not for our buffer: all
/// three are mistakes of the host.
const MISUSED: i32 = -9;

/// The smallest input buffer, enough for most batches of a small gateway.
const MIN_BUFFER: usize = 4096;

impl<F: Function> Slot<F> {
    #[doc(hidden)]
    #[allow(clippy::new_without_default)] // It is for a static, and Default is not const.
    pub const fn new() -> Self {
        let inner = Inner { function: None, input: Vec::new(), output: Vec::new() };
        Self { inner: RefCell::new(inner) }
    }

    /// `tg_buffer`
    #[doc(hidden)]
    pub fn buffer(&self, min_len: usize) -> *mut u8 {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return core::ptr::null_mut() };
        // The frame before this one is done with: its bytes need not be copied on growth.
        if inner.input.len() < min_len {
            inner.input = Vec::new();
            inner.input = vec![0; min_len.max(MIN_BUFFER)];
        }
        inner.input.as_mut_ptr()
    }

    /// `tg_init`
    #[doc(hidden)]
    pub fn init(&self, ptr: *const u8, len: usize) -> i32 {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return MISUSED };
        let Some(config) = given(&inner.input, ptr, len) else { return MISUSED };
        match Config::parse(config).and_then(|config| F::new(&config)) {
            Ok(function) => {
                inner.function = Some(function);
                0
            }
            Err(error) => {
                Host::new().log(Level::Error, error.text());
                1
            }
        }
    }

    /// `tg_handle`
    #[doc(hidden)]
    pub fn handle(&self, ptr: *const u8, len: usize) -> i64 {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return MISUSED.into() };
        let Inner { function, input, output } = &mut *inner;
        let (Some(function), Some(frame)) = (function.as_mut(), given(input, ptr, len)) else {
            return MISUSED.into();
        };
        let reply = call(function, frame, &Host::new(), core::mem::take(output));
        *output = reply.frame;
        if output.is_empty() {
            return reply.result.code();
        }
        HandleResult::Output { ptr: output.as_ptr() as u32, len: output.len() as u32 }.code()
    }
}

/// What the host has written into the input buffer.
fn given(input: &[u8], ptr: *const u8, len: usize) -> Option<&[u8]> {
    if core::ptr::eq(ptr, input.as_ptr()) { input.get(..len) } else { None }
}

/// The host, as a function's [`Out`](crate::Out) and [`State`](crate::State) see it.
pub(crate) struct Host<'h> {
    /// Native hosts borrow the state of the call; this one borrows nothing.
    call: PhantomData<&'h ()>,
}

/// The first guess at a value's size, and the size of a page of a scan.
const VALUE_GUESS: usize = 64;
const SCAN_PAGE: usize = 4096;

impl Host<'_> {
    pub(crate) fn new() -> Self {
        Self { call: PhantomData }
    }

    pub(crate) fn kv_get(&self, key: &[u8]) -> Option<Vec<u8>> {
        let mut value = vec![0; VALUE_GUESS];
        loop {
            // SAFETY: both pointers come with the length of the slice that they point to, and
            // the host keeps none of them.
            let code =
                unsafe { tg1::kv_get(key.as_ptr(), key.len(), value.as_mut_ptr(), value.len()) };
            let len = usize::try_from(code).ok()?;
            if len <= value.len() {
                value.truncate(len);
                return Some(value);
            }
            value = vec![0; len];
        }
    }

    pub(crate) fn secret_get(&self, name: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; VALUE_GUESS];
        loop {
            // SAFETY: both pointers come with the length of the slice that they point to, and
            // the host keeps none of them.
            let code = unsafe {
                tg1::secret_get(name.as_ptr(), name.len(), value.as_mut_ptr(), value.len())
            };
            let len = usize::try_from(code).ok()?;
            if len <= value.len() {
                value.truncate(len);
                return Some(value);
            }
            value = vec![0; len];
        }
    }

    pub(crate) fn kv_scan(&self, prefix: &[u8], after: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut page = vec![0; SCAN_PAGE];
        loop {
            // SAFETY: all pointers come with the length of the slice that they point to, and
            // the host keeps none of them.
            let code = unsafe {
                tg1::kv_scan(
                    prefix.as_ptr(),
                    prefix.len(),
                    after.as_ptr(),
                    after.len(),
                    page.as_mut_ptr(),
                    page.len(),
                )
            };
            let Ok(len) = usize::try_from(code) else { return Vec::new() };
            if len <= page.len() {
                page.truncate(len);
                return entries(&page);
            }
            page = vec![0; len];
        }
    }

    pub(crate) fn log(&self, level: Level, text: &str) {
        log_bytes(level, text.as_bytes());
    }
}

/// Where the values at these paths begin and end, both 0 for one that is not there; `None` when the
/// gateway does not say: the text is no JSON, or beyond its bounds.
#[inline(always)] // In one place of a module.
pub(crate) fn json_find<const N: usize>(text: &[u8], paths: [&str; N]) -> Option<[[usize; 2]; N]> {
    let paths = table(&paths);
    let mut found = [[0; 2]; N];
    // SAFETY: the text and the paths come with their lengths, the host writes N pairs behind `found`,
    // and it keeps no pointer.
    let code =
        unsafe { tg1::json_find(text.as_ptr(), text.len(), paths.as_ptr(), N, found.as_mut_ptr()) };
    (code == 0).then_some(found)
}

/// What the imports want to know of the paths: address and length of each.
pub(crate) fn table<const N: usize>(paths: &[&str; N]) -> [[usize; 2]; N] {
    paths.map(|path| [path.as_ptr() as usize, path.len()])
}

/// Where the values at these paths are in the payloads of the frame's entries from `first` on; for how many
/// entries it is told. 0 = the gateway does not say.
#[inline(always)] // In one place of a module.
pub(crate) fn json_find_each<const N: usize>(
    frame: &[u8],
    first: u32,
    table: &[[usize; 2]; N],
    found: &mut [u64],
) -> usize {
    // Two words for each value.
    let entries = found.len() / (2 * N).max(1);
    // SAFETY: the frame comes with its length, the table was made of N paths that outlive the call, the
    // host writes at most N values for each of the entries behind `found`, which may be any bits, and it
    // keeps no pointer.
    let code = unsafe {
        tg1::json_find_each(
            frame.as_ptr(),
            frame.len(),
            first as usize,
            table.as_ptr(),
            N,
            found.as_mut_ptr(),
            entries,
        )
    };
    usize::try_from(code).unwrap_or(0)
}

fn log_bytes(level: Level, text: &[u8]) {
    // SAFETY: pointer and length are those of the slice, and the host keeps neither.
    unsafe { tg1::log(level as i32, text.as_ptr(), text.len()) }
}

/// Reads a page of a scan: repeated `u32 key_len, u32 value_len, key, value`.
fn entries(mut page: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fn length(page: &[u8]) -> Option<(usize, &[u8])> {
        let (len, rest) = page.split_first_chunk::<4>()?;
        Some((u32::from_le_bytes(*len) as usize, rest))
    }
    let mut entries = Vec::new();
    while let Some((key_len, rest)) = length(page) {
        let Some((value_len, rest)) = length(rest) else { break };
        let Some((key, rest)) = rest.split_at_checked(key_len) else { break };
        let Some((value, rest)) = rest.split_at_checked(value_len) else { break };
        entries.push((key.to_vec(), value.to_vec()));
        page = rest;
    }
    entries
}
