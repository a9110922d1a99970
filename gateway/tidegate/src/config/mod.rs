//! The configuration: one TOML file, parsed once into meaning. Every mistake is reported at
//! once, each with its line, key, value and what is allowed.

mod acl;
mod difference;
mod document;
mod events;
mod files;
mod folders;
mod function_file;
mod inputs;
mod json;
pub(crate) mod keys;
mod listeners;
mod mistakes;
mod package;
mod partition_key;
mod plan;
mod routes;
pub(crate) mod schedules;
mod sections;
mod security;
mod serial;
mod settings;
mod sink;
mod starter;
mod suggestion;
#[cfg(test)]
mod tests;
mod units;
mod uplinks;
mod value;
pub(crate) mod watches;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use tidegate_flow::PartitionKey;
use toml::de::DeTable;

use self::document::Source;
use self::sections::Depth;

use crate::uplinks::Target;

pub(crate) use self::difference::{Keys, differing_keys, needs_restart};
pub use self::folders::FolderSettings;
pub use self::function_file::{FUNCTION_FILE, FunctionFile};
pub use self::listeners::ListenerSettings;
pub(crate) use self::listeners::PLAIN;
pub use self::mistakes::{Mistake, Mistakes};
pub use self::routes::{Authentication, RouteRule, RouteSettings};
pub use self::security::{LimitSettings, SecuritySettings, TlsSettings};
pub use self::serial::SerialSettings;
pub use self::settings::{
    ADMIN_SOCKET, FunctionSettings, LOCK_FILE, LogFormat, LogLevel, LogSettings, MqttSettings,
    PACKAGES_DIR, PackageSettings, STORE_DIR, Settings, StorageSettings, StreamSettings,
    UplinkSettings,
};
pub use self::starter::starter;
pub(crate) use self::units::{show_bytes, show_duration};
pub(crate) use self::value::is_name;

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a configuration file, for a gateway that is to run: what a start can do without (a
/// module, say) is not looked at.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path) -> Result<Settings, Mistakes> {
    parse(file, &read(file)?, Depth::File)
}

/// Reads a configuration file and looks at everything that it names: the data directory, the
/// modules.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(file: &Path) -> Result<Settings, Mistakes> {
    parse(file, &read(file)?, Depth::Machine)
}

/// A configuration file with its text, for a gateway that runs and may take it in place of the one
/// before. As [`load`], or with everything looked at that it names, as [`check`].
///
/// # Errors
/// Everything that is wrong with it.
pub(crate) fn load_text(file: &Path, checked: bool) -> Result<(Settings, String), Mistakes> {
    let text = read(file)?;
    let depth = if checked { Depth::Machine } else { Depth::File };
    Ok((parse(file, &text, depth)?, text))
}

/// The data directory that a configuration file names, whatever else is wrong with it.
///
/// # Errors
/// The file cannot be read, or names none.
pub fn data_dir_of(file: &Path) -> Result<PathBuf, Mistakes> {
    let text = read(file)?;
    walk(file, &text, |source, root, out| sections::read_data_dir(file, source, root, out))
}

/// The gateway's id that a configuration file has, whatever else is wrong with it.
///
/// # Errors
/// The file cannot be read, or has none.
pub fn gateway_of(file: &Path) -> Result<String, Mistakes> {
    let text = read(file)?;
    walk(file, &text, |source, root, out| sections::read_gateway(file, source, root, out))
}

/// Where the records of a stream have their partition key, by a configuration file, whatever else
/// is wrong with it.
///
/// # Errors
/// The file cannot be read, or the key is wrong.
pub fn partition_key_of(file: &Path, stream: &str) -> Result<Option<PartitionKey>, Mistakes> {
    let text = read(file)?;
    walk(file, &text, |source, root, out| {
        sections::read_partition_key(file, stream, source, root, out)
    })
}

/// Where an uplink goes, read once more: what its configuration names may be there now.
///
/// # Errors
/// The configuration is wrong by now, or has no such uplink.
pub(crate) fn target_of(file: &Path, uplink: &str) -> Result<Target, String> {
    let settings = load(file).map_err(|mistakes| mistakes.to_string())?;
    let found = settings.uplinks.into_iter().find(|settings| settings.name == uplink);
    found.map(|settings| settings.target).ok_or_else(|| format!("no [uplink.{uplink}] any more"))
}

/// Reads the file of a function, `function.toml`. Its module need not be there.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_function(file: &Path) -> Result<FunctionFile, Mistakes> {
    let text = read(file)?;
    walk(file, &text, |source, root, out| function_file::read(file, source, root, out))
}

fn parse(file: &Path, text: &str, depth: Depth) -> Result<Settings, Mistakes> {
    walk(file, text, |source, root, out| sections::read(file, depth, source, root, out))
}

fn walk<T>(
    file: &Path,
    text: &str,
    read: impl FnOnce(&Source<'_>, &DeTable<'_>, &mut Mistakes) -> T,
) -> Result<T, Mistakes> {
    let mut mistakes = Mistakes::new(file);
    let source = Source::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map(|span| source.line(span.start));
        mistakes.add(line, format!("not TOML: {}", error.message().replace('\n', ", ")));
    }
    // What follows a syntax error may be misread: only the errors themselves are certain.
    if !errors.is_empty() {
        return Err(mistakes.sorted());
    }
    let value = read(&source, root.get_ref(), &mut mistakes);
    mistakes.into_result().map(|()| value)
}

fn read(file: &Path) -> Result<String, Mistakes> {
    let wrong = |problem: String| {
        let mut mistakes = Mistakes::new(file);
        mistakes.add(None, problem);
        mistakes
    };
    let mut text = Vec::new();
    let opened = File::open(file).map_err(|error| {
        wrong(format!("cannot be read: {error}; `tidegate init` writes a starter configuration"))
    })?;
    let mut limited = opened.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut text).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    String::from_utf8(text)
        .map_err(|error| wrong(format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to())))
}
