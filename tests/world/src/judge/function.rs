//! The function's promise: what it did is there as often as its input is.

use std::collections::BTreeMap;

use tidegate_flow::{DEAD_LETTER_STREAM, Gateway};

use super::{Account, Reading};
use crate::function::{BROKEN, COUNTS, count_key};
use crate::plan::{FUNCTION, WATCHER};
use crate::publisher::{ReadingKind, kind_of};

/// One alert or dead letter for each record that asks for it, and each record counted once.
pub(super) fn judge(
    names: &[&str],
    accounts: &[Account<'_>],
    gateway: &mut Gateway,
    wrong: &mut Vec<String>,
) {
    let of = |name: &str| accounts.iter().find(|account| account.name == name);
    let counts = |name| of(name).map(|account| account.times.clone()).unwrap_or_default();
    let (inputs, alerts, dead) =
        (counts("telemetry"), counts("alerts"), counts(DEAD_LETTER_STREAM));
    let lost = of("telemetry").map(Account::lost_counts).unwrap_or_default();
    let times = |counts: &BTreeMap<Reading, u64>, of| counts.get(of).copied().unwrap_or(0);
    let mut handled: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (reading, records) in &inputs {
        let (alerts, dead) = (times(&alerts, reading), times(&dead, reading));
        // What is gone may have been handled before it went.
        let due = records - times(&lost, reading)..=*records;
        let kind = kind_of(reading.1);
        let right = match kind {
            ReadingKind::Over => due.contains(&(alerts + dead)),
            ReadingKind::Poison => alerts == 0 && due.contains(&dead),
            ReadingKind::Ordinary => alerts == 0 && dead <= *records,
        };
        if !right {
            wrong.push(format!(
                "{reading:?}, {kind:?}: {records} records made {alerts} alerts and {dead} dead letters"
            ));
        }
        // A call that failed to the end counted nothing; one that gave up a poisoned record did.
        let (least, most) = handled.entry(&reading.0).or_default();
        *least += due.start().saturating_sub(dead);
        *most += if kind == ReadingKind::Poison { *records } else { records - dead.min(*records) };
    }
    let Ok(table) = gateway.log_mut().table(&format!("fn/{FUNCTION}")) else { return };
    let state = gateway.log().table_entries(table);
    for name in names {
        let (least, most) = handled.get(name).copied().unwrap_or_default();
        let value = state
            .get(&count_key(name))
            .map_or(Ok(0), |value| value.as_slice().try_into().map(u64::from_le_bytes));
        if !value.is_ok_and(|count| (least..=most).contains(&count)) {
            wrong.push(format!("{name}: counted {value:?}, not {least} to {most}"));
        }
    }
}

/// Who watches the counts was told each change once, in order, up to the last.
pub(super) fn judge_watcher(gateway: &mut Gateway, wrong: &mut Vec<String>) {
    let table = |gateway: &mut Gateway, name: &str| gateway.log_mut().table(&format!("fn/{name}"));
    let (Ok(counted), Ok(told)) = (table(gateway, FUNCTION), table(gateway, WATCHER)) else {
        return wrong.push("a function has no state".to_owned());
    };
    let log = gateway.log();
    let told = log.table_entries(told);
    if let Some(text) = told.get(BROKEN) {
        wrong.push(format!("{WATCHER}: {}", String::from_utf8_lossy(text)));
    }
    let counts = log.table_entries(counted).iter();
    for (key, count) in counts.filter(|(key, _)| key.starts_with(COUNTS.as_bytes())) {
        if told.get(key) != Some(count) {
            let key = String::from_utf8_lossy(key);
            wrong.push(format!("{WATCHER}: {key} is {count:?} and was not told"));
        }
    }
}
