//! The device's clock.

use core::future::Future;

use tidegate_link::Micros;

/// A clock that only rises, from the start of the device.
pub trait Timer {
    /// The time.
    fn now(&self) -> Micros;

    /// Ready from then on.
    fn wait_until(&self, at: Micros) -> impl Future<Output = ()>;
}

/// The clock of embassy.
#[cfg(feature = "time")]
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbassyTimer;

#[cfg(feature = "time")]
impl Timer for EmbassyTimer {
    fn now(&self) -> Micros {
        Micros(embassy_time::Instant::now().as_micros())
    }

    fn wait_until(&self, at: Micros) -> impl Future<Output = ()> {
        embassy_time::Timer::at(embassy_time::Instant::from_micros(at.0))
    }
}
