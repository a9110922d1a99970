//! The keys of an S3 account: from a file, else from the environment.

use std::fmt;
use std::path::Path;

use crate::uplinks::web::read_secret;

/// Who signs.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) key_id: String,
    pub(super) secret: String,
    /// Only with keys that end by themselves.
    pub(super) session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, ***)", self.key_id)
    }
}

const KEY_ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";
const SESSION_TOKEN: &str = "aws_session_token";

impl Credentials {
    /// Reads `file`, in the form of `~/.aws/credentials`, or the variables `AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`.
    ///
    /// # Errors
    /// What is missing or wrong, without anything secret.
    pub(super) fn read(file: Option<&Path>) -> Result<Credentials, String> {
        match file {
            Some(file) => Credentials::parse(&read_secret(file)?),
            None => Credentials::collect(|name| std::env::var(name.to_ascii_uppercase()).ok())
                .map_err(|name| {
                    format!(
                        "is missing, and so is the variable {}; name a file with the account's keys",
                        name.to_ascii_uppercase()
                    )
                }),
        }
    }

    /// `NAME = VALUE` a line; of several `[sections]` the one called `default`, else the first.
    fn parse(text: &str) -> Result<Credentials, String> {
        let mut section = "";
        let mut entries = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim();
            } else if let Some((name, value)) = line.split_once('=') {
                entries.push((section, name.trim(), value.trim()));
            }
        }
        let has_default = entries.iter().any(|(section, ..)| *section == "default");
        let first = entries.first().map_or("", |(section, ..)| *section);
        let chosen = if has_default { "default" } else { first };
        let value = |wanted: &str| {
            let mut found = entries.iter().filter(|(section, ..)| *section == chosen);
            found.find(|(_, name, _)| *name == wanted).map(|(.., value)| (*value).to_owned())
        };
        Credentials::collect(value).map_err(|name| {
            format!("holds no line \"{name} = ...\" (the form is that of ~/.aws/credentials)")
        })
    }

    /// The name of what is missing otherwise.
    fn collect(value: impl Fn(&str) -> Option<String>) -> Result<Credentials, &'static str> {
        let value = |name| value(name).filter(|value| !value.is_empty());
        Ok(Credentials {
            key_id: value(KEY_ID).ok_or(KEY_ID)?,
            secret: value(SECRET).ok_or(SECRET)?,
            session_token: value(SESSION_TOKEN),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_the_form_that_everybody_uses() {
        let plain = "aws_access_key_id = AKIA\naws_secret_access_key=s3cret/+=\n";
        let found = Credentials::parse(plain).unwrap();
        let expected = ("AKIA", "s3cret/+=", None);
        let parts = |c: &Credentials| (c.key_id.clone(), c.secret.clone(), c.session_token.clone());
        assert_eq!(parts(&found), (expected.0.into(), expected.1.into(), expected.2));
        assert_eq!(format!("{found:?}"), "Credentials(AKIA, ***)");

        let sections = "# ours\n[other]\naws_access_key_id = B\naws_secret_access_key = x\n\
            [default]\naws_access_key_id = A\naws_secret_access_key = y\naws_session_token = z\n";
        let found = Credentials::parse(sections).unwrap();
        assert_eq!(parts(&found), ("A".into(), "y".into(), Some("z".into())));
        let found = Credentials::parse(&sections.replace("[default]", "[more]")).unwrap();
        assert_eq!(parts(&found), ("B".into(), "x".into(), None));
    }

    #[test]
    fn missing_key_is_named_and_no_secret_is_shown() {
        let why = Credentials::parse("aws_secret_access_key = s3cret").unwrap_err();
        assert!(why.contains("aws_access_key_id") && !why.contains("s3cret"), "{why}");
        let why = Credentials::parse("aws_access_key_id = A\naws_secret_access_key =").unwrap_err();
        assert!(why.contains("aws_secret_access_key"), "{why}");
    }
}
