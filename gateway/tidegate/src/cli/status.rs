//! `tidegate status`

use std::collections::BTreeSet;
use std::io::Write;

use tidegate_flow::status::{
    BrokerStatus, DiskStatus, FleetStatus, FolderStatus, FunctionStatus, LineStatus, Status,
    UplinkStatus, WearStatus,
};

use super::locate::Place;
use super::stream::streams_table;
use super::table::Table;
use super::{Failure, losses};
use crate::utc::Utc;

/// Shows a running gateway.
pub(super) fn show(place: &Place, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let status = place.connect()?.status()?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
        return Ok(());
    }
    write(&status, out)
}

pub(super) fn write(status: &Status, out: &mut dyn Write) -> Result<(), Failure> {
    let up = span(status.uptime_ms);
    writeln!(out, "gateway {}, epoch {}, up {up}", status.gateway, status.epoch)?;
    writeln!(out, "disk    {}", disk(&status.disk))?;
    if let Some(told) = &status.disk.wear {
        writeln!(out, "wear    {}", wear(told))?;
    }
    writeln!(out, "mqtt    {}", broker(&status.broker))?;
    if let Some(told) = &status.fleet {
        writeln!(out, "devices {}", fleet(told))?;
    }
    writeln!(out)?;
    streams_table(&status.streams).write(out)?;
    if !status.folders.is_empty() {
        writeln!(out)?;
        folders(&status.folders).write(out)?;
        for folder in &status.folders {
            if let Some(failure) = &folder.last_failure {
                writeln!(out, "{}: last failure: {}", folder.name, one_line(failure))?;
            }
        }
    }
    if !status.lines.is_empty() {
        writeln!(out)?;
        lines(&status.lines).write(out)?;
        for line in &status.lines {
            line_notes(line, out)?;
        }
    }
    if !status.functions.is_empty() {
        writeln!(out)?;
        functions(&status.functions).write(out)?;
        schedules(&status.functions, out)?;
        for function in &status.functions {
            if let Some(failure) = &function.last_failure {
                writeln!(out, "{}: last failure: {}", function.name, one_line(failure))?;
            }
        }
    }
    if !status.uplinks.is_empty() {
        writeln!(out)?;
        uplinks(&status.uplinks).write(out)?;
        for uplink in &status.uplinks {
            if uplink.state != "connected" {
                writeln!(out, "{}: {}", uplink.name, one_line(&uplink.sentence))?;
            }
            if let Some(setback) = &uplink.setback {
                writeln!(out, "{}: last setback: {}", uplink.name, one_line(setback))?;
            }
        }
    }
    Ok(())
}

fn folders(folders: &[FolderStatus]) -> Table {
    let mut table = Table::new();
    table.row(["FILES", "TAKEN", "SIZE", "REFUSED"]);
    for one in folders {
        let (taken, size) = (one.taken.to_string(), amount(one.bytes));
        table.row([one_line(&one.name).as_str(), &taken, &size, &one.refused.to_string()]);
    }
    table
}

fn lines(lines: &[LineStatus]) -> Table {
    let mut table = Table::new();
    table.row([
        "SERIAL",
        "STATE",
        "SINCE",
        "DEVICES",
        "FRAMES IN",
        "OUT",
        "BYTES IN",
        "OUT",
        "DAMAGED",
        "SENT AGAIN",
        "CAME AGAIN",
        "RESETS",
    ]);
    for one in lines {
        let up = one.devices.iter().filter(|device| device.up).count();
        table.row([
            one.name.as_str(),
            if one.open { "open" } else { "not open" },
            &span(one.since_ms),
            &format!("{up} of {}", one.devices.len()),
            &one.frames_in.to_string(),
            &one.frames_out.to_string(),
            &amount(one.bytes_in),
            &amount(one.bytes_out),
            &one.damaged.to_string(),
            &one.repeated_out.to_string(),
            &one.repeated_in.to_string(),
            &one.resets.to_string(),
        ]);
    }
    table
}

/// What is wrong with a line, or was.
fn line_notes(line: &LineStatus, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some(error) = &line.last_error {
        let (name, port) = (&line.name, one_line(&line.port));
        writeln!(out, "{name}: last error of {port}: {}", one_line(error))?;
    }
    for device in line.devices.iter().filter(|device| line.open && !device.up) {
        let since = match device.since_ms {
            Some(ms) => format!("not there for {}", span(ms)),
            None => "was never there".to_owned(),
        };
        writeln!(out, "{}: {} (address {}) {since}", line.name, device.name, device.address)?;
    }
    Ok(())
}

fn disk(disk: &DiskStatus) -> String {
    format!(
        "{}, {} in {} segments and {} spare; {} written for {} of payload in {} syncs, {} failed",
        disk.state,
        amount(disk.bytes),
        disk.segments,
        disk.spare_segments,
        amount(disk.bytes_written),
        amount(disk.payload_bytes),
        disk.groups,
        disk.failures
    )
}

fn wear(wear: &WearStatus) -> String {
    let over = span(wear.over_ms);
    let mut text = match (&wear.device, wear.device_bytes) {
        (Some(device), Some(bytes)) => {
            format!("{} written to the device {device} in {over}", amount(bytes))
        }
        _ => {
            let why = wear.unknown.as_deref().unwrap_or("nobody counts");
            format!("by the log's own count in {over} ({})", one_line(why))
        }
    };
    match wear.bytes_per_day {
        Some(bytes) => text.push_str(&format!(", {} a day", amount(bytes))),
        None => text.push_str(", too short for a rate"),
    }
    if let (Some(years), Some(endurance)) = (wear.life_years, wear.endurance_bytes) {
        text.push_str(&format!("; {years:.1} years to {}", amount(endurance)));
    }
    text
}

fn fleet(fleet: &FleetStatus) -> String {
    let mut text = format!("{} known for their firmware", fleet.devices);
    if fleet.made_room > 0 {
        text.push_str(&format!("; {} forgotten to make room for others", fleet.made_room));
    }
    if fleet.unremembered > 0 {
        text.push_str(&format!("; no room {} times", fleet.unremembered));
    }
    text
}

fn broker(broker: &BrokerStatus) -> String {
    let mut text = format!(
        "{} connections, {} sessions; {} received, {} acknowledged, {} waiting, {} refused, \
         {} duplicates; {} delivered, {} dropped",
        broker.connections,
        broker.sessions,
        broker.received,
        broker.acknowledged,
        broker.pending_acknowledgements,
        broker.refused,
        broker.duplicates,
        broker.delivered,
        broker.dropped
    );
    let denied = [broker.denied_publishes, broker.denied_subscriptions, broker.denied_deliveries];
    if denied != [0; 3] {
        text.push_str(&format!(
            "; denied: {} publishes, {} subscriptions, {} messages that had waited",
            denied[0], denied[1], denied[2]
        ));
    }
    let slowed = (broker.slowed_by_client, broker.slowed_by_address);
    if slowed != (0, 0) {
        text.push_str(&format!(
            "; slowed down: {} publishes by the limit of their client, {} by that of their address",
            slowed.0, slowed.1
        ));
    }
    if broker.held_back > 0 {
        text.push_str(&format!(
            "; publishers waited {} times for subscribers that were behind",
            broker.held_back
        ));
    }
    if !broker.session_losses.is_empty() {
        let totals =
            broker.session_losses.iter().map(|one| format!("{} {}", one.records, one.reason));
        let clients: BTreeSet<&str> =
            broker.lost_by.iter().map(|one| losses::client_name(&one.client)).collect();
        text.push_str(&format!(
            "; in the loss ledger: {} (last: {})",
            totals.collect::<Vec<_>>().join(", "),
            clients.into_iter().collect::<Vec<_>>().join(", ")
        ));
    }
    if broker.slow_disconnected > 0 {
        text.push_str(&format!("; {} disconnected as too slow", broker.slow_disconnected));
    }
    if !broker.turned_away.is_empty() {
        let reasons = broker.turned_away.iter().map(|one| format!("{} {}", one.count, one.reason));
        text.push_str(&format!("; turned away: {}", reasons.collect::<Vec<_>>().join(", ")));
    }
    text
}

fn functions(functions: &[FunctionStatus]) -> Table {
    let mut table = Table::new();
    table.row([
        "FUNCTION",
        "STREAM",
        "STATE",
        "LAG",
        "RECORDS",
        "EMITTED",
        "FAILURES",
        "DEAD",
        "STATE SIZE",
    ]);
    for function in functions {
        table.row([
            function.name.as_str(),
            &function.stream,
            &function.state,
            &function.lag.to_string(),
            &function.records.to_string(),
            &function.emitted.to_string(),
            &function.failures.to_string(),
            &function.dead_letters.to_string(),
            &amount(function.state_bytes),
        ]);
    }
    table
}

fn schedules(functions: &[FunctionStatus], out: &mut dyn Write) -> Result<(), Failure> {
    let all = functions.iter().flat_map(|one| one.schedules.iter().map(move |it| (one, it)));
    let mut table = Table::new();
    table.row(["SCHEDULE", "FUNCTION", "WHEN", "NEXT", "LAST", "RUNS", "MISSED"]);
    let mut none = true;
    for (function, one) in all {
        none = false;
        let when = match (one.every_ms, &one.cron) {
            (Some(ms), _) => format!("every {}", span(ms)),
            (None, cron) => cron.clone().unwrap_or_default(),
        };
        let next = match (one.running, one.next_in_ms) {
            (true, _) => "runs".to_owned(),
            (false, Some(0)) => "now".to_owned(),
            (false, Some(ms)) => format!("in {}", span(ms)),
            (false, None) => "when the clock is set".to_owned(),
        };
        let last = one.last_due_ms.map_or_else(|| "-".to_owned(), |ms| Utc(ms).to_string());
        let (runs, missed) = (one.runs.to_string(), one.missed.to_string());
        table.row([one.name.as_str(), &function.name, &when, &next, &last, &runs, &missed]);
    }
    if none {
        return Ok(());
    }
    writeln!(out)?;
    Ok(table.write(out)?)
}

fn uplinks(uplinks: &[UplinkStatus]) -> Table {
    let mut table = Table::new();
    table.row(["UPLINK", "STATE", "SINCE", "BACKLOG", "IN FLIGHT", "ACKNOWLEDGED", "REJECTED"]);
    for uplink in uplinks {
        let state = match uplink.retry_in_ms {
            Some(ms) => format!("{}, next try in {}", uplink.state, span(ms)),
            None => uplink.state.clone(),
        };
        table.row([
            uplink.name.as_str(),
            &state,
            &span(uplink.since_ms),
            &uplink.backlog.to_string(),
            &uplink.in_flight.to_string(),
            &uplink.acknowledged.to_string(),
            &uplink.rejected.to_string(),
        ]);
    }
    table
}

/// Text from outside, on one line and without what a terminal would obey.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Bytes with three significant digits.
pub(super) fn amount(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = bytes.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < units.len() {
        tenths /= 1024;
        unit += 1;
    }
    if unit == 0 || tenths >= 1000 {
        format!("{} {}", tenths / 10, units[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, units[unit])
    }
}

/// Milliseconds in the two largest units that matter.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_status_is_shown_for_people() {
        let mut out = Vec::new();
        write(&sample::status(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "gateway gw-01, epoch 1, up 1 min 1 s",
            "wear    4.6 GiB written to the device 179:2 in 5 h 0 min, 22.3 GiB a day; 11.5 years to 90.9 TiB",
            "STREAM     RECORDS  FIRST  NEXT  SIZE     QUOTA    LOST  READERS",
            "telemetry     1000      1  1001  4.0 KiB  1.0 GiB     0  fn/threshold, uplink/cloud (100 behind)",
            "reports     12  4.0 KiB        1",
            "reports: last failure: a.csv: has 300000 bytes; max_file allows 262144",
            "devices 4096 known for their firmware; 9 forgotten to make room for others; no room 2 times",
            "SERIAL  STATE  SINCE      DEVICES  FRAMES IN  OUT   BYTES IN  OUT       DAMAGED  SENT AGAIN  CAME AGAIN  RESETS",
            "plant   open   1 min 1 s  1 of 2        2100  1900  64.0 KiB  32.0 KiB        5           4           1       2",
            "plant: last error of /dev/ttyUSB0: the port is gone",
            "plant: valve-2 (address 2) not there for 1 min 30 s",
            "threshold  telemetry  idle     0     1000        7         0     0  60 B",
            "SCHEDULE  FUNCTION   WHEN        NEXT                   LAST                      RUNS  MISSED",
            "sample    threshold  every 10 s  in 7 s                 2026-05-28T20:26:40.000Z     9       2",
            "night     threshold  0 3 * * *   when the clock is set  -                            0       0",
            "cloud   waiting, next try in 500 ms  2 s        100          0           900         0",
            "cloud: attempt 5 in 0.5 s: connection refused",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
        }
    }

    #[test]
    fn messages_that_subscribers_did_not_get_are_named() {
        let text = broker(&sample::status().broker);
        assert!(
            text.ends_with("; in the loss ledger: 12 slow-subscriber (last: (others), dash-7)"),
            "{text}"
        );
    }

    #[test]
    fn wear_says_when_the_kernel_does_not_count() {
        let told = WearStatus {
            over_ms: 30_000,
            unknown: Some("the kernel does not count".into()),
            ..WearStatus::default()
        };
        assert_eq!(
            wear(&told),
            "by the log's own count in 30 s (the kernel does not count), too short for a rate"
        );
    }

    #[test]
    fn amounts_and_spans_are_short() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (200 << 20, "200 MiB")]
        {
            assert_eq!(amount(bytes), text);
        }
        assert_eq!(amount(u64::MAX), "1677721 TiB");
        for (ms, text) in
            [(7, "7 ms"), (59_999, "59 s"), (90_000, "1 min 30 s"), (90_061_000, "1 d 1 h")]
        {
            assert_eq!(span(ms), text);
        }
    }
}
