//! One rule per test.

use std::time::{Duration, Instant};

use tidegate_stream::{Epoch, Seq};

use crate::{
    Action, LaneId, LaneStart, MAX_WINDOW, OutboundRecord, RefuseReason, Uplink, UplinkEvent,
    UplinkOptions, UplinkState,
};

const MS: Duration = Duration::from_millis(1);
/// What a record without any text in it counts.
const BYTES: usize = 160;

/// An uplink whose lanes always have records, and the actions not yet looked at.
struct Bench {
    uplink: Uplink,
    now: Instant,
    session: u64,
    /// (token, lane, seq) of this session, in order of sending.
    sent: Vec<(u64, usize, u64)>,
    advanced: Vec<u64>,
    rejected: Vec<(usize, u64, RefuseReason)>,
    disconnects: Vec<(u64, String)>,
}

impl Bench {
    fn new(options: UplinkOptions, lanes: usize) -> Bench {
        Bench {
            uplink: Uplink::new(options, vec![LaneStart::from(Seq(1)); lanes], 7),
            now: Instant::now_for_tests(),
            session: 0,
            sent: Vec::new(),
            advanced: vec![1; lanes],
            rejected: Vec::new(),
            disconnects: Vec::new(),
        }
    }

    fn connected(options: UplinkOptions, lanes: usize) -> Bench {
        let mut bench = Bench::new(options, lanes);
        bench.connect();
        bench
    }

    /// Waits until it asks for a connection, and lets it have one.
    fn connect(&mut self) {
        let before = self.session;
        self.drain();
        while self.session == before {
            self.now = self.uplink.poll_timeout().expect("it will try again");
            self.drain();
        }
        self.uplink.handle_connected(self.now, self.session, &[]);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(action) = self.uplink.poll_action(self.now) {
            match action {
                Action::Connect { session, .. } => {
                    assert_eq!(session, self.session + 1);
                    self.session = session;
                    self.sent.clear();
                }
                Action::Disconnect { session, why } => self.disconnects.push((session, why)),
                Action::Send { session, token, batch } => {
                    assert_eq!(session, self.session);
                    assert_eq!(batch.records.len(), 1, "every record by itself");
                    self.sent.push((token, batch.lane.0, batch.records[0].seq.0));
                }
                Action::Seal { .. } => panic!("nobody asked for sealed batches"),
                Action::Advance { lane, next } => {
                    assert!(next.0 > self.advanced[lane.0]);
                    self.advanced[lane.0] = next.0;
                }
                Action::Reject { lane, seq, reason } => {
                    self.rejected.push((lane.0, seq.0, reason));
                }
            }
        }
    }

    /// Gives it everything it wants.
    fn fill(&mut self) {
        while let Some(want) = self.uplink.wanted() {
            for seq in want.from.0..want.from.0 + want.records as u64 {
                if !self.offer(want.lane.0, seq) {
                    break;
                }
            }
        }
        self.drain();
    }

    fn offer(&mut self, lane: usize, seq: u64) -> bool {
        let record = OutboundRecord { seq: Seq(seq), ..Default::default() };
        assert_eq!(record.len_bytes(), BYTES);
        self.uplink.offer(self.now, LaneId(lane), Epoch(1), record)
    }

    fn acknowledge(&mut self, token: u64) {
        self.uplink.handle_acknowledged(self.now, self.session, token);
        self.drain();
    }

    fn refuse(&mut self, token: u64, reason: RefuseReason) {
        self.uplink.handle_refused(self.now, self.session, token, reason);
        self.drain();
    }

    fn seqs(&self, lane: usize) -> Vec<u64> {
        self.sent.iter().filter(|(_, at, _)| *at == lane).map(|(_, _, seq)| *seq).collect()
    }

    fn waiting(&self) -> Option<(Duration, String, u32)> {
        match self.uplink.status().state {
            UplinkState::Waiting { retry_at: Some(at), why, attempts } => {
                Some((at.saturating_duration_since(self.now), why, attempts))
            }
            _ => None,
        }
    }
}

/// The clock of these tests: any instant will do, only differences count.
trait TestClock {
    fn now_for_tests() -> Instant;
}

impl TestClock for Instant {
    #[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
    fn now_for_tests() -> Instant {
        Instant::now()
    }
}

fn window(window: usize) -> UplinkOptions {
    UplinkOptions { window, ..Default::default() }
}

#[test]
fn lanes_take_turns_so_that_a_backlog_does_not_hold_up_another_stream() {
    let mut bench = Bench::connected(window(100), 3);
    bench.fill();
    assert_eq!(bench.seqs(0), (1..=36).collect::<Vec<_>>());
    assert_eq!(bench.seqs(1), (1..=32).collect::<Vec<_>>());
    assert_eq!(bench.seqs(2), (1..=32).collect::<Vec<_>>());
    assert_eq!(bench.uplink.wanted(), None);
    assert_eq!(bench.uplink.status().in_flight, 100);
}

#[test]
fn cursor_moves_only_over_what_is_acknowledged_without_a_gap() {
    let mut bench = Bench::connected(window(10), 1);
    bench.fill();
    let tokens: Vec<u64> = bench.sent.iter().map(|sent| sent.0).collect();
    for at in [3, 1, 9, 2] {
        bench.acknowledge(tokens[at]);
        assert_eq!(bench.advanced, [1]);
    }
    bench.acknowledge(tokens[0]);
    assert_eq!(bench.advanced, [5]);
    tokens[4..9].iter().for_each(|token| bench.acknowledge(*token));
    assert_eq!(bench.advanced, [11]);
}

#[test]
fn acknowledged_records_behind_a_gap_still_count_against_the_lane_not_against_others() {
    let mut bench = Bench::connected(window(10), 2);
    bench.uplink.exhausted(LaneId(1));
    bench.fill();
    let tokens: Vec<u64> = bench.sent.iter().map(|sent| sent.0).collect();
    tokens[1..].iter().for_each(|token| bench.acknowledge(*token));
    bench.fill();
    assert_eq!(bench.seqs(0), (1..=10).collect::<Vec<_>>());
    bench.uplink.wake(LaneId(1));
    bench.fill();
    assert_eq!(bench.seqs(1), (1..=9).collect::<Vec<_>>());
}

#[test]
fn silent_link_is_left_after_the_acknowledgement_timeout_and_all_is_sent_again_in_order() {
    let mut bench = Bench::connected(window(10), 1);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.disconnects, [], "an idle link is not a dead one");
    bench.fill();
    bench.pass(9 * 1000 * MS);
    bench.acknowledge(bench.sent[0].0);
    bench.pass(9_999 * MS);
    assert_eq!(bench.disconnects, []);
    let deadline = bench.uplink.poll_timeout().unwrap();
    assert_eq!(deadline - bench.now, MS);
    bench.pass(MS);
    assert_eq!(bench.disconnects.len(), 1);
    assert!(bench.disconnects[0].1.contains("nothing acknowledged for 10s"));
    bench.connect();
    bench.fill();
    assert_eq!(bench.seqs(0), (2..=11).collect::<Vec<_>>());
}

#[test]
fn message_that_stays_unanswered_among_answered_ones_ends_the_session() {
    let mut bench = Bench::connected(window(10), 2);
    while bench.disconnects.is_empty() {
        bench.fill();
        for (token, lane, seq) in std::mem::take(&mut bench.sent) {
            if (lane, seq) != (0, 1) {
                bench.acknowledge(token);
            }
        }
        bench.pass(1000 * MS);
    }
    assert!(bench.disconnects[0].1.contains("unanswered for 60s"), "{:?}", bench.disconnects);
    assert_eq!(bench.advanced[0], 1);
    assert!(bench.advanced[1] > 100);
}

#[test]
fn connection_that_does_not_come_about_is_given_up() {
    let mut bench = Bench::new(UplinkOptions::default(), 1);
    bench.drain();
    assert_eq!(bench.session, 1);
    bench.pass(10_000 * MS);
    assert_eq!(bench.disconnects, [(1, "no connection within 10s".to_owned())]);
    bench.uplink.handle_connected(bench.now, 1, &[]);
    assert_eq!(bench.uplink.wanted(), None, "too late: that session is over");
}

#[test]
fn delays_between_failed_connections_grow_to_the_maximum() {
    let mut bench = Bench::new(UplinkOptions::default(), 1);
    let mut longest = Duration::ZERO;
    for failure in 1..=200 {
        let session = bench.session;
        while bench.session == session {
            bench.now = bench.uplink.poll_timeout().unwrap_or(bench.now);
            bench.drain();
        }
        bench.uplink.handle_disconnected(bench.now, bench.session, "refused".to_owned());
        let (wait, why, attempts) = bench.waiting().unwrap();
        assert_eq!((why.as_str(), attempts), ("refused", failure));
        assert!(wait <= Duration::from_secs(30));
        longest = longest.max(wait);
    }
    assert!(longest > Duration::from_secs(20), "{longest:?}");
}

#[test]
fn events_of_an_earlier_session_change_nothing() {
    let mut bench = Bench::connected(window(5), 1);
    bench.fill();
    let (old, token) = (bench.session, bench.sent[0].0);
    bench.uplink.handle_disconnected(bench.now, old, "cut".to_owned());
    bench.connect();
    bench.fill();
    let before = bench.uplink.status();
    for event in [
        UplinkEvent::Acknowledged { session: old, token },
        UplinkEvent::Refused { session: old, token, reason: RefuseReason::NotAuthorized },
        UplinkEvent::Disconnected { session: old, why: "late".to_owned() },
        UplinkEvent::Connected { session: old, held: Vec::new() },
        UplinkEvent::Acknowledged { session: bench.session, token },
        UplinkEvent::Acknowledged { session: bench.session, token: 9_999 },
        UplinkEvent::Connected { session: bench.session, held: Vec::new() },
        UplinkEvent::Connected { session: bench.session + 1, held: Vec::new() },
    ] {
        bench.uplink.handle_event(bench.now, event);
    }
    bench.drain();
    assert_eq!(bench.uplink.status(), before);
    assert_eq!(bench.advanced, [1]);
}

#[test]
fn sends_not_yet_polled_die_with_their_session() {
    let mut bench = Bench::connected(window(5), 1);
    assert!(bench.offer(0, 1));
    bench.uplink.handle_disconnected(bench.now, bench.session, "cut".to_owned());
    bench.connect();
    assert_eq!(bench.sent, []);
    assert!(!bench.offer(0, 2), "record 1 comes first");
    assert!(bench.offer(0, 1));
}

#[test]
fn quota_pauses_the_uplink_and_only_the_refused_records_are_sent_again() {
    let mut bench = Bench::connected(window(6), 1);
    bench.fill();
    let tokens: Vec<u64> = bench.sent.iter().map(|sent| sent.0).collect();
    for at in [0, 1, 3] {
        bench.acknowledge(tokens[at]);
    }
    for at in [2, 4] {
        bench.refuse(tokens[at], RefuseReason::QuotaExceeded);
    }
    assert_eq!(bench.uplink.wanted(), None);
    let sentence = bench.uplink.status().state.sentence(bench.now);
    assert!(sentence.contains("record 3 refused: the server's quota is exceeded"), "{sentence}");
    bench.sent.clear();
    bench.now = bench.uplink.poll_timeout().unwrap();
    bench.drain();
    bench.fill();
    assert_eq!(bench.seqs(0)[..2], [3, 5]);
    assert_eq!(bench.advanced, [3]);
    assert_eq!(bench.rejected, []);
    let again: Vec<u64> = bench.sent.iter().take(2).map(|sent| sent.0).collect();
    again.iter().for_each(|token| bench.acknowledge(*token));
    bench.acknowledge(tokens[5]);
    assert_eq!(bench.advanced, [7]);
}

#[test]
fn record_that_the_server_never_takes_is_reported_and_passed() {
    let mut bench = Bench::connected(window(4), 1);
    let reason = RefuseReason::PacketTooLarge { bytes: Some(300_000), max: Some(262_144) };
    let mut refusals = 0;
    while bench.rejected.is_empty() {
        bench.fill();
        let Some(at) = bench.sent.iter().position(|sent| sent.2 == 2) else {
            bench.now = bench.uplink.poll_timeout().unwrap();
            bench.drain();
            continue;
        };
        for (token, _, seq) in std::mem::take(&mut bench.sent) {
            if seq == 2 {
                bench.refuse(token, reason.clone());
                refusals += 1;
            } else {
                bench.acknowledge(token);
            }
        }
        assert!(at < 4);
    }
    assert_eq!(refusals, 3);
    assert_eq!(bench.rejected, [(0, 2, reason)]);
    assert_eq!(bench.advanced, [6], "at most the window beyond the refused record");
    assert_eq!(bench.disconnects, []);
    assert_eq!(bench.uplink.status().rejected, 1);
}

#[test]
fn objections_are_remembered_across_sessions() {
    let mut bench = Bench::connected(window(1), 1);
    for _ in 0..3 {
        bench.fill();
        let token = bench.sent[0].0;
        bench.refuse(token, RefuseReason::PayloadFormatInvalid);
        bench.uplink.handle_disconnected(bench.now, bench.session, "cut".to_owned());
        bench.connect();
    }
    assert_eq!(bench.rejected, [(0, 1, RefuseReason::PayloadFormatInvalid)]);
    assert_eq!(bench.advanced, [2]);
}

#[test]
fn a_topic_that_the_server_does_not_accept_ends_the_session_and_loses_no_record() {
    let mut bench = Bench::connected(window(1), 1);
    for _ in 0..5 {
        bench.fill();
        let token = bench.sent[0].0;
        bench.refuse(token, RefuseReason::TopicInvalid);
        assert_eq!(bench.disconnects.len(), 1);
        bench.disconnects.clear();
        bench.uplink.handle_disconnected(bench.now, bench.session, "asked to".to_owned());
        bench.connect();
    }
    assert_eq!(bench.rejected, []);
    assert!(bench.advanced.iter().all(|next| *next == 1), "the record is still there");
}

#[test]
fn account_without_rights_leaves_and_waits_longer_each_time_although_other_streams_succeed() {
    let mut bench = Bench::connected(window(20), 2);
    let mut longest = Duration::ZERO;
    for attempt in 1..=20 {
        bench.fill();
        let mut sent = std::mem::take(&mut bench.sent);
        sent.sort_by_key(|sent| std::cmp::Reverse(sent.1));
        for (token, lane, _) in sent {
            if lane == 1 {
                bench.acknowledge(token);
            } else {
                bench.refuse(token, RefuseReason::NotAuthorized);
                break;
            }
        }
        assert_eq!(bench.disconnects.len(), attempt);
        let (wait, why, _) = bench.waiting().unwrap();
        assert!(why.contains("does not authorise"), "{why}");
        longest = longest.max(wait);
        // The next turn is the lane's that may not publish, else its records would not be sent.
        bench.connect();
        bench.uplink.exhausted(LaneId(1));
        assert!(bench.offer(0, 1));
        bench.drain();
        bench.uplink.wake(LaneId(1));
    }
    assert!(bench.advanced[1] > 1, "{:?}", bench.advanced);
    assert!(longest > Duration::from_secs(5), "{longest:?}");
    let token = bench.sent[0].0;
    bench.acknowledge(token);
    bench.uplink.handle_disconnected(bench.now, bench.session, "cut".to_owned());
    assert!(bench.waiting().unwrap().0 <= 200 * MS, "rights granted: no long wait any more");
}

#[test]
fn expulsion_narrows_the_window_until_the_culprit_is_found_and_given_up() {
    let mut bench = Bench::connected(window(10), 1);
    let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
    let mut sessions = 0;
    while bench.rejected.is_empty() {
        sessions += 1;
        assert!(sessions < 10);
        'session: loop {
            bench.fill();
            for (token, _, seq) in std::mem::take(&mut bench.sent) {
                if seq == 5 {
                    let (session, why) = (bench.session, "DISCONNECT 0x95".to_owned());
                    bench.uplink.handle_expelled(bench.now, session, reason.clone(), why);
                    break 'session;
                }
                bench.acknowledge(token);
            }
        }
        bench.connect();
    }
    assert_eq!(bench.rejected, [(0, 5, reason)]);
    assert_eq!(bench.advanced, [6]);
    assert_eq!(sessions, 4, "one with a wide window, three with the culprit alone");
    for _ in 0..20 {
        bench.fill();
        std::mem::take(&mut bench.sent).iter().for_each(|sent| bench.acknowledge(sent.0));
    }
    assert!(!bench.uplink.status().probing);
    bench.fill();
    assert_eq!(bench.uplink.status().in_flight, 10);
}

#[test]
fn sessions_without_any_acknowledgement_narrow_the_window_until_one_comes() {
    let mut bench = Bench::connected(window(10), 1);
    for _ in 0..2 {
        bench.fill();
        assert_eq!(bench.sent.len(), 10);
        bench.uplink.handle_disconnected(bench.now, bench.session, "closed".to_owned());
        bench.connect();
    }
    bench.fill();
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.uplink.status().probing);
    bench.acknowledge(bench.sent[0].0);
    bench.fill();
    assert_eq!(bench.uplink.status().in_flight, 10);
}

#[test]
fn nothing_is_sent_a_thousand_or_more_above_the_cursor() {
    let mut bench = Bench::connected(window(MAX_WINDOW), 1);
    assert!(bench.offer(0, 1));
    bench.uplink.skip(LaneId(0), Seq(1_000_000));
    assert_eq!(bench.uplink.wanted(), None);
    bench.drain();
    bench.acknowledge(bench.sent[0].0);
    assert_eq!(bench.advanced, [1_000_000]);
    bench.fill();
    assert_eq!(bench.seqs(0).last(), Some(&1_000_999));
}

#[test]
fn records_that_are_gone_are_skipped_and_those_before_them_are_not() {
    let mut bench = Bench::connected(window(6), 1);
    bench.fill();
    let tokens: Vec<u64> = bench.sent.iter().map(|sent| sent.0).collect();
    [1, 2].iter().for_each(|at| bench.acknowledge(tokens[*at]));
    bench.refuse(tokens[0], RefuseReason::PayloadFormatInvalid);
    bench.uplink.skip(LaneId(0), Seq(50));
    bench.drain();
    assert_eq!(bench.advanced, [1], "7 to 49 are gone, 1 is held back and may be there");

    bench.now = bench.uplink.poll_timeout().unwrap();
    bench.drain();
    assert_eq!(bench.uplink.wanted().unwrap().from, Seq(1));
    bench.uplink.skip(LaneId(0), Seq(4));
    bench.drain();
    assert_eq!(bench.advanced, [4], "1 is gone too; 4 was sent and is waited for");
    tokens[3..].iter().for_each(|token| bench.acknowledge(*token));
    assert_eq!(bench.advanced, [50]);
}

#[test]
fn bytes_in_flight_exceed_their_window_by_at_most_one_message() {
    let options = UplinkOptions { window_bytes: 400, ..window(100) };
    let mut bench = Bench::connected(options, 1);
    assert_eq!(bench.uplink.wanted().unwrap().bytes, 400);
    bench.fill();
    assert_eq!(bench.sent.len(), 3);
    assert_eq!(bench.uplink.status().in_flight_bytes, 480);
    assert!(!bench.offer(0, 4));

    let options = UplinkOptions { window_bytes: 10, ..window(100) };
    let mut bench = Bench::connected(options, 1);
    bench.fill();
    assert_eq!(bench.sent.len(), 1, "a message larger than the window still goes");
}

#[test]
fn lane_without_records_is_left_alone_until_woken() {
    let mut bench = Bench::connected(window(4), 2);
    bench.uplink.exhausted(LaneId(0));
    assert_eq!(bench.uplink.wanted().unwrap().lane, LaneId(1));
    bench.uplink.exhausted(LaneId(1));
    assert_eq!(bench.uplink.wanted(), None);
    bench.uplink.wake(LaneId(0));
    assert_eq!(bench.uplink.wanted().unwrap().lane, LaneId(0));
    assert!(!bench.offer(0, 3), "not the record that is next");
    assert!(!bench.offer(7, 1), "no such lane");
}

#[test]
fn shut_down_closes_the_connection_and_opens_none_again() {
    let mut bench = Bench::connected(window(4), 1);
    bench.fill();
    bench.uplink.shut_down(bench.now);
    bench.drain();
    assert_eq!(bench.disconnects, [(1, "shutting down".to_owned())]);
    assert_eq!(bench.uplink.poll_timeout(), None);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(bench.session, 1);
    assert_eq!(bench.uplink.status().state, UplinkState::Stopped);
}
