//! `[[mqtt.acl]]`: who may publish and subscribe where.

use tidegate_broker::access::{Effect, Pattern, Policy, Rule};
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Key, Kind, acl};
use super::listeners::ListenerSettings;
use super::mistakes::Mistakes;
use super::sections::{Reader, list};
use super::suggestion::nearest;
use super::value::expected;

/// Most rules of one gateway.
const MAX_RULES: usize = 1000;

/// Reads the rules; `None` when there are none.
pub(super) fn read(
    reader: &Reader<'_>,
    listeners: &[ListenerSettings],
    has_login: bool,
    out: &mut Mistakes,
) -> Option<Policy> {
    let sections = Section::list(reader.source, reader.root, &acl::SECTION, out);
    if sections.is_empty() {
        if has_login {
            let why = "mqtt.acl: missing; clients log in, and without a rule nobody may publish or \
                       subscribe; write, for example, [[mqtt.acl]] with topics = \
                       [\"sensors/${username}/#\"], or topics = [\"#\"] to allow everything";
            out.add(None, why.to_owned());
        }
        return None;
    }
    if let Some(section) = sections.get(MAX_RULES) {
        section.wrong(out, &format!("one too many; allowed: {MAX_RULES}"));
    }
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let rule = |section: &Section<'_>| rule(section, &names, out);
    Some(Policy { rules: sections.iter().map(rule).collect() })
}

fn rule(section: &Section<'_>, names: &[&str], out: &mut Mistakes) -> Rule {
    let action = section.choice(&acl::ACTION, out);
    let effect = match section.choice(&acl::EFFECT, out) {
        "deny" => Effect::Deny,
        _ => Effect::Allow,
    };
    let listeners = words(section, &acl::LISTENERS, out);
    for (spot, name) in &listeners {
        if !names.contains(&name.as_str()) {
            let help = match nearest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("there is: {}", names.join(", ")),
            };
            spot.wrong(out, &format!("no such listener; {help}"));
        }
    }
    let users = words(section, &acl::USERS, out);
    Rule {
        effect,
        publish: action != "subscribe",
        subscribe: action != "publish",
        topics: patterns(section, out),
        users: users.into_iter().map(|(_, user)| user).collect(),
        listeners: listeners.into_iter().map(|(_, name)| name).collect(),
    }
}

fn patterns(section: &Section<'_>, out: &mut Mistakes) -> Vec<Pattern> {
    let Kind::Patterns { max } = acl::TOPICS.kind else { return Vec::new() };
    let Some(spot) = section.spot(&acl::TOPICS) else {
        section.missing(&acl::TOPICS, out);
        return Vec::new();
    };
    let mut found = Vec::new();
    for element in list(&spot, 1, max, "topic filters", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) => match Pattern::parse(text) {
                Ok(pattern) => found.push(pattern),
                Err(error) => element.wrong(out, &error.to_string()),
            },
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}

/// The texts of a list, with where they stand.
pub(super) fn words<'a>(
    section: &Section<'a>,
    key: &Key,
    out: &mut Mistakes,
) -> Vec<(Spot<'a>, String)> {
    let Kind::Words { max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else { return Vec::new() };
    let mut found = Vec::new();
    for element in list(&spot, 1, max, "texts", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) if !text.is_empty() => {
                let text = text.clone().into_owned();
                found.push((element, text));
            }
            DeValue::String(_) => element.wrong(out, "must not be empty"),
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}
