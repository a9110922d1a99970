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
        tidegate_wire::divided(self.0, 1_000).0
    }
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
