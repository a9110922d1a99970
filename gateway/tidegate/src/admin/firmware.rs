//! What the administration may ask about devices and their firmware.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_firmware::{CampaignStatus, DeviceStatus, HaltAt, Terms};
use tidegate_flow::TwinStatus;
use tidegate_wire::Digest;

use super::{AdminClient, AdminError, Answer, Request};
use crate::core_handle::{CoreHandle, FirmwareAnswer, FirmwareAsk};
use crate::firmware::Bundles;
use crate::hex;

/// A request about devices, named in `ask`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Firmware {
    /// A bundle is to come, in blocks.
    Begin {
        /// Its hash, in 64 hexadecimal digits.
        bundle: String,
        /// Its bytes.
        size: u64,
    },
    /// A block of it.
    Block {
        /// Its hash.
        bundle: String,
        /// Where the block begins.
        offset: u64,
        /// The block, in hexadecimal digits.
        block: String,
    },
    /// It is complete: check it, and begin a campaign.
    Start {
        /// Its hash.
        bundle: String,
        /// Only these devices.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        devices: Option<Vec<String>>,
        /// So many have to be confirmed before others are offered it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<u32>,
        /// How many failures end it.
        halt_at: Halt,
    },
    /// End a campaign.
    Cancel {
        /// Its number.
        campaign: u64,
    },
    /// The campaigns, the newest first.
    Campaigns,
    /// The devices.
    Devices,
    /// What a device should be like, and is like.
    Twin {
        /// Its name.
        device: String,
    },
    /// Change what it should be like.
    ChangeTwin {
        /// Its name.
        device: String,
        /// Names and values, as `tidegate device twin set` takes them; an empty value removes.
        changes: Vec<(String, String)>,
    },
    /// A device is gone for good.
    Forget {
        /// Its name.
        device: String,
    },
}

/// How many failures are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// So many devices, from 1.
    Devices(u32),
    /// So many of a hundred, 1 to 100.
    Percent(u8),
}

/// The answer to a [`Firmware`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirmwareTold {
    /// To the parts of an upload.
    Uploaded {
        /// Bytes that are there.
        have: u64,
        /// The gateway has the whole bundle.
        whole: bool,
    },
    /// To [`Firmware::Start`]: it is on flash.
    Started {
        /// The campaign's number.
        campaign: u64,
    },
    /// It is done, and on flash.
    Done,
    /// To [`Firmware::Campaigns`].
    Campaigns(Vec<CampaignStatus>),
    /// To [`Firmware::Devices`].
    Devices(Vec<DeviceStatus>),
    /// To [`Firmware::Twin`], and to [`Firmware::ChangeTwin`] when it is on flash.
    Twin(TwinStatus),
}

/// Carries a request out.
pub(super) async fn firmware(
    request: Firmware,
    core: &CoreHandle,
    bundles: Option<&Bundles>,
) -> Result<Answer, String> {
    let named = |text: &str| Digest::parse(text).ok_or_else(|| format!("\"{text}\" is no hash"));
    let bundles = || bundles.ok_or_else(|| "firmware cannot be pushed here".to_owned());
    let ask = match request {
        Firmware::Begin { bundle, size } => {
            let progress = bundles()?.begin(core, named(&bundle)?, size).await?;
            let (have, whole) = (progress.have, progress.whole);
            return Ok(Answer::Firmware(FirmwareTold::Uploaded { have, whole }));
        }
        Firmware::Block { bundle, offset, block } => {
            let block = hex::decode(&block).ok_or("the block is not in hexadecimal digits")?;
            let have = bundles()?.append(named(&bundle)?, offset, block).await?;
            return Ok(Answer::Firmware(FirmwareTold::Uploaded { have, whole: false }));
        }
        Firmware::Start { bundle, devices, first, halt_at } => {
            let terms = terms(devices, first, halt_at)?;
            let campaign = bundles()?.start(core, named(&bundle)?, terms).await?;
            return Ok(Answer::Firmware(FirmwareTold::Started { campaign }));
        }
        Firmware::Cancel { campaign } => FirmwareAsk::Cancel(campaign),
        Firmware::Campaigns => FirmwareAsk::Campaigns,
        Firmware::Devices => FirmwareAsk::Devices,
        Firmware::Forget { device } => FirmwareAsk::Forget(device),
        Firmware::Twin { device } => FirmwareAsk::Twin(device),
        Firmware::ChangeTwin { device, changes } => FirmwareAsk::ChangeTwin(device, changes),
    };
    let told = match core.firmware(ask).await.map_err(|error| error.to_string())? {
        FirmwareAnswer::Done => FirmwareTold::Done,
        FirmwareAnswer::Campaigns(campaigns) => FirmwareTold::Campaigns(campaigns),
        FirmwareAnswer::Devices(devices) => FirmwareTold::Devices(devices),
        FirmwareAnswer::Twin(twin) => FirmwareTold::Twin(twin),
        FirmwareAnswer::Started(campaign) => FirmwareTold::Started { campaign },
        FirmwareAnswer::Needed(_) => return Err("nobody has asked for that".to_owned()),
    };
    Ok(Answer::Firmware(told))
}

fn terms(devices: Option<Vec<String>>, first: Option<u32>, halt_at: Halt) -> Result<Terms, String> {
    let halt_at = match halt_at {
        Halt::Devices(count @ 1..) => HaltAt::Devices(count),
        Halt::Percent(percent @ 1..=100) => HaltAt::Percent(percent),
        Halt::Devices(_) | Halt::Percent(_) => {
            return Err("a campaign ends at 1 failure or more, or at 1 to 100 percent".to_owned());
        }
    };
    if first == Some(0) {
        return Err("the first that are offered a release are 1 or more".to_owned());
    }
    let devices = devices.map(|list| list.into_iter().map(Arc::from).collect::<BTreeSet<_>>());
    Ok(Terms { devices, first, halt_at })
}

impl AdminClient {
    /// Asks about devices or their firmware.
    ///
    /// # Errors
    /// The daemon does not answer: it may be done all the same. Or it refuses.
    pub fn firmware(&mut self, request: Firmware) -> Result<FirmwareTold, AdminError> {
        self.wait_for_changes()?;
        match self.ask(Request::Firmware(request))? {
            Answer::Firmware(told) => Ok(told),
            other => Err(self.unknown(&other)),
        }
    }

    /// An answer that does not belong to the question.
    #[must_use]
    pub fn unexpected(&self, told: FirmwareTold) -> AdminError {
        self.unknown(&Answer::Firmware(told))
    }
}
