//! Storms: worlds in which everything goes wrong that can, drawn from the seed.

use std::time::Duration;

use super::{End, Options, Route, Sensor, Spell, StreamLimits, UplinkKind, streams, uplinks};
use crate::function::StateSize;
use crate::mqtt::{Qos, Version};
use crate::random::Random;
use crate::sink::SinkKind;

/// A part of the gateway that not all worlds need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Devices whose sessions are kept.
    Sessions,
    /// What calls functions beside records.
    Calls,
}

impl Options {
    /// A smaller world in which everything goes wrong that can; half of them have sessions, and most
    /// something that calls functions beside records.
    pub fn storm(seed: u64) -> Options {
        Options::bare_storm(seed).with_calls().with_sessions()
    }

    /// The same with that part alone, or none, which has the room.
    pub fn storm_for(seed: u64, part: Option<Part>) -> Options {
        let bare = Options::bare_storm(seed);
        match part {
            Some(Part::Sessions) => bare.with_sessions(),
            Some(Part::Calls) => bare.with_calls(),
            None => bare,
        }
    }

    fn bare_storm(seed: u64) -> Options {
        let random = &mut Random::new(seed);
        // Drawn apart, so that what is drawn here leaves the rest of the world as it is.
        let more = &mut Random::new(seed.rotate_left(32) ^ 0x6d_6f_72_65);
        let apart = &mut Random::new(seed.rotate_left(16) ^ 0x77_6f_72_6b);
        let streams = streams::draw(random, more);
        let options = Options {
            sensors: sensors(random),
            window: random.range(1, 40) as usize,
            gap: random.micros(300, 12_000),
            padding: random.pick(&[80, 400, 1_500, 1_500]),
            patience: random.millis(150, 1_500),
            link_trouble: Some(random.millis(10, 150)),
            ends: ends(random),
            must_bite: true,
            partitions: spells(random, 2, 400),
            full_disks: full_disks(random, &streams),
            busy: spells(random, 1, 300),
            failed_syncs: times(random, 3),
            failed_writes: times(random, 2),
            clock_jumps: clock_jumps(random),
            unsynced_boot: random.one_in(3),
            slow_disk: random.one_in(2).then(|| random.range(10, 200)),
            segment_bytes: random.pick(&[36, 48, 64, 128]) * 1024,
            frame_bytes: random.pick(&[4, 8, 16]) * 1024,
            streams,
            retain: Duration::from_millis(random.pick(&[0, 0, 0, 300, 2_000])),
            uplinks: uplinks::draw(random, more),
            state: random.pick(&[StateSize::Small, StateSize::Large]),
            workers: apart.pick(&[1, 1, 2, 4]),
            failing_calls: random.one_in(2).then_some(12),
            ..Options::power_cut(seed, None)
        };
        options.with_cut_session(more).with_setbacks(more).with_cut_release(more)
    }

    /// In some worlds with small quotas the power fails when the first segment has just been given
    /// up.
    fn with_cut_release(mut self, more: &mut Random) -> Options {
        if self.streams.iter().any(StreamLimits::is_small) && more.one_in(3) {
            self.ends.insert(0, End::PowerCutAtRelease(more.range(1, 4)));
        }
        self
    }

    /// What a restored server has lost of a stream that goes live first is not noticed: the cursors
    /// pass what the other lane sends (docs/decisions/016-epochs-of-other-stores.md).
    fn with_setbacks(mut self, more: &mut Random) -> Options {
        let unseen = |uplink: &UplinkKind| {
            uplink.sink == SinkKind::Committed && !uplink.live_first.is_empty()
        };
        if more.one_in(3) && !self.uplinks.iter().any(unseen) {
            self.setbacks = spells(more, 1, 300);
        }
        self
    }

    /// In some worlds with late lanes or sealed batches the upstreams are away in the beginning,
    /// and the power fails when one answers: that is when most is still on its way to the disk.
    fn with_cut_session(mut self, more: &mut Random) -> Options {
        if self.uplinks.iter().any(UplinkKind::prepares) && more.one_in(2) {
            let length = more.millis(10, 300);
            self.partitions.insert(0, Spell { at: Duration::ZERO, length });
            self.ends.insert(0, End::PowerCutInSession(more.range(1, 5)));
        }
        self
    }
}

/// One that the function reads, one for the stream that drops, and up to three of any kind.
fn sensors(random: &mut Random) -> Vec<Sensor> {
    const ANY: [Route; 4] = [Route::Telemetry, Route::Journal, Route::Orders, Route::Both];
    let more = random.range(0, 4);
    let mut routes = vec![Route::Telemetry, Route::Journal];
    routes.extend((0..more).map(|_| random.pick(&ANY)));
    let sensor = |route| Sensor {
        version: random.pick(&[Version::V5, Version::V311]),
        route,
        qos: Qos::AtLeastOnce,
        readings: random.range(30, 150),
    };
    routes.into_iter().map(sensor).collect()
}

/// Up to three power cuts, with kills and restarts among them. Some soon after the start: that
/// is when the end of the log has just been taken up again.
fn ends(random: &mut Random) -> Vec<End> {
    let count = random.range(1, 5);
    let mut ends = Vec::new();
    for _ in 0..count {
        let operation = random.pick(&[12, 60, 400, 900]);
        let operation = random.range(1, operation);
        match random.range(0, 6) {
            0..3 => ends.push(End::PowerCut(operation)),
            // What a kill leaves in the page cache is lost if power fails before a sync.
            3 => ends.extend([End::Kill(operation), End::PowerCut(random.range(1, 7))]),
            4 => ends.push(End::Kill(operation)),
            _ => ends.push(End::Restart(random.millis(5, 400))),
        }
    }
    ends.push(End::PowerCut(random.range(20, 500)));
    ends
}

/// At least one; mostly short, because while an upstream is silent nothing is trimmed, and
/// recycled segments must be seen too.
fn spells(random: &mut Random, most: u64, length: u64) -> Vec<Spell> {
    let count = random.range(1, most + 1);
    let spell = |random: &mut Random| {
        let length = if random.one_in(5) { 8 * length } else { length };
        Spell { at: random.millis(0, 500), length: random.millis(10, length) }
    };
    (0..count).map(|_| spell(random)).collect()
}

/// Streams with small quotas never need more room than they had in the beginning: there the disk
/// is full from then on.
fn full_disks(random: &mut Random, streams: &[StreamLimits; 4]) -> Vec<Spell> {
    let mut spells = spells(random, 1, 400);
    if streams[0].is_small() {
        spells.iter_mut().for_each(|spell| spell.at = random.micros(0, 9_000));
    }
    spells
}

fn times(random: &mut Random, most: u64) -> Vec<Duration> {
    (0..random.range(0, most + 1)).map(|_| random.millis(0, 900)).collect()
}

/// Seconds, days, or to where the clock of a board without a battery begins.
fn clock_jumps(random: &mut Random) -> Vec<(Duration, i64)> {
    const JUMPS: [i64; 7] =
        [2_000, -2_000, 86_400_000, -86_400_000, 3_600_000, -400, -1_780_272_000_000];
    (0..random.range(0, 3)).map(|_| (random.millis(0, 900), random.pick(&JUMPS))).collect()
}
