//! The open windows of one sensor, and their bytes in the state.

use alloc::vec::Vec;

/// Bytes of a window: start, time of the last reading (i64 each), minimum, maximum, sum, last
/// (f64 each), count (u32), all little-endian.
const WINDOW_BYTES: usize = 52;

/// The open windows of one sensor, by their start.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    /// Windows that start before this are told already.
    pub(crate) closed_until: i64,
    open: Vec<Window>,
}

/// One window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) start_ms: i64,
    last_ms: i64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) sum: f64,
    pub(crate) last: f64,
    pub(crate) count: u32,
}

impl Series {
    /// Adds a reading to the window that starts then.
    pub(crate) fn add(&mut self, start_ms: i64, time_ms: i64, value: f64) {
        let at = match self.open.binary_search_by_key(&start_ms, |window| window.start_ms) {
            Ok(at) => at,
            Err(at) => {
                let (min, max) = (value, value);
                let new = Window {
                    start_ms,
                    last_ms: time_ms,
                    min,
                    max,
                    sum: 0.0,
                    last: value,
                    count: 0,
                };
                self.open.insert(at, new);
                at
            }
        };
        let Some(window) = self.open.get_mut(at) else { return };
        window.min = window.min.min(value);
        window.max = window.max.max(value);
        window.sum += value;
        window.count = window.count.saturating_add(1);
        if time_ms >= window.last_ms {
            (window.last_ms, window.last) = (time_ms, value);
        }
    }

    /// Takes out the windows that end by `now_ms`, oldest first.
    pub(crate) fn close(&mut self, now_ms: i64, window_ms: i64) -> Vec<Window> {
        let ended = |window: &&Window| window.start_ms.saturating_add(window_ms) <= now_ms;
        let count = self.open.iter().take_while(ended).count();
        let rest = self.open.split_off(count);
        let current = now_ms.div_euclid(window_ms).saturating_mul(window_ms);
        self.closed_until = self.closed_until.max(current);
        core::mem::replace(&mut self.open, rest)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.open.len() * WINDOW_BYTES);
        bytes.extend_from_slice(&self.closed_until.to_le_bytes());
        for window in &self.open {
            bytes.extend_from_slice(&window.start_ms.to_le_bytes());
            bytes.extend_from_slice(&window.last_ms.to_le_bytes());
            for number in [window.min, window.max, window.sum, window.last] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&window.count.to_le_bytes());
        }
        bytes
    }

    /// What is no series is an empty one: a sensor without state.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let Some((closed, rest)) = bytes.split_first_chunk::<8>() else {
            return Self { closed_until: i64::MIN, open: Vec::new() };
        };
        let open = rest.chunks_exact(WINDOW_BYTES).filter_map(Window::decode).collect();
        Self { closed_until: i64::from_le_bytes(*closed), open }
    }
}

impl Window {
    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut eight = || {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            bytes = rest;
            Some(*first)
        };
        let (start_ms, last_ms) = (i64::from_le_bytes(eight()?), i64::from_le_bytes(eight()?));
        let (min, max) = (f64::from_le_bytes(eight()?), f64::from_le_bytes(eight()?));
        let (sum, last) = (f64::from_le_bytes(eight()?), f64::from_le_bytes(eight()?));
        let count = u32::from_le_bytes(*bytes.first_chunk::<4>()?);
        Some(Self { start_ms, last_ms, min, max, sum, last, count })
    }
}
