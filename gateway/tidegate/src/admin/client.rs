//! What a command says to the daemon, and hears.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_flow::FunctionEntry;
use tidegate_flow::status::{LossReport, Status};
use tidegate_wire::Digest;

use super::{Answer, Line, MAX_ANSWER, Request, VERSION};
use crate::core_handle::{ExportPage, TailPage};
use crate::export::{CarriedRecord, Origin};
use crate::hex;
use crate::packages::{Canary, Installed};
use crate::reload::ReloadTold;

/// Longest wait of a command for the daemon.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The same until imported records are on flash, or a change counts.
const IMPORTED_WITHIN: Duration = Duration::from_secs(60);

/// A command's connection to the daemon. Blocks.
#[derive(Debug)]
pub struct AdminClient {
    stream: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens.
    #[error("no gateway runs on {}; start it with `tidegate run`", .0.display())]
    NotRunning(PathBuf),
    /// The socket belongs to another user.
    #[error("{} belongs to another user; run the command as the user of the gateway", .0.display())]
    Forbidden(PathBuf),
    /// The connection failed.
    #[error("cannot ask the gateway at {}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The answer is none.
    #[error("the gateway at {} gave an answer that this command does not know: {text}", path.display())]
    Unknown {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// The daemon says no.
    #[error("{0}")]
    Refused(String),
}

impl AdminClient {
    /// Connects to the daemon of a data directory.
    ///
    /// # Errors
    /// No daemon runs there, or it belongs to another user.
    pub fn connect(socket: &Path) -> Result<Self, AdminError> {
        let path = socket.to_owned();
        let stream = UnixStream::connect(socket).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.set_write_timeout(Some(ANSWER_WITHIN))?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => Ok(Self { stream: BufReader::new(stream), path }),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    AdminError::NotRunning(path.parent().unwrap_or(&path).to_owned())
                }
                io::ErrorKind::PermissionDenied => AdminError::Forbidden(path),
                _ => AdminError::Io { path, error },
            }),
        }
    }

    /// The whole gateway at this moment.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn status(&mut self) -> Result<Status, AdminError> {
        match self.ask(Request::Status)? {
            Answer::Status(status) => Ok(*status),
            other => Err(self.unknown(&other)),
        }
    }

    /// A page of a stream's records.
    ///
    /// # Errors
    /// The daemon does not answer, or has no such stream.
    pub fn tail(
        &mut self,
        stream: &str,
        from: Option<u64>,
        max: usize,
    ) -> Result<TailPage, AdminError> {
        match self.ask(Request::Tail { stream: stream.to_owned(), from, max })? {
            Answer::Tail(page) => Ok(page),
            other => Err(self.unknown(&other)),
        }
    }

    /// What the loss ledger says of a stream.
    ///
    /// # Errors
    /// The daemon does not answer, or never had such a stream.
    pub fn losses(&mut self, stream: &str) -> Result<LossReport, AdminError> {
        match self.ask(Request::Losses { stream: stream.to_owned() })? {
            Answer::Losses(report) => Ok(report),
            other => Err(self.unknown(&other)),
        }
    }

    /// A page of a stream's records, with everything there is of them.
    ///
    /// # Errors
    /// The daemon does not answer, or has no such stream.
    pub fn export(
        &mut self,
        stream: &str,
        from: u64,
        max: usize,
    ) -> Result<ExportPage, AdminError> {
        match self.ask(Request::Export { stream: stream.to_owned(), from, max })? {
            Answer::Export(page) => Ok(page),
            other => Err(self.unknown(&other)),
        }
    }

    /// How many records of an import are on flash.
    ///
    /// # Errors
    /// The daemon does not answer, or has no such stream.
    pub fn imported(&mut self, stream: &str, id: &str) -> Result<u64, AdminError> {
        let (stream, id) = (stream.to_owned(), id.to_owned());
        match self.ask(Request::Imported { stream, id })? {
            Answer::Imported { records } => Ok(records),
            other => Err(self.unknown(&other)),
        }
    }

    /// Takes records into a stream; answers how many of the import are on flash.
    ///
    /// # Errors
    /// The daemon does not answer: they may be in all the same. Or it refuses: none is.
    pub fn import(
        &mut self,
        stream: &str,
        id: &str,
        start: u64,
        origin: &Origin,
        records: Vec<CarriedRecord>,
    ) -> Result<u64, AdminError> {
        let failed = |error| AdminError::Io { path: self.path.clone(), error };
        let within = Some(IMPORTED_WITHIN);
        self.stream.get_ref().set_read_timeout(within).map_err(failed)?;
        let (stream, id, origin) = (stream.to_owned(), id.to_owned(), origin.clone());
        match self.ask(Request::Import { stream, id, start, origin, records })? {
            Answer::Imported { records } => Ok(records),
            other => Err(self.unknown(&other)),
        }
    }

    /// All functions.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn functions(&mut self) -> Result<Vec<FunctionEntry>, AdminError> {
        match self.ask(Request::Functions)? {
            Answer::Functions(functions) => Ok(functions),
            other => Err(self.unknown(&other)),
        }
    }

    /// Begins to push a package of so many bytes; answers how many are there, and whether that is
    /// all.
    ///
    /// # Errors
    /// The daemon does not answer, or takes no such package.
    pub fn push_begin(&mut self, package: Digest, size: u64) -> Result<(u64, bool), AdminError> {
        let package = package.to_string();
        match self.ask(Request::PushBegin { package, size })? {
            Answer::Uploaded { have, whole } => Ok((have, whole)),
            other => Err(self.unknown(&other)),
        }
    }

    /// Brings a block; answers how many bytes are there then.
    ///
    /// # Errors
    /// The daemon does not answer, or the block does not go on where the upload is.
    pub fn push_block(
        &mut self,
        package: Digest,
        offset: u64,
        block: &[u8],
    ) -> Result<u64, AdminError> {
        let (package, block) = (package.to_string(), hex::encode(block));
        match self.ask(Request::PushBlock { package, offset, block })? {
            Answer::Uploaded { have, .. } => Ok(have),
            other => Err(self.unknown(&other)),
        }
    }

    /// Lets a package that is there run, in place of what has its name or beside it.
    ///
    /// # Errors
    /// The daemon does not answer: it may run all the same. Or something is wrong with the
    /// package: nothing has changed.
    pub fn push_end(
        &mut self,
        package: Digest,
        canary: Option<Canary>,
    ) -> Result<Installed, AdminError> {
        self.wait_for_changes()?;
        let package = package.to_string();
        match self.ask(Request::PushEnd { package, canary })? {
            Answer::Installed(installed) => Ok(installed),
            other => Err(self.unknown(&other)),
        }
    }

    /// Lets the version before run again.
    ///
    /// # Errors
    /// The daemon does not answer, or there is none.
    pub fn roll_back(&mut self, name: &str) -> Result<Installed, AdminError> {
        self.wait_for_changes()?;
        match self.ask(Request::RollBack { name: name.to_owned() })? {
            Answer::Installed(installed) => Ok(installed),
            other => Err(self.unknown(&other)),
        }
    }

    /// Takes a pushed function out.
    ///
    /// # Errors
    /// The daemon does not answer, or nothing was pushed under this name.
    pub fn remove_function(&mut self, name: &str) -> Result<(), AdminError> {
        self.wait_for_changes()?;
        match self.ask(Request::RemoveFunction { name: name.to_owned() })? {
            Answer::Removed { .. } => Ok(()),
            other => Err(self.unknown(&other)),
        }
    }

    /// From here on answers may take as long as changes do.
    pub(super) fn wait_for_changes(&mut self) -> Result<(), AdminError> {
        let failed = |error| AdminError::Io { path: self.path.clone(), error };
        self.stream.get_ref().set_read_timeout(Some(IMPORTED_WITHIN)).map_err(failed)
    }

    /// Lets the configuration be read again.
    ///
    /// # Errors
    /// The daemon does not answer: it may count all the same.
    pub fn reload(&mut self) -> Result<ReloadTold, AdminError> {
        self.wait_for_changes()?;
        match self.ask(Request::Reload)? {
            Answer::Reload(told) => Ok(told),
            other => Err(self.unknown(&other)),
        }
    }

    pub(super) fn ask(&mut self, request: Request) -> Result<Answer, AdminError> {
        let line = self.exchange(request).map_err(|error| {
            let timed_out = error.kind() == io::ErrorKind::WouldBlock;
            let error = if timed_out { io::ErrorKind::TimedOut.into() } else { error };
            AdminError::Io { path: self.path.clone(), error }
        })?;
        let unknown = |text| AdminError::Unknown { path: self.path.clone(), text };
        let answer: Line<Answer> =
            serde_json::from_slice(&line).map_err(|error| unknown(error.to_string()))?;
        match answer.body {
            Answer::Error(text) => Err(AdminError::Refused(text)),
            answer => Ok(answer),
        }
    }

    fn exchange(&mut self, request: Request) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(&Line { v: VERSION, body: request })?;
        bytes.push(b'\n');
        self.stream.get_mut().write_all(&bytes)?;
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(MAX_ANSWER as u64);
        limited.read_until(b'\n', &mut line)?;
        if line.ends_with(b"\n") { Ok(line) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    pub(super) fn unknown(&self, answer: &Answer) -> AdminError {
        let text = match answer {
            Answer::Status(_) => "a status",
            Answer::Losses(_) => "losses",
            Answer::Tail(_) | Answer::Export(_) => "a page",
            Answer::Imported { .. } => "how far an import is",
            Answer::Functions(_) => "functions",
            Answer::Uploaded { .. } => "how far an upload is",
            Answer::Installed(_) => "a version",
            Answer::Removed { .. } => "a removed function",
            Answer::Control(_) => "an order that was carried out",
            Answer::Firmware(_) => "something about firmware",
            Answer::Reload(_) => "what became of a configuration",
            Answer::Error(_) => "an error",
        };
        AdminError::Unknown { path: self.path.clone(), text: format!("{text} to another question") }
    }
}
