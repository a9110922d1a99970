//! The command line.

use anyhow::Result;
use std::fmt;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Demo,
    Test,
    Bench,
    World,
    Wasm,
    Firmware,
}

const COMMANDS: [(&str, Command, &str); 6] = [
    ("demo", Command::Demo, DEMO),
    ("test", Command::Test, TEST),
    ("bench", Command::Bench, BENCH),
    ("world", Command::World, WORLD),
    ("wasm", Command::Wasm, WASM),
    ("firmware", Command::Firmware, FIRMWARE),
];

const OVERVIEW: &str = "\
Repository commands.

Usage: cargo xtask COMMAND [ARGUMENTS]

  demo    build everything and show the gateway at work, with an outage in the middle
  test    set up the machine and run every test that CI runs
  bench   side-by-side benchmarks against a peer
  world   seeded simulation of the whole gateway
  wasm    build the example functions to target/functions
  firmware  build the firmware of the examples

Examples:
  cargo xtask demo --seconds 60 --json
  cargo xtask test
  cargo xtask demo --help
";

const DEMO: &str = "\
Builds the gateway, the rig and the example function, then runs the demo: gateway, embedded
cloud, a proxy that cuts the uplink for a while, and sensors.

Usage: cargo xtask demo [--seconds N] [--json] [ARGUMENTS OF THE RIG]

Examples:
  cargo xtask demo                       until Ctrl-C
  cargo xtask demo --seconds 60 --json   ends by itself; the last line is a JSON summary
";

const TEST: &str = "\
Sets up the machine (Debian packages as root, else says what to install), builds the functions
and the gateway, checks formatting and lints, and runs all tests. The last line counts them:
\"N passed, N failed, N skipped\".

Usage: cargo xtask test [ARGUMENTS OF cargo test]

Examples:
  cargo xtask test
  cargo xtask test -p tidegate-stream
";

const BENCH: &str = "\
Builds the gateway as it ships (profile `dist`) and runs a benchmark beside a peer in the same run.

Usage: cargo xtask bench [NAME] [--json] [ARGUMENTS OF THE BENCHMARK]

Examples:
  cargo xtask bench broker --json
  cargo xtask bench footprint --json
  cargo xtask bench streams --json
  cargo xtask bench uplink --json
  cargo xtask bench device --json        flash and memory that devices need, time of a verification
  cargo xtask bench serial --json        how much of a serial line is payload
";

const WORLD: &str = "\
Runs the seeded simulation: the gateway's core on a crashable disk, between sensors on bad
connections and upstreams that fall silent. Prints what happened, and for each failure the line
that replays it.

Usage: cargo xtask world --seeds N [--from S] [--bug NAME]
       cargo xtask world --power-cut SEED [--at OPERATION | --points N]

Examples:
  cargo xtask world --seeds 10000
  cargo xtask world --seeds 1 --from 4711            replays one seed
  cargo xtask world --seeds 200 --bug held-acknowledged
                                                     plants a mistake, which must be found
";

const WASM: &str = "\
Builds every function under functions/examples to target/functions/NAME.wasm. Needs std for
wasm32-unknown-unknown: of the active toolchain, else by rustup, else from Debian's Rust
packages, unpacked under target/toolchain.

Usage: cargo xtask wasm

Example:
  cargo xtask wasm
";

const FIRMWARE: &str = "\
Builds the firmware under firmware-examples and prints the folder that it is in. Needs the core library for
thumbv7em-none-eabihf: of the active toolchain, else by rustup, else from Debian's Rust packages, unpacked
under target/toolchain.

Usage: cargo xtask firmware

Example:
  cargo xtask firmware
";

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// Run this with the remaining arguments.
    Run(Command, &'a [String]),
    /// Print this.
    Help(&'static str),
}

/// Something that the user has to do differently, or do first; exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Reads the command line.
pub(crate) fn parse(arguments: &[String]) -> Result<Parsed<'_>> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Usage(format!("no command given\n\n{OVERVIEW}")).into());
    };
    let is_help = |argument: &String| matches!(argument.as_str(), "--help" | "-h");
    if is_help(name) || name == "help" {
        let topic = rest.first().and_then(|topic| find(topic));
        return Ok(Parsed::Help(topic.map_or(OVERVIEW, |(_, _, help)| help)));
    }
    let Some((_, command, help)) = find(name) else {
        let hint = match closest(name) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known are {}", COMMANDS.map(|(known, _, _)| known).join(", ")),
        };
        return Err(Usage(format!("there is no command `{name}`; {hint}")).into());
    };
    if rest.iter().any(is_help) {
        return Ok(Parsed::Help(help));
    }
    Ok(Parsed::Run(command, rest))
}

fn find(name: &str) -> Option<(&'static str, Command, &'static str)> {
    COMMANDS.into_iter().find(|(known, _, _)| *known == name)
}

/// The command that differs by at most two letters.
fn closest(name: &str) -> Option<&'static str> {
    COMMANDS
        .into_iter()
        .map(|(known, _, _)| (distance(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, known)| known)
}

/// Levenshtein distance: letters to insert, remove or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{Command, Parsed, parse};

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_after_the_command_are_passed_on() {
        let line = words("demo --seconds 60 --json");
        assert_eq!(parse(&line).unwrap(), Parsed::Run(Command::Demo, &line[1..]));
    }

    #[test]
    fn an_unknown_command_is_answered_with_the_closest_one() {
        let error = parse(&words("dmeo")).unwrap_err().to_string();
        assert_eq!(error, "there is no command `dmeo`; did you mean `demo`?");
        let error = parse(&words("deploy-all")).unwrap_err().to_string();
        assert!(error.ends_with("known are demo, test, bench, world, wasm, firmware"), "{error}");
    }

    #[test]
    fn help_of_a_command_shows_an_example_and_runs_nothing() {
        for line in ["demo --help", "demo --seconds 3 -h", "help demo"] {
            match parse(&words(line)).unwrap() {
                Parsed::Help(text) => assert!(text.contains("cargo xtask demo --seconds 60")),
                Parsed::Run(..) => panic!("{line} runs something"),
            }
        }
    }
}
