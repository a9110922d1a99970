//! What a board brings.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Identity, Layout, Trust};

/// What the sensor needs of a board.
pub trait Board {
    /// Its flash.
    type Nor: NorFlash;
    /// Microseconds since the start.
    fn micros(&mut self) -> u64;
    /// A byte that has come in on the line.
    fn read(&mut self) -> Option<u8>;
    /// Sends bytes over the line.
    fn write(&mut self, bytes: &[u8]);
    /// The flash.
    fn nor(&mut self) -> &mut Self::Nor;
    /// The program is well.
    fn feed_watchdog(&mut self);
    /// Waits until a byte comes in, a few milliseconds at most.
    fn sleep(&mut self);
}

/// What the device is, and how it was started.
pub struct Device {
    /// Where things are in flash.
    pub layout: Layout<'static>,
    /// Whom it trusts.
    pub trust: Trust<'static>,
    /// What it is.
    pub identity: Identity,
    /// How often it has been started.
    pub starts: u32,
}
