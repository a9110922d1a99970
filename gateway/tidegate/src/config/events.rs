//! What a function is told of beside records.

use tidegate_flow::EventKind;
use toml::de::DeValue;

use super::document::Section;
use super::keys::Key;
use super::mistakes::Mistakes;
use super::sections::list;
use super::value::expected;

/// The kinds that a key names, each once.
pub(super) fn read(section: &Section<'_>, key: &Key, out: &mut Mistakes) -> Vec<EventKind> {
    let Some(spot) = section.spot(key) else { return Vec::new() };
    let mut found: Vec<EventKind> = Vec::new();
    for element in list(&spot, 0, EventKind::NAMED.len(), "events", out).unwrap_or_default() {
        let DeValue::String(name) = element.value else {
            element.wrong(out, &expected("text", element.value));
            continue;
        };
        match EventKind::named(name) {
            Some(kind) if found.contains(&kind) => element.wrong(out, "listed twice"),
            Some(kind) => found.push(kind),
            None if name == EventKind::State.name() => {
                element.wrong(out, "comes with `watch`, which says whose state");
            }
            None => {
                element.wrong(out, &format!("unknown event; allowed: {}", key.kind.allowed()));
            }
        }
    }
    found
}
