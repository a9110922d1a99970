//! A TCP proxy that can be cut: between the gateway and its upstream, it plays the outages.
//!
//! Memory is bounded: each direction of each connection moves one buffer at a time and lets the
//! sockets push back.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Bytes that one direction of one connection holds.
const BUFFER: usize = 64 * 1024;
/// Connections at one time; more are closed at once.
const MAX_CONNECTIONS: usize = 1024;
/// Time to reach the target.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Forwards everything.
    Pass,
    /// Closes what is open and refuses what comes: the link is down, and says so.
    Cut,
    /// Accepts, holds, forwards nothing, closes nothing: the link died silently. Connections that
    /// were open or came during it stay dead when the mode changes, as after a lost NAT entry.
    BlackHole,
}

/// A running proxy; stops when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Rises with each black hole: older connections are dead.
    generation: u64,
    stopped: bool,
    connections: Vec<Open>,
    next_id: u64,
    accepted: u64,
    forwarded: u64,
}

#[derive(Debug)]
struct Open {
    id: u64,
    sockets: Vec<TcpStream>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Listens on a free port of the loopback interface and forwards to `target`.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(target: SocketAddr) -> Result<Proxy> {
        Proxy::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), target)
    }

    /// Listens on this address and forwards to `target`.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn start_at(listen: SocketAddr, target: SocketAddr) -> Result<Proxy> {
        let listener = TcpListener::bind(listen)
            .with_context(|| format!("cannot bind {listen} for the proxy"))?;
        let address = listener.local_addr()?;
        let state = State {
            mode: Mode::Pass,
            generation: 0,
            stopped: false,
            connections: Vec::new(),
            next_id: 0,
            accepted: 0,
            forwarded: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, target, &accepting));
        Ok(Proxy { address, shared })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.shared.lock().mode
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Bytes forwarded so far, both directions.
    pub fn forwarded(&self) -> u64 {
        self.shared.lock().forwarded
    }

    /// Changes the mode at once, for what is open and what comes.
    pub fn set(&self, mode: Mode) {
        let mut state = self.shared.lock();
        state.mode = mode;
        match mode {
            Mode::Pass => {}
            Mode::Cut => close_all(&mut state),
            Mode::BlackHole => state.generation += 1,
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopped = true;
        close_all(&mut state);
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the accepting thread; it may be gone already.
        drop(TcpStream::connect_timeout(&self.address, CONNECT_TIMEOUT));
    }
}

fn close_all(state: &mut State) {
    for open in state.connections.drain(..) {
        for socket in open.sockets {
            // An error means that the other end was faster.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut state = shared.lock();
        if state.stopped {
            return;
        }
        if state.mode == Mode::Cut || state.connections.len() >= MAX_CONNECTIONS {
            continue;
        }
        state.accepted += 1;
        let id = state.next_id;
        state.next_id += 1;
        let Ok(held) = client.try_clone() else { continue };
        state.connections.push(Open { id, sockets: vec![held] });
        let alive = state.mode == Mode::Pass;
        let generation = state.generation;
        drop(state);
        if alive {
            let shared = Arc::clone(shared);
            thread::spawn(move || join(client, target, &shared, id, generation));
        }
    }
}

/// Connects to the target and moves bytes both ways until either side ends.
fn join(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>, id: u64, generation: u64) {
    let server = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT);
    let pair = server.and_then(|server| {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok((server.try_clone()?, server.try_clone()?, client.try_clone()?, server))
    });
    let Ok((held, server_in, client_out, server_out)) = pair else {
        forget(shared, id);
        return;
    };
    let mut state = shared.lock();
    match state.connections.iter_mut().find(|open| open.id == id) {
        Some(open) => open.sockets.push(held),
        // Cut while it connected.
        None => return,
    }
    drop(state);
    let backward = Arc::clone(shared);
    let back = thread::spawn(move || pump(server_in, client_out, &backward, id, generation));
    pump(client, server_out, shared, id, generation);
    // The threads end with their sockets; a panic there is reported by its own message.
    let _ = back.join();
}

fn pump(mut from: TcpStream, mut to: TcpStream, shared: &Shared, id: u64, generation: u64) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || !may_forward(shared, id, generation, count) {
            break;
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    if is_dead(shared, generation) {
        hold(shared, id);
    }
    forget(shared, id);
}

/// Counts the bytes and says whether this connection still lives.
fn may_forward(shared: &Shared, id: u64, generation: u64, count: usize) -> bool {
    let mut state = shared.lock();
    let open = state.connections.iter().any(|open| open.id == id);
    if open && state.generation == generation {
        state.forwarded += count as u64;
        return true;
    }
    false
}

fn is_dead(shared: &Shared, generation: u64) -> bool {
    shared.lock().generation != generation
}

/// Keeps a dead connection open, reading nothing, until it is closed by a cut or at the end.
fn hold(shared: &Shared, id: u64) {
    let mut state = shared.lock();
    while !state.stopped && state.connections.iter().any(|open| open.id == id) {
        state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn forget(shared: &Shared, id: u64) {
    let mut state = shared.lock();
    if let Some(at) = state.connections.iter().position(|open| open.id == id) {
        for socket in state.connections.swap_remove(at).sockets {
            // An error means that it is closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
    drop(state);
    shared.changed.notify_all();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// Answers every byte with the same byte.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(count) = stream.read(&mut buffer) {
                        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    fn open(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn answers(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && matches!(stream.read(&mut byte), Ok(1))
    }

    #[test]
    fn a_cut_closes_what_is_open_and_what_comes_until_the_link_is_back() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut first = open(&proxy);
        assert!(answers(&mut first));
        proxy.set(Mode::Cut);
        assert!(!answers(&mut first));
        assert!(!answers(&mut open(&proxy)));
        proxy.set(Mode::Pass);
        assert!(answers(&mut open(&proxy)));
        assert!(proxy.forwarded() >= 4);
    }

    #[test]
    fn a_black_hole_takes_bytes_and_neither_answers_nor_closes_and_stays_dead() {
        let proxy = Proxy::start(echo()).unwrap();
        let mut before = open(&proxy);
        assert!(answers(&mut before));
        proxy.set(Mode::BlackHole);
        let mut during = open(&proxy);
        for stream in [&mut before, &mut during] {
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            stream.write_all(b"lost").unwrap();
            let error = stream.read(&mut [0]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        }
        proxy.set(Mode::Pass);
        assert!(answers(&mut open(&proxy)));
        let error = before.read(&mut [0]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    }
}
