//! `cargo xtask test`: everything that CI checks.

use crate::dist::proof;
use crate::progress::{captured, show};
use crate::workspace::Workspace;
use crate::{clients, debian, device, emulator, guide, launch, templates, wasm};
use anyhow::{Context, Result};
use std::fmt;
use std::path::Path;
use std::process::{Command, ExitCode, Output};

/// The S3 server of the process tests, which somebody else wrote: it takes more than two minutes of
/// two processors to build, so it is built only where [`WITH_S3`] is set, and its test is skipped
/// elsewhere.
const S3: &str = "tidegate-s3";
const WITH_S3: &str = "TIDEGATE_WITH_S3";

/// The gateway's sinks as features: none, and each without the others.
const SINKS: &[(&str, &str)] = &[
    ("cargo clippy, no sink but MQTT", ""),
    ("cargo clippy, the HTTPS sink alone", "tidegate/sink-http"),
    ("cargo clippy, the NATS sink alone", "tidegate/sink-nats"),
    ("cargo clippy, the S3 sink alone", "tidegate/sink-s3"),
];

/// The main job from end to end.
pub(crate) const DEMO: &[&str] = &["demo", "--seconds", "30"];
const SOAK: &[&str] = &["soak", "--minutes", "3"];

/// Sets up, builds, checks and tests. All steps run, even after one has failed, so that one
/// round shows everything.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    debian::ensure(&[
        ("mosquitto", "mosquitto"),
        ("mosquitto_pub", "mosquitto-clients"),
        ("openssl", "openssl"),
        // Between QEMU's network and the gateway.
        ("socat", "socat"),
        // Images for the guide for firmware.
        ("arm-none-eabi-objcopy", "binutils-arm-none-eabi"),
        // For the rules of alerts, and the format of /metrics.
        ("promtool", "prometheus"),
    ])?;
    debian::ensure(debian::SINKS)?;
    if debian::is_root() {
        // For the power cuts; others than root cannot mount, and skip them.
        debian::ensure(&[("mkfs.ext4", "e2fsprogs"), ("mount", "mount")])?;
        // With Erlang it is 55 MB, for one test, which others than root may skip.
        debian::ensure(&[("rabbitmq-server", "rabbitmq-server")])?;
    }
    let clients = clients::install(workspace)?;
    let functions = wasm::build(workspace)?;
    let mut failed = Vec::new();
    let mut check = |name: &'static str, command: &mut Command| -> Result<Output> {
        let output = captured(name, command)?;
        if !output.status.success() {
            show(&output);
            failed.push(name);
        }
        Ok(output)
    };
    // This very program, so that a failure is one of the list.
    let mut itself = Command::new(std::env::current_exe()?);
    check("licences, bans and sources of dependencies", itself.arg("dependencies"))?;
    check("cargo fmt", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--exclude", S3, "--all-targets"];
    let strict = ["--", "-D", "warnings"];
    check("cargo clippy", workspace.cargo().args(clippy).args(strict))?;
    for (name, features) in SINKS {
        // The whole workspace, so that all dependencies are those just checked.
        let only = ["--no-default-features", "--features", features];
        check(name, workspace.cargo().args(clippy).args(only).args(strict))?;
    }
    let binaries = ["build", "--package", "tidegate", "--package", "tidegate-rig"];
    let binaries = binaries.iter().chain(&["--package", "tidegate-sink"]);
    check("building the gateway, the rig and the sink", workspace.cargo().args(binaries))?;
    if std::env::var_os(WITH_S3).is_some() {
        check("building the S3 server", workspace.cargo().args(["build", "--package", S3]))?;
    }
    check("the tests of the example functions", &mut function_tests(workspace, &functions, 1)?)?;
    check("the same, handed over together", &mut function_tests(workspace, &functions, 256)?)?;
    guide::follow_quick_start(workspace, &functions)?;
    guide::follow_readme(workspace, &functions)?;
    guide::follow_operator(workspace)?;
    guide::follow_examples(workspace, &functions)?;
    guide::follow_configurations(workspace, &functions)?;
    let templates = as_root(templates::build(workspace), "no templates of functions")?;
    // As root they must be there; for others, the tests of devices are skipped.
    let firmware = as_root(device::firmware(workspace), "no firmware of the examples")?;
    if firmware.is_some() {
        guide::follow_firmware(workspace)?;
    }
    if let Some(mut crates) = as_root(device::crates(workspace), "no crates for devices")? {
        check("the crates for devices, with all features", &mut crates)?;
    }
    let emulator = as_root(emulator::find(workspace), "no emulator of devices")?;
    let riscv = as_root(emulator::find_riscv(workspace), "no emulator of a RISC-V")?;
    if let Some(mut sizes) = as_root(launch::sizes(workspace), "no sizes of programs for devices")?
    {
        check("the flash that devices need", sizes.arg("--check"))?;
    }
    let mut command = tests(workspace, &functions, &clients, arguments);
    if let (Some(firmware), Some(emulator), Some(riscv)) = (firmware, emulator, riscv) {
        command
            .env("TIDEGATE_FIRMWARE", firmware)
            .env("TIDEGATE_QEMU", emulator)
            .env("TIDEGATE_QEMU_RISCV", riscv);
    }
    if let Some(folder) = templates {
        command.env("TIDEGATE_TEMPLATES", folder);
    }
    let output = check("cargo test", &mut command)?;
    let mut results = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_firmware =
        check("cargo test, the firmware's parts", &mut device::host_tests(workspace))?;
    results.push_str(&String::from_utf8_lossy(&of_firmware.stdout));
    let mut count = Count::of(&results);
    count.skip(&String::from_utf8_lossy(&output.stderr));
    // The main job from end to end counts as one test more, here and on each other machine.
    let here = workspace.binary("debug", "tidegate");
    let mut demo = Command::new(std::env::current_exe()?);
    count.add(&check("the demo, 30 s", demo.args(["guide", "demo"]))?);
    for (target, name) in proof::PROVEN {
        let emulated = as_root(proof::emulated(workspace, target), "no gateway for ARM")?;
        if let Some(gateway) = emulated {
            count.add(&check(name, &mut rig(workspace, &functions, &gateway, DEMO))?);
        }
    }
    // With the build of the gateway for arm64 that has just run the demo.
    match guide::to_install() {
        Ok(guides) => {
            let mut itself = Command::new(std::env::current_exe()?);
            count.add(&check("the guides to install and flash", itself.args(guides))?);
        }
        Err(missing) => count.without(&format!("skipped: the guides to install: {missing}")),
    }
    let soak = &mut rig(workspace, &functions, &here, SOAK);
    count.add(&check("2,000 readings a second for 3 minutes, with reloads and cuts", soak)?);
    if !failed.is_empty() {
        eprintln!("failed: {}", failed.join(", "));
    }
    println!("{count}");
    Ok(if failed.is_empty() && count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What root can always have, and others may do without.
fn as_root<T>(found: Result<T>, without: &str) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if debian::is_root() => Err(error),
        Err(error) => {
            eprintln!("{without}: {error:#}");
            Ok(None)
        }
    }
}

/// The tests find the daemon, the functions and the clients by variables, so that they build none.
fn tests(workspace: &Workspace, functions: &Path, clients: &Path, arguments: &[String]) -> Command {
    let mut cargo = workspace.cargo();
    cargo.args(["test", "--all-features", "--no-fail-fast"]);
    if arguments.is_empty() {
        cargo.args(["--workspace", "--exclude", S3]);
    }
    cargo
        .args(arguments)
        .env("TIDEGATE_BIN", workspace.binary("debug", "tidegate"))
        .env("TIDEGATE_RIG", workspace.binary("debug", "tidegate-rig"))
        .env("TIDEGATE_SINK", workspace.binary("debug", "tidegate-sink"))
        .env("TIDEGATE_S3", workspace.binary("debug", S3))
        .env("TIDEGATE_FUNCTIONS", functions)
        .env("TIDEGATE_CLIENTS", clients);
    cargo
}

/// `tidegate fn test` on every example that has tests, so many records at a time.
fn function_tests(workspace: &Workspace, modules: &Path, batch: u16) -> Result<Command> {
    let examples = workspace.root().join("functions/examples");
    let mut folders = Vec::new();
    for entry in
        std::fs::read_dir(&examples).with_context(|| format!("no {}", examples.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut command = Command::new(workspace.binary("debug", "tidegate"));
    command.args(["fn", "test", "--batch", &batch.to_string(), "--modules"]).arg(modules);
    command.args(folders);
    Ok(command)
}

/// The rig with a gateway, on the other binaries that the process tests use.
pub(crate) fn rig(
    workspace: &Workspace,
    functions: &Path,
    gateway: &Path,
    arguments: &[&str],
) -> Command {
    let mut rig = Command::new(workspace.binary("debug", "tidegate-rig"));
    rig.args(arguments)
        .arg("--gateway")
        .arg(gateway)
        .arg("--function")
        .arg(functions.join("threshold.wasm"))
        .arg("--json");
    rig
}

/// Tests, summed over all test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Count {
    /// Adds up lines such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn of(output: &str) -> Self {
        let mut count = Self::default();
        let results = output.lines().filter_map(|line| line.strip_prefix("test result: "));
        for result in results {
            let parts = result.split(['.', ';']).map(str::trim);
            for (number, what) in parts.filter_map(|part| part.split_once(' ')) {
                let Ok(number) = number.parse::<u64>() else { continue };
                match what {
                    "passed" => count.passed += number,
                    "failed" => count.failed += number,
                    "ignored" => count.skipped += number,
                    _ => {} // measured, filtered out: none of them ran or was meant to
                }
            }
        }
        count
    }

    /// A run of the rig counts as one test more.
    fn add(&mut self, output: &Output) {
        if output.status.success() {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// What cannot run on this machine, and why.
    fn without(&mut self, what: &str) {
        eprintln!("{what}");
        self.skipped += 1;
    }

    /// Tests that found that they cannot run on this machine say so on standard error, in lines
    /// such as `skipped: 25 power cuts: ...`; the harness counts them as passed.
    fn skip(&mut self, errors: &str) {
        for line in errors.lines().filter(|line| line.starts_with("skipped: ")) {
            eprintln!("{line}");
            self.skipped += 1;
            self.passed = self.passed.saturating_sub(1);
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn results_of_all_test_binaries_are_added_up() {
        let output = "\nrunning 3 tests\n...\n\
            test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 5 filtered out; finished in 0.21s\n\
            test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s\n";
        let count = Count::of(output);
        assert_eq!(count, Count { passed: 13, failed: 2, skipped: 1 });
        assert_eq!(count.to_string(), "13 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_says_that_it_cannot_run_here_counts_as_skipped() {
        let mut count = Count { passed: 3, failed: 0, skipped: 1 };
        count.skip("     Running tests/all\nskipped: 25 power cuts: that needs root\n");
        assert_eq!(count, Count { passed: 2, failed: 0, skipped: 2 });
    }
}
