//! The dependency graph as it really resolves: arrows point one way, and nothing that does I/O
//! reaches a core.

use std::collections::BTreeSet;
use std::process::Command;

/// Each crate of ours with the crates of ours that it may use, directly or not.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tidegate-broker", &[]),
    ("tidegate-stream", &[]),
    ("tidegate-wire", &[]),
    ("tidegate-link", &["tidegate-wire"]),
    ("tidegate-boot", &["tidegate-wire"]),
    ("tidegate-agent", &["tidegate-boot", "tidegate-wire"]),
    ("tidegate-mqtt", &["tidegate-link", "tidegate-wire"]),
    ("tidegate-patch", &[]),
    ("tidegate-telemetry", &["tidegate-link", "tidegate-mqtt", "tidegate-wire"]),
    ("tidegate-embedded-io", &["tidegate-link", "tidegate-mqtt", "tidegate-wire"]),
    (
        "tidegate-embassy",
        &["tidegate-embedded-io", "tidegate-link", "tidegate-mqtt", "tidegate-wire"],
    ),
    ("tidegate-abi", &[]),
    ("tidegate-guest", &["tidegate-abi"]),
    ("tidegate-fixtures", &[]),
    ("tidegate-runtime", &["tidegate-abi", "tidegate-guest"]),
    ("tidegate-uplink", &["tidegate-stream", "tidegate-wire"]),
    ("tidegate-firmware", &["tidegate-wire"]),
    (
        "tidegate-flow",
        &[
            "tidegate-abi",
            "tidegate-broker",
            "tidegate-firmware",
            "tidegate-stream",
            "tidegate-uplink",
            "tidegate-wire",
        ],
    ),
    (
        "tidegate-world",
        &[
            "tidegate-abi",
            "tidegate-agent",
            "tidegate-boot",
            "tidegate-broker",
            "tidegate-device-sim",
            "tidegate-firmware",
            "tidegate-flow",
            "tidegate-guest",
            "tidegate-link",
            "tidegate-mqtt",
            "tidegate-stream",
            "tidegate-telemetry",
            "tidegate-threshold",
            "tidegate-uplink",
            "tidegate-wire",
        ],
    ),
];

/// Crates that do I/O, or are heavy: only the shell and the function runtime may link them.
const SHELL_ONLY: &[&str] =
    &["tokio", "mio", "rustls", "wasmi", "clap", "axum", "hyper", "rumqttc", "socket2", "rustix"];

/// Names of all crates that `package` links, itself left out.
fn linked_by(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", package])
        .output()
        .expect("cargo tree runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != package && !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn crates_of_ours_depend_in_one_direction_only() {
    for (package, allowed) in ALLOWED {
        let ours: Vec<String> =
            linked_by(package).into_iter().filter(|name| name.starts_with("tidegate")).collect();
        for used in &ours {
            assert!(allowed.contains(&used.as_str()), "{package} must not use {used}");
        }
    }
}

#[test]
fn nothing_that_does_io_reaches_a_core() {
    let cores =
        ALLOWED.iter().map(|(package, _)| *package).filter(|name| *name != "tidegate-runtime");
    for package in cores {
        let linked = linked_by(package);
        for heavy in SHELL_ONLY {
            assert!(!linked.contains(*heavy), "{package} links {heavy}");
        }
    }
}
