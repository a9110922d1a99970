//! Reliable frames on their way in: put in order, and together to messages.
//!
//! Invariant: `taken` is the next sequence that goes into the message, `next` the first that is
//! missing. Slot n from `head` on is for the sequence `taken + n`; those before `next` are full.

/// A message that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'a> {
    /// On which channel, 1 to 15.
    pub channel: u8,
    /// Its bytes.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy)]
struct Slot<const FRAME: usize> {
    payload: [u8; FRAME],
    length: usize,
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

pub(crate) struct Receiving<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize> {
    slots: [Slot<FRAME>; WINDOW],
    head: usize,
    taken: u8,
    next: u8,
    message: [u8; MESSAGE],
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

impl<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize>
    Receiving<FRAME, WINDOW, MESSAGE>
{
    pub(crate) const fn new() -> Self {
        let slot = Slot { payload: [0; FRAME], length: 0, channel: 0, more: false, full: false };
        Receiving {
            slots: [slot; WINDOW],
            head: 0,
            taken: 0,
            next: 0,
            message: [0; MESSAGE],
            length: 0,
            too_long: false,
            building: Building::Open,
            dropped: 0,
        }
    }

    /// Forgets everything but a whole message, which has been acknowledged: a new session.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.full = false;
        }
        (self.head, self.taken, self.next) = (0, 0, 0);
        if self.building == Building::Open {
            (self.length, self.too_long) = (0, false);
        }
    }

    /// The first sequence that is missing.
    pub(crate) fn ack(&self) -> u8 {
        self.next
    }

    /// How many frames from there on there is room for.
    pub(crate) fn credit(&self, window: u8) -> u8 {
        window.saturating_sub(self.next.wrapping_sub(self.taken))
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
        if offset >= WINDOW {
            return Arrived::Again;
        }
        let Some(slot) = self.slots.get_mut((self.head + offset) % WINDOW) else {
            return Arrived::Again;
        };
        let place = slot.payload.get_mut(..payload.len());
        let (false, Some(place)) = (slot.full, place) else { return Arrived::Again };
        place.copy_from_slice(payload);
        slot.length = payload.len();
        (slot.channel, slot.more, slot.full) = (channel, more, true);
        let arrived = if seq == self.next { Arrived::InOrder } else { Arrived::Early };
        while self.slot(self.next.wrapping_sub(self.taken).into()).is_some_and(|slot| slot.full) {
            self.next = self.next.wrapping_add(1);
        }
        self.build();
        arrived
    }

    /// Takes in a message of one frame that is not reliable; dropped when another is in the way.
    pub(crate) fn take_loose(&mut self, channel: u8, payload: &[u8]) {
        let free = self.building == Building::Open && self.length == 0 && !self.too_long;
        match self.message.get_mut(..payload.len()) {
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
                let bytes = self.message.get(..self.length)?;
                Some(Message { channel, bytes })
            }
        }
    }

    /// Takes away what was given out, and goes on with what waits.
    pub(crate) fn release(&mut self) {
        if self.building == Building::Given {
            self.building = Building::Open;
            self.length = 0;
            self.build();
        }
    }

    /// Moves frames that are in order into the message, until it is whole.
    fn build(&mut self) {
        while self.building == Building::Open && self.taken != self.next {
            let Some(slot) = self.slots.get_mut(self.head) else { return };
            let part = slot.payload.get(..slot.length).unwrap_or_default();
            let end = self.length + part.len();
            match self.message.get_mut(self.length..end) {
                Some(place) if !self.too_long => {
                    place.copy_from_slice(part);
                    self.length = end;
                }
                Some(_) | None => self.too_long = true,
            }
            slot.full = false;
            match (slot.more, self.too_long) {
                (true, _) => {}
                (false, false) => self.building = Building::Whole { channel: slot.channel },
                (false, true) => {
                    (self.length, self.too_long) = (0, false);
                    self.dropped = self.dropped.saturating_add(1);
                }
            }
            self.head = (self.head + 1) % WINDOW;
            self.taken = self.taken.wrapping_add(1);
        }
    }

    fn slot(&self, n: usize) -> Option<&Slot<FRAME>> {
        if n < WINDOW { self.slots.get((self.head + n) % WINDOW) } else { None }
    }
}
