//! `tidegate device`: what operators do with devices.

mod firmware;

use std::io::Write;

use clap::Subcommand;

use super::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Sign firmware, and bring it to devices
    #[command(subcommand)]
    Firmware(firmware::FirmwareCommand),
}

pub(super) fn execute(command: DeviceCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        DeviceCommand::Firmware(command) => firmware::execute(command, out),
    }
}
