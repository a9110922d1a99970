//! What devices report of a release.

use tidegate_wire::message::{Message, Received, Report};

use crate::desk::{Desk, Moment};
use crate::member::Stage;
use crate::output::{Batch, Output, Topic};
use crate::table::Key;

impl Desk {
    /// Puts a report down; the device hears of it when that is done.
    pub(crate) fn handle_report(&mut self, now: Moment, name: &str, report: &Report) {
        let Some((name, device)) = self.devices.get_key_value(name) else { return };
        let name = name.clone();
        let received = Message::Received(Received { number: report.number });
        let Some(received) = device.letter(&name, Topic::Command, &received) else { return };
        let mut batch = Batch { then: vec![received], ..Batch::default() };
        let (Some(id), Some(stage)) =
            (self.campaign_of_report(&name, report), Stage::of(report.phase))
        else {
            // Of a campaign that nobody knows here: it need not be said again.
            self.outputs.push_back(Output::Store(batch));
            return;
        };
        let Some(campaign) = self.campaigns.get_mut(&id) else { return };
        let sequence = campaign.release.sequence();
        let Some(member) = campaign.members.get_mut(&name) else { return };
        let is_news = member.take(stage, report, now.unix_ms);
        if is_news {
            self.put_down(id, &name, sequence, &mut batch);
        }
        if stage == Stage::Confirmed
            && is_news
            && let Some(device) = self.devices.get_mut(&name)
        {
            device.about.sequence = device.about.sequence.max(sequence);
            if let Ok(value) = device.about.encode() {
                batch.changes.push((Key::Device(name.clone()).encode(), Some(value)));
            }
        }
        // What came before may still be on its way to the flash.
        self.outputs.push_back(Output::Store(batch));
        if stage.is_end()
            && let Some(device) = self.devices.get_mut(&name)
        {
            (device.reverted, device.pending) = (None, None);
            device.asked.clear();
        }
        if is_news {
            self.judge(now, id);
        }
    }

    /// The campaign that a device speaks of; where it has forgotten that, the one that brings it
    /// this sequence.
    fn campaign_of_report(&self, name: &str, report: &Report) -> Option<u64> {
        let is_of = |id: &u64| {
            self.campaigns.get(id).is_some_and(|campaign| campaign.members.contains_key(name))
        };
        if is_of(&report.campaign) {
            return Some(report.campaign);
        }
        let of_sequence = self.campaigns.iter().rev().find(|(id, campaign)| {
            report.campaign == 0 && is_of(id) && campaign.release.sequence() == report.to
        });
        of_sequence.map(|(id, _)| *id)
    }
}
