//! What comes in.

use super::{Client, Event, Message, Phase, SUBSCRIPTIONS_FROM, Why};
use crate::Micros;
use crate::client::output::Piece;
use crate::packet::{
    CONNACK, DISCONNECT, In, PINGRESP, PUBACK, SUBACK, is_publish, length_bytes, property,
};
use crate::shelf::Stage;

/// Where a packet is put together.
#[derive(Debug)]
pub(super) struct Receiving<'b> {
    bytes: &'b mut [u8],
    have: usize,
    /// A whole packet is there, and was handed over.
    done: bool,
}

impl<'b> Receiving<'b> {
    pub(super) fn new(bytes: &'b mut [u8]) -> Receiving<'b> {
        Receiving { bytes, have: 0, done: false }
    }

    pub(super) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn clear(&mut self) {
        self.have = 0;
        self.done = false;
    }

    /// Takes what belongs to the packet; true when it is whole.
    fn collect(&mut self, bytes: &mut &[u8]) -> Result<bool, Why> {
        if self.done {
            self.clear();
        }
        loop {
            let wanted = self.wanted()?;
            if self.have == wanted {
                self.done = true;
                return Ok(true);
            }
            let count = (wanted - self.have).min(bytes.len());
            if count == 0 {
                return Ok(false);
            }
            let (taken, rest) = bytes.split_at(count);
            let place = self.bytes.get_mut(self.have..self.have + count).ok_or(Why::TooLong)?;
            place.copy_from_slice(taken);
            self.have += count;
            *bytes = rest;
        }
    }

    /// Bytes of the packet, as far as is known.
    fn wanted(&self) -> Result<usize, Why> {
        let mut rest = In(self.bytes.get(1..self.have).unwrap_or_default());
        match rest.length()? {
            None => Ok((self.have + 1).max(2)),
            Some(length) => {
                let head = self.have - rest.0.len();
                let whole = head + length;
                // Shortest form, so that the head has the length that it seems to have.
                let right = head == 1 + length_bytes(length);
                match (right, whole <= self.bytes.len()) {
                    (false, _) => Err(Why::Malformed),
                    (true, false) => Err(Why::TooLong),
                    (true, true) => Ok(whole),
                }
            }
        }
    }

    /// The first byte, and what follows the length.
    fn packet(&self) -> (u8, In<'_>) {
        let first = self.bytes.first().copied().unwrap_or(0);
        let mut body = In(self.bytes.get(1..self.have).unwrap_or_default());
        // The length was read when the packet became whole.
        let _ = body.length();
        (first, body)
    }
}

/// What a packet means, without what it carries.
enum Found {
    Nothing,
    Event(Event<'static>),
    Message,
}

impl Client<'_> {
    /// Takes bytes of the transport, up to the first event; call it until it answers `None`, also
    /// without bytes when a deadline has passed.
    pub fn handle_input(&mut self, now: Micros, bytes: &mut &[u8]) -> Option<Event<'_>> {
        if matches!(self.phase, Phase::Offline | Phase::Over) {
            *bytes = &[];
            return None;
        }
        if !bytes.is_empty() {
            self.pinged = None;
        }
        let found = loop {
            match self.receiving.collect(bytes) {
                Ok(true) => {}
                Ok(false) => break self.pass_time(now),
                Err(why) => break Found::Event(self.end(why)),
            }
            match self.handle_packet() {
                Ok(Found::Nothing) => {}
                Ok(found) => break found,
                Err(why) => break Found::Event(self.end(why)),
            }
        };
        match found {
            Found::Nothing => None,
            Found::Event(event) => Some(event),
            Found::Message => {
                let (first, body) = self.receiving.packet();
                message(first, body).ok().map(|(message, _)| Event::Message(message))
            }
        }
    }

    fn pass_time(&mut self, now: Micros) -> Found {
        let late = self.next_deadline().is_some_and(|due| now >= due);
        let silent = match self.phase {
            Phase::Begun { .. } => late,
            Phase::Up => late && self.pinged.is_some(),
            Phase::Offline | Phase::Leaving | Phase::Over => false,
        };
        if silent { Found::Event(self.end(Why::Silence)) } else { Found::Nothing }
    }

    fn handle_packet(&mut self) -> Result<Found, Why> {
        let (first, mut body) = self.receiving.packet();
        match (self.phase, first) {
            (Phase::Begun { .. }, CONNACK) => {
                let answer = Connack::read(body)?;
                Ok(Found::Event(self.handle_connack(&answer)))
            }
            (Phase::Begun { .. }, _) => Err(Why::Malformed),
            (_, DISCONNECT) => Err(Why::Server(body.byte().unwrap_or(0))),
            (_, PINGRESP) => Ok(Found::Nothing),
            (_, PUBACK) => {
                let (id, reason) = (body.short()?, body.byte().unwrap_or(0));
                Ok(self.handle_puback(id, reason))
            }
            (_, SUBACK) => {
                let id = body.short()?;
                body.properties(|_, _| Ok(()))?;
                let reason = body.byte()?;
                let index = id.checked_sub(SUBSCRIPTIONS_FROM).ok_or(Why::Malformed)?;
                self.subscribed = true;
                Ok(Found::Event(Event::Subscribed { index: index.into(), reason }))
            }
            (_, first) if is_publish(first) => {
                let id = message(first, body)?.1;
                if id != 0 {
                    // More than it was allowed to send.
                    let place = self.acknowledge.get_mut(self.acknowledges);
                    *place.ok_or(Why::Malformed)? = id;
                    self.acknowledges += 1;
                }
                Ok(Found::Message)
            }
            (_, _) => Err(Why::Malformed),
        }
    }

    fn handle_connack(&mut self, answer: &Connack) -> Event<'static> {
        if answer.reason != 0 {
            self.phase = Phase::Over;
            return Event::Refused(answer.reason);
        }
        self.phase = Phase::Up;
        self.quota = answer.quota;
        self.max_packet = answer.max_packet;
        let seconds = u64::from(answer.keep_alive.unwrap_or(self.config.keep_alive));
        // A quarter before the server gives up waiting for a sign.
        self.keep_alive = Micros::from_millis(seconds * 750);
        if !answer.session_present {
            self.shelf.renew();
        }
        // A session may be from before this start, with an older firmware's subscriptions.
        let known = answer.session_present && self.subscribed;
        self.subscribe = if known { self.config.subscriptions.len() } else { 0 };
        let long = |length: u16| u32::from(length) > answer.max_packet;
        while let Some(index) = self.shelf.slots().iter().position(|slot| long(slot.length)) {
            self.shelf.remove(index);
            self.dropped = self.dropped.saturating_add(1);
        }
        Event::Up { session_present: answer.session_present }
    }

    fn handle_puback(&mut self, id: u16, reason: u8) -> Found {
        let sent = |slot: &crate::shelf::Slot| slot.stage == Stage::Sent;
        let index = self.shelf.index_of(id).filter(|_| id != 0);
        let Some(index) = index.filter(|at| self.shelf.slots().get(*at).is_some_and(sent)) else {
            // Of an earlier life of this device.
            return Found::Nothing;
        };
        self.shelf.remove(index);
        if let Piece::Shelf(current) = &mut self.piece
            && *current > index
        {
            *current -= 1;
        }
        Found::Event(Event::Acknowledged { id, reason })
    }
}

/// A server's answer to CONNECT.
struct Connack {
    session_present: bool,
    reason: u8,
    quota: u16,
    max_packet: u32,
    keep_alive: Option<u16>,
}

impl Connack {
    fn read(mut body: In<'_>) -> Result<Connack, Why> {
        let session_present = body.byte()? & 1 == 1;
        let reason = body.byte()?;
        let mut answer = Connack {
            session_present,
            reason,
            quota: u16::MAX,
            max_packet: u32::MAX,
            keep_alive: None,
        };
        body.properties(|id, mut value| {
            match id {
                property::RECEIVE_MAXIMUM => answer.quota = value.short()?,
                property::MAXIMUM_PACKET_SIZE => answer.max_packet = value.long()?,
                property::SERVER_KEEP_ALIVE => answer.keep_alive = Some(value.short()?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

/// A PUBLISH, and its identifier.
fn message(first: u8, mut body: In<'_>) -> Result<(Message<'_>, u16), Why> {
    let text = |bytes| core::str::from_utf8(bytes).map_err(|_| Why::Malformed);
    let topic = text(body.text()?)?;
    let id = match first >> 1 & 3 {
        0 => 0,
        1 => match body.short()? {
            0 => return Err(Why::Malformed),
            id => id,
        },
        _ => return Err(Why::Malformed),
    };
    let (mut response_topic, mut correlation) = (None, None);
    body.properties(|id, mut value| {
        match id {
            property::RESPONSE_TOPIC => response_topic = Some(text(value.text()?)?),
            property::CORRELATION_DATA => correlation = Some(value.text()?),
            _ => {}
        }
        Ok(())
    })?;
    let retain = first & 1 == 1;
    // Without an alias, which this side does not allow, a topic is never empty.
    if topic.is_empty() {
        return Err(Why::Malformed);
    }
    Ok((Message { topic, payload: body.0, retain, response_topic, correlation }, id))
}
