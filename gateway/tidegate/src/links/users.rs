//! Users and their hashed passwords, in a file of lines `name:$argon2id$...`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};

use crate::secret::read_closed;

/// Largest file; a line takes about 120 bytes.
const MAX_FILE: u64 = 8 << 20;
/// Longest name of a user.
const MAX_NAME: usize = 256;

/// 7 MiB and 5 passes, one of the equivalent settings of OWASP's password storage guide, and the
/// one with the least memory: a gateway has little.
const MEMORY_KIB: u32 = 7 * 1024;
const PASSES: u32 = 5;

/// What a hash in the file may cost at most.
const MAX_MEMORY_KIB: u32 = 64 * 1024;
const MAX_PASSES: u32 = 32;
const MAX_LANES: u32 = 4;

/// The users of a file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Users {
    by_name: BTreeMap<String, String>,
    /// What the password of an unknown user is compared with, so that it takes as long.
    decoy: String,
}

impl Users {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is open to others, or a line is wrong; without anything of its content
    /// but names.
    pub(crate) fn load(file: &Path) -> Result<Users, String> {
        let shown = file.display();
        let bytes = read_closed(file, MAX_FILE).map_err(|why| format!("{shown} {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not text"))?;
        Users::parse(&text).map_err(|why| format!("{shown}: {why}"))
    }

    fn parse(text: &str) -> Result<Users, String> {
        let mut by_name = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, hash) =
                line.split_once(':').ok_or(format!("line {number} is not NAME:HASH"))?;
            if !is_user_name(name) {
                return Err(format!("line {number} has no user name before the colon"));
            }
            check_hash(hash).map_err(|why| format!("line {number}, user {name}: {why}"))?;
            if by_name.insert(name.to_owned(), hash.to_owned()).is_some() {
                return Err(format!("line {number}: user {name} is there twice"));
            }
        }
        let decoy = match by_name.values().next() {
            Some(hash) => decoy_like(hash),
            None => hash_password(b"nobody").ok(),
        };
        Ok(Users { by_name, decoy: decoy.ok_or("cannot make a hash to compare with")? })
    }

    /// The hash of a user's password.
    pub(crate) fn hash(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    /// Something that no password matches, at the cost of the others.
    pub(crate) fn decoy(&self) -> &str {
        &self.decoy
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

/// Hashes are secrets too: they can be tried out elsewhere.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Users({})", self.len())
    }
}

/// Whether `name` may stand before the colon.
pub(crate) fn is_user_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && !name.starts_with('#')
        && !name.contains(|c: char| c == ':' || c.is_control())
        && name.trim() == name
}

/// Hashes a password with a fresh salt, as a PHC string.
///
/// # Errors
/// The system gives no randomness.
pub(crate) fn hash_password(password: &[u8]) -> Result<String, String> {
    let wrong = |error: argon2::Error| error.to_string();
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(wrong)?;
    hash_with(params, password)
}

fn hash_with(params: Params, password: &[u8]) -> Result<String, String> {
    let mut salt = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut salt))
        .map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
    let salt = SaltString::encode_b64(&salt).map_err(|error| error.to_string())?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password, &salt).map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// Whether a password is the one that was hashed. The comparison takes the same time wherever
/// they differ.
pub(crate) fn matches(hash: &str, password: &[u8]) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

/// A hash of something random with the parameters of another.
fn decoy_like(hash: &str) -> Option<String> {
    let params = Params::try_from(&PasswordHash::new(hash).ok()?).ok()?;
    hash_with(params, b"nobody").ok()
}

fn check_hash(text: &str) -> Result<(), String> {
    const HELP: &str = "write it with `tidegate mqtt passwd`";
    let hash = PasswordHash::new(text).map_err(|_| format!("no hash; {HELP}"))?;
    if hash.algorithm.as_str() != "argon2id" || hash.hash.is_none() {
        return Err(format!("not hashed with argon2id; {HELP}"));
    }
    let params = Params::try_from(&hash).map_err(|_| format!("unknown parameters; {HELP}"))?;
    if params.m_cost() > MAX_MEMORY_KIB
        || params.t_cost() > MAX_PASSES
        || params.p_cost() > MAX_LANES
    {
        return Err(format!(
            "the hash costs too much; allowed: m at most {MAX_MEMORY_KIB}, t {MAX_PASSES}, \
             p {MAX_LANES}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_matches_its_own_hash_and_no_other() {
        let hash = hash_password(b"correct").unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{hash}");
        assert!(matches(&hash, b"correct"));
        assert!(!matches(&hash, b"wrong") && !matches(&hash, b""));
        assert_ne!(hash, hash_password(b"correct").unwrap(), "a salt of its own each time");
    }

    #[test]
    fn users_are_read_line_by_line() {
        let hash = hash_password(b"pw").unwrap();
        let users = Users::parse(&format!("# plant\n\nann:{hash}\nbob@site:{hash}\n")).unwrap();
        assert_eq!(users.len(), 2);
        assert_eq!(users.hash("bob@site"), Some(hash.as_str()));
        assert_eq!(users.hash("eve"), None);
        assert!(!matches(users.decoy(), b"pw") && !matches(users.decoy(), b""));
        assert!(!format!("{users:?}").contains("argon2"));
    }

    #[test]
    fn mistakes_name_the_line_and_no_secret() {
        let hash = hash_password(b"pw").unwrap();
        let other = hash.replace("argon2id", "argon2i");
        let costly = hash.replace("m=7168", "m=7168000");
        for (text, expected) in [
            ("ann".to_owned(), "line 1 is not NAME:HASH"),
            (format!(":{hash}"), "line 1 has no user name"),
            ("ann:hunter2".to_owned(), "line 1, user ann: no hash"),
            (format!("\nann:{other}"), "line 2, user ann: not hashed with argon2id"),
            (format!("ann:{costly}"), "line 1, user ann: the hash costs too much"),
            (format!("ann:{hash}\nann:{hash}"), "line 2: user ann is there twice"),
        ] {
            let error = Users::parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("hunter2") && !error.contains(&hash[30..]), "{error}");
        }
    }
}
