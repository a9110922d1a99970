//! The file with the key that an author signs with: mode 0600, one line
//! `tidegate-signing-key-1 SEED`, the seed in 64 hexadecimal digits. Lines that begin with `#` are
//! for people.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::signature::{SigningKey, show_public};
use crate::hex;
use crate::secret::read_closed;

/// In front of the seed.
const MARK: &str = "tidegate-signing-key-1 ";
/// Largest file.
const MAX_FILE: u64 = 4096;

/// What a key signs; the file says it to people, and nothing else keeps to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyUse {
    /// Function packages.
    Functions,
    /// Firmware releases, or the key sets of devices.
    Firmware,
}

impl KeyUse {
    fn who_trusts(self) -> &'static str {
        match self {
            KeyUse::Functions => "gateway",
            KeyUse::Firmware => "device",
        }
    }
}

/// Makes a key and writes it; a file that is there already stays.
///
/// # Errors
/// The file is there, or cannot be written.
pub(crate) fn write_key(file: &Path, used: KeyUse) -> io::Result<SigningKey> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let key = SigningKey::of_seed(&seed).map_err(io::Error::other)?;
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    let text = format!(
        "# Keep this file secret: who has it can sign for every {} that trusts\n# {}\n\
         {MARK}{}\n",
        used.who_trusts(),
        show_public(key.public()),
        hex::encode(&seed)
    );
    open.write_all(text.as_bytes())?;
    open.sync_all()?;
    Ok(key)
}

/// Reads a key.
///
/// # Errors
/// In words that fit behind the file's name, without anything of the key: it cannot be read, is
/// open to others, or holds no key.
pub(crate) fn read_key(file: &Path) -> Result<SigningKey, String> {
    let about = fs::metadata(file).map_err(|error| format!("cannot be read: {error}"))?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let shown = file.display();
        return Err(format!("has mode {mode:04o}: others may use the key; chmod 600 {shown}"));
    }
    let bytes = read_closed(file, MAX_FILE)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not text".to_owned())?;
    let mut lines = text.lines().map(str::trim).filter(|line| {
        // A comment, or nothing.
        !line.is_empty() && !line.starts_with('#')
    });
    let seed = lines.next().and_then(|line| line.strip_prefix(MARK));
    let seed = seed.and_then(|digits| hex::decode(digits.trim()));
    match (seed, lines.next()) {
        (Some(seed), None) if seed.len() == 32 => SigningKey::of_seed(&seed),
        _ => Err("is not a signing key; make one with `tidegate fn keygen` or `tidegate device \
                   firmware keygen`"
            .to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_new_key_is_closed_to_others_read_again_and_never_overwritten() {
        let scratch = Scratch::new();
        let file = scratch.path().join("team.key");
        let key = write_key(&file, KeyUse::Functions).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_key(&file).unwrap().public(), key.public());
        let again = write_key(&file, KeyUse::Functions).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        let other = write_key(&scratch.path().join("other.key"), KeyUse::Functions).unwrap();
        assert_ne!(other.public(), key.public());
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let scratch = Scratch::new();
        let file = scratch.path().join("team.key");
        write_key(&file, KeyUse::Functions).unwrap();
        for mode in [0o644, 0o660, 0o602, 0o640] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let refused = read_key(&file).unwrap_err();
            assert!(refused.contains("chmod 600"), "{refused}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let scratch = Scratch::new();
        let file = scratch.path().join("team.key");
        write_key(&file, KeyUse::Functions).unwrap();
        let good = fs::read_to_string(&file).unwrap();
        for bad in [
            String::new(),
            good.replace("-1 ", "-2 "),
            good.replacen(MARK, &format!("{MARK}0"), 1),
            good.repeat(2),
        ] {
            fs::write(&file, &bad).unwrap();
            let refused = read_key(&file).unwrap_err();
            assert!(refused.starts_with("is not a signing key; make one with"), "{refused}");
        }
    }
}
