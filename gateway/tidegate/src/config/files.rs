//! What the configuration says about this machine: directories and files that must be there.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustix::fs::Access;

/// Longest path of a Unix socket on Linux, without the terminating NUL (`unix(7)`).
const MAX_SOCKET_PATH: usize = 107;
/// Largest module file; parsing costs a multiple of it in memory.
pub(super) const MAX_MODULE_BYTES: u64 = 8 << 20;

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

/// Checks that a module is there and is a core WebAssembly module by its header. Whether it
/// has what a function needs is checked when it is compiled.
pub(super) fn check_module(path: &Path) -> Result<(), String> {
    let mut header = [0; 8];
    let length = readable(path)?;
    if length > MAX_MODULE_BYTES {
        return Err(format!("{length} bytes; allowed: at most {MAX_MODULE_BYTES}"));
    }
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || header[..4] != *b"\0asm" {
        return Err("not a WebAssembly module; build it for wasm32-unknown-unknown".to_owned());
    }
    if header[4..] != [1, 0, 0, 0] {
        let help = "build a core module for wasm32-unknown-unknown";
        return Err(format!("a component or an unknown version of WebAssembly; {help}"));
    }
    Ok(())
}

/// Checks that a file of certificates is there and looks like PEM.
pub(super) fn check_certificates(path: &Path) -> Result<(), String> {
    /// More than the certificates of any system.
    const MAX: u64 = 4 << 20;
    let length = readable(path)?;
    if length > MAX {
        return Err(format!("{length} bytes; allowed: at most {MAX}"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    if !bytes.windows(marker.len()).any(|window| window == marker) {
        return Err("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    Ok(())
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
