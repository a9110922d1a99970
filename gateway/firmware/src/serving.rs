//! Blocks: what devices have asked for, in turns.

use std::collections::VecDeque;
use std::sync::Arc;

use tidegate_wire::digest::Digest8;
use tidegate_wire::message::Request;

use crate::desk::{Desk, Moment};
use crate::member::Stage;
use crate::output::Read;

/// Requests of a device that wait: one that is served, and one behind it.
pub const MAX_ASKED: usize = 2;
/// Blocks that are read at a time, 64 KiB.
const MAX_READS: usize = 64;
/// Bytes that a device gets of a release since the start of the gateway: so many times what
/// travels, and half a megabyte.
pub const MAX_RESENT: u64 = 8;
const RESENT_REST: u64 = 512 * 1_024;
/// Least and largest block.
const BLOCKS: std::ops::RangeInclusive<u16> = 32..=1_024;

/// What one device has asked for: 64 bytes.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    waiting: VecDeque<Wanted>,
    /// It is among those whose turn comes, once.
    has_turn: bool,
}

#[derive(Debug)]
struct Wanted {
    campaign: u64,
    request: Request,
}

impl Asked {
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A request with the tag of the one before goes behind it, another takes the place of all.
    fn add(&mut self, campaign: u64, request: Request) {
        if self.waiting.back().is_some_and(|last| last.request.tag != request.tag) {
            self.waiting.clear();
        }
        if self.waiting.len() < MAX_ASKED {
            self.waiting.push_back(Wanted { campaign, request });
        }
    }

    /// The next block: its campaign, what of the manifest, which one, the tag.
    fn take(&mut self) -> Option<(u64, u8, u32, u8)> {
        let Wanted { campaign, request } = self.waiting.front_mut()?;
        let bit = request.bitmap.trailing_zeros();
        let index = request.base.checked_add(bit);
        request.bitmap &= request.bitmap.wrapping_sub(1);
        request.credit = request.credit.saturating_sub(1);
        let found = (*campaign, request.entry, index, request.tag);
        if request.bitmap == 0 || request.credit == 0 {
            self.waiting.pop_front();
        }
        let (campaign, entry, index, tag) = found;
        Some((campaign, entry, index.unwrap_or(u32::MAX), tag))
    }
}

impl Desk {
    pub(crate) fn handle_request(&mut self, now: Moment, name: &str, request: Request) {
        let Some(id) = self.campaign_of(name, request.manifest) else { return };
        let Some((name, device)) = self.devices.get_key_value(name) else { return };
        let name = name.clone();
        let Some(campaign) = self.campaigns.get(&id) else { return };
        let block = u64::from(device.about.block);
        let size = campaign.release.entries().get(usize::from(request.entry));
        let begins = u64::from(request.base) * block;
        if size.is_none_or(|entry| begins >= u64::from(entry.size)) {
            return;
        }
        let stage = campaign.members.get(&name).map(|member| member.stage);
        self.keep_place(now.instant, id, &name);
        if stage == Some(Stage::Waiting) {
            // Its answer was lost.
            self.set_stage(now, id, &name, Stage::Accepted, 0);
        }
        let Some(device) = self.devices.get_mut(&name) else { return };
        device.pending = Some(request.manifest);
        device.asked.add(id, request);
        if !std::mem::replace(&mut device.asked.has_turn, true) {
            self.turn.push_back(name);
        }
    }

    /// The campaign that brings this manifest to this device, if it runs.
    fn campaign_of(&self, name: &str, manifest: Digest8) -> Option<u64> {
        let of = self.campaigns.iter().find(|(_, campaign)| {
            let member = campaign.members.get(name);
            campaign.is_running()
                && campaign.release.name().short() == manifest
                && member.is_some_and(|member| !member.stage.is_end())
        });
        of.map(|(id, _)| *id)
    }

    /// The next block that may leave, of the device whose turn it is.
    pub(crate) fn next_read(&mut self, now: Moment) -> Option<Read> {
        while self.reads < MAX_READS && self.paced.is_none() {
            let name = self.turn.front()?.clone();
            let Some(device) = self.devices.get_mut(&name) else {
                self.turn.pop_front();
                continue;
            };
            // Without what the largest block needs nobody's turn comes.
            let most = u64::from(device.about.block.min(*BLOCKS.end()));
            if !device.asked.is_empty()
                && let Err(at) = self.pace.take(now.instant, most)
            {
                self.paced = Some(at);
                return None;
            }
            self.turn.pop_front();
            let wanted = device.asked.take();
            device.asked.has_turn = !device.asked.is_empty();
            if device.asked.has_turn {
                self.turn.push_back(name.clone());
            }
            if let Some(read) = wanted.and_then(|wanted| self.read_of(&name, wanted)) {
                self.reads += 1;
                return Some(read);
            }
        }
        None
    }

    /// Where a block is; `None` when there is none, or the device has had enough.
    fn read_of(
        &mut self,
        name: &Arc<str>,
        (id, entry, index, tag): (u64, u8, u32, u8),
    ) -> Option<Read> {
        let device = self.devices.get(name)?;
        let campaign = self.campaigns.get_mut(&id).filter(|campaign| campaign.is_running())?;
        let entry = campaign.release.entries().get(usize::from(entry))?;
        let block = BLOCKS.contains(&device.about.block).then_some(device.about.block)?;
        let from = u64::from(index) * u64::from(block);
        let left = u64::from(entry.size).checked_sub(from).filter(|left| *left > 0)?;
        // At most a block, which fits.
        let length = left.min(block.into()) as u16;
        let member = campaign.members.get_mut(name)?;
        let total: u64 = campaign.release.entries().iter().map(|entry| u64::from(entry.size)).sum();
        if member.sent > total.saturating_mul(MAX_RESENT) + RESENT_REST {
            return None;
        }
        member.sent += u64::from(length);
        Some(Read {
            campaign: id,
            device: name.clone(),
            via: device.via,
            bundle: campaign.bundle,
            at: entry.at + from,
            length,
            index,
            tag,
        })
    }

    /// A block was read and sent, or its bundle cannot be read any more, which ends the campaign.
    pub fn handle_read(&mut self, now: Moment, read: &Read, outcome: Result<(), &str>) {
        self.reads = self.reads.saturating_sub(1);
        if let Err(why) = outcome
            && self.campaigns.get(&read.campaign).is_some_and(|campaign| campaign.is_running())
        {
            let reason = format!("the bundle cannot be read: {why}");
            self.end(now, read.campaign, crate::State::Halted, &reason);
        }
    }
}
