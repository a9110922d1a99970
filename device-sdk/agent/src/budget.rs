//! What a gateway can make a device do in a day.

/// Milliseconds since the device's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Millis(pub u64);

impl Millis {
    /// Later by so many milliseconds.
    #[must_use]
    pub const fn after(self, millis: u64) -> Millis {
        Millis(self.0.saturating_add(millis))
    }
}

impl Millis {
    /// Whole seconds.
    pub(crate) fn seconds(self) -> u64 {
        divided(self.0, 1_000).0
    }
}

/// Quotient and rest, by digits of 16 bits, which a processor of 32 bits divides itself: the
/// compiler's own division of 64 bits takes half a kilobyte of flash.
pub(crate) fn divided(number: u64, by: u16) -> (u64, u32) {
    let by = u32::from(by);
    let digits = [48, 32, 16, 0].map(|shift| (number >> shift) as u32 & 0xffff);
    digits.iter().fold((0, 0), |(quotient, rest), digit| {
        let part = rest << 16 | digit;
        (quotient << 16 | u64::from(part / by), part % by)
    })
}

const DAY: u64 = 24 * 3_600 * 1_000;

/// Limits of a day. They begin anew with a start, which no gateway can force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Budget {
    /// Pages that may be erased for releases.
    pub erases: u32,
    /// Releases that may be begun.
    pub tries: u32,
}

/// What is left of a day's budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    whole: Budget,
    left: Budget,
    until: Millis,
}

impl Left {
    pub(crate) fn new(whole: Budget, now: Millis) -> Left {
        Left { whole, left: whole, until: now.after(DAY) }
    }

    /// What may still be done.
    pub(crate) fn at(&mut self, now: Millis) -> Budget {
        if now >= self.until {
            *self = Left::new(self.whole, now);
        }
        self.left
    }

    /// When there is a whole budget again.
    pub(crate) fn until(&self) -> Millis {
        self.until
    }

    pub(crate) fn erased(&mut self, pages: u32) {
        self.left.erases = self.left.erases.saturating_sub(pages);
    }

    pub(crate) fn tried(&mut self) {
        self.left.tries = self.left.tries.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::divided;

    #[test]
    fn division_by_digits_is_division() {
        for number in [0, 1, 999, 1_000, 65_535, 65_536, 1 << 40, u64::MAX - 1, u64::MAX] {
            for by in [1, 60, 1_000, 1_440, u16::MAX] {
                let expected = (number / u64::from(by), (number % u64::from(by)) as u32);
                assert_eq!(divided(number, by), expected, "{number} by {by}");
            }
        }
    }
}
