//! What must be true of every world when it is done.

use std::collections::BTreeMap;

use crate::publisher::{Publisher, is_over};
use crate::world::World;

impl World {
    /// Everything that is wrong, in words; empty when the promises were kept.
    pub fn verdict(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.faults);
        wrong.extend(self.upstream.conflicts.iter().map(|c| format!("one identity twice: {c}")));
        let telemetry = self.upstream.ids("telemetry");
        let alerts = self.upstream.ids("alerts");
        for publisher in &self.publishers {
            judge_readings(publisher, &telemetry, &mut wrong);
            judge_alerts(publisher, &telemetry, &alerts, &mut wrong);
        }
        wrong
    }
}

/// Acknowledged means upstream; in order; with an identity exactly once.
fn judge_readings(publisher: &Publisher, all: &[(String, String)], wrong: &mut Vec<String>) {
    let name = &publisher.name;
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut newest = None;
    for reading in of_publisher(all, name) {
        let times = seen.entry(reading).or_default();
        *times += 1;
        if *times == 1 {
            if newest.is_some_and(|newest| reading < newest) {
                wrong.push(format!("{name}: reading {reading} came after {newest:?}"));
            }
            newest = Some(reading);
        }
    }
    for reading in &publisher.acknowledged {
        if !seen.contains_key(reading) {
            wrong.push(format!("{name}: reading {reading} was acknowledged and is lost"));
        }
    }
    if publisher.is_identified() {
        for (reading, times) in seen.iter().filter(|(_, times)| **times > 1) {
            wrong.push(format!("{name}: reading {reading} is upstream {times} times"));
        }
    }
}

/// One alert for each record over the limit, no more and no less.
fn judge_alerts(
    publisher: &Publisher,
    telemetry: &[(String, String)],
    alerts: &[(String, String)],
    wrong: &mut Vec<String>,
) {
    let name = &publisher.name;
    let mut due: BTreeMap<u64, i64> = BTreeMap::new();
    for reading in of_publisher(telemetry, name).filter(|reading| is_over(*reading)) {
        *due.entry(reading).or_default() += 1;
    }
    let prefix = format!("{name}-");
    for (_, id) in alerts {
        if let Some(reading) = id.strip_prefix(&prefix).and_then(|n| n.parse().ok()) {
            *due.entry(reading).or_default() -= 1;
        }
    }
    for (reading, missing) in due {
        if missing > 0 {
            wrong.push(format!("{name}: {missing} alert(s) missing for reading {reading}"));
        }
        if missing < 0 {
            wrong.push(format!("{name}: {} alert(s) too many for {reading}", -missing));
        }
    }
}

fn of_publisher<'a>(all: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = u64> + 'a {
    all.iter()
        .filter(move |(client, _)| client == name)
        .filter_map(move |(_, id)| id.strip_prefix(name)?.strip_prefix('-')?.parse().ok())
}
