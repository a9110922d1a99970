//! The epochs that a store has had.
//!
//! A sink that is asked what it holds answers with an epoch. One that is not of this store came
//! from another one under the same gateway id: its sequences say nothing about the records here,
//! whether it is older or newer than they are.
//!
//! The list is not written when an epoch begins: frames carry their epoch, so recovery learns those
//! since the checkpoint from them, and the checkpoint has those before.

use std::collections::BTreeSet;

use crate::ids::Epoch;
use crate::varint;

/// Epochs that are listed, at most 4 bytes each in a checkpoint beyond the first. A store that has
/// had more counts all up to the oldest that it dropped as its own.
pub(crate) const MAX_EPOCHS: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Up to here nobody knows which were the store's, and all count as such; 0 when all are known.
    unknown_through: Epoch,
    known: BTreeSet<Epoch>,
}

impl Epochs {
    /// Whether the store has had it, as far as it knows.
    pub(crate) fn includes(&self, epoch: Epoch) -> bool {
        epoch <= self.unknown_through || self.known.contains(&epoch)
    }

    /// Whether an older one is, or may be, among them.
    pub(crate) fn has_before(&self, epoch: Epoch) -> bool {
        self.unknown_through > Epoch(0) || self.known.first().is_some_and(|first| *first < epoch)
    }

    /// No list was kept, or none could be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The store has, or had, this epoch.
    pub(crate) fn note(&mut self, epoch: Epoch) {
        self.known.insert(epoch);
        while self.known.len() > MAX_EPOCHS {
            if let Some(oldest) = self.known.pop_first() {
                self.forget_through(oldest);
            }
        }
    }

    /// Epochs up to this one may have been the store's without anybody knowing.
    pub(crate) fn forget_through(&mut self, epoch: Epoch) {
        self.unknown_through = self.unknown_through.max(epoch);
        self.known = self.known.split_off(&self.unknown_through);
    }

    /// What the section of a checkpoint says: its `first` and its payload.
    pub(crate) fn encode(&self) -> (u64, Vec<u8>) {
        let mut out = Vec::new();
        let mut before = 0;
        for Epoch(epoch) in &self.known {
            varint::put(&mut out, u64::from(epoch - before));
            before = *epoch;
        }
        (u64::from(self.unknown_through.0), out)
    }

    pub(crate) fn len(&self) -> u32 {
        self.known.len() as u32
    }

    /// Takes what [`Epochs::encode`] gave for `count` epochs.
    pub(crate) fn decode(first: u64, count: u32, payload: &[u8]) -> Option<Epochs> {
        let mut epochs =
            Epochs { unknown_through: Epoch(u32::try_from(first).ok()?), known: BTreeSet::new() };
        let (mut at, mut epoch) = (0, 0u32);
        for _ in 0..count {
            let step = u32::try_from(varint::get(payload, &mut at)?).ok()?;
            epoch = epoch.checked_add(step)?;
            epochs.note(Epoch(epoch));
        }
        (at == payload.len()).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_foreign_epoch_between_two_of_the_store_is_told_from_them() {
        let mut epochs = Epochs::default();
        epochs.note(Epoch(7));
        epochs.note(Epoch(1_800_000_000));
        let own = [7, 1_800_000_000].map(|epoch| epochs.includes(Epoch(epoch)));
        let foreign =
            [1, 6, 8, 1_700_000_000, 1_800_000_001].map(|epoch| epochs.includes(Epoch(epoch)));
        assert_eq!((own, foreign), ([true; 2], [false; 5]));
    }

    #[test]
    fn what_the_list_has_no_room_for_counts_as_the_stores_own() {
        let mut epochs = Epochs::default();
        (0..MAX_EPOCHS as u32 + 10).for_each(|n| epochs.note(Epoch(10 + n * 10)));
        assert_eq!(epochs.len(), MAX_EPOCHS as u32);
        let included = [15, 100, 105, 110, 115].map(|epoch| epochs.includes(Epoch(epoch)));
        assert_eq!(included, [true, true, false, true, false]);
    }

    proptest! {
        #[test]
        fn every_list_comes_back(through in 0u32..1_000, list: Vec<u32>) {
            let mut epochs = Epochs::default();
            epochs.forget_through(Epoch(through));
            list.iter().filter(|epoch| **epoch > through).for_each(|epoch| epochs.note(Epoch(*epoch)));
            let (first, payload) = epochs.encode();
            prop_assert_eq!(Epochs::decode(first, epochs.len(), &payload), Some(epochs));
        }

        #[test]
        fn any_bytes_are_read_without_panic(first: u64, count: u32, payload: Vec<u8>) {
            let _ = Epochs::decode(first, count, &payload);
        }
    }
}
