//! `tidegate device`: what operators do with devices.

mod firmware;
mod ls;
mod twin;

use std::io::Write;

use clap::Subcommand;

use super::Failure;
use super::locate::Place;

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// List the devices that have said hello, and what they run
    #[command(after_help = "Example:\n  tidegate device ls --json")]
    Ls {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Forget a device that is gone for good
    #[command(after_help = "Example:\n  tidegate device rm pump-7")]
    Rm {
        /// Its name
        device: String,
        #[command(flatten)]
        place: Place,
    },
    /// What a device should be like, and is like
    #[command(subcommand)]
    Twin(twin::TwinCommand),
    /// Sign firmware, and bring it to devices
    #[command(subcommand)]
    Firmware(firmware::FirmwareCommand),
}

pub(super) fn execute(command: DeviceCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        DeviceCommand::Ls { json, place } => ls::list(&place, json, out),
        DeviceCommand::Rm { device, place } => ls::remove(&place, &device, out),
        DeviceCommand::Twin(command) => twin::execute(command, out),
        DeviceCommand::Firmware(command) => firmware::execute(command, out),
    }
}
