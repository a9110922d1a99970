//! Devices whose sessions outlive their connections: sensors with QoS 2, and subscribers.

use super::{End, Options, Route, Sensor};
use crate::mqtt::{Qos, Version};
use crate::random::Random;

/// A device that subscribes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriberKind {
    /// What it speaks.
    pub version: Version,
    /// What it wants, and how it is to be handed over at most.
    pub interests: Vec<(Interest, Qos)>,
    /// Messages that it takes at a time.
    pub receive_maximum: u16,
    /// It takes its time to acknowledge.
    pub lazy: bool,
}

/// What a device subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// All readings.
    Readings,
    /// Readings that go this way.
    On(Route),
    /// What the function makes of them.
    Alerts,
}

impl Interest {
    /// The filter.
    pub(crate) fn filter(self) -> &'static str {
        match self {
            Interest::Readings => "sensors/#",
            Interest::On(Route::Telemetry) => "sensors/+/telemetry",
            Interest::On(Route::Journal) => "sensors/+/journal",
            Interest::On(Route::Orders) => "sensors/+/orders",
            Interest::On(Route::Both) => "sensors/+/both",
            Interest::On(Route::State) => "sensors/+/state",
            Interest::Alerts => "alerts/#",
        }
    }
}

impl SubscriberKind {
    /// The most that its subscriptions allow for readings that go this way; `None`: it does not
    /// want them.
    pub(crate) fn wants(&self, route: Route) -> Option<Qos> {
        let fits = |interest: Interest| match interest {
            Interest::Readings => true,
            Interest::On(other) => other == route,
            Interest::Alerts => false,
        };
        let fitting = self.interests.iter().filter(|(interest, _)| fits(*interest));
        fitting.map(|(_, qos)| *qos).max()
    }

    /// The same for alerts.
    pub(crate) fn wants_alerts(&self) -> Option<Qos> {
        let alerts = self.interests.iter().find(|(interest, _)| *interest == Interest::Alerts);
        alerts.map(|(_, qos)| *qos)
    }
}

impl Options {
    /// Half of the storms have sessions.
    pub(super) fn with_sessions(mut self) -> Options {
        // Drawn apart, so that what is drawn here leaves the rest of the world as it is.
        let random = &mut Random::new(self.seed.rotate_left(16) ^ 0x73_65_73_73);
        if random.one_in(2) {
            return self;
        }
        // One needs no session on the disk to publish, so that a full one has something to bite.
        for sensor in &mut self.sensors[1..] {
            sensor.qos = random.pick(&[Qos::AtLeastOnce, Qos::ExactlyOnce]);
        }
        for _ in 0..random.range(1, 3) {
            self.sensors.push(Sensor {
                version: version(random),
                route: Route::State,
                qos: random.pick(&[Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce]),
                readings: random.range(20, 80),
            });
        }
        // What goes to two streams and to the spool is one transaction of three records.
        self.frame_bytes = self.frame_bytes.max(8 * 1024);
        self.subscribers = (0..random.range(1, 4)).map(|_| subscriber(random)).collect();
        if random.one_in(6) {
            self.spool_bytes = Some(random.pick(&[12, 24, 60]) * 1024);
        }
        if random.one_in(3) {
            self.ends.insert(0, End::PowerCutAtTakeover(random.range(1, 5)));
        }
        self
    }
}

fn version(random: &mut Random) -> Version {
    random.pick(&[Version::V5, Version::V311])
}

fn subscriber(random: &mut Random) -> SubscriberKind {
    const ROUTES: [Route; 5] =
        [Route::Telemetry, Route::Journal, Route::Orders, Route::Both, Route::State];
    const SIZES: [u16; 4] = [1, 3, 20, u16::MAX];
    let version = version(random);
    let qos =
        |random: &mut Random| random.pick(&[Qos::AtLeastOnce, Qos::ExactlyOnce, Qos::ExactlyOnce]);
    let mut interests = Vec::new();
    if random.one_in(2) {
        interests.push((Interest::Readings, qos(random)));
    }
    if interests.is_empty() || random.one_in(3) {
        interests.push((Interest::On(random.pick(&ROUTES)), qos(random)));
    }
    if random.one_in(2) {
        interests.push((Interest::Alerts, qos(random)));
    }
    SubscriberKind {
        version,
        interests,
        receive_maximum: if version == Version::V5 { random.pick(&SIZES) } else { u16::MAX },
        lazy: random.one_in(3),
    }
}
