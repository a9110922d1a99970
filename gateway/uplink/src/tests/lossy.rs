//! Whole histories against a server that loses, delays, reorders, refuses and hangs up by seed,
//! and comes to its senses in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tidegate_stream::Seq;

use crate::backoff::SplitMix64;
use crate::{
    Action, LaneId, MAX_WINDOW, OutboundMessage, RefuseReason, Uplink, UplinkEvent, UplinkOptions,
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
    max_delay_ms: u64,
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
}

impl Server {
    fn happens(&mut self, per_mille: u64) -> bool {
        self.chance.below(1_000) < per_mille
    }

    fn later(&mut self, now: Instant, event: UplinkEvent) {
        let delay = Duration::from_micros(self.chance.below(self.habits.max_delay_ms * 1_000) + 1);
        self.made += 1;
        self.answers.insert((now + delay, self.made));
        self.events.insert(self.made, event);
    }

    fn connect(&mut self, now: Instant, session: u64) {
        self.silent = false;
        if self.happens(self.habits.ignore_connection) {
            return;
        }
        let event = if self.happens(self.habits.refuse_connection) {
            UplinkEvent::Disconnected { session, why: "connection refused".to_owned() }
        } else {
            UplinkEvent::Connected { session }
        };
        self.later(now, event);
    }

    fn receive(&mut self, now: Instant, session: u64, token: u64, at: (usize, u64)) {
        if self.silent {
            return;
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
        if self.expelling.contains(&at) {
            self.silent = true;
            let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
            let why = "packet too large".to_owned();
            return self.later(now, UplinkEvent::Expelled { session, reason, why });
        }
        let refusal = if self.unacceptable.contains(&at) {
            Some(RefuseReason::PayloadFormatInvalid)
        } else if self.happens(self.habits.quota) {
            Some(RefuseReason::QuotaExceeded)
        } else if self.happens(self.habits.not_authorized) {
            Some(RefuseReason::NotAuthorized)
        } else {
            None
        };
        match refusal {
            Some(reason) => self.later(now, UplinkEvent::Refused { session, token, reason }),
            None => {
                self.accepted[at.0].insert(at.1);
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
    window: usize,
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
                Action::Connect { session } => {
                    assert!(session > self.session);
                    self.session = session;
                    self.highest = vec![0; LANES];
                    self.server.connect(self.now, session);
                }
                Action::Disconnect { session, .. } => {
                    assert_eq!(session, self.session);
                    self.server.silent = true;
                }
                Action::Send { session, token, message } => {
                    assert_eq!(session, self.session);
                    let (lane, seq) = message.topic.split_once('/').unwrap();
                    let at = (lane.parse().unwrap(), seq.parse().unwrap());
                    self.check_send(at);
                    self.server.receive(self.now, session, token, at);
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

    fn check_send(&mut self, (lane, seq): (usize, u64)) {
        assert!(seq >= self.cursors[lane] && seq < self.cursors[lane] + MAX_WINDOW as u64);
        let highest = self.highest[lane];
        if seq > highest {
            for between in highest.max(self.cursors[lane] - 1) + 1..seq {
                let skipped =
                    self.is_lost(lane, between) || self.rejected.contains(&(lane, between));
                assert!(skipped, "lane {lane}: {seq} sent before {between}");
            }
            self.highest[lane] = seq;
        }
        assert!(self.uplink.status().in_flight <= self.window);
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
                let message =
                    OutboundMessage { topic: format!("{lane}/{seq}"), ..Default::default() };
                if !self.uplink.offer(self.now, LaneId(lane), Seq(seq), 100, message) {
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
                self.server.habits = Habits::good();
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
            max_delay_ms: 50,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
fn some_instant() -> Instant {
    Instant::now()
}

fn habits() -> impl Strategy<Value = Habits> {
    let rare = || prop_oneof![2 => Just(0_u64), 1 => 0..30_u64];
    (0..600_u64, 0..100_u64, rare(), 0..200_u64, rare(), rare(), rare(), 1..3_000_u64).prop_map(
        |(refuse, ignore, lose, quota, hang_up, fall_silent, not_authorized, max_delay_ms)| {
            Habits {
                refuse_connection: refuse,
                ignore_connection: ignore,
                lose_acknowledgement: lose,
                quota,
                hang_up,
                fall_silent,
                not_authorized,
                max_delay_ms,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn everything_arrives_or_is_accounted_for_and_the_cursor_never_passes_an_open_record(
        seed in any::<u64>(),
        window in 1..60_usize,
        window_bytes in prop_oneof![Just(1_usize), Just(1_000), Just(1 << 20)],
        habits in habits(),
        unacceptable in proptest::collection::btree_set((0..LANES, 1..=RECORDS), 0..4),
        expelling in proptest::collection::btree_set((0..LANES, 1..=RECORDS), 0..3),
        lost in proptest::collection::vec((1..=RECORDS, 0..40_u64), LANES),
    ) {
        let options = UplinkOptions { window, window_bytes, ..Default::default() };
        let mut world = World {
            uplink: Uplink::new(options, vec![Seq(1); LANES], seed),
            server: Server {
                habits,
                chance: SplitMix64(seed ^ 0x5EED),
                answers: BTreeSet::new(),
                events: Default::default(),
                made: 0,
                silent: false,
                unacceptable: unacceptable.difference(&expelling).copied().collect(),
                expelling,
                accepted: vec![BTreeSet::new(); LANES],
            },
            now: some_instant(),
            session: 0,
            highest: vec![0; LANES],
            cursors: vec![1; LANES],
            rejected: BTreeSet::new(),
            lost: lost.iter().map(|(from, count)| (*from, from + count)).collect(),
            window,
        };
        world.run();
        for lane in 0..LANES {
            for seq in 1..=RECORDS {
                let gone = world.rejected.contains(&(lane, seq)) || world.is_lost(lane, seq);
                prop_assert!(gone || world.server.accepted[lane].contains(&seq));
            }
        }
    }
}
