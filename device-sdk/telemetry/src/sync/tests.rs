//! Answers that are late, lopsided, lost and doubled, in simulated time.

use super::*;
use crate::Time;

use proptest::prelude::*;
use std::vec::Vec;

const ASKS: &str = "tg/pump-7/time/req";
const HEARS: &str = "tg/pump-7/time/now";
/// The gateway's clock at the beginning.
const BEGINNING: u64 = 1_780_000_000_000_000;
const SECOND: u64 = 1_000_000;
const EVERY: Micros = Micros(600 * SECOND);

fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
    Message { topic, payload, retain: false, response_topic: None, correlation: None }
}

/// A client that is connected.
fn client<'b>(shelf: &'b mut [u8], input: &'b mut [u8]) -> Client<'b> {
    let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), shelf, input);
    client.connected(Micros(0));
    said(&mut client);
    let mut connack = &[0x20, 3, 0, 0, 0][..];
    while client.handle_input(Micros(0), &mut connack).is_some() {}
    assert!(client.is_up());
    client
}

/// What it has to say now.
fn said(client: &mut Client<'_>) -> Vec<u8> {
    let mut said = Vec::new();
    while let bytes @ [_, ..] = client.output(Micros(0)) {
        said.extend_from_slice(bytes);
        let count = bytes.len();
        client.sent(Micros(0), count);
    }
    said
}

/// The question of a PUBLISH, which has QoS 0.
fn question(publish: &[u8]) -> Option<Question> {
    let payload = publish.strip_prefix(&[0x30, 30])?.strip_prefix(&[0, 18])?;
    Question::read(payload.strip_prefix(ASKS.as_bytes())?.strip_prefix(&[0])?)
}

/// A device and its gateway, by the gateway's clock, which is right.
struct Pair {
    /// Microseconds since the beginning.
    now: u64,
    /// By so much, in millionths, the device's clock goes too fast.
    off: i64,
    /// The gateway's clock was set by so much.
    set: i64,
    trusted: bool,
    sync: TimeSync,
}

/// What becomes of a question: microseconds to the gateway, in it, and back.
#[derive(Clone, Copy, Debug)]
struct Way {
    out: u64,
    inside: u64,
    back: u64,
    lost: bool,
}

fn way(out: u64, back: u64) -> Way {
    Way { out, inside: 300, back, lost: false }
}

impl Pair {
    fn new(off: i64) -> Pair {
        Pair { now: 0, off, set: 0, trusted: true, sync: TimeSync::new(EVERY) }
    }

    /// The device's clock.
    fn device(&self) -> Micros {
        let drift = self.now as i64 * self.off / 1_000_000;
        Micros((7 * SECOND + self.now).saturating_add_signed(drift))
    }

    /// The gateway's clock.
    fn gateway(&self) -> u64 {
        (BEGINNING + self.now).saturating_add_signed(self.set)
    }

    /// Asks if it is time, and brings the answer; answers its bytes if something was asked.
    fn ask(&mut self, client: &mut Client<'_>, way: Way) -> Option<[u8; Answer::BYTES]> {
        let at = self.device();
        self.sync.ask(at, client, ASKS).unwrap();
        let said = said(client);
        if said.is_empty() {
            return None;
        }
        let question = question(&said).unwrap();
        assert_eq!(question.sent, at.0);
        self.now += way.out;
        let received = self.gateway();
        self.now += way.inside;
        let (answered, trusted) = (self.gateway(), self.trusted);
        self.now += way.back;
        let answer = Answer { sent: question.sent, received, answered, trusted }.write();
        if !way.lost {
            assert!(self.sync.take(self.device(), &message(HEARS, &answer)));
        }
        Some(answer)
    }

    /// How far the device's idea of the time is off, and how far it says that it may be; `None` without one.
    fn check(&self) -> Option<(u64, u64)> {
        let (time, quality) = self.sync.clock().now(self.device())?;
        let wrong = time.abs_diff(self.gateway());
        assert!(wrong <= quality.error.0 + ROUNDING, "off by {wrong}, and says {quality:?}");
        Some((wrong, quality.error.0))
    }
}

#[test]
fn it_asks_eight_times_in_the_first_minutes_and_then_as_often_as_it_was_told() {
    let (mut shelf, mut input) = ([0; 128], [0; 64]);
    let mut client = client(&mut shelf, &mut input);
    let mut pair = Pair::new(0);
    let mut asked = Vec::new();
    while pair.now < 3_600 * SECOND {
        let now = pair.now / SECOND;
        if pair.ask(&mut client, Way { inside: 0, ..way(0, 0) }).is_some() {
            asked.push(now);
        }
        let wait = pair.sync.next_deadline().since(pair.device());
        assert!(wait.0 > 0, "it asks once at a time");
        pair.now += SECOND / 2;
    }
    let begin = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511];
    assert_eq!(asked[..10], begin);
    assert!(asked[11..].windows(2).all(|two| two[1] - two[0] == 600), "{asked:?}");
    // As long as nobody is connected nothing is asked, and it stays due.
    client.disconnected();
    pair.now += 3_600 * SECOND;
    assert!(pair.ask(&mut client, way(0, 0)).is_none());
    assert!(pair.sync.next_deadline() < pair.device());
}

#[test]
fn a_lopsided_way_makes_the_error_greater_and_the_shortest_way_counts() {
    let (mut shelf, mut input) = ([0; 128], [0; 64]);
    let mut client = client(&mut shelf, &mut input);
    let mut pair = Pair::new(0);
    assert_eq!(pair.check(), None);
    // 200 ms there and 2 ms back: in the middle is 99 ms off, and it says 101.
    pair.ask(&mut client, way(200_000, 2_000)).unwrap();
    assert_eq!(pair.check(), Some((99_000, 101_000 + 12)));
    pair.now += 2 * SECOND;
    pair.ask(&mut client, way(1_000, 3_000)).unwrap();
    assert_eq!(pair.check(), Some((1_000, 2_000)));
    pair.now += 4 * SECOND;
    // Long ones do not make it worse.
    pair.ask(&mut client, way(900_000, 0)).unwrap();
    let (wrong, says) = pair.check().unwrap();
    assert!(wrong == 1_000 && says < 2_400, "{wrong} {says}");
    let time = Time::of(pair.sync.clock(), pair.device());
    assert!(time.millis().unwrap().abs_diff(pair.gateway() / 1_000) <= 2);
    assert_eq!(time.error_millis(), Some(3));
}

#[test]
fn what_comes_late_twice_or_was_not_asked_for_changes_nothing() {
    let (mut shelf, mut input) = ([0; 128], [0; 64]);
    let mut client = client(&mut shelf, &mut input);
    let mut pair = Pair::new(0);
    let nobody_asked = Answer { sent: 5, received: 9, answered: 9, trusted: true }.write();
    assert!(pair.sync.take(Micros(9), &message(HEARS, &nobody_asked)));
    let first = pair.ask(&mut client, Way { lost: true, ..way(500, 500) }).unwrap();
    pair.now += 2 * SECOND;
    let second = pair.ask(&mut client, Way { lost: true, ..way(500, 500) }).unwrap();
    // The answer to the first comes after the second question.
    assert!(pair.sync.take(pair.device(), &message(HEARS, &first)));
    assert_eq!(pair.check(), None);
    assert!(pair.sync.take(pair.device(), &message(HEARS, &second)));
    let known = *pair.sync.clock();
    pair.now += SECOND;
    assert!(pair.sync.take(pair.device(), &message(HEARS, &second)));
    let (at, clocks) = (pair.device(), [known, *pair.sync.clock()]);
    assert_eq!(clocks[0].now(at), clocks[1].now(at));
    // Times that cannot be: answered before it was received, or longer inside than away.
    pair.now += 20 * SECOND;
    for (received, answered) in [(BEGINNING + 9, BEGINNING), (0, u64::MAX)] {
        pair.ask(&mut client, Way { lost: true, ..way(500, 500) }).unwrap();
        let sent = pair.sync.asked.unwrap().0;
        let wrong = Answer { sent, received, answered, trusted: true }.write();
        assert!(pair.sync.take(pair.device(), &message(HEARS, &wrong)));
        pair.check().unwrap();
        pair.now += 60 * SECOND;
    }
}

#[test]
fn other_messages_are_left_alone() {
    let (mut shelf, mut input) = ([0; 128], [0; 64]);
    let mut client = client(&mut shelf, &mut input);
    let mut pair = Pair::new(0);
    let answer = pair.ask(&mut client, Way { lost: true, ..way(500, 500) }).unwrap();
    let (at, later) = (pair.device(), [&[2], &answer[1..]].concat());
    for (topic, payload) in [
        ("tg/pump-7/time/req", &answer[..]),
        ("x/pump-7/time/now", &answer),
        (HEARS, &answer[..25]),
        (HEARS, &later),
    ] {
        assert!(!pair.sync.take(at, &message(topic, payload)), "{topic}");
        assert_eq!(pair.check(), None);
    }
    assert!(pair.sync.take(at, &message(HEARS, &answer)));
    assert!(pair.check().is_some());
}

#[test]
fn a_gateway_that_sets_its_clock_is_followed_with_the_next_answer() {
    let (mut shelf, mut input) = ([0; 128], [0; 64]);
    let mut client = client(&mut shelf, &mut input);
    let mut pair = Pair::new(20);
    // It comes up in 1970, as on a board without a battery.
    (pair.trusted, pair.set) = (false, -((BEGINNING - 5 * SECOND) as i64));
    for _ in 0..8 {
        pair.ask(&mut client, way(500, 400)).unwrap();
        pair.check().unwrap();
        pair.now += 300 * SECOND;
    }
    let time = Time::of(pair.sync.clock(), pair.device());
    assert_eq!((time.millis(), time.error_millis()), (None, None), "it is not to be trusted");
    assert!(time.error().is_some());
    (pair.trusted, pair.set) = (true, 0);
    pair.now += 600 * SECOND;
    // By a longer way than all before.
    pair.ask(&mut client, way(30_000, 9_000)).unwrap();
    let (wrong, says) = pair.check().unwrap();
    assert!(wrong < 11_000 && says < 20_000, "{wrong} {says}");
    let time = Time::of(pair.sync.clock(), pair.device());
    assert!(time.millis().unwrap().abs_diff(pair.gateway() / 1_000) <= 11);
    // And back by two seconds, which is beyond what it may be off.
    pair.set = -2 * SECOND as i64;
    pair.now += 600 * SECOND;
    pair.ask(&mut client, way(30_000, 9_000)).unwrap();
    assert!(pair.check().unwrap().0 < 11_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 5_000 }))]

    /// Whatever the ways are, a time is never off by more than it says, and after a day with 30 % of the answers
    /// lost it is known as well as the shortest way allows.
    #[test]
    fn it_is_never_off_by_more_than_it_says(
        off in -60..=60_i64,
        ways in proptest::collection::vec((0..400_000_u64, 0..9_000_u64, 0..400_000_u64, 0..10), 40..160),
        pauses in proptest::collection::vec(1..900 * SECOND, 16),
    ) {
        let (mut shelf, mut input) = ([0; 128], [0; 64]);
        let mut client = client(&mut shelf, &mut input);
        let mut pair = Pair::new(off);
        let mut heard = false;
        for (at, (out, inside, back, luck)) in ways.iter().copied().enumerate() {
            let lost = luck < 3;
            let way = Way { out, inside, back, lost };
            let hears = pair.ask(&mut client, way).is_some() && !lost;
            heard |= hears;
            let known = pair.check();
            prop_assert_eq!(known.is_some(), heard);
            if let Some((_, says)) = known && hears {
                // The newest of the last eight is never worse than its own way, and the drift of one pause.
                prop_assert!(says <= (out + back) / 2 + 900 * SECOND / 16_384 + ROUNDING);
            }
            pair.now += pauses[at % pauses.len()];
            pair.check();
        }
    }

    /// Whatever comes is taken or left, without a panic.
    #[test]
    fn any_message_is_taken_or_left(
        messages in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..30), any::<[u64; 3]>(), any::<bool>(), 0..90_000_000_u64), 0..40),
    ) {
        let (mut shelf, mut input) = ([0; 128], [0; 64]);
        let mut client = client(&mut shelf, &mut input);
        let mut sync = TimeSync::new(EVERY);
        let mut now = 0;
        for (bytes, [sent, received, answered], trusted, wait) in messages {
            sync.ask(Micros(now), &mut client, ASKS).unwrap();
            said(&mut client);
            now += wait;
            sync.take(Micros(now), &message(HEARS, &bytes));
            let sent = sync.asked.map_or(sent, |asked| asked.0);
            let answer = Answer { sent, received, answered, trusted }.write();
            sync.take(Micros(now), &message(HEARS, &answer));
            let _ = Time::of(sync.clock(), Micros(now)).millis();
        }
    }
}
