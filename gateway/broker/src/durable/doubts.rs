//! Packet identifiers in doubt: of records that are gone from the spool, or given up, before the
//! broker learned whether an earlier connection was sent them with QoS 2. The client may have said
//! PUBREC, and would take a later message under the same identifier for a repetition. A PUBREL
//! settles it: a client that knows nothing of the identifier says PUBCOMP all the same.
//!
//! Invariants:
//! - no record of a range comes to the client any more;
//! - a range is durable before its first PUBREL leaves, else the record might come again after a
//!   power cut, to a client that has forgotten it;
//! - no message is sent under an identifier in doubt before the PUBREL, on the same connection;
//! - a range goes when all PUBRELs are answered, or after [`MAX_CONNECTIONS`].
//!
//! Not here: messages whose number and QoS are known, see [`Kept::halfway`](super::Kept).

use std::ops::Range;

use super::PersistTicket;
use crate::broker::Broker;
use crate::delivery::append;
use crate::inflight::{IDS, id_of};
use crate::packet::ack;
use crate::session::Session;

/// Ranges of a session, 16 bytes each. What goes mostly follows what has gone before, and is one
/// range with it; of more than these the oldest is forgotten.
const MAX_RANGES: usize = 16;

/// PUBRELs appended at a time, 4 bytes each, while the connection has room.
const ASKED_AT_ONCE: u64 = 1_000;

/// Connections in a row on which a client answers none of them, until it is believed to be free of
/// the identifiers: some clients take a PUBREL that they do not await for a fault and hang up.
const MAX_CONNECTIONS: u8 = 10;

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    /// In order, apart from each other.
    ranges: Vec<Range<u64>>,
    /// PUBRELs wait for these changes to be durable.
    ticket: PersistTicket,
    /// Records before this one have had their PUBREL on the present connection.
    asked: u64,
    unanswered: usize,
    /// Connections in a row that ended without an answer.
    in_vain: u8,
}

impl Doubts {
    /// As they were written down.
    pub(crate) fn restored(ranges: Vec<Range<u64>>) -> Doubts {
        Doubts { ranges, ..Doubts::default() }
    }

    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    pub(crate) fn is_none(&self) -> bool {
        self.ranges.is_empty()
    }

    /// These records may have been sent. `ticket`: the changes with which this becomes durable.
    pub(crate) fn add(&mut self, more: Range<u64>, ticket: PersistTicket) {
        if more.is_empty() {
            return;
        }
        // The last ones have every identifier there is.
        let more = more.start.max(more.end.saturating_sub(IDS))..more.end;
        let at = self.ranges.partition_point(|range| range.end < more.start);
        let apart = self.ranges[at..].partition_point(|range| range.start <= more.end);
        let joined = self
            .ranges
            .drain(at..at + apart)
            .fold(more, |all, range| all.start.min(range.start)..all.end.max(range.end));
        self.ranges.insert(at, joined);
        if self.ranges.len() > MAX_RANGES {
            self.ranges.remove(0);
        }
        self.ticket = ticket;
        self.asked = 0;
        self.in_vain = 0;
    }

    /// Whether a message with this number has to wait for a PUBREL under its identifier.
    pub(crate) fn hold(&self, number: u64) -> bool {
        self.ranges.iter().any(|range| {
            // The number of the range's first record with that identifier.
            let same = range.start + (number + IDS - range.start % IDS) % IDS;
            same < number && same >= self.asked && range.contains(&same)
        })
    }

    /// Whether a PUBREL is to be said on the present connection.
    pub(crate) fn are_to_be_asked(&self, persisted: PersistTicket) -> bool {
        self.ticket < persisted && self.ranges.last().is_some_and(|last| self.asked < last.end)
    }

    /// The next records to be asked about.
    fn next(&mut self) -> Range<u64> {
        let next = self.ranges.iter().find(|range| range.end > self.asked);
        let Some(range) = next else { return 0..0 };
        let start = range.start.max(self.asked);
        let end = range.end.min(start + ASKED_AT_ONCE);
        self.asked = end;
        start..end
    }

    /// PUBCOMP under this identifier: whether it answers one of them.
    fn answered(&mut self, id: u16) -> bool {
        let in_doubt = |range: &Range<u64>| {
            let ahead = (u64::from(id) - 1 + IDS - range.start % IDS) % IDS;
            ahead < range.end - range.start
        };
        if self.unanswered == 0 || !self.ranges.iter().any(in_doubt) {
            return false;
        }
        self.unanswered -= 1;
        self.in_vain = 0;
        true
    }

    /// They are settled when everything has been asked and answered.
    fn settle(&mut self) -> bool {
        let asked = self.ranges.last().is_some_and(|last| last.end <= self.asked);
        let settled = asked && self.unanswered == 0;
        if settled {
            self.ranges = Vec::new();
        }
        settled
    }

    /// The connection ends.
    pub(crate) fn disconnected(&mut self) {
        if self.unanswered > 0 {
            self.in_vain += 1;
        }
        (self.asked, self.unanswered) = (0, 0);
        if self.in_vain >= MAX_CONNECTIONS {
            *self = Doubts::default();
        }
    }
}

impl Session {
    /// Of these records, which are gone, the client may be waiting for a PUBREL if they have been
    /// sent.
    pub(crate) fn doubt(&mut self, gone: Range<u64>, ticket: PersistTicket) {
        let Some(kept) = &mut self.kept else { return };
        kept.doubts.add(gone.start..gone.end.min(kept.sent_through), ticket);
    }

    /// PUBCOMP: whether it answers a PUBREL of an identifier in doubt.
    pub(crate) fn answers_doubt(&mut self, id: u16) -> bool {
        // What the client has confirmed meanwhile under the identifier comes behind it.
        !self.inflight.awaits_completion(id)
            && self.kept.as_mut().is_some_and(|kept| kept.doubts.answered(id))
    }
}

impl Broker {
    /// Says PUBREL under identifiers in doubt, as many as are said at once.
    pub(crate) fn ask_about_doubts(&mut self, slot: u32) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let (Some(kept), Some(at)) = (&mut session.kept, session.connection) else { return };
        let Some(connection) = self.connections.get_mut(at) else { return };
        let inflight = &session.inflight;
        // What is settled, and what is under way under the same identifier, needs no question.
        let open = |seq: &u64| !inflight.knows(*seq) && !inflight.is_in_use(id_of(*seq));
        let ids: Vec<u16> = kept.doubts.next().filter(open).map(id_of).collect();
        kept.doubts.unanswered += ids.len();
        append(connection, &mut self.events, |out| {
            ids.iter().for_each(|id| out.extend(ack::success(ack::PUBREL, *id)));
        });
        self.settle_doubts(slot);
    }

    /// Forgets what was in doubt when all of it is answered.
    pub(crate) fn settle_doubts(&mut self, slot: u32) {
        let kept = self.sessions.get_mut(slot).and_then(|session| session.kept.as_mut());
        if kept.is_some_and(|kept| kept.doubts.settle()) {
            self.note_progress(slot);
        }
    }

    /// What is in doubt of a session has to be on the disk before its client is asked.
    pub(crate) fn write_doubts(&mut self, slot: u32) {
        let Some(durable) = &mut self.durable else { return };
        let session = self.sessions.get_mut(slot).filter(|s| s.connection.is_some());
        let Some(kept) = session.and_then(|session| session.kept.as_mut()) else { return };
        if !kept.doubts.is_none() {
            kept.doubts.ticket = durable.next_ticket;
            durable.urgent.insert(slot);
            durable.doubtful.insert(slot);
            durable.hurried = true;
        }
    }

    /// What was given up of a session while its client was away has to be on the disk before it is
    /// let in: PUBRELs follow its CONNACK.
    pub(crate) fn write_what_is_released(&mut self, slot: u32) {
        let (Some(durable), Some(session)) = (&mut self.durable, self.sessions.get_mut(slot))
        else {
            return;
        };
        let released = session.inflight.released().next().is_some();
        let Some(kept) = &mut session.kept else { return };
        if (released || !kept.doubts.is_none()) && durable.dirty.contains(&slot) {
            kept.ticket = durable.next_ticket;
            durable.urgent.insert(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubts(ranges: impl IntoIterator<Item = Range<u64>>) -> Doubts {
        let mut doubts = Doubts::default();
        ranges.into_iter().for_each(|range| doubts.add(range, PersistTicket(0)));
        doubts
    }

    fn one(range: Range<u64>) -> Doubts {
        doubts(std::iter::once(range))
    }

    #[test]
    fn what_follows_or_overlaps_is_one_range_and_gaps_stay() {
        let doubts = doubts([10..20, 40..50, 20..25, 24..30, 60..60]);
        assert_eq!(doubts.ranges(), [10..30, 40..50]);
    }

    #[test]
    fn a_range_over_everything_keeps_as_many_as_there_are_identifiers() {
        assert_eq!(one(5..1_000_000).ranges()[0], 1_000_000 - IDS..1_000_000);
    }

    #[test]
    fn the_oldest_of_too_many_ranges_is_forgotten() {
        let doubts = doubts((0..20).map(|n| n * 10..n * 10 + 1));
        assert_eq!(doubts.ranges().len(), MAX_RANGES);
        assert_eq!(doubts.ranges()[0], 40..41);
    }

    #[test]
    fn messages_under_an_identifier_in_doubt_wait_until_it_was_asked_about() {
        let mut doubts = one(65_530..65_540);
        let waits = |doubts: &Doubts, number: u64| doubts.hold(number);
        assert!(waits(&doubts, 65_530 + IDS) && waits(&doubts, 65_539 + 3 * IDS));
        assert!(!waits(&doubts, 65_529 + IDS) && !waits(&doubts, 65_540 + IDS));
        assert!(!waits(&doubts, 65_535), "it is itself, and gone");
        assert_eq!(doubts.next(), 65_530..65_540);
        assert!(!waits(&doubts, 65_530 + IDS));
    }

    #[test]
    fn they_are_settled_when_all_is_asked_and_answered() {
        let mut doubts = doubts([7..9, 20..21]);
        assert!(doubts.are_to_be_asked(PersistTicket(1)));
        assert!(!doubts.are_to_be_asked(PersistTicket(0)), "it is not durable");
        assert_eq!((doubts.next(), doubts.next(), doubts.next()), (7..9, 20..21, 0..0));
        doubts.unanswered = 3;
        assert!(!doubts.answered(id_of(9)), "nobody has asked about it");
        assert!([7, 8].into_iter().all(|seq| doubts.answered(id_of(seq))));
        assert!(!doubts.settle());
        assert!(doubts.answered(id_of(20)) && doubts.settle() && doubts.is_none());
    }

    #[test]
    fn a_client_that_hangs_up_on_them_is_not_asked_for_ever() {
        let mut doubts = one(7..9);
        for _ in 0..MAX_CONNECTIONS {
            assert_eq!(doubts.next(), 7..9);
            doubts.unanswered = 2;
            doubts.disconnected();
        }
        assert!(doubts.is_none());
    }
}
