//! `tidegate secret`: works on the data directory, whether the gateway runs or not.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_broker::access::Secret;
use tidegate_runtime::{MAX_SECRET, MIN_SECRET, SecretValue};

use super::Failure;
use super::locate::Place;
use super::passwd::hidden;
use crate::secrets::Vault;
use crate::utc::Utc;

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Set a secret, read from the terminal or from standard input
    #[command(
        after_help = "Examples:\n  tidegate secret set api-key --data-dir /var/lib/tidegate\n  \
                      pass show api-key | tidegate secret set api-key"
    )]
    Set {
        /// The secret's name
        name: String,
        #[command(flatten)]
        vault: VaultArguments,
    },
    /// List the names of all secrets, and when they were set
    #[command(after_help = "Example:\n  tidegate secret ls --json")]
    Ls {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        vault: VaultArguments,
    },
    /// Remove a secret
    #[command(after_help = "Example:\n  tidegate secret rm api-key")]
    Rm {
        /// The secret's name
        name: String,
        #[command(flatten)]
        vault: VaultArguments,
    },
}

#[derive(Debug, Args)]
pub(super) struct VaultArguments {
    #[command(flatten)]
    place: Place,
    /// The key that secrets are encrypted with [default: the systemd credential
    /// tidegate-secrets.key, else secrets.key in the data directory]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

impl VaultArguments {
    fn vault(&self) -> Result<Vault, Failure> {
        Ok(Vault::of(&self.place.data_dir()?, self.key.as_deref()))
    }
}

pub(super) fn execute(command: SecretCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        SecretCommand::Set { name, vault } => {
            let vault = vault.vault()?;
            let value = read_value(&name)?;
            vault.set(&name, &value).map_err(anyhow::Error::from)?;
            writeln!(out, "{name} is set; a running gateway gives it from the next call on")?;
        }
        SecretCommand::Ls { json, vault } => list(&vault.vault()?, json, out)?,
        SecretCommand::Rm { name, vault } => {
            vault.vault()?.remove(&name).map_err(anyhow::Error::from)?;
            writeln!(out, "{name} is removed")?;
        }
    }
    Ok(())
}

fn list(vault: &Vault, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let listed = vault.list().map_err(anyhow::Error::from)?;
    let unix_ms = |at: std::time::SystemTime| {
        at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
    };
    if json {
        let all: Vec<_> = listed
            .iter()
            .map(|one| json!({ "name": one.name, "set_unix_ms": unix_ms(one.set) }))
            .collect();
        writeln!(out, "{}", serde_json::Value::from(all))?;
        return Ok(());
    }
    if listed.is_empty() {
        writeln!(out, "no secrets; set one with `tidegate secret set NAME`")?;
    }
    for one in listed {
        writeln!(out, "{}  set {}", one.name, Utc(unix_ms(one.set)))?;
    }
    Ok(())
}

/// From the terminal, not shown, or all of standard input but for a line end behind it.
fn read_value(name: &str) -> Result<SecretValue, Failure> {
    let stdin = io::stdin();
    let bytes = if stdin.is_terminal() {
        hidden(&format!("Value of {name}: "))?.into_bytes()
    } else {
        let mut bytes = Vec::new();
        let mut limited = stdin.lock().take(MAX_SECRET as u64 + 3);
        limited.read_to_end(&mut bytes).context("cannot read the value")?;
        bytes
    };
    let bytes = Secret::from(bytes);
    value_of(bytes.expose())
}

fn value_of(bytes: &[u8]) -> Result<SecretValue, Failure> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    SecretValue::new(bytes.to_vec()).ok_or_else(|| {
        let text =
            format!("a value of {} bytes; allowed: {MIN_SECRET} to {MAX_SECRET}", bytes.len());
        Failure::Wrong(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_what_comes_but_for_one_line_end() {
        for (given, value) in [
            ("abcd", "abcd"),
            ("abcd\n", "abcd"),
            ("abcd\r\n", "abcd"),
            (" ab\ncd\n\n", " ab\ncd\n"),
        ] {
            assert_eq!(value_of(given.as_bytes()).unwrap().expose(), value.as_bytes());
        }
        let Failure::Wrong(text) = value_of(b"abc\n").unwrap_err() else { panic!() };
        assert_eq!(text, "a value of 3 bytes; allowed: 4 to 8192");
    }
}
