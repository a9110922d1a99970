//! What the server holds of one stream's subject, and what may be published to it next.
//!
//! Publishes are pipelined, and the server may refuse one (the stream is full, its leader has
//! gone) and take those behind it. The last message of a subject alone therefore does not say that
//! all before it are there. So each message carries a **floor**: a record, and the place of a
//! message in the stream, such that
//! - every record of the lane up to the floor was settled when the message was sent: stored, or
//!   given up by the gateway and in its loss ledger;
//! - every record above the floor that is stored, lies behind that place.
//!
//! At the beginning of a session the last message is read, and what lies between its floor and
//! itself: at most a window. Up to the first gap the server *holds* the records; what it has above
//! the gap is *present*, and answered for without being sent again.
//!
//! The first publish of a session is **fenced**: the server takes it only if the last message of
//! the subject is still the one that was read. Nothing goes behind it before it is through. So a
//! second gateway with our name, or our own last publishes that were still under way in the server
//! when we read, are found out, and the session begins anew. Publishes of a former session that
//! come still later carry the same message ids in the same order as ours.
//!
//! Invariants: what is open is above the floor; a place is at most in one of `open`, `stored` and
//! `present`.
//!
//! Not here: the words of the protocol (`jetstream.rs`), sockets (`session.rs`).

use std::collections::{BTreeMap, BTreeSet};

use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{MAX_WINDOW, OutboundMessage};

/// A record's place in its lane. Epochs only rise, and within one the sequence does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) epoch: Epoch,
    pub(super) seq: Seq,
}

/// A record and the sequence, in the JetStream stream, of the message that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) place: Place,
    pub(super) at: u64,
}

/// A record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) token: u64,
    pub(super) place: Place,
    pub(super) message: OutboundMessage,
}

/// What to do with a record that is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Publish it, if there is a fence only when the last message of the subject is there.
    Publish { outgoing: Outgoing, fence: Option<u64> },
    /// The server has it: that is its acknowledgement.
    Present { token: u64 },
    /// It is kept until the fenced one is through.
    Wait,
}

#[derive(Debug)]
enum Fence {
    /// The next publish carries it: sequence of the subject's last message, 0 when it has none.
    Due(u64),
    /// Under way. At most the uplink's window waits behind it.
    Sent {
        place: Place,
        behind: Vec<Outgoing>,
    },
    Passed,
}

/// One subject, for the time of a session.
#[derive(Debug)]
pub(super) struct Lane {
    fence: Fence,
    held: Option<Place>,
    /// The floor that the next message carries.
    floor: Option<Stored>,
    /// Above the floor, and above a gap; at most [`MAX_WINDOW`].
    present: BTreeMap<Place, u64>,
    /// Sent and not acknowledged, refused ones included: those may be sent again, or given up.
    open: BTreeSet<Place>,
    /// Acknowledged and not below the floor; at most [`MAX_WINDOW`].
    stored: BTreeMap<Place, u64>,
    /// Greatest sequence that the stream has given to a message of this subject.
    newest: u64,
}

impl Lane {
    /// A subject without a message.
    pub(super) fn empty() -> Lane {
        Lane {
            fence: Fence::Due(0),
            held: None,
            floor: None,
            present: BTreeMap::new(),
            open: BTreeSet::new(),
            stored: BTreeMap::new(),
            newest: 0,
        }
    }

    /// A subject with its last message, the floor that it carries, and the messages between the
    /// two (others may be among them). A message without a floor is the first of its subject.
    pub(super) fn resumed(last: Stored, floor: Option<Stored>, between: &[Stored]) -> Lane {
        let mut held = base(last, floor);
        let mut present: BTreeMap<Place, u64> = BTreeMap::new();
        let stored = between.iter().chain([&last]).filter(|stored| stored.place > held.place);
        present.extend(stored.map(|stored| (stored.place, stored.at)));
        while let Some(entry) = present.first_entry() {
            let place = *entry.key();
            let next = Place { seq: Seq(held.place.seq.0 + 1), ..held.place };
            if place != next {
                break;
            }
            held = Stored { place, at: entry.remove() };
        }
        let mut lane = Lane {
            fence: Fence::Due(last.at),
            held: Some(held.place),
            present,
            stored: BTreeMap::from([(held.place, held.at)]),
            newest: last.at,
            ..Lane::empty()
        };
        lane.raise_floor();
        lane
    }

    /// Up to here the server has everything that it will ever get.
    pub(super) fn held(&self) -> Option<Place> {
        self.held
    }

    /// The newest record there, whatever is missing in front of it.
    pub(super) fn newest(&self) -> Option<Place> {
        self.present.last_key_value().map(|(place, _)| *place).max(self.held)
    }

    /// What a message with this record that is published now says about those before it.
    pub(super) fn floor(&self, place: Place) -> Option<Stored> {
        // The first records were refused: without a word of that, the next session would take this
        // message for the first of its subject, or for all that is there.
        let first = self.open.first().filter(|first| **first < place || !self.stored.is_empty());
        let below = first.map(|first| Stored {
            place: Place { seq: Seq(first.seq.0.saturating_sub(1)), ..*first },
            at: 0,
        });
        self.floor.or(below)
    }

    /// A record is to be sent.
    pub(super) fn send(&mut self, outgoing: Outgoing) -> Step {
        let place = outgoing.place;
        self.forget_settled(place);
        if let Some(at) = self.present.remove(&place) {
            self.stored.insert(place, at);
            self.raise_floor();
            return Step::Present { token: outgoing.token };
        }
        self.open.insert(place);
        match &mut self.fence {
            Fence::Passed => Step::Publish { outgoing, fence: None },
            Fence::Due(last) => {
                let fence = Some(*last);
                self.fence = Fence::Sent { place, behind: Vec::new() };
                Step::Publish { outgoing, fence }
            }
            Fence::Sent { behind, .. } => {
                behind.push(outgoing);
                Step::Wait
            }
        }
    }

    /// The server has the record in the message `at`. What waited behind the fence goes now.
    ///
    /// # Errors
    /// The stream numbers its messages anew: it is another one under the old name.
    pub(super) fn acknowledged(
        &mut self,
        place: Place,
        at: u64,
        duplicate: bool,
    ) -> Result<Vec<Outgoing>, Renumbered> {
        if !duplicate && at <= self.newest {
            return Err(Renumbered { newest: self.newest, at });
        }
        self.newest = self.newest.max(at);
        self.open.remove(&place);
        self.stored.insert(place, at);
        self.raise_floor();
        Ok(self.open_fence(place, Fence::Passed))
    }

    /// The server did not take the record. If it was the fenced one, those behind it are handed
    /// back: they were not sent, and the next one of the lane is fenced again.
    pub(super) fn refused(&mut self, place: Place) -> Vec<Outgoing> {
        self.open_fence(place, Fence::Due(self.newest))
    }

    fn open_fence(&mut self, place: Place, next: Fence) -> Vec<Outgoing> {
        match &mut self.fence {
            Fence::Sent { place: fenced, behind } if *fenced == place => {
                let behind = std::mem::take(behind);
                self.fence = next;
                behind
            }
            Fence::Sent { .. } | Fence::Due(_) | Fence::Passed => Vec::new(),
        }
    }

    /// A record that the server refused and that was given up is never heard of again. But nothing
    /// is sent [`MAX_WINDOW`] above a record that is not settled.
    fn forget_settled(&mut self, sending: Place) {
        let settled = |place: &Place| place.seq.0 + MAX_WINDOW as u64 <= sending.seq.0;
        while self.open.first().is_some_and(settled) {
            self.open.pop_first();
        }
        while self.present.first_key_value().is_some_and(|(place, _)| settled(place)) {
            self.present.pop_first();
        }
    }

    fn raise_floor(&mut self) {
        let settled = match self.open.first() {
            Some(open) => self.stored.range(..open).next_back(),
            None => self.stored.last_key_value(),
        };
        if let Some((&place, &at)) = settled {
            self.stored = self.stored.split_off(&place);
            // A record that was refused at first is stored behind its successors: those must not
            // lie before the place that the floor names.
            let above = self.stored.values().skip(1).chain(self.present.values());
            let at = above.fold(at, |lowest, above| lowest.min(above - 1));
            self.floor = Some(Stored { place, at });
        }
    }
}

/// Where the messages of a subject have to be read from to know what it holds; `None` when its
/// last message says that already.
pub(super) fn unread(last: Stored, floor: Option<Stored>) -> Option<u64> {
    let floor = floor?;
    (floor.at + 1 < last.at).then_some(floor.at + 1)
}

/// Up to which record everything was settled when the last message was sent.
fn base(last: Stored, floor: Option<Stored>) -> Stored {
    let Some(floor) = floor else { return last };
    // A floor may stay behind for a record that was given up; the window does not.
    let window = Seq(last.place.seq.0.saturating_sub(MAX_WINDOW as u64));
    if floor.place.epoch == last.place.epoch && floor.place.seq < window {
        return Stored { place: Place { seq: window, ..last.place }, ..floor };
    }
    floor
}

/// A stream that gave a new message a number that it had given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Renumbered {
    pub(super) newest: u64,
    pub(super) at: u64,
}

#[cfg(test)]
#[path = "tests/lane.rs"]
mod tests;
