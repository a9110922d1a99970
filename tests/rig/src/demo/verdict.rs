//! The count at the end: was each acknowledged reading delivered, exactly once, and did each one
//! over the limit raise its alert?

use std::time::Duration;

use crate::publisher::{Report, message_id};
use crate::seen::SeqSet;

/// Ids that a message names; more are counted.
const NAMED: usize = 5;

/// What the demo saw.
#[derive(Debug)]
pub(super) struct Evidence {
    pub(super) sensors: Vec<SensorEvidence>,
    /// Readings that came twice after the dedupe.
    pub(super) duplicates: u64,
    /// Alerts that came twice after the dedupe.
    pub(super) alert_duplicates: u64,
    /// Messages that the dedupe discarded: allowed, at least once is what MQTT promises.
    pub(super) discarded: u64,
    /// Messages that are no reading and no alert.
    pub(super) foreign: u64,
    /// What the consumer found strange.
    pub(super) oddities: Vec<String>,
    /// All outages together.
    pub(super) outage: Duration,
    /// Messages that came through while the link was cut, for each outage with any.
    pub(super) leaks: Vec<u64>,
}

/// One sensor's part of it.
#[derive(Debug)]
pub(super) struct SensorEvidence {
    pub(super) report: Report,
    pub(super) delivered: SeqSet,
    pub(super) alerts: SeqSet,
    pub(super) expected_alerts: Vec<u64>,
}

/// The counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Counts {
    /// Readings published.
    pub published: u64,
    /// Readings that the gateway acknowledged.
    pub acknowledged: u64,
    /// Distinct readings that reached the cloud.
    pub delivered: u64,
    /// Readings that reached it twice, after the documented dedupe.
    pub duplicates: u64,
    /// Readings acknowledged and not delivered.
    pub lost: u64,
    /// Distinct alerts that reached the cloud.
    pub alerts: u64,
    /// How long the uplink was down, in seconds.
    pub outage_s: f64,
}

impl Counts {
    /// As one JSON object.
    pub fn json(&self) -> String {
        format!(
            r#"{{"published":{},"acknowledged":{},"delivered":{},"duplicates":{},"lost":{},"alerts":{},"outage_s":{:.1}}}"#,
            self.published,
            self.acknowledged,
            self.delivered,
            self.duplicates,
            self.lost,
            self.alerts,
            self.outage_s
        )
    }
}

/// The counts, and in words everything that is not as it should be.
pub(super) fn judge(evidence: &Evidence) -> (Counts, Vec<String>) {
    let mut problems = Vec::new();
    let sensors = &evidence.sensors;
    let unanswered = ids(sensors, |one| one.report.unacknowledged.clone());
    complain(&mut problems, &unanswered, "published and never acknowledged");
    let refused =
        ids(sensors, |one| one.report.refused.iter().map(|(number, _)| *number).collect());
    complain(&mut problems, &refused, "refused by the gateway");
    let lost = ids(sensors, lost_of);
    complain(&mut problems, &lost, "acknowledged and not delivered: LOST");
    let surplus = ids(sensors, surplus_of);
    complain(&mut problems, &surplus, "delivered though never acknowledged");
    let missing = ids(sensors, |one| {
        one.expected_alerts.iter().copied().filter(|id| !one.alerts.contains(*id)).collect()
    });
    complain(&mut problems, &missing, "over the limit without an alert");
    let unexpected = ids(sensors, |one| {
        one.alerts.iter().filter(|id| !one.expected_alerts.contains(id)).collect()
    });
    complain(&mut problems, &unexpected, "with an alert that should not be");
    let counts = Counts {
        published: sensors.iter().map(|one| one.report.progress.published).sum(),
        acknowledged: sensors.iter().map(|one| one.report.acknowledged.len() as u64).sum(),
        delivered: sensors.iter().map(|one| one.delivered.count()).sum(),
        duplicates: evidence.duplicates,
        lost: lost.len() as u64,
        alerts: sensors.iter().map(|one| one.alerts.count()).sum(),
        outage_s: (evidence.outage.as_secs_f64() * 10.0).round() / 10.0,
    };
    complain_about_counts(&mut problems, &counts, evidence);
    (counts, problems)
}

fn complain_about_counts(problems: &mut Vec<String>, counts: &Counts, evidence: &Evidence) {
    if counts.duplicates > 0 {
        problems.push(format!(
            "{} readings were delivered twice after the dedupe by (tg-gw, tg-epoch, tg-stream, \
             tg-seq)",
            counts.duplicates
        ));
    }
    if evidence.alert_duplicates > 0 {
        problems.push(format!(
            "{} alerts were delivered twice after the dedupe",
            evidence.alert_duplicates
        ));
    }
    if counts.published == 0 {
        problems.push("nothing was published".to_owned());
    }
    if counts.alerts == 0 {
        problems.push("the function raised no alert".to_owned());
    }
    if evidence.foreign > 0 {
        problems.push(format!(
            "{} messages reached the cloud that are neither reading nor alert",
            evidence.foreign
        ));
    }
    for leaked in &evidence.leaks {
        problems.push(format!("{leaked} messages came through while the uplink was cut"));
    }
    problems.extend(evidence.oddities.iter().map(|oddity| format!("at the cloud: {oddity}")));
}

fn lost_of(sensor: &SensorEvidence) -> Vec<u64> {
    let acknowledged = sensor.report.acknowledged.iter().copied();
    acknowledged.filter(|number| !sensor.delivered.contains(*number)).collect()
}

fn surplus_of(sensor: &SensorEvidence) -> Vec<u64> {
    let mut acknowledged = SeqSet::default();
    for number in &sensor.report.acknowledged {
        acknowledged.insert(*number);
    }
    sensor.delivered.iter().filter(|number| !acknowledged.contains(*number)).collect()
}

fn ids(sensors: &[SensorEvidence], numbers: impl Fn(&SensorEvidence) -> Vec<u64>) -> Vec<String> {
    let of_one = |one| {
        let name: &str = &SensorEvidence::report_name(one);
        numbers(one).into_iter().map(|number| message_id(name, number)).collect::<Vec<_>>()
    };
    sensors.iter().flat_map(of_one).collect()
}

impl SensorEvidence {
    fn report_name(&self) -> String {
        self.report.name.clone()
    }
}

fn complain(problems: &mut Vec<String>, ids: &[String], what: &str) {
    if ids.is_empty() {
        return;
    }
    let more = if ids.len() > NAMED { ", ..." } else { "" };
    let named = ids[..ids.len().min(NAMED)].join(", ");
    problems.push(format!("{} readings {what}: {named}{more}", ids.len()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publisher::Progress;

    fn set(numbers: &[u64]) -> SeqSet {
        let mut set = SeqSet::default();
        for number in numbers {
            set.insert(*number);
        }
        set
    }

    fn evidence(delivered: &[u64], alerts: &[u64]) -> Evidence {
        let progress =
            Progress { published: 4, acknowledged: 4, refused: 0, resent: 0, connections: 1 };
        let report = Report {
            name: "s1".into(),
            progress,
            acknowledged: vec![0, 1, 2, 3],
            refused: Vec::new(),
            unacknowledged: Vec::new(),
            last_error: None,
        };
        let sensor = SensorEvidence {
            report,
            delivered: set(delivered),
            alerts: set(alerts),
            expected_alerts: vec![2],
        };
        Evidence {
            sensors: vec![sensor],
            duplicates: 0,
            alert_duplicates: 0,
            discarded: 7,
            foreign: 0,
            oddities: Vec::new(),
            outage: Duration::from_millis(18_040),
            leaks: Vec::new(),
        }
    }

    #[test]
    fn everything_once_and_each_alert_is_a_pass() {
        let (counts, problems) = judge(&evidence(&[0, 1, 2, 3], &[2]));
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(
            counts.json(),
            r#"{"published":4,"acknowledged":4,"delivered":4,"duplicates":0,"lost":0,"alerts":1,"outage_s":18.0}"#
        );
    }

    #[test]
    fn a_lost_reading_a_missing_and_a_needless_alert_are_named() {
        let (counts, problems) = judge(&evidence(&[0, 1, 3], &[1]));
        assert_eq!((counts.delivered, counts.lost, counts.alerts), (3, 1, 1));
        assert_eq!(
            problems,
            [
                "1 readings acknowledged and not delivered: LOST: s1-000002",
                "1 readings over the limit without an alert: s1-000002",
                "1 readings with an alert that should not be: s1-000001",
            ]
        );
    }

    #[test]
    fn deliveries_during_the_outage_and_second_deliveries_are_no_pass() {
        let mut seen = evidence(&[0, 1, 2, 3], &[2]);
        seen.leaks = vec![12];
        seen.duplicates = 1;
        seen.alert_duplicates = 1;
        assert_eq!(judge(&seen).1.len(), 3);
    }
}
