//! The documented dedupe of a consumer: remember which sequence numbers of each
//! (gateway, epoch, stream) have come, as ranges, so that memory stays small for ever.

use std::collections::BTreeMap;

/// A set of sequence numbers, kept as ranges.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SeqSet {
    /// First to last, both inside; never touching.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl SeqSet {
    /// Adds a number; `false` when it was there already.
    pub fn insert(&mut self, seq: u64) -> bool {
        let before = self.ranges.range(..=seq).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= seq) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last + 1 == seq => first,
            _ => seq,
        };
        let after = seq.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, after.unwrap_or(seq));
        self.count += 1;
        true
    }

    /// Whether the number is there.
    pub fn contains(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| *last >= seq)
    }

    /// The numbers, rising.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many ranges they form; 1 when nothing is missing in between.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_are_counted_once_and_join_into_one_range() {
        let mut set = SeqSet::default();
        for seq in [5, 1, 3, 2, 4, 9, 7, 8, 6] {
            assert!(set.insert(seq), "{seq}");
        }
        for seq in 1..=9 {
            assert!(!set.insert(seq), "{seq}");
        }
        assert_eq!((set.count(), set.ranges()), (9, 1));
        assert!(set.contains(1) && set.contains(9) && !set.contains(0) && !set.contains(10));
        assert!(set.iter().eq(1..=9));
        assert!(set.insert(u64::MAX) && !set.insert(u64::MAX));
        assert_eq!(set.ranges(), 2);
    }
}
