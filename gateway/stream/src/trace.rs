//! What was appended, noted for a judge outside: which record each sequence number was given to.
//! A power cut takes nothing from it; what was appended and lost is in it too.

use std::sync::{Arc, Mutex, PoisonError};

use crate::ids::{Epoch, Seq, StreamId};
use crate::record::Record;

/// A record and what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// Its stream.
    pub stream: StreamId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its sequence.
    pub seq: Seq,
    /// The record.
    pub record: Record,
}

/// Everything appended so far, in order. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<Traced>>>);

impl Trace {
    /// Takes a record in.
    pub(crate) fn note(&self, traced: Traced) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(traced);
    }

    /// Takes everything out.
    #[must_use]
    pub fn take(&self) -> Vec<Traced> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
