//! What has gone over a serial line since the start of the gateway, for the status.
//!
//! Invariant: counts only rise. A port that is opened again has new links, whose counters begin with
//! nothing: what the ones before had counted is kept.

use std::time::{Duration, Instant};

use tidegate_flow::status::{LineDeviceStatus, LineStatus};
use tidegate_link::Counters;

use crate::config::SerialSettings;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tally {
    name: String,
    port: String,
    open: bool,
    /// Since when it is open, or not.
    since: Instant,
    opened: u64,
    last_error: Option<String>,
    bytes_in: u64,
    bytes_out: u64,
    frames_out: u64,
    devices: Vec<Seen>,
}

/// A device, as its link sees it.
#[derive(Debug)]
struct Seen {
    name: String,
    address: u8,
    up: bool,
    /// When that began; `None`: it was never there.
    since: Option<Instant>,
    resets: u64,
    /// Of links before this one, and of this one.
    before: Sums,
    link: Sums,
}

/// A link's [`Counters`], without their limit.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    frames: u64,
    garbage: u64,
    strange: u64,
    again: u64,
    resent: u64,
}

impl Sums {
    fn and(self, other: Sums) -> Sums {
        Sums {
            frames: self.frames + other.frames,
            garbage: self.garbage + other.garbage,
            strange: self.strange + other.strange,
            again: self.again + other.again,
            resent: self.resent + other.resent,
        }
    }
}

impl From<Counters> for Sums {
    fn from(counters: Counters) -> Sums {
        Sums {
            frames: counters.frames.into(),
            garbage: counters.garbage.into(),
            strange: counters.strange.into(),
            again: counters.again.into(),
            resent: counters.resent.into(),
        }
    }
}

impl Seen {
    fn sums(&self) -> Sums {
        self.before.and(self.link)
    }
}

impl Tally {
    /// A line that was not opened yet.
    pub(crate) fn new(settings: &SerialSettings, now: Instant) -> Tally {
        let device = |(address, name): &(u8, std::sync::Arc<str>)| Seen {
            name: name.to_string(),
            address: *address,
            up: false,
            since: None,
            resets: 0,
            before: Sums::default(),
            link: Sums::default(),
        };
        Tally {
            name: settings.name.to_string(),
            port: settings.device.display().to_string(),
            open: false,
            since: now,
            opened: 0,
            last_error: None,
            bytes_in: 0,
            bytes_out: 0,
            frames_out: 0,
            devices: settings.devices.iter().map(device).collect(),
        }
    }

    /// The port is open.
    pub(super) fn open(&mut self, now: Instant) {
        (self.open, self.since) = (true, now);
        self.opened += 1;
    }

    /// The port cannot be opened, or has failed.
    pub(super) fn fail(&mut self, now: Instant, why: &str) {
        if std::mem::take(&mut self.open) {
            self.since = now;
        }
        if self.last_error.as_deref() != Some(why) {
            self.last_error = Some(why.to_owned());
        }
        for device in &mut self.devices {
            device.before = device.sums();
            device.link = Sums::default();
            if std::mem::take(&mut device.up) {
                device.resets += 1;
                device.since = Some(now);
            }
        }
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
    }

    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
        self.frames_out += 1;
    }

    /// What the link of the device at this place has counted, whether it has a session, and how many
    /// have ended since the last time.
    pub(super) fn link(&mut self, at: usize, counters: Counters, up: bool, ended: u64) {
        let Some(device) = self.devices.get_mut(at) else { return };
        device.link = counters.into();
        device.resets += ended;
        if device.up != up {
            device.up = up;
            device.since = Some(super::clock::now().instant);
        }
    }

    /// All of it.
    pub(crate) fn status(&self, now: Instant) -> LineStatus {
        let sum = |of: fn(Sums) -> u64| self.devices.iter().map(|one| of(one.sums())).sum();
        // All links of a line hear the same bytes.
        let garbage = self.devices.first().map_or(0, |one| one.sums().garbage);
        let strange: u64 = sum(|sums| sums.strange);
        LineStatus {
            name: self.name.clone(),
            port: self.port.clone(),
            open: self.open,
            since_ms: millis(now, self.since),
            opened: self.opened,
            last_error: self.last_error.clone(),
            frames_in: sum(|sums| sums.frames),
            frames_out: self.frames_out,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            damaged: garbage + strange,
            repeated_in: sum(|sums| sums.again),
            repeated_out: sum(|sums| sums.resent),
            resets: self.devices.iter().map(|one| one.resets).sum(),
            devices: self.devices.iter().map(|one| one.status(now)).collect(),
        }
    }
}

impl Seen {
    fn status(&self, now: Instant) -> LineDeviceStatus {
        let sums = self.sums();
        LineDeviceStatus {
            name: self.name.clone(),
            address: self.address,
            up: self.up,
            since_ms: self.since.map(|since| millis(now, since)),
            frames_in: sums.frames,
            damaged: sums.strange,
            repeated_in: sums.again,
            repeated_out: sums.resent,
            resets: self.resets,
        }
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    let passed: Duration = now.saturating_duration_since(since);
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outlive_the_port_that_they_were_made_on() {
        let settings = SerialSettings {
            name: "bus".into(),
            device: "/dev/ttyX".into(),
            baud: 115_200,
            devices: vec![(1, "a".into()), (2, "b".into())],
            shared: true,
        };
        let start = super::super::clock::now().instant;
        let mut tally = Tally::new(&settings, start);
        tally.fail(start, "no such file");
        assert_eq!(tally.status(start).devices[0].since_ms, None, "it was never there");
        let counters = |frames, garbage, strange, again| Counters {
            frames,
            garbage,
            strange,
            again,
            resent: 3,
            ..Counters::default()
        };
        for round in 1..=2 {
            tally.open(start);
            tally.received(100);
            tally.sent(20);
            // Noise is heard by both links; a frame with a wrong CRC counts with its device.
            tally.link(0, counters(7, 4, 1, 2), true, 0);
            tally.link(1, counters(5, 4, 0, 0), false, 0);
            let status = tally.status(start + Duration::from_secs(2));
            assert!(status.open && status.devices[0].up && !status.devices[1].up);
            assert_eq!((status.frames_in, status.damaged), (12 * round, 5 * round));
            assert_eq!((status.repeated_in, status.repeated_out), (2 * round, 6 * round));
            assert_eq!((status.since_ms, status.opened), (2_000, round));
            tally.fail(start + Duration::from_secs(3), "the port is gone");
            assert_eq!(tally.status(start).resets, round);
        }
        let status = tally.status(start + Duration::from_secs(4));
        assert_eq!((status.open, status.since_ms), (false, 1_000));
        assert_eq!((status.bytes_in, status.bytes_out, status.frames_out), (200, 40, 2));
        assert_eq!(status.last_error.as_deref(), Some("the port is gone"));
    }
}
