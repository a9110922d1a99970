//! `tidegate run`

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Failure;
use crate::admin::AdminSocket;
use crate::config::{self, Settings};
use crate::core;
use crate::core_handle::CoreHandle;
use crate::data_dir::DataDir;
use crate::firmware::Bundles;
use crate::folders::Folders;
use crate::guest_log::GuestLog;
use crate::http::HttpListener;
use crate::logging::{self, Volume};
use crate::reload::{Listening, Reloader};
use crate::routes::{Gate, MAX_CONNECTIONS, Served};
use crate::shutdown::{Shutdown, on_signals};
use crate::supervisor::Supervisor;

/// Runs the gateway until it is asked to stop.
pub(super) fn run(file: &Path) -> Result<(), Failure> {
    let (settings, text) = config::load_text(file, false)?;
    let volume = logging::start(settings.log)?;
    match serve(&settings, text, volume) {
        Ok(()) => {
            tracing::info!("stopped; everything acknowledged is on flash");
            Ok(())
        }
        Err(error) => {
            tracing::error!("{error:#}");
            Err(Failure::Said)
        }
    }
}

fn serve(settings: &Settings, text: String, volume: Volume) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(gateway = settings.gateway, version, "starting");
    let shutdown = on_signals()?;
    let _lock = DataDir::lock(&settings.data_dir)?;
    let (handle, requests) = CoreHandle::new();
    let log = GuestLog::default();
    let (routes, served) = watch::channel(Served::default());
    let (reloader, listening) = Reloader::new(settings, text, handle.clone(), volume, served)?;
    let security = listening.security.clone();
    let side = Side::bind(settings, log.clone(), reloader, listening)?;
    let http = side.http_address();
    let side = side.start(handle.clone(), shutdown.clone())?;
    let folders = Folders::start(&settings.folders, handle)
        .context("cannot start the thread that looks into folders")?;
    let ready = |mqtt: &[SocketAddr]| {
        let mqtt: Vec<String> = mqtt.iter().map(ToString::to_string).collect();
        let mqtt = mqtt.join(" ");
        tracing::info!(mqtt, http, "ready");
        Supervisor::of_environment().ready(&format!("MQTT on {mqtt}; HTTP on {http}"));
    };
    let result = core::run(settings, log, requests, routes, security, shutdown.receiver(), ready);
    // Without the core nobody answers: the side ends as it would after a signal.
    shutdown.request();
    if let Some(folders) = folders {
        folders.stop();
    }
    side.join().map_err(|_| anyhow!("the thread for HTTP and administration panicked"))??;
    result
}

/// What the side thread serves, bound before the store is opened, so that an address in use is
/// known at once.
struct Side {
    admin: AdminSocket,
    http: Option<HttpListener>,
    routes: Vec<HttpListener>,
    gates: watch::Receiver<Arc<Gate>>,
    reloader: Arc<Reloader>,
}

impl Side {
    fn bind(
        settings: &Settings,
        log: GuestLog,
        reloader: Reloader,
        listening: Listening,
    ) -> anyhow::Result<Self> {
        let path = settings.admin_socket();
        let admin = AdminSocket::bind(&path)
            .with_context(|| format!("cannot make the administration socket {}", path.display()))?;
        let reloader = Arc::new(reloader);
        let admin = admin.with_installer(listening.installer).with_reloader(reloader.clone());
        let admin = admin.with_bundles(Bundles::new(settings)?).with_log(log);
        let bind = |address| {
            HttpListener::bind(address).with_context(|| {
                format!(
                    "http.listen = \"{address}\": cannot listen there; choose another address, \
                     or set http.listen = \"off\""
                )
            })
        };
        let http = settings.http.map(bind).transpose()?;
        let bind = |address: &SocketAddr| {
            HttpListener::bind(*address).with_context(|| {
                format!("http.routes_listen = \"{address}\": cannot listen there; choose another address")
            })
        };
        let routes = settings.routes.listen.iter().map(bind).collect::<anyhow::Result<_>>()?;
        Ok(Self { admin, http, routes, gates: listening.gate, reloader })
    }

    fn http_address(&self) -> String {
        let address = self.http.as_ref().and_then(|http| http.address().ok());
        address.map_or_else(|| "off".to_owned(), |address| address.to_string())
    }

    fn start(
        self,
        core: CoreHandle,
        shutdown: Shutdown,
    ) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let hangup = {
            let _guard = runtime.enter();
            signal(SignalKind::hangup()).context("cannot handle SIGHUP")?
        };
        let serve = async move {
            tokio::spawn(reload_at(hangup, self.reloader));
            let admin = self.admin.serve(core.clone(), shutdown.clone());
            let routes = serve_routes(self.routes, self.gates, shutdown.clone());
            match self.http {
                Some(http) => tokio::try_join!(admin, routes, http.serve(core, shutdown)).map(drop),
                None => tokio::try_join!(admin, routes).map(drop),
            }
        };
        thread::Builder::new()
            .name("side".to_owned())
            .spawn(move || runtime.block_on(serve).context("HTTP and administration failed"))
            .context("cannot start a thread")
    }
}

/// Reads the configuration again at each SIGHUP; what comes of it is in the log.
async fn reload_at(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        reloader.reload().await;
    }
}

/// Serves the routes of functions on all addresses.
async fn serve_routes(
    listeners: Vec<HttpListener>,
    gates: watch::Receiver<Arc<Gate>>,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut serving = JoinSet::new();
    for listener in listeners {
        let (gates, slots, shutdown) = (gates.clone(), slots.clone(), shutdown.clone());
        serving.spawn(async move {
            // Connections keep the rules that counted when they came.
            let router = |peer| gates.borrow().clone().router(peer);
            listener.serve_with(&router, &slots, &shutdown).await
        });
    }
    while let Some(ended) = serving.join_next().await {
        ended.map_err(std::io::Error::other)??;
    }
    Ok(())
}
