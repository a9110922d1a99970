//! What a frame that has come in changes.

use super::{ACK_DELAY, Event, HAIL_EVERY, Link, Turns, Why};
use crate::control::Control;
use crate::frame::{BROADCAST, CONTROL, Frame, Header};
use crate::micros::Micros;
use crate::receiving::Arrived;
use crate::session::Role;

/// Whose frame it is.
enum Belongs {
    /// Control messages that belong to no session.
    Nowhere(Control),
    Current(Option<Control>),
    /// Gateway: the first of a new session.
    Pending(Option<Control>),
    Unknown,
}

impl<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize, const OUT: usize>
    Link<FRAME, WINDOW, MESSAGE, OUT>
{
    /// The decoder holds a frame.
    pub(super) fn handle_frame(&mut self, now: Micros) {
        let Some(frame) = Frame::parse(self.decoder.frame()) else {
            self.count(|counters| &mut counters.garbage);
            return;
        };
        let header = frame.header;
        if !self.is_for_this_side(&header) {
            return;
        }
        match self.belongs(&frame) {
            Belongs::Nowhere(control) => self.handle_outside(now, control),
            Belongs::Current(control) => self.handle_inside(now, header, control),
            Belongs::Pending(control) => {
                if self.is_up() {
                    self.say(Event::Down(Why::Peer));
                }
                self.sessions.switch();
                self.begin_session(now);
                self.handle_inside(now, header, control);
            }
            Belongs::Unknown => {
                self.count(|counters| &mut counters.strange);
                self.hail(now);
                return;
            }
        }
        if header.turn && self.config.turns == Turns::Shared {
            match self.config.role {
                Role::Device => self.give_turn(now),
                Role::Gateway => self.turn_back = true,
            }
        }
    }

    fn is_for_this_side(&self, header: &Header) -> bool {
        let (from_device, everybody) = match self.config.role {
            Role::Device => (false, header.address == BROADCAST),
            Role::Gateway => (true, false),
        };
        header.from_device == from_device && (header.address == self.config.address || everybody)
    }

    fn belongs(&self, frame: &Frame<'_>) -> Belongs {
        let control = match frame.header.channel {
            CONTROL => Control::read(frame.payload),
            _ => None,
        };
        if let Some(outside) = control.filter(Control::is_outside) {
            return if frame.is_of(0) { Belongs::Nowhere(outside) } else { Belongs::Unknown };
        }
        if self.sessions.current().is_some_and(|session| frame.is_of(session.number())) {
            return Belongs::Current(control);
        }
        if self.sessions.pending().is_some_and(|session| frame.is_of(session.number())) {
            return Belongs::Pending(control);
        }
        Belongs::Unknown
    }

    fn handle_outside(&mut self, now: Micros, control: Control) {
        match (self.config.role, control) {
            (Role::Gateway, Control::Open { nonce, terms }) => {
                self.due.opened = Some(self.sessions.opened_by(nonce, terms));
            }
            (Role::Device, Control::Opened { device, gateway, terms }) => {
                let was_up = self.is_up();
                if self.sessions.answered(device, gateway, terms) {
                    if was_up {
                        self.say(Event::Down(Why::Peer));
                    }
                    self.begin_session(now);
                }
            }
            (Role::Device, Control::Hail) => self.sessions.open(now),
            (Role::Gateway, Control::Opened { .. } | Control::Hail)
            | (Role::Device, Control::Open { .. })
            | (
                Role::Gateway | Role::Device,
                Control::Acknowledge { .. } | Control::Ping { .. } | Control::Pong { .. },
            ) => {}
        }
    }

    fn handle_inside(&mut self, now: Micros, header: Header, control: Option<Control>) {
        self.heard = now;
        self.count(|counters| &mut counters.frames);
        if header.address != BROADCAST {
            self.sending.acknowledge(now, header.ack, header.credit);
        }
        match control {
            None if header.channel != CONTROL => self.handle_data(now, header),
            None | Some(Control::Open { .. } | Control::Opened { .. } | Control::Hail) => {}
            Some(Control::Acknowledge { bitmap }) => {
                self.sending.acknowledge_some(header.ack, bitmap);
            }
            Some(Control::Ping { t1 }) => self.due.pong = Some((t1, self.wall(now))),
            Some(Control::Pong { t1, t2, t3, trusted }) => {
                self.clock.take([t1, t2, t3], now, trusted);
            }
        }
    }

    fn handle_data(&mut self, now: Micros, header: Header) {
        // Parsed a moment ago.
        let Some(frame) = Frame::parse(self.decoder.frame()) else { return };
        if !header.reliable {
            self.receiving.take_loose(header.channel, frame.payload);
            return;
        }
        let arrived = self.receiving.take(header.seq, header.channel, header.more, frame.payload);
        let at_once = match arrived {
            // Every second frame at once.
            Arrived::InOrder => self.due.ack.is_some() || self.receiving.bitmap() != 0,
            Arrived::Early => true,
            Arrived::Again => {
                self.count(|counters| &mut counters.again);
                true
            }
        };
        let due = if at_once { Micros(0) } else { now.after(ACK_DELAY) };
        self.due.ack = Some(self.due.ack.map_or(due, |before| before.min(due)));
    }

    /// A gateway that has lost the session asks the device to open one.
    fn hail(&mut self, now: Micros) {
        let rested = self.hailed.is_none_or(|last| now >= last.after(HAIL_EVERY));
        let alone = !self.is_up() && self.config.role == Role::Gateway;
        if alone && rested && self.config.turns == Turns::Free {
            self.hailed = Some(now);
            self.due.hail = true;
        }
    }

    /// This side's wall clock.
    pub(super) fn wall(&self, now: Micros) -> u64 {
        now.0.saturating_add_signed(self.wall.0)
    }
}
