//! Whose state a function is told of when that changes.

use tidegate_flow::WatchPlan;
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Kind, MAX_NAME, function, functions, trigger};
use super::mistakes::Mistakes;
use super::sections::{Reader, list};
use super::settings::FunctionSettings;
use super::value::{expected, is_name};

/// What the keys of a watch begin with has at most so many bytes.
const MAX_PREFIX: usize = 256;

/// The watches of a function.
pub(super) fn read(section: &Section<'_>, out: &mut Mistakes) -> Vec<WatchPlan> {
    let Some(spot) = section.spot(&trigger::WATCH) else { return Vec::new() };
    let DeValue::Array(_) = spot.value else {
        return watch(&spot, out).into_iter().collect();
    };
    let Kind::Watch { max } = trigger::WATCH.kind else { return Vec::new() };
    let mut found: Vec<WatchPlan> = Vec::new();
    for spot in list(&spot, 1, max, "watches", out).unwrap_or_default() {
        let Some(watch) = watch(&spot, out) else { continue };
        if found.contains(&watch) {
            spot.wrong(out, "listed twice");
        }
        found.push(watch);
    }
    found
}

fn watch(spot: &Spot<'_>, out: &mut Mistakes) -> Option<WatchPlan> {
    const EXAMPLE: &str = "write, for example, { function = \"limits\", prefix = \"limit/\" }";
    let Some(entries) = spot.entries() else {
        spot.wrong(out, &format!("must be a table; {EXAMPLE}"));
        return None;
    };
    let (mut function, mut prefix) = (None, String::new());
    for (key, entry) in &entries {
        match (*key, entry.value) {
            ("function", DeValue::String(text)) if is_name(text) => {
                function = Some(text.to_string());
            }
            ("function", DeValue::String(_)) => {
                let problem = format!("not a name; allowed: 1 to {MAX_NAME} of A-Z a-z 0-9 _ -");
                entry.wrong(out, &problem);
            }
            ("prefix", DeValue::String(text)) if text.len() > MAX_PREFIX => {
                entry.wrong(out, &format!("{} bytes; allowed: {MAX_PREFIX}", text.len()));
            }
            ("prefix", DeValue::String(text)) => prefix = text.to_string(),
            ("function" | "prefix", other) => entry.wrong(out, &expected("text", other)),
            _ => entry.wrong(out, "unknown key; known here: function, prefix"),
        }
    }
    if !entries.iter().any(|(key, _)| *key == "function") {
        spot.wrong(out, &format!("names no function; {EXAMPLE}"));
    }
    Some(WatchPlan { function: function?, prefix })
}

/// Watches are of functions that there are, and no circle of them calls itself for ever.
pub(super) fn check(reader: &Reader<'_>, found: &[FunctionSettings], out: &mut Mistakes) {
    // The sections' own mistakes have been told where the rest of them is read.
    let mut ignored = Mistakes::new(reader.file);
    let sections = Section::several(reader.source, reader.root, &function::SECTION, &mut ignored);
    let pushed = Section::single(reader.source, reader.root, &functions::SECTION, &mut ignored);
    let takes_pushed = pushed.spot(&functions::TRUSTED_KEYS).is_some();
    for settings in found {
        let section = sections.iter().find(|(name, _)| *name == settings.name);
        let Some(spot) = section.and_then(|(_, one)| one.spot(&trigger::WATCH)) else { continue };
        for WatchPlan { function, .. } in &settings.watches {
            let is_there = found.iter().any(|other| other.name == *function);
            if !is_there && !takes_pushed {
                spot.wrong(out, &format!("there is no function \"{function}\""));
            }
        }
        if let Some(circle) = circle(&settings.name, found) {
            spot.wrong(
                out,
                &format!("{circle}: each would call the next for ever; leave one of them out"),
            );
        }
    }
}

/// How a function is told, over others, of what it changes itself.
fn circle(name: &str, found: &[FunctionSettings]) -> Option<String> {
    let watched = |name: &str| {
        let settings = found.iter().find(|one| one.name == name);
        settings.map_or(&[][..], |one| &one.watches).iter().map(|watch| watch.function.as_str())
    };
    let mut ways = vec![vec![name]];
    let mut seen = vec![name];
    while let Some(way) = ways.pop() {
        for next in watched(way.last()?) {
            if next == name {
                return Some([&way[..], &[name]].concat().join(" watches "));
            }
            if !seen.contains(&next) {
                seen.push(next);
                ways.push([&way[..], &[next]].concat());
            }
        }
    }
    None
}

/// A watch as people read it: `limits limit/`.
pub(crate) fn show(watch: &WatchPlan) -> String {
    let WatchPlan { function, prefix } = watch;
    if prefix.is_empty() { function.clone() } else { format!("{function} {prefix}") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{parse, sections::Depth};

    /// What is wrong with a file in which `a` has this key, without the file's name.
    fn problem(watch: &str, rest: &str) -> String {
        let text = format!(
            "[gateway]\nid = \"gw\"\ndata_dir = \"d\"\n[function.a]\nmodule = \"a.wasm\"\n{watch}\n\
             {rest}"
        );
        match parse(Path::new("t.toml"), &text, Depth::File) {
            Ok(_) => String::new(),
            Err(mistakes) => mistakes.to_string(),
        }
    }

    fn function(name: &str, watch: &str) -> String {
        format!("[function.{name}]\nmodule = \"{name}.wasm\"\n{watch}\n")
    }

    #[test]
    fn every_mistake_in_a_watch_is_told() {
        let b = function("b", "events = [\"start\"]");
        for (watch, expected) in [
            (r#"watch = { function = "b", prefix = "limit/" }"#, ""),
            (r#"watch = [{ function = "b" }, { function = "b", prefix = "n" }]"#, ""),
            (r#"watch = "b""#, r#"must be a table; write, for example, { function = "limits""#),
            (r#"watch = { prefix = "n" }"#, "names no function; write, for example"),
            (r#"watch = { function = "b c" }"#, "not a name; allowed: 1 to 64"),
            (r#"watch = { function = 3 }"#, "must be text"),
            (
                r#"watch = { function = "b", key = "n" }"#,
                "unknown key; known here: function, prefix",
            ),
            (r#"watch = { function = "c" }"#, r#"there is no function "c""#),
            (r#"watch = [{ function = "b" }, { function = "b" }]"#, "listed twice"),
            (r#"events = ["state"]"#, "comes with `watch`, which says whose state"),
        ] {
            let found = problem(watch, &b);
            let fits =
                if expected.is_empty() { found.is_empty() } else { found.contains(expected) };
            assert!(fits, "{watch}: {found}");
        }
        let long = format!("watch = {{ function = \"b\", prefix = \"{}\" }}", "x".repeat(257));
        assert!(problem(&long, &b).contains("257 bytes; allowed: 256"));
    }

    #[test]
    fn one_that_is_pushed_later_may_be_watched_where_functions_are_pushed() {
        let watch = r#"watch = { function = "pushed" }"#;
        assert!(problem(watch, "").contains("there is no function \"pushed\""));
        assert_eq!(problem(watch, "[functions]\ntrusted_keys = []\n"), "");
    }

    #[test]
    fn functions_that_watch_each_other_are_refused_with_the_whole_circle() {
        let watch = |name: &str| format!("watch = {{ function = \"{name}\" }}");
        assert!(
            problem(&watch("a"), "").contains("a watches a: each would call the next for ever")
        );
        let rest = function("b", &watch("c")) + &function("c", &watch("a"));
        let found = problem(&watch("b"), &rest);
        assert!(found.contains("a watches b watches c watches a: each would call"), "{found}");
        // Two ways to the same function are no circle.
        let rest = function("b", &watch("d")) + &function("c", &watch("d"));
        let rest = rest + &function("d", "events = [\"start\"]");
        let both = r#"watch = [{ function = "b" }, { function = "c" }]"#;
        assert_eq!(problem(both, &rest), "");
    }
}
