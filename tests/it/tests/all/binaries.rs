//! Where the programs under test are.

use std::path::PathBuf;

/// The `tidegate` binary: `TIDEGATE_BIN`, else beside the directory of this test.
pub(crate) fn tidegate() -> PathBuf {
    program("tidegate", "TIDEGATE_BIN")
}

/// The `tidegate-sink` binary: `TIDEGATE_SINK`, else beside the directory of this test.
pub(crate) fn sink() -> PathBuf {
    program("tidegate-sink", "TIDEGATE_SINK")
}

/// The `tidegate-s3` binary: `TIDEGATE_S3`, else beside the directory of this test; `None`, and a
/// word, where it was not built.
pub(crate) fn s3() -> Option<PathBuf> {
    let path = match std::env::var_os("TIDEGATE_S3") {
        Some(path) => PathBuf::from(path),
        None => target().join("tidegate-s3"),
    };
    if !path.is_file() {
        eprintln!("skipped: {} is missing (cargo build -p tidegate-s3)", path.display());
        return None;
    }
    Some(path)
}

/// Where `cargo xtask test` installs MQTT clients: `TIDEGATE_CLIENTS`, else `target/clients`.
pub(crate) fn clients() -> PathBuf {
    match std::env::var_os("TIDEGATE_CLIENTS") {
        Some(path) => PathBuf::from(path),
        None => target().join("../clients"),
    }
}

fn program(name: &str, variable: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => target().join(name),
    };
    assert!(
        path.is_file(),
        "the program {} is missing: run `cargo xtask test`, or `cargo build -p {name}`, or set \
         {variable}",
        path.display()
    );
    path
}

/// A function's module: in the directory `TIDEGATE_FUNCTIONS`, else where `cargo xtask test` or
/// cargo itself puts it.
pub(crate) fn function(name: &str) -> PathBuf {
    let file = format!("{name}.wasm");
    let candidates = match std::env::var_os("TIDEGATE_FUNCTIONS") {
        Some(directory) => vec![PathBuf::from(directory).join(&file)],
        None => {
            let root = target().join("..");
            let crate_file = format!("tidegate_{name}.wasm");
            vec![
                root.join("functions").join(&file),
                root.join("wasm32-unknown-unknown/guest").join(crate_file),
            ]
        }
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => path.clone(),
        None => panic!(
            "the function {file} is missing (looked at {candidates:?}): run `cargo xtask test`, \
             or set TIDEGATE_FUNCTIONS to the directory that holds it"
        ),
    }
}

/// `target/debug` for a test that lies in `target/debug/deps`.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned()
}
