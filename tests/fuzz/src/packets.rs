//! The target `packets`: any bytes, in any portions.

use tidegate_broker::{BrokerLimits, ConnId};
use tidegate_peer::encode::{connect, subscribe};
use tidegate_peer::{Version, decode};

use crate::input::Input;
use crate::owner::Owner;

/// Limits small enough that a short input meets them.
fn limits() -> BrokerLimits {
    BrokerLimits {
        max_connections: 3,
        max_packet_before_connect: 200,
        max_packet: 400,
        receive_maximum: 3,
        max_held_bytes: 200,
        topic_alias_maximum: 3,
        max_user_properties: 3,
        max_topic_levels: 4,
        max_sessions: 3,
        max_subscriptions_per_session: 4,
        max_queued_bytes_per_session: 2_000,
        max_queued_bytes: 4_000,
        max_retained: 4,
        max_retained_bytes: 1_000,
        ..BrokerLimits::default()
    }
}

/// The first byte says the version and whether CONNECT has been sent already; then come the bytes
/// of two connections in turn, each portion behind its length.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let how = input.byte();
    let version = if how & 1 == 0 { Version::V5 } else { Version::V3_1_1 };
    let mut owner = Owner::new(limits());
    let mut lines = ["a", "b"].map(|client| {
        let mut line = Line { conn: owner.open(), version: None };
        if how & 2 == 0 {
            let hello = connect(version, client).kept();
            owner.send(line.conn, &hello.bytes());
            owner.send(line.conn, &subscribe(version, 1, &[("#", 2)]));
            line.version = Some(version);
        }
        line
    });
    while !input.is_empty() {
        let head = input.byte();
        let portion = input.take(usize::from(head >> 1));
        owner.send(lines[usize::from(head & 1)].conn, portion);
        check(&mut owner, &mut lines);
    }
    for line in lines {
        owner.cut(line.conn);
    }
    owner.pass(8 * 24 * 3600);
    let stats = owner.broker.stats();
    assert_eq!((stats.connections, stats.sessions.len()), (0, 0), "something is left behind");
    assert_eq!((stats.subscriptions, stats.queued_bytes), (0, 0), "something is left behind");
    assert_eq!(owner.broker.poll_timeout(), None);
}

/// A connection, and what CONNACK showed it to speak.
struct Line {
    conn: ConnId,
    version: Option<Version>,
}

fn check(owner: &mut Owner, lines: &mut [Line]) {
    let limits = limits();
    let stats = owner.broker.stats();
    assert!(stats.queued_bytes <= limits.max_queued_bytes);
    assert!(stats.retained <= limits.max_retained);
    assert!(stats.retained_bytes <= limits.max_retained_bytes);
    assert!(stats.sessions.len() <= limits.max_sessions);
    for line in lines {
        let bytes = owner.got(line.conn);
        let version = *line.version.get_or_insert(match bytes.get(..2) {
            Some([0x20, 2]) => Version::V3_1_1,
            Some(_) => Version::V5,
            None => continue,
        });
        decode::packets(version, &bytes);
    }
}
