//! The thread where clients come in that need more than a TCP connection: PROXY header, TLS,
//! WebSocket. It also notices when certificates, revocation lists or users change.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{CertificateError, ServerConnection};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc::Sender;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;

use super::addresses::{Addresses, Place};
use super::keys::{Keys, stamps};
use super::origin::Pages;
use super::turned_away::{Reason, TurnedAway, Who};
use super::upgrade::{NotOpened, Refusal};
use super::{proxy, upgrade};
use crate::config::{ListenerSettings, SecuritySettings, Settings};

/// How often the files are looked at.
const WATCH: Duration = Duration::from_secs(2);
/// Pause after `accept` failed: out of descriptors does not get better by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Handshakes under way; each takes some 30 KiB. Further clients wait in the kernel.
const MAX_HANDSHAKES: usize = 512;

/// A client that is through.
pub(crate) struct Arrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    /// Index of its listener in the settings.
    pub(crate) listener: usize,
    pub(crate) tls: Option<Box<ServerConnection>>,
    pub(crate) websocket: bool,
    /// What has been read behind the handshake.
    pub(crate) early: Vec<u8>,
    pub(crate) place: Place,
    /// When its socket was accepted: handshakes and CONNECT have one deadline together.
    pub(crate) since: Instant,
}

/// What has changed.
pub(crate) struct News {
    pub(crate) keys: Keys,
}

/// Everything that the thread needs.
pub(crate) struct Door {
    /// What the configuration says; marked as changed when it was read again.
    pub(crate) security: watch::Receiver<SecuritySettings>,
    pub(crate) listeners: Vec<ListenerSettings>,
    /// Sockets with the index of their listener.
    pub(crate) sockets: Vec<(usize, TcpListener)>,
    pub(crate) keys: Keys,
    pub(crate) patience: Duration,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) turned_away: Arc<TurnedAway>,
    pub(crate) arrivals: Sender<Arrival>,
}

impl Door {
    /// Starts the thread. `tell` hands over what has changed in the files.
    pub(crate) fn start(self, tell: impl Fn(News) + 'static + Send) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            LocalSet::new().block_on(&runtime, async move {
                let shared = Mutex::new(self.keys.clone());
                let limit = Arc::new(Semaphore::new(MAX_HANDSHAKES));
                let door = Rc::new(Entrance { door: self, keys: shared, limit });
                for (listener, socket) in &door.door.sockets {
                    let accept = door.clone().accept(*listener, socket.try_clone());
                    tokio::task::spawn_local(accept);
                }
                door.watch(tell).await;
            });
        };
        thread::Builder::new().name("door".to_owned()).spawn(run).map(drop)
    }

    /// Whether there is anything for it to do.
    pub(crate) fn is_needed(settings: &Settings) -> bool {
        settings.security
            != SecuritySettings {
                limits: settings.security.limits.clone(),
                ..SecuritySettings::default()
            }
            || settings.mqtt.listeners.iter().any(needs_handshake)
    }
}

/// Whether clients of a listener go through the door.
pub(crate) fn needs_handshake(listener: &ListenerSettings) -> bool {
    listener.tls || listener.websocket.is_some() || !listener.proxy_from.is_empty()
}

/// The door as its tasks share it.
struct Entrance {
    door: Door,
    keys: Mutex<Keys>,
    limit: Arc<Semaphore>,
}

/// Why a client does not get through.
struct Refused {
    reason: Reason,
    why: String,
    user: Option<String>,
}

impl Refused {
    fn new(reason: Reason, why: impl ToString) -> Refused {
        Refused { reason, why: why.to_string(), user: None }
    }
}

impl Entrance {
    async fn accept(self: Rc<Self>, listener: usize, socket: io::Result<TcpListener>) {
        let socket = match socket.and_then(tokio::net::TcpListener::from_std) {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "cannot accept MQTT connections"),
        };
        loop {
            let Ok(permit) = self.limit.clone().acquire_owned().await else { return };
            match socket.accept().await {
                Ok((stream, peer)) => {
                    let entrance = self.clone();
                    tokio::task::spawn_local(async move {
                        entrance.receive(listener, stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an MQTT connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn receive(&self, listener: usize, stream: TcpStream, mut peer: SocketAddr) {
        let Some(settings) = self.door.listeners.get(listener) else { return };
        let since = Instant::now();
        let outcome = tokio::time::timeout(
            self.door.patience,
            self.handshakes(since, (listener, settings), stream, &mut peer),
        );
        let refused = match outcome.await {
            Ok(Ok(arrival)) => {
                // The core's thread is gone only when everything ends.
                let _ = self.door.arrivals.send(arrival).await;
                return;
            }
            Ok(Err(refused)) => refused,
            Err(_) => {
                let why = format!("no handshake within {:?}", self.door.patience);
                Refused::new(Reason::HandshakeTimeout, why)
            }
        };
        let user = refused.user.as_deref();
        let peer = peer.to_string();
        let who = Who { peer: &peer, listener: &settings.name, client: None, user };
        self.door.turned_away.note(Instant::now(), refused.reason, who, &refused.why);
    }

    async fn handshakes(
        &self,
        since: Instant,
        (listener, settings): (usize, &ListenerSettings),
        mut stream: TcpStream,
        peer: &mut SocketAddr,
    ) -> Result<Arrival, Refused> {
        if settings.proxy_from.contains(&peer.ip().to_canonical()) {
            let header = proxy::read(&mut stream).await;
            let client = header.map_err(|error| Refused::new(Reason::Proxy, error))?;
            *peer = client.unwrap_or(*peer);
        }
        let place = self.door.addresses.admit(Instant::now(), peer.ip());
        let place = place.map_err(|reason| Refused::new(reason, "the limit of its address"))?;
        let (stream, tls, early) = if settings.tls {
            let mut stream = self.secure(stream).await?;
            let early = upgraded(&mut stream, settings).await?;
            let (stream, tls) = stream.into_inner();
            (stream, Some(Box::new(tls)), early)
        } else {
            let early = upgraded(&mut stream, settings).await?;
            (stream, None, early)
        };
        let stream = stream.into_std().map_err(|error| Refused::new(Reason::Tls, error))?;
        let websocket = settings.websocket.is_some();
        Ok(Arrival { stream, peer: *peer, listener, tls, websocket, early, place, since })
    }

    async fn secure(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::server::TlsStream<TcpStream>, Refused> {
        let tls = self.keys.lock().unwrap_or_else(PoisonError::into_inner).tls.clone();
        let Some(tls) = tls else {
            return Err(Refused::new(Reason::Tls, "there is no usable certificate"));
        };
        let accepted = TlsAcceptor::from(tls.config).accept(stream).await;
        accepted.map_err(|error| {
            let refused_name = tls.verifier.and_then(|verifier| verifier.take_refused());
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let reason = inner.map_or(Reason::Tls, reason_of);
            let why = inner.map_or_else(|| error.to_string(), ToString::to_string);
            Refused { reason, why, user: refused_name }
        })
    }

    /// Looks for changes until the daemon ends.
    async fn watch(&self, tell: impl Fn(News)) {
        let mut settings = self.door.security.clone();
        let mut security = settings.borrow_and_update().clone();
        let mut seen = stamps(&security);
        loop {
            let asked = tokio::select! {
                changed = settings.changed() => match changed {
                    Ok(()) => true,
                    Err(_) => return,
                },
                () = tokio::time::sleep(WATCH) => false,
            };
            if !asked && stamps(&security) == seen {
                continue;
            }
            if asked {
                security = settings.borrow_and_update().clone();
            }
            seen = stamps(&security);
            let keys = {
                let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
                keys.read_again(&security);
                keys.clone()
            };
            tracing::info!(asked, "read certificates, revocation lists and users again");
            tell(News { keys });
        }
    }
}

/// Opens the WebSocket, where there is one; returns what has been read behind the request.
async fn upgraded<S>(stream: &mut S, settings: &ListenerSettings) -> Result<Vec<u8>, Refused>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match &settings.websocket {
        Some(path) => {
            let opened = upgrade::accept(stream, path, Pages::of(settings)).await;
            opened.map_err(|error| match error {
                NotOpened::Refused(Refusal::Page { .. }) => Refused::new(Reason::Origin, error),
                NotOpened::Refused(_) | NotOpened::Broken(_) => {
                    Refused::new(Reason::WebSocket, error)
                }
            })
        }
        None => Ok(Vec::new()),
    }
}

fn reason_of(error: &rustls::Error) -> Reason {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => Reason::ExpiredCertificate,
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => Reason::RevokedCertificate,
        rustls::Error::InvalidCertificate(_) => Reason::BadCertificate,
        rustls::Error::NoCertificatesPresented => Reason::NoCertificate,
        _ => Reason::Tls,
    }
}
