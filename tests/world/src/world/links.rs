//! Connections between devices and gateway: bytes in order, delayed, in portions that respect no
//! packet; broken in the middle of one, or silent without a word to either end.

use std::time::Duration;

use tidegate_broker::ConnId;

use super::{Event, World};
use crate::device::Device;
use crate::line::Tick;

/// How often a device looks at the clock.
const TICK: Duration = Duration::from_millis(40);

/// TCP sends again what nobody acknowledges.
const RETRANSMISSION: Duration = Duration::from_millis(200);

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    device: usize,
    /// Nothing has arrived yet.
    fresh: bool,
    /// When the last bytes sent so far arrive: nothing overtakes them.
    up_at: Duration,
    down_at: Duration,
    /// Nothing arrives any more, and nobody is told.
    silent: bool,
    /// It broke: what is under way is gone.
    broken: bool,
    /// The gateway knows it.
    accepted: bool,
    /// The gateway does not read from it.
    paused: bool,
    /// Arrived and not read.
    unread: Vec<u8>,
}

impl World {
    pub(super) fn measure(&mut self, index: usize) {
        let more = self.wants_more();
        let publisher = &mut self.publishers[index];
        let extra = !publisher.has_more();
        if extra && more {
            publisher.sensor.readings += 1;
        }
        let bytes = publisher.measure(self.time.clock);
        self.send_up(index, bytes);
        if more || self.publishers[index].has_more() {
            // Who goes on only because the weather has not bitten yet goes on more slowly.
            let gap = if extra { self.gap() + Duration::from_millis(4) } else { self.gap() };
            self.time.after(gap, Event::Measure(index));
        }
    }

    pub(super) fn tick(&mut self, index: usize) {
        let clock = self.time.clock;
        match self.device(index).tick(clock) {
            Tick::Send(bytes) => self.send_up(index, bytes),
            Tick::HangUp => self.give_up(index),
        }
        self.time.after(TICK, Event::Tick(index));
    }

    /// Sensors first, then subscribers.
    fn device(&mut self, index: usize) -> &mut dyn Device {
        match index.checked_sub(self.publishers.len()) {
            None => &mut self.publishers[index],
            Some(at) => &mut self.subscribers[at],
        }
    }

    fn conn_of(&mut self, index: usize) -> Option<ConnId> {
        self.device(index).line().conn
    }

    /// The device closes its connection, and dials again.
    fn give_up(&mut self, index: usize) {
        let Some(conn) = self.conn_of(index) else { return };
        self.device(index).lost();
        self.redial(index);
        self.close_behind(conn);
    }

    /// The gateway hears of it when all that was sent before has arrived.
    fn close_behind(&mut self, conn: ConnId) {
        let Some(link) = self.links.get(&conn).filter(|link| !link.silent) else { return };
        let wait = link.up_at.saturating_sub(self.time.clock);
        self.time.after(wait + Duration::from_micros(150), Event::Closed(conn));
    }

    fn redial(&mut self, index: usize) {
        let longest = self.random.pick(&[250, 1_500, 12_000]);
        let wait = self.random.micros(100, longest);
        self.time.after(wait, Event::Dial(index));
    }

    pub(super) fn dial(&mut self, index: usize) {
        if self.conn_of(index).is_some() {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let clock = self.time.clock;
        let link = Link {
            device: index,
            fresh: true,
            up_at: clock,
            down_at: clock,
            silent: false,
            broken: false,
            accepted: false,
            paused: false,
            unread: Vec::new(),
        };
        self.links.insert(conn, link);
        self.device(index).line().dials(conn);
        let wait = self.random.micros(80, 600);
        self.time.after(wait, Event::Accept(conn));
    }

    pub(super) fn accept(&mut self, conn: ConnId) {
        let now = self.time.now();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let index = link.device;
        let Some(gateway) = self.gateway.as_mut().filter(|_| !self.stopping) else {
            self.time.after(Duration::from_millis(2), Event::Lost(conn));
            return;
        };
        link.accepted = true;
        gateway.handle_open(now, conn, format!("device-{index}"));
        let clock = self.time.clock;
        if self.conn_of(index) == Some(conn) {
            let bytes = self.device(index).connect(clock);
            self.send_up(index, bytes);
        }
    }

    /// Bytes leave a device, whole or in two portions.
    fn send_up(&mut self, index: usize, mut bytes: Vec<u8>) {
        let Some(conn) = self.conn_of(index) else { return };
        if bytes.is_empty() {
            return;
        }
        if bytes.len() > 1 && self.random.one_in(6) {
            let rest = bytes.split_off(self.random.range(1, bytes.len() as u64) as usize);
            self.portion_up(conn, bytes);
            bytes = rest;
        }
        self.portion_up(conn, bytes);
    }

    fn portion_up(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let latency = self.random.micros(80, 1_500);
        let clock = self.time.clock;
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.up_at = link.up_at.max(clock + latency);
        self.time.after(link.up_at - clock, Event::ToGateway(conn, bytes));
    }

    pub(super) fn arrive(&mut self, conn: ConnId, bytes: Vec<u8>) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        if link.silent || link.broken {
            return;
        }
        if self.gateway.is_none() {
            // The machine is off: not even a reset comes back, and TCP sends again.
            return self.time.after(RETRANSMISSION, Event::ToGateway(conn, bytes));
        }
        if !link.accepted {
            self.time.after(Duration::from_micros(200), Event::Lost(conn));
            return;
        }
        link.unread.extend(bytes);
        if std::mem::take(&mut link.fresh) {
            self.watch_takeover(conn);
        }
        self.feed(conn);
    }

    /// CONNECT has come: whether the gateway has another connection of the same device.
    fn watch_takeover(&mut self, conn: ConnId) {
        let device = self.links.get(&conn).map(|link| link.device);
        let same = |link: &&Link| Some(link.device) == device && link.accepted;
        if self.links.values().filter(same).count() > 1 {
            self.tally.takeovers += 1;
            self.takeover_begins();
        }
    }

    /// The gateway reads what has arrived, unless it does not want to.
    fn feed(&mut self, conn: ConnId) {
        let now = self.time.now();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Some(gateway) = &mut self.gateway else { return };
        if link.paused || link.unread.is_empty() || !gateway.wants_input() {
            return;
        }
        let bytes = std::mem::take(&mut link.unread);
        gateway.handle_bytes(now, conn, &bytes);
    }

    pub(super) fn feed_all(&mut self) {
        let waiting = self.links.iter().filter(|(_, link)| !link.unread.is_empty());
        for conn in waiting.map(|(conn, _)| *conn).collect::<Vec<_>>() {
            self.feed(conn);
        }
    }

    pub(super) fn pause(&mut self, conn: ConnId, paused: bool) {
        if let Some(link) = self.links.get_mut(&conn) {
            link.paused = paused;
        }
        if !paused {
            self.feed(conn);
        }
    }

    /// The gateway has bytes for a device.
    pub(super) fn flush(&mut self, conn: ConnId) {
        let Some(outbox) = self.gateway.as_mut().and_then(|g| g.unsent(conn)) else { return };
        let bytes = outbox.as_slice().to_vec();
        outbox.consume(bytes.len());
        let latency = self.random.micros(80, 1_500);
        let clock = self.time.clock;
        if let Some(link) = self.links.get_mut(&conn) {
            link.down_at = link.down_at.max(clock + latency);
            self.time.after(link.down_at - clock, Event::ToDevice(conn, bytes));
        }
    }

    pub(super) fn deliver(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get(&conn) else { return };
        let (index, dead) = (link.device, link.silent || link.broken);
        if dead || self.conn_of(index) != Some(conn) {
            return;
        }
        let clock = self.time.clock;
        let answer = self.device(index).receive(clock, bytes);
        self.send_up(index, answer);
    }

    pub(super) fn lose(&mut self, conn: ConnId) {
        let Some(link) = self.links.get(&conn) else { return };
        let index = link.device;
        if !link.accepted {
            self.links.remove(&conn);
        }
        if self.conn_of(index) == Some(conn) {
            self.device(index).lost();
            self.redial(index);
        }
    }

    pub(super) fn closed(&mut self, conn: ConnId) {
        let now = self.time.now();
        let Some(link) = self.links.remove(&conn) else { return };
        if let Some(gateway) = self.gateway.as_mut().filter(|_| link.accepted) {
            gateway.handle_closed(now, conn, "the connection was reset");
        }
    }

    /// The gateway closes a connection: what it has still to say arrives before.
    pub(super) fn hang_up(&mut self, conn: ConnId) {
        self.flush(conn);
        let now = self.time.now();
        let Some(link) = self.links.get_mut(&conn) else { return };
        link.accepted = false;
        if !link.silent {
            let wait = link.down_at.saturating_sub(self.time.clock);
            self.time.after(wait + Duration::from_micros(50), Event::Lost(conn));
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_closed(now, conn, "closed");
        }
    }

    /// The gateway is gone. A killed process leaves a system that resets its connections; after
    /// a power cut nobody says anything.
    pub(super) fn cut_links(&mut self, resets: bool) {
        for (conn, link) in &mut self.links {
            link.accepted = false;
            link.unread.clear();
            if resets && !link.silent {
                self.time.after(Duration::from_micros(300), Event::Lost(*conn));
            }
        }
        if !resets {
            let silent = self.links.iter().filter(|(_, link)| link.silent);
            for conn in silent.map(|(conn, _)| *conn).collect::<Vec<_>>() {
                self.links.remove(&conn);
            }
        }
    }

    /// A subscriber says goodbye, and comes back some time later.
    fn leave(&mut self, index: usize, conn: ConnId) {
        self.tally.absences += 1;
        let goodbye = self.subscribers[index - self.publishers.len()].leave();
        if !goodbye.is_empty() {
            self.portion_up(conn, goodbye);
        }
        self.close_behind(conn);
        let wait = self.random.millis(5, 900);
        self.time.after(wait, Event::Dial(index));
    }

    /// Something happens to one of the devices' connections.
    pub(super) fn link_trouble(&mut self) {
        let Some(mean) = self.options.link_trouble else { return };
        // With sessions it gets rarer, so that every world comes to its end.
        let kept = !self.subscribers.is_empty();
        let mean = if kept { mean * (1 + self.time.clock.as_secs() as u32) } else { mean };
        let wait = self.random.micros(0, 2 * mean.as_micros() as u64);
        self.time.after(wait, Event::LinkTrouble);
        let devices = self.publishers.len() + self.subscribers.len();
        let index = self.random.range(0, devices as u64) as usize;
        let Some(conn) = self.conn_of(index) else { return };
        let kind = self.random.range(0, 20);
        let delay = self.random.millis(5, 600);
        let Some(link) = self.links.get_mut(&conn) else { return };
        match kind {
            0..6 => {
                self.tally.broken_links += 1;
                link.broken = true;
                let (up, down) = (self.random.micros(0, 4_000), self.random.micros(0, 4_000));
                self.time.after(down, Event::Lost(conn));
                self.time.after(up, Event::Closed(conn));
            }
            6..11 => {
                self.tally.silent_links += 1;
                link.silent = true;
            }
            11 => {
                self.tally.sensor_restarts += 1;
                self.device(index).restart();
                self.redial(index);
                self.time.after(Duration::from_micros(100), Event::Closed(conn));
            }
            12 | 13 if kept => {
                // It has another way to the gateway, and takes it.
                self.device(index).lost();
                self.dial(index);
            }
            14 | 15 if index >= self.publishers.len() => self.leave(index, conn),
            _ => {
                let Some(link) = self.links.get_mut(&conn) else { return };
                link.up_at = link.up_at.max(self.time.clock + delay);
                link.down_at = link.down_at.max(self.time.clock + delay / 2);
            }
        }
    }
}
