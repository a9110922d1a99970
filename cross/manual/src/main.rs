//! `tidegate-manual DIR`: writes what a package ships for people who type commands, from the definition of
//! the commands itself: manual pages, completions for shells, and the starter configuration. It is not in
//! the gateway's own binary, which has to stay small.
//!
//! ```text
//! DIR/man1/tidegate.1, tidegate-run.1, ...    one page a command
//! DIR/completions/tidegate.bash, _tidegate, tidegate.fish
//! DIR/tidegate.toml                           every key of the configuration
//! ```

use anyhow::{Context, Result};
use clap_complete::Shell;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let folder = env::args_os().nth(1).context("usage: tidegate-manual DIR")?;
    write(&PathBuf::from(folder))
}

fn write(folder: &Path) -> Result<()> {
    let pages = folder.join("man1");
    let completions = folder.join("completions");
    for folder in [&pages, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let command = tidegate::cli::command();
    clap_mangen::generate_to(command, &pages)
        .with_context(|| format!("cannot write to {}", pages.display()))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = tidegate::cli::command();
        clap_complete::generate_to(shell, &mut command, "tidegate", &completions)
            .with_context(|| format!("cannot write to {}", completions.display()))?;
    }
    let file = folder.join("tidegate.toml");
    fs::write(&file, tidegate::config::starter())
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let folder = std::env::temp_dir().join(format!("tidegate-manual-{}", std::process::id()));
        write(&folder).unwrap();
        let page = std::fs::read_to_string(folder.join("man1/tidegate-fn-new.1")).unwrap();
        assert!(page.contains("tidegate fn new"), "the example is on the page");
        for file in ["tidegate.bash", "_tidegate", "tidegate.fish"] {
            let text = std::fs::read_to_string(folder.join("completions").join(file)).unwrap();
            assert!(text.contains("verify"), "{file}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
