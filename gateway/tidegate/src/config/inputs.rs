//! What a function reads: its inputs, and what waits while one of their records does.

use tidegate_broker::TopicFilter;
use tidegate_flow::{InputPlan, Ordering};
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Kind, function, trigger};
use super::mistakes::Mistakes;
use super::sections::{check_stream, filters, list, reserved, size};
use super::settings::StreamSettings;
use super::value::expected;

/// What is wrong with a function that nothing calls.
const NO_TRIGGER: &str = "missing; write, for example, input = { stream = \"telemetry\" }, or let \
                          something else call the function: schedule = ..., \
                          events = [...], watch = ..., routes = ...";
/// Most topic filters of an input.
const MAX_TOPICS: usize = 64;

/// The inputs of a function, each stream once. Whether they exist is asked where streams are known.
pub(super) fn read(
    section: &Section<'_>,
    streams: Option<&[StreamSettings]>,
    out: &mut Mistakes,
) -> Vec<InputPlan> {
    let Some(spot) = section.spot(&function::INPUT) else {
        let triggers = [&trigger::SCHEDULE, &trigger::EVENTS, &trigger::WATCH, &function::ROUTES];
        if triggers.iter().all(|key| section.spot(key).is_none()) {
            section.wrong_absent(function::INPUT.name, out, NO_TRIGGER);
        }
        return Vec::new();
    };
    let DeValue::Array(_) = spot.value else {
        return input(&spot, streams, out).into_iter().collect();
    };
    let Kind::Input { max } = function::INPUT.kind else { return Vec::new() };
    let mut found: Vec<InputPlan> = Vec::new();
    for spot in list(&spot, 1, max, "inputs", out).unwrap_or_default() {
        let Some(input) = input(&spot, streams, out) else { continue };
        if found.iter().any(|before| before.stream == input.stream) {
            let problem = "this stream is listed twice; write one input with all its topics";
            spot.wrong(out, problem);
        }
        found.push(input);
    }
    found
}

fn input(
    spot: &Spot<'_>,
    streams: Option<&[StreamSettings]>,
    out: &mut Mistakes,
) -> Option<InputPlan> {
    let Some(entries) = spot.entries() else {
        spot.wrong(out, "must be a table; write { stream = \"NAME\" }");
        return None;
    };
    let names = streams.map(|all| all.iter().map(|stream| stream.name.as_str()));
    let names: Option<Vec<&str>> = names.map(Iterator::collect);
    let mut stream = None;
    let mut topics: Vec<TopicFilter> = Vec::new();
    for (key, entry) in entries {
        match (key, entry.value) {
            ("stream", DeValue::String(name)) => {
                match (reserved(name), &names) {
                    (Some(what), _) => entry.wrong(out, &format!("a function cannot read {what}")),
                    (None, Some(names)) => check_stream(&entry, name, names, out),
                    (None, None) => {}
                }
                stream = Some(name.clone().into_owned());
            }
            ("stream", other) => {
                entry.wrong(out, &expected("the name of a stream", other));
                stream = Some(String::new());
            }
            ("topics", _) => topics = filters(&entry, 1, MAX_TOPICS, out),
            _ => entry.wrong(out, "unknown key; known here: stream, topics"),
        }
    }
    if stream.is_none() {
        spot.wrong(out, "names no stream; write { stream = \"NAME\" }");
    }
    Some(InputPlan { stream: stream?, topics })
}

/// The ordering, and how many calls it lets run at a time.
pub(super) fn ordering(
    section: &Section<'_>,
    inputs: &[InputPlan],
    streams: Option<&[StreamSettings]>,
    out: &mut Mistakes,
) -> (Ordering, usize) {
    let ordering = match section.choice(&function::ORDERING, out) {
        "per-key" => Ordering::PerKey,
        "none" => Ordering::None,
        _ => Ordering::Strict,
    };
    let workers = size(section.count(&function::WORKERS, out));
    match ordering {
        Ordering::Strict if workers > 1 => {
            if let Some(spot) = section.spot(&function::WORKERS) {
                spot.wrong(
                    out,
                    "strict ordering is one call at a time; leave it at 1, or set ordering = \
                     \"per-key\" or \"none\"",
                );
            }
        }
        Ordering::Strict | Ordering::None => {}
        // Of a file without streams the gateway says it that it is pushed to.
        Ordering::PerKey => check_keys(section, inputs, streams.unwrap_or(&[]), out),
    }
    (ordering, workers)
}

/// Without a key all records of a stream would be of one key.
fn check_keys(
    section: &Section<'_>,
    inputs: &[InputPlan],
    streams: &[StreamSettings],
    out: &mut Mistakes,
) {
    let Some(spot) = section.spot(&function::ORDERING) else { return };
    for input in inputs {
        let stream = streams.iter().find(|stream| stream.name == input.stream);
        if stream.is_some_and(|stream| stream.key.is_none()) {
            let name = &input.stream;
            let problem = format!("stream \"{name}\" has no key; set `key` in [stream.{name}]");
            spot.wrong(out, &problem);
        }
    }
}
