//! A broker with simulated time, sockets that take everything, and an owner that accepts every
//! message, at once or when it is told to. It may have a disk for sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tidegate_broker::{
    Answer, Broker, BrokerEvent, BrokerLimits, Change, ConnId, Message, SpoolTarget, Ticket,
};

/// When it all begins, in milliseconds of the time of day.
const NEW_YEAR: i64 = 1_767_225_600_000;

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
    /// What is on the disk, if sessions are kept.
    disk: Option<Disk>,
    limits: BrokerLimits,
    began: Instant,
    now: Instant,
    next: u64,
    sent: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeSet<ConnId>,
}

impl Owner {
    pub(crate) fn new(limits: BrokerLimits) -> Owner {
        let began = Instant::now();
        Owner {
            broker: Broker::new(limits.clone()),
            waits: false,
            tickets: Vec::new(),
            disk: None,
            limits,
            began,
            now: began,
            next: 0,
            sent: BTreeMap::new(),
            closed: BTreeSet::new(),
        }
    }

    /// From the beginning, sessions with an expiry are kept on a disk that is always up to date.
    pub(crate) fn keep_sessions(&mut self) {
        self.disk = Some(Disk::default());
        self.broker.keep_sessions();
        self.broker.set_clock(self.now, Some(NEW_YEAR));
    }

    pub(crate) fn keeps_sessions(&self) -> bool {
        self.disk.is_some()
    }

    /// The power goes and comes back.
    pub(crate) fn restart(&mut self) {
        let Some(disk) = &mut self.disk else { return };
        trace(format_args!("the power goes and comes back"));
        // The disk has it that they have gone: else each message might be a repetition.
        for conn in 1..=self.next {
            self.broker.handle_closed(self.now, ConnId(conn), "the power goes");
        }
        // A will that is due has handed out what comes before it; the will itself is cut off.
        while let Some(event) = self.broker.poll_event() {
            if let BrokerEvent::Persist { changes, .. } = event {
                disk.write(changes);
            }
        }
        let (changes, _) = self.broker.take_progress(self.now).unwrap_or_default();
        disk.write(changes);
        self.broker = Broker::new(self.limits.clone());
        self.broker.keep_sessions();
        let today = self.now.duration_since(self.began).as_millis() as i64;
        self.broker.set_clock(self.now, Some(NEW_YEAR + today));
        let entries = disk.table.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        self.broker.restore(self.now, entries, disk.spool.len() as u64 + 1);
        self.tickets.clear();
        self.sent.clear();
        self.settle();
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
        loop {
            while let Some(event) = self.broker.poll_event() {
                self.handle(event);
            }
            let Some(disk) = &self.disk else { return };
            if !disk.sweep(&mut self.broker, self.now) {
                return;
            }
        }
    }

    fn handle(&mut self, event: BrokerEvent) {
        match event {
            BrokerEvent::Publish { ticket, message, change, .. } => {
                self.take(&message, change);
                match ticket {
                    Some(ticket) if self.waits => self.tickets.push(ticket),
                    Some(ticket) => self.broker.acknowledge(self.now, ticket, Answer::Success),
                    None => {}
                }
            }
            BrokerEvent::Persist { changes, ticket, .. } => {
                if let Some(disk) = &mut self.disk {
                    disk.write(changes);
                }
                self.broker.persisted(self.now, ticket);
            }
            BrokerEvent::Spool { message, targets, change } => {
                self.disk.iter_mut().for_each(|disk| disk.write(change.clone()));
                let (targets, _) = SpoolTarget::decode_all(&targets).expect("the broker's own");
                self.spool(&message, targets);
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

    /// Stores a message with what belongs to it, and delivers it.
    fn take(&mut self, message: &Arc<Message>, change: Option<Change>) {
        let Some(disk) = &mut self.disk else {
            self.broker.publish(self.now, message);
            return;
        };
        let records = self.broker.find(message);
        let targets = self.broker.found_targets(records);
        disk.write(self.broker.retained_change(self.now, message));
        disk.write(change);
        self.broker.deliver_found(self.now, message);
        for targets in targets {
            self.spool(message, targets);
        }
    }

    fn spool(&mut self, message: &Arc<Message>, targets: Vec<SpoolTarget>) {
        let Some(disk) = &mut self.disk else { return };
        let expiry = message.properties.message_expiry;
        let expires_at = expiry.map(|seconds| self.now + Duration::from_secs(seconds.into()));
        disk.spool.push((message.clone(), targets.clone(), expires_at));
        let seq = disk.spool.len() as u64;
        self.broker.offer(self.now, seq, message, &targets, expires_at);
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

/// What the power does not take away.
#[derive(Default)]
struct Disk {
    table: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Records from number 1 on.
    spool: Vec<(Arc<Message>, Vec<SpoolTarget>, Option<Instant>)>,
}

impl Disk {
    fn write(&mut self, changes: impl IntoIterator<Item = Change>) {
        for Change { key, value } in changes {
            match value {
                Some(value) => self.table.insert(key, value),
                None => self.table.remove(&key),
            };
        }
    }

    /// Reads a few records for the sessions that are behind. False if nobody wants any.
    fn sweep(&self, broker: &mut Broker, now: Instant) -> bool {
        let Some(from) = broker.spool_wanted() else { return false };
        let next = (from + 3).min(self.spool.len() as u64 + 1);
        for seq in from..next {
            let (message, targets, expires_at) = &self.spool[seq as usize - 1];
            if broker.is_wanted(from, seq, targets) {
                broker.offer_again(now, (from, seq), message, targets, *expires_at);
            }
        }
        broker.read_through(from, next);
        true
    }
}
