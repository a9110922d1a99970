//! A message that is longer than what a link takes at once.

use crate::link::{Link, SendError};

/// Room for one message of at most `BYTES`, on its way into a link.
#[derive(Debug)]
pub struct Outgoing<const BYTES: usize> {
    bytes: [u8; BYTES],
    channel: u8,
    from: usize,
    to: usize,
}

impl<const BYTES: usize> Outgoing<BYTES> {
    /// Without a message.
    #[must_use]
    pub const fn new() -> Self {
        Outgoing { bytes: [0; BYTES], channel: 0, from: 0, to: 0 }
    }

    /// Where the next message may be written; `None` while one is on its way.
    pub fn room(&mut self) -> Option<&mut [u8]> {
        (self.from == self.to).then_some(&mut self.bytes[..])
    }

    /// So many bytes were written there.
    pub fn put(&mut self, channel: u8, length: usize) {
        (self.channel, self.from, self.to) = (channel, 0, length.min(BYTES));
    }

    /// Hands over to the link what it takes. Without a session of the link the message is lost.
    pub fn send<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize, const OUT: usize>(
        &mut self,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
    ) {
        let Some(rest) = self.bytes.get(self.from..self.to).filter(|rest| !rest.is_empty()) else {
            return;
        };
        match link.send(self.channel, rest) {
            Ok(count) => self.from += count,
            Err(SendError::Unfinished | SendError::NoRoom) => {}
            Err(SendError::Down | SendError::Channel) => self.from = self.to,
        }
    }
}

impl<const BYTES: usize> Default for Outgoing<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Micros, Role};

    #[test]
    fn a_message_goes_out_whole_however_little_is_taken_at_once() {
        let mut device: Link<64, 1, 1024> = Link::new(Config::new(Role::Device, 1), 1);
        let mut gateway: Link<64, 1, 1024> = Link::new(Config::new(Role::Gateway, 1), 2);
        let mut outgoing = Outgoing::<600>::new();
        outgoing.room().unwrap().fill(7);
        outgoing.put(3, 600);
        outgoing.send(&mut device);
        assert!(outgoing.room().is_some(), "without a session it is lost");
        let mut line = [0; 80];
        let mut came = 0;
        for now in (0..2_000).map(|n| Micros(n * 1_000)) {
            if now == Micros(500_000) {
                outgoing.put(3, 600);
            }
            outgoing.send(&mut device);
            let up = device.poll_output(now, &mut line);
            gateway.handle_input(now, &line[..up]);
            if let Some(message) = gateway.receive() {
                assert_eq!((message.channel, message.bytes), (3, &[7; 600][..]));
                came += 1;
            }
            let down = gateway.poll_output(now, &mut line);
            device.handle_input(now, &line[..down]);
        }
        assert_eq!(came, 1);
        assert!(outgoing.room().is_some());
    }
}
