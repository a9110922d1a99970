//! What happened in a world, in numbers: a campaign that saw no trouble proves nothing.

use std::fmt;
use std::ops::AddAssign;

macro_rules! tally {
    ($($(#[doc = $doc:literal])+ $field:ident: $words:literal,)*) => {
        /// Counts of one world, or of many.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Tally {
            $($(#[doc = $doc])+ pub $field: u64,)*
        }

        impl AddAssign<&Tally> for Tally {
            fn add_assign(&mut self, other: &Tally) {
                $(self.$field += other.$field;)*
            }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(writeln!(f, "{:>14}  {}", grouped(self.$field), $words)?;)*
                Ok(())
            }
        }
    };
}

tally! {
    /// Power cuts.
    power_cuts: "power cuts",
    /// Of those, the ones that hit work.
    power_cuts_bit: "of them with publishes unacknowledged or commits unsynced",
    /// Kills of the process.
    kills: "kills of the process",
    /// Clean restarts.
    restarts: "clean restarts",
    /// Starts that began a new epoch.
    epochs: "starts that began a new epoch",
    /// Partitions.
    partitions: "partitions between gateway and upstream",
    /// Of those, the ones that hit work.
    partitions_bit: "of them with records or answers lost in them",
    /// Full disks.
    full_disks: "full disks",
    /// Of those, the ones that hit work.
    full_disks_bit: "of them with the gateway short of room and publishers waiting",
    /// Syncs that failed.
    failed_syncs: "failed syncs",
    /// Writes that failed.
    failed_writes: "failed writes",
    /// Sinks restored from a backup.
    set_back: "sinks restored from a backup",
    /// Records that they lost by it.
    set_back_records: "records that they lost by it",
    /// Jumps of the wall clock.
    clock_jumps: "jumps of the wall clock",
    /// Connections of devices that broke.
    broken_links: "connections of devices broken",
    /// Connections of devices that fell silent.
    silent_links: "connections of devices fallen silent",
    /// Devices that restarted.
    sensor_restarts: "restarts of devices",
    /// Second connections of a device that the gateway had one of.
    takeovers: "sessions taken over by a second connection",
    /// Of those, the ones at which the power was cut.
    takeovers_cut: "of them with a power cut set on them",
    /// Goodbyes of subscribers.
    absences: "goodbyes of subscribers that came back",
    /// Readings acknowledged.
    acknowledged: "readings acknowledged",
    /// Publishes that a sensor sent again.
    sent_again: "publishes sent again by sensors",
    /// Readings refused at least once.
    refused: "readings refused at first",
    /// PUBRELs that a sensor sent again.
    released_again: "PUBRELs sent again by sensors",
    /// Messages that subscribers with kept sessions got.
    delivered: "messages delivered to kept sessions",
    /// Publishes to them that came again.
    delivered_again: "publishes that they were sent again",
    /// Records of the spool in the ledger.
    spool_dropped: "records dropped from the spool into the ledger",
    /// Looks at all retained messages.
    retained_checks: "looks at all retained messages after a start",
    /// Records kept in the log in the end, over all streams.
    records: "records logged",
    /// Records in the ledger.
    dropped: "records dropped into the ledger",
    /// Of those, records older than their stream allows.
    expired: "of them for their age",
    /// Of those, records that were at every sink all the same.
    dropped_late: "of them at every sink all the same",
    /// Records that took effect at sinks.
    effects: "records taken by sinks",
    /// Transmissions to sinks.
    transmissions: "transmissions to sinks",
    /// Transmissions recognised as repeated.
    repeated: "of them repeated and recognised",
    /// Messages that a sink refused for its quota.
    busy: "of them refused for the sink's quota",
    /// Objects that a sink refused for their size.
    too_large: "of them refused for their size",
    /// Records that went up in a late lane.
    late_records: "records sent in late lanes",
    /// Connections to another replica than the first.
    failovers: "connections to another replica than the first",
    /// Files that came into a folder.
    files: "files of a folder",
    /// Runs of schedules that were published.
    runs: "runs of schedules published",
    /// Requests with a key that were answered.
    told: "requests with a key answered",
    /// Requests that were sent again.
    asked_again: "requests sent again",
    /// Disk operations.
    operations: "disk operations",
    /// Events.
    events: "events",
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_kept_apart() {
        assert_eq!([7, 1_000, 1_234_567].map(grouped), ["7", "1,000", "1,234,567"]);
    }
}
