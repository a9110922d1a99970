//! An object store (docs/formats/s3-sink.md): an object that is put again under its name takes
//! the place of the one before. It keeps no cursor and drops nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::{Delivery, Key};

/// Stream, epoch, first and last sequence, in the order of a listing.
type Name = (String, u32, u64, u64);

#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The sequences that each object holds.
    objects: BTreeMap<Name, BTreeSet<u64>>,
    /// Records that one object of a name held, and another one did not.
    varied: BTreeSet<Key>,
}

impl Objects {
    /// Stores an object; false when it takes the place of another.
    pub(super) fn put(&mut self, delivery: &Delivery) -> bool {
        let name = (delivery.stream.clone(), delivery.epoch, delivery.first, delivery.last);
        let seqs: BTreeSet<u64> = delivery.records.iter().map(|record| record.key.2).collect();
        let Some(before) = self.objects.insert(name, seqs.clone()) else { return true };
        let key = |seq: &u64| (delivery.stream.clone(), delivery.epoch, *seq);
        self.varied.extend(before.symmetric_difference(&seqs).map(key));
        false
    }

    /// Every record of every object, as a listing shows them.
    pub(super) fn records(&self) -> Vec<Key> {
        let of = |((stream, epoch, ..), seqs): (&Name, &BTreeSet<u64>)| {
            let key = |seq: &u64| (stream.clone(), *epoch, *seq);
            seqs.iter().map(key).collect::<Vec<Key>>()
        };
        self.objects.iter().flat_map(of).collect()
    }

    pub(super) fn varied(&self) -> impl Iterator<Item = &Key> {
        self.varied.iter()
    }

    /// Names whose ranges have a number in common, and objects that hold one outside of theirs.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        let mut before: Option<&Name> = None;
        for (name, seqs) in &self.objects {
            let overlaps =
                |before: &Name| (&before.0, before.1) == (&name.0, name.1) && before.3 >= name.2;
            if let Some(before) = before.filter(|before| overlaps(before)) {
                mistakes.push(format!("objects {before:?} and {name:?} overlap"));
            }
            if seqs.iter().any(|seq| !(name.2..=name.3).contains(seq)) {
                mistakes.push(format!("object {name:?} holds {seqs:?}"));
            }
            let reaches_further =
                before.is_none_or(|before| !overlaps(before) || name.3 > before.3);
            before = if reaches_further { Some(name) } else { before };
        }
        mistakes
    }
}
