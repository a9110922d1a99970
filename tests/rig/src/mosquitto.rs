//! Debian's mosquitto as the upstream broker of the process tests.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cloud::wait_for_listener;
use crate::scratch::Scratch;
use crate::terminate::terminate;

/// Time in which it must have saved what it holds.
const SAVING: Duration = Duration::from_secs(20);

/// A mosquitto process on a free port; killed when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl Mosquitto {
    /// Starts it with unlimited queues: by default it drops what a subscriber lags behind by more
    /// than 1,000 messages.
    ///
    /// # Errors
    /// When mosquitto is not installed or does not start.
    pub fn start() -> Result<Mosquitto> {
        let scratch = Scratch::new("mosquitto")?;
        let address = crate::ports::free()?;
        // As root it would become another user, who may not write here.
        let text = format!(
            "listener {} {}\nallow_anonymous true\nset_tcp_nodelay true\nuser root\n\
             persistence true\npersistence_location {}/\nautosave_interval 0\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nlog_type warning\n",
            address.port(),
            address.ip(),
            scratch.path().display()
        );
        std::fs::write(scratch.path().join("mosquitto.conf"), text)?;
        let child = spawn(&scratch)?;
        let mut mosquitto = Mosquitto { child, address, scratch };
        mosquitto.listening()?;
        Ok(mosquitto)
    }

    /// Ends it as an operator does and starts it again: it keeps what it has acknowledged.
    ///
    /// # Errors
    /// When it does not end, or does not start again.
    pub fn restart(&mut self) -> Result<()> {
        if terminate(&mut self.child, SAVING)?.is_none() {
            bail!("mosquitto did not end within {SAVING:?}; {}", self.log());
        }
        self.child = spawn(&self.scratch)?;
        self.listening()
    }

    fn listening(&mut self) -> Result<()> {
        let listening = wait_for_listener(self.address);
        if let Some(status) = self.child.try_wait()? {
            bail!("mosquitto ended at once: {status}; {}", self.log());
        }
        listening
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("mosquitto.log")).unwrap_or_default()
    }
}

fn spawn(scratch: &Scratch) -> Result<Child> {
    let log =
        File::options().create(true).append(true).open(scratch.path().join("mosquitto.log"))?;
    let program = if std::path::Path::new("/usr/sbin/mosquitto").exists() {
        "/usr/sbin/mosquitto"
    } else {
        "mosquitto"
    };
    Command::new(program)
        .arg("-c")
        .arg(scratch.path().join("mosquitto.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| {
            format!("cannot start {program}: apt-get install mosquitto mosquitto-clients")
        })
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
