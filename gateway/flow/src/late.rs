//! Live first: after an outage a stream's fresh records go at once, and what came late follows in
//! a lane of its own, under a name of its own.
//!
//! Two lanes read the stream. When a connection finds a long backlog, the records from beyond
//! what the live lane may have sent before up to the newest become a *late range*: the live lane
//! leaves it out, the late lane sends nothing else. Ranges are persisted, and durable before the
//! session begins, so a record is always sent in the same lane and each lane ascends: order and
//! dedupe hold within each.
//!
//! What the live lane may have sent is persisted too, ahead of time: the cursor on flash lags
//! behind the acknowledgements by as much as a second brings, so it cannot tell. The lane sends
//! below its *grant* only, and asks for more, a thousand records at a time, before it gets there.

use std::collections::VecDeque;

use tidegate_stream::{Log, Position, ReadLimit, Seq, StreamId, TableId, Transaction};
use tidegate_uplink::{LaneId, MAX_WINDOW, UplinkEvent};

use crate::clock::Now;
use crate::gateway::{BuildError, Gateway, PlantedBug};
use crate::plan::UplinkPlan;

/// What the late lane's name upstream has behind the stream's. No stream's name has a dot.
pub const LATE_SUFFIX: &str = ".late";
/// Late ranges of one stream; with as many, the next backlog is sent in order.
const MAX_RANGES: usize = 64;
/// First and end of a range, little-endian; the grant in front of them is half of that.
const RANGE_BYTES: usize = 16;
const GRANT_BYTES: usize = 8;

/// Limits of an uplink's live-first streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateLimits {
    /// Records that a backlog must have beyond what may have been sent, or it is sent in order: a
    /// short one is through in a moment. Default 1,000.
    pub least_records: u64,
    /// Records that a live lane is granted at a time, at least 2; each grant is a small commit.
    /// Default 1,000.
    pub grant_records: u64,
}

impl Default for LateLimits {
    fn default() -> LateLimits {
        LateLimits { least_records: MAX_WINDOW as u64, grant_records: MAX_WINDOW as u64 }
    }
}

/// Which part of its stream a lane sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// All but the late ranges; the late lane has this index.
    Live { late: usize },
    /// The late ranges; the live lane has this index.
    Late { live: usize },
}

/// Sequences from `from` up to, and without, `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LateRange {
    pub(crate) from: Seq,
    pub(crate) end: Seq,
}

/// How the two lanes of one stream share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shares {
    /// The live lane never sent anything from here on.
    granted: Seq,
    /// The late ranges, ascending; they do not touch.
    pub(crate) ranges: VecDeque<LateRange>,
}

/// Where a lane goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Read from there, so many records at most.
    Read(u64),
    /// Leave out what is before this.
    Skip(Seq),
    /// Nothing to do.
    Rest,
}

impl Shares {
    /// What the live lane does at `from`.
    pub(crate) fn live(&self, from: Seq) -> Course {
        match self.ranges.iter().find(|range| range.end > from) {
            Some(range) if range.from <= from => Course::Skip(range.end),
            Some(range) => Course::Read(range.from.0 - from.0),
            None => Course::Read(u64::MAX),
        }
    }

    /// What the late lane does at `from`.
    pub(crate) fn late(&self, from: Seq) -> Course {
        match self.ranges.iter().find(|range| range.end > from) {
            Some(range) if range.from > from => Course::Skip(range.from),
            Some(range) => Course::Read(range.end.0 - from.0),
            None => Course::Rest,
        }
    }

    /// With one range more, when there is a long enough backlog: the live lane is at `cursor`,
    /// the stream ends at `end`.
    fn with_backlog(&self, cursor: Seq, end: Seq, least_records: u64) -> Option<Shares> {
        let before = self.ranges.back().map_or(cursor, |range| range.end.max(cursor));
        let from = before.max(self.granted);
        if self.ranges.len() >= MAX_RANGES || end.0 <= from.0.saturating_add(least_records) {
            return None;
        }
        let mut shares = self.clone();
        shares.granted = end;
        match shares.ranges.back_mut().filter(|range| range.end == from) {
            Some(range) => range.end = end,
            None => shares.ranges.push_back(LateRange { from, end }),
        }
        Some(shares)
    }

    fn encode(&self) -> Vec<u8> {
        let ranges = self.ranges.iter().flat_map(|range| [range.from, range.end]);
        std::iter::once(self.granted).chain(ranges).flat_map(|seq| seq.0.to_le_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Shares> {
        let seq = |bytes: &[u8]| Seq(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)));
        let (granted, ranges) = bytes.split_at_checked(GRANT_BYTES)?;
        let (ranges, _) = ranges.as_chunks::<RANGE_BYTES>();
        let range = |range: &[u8; RANGE_BYTES]| LateRange {
            from: seq(&range[..GRANT_BYTES]),
            end: seq(&range[GRANT_BYTES..]),
        };
        Some(Shares { granted: seq(granted), ranges: ranges.iter().map(range).collect() })
    }
}

/// How far a live lane may send now.
#[derive(Debug)]
pub(crate) struct Grant {
    /// Below this.
    durable: Seq,
    /// More, that is on its way to the disk.
    asked: Option<(Position, Seq)>,
}

/// The live-first streams of one uplink.
pub(crate) struct LateStreams {
    /// Only there when a stream is, or was, live first.
    table: Option<TableId>,
    /// Where the newest ranges are durable.
    written_at: Position,
    /// A session that begins once new ranges, or losses, are durable.
    waiting: Option<(Position, UplinkEvent)>,
}

impl LateStreams {
    pub(crate) fn define(log: &mut Log, plan: &UplinkPlan) -> Result<LateStreams, BuildError> {
        let name = format!("uplink/{}/late", plan.name);
        let table = match plan.live_first.is_empty() && !log.has_table(&name) {
            true => None,
            false => Some(log.table(&name)?),
        };
        Ok(LateStreams { table, written_at: log.durable(), waiting: None })
    }

    /// No session begins before everything is durable that the log has now.
    pub(crate) fn await_all(&mut self, log: &Log) {
        self.written_at = log.end();
    }

    /// The session begins once this is durable.
    pub(crate) fn wait(&mut self, position: Position, event: UplinkEvent) {
        self.waiting = Some((position, event));
    }

    /// How this stream was shared before. Of one that never was, the live lane may have sent
    /// everything that is there.
    pub(crate) fn shares(&self, log: &Log, stream: StreamId, name: &str) -> Shares {
        let entries = self.table.map(|table| log.table_entries(table));
        let value = entries.and_then(|entries| entries.get(name.as_bytes()));
        let known = value.and_then(|value| Shares::decode(value));
        known
            .unwrap_or_else(|| Shares { granted: log.durable_seq(stream), ranges: VecDeque::new() })
    }
}

impl Grant {
    pub(crate) fn new(shares: &Shares) -> Grant {
        Grant { durable: shares.granted, asked: None }
    }
}

impl Gateway {
    /// Takes an uplink's event; the beginning of a session waits when a backlog becomes late.
    pub(crate) fn admit_session(
        &mut self,
        now: Now,
        index: usize,
        event: UplinkEvent,
    ) -> Option<UplinkEvent> {
        let run = self.uplinks.get_mut(index)?;
        // Whatever comes now, it ends the wait of an earlier session.
        run.late.waiting = None;
        if !matches!(event, UplinkEvent::Connected { .. }) {
            return Some(event);
        }
        self.put_backlog_off(now, index);
        let late = &mut self.uplinks[index].late;
        // The ranges may be those of an earlier session that ended before they were durable.
        let awaits = self.planted != Some(PlantedBug::LateRangesNotAwaited);
        if late.written_at <= self.log.durable() || !awaits {
            return Some(event);
        }
        late.waiting = Some((late.written_at, event));
        None
    }

    /// Turns long backlogs of live-first streams into late ranges.
    fn put_backlog_off(&mut self, now: Now, index: usize) {
        let run = &self.uplinks[index];
        let Some(table) = run.late.table else { return };
        let mut tx = Transaction::new();
        let mut changed = Vec::new();
        for (at, lane) in run.lanes.iter().enumerate() {
            let live_first = run.plan.live_first.contains(&run.plan.streams[lane.name]);
            if !matches!(lane.part, Part::Live { .. }) || !live_first {
                continue;
            }
            let (cursor, end) = (self.log.cursor(lane.reader), self.log.durable_seq(lane.stream));
            let least = run.plan.late.least_records;
            if let Some(shares) = lane.shares.with_backlog(cursor, end, least) {
                let key = run.plan.streams[lane.name].clone().into_bytes();
                tx.put(table, key, shares.encode());
                changed.push((at, shares));
            }
        }
        if changed.is_empty() {
            return;
        }
        tx.hurry();
        // Without room for the ranges the backlog goes in order, which is right too.
        let Ok(committed) = self.log.commit(now.instant, tx) else { return };
        self.uplinks[index].late.written_at = committed.position;
        for (at, shares) in changed {
            let lane = &mut self.uplinks[index].lanes[at];
            lane.grant.asked = Some((committed.position, shares.granted));
            lane.shares = shares;
        }
    }

    /// Begins the sessions whose late ranges are durable, and grants what is durable.
    pub(crate) fn release_sessions(&mut self, now: Now) {
        let durable = self.log.durable();
        let mut next = 0;
        while let Some(index) = self.uplinks.from(next) {
            next = index + 1;
            for lane in &mut self.uplinks[index].lanes {
                if let Some((_, end)) = lane.grant.asked.take_if(|(at, _)| *at <= durable) {
                    lane.grant.durable = end;
                }
            }
            let waiting = &mut self.uplinks[index].late.waiting;
            if let Some((_, event)) = waiting.take_if(|(position, _)| *position <= durable) {
                self.begin(now, index, event);
            }
        }
    }

    /// Where the lane goes on; narrows the limit to its part of the stream.
    pub(crate) fn course(
        &mut self,
        now: Now,
        index: usize,
        lane: LaneId,
        from: Seq,
        limit: ReadLimit,
    ) -> Result<ReadLimit, Course> {
        let run = &self.uplinks[index];
        let course = match run.lanes[lane.0].part {
            Part::Whole => return Ok(limit),
            Part::Live { .. } => match run.lanes[lane.0].shares.live(from) {
                Course::Read(most) => self.granted(now, index, lane, from, most),
                other => other,
            },
            Part::Late { live } => run.lanes[live].shares.late(from),
        };
        match course {
            Course::Read(most) => {
                let records = limit.records.min(usize::try_from(most).unwrap_or(usize::MAX));
                Ok(ReadLimit { records, ..limit })
            }
            Course::Skip(_) | Course::Rest => Err(course),
        }
    }

    /// Of the `most` records that the live lane wants, what it may send; asks for more in time.
    fn granted(&mut self, now: Now, index: usize, lane: LaneId, from: Seq, most: u64) -> Course {
        let run = &mut self.uplinks[index];
        let live = &mut run.lanes[lane.0];
        let at_a_time = run.plan.late.grant_records;
        let near = from.0.saturating_add(at_a_time / 2) >= live.shares.granted.0;
        if let Some(table) = run.late.table.filter(|_| near && live.grant.asked.is_none()) {
            let granted = Seq(from.0.saturating_add(at_a_time));
            let shares = Shares { granted, ..live.shares.clone() };
            let mut tx = Transaction::new();
            tx.put(table, run.plan.streams[live.name].clone().into_bytes(), shares.encode());
            tx.hurry();
            // While the disk is full or busy, the lane waits like a publisher.
            if let Ok(committed) = self.log.commit(now.instant, tx) {
                live.grant.asked = Some((committed.position, granted));
                live.shares = shares;
            }
        }
        let awaits = self.planted != Some(PlantedBug::GrantNotAwaited);
        let granted = if awaits { live.grant.durable } else { live.shares.granted };
        match granted.0.checked_sub(from.0) {
            Some(0) | None => Course::Rest,
            Some(left) => Course::Read(left.min(most)),
        }
    }

    /// A lane's cursor moves. The late lane keeps up with the live one while it has nothing to
    /// do, or it would hold records back. What both lanes have passed is no range any more: a live
    /// lane that has yet to pass it would send it too.
    pub(crate) fn advance_lane(&mut self, now: Now, index: usize, lane: LaneId, next: Seq) {
        let run = &mut self.uplinks[index];
        let reader = run.lanes[lane.0].reader;
        let (live, other) = match run.lanes[lane.0].part {
            Part::Whole => return self.log.advance(now.instant, reader, next),
            Part::Live { late } => (lane.0, late),
            Part::Late { live } => (live, live),
        };
        let passed = next.min(self.log.cursor(run.lanes[other].reader));
        let ranges = &mut run.lanes[live].shares.ranges;
        let before = ranges.len();
        while ranges.front().is_some_and(|range| range.end <= passed) {
            ranges.pop_front();
        }
        if ranges.len() == before {
            self.log.advance(now.instant, reader, next);
        } else {
            self.forget_ranges(now, index, live, lane, next);
        }
        self.keep_up(index, live);
    }

    /// The cursor and the ranges that are passed, in one commit; the other lane's cursor is in the
    /// log before it.
    fn forget_ranges(&mut self, now: Now, index: usize, live: usize, lane: LaneId, next: Seq) {
        let run = &self.uplinks[index];
        let reader = run.lanes[lane.0].reader;
        let mut tx = Transaction::new();
        tx.advance(reader, next);
        if let Some(table) = run.late.table {
            let key = run.plan.streams[run.lanes[live].name].clone().into_bytes();
            tx.put(table, key, run.lanes[live].shares.encode());
        }
        if self.log.commit(now.instant, tx).is_err() {
            // A range that stays behind its cursor is passed again without sending anything.
            self.log.advance(now.instant, reader, next);
        }
    }

    fn keep_up(&mut self, index: usize, live: usize) {
        let run = &mut self.uplinks[index];
        let Part::Live { late } = run.lanes[live].part else { return };
        if run.lanes[live].shares.ranges.is_empty() {
            let next = self.log.cursor(run.lanes[live].reader);
            run.core.skip(LaneId(late), next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(granted: u64, list: &[(u64, u64)]) -> Shares {
        let range = |(from, end): &(u64, u64)| LateRange { from: Seq(*from), end: Seq(*end) };
        Shares { granted: Seq(granted), ranges: list.iter().map(range).collect() }
    }

    const LEAST: u64 = 1_000;

    #[test]
    fn the_two_lanes_share_the_stream_without_a_gap_or_an_overlap() {
        let shares = shares(31, &[(10, 20), (30, 31)]);
        for (from, live, late) in [
            (1, Course::Read(9), Course::Skip(Seq(10))),
            (10, Course::Skip(Seq(20)), Course::Read(10)),
            (19, Course::Skip(Seq(20)), Course::Read(1)),
            (20, Course::Read(10), Course::Skip(Seq(30))),
            (30, Course::Skip(Seq(31)), Course::Read(1)),
            (31, Course::Read(u64::MAX), Course::Rest),
        ] {
            assert_eq!((shares.live(Seq(from)), shares.late(Seq(from))), (live, late), "{from}");
        }
    }

    #[test]
    fn a_backlog_is_late_from_beyond_what_the_live_lane_may_have_sent() {
        let none = shares(1_005, &[]);
        assert_eq!(none.with_backlog(Seq(5), Seq(2_005), LEAST), None, "short: in order");
        let one = shares(2_006, &[(1_005, 2_006)]);
        assert_eq!(none.with_backlog(Seq(5), Seq(2_006), LEAST), Some(one.clone()));
        // The next outage comes before the live lane has reached the range, or after it.
        let longer = shares(9_000, &[(1_005, 9_000)]);
        assert_eq!(one.with_backlog(Seq(5), Seq(9_000), LEAST), Some(longer));
        let both = shares(9_000, &[(1_005, 2_006), (4_000, 9_000)]);
        let moved_on = shares(4_000, &[(1_005, 2_006)]);
        assert_eq!(moved_on.with_backlog(Seq(3_000), Seq(9_000), LEAST), Some(both));
    }

    #[test]
    fn shares_come_back_as_they_were_persisted() {
        let some = shares(7, &[(1, 2), (5, u64::MAX)]);
        assert_eq!(Shares::decode(&some.encode()), Some(some));
        assert_eq!(Shares::decode(b"short"), None);
    }

    #[test]
    fn no_more_ranges_are_kept_than_allowed() {
        let many: Vec<_> = (0..MAX_RANGES as u64).map(|n| (n * 10_000, n * 10_000 + 5)).collect();
        let end = Seq(10_000_000);
        assert_eq!(shares(0, &many).with_backlog(Seq(9_000_000), end, LEAST), None);
        assert!(shares(0, &many[1..]).with_backlog(Seq(9_000_000), end, LEAST).is_some());
    }
}
