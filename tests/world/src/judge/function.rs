//! The function's promise: what it did is there as often as its input is.

use std::collections::BTreeMap;

use tidegate_flow::{DEAD_LETTER_STREAM, Gateway};

use super::{Account, Reading};
use crate::function::count_key;
use crate::plan::FUNCTION;
use crate::publisher::{Publisher, ReadingKind, kind_of};

/// One alert or dead letter for each record that asks for it, and each record counted once.
pub(super) fn judge(
    publishers: &[Publisher],
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
    for publisher in publishers {
        let (least, most) = handled.get(publisher.name.as_str()).copied().unwrap_or_default();
        let value = state
            .get(&count_key(&publisher.name))
            .map_or(Ok(0), |value| value.as_slice().try_into().map(u64::from_le_bytes));
        if !value.is_ok_and(|count| (least..=most).contains(&count)) {
            let name = &publisher.name;
            wrong.push(format!("{name}: counted {value:?}, not {least} to {most}"));
        }
    }
}
