//! What goes out next. Packets of this side are made piece by piece from the configuration, so that no
//! buffer is needed for them.

use super::{Client, Phase, SUBSCRIPTIONS_FROM};
use crate::Micros;
use crate::packet::{CONNECT, DISCONNECT, Out, PINGREQ, PUBACK, SUBSCRIBE, length_bytes, property};
use crate::shelf::Stage;

/// Room for the longest piece that is made: the head of a CONNECT.
pub(super) const SMALL: usize = 32;
/// Bytes of the properties of a CONNECT.
const CONNECT_PROPERTIES: usize = 5 + 3 + 5;

/// What is being sent.
#[derive(Debug)]
pub(super) enum Piece<'b> {
    Nothing,
    /// The client's own small buffer, so many bytes of it.
    Small(u8),
    Text(&'b [u8]),
    Shelf(usize),
}

/// A packet of several pieces, and the next of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rope {
    Connect(u8),
    Subscribe(usize, u8),
}

impl<'b> Client<'b> {
    /// What is to be sent now, as much of it as the transport takes; empty when there is nothing.
    pub fn output(&mut self, now: Micros) -> &[u8] {
        if matches!(self.piece, Piece::Nothing) {
            self.piece = self.next_piece(now);
            self.at = 0;
        }
        let piece = match &self.piece {
            Piece::Nothing => &[],
            Piece::Small(length) => self.small.get(..usize::from(*length)).unwrap_or_default(),
            Piece::Text(text) => text,
            Piece::Shelf(index) => self.shelf.bytes(*index),
        };
        piece.get(self.at..).unwrap_or_default()
    }

    /// The transport has taken so many bytes of that.
    pub fn sent(&mut self, now: Micros, count: usize) {
        if count == 0 {
            return;
        }
        let left = self.output(now).len();
        self.at += count;
        self.spoke = now;
        if count < left {
            return;
        }
        if let Piece::Shelf(index) = self.piece {
            self.shelf.sent(index);
        }
        self.piece = Piece::Nothing;
        // Pieces of one packet follow each other; an empty one is passed over.
        while matches!(self.piece, Piece::Nothing)
            && let Some(rope) = self.rope
        {
            self.piece = self.pull(rope);
            self.at = 0;
            if matches!(self.piece, Piece::Text(&[])) {
                self.piece = Piece::Nothing;
            }
        }
    }

    /// The packet that is most urgent, or its first piece.
    fn next_piece(&mut self, now: Micros) -> Piece<'b> {
        match self.phase {
            Phase::Offline | Phase::Over => Piece::Nothing,
            Phase::Begun { .. } => {
                if core::mem::take(&mut self.connect_due) {
                    self.pull(Rope::Connect(0))
                } else {
                    Piece::Nothing
                }
            }
            Phase::Leaving => {
                self.phase = Phase::Over;
                self.small(|out| out.raw(&[DISCONNECT, 0]))
            }
            Phase::Up => self.next_packet(now),
        }
    }

    fn next_packet(&mut self, now: Micros) -> Piece<'b> {
        if self.acknowledges > 0 {
            let id = self.acknowledge[0];
            self.acknowledge.rotate_left(1);
            self.acknowledges -= 1;
            return self.small(|out| {
                out.raw(&[PUBACK, 2]);
                out.short(id);
            });
        }
        if self.subscribe < self.config.subscriptions.len() {
            self.subscribe += 1;
            return self.pull(Rope::Subscribe(self.subscribe - 1, 0));
        }
        if self.next_deadline().is_some_and(|due| now >= due) && self.pinged.is_none() {
            self.pinged = Some(now);
            return self.small(|out| out.raw(&[PINGREQ, 0]));
        }
        let waits = self.shelf.slots().iter().position(|slot| slot.stage == Stage::Waits);
        let Some(index) = waits else { return Piece::Nothing };
        let id = self.shelf.slots().get(index).map_or(0, |slot| slot.id);
        let may = id == 0 || self.in_flight() < usize::from(self.quota);
        if may { Piece::Shelf(index) } else { Piece::Nothing }
    }

    /// A piece of a packet, and which is next.
    fn pull(&mut self, rope: Rope) -> Piece<'b> {
        let (piece, next) = match rope {
            Rope::Connect(piece) => self.pull_connect(piece),
            Rope::Subscribe(index, piece) => self.pull_subscribe(index, piece),
        };
        self.rope = next;
        piece
    }

    fn pull_connect(&mut self, piece: u8) -> (Piece<'b>, Option<Rope>) {
        let next = Some(Rope::Connect(piece + 1));
        let last = |text| (Piece::Text(text), None);
        let config = self.config;
        let mut length = |text: &[u8]| self.small(|out| out.short(text.len() as u16));
        match (piece, config.login) {
            (0, _) => (self.connect_head(), next),
            (1, None) => last(config.client_id.as_bytes()),
            (1, Some(_)) => (Piece::Text(config.client_id.as_bytes()), next),
            (2, Some(login)) => (length(login.user.as_bytes()), next),
            (3, Some(login)) => (Piece::Text(login.user.as_bytes()), next),
            (4, Some(login)) => (length(login.password), next),
            (5, Some(login)) => last(login.password),
            (_, None | Some(_)) => (Piece::Nothing, None),
        }
    }

    fn connect_head(&mut self) -> Piece<'b> {
        let config = self.config;
        let capacity = self.receiving.capacity() as u32;
        let login = config.login.map_or(0, |login| 4 + login.user.len() + login.password.len());
        let length = 10 + 1 + CONNECT_PROPERTIES + 2 + config.client_id.len() + login;
        let credentials = if config.login.is_some() { 0xc0 } else { 0 };
        let clean = u8::from(config.session_expiry == 0) << 1;
        self.small(|out| {
            out.byte(CONNECT);
            out.length(length);
            out.text(b"MQTT");
            out.raw(&[5, credentials | clean]);
            out.short(config.keep_alive);
            out.byte(CONNECT_PROPERTIES as u8);
            out.byte(property::SESSION_EXPIRY);
            out.raw(&config.session_expiry.to_be_bytes());
            out.byte(property::RECEIVE_MAXIMUM);
            out.short(super::INCOMING as u16);
            out.byte(property::MAXIMUM_PACKET_SIZE);
            out.raw(&capacity.to_be_bytes());
            out.short(config.client_id.len() as u16);
        })
    }

    fn pull_subscribe(&mut self, index: usize, piece: u8) -> (Piece<'b>, Option<Rope>) {
        let filter = self.config.subscriptions.get(index).map_or("", |filter| filter);
        match piece {
            0 => {
                let head = self.small(|out| {
                    out.byte(SUBSCRIBE);
                    out.length(2 + 1 + 2 + filter.len() + 1);
                    out.short(SUBSCRIPTIONS_FROM + index as u16);
                    out.byte(0);
                    out.short(filter.len() as u16);
                });
                (head, Some(Rope::Subscribe(index, 1)))
            }
            1 => (Piece::Text(filter.as_bytes()), Some(Rope::Subscribe(index, 2))),
            // QoS 1.
            _ => (self.small(|out| out.byte(1)), None),
        }
    }

    fn small(&mut self, write: impl FnOnce(&mut Out<'_>)) -> Piece<'b> {
        let mut out = Out::new(&mut self.small);
        write(&mut out);
        // Nothing that is written is longer.
        Piece::Small(out.end().unwrap_or(0) as u8)
    }
}

const _: () = {
    let head = 1 + length_bytes(usize::MAX) + 10 + 1 + CONNECT_PROPERTIES + 2;
    assert!(head <= SMALL, "the head of a CONNECT fits a piece");
};
