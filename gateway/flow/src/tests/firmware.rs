//! Firmware over MQTT: who may speak, what is on flash before it is acknowledged, what is left
//! after a kill.

use tidegate_device_sim::crypto::{HostHash, Key};
use tidegate_device_sim::release;
use tidegate_firmware::{HaltAt, Limits, Release, Terms, write_head};
use tidegate_wire::message::{
    Answer, Hello, Installed, InstalledList, MAX_MESSAGE, Message, PROTOCOL, Phase, Reason, Report,
    Request, Verdict,
};

use super::*;
use crate::FIRMWARE_STREAM;

fn bytes_of(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; MAX_MESSAGE];
    let length = message.write(&mut out).unwrap();
    out[..length].to_vec()
}

fn hello() -> Vec<u8> {
    let one = Installed { id: 0, version: "1.0.0", digest: [0; 8], room: 1 << 20, side: None };
    bytes_of(&Message::Hello(Hello {
        protocol: PROTOCOL,
        sdk: "0.1.0",
        vendor: release::VENDOR,
        class: release::CLASS,
        message: 1_280,
        block: 224,
        capabilities: 0,
        boot_abi: 1,
        sequence: 1,
        floor: 0,
        key_set: 1,
        components: InstalledList::new([one]).unwrap(),
        reason: Reason::Power,
        trial: None,
        pending: None,
    }))
}

fn report(campaign: u64, phase: Phase) -> Vec<u8> {
    let (number, from, to) = (7, 1, 5);
    let report = Report { number, campaign, from, to, phase, code: 0, retries: 0, bytes: 900 };
    bytes_of(&Message::Report(report))
}

fn image() -> Vec<u8> {
    release::image(1, 1_000)
}

fn a_release() -> Release {
    let (image, key) = (image(), Key::new(3));
    let parts = [release::component(0, &image, None)];
    let manifest = release::manifest(5, &parts);
    let head = write_head(&release::signed(&manifest, &key), None, None).unwrap();
    Release::of_bundle::<HostHash>(&[head, image].concat()).unwrap()
}

fn everybody() -> Terms {
    Terms { devices: None, first: None, halt_at: HaltAt::Devices(1) }
}

fn serving(disk: CrashDisk) -> Bench {
    let mut bench = Bench::on(disk, plan(), echo());
    let limits = Limits { concurrent: 4, bytes_per_second: None };
    bench.gateway.serve_firmware(bench.now, limits);
    bench
}

/// With QoS 1, as bytes.
fn says(bench: &mut Bench, conn: ConnId, topic: &str, payload: &[u8]) {
    let mut body = vec![0, topic.len() as u8];
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&[0, 9, 0]);
    body.extend_from_slice(payload);
    bench.bytes(conn, 0x32, &body);
    bench.drain();
}

/// Topics and messages that a client has got.
fn heard(bench: &Bench, conn: ConnId) -> Vec<(String, Vec<u8>)> {
    let bytes = bench.received.get(&conn).map_or(&[][..], |bytes| bytes);
    let publishes = packets(bytes).filter(|(kind, _)| *kind == 0x30);
    publishes
        .map(|(_, body)| {
            let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
            let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
            (topic, body[3 + length..].to_vec())
        })
        .collect()
}

fn device(bench: &mut Bench, conn: u64) -> ConnId {
    let conn = bench.connect(conn, "pump");
    bench.subscribe(conn, "tg/pump/ota/#");
    bench.drain();
    says(bench, conn, "tg/pump/ota/state", &hello());
    conn
}

#[test]
fn a_device_is_welcomed_offered_a_release_and_given_the_blocks_that_it_asks_for() {
    let mut bench = serving(CrashDisk::new());
    assert!(bench.gateway.devices().is_empty());
    let conn = device(&mut bench, 1);
    assert!(matches!(
        heard(&bench, conn).as_slice(),
        [(topic, welcome)]
            if topic == "tg/pump/ota/cmd"
                && matches!(Message::read(welcome), Ok(Message::Welcome(_)))
    ));
    let devices = bench.gateway.devices();
    assert_eq!((&*devices[0].device, devices[0].sequence), ("pump", 1));
    let release = a_release();
    let (id, _) = bench
        .gateway
        .start_campaign(bench.now, release::digest(b"bundle"), release.clone(), everybody())
        .unwrap();
    bench.pass(Duration::from_secs(2));
    let (topic, offer) = heard(&bench, conn).pop().unwrap();
    assert_eq!(topic, "tg/pump/ota/offer");
    assert!(matches!(Message::read(&offer), Ok(Message::Offer(offer)) if offer.campaign == id));
    let accept = Message::Answer(Answer { campaign: id, verdict: Verdict::Accept });
    says(&mut bench, conn, "tg/pump/ota/state", &bytes_of(&accept));
    let (manifest, bitmap) = (release.name().short(), 0b11);
    let asks = Request { manifest, entry: 0, base: 3, bitmap, credit: 8, tag: 4 };
    says(&mut bench, conn, "tg/pump/ota/req", &bytes_of(&Message::Request(asks)));
    for (index, from) in [(3, 672), (4, 896)] {
        let read = bench.reads.remove(0);
        assert_eq!(read.at, release.entries()[0].at + from as u64);
        let data = &image()[from..(from + 224).min(1_000)];
        bench.gateway.handle_firmware_read(bench.now, &read, Ok(data));
        bench.drain();
        let (topic, block) = heard(&bench, conn).pop().unwrap();
        assert_eq!(topic, "tg/pump/ota/blk");
        let Ok(Message::Block(block)) = Message::read(&block) else { panic!("{block:?}") };
        assert_eq!((block.index, block.tag, block.data), (index, 4, data));
    }
    assert!(bench.reads.is_empty(), "nothing was asked for any more");
}

#[test]
fn nobody_speaks_for_a_device_but_itself() {
    let mut bench = serving(CrashDisk::new());
    device(&mut bench, 1);
    let other = bench.connect(2, "other");
    for topic in ["tg/pump/ota/state", "tg/pump/ota/blk", "tg/other/ota/offer"] {
        says(&mut bench, other, topic, &hello());
        assert_eq!(bench.pubacks(other).pop(), Some((9, 0x87)), "{topic}: not authorised");
    }
    assert_eq!(bench.gateway.devices().len(), 1);
    says(&mut bench, other, "tg/other/ota/state", &hello());
    assert_eq!(bench.gateway.devices().len(), 2);
}

#[test]
fn a_report_is_received_when_it_is_on_flash_and_not_before_and_survives_a_kill() {
    let mut bench = serving(CrashDisk::new());
    let conn = device(&mut bench, 1);
    let bundle = release::digest(b"bundle");
    let (id, _) =
        bench.gateway.start_campaign(bench.now, bundle, a_release(), everybody()).unwrap();
    bench.pass(Duration::from_secs(2));
    let received = |bench: &Bench| {
        let is_received = |message: &[u8]| matches!(Message::read(message), Ok(Message::Received(received)) if received.number == 7);
        heard(bench, conn).iter().filter(|(_, message)| is_received(message)).count()
    };
    bench.disk_stands_still = true;
    says(&mut bench, conn, "tg/pump/ota/report", &report(id, Phase::Confirmed));
    // Said again meanwhile, it waits as well.
    says(&mut bench, conn, "tg/pump/ota/report", &report(id, Phase::Confirmed));
    bench.pass(SETTLE);
    assert_eq!(received(&bench), 0);
    bench.let_the_disk_go();
    bench.pass(SETTLE);
    assert_eq!(received(&bench), 2);
    let told = bench.payloads(FIRMWARE_STREAM);
    let last = told.last().unwrap();
    for part in [r#""event":"device""#, r#""device":"pump""#, r#""stage":"confirmed""#] {
        assert!(last.contains(part), "{last}");
    }
    let (campaigns, devices) = (bench.gateway.campaigns(), bench.gateway.devices());
    let after = serving(bench.disk.after_kill());
    assert_eq!(after.gateway.campaigns(), campaigns);
    assert_eq!(after.gateway.devices(), devices);
    assert_eq!(after.gateway.needed_bundles(), [bundle]);
}

#[test]
fn a_device_on_a_serial_line_is_answered_there() {
    let mut bench = serving(CrashDisk::new());
    bench.gateway.handle_firmware(bench.now, "valve", &hello());
    bench.drain();
    let letter = bench.letters.pop().unwrap();
    assert_eq!(&*letter.device, "valve");
    assert!(matches!(Message::read(&letter.bytes), Ok(Message::Welcome(_))));
    assert_eq!(bench.gateway.devices()[0].via, "serial");
    bench.gateway.forget_device(bench.now, "valve").unwrap();
    assert!(bench.gateway.devices().is_empty());
}

#[test]
fn a_gateway_that_no_device_has_spoken_to_has_no_desk() {
    let mut bench = serving(CrashDisk::new());
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_secs(60));
    assert!(!bench.gateway.firmware.has_desk());
    assert!(bench.gateway.campaigns().is_empty());
}
