//! Bearer tokens, in a file of lines `NAME:SHA256` of what `tidegate http token` made.
//!
//! A token is 32 random bytes, so that a plain hash of it cannot be tried out; the file tells
//! nobody a token.

use std::fmt;
use std::path::Path;

use ring::digest::{SHA256, digest};
use ring::hmac;

use crate::hex;
use crate::secret::read_closed;

/// Largest file; a line takes about 80 bytes.
const MAX_FILE: u64 = 1 << 20;
/// Longest name.
const MAX_NAME: usize = 64;

/// The tokens of a file.
pub(crate) struct Tokens {
    /// For comparisons that take the same time wherever two differ.
    key: hmac::Key,
    by_name: Vec<(String, hmac::Tag)>,
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is open to others, or a line is wrong; without anything of its content
    /// but names.
    pub(crate) fn load(file: &Path) -> Result<Tokens, String> {
        let shown = file.display();
        let bytes = read_closed(file, MAX_FILE).map_err(|why| format!("{shown} {why}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown} is not text"))?;
        Tokens::parse(&text).map_err(|why| format!("{shown}: {why}"))
    }

    fn parse(text: &str) -> Result<Tokens, String> {
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| "the system gives no randomness".to_owned())?;
        let mut by_name: Vec<(String, hmac::Tag)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let (number, line) = (index + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let help = "write it with `tidegate http token`";
            let (name, hash) =
                line.split_once(':').ok_or(format!("line {number} is not NAME:HASH; {help}"))?;
            if !is_token_name(name) {
                return Err(format!("line {number} has no name before the colon"));
            }
            let hash = hex::decode(hash).filter(|hash| hash.len() == 32);
            let hash = hash.ok_or(format!("line {number}, {name}: no hash; {help}"))?;
            if by_name.iter().any(|(known, _)| known == name) {
                return Err(format!("line {number}: {name} is there twice"));
            }
            by_name.push((name.to_owned(), hmac::sign(&key, &hash)));
        }
        Ok(Tokens { key, by_name })
    }

    /// Whose token it is. Takes the same time whether it is one or not.
    pub(crate) fn owner(&self, token: &str) -> Option<&str> {
        let hash = digest(&SHA256, token.as_bytes());
        let mut found = None;
        for (name, tag) in &self.by_name {
            if hmac::verify(&self.key, hash.as_ref(), tag.as_ref()).is_ok() {
                found = Some(name.as_str());
            }
        }
        found
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.by_name.len())
    }
}

/// As it stands behind the name.
pub(crate) fn hash_token(token: &str) -> String {
    hex::encode(digest(&SHA256, token.as_bytes()).as_ref())
}

/// Whether `name` may stand before the colon.
pub(crate) fn is_token_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.@".contains(&b);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_an_owner_and_its_file_does_not_tell_it() {
        let line = |name: &str, token: &str| format!("{name}:{}\n", hash_token(token));
        let text = format!("# plant\n\n{}{}", line("panel", "tgt_1"), line("ops", "tgt_2"));
        let tokens = Tokens::parse(&text).unwrap();
        let owners = ["tgt_1", "tgt_2", "tgt_3", ""].map(|token| tokens.owner(token));
        assert_eq!(owners, [Some("panel"), Some("ops"), None, None]);
        assert_eq!((format!("{tokens:?}").as_str(), text.contains("tgt_")), ("Tokens(2)", false));
    }

    #[test]
    fn mistakes_name_the_line_and_no_token() {
        let hash = hash_token("x");
        for (text, expected) in [
            ("panel".to_owned(), "line 1 is not NAME:HASH"),
            (format!(":{hash}"), "line 1 has no name"),
            ("\npanel:hunter2".to_owned(), "line 2, panel: no hash"),
            (format!("a:{hash}\na:{hash}"), "line 2: a is there twice"),
        ] {
            let error = Tokens::parse(&text).unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("hunter2"), "{error}");
        }
    }
}
