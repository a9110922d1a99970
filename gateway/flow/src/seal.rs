//! Boundaries of batches for sinks that must get the same batch again (objects that a retry
//! overwrites): one table an uplink, one key a stream, durable before the batch is sent.

use std::collections::VecDeque;

use tidegate_stream::{Log, Position, Seq, TableId, Transaction};
use tidegate_uplink::{LaneId, SeqRange};

use crate::clock::Now;
use crate::gateway::{BuildError, Gateway, PlantedBug};
use crate::plan::UplinkPlan;

/// Bytes of one pair of boundaries: first and last sequence, little-endian.
const RANGE_BYTES: usize = 16;

/// What is persisted of an uplink's batches, and what is on its way to the disk.
pub(crate) struct Seals {
    /// `None` for an uplink whose sink needs no boundaries.
    table: Option<TableId>,
    /// At most one for each batch of the uplink's window.
    waiting: VecDeque<(Position, LaneId, u64)>,
}

impl Seals {
    pub(crate) fn define(log: &mut Log, plan: &UplinkPlan) -> Result<Seals, BuildError> {
        let table = match plan.options.sealed {
            true => Some(log.table(&format!("uplink/{}/sealed", plan.name))?),
            false => None,
        };
        Ok(Seals { table, waiting: VecDeque::new() })
    }

    /// The boundaries of this stream that an earlier life of the gateway persisted.
    pub(crate) fn known(&self, log: &Log, stream: &str) -> Vec<SeqRange> {
        let entries = self.table.map(|table| log.table_entries(table));
        let value = entries.and_then(|entries| entries.get(stream.as_bytes()));
        value.map(|value| decode(value)).unwrap_or_default()
    }
}

impl Gateway {
    /// Persists the boundaries; the batch goes when they are durable.
    pub(crate) fn seal(
        &mut self,
        now: Now,
        index: usize,
        lane: LaneId,
        token: u64,
        ranges: &[SeqRange],
    ) {
        let run = &mut self.uplinks[index];
        let Some(table) = run.seals.table else { return };
        let stream = run.lanes[lane.0].upstream_name(&run.plan);
        let mut tx = Transaction::new();
        tx.put(table, stream.into_bytes(), encode(ranges));
        tx.hurry();
        match self.log.commit(now.instant, tx) {
            Ok(committed) => {
                run.seals.waiting.push_back((committed.position, lane, token));
                if self.planted == Some(PlantedBug::SealNotAwaited) {
                    run.core.handle_sealed(lane, token);
                }
            }
            // The disk has no room or does not keep up: the session ends, and the batch is
            // collected again on the next one.
            Err(error) => run.core.fail(now.instant, format!("cannot persist a batch: {error}")),
        }
    }

    /// Tells the uplinks which boundaries are durable.
    pub(crate) fn release_seals(&mut self) {
        let durable = self.log.durable();
        for run in self.uplinks.iter_mut() {
            let waiting = &mut run.seals.waiting;
            while waiting.front().is_some_and(|(position, _, _)| *position <= durable) {
                if let Some((_, lane, token)) = waiting.pop_front() {
                    run.core.handle_sealed(lane, token);
                }
            }
        }
    }
}

fn encode(ranges: &[SeqRange]) -> Vec<u8> {
    ranges
        .iter()
        .flat_map(|range| [range.first, range.last])
        .flat_map(|seq| seq.0.to_le_bytes())
        .collect()
}

fn decode(bytes: &[u8]) -> Vec<SeqRange> {
    let (ranges, _) = bytes.as_chunks::<RANGE_BYTES>();
    let seq = |bytes: &[u8]| Seq(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
    ranges
        .iter()
        .map(|range| SeqRange { first: seq(&range[..8]), last: seq(&range[8..]) })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_come_back_as_they_were_persisted() {
        let range = |first, last| SeqRange { first: Seq(first), last: Seq(last) };
        let ranges = [range(1, 40), range(41, 41), range(u64::MAX - 1, u64::MAX)];
        assert_eq!(decode(&encode(&ranges)), ranges);
        assert_eq!(decode(b""), []);
    }
}
