//! The deliberate mistakes: each must be found within 200 worlds, which proves that the judge
//! can fail somebody.

use std::fmt;
use std::str::FromStr;

use tidegate_flow::PlantedBug as FlowBug;
use tidegate_stream::PlantedBug as LogBug;

use crate::options::Part;

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
    pub const ALL: [(&'static str, Planted); 32] = [
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
        ("told-apart", Planted::Flow(FlowBug::ToldApart)),
        ("file-not-noted", Planted::Flow(FlowBug::FileNotNoted)),
        ("run-apart", Planted::Flow(FlowBug::RunApart)),
        ("answer-not-kept", Planted::Flow(FlowBug::AnswerNotKept)),
        ("answer-not-awaited", Planted::Flow(FlowBug::AnswerNotAwaited)),
        ("spool-passed-early", Planted::Flow(FlowBug::SpoolPassedEarly)),
    ];
}

impl Planted {
    /// What a world has to have for it to show; `None`: nothing in particular.
    pub(crate) fn part(self) -> Option<Part> {
        const IN_SESSIONS: [FlowBug; 7] = [
            FlowBug::ReceiptApart,
            FlowBug::RetainedApart,
            FlowBug::ConnackNotAwaited,
            FlowBug::SubackNotAwaited,
            FlowBug::PubrelNotAwaited,
            FlowBug::PubcompNotAwaited,
            FlowBug::SpoolPassedEarly,
        ];
        const IN_CALLS: [FlowBug; 5] = [
            FlowBug::ToldApart,
            FlowBug::FileNotNoted,
            FlowBug::RunApart,
            FlowBug::AnswerNotKept,
            FlowBug::AnswerNotAwaited,
        ];
        match self {
            Planted::Flow(bug) if IN_SESSIONS.contains(&bug) => Some(Part::Sessions),
            Planted::Flow(bug) if IN_CALLS.contains(&bug) => Some(Part::Calls),
            Planted::Flow(_) | Planted::Log(_) => None,
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
