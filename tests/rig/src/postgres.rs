//! Debian's PostgreSQL as the database of the process tests: a cluster of its own in a scratch
//! directory, which may be killed and started again.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::scratch::Scratch;

/// The server does not run as root, its package makes this user.
const USER: &str = "postgres";
const START_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const INSTALL: &str = "apt-get install postgresql";

/// A PostgreSQL server on a free port; killed when dropped.
#[derive(Debug)]
pub struct Postgres {
    binaries: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
    scratch: Scratch,
}

impl Postgres {
    /// Makes a cluster and starts it.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Postgres> {
        let binaries = binaries()?;
        let scratch = Scratch::new("postgres")?;
        if is_root()? {
            let (user, group) = (id("-u", &[USER])?, id("-g", &[USER])?);
            chown(scratch.path(), Some(user), Some(group))?;
        }
        let address = crate::ports::free()?;
        let mut postgres = Postgres { binaries, address, child: None, scratch };
        let made = postgres
            .program("initdb")?
            .arg("--pgdata")
            .arg(postgres.data())
            .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale"])
            .output()
            .context("cannot start initdb")?;
        ensure!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        postgres.start_again()?;
        Ok(postgres)
    }

    /// Starts the server after a kill, and waits until it answers.
    ///
    /// # Errors
    /// When it does not answer within a minute; with the end of its log.
    pub fn start_again(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while self.sql("select 1").is_err() {
            ensure!(
                Instant::now() < deadline,
                "PostgreSQL does not answer after {START_TIMEOUT:?}:\n{}",
                self.log()
            );
            // After a kill it refuses to start while processes of its former life end.
            let ended = match &mut self.child {
                Some(child) => child.try_wait()?.is_some(),
                None => true,
            };
            if ended {
                self.child = Some(self.spawn()?);
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// `kill -9` of the server's first process; its others end by themselves.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("PostgreSQL does not run") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// How programs connect.
    pub fn connection_string(&self) -> String {
        let (host, port) = (self.address.ip(), self.address.port());
        format!("host={host} port={port} user=postgres dbname=postgres connect_timeout=5")
    }

    /// Runs a statement with `psql`; rows are lines, columns are separated by `|`.
    ///
    /// # Errors
    /// When the server does not answer or refuses the statement.
    pub fn sql(&self, statement: &str) -> Result<String> {
        let output = Command::new("psql")
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--quiet"])
            .args(["--dbname", &self.connection_string(), "--command", statement])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start psql: {INSTALL}"))?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn spawn(&self) -> Result<Child> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        self.program("postgres")?
            .arg("-D")
            .arg(self.data())
            .arg("-p")
            .arg(self.address.port().to_string())
            // No socket file: its directory belongs to the package.
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start postgres")
    }

    /// One of the server's programs, as a user that it accepts. `setpriv` becomes the program, so
    /// a kill of this child is a kill of the server.
    fn program(&self, name: &str) -> Result<Command> {
        let path = self.binaries.join(name);
        if !is_root()? {
            return Ok(Command::new(path));
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid", USER, "--regid", USER, "--clear-groups", "--"]).arg(path);
        // The directory from which the tests run may be closed to that user.
        command.current_dir(self.scratch.path());
        Ok(command)
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.scratch.path().join("postgres.log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where Debian has the server's programs, of the newest version installed.
fn binaries() -> Result<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql");
    let entries = std::fs::read_dir(versions)
        .with_context(|| format!("{} is missing: {INSTALL}", versions.display()))?;
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let version = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let binaries = path.join("bin");
        if let Some(version) = version.filter(|_| binaries.join("initdb").is_file()) {
            found.push((version, binaries));
        }
    }
    let newest = found.into_iter().max().with_context(|| format!("no initdb: {INSTALL}"))?;
    Ok(newest.1)
}

fn is_root() -> Result<bool> {
    Ok(id("-u", &[])? == 0)
}

fn id(which: &str, user: &[&str]) -> Result<u32> {
    let output = Command::new("id").arg(which).args(user).output().context("cannot start id")?;
    ensure!(output.status.success(), "id {which} {user:?} failed: {INSTALL}");
    let text = String::from_utf8(output.stdout)?;
    text.trim().parse().with_context(|| format!("id {which} says {text}"))
}
