//! What the configuration says about this machine: directories and files that must be there.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::Access;
use tidegate_runtime::{Limits, Module};

/// Longest path of a Unix socket on Linux, without the terminating NUL (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;

/// Checks that the data directory can be used, without making it.
pub(super) fn check_data_dir(path: &Path, socket: &str) -> Result<(), String> {
    let length = path.join(socket).as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let most = MAX_SOCKET_PATH - socket.len() - 1;
        return Err(format!("too long for the administration socket in it; allowed: {most} bytes"));
    }
    let existing = path.ancestors().find(|p| p.as_os_str().is_empty() || p.exists());
    let existing = match existing {
        Some(found) if !found.as_os_str().is_empty() => found,
        _ => Path::new("."),
    };
    if !existing.is_dir() {
        return Err(format!("{} is not a directory", existing.display()));
    }
    rustix::fs::access(existing, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
        format!(
            "cannot write to {}: {error}; create it for the user that runs tidegate, or choose \
             another",
            existing.display()
        )
    })
}

/// Compiles a module as the daemon will, and throws the result away.
pub(super) fn check_module(path: &Path, limits: &Limits) -> Result<(), String> {
    let length = readable(path)?;
    if length > limits.module_bytes as u64 {
        return Err(format!("{length} bytes; allowed: at most {}", limits.module_bytes));
    }
    let wasm = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    Module::compile(&wasm, limits).map(drop).map_err(|error| error.to_string())
}

/// The length of a file that can be read.
fn readable(path: &Path) -> Result<u64, String> {
    let shown = path.display();
    let metadata = fs::metadata(path).map_err(|error| format!("{shown}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    File::open(path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    Ok(metadata.len())
}
