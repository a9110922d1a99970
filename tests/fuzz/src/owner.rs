//! A broker with simulated time, sockets that take everything, and an owner that accepts every
//! message, at once or when it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_broker::{Answer, Broker, BrokerEvent, BrokerLimits, ConnId, Ticket};

/// Whether everything that happens is told on stderr: for the replay of a finding.
pub static TRACE: AtomicBool = AtomicBool::new(false);

fn trace(what: std::fmt::Arguments<'_>) {
    if TRACE.load(Ordering::Relaxed) {
        eprintln!("{what}");
    }
}

pub(crate) struct Owner {
    pub(crate) broker: Broker,
    /// Whether answers wait, as for a disk.
    pub(crate) waits: bool,
    /// Publishes without an answer yet.
    pub(crate) tickets: Vec<Ticket>,
    now: Instant,
    next: u64,
    sent: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeSet<ConnId>,
}

impl Owner {
    pub(crate) fn new(limits: BrokerLimits) -> Owner {
        Owner {
            broker: Broker::new(limits),
            waits: false,
            tickets: Vec::new(),
            now: Instant::now(),
            next: 0,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }

    pub(crate) fn open(&mut self) -> ConnId {
        self.next += 1;
        let conn = ConnId(self.next);
        self.broker.handle_open(self.now, conn, format!("peer-{}", self.next));
        self.settle();
        conn
    }

    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        trace(format_args!("{} -> {bytes:02x?} {}", conn.0, bytes.escape_ascii()));
        self.broker.handle_bytes(self.now, conn, bytes);
        self.settle();
    }

    /// The network fails, or the client closes.
    pub(crate) fn cut(&mut self, conn: ConnId) {
        trace(format_args!("{} is cut", conn.0));
        self.broker.handle_closed(self.now, conn, "reset");
        self.settle();
    }

    /// Accepts one of the publishes that wait.
    pub(crate) fn answer(&mut self, at: usize) -> Ticket {
        let ticket = self.tickets.remove(at);
        trace(format_args!("{ticket:?} is accepted"));
        self.broker.acknowledge(self.now, ticket, Answer::Success);
        self.settle();
        ticket
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        trace(format_args!("{seconds} s pass"));
        let end = self.now + Duration::from_secs(seconds);
        while let Some(at) = self.broker.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.broker.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    /// What the client has been sent since the last time.
    pub(crate) fn got(&mut self, conn: ConnId) -> Vec<u8> {
        self.sent.remove(&conn).unwrap_or_default()
    }

    /// Whether the broker has closed it.
    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    fn settle(&mut self) {
        while let Some(event) = self.broker.poll_event() {
            match event {
                BrokerEvent::Publish { ticket, message, .. } => {
                    self.broker.publish(self.now, &message);
                    match ticket {
                        Some(ticket) if self.waits => self.tickets.push(ticket),
                        Some(ticket) => {
                            self.broker.acknowledge(self.now, ticket, Answer::Success);
                        }
                        None => {}
                    }
                }
                BrokerEvent::Writable(conn) => self.flush(conn),
                BrokerEvent::Close { conn, .. } => {
                    self.flush(conn);
                    self.closed.insert(conn);
                    self.broker.handle_closed(self.now, conn, "closed by us");
                }
                _ => {}
            }
        }
    }

    fn flush(&mut self, conn: ConnId) {
        if let Some(outbox) = self.broker.unsent(conn) {
            let bytes = outbox.as_slice().to_vec();
            outbox.consume(bytes.len());
            trace(format_args!("{} <- {bytes:02x?} {}", conn.0, bytes.escape_ascii()));
            self.sent.entry(conn).or_default().extend(bytes);
        }
    }
}
