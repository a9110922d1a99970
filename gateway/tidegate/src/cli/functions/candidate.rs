//! A version of a function that is replayed: of a folder, of a package, or one that was pushed to a
//! gateway, whose packages lie in its data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tidegate_flow::FunctionPlan;
use tidegate_runtime::Module;

use super::super::Failure;
use super::inspect::read_package;
use super::test::load_part;
use crate::config::{self, FUNCTION_FILE, FunctionFile, PACKAGES_DIR};
use crate::packages::{Contents, look_into};
use crate::rehearsal::{Cast, Part};

/// How the file of a package ends.
const PACKAGE: &str = "tgpkg";
/// Digits of a hash that name a package, at least.
const HASH_DIGITS: usize = 8;

/// See the module.
pub(super) enum Candidate {
    /// What a folder's function.toml says, with this module.
    Folder(Box<FunctionFile>, PathBuf),
    /// A package. Whether somebody trusts its key does not matter: it runs in memory only.
    Packed(Box<Contents>),
}

impl Candidate {
    /// The function of a folder, or a package.
    pub(super) fn of_path(path: &Path) -> Result<Candidate, Failure> {
        if is_package(path) {
            return Ok(Candidate::Packed(Box::new(contents(path)?)));
        }
        let file = config::load_function(&path.join(FUNCTION_FILE))?;
        let module = file.function.module.clone();
        Ok(Candidate::Folder(Box::new(file), module))
    }

    /// A version that was pushed, by what its author calls it or the beginning of its hash.
    pub(super) fn of_gateway(
        data_dir: &Path,
        name: &str,
        version: &str,
    ) -> Result<Candidate, Failure> {
        let dir = data_dir.join(PACKAGES_DIR);
        let cannot = || format!("cannot read {}", dir.display());
        let (mut named, mut others) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&dir).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            // What is damaged, or on its way, is no version.
            let Some(found) = is_package(&path).then(|| contents(&path).ok()).flatten() else {
                continue;
            };
            if found.manifest.name != name {
                continue;
            }
            let hash = found.hash.to_string();
            let by_hash = version.len() >= HASH_DIGITS && hash.starts_with(version);
            if found.manifest.version == version || by_hash {
                named.push(found);
            } else {
                others.push(format!("{} ({})", found.manifest.version, short(&hash)));
            }
        }
        match (named.pop(), named.as_slice()) {
            (Some(found), []) => Ok(Candidate::Packed(Box::new(found))),
            (Some(found), more) => {
                let all = more.iter().chain([&found]).map(|one| one.hash.to_string());
                let hashes: Vec<String> = all.map(|hash| short(&hash).to_owned()).collect();
                let text = format!(
                    "several packages are version {version} of {name}; name one by its hash: {}",
                    hashes.join(", ")
                );
                Err(anyhow!(text).into())
            }
            (None, _) => {
                others.sort();
                let there = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
                let text = format!(
                    "{} has no version {version} of function \"{name}\"; there is: {there}",
                    dir.display()
                );
                Err(anyhow!(text).into())
            }
        }
    }

    /// The same with another module.
    pub(super) fn with_module(self, module: &Path) -> Result<Candidate, Failure> {
        match self {
            Candidate::Folder(file, _) => Ok(Candidate::Folder(file, module.to_owned())),
            Candidate::Packed(_) => {
                let text = "a package has its module; --module goes with a folder".to_owned();
                Err(Failure::Wrong(text))
            }
        }
    }

    /// The other version of a comparison: a module under the configuration of this one, a folder,
    /// or a package.
    pub(super) fn against(&self, path: &Path) -> Result<Candidate, Failure> {
        match self {
            Candidate::Folder(file, _) if !path.is_dir() && !is_package(path) => {
                Ok(Candidate::Folder(file.clone(), path.to_owned()))
            }
            Candidate::Folder(..) | Candidate::Packed(_) => Candidate::of_path(path),
        }
    }

    /// The function's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Candidate::Folder(file, _) => &file.function.name,
            Candidate::Packed(contents) => &contents.manifest.name,
        }
    }

    /// The first stream that it reads.
    pub(super) fn input(&self) -> Option<&str> {
        let inputs = match self {
            Candidate::Folder(file, _) => &file.function.inputs,
            Candidate::Packed(contents) => &contents.manifest.inputs,
        };
        inputs.first().map(|input| input.stream.as_str())
    }

    /// Puts it on a stage, for calls with so many records.
    pub(super) fn cast(&self, batch: u16) -> Result<Cast, Failure> {
        let (plan, part) = match self {
            Candidate::Folder(file, module) => {
                (file.function.plan(), load_part(&file.function, module)?)
            }
            Candidate::Packed(contents) => packed(contents)?,
        };
        let batch_records = plan.batch_records.max(batch.into());
        Ok(Cast::alone(FunctionPlan { batch_records, ..plan }, part))
    }
}

fn packed(contents: &Contents) -> anyhow::Result<(FunctionPlan, Part)> {
    let manifest = &contents.manifest;
    let function = manifest.settings();
    let limits = Part::limits(&function);
    let module = Module::compile_with(&contents.module, &limits, manifest.grants());
    let module = module.with_context(|| format!("{} {}", manifest.name, manifest.version))?;
    Ok((function.plan(), Part::new(&function, Arc::new(module))))
}

fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == PACKAGE)
}

fn contents(path: &Path) -> anyhow::Result<Contents> {
    let bytes = read_package(path)?;
    look_into(&bytes).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
