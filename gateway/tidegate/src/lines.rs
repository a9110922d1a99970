//! A limit for lines of the log that clients cause, so that no client can fill it.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);

/// At most so many lines a minute.
#[derive(Debug)]
pub(crate) struct Lines {
    most: u32,
    window: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Lines {
    pub(crate) fn a_minute(most: u32) -> Lines {
        Lines { most, window: None, lines: 0, left_out: 0 }
    }

    /// Whether there may be another line, and how many were left out before it.
    pub(crate) fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.window.is_none_or(|began| now >= began + WINDOW) {
            self.window = Some(now);
            self.lines = 0;
        }
        if self.lines == self.most {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_with_the_next_line() {
        let (mut lines, now) = (Lines::a_minute(10), Instant::now());
        let admitted: Vec<_> = (0..15).filter_map(|_| lines.admit(now)).collect();
        assert_eq!(admitted, [0; 10]);
        assert_eq!(lines.admit(now + WINDOW), Some(5));
        assert_eq!(lines.admit(now + WINDOW), Some(0));
    }
}
