//! Whom a release is offered, and when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_wire::message::{Answer, Message, Offer, Refusal, Verdict};

use crate::campaign::{Campaign, State};
use crate::desk::{Desk, Moment, ROUND};
use crate::member::{Member, Stage};
use crate::output::{Batch, Note, Output, Topic};
use crate::table::Key;

/// How long an offer that is not answered, and a device that does not ask for blocks, takes a
/// place among those that load.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
const ASKS_WITHIN: Duration = Duration::from_secs(120);
/// First and longest wait before an offer that was not answered is made again.
const AGAIN_FIRST: Duration = Duration::from_secs(30);
const AGAIN_MOST: Duration = Duration::from_secs(1_800);
/// What a device that has taken a release back needs to report it.
const REPORTS_WITHIN: Duration = Duration::from_secs(60);
/// Wait before an offer is made again to a device that has written enough for a day.
const BUDGET_AGAIN: Duration = Duration::from_secs(6 * 3_600);
/// Longest time between two rounds while a campaign has devices to wait for.
const ROUND_MOST: Duration = Duration::from_secs(60);

impl Desk {
    /// The campaign that a device is to take part in: of those that run the one with the greatest
    /// sequence.
    fn campaign_for(&self, name: &str) -> Option<u64> {
        let device = self.devices.get(name)?;
        let class = (device.about.vendor, device.about.class);
        let running = self
            .campaigns
            .iter()
            .filter(|(_, campaign)| campaign.is_running() && campaign.is_for(name, class));
        let newest = running.max_by_key(|(_, campaign)| campaign.release.sequence());
        newest.map(|(id, _)| *id)
    }

    /// Offers a device what it is to have, if that may be now. `spoke`: it has just said hello, so
    /// that what was said to it before may be lost.
    pub(crate) fn consider(&mut self, now: Moment, name: &Arc<str>, spoke: bool) {
        let Some(id) = self.campaign_for(name) else { return };
        let loading = self.loading(now.instant);
        self.consider_for(now, id, name, spoke, loading);
    }

    /// Devices that take a place among those that load.
    fn loading(&self, now: Instant) -> u32 {
        let running = self.campaigns.values().filter(|campaign| campaign.is_running());
        let members = running.flat_map(|campaign| campaign.members.values());
        members.filter(|member| member.is_loading(now)).count() as u32
    }

    /// True when an offer was made.
    fn consider_for(
        &mut self,
        now: Moment,
        id: u64,
        name: &Arc<str>,
        spoke: bool,
        loading: u32,
    ) -> bool {
        let (Some(device), Some(campaign)) = (self.devices.get(name), self.campaigns.get_mut(&id))
        else {
            return false;
        };
        let (sequence, short) = (campaign.release.sequence(), campaign.release.name().short());
        let runs = device.about.sequence;
        let member =
            campaign.members.entry(name.clone()).or_insert_with(|| Member::new(now.unix_ms));
        if member.stage == Stage::Forgotten {
            // It has come back.
            *member = Member::new(now.unix_ms);
        }
        if device.on_trial {
            return false;
        }
        if runs >= sequence {
            if member.stage != Stage::Confirmed && !(runs > sequence && member.stage.is_end()) {
                let code = if runs == sequence { 0 } else { Refusal::Sequence.code() };
                let stage = if runs == sequence { Stage::Confirmed } else { Stage::Rejected };
                self.set_stage(now, id, name, stage, code);
            }
            return false;
        }
        if member.stage.is_end() {
            return false;
        }
        if device.pending == Some(short) {
            if spoke {
                member.busy_until = Some(now.instant + ASKS_WITHIN);
                if member.stage == Stage::Waiting {
                    self.set_stage(now, id, name, Stage::Accepted, 0);
                }
            }
            return false;
        }
        let reports = device.reverted.is_some_and(|at| at + REPORTS_WITHIN > now.instant);
        if reports || device.heard.is_none() && member.offers > 0 && !spoke {
            return false;
        }
        // What it has just said is that it is free; before that only the clock counts.
        let waits = member.again.is_some_and(|again| again > now.instant);
        let answers = spoke && member.offers > 0 && member.stage == Stage::Waiting;
        if waits && !answers || matches!(member.stage, Stage::Staged | Stage::Trial) && !spoke {
            return false;
        }
        let has_place = member.is_loading(now.instant);
        if !has_place && (loading >= self.limits.concurrent || campaign.room(now.instant) == 0) {
            return false;
        }
        self.offer(now, id, name)
    }

    fn offer(&mut self, now: Moment, id: u64, name: &Arc<str>) -> bool {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return false };
        let Some(member) = campaign.members.get_mut(name) else { return false };
        let wait = AGAIN_FIRST * 2_u32.saturating_pow(member.offers.min(10));
        member.again = Some(now.instant + wait.min(AGAIN_MOST));
        member.offers = member.offers.saturating_add(1);
        member.busy_until = Some(now.instant + ANSWERED_WITHIN);
        let release = &campaign.release;
        let Some(device) = self.devices.get(name) else { return false };
        // A device that has the key set already need not get it again.
        let offer = Offer {
            campaign: id,
            envelope: release.envelope(),
            second: release.second(),
            key_set: release.key_set().filter(|set| is_newer(set, device.about.key_set)),
        };
        let letter = device.letter(name, Topic::Offer, &Message::Offer(offer));
        match letter {
            Some(letter) => self.outputs.push_back(Output::Send(letter)),
            // It takes no message as long.
            None => self.set_stage(now, id, name, Stage::Rejected, Refusal::Size.code()),
        }
        true
    }

    pub(crate) fn handle_answer(&mut self, now: Moment, name: &str, answer: Answer) {
        let Some((name, _)) = self.devices.get_key_value(name) else { return };
        let (name, id) = (name.clone(), answer.campaign);
        let Some(campaign) = self.campaigns.get_mut(&id).filter(|one| one.is_running()) else {
            return;
        };
        let Some(member) = campaign.members.get_mut(&name) else { return };
        // An answer that nobody has asked for changes nothing.
        if member.offers == 0 || member.stage.is_end() {
            return;
        }
        match answer.verdict {
            Verdict::Accept => {
                member.busy_until = Some(now.instant + ASKS_WITHIN);
                member.offers = 1;
                if member.stage == Stage::Waiting {
                    self.set_stage(now, id, &name, Stage::Accepted, 0);
                }
            }
            Verdict::Defer(seconds) => {
                let wait = Duration::from_secs(seconds.clamp(1, 7 * 86_400).into());
                member.defer(now.instant + wait);
                self.wake(now.instant);
            }
            // Tomorrow it may write again.
            Verdict::Reject(Refusal::Budget) => member.defer(now.instant + BUDGET_AGAIN),
            Verdict::Reject(refusal) => {
                self.set_stage(now, id, &name, Stage::Rejected, refusal.code());
            }
        }
    }

    /// A device is busy with a release: it keeps its place.
    pub(crate) fn keep_place(&mut self, now: Instant, id: u64, name: &Arc<str>) {
        let campaign = self.campaigns.get_mut(&id);
        if let Some(member) = campaign.and_then(|campaign| campaign.members.get_mut(name)) {
            member.busy_until = Some(now + ASKS_WITHIN);
        }
    }

    /// Puts down that a device has come to a stage.
    pub(crate) fn set_stage(
        &mut self,
        now: Moment,
        id: u64,
        name: &Arc<str>,
        stage: Stage,
        code: u8,
    ) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let sequence = campaign.release.sequence();
        let Some(member) = campaign.members.get_mut(name) else { return };
        (member.stage, member.code, member.since_unix_ms) = (stage, code, now.unix_ms);
        let mut batch = Batch::default();
        self.put_down(id, name, sequence, &mut batch);
        self.outputs.push_back(Output::Store(batch));
        self.judge(now, id);
    }

    /// Puts down that a campaign which names a device waits for it no more.
    pub(crate) fn set_forgotten(&mut self, now: Moment, id: u64, name: &Arc<str>) {
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        campaign.members.entry(name.clone()).or_insert_with(|| Member::new(now.unix_ms));
        self.set_stage(now, id, name, Stage::Forgotten, 0);
    }

    /// Adds what a member is now to what is put down.
    pub(crate) fn put_down(&self, id: u64, name: &Arc<str>, sequence: u64, batch: &mut Batch) {
        let member = self.campaigns.get(&id).and_then(|campaign| campaign.members.get(name));
        let Some(member) = member else { return };
        let Ok(value) = member.encode() else { return };
        batch.changes.push((Key::Member(id, name.clone()).encode(), Some(value)));
        batch.notes.push(Note::Device {
            campaign: id,
            device: name.clone(),
            stage: member.stage,
            sequence,
            code: member.code,
            bytes: member.bytes,
            retries: member.retries,
        });
    }

    /// Ends a campaign that has gone wrong too often, or that has nobody left.
    pub(crate) fn judge(&mut self, now: Moment, id: u64) {
        let Some(campaign) = self.campaigns.get(&id).filter(|one| one.is_running()) else { return };
        if campaign.is_too_bad() {
            let reason = format!("{} devices have failed", campaign.failures());
            self.end(now, id, State::Halted, &reason);
        } else if campaign.is_over() {
            self.end(now, id, State::Done, "");
        } else {
            self.wake(now.instant);
        }
    }

    /// Offers to those whose time has come; answers when to look again.
    pub(crate) fn offer_round(&mut self, now: Moment) -> Option<Instant> {
        let mut loading = self.loading(now.instant);
        let mut next = None;
        let mut sooner = |at: Instant| {
            next = Some(next.map_or(at, |next: Instant| next.min(at)));
        };
        let due = |(name, member): (&Arc<str>, &Member)| {
            let waits = member.again.is_some_and(|again| again > now.instant);
            (!member.stage.is_end() && !waits).then(|| name.clone())
        };
        let running = self.campaigns.iter().filter(|(_, campaign)| campaign.is_running());
        let wanted: Vec<(u64, Vec<Arc<str>>)> = running
            .map(|(id, campaign)| (*id, campaign.members.iter().filter_map(due).collect()))
            .collect();
        for (id, names) in wanted {
            for name in names {
                if loading >= self.limits.concurrent {
                    break;
                }
                if self.campaign_for(&name) == Some(id)
                    && self.consider_for(now, id, &name, false, loading)
                {
                    loading += 1;
                }
            }
        }
        for campaign in self.campaigns.values().filter(|campaign| campaign.is_running()) {
            if let Some(at) = next_look(campaign, now.instant) {
                sooner(at);
            }
        }
        next
    }
}

/// When a campaign has to be looked at again; `None`: when one of its devices says something.
fn next_look(campaign: &Campaign, now: Instant) -> Option<Instant> {
    let open = campaign.members.values().filter(|member| !member.stage.is_end());
    let when = |member: &Member| match member.stage {
        // A place gets free, or it is its turn again.
        Stage::Waiting | Stage::Accepted => {
            let times = [member.again, member.busy_until].into_iter().flatten();
            Some(times.filter(|at| *at > now).min().unwrap_or(now + ROUND_MOST))
        }
        Stage::Staged
        | Stage::Trial
        | Stage::Confirmed
        | Stage::Reverted
        | Stage::Failed
        | Stage::Rejected
        | Stage::Forgotten => None,
    };
    let at = open.filter_map(when).min()?;
    Some(at.clamp(now + ROUND, now + ROUND_MOST))
}

fn is_newer(envelope: &[u8], version: u32) -> bool {
    let set = tidegate_wire::sign1::look_into(envelope)
        .ok()
        .and_then(|(_, payload)| tidegate_wire::key_set::KeySet::read(payload).ok());
    // What cannot be read is the device's to refuse.
    set.is_none_or(|set| set.version > version)
}
