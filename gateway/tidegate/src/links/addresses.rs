//! How often an address connects and fails to log in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use super::rates::Tally;
use super::turned_away::Reason;
use crate::config::LimitSettings;

/// Addresses that are remembered: about 100 bytes each. Beyond, those without a connection are
/// forgotten.
const MAX_ADDRESSES: usize = 10_000;

/// What all addresses did lately.
#[derive(Debug)]
pub(crate) struct Addresses {
    limits: RwLock<LimitSettings>,
    entries: Mutex<BTreeMap<IpAddr, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    open: u64,
    connects: Tally,
    failures: Tally,
}

/// A connection that counts for its address until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

impl Addresses {
    pub(crate) fn new(limits: LimitSettings) -> Arc<Addresses> {
        Arc::new(Addresses { limits: RwLock::new(limits), entries: Mutex::default() })
    }

    /// Other limits count from now on; what has happened counts on.
    pub(crate) fn set_limits(&self, limits: LimitSettings) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    fn limits(&self) -> RwLockReadGuard<'_, LimitSettings> {
        self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection from `ip`, if there may be another.
    pub(crate) fn admit(self: &Arc<Self>, now: Instant, ip: IpAddr) -> Result<Place, Reason> {
        let ip = group(ip);
        let limits = self.limits();
        let mut entries = self.entries();
        if entries.len() >= MAX_ADDRESSES {
            entries.retain(|_, entry| entry.open > 0);
        }
        let entry = entries.entry(ip).or_default();
        if limits.connections_per_address.is_some_and(|most| entry.open >= most) {
            return Err(Reason::ManyConnections);
        }
        if let Some(rate) = limits.connects_per_minute {
            if entry.connects.is_full(now, rate) {
                return Err(Reason::ManyConnects);
            }
            entry.connects.add(now, rate);
        }
        entry.open += 1;
        Ok(Place { addresses: self.clone(), ip })
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<IpAddr, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The address, or the network of IPv6, that it counts for.
    pub(crate) fn address(&self) -> IpAddr {
        self.ip
    }

    /// A login failed.
    pub(crate) fn failed(&self, now: Instant) {
        if let Some(rate) = self.addresses.limits().failed_logins_per_minute {
            self.addresses.entries().entry(self.ip).or_default().failures.add(now, rate);
        }
    }

    /// Whether another login may be looked at.
    pub(crate) fn may_log_in(&self, now: Instant) -> bool {
        let Some(rate) = self.addresses.limits().failed_logins_per_minute else { return true };
        let entries = self.addresses.entries();
        !entries.get(&self.ip).is_some_and(|entry| entry.failures.is_full(now, rate))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(entry) = self.addresses.entries().get_mut(&self.ip) {
            entry.open = entry.open.saturating_sub(1);
        }
    }
}

/// Whose address it is: a network of IPv6 belongs to one owner.
fn group(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !0 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addresses(open: u64, connects: u64, failures: u64) -> Arc<Addresses> {
        Addresses::new(LimitSettings {
            connections_per_address: Some(open),
            connects_per_minute: Some(connects),
            failed_logins_per_minute: Some(failures),
            ..LimitSettings::default()
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_theirs() {
        let (addresses, now) = (addresses(2, 1000, 1), Instant::now());
        let first = addresses.admit(now, ip("192.0.2.1")).unwrap();
        let _second = addresses.admit(now, ip("::ffff:192.0.2.1")).unwrap();
        let third = addresses.admit(now, ip("192.0.2.1"));
        assert_eq!(third.unwrap_err(), Reason::ManyConnections);
        addresses.admit(now, ip("192.0.2.2")).unwrap();
        drop(first);
        addresses.admit(now, ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn other_limits_count_for_what_comes() {
        let (addresses, now) = (addresses(1, 1000, 1), Instant::now());
        let _first = addresses.admit(now, ip("192.0.2.1")).unwrap();
        assert!(addresses.admit(now, ip("192.0.2.1")).is_err());
        addresses.set_limits(LimitSettings::default());
        addresses.admit(now, ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn connects_drain_with_time() {
        let (addresses, now) = (addresses(100, 3, 1), Instant::now());
        let admit = |now| addresses.admit(now, ip("2001:db8::1")).map(drop);
        for _ in 0..3 {
            admit(now).unwrap();
        }
        assert_eq!(admit(now), Err(Reason::ManyConnects));
        let neighbour = addresses.admit(now, ip("2001:db8::2")).map(drop);
        assert_eq!(neighbour, Err(Reason::ManyConnects), "the same network");
        admit(now + Duration::from_secs(21)).unwrap();
        assert!(admit(now + Duration::from_secs(22)).is_err());
    }

    #[test]
    fn failures_close_the_door_for_a_while() {
        let (addresses, now) = (addresses(100, 1000, 2), Instant::now());
        let place = addresses.admit(now, ip("192.0.2.1")).unwrap();
        place.failed(now);
        assert!(place.may_log_in(now));
        place.failed(now);
        assert!(!place.may_log_in(now));
        assert!(place.may_log_in(now + Duration::from_secs(31)));
    }
}
