//! `tidegate fn`: what authors of functions do.

mod check;
mod differ;
mod new;
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

use clap::Subcommand;

use super::Failure;

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
                            tidegate fn replay --from-file telemetry.ndjson --against old.wasm --json\n\n\
                            Exit code 0: no difference; 1: there are some."
    )]
    Replay(replay::ReplayArguments),
}

pub(super) fn execute(command: FnCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        FnCommand::New(arguments) => new::new(&arguments, out),
        FnCommand::Check(arguments) => check::check(&arguments, out),
        FnCommand::Test(arguments) => test::test(&arguments, out),
        FnCommand::Replay(arguments) => replay::replay(&arguments, out),
    }
}
