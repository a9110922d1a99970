//! Files with secrets: a token, the keys of an account.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Longest token or key.
#[cfg(any(feature = "web", test))]
const MAX_SECRET: u64 = 64 * 1024;
/// What nobody but the owner, and at most the group for reading, may have.
const OPEN_TO_OTHERS: u32 = 0o037;

/// The text of a file that holds a secret, without white space around it.
///
/// # Errors
/// When it cannot be read, is too long, empty or no text, or when others may read it; in words
/// that fit behind the file's name, and without anything of its content.
#[cfg(any(feature = "web", test))]
pub(crate) fn read_secret(file: &Path) -> Result<String, String> {
    let bytes = read_closed(file, MAX_SECRET)?;
    let text = String::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    match text.trim() {
        "" => Err("is empty".to_owned()),
        secret => Ok(secret.to_owned()),
    }
}

/// The bytes of a file that is closed to others, at most `max` of them. Errors as above.
pub(crate) fn read_closed(file: &Path, max: u64) -> Result<Vec<u8>, String> {
    let mut open = File::open(file).map_err(|error| format!("cannot be read: {error}"))?;
    let about = open.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        return Err("is not a file".to_owned());
    }
    let mode = about.permissions().mode() & 0o777;
    if mode & OPEN_TO_OTHERS != 0 {
        return Err(format!(
            "has mode {mode:04o}: others may read or change the secret; chmod 600 {}",
            file.display()
        ));
    }
    let mut bytes = Vec::new();
    let read = open.by_ref().take(max + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() as u64 > max {
        return Err(format!("is longer than {max} bytes"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[test]
    fn secret_is_read_only_from_a_file_that_is_closed_to_others() {
        let file = std::env::temp_dir().join(format!("tidegate-secret-{}", std::process::id()));
        fs::write(&file, "  s3cret\n").unwrap();
        for (mode, allowed) in [(0o600, true), (0o440, true), (0o644, false), (0o660, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            match read_secret(&file) {
                Ok(secret) => assert!(allowed && secret == "s3cret", "{mode:o}"),
                Err(why) => {
                    assert!(!allowed, "{mode:o}: {why}");
                    assert!(why.contains("chmod 600") && !why.contains("s3cret"), "{why}");
                }
            }
        }
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, " \n").unwrap();
        assert_eq!(read_secret(&file), Err("is empty".to_owned()));
        fs::write(&file, vec![b'x'; 70_000]).unwrap();
        assert_eq!(read_secret(&file), Err("is longer than 65536 bytes".to_owned()));
        fs::remove_file(&file).unwrap();
        assert!(read_secret(&file).unwrap_err().contains("cannot be read"));
    }
}
