//! What is sent next: which lane's turn it is, how records become batches, and when a batch goes.

use std::time::Instant;

use tidegate_stream::Epoch;

use crate::action::{Action, LaneId, Want};
use crate::batch::{Batch, Collecting, SeqRange};
use crate::flights::Flight;
use crate::record::OutboundRecord;
use crate::uplink::{State, Uplink};

/// Records of one lane in a row before the next lane's turn, so that a long backlog of one
/// stream does not hold up the alerts of another.
const TURN_RECORDS: usize = 32;

impl Uplink {
    /// What could be sent now: lanes of the highest priority that have something take turns.
    /// `None` while not connected, pausing, ahead of the pace, or when the window is full. After
    /// a read that found nothing, or that has to wait for the disk, call
    /// [`exhausted`](Self::exhausted), else the same is wanted again.
    #[must_use]
    pub fn wanted(&self) -> Option<Want> {
        let State::Connected { paused: None, .. } = self.state else { return None };
        if let Some(rest) = self.rest_of_sealed() {
            return Some(rest);
        }
        let free = self.window().checked_sub(self.in_flight_records()).filter(|free| *free > 0)?;
        let bytes = self.options.window_bytes.max(1).checked_sub(self.in_flight_bytes());
        let bytes = bytes.filter(|bytes| *bytes > 0)?;
        let count = self.lanes.len();
        let turns = (0..count).map(|step| (self.turn + step) % count);
        let mut best: Option<(u8, Want)> = None;
        for at in turns {
            let lane = &self.lanes[at];
            if best.as_ref().is_some_and(|(priority, _)| *priority >= lane.priority) {
                continue;
            }
            if self.is_paced(at) {
                continue;
            }
            let Some((from, room)) = lane.wanted(self.options.window) else { continue };
            let records = room.min(free).min(TURN_RECORDS.max(self.options.batch_records));
            best = Some((lane.priority, Want { lane: LaneId(at), from, records, bytes }));
        }
        best.map(|(_, want)| want)
    }

    /// A sealed batch that was begun is read to its end, whatever the window and the pace say:
    /// they had their say when its boundaries were drawn.
    fn rest_of_sealed(&self) -> Option<Want> {
        (0..self.lanes.len()).find_map(|at| {
            let range = self.open_seal(at)?;
            let (from, _) = self.lanes[at].wanted(self.options.window)?;
            let left = usize::try_from(range.last.0.checked_sub(from.0)? + 1).ok()?;
            let bytes = self.options.window_bytes.max(1);
            Some(Want { lane: LaneId(at), from, records: left, bytes })
        })
    }

    /// The boundaries of the lane's open batch, as long as records of it may be missing.
    fn open_seal(&self, at: usize) -> Option<SeqRange> {
        let open = self.collecting[at].as_ref()?;
        let range = open.sealed?;
        (!open.is_sealed_full() && self.lanes[at].next() <= range.last).then_some(range)
    }

    /// Hands over a wanted record; it becomes part of an [`Action::Send`], unless the server
    /// said that it has it. Returns false, and keeps nothing, for a record that is not the one
    /// wanted, finds the window full or is ahead of the pace: it will be wanted again.
    pub fn offer(
        &mut self,
        now: Instant,
        lane: LaneId,
        epoch: Epoch,
        record: OutboundRecord,
    ) -> bool {
        if lane.0 >= self.lanes.len() {
            return false;
        }
        let sealed = self.open_seal(lane.0);
        let blocked = self.is_full() || self.is_paced(lane.0);
        let refused = blocked && !sealed.is_some_and(|range| range.contains(record.seq));
        let idle = self.flights.is_empty();
        let State::Connected { progress, paused: None, .. } = &mut self.state else { return false };
        let (at, seq) = (lane.0, record.seq);
        let offered = &mut self.lanes[at];
        let again = offered.is_due(seq);
        if refused || !offered.offer(seq) {
            return false;
        }
        if offered.is_held(epoch, seq) {
            offered.finish(seq);
            self.counts.held += 1;
            return true;
        }
        if idle {
            *progress = now;
        }
        self.turn = (at + 1) % self.lanes.len();
        if again {
            self.close(now, at);
        }
        self.collect(now, at, epoch, record);
        if again {
            self.close(now, at);
        }
        // Nothing more fits: waiting for more would be waiting for nothing.
        if self.is_full() {
            (0..self.lanes.len()).for_each(|lane| self.close_complete(now, lane));
        }
        true
    }

    /// Whether the lane is ahead of a pace.
    fn is_paced(&self, at: usize) -> bool {
        self.paced_until.is_some() || (self.backfill_until.is_some() && self.lanes[at].is_behind())
    }

    fn is_full(&self) -> bool {
        self.in_flight_records() >= self.window()
            || self.in_flight_bytes() >= self.options.window_bytes.max(1)
    }

    fn close_complete(&mut self, now: Instant, at: usize) {
        if self.open_seal(at).is_none() {
            self.close(now, at);
        }
    }

    fn collect(&mut self, now: Instant, at: usize, epoch: Epoch, record: OutboundRecord) {
        let bytes = record.len_bytes();
        let sealed = self.lanes[at].boundaries.around(record.seq);
        let fits = self.collecting[at].as_ref().is_none_or(|open| {
            open.epoch == epoch
                && open.sealed == sealed
                && (sealed.is_some() || open.bytes + bytes <= self.options.batch_bytes)
        });
        if !fits {
            self.close(now, at);
        }
        let most = self.options.batch_records;
        let open =
            self.collecting[at].get_or_insert_with(|| Collecting::new(now, epoch, sealed, most));
        open.push(record);
        let full = if open.sealed.is_some() {
            open.is_sealed_full()
        } else {
            open.records.len() >= self.options.batch_records
                || open.bytes >= self.options.batch_bytes
        };
        self.collected_records += 1;
        self.collected_bytes += bytes;
        if full {
            self.close(now, at);
        }
    }

    /// Sends what the lane has collected, once its boundaries are durable where that is asked.
    fn close(&mut self, now: Instant, at: usize) {
        let Some(open) = self.collecting[at].take() else { return };
        let Some(range) = open.range() else { return };
        let (records, bytes) = (open.records.len(), open.bytes);
        self.collected_records -= records;
        self.collected_bytes -= bytes;
        self.token += 1;
        let oldest_ms = open.records.iter().map(|record| record.unix_ms).min().unwrap_or(0);
        let flight = Flight { lane: at, range, records, bytes, sent_at: now, oldest_ms };
        self.flights.insert(self.token, flight);
        self.counts.sent += records as u64;
        self.count_pace(now, at, bytes as u64);
        let lane = LaneId(at);
        let stream = self.lanes[at].stream.clone();
        let batch = Batch { lane, stream, epoch: open.epoch, range, records: open.records };
        let token = self.token;
        let boundaries = &mut self.lanes[at].boundaries;
        let unsealed = if self.options.sealed { boundaries.draw(range, token) } else { None };
        if let Some(ranges) = unsealed {
            self.seals.push_back(Action::Seal { lane, token, ranges });
            self.sealing.push_back((token, batch));
        } else if self.sealing.iter().any(|(_, before)| before.lane == lane) {
            // Durable boundaries or not: no batch overtakes another of its lane.
            self.sealing.push_back((token, batch));
        } else {
            self.sends.push_back((token, batch));
        }
    }

    /// The next batch, unless that is too soon for the server: meanwhile batches fill up.
    pub(crate) fn next_send(&mut self, now: Instant) -> Option<(u64, Batch)> {
        if self.batches_until.is_some() {
            return None;
        }
        let send = self.sends.pop_front()?;
        if let Some(pace) = &mut self.batch_pace {
            pace.take(now, 1);
            self.batches_until = pace.blocked_until(now);
        }
        Some(send)
    }

    fn count_pace(&mut self, now: Instant, at: usize, bytes: u64) {
        if let Some(pace) = &mut self.byte_pace {
            pace.take(now, bytes);
            self.paced_until = pace.blocked_until(now);
        }
        if let Some(pace) = &mut self.backfill_pace
            && self.lanes[at].is_behind()
        {
            pace.take(now, bytes);
            self.backfill_until = pace.blocked_until(now);
        }
    }

    /// What this [`Action::Seal`] asked for is durable: batches within these boundaries may go, in
    /// their order.
    pub fn handle_sealed(&mut self, lane: LaneId, token: u64) {
        let Some(sealed) = self.lanes.get_mut(lane.0) else { return };
        sealed.boundaries.persisted(token);
        while let Some(place) = self.sealing.iter().position(|(_, batch)| batch.lane == lane) {
            if !self.lanes[lane.0].boundaries.is_durable(self.sealing[place].1.range) {
                return;
            }
            self.sends.extend(self.sealing.remove(place));
        }
    }

    /// Closes the batches whose first record has waited long enough.
    pub(crate) fn close_aged(&mut self, now: Instant) {
        if self.collected_records == 0 || self.batches_until.is_some() {
            return;
        }
        for at in 0..self.collecting.len() {
            let age = self.options.batch_age;
            if self.collecting[at].as_ref().is_some_and(|open| open.since + age <= now) {
                self.close_complete(now, at);
            }
        }
    }

    /// When the next batch is to be closed because of its age.
    pub(crate) fn next_aged(&self) -> Option<Instant> {
        if self.batches_until.is_some() {
            return self.batches_until;
        }
        let complete = (0..self.collecting.len()).filter(|at| self.open_seal(*at).is_none());
        let open = complete.filter_map(|at| self.collecting[at].as_ref());
        open.map(|open| open.since + self.options.batch_age).min()
    }

    /// Records sent or collected, and not answered.
    pub(crate) fn in_flight_records(&self) -> usize {
        self.flights.records() + self.collected_records
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.flights.bytes() + self.collected_bytes
    }

    /// The session is over: nothing is on its way any more.
    pub(crate) fn forget_sends(&mut self) {
        self.flights.clear();
        self.collecting.iter_mut().for_each(|open| *open = None);
        self.collected_records = 0;
        self.collected_bytes = 0;
        self.sends.clear();
        self.sealing.clear();
        self.seals.clear();
    }
}
