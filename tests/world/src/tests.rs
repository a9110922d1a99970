//! The promises, each under the weather that threatens it.

use std::time::Duration;

use super::{Options, Planted, operations_of_a_calm_run, run};

/// Points of the run at which the power is cut.
const POINTS: u64 = 500;

fn replay(arguments: &str, wrong: &[String]) -> String {
    format!("{}\nreplay: cargo xtask world {arguments}", wrong.join("\n"))
}

#[test]
fn a_calm_run_delivers_every_reading_and_alert_once() {
    let wrong = run(Options::power_cut(1, None));
    assert!(wrong.is_empty(), "{}", replay("--power-cut 1", &wrong));
}

#[test]
fn a_power_cut_at_any_of_500_points_loses_no_acknowledged_reading_and_doubles_no_alert() {
    let operations = operations_of_a_calm_run(1);
    assert!(operations >= POINTS, "only {operations} disk operations: too few points to cut at");
    for point in 0..POINTS {
        let at = 1 + point * operations / POINTS;
        let wrong = run(Options::power_cut(1, Some(at)));
        assert!(wrong.is_empty(), "{}", replay(&format!("--power-cut 1 --at {at}"), &wrong));
    }
}

#[test]
fn failed_syncs_acknowledge_nothing_that_is_not_there_and_the_gateway_goes_on() {
    for seed in 0..20 {
        let failed_syncs = (1..40).map(|n| Duration::from_millis(n * 37 + seed)).collect();
        let options = Options { failed_syncs, ..Options::power_cut(seed, Some(300 + seed * 50)) };
        let wrong = run(options);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    }
}

#[test]
fn a_full_disk_delays_but_loses_nothing_and_work_goes_on_when_space_returns() {
    for seed in 0..20 {
        let full =
            |at, length| (Duration::from_millis(at + seed * 7), Duration::from_millis(length));
        let full_disks = vec![full(100, 700), full(1_200, 300)];
        let options = Options { full_disks, ..Options::power_cut(seed, Some(200 + seed * 60)) };
        let wrong = run(options);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    }
}

#[test]
fn storms_of_power_cuts_silence_full_disks_and_failed_syncs_lose_nothing() {
    for seed in 0..60 {
        let wrong = run(Options::storm(seed));
        assert!(wrong.is_empty(), "{}", replay(&format!("--seeds 1 --from {seed}"), &wrong));
    }
}

#[test]
fn each_planted_bug_is_found_within_200_worlds() {
    for planted in Planted::ALL {
        let found = (0..200).find(|seed| !run(Options::storm(*seed).with(planted)).is_empty());
        assert!(found.is_some(), "200 worlds and {planted} was not found");
    }
}
