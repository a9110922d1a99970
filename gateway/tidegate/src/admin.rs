//! Administration over a Unix socket in the data directory.
//!
//! One JSON object a line, each way. A request: `{"v":1,"request":"status"}` or
//! `{"v":1,"request":"tail","stream":"telemetry","from":null,"max":10}`. Its answer:
//! `{"v":1,"status":{...}}`, `{"v":1,"tail":{"records":[...],"next":7}}`, or
//! `{"v":1,"error":"..."}`; docs/commands.md has all of them. Who may open the socket (mode 0600) may ask everything.
//!
//! Limits: [`MAX_CLIENTS`] at a time; [`MAX_REQUEST`] and [`MAX_ANSWER`] bytes a line, and of one
//! client at a time [`MAX_IMPORT`]; a client that is idle for [`IDLE`] or does not read its answer for as long is dropped.

mod control;
mod firmware;

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_flow::status::{LossReport, Status};
use tidegate_flow::{FunctionEntry, ImportBatch};
use tidegate_wire::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::core_handle::{CoreHandle, ExportPage, TailPage};
use crate::export::{CarriedRecord, MAX_ID, Origin};
use crate::firmware::Bundles;
use crate::guest_log::GuestLog;
use crate::hex;
use crate::packages::{Canary, Installed, Installer};
use crate::shutdown::Shutdown;

pub use control::{Control, Controlled, MAX_LETTERS, MAX_LOG_PAGE};
pub use firmware::{Firmware, FirmwareTold, Halt};

/// Version of the protocol.
pub const VERSION: u32 = 1;
/// Clients at a time; further ones wait in the listener's queue.
pub const MAX_CLIENTS: usize = 16;
/// Longest request line, in bytes.
pub const MAX_REQUEST: usize = 64 << 10;
/// Longest request line of the one client that may send a long one, in bytes: an import of the
/// largest record.
pub const MAX_IMPORT: usize = 8 << 20;
/// Longest answer line, in bytes: a full page of records whose every byte is escaped.
pub const MAX_ANSWER: usize = 16 << 20;
/// Longest pause of a client.
pub const IDLE: Duration = Duration::from_secs(60);
/// Longest wait of a command for the daemon.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The same until imported records are on flash.
const IMPORTED_WITHIN: Duration = Duration::from_secs(60);
/// Pause after a failed accept (no file descriptors left): trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A line in either direction.
#[derive(Debug, Serialize, Deserialize)]
struct Line<T> {
    v: u32,
    #[serde(flatten)]
    body: T,
}

/// The version of a line whose body may be of another version.
#[derive(Debug, Deserialize)]
struct Version {
    v: u32,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// The whole gateway at this moment.
    Status,
    /// What the loss ledger says of a stream.
    Losses {
        /// Name of the stream.
        stream: String,
    },
    /// A page of a stream's records.
    Tail {
        /// Name of the stream.
        stream: String,
        /// First sequence wanted; `None` for the newest.
        from: Option<u64>,
        /// Most records.
        max: usize,
    },
    /// A page of a stream's records, with everything there is of them.
    Export {
        /// Name of the stream.
        stream: String,
        /// First sequence wanted.
        from: u64,
        /// Most records.
        max: usize,
    },
    /// How far an import has come.
    Imported {
        /// Name of the stream.
        stream: String,
        /// The import.
        id: String,
    },
    /// Records of another gateway for a stream.
    Import {
        /// Name of the stream that takes them.
        stream: String,
        /// The import.
        id: String,
        /// Records of the import before these.
        start: u64,
        /// Where they come from.
        origin: Origin,
        /// The records.
        records: Vec<CarriedRecord>,
    },
    /// All functions.
    Functions,
    /// A package is to come, in blocks.
    PushBegin {
        /// Its hash, in 64 hexadecimal digits.
        package: String,
        /// Its bytes.
        size: u64,
    },
    /// A block of it.
    PushBlock {
        /// Its hash.
        package: String,
        /// Where the block begins.
        offset: u64,
        /// The block, in hexadecimal digits.
        block: String,
    },
    /// It is complete: check it, and let it run.
    PushEnd {
        /// Its hash.
        package: String,
        /// On which share of the keys it is tried; `None`: it replaces what runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Canary>,
    },
    /// The version before is to run again.
    RollBack {
        /// The function's name.
        name: String,
    },
    /// A pushed function is to go.
    RemoveFunction {
        /// Its name.
        name: String,
    },
    /// Something else about a function.
    Control(Control),
    /// Something about devices and their firmware.
    Firmware(Firmware),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Losses`].
    Losses(LossReport),
    /// To [`Request::Tail`].
    Tail(TailPage),
    /// To [`Request::Export`].
    Export(ExportPage),
    /// To [`Request::Imported`] and [`Request::Import`]: how many records of the import are on
    /// flash.
    Imported {
        /// Number of records.
        records: u64,
    },
    /// To [`Request::Functions`].
    Functions(Vec<FunctionEntry>),
    /// To [`Request::PushBegin`] and [`Request::PushBlock`].
    Uploaded {
        /// Bytes that are there; the next block begins here.
        have: u64,
        /// The gateway has the whole package.
        whole: bool,
    },
    /// To [`Request::PushEnd`] and [`Request::RollBack`].
    Installed(Installed),
    /// To [`Request::RemoveFunction`].
    Removed {
        /// The function's name.
        name: String,
    },
    /// To [`Request::Control`].
    Control(Controlled),
    /// To [`Request::Firmware`].
    Firmware(FirmwareTold),
    /// The request is wrong, or the core does not answer.
    Error(String),
}

/// A bound socket that serves nobody yet; its file goes away with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Takes packages.
    installer: Option<Arc<Installer>>,
    /// Takes bundles of firmware.
    bundles: Option<Arc<Bundles>>,
    /// What functions say.
    log: GuestLog,
}

impl AdminSocket {
    /// Binds the socket. The caller holds the lock of the data directory, so a socket that is
    /// already there is what a killed daemon left.
    ///
    /// # Errors
    /// The file system has no sockets, or refuses.
    pub fn bind(path: &Path) -> io::Result<Self> {
        // It gets its name only when it has its mode, so that nobody else can open it between.
        let unnamed = path.with_extension("new");
        for stale in [&unnamed, path] {
            match fs::remove_file(stale) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&unnamed)?;
        let (installer, bundles, log) = (None, None, GuestLog::default());
        let socket = Self { listener, path: path.to_owned(), installer, bundles, log };
        socket.listener.set_nonblocking(true)?;
        fs::set_permissions(&unnamed, Permissions::from_mode(0o600))?;
        fs::rename(&unnamed, path)?;
        Ok(socket)
    }

    /// The same, for a gateway that functions can be pushed to.
    #[must_use]
    pub fn with_installer(mut self, installer: Installer) -> Self {
        self.installer = Some(Arc::new(installer));
        self
    }

    /// The same, for a gateway that firmware can be pushed to.
    #[must_use]
    pub fn with_bundles(mut self, bundles: Bundles) -> Self {
        self.bundles = Some(Arc::new(bundles));
        self
    }

    /// The same, with what functions say.
    #[must_use]
    pub fn with_log(mut self, log: GuestLog) -> Self {
        self.log = log;
        self
    }

    /// Serves until shutdown. Runs in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The listener cannot be handed to the runtime.
    pub async fn serve(self, core: CoreHandle, shutdown: Shutdown) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let slots = Arc::new(Semaphore::new(MAX_CLIENTS));
        let long = Arc::new(Semaphore::new(1));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.wait() => return Ok(()),
            };
            match accepted {
                Ok((stream, _)) => {
                    let (core, shutdown, long) = (core.clone(), shutdown.clone(), long.clone());
                    let (installer, log) = (self.installer.clone(), self.log.clone());
                    let bundles = self.bundles.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            ended = client(stream, &core, (installer.as_deref(), bundles.as_deref(), &log), &long) => if let Err(error) = ended {
                                tracing::debug!(%error, "administration client ended");
                            },
                            () = shutdown.wait() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an administration client");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

async fn client(
    stream: tokio::net::UnixStream,
    core: &CoreHandle,
    behind: (Option<&Installer>, Option<&Bundles>, &GuestLog),
    long: &Semaphore,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = tokio::io::BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_REQUEST as u64);
        timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let mut turn = None;
        if line.len() == MAX_REQUEST && !line.ends_with(b"\n") {
            turn = timeout(IDLE, long.acquire()).await?.ok();
            let mut limited = (&mut reader).take((MAX_IMPORT - MAX_REQUEST) as u64);
            timeout(IDLE, limited.read_until(b'\n', &mut line)).await??;
        }
        let whole = line.ends_with(b"\n");
        let answer = if whole {
            answer(&line, core, behind).await
        } else {
            Answer::Error(format!("the request is longer than {MAX_IMPORT} bytes or cut short"))
        };
        drop(turn);
        let mut bytes = serde_json::to_vec(&Line { v: VERSION, body: answer })?;
        bytes.push(b'\n');
        timeout(IDLE, writer.write_all(&bytes)).await??;
        if !whole {
            return Ok(());
        }
    }
}

async fn answer(
    line: &[u8],
    core: &CoreHandle,
    (installer, bundles, log): (Option<&Installer>, Option<&Bundles>, &GuestLog),
) -> Answer {
    let request = match parse(line) {
        Ok(request) => request,
        Err(problem) => return Answer::Error(problem),
    };
    let answer = match request {
        Request::Status => core.status().await.map(|status| Answer::Status(Box::new(status))),
        Request::Losses { stream } => core.losses(stream).await.map(Answer::Losses),
        Request::Tail { stream, from, max } => core.tail(stream, from, max).await.map(Answer::Tail),
        Request::Export { stream, from, max } => {
            core.export(stream, from, max).await.map(Answer::Export)
        }
        Request::Imported { stream, id } => {
            core.imported(stream, id).await.map(|records| Answer::Imported { records })
        }
        Request::Import { stream, id, start, origin, records } => {
            let batch = match import_batch(stream, id, start, &origin, records) {
                Ok(batch) => batch,
                Err(problem) => return Answer::Error(problem),
            };
            core.import(batch).await.map(|records| Answer::Imported { records })
        }
        Request::Functions => core.functions().await.map(Answer::Functions),
        Request::Control(order) => {
            return control::control(order, core, log).await.unwrap_or_else(Answer::Error);
        }
        Request::Firmware(request) => {
            let told = firmware::firmware(request, core, bundles).await;
            return told.unwrap_or_else(Answer::Error);
        }
        request @ (Request::PushBegin { .. }
        | Request::PushBlock { .. }
        | Request::PushEnd { .. }
        | Request::RollBack { .. }
        | Request::RemoveFunction { .. }) => {
            let Some(installer) = installer else {
                return Answer::Error("functions cannot be pushed here".to_owned());
            };
            return change(request, core, installer).await.unwrap_or_else(Answer::Error);
        }
    };
    answer.unwrap_or_else(|error| Answer::Error(error.to_string()))
}

/// Changes a pushed function, or takes a part of one.
async fn change(
    request: Request,
    core: &CoreHandle,
    installer: &Installer,
) -> Result<Answer, String> {
    let named = |text: &str| Digest::parse(text).ok_or_else(|| format!("\"{text}\" is no hash"));
    match request {
        Request::PushBegin { package, size } => {
            let progress = installer.begin(core, named(&package)?, size).await?;
            Ok(Answer::Uploaded { have: progress.have, whole: progress.whole })
        }
        Request::PushBlock { package, offset, block } => {
            let block = hex::decode(&block).ok_or("the block is not in hexadecimal digits")?;
            let have = installer.append(named(&package)?, offset, block).await?;
            Ok(Answer::Uploaded { have, whole: false })
        }
        Request::PushEnd { package, canary } => {
            installer.install(core, named(&package)?, canary).await.map(Answer::Installed)
        }
        Request::RollBack { name } => installer.roll_back(core, name).await.map(Answer::Installed),
        Request::RemoveFunction { name } => {
            installer.remove(core, name.clone()).await.map(|()| Answer::Removed { name })
        }
        Request::Status
        | Request::Losses { .. }
        | Request::Tail { .. }
        | Request::Export { .. }
        | Request::Imported { .. }
        | Request::Import { .. }
        | Request::Functions
        | Request::Control(_)
        | Request::Firmware(_) => Err("this changes no function".to_owned()),
    }
}

fn import_batch(
    stream: String,
    id: String,
    start: u64,
    origin: &Origin,
    records: Vec<CarriedRecord>,
) -> Result<ImportBatch, String> {
    if !(1..=MAX_ID).contains(&id.len()) {
        return Err(format!("an import's id of {} bytes, 1 to {MAX_ID} are allowed", id.len()));
    }
    if records.is_empty() || start.checked_add(records.len() as u64).is_none() {
        return Err("an import without records, or with too many".to_owned());
    }
    let numbered = records.into_iter().zip(start + 1..).map(|(record, number)| {
        record.into_record(origin).map_err(|problem| format!("record {number}: {problem}"))
    });
    Ok(ImportBatch { stream, id, start, records: numbered.collect::<Result<_, _>>()? })
}

fn parse(line: &[u8]) -> Result<Request, String> {
    let version: Version =
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    if version.v != VERSION {
        let version = version.v;
        return Err(format!(
            "the request has version {version} and this daemon speaks {VERSION}; use the \
             tidegate command that belongs to the daemon"
        ));
    }
    let line: Line<Request> =
        serde_json::from_slice(line).map_err(|error| format!("not a request: {error}"))?;
    Ok(line.body)
}

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
    #[error("cannot ask the gateway at {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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
                _ => AdminError::Io { path, source: error },
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
        let failed = |source| AdminError::Io { path: self.path.clone(), source };
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
    fn wait_for_changes(&mut self) -> Result<(), AdminError> {
        let failed = |source| AdminError::Io { path: self.path.clone(), source };
        self.stream.get_ref().set_read_timeout(Some(IMPORTED_WITHIN)).map_err(failed)
    }

    fn ask(&mut self, request: Request) -> Result<Answer, AdminError> {
        let line = self.exchange(request).map_err(|source| {
            let timed_out = source.kind() == io::ErrorKind::WouldBlock;
            let source = if timed_out { io::ErrorKind::TimedOut.into() } else { source };
            AdminError::Io { path: self.path.clone(), source }
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

    fn unknown(&self, answer: &Answer) -> AdminError {
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
            Answer::Error(_) => "an error",
        };
        AdminError::Unknown { path: self.path.clone(), text: format!("{text} to another question") }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::spawn_blocking;

    use super::*;
    use crate::sample;
    use crate::scratch::Scratch;
    use crate::serving::{Answers, serve_core};

    struct Daemon {
        scratch: Scratch,
        shutdown: Shutdown,
        served: tokio::task::JoinHandle<io::Result<()>>,
    }

    impl Daemon {
        fn start() -> Self {
            let scratch = Scratch::new();
            let socket = AdminSocket::bind(&scratch.path().join("admin.sock")).unwrap();
            let shutdown = Shutdown::default();
            let core = serve_core(Answers::Status(sample::status()));
            let served = tokio::spawn(socket.serve(core, shutdown.clone()));
            Self { scratch, shutdown, served }
        }

        fn path(&self) -> PathBuf {
            self.scratch.path().join("admin.sock")
        }

        /// Runs a client, which blocks, beside the server.
        async fn client<T: Send + 'static>(
            &self,
            act: impl FnOnce(AdminClient) -> T + Send + 'static,
        ) -> T {
            let path = self.path();
            spawn_blocking(move || act(AdminClient::connect(&path).unwrap())).await.unwrap()
        }

        /// The answers to raw bytes.
        async fn raw(&self, bytes: Vec<u8>) -> String {
            let path = self.path();
            let exchange = move || {
                let mut stream = UnixStream::connect(path).unwrap();
                // The server may close before it has read everything.
                let _ = stream.write_all(&bytes);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let mut answer = String::new();
                let _ = stream.read_to_string(&mut answer);
                answer
            };
            spawn_blocking(exchange).await.unwrap()
        }
    }

    #[tokio::test]
    async fn a_status_arrives_as_it_was() {
        let daemon = Daemon::start();
        let (first, second) =
            daemon.client(|mut c| (c.status().unwrap(), c.status().unwrap())).await;
        assert_eq!(first, sample::status());
        assert_eq!(second, sample::status());
    }

    #[tokio::test]
    async fn a_tail_goes_on_where_the_page_ended() {
        let daemon = Daemon::start();
        let (newest, page) = daemon
            .client(|mut c| {
                let newest = c.tail("telemetry", None, 2).unwrap();
                (newest, c.tail("telemetry", Some(5), 3).unwrap())
            })
            .await;
        let seqs = |page: &TailPage| page.records.iter().map(|r| r.seq).collect::<Vec<_>>();
        assert_eq!((seqs(&newest), newest.next), (vec![999, 1000], 1001));
        assert_eq!((seqs(&page), page.next), (vec![5, 6, 7], 8));
        assert_eq!(page.records[0].payload, b"5");
        assert_eq!(page.records[1].payload, [0xff, 0]);
    }

    #[tokio::test]
    async fn an_unknown_stream_is_refused_in_words() {
        let daemon = Daemon::start();
        let error = daemon.client(|mut c| c.tail("weather", None, 2).unwrap_err()).await;
        assert_eq!(error.to_string(), "no stream \"weather\"");
    }

    #[tokio::test]
    async fn what_is_no_request_is_refused_and_the_next_one_answered() {
        let daemon = Daemon::start();
        let answer = daemon
            .raw(
                b"hello\n{\"v\":2,\"request\":\"dance\"}\n{\"v\":1,\"request\":\"status\"}\n"
                    .to_vec(),
            )
            .await;
        let lines: Vec<&str> = answer.lines().collect();
        assert!(lines[0].starts_with(r#"{"v":1,"error":"not a request: "#), "{answer}");
        assert!(lines[1].contains("the request has version 2 and this daemon speaks 1"));
        assert!(lines[2].starts_with(r#"{"v":1,"status":{"gateway":"gw-01""#), "{answer}");
    }

    #[tokio::test]
    async fn a_request_without_an_end_is_refused() {
        let daemon = Daemon::start();
        for bytes in [vec![b'x'; MAX_IMPORT + 1], vec![b'x'; 70_000], b"{\"v\":1".to_vec()] {
            let answer = daemon.raw(bytes).await;
            assert!(answer.is_empty() || answer.contains("longer than 8388608 bytes"), "{answer}");
        }
    }

    #[tokio::test]
    async fn the_socket_is_for_its_owner_and_goes_away_at_shutdown() {
        let daemon = Daemon::start();
        let mode = fs::metadata(daemon.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        daemon.shutdown.request();
        daemon.served.await.unwrap().unwrap();
        let path = daemon.scratch.path().join("admin.sock");
        assert!(!path.exists());
        let error = AdminClient::connect(&path).unwrap_err().to_string();
        assert!(error.starts_with("no gateway runs on "), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_a_killed_daemon_left_is_replaced() {
        let scratch = Scratch::new();
        let path = scratch.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let error = AdminClient::connect(&path).unwrap_err().to_string();
        assert!(error.starts_with("no gateway runs on "), "{error}");
        let _socket = AdminSocket::bind(&path).unwrap();
        AdminClient::connect(&path).unwrap();
    }
}
