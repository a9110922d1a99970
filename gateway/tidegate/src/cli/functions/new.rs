//! `tidegate fn new`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, ValueEnum};

use super::super::Failure;
use super::template::{self, File};

/// The longest name: it is a part of topics, file names and metrics.
const MAX_NAME: usize = 64;

#[derive(Debug, Args)]
pub(in super::super) struct NewArguments {
    /// Name of the function: small letters, digits and hyphens, a letter first
    name: String,
    /// What it is written in
    #[arg(long, value_enum)]
    lang: Language,
    /// Where to write it; must be new or empty [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Rust: use the SDK in this folder (abi/ and guest/) in place of a copy
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    C,
    #[value(name = "assemblyscript")]
    AssemblyScript,
}

impl Language {
    /// Its folder among the templates.
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::C => "c",
            Self::AssemblyScript => "assemblyscript",
        }
    }

    /// What its README says: where the code is, where the SDK is, and what a machine needs to build it.
    fn places(self) -> [(&'static str, &'static str); 3] {
        match self {
            Self::Rust => [
                ("{{source}}", "src/lib.rs"),
                ("{{sdk}}", "sdk/guest"),
                (
                    "{{needs}}",
                    "Needs make and Rust 1.95 or newer with std for wasm32-unknown-unknown, once: \
                     `rustup target add wasm32-unknown-unknown`.",
                ),
            ],
            Self::C => [
                ("{{source}}", "function.c"),
                ("{{sdk}}", "tidegate.h"),
                (
                    "{{needs}}",
                    "Needs make, clang and lld: `apt install make clang lld` on Debian and Ubuntu; on \
                     macOS `brew install llvm lld` and `make CC=$(brew --prefix llvm)/bin/clang`.",
                ),
            ],
            Self::AssemblyScript => [
                ("{{source}}", "assembly/function.ts"),
                ("{{sdk}}", "assembly/tidegate.ts"),
                (
                    "{{needs}}",
                    "Needs make and Node 20 or newer with npm, which fetches the compiler at the first \
                     build.",
                ),
            ],
        }
    }
}

/// Writes the template; never over something that is there.
pub(in super::super) fn new(arguments: &NewArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let NewArguments { name, lang, dir, sdk } = arguments;
    name_is_right(name)?;
    if sdk.is_some() && *lang != Language::Rust {
        return Err(Failure::Wrong(
            "--sdk is for --lang rust: the others have no SDK to share".into(),
        ));
    }
    let dir = dir.clone().unwrap_or_else(|| PathBuf::from(name));
    must_be_free(&dir)?;
    let sdk = sdk.as_deref().map(absolute).transpose()?;
    for file in template::files(lang.folder())? {
        if sdk.is_some() && file.path.starts_with("sdk/") {
            continue;
        }
        write(&dir, &filled(file, name, *lang, sdk.as_deref()))?;
    }
    let shown = dir.display();
    writeln!(out, "wrote {shown}\nnext:  cd {shown}")?;
    writeln!(out, "       make                       # {name}.wasm")?;
    writeln!(out, "       tidegate fn check {name}.wasm --config '{{\"limit\":30}}'")?;
    writeln!(out, "       tidegate fn test")?;
    Ok(())
}

/// The name becomes that of a crate, an npm package, a file and a table of the configuration.
fn name_is_right(name: &str) -> Result<(), Failure> {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let right = name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(letters);
    // What cargo takes for itself, and for the crates that every project has.
    let taken = ["test", "core", "std", "alloc", "tidegate-guest", "tidegate-abi"];
    if right && !taken.contains(&name) {
        return Ok(());
    }
    Err(Failure::Wrong(format!(
        "`{name}` is no name for a function: take 1 to {MAX_NAME} small letters, digits and hyphens, \
         a letter first, none of {}",
        taken.join(", ")
    )))
}

fn must_be_free(dir: &Path) -> Result<(), Failure> {
    let shown = dir.display();
    let mut entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot look into {shown}"))?,
    };
    if entries.next().is_none() {
        return Ok(());
    }
    let text = format!("{shown} is there already and not empty; name another place with --dir");
    Err(Failure::Failed(anyhow::Error::msg(text)))
}

fn absolute(sdk: &Path) -> anyhow::Result<PathBuf> {
    let guest = sdk.join("guest/Cargo.toml");
    fs::metadata(&guest).with_context(|| format!("no SDK: cannot find {}", guest.display()))?;
    sdk.canonicalize().with_context(|| format!("cannot resolve {}", sdk.display()))
}

/// The file with the places of the template filled in.
fn filled(mut file: File, name: &str, lang: Language, sdk: Option<&Path>) -> File {
    // The SDK has no places of this kind.
    if file.path.starts_with("sdk/") {
        return file;
    }
    let mut text =
        file.text.replace("{{name}}", name).replace("{{crate}}", &name.replace('-', "_"));
    for (place, value) in lang.places() {
        text = text.replace(place, value);
    }
    if let Some(sdk) = sdk {
        let path = format!("path = \"{}\"", sdk.join("guest").display());
        text = text.replace("path = \"sdk/guest\"", &path);
    }
    file.text = text;
    file
}

fn write(dir: &Path, file: &File) -> anyhow::Result<()> {
    let path = dir.join(&file.path);
    let shown = path.display();
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, &file.text).with_context(|| format!("cannot write {shown}"))
}

#[cfg(test)]
mod tests;
