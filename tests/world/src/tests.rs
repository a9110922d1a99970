//! The promises, each under the weather that threatens it.

use std::time::Duration;

use super::campaign::{self, First, Report, Tell};
use super::options::Spell;
use super::{Options, Planted, Tally, operations_of_a_calm_run, run};

/// Points of the run at which the power is cut.
const POINTS: u64 = 500;
/// Storms that each test run goes through; campaigns go through thousands.
const STORMS: u64 = 300;
/// Worlds in which a planted bug has to be found.
const BUG_WORLDS: u64 = 600;

fn replay(arguments: &str, wrong: &[String]) -> String {
    format!("{}\nreplay: cargo xtask world {arguments}", wrong.join("\n"))
}

fn failures(report: &Report) -> String {
    report.broken.iter().map(|broken| format!("{broken}\n\n")).collect()
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
        let full = |at, length| Spell {
            at: Duration::from_millis(at + seed * 7),
            length: Duration::from_millis(length),
        };
        let full_disks = vec![full(100, 700), full(1_200, 300)];
        let options = Options { full_disks, ..Options::power_cut(seed, Some(200 + seed * 60)) };
        let wrong = run(options);
        assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
    }
}

#[test]
fn storms_in_which_everything_goes_wrong_lose_double_and_reorder_nothing() {
    let storms = campaign::storms(0, STORMS, None);
    let report = campaign::run(&storms, None, First::AndAllOthers, Tell::Nothing);
    assert!(report.broken.is_empty(), "{}", failures(&report));
    assert_eq!(report.bitten, STORMS, "a storm without its share of trouble: {report}");
    let Tally { files, runs, told, .. } = report.tally;
    assert!([files, runs, told].iter().all(|calls| *calls > 500), "too few calls: {report}");
}

#[test]
fn one_seed_is_one_world_for_ever() {
    let twice = [0, 1].map(|_| super::run_and_count(Options::storm(11)));
    assert_eq!(twice[0], twice[1]);
}

/// One test for each mistake, so that a failure says which the world is too kind for.
fn is_found(name: &str) {
    let planted: Planted = name.parse().expect("a planted bug");
    let storms = campaign::storms(0, BUG_WORLDS, Some(planted));
    let report = campaign::run(&storms, Some(planted), First::Only, Tell::Nothing);
    assert!(!report.broken.is_empty(), "{BUG_WORLDS} worlds and {name} was not found");
}

macro_rules! planted_bugs {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                is_found($name);
            }
        )*

        #[test]
        fn every_planted_bug_has_a_test() {
            assert_eq!(Planted::ALL.map(|(name, _)| name).as_slice(), [$($name),*]);
        }
    };
}

planted_bugs! {
    an_acknowledgement_before_the_sync_is_found: "ack-before-sync",
    a_checksum_without_the_segment_is_found: "crc-without-segment",
    a_cursor_committed_apart_is_found: "cursor-apart",
    a_trim_by_the_fastest_reader_is_found: "trim-by-fastest-reader",
    a_forgotten_directory_sync_is_found: "directory-sync-forgotten",
    a_recovered_tail_that_is_not_synced_is_found: "recovered-tail-unsynced",
    publishers_not_restored_from_the_checkpoint_are_found: "publishers-not-restored",
    a_drop_without_a_ledger_entry_is_found: "drop-without-ledger",
    a_segment_recycled_before_its_trim_is_found: "recycle-before-trim",
    a_failed_sync_that_is_forgiven_is_found: "failed-sync-forgiven",
    a_cursor_moved_on_send_is_found: "cursor-moved-on-send",
    a_held_publish_that_is_acknowledged_is_found: "held-acknowledged",
    a_repeat_that_is_acknowledged_early_is_found: "repeat-acknowledged-early",
    late_ranges_that_no_session_awaits_are_found: "late-ranges-not-awaited",
    a_grant_that_the_live_lane_does_not_await_is_found: "grant-not-awaited",
    a_batch_sent_before_its_boundaries_are_durable_is_found: "seal-not-awaited",
    work_beyond_the_cursor_that_is_not_noted_is_found: "beyond-not-noted",
    a_retry_lane_that_is_not_cleared_is_found: "lane-not-cleared",
    a_record_gone_by_age_without_a_ledger_entry_is_found: "age-without-ledger",
    records_gone_by_a_clock_that_nobody_has_set_are_found: "expires-by-any-clock",
    a_packet_identifier_committed_apart_is_found: "receipt-apart",
    a_retained_message_committed_apart_is_found: "retained-apart",
    a_session_that_connack_does_not_await_is_found: "connack-not-awaited",
    a_subscription_that_suback_does_not_await_is_found: "suback-not-awaited",
    a_pubrec_that_pubrel_does_not_await_is_found: "pubrel-not-awaited",
    a_pubrel_that_pubcomp_does_not_await_is_found: "pubcomp-not-awaited",
    a_change_of_state_told_apart_is_found: "told-apart",
    a_file_that_is_not_noted_is_found: "file-not-noted",
    a_run_noted_apart_from_its_effects_is_found: "run-apart",
    an_answer_that_is_not_kept_is_found: "answer-not-kept",
    an_answer_before_its_effects_is_found: "answer-not-awaited",
    a_spool_given_up_before_its_acknowledgements_is_found: "spool-passed-early",
}
