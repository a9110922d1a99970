//! Reads values by the kind of their key. A wrong value is reported and replaced by the key's
//! default, so that everything after it is still checked.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Fallback, Key, Kind, MAX_NAME};
use super::mistakes::Mistakes;
use super::suggestion::nearest;
use super::units::{
    BYTE_UNIT_NAMES, QuantityError, TIME_UNIT_NAMES, parse_bytes, parse_duration, show_bytes,
    show_duration,
};

/// A reader of one value: the value, or what is wrong with it.
type Parse<T> = fn(&Kind, &DeValue<'_>) -> Result<T, String>;

impl Section<'_> {
    pub(super) fn text(&self, key: &Key, out: &mut Mistakes) -> Option<String> {
        self.read(key, out, text)
    }

    pub(super) fn name(&self, key: &Key, out: &mut Mistakes) -> Option<String> {
        self.read(key, out, name)
    }

    pub(super) fn flag(&self, key: &Key, out: &mut Mistakes) -> bool {
        self.read(key, out, flag).unwrap_or_default()
    }

    /// As [`Section::flag`], for a key without default.
    pub(super) fn flag_if_set(&self, key: &Key, out: &mut Mistakes) -> Option<bool> {
        self.read(key, out, flag)
    }

    pub(super) fn count(&self, key: &Key, out: &mut Mistakes) -> u64 {
        self.read(key, out, count).unwrap_or_default()
    }

    pub(super) fn bytes(&self, key: &Key, out: &mut Mistakes) -> u64 {
        self.read(key, out, bytes).unwrap_or_default()
    }

    /// The same for a key that may be absent.
    pub(super) fn bytes_if_set(&self, key: &Key, out: &mut Mistakes) -> Option<u64> {
        self.read(key, out, bytes)
    }

    pub(super) fn time(&self, key: &Key, out: &mut Mistakes) -> Duration {
        self.read(key, out, time).unwrap_or_default()
    }

    /// As [`Section::count`], for a key without default.
    pub(super) fn count_if_set(&self, key: &Key, out: &mut Mistakes) -> Option<u64> {
        self.read(key, out, count)
    }

    /// As [`Section::time`], for a key without default.
    pub(super) fn time_if_set(&self, key: &Key, out: &mut Mistakes) -> Option<Duration> {
        self.read(key, out, time)
    }

    pub(super) fn choice(&self, key: &Key, out: &mut Mistakes) -> &'static str {
        self.read(key, out, choice).unwrap_or_default()
    }

    /// Reads `key`; `None` when it is absent (or wrong) and has no default.
    fn read<T>(&self, key: &Key, out: &mut Mistakes, parse: Parse<T>) -> Option<T> {
        if let Some(spot) = self.spot(key) {
            match parse(&key.kind, spot.value) {
                Ok(value) => return Some(value),
                Err(problem) => spot.wrong(out, &problem),
            }
        } else {
            self.missing(key, out);
        }
        default_of(key, parse)
    }
}

/// The default of a key, read from its literal like a value of the file.
fn default_of<T>(key: &Key, parse: Parse<T>) -> Option<T> {
    let Fallback::Value(literal) = key.fallback else { return None };
    let value = DeValue::parse(literal).ok()?;
    parse(&key.kind, value.get_ref()).ok()
}

/// Reads one address; `path` and line come from the spot.
pub(super) fn address(spot: &Spot<'_>, out: &mut Mistakes) -> Option<SocketAddr> {
    match spot.value {
        DeValue::String(text) => match text.parse() {
            Ok(address) => return Some(address),
            Err(_) => spot.wrong(out, &address_problem(text)),
        },
        other => spot.wrong(out, &expected("an address such as \"127.0.0.1:1883\"", other)),
    }
    None
}

fn address_problem(text: &str) -> String {
    let example = "write an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"";
    match text.rsplit_once(':') {
        Some(("localhost", port)) => {
            format!("a host name is not an address; write \"127.0.0.1:{port}\"")
        }
        Some(("", port)) => format!("no address before the port; write \"127.0.0.1:{port}\""),
        _ => format!("not an address; {example}"),
    }
}

/// Whether `text` may name a gateway, a stream, a function or an uplink.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// What was expected and what was found instead.
pub(super) fn expected(what: &str, found: &DeValue<'_>) -> String {
    format!("must be {what}, not {}", type_of(found))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn name(kind: &Kind, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if is_name(text) => Ok(text.clone().into_owned()),
        DeValue::String(_) => Err(format!("not a name; allowed: {}", kind.allowed())),
        other => Err(expected("text", other)),
    }
}

/// Longest path or URL.
const MAX_TEXT: usize = 4096;

fn text(_: &Kind, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.is_empty() => Err("must not be empty".to_owned()),
        DeValue::String(text) if text.contains('\0') => Err("must not contain NUL".to_owned()),
        DeValue::String(text) if text.len() > MAX_TEXT => {
            Err(format!("longer than {MAX_TEXT} bytes ({})", text.len()))
        }
        DeValue::String(text) => Ok(text.clone().into_owned()),
        other => Err(expected("text", other)),
    }
}

fn flag(_: &Kind, value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(flag) => Ok(*flag),
        DeValue::String(text) if text == "true" || text == "false" => {
            Err(format!("must be {text} without quotes"))
        }
        other => Err(expected("true or false", other)),
    }
}

fn count(kind: &Kind, value: &DeValue<'_>) -> Result<u64, String> {
    let outside = || format!("out of range; allowed: {}", kind.allowed());
    match value {
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix())
                .ok()
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(outside)?;
            match kind {
                Kind::Count { min, max } if !(*min..=*max).contains(&number) => Err(outside()),
                _ => Ok(number),
            }
        }
        other => Err(format!("{}; allowed: {}", expected("a number", other), kind.allowed())),
    }
}

fn bytes(kind: &Kind, value: &DeValue<'_>) -> Result<u64, String> {
    let amount = quantity(value, parse_bytes, "a size such as \"64MiB\"", show_bytes)
        .map_err(|problem| with_units(problem, BYTE_UNIT_NAMES, kind))?;
    match kind {
        Kind::Bytes { min, max } if !(*min..=*max).contains(&amount) => {
            Err(format!("out of range; allowed: {}", kind.allowed()))
        }
        _ => Ok(amount),
    }
}

fn time(kind: &Kind, value: &DeValue<'_>) -> Result<Duration, String> {
    let amount = quantity(value, parse_duration, "a time such as \"30s\"", |seconds| {
        show_duration(Duration::from_secs(seconds))
    })
    .map_err(|problem| with_units(problem, TIME_UNIT_NAMES, kind))?;
    match kind {
        Kind::Time { min, max } if !(*min..=*max).contains(&amount) => {
            Err(format!("out of range; allowed: {}", kind.allowed()))
        }
        _ => Ok(amount),
    }
}

/// What is wrong with a quantity, and whether its units should be listed.
enum Problem {
    Plain(String),
    Units(String),
}

fn with_units(problem: Problem, units: &str, kind: &Kind) -> String {
    match problem {
        Problem::Plain(text) => format!("{text}; allowed: {}", kind.allowed()),
        Problem::Units(text) => {
            format!("{text}; units: {units}; allowed: {}", kind.allowed())
        }
    }
}

fn quantity<T>(
    value: &DeValue<'_>,
    parse: fn(&str) -> Result<T, QuantityError>,
    what: &str,
    with_unit: fn(u64) -> String,
) -> Result<T, Problem> {
    let text = match value {
        DeValue::String(text) => text,
        DeValue::Integer(number) => {
            let shown = number.as_str().parse().ok().map(with_unit);
            let hint = shown.map(|shown| format!(", such as \"{shown}\"")).unwrap_or_default();
            return Err(Problem::Units(format!("a number without a unit; write text{hint}")));
        }
        other => return Err(Problem::Plain(expected(what, other))),
    };
    parse(text).map_err(|error| match error {
        QuantityError::NoNumber => {
            Problem::Plain(format!("does not start with a number; write {what}"))
        }
        QuantityError::NoUnit => Problem::Units("has no unit".to_owned()),
        QuantityError::UnknownUnit(unit) => Problem::Units(format!("unknown unit \"{unit}\"")),
        QuantityError::TooLarge => Problem::Plain("too large".to_owned()),
    })
}

fn choice(kind: &Kind, value: &DeValue<'_>) -> Result<&'static str, String> {
    let Kind::Choice(words) = kind else { return Err("not a choice".to_owned()) };
    let DeValue::String(text) = value else {
        return Err(format!("{}; allowed: {}", expected("text", value), kind.allowed()));
    };
    if let Some(word) = words.iter().find(|word| *word == text) {
        return Ok(word);
    }
    let mut problem = format!("unknown value; allowed: {}", kind.allowed());
    if let Some(meant) = nearest(text, words.iter().copied()) {
        problem.push_str(&format!("; did you mean \"{meant}\"?"));
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::SECTIONS;

    #[test]
    fn every_default_is_a_value_that_its_own_key_allows() {
        for key in SECTIONS.iter().flat_map(|section| section.keys) {
            let Fallback::Value(literal) = key.fallback else { continue };
            let value = DeValue::parse(literal).unwrap();
            let value = value.get_ref();
            let result = match &key.kind {
                Kind::Flag => flag(&key.kind, value).map(drop),
                Kind::Count { .. } => count(&key.kind, value).map(drop),
                Kind::Bytes { .. } => bytes(&key.kind, value).map(drop),
                Kind::Time { .. } => time(&key.kind, value).map(drop),
                Kind::Choice(_) => choice(&key.kind, value).map(drop),
                Kind::Name => name(&key.kind, value).map(drop),
                Kind::Path | Kind::Text | Kind::Urls { .. } => text(&key.kind, value).map(drop),
                Kind::Listen { .. }
                | Kind::ListenOrOff
                | Kind::Topics { .. }
                | Kind::Streams { .. }
                | Kind::PartitionKey
                | Kind::Input { .. }
                | Kind::Schedule { .. }
                | Kind::Events
                | Kind::Watch { .. }
                | Kind::Devices { .. }
                | Kind::Addresses { .. }
                | Kind::Patterns { .. }
                | Kind::Words { .. }
                | Kind::Json { .. } => Ok(()),
            };
            assert_eq!(result, Ok(()), "{} = {literal}", key.name);
        }
    }
}
