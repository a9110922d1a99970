//! A server of the tests as a process, which may be killed and started again: the reference server
//! of the HTTPS sink, and the S3 server.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cloud::wait_for_listener;

/// `tidegate-sink` or `tidegate-s3`; killed when dropped.
#[derive(Debug)]
pub struct Sink {
    binary: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
    child: Option<Child>,
}

impl Sink {
    /// Starts it on a free port; `more` are its arguments besides where to listen.
    ///
    /// # Errors
    /// When the binary is missing or does not listen.
    pub fn start(binary: &Path, more: &[&str]) -> Result<Sink> {
        if !binary.is_file() {
            bail!("{} is missing: cargo xtask test builds it", binary.display());
        }
        let address = crate::ports::free()?;
        let listen = address.to_string();
        let arguments = ["--listen", &listen, "--tied"];
        let arguments = arguments.iter().chain(more).map(|one| (*one).to_owned()).collect();
        let mut sink = Sink { binary: binary.to_owned(), arguments, address, child: None };
        sink.start_again()?;
        Ok(sink)
    }

    /// Starts it after a kill, at the same address.
    ///
    /// # Errors
    /// When it runs already, or does not listen.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("the sink runs already");
        }
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            // Ends when this process does, as the pipe closes then.
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.child = Some(child);
        wait_for_listener(self.address)
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it does not run (it ended by itself).
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("the sink does not run") };
        if let Some(status) = child.try_wait()? {
            bail!("the sink had ended by itself: {status}");
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
