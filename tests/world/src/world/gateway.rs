//! The gateway in the world: carries out what it asks for, and tells it what came of it.

use std::time::Duration;

use tidegate_abi::{BatchReader, Kind};
use tidegate_flow::{Call, CallResult, CallVerdict, Output};
use tidegate_stream::DiskRequest;

use super::{Event, World};
use crate::function;
use crate::plan::{CLERK, Role};

/// Alarms that follow each other so closely, and how many of them in a row are too many.
const SPIN: Duration = Duration::from_micros(2);
const MAX_SPINS: u64 = 50;

impl World {
    /// Does what the gateway says until it has nothing more to say, and sets the alarm.
    pub(super) fn carry_out(&mut self) {
        let now = self.time.now();
        while let Some(output) = self.gateway.as_mut().and_then(|g| g.poll_output(now)) {
            match output {
                Output::Writable(conn) => self.flush(conn),
                Output::Close(conn, _) => self.hang_up(conn),
                Output::Disk(request) => {
                    let wait = self.disk_time();
                    self.time.after(wait, Event::Disk(self.life, request));
                }
                Output::Answer(id, answer) => self.answered(id, &answer),
                Output::Call(call) => {
                    self.watch_start(&call);
                    let wait = self.random.micros(20, 400);
                    self.time.after(wait, Event::Called(self.life, call));
                }
                Output::Uplink(uplink, action) => self.drive_uplink(uplink, action),
                Output::Pause(conn) => self.pause(conn, true),
                Output::Resume(conn) => self.pause(conn, false),
                // Its plan asks for no logins.
                Output::Notice(_)
                | Output::Authenticate(..)
                | Output::Function(_)
                | Output::ReadFirmware(_)
                | Output::Letter(_) => {}
            }
        }
        self.watch_congestion();
        self.note_appended();
        self.set_alarm();
        if self.stopping && self.gateway.as_ref().is_some_and(|gateway| gateway.is_idle()) {
            self.stopped();
        }
    }

    fn disk_time(&mut self) -> Duration {
        match self.options.slow_disk {
            Some(one_in) if self.random.one_in(one_in) => self.random.millis(5, 200),
            Some(_) | None => self.random.micros(100, 3_000),
        }
    }

    fn set_alarm(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let at = self.time.until(gateway.poll_timeout());
        if self.wake_at.is_none_or(|set| at < set) {
            self.wake_at = Some(at);
            self.time.after(at - self.time.clock, Event::Wake(self.life));
        }
    }

    pub(super) fn wake(&mut self) {
        if self.wake_at != Some(self.time.clock) {
            // Set before something more urgent was.
            return;
        }
        self.wake_at = None;
        let now = self.time.now();
        let spins = self.last_wake + SPIN >= self.time.clock;
        self.last_wake = self.time.clock;
        self.spins = if spins { self.spins + 1 } else { 0 };
        if self.spins == MAX_SPINS {
            let log = self.gateway.as_ref().map(|gateway| gateway.log().status());
            let log = log.map(|log| (log.disk_full, log.retrying, log.last_error));
            self.fault(&format!("the gateway wakes up again and again for nothing: {log:?}"));
        }
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_timeout(now);
        }
    }

    pub(super) fn disk_works(&mut self, request: DiskRequest) {
        let reply = request.perform(&self.disk);
        if self.disk.has_crashed() {
            return self.life_ends();
        }
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_disk(now, reply);
        }
    }

    pub(super) fn called(&mut self, call: Call) {
        let id = call.id;
        let role = self.role(id.function);
        let fails = self.options.failing_calls.is_some_and(|one_in| self.random.one_in(one_in));
        let verdict = if fails {
            CallVerdict::Failed("it trapped".to_owned())
        } else {
            match function::call(role, self.options.state, &call.frame, &call.state) {
                Ok(frame) => CallVerdict::Done(frame),
                Err(failure) => CallVerdict::Failed(failure),
            }
        };
        let is_start = role == Role::Clerk && matches!(verdict, CallVerdict::Done(_));
        self.has_started |= is_start;
        drop(call);
        let result = CallResult {
            verdict,
            fuel: 0,
            elapsed: Duration::from_micros(50),
            cpu: Duration::ZERO,
            memory_bytes: 0,
        };
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_call(now, id, result);
        }
    }

    fn role(&self, function: usize) -> Role {
        self.options.roles().nth(function).expect("a function of the plan")
    }

    /// Nothing is given to who wants to be told that it starts before it has handled that.
    fn watch_start(&mut self, call: &Call) {
        let waits = self.options.calls.told_of_start && !self.has_started;
        if !waits || self.role(call.id.function) != Role::Clerk {
            return;
        }
        let kind = BatchReader::parse(&call.frame).map(|batch| batch.header().kind);
        if kind != Ok(Kind::Event) {
            self.fault(&format!("{CLERK} was given {kind:?} before it has started"));
        }
    }

    /// Tells the gateway when reading from its clients stops or goes on, as the daemon does.
    fn watch_congestion(&mut self) {
        let Some(gateway) = &mut self.gateway else { return };
        let congested = !gateway.wants_input();
        if std::mem::replace(&mut self.congested, congested) == congested {
            return;
        }
        gateway.handle_reading(self.time.now(), !congested);
        if !congested {
            self.feed_all();
        }
    }
}
