//! What pushed functions may have at most: the operator's side of a package's manifest.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_broker::TopicFilter;
use tidegate_flow::{EventKind, HttpRoute, Ordering};

use super::manifest::Manifest;
use crate::config::{RouteSettings, show_bytes, show_duration};

/// `[functions.allow]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ceiling {
    /// How many of them.
    pub functions: usize,
    /// Calls of one at a time.
    pub workers: u64,
    /// What they may read.
    pub streams: Vec<String>,
    /// Where they may publish.
    pub publish: Vec<TopicFilter>,
    /// Linear memory of one, in bytes.
    pub memory: u64,
    /// State of one, in bytes.
    pub state_bytes: u64,
    /// Timers of one.
    pub timers: u64,
    /// Fuel of a call.
    pub fuel_per_batch: u64,
    /// Fuel that each record adds.
    pub fuel_per_message: u64,
    /// Time of a call.
    pub deadline: Duration,
    /// The time of the batch.
    pub clock: bool,
    /// Random numbers.
    pub random: bool,
    /// What they may be told of.
    pub events: Vec<EventKind>,
    /// Which routes they may answer.
    pub routes: RouteSettings,
    /// Which secrets they may read.
    pub secrets: Vec<String>,
}

/// What a manifest is checked against beside the ceiling.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Names of all streams, reserved ones included.
    pub(crate) streams: BTreeSet<String>,
    /// Of those, the ones whose records have a partition key.
    pub(crate) keyed: BTreeSet<String>,
    /// Functions of the configuration.
    pub(crate) configured: BTreeSet<String>,
    /// Functions that were pushed.
    pub(crate) pushed: BTreeSet<String>,
    /// Routes that are answered, and by which functions.
    pub(crate) routes: Vec<(String, HttpRoute)>,
}

/// Everything that keeps a manifest from being installed, in words.
pub(crate) fn problems(
    manifest: &Manifest,
    ceiling: &Ceiling,
    around: &Surroundings,
) -> Vec<String> {
    let mut found = Vec::new();
    let name = &manifest.name;
    if around.configured.contains(name) {
        found.push(format!("name: function \"{name}\" is in the gateway's configuration"));
    }
    if !around.pushed.contains(name) && around.pushed.len() >= ceiling.functions {
        let most = ceiling.functions;
        found.push(format!("name: the gateway has {most} pushed functions, and allows no more"));
    }
    inputs(manifest, ceiling, around, &mut found);
    for filter in &manifest.publish {
        if !ceiling.publish.iter().any(|allowed| covers(allowed, filter)) {
            found.push(format!("publish: \"{filter}\" is not allowed to pushed functions"));
        }
    }
    amounts(manifest, ceiling, &mut found);
    routes(manifest, ceiling, around, &mut found);
    for name in &manifest.wants.secrets {
        if !ceiling.secrets.contains(name) {
            found.push(format!("secrets: \"{name}\" is not allowed to pushed functions"));
        }
    }
    for name in &manifest.wants.events {
        match EventKind::named(name) {
            Some(kind) if ceiling.events.contains(&kind) => {}
            Some(_) => found.push(format!("events: \"{name}\" is not allowed to pushed functions")),
            None => found.push(format!("events: this gateway does not know \"{name}\"")),
        }
    }
    for (key, wanted, allowed) in [
        ("clock", manifest.wants.clock, ceiling.clock),
        ("random", manifest.wants.random, ceiling.random),
    ] {
        if wanted && !allowed {
            found.push(format!("{key}: not allowed to pushed functions"));
        }
    }
    found
}

fn inputs(manifest: &Manifest, ceiling: &Ceiling, around: &Surroundings, found: &mut Vec<String>) {
    for input in &manifest.inputs {
        let stream = &input.stream;
        if !around.streams.contains(stream) {
            found.push(format!("input: the gateway has no stream \"{stream}\""));
        } else if !ceiling.streams.contains(stream) {
            found.push(format!("input: stream \"{stream}\" is not allowed to pushed functions"));
        }
        let without_key = around.streams.contains(stream) && !around.keyed.contains(stream);
        if manifest.ordering == Ordering::PerKey && without_key {
            found.push(format!("ordering: per-key, and the records of \"{stream}\" have no key"));
        }
    }
}

fn routes(manifest: &Manifest, ceiling: &Ceiling, around: &Surroundings, found: &mut Vec<String>) {
    for route in manifest.settings().routes {
        if !ceiling.routes.rule(&route).is_some_and(|rule| rule.pushed) {
            found.push(format!("routes: \"{route}\" is not allowed to pushed functions"));
        }
        let others = around.routes.iter().filter(|(name, _)| *name != manifest.name);
        for (name, other) in others {
            if other.clashes_with(&route) {
                found.push(format!("routes: function \"{name}\" answers \"{other}\" already"));
            }
        }
    }
}

/// A key, what the package wants of it, what it may have, and how that is written.
type Amount = (&'static str, u64, u64, fn(u64) -> String);

fn amounts(manifest: &Manifest, ceiling: &Ceiling, found: &mut Vec<String>) {
    // Those that it sets, and those that its schedules are.
    let timers = manifest.wants.timers.saturating_add(manifest.schedules.len() as u64);
    let show: [Amount; 7] = [
        ("workers", manifest.workers, ceiling.workers, |n| n.to_string()),
        ("memory", manifest.memory, ceiling.memory, show_bytes),
        ("state_bytes", manifest.state_bytes, ceiling.state_bytes, show_bytes),
        ("timers", timers, ceiling.timers, |n| n.to_string()),
        ("fuel_per_batch", manifest.fuel_per_batch, ceiling.fuel_per_batch, |n| n.to_string()),
        ("fuel_per_message", manifest.fuel_per_message, ceiling.fuel_per_message, |n| {
            n.to_string()
        }),
        (
            "deadline",
            manifest.deadline.as_micros() as u64,
            ceiling.deadline.as_micros() as u64,
            |us| show_duration(Duration::from_micros(us)),
        ),
    ];
    for (key, wanted, allowed, show) in show {
        if wanted > allowed {
            let (wanted, allowed) = (show(wanted), show(allowed));
            found.push(format!("{key}: {wanted}; pushed functions are allowed {allowed}"));
        }
    }
}

/// Whether every topic that `filter` matches is matched by `allowed`.
fn covers(allowed: &TopicFilter, filter: &TopicFilter) -> bool {
    let (mut wide, mut narrow) = (allowed.levels(), filter.levels());
    let mut first = true;
    loop {
        match (wide.next(), narrow.next()) {
            // A wildcard in front does not match the gateway's own topics.
            (Some("#" | "+"), Some(level)) if first && level.starts_with('$') => return false,
            (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            (None, None) => return true,
            (Some(_), _) | (None, Some(_)) => return false,
        }
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use tidegate_flow::InputPlan;

    use super::super::manifest::Wants;
    use super::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn nothing() -> Ceiling {
        Ceiling {
            functions: 0,
            workers: 1,
            streams: Vec::new(),
            publish: Vec::new(),
            memory: 1 << 20,
            state_bytes: 0,
            timers: 0,
            fuel_per_batch: 1000,
            fuel_per_message: 0,
            deadline: Duration::from_millis(100),
            clock: false,
            random: false,
            events: Vec::new(),
            routes: RouteSettings::default(),
            secrets: Vec::new(),
        }
    }

    fn greedy() -> Manifest {
        Manifest {
            name: "echo".into(),
            inputs: vec![
                InputPlan { stream: "telemetry".into(), topics: vec![filter("a")] },
                InputPlan { stream: "nowhere".into(), topics: Vec::new() },
            ],
            publish: vec![filter("alerts/#")],
            ordering: Ordering::PerKey,
            workers: 2,
            state_bytes: 1,
            wants: Wants {
                clock: true,
                random: true,
                timers: 1,
                routes: vec!["GET /".into()],
                secrets: vec!["token".into()],
                events: vec!["start".into(), "moon".into()],
            },
            ..super::super::tests::small()
        }
    }

    #[test]
    fn a_filter_covers_another_when_it_matches_all_that_the_other_matches() {
        for (allowed, filters, covered) in [
            ("#", &["a", "a/b", "a/#", "+/b", "#"][..], true),
            ("#", &["$SYS/a", "$SYS/#"], false),
            ("+/a", &["b/a", "+/a"], true),
            ("+/a", &["$b/a", "#", "+/+", "b/a/c"], false),
            ("alerts/#", &["alerts", "alerts/a", "alerts/+/b", "alerts/#"], true),
            ("alerts/#", &["alert/a", "+/a", "#", "alertsx"], false),
            ("a/+", &["a/b", "a/+"], true),
            ("a/+", &["a", "a/#", "a/b/c"], false),
            ("a/b", &["a/b"], true),
            ("a/b", &["a/+", "a", "a/b/c"], false),
        ] {
            for narrow in filters {
                let found = covers(&filter(allowed), &filter(narrow));
                assert_eq!(found, covered, "{allowed} covers {narrow}");
            }
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let around = Surroundings {
            streams: BTreeSet::from(["telemetry".to_owned()]),
            configured: BTreeSet::from(["echo".to_owned()]),
            ..Surroundings::default()
        };
        let found = problems(&greedy(), &nothing(), &around).join("\n");
        for key in [
            "name: function \"echo\" is in the gateway's configuration",
            "name: the gateway has 0 pushed functions",
            "input: stream \"telemetry\" is not allowed",
            "input: the gateway has no stream \"nowhere\"",
            "publish: \"alerts/#\" is not allowed",
            "memory: 16MiB; pushed functions are allowed 1MiB",
            "state_bytes: 1B; pushed functions are allowed 0B",
            "fuel_per_batch: 10000000; pushed functions are allowed 1000",
            "fuel_per_message: 1000000; pushed functions are allowed 0",
            "deadline: 1s; pushed functions are allowed 100ms",
            "ordering: per-key, and the records of \"telemetry\" have no key",
            "workers: 2; pushed functions are allowed 1",
            "timers: 1; pushed functions are allowed 0",
            "routes: ",
            "secrets: ",
            "events: \"start\" is not allowed to pushed functions",
            "events: this gateway does not know \"moon\"",
            "clock: not allowed",
            "random: not allowed",
        ] {
            assert!(found.contains(key), "{key} in\n{found}");
        }
    }

    #[test]
    fn what_is_within_the_ceiling_has_no_problem() {
        let around = Surroundings {
            streams: BTreeSet::from(["telemetry".to_owned()]),
            ..Surroundings::default()
        };
        let ceiling = Ceiling {
            events: vec![EventKind::Start, EventKind::Disk],
            functions: 1,
            streams: vec!["telemetry".into()],
            publish: vec![filter("alerts/#")],
            memory: 16 << 20,
            fuel_per_batch: 10_000_000,
            fuel_per_message: 1_000_000,
            deadline: Duration::from_secs(1),
            ..nothing()
        };
        let wants = Wants { events: vec!["disk".into()], ..Wants::default() };
        let publish = vec![filter("alerts/high")];
        let manifest = Manifest { publish, wants, ..super::super::tests::small() };
        assert_eq!(problems(&manifest, &ceiling, &around), Vec::<String>::new());
    }
}
