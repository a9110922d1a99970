//! Reliable frames on their way in: put in order, and together to messages, in one place.
//!
//! Invariant: `taken` is the next sequence that goes into the message, `next` the first that is
//! missing. Slot n from `head` on is for the sequence `taken + n`; those before `next` are full. The payload of a full
//! one begins n times the longest payload behind the message: one in order is a part of the message without
//! being copied, and one behind a short frame is moved down when that has become a part.

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'a> {
    /// On which channel, 1 to 15.
    pub channel: u8,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// A frame that has a place.
#[derive(Clone, Copy)]
struct Slot {
    length: u16,
    channel: u8,
    more: bool,
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Building {
    /// The next frame begins a message, or goes on with one.
    Open,
    /// A message is whole.
    Whole { channel: u8 },
    /// It was given out; the next call takes it away.
    Given,
}

pub(crate) struct Receiving<const WINDOW: usize, const MESSAGE: usize> {
    slots: [Slot; WINDOW],
    head: usize,
    taken: u8,
    next: u8,
    /// Longest payload of a frame of this session. The window has room in `bytes`: [`super::Link`] sees to that.
    payload: usize,
    /// The message, and behind it the frames that wait for one before them.
    bytes: [u8; MESSAGE],
    length: usize,
    /// It does not fit: it is dropped when it ends.
    too_long: bool,
    building: Building,
    /// Messages that were dropped.
    pub(crate) dropped: u32,
}

/// What a frame was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// The one that was missing.
    InOrder,
    /// One behind it.
    Early,
    /// One that came before, or that there is no room for.
    Again,
}

impl<const WINDOW: usize, const MESSAGE: usize> Receiving<WINDOW, MESSAGE> {
    pub(crate) const fn new() -> Self {
        let slot = Slot { length: 0, channel: 0, more: false, full: false };
        Receiving {
            slots: [slot; WINDOW],
            head: 0,
            taken: 0,
            next: 0,
            payload: 0,
            bytes: [0; MESSAGE],
            length: 0,
            too_long: false,
            building: Building::Open,
            dropped: 0,
        }
    }

    /// Forgets everything but a whole message, which has been acknowledged: a new session, whose frames have
    /// payloads of at most `payload` bytes.
    pub(crate) fn clear(&mut self, payload: usize) {
        for slot in &mut self.slots {
            slot.full = false;
        }
        (self.head, self.taken, self.next, self.payload) = (0, 0, 0, payload);
        if self.building == Building::Open {
            (self.length, self.too_long) = (0, false);
        }
    }

    /// The first sequence that is missing.
    pub(crate) fn ack(&self) -> u8 {
        self.next
    }

    /// How many frames from there on there is room for. Where a message is not whole, its next frame is always
    /// taken: it fits, or the message is too long.
    pub(crate) fn credit(&self, window: u8) -> u8 {
        let room = (MESSAGE - self.length).checked_div(self.payload).unwrap_or(0);
        let least = usize::from(self.building == Building::Open);
        let room = room.max(least).min(window.into()) as u8;
        room.saturating_sub(self.next.wrapping_sub(self.taken))
    }

    /// Which frames behind the missing one are there.
    pub(crate) fn bitmap(&self) -> u8 {
        let first = usize::from(self.next.wrapping_sub(self.taken)) + 1;
        (0..8)
            .filter(|n| self.slot(first + n).is_some_and(|slot| slot.full))
            .fold(0, |all, n| all | 1 << n)
    }

    /// Takes in a reliable frame.
    pub(crate) fn take(&mut self, seq: u8, channel: u8, more: bool, payload: &[u8]) -> Arrived {
        let offset = usize::from(seq.wrapping_sub(self.taken));
        if self.slot(offset).is_none_or(|slot| slot.full) || payload.len() > self.payload {
            return Arrived::Again;
        }
        if offset == 0 && self.building == Building::Open && self.place(0, payload.len()).is_none()
        {
            // What there is of it makes room.
            let before = core::mem::take(&mut self.length);
            self.too_long = true;
            self.settle(before);
        }
        let Some(place) = self.place(offset, payload.len()) else { return Arrived::Again };
        place.copy_from_slice(payload);
        let slot = Slot { length: payload.len() as u16, channel, more, full: true };
        if let Some(place) = self.slots.get_mut((self.head + offset) % WINDOW) {
            *place = slot;
        }
        let arrived = if seq == self.next { Arrived::InOrder } else { Arrived::Early };
        while self.slot(self.next.wrapping_sub(self.taken).into()).is_some_and(|slot| slot.full) {
            self.next = self.next.wrapping_add(1);
        }
        self.build();
        arrived
    }

    /// Takes in a message of one frame that is not reliable; dropped when anything else is in the way.
    pub(crate) fn take_loose(&mut self, channel: u8, payload: &[u8]) {
        let free = self.building == Building::Open
            && self.length == 0
            && !self.too_long
            && self.slots.iter().all(|slot| !slot.full);
        match self.bytes.get_mut(..payload.len()) {
            Some(place) if free => {
                place.copy_from_slice(payload);
                self.length = payload.len();
                self.building = Building::Whole { channel };
            }
            Some(_) | None => self.dropped = self.dropped.saturating_add(1),
        }
    }

    /// The message that is whole, once.
    pub(crate) fn receive(&mut self) -> Option<Message<'_>> {
        self.release();
        match self.building {
            Building::Open | Building::Given => None,
            Building::Whole { channel } => {
                self.building = Building::Given;
                let bytes = self.bytes.get(..self.length)?;
                Some(Message { channel, bytes })
            }
        }
    }

    /// Takes away what was given out, and goes on with what waits.
    pub(crate) fn release(&mut self) {
        if self.building == Building::Given {
            self.building = Building::Open;
            let before = core::mem::take(&mut self.length);
            self.settle(before);
            self.build();
        }
    }

    /// Makes frames that are in order parts of the message, until it is whole.
    fn build(&mut self) {
        while self.building == Building::Open && self.taken != self.next {
            let Some(slot) = self.slots.get_mut(self.head) else { return };
            let Slot { length, channel, more, .. } = *slot;
            slot.full = false;
            self.head = (self.head + 1) % WINDOW;
            self.taken = self.taken.wrapping_add(1);
            let before = self.length + self.payload;
            if !self.too_long {
                self.length += usize::from(length);
            }
            match (more, self.too_long) {
                (true, _) => {}
                (false, false) => self.building = Building::Whole { channel },
                (false, true) => {
                    self.too_long = false;
                    self.dropped = self.dropped.saturating_add(1);
                }
            }
            self.settle(before);
        }
    }

    /// Moves the frames that wait, of which slot 0 began at `from`, down to behind the message.
    fn settle(&mut self, from: usize) {
        for n in 0..WINDOW {
            let Some(slot) = self.slot(n).filter(|slot| slot.full) else { continue };
            let (at, length) = (from + n * self.payload, usize::from(slot.length));
            let to = self.length + n * self.payload;
            if to == at {
                return;
            }
            // Down, so that none is written over before it is moved. Byte by byte, as it is rare: the library's
            // way to move bytes takes devices 0.7 KB.
            for n in 0..length {
                let byte = self.bytes.get(at + n).copied();
                if let (Some(byte), Some(place)) = (byte, self.bytes.get_mut(to + n)) {
                    *place = byte;
                }
            }
        }
    }

    /// Where so many bytes of slot n go; `None` without room.
    fn place(&mut self, n: usize, length: usize) -> Option<&mut [u8]> {
        let at = self.length + n * self.payload;
        self.bytes.get_mut(at..at + length)
    }

    fn slot(&self, n: usize) -> Option<&Slot> {
        if n < WINDOW { self.slots.get((self.head + n) % WINDOW) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    const PAYLOAD: usize = 50;
    const WINDOW: u8 = 4;

    #[derive(Clone, Debug)]
    struct Part {
        channel: u8,
        more: bool,
        payload: Vec<u8>,
    }

    /// Messages in frames of any length: nothing says that all but the last are full.
    fn parts() -> impl Strategy<Value = Vec<Part>> {
        let payload = prop_oneof![Just(PAYLOAD), 0..=PAYLOAD];
        let payload = payload.prop_flat_map(|length| prop::collection::vec(any::<u8>(), length));
        let message = (1..=15u8, prop::collection::vec(payload, 1..8));
        prop::collection::vec(message, 1..20).prop_map(|messages| {
            let parts = messages.into_iter().flat_map(|(channel, parts)| {
                let last = parts.len() - 1;
                let part = move |(n, payload)| Part { channel, more: n < last, payload };
                parts.into_iter().enumerate().map(part)
            });
            parts.collect()
        })
    }

    /// Those that fit, whole.
    fn messages(parts: &[Part], most: usize) -> VecDeque<(u8, Vec<u8>)> {
        let mut messages = VecDeque::new();
        let mut message = Vec::new();
        for part in parts {
            message.extend(&part.payload);
            if !part.more {
                messages.push_back((part.channel, std::mem::take(&mut message)));
            }
        }
        messages.retain(|(_, bytes)| bytes.len() <= most);
        messages
    }

    proptest! {
        /// In any order that the credit allows, and again; whatever was promised room has it.
        #[test]
        fn frames_in_any_order_make_the_messages_that_were_sent(
            parts in parts(),
            picks in prop::collection::vec((any::<u8>(), any::<bool>()), 4_000),
        ) {
            let mut receiving = Receiving::<{ WINDOW as usize }, 210>::new();
            receiving.clear(PAYLOAD);
            let mut expected = messages(&parts, 210);
            // Those from `ack` on that are there already.
            let mut there = Vec::new();
            let mut ack = 0;
            for (pick, fetch) in picks {
                if fetch && let Some(message) = receiving.receive() {
                    let (channel, bytes) = expected.pop_front().unwrap();
                    prop_assert_eq!((message.channel, message.bytes), (channel, &bytes[..]));
                }
                receiving.release();
                let credit = usize::from(receiving.credit(WINDOW));
                let n = ack + usize::from(pick) % credit.max(1);
                let Some(part) = parts.get(n).filter(|_| credit > 0) else { continue };
                let arrived = receiving.take(n as u8, part.channel, part.more, &part.payload);
                prop_assert_eq!(arrived == Arrived::Again, there.contains(&n), "frame {}", n);
                there.push(n);
                while there.contains(&ack) {
                    ack += 1;
                }
                prop_assert_eq!(receiving.ack(), ack as u8);
            }
            while let Some(message) = receiving.receive() {
                let (channel, bytes) = expected.pop_front().unwrap();
                prop_assert_eq!((message.channel, message.bytes), (channel, &bytes[..]));
            }
            prop_assert_eq!((ack, expected.len()), (parts.len(), 0));
        }
    }

    #[test]
    fn what_may_be_lost_is_dropped_where_anything_else_is_in_the_way() {
        let mut receiving = Receiving::<4, 256>::new();
        receiving.clear(PAYLOAD);
        assert_eq!(receiving.take(1, 2, false, &[1; PAYLOAD]), Arrived::Early);
        receiving.take_loose(3, &[9; PAYLOAD]);
        assert_eq!(receiving.receive(), None);
        assert_eq!(receiving.dropped, 1);
        assert_eq!(receiving.take(0, 2, true, &[0; 7]), Arrived::InOrder);
        let message = receiving.receive().unwrap();
        assert_eq!((&message.bytes[..7], &message.bytes[7..]), (&[0; 7][..], &[1; PAYLOAD][..]));
        receiving.take_loose(3, &[9; PAYLOAD]);
        assert_eq!(receiving.receive(), None, "the one before was not taken away");
        assert_eq!(receiving.dropped, 2);
        receiving.take_loose(3, &[9; PAYLOAD]);
        assert_eq!(receiving.receive().unwrap().bytes, [9; PAYLOAD]);
    }

    #[test]
    fn a_frame_that_is_longer_than_the_session_allows_is_not_taken() {
        let mut receiving = Receiving::<4, 256>::new();
        receiving.clear(PAYLOAD);
        assert_eq!(receiving.take(0, 2, false, &[1; PAYLOAD + 1]), Arrived::Again);
        assert_eq!(receiving.ack(), 0);
    }
}
