//! What the desk shows of itself.

use serde::{Deserialize, Serialize};
use tidegate_wire::manifest::Uuid;
use tidegate_wire::message::Refusal;

use crate::desk::Desk;
use crate::member::Stage;
use crate::output::Via;

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignStatus {
    /// Its number.
    pub campaign: u64,
    /// `running`, `done`, `halted`, `cancelled` or `replaced`.
    pub state: String,
    /// Why it ended.
    pub reason: String,
    /// Sequence of the release.
    pub sequence: u64,
    /// Its version.
    pub version: String,
    /// What its author says of it.
    pub label: String,
    /// The bundle's SHA-256.
    pub bundle: String,
    /// The manifest's.
    pub manifest: String,
    /// Vendor and class, as UUIDs.
    pub vendor: String,
    /// See [`CampaignStatus::vendor`].
    pub class: String,
    /// When it began, in milliseconds since 1970.
    pub started_unix_ms: i64,
    /// When it ended.
    pub ended_unix_ms: Option<i64>,
    /// Bytes of blocks sent since the start of the gateway.
    pub sent_bytes: u64,
    /// Those that it is for and that are known, in order of their names.
    pub devices: Vec<MemberStatus>,
}

impl CampaignStatus {
    /// How many devices are at a stage.
    #[must_use]
    pub fn count(&self, stage: Stage) -> usize {
        self.devices.iter().filter(|device| device.stage == stage.name()).count()
    }
}

/// A device of a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub device: String,
    /// Where it is.
    pub stage: String,
    /// Why it failed, in words; empty when it has not.
    pub why: String,
    /// Since when, in milliseconds since 1970.
    pub since_unix_ms: i64,
    /// Bytes of blocks that it says to have had.
    pub bytes: u32,
    /// Requests that it says to have repeated.
    pub retries: u32,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its name.
    pub device: String,
    /// Version of what it runs.
    pub version: String,
    /// Sequence that is confirmed.
    pub sequence: u64,
    /// Its floor.
    pub floor: u64,
    /// Version of its key set.
    pub key_set: u32,
    /// Vendor and class, as UUIDs.
    pub vendor: String,
    /// See [`DeviceStatus::vendor`].
    pub class: String,
    /// Version of its SDK.
    pub sdk: String,
    /// `mqtt` or `serial`: how it spoke last.
    pub via: String,
    /// It runs a release on trial.
    pub on_trial: bool,
    /// When it said hello last, in milliseconds since 1970.
    pub seen_unix_ms: i64,
}

/// How full the table of devices is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Devices that are known.
    pub devices: u64,
    /// Devices that were forgotten for others since the start of the gateway.
    pub made_room: u64,
    /// Times that a device was not remembered since then, as nobody could make room.
    pub unremembered: u64,
}

impl Desk {
    /// How full the table of devices is.
    #[must_use]
    pub fn fleet_status(&self) -> FleetStatus {
        FleetStatus {
            devices: self.devices.len() as u64,
            made_room: self.forgotten.made_room,
            unremembered: self.forgotten.unremembered,
        }
    }

    /// The campaigns, the newest first.
    #[must_use]
    pub fn campaign_statuses(&self) -> Vec<CampaignStatus> {
        let status = |(id, campaign): (&u64, &crate::campaign::Campaign)| {
            let manifest = campaign.release.manifest();
            let first = manifest.and_then(|manifest| manifest.components.iter().next());
            let class = campaign.release.class();
            CampaignStatus {
                campaign: *id,
                state: campaign.state.name().to_owned(),
                reason: campaign.reason.clone(),
                sequence: campaign.release.sequence(),
                version: first.map_or("", |component| component.version).to_owned(),
                label: manifest.map_or("", |manifest| manifest.label).to_owned(),
                bundle: campaign.bundle.to_string(),
                manifest: campaign.release.name().to_string(),
                vendor: show_uuid(&class.0),
                class: show_uuid(&class.1),
                started_unix_ms: campaign.started_unix_ms,
                ended_unix_ms: campaign.ended_unix_ms,
                sent_bytes: campaign.members.values().map(|member| member.sent).sum(),
                devices: campaign.members.iter().map(member_status).collect(),
            }
        };
        self.campaigns.iter().rev().map(status).collect()
    }

    /// The devices, in order of their names.
    #[must_use]
    pub fn device_statuses(&self) -> Vec<DeviceStatus> {
        let status = |(name, device): (&std::sync::Arc<str>, &crate::desk::Device)| DeviceStatus {
            device: name.to_string(),
            version: device.about.version.clone(),
            sequence: device.about.sequence,
            floor: device.about.floor,
            key_set: device.about.key_set,
            vendor: show_uuid(&device.about.vendor),
            class: show_uuid(&device.about.class),
            sdk: device.about.sdk.clone(),
            via: match device.via {
                Via::Mqtt => "mqtt",
                Via::Line => "serial",
            }
            .to_owned(),
            on_trial: device.on_trial,
            seen_unix_ms: device.about.seen_unix_ms,
        };
        self.devices.iter().map(status).collect()
    }
}

fn member_status((name, member): (&std::sync::Arc<str>, &crate::member::Member)) -> MemberStatus {
    let why = if member.code == 0 { String::new() } else { Refusal::of(member.code).to_string() };
    MemberStatus {
        device: name.to_string(),
        stage: member.stage.name().to_owned(),
        why,
        since_unix_ms: member.since_unix_ms,
        bytes: member.bytes,
        retries: member.retries,
    }
}

/// As people write it.
#[must_use]
pub fn show_uuid(uuid: &Uuid) -> String {
    let mut text = String::with_capacity(36);
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
    }
    text
}
