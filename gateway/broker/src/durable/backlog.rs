//! How much waits in the spool for one session, and roughly where, so that its oldest messages
//! can be given up without being read.
//!
//! Invariants:
//! - the spans are in order, and a message counts in the last one that begins at or before it;
//! - there are at most [`MAX_SPANS`], of 24 bytes each, however much waits: adding a message
//!   allocates nothing once a session has had its spans.

use std::collections::VecDeque;

/// A full span is this part of the quota: how exactly a quota is kept.
const PARTS: u64 = 8;

/// Most spans: as many as a quota of messages and one of bytes fill together.
const MAX_SPANS: usize = 2 * PARTS as usize;

/// Messages, and their bytes as [`cost`](crate::delivery::cost) counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many messages.
    pub messages: u64,
    /// How many bytes: payload, topic and properties, and 256 for each message.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn one(bytes: usize) -> Amount {
        Amount { messages: 1, bytes: bytes as u64 }
    }

    pub(crate) fn is_nothing(self) -> bool {
        self.messages == 0
    }

    pub(crate) fn plus(self, more: Amount) -> Amount {
        Amount {
            messages: self.messages.saturating_add(more.messages),
            bytes: self.bytes.saturating_add(more.bytes),
        }
    }

    pub(crate) fn minus(self, less: Amount) -> Amount {
        Amount {
            messages: self.messages.saturating_sub(less.messages),
            bytes: self.bytes.saturating_sub(less.bytes),
        }
    }

    /// Whether it is more than one part of so many of the quota.
    pub(crate) fn exceeds_part(self, parts: u64, quota: Amount) -> bool {
        self.messages > quota.messages / parts || self.bytes > quota.bytes / parts
    }

    fn least(self, other: Amount) -> Amount {
        Amount { messages: self.messages.min(other.messages), bytes: self.bytes.min(other.bytes) }
    }

    fn fills(self, quota: Amount) -> bool {
        self.messages >= (quota.messages / PARTS).max(1) || self.bytes >= quota.bytes / PARTS
    }
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    spans: VecDeque<Span>,
    total: Amount,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    /// Sequence of its first message, or one before it.
    first: u64,
    holds: Amount,
}

impl Backlog {
    pub(crate) fn total(&self) -> Amount {
        self.total
    }

    pub(crate) fn exceeds(&self, quota: Amount) -> bool {
        self.total.messages > quota.messages || self.total.bytes > quota.bytes
    }

    /// The spool record `seq` waits. It is not counted in a span that begins before `apart_from`.
    pub(crate) fn add(&mut self, seq: u64, one: Amount, quota: Amount, apart_from: u64) {
        self.total = self.total.plus(one);
        let at = self.after(seq);
        if let Some(span) = at.checked_sub(1).and_then(|at| self.spans.get_mut(at))
            && span.first >= apart_from
            && !span.holds.fills(quota)
        {
            span.holds = span.holds.plus(one);
            return;
        }
        if self.spans.len() == MAX_SPANS {
            self.join_two(at, apart_from);
        }
        let at = self.after(seq);
        self.spans.insert(at, Span { first: seq, holds: one });
    }

    /// The record does not wait any more.
    pub(crate) fn done(&mut self, seq: u64, one: Amount) {
        let at = self.after(seq);
        let Some(span) = at.checked_sub(1).and_then(|at| self.spans.get_mut(at)) else { return };
        let less = span.holds.least(one);
        span.holds = span.holds.minus(less);
        self.total = self.total.minus(less);
        while self.spans.front().is_some_and(|span| span.holds.is_nothing()) {
            self.total.bytes -= self.spans.pop_front().map_or(0, |span| span.holds.bytes);
        }
    }

    /// Giving up the oldest span means to give up all records before this one; `None` while there
    /// is one span only.
    pub(crate) fn end_of_oldest(&self) -> Option<u64> {
        self.spans.get(1).map(|span| span.first)
    }

    /// Forgets the records before `below`, except those that stay: the first of them and how much
    /// they are. Answers what is gone. Of a span that begins before and ends behind `below`,
    /// which ends at `head` if it is the last, a part in proportion goes: an estimate.
    pub(crate) fn give_up(&mut self, below: u64, head: u64, stays: (u64, Amount)) -> Amount {
        let mut gone = Amount::default();
        while let Some(oldest) = self.spans.front().copied().filter(|span| span.first < below) {
            let end = self.end_of_oldest().unwrap_or(head.max(below));
            if end <= below {
                gone = gone.plus(oldest.holds);
                self.spans.pop_front();
                continue;
            }
            let share = |n: u64| {
                let part = u128::from(n) * u128::from(below - oldest.first);
                (part / u128::from(end - oldest.first)) as u64
            };
            let part =
                Amount { messages: share(oldest.holds.messages), bytes: share(oldest.holds.bytes) };
            gone = gone.plus(part);
            self.spans[0] = Span { first: below, holds: oldest.holds.minus(part) };
        }
        let (from, stays) = (stays.0, stays.1.least(gone));
        if !stays.is_nothing() {
            match self.spans.front_mut() {
                Some(span) => *span = Span { first: from, holds: span.holds.plus(stays) },
                None => self.spans.push_back(Span { first: from, holds: stays }),
            }
            gone = gone.minus(stays);
        }
        self.total = self.total.minus(gone);
        gone
    }

    /// How many spans begin at or before `seq`. Mostly it is behind all of them.
    fn after(&self, seq: u64) -> usize {
        match self.spans.back() {
            Some(last) if last.first > seq => self.spans.partition_point(|s| s.first <= seq),
            Some(_) | None => self.spans.len(),
        }
    }

    /// Makes one of two spans to have room for one at `at`: of the two oldest, or of two on the
    /// same side of it, as what comes late must not fall into a span of newer records.
    fn join_two(&mut self, at: usize, apart_from: u64) {
        let late = |at: usize| self.spans.get(at).is_some_and(|span| span.first < apart_from);
        let second = match at {
            0 | 1 => 2,
            end if end == self.spans.len() => {
                (1..end).find(|second| late(second - 1) == late(*second)).unwrap_or(1)
            }
            middle => middle - 1,
        };
        if let Some(span) = self.spans.remove(second) {
            let first = &mut self.spans[second - 1];
            first.holds = first.holds.plus(span.holds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Amount = Amount { messages: 80, bytes: 8_000 };

    fn filled(count: u64) -> Backlog {
        let mut backlog = Backlog::default();
        (1..=count).for_each(|seq| backlog.add(seq, Amount::one(10), QUOTA, 0));
        backlog
    }

    fn amount(messages: u64) -> Amount {
        Amount { messages, bytes: messages * 10 }
    }

    /// The spans add up to the total, are in order and few.
    fn check(backlog: &Backlog) {
        let sum = backlog.spans.iter().fold(Amount::default(), |sum, span| sum.plus(span.holds));
        assert_eq!(sum, backlog.total);
        assert!(backlog.spans.iter().is_sorted_by(|one, next| one.first < next.first));
        assert!(backlog.spans.len() <= MAX_SPANS);
    }

    #[test]
    fn the_oldest_eighth_of_the_quota_goes_at_a_time() {
        let mut backlog = filled(81);
        assert!(backlog.exceeds(QUOTA));
        let below = backlog.end_of_oldest().unwrap();
        assert_eq!(below, 11);
        assert_eq!(backlog.give_up(below, 82, (below, amount(0))), amount(10));
        assert_eq!(backlog.total(), amount(71));
        check(&backlog);
    }

    #[test]
    fn what_is_under_way_stays_and_is_counted_until_it_is_done() {
        let mut backlog = filled(80);
        let gone = backlog.give_up(11, 81, (2, amount(3)));
        assert_eq!((gone, backlog.total()), (amount(7), amount(73)));
        let gone = backlog.give_up(backlog.end_of_oldest().unwrap(), 81, (2, amount(3)));
        assert_eq!((gone, backlog.total()), (amount(10), amount(63)));
        [2, 3, 4].into_iter().for_each(|seq| backlog.done(seq, Amount::one(10)));
        assert_eq!(backlog.total(), amount(60));
        check(&backlog);
    }

    #[test]
    fn of_a_span_that_the_spool_has_lost_a_part_of_the_part_goes() {
        let mut backlog = filled(20);
        assert_eq!(backlog.give_up(6, 21, (6, amount(0))), amount(5));
        assert_eq!(backlog.give_up(16, 21, (16, amount(0))), amount(10));
        assert_eq!(backlog.give_up(100, 21, (100, amount(0))), amount(5));
        assert_eq!(backlog.total(), amount(0));
        check(&backlog);
    }

    #[test]
    fn what_is_counted_late_comes_before_what_was_counted_meanwhile() {
        let mut backlog = Backlog::default();
        (101..=150).for_each(|seq| backlog.add(seq, Amount::one(10), QUOTA, 101));
        (1..=100).for_each(|seq| {
            backlog.add(seq, Amount::one(10), QUOTA, 0);
            check(&backlog);
        });
        assert_eq!(backlog.total(), amount(150));
        let mut gone = 0;
        while let Some(below) = backlog.end_of_oldest() {
            gone += backlog.give_up(below, 151, (below, amount(0))).messages;
            assert_eq!(gone, below - 1, "the messages before it, and no others");
            check(&backlog);
        }
    }

    #[test]
    fn any_history_adds_up_and_ends_with_nothing() {
        let mut seed = 5_u64;
        let mut roll = |sides: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % sides
        };
        for _ in 0..50 {
            let (mut backlog, mut waiting) = (Backlog::default(), Vec::new());
            for seq in 1..=2_000 {
                backlog.add(seq, Amount::one(10), QUOTA, 0);
                waiting.push(seq);
                while roll(3) > 0 && !waiting.is_empty() {
                    let at = roll(waiting.len() as u64) as usize;
                    backlog.done(waiting.remove(at), Amount::one(10));
                }
                if backlog.exceeds(QUOTA) {
                    let below = backlog.end_of_oldest().unwrap();
                    let gone = backlog.give_up(below, seq + 1, (below, amount(0)));
                    let before = waiting.len();
                    waiting.retain(|seq| *seq >= below);
                    assert_eq!(gone.messages, (before - waiting.len()) as u64);
                }
                check(&backlog);
                assert_eq!(backlog.total(), amount(waiting.len() as u64));
            }
        }
    }
}
