//! Thousands of clients that have connected over TLS 1.3 and say nothing more: what each costs the
//! broker to keep, and what it costs to let them all in.
//!
//! Both brokers have the same certificate (ECDSA, P-256), made here by openssl. No client resumes
//! another's session: a fleet that comes back after a power cut has none.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, StreamOwned};

use super::{BENCH, Field, IDLE_LIMIT, Settings};
use crate::contender::{self, Contender, Gateway, Mosquitto, Running, TlsListener};
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::packet::{self, Packet};
use crate::procfs;
use crate::quantile::median;
use crate::report::{Bar, Row};

const MAX_KB_PER_CONNECTION: f64 = 40.0;
/// Threads that connect: more than processors, as each waits for the broker most of the time.
const CONNECTORS: usize = 8;
/// Longest wait for a step of a handshake.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files that this process and a broker have open besides the connections.
const OTHER_FILES: usize = 512;

/// The certificate of the brokers and the authority that has signed it. An authority's own
/// certificate is not accepted as a server's.
const CERTIFICATES: &str = r#"
set -e
exec 2>&1
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
openssl req -x509 $key -days 2 -subj "/CN=bench" -keyout ca.key -out ca.pem
openssl req $key -subj "/CN=localhost" -keyout server.key -out server.csr
printf "subjectAltName=DNS:localhost" > server.ext
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
  -extfile server.ext -out server.pem
chmod 600 server.key
"#;

/// One contender in one run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    kb_per_connection: f64,
    connect_seconds: f64,
    cpu_seconds: f64,
    peak_rss: u64,
}

type Client = StreamOwned<ClientConnection, TcpStream>;

/// Both contenders in turns.
pub(crate) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let connections = settings.idle_connections.max(1);
    raise_file_limit(connections)?;
    let keys = ScratchDir::new(&medium.dir)?;
    make_certificates(keys.path())?;
    let clients = Arc::new(client_config(keys.path())?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for run in 1..=settings.runs {
        for (contender, into) in [(&field.peer, &mut theirs), (&field.ours, &mut ours)] {
            let label = contender.label();
            let sample = measure(contender, connections, keys.path(), &clients, medium);
            match sample {
                Ok(sample) => {
                    let kb = sample.kb_per_connection;
                    eprintln!("run {run} of {}: idle TLS: {label}: {kb:.1} kB", settings.runs);
                    into.push(sample);
                }
                // One that was built without TLS has no figures; ours must have them.
                Err(error) if std::ptr::eq(contender, &field.peer) => {
                    eprintln!("run {run} of {}: idle TLS: {label}: {error:#}", settings.runs);
                }
                Err(error) => return Err(error.context(format!("{label}: idle TLS"))),
            }
        }
    }
    let case = format!("{connections} idle connections with TLS 1.3");
    let row = |metric, unit, bar, pick: &dyn Fn(&Sample) -> f64| {
        Row::new(BENCH, &case, metric, unit, median(ours.iter().map(pick)))
            .beside(field.peer.label(), median(theirs.iter().map(pick)))
            .with_bar(bar)
    };
    let bar = Some(Bar::UpTo(MAX_KB_PER_CONNECTION));
    Ok(vec![
        row("rss_per_connection", "kB", bar, &|s| s.kb_per_connection),
        row("connect_all", "s", None, &|s| s.connect_seconds),
        row("cpu_to_connect_all", "CPU s", None, &|s| s.cpu_seconds),
        row("peak_rss", "MB", None, &|s| s.peak_rss as f64 / 1e6),
    ])
}

fn measure(
    contender: &Contender,
    connections: usize,
    keys: &Path,
    clients: &Arc<ClientConfig>,
    medium: &Medium,
) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let port = contender::free_port()?;
    let tls = Some(TlsListener {
        port,
        certificate: keys.join("server.pem"),
        key: keys.join("server.key"),
        connections,
    });
    let contender = match contender.clone() {
        Contender::Mosquitto(mosquitto) => Contender::Mosquitto(Mosquitto { tls, ..mosquitto }),
        Contender::Tidegate(gateway) => Contender::Tidegate(Gateway { tls, ..gateway }),
    };
    let broker = contender.start(scratch.path())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let sample = measure_running(&broker, address, connections, clients)
        .with_context(|| format!("the broker's log ends with:\n{}", broker.log_tail()))?;
    broker.kill()?;
    Ok(sample)
}

fn measure_running(
    broker: &Running,
    address: SocketAddr,
    connections: usize,
    clients: &Arc<ClientConfig>,
) -> Result<Sample> {
    let pid = broker.pid();
    let cpu_before = procfs::cpu_time_when_idle(pid, IDLE_LIMIT)?;
    let rss_before = procfs::resident(pid)?.now;
    let start = Instant::now();
    let mut connected = connect_all(address, connections, clients)?;
    let connect_seconds = start.elapsed().as_secs_f64();
    let cpu = procfs::cpu_time_when_idle(pid, IDLE_LIMIT)?.since(&cpu_before);
    let rss = procfs::resident(pid)?;
    // That they are all there is part of the measurement: the last and the first still answer.
    for client in connected.iter_mut().rev().step_by((connections / 10).max(1)) {
        ping(client).context("a client that was idle is gone")?;
    }
    Ok(Sample {
        kb_per_connection: rss.now.saturating_sub(rss_before) as f64 / 1e3 / connections as f64,
        connect_seconds,
        cpu_seconds: cpu.as_secs_f64(),
        peak_rss: rss.peak,
    })
}

fn connect_all(
    address: SocketAddr,
    connections: usize,
    clients: &Arc<ClientConfig>,
) -> Result<Vec<Client>> {
    let share = |connector: usize| (connector..connections).step_by(CONNECTORS);
    thread::scope(|scope| {
        let connectors: Vec<_> = (0..CONNECTORS)
            .map(|connector| {
                let connect = move || {
                    let one = |number| connect(address, number, clients);
                    share(connector).map(one).collect::<Result<Vec<Client>>>()
                };
                scope.spawn(connect)
            })
            .collect();
        let mut connected = Vec::with_capacity(connections);
        for connector in connectors {
            match connector.join() {
                Ok(some) => connected.extend(some?),
                Err(_) => bail!("a thread that connects has panicked"),
            }
        }
        Ok(connected)
    })
}

/// One client, up to its CONNACK.
fn connect(address: SocketAddr, number: usize, clients: &Arc<ClientConfig>) -> Result<Client> {
    let attempt = || {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("localhost")?;
        let mut client =
            StreamOwned::new(ClientConnection::new(Arc::clone(clients), name)?, socket);
        let mut bytes = Vec::new();
        packet::encode_connect(&mut bytes, &format!("idle-{number}"));
        bytes[KEEP_ALIVE_AT..KEEP_ALIVE_AT + 2].copy_from_slice(&KEEP_ALIVE.to_be_bytes());
        client.write_all(&bytes)?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer)?;
        match packet::decode(&answer)? {
            Some((Packet::ConnAck { code: 0 }, _)) => {}
            other => bail!("it got {other:?} for its CONNECT"),
        }
        ensure!(client.conn.protocol_version() == Some(ProtocolVersion::TLSv1_3), "not TLS 1.3");
        Ok(client)
    };
    attempt().with_context(|| format!("client {number} cannot connect to {address} with TLS"))
}

/// Seconds: long, as of a battery's sensor, but a timer that the broker must keep.
const KEEP_ALIVE: u16 = 3_600;
/// Behind one byte of type, one of length, the protocol's name and level, and the flags.
const KEEP_ALIVE_AT: usize = 10;

fn ping(client: &mut Client) -> Result<()> {
    client.write_all(&[0xc0, 0])?;
    let mut answer = [0; 2];
    client.read_exact(&mut answer)?;
    ensure!(answer == [0xd0, 0], "PINGREQ got {answer:x?}");
    Ok(())
}

fn make_certificates(directory: &Path) -> Result<()> {
    let output = Command::new("sh")
        .args(["-c", CERTIFICATES])
        .current_dir(directory)
        .output()
        .context("cannot run sh")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "openssl makes no certificates (is it installed?):\n{said}");
    Ok(())
}

fn client_config(keys: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(keys.join("ca.pem"))?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// For this process, and for the brokers, which inherit it: mosquitto does not raise it itself.
fn raise_file_limit(connections: usize) -> Result<()> {
    let wanted = (connections + OTHER_FILES) as u64;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= wanted),
        "{connections} connections need {wanted} open files, and the system allows {:?} \
         (ulimit -Hn)",
        limit.maximum
    );
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the number of open files")
}
