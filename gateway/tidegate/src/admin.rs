//! Administration over a Unix socket in the data directory.
//!
//! One JSON object a line, each way. A request: `{"v":1,"request":"status"}` or
//! `{"v":1,"request":"tail","stream":"telemetry","from":null,"max":10}`. Its answer:
//! `{"v":1,"status":{...}}`, `{"v":1,"tail":{"records":[...],"next":7}}`, or
//! `{"v":1,"error":"..."}`; docs/commands.md has all of them. Who may open the socket (mode 0600) may ask everything.
//!
//! Limits: [`MAX_CLIENTS`] at a time; [`MAX_REQUEST`] and [`MAX_ANSWER`] bytes a line, and of one
//! client at a time [`MAX_IMPORT`]; a client that is idle for [`IDLE`] or does not read its answer for as long is dropped.

mod client;
mod control;
mod firmware;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_flow::status::{LossReport, Status};
use tidegate_flow::{FunctionEntry, ImportBatch};
use tidegate_wire::Digest;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::core_handle::{CoreHandle, ExportPage, TailPage};
use crate::export::{CarriedRecord, MAX_ID, Origin};
use crate::firmware::Bundles;
use crate::guest_log::GuestLog;
use crate::hex;
use crate::packages::{Canary, Installed, Installer};
use crate::reload::{ReloadTold, Reloader};
use crate::shutdown::Shutdown;

pub use client::{AdminClient, AdminError};
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
    /// The configuration is to be read again.
    Reload,
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
    /// To [`Request::Reload`].
    Reload(ReloadTold),
    /// The request is wrong, or the core does not answer.
    Error(String),
}

/// A bound socket that serves nobody yet; its file goes away with it.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    behind: Behind,
}

/// What answers beside the core.
#[derive(Debug, Clone, Default)]
struct Behind {
    /// Takes packages; another one when the configuration was read again.
    installer: Option<watch::Receiver<Arc<Installer>>>,
    /// Takes bundles of firmware.
    bundles: Option<Arc<Bundles>>,
    /// What functions say.
    log: GuestLog,
    /// Reads the configuration again.
    reloader: Option<Arc<Reloader>>,
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
        let socket = Self { listener, path: path.to_owned(), behind: Behind::default() };
        socket.listener.set_nonblocking(true)?;
        fs::set_permissions(&unnamed, Permissions::from_mode(0o600))?;
        fs::rename(&unnamed, path)?;
        Ok(socket)
    }

    /// The same, for a gateway that functions can be pushed to.
    #[must_use]
    pub fn with_installer(mut self, installer: watch::Receiver<Arc<Installer>>) -> Self {
        self.behind.installer = Some(installer);
        self
    }

    /// The same, for a gateway whose configuration can be read again.
    #[must_use]
    pub(crate) fn with_reloader(mut self, reloader: Arc<Reloader>) -> Self {
        self.behind.reloader = Some(reloader);
        self
    }

    /// The same, for a gateway that firmware can be pushed to.
    #[must_use]
    pub fn with_bundles(mut self, bundles: Bundles) -> Self {
        self.behind.bundles = Some(Arc::new(bundles));
        self
    }

    /// The same, with what functions say.
    #[must_use]
    pub fn with_log(mut self, log: GuestLog) -> Self {
        self.behind.log = log;
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
                    let behind = self.behind.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            ended = client(stream, &core, &behind, &long) => if let Err(error) = ended {
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
    behind: &Behind,
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

async fn answer(line: &[u8], core: &CoreHandle, behind: &Behind) -> Answer {
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
            return control::control(order, core, &behind.log).await.unwrap_or_else(Answer::Error);
        }
        Request::Firmware(request) => {
            let told = firmware::firmware(request, core, behind.bundles.as_deref()).await;
            return told.unwrap_or_else(Answer::Error);
        }
        Request::Reload => {
            let Some(reloader) = &behind.reloader else {
                return Answer::Error("the configuration cannot be read again here".to_owned());
            };
            return Answer::Reload(reloader.reload().await);
        }
        request @ (Request::PushBegin { .. }
        | Request::PushBlock { .. }
        | Request::PushEnd { .. }
        | Request::RollBack { .. }
        | Request::RemoveFunction { .. }) => {
            let installer = behind.installer.as_ref().map(|newest| newest.borrow().clone());
            let Some(installer) = installer else {
                return Answer::Error("functions cannot be pushed here".to_owned());
            };
            return change(request, core, &installer).await.unwrap_or_else(Answer::Error);
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
        | Request::Firmware(_)
        | Request::Reload => Err("this changes no function".to_owned()),
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

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
