//! Twins: what is kept over a kill, what reaches the device, who may speak.

use tidegate_wire::twin::{Desired, begin_reported};

use super::*;

fn change(bench: &mut Bench, name: &str, value: &str) -> u64 {
    let changes = [(name.to_owned(), value.to_owned())];
    let (twin, position) = bench.gateway.change_twin(bench.now, "pump-7", &changes).unwrap();
    bench.pass(Duration::from_secs(1));
    assert!(position <= bench.gateway.log().durable());
    twin.version
}

/// Payloads that a client has got on this topic.
fn heard(bench: &Bench, conn: ConnId, topic: &str) -> Vec<Vec<u8>> {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    let publishes = packets(bytes).filter(|(kind, _)| kind & 0xf0 == 0x30);
    let of_topic = publishes.filter_map(|(_, body)| {
        let rest = body.get(2..)?.strip_prefix(topic.as_bytes())?;
        // With QoS 0: no identifier, and the properties are empty.
        Some(rest[1..].to_vec())
    });
    of_topic.collect()
}

fn subscribe_loosely(bench: &mut Bench, conn: ConnId, filter: &str) {
    let mut body = vec![0, 1, 0, 0, filter.len() as u8];
    body.extend_from_slice(filter.as_bytes());
    body.push(0);
    bench.bytes(conn, 0x82, &body);
    bench.drain();
}

#[test]
fn what_is_desired_survives_a_kill_and_reaches_the_device_with_what_has_changed() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let first = change(&mut bench, "interval_s", "60");
    let second = change(&mut bench, "mode", "eco");
    assert!(second > first);
    assert_eq!(change(&mut bench, "mode", "eco"), second, "it is so already");
    let mut bench = Bench::on(bench.disk.after_kill(), plan(), echo());
    let device = bench.connect(1, "pump-7");
    subscribe_loosely(&mut bench, device, "tg/pump-7/twin/desired");
    let got = heard(&bench, device, "tg/pump-7/twin/desired");
    let [desired] = &got[..] else { panic!("{got:?}") };
    let desired = Desired::read(desired).unwrap();
    assert_eq!((desired.version, desired.properties().count()), (second, 2));
    let new: Vec<_> = desired.since(first).map(|one| one.name).collect();
    assert_eq!(new, ["mode"]);
    // A change reaches it at once.
    let third = change(&mut bench, "interval_s", "");
    let got = heard(&bench, device, "tg/pump-7/twin/desired");
    assert_eq!(Desired::read(got.last().unwrap()).unwrap().version, third);
}

#[test]
fn a_device_reports_for_itself_alone_and_nobody_says_what_is_desired() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let version = change(&mut bench, "limit", "21.5");
    let (pump, other) = (bench.connect(1, "pump-7"), bench.connect(2, "pump-8"));
    let mut bytes = [0; 64];
    let length = begin_reported(&mut bytes, version, false).unwrap();
    let report = [&bytes[..length], b"\xa1\x65limit\xc4\x82\x20\x18\xd7"].concat();
    let says = |bench: &mut Bench, conn, topic: &str, payload: &[u8]| {
        let body = [&[0, topic.len() as u8][..], topic.as_bytes(), &[0], payload].concat();
        bench.bytes(conn, 0x31, &body);
        bench.drain();
    };
    says(&mut bench, other, "tg/pump-7/twin/reported", b"\xa0");
    says(&mut bench, pump, "tg/pump-7/twin/desired", b"\xa0");
    let twin = bench.gateway.twin(bench.now, "pump-7").unwrap();
    assert_eq!((twin.heard, twin.version), (None, version));
    let pump = bench.connect(3, "pump-7");
    says(&mut bench, pump, "tg/pump-7/twin/reported", &report);
    let twin = bench.gateway.twin(bench.now, "pump-7").unwrap();
    assert_eq!((twin.heard, &twin.reported), (Some(version), &twin.desired));
    assert_eq!(twin.desired[0].value, "21.5");
}

#[test]
fn what_is_no_twin_is_refused_in_words() {
    let mut bench = Bench::on(CrashDisk::new(), plan(), echo());
    let mut refused = |device: &str, name: &str, value: &str| {
        let changes = [(name.to_owned(), value.to_owned())];
        bench.gateway.change_twin(bench.now, device, &changes).unwrap_err()
    };
    assert!(refused("a/b", "x", "1").contains("no name of a device"));
    assert!(refused("pump-7", "x", "").contains("no property"));
    assert!(refused("pump-7", &"n".repeat(40), "1").contains("1 to 32 bytes"));
}
