//! Real firmware in QEMU: a sensor on a serial line of a real gateway, and upgrades with the power cut; the same over
//! TCP in `network`. The upgrades are the gateway's, but for those of `upgrades`, which are by a gateway in this
//! process, which sees more.
//! Needs `TIDEGATE_FIRMWARE` (`cargo xtask firmware`), `TIDEGATE_QEMU` and `TIDEGATE_QEMU_RISCV`; skipped without.

mod cuts;
mod device;
mod model;
mod network;
mod upgrades;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use tidegate_rig::gateway::Gateway;
use tidegate_rig::scratch::Scratch;

use self::device::{Device, Firmware, Wiring};
use self::model::Model;
use crate::binaries;
use crate::setup::{PATIENCE, beside_others, explain, threshold, wait};

const CONFIG: &str = r##"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"

[[mqtt.acl]]
topics = ["sensors/${username}/telemetry", "commands/${username}/#", "logs/${username}", "replies/#"]

[[mqtt.acl]]
topics = ["#"]
listeners = ["mqtt"]

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"

[stream.alerts]
topics = ["alerts/#"]
retain = "1h"
"##;

const SERIAL: &str = r#"
[serial.plant]
device = "PORT"
devices = { "pump-7" = 1 }
"#;

/// A subscriber that somebody else wrote; its lines are `TOPIC PAYLOAD`.
struct Subscriber(Child, Receiver<String>);

impl Subscriber {
    fn new(gateway: &Gateway) -> Subscriber {
        let port = gateway.mqtt().port().to_string();
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-v"])
            .args(["-t", "sensors/#", "-t", "alerts/#", "-t", "replies/#", "-t", "logs/#"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("apt-get install mosquitto-clients");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (send, receive) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Subscriber(child, receive)
    }

    /// The payload of the next message below a topic that is as wanted.
    fn next(&self, gateway: &Gateway, topic: &str, wanted: impl Fn(&str) -> bool) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while let Ok(line) = self.1.recv_timeout(give_up.saturating_duration_since(Instant::now()))
        {
            if let Some(payload) = line.strip_prefix(topic).and_then(|rest| rest.strip_prefix(' '))
                && wanted(payload)
            {
                return payload.to_owned();
            }
            seen.push(line);
        }
        panic!("no such message on {topic}; seen: {seen:#?}\n{}", explain(gateway));
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It has ended by itself otherwise.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn field(payload: &str, name: &str) -> serde_json::Value {
    let reading: serde_json::Value = serde_json::from_str(payload).unwrap();
    reading[name].clone()
}

/// Waits for a reading that has a time, which has to be the machine's.
fn check_time(messages: &Subscriber, gateway: &Gateway) {
    let telemetry = "sensors/pump-7/telemetry";
    let timed = messages.next(gateway, telemetry, |payload| field(payload, "time").is_u64());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let time = field(&timed, "time").as_u64().unwrap();
    assert!(now.abs_diff(time) < 60_000, "{time} at {now}");
}

/// A command to the sensor, by a client that somebody else wrote; the reply goes to `replies/desk`.
fn command(gateway: &Gateway, payload: &str) {
    let at = gateway.mqtt().port().to_string();
    let sent = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &at, "-V", "5", "-q", "1"])
        .args(["-D", "publish", "response-topic", "replies/desk"])
        .args(["-D", "publish", "correlation-data", "17"])
        .args(["-t", "commands/pump-7/fan", "-m", payload])
        .status();
    assert!(sent.expect("apt-get install mosquitto-clients").success());
}

/// A gateway with the sensor, which has power.
struct Site {
    device: Device,
    gateway: Gateway,
    scratch: Scratch,
    /// What the device is, as releases name it.
    class: &'static str,
}

/// The gateway's folder; nothing runs yet.
fn prepare(config: &str) -> Gateway {
    let folder = Scratch::new("emulated-gateway").unwrap();
    Gateway::new(&binaries::tidegate(), folder, config).unwrap()
}

fn site(firmware: &Firmware) -> Site {
    let scratch = Scratch::new("emulated").unwrap();
    let mut device = Device::new(firmware, &scratch, "sensor-1", Wiring::Line);
    let line = SERIAL.replace("PORT", &device.port().display().to_string());
    let mut gateway = prepare(&(CONFIG.to_owned() + &line + &threshold("")));
    gateway.start().unwrap();
    device.start();
    Site { device, gateway, scratch, class: "22222222-2222-2222-2222-222222222222" }
}

#[test]
fn a_sensor_in_qemu_raises_an_alert_and_takes_the_command_that_answers_it() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let Site { device: _device, mut gateway, scratch: _scratch, .. } = site(&firmware);
    let messages = Subscriber::new(&gateway);
    let first = messages.next(&gateway, "sensors/pump-7/telemetry", |_| true);
    assert_eq!(field(&first, "firmware"), "1.0.0");
    // Without its fan it gets hotter, until the function raises an alert.
    let alert = messages.next(&gateway, "alerts/pump-7", |_| true);
    assert!(field(&alert, "value").as_f64() > Some(30.0), "{alert}");
    // The time is the gateway's, once the link has measured it.
    check_time(&messages, &gateway);

    command(&gateway, "on");
    assert_eq!(messages.next(&gateway, "replies/desk", |_| true), "done");
    let cooling =
        messages.next(&gateway, "sensors/pump-7/telemetry", |payload| payload.contains("true"));
    let cooler = messages.next(&gateway, "sensors/pump-7/telemetry", |payload| {
        field(payload, "value").as_f64() < field(&cooling, "value").as_f64()
    });
    assert_eq!(field(&cooler, "fan"), true);

    // The gateway dies and comes back: the device goes on, with nothing lost in between.
    gateway.kill().unwrap();
    gateway.start().unwrap();
    let again = Subscriber::new(&gateway);
    let after = again.next(&gateway, "sensors/pump-7/telemetry", |payload| {
        field(payload, "id").as_u64() > field(&cooler, "id").as_u64()
    });
    let last = field(&after, "id").as_u64().unwrap();
    wait(&gateway, "all readings are in the stream", || {
        let ids = stored_ids(&gateway);
        (0..=last).all(|id| ids.contains(&id))
    });
    command(&gateway, "nonsense");
    // The first command, or its reply, may come once more.
    again.next(&gateway, "replies/desk", |payload| payload == "there is no such command");
}

fn stored_ids(gateway: &Gateway) -> std::collections::BTreeSet<u64> {
    let file = gateway.directory().join("stored.ndjson");
    let name = file.to_str().unwrap();
    gateway.command(&["stream", "export", "telemetry", "-o", name]).unwrap();
    let exported = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let id = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        field(record["payload"].as_str()?, "id").as_u64()
    };
    exported.lines().filter_map(id).collect()
}

/// A release of the examples.
struct Release<'a> {
    image: &'a [u8],
    /// What a delta is made from; without one the image travels as it is, which takes longest.
    base: Option<&'a [u8]>,
    version: &'a str,
    sequence: u64,
    /// Starts on trial.
    attempts: u8,
}

/// Signs a release with the examples' release key, 32 times the byte 3.
fn signed(site: &Site, release: &Release<'_>) -> PathBuf {
    let Release { image, base, version, sequence, attempts } = *release;
    let file = |name: &str| site.scratch.path().join(name);
    let (image_file, base_file, key) = (file("image.bin"), file("base.bin"), file("release.key"));
    std::fs::write(&image_file, image).unwrap();
    std::fs::write(&key, format!("tidegate-signing-key-1 {}\n", "03".repeat(32))).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let bundle = file(&format!("{version}.tgfw"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let mut command = Command::new(binaries::tidegate());
    command
        .args(["device", "firmware", "sign", "--release", version])
        .args(["--sequence", &sequence.to_string(), "--attempts", &attempts.to_string()])
        .args(["--vendor", "11111111-1111-1111-1111-111111111111"])
        .args(["--class", site.class])
        .args(["--image", &text(&image_file), "--key", &text(&key), "--output", &text(&bundle)]);
    match base {
        Some(base) => {
            std::fs::write(&base_file, base).unwrap();
            command.args(["--base", &text(&base_file)]);
        }
        None => {
            command.args(["--encodings", "none"]);
        }
    }
    let said = command.output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    bundle
}

/// Signs a release that gets two starts on trial, and pushes it.
fn push(site: &Site, image: &[u8], base: &[u8], version: &str, sequence: u64) {
    let bundle = signed(site, &Release { image, base: Some(base), version, sequence, attempts: 2 });
    site.gateway.command(&["device", "firmware", "push", bundle.to_str().unwrap()]).unwrap();
}

/// How far the sensor is with the newest campaign.
fn stage(gateway: &Gateway) -> Option<String> {
    let said = gateway.command(&["device", "firmware", "status", "--json"]).unwrap();
    let campaigns: serde_json::Value = serde_json::from_str(&said).unwrap();
    let newest = campaigns.as_array()?.iter().max_by_key(|one| one["campaign"].as_u64())?;
    let device = newest["devices"].as_array()?.iter().find(|one| one["device"] == "pump-7")?;
    device["stage"].as_str().map(str::to_owned)
}

#[test]
fn the_gateway_brings_firmware_to_a_sensor_in_qemu_and_a_bad_one_goes_back() {
    let Some(firmware) = Firmware::find(Model::Arm) else { return };
    let _machine = beside_others();
    let names = ["sensor-1", "sensor-2", "sensor-unwell"];
    takes_a_release_and_gives_a_bad_one_back(site(&firmware), names.map(|it| firmware.image(it)));
}

fn takes_a_release_and_gives_a_bad_one_back(mut site: Site, images: [Vec<u8>; 3]) {
    let [one, two, bad] = images;
    let messages = Subscriber::new(&site.gateway);
    let telemetry = "sensors/pump-7/telemetry";
    messages.next(&site.gateway, telemetry, |payload| field(payload, "firmware") == "1.0.0");

    push(&site, &two, &one, "2.0.0", 5);
    // Neither a gateway that dies nor a device that loses its power ends the upgrade.
    site.gateway.kill().unwrap();
    site.gateway.start().unwrap();
    site.device.cut();
    site.device.start();
    let messages = Subscriber::new(&site.gateway);
    messages.next(&site.gateway, telemetry, |payload| field(payload, "firmware") == "2.0.0");
    wait(&site.gateway, "it is confirmed", || stage(&site.gateway).as_deref() == Some("confirmed"));
    assert!(site.device.runs(&two));

    push(&site, &bad, &two, "3.0.0", 6);
    wait(&site.gateway, "it has gone back", || stage(&site.gateway).as_deref() == Some("reverted"));
    assert!(site.device.runs(&two));
    let console = site.device.console();
    assert!(console.ends_with("sensor: 3.0.0\nboot: start\nsensor: 2.0.0\n"), "{console}");
    let again = Subscriber::new(&site.gateway);
    again.next(&site.gateway, telemetry, |payload| field(payload, "firmware") == "2.0.0");
}
