//! The demo's cloud: rumqttd, a real broker that someone else wrote, in a process of its own.
//!
//! Settings that matter (read from the source of rumqttd 0.20):
//! - its log is in memory and forgets the oldest segment when `max_segment_count` are full, so the
//!   segments are sized far above what a subscriber can lag behind;
//! - a message that matches no subscription filter is dropped and still acknowledged, so
//!   `tidegate/#` exists from the start (`initialized_filters`);
//! - it sends at most 100 unacknowledged messages to a subscriber, and a subscriber must
//!   acknowledge in order and may not ask for keep alive 0;
//! - a panic in a connection's task poisons a lock and leaves the listener deaf, so any panic ends
//!   the process: whoever started it sees that instead of waiting for ever.

use std::collections::HashMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};
use serde_json::json;

use crate::consumer::{Consumer, Identity, payload_id};
use crate::mqtt::Inbound;

const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes (topic and payload) of one segment of the broker's log, and how many there are.
const SEGMENT_BYTES: usize = 16 * 1024 * 1024;
const SEGMENTS: usize = 8;
const MAX_PACKET: usize = 1024 * 1024;

/// Runs the broker in this process until the process ends.
///
/// # Errors
/// When it cannot listen.
pub fn serve(listen: SocketAddr, json_lines: bool) -> Result<()> {
    let panicked = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        panicked(info);
        std::process::exit(101);
    }));
    let mut broker = Broker::new(config(listen));
    let running = std::thread::spawn(move || broker.start().map_err(anyhow::Error::from));
    wait_for_listener(listen)?;
    let consumer = if json_lines { Some(Consumer::start_with(listen, print_line)?) } else { None };
    eprintln!("cloud: rumqttd listens on {listen}");
    let outcome = running.join();
    drop(consumer);
    match outcome {
        Ok(Ok(())) => bail!("rumqttd ended: it could not listen on {listen} or its listener died"),
        Ok(Err(error)) => Err(error).context("rumqttd ended"),
        Err(_) => bail!("rumqttd panicked"),
    }
}

fn config(listen: SocketAddr) -> Config {
    let connections = ConnectionSettings {
        connection_timeout_ms: 10_000,
        max_payload_size: MAX_PACKET,
        max_inflight_count: 200,
        auth: None,
        external_auth: None,
        dynamic_filters: false,
    };
    let server = ServerSettings {
        name: "v5".into(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections,
    };
    Config {
        id: 0,
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            custom_segment: None,
            initialized_filters: Some(vec!["tidegate/#".into()]),
            shared_subscriptions_strategy: rumqttd::Strategy::default(),
        },
        v5: Some(HashMap::from([("1".into(), server)])),
        ..Config::default()
    }
}

/// One JSON object a line for each delivery, repetitions included.
fn print_line(message: &Inbound) {
    let identity = Identity::parse(&message.user).ok();
    let line = json!({
        "topic": message.topic,
        "gateway": identity.as_ref().map(|identity| &identity.gateway),
        "epoch": identity.as_ref().map(|identity| identity.epoch),
        "stream": identity.as_ref().map(|identity| &identity.stream),
        "seq": identity.as_ref().map(|identity| identity.seq),
        "id": payload_id(&message.payload).map(|(name, number)| format!("{name}-{number:06}")),
        "bytes": message.payload.len(),
    });
    // Whoever reads the lines may go away; the broker stays.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A cloud process; killed when dropped.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    address: SocketAddr,
}

impl Cloud {
    /// Starts `rig cloud` on a free port and waits until it listens.
    ///
    /// # Errors
    /// When the process cannot be started or does not listen within 20 s.
    pub fn start(rig: &Path, log: std::fs::File) -> Result<Cloud> {
        let address = crate::ports::free()?;
        let child = Command::new(rig)
            .args(["cloud", "--tied", "--listen", &address.to_string()])
            .stdin(Stdio::piped())
            // Ctrl-C is for whoever runs the rig, not for the cloud.
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {} cloud", rig.display()))?;
        let mut cloud = Cloud { child, address };
        let listening = wait_for_listener(address);
        if let Some(status) = cloud.child.try_wait()? {
            bail!("the cloud process ended at once: {status}");
        }
        listening?;
        Ok(cloud)
    }

    /// Where it listens (MQTT 5).
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `None` while it runs, else how it ended.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn ended(&mut self) -> Result<Option<String>> {
        Ok(self.child.try_wait()?.map(|status| status.to_string()))
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something accepts connections at `address`.
///
/// # Errors
/// When nothing does within 20 s.
pub fn wait_for_listener(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START_TIMEOUT;
    while let Err(error) = TcpStream::connect_timeout(&address, START_TIMEOUT) {
        if Instant::now() > deadline {
            return Err(error).with_context(|| format!("nothing listens on {address}"));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
