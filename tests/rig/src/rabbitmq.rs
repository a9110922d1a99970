//! Debian's RabbitMQ with its MQTT plugin (3.1.1) as an upstream of the process tests.
//!
//! Everything of it is its own: node, ports, home with the Erlang cookie, store. Its port mapper
//! (epmd) would outlive it as a daemon, so it gets one that is a process of ours.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::ports;
use crate::scratch::Scratch;

/// The server behind Debian's script, which knows only the system's directories.
const PROGRAM: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";
/// It takes 15 s on an idle machine.
const START_TIMEOUT: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);

/// Whether RabbitMQ can be started here; if not, says on standard error how to get it.
pub fn is_installed() -> bool {
    let there = Path::new(PROGRAM).is_file();
    if !there {
        eprintln!("skipped: RabbitMQ is not installed (apt-get install rabbitmq-server)");
    }
    there
}

/// A RabbitMQ server on ports of its own; killed when dropped.
#[derive(Debug)]
pub struct RabbitMq {
    /// Leads the group of the server's processes.
    server: Child,
    port_mapper: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl RabbitMq {
    /// Starts it and waits until it listens for MQTT.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start; with what it logged.
    pub fn start() -> Result<RabbitMq> {
        let scratch = Scratch::new("rabbitmq")?;
        let [address, nodes, mapper] = [ports::free()?, ports::free()?, ports::free()?];
        let text = format!(
            "listeners.tcp = none\nmqtt.listeners.tcp.default = {address}\n\
             mqtt.allow_anonymous = true\nmqtt.prefetch = 200\ndisk_free_limit.absolute = 1MB\n"
        );
        fs::write(scratch.path().join("rabbitmq.conf"), text)?;
        fs::write(scratch.path().join("enabled_plugins"), "[rabbitmq_mqtt].\n")?;
        fs::create_dir(scratch.path().join("home"))?;
        let mut port_mapper = Command::new("epmd")
            .args(["-port", &mapper.port().to_string()])
            .args(["-address", &Ipv4Addr::LOCALHOST.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start epmd: apt-get install rabbitmq-server")?;
        let server = match launch(scratch.path(), nodes.port(), mapper.port()) {
            Ok(server) => server,
            Err(error) => {
                end(&mut port_mapper);
                return Err(error);
            }
        };
        let mut rabbit = RabbitMq { server, port_mapper, address, scratch };
        rabbit.wait()?;
        Ok(rabbit)
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.server.try_wait()? {
                bail!("RabbitMQ ended at its start: {status}; {}", self.log());
            }
            if Instant::now() > deadline {
                bail!("RabbitMQ does not listen after {START_TIMEOUT:?}; {}", self.log());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// Where it listens for MQTT.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.path().join("out")).unwrap_or_default()
    }
}

fn launch(directory: &Path, nodes: u16, mapper: u16) -> Result<Child> {
    let log = File::create(directory.join("out"))?;
    Command::new(PROGRAM)
        .env("HOME", directory.join("home"))
        .env("ERL_EPMD_ADDRESS", Ipv4Addr::LOCALHOST.to_string())
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("RABBITMQ_NODENAME", format!("tidegate-{nodes}@localhost"))
        .env("RABBITMQ_DIST_PORT", nodes.to_string())
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        .env("RABBITMQ_CONF_ENV_FILE", directory.join("none"))
        .env("RABBITMQ_CONFIG_FILE", directory.join("rabbitmq"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", directory.join("advanced"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("enabled_plugins"))
        .env("RABBITMQ_MNESIA_BASE", directory.join("store"))
        .env("RABBITMQ_LOG_BASE", directory.join("log"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", directory.join("pid"))
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {PROGRAM}: apt-get install rabbitmq-server"))
}

/// It may have ended already; then there is nothing to kill.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        let id = |text: String| text.trim().parse().ok().and_then(Pid::from_raw);
        let machine = fs::read_to_string(self.scratch.path().join("pid")).ok().and_then(id);
        let script = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw);
        // The Erlang machine first: then the script, whose child it is, buries it and ends.
        let _ = match (machine, script) {
            (Some(machine), _) => kill_process(machine, Signal::KILL),
            (None, Some(script)) => kill_process_group(script, Signal::KILL),
            (None, None) => Ok(()),
        };
        let _ = self.server.wait();
        end(&mut self.port_mapper);
    }
}
