//! `tidegate fn`: what authors of functions do.

mod differ;
mod records;
mod replay;
mod report;
mod summary;
mod test;
#[cfg(test)]
mod tests;
mod watch;

use std::io::Write;

use clap::Subcommand;

use super::Failure;

#[derive(Debug, Subcommand)]
pub(super) enum FnCommand {
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
        FnCommand::Test(arguments) => test::test(&arguments, out),
        FnCommand::Replay(arguments) => replay::replay(&arguments, out),
    }
}
