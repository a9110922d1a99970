//! The gateway's lives: how one ends, and how the next begins.

use std::time::Duration;

use tidegate_flow::Gateway;

use super::{Event, World};
use crate::options::End;

/// How long the gateway is off after a power cut, and after a kill.
const POWER_OFF: Duration = Duration::from_millis(20);
const RESTART: Duration = Duration::from_millis(3);
/// By how much a clock that nobody has set may be ahead.
const AHEAD_MS: i64 = 400 * 86_400_000;
/// Disk operations of a life in which no segment is given up, or no session taken over.
const LONG_LIFE: u64 = 900;
/// How long it may take to stop; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl World {
    /// Arms what ends the present life.
    pub(super) fn arm_end(&mut self) {
        match self.end() {
            Some(End::PowerCut(operation) | End::Kill(operation)) => self.disk.crash_at(operation),
            Some(End::PowerCutAtRelease(operations)) => {
                self.disk.crash_after_release(operations);
                self.disk.crash_at(LONG_LIFE);
            }
            Some(End::PowerCutInSession(_)) => self.cuts_session = true,
            Some(End::PowerCutAtTakeover(_)) => {
                self.cuts_takeover = true;
                self.disk.crash_at(LONG_LIFE);
            }
            Some(End::Restart(after)) => self.time.after(after, Event::Stop(self.life)),
            None => {}
        }
    }

    /// An upstream has answered.
    pub(super) fn session_begins(&mut self, uplink: usize) {
        let prepares = self.options.uplinks[uplink].prepares();
        if let Some(End::PowerCutInSession(operation)) = self.end().filter(|_| prepares)
            && std::mem::take(&mut self.cuts_session)
        {
            self.disk.crash_at(self.disk.operations() + operation);
        }
    }

    /// A second connection takes a session over from the first.
    pub(super) fn takeover_begins(&mut self) {
        if let Some(End::PowerCutAtTakeover(operation)) = self.end()
            && std::mem::take(&mut self.cuts_takeover)
        {
            self.tally.takeovers_cut += 1;
            self.disk.crash_at(self.disk.operations() + operation);
        }
    }

    /// How the present life ends: as the options say, and beyond them by power cuts until one
    /// has hit work.
    fn end(&self) -> Option<End> {
        let planned = self.options.ends.get(self.life as usize).copied();
        let more = self.options.must_bite && !self.weather.cut_bit;
        planned.or_else(|| more.then_some(End::PowerCut(50 + 37 * (self.life % 7))))
    }

    /// The disk has failed in the middle of an operation: power, or only the process.
    pub(super) fn life_ends(&mut self) {
        let killed = matches!(self.end(), Some(End::Kill(_)));
        if killed {
            self.tally.kills += 1;
        } else {
            self.tally.power_cuts += 1;
            let unsynced = self.gateway.as_ref().is_some_and(|gateway| !gateway.is_settled());
            if unsynced || self.has_work() {
                self.tally.power_cuts_bit += 1;
                self.weather.cut_bit = true;
            }
        }
        self.operations_before += self.disk.operations();
        self.disk =
            if killed { self.disk.after_kill() } else { self.disk.crash(self.random.bits()) };
        self.begin_next_life(killed);
        self.time.after(if killed { RESTART } else { POWER_OFF }, Event::PowerOn);
    }

    fn begin_next_life(&mut self, resets: bool) {
        self.note_appended();
        self.life += 1;
        self.gateway = None;
        self.wake_at = None;
        self.stopping = false;
        self.congested = false;
        let until = self.time.clock + self.random.micros(0, 6_000);
        self.upstreams.iter_mut().for_each(|upstream| upstream.abandon(until));
        self.cut_links(resets);
        self.end_calls(!resets);
        self.arm_end();
    }

    /// It is told to stop.
    pub(super) fn stop(&mut self) {
        let now = self.time.now();
        let Some(gateway) = &mut self.gateway else {
            // It has not started yet.
            return self.time.after(RESTART, Event::Stop(self.life));
        };
        self.stopping = true;
        gateway.shut_down(now);
        self.time.after(STOP_TIMEOUT, Event::StopTimeout(self.life));
    }

    /// It has stopped.
    pub(super) fn stopped(&mut self) {
        self.tally.restarts += 1;
        self.ended_by_itself();
    }

    /// It does not stop: its supervisor kills it.
    pub(super) fn stop_timeout(&mut self) {
        if self.stopping {
            self.tally.kills += 1;
            self.ended_by_itself();
        }
    }

    fn ended_by_itself(&mut self) {
        self.operations_before += self.disk.operations();
        self.disk = self.disk.after_kill();
        self.begin_next_life(true);
        self.time.after(RESTART, Event::PowerOn);
    }

    pub(super) fn power_on(&mut self) {
        if self.options.unsynced_boot {
            self.time.lose_wall_clock(self.random.one_in(3).then_some(AHEAD_MS));
            let longest = self.random.pick(&[700, 700, 4_000]);
            let wait = self.random.millis(1, longest);
            self.time.after(wait, Event::ClockSet(self.life));
        }
        let now = self.time.now();
        let plan = self.options.plan(&self.trace, self.life);
        let opened = Gateway::open(plan, &self.disk, now, self.random.bits());
        if self.disk.has_crashed() {
            return self.life_ends();
        }
        match opened {
            Ok((gateway, recovery)) => {
                self.gateway = Some(self.options.plant(gateway));
                self.begin_ledger();
                self.begin_looking();
                self.check_retained();
                self.tally.epochs += u64::from(recovery.new_epoch);
                if !recovery.losses.is_empty() {
                    self.fault(&format!("losses without damage: {:?}", recovery.losses));
                }
            }
            Err(error) => self.fault(&format!("the gateway refused to start: {error}")),
        }
    }

    /// When all is done: what the disk holds says the same after one more power cut.
    pub(super) fn audit(&mut self) {
        self.tally_operations();
        self.disk.set_capacity(u64::MAX);
        self.disk = self.disk.crash(self.random.bits());
        let plan = self.options.plan(&self.trace, self.life);
        match Gateway::open(plan, &self.disk, self.time.now(), 0) {
            Ok((gateway, recovery)) => {
                if !recovery.losses.is_empty() {
                    self.fault(&format!("losses in the end: {:?}", recovery.losses));
                }
                let log = gateway.log();
                let behind = log.readers().find(|r| log.cursor(r.0) < log.next_seq(r.1));
                if let Some((_, stream, name)) = behind {
                    self.fault(&format!("{name} has gone back in stream {stream}"));
                }
                self.gateway = Some(gateway);
                self.check_retained();
            }
            Err(error) => self.fault(&format!("the gateway refused to start: {error}")),
        }
    }

    fn tally_operations(&mut self) {
        self.operations_before += self.disk.operations();
        self.tally.operations = self.operations_before;
    }
}
