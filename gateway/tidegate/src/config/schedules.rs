//! When a function is called by the clock.

use std::time::Duration;

use tidegate_flow::{Cron, Missed, Rhythm, SchedulePlan};
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Kind, MAX_NAME, trigger};
use super::mistakes::Mistakes;
use super::sections::list;
use super::units::{parse_duration, show_duration};
use super::value::{expected, is_name};

/// The schedules of a function, each name once.
pub(super) fn read(section: &Section<'_>, out: &mut Mistakes) -> Vec<SchedulePlan> {
    let Some(spot) = section.spot(&trigger::SCHEDULE) else { return Vec::new() };
    let DeValue::Array(_) = spot.value else {
        return schedule(&spot, out).into_iter().collect();
    };
    let Kind::Schedule { max, .. } = trigger::SCHEDULE.kind else { return Vec::new() };
    let mut found: Vec<SchedulePlan> = Vec::new();
    for spot in list(&spot, 1, max, "schedules", out).unwrap_or_default() {
        let Some(schedule) = schedule(&spot, out) else { continue };
        if found.iter().any(|before| before.name == schedule.name) {
            spot.wrong(out, "another schedule of the function has this name");
        }
        found.push(schedule);
    }
    found
}

fn schedule(spot: &Spot<'_>, out: &mut Mistakes) -> Option<SchedulePlan> {
    const EXAMPLE: &str = "write, for example, { name = \"report\", every = \"10s\" }";
    let Some(entries) = spot.entries() else {
        spot.wrong(out, &format!("must be a table; {EXAMPLE}"));
        return None;
    };
    let (mut name, mut rhythm, mut rhythms, mut missed) = (None, None, 0, Missed::Once);
    for (key, entry) in &entries {
        match (*key, entry.value) {
            ("name", DeValue::String(text)) if is_name(text) => name = Some(text.to_string()),
            ("name", DeValue::String(_)) => {
                let problem = format!("not a name; allowed: 1 to {MAX_NAME} of A-Z a-z 0-9 _ -");
                entry.wrong(out, &problem);
            }
            ("every", _) => {
                rhythms += 1;
                rhythm = every(entry, out).map(Rhythm::Every);
            }
            ("cron", DeValue::String(text)) => {
                rhythms += 1;
                match Cron::parse(text) {
                    Ok(cron) => rhythm = Some(Rhythm::Cron(cron)),
                    Err(error) => entry.wrong(out, &error.to_string()),
                }
            }
            ("missed", DeValue::String(text)) => match policy(text) {
                Some(policy) => missed = policy,
                None => entry.wrong(out, "unknown value; allowed: \"skip\", \"once\", \"all\""),
            },
            ("name" | "cron" | "missed", other) => {
                rhythms += usize::from(*key == "cron");
                entry.wrong(out, &expected("text", other));
            }
            _ => entry.wrong(out, "unknown key; known here: name, every, cron, missed"),
        }
    }
    if !entries.iter().any(|(key, _)| *key == "name") {
        spot.wrong(out, &format!("has no name; {EXAMPLE}"));
    }
    match rhythms {
        0 => spot.wrong(out, "says no time: every = \"10s\", or cron = \"0 3 * * *\""),
        1 => {}
        _ => spot.wrong(out, "has both every and cron; write two schedules"),
    }
    Some(SchedulePlan { name: name?, rhythm: rhythm?, missed })
}

fn every(entry: &Spot<'_>, out: &mut Mistakes) -> Option<Duration> {
    let Kind::Schedule { shortest, longest, .. } = trigger::SCHEDULE.kind else { return None };
    let allowed = format!("allowed: {} to {}", show_duration(shortest), show_duration(longest));
    let DeValue::String(text) = entry.value else {
        entry
            .wrong(out, &format!("{}; {allowed}", expected("a time such as \"10s\"", entry.value)));
        return None;
    };
    match parse_duration(text) {
        Ok(period) if (shortest..=longest).contains(&period) => return Some(period),
        Ok(_) => entry.wrong(out, &format!("out of range; {allowed}")),
        Err(_) => entry.wrong(out, &format!("not a time such as \"10s\"; {allowed}")),
    }
    None
}

/// A policy by the word for it.
pub(crate) fn policy(word: &str) -> Option<Missed> {
    match word {
        "skip" => Some(Missed::Skip),
        "once" => Some(Missed::Once),
        "all" => Some(Missed::All),
        _ => None,
    }
}

/// The word for a policy.
pub(crate) fn word(missed: Missed) -> &'static str {
    match missed {
        Missed::Skip => "skip",
        Missed::Once => "once",
        Missed::All => "all",
    }
}

/// A schedule as people read it: `report every 10s`.
pub(crate) fn show(schedule: &SchedulePlan) -> String {
    let SchedulePlan { name, rhythm, missed } = schedule;
    let missed = word(*missed);
    match rhythm {
        Rhythm::Every(period) => {
            format!("{name} every {}, missed: {missed}", show_duration(*period))
        }
        Rhythm::Cron(cron) => format!("{name} at {}, missed: {missed}", cron.as_str()),
    }
}
