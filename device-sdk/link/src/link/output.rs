//! What is sent next.

use super::Link;
use crate::control::Control;
use crate::frame::{CONTROL, Header};
use crate::micros::Micros;
use crate::session::Role;

/// What a frame carries besides its payload.
struct Kind {
    channel: u8,
    seq: u8,
    reliable: bool,
    more: bool,
    turn: bool,
}

impl Kind {
    const CONTROL: Kind =
        Kind { channel: CONTROL, seq: 0, reliable: false, more: false, turn: false };
}

impl<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize, const OUT: usize>
    Link<FRAME, WINDOW, MESSAGE, OUT>
{
    /// Writes the next frame, most urgent first.
    pub(super) fn next_frame(&mut self, now: Micros, out: &mut [u8]) -> Option<usize> {
        if out.len() < Self::MAX_OUTPUT {
            return None;
        }
        if let Some(control) = self.next_outside(now) {
            return self.write_control(0, control, false, out);
        }
        let session = self.sessions.current()?.number();
        if let Some((t1, t2)) = self.due.pong.take() {
            let pong = Control::Pong { t1, t2, t3: self.wall(now), trusted: self.wall.1 };
            return self.write_control(session, pong, false, out);
        }
        let gap = self.receiving.bitmap();
        if gap != 0 && self.due.ack.is_some_and(|due| due <= now) {
            return self.write_control(session, Control::Acknowledge { bitmap: gap }, false, out);
        }
        if let Some(length) = self.write_reliable(now, session, out) {
            return Some(length);
        }
        if self.sending.has_loose() {
            return self.write_loose(session, out);
        }
        if core::mem::take(&mut self.due.ping) {
            return self.write_control(session, Control::Ping { t1: self.wall(now) }, false, out);
        }
        if self.due.ack.is_some_and(|due| due <= now) {
            return self.write_control(session, Control::Acknowledge { bitmap: gap }, false, out);
        }
        None
    }

    /// Shared lines: the last frame of this turn.
    pub(super) fn end_turn(&mut self, now: Micros, out: &mut [u8]) -> usize {
        if out.len() < Self::MAX_OUTPUT {
            return 0;
        }
        self.turn = None;
        let session = self.sessions.current().map_or(0, |session| session.number());
        let last = match (self.is_up(), self.config.role) {
            (true, _) => Some(Control::Acknowledge { bitmap: self.receiving.bitmap() }),
            (false, Role::Gateway) => match self.sessions.pending() {
                // Its answer begins the session. To a device that has started again since, it means
                // no more than a hail.
                Some(pending) => Some(pending.opened()),
                None => Some(Control::Hail),
            },
            (false, Role::Device) => {
                self.sessions.open(now);
                let open = self.sessions.send_open(now);
                open.map(|(nonce, terms)| Control::Open { nonce, terms })
            }
        };
        last.and_then(|control| self.write_control(session, control, true, out)).unwrap_or(0)
    }

    fn next_outside(&mut self, now: Micros) -> Option<Control> {
        if let Some(session) = self.due.opened.take() {
            return Some(session.opened());
        }
        if core::mem::take(&mut self.due.hail) {
            return Some(Control::Hail);
        }
        if self.sessions.open_due().is_some_and(|due| now >= due) {
            let (nonce, terms) = self.sessions.send_open(now)?;
            return Some(Control::Open { nonce, terms });
        }
        None
    }

    fn write_reliable(&mut self, now: Micros, session: u32, out: &mut [u8]) -> Option<usize> {
        let header = self.header(Kind { reliable: true, ..Kind::CONTROL });
        let next = self.sending.next(now)?;
        let header = Header { channel: next.channel, seq: next.seq, more: next.more, ..header };
        let length = header.write(session, next.payload, out);
        self.acknowledged();
        length
    }

    fn write_loose(&mut self, session: u32, out: &mut [u8]) -> Option<usize> {
        let header = self.header(Kind::CONTROL);
        let (channel, payload) = self.sending.next_loose()?;
        Header { channel, ..header }.write(session, payload, out)
    }

    fn write_control(
        &mut self,
        session: u32,
        control: Control,
        turn: bool,
        out: &mut [u8],
    ) -> Option<usize> {
        let header = self.header(Kind { turn, ..Kind::CONTROL });
        let (bytes, length) = control.write();
        let written = header.write(session, bytes.get(..length)?, out);
        if let Control::Acknowledge { .. } = control {
            self.due.ack = None;
        } else if !control.is_outside() {
            self.acknowledged();
        }
        written
    }

    /// A frame has told the other side what has arrived, except which frames behind a gap.
    fn acknowledged(&mut self) {
        if self.receiving.bitmap() == 0 {
            self.due.ack = None;
        }
    }

    fn header(&self, kind: Kind) -> Header {
        let Kind { channel, seq, reliable, more, turn } = kind;
        Header {
            from_device: self.config.role == Role::Device,
            turn,
            reliable,
            more,
            address: self.config.address,
            credit: self.receiving.credit(self.window()),
            channel,
            seq,
            ack: self.receiving.ack(),
        }
    }
}
