//! The bytes that wait for one socket.

/// Capacity kept when everything is sent; a burst's larger buffer is given back.
const KEEP_BYTES: usize = 16 * 1024;

/// The unsent bytes of one connection, in order. The shell writes [`as_slice`](Outbox::as_slice)
/// and reports with [`consume`](Outbox::consume) how much the socket took.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
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
        self.sent += count.min(self.len());
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

    /// Where an encoder appends.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_in_any_portions() {
        let mut outbox = Outbox::default();
        let input: Vec<u8> = (0..200_000u32).map(|i| i as u8).collect();
        outbox.tail().extend_from_slice(&input);
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
        outbox.tail().extend_from_slice(b"abc");
        outbox.consume(10);
        assert!(outbox.is_empty());
    }
}
