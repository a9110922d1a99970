//! The command line.

use anyhow::Result;
use std::fmt;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Demo,
    Test,
    Bench,
    Soak,
    World,
    Wasm,
    Firmware,
    Order,
    Book,
    Dist,
    DistCheck,
    Proof,
    Dependencies,
    Image,
    Vm,
    Guide,
}

const COMMANDS: [(&str, Command, &str); 16] = [
    ("demo", Command::Demo, DEMO),
    ("test", Command::Test, TEST),
    ("bench", Command::Bench, BENCH),
    ("soak", Command::Soak, SOAK),
    ("world", Command::World, WORLD),
    ("wasm", Command::Wasm, WASM),
    ("firmware", Command::Firmware, FIRMWARE),
    ("order", Command::Order, ORDER),
    ("book", Command::Book, BOOK),
    ("dist", Command::Dist, DIST),
    ("dist-check", Command::DistCheck, DIST_CHECK),
    ("proof", Command::Proof, PROOF),
    ("dependencies", Command::Dependencies, DEPENDENCIES),
    ("image", Command::Image, IMAGE),
    ("vm", Command::Vm, VM),
    ("guide", Command::Guide, GUIDE),
];

const OVERVIEW: &str = "\
Repository commands.

Usage: cargo xtask COMMAND [ARGUMENTS]

  demo    build everything and show the gateway at work, with an outage in the middle
  test    set up the machine and run every test that CI runs
  bench   side-by-side benchmarks against a peer
  soak    a gateway under load for an hour, reloaded and cut off, judged at the end
  world   seeded simulation of the whole gateway
  wasm    build the example functions to target/functions
  firmware  build the firmware of the examples
  order   put the functions that a running gateway calls together in the binary
  book    make the documentation a book, to read in a browser
  dist    build a release for a machine: binary and Debian package
  dist-check  try a Debian package in a root file system of its machine
  proof   run the main job with the gateway built for ARM, emulated
  dependencies  hold the dependencies against deny.toml
  image   make a card for a board, or an OCI image, with the gateway in it
  vm      start a card in an emulated machine and check the gateway in it from outside
  guide   follow the commands of a page of the documentation

Examples:
  cargo xtask demo --seconds 60 --json
  cargo xtask test
  cargo xtask demo --help
";

const DEMO: &str = "\
Builds the gateway, the rig and the example function, then runs the demo: gateway, embedded
cloud, a proxy that cuts the uplink for a while, and sensors. `--quick` has them built as for tests.

Usage: cargo xtask demo [--quick] [--seconds N] [--json] [ARGUMENTS OF THE RIG]

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

const SOAK: &str = "\
Builds the gateway, the rig and the example function, and loads the gateway with 2,000 readings a
second, while its configuration is read again, functions are replaced and links are cut. Judged: its
memory is flat after the warm-up, its files are closed, its log has no ERROR, and every reading that
it acknowledged has come through once. Exit code 1 when that is not so.

Usage: cargo xtask soak [--minutes N] [--json] [--keep DIR]

Examples:
  cargo xtask soak --minutes 60
  cargo xtask soak --minutes 3 --json
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

const ORDER: &str = "\
Runs the demo with the gateway inside QEMU's user mode, on x86-64, once for each of the two ways in which
compilers name functions, and writes those that were called to gateway/tidegate/order.ld, which the linker
puts together. To be run when `bench footprint` shows that much more of the binary is resident than runs.

Usage: cargo xtask order

Example:
  cargo xtask order
";

const FIRMWARE: &str = "\
Builds the firmware under firmware-examples to target/firmware, prints that folder, and fails when a program takes more
than the budget in its memory.x. Needs the core library for thumbv7em-none-eabihf, thumbv6m-none-eabi and
riscv32imac-unknown-none-elf: of the active toolchain, else by rustup, else from Debian's Rust packages, unpacked
under target/toolchain.

Usage: cargo xtask firmware

Example:
  cargo xtask firmware
";

const BOOK: &str = "\
Makes the pages under docs a book and prints where it begins. Needs mdbook: the one in PATH, else it is
built from crates.io into target/toolchain, which takes some minutes the first time.

Usage: cargo xtask book

Example:
  cargo xtask book
";

const DIST: &str = "\
Builds a release of the gateway for one of the machines in cross/targets.toml to target/dist/TARGET: the
binary with the list of its crates inside, what it is made of (CycloneDX), and their SHA-256 sums. The
compiler is the active toolchain's, where rustup has the target or may add it, else that of Debian's Rust
packages, unpacked under target/toolchain. What the active toolchain compiles for a static target is linked
by cargo-zigbuild where that is installed, all else by Debian's cross compiler. No path and no time of the
build is in what is built.

Usage: cargo xtask dist TARGET [--deb] [--thin]

  --deb    a Debian package as well
  --thin   quicker to build, somewhat larger: to try it, not to ship it

Examples:
  cargo xtask dist aarch64-unknown-linux-musl --deb
  cargo xtask dist armv7-unknown-linux-musleabihf --thin
";

const DIST_CHECK: &str = "\
Builds the Debian package for a machine, has lintian look at it, and tries it in a root file system of that
machine, run by QEMU's emulation of its processor where it is another one: installs it, does the main job
with it, upgrades, removes and purges it.
Takes root and some minutes; `--built` takes the package that is there.

Usage: cargo xtask dist-check [TARGET] [--thin] [--built]

Examples:
  cargo xtask dist-check --thin
  cargo xtask dist-check armv7-unknown-linux-musleabihf --built
";

const PROOF: &str = "\
Builds the gateway for arm64 and armv7 (as `dist --thin` does) and runs the demo with each, by QEMU's
emulation of its processor: everything has to arrive, exactly once. `cargo xtask test` does the same.

Usage: cargo xtask proof [TARGET]

Examples:
  cargo xtask proof
  cargo xtask proof armv7-unknown-linux-musleabihf
";

const DEPENDENCIES: &str = "\
Holds every dependency, those of tests and benchmarks included, against deny.toml: licences, banned
crates, sources. Lists crates that are there in several versions. `cargo deny check` reads the same file,
and looks for advisories besides.

Usage: cargo xtask dependencies

Example:
  cargo xtask dependencies
";

const IMAGE: &str = "\
Makes a card for a board, as a file that is written to an SD card: Debian 12 for arm64, the gateway's
package, and a file on its FAT partition that says what the gateway is called and how it is reached
(docs/guides/flash.md). Or an OCI image with the static binary. Or goes through a card file by file.

Needs apt of Debian 12 (120 MB are fetched at first), fdisk, dosfstools, mtools, e2fsprogs, kmod and
QEMU for ARM; and fakeroot for others than root. As root on Debian what is missing is installed. Needs
3 GB below target/image, and minutes at first, because an emulated machine configures the packages.

Usage: cargo xtask image --board rpi4 [--deb FILE] [--xz]
       cargo xtask image --check FILE
       cargo xtask image --oci [--binary FILE]

  --deb FILE      the gateway's package; else what cargo xtask dist has made last, or makes now
  --xz            compresses the card
  --binary FILE   the gateway, linked statically; else what cargo xtask dist has made

Examples:
  cargo xtask image --board rpi4
  cargo xtask image --check target/dist/tidegate-rpi4.img
";

const VM: &str = "\
Starts a copy of a card in an emulated machine (QEMU, no root needed), with a first-boot file, and checks
from outside: the gateway runs as a service under the id of that file, the demo's counts are right through
an outage of its uplink, and how much memory it takes.

Usage: cargo xtask vm [--image FILE] [--seconds N]

  --image FILE   the card; else target/dist/tidegate-rpi4.img
  --seconds N    how long data flows; else 60

Example:
  cargo xtask vm --seconds 60
";

const GUIDE: &str = "\
Without a name: prints each block of commands in the documentation, and what follows it. `cargo xtask test`
follows them as they stand there, but for those of which the list says why not.

With names of guides: follows their commands.

Usage: cargo xtask guide [NAME...]

Examples:
  cargo xtask guide
  cargo xtask guide package openrc
  cargo xtask guide vm
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

pub(crate) fn find(name: &str) -> Option<(&'static str, Command, &'static str)> {
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
        assert!(error.contains("known are demo, test, ") && error.ends_with(", guide"), "{error}");
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
