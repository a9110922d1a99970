//! Time of a side's own clock.

/// Microseconds since a moment of the caller's choice. It never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Micros(pub u64);

impl Micros {
    /// That many milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Micros {
        Micros(millis * 1_000)
    }

    /// Later by a duration.
    #[must_use]
    pub const fn after(self, duration: Micros) -> Micros {
        Micros(self.0.saturating_add(duration.0))
    }

    /// How long it is since `earlier`; 0 when that is later.
    #[must_use]
    pub const fn since(self, earlier: Micros) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}
