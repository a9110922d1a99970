//! `tidegate fn`: what authors of functions do.

mod candidate;
mod check;
mod control;
mod dead;
mod differ;
mod inspect;
mod keygen;
mod logs;
mod ls;
mod new;
mod pack;
mod push;
mod records;
mod replay;
mod report;
mod summary;
mod template;
mod test;
#[cfg(test)]
mod tests;
mod watch;

use std::io::Write;
use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;
use super::locate::Place;

#[derive(Debug, Subcommand)]
pub(super) enum FnCommand {
    /// Write a function to start from, with its tests
    #[command(after_help = "Examples:\n  tidegate fn new overheat --lang rust\n  \
                            tidegate fn new overheat --lang c --dir functions/overheat")]
    New(new::NewArguments),
    /// Hold a module against the contract between gateway and function
    #[command(after_help = "Example:\n  \
                            tidegate fn check overheat.wasm --config '{\"limit\":30}'\n\n\
                            The contract: docs/formats/abi-tg1.md")]
    Check(check::CheckArguments),
    /// Run the tests of functions: records in, what is expected out, a clock that is stepped
    #[command(after_help = "Examples:\n  tidegate fn test functions/threshold\n  \
                            tidegate fn test --watch\n  \
                            tidegate fn test --update && git diff\n\n\
                            The format of the tests: docs/formats/function-tests.md")]
    Test(test::TestArguments),
    /// Run a function over real records, and compare its outputs with those of another version
    #[command(
        after_help = "Examples:\n  tidegate fn replay functions/threshold --data-dir /var/lib/tidegate --from 1000\n  \
                            tidegate fn replay --from-file telemetry.ndjson --against ../threshold-1.2\n  \
                            tidegate fn replay --from-file telemetry.ndjson --against old.wasm --json\n  \
                            tidegate fn replay --function threshold --version 1.1.0 --against-version 1.0.0\n\n\
                            Exit code 0: no difference; 1: there are some."
    )]
    Replay(replay::ReplayArguments),
    /// Make a key to sign packages with
    #[command(after_help = "Example:\n  tidegate fn keygen team.key")]
    Keygen {
        /// The file; made with mode 0600, never overwritten
        file: PathBuf,
    },
    /// Make a signed package of a module and its manifest
    #[command(after_help = "Examples:\n  tidegate fn pack threshold --key team.key\n  \
                      tidegate fn pack threshold/function.toml --key team.key -o threshold.tgpkg")]
    Pack {
        /// The folder with function.toml, or that file
        manifest: PathBuf,
        /// The key, as `tidegate fn keygen` made it
        #[arg(long, short, value_name = "FILE")]
        key: PathBuf,
        /// The package [default: NAME-VERSION.tgpkg]
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what is in a package
    #[command(after_help = "Examples:\n  tidegate fn inspect threshold-1.0.0.tgpkg\n  \
                      tidegate fn inspect threshold-1.0.0.tgpkg --trust ed25519:3d40...")]
    Inspect {
        /// The package
        package: PathBuf,
        /// Check the signature by this key, as `tidegate fn keygen` showed it
        #[arg(long, value_name = "KEY")]
        trust: Vec<String>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Bring a package to a running gateway, which checks it, tries it, and takes it back when it
    /// fails
    #[command(after_help = "Examples:\n  tidegate fn push threshold-1.0.0.tgpkg\n  \
                      tidegate fn push threshold-1.1.0.tgpkg --canary 10%\n\n\
                      After a failure, the same command goes on where the upload ended.")]
    Push(push::PushArguments),
    /// List the functions of a running gateway
    #[command(after_help = "Example:\n  tidegate fn ls --json")]
    Ls {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Stop a function; what comes for it waits, under the quota of its streams
    #[command(after_help = "Example:\n  tidegate fn pause threshold")]
    Pause(control::Named),
    /// Let a paused function go on
    #[command(after_help = "Example:\n  tidegate fn resume threshold")]
    Resume(control::Named),
    /// Let a function do what is there now, and pause it
    #[command(after_help = "Example:\n  tidegate fn drain threshold")]
    Drain(control::DrainArguments),
    /// Move the cursor of a function, to have records again or to skip some
    #[command(after_help = "Examples:\n  tidegate fn reset threshold --to start\n  \
                      tidegate fn reset threshold --to 2026-01-01T00:00:00Z\n  \
                      tidegate fn reset threshold --to 1000 --stream telemetry")]
    Reset(control::ResetArguments),
    /// Show what a function said last, and what failed
    #[command(after_help = "Examples:\n  tidegate fn logs threshold\n  \
                      tidegate fn logs threshold --follow --json")]
    Logs(logs::LogsArguments),
    /// Look after the records that a function gave up
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    /// Let the version before run again
    #[command(after_help = "Example:\n  tidegate fn rollback threshold")]
    Rollback {
        /// The function's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Take a pushed function out; its state stays for one that has its name
    #[command(after_help = "Example:\n  tidegate fn rm threshold")]
    Rm {
        /// The function's name
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn execute(command: FnCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        FnCommand::New(arguments) => new::new(&arguments, out),
        FnCommand::Check(arguments) => check::check(&arguments, out),
        FnCommand::Test(arguments) => test::test(&arguments, out),
        FnCommand::Replay(arguments) => replay::replay(&arguments, out),
        FnCommand::Keygen { file } => keygen::keygen(&file, out),
        FnCommand::Pack { manifest, key, output } => pack::pack(&manifest, &key, output, out),
        FnCommand::Inspect { package, trust, json } => {
            inspect::inspect(&package, &trust, json, out)
        }
        FnCommand::Push(arguments) => push::push(&arguments, out),
        FnCommand::Ls { json, place } => ls::list(&place, json, out),
        FnCommand::Pause(named) => control::pause(&named, out),
        FnCommand::Resume(named) => control::resume(&named, out),
        FnCommand::Drain(arguments) => control::drain(&arguments, out),
        FnCommand::Reset(arguments) => control::reset(&arguments, out),
        FnCommand::Logs(arguments) => logs::logs(&arguments, out),
        FnCommand::Dead(command) => dead::dead(&command, out),
        FnCommand::Rollback { name, place } => ls::roll_back(&place, &name, out),
        FnCommand::Rm { name, place } => ls::remove(&place, &name, out),
    }
}
