//! Records that wait until the client takes them.

use tidegate_mqtt::{Client, Publish, Qos};

use crate::form::Format;
use crate::record::Record;

/// What goes when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Overflow {
    /// What has waited longest.
    DropOldest,
    /// What should come in.
    DropNewest,
}

/// Bytes of a length.
const HEAD: usize = 2;

/// A queue in a buffer of the caller: each record takes its bytes and two more.
#[derive(Debug)]
pub struct Queue<'b> {
    bytes: &'b mut [u8],
    used: usize,
    overflow: Overflow,
    dropped: u32,
}

impl<'b> Queue<'b> {
    /// An empty queue.
    #[must_use]
    pub fn new(bytes: &'b mut [u8], overflow: Overflow) -> Queue<'b> {
        Queue { bytes, used: 0, overflow, dropped: 0 }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Whether more than half of the room is taken.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.used * 2 > self.bytes.len()
    }

    /// Records that were dropped since the start; it stops at its greatest value.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Puts in a record of at most `MOST` bytes.
    pub fn push_record<const MOST: usize, F: Format>(&mut self, record: &impl Record) {
        let mut bytes = [0; MOST];
        match record.write::<F>(&mut bytes) {
            Some(length) => self.push(bytes.get(..length).unwrap_or_default()),
            None => self.note_dropped(),
        }
    }

    /// Puts in a payload.
    pub fn push(&mut self, payload: &[u8]) {
        let wanted = HEAD + payload.len();
        let Ok(length) = u16::try_from(payload.len()) else { return self.note_dropped() };
        if wanted > self.bytes.len() {
            return self.note_dropped();
        }
        while self.bytes.len() - self.used < wanted {
            self.note_dropped();
            match self.overflow {
                Overflow::DropNewest => return,
                Overflow::DropOldest => self.pop(),
            }
        }
        let end = self.used + wanted;
        if let Some((head, rest)) =
            self.bytes.get_mut(self.used..end).and_then(|place| place.split_first_chunk_mut())
        {
            *head = length.to_le_bytes();
            rest.copy_from_slice(payload);
            self.used = end;
        }
    }

    /// What has waited longest.
    #[must_use]
    pub fn front(&self) -> Option<&[u8]> {
        let (head, rest) = self.bytes.get(..self.used)?.split_first_chunk()?;
        rest.get(..u16::from_le_bytes(*head).into())
    }

    /// It has been dealt with.
    pub fn pop(&mut self) {
        let Some(length) = self.front().map(|front| HEAD + front.len()) else { return };
        self.bytes.copy_within(length..self.used, 0);
        self.used -= length;
    }

    /// Hands over to the client what it takes. What it can never take is dropped.
    pub fn flush(&mut self, client: &mut Client<'_>, topic: &str, qos: Qos) {
        while let Some(payload) = self.front() {
            match client.publish(&Publish { qos, ..Publish::new(topic, payload) }) {
                Ok(_) => {}
                Err(tidegate_mqtt::PublishError::Full) => return,
                Err(tidegate_mqtt::PublishError::TooLong | tidegate_mqtt::PublishError::Topic) => {
                    self.note_dropped();
                }
            }
            self.pop();
        }
    }

    pub(crate) fn note_dropped(&mut self) {
        self.dropped = self.dropped.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::vec::Vec;

    use proptest::prelude::*;
    use tidegate_mqtt::Config;

    proptest! {
        #[test]
        fn it_is_a_queue_that_drops_what_it_should_and_counts_it(
            oldest: bool,
            steps in prop::collection::vec(prop::option::of(0_usize..40), 1..100),
        ) {
            let mut bytes = [0; 64];
            let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
            let mut queue = Queue::new(&mut bytes, overflow);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            let mut dropped = 0;
            for (n, step) in steps.into_iter().enumerate() {
                match step {
                    Some(length) => {
                        let payload = std::vec![n as u8; length];
                        queue.push(&payload);
                        let used = |model: &VecDeque<Vec<u8>>| -> usize {
                            model.iter().map(|one| one.len() + 2).sum()
                        };
                        while oldest && used(&model) + length + 2 > 64 {
                            model.pop_front();
                            dropped += 1;
                        }
                        if used(&model) + length + 2 <= 64 {
                            model.push_back(payload);
                        } else {
                            dropped += 1;
                        }
                    }
                    None => {
                        queue.pop();
                        model.pop_front();
                    }
                }
                prop_assert_eq!(queue.front(), model.front().map(Vec::as_slice));
                prop_assert_eq!((queue.dropped(), queue.is_empty()), (dropped, model.is_empty()));
            }
        }
    }

    #[test]
    fn what_the_client_does_not_take_yet_stays_and_what_it_never_can_goes() {
        let mut bytes = [0; 200];
        let mut queue = Queue::new(&mut bytes, Overflow::DropOldest);
        queue.push(&[1; 100]);
        queue.push(&[2; 20]);
        queue.push(&[3; 20]);
        let (mut shelf, mut input) = ([0; 40], [0; 16]);
        let mut client = Client::new(Config::new("a"), &mut shelf, &mut input);
        queue.flush(&mut client, "t", Qos::AtLeastOnce);
        assert_eq!((queue.dropped(), queue.front()), (1, Some(&[3; 20][..])));
    }
}
