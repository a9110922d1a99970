//! Gateways, publishers and conditions that the tests share.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::{Next, Publisher, PublisherOptions, Source, message_id};
use tidegate_rig::scratch::Scratch;
use tidegate_rig::sensors::telemetry_topic;

use crate::binaries;

/// No condition is waited for longer than this.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The machine's processors: most tests share them, those that measure time have them alone.
static MACHINE: RwLock<()> = RwLock::new(());

/// Runs beside other tests.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// Runs while no other test does.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// What a program prints, line by line, from now on.
pub(crate) fn lines_of(child: &mut Child) -> Receiver<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (send, receive) = channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    receive
}

/// A configuration with streams `telemetry` and `alerts`, an uplink for both, and the text of the
/// function sections.
pub(crate) fn config(upstream: SocketAddr, functions: &str) -> String {
    format!(
        r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"

[stream.alerts]
topics = ["alerts/#"]
retain = "1h"

{functions}
[uplink.cloud]
url = "mqtt://{upstream}"
streams = ["telemetry", "alerts"]
ack_timeout = "2s"
connect_timeout = "2s"
backoff_max = "500ms"
"#
    )
}

/// The section of the function `threshold`: an alert for readings over 30.
pub(crate) fn threshold(options: &str) -> String {
    format!(
        r#"[function.threshold]
module = "{}"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
config = {{ limit = 30.0{options} }}
"#,
        binaries::function("threshold").display()
    )
}

/// A gateway with this configuration, running.
pub(crate) fn gateway(config: &str) -> Gateway {
    let scratch = Scratch::new("it").unwrap();
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, config).unwrap();
    gateway.start().unwrap();
    gateway
}

/// Waits for a condition; fails with `what` and the gateway's log when it does not come.
pub(crate) fn wait(gateway: &Gateway, what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", explain(gateway));
        thread::sleep(Duration::from_millis(20));
    }
}

/// What an error message says about a gateway.
pub(crate) fn explain(gateway: &Gateway) -> String {
    let status = gateway.command(&["status", "--json"]).unwrap_or_else(|error| error.to_string());
    format!("status: {status}\nlog:\n{}", gateway.log_tail())
}

/// A number in the gateway's status, by its JSON pointer.
pub(crate) fn number(gateway: &Gateway, pointer: &str) -> Option<u64> {
    gateway.status().ok()?.pointer(pointer)?.as_u64()
}

/// A given number of readings; every tenth is over the limit.
#[derive(Debug)]
pub(crate) struct Readings {
    name: String,
    total: u64,
    interval: Duration,
    started: Option<Instant>,
}

impl Readings {
    /// As fast as they are taken.
    pub(crate) fn new(name: &str, total: u64) -> Readings {
        Readings { name: name.to_owned(), total, interval: Duration::ZERO, started: None }
    }

    /// One each `interval`.
    pub(crate) fn paced(name: &str, total: u64, interval: Duration) -> Readings {
        Readings { interval, ..Readings::new(name, total) }
    }

    /// Whether reading `number` is over the limit.
    pub(crate) fn is_over(number: u64) -> bool {
        number % 10 == 3
    }

    /// The payload of a reading.
    pub(crate) fn payload(name: &str, number: u64) -> String {
        let value = if Self::is_over(number) { 31.5 } else { 21.5 };
        format!(r#"{{"id":"{}","value":{value:?}}}"#, message_id(name, number))
    }
}

impl Source for Readings {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        if number >= self.total {
            return Next::End;
        }
        let due = *self.started.get_or_insert(now) + self.interval.mul_f64(number as f64);
        if now < due {
            return Next::At(due);
        }
        let payload = Self::payload(&self.name, number).into_bytes();
        Next::Message { topic: telemetry_topic(&self.name), payload }
    }
}

/// Starts a publisher with a window of 20.
pub(crate) fn publisher(
    address: SocketAddr,
    name: &str,
    version: Version,
    identity: Option<u64>,
    source: impl Source + 'static,
) -> Publisher {
    let options =
        PublisherOptions { address, name: name.to_owned(), version, window: 20, identity };
    Publisher::start(options, Box::new(source)).unwrap()
}

/// Writes a file into the gateway's directory to be and returns the directory.
pub(crate) fn scratch_with(file: &str, bytes: &[u8]) -> Scratch {
    let scratch = Scratch::new("it").unwrap();
    std::fs::write(Path::new(scratch.path()).join(file), bytes).unwrap();
    scratch
}
