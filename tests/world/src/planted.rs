//! The deliberate mistakes: each must be found within 200 worlds, which proves that the judge
//! can fail somebody.

use std::fmt;
use std::str::FromStr;

use tidegate_flow::PlantedBug as FlowBug;
use tidegate_stream::PlantedBug as LogBug;

/// A mistake that the simulator must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A mistake in the log.
    Log(LogBug),
    /// A mistake in what composes the gateway.
    Flow(FlowBug),
}

impl Planted {
    /// Every one, with the name that the command line knows it by.
    pub const ALL: [(&'static str, Planted); 27] = [
        ("ack-before-sync", Planted::Log(LogBug::AckBeforeSync)),
        ("crc-without-segment", Planted::Log(LogBug::CrcWithoutSegment)),
        ("cursor-apart", Planted::Flow(FlowBug::CursorApart)),
        ("trim-by-fastest-reader", Planted::Log(LogBug::TrimByFastestReader)),
        ("directory-sync-forgotten", Planted::Log(LogBug::DirectorySyncForgotten)),
        ("recovered-tail-unsynced", Planted::Log(LogBug::RecoveredTailUnsynced)),
        ("publishers-not-restored", Planted::Log(LogBug::PublishersNotRestored)),
        ("drop-without-ledger", Planted::Log(LogBug::DropWithoutLedger)),
        ("recycle-before-trim", Planted::Log(LogBug::RecycleBeforeTrim)),
        ("failed-sync-forgiven", Planted::Log(LogBug::FailedSyncForgiven)),
        ("cursor-moved-on-send", Planted::Flow(FlowBug::CursorMovedOnSend)),
        ("held-acknowledged", Planted::Flow(FlowBug::HeldAcknowledged)),
        ("repeat-acknowledged-early", Planted::Flow(FlowBug::RepeatAcknowledgedEarly)),
        ("late-ranges-not-awaited", Planted::Flow(FlowBug::LateRangesNotAwaited)),
        ("grant-not-awaited", Planted::Flow(FlowBug::GrantNotAwaited)),
        ("seal-not-awaited", Planted::Flow(FlowBug::SealNotAwaited)),
        ("beyond-not-noted", Planted::Flow(FlowBug::BeyondNotNoted)),
        ("lane-not-cleared", Planted::Flow(FlowBug::LaneNotCleared)),
        ("age-without-ledger", Planted::Log(LogBug::AgeWithoutLedger)),
        ("expires-by-any-clock", Planted::Log(LogBug::ExpiresByAnyClock)),
        ("receipt-apart", Planted::Flow(FlowBug::ReceiptApart)),
        ("retained-apart", Planted::Flow(FlowBug::RetainedApart)),
        ("connack-not-awaited", Planted::Flow(FlowBug::ConnackNotAwaited)),
        ("suback-not-awaited", Planted::Flow(FlowBug::SubackNotAwaited)),
        ("pubrel-not-awaited", Planted::Flow(FlowBug::PubrelNotAwaited)),
        ("pubcomp-not-awaited", Planted::Flow(FlowBug::PubcompNotAwaited)),
        ("spool-passed-early", Planted::Flow(FlowBug::SpoolPassedEarly)),
    ];
}

impl Planted {
    /// Whether only worlds with sessions can show it.
    pub(crate) fn is_in_sessions(self) -> bool {
        const IN_SESSIONS: [FlowBug; 7] = [
            FlowBug::ReceiptApart,
            FlowBug::RetainedApart,
            FlowBug::ConnackNotAwaited,
            FlowBug::SubackNotAwaited,
            FlowBug::PubrelNotAwaited,
            FlowBug::PubcompNotAwaited,
            FlowBug::SpoolPassedEarly,
        ];
        match self {
            Planted::Log(_) => false,
            Planted::Flow(bug) => IN_SESSIONS.contains(&bug),
        }
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Planted::ALL.iter().find(|(_, planted)| planted == self);
        f.write_str(named.map_or("unnamed", |(name, _)| name))
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Planted, String> {
        let named = Planted::ALL.iter().find(|(name, _)| *name == text);
        named.map(|(_, planted)| *planted).ok_or_else(|| {
            let known = Planted::ALL.map(|(name, _)| name).join(", ");
            format!("unknown bug \"{text}\"; known: {known}")
        })
    }
}
