//! Packets that wait: to be sent, or sent and not acknowledged. They lie one behind the other in a
//! buffer of the caller; what goes is closed up, so that no byte of it is ever lost to gaps.
//!
//! Invariant: the lengths of the slots add up to `used`, in the order of publishing.

use crate::packet;

/// Most packets that wait at once, 8 bytes of memory each.
pub const MAX_WAITING: usize = 16;

/// Set in the first byte of a PUBLISH that was sent before [MQTT-3.3.1-1].
const DUP: u8 = 0x08;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not wholly sent in this connection.
    Waits,
    /// Sent; its acknowledgement is missing.
    Sent,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) length: u16,
    /// 0: QoS 0, goes when it is sent.
    pub(crate) id: u16,
    pub(crate) stage: Stage,
}

const NONE: Slot = Slot { length: 0, id: 0, stage: Stage::Waits };

#[derive(Debug)]
pub(crate) struct Shelf<'b> {
    bytes: &'b mut [u8],
    used: usize,
    slots: [Slot; MAX_WAITING],
    count: usize,
}

impl<'b> Shelf<'b> {
    pub(crate) fn new(bytes: &'b mut [u8]) -> Shelf<'b> {
        Shelf { bytes, used: 0, slots: [NONE; MAX_WAITING], count: 0 }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        self.slots.get(..self.count).unwrap_or_default()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Where the next packet may be written; `None` when no slot is free.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.count == MAX_WAITING {
            return None;
        }
        self.bytes.get_mut(self.used..)
    }

    /// A packet of this length has been written where [`Shelf::room`] was.
    pub(crate) fn put(&mut self, length: usize, id: u16) {
        if let (Some(slot), Ok(short)) = (self.slots.get_mut(self.count), u16::try_from(length)) {
            *slot = Slot { length: short, id, stage: Stage::Waits };
            self.count += 1;
            self.used += length;
        }
    }

    pub(crate) fn bytes(&self, index: usize) -> &[u8] {
        let (from, length) = self.place(index);
        self.bytes.get(from..from + length).unwrap_or_default()
    }

    pub(crate) fn index_of(&self, id: u16) -> Option<usize> {
        self.slots().iter().position(|slot| slot.id == id)
    }

    pub(crate) fn sent(&mut self, index: usize) {
        match self.slots.get_mut(index) {
            Some(slot) if slot.id != 0 => slot.stage = Stage::Sent,
            Some(_) => self.remove(index),
            None => {}
        }
    }

    pub(crate) fn remove(&mut self, index: usize) {
        if index >= self.count {
            return;
        }
        let (from, length) = self.place(index);
        self.bytes.copy_within(from + length..self.used, from);
        self.slots.copy_within(index + 1..self.count, index);
        self.used -= length;
        self.count -= 1;
    }

    /// A connection has ended: everything has to be sent again, marked as such.
    pub(crate) fn rewind(&mut self) {
        let mut from = 0;
        for slot in self.slots.iter_mut().take(self.count) {
            if slot.stage == Stage::Sent
                && let Some(first) = self.bytes.get_mut(from)
            {
                *first |= DUP;
            }
            slot.stage = Stage::Waits;
            from += usize::from(slot.length);
        }
    }

    /// The server has no session: what is sent now is new to it.
    pub(crate) fn renew(&mut self) {
        let mut from = 0;
        for slot in self.slots.iter().take(self.count) {
            if let Some(first) =
                self.bytes.get_mut(from).filter(|first| packet::is_publish(**first))
            {
                *first &= !DUP;
            }
            from += usize::from(slot.length);
        }
    }

    fn place(&self, index: usize) -> (usize, usize) {
        let before = self.slots().iter().take(index).map(|slot| usize::from(slot.length)).sum();
        (before, self.slots().get(index).map_or(0, |slot| usize::from(slot.length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_leaves_no_gap_and_the_order_stays() {
        let mut bytes = [0; 10];
        let mut shelf = Shelf::new(&mut bytes);
        for (id, content) in [(1, &b"2aa"[..]), (0, b"2bb"), (3, b"2ccc")] {
            shelf.room().unwrap()[..content.len()].copy_from_slice(content);
            shelf.put(content.len(), id);
        }
        assert!(shelf.room().unwrap().is_empty());
        shelf.sent(1);
        shelf.sent(0);
        assert_eq!((shelf.bytes(0), shelf.bytes(1)), (&b"2aa"[..], &b"2ccc"[..]));
        shelf.rewind();
        assert_eq!((shelf.bytes(0), shelf.bytes(1)), (&b":aa"[..], &b"2ccc"[..]), "0x32 to 0x3a");
        shelf.renew();
        assert_eq!(shelf.bytes(0), b"2aa");
        shelf.remove(shelf.index_of(1).unwrap());
        assert_eq!(shelf.bytes(0), b"2ccc");
        assert_eq!(shelf.room().unwrap().len(), 6);
        shelf.remove(7);
        assert_eq!(shelf.slots().len(), 1);
    }
}
