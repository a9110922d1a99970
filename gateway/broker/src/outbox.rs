//! The bytes that wait for one socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Capacity kept when everything is sent; a burst's larger buffer is given back.
const KEEP_BYTES: usize = 16 * 1024;

/// The unsent bytes of one connection, in order. The shell writes [`as_slice`](Outbox::as_slice)
/// and reports with [`consume`](Outbox::consume) how much the socket took.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Unsent bytes of all outboxes of the broker. Atomic because a broker may be moved to
    /// another thread; nobody shares it between threads.
    total: Arc<AtomicUsize>,
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.total.fetch_sub(self.len(), Ordering::Relaxed);
    }
}

impl Outbox {
    /// An empty one that is counted in `total`.
    pub(crate) fn counted_in(total: &Arc<AtomicUsize>) -> Outbox {
        Outbox { bytes: Vec::new(), sent: 0, total: total.clone() }
    }

    /// What is still to be sent.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// How many bytes are still to be sent.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first `count` bytes have been taken over; more than there are counts as all.
    pub fn consume(&mut self, count: usize) {
        let count = count.min(self.len());
        self.total.fetch_sub(count, Ordering::Relaxed);
        self.sent += count;
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
            if self.bytes.capacity() > KEEP_BYTES {
                self.bytes.shrink_to(KEEP_BYTES);
            }
        } else if self.sent > self.bytes.len() / 2 && self.sent > KEEP_BYTES {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    /// Lets an encoder append.
    pub(crate) fn append<R>(&mut self, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let before = self.bytes.len();
        let result = encode(&mut self.bytes);
        self.total.fetch_add(self.bytes.len().saturating_sub(before), Ordering::Relaxed);
        result
    }

    /// Whether all outboxes together are full and this one has its share with `more` bytes.
    pub(crate) fn exceeds_share(&self, more: usize, share: usize, max_total: usize) -> bool {
        self.len() + more > share && self.total.load(Ordering::Relaxed) + more > max_total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_in_any_portions() {
        let mut outbox = Outbox::default();
        let input: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        outbox.append(|tail| tail.extend_from_slice(&input));
        let mut output = Vec::new();
        while !outbox.is_empty() {
            let portion = outbox.len().min(7_001);
            output.extend_from_slice(&outbox.as_slice()[..portion]);
            outbox.consume(portion);
        }
        assert_eq!(output, input);
        assert!(outbox.bytes.capacity() <= KEEP_BYTES);
    }

    #[test]
    fn consuming_more_than_there_is_empties_it() {
        let mut outbox = Outbox::default();
        outbox.append(|tail| tail.extend_from_slice(b"abc"));
        outbox.consume(10);
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_total_is_that_of_all_outboxes_there_are() {
        let total = Arc::default();
        let (mut one, mut other) = (Outbox::counted_in(&total), Outbox::counted_in(&total));
        one.append(|tail| tail.extend_from_slice(b"abcd"));
        other.append(|tail| tail.extend_from_slice(b"efg"));
        other.consume(2);
        assert_eq!(total.load(Ordering::Relaxed), 5);
        assert!(other.exceeds_share(1, 1, 5) && !other.exceeds_share(1, 2, 5));
        drop(one);
        assert_eq!(total.load(Ordering::Relaxed), 1);
    }
}
