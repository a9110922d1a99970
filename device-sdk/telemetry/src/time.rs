//! When something was, and how well that is known.

use tidegate_link::{Clock, Micros, TimeQuality};
use tidegate_wire::divided;

/// A moment by the gateway's clock, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Time(Option<(u64, TimeQuality)>);

impl Time {
    /// Without a clock.
    #[must_use]
    pub const fn unknown() -> Time {
        Time(None)
    }

    /// A moment of the device's own clock, by the link's or [`crate::TimeSync`]'s.
    #[must_use]
    pub fn of(clock: &Clock, at: Micros) -> Time {
        Time(clock.now(at))
    }

    /// Milliseconds since 1970; `None` when it is not known, or the gateway does not trust its clock.
    #[must_use]
    pub fn millis(&self) -> Option<u64> {
        let (micros, quality) = self.0?;
        quality.trusted.then_some(divided(micros, 1_000).0)
    }

    /// How good it is: how far it may be off, and whether the gateway trusts its clock; `None` without a
    /// clock. It comes of four timestamps, by the exchange with the shortest round trip of the last eight.
    #[must_use]
    pub fn time_quality(&self) -> Option<TimeQuality> {
        self.0.map(|(_, quality)| quality)
    }

    /// How far it may be off in milliseconds, rounded up, for a record's field; `None` when it is not
    /// known, or the gateway does not trust its clock.
    #[must_use]
    pub fn error_millis(&self) -> Option<u32> {
        let (_, quality) = self.0?;
        let (whole, rest) = divided(quality.error.0, 1_000);
        let millis = (whole + u64::from(rest > 0)).min(u32::MAX.into()) as u32;
        quality.trusted.then_some(millis)
    }

    /// How far it may be off, as long as the gateway's clock is right.
    #[must_use]
    pub fn error(&self) -> Option<Micros> {
        self.0.map(|(_, quality)| quality.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_link::{Config, Link, Role};

    #[test]
    fn it_is_known_once_the_gateway_has_answered_and_trusts_its_clock() {
        for trusted in [false, true] {
            let mut device: Link<64, 2, 128> = Link::new(Config::new(Role::Device, 1), 1);
            let mut gateway: Link<64, 2, 128> = Link::new(Config::new(Role::Gateway, 1), 2);
            gateway.set_wall(1_700_000_000_000_000, trusted);
            assert_eq!(Time::of(device.clock(), Micros(0)), Time::unknown());
            let mut frame = [0; 80];
            for now in (0..100).map(|n| Micros(n * 1_000)) {
                let up = device.poll_output(now, &mut frame);
                gateway.handle_input(now, &frame[..up]);
                let down = gateway.poll_output(now, &mut frame);
                device.handle_input(now, &frame[..down]);
            }
            let time = Time::of(device.clock(), Micros(100_000));
            assert_eq!(time.millis(), trusted.then_some(1_700_000_000_100));
            assert!(time.error() < Some(Micros(2_000)));
            assert_eq!(time.time_quality().map(|quality| quality.trusted), Some(trusted));
            assert_eq!(time.error_millis().is_some(), trusted);
            assert!(time.error_millis().unwrap_or(1) <= 2);
        }
    }
}
