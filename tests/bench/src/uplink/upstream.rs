//! The servers that records go up to, each of which can be down while a backlog grows.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_rig::nats::{NatsClient, NatsServer};
use tidegate_rig::postgres::Postgres;
use tidegate_rig::sink::Sink;

use super::Field;
use crate::connection::{Connection, Poller, Room};
use crate::contender::{Contender, Running, free_port};
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::packet::{Packet, Qos};

/// The JetStream stream.
const STREAM: &str = "tidegate";
const ROOM: Room = Room { inbox: 256 * 1024, unsent: usize::MAX };
/// Longest wait for a record.
const STALL: Duration = Duration::from_secs(60);

/// A kind of sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Mosquitto,
    JetStream,
    PostgreSql,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Mosquitto => "mosquitto",
            Kind::JetStream => "JetStream",
            Kind::PostgreSql => "PostgreSQL over HTTPS",
        }
    }

    /// Keys of the uplink besides its URL.
    pub(super) fn keys(self) -> &'static str {
        match self {
            Kind::Mosquitto => "backoff_max = \"500ms\"\n",
            Kind::JetStream => "backoff_max = \"500ms\"\nwindow = 1000\n",
            Kind::PostgreSql => {
                "backoff_max = \"500ms\"\nwindow = 1000\nbatch_records = 500\n\
                 batch_bytes = \"256KiB\"\n"
            }
        }
    }
}

/// A mosquitto of the benchmark's own, as an upstream.
pub(super) struct Broker {
    pub(super) address: SocketAddr,
    scratch: ScratchDir,
    running: Option<Running>,
}

impl Broker {
    /// Not started yet; where it will listen is known.
    pub(super) fn down(medium: &Medium) -> Result<Broker> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        Ok(Broker { address, scratch: ScratchDir::new(&medium.dir)?, running: None })
    }

    pub(super) fn start(&mut self, field: &Field) -> Result<()> {
        let contender = Contender::Mosquitto(field.mosquitto.clone());
        let port = self.address.port();
        self.running = Some(contender.start_on(self.scratch.path(), port)?);
        Ok(())
    }
}

/// A subscriber of an upstream broker that only counts.
pub(super) struct Counter {
    poller: Poller,
    connection: Connection,
}

impl Counter {
    pub(super) fn connect(address: SocketAddr) -> Result<Counter> {
        let poller = Poller::new()?;
        let mut connection = Connection::open(&poller, 0, address, "bench-count", ROOM)?;
        connection.subscribe("#", Qos::Zero)?;
        connection.stop_blocking()?;
        Ok(Counter { poller, connection })
    }

    /// Waits for so many messages; the time from the first to the last.
    pub(super) fn wait_for(&mut self, messages: u64) -> Result<Duration> {
        let (mut count, mut first, mut last) = (0, None, Instant::now());
        let mut ready = Vec::new();
        while count < messages {
            ensure!(
                last.elapsed() < STALL,
                "{count} of {messages} arrived, then none for {STALL:?}"
            );
            self.poller.wait(Duration::from_millis(100), &mut ready)?;
            if ready.is_empty() {
                continue;
            }
            let before = count;
            self.connection.receive(|packet, _| count += u64::from(is_publish(packet)))?;
            if count > before {
                last = Instant::now();
                first.get_or_insert(last);
            }
        }
        Ok(first.map_or(Duration::ZERO, |first| last - first))
    }
}

fn is_publish(packet: Packet<'_>) -> bool {
    match packet {
        Packet::Publish { .. } => true,
        Packet::ConnAck { .. }
        | Packet::PubAck { .. }
        | Packet::SubAck { .. }
        | Packet::PingResp => false,
    }
}

/// A sink that can be down.
pub(super) enum Upstream {
    Mosquitto(Broker),
    JetStream(NatsServer),
    PostgreSql(Postgres, Sink),
}

impl Upstream {
    /// Made ready, and down.
    pub(super) fn down(kind: Kind, field: &Field, medium: &Medium) -> Result<Upstream> {
        match kind {
            Kind::Mosquitto => Broker::down(medium).map(Upstream::Mosquitto),
            Kind::JetStream => {
                let mut server = NatsServer::start("")?;
                let mut client = NatsClient::connect(server.address())?;
                let more = serde_json::json!({});
                client.create_stream(STREAM, &["tidegate.>"], more)?;
                server.kill()?;
                Ok(Upstream::JetStream(server))
            }
            Kind::PostgreSql => {
                let database = Postgres::start()?;
                let url = database.connection_string();
                let mut sink = Sink::start(&field.sink, &["--database", &url])?;
                sink.kill()?;
                Ok(Upstream::PostgreSql(database, sink))
            }
        }
    }

    pub(super) fn url(&self) -> String {
        match self {
            Upstream::Mosquitto(broker) => format!("mqtt://{}", broker.address),
            Upstream::JetStream(server) => format!("nats://{}", server.address()),
            Upstream::PostgreSql(_, sink) => format!("http://{}", sink.address()),
        }
    }

    pub(super) fn start(&mut self, field: &Field) -> Result<()> {
        match self {
            Upstream::Mosquitto(broker) => broker.start(field),
            Upstream::JetStream(server) => server.restart(),
            Upstream::PostgreSql(_, sink) => sink.start_again(),
        }
    }

    /// Records that it holds, where it can be asked.
    pub(super) fn count(&self) -> Result<Option<u64>> {
        match self {
            Upstream::Mosquitto(_) => Ok(None),
            Upstream::JetStream(server) => {
                NatsClient::connect(server.address())?.count(STREAM).map(Some)
            }
            Upstream::PostgreSql(database, _) => {
                let text = database.sql("select count(*) from tidegate_records")?;
                Ok(Some(text.trim().parse().with_context(|| format!("no count: {text:?}"))?))
            }
        }
    }
}
