//! Hostile peers on the real daemon: what they send is refused as it is documented or served, a
//! good client is served all the while, and memory stays bounded.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;
use tidegate_rig::link::Link;
use tidegate_rig::mqtt::{self, Connect, Outbound, Packet, Version};

use crate::setup::{beside_others, explain, gateway, number};

const MAX_CONNECTIONS: usize = 64;
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// No answer is waited for longer than this.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// Of a debug build, at its peak. Generous: what is bounded stays far below, what is not is soon
/// above.
pub(crate) const MAX_RSS: u64 = 64 * 1000 * 1000;
const TOPICS: usize = 100_000;
/// Less than the Receive Maximum of the gateway.
const WINDOW: usize = 500;

fn config() -> String {
    let timeout = CONNECT_TIMEOUT.as_secs();
    format!(
        r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"
max_connections = {MAX_CONNECTIONS}
connect_timeout = "{timeout}s"

[http]
listen = "{{http}}"

[stream.telemetry]
topics = ["flood/+"]
max_bytes = "16MiB"
"#
    )
}

fn connect(client: &str) -> Connect<'_> {
    Connect { version: Version::V5, client, keep_alive: 60, clean: true }
}

fn open(address: SocketAddr, client: &str) -> Link {
    Link::open(address, &connect(client), ANSWER).unwrap()
}

fn next(link: &mut Link) -> Packet {
    link.receive(Instant::now() + ANSWER).unwrap().expect("an answer in time")
}

/// Length and bytes.
fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn variable(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 127 {
        out.push((number % 128) as u8 | 0x80);
        number /= 128;
    }
    out.push(number as u8);
    out
}

fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    [&[first][..], &variable(body.len()), &body].concat()
}

/// PUBLISH of MQTT 5 at QoS 1, with properties.
pub(crate) fn publish(topic: &[u8], properties: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text(topic), &[0, 1], &variable(properties.len()), properties, b"x"])
}

/// CONNECT of any level with any flags.
pub(crate) fn connect_as(level: u8, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let payload: Vec<u8> = payload.iter().flat_map(|one| text(one)).collect();
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x10, &[&text(b"MQTT"), &[level, flags, 0, 60], properties, &payload])
}

/// All that comes back until the gateway closes, which it must.
pub(crate) fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    // It may close before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed after {answer:x?}: {error}"),
    }
    answer
}

/// A client that publishes to itself for as long as the others do what they do.
pub(crate) struct GoodClient {
    stop: &'static AtomicBool,
    thread: JoinHandle<(u64, Duration)>,
}

impl GoodClient {
    pub(crate) fn start(address: SocketAddr) -> GoodClient {
        let stop: &AtomicBool = Box::leak(Box::default());
        let mut link = open(address, "good");
        let mut bytes = Vec::new();
        mqtt::encode_subscribe(&mut bytes, Version::V5, "good/#");
        link.send(&bytes).unwrap();
        assert_eq!(next(&mut link), Packet::SubAck { codes: vec![1] });
        let thread = thread::spawn(move || {
            let (mut rounds, mut slowest) = (0, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                round(&mut link);
                slowest = slowest.max(start.elapsed());
                rounds += 1;
                thread::sleep(Duration::from_millis(10));
            }
            (rounds, slowest)
        });
        GoodClient { stop, thread }
    }

    pub(crate) fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// A message out, its acknowledgement and itself back.
fn round(link: &mut Link) {
    link.send(&publish(b"good/x", &[])).unwrap();
    let (mut acknowledged, mut delivered) = (false, false);
    while !acknowledged || !delivered {
        match next(link) {
            Packet::PubAck { reason: 0, .. } => acknowledged = true,
            Packet::Publish(message) => {
                delivered = true;
                let mut ack = Vec::new();
                mqtt::encode_puback(&mut ack, message.packet_id.unwrap());
                link.send(&ack).unwrap();
            }
            other => panic!("a good client got {other:?}"),
        }
    }
}

#[test]
fn hostile_peers_get_their_refusal_and_cost_a_good_client_nothing() {
    let _machine = beside_others();
    let mut gateway = gateway(&config());
    let address = gateway.mqtt();
    let good = GoodClient::start(address);

    connects_that_are_none(address);
    malformed_packets(address);
    long_texts(address);
    bytes_at_random(address);
    half_open_connections_up_to_the_limit(address);
    subscriptions_without_end(address);
    topics_without_end(&gateway);

    let (rounds, slowest) = good.end();
    assert!(gateway.exited().unwrap().is_none(), "{}", explain(&gateway));
    round_of_a_new_client(address);
    let peak = peak_rss(&gateway);
    println!(
        "a good client was served {rounds} times, at the slowest in {slowest:?}; \
         most memory of the gateway: {:.1} MB",
        peak as f64 / 1e6
    );
    assert!(rounds > 50, "only {rounds} rounds");
    assert!(peak < MAX_RSS, "{peak} bytes; {}", explain(&gateway));
}

/// A client that was not there before is served as well.
pub(crate) fn round_of_a_new_client(address: SocketAddr) {
    let mut link = open(address, "afterwards");
    link.send(&[0xC0, 0]).unwrap();
    assert_eq!(next(&mut link), Packet::PingResp);
}

pub(crate) fn peak_rss(gateway: &Gateway) -> u64 {
    let pid = gateway.pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Before CONNECT, only what is a CONNECT of some version is answered.
fn connects_that_are_none(address: SocketAddr) {
    let name: &[u8] = b"hostile";
    let long = [b'a'; 65_535];
    let nothing: &[u8] = &[];
    let check = |what: &str, bytes: &[u8], expected: &[u8]| {
        let answer = answer_to(address, bytes);
        // MQTT 5 has properties behind the reason code.
        let answer = match answer.as_slice() {
            [0x20, _, 0, code, ..] => &[0x20, 0, *code][..],
            other => other,
        };
        assert_eq!(answer, expected, "{what}");
    };
    let refused = |code| [0x20, 0, code];
    check("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", nothing);
    check("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", nothing);
    check("PUBLISH first", &publish(b"good/x", &[]), nothing);
    check("another name", &packet(0x10, &[&text(b"QTTM"), &[4, 2, 0, 60]]), nothing);
    check("level 3", &connect_as(3, 2, &[name]), &refused(1));
    check("level 6", &connect_as(6, 2, &[name]), &refused(0x84));
    check("reserved flag, 3.1.1", &connect_as(4, 3, &[name]), nothing);
    check("reserved flag, 5", &connect_as(5, 3, &[name]), &refused(0x81));
    check("will QoS 3", &connect_as(5, 0x1E, &[name, b"w", b"x"]), &refused(0x81));
    check("bytes behind it", &connect_as(5, 2, &[name, b"more"]), &refused(0x81));
    check("a long client id, 5", &connect_as(5, 2, &[&long[..257]]), &refused(0x85));
    check("a long client id, 3.1.1", &connect_as(4, 2, &[&long[..257]]), &refused(2));
    // Larger than what is read of anybody unknown: closed unread.
    check("the longest client id", &connect_as(5, 2, &[&long]), nothing);
    check("the longest user name", &connect_as(5, 0x82, &[name, &long]), nothing);
    check("a CONNECT of 256 MB", b"\x10\xff\xff\xff\x7f", nothing);
}

/// Packets that are none, and what MQTT 5 says to each in a DISCONNECT.
pub(crate) fn malformed() -> Vec<(&'static str, Vec<u8>, u8)> {
    let deep = vec!["l"; 33].join("/");
    let properties = [&[0x26][..], &text(b"n"), &text(b"v")].concat().repeat(65);
    vec![
        ("type 0", vec![0, 0], 0x81),
        ("reserved bits", vec![0x80, 0], 0x81),
        ("a length of five bytes", vec![0x30, 0xff, 0xff, 0xff, 0xff, 1], 0x81),
        ("a packet of 256 MB", vec![0x30, 0xff, 0xff, 0xff, 0x7f, 0], 0x95),
        ("a packet of 257 KiB", vec![0x30, 0x80, 0x88, 0x10, 0], 0x95),
        ("a cut topic", packet(0x30, &[&[0xff, 0xff], b"short"]), 0x81),
        ("cut properties", packet(0x30, &[&text(b"t"), &[9, 0x26, 0]]), 0x81),
        ("QoS 3", packet(0x36, &[&text(b"t"), &[0, 1, 0]]), 0x81),
        ("no UTF-8", publish(b"\xff\xfe", &[]), 0x81),
        ("a null character", publish(b"a\0b", &[]), 0x81),
        ("packet identifier 0", packet(0x32, &[&text(b"t"), &[0, 0, 0]]), 0x82),
        ("a wildcard", publish(b"a/#", &[]), 0x90),
        ("33 levels", publish(deep.as_bytes(), &[]), 0x90),
        ("an alias beyond all", publish(b"t", &[0x23, 0xff, 0xff]), 0x94),
        ("65 user properties", publish(b"t", &properties), 0x97),
        ("SUBSCRIBE to nothing", packet(0x82, &[&[0, 1, 0]]), 0x82),
        ("a second CONNECT", connect_as(5, 2, &[b"malformed"]), 0x82),
        ("CONNACK from a client", vec![0x20, 0], 0x82),
        ("AUTH", vec![0xf0, 0], 0x82),
    ]
}

fn malformed_packets(address: SocketAddr) {
    for (what, bytes, reason) in malformed() {
        let mut link = open(address, "malformed");
        link.send(&bytes).unwrap();
        assert_eq!(next(&mut link), Packet::Disconnect { reason }, "{what}");
    }

    let deep = vec!["l"; 33].join("/");
    let filter = |filter: &[u8]| packet(0x82, &[&[0, 1, 0], &text(filter), &[1]]);
    let mut link = open(address, "filters");
    for (what, bytes) in [("33 levels", filter(deep.as_bytes())), ("misplaced", filter(b"a/#/b"))] {
        link.send(&bytes).unwrap();
        assert_eq!(next(&mut link), Packet::SubAck { codes: vec![0x8F] }, "{what}");
    }
    // Half a packet and gone.
    for _ in 0..20 {
        let mut link = open(address, "half");
        link.send(&publish(b"good/half", &[])[..9]).unwrap();
    }
}

/// The longest that the protocol can say, where a packet may be that long.
fn long_texts(address: SocketAddr) {
    let long = [b'a'; 65_535];
    let mut link = open(address, "long");
    let property = [&[0x26][..], &text(b"n"), &text(&long)].concat();
    // Served from memory, and more than a record may say about itself.
    for (topic, expected) in [("long/x", 0x10), ("flood/long", 0x83)] {
        link.send(&publish(topic.as_bytes(), &property)).unwrap();
        assert_eq!(next(&mut link), Packet::PubAck { packet_id: 1, reason: expected }, "{topic}");
    }
    link.send(&packet(0x82, &[&[0, 1, 0], &text(&long), &[1]])).unwrap();
    assert_eq!(next(&mut link), Packet::SubAck { codes: vec![0x8F] });
    link.send(&publish(&long, &[])).unwrap();
    assert_eq!(next(&mut link), Packet::Disconnect { reason: 0x90 });
}

/// Whatever it is, it ends neither the gateway nor anybody else's connection.
fn bytes_at_random(address: SocketAddr) {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for number in 0..200 {
        let mut bytes = if number % 2 == 0 { connect_as(5, 2, &[b"random"]) } else { vec![] };
        for _ in 0..100 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.extend((state >> 32).to_be_bytes());
        }
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(&bytes);
    }
}

/// They have their place until the timeout; one that sends a byte now and then has no more.
fn half_open_connections_up_to_the_limit(address: SocketAddr) {
    // Those that went before may still be there.
    let deadline = Instant::now() + ANSWER;
    let mut silent: Vec<TcpStream> = Vec::new();
    let mut start = Instant::now();
    while silent.len() < MAX_CONNECTIONS - 2 {
        assert!(Instant::now() < deadline, "only {} connections", silent.len());
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        if is_closed(&stream) {
            silent.clear();
            start = Instant::now();
            thread::sleep(Duration::from_millis(50));
        } else {
            silent.push(stream);
        }
    }
    let slow = thread::spawn(move || byte_by_byte(address));
    while start.elapsed() < CONNECT_TIMEOUT / 2 {
        thread::sleep(Duration::from_millis(10));
    }
    // With the good client and the slow one the house is full.
    assert_eq!(answer_to(address, &connect_as(5, 2, &[b"too many"])), b"");
    for stream in &silent {
        stream.set_read_timeout(Some(ANSWER)).unwrap();
        assert!(is_closed(stream), "a silent connection is still there");
    }
    let took = start.elapsed();
    assert!(took > CONNECT_TIMEOUT / 2, "closed after {took:?}");
    slow.join().unwrap();
    round_of_a_new_client(address);
}

/// A CONNECT that takes longer than it may.
fn byte_by_byte(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    let pause = Duration::from_millis(150);
    stream.set_read_timeout(Some(pause)).unwrap();
    let start = Instant::now();
    let bytes = connect_as(4, 2, &[&[b's'; 200]]);
    for byte in &bytes {
        if stream.write_all(&[*byte]).is_err() || is_closed(&stream) {
            let took = start.elapsed();
            assert!(took > CONNECT_TIMEOUT / 2 && took < ANSWER, "closed after {took:?}");
            return;
        }
    }
    panic!("{} bytes in {:?} are not too slow", bytes.len(), start.elapsed());
}

fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => panic!("an answer to nothing"),
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

/// 1,000 are granted, the rest refused with a reason, and the client stays.
fn subscriptions_without_end(address: SocketAddr) {
    for (version, refusal) in [(Version::V5, 0x97), (Version::V311, 0x80)] {
        let mut link =
            Link::open(address, &Connect { version, ..connect("greedy") }, ANSWER).unwrap();
        let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let mut codes = Vec::new();
        for hundred in 0..100 {
            let entry =
                |one| [text(format!("greedy/{hundred}/{one}").as_bytes()), vec![1]].concat();
            let entries: Vec<u8> = (0..100).flat_map(entry).collect();
            link.send(&packet(0x82, &[&[0, 1], properties, &entries])).unwrap();
            match next(&mut link) {
                Packet::SubAck { codes: some } => codes.extend(some),
                other => panic!("SUBSCRIBE got {other:?}"),
            }
        }
        assert_eq!(codes.len(), 10_000);
        assert!(codes[..1_000].iter().all(|&code| code == 1));
        assert!(codes[1_000..].iter().all(|&code| code == refusal));
        link.send(&[0xC0, 0]).unwrap();
        assert_eq!(next(&mut link), Packet::PingResp);
    }
}

/// Each is taken into a stream; every other one asks to be retained, of which 10,000 are.
fn topics_without_end(gateway: &Gateway) {
    let mut link = open(gateway.mqtt(), "flood");
    let mut bytes = Vec::new();
    for from in (0..TOPICS).step_by(WINDOW) {
        bytes.clear();
        for number in from..from + WINDOW {
            let topic = format!("flood/{number}");
            let packet_id = (number - from + 1) as u16;
            let message =
                Outbound { topic: &topic, payload: b"x", packet_id, again: false, user: &[] };
            let at = bytes.len();
            mqtt::encode_publish(&mut bytes, Version::V5, &message);
            bytes[at] |= u8::from(number % 2 == 0);
        }
        link.send(&bytes).unwrap();
        for _ in 0..WINDOW {
            match next(&mut link) {
                Packet::PubAck { reason: 0, .. } => {}
                other => panic!("PUBLISH number {from} or later got {other:?}"),
            }
        }
    }
    assert_eq!(number(gateway, "/broker/retained"), Some(10_000), "{}", explain(gateway));
}
