//! Addresses whose connections share a rate of publishes.
//!
//! Invariant: who has used up its rate does not get it again by connecting anew: an address is
//! remembered until its rate is level.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use super::Throttle;
use crate::slots::Slots;

/// Addresses without a connection that are remembered: about 100 bytes each. Beyond, they are
/// forgotten.
const MAX_EMPTY: usize = 10_000;

/// All addresses that have a connection, or had one a moment ago.
#[derive(Debug)]
pub(crate) struct Crowds {
    by_address: BTreeMap<IpAddr, u32>,
    crowds: Slots<Crowd>,
    empty: usize,
}

/// The connections from one address.
#[derive(Debug)]
struct Crowd {
    connections: usize,
    throttle: Throttle,
}

impl Crowds {
    pub(crate) fn new() -> Crowds {
        Crowds { by_address: BTreeMap::new(), crowds: Slots::new(), empty: 0 }
    }

    /// A connection from `address`: its place here.
    pub(crate) fn join(&mut self, now: Instant, address: IpAddr) -> u32 {
        if self.empty >= MAX_EMPTY {
            self.forget_empty(now);
        }
        let slot = *self.by_address.entry(address).or_insert_with(|| {
            self.empty += 1;
            self.crowds.insert(Crowd { connections: 0, throttle: Throttle::default() })
        });
        if let Some(crowd) = self.crowds.get_mut(slot) {
            self.empty -= usize::from(crowd.connections == 0);
            crowd.connections += 1;
        }
        slot
    }

    pub(crate) fn leave(&mut self, slot: u32) {
        if let Some(crowd) = self.crowds.get_mut(slot) {
            crowd.connections -= 1;
            self.empty += usize::from(crowd.connections == 0);
        }
    }

    /// Counts a publish and says when it may be read.
    pub(crate) fn count(&mut self, slot: u32, now: Instant, per_second: u32) -> Instant {
        self.crowds.get_mut(slot).map_or(now, |crowd| crowd.throttle.count(now, per_second))
    }

    /// Forgets those without a connection, the ones first whose rate is level.
    fn forget_empty(&mut self, now: Instant) {
        for only_level in [true, false] {
            if self.empty < MAX_EMPTY {
                return;
            }
            let (crowds, empty) = (&mut self.crowds, &mut self.empty);
            self.by_address.retain(|_, slot| {
                let goes = crowds.get(*slot).is_none_or(|crowd| {
                    crowd.connections == 0 && (!only_level || crowd.throttle.is_level(now))
                });
                if goes && crowds.remove(*slot).is_some() {
                    *empty -= 1;
                }
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "simulated time has to start somewhere")]
    fn an_address_is_remembered_until_its_rate_is_level() {
        let (mut crowds, start) = (Crowds::new(), Instant::now());
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        let busy = crowds.join(start, address(0));
        (0..3)
            .for_each(|_| assert!(crowds.count(busy, start, 1) <= start + Duration::from_secs(1)));
        crowds.leave(busy);
        assert_eq!(crowds.join(start, address(0)), busy, "the same, and still busy");
        assert!(crowds.count(busy, start, 1) > start);
        crowds.leave(busy);
        for number in 1..=2 * MAX_EMPTY as u32 {
            let slot = crowds.join(start, address(number));
            crowds.leave(slot);
            assert!(crowds.by_address.len() <= MAX_EMPTY, "{number}");
        }
        assert!(crowds.by_address.contains_key(&address(0)), "the others go first");
        let here = crowds.join(start + Duration::from_secs(60), address(0));
        assert_eq!(
            crowds.count(here, start + Duration::from_secs(60), 1),
            start + Duration::from_secs(60)
        );
        assert_eq!(crowds.crowds.len(), crowds.by_address.len());
    }
}
