//! Devices that are forgotten: by the operator, or to make room for others.
//!
//! Invariants:
//! - no campaign waits for a device that is forgotten: one that names it counts it as such;
//! - nobody is forgotten to make room who is in the middle of a release, is named by a campaign that
//!   runs, has failed in one, or is on a serial line;
//! - room is made [`MADE_AT_ONCE`] times a minute at most: who comes under ever new names wears out
//!   no flash, and pushes out no more than that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_wire::message::Order;

use crate::campaign::Campaign;
use crate::desk::{Desk, Moment};
use crate::member::Stage;
use crate::output::{Batch, Note, Output, Via};
use crate::table::Key;

/// Devices that make room in one [`PERIOD`].
pub const MADE_AT_ONCE: u32 = 64;
const PERIOD: Duration = Duration::from_secs(60);

/// How often room was made, for the limit and for people.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    period: Option<Instant>,
    in_period: u32,
    /// Devices that made room since the start.
    pub(crate) made_room: u64,
    /// Times that a device was not remembered since the start: nobody could make room.
    pub(crate) unremembered: u64,
}

impl Forgotten {
    fn may(&mut self, now: Instant) -> bool {
        if self.period.is_none_or(|began| began + PERIOD <= now) {
            (self.period, self.in_period) = (Some(now), 0);
        }
        self.in_period < MADE_AT_ONCE
    }
}

impl Desk {
    /// Forgets a device that is gone, in campaigns too: none waits for it, whether it was ever there
    /// or not.
    ///
    /// # Errors
    /// It is not known, and no campaign that runs names it.
    pub fn forget(&mut self, now: Moment, device: &str) -> Result<(), String> {
        let awaited = self.campaigns.values().any(|one| one.is_running() && one.names(device));
        if !awaited && !self.devices.contains_key(device) {
            return Err(format!(
                "no device \"{device}\" has said hello, and no campaign names it; see `tidegate device ls`"
            ));
        }
        self.drop_device(now, &device.into(), Vec::new());
        Ok(())
    }

    /// Forgets who was not seen for longest, so that `newcomer` can be remembered. False when that
    /// may not be.
    pub(crate) fn make_place(&mut self, now: Moment, newcomer: &str) -> bool {
        let may = self.forgotten.may(now.instant);
        let spare = self.devices.iter().filter_map(|(name, device)| {
            let seen = (device.heard, device.about.seen_unix_ms);
            (device.via != Via::Line).then(|| Some((self.worth(name)?, seen, name)))?
        });
        let found = if may { spare.min() } else { None };
        let Some((_, _, name)) = found else {
            self.forgotten.unremembered += 1;
            return false;
        };
        let name = name.clone();
        self.forgotten.made_room += 1;
        self.forgotten.in_period += 1;
        let note = Note::Forgotten { device: name.clone(), newcomer: newcomer.into() };
        self.drop_device(now, &name, vec![note]);
        true
    }

    /// How much it would be missed: 0, or 1 when it ever took a release; `None` when it must stay.
    fn worth(&self, name: &Arc<str>) -> Option<u8> {
        let mut worth = 0;
        for campaign in self.campaigns.values() {
            let Some(member) = campaign.members.get(name) else { continue };
            let runs = campaign.is_running();
            match member.stage {
                Stage::Waiting | Stage::Rejected | Stage::Forgotten => {}
                Stage::Accepted | Stage::Staged | Stage::Trial if runs => return None,
                Stage::Reverted | Stage::Failed if runs => return None,
                Stage::Accepted
                | Stage::Staged
                | Stage::Trial
                | Stage::Confirmed
                | Stage::Reverted
                | Stage::Failed => worth = 1,
            }
            if runs && campaign.names(name) && !member.stage.is_end() {
                return None;
            }
        }
        Some(worth)
    }

    fn drop_device(&mut self, now: Moment, name: &Arc<str>, notes: Vec<Note>) {
        let awaited = |campaign: &Campaign| {
            let member = campaign.members.get(name);
            let open = member.is_none_or(|member| !member.stage.is_end());
            open && campaign.is_running() && campaign.names(name)
        };
        let gone: Vec<u64> =
            self.campaigns.iter().filter(|(_, one)| awaited(one)).map(|(id, _)| *id).collect();
        // Should it be there all the same, it need not go on loading.
        gone.iter().for_each(|id| self.order(name, *id, Order::Cancel));
        self.devices.remove(name);
        self.unwritten.remove(name);
        let changes = vec![(Key::Device(name.clone()).encode(), None)];
        let mut batch = Batch { changes, notes, ..Batch::default() };
        let mut left = Vec::new();
        for (id, campaign) in &mut self.campaigns {
            // What it has done in a campaign that names it and goes on still counts there.
            let counts = campaign.is_running() && campaign.names(name);
            if !counts && campaign.members.remove(name).is_some() {
                batch.changes.push((Key::Member(*id, name.clone()).encode(), None));
                left.push(*id);
            }
        }
        self.outputs.push_back(Output::Store(batch));
        gone.into_iter().for_each(|id| self.set_forgotten(now, id, name));
        left.into_iter().for_each(|id| self.judge(now, id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_so_often_in_a_minute() {
        let start = crate::tests::instant();
        let mut forgotten = Forgotten::default();
        for _ in 0..MADE_AT_ONCE {
            assert!(forgotten.may(start));
            forgotten.in_period += 1;
        }
        assert!(!forgotten.may(start + PERIOD / 2));
        assert!(forgotten.may(start + PERIOD));
    }
}
