//! `kill -9` of the real process while a publisher of QoS 2 and one of QoS 1 send to sessions that
//! are kept, whose clients come and go. Judged by the ids in the payloads.

mod line;
mod publisher;
mod subscriber;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_peer::Version;
use tidegate_peer::decode::Packet;
use tidegate_peer::encode::{connect, subscribe};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version as RigVersion;
use tidegate_rig::publisher::{Publisher as Plain, parse_message_id};
use tidegate_rig::sensors::Random;

use self::line::Line;
use self::publisher::{Progress, Publisher, is_retained};
use self::subscriber::{Inbox, Subscriber};
use crate::kill::seed;
use crate::setup::{PATIENCE, Readings, beside_others, explain, gateway, publisher as plain, wait};

const KILLS: u64 = 20;
/// Messages of each of the two publishers.
const MESSAGES: u64 = 2_500;
/// Pause between two looks at what is acknowledged, short for kills at any point.
const LOOK: Duration = Duration::from_micros(200);
/// Names of the publishers: of QoS 2, and of QoS 1.
const TWICE: &str = "q2";
const ONCE: &str = "q1";

const CONFIG: &str = r#"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
"#;

#[test]
fn kept_sessions_get_every_message_and_those_of_qos_2_once_over_twenty_kills() {
    let _machine = beside_others();
    let seed = seed();
    println!("TIDEGATE_SEED={seed} repeats the counts of acknowledgements before each kill");
    let mut random = Random::new(seed);
    let mut gateway = gateway(CONFIG);
    let work = Arc::new(AtomicU64::new(0));
    let kinds = [("s2", (Version::V5, 2)), ("s1", (Version::V3_1_1, 1))];
    let subscribers = kinds.map(|(name, kind)| {
        Subscriber::start(gateway.mqtt(), name, kind, work.clone(), random.bits())
    });
    wait(&gateway, "both are subscribed", || subscribers.iter().all(Subscriber::is_subscribed));
    let twice = Publisher::start(gateway.mqtt(), TWICE, MESSAGES);
    let source = Readings::new(ONCE, MESSAGES);
    let once = plain(gateway.mqtt(), ONCE, RigVersion::V311, None, source);
    for kill in 0..KILLS {
        // At most 20 x 180 of 5,000: the last kill still meets publishers at work.
        let after = count(&twice, &once) + random.integer(20, 180);
        let deadline = Instant::now() + PATIENCE;
        while count(&twice, &once) < after {
            work.store(count(&twice, &once), Ordering::Release);
            assert!(Instant::now() < deadline, "before kill {kill}: {}", explain(&gateway));
            std::thread::sleep(LOOK);
        }
        gateway.kill().unwrap();
        let count = count(&twice, &once);
        assert!(count < 2 * MESSAGES, "kill {kill} came after the last acknowledgement");
        gateway.start().unwrap();
        check_retained(&gateway, &twice.progress);
    }
    wait(&gateway, "all is acknowledged", || {
        work.store(count(&twice, &once), Ordering::Release);
        twice.is_finished() && once.is_finished()
    });
    let progress = twice.progress.clone();
    twice.finish();
    let report = once.finish(Instant::now()).unwrap();
    assert_eq!(report.acknowledged.len() as u64, MESSAGES, "{:?}", report.last_error);
    check_retained(&gateway, &progress);
    let complete =
        |one: &Subscriber| one.inbox.lock().unwrap().distinct.len() as u64 == 2 * MESSAGES;
    wait(&gateway, "both have all messages", || subscribers.iter().all(complete));
    for (subscriber, (name, _)) in subscribers.into_iter().zip(kinds) {
        judge(name, &subscriber.finish(), report.progress.resent);
    }
    let again = progress.again.load(Ordering::Relaxed);
    println!(
        "{again} PUBLISHes and PUBRELs of QoS 2 sent again, {} of QoS 1",
        report.progress.resent
    );
}

/// What both publishers have brought through.
fn count(twice: &Publisher, once: &Plain) -> u64 {
    twice.progress.completed.load(Ordering::Acquire) + once.progress().acknowledged
}

/// The last retained message that was confirmed, or a later one.
fn check_retained(gateway: &Gateway, progress: &Progress) {
    let received = progress.received.load(Ordering::Acquire);
    let hello = connect(Version::V5, "reader");
    let (mut line, _, mut packets) = Line::open(gateway.mqtt(), &hello).unwrap();
    line.send(&subscribe(Version::V5, 1, &[("sensors/+/state", 0)])).unwrap();
    let mut found = None;
    let mut answered = false;
    // They come behind SUBACK without a wait, as the reader's session is not kept.
    wait(gateway, "the retained message comes", || {
        packets.extend(line.receive().unwrap());
        for packet in packets.drain(..) {
            match packet {
                Packet::Suback { .. } => answered = true,
                Packet::Publish(message) if message.retain => {
                    let text = String::from_utf8(message.payload).unwrap();
                    let (name, number) = parse_message_id(&text).unwrap();
                    assert_eq!(name, TWICE);
                    found.get_or_insert(number);
                }
                // What is published meanwhile.
                _ => {}
            }
        }
        answered && (found.is_some() || received == 0)
    });
    let sent = progress.sent.load(Ordering::Acquire);
    if let Some(number) = found {
        let last = (0..received).rev().find(|number| is_retained(*number)).unwrap_or(0);
        assert!((last..sent).contains(&number), "{number} is retained, not {last} to {sent}");
    }
}

/// Everything is there, and each message of the QoS 2 publisher is one; in order.
fn judge(name: &str, inbox: &Inbox, resent: u64) {
    for publisher in [TWICE, ONCE] {
        let got = inbox.got.values().filter(|(from, _)| from == publisher);
        let numbers: Vec<u64> = got.map(|(_, number)| *number).collect();
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> = numbers.iter().copied().filter(|n| seen.insert(*n)).collect();
        let all: Vec<u64> = (0..MESSAGES).collect();
        assert_eq!(firsts, all, "{name}: the messages of {publisher}, in the order of the spool");
        let more = numbers.len() as u64 - MESSAGES;
        let most = if publisher == TWICE { 0 } else { resent };
        assert!(more <= most, "{name}: {more} messages of {publisher} too many, {most} may be");
    }
    println!("{name}: {} connections, {} PUBLISHes again", inbox.connections, inbox.again);
    assert!(inbox.connections > KILLS, "{name} has hardly come and gone");
}
