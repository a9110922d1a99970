//! What a call is about: what it was begun for, and what is done when it ends well.
//!
//! A new kind of call is a new variant here. The end of each goes through one commit
//! ([`verdict`](crate::verdict)): effects, and what its origin says is done.

use crate::queue::InputRecord;
use crate::request::Asked;
use crate::timers::Fired;

/// What began a call.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Records of the function's streams.
    Records(Vec<InputRecord>),
    /// A timer of the function that is due.
    Timer(Fired),
    /// Somebody asks over HTTP.
    Request(Box<Asked>),
    /// Something that no longer matters: the call's end changes nothing.
    Void,
}

impl Origin {
    /// The records that the entries of its input frame stand for.
    pub(crate) fn into_records(self) -> Vec<InputRecord> {
        match self {
            Origin::Records(records) => records,
            Origin::Timer(_) | Origin::Request(_) | Origin::Void => Vec::new(),
        }
    }

    /// The same, for looking at them.
    pub(crate) fn records(&self) -> &[InputRecord] {
        match self {
            Origin::Records(records) => records,
            Origin::Timer(_) | Origin::Request(_) | Origin::Void => &[],
        }
    }

    /// The request that waits for its end.
    pub(crate) fn request(&self) -> Option<&Asked> {
        match self {
            Origin::Request(asked) => Some(asked),
            Origin::Records(_) | Origin::Timer(_) | Origin::Void => None,
        }
    }
}
