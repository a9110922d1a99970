//! Where things are, and how to call cargo.

use crate::cli::Usage;
use anyhow::{Context, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// This repository.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that CARGO_TARGET_DIR and the configuration count.
    pub(crate) fn find() -> Result<Self> {
        // Known from the build: xtask is always run from its own source tree.
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = here.ancestors().nth(2).context("xtask is not in cross/xtask")?.to_owned();
        let output = cargo()
            .current_dir(&root)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata = String::from_utf8(output.stdout).context("cargo metadata is not text")?;
        let target = string_at(&metadata, "target_directory")
            .context("cargo metadata names no target_directory")?;
        Ok(Self { root, target: target.into() })
    }

    /// The root of the repository.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo builds to.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The cargo that runs this, in the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The time that everything built here bears, in seconds since 1970: `SOURCE_DATE_EPOCH`, else that of
    /// the commit. The same sources bear the same time wherever and whenever they are built.
    pub(crate) fn source_date_epoch(&self) -> Result<u64> {
        if let Some(set) = env::var_os("SOURCE_DATE_EPOCH") {
            let set = set.to_string_lossy();
            return set.parse().with_context(|| {
                format!("SOURCE_DATE_EPOCH=\"{set}\" is no number of seconds since 1970")
            });
        }
        let mut git = Command::new("git");
        git.args(["log", "-1", "--format=%ct"]).current_dir(&self.root);
        let output = git.output().ok().filter(|output| output.status.success());
        let time =
            output.and_then(|output| String::from_utf8(output.stdout).ok()?.trim().parse().ok());
        time.ok_or_else(|| {
            let text = "git does not tell the time of the commit here; set SOURCE_DATE_EPOCH to the time of the sources, in seconds since 1970";
            Usage(text.to_owned()).into()
        })
    }

    /// The commit that is checked out, with `-dirty` behind it where files differ from it; none where git does
    /// not tell.
    pub(crate) fn commit(&self) -> Option<String> {
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]);
        let output = git.current_dir(&self.root).output().ok()?;
        let told = output.status.success().then_some(output.stdout)?;
        Some(String::from_utf8(told).ok()?.trim().to_owned())
    }

    /// Whether any of these files and folders is another one than it was in a commit, or the commit is not
    /// known here.
    pub(crate) fn differs_from(&self, commit: &str, paths: &[&str]) -> Result<bool> {
        let mut git = Command::new("git");
        git.args(["diff", "--quiet", commit, "--"]).args(paths).current_dir(&self.root);
        let output = git.output().context("cannot run git diff")?;
        Ok(!output.status.success())
    }

    /// A binary of a profile: `debug`, `release` or `dist`.
    pub(crate) fn binary(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }
}

fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    clean(&mut command);
    command
}

/// Takes away what `cargo run` has set for xtask itself: with it, build scripts that look at
/// such variables would run again for each change between a shell and xtask.
pub(crate) fn clean(command: &mut Command) {
    let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in env::vars_os() {
        if own.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// The string at a key of a JSON text that has the key once.
fn string_at(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    let mut text = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => text.push(chars.next()?),
            c => text.push(c),
        }
    }
}

/// Finds a program as a shell would, and where only root's PATH looks.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::string_at;

    #[test]
    fn the_target_directory_is_read_with_its_escapes() {
        let json = r#"{"packages":[],"target_directory":"/a \"b\"/c","version":1}"#;
        assert_eq!(string_at(json, "target_directory").as_deref(), Some("/a \"b\"/c"));
        assert_eq!(string_at(json, "workspace_root"), None);
    }
}
