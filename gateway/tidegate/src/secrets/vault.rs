//! The secrets on the disk: one file each in `secrets`, called by its name, encrypted with the key
//! in `secrets.key`, or in the credential `tidegate-secrets.key` of systemd.
//!
//! A file is the magic `TGS1`, a nonce (12 bytes), and ChaCha20-Poly1305 (RFC 8439) of the value,
//! with the magic and the name as associated data: a file under another name is refused.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use tidegate_broker::access::Secret;
use tidegate_runtime::{MAX_SECRET, SecretValue};

use crate::config::is_name;
use crate::data_dir::make_directory;
use crate::secret::read_closed;

/// Name of the directory in the data directory.
const DIRECTORY: &str = "secrets";
/// Name of the key's file in the data directory.
const KEY_FILE: &str = "secrets.key";
/// Name of the credential that may hold the key.
const CREDENTIAL: &str = "tidegate-secrets.key";
const KEY_BYTES: usize = 32;
const MAGIC: &[u8; 4] = b"TGS1";
/// Longest file: magic, nonce, value, tag.
const MAX_FILE: u64 = (4 + NONCE_LEN + MAX_SECRET + 16) as u64;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Vault {
    directory: PathBuf,
    key_file: PathBuf,
}

/// Why a secret cannot be read or written; without anything of its value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VaultError {
    #[error("\"{0}\" is no name of a secret; allowed: 1 to 64 of A-Z a-z 0-9 _ -")]
    Name(String),
    #[error("there is no secret \"{0}\"")]
    Unknown(String),
    #[error("{path} {problem}")]
    Key { path: PathBuf, problem: String },
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{0} is damaged, or encrypted with another key; set the secret again")]
    Damaged(PathBuf),
    #[error("the system gives no randomness: {0}")]
    Random(io::Error),
}

/// A secret that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// When it was set.
    pub(crate) set: SystemTime,
}

impl Vault {
    /// That of a data directory. The key is in the file that is named, else in the credential of
    /// systemd where there is one, else in the data directory.
    pub(crate) fn of(data_dir: &Path, key_file: Option<&Path>) -> Vault {
        let credential = std::env::var_os("CREDENTIALS_DIRECTORY")
            .map(|directory| Path::new(&directory).join(CREDENTIAL))
            .filter(|file| file.exists());
        let key_file = key_file.map(Path::to_owned).or(credential);
        let key_file = key_file.unwrap_or_else(|| data_dir.join(KEY_FILE));
        Vault { directory: data_dir.join(DIRECTORY), key_file }
    }

    /// The directory with the files; it changes whenever a secret is set or removed.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it has a secret of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        is_name(name) && self.directory.join(name).is_file()
    }

    /// The value of a secret; `None` when there is none of this name.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub(crate) fn get(&self, name: &str) -> Result<Option<SecretValue>, VaultError> {
        let path = self.file(name)?;
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_closed(&path, MAX_FILE)
            .map_err(|problem| VaultError::Key { path: path.clone(), problem })?;
        let damaged = || VaultError::Damaged(path.clone());
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        if magic != MAGIC {
            return Err(damaged());
        }
        let (nonce, mut sealed) = (Nonce::assume_unique_for_key(*nonce), rest.to_vec());
        let opened = self.key()?.open_in_place(nonce, associated(name), &mut sealed);
        let length = opened.map_err(|_| damaged())?.len();
        // Overwritten when it goes, as the value is.
        let plain = Secret::from(sealed);
        SecretValue::new(plain.expose()[..length].to_vec()).map(Some).ok_or_else(damaged)
    }

    /// Sets a secret: at once and whole, or not at all. The first one makes the key.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub(crate) fn set(&self, name: &str, value: &SecretValue) -> Result<(), VaultError> {
        let path = self.file(name)?;
        let failed = |path: &Path, error| VaultError::Io { path: path.to_owned(), error };
        make_directory(&self.directory).map_err(|error| failed(&self.directory, error))?;
        give_to_owner(&self.directory).map_err(|error| failed(&self.directory, error))?;
        self.make_key()?;
        let mut sealed = value.expose().to_vec();
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        let sealing = self.key()?.seal_in_place_append_tag(unique, associated(name), &mut sealed);
        sealing.map_err(|_| VaultError::Damaged(path.clone()))?;
        let bytes = [&MAGIC[..], &nonce, &sealed].concat();
        // No name of a secret has a dot.
        let new = self.directory.join(format!("{name}.new"));
        write_closed(&new, &bytes).map_err(|error| failed(&new, error))?;
        fs::rename(&new, &path).map_err(|error| failed(&path, error))?;
        sync(&self.directory).map_err(|error| failed(&self.directory, error))
    }

    /// Removes a secret.
    ///
    /// # Errors
    /// See [`VaultError`].
    pub(crate) fn remove(&self, name: &str) -> Result<(), VaultError> {
        let path = self.file(name)?;
        match fs::remove_file(&path).and_then(|()| sync(&self.directory)) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(VaultError::Unknown(name.to_owned()))
            }
            Err(error) => Err(VaultError::Io { path, error }),
        }
    }

    /// All secrets, by name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<Listed>, VaultError> {
        let failed = |error| VaultError::Io { path: self.directory.clone(), error };
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_name(&name) {
                let set = entry.metadata().and_then(|about| about.modified()).map_err(failed)?;
                found.push(Listed { name, set });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn file(&self, name: &str) -> Result<PathBuf, VaultError> {
        if !is_name(name) {
            return Err(VaultError::Name(name.to_owned()));
        }
        Ok(self.directory.join(name))
    }

    fn key(&self) -> Result<LessSafeKey, VaultError> {
        let wrong = |problem: String| VaultError::Key { path: self.key_file.clone(), problem };
        let bytes = read_closed(&self.key_file, KEY_BYTES as u64).map_err(wrong)?;
        let bytes = Secret::from(bytes);
        let key = UnboundKey::new(&CHACHA20_POLY1305, bytes.expose());
        let key = key.map_err(|_| wrong(format!("has no key of {KEY_BYTES} bytes")))?;
        Ok(LessSafeKey::new(key))
    }

    /// Makes the key, unless there is one. It never replaces one: what it encrypts could not be
    /// read any more.
    fn make_key(&self) -> Result<(), VaultError> {
        if self.key_file.exists() {
            return Ok(());
        }
        if !self.list()?.is_empty() {
            let problem = "is not there, and secrets are encrypted with it; bring it back, or \
                           remove them"
                .to_owned();
            return Err(VaultError::Key { path: self.key_file.clone(), problem });
        }
        let mut bytes = vec![0; KEY_BYTES];
        random(&mut bytes)?;
        let key = Secret::from(bytes);
        let failed = |error| VaultError::Io { path: self.key_file.clone(), error };
        write_closed(&self.key_file, key.expose()).map_err(failed)?;
        sync(self.key_file.parent().unwrap_or(Path::new("."))).map_err(failed)
    }
}

fn associated(name: &str) -> Aad<Vec<u8>> {
    Aad::from([&MAGIC[..], name.as_bytes()].concat())
}

fn random(bytes: &mut [u8]) -> Result<(), VaultError> {
    let mut source = File::open("/dev/urandom").map_err(VaultError::Random)?;
    source.read_exact(bytes).map_err(VaultError::Random)
}

/// Writes a new file, for the owner of its directory alone.
fn write_closed(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let _ = fs::remove_file(file);
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    open.write_all(bytes)?;
    if let Some(directory) = file.parent() {
        let about = fs::metadata(directory)?;
        // Only root may give a file away; then a daemon of another user can still read it.
        let _ = fchown(&open, Some(about.uid()), Some(about.gid()));
    }
    open.sync_all()
}

/// A directory that root has made is its data directory's owner's.
fn give_to_owner(directory: &Path) -> io::Result<()> {
    let Some(above) = directory.parent() else { return Ok(()) };
    let (own, above) = (fs::metadata(directory)?, fs::metadata(above)?);
    if (own.uid(), own.gid()) != (above.uid(), above.gid()) {
        let _ = fchown(&File::open(directory)?, Some(above.uid()), Some(above.gid()));
    }
    Ok(())
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes().to_vec()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_secret_is_set_replaced_listed_and_removed_in_closed_files() {
        let scratch = Scratch::new();
        let vault = Vault::of(scratch.path(), None);
        assert_eq!((vault.list().unwrap(), vault.get("api-key").unwrap()), (Vec::new(), None));
        vault.set("api-key", &value("hunter2!")).unwrap();
        vault.set("other", &value("another one")).unwrap();
        vault.set("api-key", &value("hunter3!")).unwrap();
        assert_eq!(vault.get("api-key").unwrap(), Some(value("hunter3!")));
        let names: Vec<String> = vault.list().unwrap().into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["api-key", "other"]);
        assert_eq!(mode(&scratch.path().join("secrets")), 0o700);
        for file in ["secrets.key", "secrets/api-key", "secrets/other"] {
            let path = scratch.path().join(file);
            assert_eq!(mode(&path), 0o600, "{file}");
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(6).any(|part| part == b"hunter"), "{file}");
        }
        vault.remove("api-key").unwrap();
        assert_eq!((vault.has("api-key"), vault.has("other")), (false, true));
        let error = vault.remove("api-key").unwrap_err().to_string();
        assert_eq!(error, "there is no secret \"api-key\"");
        assert!(vault.set("../x", &value("hunter2!")).is_err());
    }

    #[test]
    fn what_was_changed_renamed_or_encrypted_with_another_key_is_refused() {
        let scratch = Scratch::new();
        let vault = Vault::of(scratch.path(), None);
        vault.set("a", &value("hunter2!")).unwrap();
        let file = scratch.path().join("secrets/a");
        let good = fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&file, bad).unwrap();
            let error = vault.get("a").unwrap_err().to_string();
            assert!(error.contains("damaged") && !error.contains("hunter"), "byte {at}: {error}");
        }
        for length in [0, 3, 15, 31, good.len() - 1] {
            fs::write(&file, &good[..length]).unwrap();
            assert!(vault.get("a").is_err(), "{length} bytes");
        }
        fs::write(&file, &good).unwrap();
        fs::copy(&file, scratch.path().join("secrets/b")).unwrap();
        assert!(vault.get("b").is_err(), "under another name");
        let key = scratch.path().join("secrets.key");
        fs::write(&key, [7; 32]).unwrap();
        assert!(vault.get("a").unwrap_err().to_string().contains("another key"));
        fs::remove_file(&key).unwrap();
        let lost = vault.set("c", &value("hunter2!")).unwrap_err().to_string();
        assert!(lost.contains("bring it back"), "{lost}");
    }

    #[test]
    fn a_key_that_others_may_read_is_not_used() {
        let scratch = Scratch::new();
        let key = scratch.path().join("elsewhere.key");
        let vault = Vault::of(scratch.path(), Some(&key));
        vault.set("a", &value("hunter2!")).unwrap();
        assert!(!scratch.path().join("secrets.key").exists());
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = vault.get("a").unwrap_err().to_string();
        assert!(error.contains("elsewhere.key has mode 0644"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, b"short").unwrap();
        assert!(vault.get("a").unwrap_err().to_string().contains("no key of 32 bytes"));
    }
}
