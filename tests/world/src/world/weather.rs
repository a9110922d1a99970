//! What goes wrong around the gateway, and when; and whether it has bitten: a power cut, a
//! partition or a full disk while nothing is to do proves nothing, so the sensors go on until
//! each has hit work.

use std::time::Duration;

use super::{Event, World};
use crate::options::Options;
use crate::publisher::Publisher;

/// How often the world looks at trouble that goes on.
const WATCH: Duration = Duration::from_millis(10);
/// A full disk that has not bitten for so long is helped by a partition: what nobody takes away
/// needs room.
const HELP_AFTER: Duration = Duration::from_millis(400);

/// The trouble that is on.
#[derive(Debug, Default)]
pub(super) struct Weather {
    /// By index in the options: whether each partition is on.
    partitions: Vec<Trouble>,
    full_disks: Vec<Trouble>,
    /// Whether each kind has hit work at least once.
    pub(super) cut_bit: bool,
    partition_bit: bool,
    full_disk_bit: bool,
    /// Partitions beyond the options, to help a full disk.
    helping: bool,
    watching: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    state: Phase,
    since: Duration,
    bit: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Ahead,
    On,
    Over,
}

impl Weather {
    pub(super) fn new(options: &Options) -> Weather {
        Weather {
            partitions: vec![Trouble::default(); options.partitions.len()],
            full_disks: vec![Trouble::default(); options.full_disks.len()],
            ..Weather::default()
        }
    }
}

impl World {
    pub(super) fn schedule_weather(&mut self) {
        let options = self.options.clone();
        for (index, spell) in options.partitions.iter().enumerate() {
            self.time.after(spell.at, Event::Partition(index));
        }
        for (index, spell) in options.full_disks.iter().enumerate() {
            self.time.after(spell.at, Event::FullDisk(index));
        }
        for spell in options.busy {
            self.time.after(spell.at, Event::Busy(spell.length));
        }
        for spell in options.setbacks {
            self.time.after(spell.at, Event::BackUp);
            self.time.after(spell.at + spell.length, Event::SetBack);
        }
        for at in options.failed_syncs {
            self.time.after(at, Event::SyncFails);
        }
        for at in options.failed_writes {
            self.time.after(at, Event::WriteFails);
        }
        for (at, by_ms) in options.clock_jumps {
            self.time.after(at, Event::ClockJumps(by_ms));
        }
        if options.link_trouble.is_some() {
            self.time.after(Duration::from_millis(5), Event::LinkTrouble);
        }
    }

    /// Whether the sensors have to go on, because something has not bitten yet.
    pub(super) fn wants_more(&self) -> bool {
        let weather = &self.weather;
        self.options.must_bite
            && !(weather.cut_bit && weather.partition_bit && weather.full_disk_bit)
    }

    /// Whether a sensor waits for something.
    pub(super) fn has_work(&self) -> bool {
        self.publishers.iter().any(Publisher::waits)
    }

    pub(super) fn upstreams_are_busy(&mut self, length: Duration) {
        for upstream in &mut self.upstreams {
            upstream.busy_until = self.time.clock + length;
        }
    }

    pub(super) fn sync_fails(&mut self) {
        self.tally.failed_syncs += 1;
        self.disk.fail_next_sync();
    }

    pub(super) fn write_fails(&mut self) {
        self.tally.failed_writes += 1;
        self.disk.fail_writes(1);
    }

    pub(super) fn clock_jumps(&mut self, by_ms: i64) {
        self.tally.clock_jumps += 1;
        self.time.jump(by_ms);
    }

    pub(super) fn partition(&mut self, index: usize) {
        self.tally.partitions += 1;
        self.weather.partitions[index] =
            Trouble { state: Phase::On, since: self.time.clock, bit: false };
        self.silence();
        self.start_watching();
    }

    /// Which upstreams are behind a partition now.
    fn silence(&mut self) {
        let partitions = &self.weather.partitions;
        let on = (0..partitions.len()).filter(|index| partitions[*index].state == Phase::On);
        let on: Vec<usize> = on.collect();
        let helping = self.weather.helping;
        let count = self.upstreams.len();
        for (at, upstream) in self.upstreams.iter_mut().enumerate() {
            let replicas = upstream.silent.len();
            for (replica, silent) in upstream.silent.iter_mut().enumerate() {
                // Every second one hits a single upstream, or a single replica of each.
                let hits = |index: &usize| match (index.is_multiple_of(2), replicas) {
                    (true, _) => true,
                    (false, 1) => index / 2 % count == at,
                    (false, _) => index / 2 % replicas == replica,
                };
                *silent = helping || on.iter().any(hits);
            }
        }
    }

    /// Something was lost in a partition.
    pub(super) fn partition_bites(&mut self) {
        let first = !std::mem::replace(&mut self.weather.partition_bit, true);
        if first && self.weather.helping {
            self.tally.partitions += 1;
            self.tally.partitions_bit += 1;
        }
        let on = |trouble: &&mut Trouble| trouble.state == Phase::On && !trouble.bit;
        for trouble in self.weather.partitions.iter_mut().filter(on) {
            trouble.bit = true;
            self.tally.partitions_bit += 1;
        }
    }

    pub(super) fn full_disk(&mut self, index: usize) {
        self.tally.full_disks += 1;
        self.weather.full_disks[index] =
            Trouble { state: Phase::On, since: self.time.clock, bit: false };
        self.disk.set_capacity(self.disk.used());
        self.start_watching();
    }

    fn start_watching(&mut self) {
        if !std::mem::replace(&mut self.weather.watching, true) {
            self.time.after(WATCH, Event::Watch);
        }
    }

    /// Looks whether the trouble that is on has bitten, and ends what has lasted long enough.
    pub(super) fn watch(&mut self) {
        self.watch_full_disks();
        self.watch_partitions();
        let on = |trouble: &Trouble| trouble.state == Phase::On;
        let weather = &self.weather;
        if weather.partitions.iter().any(on) || weather.full_disks.iter().any(on) {
            self.time.after(WATCH, Event::Watch);
        } else {
            self.weather.watching = false;
        }
    }

    fn watch_full_disks(&mut self) {
        let bites = self.has_work()
            && self.gateway.as_ref().is_some_and(|gateway| gateway.log().status().disk_full);
        let clock = self.time.clock;
        let mut help = false;
        for (trouble, spell) in self.weather.full_disks.iter_mut().zip(&self.options.full_disks) {
            if trouble.state != Phase::On {
                continue;
            }
            if bites && !trouble.bit {
                trouble.bit = true;
                self.weather.full_disk_bit = true;
                self.tally.full_disks_bit += 1;
            }
            let lasted = clock - trouble.since;
            let wanted = self.options.must_bite && !self.weather.full_disk_bit;
            if lasted >= spell.length && !wanted {
                trouble.state = Phase::Over;
            }
            help |= wanted && lasted >= HELP_AFTER;
        }
        let on = self.weather.full_disks.iter().any(|trouble| trouble.state == Phase::On);
        if !on {
            self.disk.set_capacity(u64::MAX);
        }
        self.weather.helping = help;
    }

    fn watch_partitions(&mut self) {
        let clock = self.time.clock;
        for (trouble, spell) in self.weather.partitions.iter_mut().zip(&self.options.partitions) {
            let wanted = self.options.must_bite && !self.weather.partition_bit;
            if trouble.state == Phase::On && clock - trouble.since >= spell.length && !wanted {
                trouble.state = Phase::Over;
            }
        }
        self.silence();
    }
}
