//! `tidegate device firmware`: from images to a signed bundle.

mod delta;
mod inspect;
mod keygen;
mod keyset;
mod push;
mod read;
mod sign;
mod status;
#[cfg(test)]
mod tests;
mod uuid;

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::{Failure, Place};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum FirmwareCommand {
    /// Make a key: a root, which signs key sets, or a release key, which signs releases
    #[command(after_help = "Example:\n  tidegate device firmware keygen root.key\n  \
                            tidegate device firmware keygen release.key\n\n\
                            Keep roots away from the machine that signs releases.")]
    Keygen {
        /// The file; made with mode 0600, never overwritten
        file: PathBuf,
    },
    /// Make a key set: which keys sign releases, signed by a root
    #[command(after_help = "Examples:\n  \
                  tidegate device firmware keyset --root root.key --add ed25519:3d40... -o keys-1.tgks\n  \
                  tidegate device firmware keyset --root root.key --from keys-1.tgks \
                  --revoke ed25519:3d40... --add ed25519:77aa... -o keys-2.tgks")]
    Keyset(keyset::KeysetArguments),
    /// Make a signed bundle of a release: images, as they are, compressed and as deltas
    #[command(after_help = "Examples:\n  \
                  tidegate device firmware sign --image app.bin --release 1.0.0 --sequence 1 \
                  --vendor example.com --class pump --key release.key\n  \
                  tidegate device firmware sign --image app.bin --base app-1.0.0.bin --release 1.1.0 \
                  --sequence 2 --vendor example.com --class pump --key release.key -o app-1.1.0.tgfw\n\n\
                  The format: docs/formats/firmware-bundle.md")]
    Sign(Box<sign::SignArguments>),
    /// Show how small an image gets as changes to another one
    #[command(
        after_help = "Example:\n  tidegate device firmware delta app-1.0.0.bin app-1.1.0.bin"
    )]
    Delta(delta::DeltaArguments),
    /// Show what is in a bundle or a key set
    #[command(after_help = "Examples:\n  tidegate device firmware inspect app-1.1.0.tgfw\n  \
                  tidegate device firmware inspect app-1.1.0.tgfw --trust ed25519:3d40... --json")]
    Inspect(inspect::InspectArguments),
    /// Bring a bundle to a running gateway, which offers it to devices
    #[command(after_help = "Examples:\n  tidegate device firmware push app-1.1.0.tgfw\n  \
                  tidegate device firmware push app-1.1.0.tgfw --first 5 --halt-at 2% --watch\n  \
                  tidegate device firmware push app-1.1.0.tgfw --devices pump-7,pump-8\n\n\
                  After a failure, the same command goes on where the upload ended.")]
    Push(push::PushArguments),
    /// Show how campaigns go
    #[command(after_help = "Examples:\n  tidegate device firmware status\n  \
                  tidegate device firmware status 7 --watch\n  \
                  tidegate device firmware status --json")]
    Status(status::StatusArguments),
    /// End a campaign; devices that load are told to forget it
    #[command(after_help = "Example:\n  tidegate device firmware cancel 7")]
    Cancel {
        /// Its number
        campaign: u64,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn execute(command: FirmwareCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        FirmwareCommand::Keygen { file } => keygen::keygen(&file, out),
        FirmwareCommand::Keyset(arguments) => keyset::keyset(&arguments, out),
        FirmwareCommand::Sign(arguments) => sign::sign(&arguments, out),
        FirmwareCommand::Delta(arguments) => delta::delta(&arguments, out),
        FirmwareCommand::Inspect(arguments) => inspect::inspect(&arguments, out),
        FirmwareCommand::Push(arguments) => push::push(&arguments, out),
        FirmwareCommand::Status(arguments) => status::status(&arguments, out),
        FirmwareCommand::Cancel { campaign, place } => status::cancel(&place, campaign, out),
    }
}
