//! Firmware upgrades from the operator's command to the device, with the real daemon between them: over
//! MQTT and over a serial line, and the daemon killed in the middle.

mod board;
mod socket;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::scratch::Scratch;

use self::board::{Board, Trusted};
use self::socket::Socket;
use crate::binaries;
use crate::serial::wire::Wire;
use crate::setup::{PATIENCE, beside_others};

/// A gateway with keys, images and a signed release of sequence 5.
struct Site {
    gateway: Gateway,
    port: PathBuf,
    trusted: Trusted,
}

impl Site {
    fn new(name: &str) -> Site {
        let scratch = Scratch::new(name).unwrap();
        let port = scratch.path().join("ttyTEST");
        // So slow that there is a middle to be killed in.
        let config = format!(
            r##"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[firmware]
max_bytes_per_second = "10KiB"

[serial.plant]
device = "{}"
devices = {{ "valve" = 9 }}

[stream.telemetry]
topics = ["sensors/#"]
"##,
            port.display()
        );
        let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
        gateway.start().unwrap();
        let path = |name: &str| gateway.directory().join(name);
        let root = keygen(&path("root.key"));
        let release = keygen(&path("release.key"));
        let keys = path("keys.tgks");
        offline(&[
            "keyset",
            "--root",
            text(&path("root.key")),
            "--add",
            &release,
            "-o",
            text(&keys),
        ]);
        let trusted = Trusted::new(&root, &fs::read(&keys).unwrap());
        Site { gateway, port, trusted }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.gateway.directory().join(name)
    }

    /// Signs a release with an image, and pushes it; answers the campaign's number.
    fn push(&self, image: &[u8], sequence: u64, more: &[&str]) -> u64 {
        let (new, bundle) =
            (self.path(&format!("{sequence}.bin")), self.path(&format!("{sequence}.tgfw")));
        fs::write(&new, image).unwrap();
        let key = self.path("release.key");
        offline(&[
            "sign",
            "--image",
            text(&new),
            "--release",
            "2.0.0",
            "--sequence",
            &sequence.to_string(),
            "--vendor",
            board::VENDOR,
            "--class",
            board::CLASS,
            "--encodings",
            "none",
            "--key",
            text(&key),
            "-o",
            text(&bundle),
        ]);
        let push = ["device", "firmware", "push", text(&bundle)];
        let said = self.gateway.command(&[&push[..], more].concat()).unwrap();
        let id = said.split_whitespace().nth(1).and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("{said}"))
    }

    /// How a device is with a campaign.
    fn stage(&self, campaign: u64) -> String {
        let status = ["device", "firmware", "status", &campaign.to_string(), "--json"];
        let status: Value = serde_json::from_str(&self.gateway.command(&status).unwrap()).unwrap();
        status[0]["devices"][0]["stage"].as_str().unwrap_or("none").to_owned()
    }

    fn devices(&self) -> Vec<(String, u64)> {
        let listed = self.gateway.command(&["device", "ls", "--json"]).unwrap();
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let device = |one: &Value| {
            (one["device"].as_str().unwrap().to_owned(), one["sequence"].as_u64().unwrap())
        };
        listed.as_array().unwrap().iter().map(device).collect()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A command that needs no gateway.
fn offline(words: &[&str]) -> String {
    let mut command = Command::new(binaries::tidegate());
    let output = command.args(["device", "firmware"]).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a key; answers its public half.
fn keygen(file: &Path) -> String {
    let said = offline(&["keygen", text(file)]);
    said.lines().last().unwrap().to_owned()
}

/// What carries a board's messages.
trait Transport {
    /// Takes what the board says; answers what is said to it. `fresh`: the board has started anew.
    fn carry(&mut self, says: Vec<Vec<u8>>, fresh: bool) -> Carried;
}

struct Carried {
    heard: VecDeque<Vec<u8>>,
    /// There is a new connection.
    connected: bool,
}

/// Lets a board run until this holds.
fn run_until(
    board: &mut Board,
    transport: &mut impl Transport,
    what: &str,
    mut done: impl FnMut(&Board) -> bool,
) {
    let give_up = Instant::now() + PATIENCE;
    let mut looked = Instant::now();
    loop {
        if looked.elapsed().as_millis() > 100 {
            looked = Instant::now();
            if done(board) {
                return;
            }
        }
        assert!(Instant::now() < give_up, "never: {what}; {} blocks came", board.blocks);
        let fresh = board.is_fresh();
        let says = board.run();
        let carried = transport.carry(says, fresh);
        if carried.connected {
            board.connected();
        }
        carried.heard.iter().for_each(|message| board.hear(message));
    }
}

/// The whole way, with the gateway killed after a third and after two thirds.
fn upgrade(mut site: Site, name: &str, transport: &mut impl Transport) {
    let new = board::image(7, b"GOOD");
    let mut board = Board::new(name, site.trusted.clone());
    run_until(&mut board, transport, "it is known", |_| site.devices() == [(name.to_owned(), 0)]);
    let campaign = site.push(&new, 5, &["--halt-at", "1"]);
    let blocks = board::IMAGE.div_ceil(board::BLOCK);
    for third in [1, 2] {
        run_until(&mut board, transport, "a third", |board| board.blocks >= third * blocks / 3);
        site.gateway.kill().unwrap();
        site.gateway.start().unwrap();
    }
    run_until(&mut board, transport, "it is confirmed", |_| site.stage(campaign) == "confirmed");
    assert_eq!(board.running(), new);
    assert!(board.blocks < 2 * blocks, "{} blocks came, {blocks} are enough", board.blocks);
    assert_eq!(site.devices(), [(name.to_owned(), 5)]);
    // The next one is bad: it is taken back, and the campaign ends.
    let bad = site.push(&board::image(8, b"FAIL"), 6, &[]);
    run_until(&mut board, transport, "it is reverted", |_| site.stage(bad) == "reverted");
    assert_eq!(board.running(), new, "what ran before runs again");
    let told = site.gateway.command(&["stream", "tail", "firmware-events", "-n", "50"]).unwrap();
    for part in ["\"stage\":\"confirmed\"", "\"stage\":\"reverted\"", "\"state\":\"halted\""] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let status = site.gateway.command(&["device", "firmware", "status"]).unwrap();
    assert!(
        status.contains(&format!("campaign {bad} is halted: 1 devices have failed")),
        "{status}"
    );
}

#[test]
fn a_device_is_upgraded_over_mqtt_though_the_gateway_is_killed_twice() {
    let _machine = beside_others();
    let site = Site::new("firmware-mqtt");
    let mut socket = Socket::new(site.gateway.mqtt(), "pump-7");
    upgrade(site, "pump-7", &mut socket);
}

#[test]
fn a_device_is_upgraded_over_a_serial_line_though_the_gateway_is_killed_twice() {
    let _machine = beside_others();
    let site = Site::new("firmware-serial");
    let mut wire = Line { wire: Wire::new(&site.port, &[9]), ups: 0 };
    upgrade(site, "valve", &mut wire);
}

/// A serial line with one device.
struct Line {
    wire: Wire,
    ups: usize,
}

impl Transport for Line {
    fn carry(&mut self, says: Vec<Vec<u8>>, _fresh: bool) -> Carried {
        let device = &mut self.wire.devices[0];
        says.iter().for_each(|message| device.say_firmware(message));
        self.wire.step();
        let device = &mut self.wire.devices[0];
        let connected = device.ups > self.ups;
        self.ups = device.ups;
        Carried { heard: std::mem::take(&mut device.firmware), connected }
    }
}

#[test]
fn a_campaign_is_cancelled_and_a_device_that_is_gone_is_forgotten() {
    let _machine = beside_others();
    let site = Site::new("firmware-cancel");
    let mut socket = Socket::new(site.gateway.mqtt(), "pump-7");
    let mut board = Board::new("pump-7", site.trusted.clone());
    run_until(&mut board, &mut socket, "it is known", |_| !site.devices().is_empty());
    let named = ["--devices", "pump-7,pump-8", "--first", "1", "--halt-at", "50%"];
    let campaign = site.push(&board::image(7, b"GOOD"), 5, &named);
    run_until(&mut board, &mut socket, "some blocks", |board| board.blocks > 5);
    site.gateway.command(&["device", "firmware", "cancel", &campaign.to_string()]).unwrap();
    run_until(&mut board, &mut socket, "it hears of it", |_| site.stage(campaign) == "failed");
    assert_eq!(board.starts, 1, "nothing was started");
    let again = site.gateway.command(&["device", "firmware", "cancel", &campaign.to_string()]);
    assert!(again.unwrap_err().to_string().contains("is cancelled already"));
    site.gateway.command(&["device", "rm", "pump-7"]).unwrap();
    assert!(site.devices().is_empty());
}
