//! When to connect again.

use crate::Micros;

/// Waits that double, up to a most, each shortened by up to a half: devices that lose a gateway together
/// do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    wait: Micros,
    least: Micros,
    most: Micros,
    random: u32,
}

impl Retry {
    /// Waits from `least` to `most`. `seed` should differ between devices.
    #[must_use]
    pub const fn new(least: Micros, most: Micros, seed: u32) -> Retry {
        // Xorshift has to begin with anything but 0.
        Retry { wait: least, least, most, random: seed | 1 }
    }

    /// When to try next, after a try that failed.
    pub fn next(&mut self, now: Micros) -> Micros {
        let wait = self.wait.0.min(self.most.0);
        self.wait = Micros(wait.saturating_mul(2));
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        let shorter = (wait / 2).saturating_mul(u64::from(self.random >> 16)) >> 16;
        now.after(Micros(wait - shorter))
    }

    /// A try has succeeded: the next wait is the least again.
    pub fn succeeded(&mut self) {
        self.wait = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_differ_between_devices() {
        let second = Micros::from_millis(1_000);
        let mut retry = Retry::new(second, Micros::from_millis(60_000), 7);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = retry.next(second).since(second).0;
            let most = expected * second.0;
            assert!(wait <= most && wait >= most / 2, "{wait} of {most}");
        }
        retry.succeeded();
        assert!(retry.next(second).since(second) <= second);
        let first = |seed| Retry::new(second, second, seed).next(Micros(0));
        assert_ne!(first(1), first(2 << 20));
    }
}
