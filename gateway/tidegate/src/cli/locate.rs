//! Finds the configuration, and the gateway that a command is about.

use std::path::{Path, PathBuf};

use clap::Args;
use tidegate_flow::PartitionKey;

use super::Failure;
use crate::admin::AdminClient;
use crate::config::{self, ADMIN_SOCKET};

/// Where a configuration is looked for when none is named.
const DEFAULTS: [&str; 2] = ["tidegate.toml", "/etc/tidegate/tidegate.toml"];

/// Which gateway a command asks.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Configuration of the gateway [default: ./tidegate.toml, else /etc/tidegate/tidegate.toml]
    #[arg(long, short, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// Data directory of the gateway, instead of its configuration
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Place {
    /// Connects to the gateway. Of the configuration only the data directory is read: a mistake
    /// elsewhere in it must not hide a gateway that runs.
    pub(super) fn connect(&self) -> Result<AdminClient, Failure> {
        Ok(AdminClient::connect(&self.data_dir()?.join(ADMIN_SOCKET))?)
    }

    /// The data directory.
    pub(super) fn data_dir(&self) -> Result<PathBuf, Failure> {
        match (&self.data_dir, &self.config) {
            (Some(data_dir), _) => Ok(data_dir.clone()),
            (None, Some(file)) => Ok(config::data_dir_of(file)?),
            (None, None) => Ok(config::data_dir_of(&default_config()?)?),
        }
    }

    /// The configuration, when the gateway was found by one.
    pub(super) fn config_file(&self) -> Option<PathBuf> {
        match (&self.data_dir, &self.config) {
            (Some(_), _) => None,
            (None, Some(file)) => Some(file.clone()),
            (None, None) => default_config().ok(),
        }
    }

    /// The gateway's id; `None` when only the data directory is known, which does not hold it.
    pub(super) fn gateway(&self) -> Result<Option<String>, Failure> {
        match (&self.data_dir, &self.config) {
            (Some(_), _) => Ok(None),
            (None, Some(file)) => Ok(Some(config::gateway_of(file)?)),
            (None, None) => Ok(Some(config::gateway_of(&default_config()?)?)),
        }
    }

    /// Where the records of a stream have their partition key; `None` when only the data
    /// directory is known, which does not hold it.
    pub(super) fn partition_key(&self, stream: &str) -> Result<Option<PartitionKey>, Failure> {
        match (&self.data_dir, &self.config) {
            (Some(_), _) => Ok(None),
            (None, Some(file)) => Ok(config::partition_key_of(file, stream)?),
            (None, None) => Ok(config::partition_key_of(&default_config()?, stream)?),
        }
    }
}

/// The configuration in the current directory, or the machine's.
pub(super) fn default_config() -> Result<PathBuf, Failure> {
    let found = DEFAULTS.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        let text = "no configuration: neither ./tidegate.toml nor /etc/tidegate/tidegate.toml is \
                    there; name one with --config, or write one with `tidegate init`";
        Failure::Wrong(text.to_owned())
    })
}
