//! Debian's mosquitto as the upstream broker of the process tests.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cloud::wait_for_listener;
use crate::scratch::Scratch;

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
        let config = scratch.path().join("mosquitto.conf");
        let text = format!(
            "listener {} {}\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             max_queued_messages 0\nmax_inflight_messages 0\nlog_type error\nlog_type warning\n",
            address.port(),
            address.ip()
        );
        std::fs::write(&config, text)?;
        let log = std::fs::File::create(scratch.path().join("mosquitto.log"))?;
        let program = if std::path::Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| {
                format!("cannot start {program}: apt-get install mosquitto mosquitto-clients")
            })?;
        let mut mosquitto = Mosquitto { child, address, scratch };
        let listening = wait_for_listener(address);
        if let Some(status) = mosquitto.child.try_wait()? {
            bail!("mosquitto ended at once: {status}; {}", mosquitto.log());
        }
        listening?;
        Ok(mosquitto)
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

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
