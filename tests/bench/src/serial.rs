//! How much of a serial line is payload: a device of the SDK at one end of a pseudo-terminal that is
//! as slow as a line of 115,200 baud, the gateway at the other. A message counts when the device has its
//! acknowledgement, so that it is on the gateway's disk.

mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_link::{Config as LinkConfig, Link, Micros, Role};
use tidegate_mqtt::{Client, Config, Event, Incoming, Line, Publish};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::scratch::Scratch;

use crate::report::{Bar, Row};
use wire::Wire;

const BENCH: &str = "serial";
/// Seconds of a case.
pub(crate) const SECONDS: u64 = 20;
/// Bits a second, and what a byte takes of them: 8, start and stop.
const BAUD: u32 = 115_200;
const BITS: u32 = 10;
/// Bytes a second, each way.
const LINE: u32 = BAUD / BITS;
const TOPIC: &str = "sensors/pump-7/telemetry";
/// Longest wait for a session, and for the last acknowledgements.
const PATIENCE: Duration = Duration::from_secs(30);

/// The link as a small device has it.
type DeviceLink = Link<256, 4, 1280>;

struct Case {
    name: &'static str,
    payload: usize,
    /// Percent of the line.
    bar: Option<Bar>,
}

const CASES: [Case; 2] = [
    Case { name: "up, messages of 1,024 B, QoS 1", payload: 1_024, bar: Some(Bar::From(80.0)) },
    Case { name: "up, telemetry of 64 B, QoS 1", payload: 64, bar: None },
];

/// What a reader must know to read the figures.
pub(crate) fn notes(seconds: u64) -> Vec<String> {
    vec![
        format!("a pseudo-terminal paced to {LINE} B/s each way ({BAUD} baud, {BITS} bits a byte), {seconds} s a case"),
        "link of 256-byte frames with a window of 4, MQTT 5 in it; up to 4 KiB of messages are not acknowledged"
            .to_owned(),
        "a message counts when its PUBACK has come: it is on the gateway's disk".to_owned(),
    ]
}

/// Runs the cases, each on a new gateway.
pub(crate) fn run(gateway: &Path, seconds: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for Case { name, payload, bar } in CASES {
        let acknowledged = measure(gateway, payload, Duration::from_secs(seconds))
            .with_context(|| format!("the case \"{name}\""))?;
        let bytes = acknowledged * payload as f64;
        let row = |metric, unit, value| Row::new(BENCH, name, metric, unit, Some(value));
        let share = 100.0 * bytes / f64::from(LINE);
        rows.push(row("payload_share_of_line", "%", share).with_bar(bar));
        rows.push(row("payload", "B/s", bytes));
        rows.push(row("messages", "msg/s", acknowledged));
    }
    Ok(rows)
}

/// Acknowledged messages a second.
fn measure(gateway: &Path, payload: usize, time: Duration) -> Result<f64> {
    let scratch = Scratch::new("bench-serial")?;
    let port = scratch.path().join("ttyBENCH");
    let config = format!(
        r#"[gateway]
id = "gw-bench"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[serial.line]
device = "{}"
baud = {BAUD}
devices = {{ "pump-7" = 1 }}

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"
"#,
        port.display()
    );
    let mut wire = Wire::new(&port, LINE)?;
    let mut gateway = Gateway::new(gateway, scratch, &config)?;
    gateway.start()?;
    let (mut shelf, mut input) = ([0; 4_096], [0; 256]);
    let client = Client::new(Config::new("pump-7"), &mut shelf, &mut input);
    let mut device = Device::new(client);
    device.until_up(&mut wire)?;
    let payload = vec![b'x'; payload];
    // The first second fills what lies between.
    device.publish_for(&mut wire, &payload, Duration::from_secs(1))?;
    let (began, before) = (Instant::now(), device.acknowledged);
    device.publish_for(&mut wire, &payload, time)?;
    let rate = f64::from(device.acknowledged - before) / began.elapsed().as_secs_f64();
    ensure!(device.refused == 0, "the gateway refused {} messages", device.refused);
    ensure!(device.ups == 1, "the link began {} sessions", device.ups);
    Ok(rate)
}

/// A device of the SDK.
struct Device<'b> {
    link: DeviceLink,
    line: Line,
    client: Client<'b>,
    acknowledged: u32,
    refused: u32,
    ups: u32,
    frame: [u8; DeviceLink::MAX_OUTPUT],
}

impl<'b> Device<'b> {
    fn new(client: Client<'b>) -> Device<'b> {
        Device {
            link: DeviceLink::new(LinkConfig::new(Role::Device, 1), 0x5eed),
            line: Line::new(1),
            client,
            acknowledged: 0,
            refused: 0,
            ups: 0,
            frame: [0; DeviceLink::MAX_OUTPUT],
        }
    }

    fn until_up(&mut self, wire: &mut Wire) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.client.is_up() {
            ensure!(Instant::now() < end, "no MQTT session within {PATIENCE:?}");
            self.step(wire)?;
        }
        Ok(())
    }

    fn publish_for(&mut self, wire: &mut Wire, payload: &[u8], time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            // As much as there is room for.
            while self.client.publish(&Publish::new(TOPIC, payload)).is_ok() {}
            self.step(wire)?;
        }
        Ok(())
    }

    /// One round: everything that is there is carried, as far as the line is quick enough.
    fn step(&mut self, wire: &mut Wire) -> Result<()> {
        let now = wire.now();
        let Device { link, line, client, acknowledged, refused, ups, frame } = self;
        let mut exchange = |now: Micros, link: &mut DeviceLink| {
            line.exchange(now, link, client, |incoming| match incoming {
                Incoming::Mqtt(Event::Acknowledged { reason: 0..0x80, .. }) => *acknowledged += 1,
                Incoming::Mqtt(Event::Acknowledged { .. } | Event::Refused(_)) => *refused += 1,
                Incoming::LinkUp => *ups += 1,
                Incoming::Mqtt(_) | Incoming::Other { .. } | Incoming::LinkDown => {}
            });
        };
        exchange(now, link);
        // A port takes a frame when nearly all of the one before has left.
        while wire.is_free(now) {
            let length = link.poll_output(now, frame);
            if length == 0 {
                break;
            }
            wire.send(now, &frame[..length]);
            exchange(now, link);
        }
        wire.carry(now)?;
        let mut came = [0; 256];
        loop {
            let length = wire.receive(now, &mut came);
            if length == 0 {
                return Ok(());
            }
            link.handle_input(now, &came[..length]);
            exchange(now, link);
        }
    }
}
