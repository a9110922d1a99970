//! What a gateway takes of pushed functions, and what those ask for.

use toml::de::DeValue;

use super::document::Section;
use super::events;
use super::keys::{Key, Kind, allow, function, functions, package};
use super::mistakes::Mistakes;
use super::routes::RouteSettings;
use super::sections::{Reader, check_stream, list, reserved, size, topics};
use super::settings::PackageSettings;
use super::value::{expected, is_name};
use crate::packages::{Ceiling, TrustedKeys, Wants, parse_public};

/// Reads `[functions]` and `[functions.allow]`.
pub(super) fn read_settings(
    reader: &Reader<'_>,
    names: &[&str],
    routes: &RouteSettings,
    out: &mut Mistakes,
) -> PackageSettings {
    let section = Section::single(reader.source, reader.root, &functions::SECTION, out);
    let allowed = Section::single(reader.source, reader.root, &allow::SECTION, out);
    PackageSettings {
        trusted: trusted_keys(&section, out),
        max_bytes: section.bytes(&functions::MAX_PACKAGE_BYTES, out),
        trial: section.time(&functions::TRIAL, out),
        ceiling: Ceiling {
            functions: size(allowed.count(&allow::FUNCTIONS, out)),
            workers: allowed.count(&allow::WORKERS, out),
            streams: allowed_streams(&allowed, names, out),
            publish: topics(&allowed, &allow::PUBLISH, out),
            memory: allowed.bytes(&allow::MEMORY, out),
            state_bytes: allowed.bytes(&allow::STATE_BYTES, out),
            timers: allowed.count(&allow::TIMERS, out),
            fuel_per_batch: allowed.count(&allow::FUEL_PER_BATCH, out),
            fuel_per_message: allowed.count(&allow::FUEL_PER_MESSAGE, out),
            deadline: allowed.time(&allow::DEADLINE, out),
            clock: allowed.flag(&allow::CLOCK, out),
            random: allowed.flag(&allow::RANDOM, out),
            events: events::read(&allowed, &allow::EVENTS, out),
            routes: routes.clone(),
            secrets: words(&allowed, &allow::SECRETS, out),
        },
    }
}

fn trusted_keys(section: &Section<'_>, out: &mut Mistakes) -> TrustedKeys {
    let mut trusted = TrustedKeys::default();
    let Kind::Words { max } = functions::TRUSTED_KEYS.kind else { return trusted };
    let Some(spot) = section.spot(&functions::TRUSTED_KEYS) else { return trusted };
    for element in list(&spot, 0, max, "keys", out).unwrap_or_default() {
        let DeValue::String(text) = element.value else {
            element.wrong(out, &expected("text", element.value));
            continue;
        };
        match parse_public(text) {
            Ok(key) if trusted.add(key) => {}
            Ok(_) => element.wrong(out, "listed twice"),
            Err(problem) => element.wrong(out, &problem),
        }
    }
    trusted
}

fn allowed_streams(section: &Section<'_>, names: &[&str], out: &mut Mistakes) -> Vec<String> {
    let Kind::Streams { max } = allow::STREAMS.kind else { return Vec::new() };
    let Some(spot) = section.spot(&allow::STREAMS) else { return Vec::new() };
    let mut found = Vec::new();
    for element in list(&spot, 0, max, "names of streams", out).unwrap_or_default() {
        let DeValue::String(name) = element.value else {
            element.wrong(out, &expected("the name of a stream", element.value));
            continue;
        };
        match reserved(name) {
            Some(what) => element.wrong(out, &format!("a function cannot read {what}")),
            None => check_stream(&element, name, names, out),
        }
        found.push(name.clone().into_owned());
    }
    found
}

/// What a function asks for beside the keys of `[function.NAME]`, which are not in it yet: timers,
/// routes, secrets and events.
pub(super) fn wants(section: &Section<'_>, out: &mut Mistakes) -> Wants {
    Wants {
        clock: section.flag(&package::CLOCK, out),
        random: section.flag(&package::RANDOM, out),
        timers: 0,
        routes: Vec::new(),
        secrets: Vec::new(),
        events: Vec::new(),
    }
}

/// Names of secrets.
pub(super) fn secrets(section: &Section<'_>, out: &mut Mistakes) -> Vec<String> {
    let found = words(section, &function::SECRETS, out);
    for name in found.iter().filter(|name| !is_name(name)) {
        if let Some(spot) = section.spot(&function::SECRETS) {
            spot.wrong(out, &format!("\"{name}\" is no name; allowed: 1 to 64 of A-Z a-z 0-9 _ -"));
        }
    }
    found
}

/// A list of texts, each once; empty when the key is not there.
fn words(section: &Section<'_>, key: &Key, out: &mut Mistakes) -> Vec<String> {
    let Kind::Words { max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else { return Vec::new() };
    let mut found: Vec<String> = Vec::new();
    for element in list(&spot, 1, max, "texts", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) if text.is_empty() => element.wrong(out, "must not be empty"),
            DeValue::String(text) if found.iter().any(|known| known == text) => {
                element.wrong(out, "listed twice");
            }
            DeValue::String(text) => found.push(text.clone().into_owned()),
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}
