//! Mistakes that a careful person might make in this crate, for the simulator to find: it proves
//! that it can. None can be made outside of tests: without the feature `planted-bugs` there is no
//! way to ask for one.

use crate::options::LogOptions;

/// A mistake that the simulator has to notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(any(test, feature = "planted-bugs")),
    expect(unreachable_pub, reason = "nobody outside can ask for a mistake")
)]
pub enum PlantedBug {
    /// Groups count as durable once written, before they are synced.
    AckBeforeSync,
    /// Checksums do not cover the segment's id, and commit numbers may fall: what a recycled
    /// segment held before passes for live data.
    CrcWithoutSegment,
    /// Records go when the fastest reader has passed them, not the slowest.
    TrimByFastestReader,
    /// The directory is not synced after a segment got its name.
    DirectorySyncForgotten,
    /// Recovery trusts the last frame that it can read without syncing it.
    RecoveredTailUnsynced,
    /// What a checkpoint says about publishers is not taken over.
    PublishersNotRestored,
    /// What the quota drops is not entered into the ledger.
    DropWithoutLedger,
    /// What is older than its stream allows is not entered into the ledger.
    AgeWithoutLedger,
    /// Records go by a clock that nobody has set.
    ExpiresByAnyClock,
    /// Segments are used again before the trims that freed them are durable.
    RecycleBeforeTrim,
    /// A failed sync is taken for done, because the next one succeeds.
    FailedSyncForgiven,
}

impl LogOptions {
    /// Whether this mistake is to be made.
    #[inline]
    pub(crate) fn plants(&self, bug: PlantedBug) -> bool {
        #[cfg(any(test, feature = "planted-bugs"))]
        return self.planted == Some(bug);
        #[cfg(not(any(test, feature = "planted-bugs")))]
        {
            let _nobody_asks = bug;
            false
        }
    }
}
