//! The time: who is answered, by which clock, and what a flood costs.

use tidegate_wire::time::{Answer, Question};

use super::*;

/// With QoS 0, as bytes.
fn asks(bench: &mut Bench, conn: ConnId, topic: &str, payload: &[u8]) {
    let body = [&[0, topic.len() as u8][..], topic.as_bytes(), payload].concat();
    bench.bytes(conn, 0x30, &body);
}

/// A client that listens to answers for everybody; 3.1.1, as properties would be in the way.
fn client(bench: &mut Bench, conn: u64, name: &str) -> ConnId {
    let conn = ConnId(conn);
    bench.gateway.handle_open(bench.now, conn, "test".to_owned());
    let body = [&[0, 4][..], b"MQTT", &[4, 2, 0, 0, 0, name.len() as u8], name.as_bytes()];
    bench.bytes(conn, 0x10, &body.concat());
    bench.bytes(conn, 0x82, &[&[0, 1, 0, 13][..], b"tg/+/time/now", &[1]].concat());
    conn
}

/// What a client has heard: topics and answers.
fn heard(bench: &Bench, conn: ConnId) -> Vec<(String, Answer)> {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    let publishes = packets(bytes).filter(|(kind, _)| *kind == 0x30);
    let of_time = publishes.map(|(_, body)| {
        let (topic, answer) = body[2..].split_at(usize::from(body[1]));
        (String::from_utf8(topic.to_vec()).unwrap(), Answer::read(answer).unwrap())
    });
    of_time.collect()
}

#[test]
fn a_device_is_told_the_time_in_microseconds_and_whether_it_is_to_be_trusted() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let pump = client(&mut bench, 1, "pump-7");
    bench.set_time(bench.now.instant + Duration::from_micros(1_234_567));
    asks(&mut bench, pump, "tg/pump-7/time/req", &Question { sent: 42 }.write());
    let at = 1_780_000_001_234_567;
    let told = Answer { sent: 42, received: at, answered: at, trusted: true };
    assert_eq!(heard(&bench, pump), [("tg/pump-7/time/now".to_owned(), told)]);
    // A clock that nobody has set.
    (bench.now.unix_ms, bench.now.clock) = (9_000, ClockQuality::Unsynced);
    asks(&mut bench, pump, "tg/pump-7/time/req", &Question { sent: 43 }.write());
    let at = 9_000_567;
    let told = Answer { sent: 43, received: at, answered: at, trusted: false };
    assert_eq!(heard(&bench, pump)[1].1, told);
    // And one that stands before 1970.
    bench.now.unix_ms = -5;
    bench.now.clock = ClockQuality::Synced;
    asks(&mut bench, pump, "tg/pump-7/time/req", &Question { sent: 44 }.write());
    let told = Answer { sent: 44, received: 0, answered: 0, trusted: false };
    assert_eq!(heard(&bench, pump)[2].1, told);
}

#[test]
fn a_device_asks_for_itself_alone_and_nobody_tells_the_time_for_the_gateway() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let (pump, other) = (client(&mut bench, 1, "pump-7"), client(&mut bench, 2, "pump-8"));
    let question = Question { sent: 42 }.write();
    let wrong = Answer { sent: 42, received: 1, answered: 1, trusted: true }.write();
    asks(&mut bench, other, "tg/pump-7/time/req", &question);
    asks(&mut bench, other, "tg/pump-7/time/now", &wrong);
    asks(&mut bench, pump, "tg/pump-7/time/now", &wrong);
    assert!(heard(&bench, pump).is_empty() && heard(&bench, other).is_empty());
    // What is no question of this version is not answered.
    for payload in [&[][..], &question[..8], &[&[2], &question[1..]].concat()] {
        asks(&mut bench, pump, "tg/pump-7/time/req", payload);
    }
    assert!(heard(&bench, pump).is_empty());
    asks(&mut bench, other, "tg/pump-8/time/req", &question);
    assert_eq!(heard(&bench, pump)[0].0, "tg/pump-8/time/now");
}

#[test]
fn a_flood_of_questions_keeps_nothing_and_others_are_answered_afterwards() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let (flood, pump) = (client(&mut bench, 1, "flood"), client(&mut bench, 2, "pump-7"));
    let topic = b"tg/flood/time/req";
    let packet =
        [&[0x30, 28, 0, 17][..], topic, &Question { sent: 42 }.write()].concat().repeat(10_000);
    let end = bench.gateway.log().end();
    // All at once, before the gateway does anything else.
    bench.gateway.handle_bytes(bench.now, flood, &packet);
    bench.drain();
    let answered = heard(&bench, flood).len();
    // 64 KiB of questions, 282 bytes each.
    assert!((100..=240).contains(&answered), "{answered}");
    assert_eq!(bench.gateway.log().end(), end, "nothing of it is kept");
    asks(&mut bench, pump, "tg/pump-7/time/req", &Question { sent: 43 }.write());
    assert_eq!(heard(&bench, pump).last().unwrap().1.sent, 43);
    // Who does not read what it asked for is not read any more: what waits for it is bounded.
    let hundred = &packet[..100 * packet.len() / 10_000];
    let mut paused = false;
    for _ in 0..1_000 {
        bench.gateway.handle_bytes(bench.now, flood, hundred);
        while let Some(output) = bench.gateway.poll_output(bench.now) {
            assert!(!matches!(output, Output::Notice(_)), "nothing is said of it: {output:?}");
            paused |= matches!(output, Output::Pause(conn) if conn == flood);
        }
        if paused {
            break;
        }
    }
    let unread = bench.gateway.unsent(flood).map_or(0, |outbox| outbox.len());
    let most = plan().broker.max_unsent_bytes;
    assert!(paused && unread <= most + 100 * 60, "{unread} of {most}");
    assert_eq!(bench.gateway.log().end(), end, "nothing of it is kept");
}
