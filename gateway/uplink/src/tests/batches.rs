//! Batches, pace, priorities, several servers, and servers that say what they hold.

use std::time::{Duration, Instant};

use tidegate_stream::{Epoch, Seq};

use crate::{
    Action, Batch, Held, LaneId, LaneStart, OutboundRecord, Part, RefuseReason, SeqRange, Uplink,
    UplinkOptions, UplinkState,
};

const MS: Duration = Duration::from_millis(1);

struct Bench {
    uplink: Uplink,
    now: Instant,
    session: u64,
    endpoint: usize,
    sent: Vec<(u64, Batch)>,
    /// Lane, token and boundaries.
    sealed: Vec<(LaneId, u64, Vec<SeqRange>)>,
    advanced: Vec<u64>,
}

impl Bench {
    fn new(options: UplinkOptions, lanes: Vec<LaneStart>) -> Bench {
        #[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
        let now = Instant::now();
        let advanced = lanes.iter().map(|lane| lane.cursor.0).collect();
        let mut bench = Bench {
            uplink: Uplink::new(options, lanes, 7),
            now,
            session: 0,
            endpoint: 0,
            sent: Vec::new(),
            sealed: Vec::new(),
            advanced,
        };
        bench.drain();
        bench
    }

    fn connected(options: UplinkOptions, lanes: Vec<LaneStart>) -> Bench {
        let mut bench = Bench::new(options, lanes);
        bench.uplink.handle_connected(bench.now, bench.session, &[]);
        bench
    }

    fn drain(&mut self) {
        while let Some(action) = self.uplink.poll_action(self.now) {
            match action {
                Action::Connect { session, endpoint } => {
                    (self.session, self.endpoint) = (session, endpoint);
                }
                Action::Send { token, batch, .. } => self.sent.push((token, batch)),
                Action::Seal { lane, token, ranges } => self.sealed.push((lane, token, ranges)),
                Action::Advance { lane, next } => self.advanced[lane.0] = next.0,
                Action::Disconnect { .. } | Action::Reject { .. } => panic!("{action:?}"),
            }
        }
    }

    /// Offers what is wanted of each lane up to its last record.
    fn fill(&mut self, last: &[u64]) {
        while let Some(want) = self.uplink.wanted() {
            let end = last[want.lane.0].min(want.from.0 + want.records as u64 - 1);
            if want.from.0 > end {
                self.uplink.exhausted(want.lane);
            }
            for seq in want.from.0..=end {
                if !self.offer(want.lane.0, 1, seq) {
                    break;
                }
            }
        }
    }

    fn offer(&mut self, lane: usize, epoch: u32, seq: u64) -> bool {
        let record = OutboundRecord { seq: Seq(seq), ..OutboundRecord::default() };
        self.uplink.offer(self.now, LaneId(lane), Epoch(epoch), record)
    }

    fn ranges(&self) -> Vec<(usize, u64, u64)> {
        let range =
            |(_, batch): &(u64, Batch)| (batch.lane.0, batch.range.first.0, batch.range.last.0);
        self.sent.iter().map(range).collect()
    }

    fn persist_all(&mut self) {
        for (lane, token, _) in std::mem::take(&mut self.sealed) {
            self.uplink.handle_sealed(lane, token);
        }
        self.drain();
    }

    /// The next session stands.
    fn connect(&mut self) {
        let before = self.session;
        for _try in 0..3 {
            self.drain();
            if self.session > before {
                break;
            }
            let Some(at) = self.uplink.poll_timeout() else { break };
            self.now = self.now.max(at);
        }
        self.uplink.handle_connected(self.now, self.session, &[]);
    }

    fn acknowledge_all(&mut self) {
        for (token, _) in std::mem::take(&mut self.sent) {
            self.uplink.handle_acknowledged(self.now, self.session, token);
        }
        self.drain();
    }
}

fn batches(records: usize) -> UplinkOptions {
    UplinkOptions { batch_records: records, ..UplinkOptions::default() }
}

fn lane(cursor: u64) -> LaneStart {
    LaneStart::from(Seq(cursor))
}

#[test]
fn a_full_batch_goes_at_once_and_the_rest_when_its_first_record_is_old_enough() {
    let options = UplinkOptions { batch_age: 50 * MS, ..batches(10) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    bench.fill(&[25]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 10), (0, 11, 20)]);
    assert_eq!(bench.uplink.poll_timeout(), Some(bench.now + 50 * MS));
    bench.now += 50 * MS;
    bench.drain();
    assert_eq!(bench.ranges()[2..], [(0, 21, 25)]);
    bench.acknowledge_all();
    assert_eq!(bench.advanced, [26]);
}

#[test]
fn without_an_age_a_batch_is_what_is_there() {
    let mut bench = Bench::connected(batches(10), vec![lane(1)]);
    bench.fill(&[3]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 3)]);
}

#[test]
fn a_batch_does_not_exceed_its_bytes_and_has_one_epoch() {
    let bytes = OutboundRecord::default().len_bytes();
    let options = UplinkOptions { batch_bytes: 3 * bytes, ..batches(100) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    for (epoch, seq) in [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5), (2, 6)] {
        assert!(bench.offer(0, epoch, seq));
    }
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 3), (0, 4, 4), (0, 5, 6)]);
    assert_eq!(bench.sent[2].1.epoch, Epoch(2));
}

#[test]
fn a_batch_that_fills_the_window_waits_for_nothing() {
    let options = UplinkOptions { window: 5, batch_age: 1000 * MS, ..batches(100) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    bench.fill(&[50]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 5)]);
}

#[test]
fn what_the_server_holds_is_passed_and_not_sent() {
    let mut bench = Bench::new(batches(10), vec![lane(3), lane(1)]);
    let held = [Held::through(LaneId(0), Epoch(1), Seq(5))];
    bench.uplink.handle_connected(bench.now, bench.session, &held);
    bench.fill(&[7, 2]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 6, 7), (1, 1, 2)]);
    assert_eq!(bench.advanced, [6, 1]);
    assert_eq!(bench.uplink.status().held, 3);
}

#[test]
fn a_held_sequence_of_an_older_epoch_says_nothing_about_a_newer_one() {
    let mut bench = Bench::new(batches(10), vec![lane(3)]);
    let held = [Held::through(LaneId(0), Epoch(1), Seq(90))];
    bench.uplink.handle_connected(bench.now, bench.session, &held);
    assert!(bench.offer(0, 1, 3));
    assert!(bench.offer(0, 2, 4));
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 4, 4)]);
}

#[test]
fn a_stream_of_higher_priority_goes_first() {
    let urgent = LaneStart { priority: 5, ..lane(1) };
    let options = UplinkOptions { window: 20, ..batches(1) };
    let mut bench = Bench::connected(options, vec![lane(1), urgent, lane(1)]);
    bench.fill(&[100, 15, 100]);
    bench.drain();
    let order: Vec<usize> = bench.ranges().iter().map(|(lane, _, _)| *lane).collect();
    assert_eq!(order[..15], [1; 15]);
    assert_eq!(order[15..], [2; 5], "the lane after the one whose turn it was");
}

#[test]
fn no_more_batches_go_in_a_second_than_the_server_allows() {
    let options = UplinkOptions { max_batches_per_second: Some(100), ..batches(1) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    let end = bench.now + 2000 * MS;
    let mut sent = 0;
    while bench.now < end {
        bench.fill(&[u64::MAX]);
        bench.drain();
        sent += bench.sent.len();
        bench.acknowledge_all();
        bench.now = bench.uplink.poll_timeout().unwrap_or(bench.now + MS);
        bench.drain();
    }
    assert!((200..=212).contains(&sent), "{sent}");
}

#[test]
fn batches_fill_up_while_the_server_allows_no_other() {
    let options = UplinkOptions { max_batches_per_second: Some(10), ..batches(50) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    for last in 1..=60 {
        bench.fill(&[last]);
        bench.drain();
        bench.uplink.wake(LaneId(0));
    }
    // The burst of the first moment, one record each; then nothing for a while.
    let early = bench.sent.len();
    assert!(early <= 3, "{early}");
    bench.now += 200 * MS;
    bench.drain();
    assert!(bench.sent[early].1.records.len() == 50, "{:?}", bench.ranges());
}

#[test]
fn a_backlog_is_paced_and_fresh_records_of_other_streams_are_not() {
    let bytes = OutboundRecord::default().len_bytes() as u64;
    let options = UplinkOptions { max_backfill_bytes_per_second: Some(10 * bytes), ..batches(1) };
    let mut bench = Bench::connected(options, vec![lane(1), lane(1)]);
    bench.uplink.set_backlog(LaneId(0), Seq(1000));
    bench.uplink.set_backlog(LaneId(1), Seq(1));
    bench.fill(&[2000, 50]);
    bench.drain();
    let of =
        |lane: usize, bench: &Bench| bench.ranges().iter().filter(|(at, _, _)| *at == lane).count();
    assert_eq!(of(1, &bench), 50);
    assert!(of(0, &bench) <= 2, "{}", of(0, &bench));
}

#[test]
fn a_sealed_batch_is_sent_when_its_boundaries_are_durable_and_keeps_them_after_a_restart() {
    let options = UplinkOptions { sealed: true, ..batches(10) };
    let mut bench = Bench::connected(options.clone(), vec![lane(1)]);
    bench.fill(&[14]);
    bench.drain();
    let range = |first, last| SeqRange { first: Seq(first), last: Seq(last) };
    assert_eq!(bench.ranges(), []);
    assert_eq!(bench.sealed.last().unwrap().2, [range(1, 10), range(11, 14)]);
    bench.uplink.handle_sealed(LaneId(0), bench.sealed[0].1);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 10)]);

    // Another life: more records are there now, and the batches are the same.
    let sealed = vec![range(1, 10), range(11, 14)];
    let mut bench = Bench::connected(options, vec![LaneStart { sealed, ..lane(1) }]);
    bench.fill(&[30]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 10), (0, 11, 14)]);
    assert_eq!(bench.sealed.last().unwrap().2.last(), Some(&range(25, 30)));
}

#[test]
fn boundaries_behind_a_batch_stay_on_the_disk_when_that_is_persisted_again() {
    let options = UplinkOptions { sealed: true, ..batches(10) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    bench.fill(&[14]);
    bench.drain();
    let why = "cut".to_owned();
    bench.uplink.handle_disconnected(bench.now, bench.session, why);
    bench.connect();
    for seq in 1..=10 {
        assert!(bench.offer(0, 1, seq));
    }
    bench.drain();
    // What the first session asked for is durable, also for the second batch.
    let (_, again, ranges) = bench.sealed.last().unwrap().clone();
    bench.uplink.handle_sealed(LaneId(0), bench.sealed[1].1);
    bench.fill(&[14]);
    bench.drain();
    assert_eq!(bench.ranges(), [], "it goes behind the first");
    let range = |first, last| SeqRange { first: Seq(first), last: Seq(last) };
    assert_eq!(ranges, [range(1, 10), range(11, 14)], "what replaces the boundaries of a batch");
    bench.uplink.handle_sealed(LaneId(0), again);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 10), (0, 11, 14)]);
}

#[test]
fn a_sealed_batch_that_is_too_large_is_cut_anew() {
    let options = UplinkOptions { sealed: true, ..batches(10) };
    let sealed =
        vec![SeqRange { first: Seq(1), last: Seq(4) }, SeqRange { first: Seq(5), last: Seq(9) }];
    let mut bench = Bench::connected(options, vec![LaneStart { sealed, ..lane(1) }]);
    let mut taken = Vec::new();
    for _session in 0..4 {
        loop {
            bench.fill(&[9]);
            bench.drain();
            bench.persist_all();
            let Some((token, batch)) = bench.sent.pop() else { break };
            if batch.records.len() == 4 {
                let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
                let why = "413".to_owned();
                bench.uplink.handle_expelled(bench.now, bench.session, reason, why);
                break;
            }
            taken.push((batch.range.first.0, batch.range.last.0));
            bench.uplink.handle_acknowledged(bench.now, bench.session, token);
        }
        bench.sent.clear();
        bench.connect();
    }
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9)]);
    assert_eq!(bench.advanced, [10]);
}

#[test]
fn a_record_that_is_lost_leaves_the_boundaries_of_its_sealed_batch_alone() {
    let options = UplinkOptions { sealed: true, ..batches(10) };
    let sealed = vec![SeqRange { first: Seq(1), last: Seq(5) }];
    let mut bench = Bench::connected(options, vec![LaneStart { sealed, ..lane(1) }]);
    assert!(bench.offer(0, 1, 1));
    bench.uplink.skip(LaneId(0), Seq(8));
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 5)]);
    assert_eq!(bench.sent[0].1.records.len(), 1);
}

#[test]
fn what_the_server_took_of_a_batch_is_not_sent_again_when_the_rest_is_refused() {
    let options = UplinkOptions { attempts: 2, ..batches(5) };
    let mut bench = Bench::connected(options, vec![lane(1)]);
    bench.fill(&[5]);
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 1, 5)]);
    let (token, _) = bench.sent.remove(0);
    let bytes = OutboundRecord::default().len_bytes();
    let part = |first, last| Part {
        range: SeqRange { first: Seq(first), last: Seq(last) },
        records: (last - first) as usize + 1,
        bytes: bytes * ((last - first) as usize + 1),
    };
    for (first, last) in [(4, 5), (1, 2)] {
        bench.uplink.handle_taken(bench.now, bench.session, token, part(first, last));
        // Not a second time, and nothing that is no part of it.
        bench.uplink.handle_taken(bench.now, bench.session, token, part(5, 6));
        bench.uplink.handle_taken(bench.now, bench.session + 1, token, part(3, 3));
    }
    bench.drain();
    assert_eq!(bench.advanced, [3], "the cursor follows");
    assert_eq!(bench.uplink.status().in_flight, 1);
    let too_large = RefuseReason::PacketTooLarge { bytes: None, max: None };
    bench.uplink.handle_refused(bench.now, bench.session, token, too_large.clone());
    assert_eq!(bench.uplink.status().last_error.unwrap().split(' ').nth(1), Some("3"));
    bench.now = bench.uplink.poll_timeout().unwrap();
    bench.drain();
    assert!(bench.offer(0, 1, 3));
    bench.drain();
    assert_eq!(bench.ranges(), [(0, 3, 3)], "alone");
    let (token, _) = bench.sent.remove(0);
    bench.uplink.handle_refused(bench.now, bench.session, token, too_large.clone());
    let rejected = Action::Reject { lane: LaneId(0), seq: Seq(3), reason: too_large };
    assert_eq!(bench.uplink.poll_action(bench.now), Some(rejected), "its second time");
    bench.drain();
    assert_eq!(bench.advanced, [6]);
    assert_eq!(bench.uplink.status().acknowledged, 4);
}

#[test]
fn the_next_server_is_tried_at_once_and_the_round_waits() {
    let options = UplinkOptions { endpoints: 3, ..UplinkOptions::default() };
    let mut bench = Bench::new(options, vec![lane(1)]);
    let start = bench.now;
    for endpoint in [0, 1, 2] {
        assert_eq!((bench.endpoint, bench.now), (endpoint, start));
        let why = "refused".to_owned();
        bench.uplink.handle_disconnected(bench.now, bench.session, why);
        bench.drain();
    }
    assert!(matches!(bench.uplink.status().state, UplinkState::Waiting { .. }));
    bench.now = bench.uplink.poll_timeout().unwrap();
    assert!(bench.now > start);
    bench.drain();
    assert_eq!(bench.endpoint, 0);
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asked() {
    let mut bench = Bench::connected(batches(10), vec![lane(1)]);
    bench.fill(&[10]);
    bench.drain();
    let (wait, why) = (Some(Duration::from_secs(90)), "503".to_owned());
    bench.uplink.handle_busy(bench.now, bench.session, wait, why);
    bench.drain();
    assert_eq!(bench.uplink.poll_timeout(), Some(bench.now + Duration::from_secs(90)));
    bench.now += Duration::from_secs(90);
    let before = bench.session;
    bench.drain();
    assert_eq!(bench.session, before + 1);
}
