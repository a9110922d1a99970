//! What the soak comes to.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Sample;
use super::{LEAST_WARM_UP, WARM_UP};
use crate::consumer::Arrivals;
use crate::publisher::Report;

/// Memory may rise by so much above what it was after the warm-up.
const RISE: f64 = 1.05;
/// Files that may be open at the end beyond those at the beginning: a connection of the uplink.
const FILES: u64 = 4;
/// The rate that is meant, and the share of it that must have come to be.
const RATE: f64 = 2000.0;
const LEAST_RATE: f64 = 0.9;

/// What was seen.
pub(super) struct Evidence<'a> {
    pub(super) run_time: Duration,
    /// One a second.
    pub(super) samples: &'a [Sample],
    /// Before the load, and after it.
    pub(super) idle: Sample,
    pub(super) rested: Sample,
    pub(super) reports: &'a [Report],
    pub(super) arrivals: &'a Arrivals,
    pub(super) log: &'a str,
    pub(super) reloads: u64,
    pub(super) cuts: u64,
}

/// The judgement: each line with whether it is good.
#[derive(Debug)]
pub(super) struct Verdict {
    lines: Vec<(String, bool)>,
    json: Value,
}

impl Verdict {
    pub(super) fn of(evidence: &Evidence<'_>) -> Verdict {
        let seconds = evidence.run_time.as_secs_f64();
        let published: u64 = evidence.reports.iter().map(|r| r.acknowledged.len() as u64).sum();
        let refused: usize =
            evidence.reports.iter().map(|r| r.refused.len() + r.unacknowledged.len()).sum();
        let reconnects: u64 = evidence.reports.iter().map(|r| r.progress.connections - 1).sum();
        let lost: u64 = evidence
            .reports
            .iter()
            .map(|report| {
                let there = evidence.arrivals.numbers("telemetry", &report.name);
                report.acknowledged.iter().filter(|number| !there.contains(**number)).count() as u64
            })
            .sum();
        let repeated = evidence.arrivals.repeated("telemetry");
        let (before, peak) = memory(evidence.run_time, evidence.samples);
        let errors = evidence.log.lines().filter(|line| line.contains(" ERROR ")).count();
        let rate = published as f64 / seconds;
        let open = evidence.rested.files.saturating_sub(evidence.idle.files);
        let mut lines = Vec::new();
        let mut judge = |text: String, good: bool| lines.push((text, good));
        judge(
            format!("{published} readings acknowledged, {rate:.0} a second"),
            rate >= RATE * LEAST_RATE,
        );
        judge(format!("{refused} refused or unanswered"), refused == 0);
        judge(format!("{lost} lost, {repeated} twice"), lost == 0 && repeated == 0);
        judge(
            format!(
                "{} reloads, {} cuts of each link, {reconnects} reconnects",
                evidence.reloads, evidence.cuts
            ),
            evidence.reloads > 0 && evidence.cuts > 0 && reconnects > 0,
        );
        judge(
            format!("memory {before} KiB after the warm-up, {peak} KiB at most in a minute since"),
            before > 0 && peak as f64 <= before as f64 * RISE,
        );
        judge(
            format!("{} files open before, {} after", evidence.idle.files, evidence.rested.files),
            open <= FILES,
        );
        judge(
            format!("{} threads before, {} after", evidence.idle.threads, evidence.rested.threads),
            evidence.rested.threads <= evidence.idle.threads + 1,
        );
        judge(format!("{errors} ERROR in the log"), errors == 0);
        let json = json!({
            "seconds": seconds, "acknowledged": published, "refused": refused, "lost": lost,
            "repeated": repeated, "reloads": evidence.reloads, "cuts": evidence.cuts,
            "reconnects": reconnects, "rss_kib_warm": before, "rss_kib_peak": peak,
            "files_before": evidence.idle.files, "files_after": evidence.rested.files,
            "errors": errors,
        });
        Verdict { lines, json }
    }

    pub(super) fn passed(&self) -> bool {
        self.lines.iter().all(|(_, good)| *good)
    }

    pub(super) fn json(&self) -> &Value {
        &self.json
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (text, good) in &self.lines {
            writeln!(f, "{}  {text}", if *good { "ok  " } else { "BAD " })?;
        }
        Ok(())
    }
}

/// The memory after the warm-up, and the most that it was since: medians over a tenth of the time,
/// because single moments hold what is on its way.
fn memory(run_time: Duration, samples: &[Sample]) -> (u64, u64) {
    let warm = run_time.mul_f64(WARM_UP).max(LEAST_WARM_UP).as_secs() as usize;
    let rest = samples.get(warm.min(samples.len())..).unwrap_or_default();
    let windows: Vec<u64> = rest.chunks((rest.len() / 8).max(5)).map(median).collect();
    // The last window may be a few samples only; it counts as well.
    (windows.first().copied().unwrap_or(0), windows.iter().copied().max().unwrap_or(0))
}

fn median(samples: &[Sample]) -> u64 {
    let mut sizes: Vec<u64> = samples.iter().map(|sample| sample.rss_kib).collect();
    sizes.sort_unstable();
    sizes.get(sizes.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(rss: impl Iterator<Item = u64>) -> Vec<Sample> {
        rss.map(|rss_kib| Sample { rss_kib, files: 20, threads: 9 }).collect()
    }

    #[test]
    fn memory_that_grows_after_the_warm_up_is_seen_and_a_moment_is_not() {
        let minutes = Duration::from_secs(180);
        let flat = samples((0..180).map(|at| if at % 30 == 3 { 90_000 } else { 10_000 }));
        assert_eq!(memory(minutes, &flat), (10_000, 10_000));
        let warming = samples((0..180).map(|at| 5_000 + at.min(40) * 100));
        assert_eq!(memory(minutes, &warming), (9_000, 9_000));
        let growing = samples((0..180).map(|at| 10_000 + at * 20));
        let (before, peak) = memory(minutes, &growing);
        assert!(peak as f64 > before as f64 * RISE, "{before} {peak}");
    }

    #[test]
    fn what_was_acknowledged_and_did_not_come_fails_the_soak() {
        let report = Report {
            name: "p0".to_owned(),
            progress: crate::publisher::Progress { connections: 2, ..Default::default() },
            acknowledged: (0..20_000).collect(),
            refused: vec![],
            unacknowledged: vec![],
            last_error: None,
        };
        let sample = Sample { rss_kib: 10_000, files: 20, threads: 9 };
        let mut arrivals = Arrivals::default();
        let ids = arrivals.ids.entry("telemetry".to_owned()).or_default();
        let numbers = &mut ids.entry("p0".to_owned()).or_default().numbers;
        assert!((0..20_000).all(|number| numbers.insert(number)));
        let judged = |arrivals: &Arrivals, log: &str| {
            Verdict::of(&Evidence {
                run_time: Duration::from_secs(10),
                samples: &[sample; 120],
                idle: sample,
                rested: sample,
                reports: std::slice::from_ref(&report),
                arrivals,
                log,
                reloads: 1,
                cuts: 1,
            })
        };
        assert!(judged(&arrivals, "INFO  ready\n").passed(), "{}", judged(&arrivals, ""));
        assert!(!judged(&arrivals, "T ERROR x: y\n").passed());
        assert!(!judged(&Arrivals::default(), "").passed());
    }
}
