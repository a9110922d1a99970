//! A function's own file, `function.toml`: the keys of `[function.NAME]` without the section, and
//! what a package needs beside them.

use std::path::Path;

use toml::de::DeTable;

use super::document::{Section, Source};
use super::keys::{Fallback, Form, Key, Kind, SectionKeys, function, package, trigger};
use super::mistakes::Mistakes;
use super::package::wants;
use super::sections::{Depth, Reader, base_of};
use super::settings::FunctionSettings;
use crate::packages::{Wants, is_version};

/// Name of the file in a function's folder.
pub const FUNCTION_FILE: &str = "function.toml";

const NAME: Key = Key {
    name: "name",
    kind: Kind::Name,
    fallback: Fallback::Required(r#"name = "threshold""#),
    about: "The function's name.",
};
const VERSION: Key = Key {
    name: "version",
    kind: Kind::Text,
    fallback: Fallback::Required(r#"version = "0.1.0""#),
    about: "Its version.",
};
const BUILD: Key = Key {
    name: "build",
    kind: Kind::Text,
    fallback: Fallback::Absent("nothing is built"),
    about: "The command that builds the module, run in the folder of the file.",
};
const SECTION: SectionKeys = SectionKeys {
    name: "function",
    form: Form::Single,
    keys: &[
        &NAME,
        &VERSION,
        &BUILD,
        &function::MODULE,
        &function::INPUT,
        &function::ORDERING,
        &function::WORKERS,
        &function::PUBLISH,
        &function::CONFIG,
        &function::BATCH_RECORDS,
        &function::BATCH_BYTES,
        &function::BATCH_WINDOW,
        &function::ATTEMPTS,
        &function::RETRY_MAX_AGE,
        &function::MEMORY,
        &function::FUEL_PER_BATCH,
        &function::FUEL_PER_MESSAGE,
        &function::DEADLINE,
        &function::STATE_BYTES,
        &trigger::SCHEDULE,
        &trigger::EVENTS,
        &trigger::WATCH,
        &function::ROUTES,
        &function::SECRETS,
        &package::CLOCK,
        &package::RANDOM,
        &package::TIMERS,
    ],
};

/// A function as its author describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionFile {
    /// The function's version.
    pub version: String,
    /// The command that builds the module.
    pub build: Option<String>,
    /// What it asks for when it is pushed, beside what `function` says.
    pub wants: Wants,
    /// All else, as in a gateway's configuration.
    pub function: FunctionSettings,
}

/// Reads a parsed file. What is returned is complete only when `out` is still empty.
pub(super) fn read(
    file: &Path,
    source: &Source<'_>,
    root: &DeTable<'_>,
    out: &mut Mistakes,
) -> FunctionFile {
    let reader = Reader { file, base: base_of(file), depth: Depth::File, source, root };
    let section = Section::whole(source, root, &SECTION, out);
    let name = section.name(&NAME, out).unwrap_or_default();
    let version = section.text(&VERSION, out).unwrap_or_default();
    if let Some(spot) = section.spot(&VERSION)
        && !version.is_empty()
        && !is_version(&version)
    {
        spot.wrong(out, "not a version; allowed: 1 to 32 of A-Z a-z 0-9 . + _ -");
    }
    let mut wants = wants(&section, out);
    let mut function = reader.function(&name, &section, None, out);
    // A package asks for each timer; one that says nothing has none.
    if section.spot(&package::TIMERS).is_none() {
        function.timers = 0;
    }
    wants.timers = function.timers as u64;
    wants.events = function.events.iter().map(|kind| kind.name().to_owned()).collect();
    wants.secrets = function.secrets.clone();
    wants.routes = function.routes.iter().map(ToString::to_string).collect();
    FunctionFile { version, wants, build: section.text(&BUILD, out), function }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_function;
    use crate::scratch::Scratch;

    fn load(text: &str) -> Result<FunctionFile, String> {
        let scratch = Scratch::new();
        let file = scratch.path().join(FUNCTION_FILE);
        std::fs::write(&file, text).unwrap();
        let directory = format!("{}/", scratch.path().display());
        load_function(&file).map_err(|mistakes| mistakes.to_string().replace(&directory, ""))
    }

    #[test]
    fn the_file_has_the_keys_of_a_function_without_the_section() {
        let file = load(
            r#"
name = "threshold"
version = "1.2.0"
build = "make"
module = "threshold.wasm"
input = { stream = "anything" }
publish = ["alerts/#"]
config = { limit = 30.0 }
batch_records = 16
"#,
        )
        .unwrap();
        let function = &file.function;
        assert_eq!(
            (function.name.as_str(), function.inputs[0].stream.as_str()),
            ("threshold", "anything")
        );
        assert_eq!((file.version.as_str(), file.build.as_deref()), ("1.2.0", Some("make")));
        assert_eq!(function.config, br#"{"limit":30.0}"#);
        assert_eq!((function.batch_records, function.attempts), (16, 5));
        assert!(function.module.ends_with("threshold.wasm"));
    }

    #[test]
    fn every_mistake_in_it_is_told_at_once() {
        let text = "name = \"a b\"\nmodul = \"x.wasm\"\ninput = { stream = \"dead-letters\" }\n\
                    attempts = 0\n";
        assert_eq!(
            load(text).unwrap_err(),
            "function.toml: version: missing; write, for example, version = \"0.1.0\"\n\
             function.toml: module: missing; write, for example, module = \"threshold.wasm\"\n\
             function.toml:1: name = \"a b\": not a name; allowed: 1 to 64 of A-Z a-z 0-9 _ -\n\
             function.toml:2: modul = \"x.wasm\": unknown key; did you mean module?\n\
             function.toml:3: input.stream = \"dead-letters\": a function cannot read the records \
             that functions gave up\n\
             function.toml:4: attempts = 0: out of range; allowed: 1 to 100\n\
             6 mistakes"
        );
    }
}
