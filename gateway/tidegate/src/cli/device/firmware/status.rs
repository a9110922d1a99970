//! `tidegate device firmware status` and `cancel`

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use tidegate_firmware::{CampaignStatus, Stage};

use super::super::ls::unexpected;
use super::Failure;
use crate::admin::{AdminClient, Firmware, FirmwareTold};
use crate::cli::locate::Place;
use crate::cli::table::Table;
use crate::utc::Utc;

/// Pause between questions how it goes.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArguments {
    /// One campaign, with its devices [default: all campaigns]
    campaign: Option<u64>,
    /// One JSON array of campaigns with their devices
    #[arg(long)]
    json: bool,
    /// Show how it goes until all that are known have come to an end
    #[arg(long, conflicts_with = "json", requires = "campaign")]
    watch: bool,
    #[command(flatten)]
    place: Place,
}

/// Shows campaigns.
pub(super) fn status(arguments: &StatusArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = arguments.place.connect()?;
    if let (Some(id), true) = (arguments.campaign, arguments.watch) {
        return watch(&mut client, id, out);
    }
    let mut campaigns = campaigns(&mut client)?;
    if let Some(id) = arguments.campaign {
        campaigns.retain(|campaign| campaign.campaign == id);
        if campaigns.is_empty() {
            return Err(anyhow!("there is no campaign {id}").into());
        }
    }
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&campaigns)?)?;
        return Ok(());
    }
    let mut table = Table::new();
    let head = ["CAMPAIGN", "STATE", "VERSION", "SEQUENCE", "SINCE"];
    table.row(head.into_iter().chain(Stage::ALL.map(Stage::name)));
    for campaign in &campaigns {
        let since = Utc(campaign.ended_unix_ms.unwrap_or(campaign.started_unix_ms)).to_string();
        let cells = [
            campaign.campaign.to_string(),
            campaign.state.clone(),
            campaign.version.clone(),
            campaign.sequence.to_string(),
            since,
        ];
        let counts = Stage::ALL.map(|stage| campaign.count(stage).to_string());
        table.row(cells.iter().chain(&counts).map(String::as_str));
    }
    table.write(out)?;
    for campaign in campaigns.iter().filter(|campaign| !campaign.reason.is_empty()) {
        let (id, state, reason) = (campaign.campaign, &campaign.state, &campaign.reason);
        writeln!(out, "campaign {id} is {state}: {reason}")?;
    }
    if let (Some(_), Some(campaign)) = (arguments.campaign, campaigns.first()) {
        devices(campaign).write(out)?;
    }
    Ok(())
}

fn devices(campaign: &CampaignStatus) -> Table {
    let mut table = Table::new();
    table.row(["DEVICE", "STAGE", "SINCE", "BYTES", "REPEATED", "WHY"]);
    for device in &campaign.devices {
        let (bytes, retries) = (device.bytes.to_string(), device.retries.to_string());
        let since = Utc(device.since_unix_ms).to_string();
        let cells = [&device.device, &device.stage, &since, &bytes, &retries, &device.why];
        table.row(cells.map(String::as_str));
    }
    table
}

/// Ends a campaign.
pub(super) fn cancel(place: &Place, campaign: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = place.connect()?;
    match client.firmware(Firmware::Cancel { campaign })? {
        FirmwareTold::Done => {}
        told => return Err(unexpected(&client, told)),
    }
    writeln!(out, "campaign {campaign} is cancelled; devices that load are told to forget it")?;
    Ok(())
}

fn campaigns(client: &mut AdminClient) -> Result<Vec<CampaignStatus>, Failure> {
    match client.firmware(Firmware::Campaigns)? {
        FirmwareTold::Campaigns(campaigns) => Ok(campaigns),
        told => Err(unexpected(client, told)),
    }
}

/// Shows each change until the campaign, or each device of it that is known, has come to an end. A failure of
/// a device, or of the campaign, is one of the command.
pub(super) fn watch(client: &mut AdminClient, id: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let found = campaigns(client)?.into_iter().find(|campaign| campaign.campaign == id);
        let campaign = found.ok_or_else(|| anyhow!("there is no campaign {id}"))?;
        let counts = Stage::ALL.into_iter().filter(|stage| campaign.count(*stage) > 0);
        let counts: Vec<String> =
            counts.map(|stage| format!("{} {}", campaign.count(stage), stage.name())).collect();
        let counts = if counts.is_empty() { "no device yet".to_owned() } else { counts.join(", ") };
        let line = format!("campaign {id} {}: {counts}", campaign.state);
        if line != said {
            writeln!(out, "{line}")?;
            out.flush()?;
            said = line;
        }
        let is_end =
            |stage: &str| Stage::ALL.into_iter().any(|one| one.is_end() && one.name() == stage);
        let ended = !campaign.devices.is_empty()
            && campaign.devices.iter().all(|device| is_end(&device.stage));
        if campaign.state != "running" || ended {
            return verdict(&campaign);
        }
        sleep(PAUSE);
    }
}

fn verdict(campaign: &CampaignStatus) -> Result<(), Failure> {
    let bad = [Stage::Reverted, Stage::Failed, Stage::Rejected];
    let count: usize = bad.into_iter().map(|stage| campaign.count(stage)).sum();
    let (id, state) = (campaign.campaign, campaign.state.as_str());
    if matches!(state, "running" | "done") && count == 0 {
        return Ok(());
    }
    let why = campaign.devices.iter().find(|device| !device.why.is_empty());
    let why = why.map_or(String::new(), |one| format!("; {}: {}", one.device, one.why));
    Err(anyhow!("campaign {id} is {state}: {count} devices have not taken it{why}").into())
}
