//! The wall clock, as far as its owner vouches for it.
//!
//! A clock that was never set must not delete anything, and what was stamped by one must not be
//! taken for old. So nothing goes by time while the clock is not trusted, and a time that cannot
//! be right is replaced by the moment when a trusted clock first saw the record.

/// A reading of the wall clock, milliseconds since 1970, and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WallClock {
    /// It has been set: what is old by it may go.
    Trusted(i64),
    /// It may be years off: it stamps, and nothing goes by it.
    Untrusted(i64),
}

/// Before 1 January 2026 no clock of a gateway was right: this program is younger.
const EARLIEST_MS: i64 = 1_767_225_600_000;

impl WallClock {
    /// What it shows.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        match self {
            WallClock::Trusted(unix_ms) | WallClock::Untrusted(unix_ms) => unix_ms,
        }
    }

    /// What it shows, if that may be relied on.
    pub(crate) fn trusted_ms(self) -> Option<i64> {
        match self {
            WallClock::Trusted(unix_ms) => Some(unix_ms),
            WallClock::Untrusted(_) => None,
        }
    }
}

/// The time from which a record counts: its own, when that can be right, or else `now_ms`, when
/// it is seen. It was not there before `since_ms`.
pub(crate) fn counted_from(own_ms: i64, since_ms: i64, now_ms: i64) -> i64 {
    if (since_ms.max(EARLIEST_MS)..=now_ms).contains(&own_ms) { own_ms } else { now_ms }
}

/// No time yet, where the newest of several is looked for.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// The time by which records of both times go together. One that cannot be right is taken for the
/// newest: its record may have come long after the others, with a clock that began anew.
pub(crate) fn newest(one_ms: i64, other_ms: i64) -> i64 {
    let (low, high) = (one_ms.min(other_ms), one_ms.max(other_ms));
    if low == NO_TIME || low >= EARLIEST_MS { high } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_cannot_be_right_is_the_newest_of_several() {
        let right = EARLIEST_MS + 5;
        for (one, other, both) in [
            (NO_TIME, right, right),
            (NO_TIME, 7, 7),
            (right, right + 1, right + 1),
            (right, 7, 7),
            (8, 7, 7),
        ] {
            assert_eq!(newest(one, other), both, "{one} and {other}");
            assert_eq!(newest(other, one), both, "{other} and {one}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_right_counts_from_when_it_is_seen() {
        let now = EARLIEST_MS + 1_000_000;
        for (own, since, counted) in [
            (now - 5, i64::MIN, now - 5),
            (now, i64::MIN, now),
            (now + 1, i64::MIN, now),
            (0, i64::MIN, now),
            (EARLIEST_MS - 1, i64::MIN, now),
            (EARLIEST_MS, i64::MIN, EARLIEST_MS),
            (now - 5, now - 4, now),
        ] {
            assert_eq!(counted_from(own, since, now), counted, "{own} since {since}");
        }
    }
}
