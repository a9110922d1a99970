//! `tidegate http token`

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use anyhow::Context;

use super::Failure;
use super::passwd::rewrite;
use crate::hex;
use crate::routes::{Tokens, hash_token, is_token_name};

/// In front of each token, so that one that turns up somewhere is known for what it is.
const MARK: &str = "tgt_";

/// Makes a token, shows it, and puts its hash into a file; or takes a name out of it.
pub(super) fn token(
    name: &str,
    file: &Path,
    remove: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !is_token_name(name) {
        let allowed = "1 to 64 of A-Z a-z 0-9 - _ . @";
        return Err(Failure::Wrong(format!("\"{name}\" is no name; allowed: {allowed}")));
    }
    let check = |file: &Path| Tokens::load(file).map(drop);
    if remove {
        if !rewrite(file, name, None, check)? {
            return Err(anyhow::anyhow!("{}: there is no {name}", file.display()).into());
        }
        writeln!(out, "{name} is removed; a running gateway notices at once")?;
        return Ok(());
    }
    let token = new_token()?;
    let replaced = rewrite(file, name, Some(&format!("{name}:{}", hash_token(&token))), check)?;
    let done = if replaced { "has a new token, the old one is no more" } else { "is added" };
    writeln!(out, "{token}")?;
    writeln!(out, "{name} {done}; the token is not shown again")?;
    Ok(())
}

fn new_token() -> anyhow::Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{MARK}{}", hex::encode(&bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_token_is_shown_once_replaced_and_removed() {
        let scratch = Scratch::new();
        let file = scratch.path().join("tokens");
        let make = |name: &str| {
            let mut out = Vec::new();
            token(name, &file, false, &mut out).unwrap();
            String::from_utf8(out).unwrap().lines().next().unwrap().to_owned()
        };
        let (first, other, second) = (make("panel"), make("ops"), make("panel"));
        let tokens = Tokens::load(&file).unwrap();
        let owners = [&first, &other, &second].map(|token| tokens.owner(token));
        assert_eq!(owners, [None, Some("ops"), Some("panel")]);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&second) && second.starts_with(MARK), "{text}");
        token("panel", &file, true, &mut Vec::new()).unwrap();
        assert!(token("panel", &file, true, &mut Vec::new()).is_err());
        assert!(matches!(token("a:b", &file, false, &mut Vec::new()), Err(Failure::Wrong(_))));
        assert_eq!(Tokens::load(&file).unwrap().owner(&second), None);
    }
}
