//! Both sides of the link against each other, over lines on which things go wrong.

mod bytes;
mod shared;
mod wire;

use std::collections::VecDeque;
use std::vec::Vec;

use tidegate_device_sim::random::Random;
use tidegate_device_sim::uart::{Faults, Line};

use crate::{Config, Event, Link, Micros, Role, SendError, Why};

type Device = Link<256, 4, 1280>;
type Gateway = Link<256, 8, 2048>;

/// One side with what it sends and gets.
struct Side<const WINDOW: usize, const MESSAGE: usize, const OUT: usize> {
    link: Link<256, WINDOW, MESSAGE, OUT>,
    line: Line,
    to_send: VecDeque<Vec<u8>>,
    taken: usize,
    /// Messages of the session, and how many sessions there were.
    sent: u32,
    sessions: u32,
    received: Vec<Vec<u8>>,
    ended: Vec<Why>,
}

impl<const WINDOW: usize, const MESSAGE: usize, const OUT: usize> Side<WINDOW, MESSAGE, OUT> {
    fn new(role: Role, seed: u64, faults: Faults) -> Self {
        Side {
            link: Link::new(Config::new(role, 7), seed),
            line: Line::new(115_200, faults, seed ^ 0xabcd),
            to_send: VecDeque::new(),
            taken: 0,
            sent: 0,
            sessions: 0,
            received: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Everything that can be done at this time.
    fn step(&mut self, now: u64, from: &mut Line, random: &mut Random) {
        let now_ = Micros(now);
        let portion = 1 + random.below(96);
        let bytes = from.receive(now, portion);
        self.link.handle_input(now_, &bytes);
        while let Some(event) = self.link.take_event() {
            match event {
                Event::Up => {
                    (self.sessions, self.sent, self.taken) = (self.sessions + 1, 0, 0);
                }
                Event::Down(why) => self.ended.push(why),
            }
        }
        while let Some(message) = self.link.receive() {
            assert_eq!(message.channel, 2);
            self.received.push(message.bytes.to_vec());
        }
        self.fill();
        let mut out = [0; Device::MAX_OUTPUT];
        while self.line.free_at() <= now {
            let length = self.link.poll_output(now_, &mut out);
            if length == 0 {
                break;
            }
            self.line.send(now, &out[..length]);
        }
    }

    /// Hands over messages, each with the session and its number in it in front.
    fn fill(&mut self) {
        while let Some(body) = self.to_send.front() {
            let mut message = [self.sessions, self.sent].map(u32::to_le_bytes).concat();
            message.extend(body);
            match self.link.send(2, &message[self.taken..]) {
                Ok(0) | Err(_) => return,
                Ok(taken) => self.taken += taken,
            }
            if self.taken < message.len() {
                return;
            }
            (self.taken, self.sent) = (0, self.sent + 1);
            self.to_send.pop_front();
        }
    }

    fn next(&self, now: u64) -> Option<u64> {
        let deadline = self.link.next_deadline().map(|at| at.0.max(self.line.free_at()));
        deadline.map(|at| at.max(now + 1))
    }
}

/// A device that keeps so many frames on their way out, and its gateway.
struct Pair<const OUT: usize = 4> {
    now: u64,
    device: Side<4, 1280, OUT>,
    gateway: Side<8, 2048, 8>,
    random: Random,
}

impl<const OUT: usize> Pair<OUT> {
    fn new(seed: u64, faults: Faults) -> Pair<OUT> {
        Pair {
            now: 0,
            device: Side::new(Role::Device, seed * 2 + 1, faults),
            gateway: Side::new(Role::Gateway, seed * 2 + 2, faults),
            random: Random::new(seed),
        }
    }

    /// Runs until then, from one thing that happens to the next.
    fn run(&mut self, until: u64) {
        while self.now < until {
            self.device.step(self.now, &mut self.gateway.line, &mut self.random);
            self.gateway.step(self.now, &mut self.device.line, &mut self.random);
            let arrivals = [&self.device.line, &self.gateway.line].map(Line::next_arrival);
            let deadlines = [self.device.next(self.now), self.gateway.next(self.now)];
            let next = arrivals.into_iter().chain(deadlines).flatten().min();
            self.now = next.unwrap_or(until).clamp(self.now + 1, until.max(self.now + 1));
        }
    }

    fn queue(&mut self, count: usize, most: usize) {
        for _ in 0..count {
            let size = self.random.below(most + 1);
            self.device.to_send.push_back(self.random.bytes(size.min(1_200)));
            let size = self.random.below(most + 1);
            self.gateway.to_send.push_back(self.random.bytes(size.min(1_200)));
        }
    }
}

/// Of each session the messages are those from the first on, each once.
fn check_order(received: &[Vec<u8>]) {
    let mut expected = (0, 0);
    for message in received {
        let number = |at: usize| u32::from_le_bytes(message[at..at + 4].try_into().unwrap());
        let (session, index) = (number(0), number(4));
        if session != expected.0 {
            assert!(session > expected.0, "session {session} after {}", expected.0);
            expected = (session, 0);
        }
        assert_eq!(index, expected.1, "in session {session}");
        expected.1 += 1;
    }
}

/// All messages of this session are there.
fn check_whole(received: &[Vec<u8>], session: u32, sent: u32) {
    let of_session = received.iter().filter(|message| message[..4] == session.to_le_bytes());
    assert_eq!(of_session.count(), sent as usize, "of session {session}");
}

#[test]
fn messages_of_any_size_go_through_both_ways_in_order() {
    let mut pair: Pair = Pair::new(1, Faults::default());
    pair.queue(200, 1_200);
    pair.run(60_000_000);
    for received in [&pair.device.received, &pair.gateway.received] {
        assert_eq!(received.len(), 200);
        check_order(received);
    }
    assert_eq!((pair.device.ended.len(), pair.gateway.ended.len()), (0, 0));
    let counters = pair.device.link.counters();
    assert_eq!((counters.resent, counters.strange), (0, 0));
}

/// Lost, changed, doubled, held up and made-up bytes, then a clean line.
#[test]
fn on_a_bad_line_each_session_keeps_its_order_and_a_clean_line_heals_it() {
    keeps_its_order_and_heals::<4>();
}

#[test]
fn with_one_frame_out_too_each_session_keeps_its_order_and_a_clean_line_heals_it() {
    keeps_its_order_and_heals::<1>();
}

fn keeps_its_order_and_heals<const OUT: usize>() {
    let mut sessions = 0;
    let (mut again, mut resent, mut strange) = (0, 0, 0);
    for seed in 0..60 {
        let rate = [50, 300, 1_000, 4_000][seed as usize % 4];
        let mut pair = Pair::<OUT>::new(seed, Faults::all(rate));
        pair.queue(40, 600);
        pair.run(40_000_000);
        again += pair.device.link.counters().again;
        resent += pair.gateway.link.counters().resent;
        strange += pair.device.link.counters().strange;
        sessions += pair.device.sessions;
        let clean = |line: &mut Line, seed| {
            let mut new = Line::new(115_200, Faults::default(), seed);
            core::mem::swap(line, &mut new);
        };
        clean(&mut pair.device.line, seed);
        clean(&mut pair.gateway.line, seed);
        pair.queue(10, 600);
        let now = pair.now;
        pair.run(now + 60_000_000);
        assert!(pair.device.to_send.is_empty() && pair.gateway.to_send.is_empty(), "seed {seed}");
        check_order(&pair.device.received);
        check_order(&pair.gateway.received);
        // A session that ended may have taken messages with it; the one that lives has lost none.
        check_whole(&pair.device.received, pair.gateway.sessions, pair.gateway.sent);
        check_whole(&pair.gateway.received, pair.device.sessions, pair.device.sent);
    }
    assert!(sessions > 60, "no session was lost: the lines are too good to show anything");
    assert!(again > 0, "no frame came twice");
    assert!(resent > 0 && strange > 0, "{resent} sent again, {strange} damaged");
}

#[test]
fn a_side_that_starts_again_is_answered_in_a_new_session_within_a_second() {
    let mut pair: Pair = Pair::new(3, Faults::default());
    pair.run(1_000_000);
    pair.gateway.link = Gateway::new(Config::new(Role::Gateway, 7), 99);
    // What the window holds goes with the old session.
    pair.queue(10, 300);
    pair.run(2_000_000);
    assert_eq!(pair.device.ended, [Why::Peer]);
    assert!(pair.gateway.received.len() >= 6, "{}", pair.gateway.received.len());
    check_whole(&pair.gateway.received, pair.device.sessions, pair.device.sent);
    pair.device.link = Device::new(Config::new(Role::Device, 7), 98);
    (pair.device.taken, pair.device.sessions) = (0, 10);
    pair.queue(5, 300);
    pair.run(3_000_000);
    assert_eq!(pair.gateway.ended, [Why::Peer]);
    check_order(&pair.gateway.received);
}

#[test]
fn silence_ends_a_session_after_15_s_and_a_plugged_in_line_begins_one_within_2_s() {
    let mut pair: Pair = Pair::new(4, Faults::default());
    pair.run(1_000_000);
    (pair.device.line.cut, pair.gateway.line.cut) = (true, true);
    pair.run(14_000_000);
    assert!(pair.device.link.is_up() && pair.gateway.link.is_up());
    pair.run(40_000_000);
    assert_eq!(pair.device.ended, [Why::Silence]);
    assert_eq!(pair.gateway.ended, [Why::Silence]);
    (pair.device.line.cut, pair.gateway.line.cut) = (false, false);
    pair.run(42_000_000);
    assert!(pair.device.link.is_up() && pair.gateway.link.is_up());
}

#[test]
fn three_time_outs_end_a_session() {
    let mut pair: Pair = Pair::new(5, Faults::default());
    pair.run(1_000_000);
    pair.device.line.cut = true;
    pair.queue(1, 30);
    pair.run(8_000_000);
    assert_eq!(pair.device.ended, [Why::Strikes]);
}

#[test]
fn what_may_be_lost_takes_the_place_of_a_frame_until_it_has_left() {
    let config = Config::new(Role::Device, 7);
    let mut device: Link<256, 4, 1280, 1> = Link::new(config, 1);
    let mut gateway = Gateway::new(Config { role: Role::Gateway, ..config }, 2);
    assert_eq!(device.send_loose(3, b"early"), Err(SendError::Down));
    let mut out = [0; 300];
    let mut carry = |now, device: &mut Link<256, 4, 1280, 1>, gateway: &mut Gateway| {
        for _ in 0..10 {
            let length = device.poll_output(now, &mut out);
            gateway.handle_input(now, &out[..length]);
            let length = gateway.poll_output(now, &mut out);
            device.handle_input(now, &out[..length]);
        }
    };
    carry(Micros(0), &mut device, &mut gateway);
    assert_eq!(device.send_loose(3, &[0; 246]), Err(SendError::NoRoom));
    assert_eq!(device.send(2, b"kept"), Ok(4));
    assert_eq!(device.send_loose(3, b"loose"), Err(SendError::NoRoom));
    carry(Micros(0), &mut device, &mut gateway);
    assert_eq!(gateway.receive().unwrap().bytes, b"kept");
    carry(Micros::from_millis(20), &mut device, &mut gateway);
    assert_eq!(device.send_loose(3, b"loose"), Ok(()));
    assert_eq!(device.send_loose(3, b"more"), Err(SendError::NoRoom));
    assert_eq!((device.send(2, b"kept"), device.send(2, b"")), (Ok(0), Err(SendError::NoRoom)));
    carry(Micros::from_millis(20), &mut device, &mut gateway);
    let message = gateway.receive().unwrap();
    assert_eq!((message.channel, message.bytes), (3, &b"loose"[..]));
    assert_eq!(device.send(2, b"kept"), Ok(4));
    carry(Micros::from_millis(20), &mut device, &mut gateway);
    assert_eq!(gateway.receive().unwrap().bytes, b"kept");
}

/// Whoever does not fetch messages is sent no more than it has room for, and nothing is lost.
#[test]
fn a_receiver_that_falls_behind_holds_the_sender_up() {
    let config = Config::new(Role::Device, 7);
    let mut device = Device::new(config, 1);
    let mut gateway = Gateway::new(Config { role: Role::Gateway, ..config }, 2);
    let mut out = [0; 300];
    let mut now = Micros(0);
    let mut carry = |now: Micros, device: &mut Device, gateway: &mut Gateway| {
        for _ in 0..40 {
            let length = device.poll_output(now, &mut out);
            gateway.handle_input(now, &out[..length]);
            let length = gateway.poll_output(now, &mut out);
            device.handle_input(now, &out[..length]);
        }
    };
    carry(now, &mut device, &mut gateway);
    let mut sent = 0u8;
    for _ in 0..200 {
        now = now.after(Micros::from_millis(40));
        if gateway.send(2, &[sent; 100]) == Ok(100) {
            sent += 1;
        }
        carry(now, &mut device, &mut gateway);
    }
    assert!((8..16).contains(&sent), "{sent} messages are under way: the windows and the message");
    let mut received = 0;
    for _ in 0..200 {
        now = now.after(Micros::from_millis(40));
        if let Some(message) = device.receive() {
            assert_eq!(message.bytes, [received; 100]);
            received += 1;
        }
        carry(now, &mut device, &mut gateway);
    }
    assert_eq!(received, sent);
}

/// Full frames one after the other, one way; what the other side says goes the other way.
#[test]
fn at_least_80_percent_of_the_line_is_payload_when_frames_are_full() {
    let mut pair: Pair = Pair::new(6, Faults::default());
    pair.run(1_000_000);
    let before = (pair.now, pair.gateway.received.len());
    for _ in 0..400 {
        pair.device.to_send.push_back(std::vec![0x55; 245 - 8]);
    }
    while pair.gateway.received.len() < 400 {
        let now = pair.now;
        pair.run(now + 1_000);
    }
    let seconds = (pair.now - before.0) as f64 / 1e6;
    let share = 400.0 * 245.0 * 10.0 / seconds / 115_200.0;
    assert!(share >= 0.8, "{share}");
}

#[test]
fn the_time_of_the_gateway_is_known_within_its_bound() {
    for seed in 0..20 {
        let mut pair: Pair = Pair::new(seed, Faults::all(200));
        pair.gateway.link.set_wall(1_700_000_000_000_000, true);
        pair.queue(20, 300);
        pair.run(30_000_000);
        let Some((time, quality)) = pair.device.link.clock().now(Micros(pair.now)) else {
            panic!("seed {seed}: no time");
        };
        let off = time.abs_diff(pair.now + 1_700_000_000_000_000);
        assert!(
            off <= quality.error.0 && quality.trusted,
            "seed {seed}: off by {off}, {quality:?}"
        );
        assert!(quality.error <= Micros::from_millis(60), "seed {seed}: {quality:?}");
    }
}
