//! MQTT clients that are through the door: accepts, reads, writes. Every socket of a client lives
//! on the core's thread; bytes go straight into the core, and out of its outboxes straight into
//! the socket, through TLS and WebSocket where a listener has them.

mod session;
mod socket;
mod wire;

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tidegate_broker::Outbox;
use tidegate_broker::access::CertificateFields;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc::Receiver;

use super::logins::LoggedIn;
use super::{Core, clock};
use crate::links::{Arrival, Place, TurnedAway, Who, fields};
use session::Session;
use socket::Writer;
use wire::{Sent, Wire};

/// Pause after `accept` failed: out of descriptors does not get better by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client's socket as the core's thread knows it.
pub(crate) struct Link {
    origin: Origin,
    /// Index of its listener in the settings.
    listener: usize,
    writer: Writer,
    /// What is between the socket and MQTT; `None`: nothing.
    wire: Option<RefCell<Wire>>,
    certificate: Option<Arc<CertificateFields>>,
    /// Who it is, once it is known.
    login: RefCell<Option<LoggedIn>>,
    /// It was turned away, and the log says why.
    turned_away: Cell<bool>,
    /// The task that reads; woken when something below changes.
    waker: RefCell<Option<Waker>>,
    /// The socket's send buffer is full.
    full: Cell<bool>,
    /// It has taken bytes since somebody looked.
    moved: Cell<bool>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    broken: Cell<bool>,
}

impl Link {
    fn new(writer: Writer, arrival: Arrived) -> Link {
        let Arrived { origin, listener, wire, since: _ } = arrival;
        let chain = wire.as_ref().and_then(Wire::tls).and_then(|tls| tls.peer_certificates());
        let certificate =
            chain.and_then(|chain| chain.first()).map(|first| Arc::new(fields(first)));
        Link {
            origin,
            listener,
            writer,
            wire: wire.map(RefCell::new),
            certificate,
            login: RefCell::default(),
            turned_away: Cell::new(false),
            waker: RefCell::new(None),
            full: Cell::new(false),
            moved: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            broken: Cell::new(false),
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Where the client is.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Index of its listener in the settings.
    pub(crate) fn listener(&self) -> usize {
        self.listener
    }

    /// What its certificate says.
    pub(crate) fn certificate(&self) -> Option<&Arc<CertificateFields>> {
        self.certificate.as_ref()
    }

    /// The certificates that it has shown.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        let wire = self.wire.as_ref().map(RefCell::borrow);
        let tls = wire.as_ref().and_then(|wire| wire.tls());
        let chain = tls.and_then(|tls| tls.peer_certificates()).unwrap_or_default();
        chain.iter().map(|one| one.clone().into_owned()).collect()
    }

    /// Who it is, once it is known.
    pub(crate) fn login(&self) -> &RefCell<Option<LoggedIn>> {
        &self.login
    }

    /// Notes that the log has said why it is closed.
    pub(crate) fn turn_away(&self) {
        self.turned_away.set(true);
    }

    /// Whether the log has said why it is closed.
    pub(crate) fn is_turned_away(&self) -> bool {
        self.turned_away.get()
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.wake();
    }

    /// Sends what is left, then ends.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    /// Looks again at whether reading is allowed.
    pub(crate) fn reconsider(&self) {
        self.wake();
    }

    /// Sends what the outbox holds until it is empty or the socket is full. True when something
    /// is left.
    pub(crate) fn flush(&self, outbox: &mut Outbox) -> bool {
        let sent = match &self.wire {
            Some(wire) => wire.borrow_mut().send(&self.writer, outbox, || self.moved.set(true)),
            None => self.flush_plainly(outbox),
        };
        match sent {
            Sent::All => return false,
            Sent::Full => {
                if !self.full.replace(true) {
                    self.wake();
                }
            }
            Sent::Broken => {
                // The reading side sees the same error and says why.
                self.broken.set(true);
                self.wake();
            }
        }
        true
    }

    fn flush_plainly(&self, outbox: &mut Outbox) -> Sent {
        while !outbox.as_slice().is_empty() {
            match self.writer.try_write(outbox.as_slice()) {
                Ok(sent) => {
                    outbox.consume(sent);
                    self.moved.set(true);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Sent::Full,
                Err(_) => return Sent::Broken,
            }
        }
        Sent::All
    }
}

/// Where a client is.
#[derive(Debug)]
pub(crate) enum Origin {
    Network {
        peer: SocketAddr,
        /// Its place among the connections of its address.
        place: Place,
    },
    /// Behind a serial line, whose configuration says who it is.
    Serial { line: Arc<str>, device: Arc<str> },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Network { peer, .. } => peer.fmt(f),
            Origin::Serial { line, device } => write!(f, "serial.{line}:{device}"),
        }
    }
}

impl Origin {
    /// A login failed.
    pub(crate) fn failed(&self, now: Instant) {
        match self {
            Origin::Network { place, .. } => place.failed(now),
            Origin::Serial { .. } => {}
        }
    }

    /// Whether another login may be looked at.
    pub(crate) fn may_log_in(&self, now: Instant) -> bool {
        match self {
            Origin::Network { place, .. } => place.may_log_in(now),
            Origin::Serial { .. } => true,
        }
    }

    /// What counts for its rates.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self {
            Origin::Network { place, .. } => Some(place.address()),
            Origin::Serial { .. } => None,
        }
    }
}

/// Takes a client behind a serial line; gives the line's end of the pipe to it. The client is who
/// the configuration says.
pub(crate) fn connect_device(
    core: &Rc<Core>,
    listener: usize,
    line: &Arc<str>,
    device: &Arc<str>,
) -> std::io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let origin = Origin::Serial { line: line.clone(), device: device.clone() };
    let arrived = Arrived { origin, listener, wire: None, since: clock::now().instant };
    tokio::task::spawn_local(Session::behind(core, ours, arrived).serve(Vec::new()));
    Ok(theirs)
}

/// A client as it comes in.
struct Arrived {
    origin: Origin,
    /// Index of its listener in the settings, or behind those its serial line.
    listener: usize,
    wire: Option<Wire>,
    /// When its socket was accepted.
    since: Instant,
}

/// Accepts clients of a listener without handshakes for ever, at most `max` at a time.
pub(crate) async fn accept(core: Rc<Core>, socket: TcpListener, listener: usize, max: usize) {
    let mut crowd = Crowd::default();
    loop {
        match socket.accept().await {
            Ok((stream, peer)) if core.connections() < max => {
                crowd.is_gone();
                let now = clock::now().instant;
                match core.door.addresses.admit(now, peer.ip()) {
                    Ok(place) => {
                        let origin = Origin::Network { peer, place };
                        let arrived = Arrived { origin, listener, wire: None, since: now };
                        let session = Session::new(&core, stream, arrived);
                        tokio::task::spawn_local(session.serve(Vec::new()));
                    }
                    Err(reason) => {
                        let name = core.door.listener_name(listener);
                        let peer = peer.to_string();
                        let who = Who { peer: &peer, listener: name, client: None, user: None };
                        let turned_away: &TurnedAway = &core.door.turned_away;
                        turned_away.note(now, reason, who, "the limit of its address");
                    }
                }
            }
            Ok((_, peer)) => crowd.refuses(peer, max),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an MQTT connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes clients that are through the door for ever, at most `max` at a time.
pub(crate) async fn receive(core: Rc<Core>, mut arrivals: Receiver<Arrival>, max: usize) {
    let mut crowd = Crowd::default();
    while let Some(arrival) = arrivals.recv().await {
        let Arrival { stream, peer, listener, tls, websocket, early, place, since } = arrival;
        if core.connections() >= max {
            crowd.refuses(peer, max);
            continue;
        }
        crowd.is_gone();
        match TcpStream::from_std(stream) {
            Ok(stream) => {
                let has_layers = tls.is_some() || websocket;
                let wire = has_layers.then(|| Wire::new(tls, websocket));
                let origin = Origin::Network { peer, place };
                let arrived = Arrived { origin, listener, wire, since };
                let session = Session::new(&core, stream, arrived);
                tokio::task::spawn_local(session.serve(early));
            }
            Err(error) => tracing::warn!(%peer, %error, "cannot take over an MQTT connection"),
        }
    }
}

/// Whether there are too many clients; said once.
#[derive(Default)]
struct Crowd(bool);

impl Crowd {
    fn refuses(&mut self, peer: SocketAddr, max: usize) {
        if !std::mem::replace(&mut self.0, true) {
            tracing::warn!(%peer, max, "too many MQTT connections: refusing more");
        }
    }

    fn is_gone(&mut self) {
        self.0 = false;
    }
}
