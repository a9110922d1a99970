//! Devices on serial lines, with the real daemon at the other end of a pseudo-terminal.

pub(crate) mod wire;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;
use tidegate_rig::scratch::Scratch;

use self::wire::{Device, Wire};
use crate::binaries;
use crate::setup::{alone, beside_others, wait};

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128);
    [&[first, body.len() as u8], body].concat()
}

/// MQTT 5, a session that is kept for an hour.
fn connect(client: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05\0\0\0\x05\x11\0\0\x0e\x10".to_vec();
    text(&mut body, client);
    packet(0x10, &body)
}

fn publish(topic: &str, id: u16, payload: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend(id.to_be_bytes());
    body.push(0);
    body.extend(payload.as_bytes());
    packet(0x32, &body)
}

fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1, 0];
    text(&mut body, filter);
    body.push(1);
    packet(0x82, &body)
}

/// The gateway with one line, named `plant`, whose port is a path that comes and goes.
struct Site {
    gateway: Gateway,
    port: PathBuf,
}

fn site(devices: &str) -> Site {
    let scratch = Scratch::new("serial").unwrap();
    let port = scratch.path().join("ttyTEST");
    let config = format!(
        r##"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[[mqtt.acl]]
topics = ["sensors/${{username}}/telemetry", "commands/${{username}}"]

[[mqtt.acl]]
topics = ["#"]
listeners = ["mqtt"]

[serial.plant]
device = "{}"
devices = {{ {devices} }}

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"
"##,
        port.display()
    );
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
    gateway.start().unwrap();
    Site { gateway, port }
}

/// Connects a device and answers whether its session was there.
fn log_in(wire: &mut Wire, at: usize, client: &str) -> bool {
    let is_answered = |wire: &Wire| wire.devices[at].packets.iter().any(|(kind, _)| *kind == 0x20);
    while !is_answered(wire) {
        wire.run_until("the link is up", |wire| wire.devices[at].link.is_up());
        let ups = wire.devices[at].ups;
        wire.devices[at].say(&connect(client));
        // A link whose other side has begun anew begins anew, too, and what was said is gone.
        wire.run_until("a CONNACK, or the link anew", |wire| {
            is_answered(wire) || wire.devices[at].ups > ups
        });
    }
    let (kind, body) = wire.devices[at].packets.pop_front().unwrap();
    assert_eq!((kind, body[1]), (0x20, 0), "{body:?}");
    body[0] == 1
}

/// Identifiers of the PUBACKs that came in, which are taken out.
fn pubacks(device: &mut Device) -> Vec<u16> {
    let found = device.packets.iter().filter(|(kind, _)| *kind == 0x40);
    let ids = found.map(|(_, body)| u16::from_be_bytes([body[0], body[1]])).collect();
    device.packets.retain(|(kind, _)| *kind != 0x40);
    ids
}

/// Payloads of the stream's records.
fn stored(gateway: &Gateway) -> BTreeSet<String> {
    let file = gateway.directory().join("stored.ndjson");
    gateway.command(&["stream", "export", "telemetry", "-o", path(&file)]).unwrap();
    let exported = std::fs::read_to_string(&file).unwrap();
    let payload = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["payload"].as_str().map(str::to_owned)
    };
    // The first and the last line speak of the whole.
    let payloads: Vec<String> = exported.lines().filter_map(payload).collect();
    let set: BTreeSet<String> = payloads.iter().cloned().collect();
    assert_eq!(set.len(), payloads.len(), "each once: {payloads:?}");
    set
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_device_on_a_serial_line_is_a_client_of_its_own() {
    let _machine = beside_others();
    let site = site(r#""pump-7" = 9"#);
    let mut wire = Wire::new(&site.port, &[9]);
    assert!(!log_in(&mut wire, 0, "pump-7"));
    wire.devices[0].say(&subscribe("commands/pump-7"));
    wire.devices[0].say(&publish("sensors/pump-7/telemetry", 1, "21.5"));
    wire.devices[0].say(&publish("sensors/other/telemetry", 2, "not mine"));
    wire.run_until("three answers", |wire| wire.devices[0].packets.len() == 3);
    let answers: Vec<_> = wire.devices[0].packets.drain(..).collect();
    let codes: Vec<_> = answers.iter().map(|(kind, body)| (*kind, body.last().copied())).collect();
    assert!(codes.contains(&(0x90, Some(1))), "subscribed: {answers:?}");
    assert!(answers.contains(&(0x40, vec![0, 1])), "on flash: {answers:?}");
    let refused = answers.iter().find(|(kind, body)| *kind == 0x40 && body[..2] == [0, 2]);
    assert_eq!(refused.map(|(_, body)| body[2]), Some(0x87), "not authorised: {answers:?}");

    // A command from the network.
    let port = site.gateway.mqtt().port().to_string();
    let sent = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", "commands/pump-7", "-m", "open"])
        .status();
    assert!(sent.expect("apt-get install mosquitto-clients").success());
    wire.run_until("the command", |wire| !wire.devices[0].packets.is_empty());
    let (kind, body) = wire.devices[0].packets.pop_front().unwrap();
    assert!(kind == 0x32 && body.ends_with(b"open"), "{kind:x} {body:?}");

    // What the gateway tells of the line.
    let status = site.gateway.command(&["status", "--json"]).unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let line = &status["lines"][0];
    assert_eq!((&line["name"], &line["open"]), (&"plant".into(), &true.into()), "{line}");
    assert!(
        line["frames_in"].as_u64() > Some(3) && line["bytes_out"].as_u64() > Some(30),
        "{line}"
    );
    let device = &line["devices"][0];
    assert_eq!((&device["name"], &device["up"]), (&"pump-7".into(), &true.into()), "{line}");

    // Nobody else is let in under its name, though nobody logs in on that listener; the device stays.
    let other = std::process::Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-i", "pump-7", "-t", "x", "-m", "mine"])
        .output()
        .unwrap();
    assert!(!other.status.success(), "{other:?}");
    wire.devices[0].say(&publish("sensors/pump-7/telemetry", 3, "22"));
    wire.run_until("it is still there", |wire| !wire.devices[0].packets.is_empty());
    assert_eq!(wire.devices[0].packets.pop_front(), Some((0x40, vec![0, 3])));
    assert_eq!(wire.devices[0].ends, 0);

    // Under another name it is not let in, and told so; under its own it has its session.
    wire.devices[0].end();
    wire.devices[0].say(&connect("pump-8"));
    wire.run_until("the gateway ends twice", |wire| wire.devices[0].ends == 2);
    let (kind, body) = wire.devices[0].packets.pop_front().unwrap();
    assert_eq!((kind, body[1]), (0x20, 0x85));
    wire.devices[0].end();
    assert!(log_in(&mut wire, 0, "pump-7"));
    let log = std::fs::read_to_string(site.gateway.log_file()).unwrap();
    let said: Vec<_> = log.lines().filter(|line| line.contains("reason=\"client-id\"")).collect();
    let [other, own] = said[..] else { panic!("{said:?}") };
    for part in ["listener=\"mqtt\"", "client=\"pump-7\""] {
        assert!(other.contains(part), "{part} in {other}");
    }
    for part in ["peer=\"serial.plant:pump-7\"", "listener=\"serial.plant\"", "client=\"pump-8\""] {
        assert!(own.contains(part), "{part} in {own}");
    }
}

/// The device has nothing to say meanwhile: the gateway has to call it.
#[test]
fn a_line_is_back_within_two_seconds_after_its_plug_was_pulled() {
    let _machine = alone();
    let site = site(r#""pump-7" = 9"#);
    let mut wire = Wire::new(&site.port, &[9]);
    assert!(!log_in(&mut wire, 0, "pump-7"));
    for round in 1..=3 {
        wire.unplug();
        wait(&site.gateway, "the gateway notices", || {
            let log = std::fs::read_to_string(site.gateway.log_file()).unwrap();
            log.matches("serial line is lost").count() == round
        });
        let ups = wire.devices[0].ups;
        let plugged = Instant::now();
        wire.plug();
        wire.run_until("a new session", |wire| wire.devices[0].ups > ups);
        wire.devices[0].packets.clear();
        assert!(log_in(&mut wire, 0, "pump-7"), "its session was kept");
        wire.devices[0].say(&publish("sensors/pump-7/telemetry", 1, &format!("{round}")));
        wire.run_until("a PUBACK", |wire| pubacks(&mut wire.devices[0]) == [1]);
        let took = plugged.elapsed();
        assert!(took < Duration::from_secs(2), "{took:?} in round {round}");
    }
}

#[test]
fn devices_share_a_line_and_what_is_acknowledged_survives_kill_and_unplugging() {
    let _machine = beside_others();
    let mut site = site(r#""a" = 1, "b" = 2, "c" = 200"#);
    let mut wire = Wire::new(&site.port, &[1, 2, 200]);
    let names = ["a", "b", "c"];
    let mut acknowledged = BTreeSet::new();
    let mut next = 1_u16;
    for round in 0..4 {
        for (at, name) in names.iter().enumerate() {
            let log = || std::fs::read_to_string(site.gateway.log_file()).unwrap();
            assert_eq!(
                log_in(&mut wire, at, name),
                round > 0,
                "{name} in round {round}\n{}",
                log()
            );
        }
        let ids: Vec<u16> = (next..next + 20).collect();
        next += 20;
        for id in &ids {
            for (at, name) in names.iter().enumerate() {
                let topic = format!("sensors/{name}/telemetry");
                wire.devices[at].say(&publish(&topic, *id, &format!("{name}-{id}")));
            }
        }
        // In the last round all is waited for; before, it ends somewhere in between.
        let enough = if round == 3 { 60 } else { 25 + round };
        let mut count = 0;
        wire.run_until("acknowledgements", |wire| {
            for (at, name) in names.iter().enumerate() {
                let came = pubacks(&mut wire.devices[at]);
                count += came.len();
                acknowledged.extend(came.iter().map(|id| format!("{name}-{id}")));
            }
            count >= enough
        });
        match round {
            0 | 2 => {
                site.gateway.kill().unwrap();
                site.gateway.start().unwrap();
            }
            1 => {
                wire.unplug();
                wait(&site.gateway, "the gateway notices", || {
                    let log = std::fs::read_to_string(site.gateway.log_file()).unwrap();
                    log.contains("serial line is lost")
                });
                wire.plug();
            }
            _ => {}
        }
        if round < 3 {
            // The links have to notice: what the devices were sent before is from an earlier life.
            let before: Vec<usize> = wire.devices.iter().map(|device| device.ups).collect();
            wire.run_until("new sessions", |wire| {
                wire.devices.iter().zip(&before).all(|(device, before)| device.ups > *before)
            });
            wire.devices.iter_mut().for_each(|device| device.packets.clear());
        }
    }
    let stored = stored(&site.gateway);
    let missing: Vec<_> = acknowledged.difference(&stored).collect();
    assert!(missing.is_empty(), "acknowledged and not stored: {missing:?}");
    assert!(acknowledged.len() >= 60 + 25 + 26 + 27);
}
