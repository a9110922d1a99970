//! The brokers that are compared: each writes its configuration into a directory, is started on
//! a free port and is waited for until it accepts a CONNECT.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::leftovers::Leash;
use crate::packet::{self, Packet};

/// Longest start that is waited for.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longest answer to a SIGTERM that is waited for.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// All topics of the load are below this one, and a stream of ours takes them all.
pub(crate) const TOPIC_ROOT: &str = "bench";

/// The longest `quiet` that a gateway takes.
const MAX_QUIET: Duration = Duration::from_secs(1);

/// Where a gateway's data directory is, below its directory.
pub(crate) const DATA: &str = "data";

/// The diagnostic environment variable that makes the gateway wait so many milliseconds more in
/// each sync.
const SYNC_DELAY_VARIABLE: &str = "TIDEGATE_SYNC_DELAY_MS";

/// A broker under test.
#[derive(Debug, Clone)]
pub(crate) enum Contender {
    /// The peer, keeping nothing on disk.
    Mosquitto(Mosquitto),
    /// Ours, every message of the load into a durable stream.
    Tidegate(Gateway),
}

/// Eclipse mosquitto.
#[derive(Debug, Clone)]
pub(crate) struct Mosquitto {
    /// The program.
    pub(crate) program: PathBuf,
    /// What it calls itself, `mosquitto 2.0.11`.
    pub(crate) version: String,
    /// Where it sends the load on to, as a bridge.
    pub(crate) bridge: Option<SocketAddr>,
    /// A second listener, with TLS.
    pub(crate) tls: Option<TlsListener>,
}

/// A gateway.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    /// The program.
    pub(crate) program: PathBuf,
    /// A function to load.
    pub(crate) function: Option<PathBuf>,
    /// An uplink for every stream.
    pub(crate) uplink: Option<String>,
    /// The streams that go there, as TOML; `None`: all.
    pub(crate) uplink_streams: Option<&'static str>,
    /// Its keys besides the URL, a line each.
    pub(crate) uplink_keys: &'static str,
    /// Time added to each sync.
    pub(crate) sync_delay: Duration,
    /// How the load is kept.
    pub(crate) keeping: Keeping,
    /// A second listener, with TLS.
    pub(crate) tls: Option<TlsListener>,
}

/// Where a broker listens with TLS besides.
#[derive(Debug, Clone)]
pub(crate) struct TlsListener {
    /// On the loopback address.
    pub(crate) port: u16,
    /// Its certificate (PEM).
    pub(crate) certificate: PathBuf,
    /// Its private key (PEM).
    pub(crate) key: PathBuf,
    /// How many clients at once it must let in.
    pub(crate) connections: usize,
}

/// How a gateway keeps the load, and what reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keeping {
    /// Quota of its stream, whose oldest records are dropped at it.
    pub(crate) max_bytes: &'static str,
    /// `retain` of its stream.
    pub(crate) retain: &'static str,
    /// `max_ack_delay`, and `quiet` as long, or a second; `None`: as they are by default.
    pub(crate) ack_delay: Option<Duration>,
    /// `compression` of its stream.
    pub(crate) compression: &'static str,
    /// What the function reads.
    pub(crate) function_reads: FunctionReads,
    /// Its configuration, as TOML.
    pub(crate) function_config: &'static str,
}

/// What the function reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FunctionReads {
    /// A stream that the load does not feed.
    Another,
    /// The load: its payloads must be readings.
    TheLoad,
}

impl Default for Keeping {
    fn default() -> Keeping {
        Keeping {
            max_bytes: "4GiB",
            retain: "24h",
            ack_delay: None,
            compression: "none",
            function_reads: FunctionReads::Another,
            function_config: "{ limit = 30.0 }",
        }
    }
}

impl Mosquitto {
    /// Looks for the program at `path`, by default where Debian puts it.
    pub(crate) fn find(path: Option<&Path>) -> Result<Mosquitto> {
        let program = path.unwrap_or(Path::new("/usr/sbin/mosquitto"));
        let help = Command::new(program).arg("-h").output().with_context(|| {
            format!(
                "cannot run {}: install it (apt-get install mosquitto) or name it with --mosquitto",
                program.display()
            )
        })?;
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let version = help.lines().next().and_then(|line| line.split(' ').next_back());
        let version = format!("mosquitto {}", version.unwrap_or("of unknown version"));
        Ok(Mosquitto { program: program.to_owned(), version, bridge: None, tls: None })
    }

    /// Debian's defaults, except that no QoS 1 message may be dropped for a slow subscriber
    /// (by default those beyond 1,000 queued are), that it listens on `port` only and stays the
    /// user who runs it.
    fn config(&self, port: u16) -> String {
        let mut text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n\
             max_queued_messages 0\nlog_dest stderr\nlog_type error\nlog_type warning\nuser root\n"
        );
        if let Some(TlsListener { port, certificate, key, .. }) = &self.tls {
            let (certificate, key) = (certificate.display(), key.display());
            text.push_str(&format!(
                "listener {port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
            ));
        }
        if let Some(upstream) = self.bridge {
            text.push_str(&format!(
                "max_inflight_messages 100\nconnection up\naddress {upstream}\n\
                 topic {TOPIC_ROOT}/# out 1\ncleansession false\nrestart_timeout 1\n\
                 notifications false\n"
            ));
        }
        text
    }
}

impl Gateway {
    /// Documented in the configuration reference; keys as in the minimal configuration.
    fn config(&self, dir: &Path, port: u16, http_port: u16) -> Result<String> {
        let data_dir = quoted(&dir.join(DATA))?;
        let Keeping { max_bytes, retain, ack_delay, compression, function_reads, function_config } =
            self.keeping;
        // One more for whoever asks whether it is ready.
        let room = self.tls.as_ref().map_or(String::new(), |tls| {
            let most = tls.connections + 1;
            format!("max_connections = {most}\nmax_sessions = {most}\n")
        });
        let mut text = format!(
            "[gateway]\nid = \"bench\"\ndata_dir = {data_dir}\n\n\
             [mqtt]\nlisten = \"127.0.0.1:{port}\"\n{room}\n\
             [http]\nlisten = \"127.0.0.1:{http_port}\"\n\n\
             [stream.bench]\ntopics = [\"{TOPIC_ROOT}/#\"]\nmax_bytes = \"{max_bytes}\"\n\
             overflow = \"drop-oldest\"\nretain = \"{retain}\"\n\
             compression = \"{compression}\"\n"
        );
        if let Some(TlsListener { port, certificate, key, .. }) = &self.tls {
            let (certificate, key) = (quoted(certificate)?, quoted(key)?);
            write!(
                text,
                "\n[mqtt.listener.tls]\nlisten = \"127.0.0.1:{port}\"\ntls = true\n\n\
                 [mqtt.tls]\ncert_file = {certificate}\nkey_file = {key}\n"
            )?;
        }
        if let Some(delay) = ack_delay {
            let (delay, quiet) = (delay.as_millis(), delay.min(MAX_QUIET).as_millis());
            let keys = format!("max_ack_delay = \"{delay}ms\"\nquiet = \"{quiet}ms\"");
            write!(text, "\n[storage]\n{keys}\n")?;
        }
        let mut streams = "\"bench\"";
        if let Some(function) = &self.function {
            let module = quoted(function)?;
            let input = match function_reads {
                FunctionReads::Another => "telemetry",
                FunctionReads::TheLoad => "bench",
            };
            write!(
                text,
                "\n[stream.telemetry]\ntopics = [\"sensors/+/telemetry\"]\nmax_bytes = \"64MiB\"\n\
                 overflow = \"drop-oldest\"\nretain = \"24h\"\n\n\
                 [stream.alerts]\ntopics = [\"alerts/#\"]\n\n\
                 [function.threshold]\nmodule = {module}\ninput = {{ stream = \"{input}\" }}\n\
                 publish = [\"alerts/#\"]\nconfig = {function_config}\n"
            )?;
            streams = "\"bench\", \"telemetry\", \"alerts\"";
        }
        if let Some(url) = &self.uplink {
            let keys = self.uplink_keys;
            let streams = self.uplink_streams.unwrap_or(streams);
            write!(text, "\n[uplink.cloud]\nurl = \"{url}\"\nstreams = [{streams}]\n{keys}")?;
        }
        Ok(text)
    }
}

/// A TOML basic string; JSON escapes are a subset of TOML's.
fn quoted(path: &Path) -> Result<String> {
    let path = std::path::absolute(path)?;
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8, which TOML needs", path.display()))?;
    Ok(serde_json::to_string(text)?)
}

impl Contender {
    /// Name for progress lines.
    pub(crate) fn label(&self) -> &str {
        match self {
            Contender::Mosquitto(mosquitto) => &mosquitto.version,
            Contender::Tidegate(_) => "tidegate",
        }
    }

    /// Starts a fresh process with its files in `dir`, which may hold what an earlier process
    /// left there.
    ///
    /// # Errors
    /// When the program cannot be started, ends, or accepts no CONNECT within a minute; with the
    /// end of its log.
    pub(crate) fn start(&self, dir: &Path) -> Result<Running> {
        self.start_on(dir, free_port()?)
    }

    /// The same, on a port that is known before.
    pub(crate) fn start_on(&self, dir: &Path, port: u16) -> Result<Running> {
        let http = free_port()?;
        let mut command = self.prepare(dir, port, http)?;
        let log = dir.join("broker.log");
        let output = std::fs::File::create(&log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let start = Instant::now();
        let leash = Leash::spawn(&mut command).with_context(|| {
            format!("cannot start {:?}: is the path right?", command.get_program())
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
        let mut running = Running { leash, address, http, log, ready_after: Duration::ZERO };
        running
            .wait_until_ready(start)
            .with_context(|| format!("{} does not serve {address}", self.label()))?;
        Ok(running)
    }

    fn prepare(&self, dir: &Path, port: u16, http: u16) -> Result<Command> {
        match self {
            Contender::Mosquitto(mosquitto) => {
                let config = dir.join("mosquitto.conf");
                std::fs::write(&config, mosquitto.config(port))?;
                let mut command = Command::new(&mosquitto.program);
                command.arg("-c").arg(config);
                Ok(command)
            }
            Contender::Tidegate(gateway) => {
                let config = dir.join("tidegate.toml");
                std::fs::create_dir_all(dir.join(DATA))?;
                std::fs::write(&config, gateway.config(dir, port, http)?)?;
                let mut command = Command::new(&gateway.program);
                command.arg("run").arg("--config").arg(config).env_remove(SYNC_DELAY_VARIABLE);
                if !gateway.sync_delay.is_zero() {
                    let delay = gateway.sync_delay.as_millis().to_string();
                    command.env(SYNC_DELAY_VARIABLE, delay);
                }
                Ok(command)
            }
        }
    }
}

/// A broker that serves.
#[derive(Debug)]
pub(crate) struct Running {
    leash: Leash,
    log: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where a gateway serves HTTP.
    http: SocketAddr,
    /// Time from before its exec to the first CONNACK.
    pub(crate) ready_after: Duration,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.leash.pid()
    }

    /// SIGTERM; says how long the clean stop took.
    pub(crate) fn stop(self) -> Result<Duration> {
        self.leash.end(Signal::TERM, STOP_LIMIT)
    }

    /// SIGKILL.
    pub(crate) fn kill(self) -> Result<()> {
        self.leash.end(Signal::KILL, STOP_LIMIT).map(drop)
    }

    /// Publishes one message at QoS 1 on a connection of its own and waits for the PUBACK.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) -> Result<()> {
        let mut socket = connect(self.address)?.context("the broker refuses connections")?;
        let mut bytes = Vec::new();
        packet::encode_publish(&mut bytes, topic, 1, payload);
        socket.write_all(&bytes)?;
        let mut answer = [0; 4];
        socket.read_exact(&mut answer).with_context(|| format!("no PUBACK on {topic:?}"))?;
        match packet::decode(&answer)? {
            Some((Packet::PubAck { id: 1 }, _)) => Ok(socket.write_all(&packet::DISCONNECT)?),
            other => bail!("PUBLISH to {topic:?} got {other:?}"),
        }
    }

    /// A gateway's `/v1/status`.
    pub(crate) fn status(&self) -> Result<serde_json::Value> {
        let mut socket = TcpStream::connect(self.http).context("no HTTP")?;
        socket.set_read_timeout(Some(START_LIMIT))?;
        socket.write_all(b"GET /v1/status HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
        serde_json::from_str(body).with_context(|| format!("not a status: {answer:?}"))
    }

    /// The end of what it logged, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(12);
        if lines.is_empty() { "it logged nothing".into() } else { lines[from..].join("\n") }
    }

    fn wait_until_ready(&mut self, start: Instant) -> Result<()> {
        loop {
            if let Some(mut socket) = connect(self.address)? {
                self.ready_after = start.elapsed();
                socket.write_all(&packet::DISCONNECT)?;
                return Ok(());
            }
            if let Some(status) = self.leash.ended()? {
                bail!("it ended with {status}; its log ends with:\n{}", self.log_tail());
            }
            if start.elapsed() > START_LIMIT {
                bail!("no CONNACK in {START_LIMIT:?}; its log ends with:\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

/// One attempt at CONNECT and CONNACK; `None` while nobody listens.
fn connect(address: SocketAddr) -> Result<Option<TcpStream>> {
    let mut socket = match TcpStream::connect(address) {
        Ok(socket) => socket,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot connect to {address}")),
    };
    socket.set_read_timeout(Some(START_LIMIT))?;
    let mut bytes = Vec::new();
    packet::encode_connect(&mut bytes, "bench-once");
    socket.write_all(&bytes)?;
    let mut answer = [0; 4];
    if socket.read_exact(&mut answer).is_err() {
        return Ok(None);
    }
    match packet::decode(&answer)? {
        Some((Packet::ConnAck { code: 0 }, _)) => Ok(Some(socket)),
        other => bail!("{address} answered CONNECT with {other:?}"),
    }
}

/// A port that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateway_gets_one_stream_for_the_load_and_the_function_another() {
        let gateway = Gateway {
            program: "tidegate".into(),
            function: Some("/modules/threshold.wasm".into()),
            uplink: Some("mqtt://127.0.0.1:9".into()),
            uplink_streams: None,
            uplink_keys: "",
            sync_delay: Duration::ZERO,
            keeping: Keeping { ack_delay: Some(Duration::from_secs(1)), ..Keeping::default() },
            tls: Some(TlsListener {
                port: 8883,
                certificate: "/keys/server.pem".into(),
                key: "/keys/server.key".into(),
                connections: 5_000,
            }),
        };
        let text = gateway.config(Path::new("/store/a \"b\""), 1883, 8080).unwrap();
        for line in [
            "data_dir = \"/store/a \\\"b\\\"/data\"",
            "listen = \"127.0.0.1:1883\"",
            "max_connections = 5001",
            "listen = \"127.0.0.1:8883\"",
            "cert_file = \"/keys/server.pem\"",
            "topics = [\"bench/#\"]",
            "retain = \"24h\"",
            "max_ack_delay = \"1000ms\"",
            "quiet = \"1000ms\"",
            "module = \"/modules/threshold.wasm\"",
            "input = { stream = \"telemetry\" }",
            "url = \"mqtt://127.0.0.1:9\"",
            "streams = [\"bench\", \"telemetry\", \"alerts\"]",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_program_that_ends_is_reported_with_its_log() {
        let scratch = crate::leftovers::ScratchDir::new(&std::env::temp_dir()).unwrap();
        let (program, version) = ("/bin/cat".into(), "cat".into());
        let mosquitto = Mosquitto { program, version, bridge: None, tls: None };
        let error = Contender::Mosquitto(mosquitto).start(scratch.path()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("cat does not serve") && text.contains("invalid option"), "{text}");
    }
}
