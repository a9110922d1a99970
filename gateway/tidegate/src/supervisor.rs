//! Tells the program that started the daemon how it is: systemd's protocol, `sd_notify(3)`. A message is one
//! datagram to the socket that `NOTIFY_SOCKET` names; without that variable nobody is told.
//!
//! Invariant: telling never blocks. A supervisor that does not read costs messages, not data.
//!
//! Not here: when to say what. `cli/run.rs` says that the gateway is ready, the core that it lives and
//! that it stops.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

/// Who has to be told.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    address: Option<SocketAddr>,
    /// The daemon is killed when nothing was heard of it for so long.
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// The one that the environment names. A name that cannot be one counts as none, and is logged.
    pub fn of_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET");
        let usec = env::var("WATCHDOG_USEC").ok();
        let pid = env::var("WATCHDOG_PID").ok();
        Self::named(socket.as_deref(), usec.as_deref(), pid.as_deref())
    }

    fn named(socket: Option<&OsStr>, usec: Option<&str>, pid: Option<&str>) -> Self {
        let Some(socket) = socket else { return Self::default() };
        let address = match socket.as_bytes() {
            // Linux: a name that is in no file system.
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            _ => SocketAddr::from_pathname(socket),
        };
        let address = match address {
            Ok(address) => Some(address),
            Err(error) => {
                let socket = socket.to_string_lossy();
                tracing::warn!(%socket, %error, "NOTIFY_SOCKET names no socket; nobody is told");
                None
            }
        };
        // The variables of a parent's watchdog may have been inherited.
        let ours = pid.is_none_or(|pid| pid == process::id().to_string());
        let usec = usec.and_then(|usec| usec.parse().ok()).filter(|usec| ours && *usec > 0);
        Self { address, watchdog: usec.map(Duration::from_micros) }
    }

    /// Clients are accepted. `status` is one line for people.
    pub fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// The daemon is on its way down.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=bringing everything to flash");
    }

    fn tell(&self, message: &str) {
        if let Err(error) = self.send(message) {
            tracing::warn!(%error, "the supervisor was not told: {message:?}");
        }
    }

    fn send(&self, message: &str) -> io::Result<()> {
        let Some(address) = &self.address else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(message.as_bytes(), address).map(drop)
    }
}

/// Signs of life, from the thread that must not stand still.
#[derive(Debug)]
pub(crate) struct Pulse {
    supervisor: Supervisor,
    next: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(supervisor: Supervisor, now: Instant) -> Self {
        Self { next: supervisor.watchdog.map(|_| now), supervisor }
    }

    /// Tells that the daemon lives, when it is time to; when the next time is.
    pub(crate) fn beat(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next.is_some_and(|next| next <= now);
        if let (true, Some(watchdog)) = (due, self.supervisor.watchdog) {
            self.supervisor.tell("WATCHDOG=1");
            // A third: one that is lost, and one that is late, are still in time.
            self.next = Some(now + watchdog / 3);
        }
        self.next
    }

    /// The daemon is on its way down.
    pub(crate) fn stopping(&self) {
        self.supervisor.stopping();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// A socket that hears, and the supervisor that it is.
    fn listening(watchdog: Option<&str>) -> (UnixDatagram, Supervisor, Scratch) {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Supervisor::named(Some(path.as_os_str()), watchdog, None), scratch)
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut buffer = [0; 256];
        let len = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..len].to_vec()).unwrap())
    }

    #[test]
    fn a_supervisor_hears_that_the_daemon_is_ready_and_that_it_stops() {
        let (socket, supervisor, _scratch) = listening(None);
        supervisor.ready("MQTT on 127.0.0.1:1883");
        assert_eq!(heard(&socket).unwrap(), "READY=1\nSTATUS=MQTT on 127.0.0.1:1883");
        supervisor.stopping();
        assert!(heard(&socket).unwrap().starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_socket_without_a_file_is_found_by_its_name() {
        let name = format!("tidegate-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        socket.set_nonblocking(true).unwrap();
        let named = format!("@{name}");
        Supervisor::named(Some(OsStr::new(&named)), None, None).ready("");
        assert!(heard(&socket).unwrap().starts_with("READY=1\n"));
    }

    #[test]
    fn signs_of_life_come_three_in_the_watchdogs_time_and_not_more_often() {
        let (socket, supervisor, _scratch) = listening(Some("3000000"));
        let start = Instant::now();
        let mut pulse = Pulse::new(supervisor, start);
        let second = Duration::from_secs(1);
        assert_eq!(pulse.beat(start), Some(start + second));
        assert_eq!(heard(&socket).unwrap(), "WATCHDOG=1");
        assert_eq!(pulse.beat(start + second / 2), Some(start + second));
        assert_eq!(heard(&socket), None);
        assert_eq!(pulse.beat(start + second), Some(start + 2 * second));
        assert_eq!(heard(&socket).unwrap(), "WATCHDOG=1");
    }

    #[test]
    fn without_a_watchdog_or_with_that_of_another_process_there_is_no_alarm() {
        let now = Instant::now();
        let of = |usec, pid| Supervisor::named(Some(OsStr::new("@nobody")), usec, pid);
        for supervisor in
            [Supervisor::default(), of(None, None), of(Some("0"), None), of(Some("9"), Some("0"))]
        {
            assert_eq!(Pulse::new(supervisor, now).beat(now), None);
        }
        let own = process::id().to_string();
        assert!(Pulse::new(of(Some("9"), Some(&own)), now).beat(now).is_some());
    }

    #[test]
    fn a_supervisor_that_is_gone_stops_nobody() {
        let (socket, supervisor, scratch) = listening(None);
        drop((socket, scratch));
        assert!(supervisor.send("READY=1").is_err());
        supervisor.ready("");
    }
}
