//! Where the programs under test are.

use std::path::PathBuf;

/// The `tidegate` binary: `TIDEGATE_BIN`, else beside the directory of this test.
pub(crate) fn tidegate() -> PathBuf {
    let path = match std::env::var_os("TIDEGATE_BIN") {
        Some(path) => PathBuf::from(path),
        None => target().join("tidegate"),
    };
    assert!(
        path.is_file(),
        "the gateway {} is missing: run `cargo xtask test`, or `cargo build -p tidegate`, or set \
         TIDEGATE_BIN",
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
