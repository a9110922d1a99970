//! The Ethernet controller as `smoltcp` sees it.

use mps2_an386::{Ethernet, FRAME_BYTES};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// The controller, and where a frame is put that has come in.
pub(crate) struct Frames<'a> {
    pub(crate) ethernet: &'a mut Ethernet,
    pub(crate) received: &'a mut [u8; FRAME_BYTES],
}

/// A frame that has come in.
pub(crate) struct Received<'a>(&'a [u8]);

/// Room for one to send.
pub(crate) struct Room<'a>(&'a mut Ethernet);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = [0; FRAME_BYTES];
        let frame = &mut frame[..length.min(FRAME_BYTES)];
        let result = fill(frame);
        self.0.send(frame);
        result
    }
}

impl Device for Frames<'_> {
    type RxToken<'t>
        = Received<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Room<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, Room<'_>)> {
        let length = self.ethernet.receive(self.received)?;
        Some((Received(&self.received[..length]), Room(self.ethernet)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Room<'_>> {
        Some(Room(self.ethernet))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.max_transmission_unit = FRAME_BYTES;
        capabilities.medium = Medium::Ethernet;
        capabilities
    }
}
