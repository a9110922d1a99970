//! What calls functions beside the records of devices: a folder and its shell, and clients over
//! HTTP.

use std::time::Duration;

use tidegate_flow::{Answer, FileError, RequestId};

use super::{Event, World};
use crate::caller::Then;
use crate::folder::{FOLDER, Step};
use crate::plan::Role;

/// A client that cannot connect, or was turned away, waits so long.
const AGAIN_MS: (u64, u64) = (5, 120);

impl World {
    /// Files and requests begin to come.
    pub(super) fn begin_calls(&mut self) {
        if self.options.calls.files > 0 {
            self.time.after(Duration::from_millis(1), Event::PutFile);
        }
        for wish in self.callers.begin() {
            let wait = self.random.millis(0, 900);
            self.time.after(wait, Event::Ask(wish));
        }
    }

    /// The shell of a new life looks into the folder.
    pub(super) fn begin_looking(&mut self) {
        if self.options.calls.files > 0 {
            self.look_later(4_000);
        }
    }

    fn look_later(&mut self, most_us: u64) {
        let wait = self.random.micros(50, most_us);
        self.time.after(wait, Event::Look(self.life));
    }

    pub(super) fn put_file(&mut self) {
        if self.folder.put() {
            let gap = self.gap() * 2;
            self.time.after(gap, Event::PutFile);
        }
    }

    /// The shell makes a step.
    pub(super) fn look(&mut self) {
        let now = self.time.now();
        let Some(gateway) = &mut self.gateway else { return };
        let step = std::mem::replace(&mut self.folder.step, Step::Looks);
        self.folder.step = match step {
            Step::Begins => {
                let left = gateway.files_left(FOLDER);
                if !left.is_empty() {
                    self.folder.sync();
                }
                for name in left.iter().filter(|name| !self.folder.has(name)) {
                    gateway.forget_file(now, FOLDER, name);
                }
                Step::Looks
            }
            Step::Looks => match self.folder.oldest(now, self.options.padding) {
                Some(file) => match gateway.take_file(now, &file) {
                    Ok(position) => Step::Waits(file.name, position),
                    Err(FileError::Later | FileError::Waits(_)) => Step::Looks,
                    Err(FileError::Never(why)) => {
                        self.fault(&format!("{} was refused for ever: {why}", file.name));
                        Step::Looks
                    }
                },
                None => Step::Looks,
            },
            Step::Waits(name, position) if gateway.log().durable() >= position => {
                self.folder.take_out(&name);
                Step::Forgets(name)
            }
            Step::Waits(name, position) => Step::Waits(name, position),
            Step::Forgets(name) => {
                self.folder.sync();
                gateway.forget_file(now, FOLDER, &name);
                Step::Looks
            }
        };
        let most_us = if self.folder.step == Step::Looks { 12_000 } else { 3_000 };
        self.look_later(most_us);
    }

    /// A client asks, or finds nobody there.
    pub(super) fn ask(&mut self, wish: usize) {
        let (now, clock) = (self.time.now(), self.time.clock);
        let clerk = self.options.roles().position(|role| role == Role::Clerk);
        let (Some(function), Some(gateway)) = (clerk, &mut self.gateway) else {
            return self.ask_later(wish);
        };
        let patience = self.random.millis(20, 1_500);
        gateway.handle_request(now, self.callers.ask(wish, function, clock, patience));
    }

    fn ask_later(&mut self, wish: usize) {
        let wait = self.random.millis(AGAIN_MS.0, AGAIN_MS.1);
        self.time.after(wait, Event::Ask(wish));
    }

    /// One answer in six is lost on its way.
    pub(super) fn answered(&mut self, id: RequestId, answer: &Answer) {
        let is_heard = !self.random.one_in(6);
        match self.callers.answered(id, answer, self.time.clock, is_heard) {
            Then::Rests => {}
            Then::Asks(wish) => self.ask_later(wish),
        }
    }

    /// This moment, and what the wall clock shows.
    pub(crate) fn moment(&self) -> (Duration, i64) {
        (self.time.clock, self.time.now().unix_ms)
    }

    /// Whether something has happened to the wall clock between two moments.
    pub(crate) fn was_touched(&self, from: Duration, to: Duration) -> bool {
        self.time.was_touched(from, to)
    }

    /// Whether a trusted wall clock has gone back by more than that between two moments.
    pub(crate) fn fell_back(&self, from: Duration, to: Duration, by_ms: i64) -> bool {
        self.time.fell_back(from, to, by_ms)
    }

    /// The gateway is gone, and with it what it had not answered.
    pub(super) fn end_calls(&mut self, is_power_cut: bool) {
        self.has_started = false;
        self.folder.next_life(is_power_cut, &mut self.random);
        for wish in self.callers.lost() {
            self.ask_later(wish);
        }
    }
}
