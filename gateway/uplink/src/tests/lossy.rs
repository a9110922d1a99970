//! Whole histories against a server that loses, delays, reorders, refuses and hangs up by seed,
//! and comes to its senses in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_stream::{Epoch, Seq};

use crate::backoff::SplitMix64;
use crate::{
    Action, Batch, Held, LaneId, LaneStart, MAX_WINDOW, OutboundRecord, Part, RefuseReason,
    SeqRange, Uplink, UplinkEvent, UplinkOptions,
};

const RECORDS: u64 = 150;
const LANES: usize = 3;
const CHAOS: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(1_200);

/// Chances in 1,000.
#[derive(Clone, Debug)]
struct Habits {
    refuse_connection: u64,
    ignore_connection: u64,
    lose_acknowledgement: u64,
    quota: u64,
    hang_up: u64,
    fall_silent: u64,
    not_authorized: u64,
    busy: u64,
    max_delay_ms: u64,
    /// It says at each connection what it holds, and holds each record once, in order.
    tells: bool,
    /// Of a batch with records that it refuses for good it takes the others.
    takes_parts: bool,
}

struct Server {
    habits: Habits,
    chance: SplitMix64,
    /// Answers to come: (when, order of making, event).
    answers: BTreeSet<(Instant, u64)>,
    events: std::collections::BTreeMap<u64, UplinkEvent>,
    made: u64,
    silent: bool,
    /// Refused for good, by refusal and by expulsion.
    unacceptable: BTreeSet<(usize, u64)>,
    expelling: BTreeSet<(usize, u64)>,
    accepted: Vec<BTreeSet<u64>>,
    /// How often a record arrived that it had already.
    repeated: u64,
    /// By lane: batches as they came the first time.
    batches: Vec<BTreeSet<SeqRange>>,
}

impl Server {
    fn happens(&mut self, per_mille: u64) -> bool {
        self.chance.below(1_000) < per_mille
    }

    fn later(&mut self, now: Instant, event: UplinkEvent) {
        self.together(now, [event]);
    }

    /// Events at one time, in this order.
    fn together(&mut self, now: Instant, events: impl IntoIterator<Item = UplinkEvent>) {
        let delay = Duration::from_micros(self.chance.below(self.habits.max_delay_ms * 1_000) + 1);
        for event in events {
            self.made += 1;
            self.answers.insert((now + delay, self.made));
            self.events.insert(self.made, event);
        }
    }

    /// Takes those records of a batch that it does not refuse for good.
    fn take_parts(&mut self, session: u64, token: u64, batch: &Batch) -> Vec<UplinkEvent> {
        let lane = batch.lane.0;
        let good = |record: &&OutboundRecord| !self.unacceptable.contains(&(lane, record.seq.0));
        let good: Vec<&OutboundRecord> = batch.records.iter().filter(good).collect();
        let take = |record: &OutboundRecord| {
            self.repeated += u64::from(!self.accepted[lane].insert(record.seq.0));
            let range = SeqRange { first: record.seq, last: record.seq };
            let part = Part { range, records: 1, bytes: record.len_bytes() };
            UplinkEvent::Taken { session, token, part }
        };
        good.into_iter().map(take).collect()
    }

    fn connect(&mut self, now: Instant, session: u64) {
        self.silent = false;
        if self.happens(self.habits.ignore_connection) {
            return;
        }
        let event = if self.happens(self.habits.refuse_connection) {
            UplinkEvent::Disconnected { session, why: "connection refused".to_owned() }
        } else {
            UplinkEvent::Connected { session, held: self.held() }
        };
        self.later(now, event);
    }

    fn held(&self) -> Vec<Held> {
        if !self.habits.tells {
            return Vec::new();
        }
        let newest = |(lane, seqs): (usize, &BTreeSet<u64>)| {
            let seq = Seq(*seqs.last()?);
            Some(Held::through(LaneId(lane), epoch_of(seq.0), seq))
        };
        self.accepted.iter().enumerate().filter_map(newest).collect()
    }

    fn receive(&mut self, now: Instant, session: u64, token: u64, batch: &Batch) {
        if self.silent {
            return;
        }
        let lane = batch.lane.0;
        let seqs: Vec<u64> = batch.records.iter().map(|record| record.seq.0).collect();
        if self.happens(self.habits.busy) {
            self.silent = true;
            let (retry_after, why) = (Some(Duration::from_secs(7)), "503".to_owned());
            return self.later(now, UplinkEvent::Busy { session, retry_after, why });
        }
        if self.happens(self.habits.fall_silent) {
            self.silent = true;
            return;
        }
        if self.happens(self.habits.hang_up) {
            self.silent = true;
            let why = "closed by peer".to_owned();
            return self.later(now, UplinkEvent::Disconnected { session, why });
        }
        if seqs.iter().any(|seq| self.expelling.contains(&(lane, *seq))) {
            self.silent = true;
            let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
            let why = "packet too large".to_owned();
            return self.later(now, UplinkEvent::Expelled { session, reason, why });
        }
        let refusal = if seqs.iter().any(|seq| self.unacceptable.contains(&(lane, *seq))) {
            Some(RefuseReason::PayloadFormatInvalid)
        } else if self.happens(self.habits.quota) {
            Some(RefuseReason::QuotaExceeded)
        } else if self.happens(self.habits.not_authorized) {
            Some(RefuseReason::NotAuthorized)
        } else {
            None
        };
        match refusal {
            Some(reason) => {
                // One that takes records in order takes none behind one that it refused.
                self.silent = self.habits.tells;
                let parts = self.habits.takes_parts && reason != RefuseReason::QuotaExceeded;
                let taken = if parts { self.take_parts(session, token, batch) } else { Vec::new() };
                let refused = UplinkEvent::Refused { session, token, reason };
                self.together(now, taken.into_iter().chain([refused]));
            }
            None => {
                self.batches[lane].insert(batch.range);
                for seq in seqs {
                    self.repeated += u64::from(!self.accepted[lane].insert(seq));
                }
                if !self.happens(self.habits.lose_acknowledgement) {
                    self.later(now, UplinkEvent::Acknowledged { session, token });
                }
            }
        }
    }
}

struct World {
    uplink: Uplink,
    server: Server,
    now: Instant,
    session: u64,
    /// Sent on this session, per lane the highest.
    highest: Vec<u64>,
    cursors: Vec<u64>,
    rejected: BTreeSet<(usize, u64)>,
    /// Records that the log has lost, per lane [from, next).
    lost: Vec<(u64, u64)>,
    options: UplinkOptions,
    /// Boundaries that flow would have persisted, not yet durable.
    sealing: Vec<(LaneId, u64, Vec<SeqRange>)>,
    /// What is durable of them, by lane.
    sealed: Vec<Vec<SeqRange>>,
}

/// A new epoch begins in the middle.
fn epoch_of(seq: u64) -> Epoch {
    Epoch(if seq < RECORDS / 2 { 1 } else { 2 })
}

impl World {
    fn is_lost(&self, lane: usize, seq: u64) -> bool {
        (self.lost[lane].0..self.lost[lane].1).contains(&seq)
    }

    /// Every record below the cursor is accounted for.
    fn check_cursor(&self, lane: usize, next: u64) {
        for seq in self.cursors[lane]..next {
            assert!(
                self.server.accepted[lane].contains(&seq)
                    || self.rejected.contains(&(lane, seq))
                    || self.is_lost(lane, seq),
                "cursor of lane {lane} passed record {seq}, which is not upstream"
            );
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.uplink.poll_action(self.now) {
            match action {
                Action::Connect { session, endpoint } => {
                    assert!(session > self.session);
                    assert!(endpoint < self.options.endpoints);
                    self.session = session;
                    self.highest = vec![0; LANES];
                    self.server.connect(self.now, session);
                }
                Action::Disconnect { session, .. } => {
                    assert_eq!(session, self.session);
                    self.server.silent = true;
                }
                Action::Send { session, token, batch } => {
                    assert_eq!(session, self.session);
                    self.check_batch(&batch);
                    for record in &batch.records {
                        self.check_send((batch.lane.0, record.seq.0));
                    }
                    self.server.receive(self.now, session, token, &batch);
                }
                Action::Seal { lane, token, ranges } => {
                    assert!(self.options.sealed && ranges.is_sorted());
                    self.sealing.push((lane, token, ranges));
                }
                Action::Advance { lane, next } => {
                    assert!(next.0 > self.cursors[lane.0]);
                    self.check_cursor(lane.0, next.0);
                    self.cursors[lane.0] = next.0;
                }
                Action::Reject { lane, seq, .. } => {
                    let at = (lane.0, seq.0);
                    let server = &self.server;
                    assert!(server.unacceptable.contains(&at) || server.expelling.contains(&at));
                    assert!(self.rejected.insert(at), "rejected twice: {at:?}");
                }
            }
        }
    }

    fn check_batch(&self, batch: &Batch) {
        let options = &self.options;
        assert!((1..=options.batch_records).contains(&batch.records.len()));
        assert!(batch.records.iter().all(|record| epoch_of(record.seq.0) == batch.epoch));
        assert!(batch.records.is_sorted_by_key(|record| record.seq));
        assert!(batch.records.iter().all(|record| batch.range.contains(record.seq)));
        if options.sealed {
            assert!(self.sealed[batch.lane.0].contains(&batch.range), "not durable");
            // Whatever went wrong before: a record is always in the same batch.
            for other in &self.server.batches[batch.lane.0] {
                let same = *other == batch.range;
                let apart = other.last < batch.range.first || other.first > batch.range.last;
                assert!(same || apart, "{other:?} and {:?}", batch.range);
            }
        }
    }

    fn check_send(&mut self, (lane, seq): (usize, u64)) {
        assert!(seq >= self.cursors[lane] && seq < self.cursors[lane] + MAX_WINDOW as u64);
        let highest = self.highest[lane];
        if seq > highest {
            for between in highest.max(self.cursors[lane] - 1) + 1..seq {
                let held =
                    self.server.habits.tells && self.server.accepted[lane].contains(&between);
                let skipped =
                    held || self.is_lost(lane, between) || self.rejected.contains(&(lane, between));
                assert!(skipped, "lane {lane}: {seq} sent before {between}");
            }
            self.highest[lane] = seq;
        }
        let rest = if self.options.sealed { LANES * self.options.batch_records } else { 0 };
        assert!(self.uplink.status().in_flight <= self.options.window + rest);
    }

    fn feed(&mut self) {
        for _ in 0..10_000 {
            let Some(want) = self.uplink.wanted() else { return };
            let (lane, mut seq) = (want.lane.0, want.from.0);
            if self.is_lost(lane, seq) {
                self.uplink.skip(want.lane, Seq(self.lost[lane].1));
                continue;
            }
            if seq > RECORDS {
                self.uplink.exhausted(want.lane);
                continue;
            }
            for _ in 0..want.records {
                if seq > RECORDS || self.is_lost(lane, seq) {
                    break;
                }
                let record = OutboundRecord { seq: Seq(seq), ..Default::default() };
                if !self.uplink.offer(self.now, LaneId(lane), epoch_of(seq), record) {
                    break;
                }
                seq += 1;
            }
        }
        panic!("wants without end");
    }

    fn run(&mut self) {
        let start = self.now;
        let mut calm = false;
        while self.cursors.iter().any(|cursor| *cursor <= RECORDS) {
            self.act();
            self.feed();
            self.act();
            assert!(
                self.now - start < PATIENCE,
                "stuck at {:?}: {:?}",
                self.cursors,
                self.uplink.status()
            );
            if !calm && self.now - start > CHAOS {
                calm = true;
                let tells = self.server.habits.tells;
                self.server.habits = Habits { tells, ..Habits::good() };
            }
            // The disk is quick, and sometimes the session ends before it has answered.
            if self.server.chance.below(10) > 0 {
                // Of several, the rest comes later.
                let done = 1 + self.server.chance.below(1 + self.sealing.len() as u64) as usize;
                for (lane, token, ranges) in self.sealing.drain(..done.min(self.sealing.len())) {
                    self.sealed[lane.0] = ranges;
                    self.uplink.handle_sealed(lane, token);
                }
                self.act();
            }
            self.step();
        }
    }

    /// To the next answer or timeout, whichever is first.
    fn step(&mut self) {
        let answer = self.server.answers.first().copied();
        let wake = self.uplink.poll_timeout();
        match (answer, wake) {
            (Some((at, made)), wake) if wake.is_none_or(|wake| at <= wake) => {
                self.server.answers.remove(&(at, made));
                let event = self.server.events.remove(&made).unwrap();
                self.now = self.now.max(at);
                self.uplink.handle_event(self.now, event);
            }
            (_, Some(wake)) => {
                // Timers fire late, never early.
                self.now = self.now.max(wake) + Duration::from_micros(1);
            }
            (_, None) => {
                // Idle and connected: the log may have more.
                (0..LANES).for_each(|lane| self.uplink.wake(LaneId(lane)));
                self.now += Duration::from_millis(1);
            }
        }
    }
}

impl Habits {
    fn good() -> Habits {
        Habits {
            refuse_connection: 0,
            ignore_connection: 0,
            lose_acknowledgement: 0,
            quota: 0,
            hang_up: 0,
            fall_silent: 0,
            not_authorized: 0,
            busy: 0,
            max_delay_ms: 50,
            tells: false,
            takes_parts: false,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
fn some_instant() -> Instant {
    Instant::now()
}

fn habits() -> impl Strategy<Value = Habits> {
    let rare = || prop_oneof![2 => Just(0_u64), 1 => 0..30_u64];
    let chances = (0..600_u64, 0..100_u64, rare(), rare(), rare(), rare(), rare());
    (chances, 1..3_000_u64).prop_map(
        |((refuse, ignore, lose, hang_up, fall_silent, not_authorized, busy), max_delay_ms)| {
            Habits {
                refuse_connection: refuse,
                ignore_connection: ignore,
                lose_acknowledgement: lose,
                quota: 0,
                hang_up,
                fall_silent,
                not_authorized,
                busy,
                max_delay_ms,
                tells: false,
                takes_parts: false,
            }
        },
    )
}

fn world(
    options: UplinkOptions,
    seed: u64,
    habits: Habits,
    trouble: &Trouble,
    lost: &[(u64, u64)],
) -> World {
    let lanes = vec![LaneStart::from(Seq(1)); LANES];
    World {
        uplink: Uplink::new(options.clone(), lanes, seed),
        server: Server {
            habits,
            chance: SplitMix64(seed ^ 0x5EED),
            answers: BTreeSet::new(),
            events: Default::default(),
            made: 0,
            silent: false,
            unacceptable: trouble.0.difference(&trouble.1).copied().collect(),
            expelling: trouble.1.clone(),
            accepted: vec![BTreeSet::new(); LANES],
            repeated: 0,
            batches: vec![BTreeSet::new(); LANES],
        },
        now: some_instant(),
        session: 0,
        highest: vec![0; LANES],
        cursors: vec![1; LANES],
        rejected: BTreeSet::new(),
        lost: lost.iter().map(|(from, count)| (*from, from + count)).collect(),
        options,
        sealing: Vec::new(),
        sealed: vec![Vec::new(); LANES],
    }
}

/// Records refused for good, and records that the server hangs up for.
type Trouble = (BTreeSet<(usize, u64)>, BTreeSet<(usize, u64)>);

fn trouble() -> impl Strategy<Value = Trouble> {
    let some = |most| proptest::collection::btree_set((0..LANES, 1..=RECORDS), 0..most);
    (some(4), some(3))
}

fn lost() -> impl Strategy<Value = Vec<(u64, u64)>> {
    proptest::collection::vec((1..=RECORDS, 0..40_u64), LANES)
}

fn options() -> impl Strategy<Value = UplinkOptions> {
    let bytes = prop_oneof![Just(1_usize), Just(1_000), Just(1 << 20)];
    let batch = prop_oneof![Just(1_usize), 2..40_usize];
    let pace = proptest::option::of(20_u64..2_000);
    let age = prop_oneof![Just(0_u64), 1..300_u64];
    (1..60_usize, bytes, batch, bytes_of_batch(), age, 1..4_usize, pace).prop_map(
        |(window, window_bytes, batch, batch_bytes, age, endpoints, pace)| UplinkOptions {
            window,
            window_bytes,
            batch_records: batch.min(window),
            batch_bytes,
            batch_age: Duration::from_millis(age),
            endpoints,
            max_batches_per_second: pace,
            ..Default::default()
        },
    )
}

fn bytes_of_batch() -> impl Strategy<Value = usize> {
    prop_oneof![Just(500_usize), Just(64 * 1024)]
}

fn check_all_there(world: &World) {
    for lane in 0..LANES {
        for seq in 1..=RECORDS {
            let gone = world.rejected.contains(&(lane, seq)) || world.is_lost(lane, seq);
            assert!(gone || world.server.accepted[lane].contains(&seq), "{lane}/{seq}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn everything_arrives_or_is_accounted_for_and_the_cursor_never_passes_an_open_record(
        seed in any::<u64>(),
        options in options(),
        habits in habits(),
        quota in 0..200_u64,
        trouble in trouble(),
        lost in lost(),
    ) {
        let habits = Habits { quota, ..habits };
        let mut world = world(options, seed, habits, &trouble, &lost);
        world.run();
        check_all_there(&world);
    }

    #[test]
    fn a_server_that_says_what_it_holds_gets_no_record_twice(
        seed in any::<u64>(),
        options in options(),
        habits in habits(),
        lost in lost(),
    ) {
        // Losing an answer while the link goes on is not what ordered servers do: they hang up.
        let habits = Habits { tells: true, lose_acknowledgement: 0, ..habits };
        let mut world = world(options, seed, habits, &Default::default(), &lost);
        world.run();
        check_all_there(&world);
        assert_eq!(world.server.repeated, 0);
    }

    #[test]
    fn a_server_that_takes_parts_of_a_batch_gets_no_record_twice(
        seed in any::<u64>(),
        options in options(),
        quota in 0..200_u64,
        (refused, _) in trouble(),
        lost in lost(),
    ) {
        let habits = Habits { takes_parts: true, quota, ..Habits::good() };
        let mut world = world(options, seed, habits, &(refused, BTreeSet::new()), &lost);
        world.run();
        check_all_there(&world);
        assert_eq!(world.server.repeated, 0);
    }

    #[test]
    fn a_sealed_batch_keeps_its_boundaries_however_often_it_is_sent(
        seed in any::<u64>(),
        options in options(),
        habits in habits(),
    ) {
        let options = UplinkOptions { sealed: true, ..options };
        let no_loss = vec![(RECORDS + 1, 0); LANES];
        let mut world = world(options, seed, habits, &Default::default(), &no_loss);
        world.run();
        check_all_there(&world);
    }
}

#[test]
fn a_record_given_up_in_the_middle_of_a_batch_is_not_given_up_again_when_the_batch_is_refused() {
    let options = UplinkOptions {
        window: 50,
        window_bytes: 1_000,
        endpoints: 2,
        batch_records: 3,
        batch_bytes: 500,
        ..UplinkOptions::default()
    };
    let habits = Habits { lose_acknowledgement: 5, quota: 93, max_delay_ms: 833, ..Habits::good() };
    let unacceptable = [(0, 23), (1, 114), (1, 135)].into_iter().collect();
    let trouble = (unacceptable, [(1, 106)].into_iter().collect());
    let lost = [(1, 0), (1, 4), (119, 26)];
    // Found by the property above.
    let mut world = world(options, 2_270_366_287_647_980_091, habits, &trouble, &lost);
    world.run();
    check_all_there(&world);
}
