//! One side of the comparison, as processes: a broker, what does the work, and an upstream that
//! counts for nobody.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use super::{Cpu, Field};
use crate::contender::{Contender, FunctionReads, Gateway, Keeping, Running, free_port};
use crate::leftovers::{Leash, ScratchDir};
use crate::medium::Medium;
use crate::procfs;

const FLOW: &str = include_str!("flow.json");
const SETTINGS: &str = include_str!("settings.js");
const BRIDGE: &str = include_str!("bridge.py");
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The gateway and its function.
    Tidegate,
    /// Node-RED behind mosquitto.
    NodeRed,
    /// A Python script behind mosquitto.
    Script,
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Tidegate => "tidegate",
            Way::NodeRed => "Node-RED 4 and mosquitto",
            Way::Script => "paho-mqtt 2 and mosquitto",
        }
    }
}

/// The processes.
pub(super) struct Contestant {
    broker: Running,
    worker: Option<Leash>,
    upstream: Running,
    _upstream_dir: ScratchDir,
}

impl Contestant {
    /// Starts them; what the worker needs to be ready is not waited for.
    pub(super) fn start(
        way: Way,
        field: &Field,
        medium: &Medium,
        dir: &Path,
    ) -> Result<Contestant> {
        let upstream_dir = ScratchDir::new(&medium.dir)?;
        let upstream = Contender::Mosquitto(field.mosquitto.clone()).start(upstream_dir.path())?;
        let contender = match way {
            Way::Tidegate => Contender::Tidegate(gateway(field, upstream.address)),
            Way::NodeRed | Way::Script => Contender::Mosquitto(field.mosquitto.clone()),
        };
        let broker = contender.start(dir)?;
        let command = match way {
            Way::Tidegate => None,
            Way::NodeRed => Some(node_red(field, dir, broker.address, upstream.address)?),
            Way::Script => Some(script(field, dir, broker.address, upstream.address)?),
        };
        let worker = command.map(|command| spawn(command, dir)).transpose()?;
        Ok(Contestant { broker, worker, upstream, _upstream_dir: upstream_dir })
    }

    /// Where messages are published.
    pub(super) fn broker(&self) -> SocketAddr {
        self.broker.address
    }

    /// Where alerts arrive.
    pub(super) fn upstream(&self) -> SocketAddr {
        self.upstream.address
    }

    fn pids(&self) -> impl Iterator<Item = u32> {
        std::iter::once(self.broker.pid()).chain(self.worker.as_ref().map(Leash::pid))
    }

    /// Processor time of its processes, when they have been idle for a moment or `limit` is over.
    pub(super) fn cpu(&self, limit: Duration) -> Result<Cpu> {
        let times = self.pids().map(|pid| procfs::cpu_time_when_idle(pid, limit));
        times.collect::<Result<_>>().map(Cpu)
    }

    /// What they have used since.
    pub(super) fn cpu_since(&self, before: &Cpu, limit: Duration) -> Result<Duration> {
        let now = self.cpu(limit)?;
        Ok(now.0.iter().zip(&before.0).map(|(now, before)| now.since(before)).sum())
    }

    /// What the threads of the first of them, ours where it is ours, have used, by their names.
    pub(super) fn cpu_by_thread(&self) -> BTreeMap<String, Duration> {
        procfs::cpu_by_thread(self.broker.pid())
    }

    /// The most that they had of memory, each at its time.
    pub(super) fn peak_rss(&self) -> Result<u64> {
        self.pids().map(|pid| procfs::resident(pid).map(|resident| resident.peak)).sum()
    }

    /// Ends all of them.
    pub(super) fn kill(self) -> Result<()> {
        if let Some(worker) = self.worker {
            worker.end(Signal::KILL, STOP_LIMIT)?;
        }
        self.broker.kill()?;
        self.upstream.kill()
    }
}

/// Ours: each reading makes an alert, and only alerts go up.
fn gateway(field: &Field, upstream: SocketAddr) -> Gateway {
    Gateway {
        uplink: Some(format!("mqtt://{upstream}")),
        uplink_streams: Some("\"alerts\""),
        uplink_keys: "window = 1000\n",
        keeping: Keeping {
            function_reads: FunctionReads::TheLoad,
            function_config: "{ limit = 0, every = true }",
            retain: "0s",
            ..Keeping::default()
        },
        ..field.gateway.clone()
    }
}

fn node_red(
    field: &Field,
    dir: &Path,
    broker: SocketAddr,
    upstream: SocketAddr,
) -> Result<Command> {
    let program = field.node_red.join("node_modules/node-red/red.js");
    ensure!(program.is_file(), "{} is not there: npm install node-red", program.display());
    let user_dir = dir.join("node-red");
    std::fs::create_dir_all(&user_dir)?;
    let flow = FLOW
        .replace("LOCAL_PORT", &broker.port().to_string())
        .replace("UPSTREAM_PORT", &upstream.port().to_string());
    std::fs::write(user_dir.join("flow.json"), flow)?;
    let settings = SETTINGS.replace("HTTP_PORT", &free_port()?.to_string());
    std::fs::write(user_dir.join("settings.js"), settings)?;
    let mut command = Command::new("node");
    command.arg(std::path::absolute(program)?).arg("--userDir").arg(user_dir);
    Ok(command)
}

fn script(field: &Field, dir: &Path, broker: SocketAddr, upstream: SocketAddr) -> Result<Command> {
    let script = dir.join("bridge.py");
    std::fs::write(&script, BRIDGE)?;
    let mut command = Command::new(&field.python);
    command.arg(script).arg(broker.port().to_string()).arg(upstream.port().to_string());
    Ok(command)
}

fn spawn(mut command: Command, dir: &Path) -> Result<Leash> {
    let log = std::fs::File::create(dir.join("worker.log"))?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Leash::spawn(&mut command).with_context(|| format!("cannot start {command:?}"))
}
