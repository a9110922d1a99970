//! The configuration: one TOML file, parsed once into meaning. Every mistake is reported at
//! once, each with its line, key, value and what is allowed.

mod document;
mod files;
mod json;
mod keys;
mod mistakes;
mod sections;
mod settings;
mod starter;
mod suggestion;
#[cfg(test)]
mod tests;
mod units;
mod url;
mod value;

use std::io::Read;
use std::path::Path;

use toml::de::DeTable;

pub use self::mistakes::{Mistake, Mistakes};
pub use self::settings::{
    ADMIN_SOCKET, FunctionSettings, LOCK_FILE, LogFormat, LogLevel, LogSettings, MqttSettings,
    STORE_DIR, Settings, StorageSettings, StreamOverflow, StreamSettings, UplinkSettings,
    UplinkUrl,
};
pub use self::starter::starter;

/// Largest configuration file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads and checks a configuration file, with the directories and files that it names.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(file: &Path) -> Result<Settings, Mistakes> {
    match read(file) {
        Ok(text) => parse(file, &text),
        Err(problem) => {
            let mut mistakes = Mistakes::new(file);
            mistakes.add(None, problem);
            Err(mistakes)
        }
    }
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = Vec::new();
    let opened = std::fs::File::open(file).map_err(|error| {
        format!("cannot be read: {error}; `tidegate init` writes a starter configuration")
    })?;
    let mut limited = opened.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("longer than {MAX_FILE_BYTES} bytes"));
    }
    String::from_utf8(text)
        .map_err(|error| format!("not UTF-8 at byte {}", error.utf8_error().valid_up_to()))
}

/// Checks the text of a configuration file; `file` gives relative paths their base.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Settings, Mistakes> {
    let mut mistakes = Mistakes::new(file);
    let source = document::Source::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map(|span| source.line(span.start));
        mistakes.add(line, format!("not TOML: {}", error.message().replace('\n', ", ")));
    }
    // What follows a syntax error may be misread: only the errors themselves are certain.
    if !errors.is_empty() {
        return Err(mistakes.sorted());
    }
    let settings = sections::read(file, &source, root.get_ref(), &mut mistakes);
    mistakes.into_result().map(|()| settings)
}
