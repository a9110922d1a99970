//! Which records are there, and which gap lies where.

use std::collections::BTreeMap;

use crate::copied::Records;
use crate::ids::{Seq, StreamId};
use crate::log::Log;
use crate::recovery::Recovery;

use super::{Missing, Sequence, StreamContents, Verification};

/// What was found of each stream so far.
pub(super) struct Sequences {
    streams: BTreeMap<StreamId, Found>,
}

/// What was found of one stream.
struct Found {
    /// Oldest record that it keeps: what is missing before it is missed by nobody.
    kept_from: Seq,
    /// Records found, in order and without overlap.
    ranges: Vec<Range>,
}

/// Consecutive records that are there.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: Seq,
    /// Behind the last.
    end: Seq,
    /// How much damage there was when `first` was met, and when `end` was.
    since: usize,
    until: usize,
}

/// Records that are not there, and the damage that lies between their neighbours.
struct Gap {
    first: Seq,
    end: Seq,
    damage: std::ops::Range<usize>,
}

impl Sequences {
    pub(super) fn of(log: &Log) -> Sequences {
        let found = |(id, _): (StreamId, &str)| {
            (id, Found { kept_from: log.first_seq(id), ranges: Vec::new() })
        };
        Sequences { streams: log.streams().map(found).collect() }
    }

    /// A section with records was read, behind so much damage.
    pub(super) fn see(&mut self, records: &Records<'_>, damage: usize) {
        let Some(found) = self.streams.get_mut(&records.stream) else { return };
        let (first, end) = (records.first, records.end());
        found.insert(Range { first, end, since: damage, until: damage });
    }

    /// Compares with what should be there.
    pub(super) fn finish(self, log: &Log, recovery: &Recovery, report: &mut Verification) {
        for (id, name) in log.streams() {
            let Some(found) = self.streams.get(&id) else { continue };
            let next = log.next_seq(id);
            let gaps = found.gaps(next, report.damage.len());
            let missing: Vec<_> = gaps.iter().map(|gap| (gap.first, gap.end)).collect();
            let lost: u64 = missing.iter().map(|(first, end)| end.0 - first.0).sum();
            for gap in gaps {
                let sequence = Sequence { stream: id, first: gap.first, last: Seq(gap.end.0 - 1) };
                let between = report.damage[gap.damage].iter_mut();
                between.filter(|damage| damage.kind.holds_records()).for_each(|damage| {
                    damage.sequences.push(sequence);
                });
            }
            report.streams.push(StreamContents {
                id,
                name: name.to_owned(),
                first: found.kept_from,
                next,
                records: next.0.saturating_sub(found.kept_from.0) - lost,
                missing: told_apart(id, &missing, log, recovery),
            });
        }
    }
}

impl Found {
    /// Nearly always behind all others; not where records were copied forward.
    fn insert(&mut self, new: Range) {
        let at = self.ranges.partition_point(|range| range.end < new.first);
        let joined = self.ranges[at..].iter().take_while(|range| range.first <= new.end).count();
        let mut all = new;
        for range in self.ranges.drain(at..at + joined) {
            if range.first < all.first {
                (all.first, all.since) = (range.first, range.since);
            }
            if range.end > all.end {
                (all.end, all.until) = (range.end, range.until);
            }
        }
        self.ranges.insert(at, all);
    }

    /// What is missing up to `next`.
    fn gaps(&self, next: Seq, damage: usize) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let (mut expected, mut until) = (self.kept_from, 0);
        let end = Range { first: next, end: next, since: damage, until: damage };
        for range in self.ranges.iter().chain([&end]) {
            if range.first > expected {
                // Where one neighbour was copied forward, nobody knows what lay between.
                let between = if until <= range.since { until..range.since } else { 0..damage };
                gaps.push(Gap { first: expected, end: range.first, damage: between });
            }
            if range.end > expected {
                (expected, until) = (range.end, range.until);
            }
        }
        gaps
    }
}

/// Divides gaps into what the store's ledger names and what nobody has told yet.
fn told_apart(
    stream: StreamId,
    gaps: &[(Seq, Seq)],
    log: &Log,
    recovery: &Recovery,
) -> Vec<Missing> {
    // Opening has entered what it found into its own copy of the ledger: that is not told yet.
    let found_now: Vec<_> = recovery.losses.iter().filter(|loss| loss.stream == stream).collect();
    let is_new = |seq: Seq| found_now.iter().any(|l| (l.first..=l.last).contains(&seq));
    let mut ledger: Vec<(Seq, Seq)> = log
        .losses()
        .filter(|loss| loss.stream == stream)
        .map(|loss| (loss.first, loss.last.plus(1)))
        .collect();
    ledger.sort_unstable();
    let names = |seq: Seq| ledger.iter().any(|(first, end)| (*first..*end).contains(&seq));
    let mut edges: Vec<Seq> = ledger.iter().flat_map(|(first, end)| [*first, *end]).collect();
    edges.extend(found_now.iter().flat_map(|loss| [loss.first, loss.last.plus(1)]));
    edges.sort_unstable();
    let mut missing: Vec<Missing> = Vec::new();
    for (first, end) in gaps {
        let mut from = *first;
        while from < *end {
            let to = edges.iter().find(|edge| **edge > from).map_or(*end, |edge| *edge.min(end));
            let told = names(from) && !is_new(from);
            match missing.last_mut() {
                Some(last) if last.told == told && last.last.plus(1) == from => {
                    last.last = Seq(to.0 - 1);
                }
                Some(_) | None => missing.push(Missing { first: from, last: Seq(to.0 - 1), told }),
            }
            from = to;
        }
    }
    missing
}
