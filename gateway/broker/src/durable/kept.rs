//! What a session has that is kept on the disk.

use super::backlog::{Amount, Backlog};
use super::{Doubts, PersistTicket};
use crate::delivery::Delivery;
use crate::losses::SessionLossReason;
use crate::message::QoS;
use crate::session::Session;

/// Bytes of messages that a kept session has in memory, and one message more; others wait in the
/// spool.
pub(crate) const KEPT_BYTES: usize = 128 * 1024;

/// Messages of a kept session that wait in memory at most.
pub(crate) const KEPT_MESSAGES: usize = 1_000;

/// Messages of QoS 2 remembered as halfway, 8 bytes each: as many as can be under way with the
/// default `max_inflight`.
const MAX_HALFWAY: usize = 4_000;

/// What of a session is on the disk.
#[derive(Debug)]
pub(crate) struct Kept {
    /// Its name in keys and in the spool.
    pub(crate) number: u64,
    pub(crate) reads: Reads,
    /// Spool records before this one may have been sent.
    pub(crate) sent_through: u64,
    /// The same when the present connection began: what is sent of it is marked DUP.
    pub(crate) dup_below: u64,
    /// Spool records before this one may have been sent in an earlier life of the broker, which
    /// had no time to write it down.
    pub(crate) begun_below: u64,
    /// The last changes of this session.
    pub(crate) ticket: PersistTicket,
    /// What the table has under its key.
    pub(crate) written: Vec<u8>,
    /// Records before this one were appended before it was last found out what the client may
    /// have: each is asked about.
    pub(crate) judged_below: u64,
    /// It had no room for the record at which it reads.
    pub(crate) full: bool,
    /// Retained messages on their way to it through the spool.
    pub(crate) replaying: usize,
    /// What waits for it in the spool, in memory and under way included.
    pub(crate) backlog: Backlog,
    /// Counting after a start has come to a record that it needs: its place is not moved any more.
    pub(crate) found: bool,
    /// The first record offered while counting went on.
    pub(crate) offered: Option<u64>,
    /// Messages of QoS 2 that an earlier connection was sent and that have not been confirmed, in
    /// order: of each the client may wait for the PUBREL.
    pub(crate) halfway: Vec<u64>,
    /// Records before this one are given up, except those that are under way.
    pub(crate) floor: u64,
    /// What is gone and may have been sent with QoS 2.
    pub(crate) doubts: Doubts,
}

/// Where a session reads the spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// It gets what comes as it becomes durable.
    Live,
    /// It has not looked at records from this sequence on.
    From(u64),
}

impl Kept {
    pub(crate) fn new(number: u64) -> Kept {
        Kept {
            number,
            reads: Reads::Live,
            sent_through: 0,
            dup_below: 0,
            ticket: PersistTicket(0),
            written: Vec::new(),
            judged_below: 0,
            begun_below: 0,
            full: false,
            replaying: 0,
            backlog: Backlog::default(),
            found: false,
            offered: None,
            halfway: Vec::new(),
            floor: 0,
            doubts: Doubts::default(),
        }
    }
}

impl Kept {
    /// A message of QoS 2 that an earlier life of the broker may have sent, in order.
    pub(crate) fn note_halfway(&mut self, seq: u64) {
        if self.halfway.len() < MAX_HALFWAY && self.halfway.last().is_none_or(|last| *last < seq) {
            self.halfway.push(seq);
        }
    }

    /// Whether a reader that began at `from` and is at `seq` reads for this session: it has looked
    /// at everything before and has room.
    pub(crate) fn reads_at(&self, from: u64, seq: u64) -> bool {
        !self.full && matches!(self.reads, Reads::From(next) if (from..=seq).contains(&next))
    }
}

impl Session {
    /// The oldest spool record that is neither under way nor done; `None`: all up to the head
    /// are.
    pub(crate) fn unread_from(&self) -> Option<u64> {
        let kept = self.kept.as_ref()?;
        let queued = self.queue.front().map(|delivery| delivery.seq);
        queued.or(match kept.reads {
            Reads::Live => None,
            Reads::From(next) => Some(next),
        })
    }

    /// The oldest spool record that it still needs: its place in the spool.
    pub(crate) fn place(&self, head: u64) -> u64 {
        let under_way = self.inflight.first();
        [under_way, self.unread_from()].into_iter().flatten().fold(head, u64::min)
    }

    /// The oldest spool record that it still has to be given. Of what the client has confirmed
    /// nothing is needed but the number.
    pub(crate) fn needs_from(&self, head: u64) -> u64 {
        let under_way = self.inflight.first_published();
        [under_way, self.unread_from()].into_iter().flatten().fold(head, u64::min)
    }

    /// Messages before `below` are given up: of those that an earlier connection was sent with
    /// QoS 2 the client may have said PUBREC, and the identifier is in use there until it gets a
    /// PUBREL. Answers their numbers.
    pub(crate) fn release_given_up(&mut self, below: u64, ticket: PersistTicket) -> Vec<u64> {
        let Some(kept) = &mut self.kept else { return Vec::new() };
        let (inflight, queue) = (&mut self.inflight, &self.queue);
        let mut released = Vec::new();
        if kept.halfway.len() == MAX_HALFWAY
            && let Some(last) = kept.halfway.last()
        {
            // What came behind them has not been noted.
            let end = below.min(kept.sent_through);
            kept.doubts.add(last + 1..end, ticket);
        }
        kept.halfway.retain(|seq| {
            if *seq >= below || queue.binary_search_by_key(seq, |delivery| delivery.seq).is_ok() {
                return true;
            }
            if !inflight.knows(*seq) {
                inflight.release(*seq);
                released.push(*seq);
            }
            false
        });
        released
    }

    /// The connection ends: notes what it was sent with QoS 2.
    fn note_halfway(&mut self, unread: Option<u64>) {
        let twice = |(_, delivery): &(u64, &Delivery)| delivery.qos() == QoS::ExactlyOnce;
        let sent: Vec<u64> = self.inflight.published().filter(twice).map(|(seq, _)| seq).collect();
        let Some(kept) = &mut self.kept else { return };
        kept.halfway.retain(|seq| unread.is_some_and(|unread| *seq >= unread));
        kept.halfway.extend(sent);
        kept.halfway.sort_unstable();
        kept.halfway.dedup();
        kept.halfway.truncate(MAX_HALFWAY);
    }

    /// A message is not sent on this connection, nor later. Whether an earlier one may have been
    /// sent it with QoS 2: then the identifier is free after a PUBREL only.
    pub(crate) fn pass_over(&mut self, seq: u64, qos: QoS) -> bool {
        let begun = self.is_begun(seq, qos);
        if begun {
            self.inflight.release(seq);
        } else if self.kept.is_some() {
            self.inflight.skip(seq);
        }
        begun
    }

    /// Forgets what is queued before `below`: how many bytes. Adds those to `released` that an
    /// earlier connection may have been sent with QoS 2.
    pub(crate) fn drop_queued(&mut self, below: u64, released: &mut Vec<u64>) -> usize {
        let mut bytes = 0;
        while let Some(first) = self.queue.pop_front_if(|first| first.seq < below) {
            bytes += first.bytes();
            if self.is_begun(first.seq, first.qos()) {
                self.inflight.release(first.seq);
                released.push(first.seq);
            }
        }
        self.held_bytes -= bytes;
        bytes
    }

    fn is_begun(&self, seq: u64, qos: QoS) -> bool {
        let before = self.kept.as_ref().is_some_and(|kept| seq < kept.dup_below);
        before && qos == QoS::ExactlyOnce
    }

    /// Whether a message may come into memory for it.
    pub(crate) fn has_memory(&self) -> bool {
        self.queue.len() < KEPT_MESSAGES && self.held_bytes < KEPT_BYTES
    }

    /// Forgets what is in memory of the spool; it is read again for the next connection.
    /// Returns the bytes that this frees.
    pub(crate) fn forget_messages(&mut self, ticket: PersistTicket) -> usize {
        let unread = self.unread_from();
        self.note_halfway(unread);
        self.give_up_under_way();
        let dropped = self.inflight.drop_published();
        self.queue.clear();
        let floor = self.kept.as_ref().map_or(0, |kept| kept.floor);
        self.release_given_up(floor, ticket);
        let Some(kept) = &mut self.kept else { return 0 };
        if let Some(next) = [unread, dropped].into_iter().flatten().min() {
            kept.reads = Reads::From(next.max(kept.floor));
        }
        kept.dup_below = kept.sent_through;
        kept.doubts.disconnected();
        std::mem::take(&mut self.held_bytes)
    }

    /// What is under way and would have been given up with what came after it, had it not been:
    /// now it is.
    fn give_up_under_way(&mut self) {
        let Some(floor) = self.kept.as_ref().map(|kept| kept.floor) else { return };
        let under_way: Vec<(u64, Amount)> = self.under_way(floor).collect();
        let Some(kept) = &mut self.kept else { return };
        for (seq, one) in under_way {
            kept.backlog.done(seq, one);
            self.lost.add(SessionLossReason::SessionQuota, one);
            self.dropped += 1;
        }
    }
}
