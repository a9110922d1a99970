//! What all devices of a world have in common: a client of the gateway on a connection that may
//! break.

use std::time::Duration;

use crate::line::{Line, Tick};

/// One device.
pub(crate) trait Device {
    /// Its end of the connection.
    fn line(&mut self) -> &mut Line;

    /// The transport stands: the CONNECT to send.
    fn connect(&mut self, now: Duration) -> Vec<u8>;

    /// The connection is gone.
    fn lost(&mut self);

    /// It restarts.
    fn restart(&mut self);

    /// Bytes from the gateway; answers the bytes to send.
    fn receive(&mut self, now: Duration, bytes: &[u8]) -> Vec<u8>;

    /// It looks at the clock.
    fn tick(&mut self, now: Duration) -> Tick;
}
