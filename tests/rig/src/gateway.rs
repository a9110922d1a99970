//! The gateway under test: a real `tidegate run` process with a configuration and a data
//! directory of its own, which may be killed and started again.

use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::link::Link;
use crate::mqtt::{self, Connect, Version};
use crate::scratch::Scratch;
use crate::terminate::terminate;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);
/// Lines of the log that an error message shows.
const LOG_LINES: usize = 15;

/// A gateway; its process is killed when this is dropped.
#[derive(Debug)]
pub struct Gateway {
    binary: PathBuf,
    scratch: Scratch,
    mqtt: SocketAddr,
    http: SocketAddr,
    child: Option<Child>,
    tied_by: Option<PathBuf>,
}

impl Gateway {
    /// Prepares a gateway; nothing is started yet. In `config`, `{data}`, `{mqtt}` and `{http}`
    /// are replaced by a data directory and free addresses.
    ///
    /// # Errors
    /// When the binary is missing or the configuration cannot be written.
    pub fn new(binary: &Path, scratch: Scratch, config: &str) -> Result<Gateway> {
        if !binary.is_file() {
            bail!("{} is missing: cargo build -p tidegate", binary.display());
        }
        let (mqtt, http) = (crate::ports::free()?, crate::ports::free()?);
        let binary = binary.to_owned();
        let gateway = Gateway { binary, scratch, mqtt, http, child: None, tied_by: None };
        fs::write(gateway.config_file(), gateway.filled_in(config))
            .with_context(|| format!("cannot write {}", gateway.config_file().display()))?;
        Ok(gateway)
    }

    /// Starts the process by `rig tied`, so that it ends with the thread that starts it, even
    /// when this process is killed.
    pub fn tie_with(&mut self, rig: &Path) {
        self.tied_by = Some(rig.to_owned());
    }

    /// A configuration with this gateway's directory and addresses in it.
    pub fn filled_in(&self, config: &str) -> String {
        config
            .replace("{data}", &self.data_dir().display().to_string())
            .replace("{mqtt}", &self.mqtt.to_string())
            .replace("{http}", &self.http.to_string())
    }

    /// Where it listens for MQTT.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Where it listens for HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Its process id; `None` when there is none.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.scratch.path().join("tidegate.toml")
    }

    /// Where its output goes, over all its runs.
    pub fn log_file(&self) -> PathBuf {
        self.scratch.path().join("gateway.log")
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The directory of everything that belongs to it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Starts the process and waits until it answers a CONNECT.
    ///
    /// # Errors
    /// When it ends or does not answer within 30 s; with the end of its log.
    pub fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the gateway runs already");
        }
        let log = self.open_log()?;
        let mut command = match &self.tied_by {
            Some(rig) => {
                let mut command = Command::new(rig);
                command.arg("tied").arg(std::process::id().to_string()).arg(&self.binary);
                command
            }
            None => Command::new(&self.binary),
        };
        let child = command
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            // Ctrl-C is for whoever runs the rig, not for the gateway.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        let deadline = Instant::now() + START_TIMEOUT;
        while let Err(error) = self.probe() {
            if let Some(status) = self.exited()? {
                self.child = None;
                bail!("the gateway ended at its start: {status}\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                let tail = self.log_tail();
                return Err(error).with_context(|| {
                    format!("the gateway does not answer after {START_TIMEOUT:?}\n{tail}")
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log_file();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.with_context(|| format!("cannot open {}", path.display()))
    }

    /// One CONNECT and DISCONNECT.
    fn probe(&self) -> Result<()> {
        let connect =
            Connect { version: Version::V311, client: "rig-probe", keep_alive: 10, clean: true };
        let mut link = Link::open(self.mqtt, &connect, PROBE_TIMEOUT)?;
        let mut bytes = Vec::new();
        mqtt::encode_disconnect(&mut bytes);
        link.send(&bytes)
    }

    /// How the process ended; `None` while it runs or when there is none.
    ///
    /// # Errors
    /// When the operating system does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?),
            None => Ok(None),
        }
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it does not run (it ended by itself).
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("the gateway does not run") };
        if let Some(status) = child.try_wait()? {
            bail!("the gateway had ended by itself: {status}\n{}", self.log_tail());
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end, at most for `patience`.
    ///
    /// # Errors
    /// When it does not end in time (then it is killed), or does not run.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        let Some(mut child) = self.child.take() else { bail!("the gateway does not run") };
        let ended = terminate(&mut child, patience)?;
        ended.with_context(|| {
            format!("the gateway did not end within {patience:?}\n{}", self.log_tail())
        })
    }

    /// Runs a `tidegate` command against this gateway and returns its standard output.
    ///
    /// # Errors
    /// When the command fails; with its standard error.
    pub fn command(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.binary)
            .args(arguments)
            .arg("--config")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        if !output.status.success() {
            bail!(
                "tidegate {}: {}: {}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("the output is not UTF-8")
    }

    /// `tidegate status --json`.
    ///
    /// # Errors
    /// When the command fails or prints anything but JSON.
    pub fn status(&self) -> Result<Value> {
        let text = self.command(&["status", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("status is not JSON: {text}"))
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    /// Leaves all its files there at the end.
    pub fn keep_files(&mut self) {
        self.scratch.keep();
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
