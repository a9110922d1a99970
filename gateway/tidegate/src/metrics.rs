//! The status in the text format of Prometheus (exposition format 0.0.4).

use std::fmt::{Display, Write};

use tidegate_flow::latency::BOUNDS_US;
use tidegate_flow::status::{
    BrokerStatus, DiskStatus, FirmwareStatus, FleetStatus, FolderStatus, FunctionStatus,
    LatencyStatus, LineStatus, LossTotal, Status, StreamStatus, TurnedAway, UplinkStatus,
    WearStatus,
};

use crate::process::Process;

/// The content type of the format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a status.
pub(crate) fn render(status: &Status, own: &Process) -> String {
    let mut page = Page::default();
    page.gauge("tidegate_info", "The gateway, its version in a label.")
        .sample(&[("gateway", &status.gateway), ("version", env!("CARGO_PKG_VERSION"))], 1);
    page.gauge("tidegate_epoch", "Epoch of new records.").sample(&[], status.epoch);
    page.gauge("tidegate_uptime_seconds", "Time since the store was opened.")
        .sample(&[], seconds(status.uptime_ms, 1_000));
    broker(&mut page, &status.broker);
    session_losses(&mut page, &status.broker.session_losses);
    turned_away(&mut page, &status.broker.turned_away);
    streams(&mut page, &status.streams);
    functions(&mut page, &status.functions);
    folders(&mut page, &status.folders);
    lines(&mut page, &status.lines);
    fleet(&mut page, status.fleet.as_ref());
    uplinks(&mut page, &status.uplinks);
    uplink_lag(&mut page, status);
    firmware(&mut page, &status.firmware);
    latency(&mut page, &status.latency);
    disk(&mut page, &status.disk);
    process(&mut page, own);
    page.text
}

fn latency(page: &mut Page, hops: &[LatencyStatus]) {
    let help = "Time that records take, by hop: publish-to-ack, receipt-to-function, function-call, \
                receipt-to-upstream, send-to-upstream-ack.";
    let name = "tidegate_latency_seconds";
    page.family(name, "histogram", help);
    for hop in hops {
        let own = [("hop", hop.hop.as_str()), ("name", hop.name.as_str())];
        histogram(page, name, &own, hop);
    }
}

/// The samples of one histogram.
fn histogram(page: &mut Page, name: &str, own: &[(&str, &str)], times: &LatencyStatus) {
    let mut below = 0;
    for (at, count) in times.buckets.iter().enumerate() {
        below += count;
        let bound = BOUNDS_US.get(at).map(|us| seconds(*us, 1_000_000).to_string());
        let bound = bound.unwrap_or_else(|| "+Inf".to_owned());
        let mut labels = own.to_vec();
        labels.push(("le", bound.as_str()));
        page.named(&format!("{name}_bucket"), &labels, below);
    }
    page.named(&format!("{name}_sum"), own, seconds(times.sum_us, 1_000_000));
    page.named(&format!("{name}_count"), own, below);
}

fn firmware(page: &mut Page, firmware: &FirmwareStatus) {
    let help = "1 for the state that a campaign of firmware is in.";
    let family = page.gauge("tidegate_firmware_campaign_state", help);
    for one in &firmware.campaigns {
        let number = one.campaign.to_string();
        let labels = [("campaign", &*number), ("version", &*one.version), ("state", &*one.state)];
        family.sample(&labels, 1);
    }
    let help = "Devices of a campaign, by their stage.";
    let family = page.gauge("tidegate_firmware_campaign_devices", help);
    for one in &firmware.campaigns {
        let number = one.campaign.to_string();
        for (stage, devices) in &one.stages {
            family.sample(&[("campaign", &number), ("stage", stage)], devices);
        }
    }
}

/// What every program tells that Prometheus watches, under the names that are usual.
fn process(page: &mut Page, own: &Process) {
    let mut told = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let family = match name.ends_with("_total") {
                true => page.counter(name, help),
                false => page.gauge(name, help),
            };
            family.sample(&[], value);
        }
    };
    let number = |value: Option<u64>| value.map(|value| seconds(value, 1));
    told("process_cpu_seconds_total", "Time on a processor.", own.cpu_seconds);
    let help = "When the process was started, since 1970.";
    told("process_start_time_seconds", help, own.start_seconds);
    let help = "Memory in use that is in RAM.";
    told("process_resident_memory_bytes", help, number(own.resident_bytes));
    told("process_virtual_memory_bytes", "Address space.", number(own.virtual_bytes));
    told("process_threads", "Threads.", number(own.threads));
    told("process_open_fds", "Open files.", number(own.open_fds));
    told("process_max_fds", "Files that may be open.", number(own.max_fds));
}

fn broker(page: &mut Page, broker: &BrokerStatus) {
    for (name, help, value) in [
        ("connections", "Open MQTT connections.", broker.connections),
        ("sessions", "MQTT sessions, connected or not.", broker.sessions),
        ("subscriptions", "Subscriptions of all sessions.", broker.subscriptions),
        ("retained_messages", "Retained messages held.", broker.retained),
        (
            "pending_acknowledgements",
            "Publishes that wait for the disk before they are acknowledged.",
            broker.pending_acknowledgements,
        ),
    ] {
        page.gauge(&format!("tidegate_mqtt_{name}"), help).sample(&[], value);
    }
    for (name, help, value) in [
        ("received", "PUBLISH packets taken in.", broker.received),
        ("acknowledged", "PUBLISH packets acknowledged.", broker.acknowledged),
        ("refused", "PUBLISH packets refused.", broker.refused),
        ("duplicates", "PUBLISH packets that the gateway already held.", broker.duplicates),
        ("delivered", "Messages queued for subscribers.", broker.delivered),
        ("dropped", "Messages that a slow subscriber did not get.", broker.dropped),
        (
            "denied_publishes",
            "Publishes that their client was not allowed.",
            broker.denied_publishes,
        ),
        (
            "denied_subscriptions",
            "Subscriptions that their client was not allowed.",
            broker.denied_subscriptions,
        ),
        (
            "denied_deliveries",
            "Messages that waited for a client that may not have them any more.",
            broker.denied_deliveries,
        ),
        (
            "slowed_by_client",
            "Publishes read later than they came, for publishes_per_second.",
            broker.slowed_by_client,
        ),
        (
            "slowed_by_address",
            "Publishes read later than they came, for publishes_per_second_per_address.",
            broker.slowed_by_address,
        ),
        (
            "held_back",
            "Times that reading from a publisher paused for a subscriber that reads and is behind.",
            broker.held_back,
        ),
        (
            "slow_disconnected",
            "Connections ended because their client did not keep up.",
            broker.slow_disconnected,
        ),
    ] {
        page.counter(&format!("tidegate_mqtt_{name}_total"), help).sample(&[], value);
    }
}

fn folders(page: &mut Page, folders: &[FolderStatus]) {
    type Value = fn(&FolderStatus) -> u64;
    let counters: [(&str, &str, Value); 3] = [
        ("taken", "Files of a folder that became records.", |one| one.taken),
        ("bytes", "Bytes of files that became records.", |one| one.bytes),
        ("refused", "Files that were put aside: they cannot become records.", |one| one.refused),
    ];
    for (name, help, value) in counters.into_iter().filter(|_| !folders.is_empty()) {
        let family = page.counter(&format!("tidegate_files_{name}_total"), help);
        for one in folders {
            family.sample(&[("folder", &one.name)], value(one));
        }
    }
}

fn lines(page: &mut Page, lines: &[LineStatus]) {
    if lines.is_empty() {
        return;
    }
    let family = page.gauge("tidegate_serial_open", "1 while the port of a serial line is open.");
    for one in lines {
        family.sample(&[("line", &one.name)], u8::from(one.open));
    }
    type Value = fn(&LineStatus) -> u64;
    let counters: [(&str, &str, Value); 9] = [
        ("opened", "Times that the port was opened.", |one| one.opened),
        ("frames_in", "Frames of devices that came in whole.", |one| one.frames_in),
        ("frames_out", "Frames that were sent.", |one| one.frames_out),
        ("bytes_in", "Bytes that came in, noise included.", |one| one.bytes_in),
        ("bytes_out", "Bytes that were sent.", |one| one.bytes_out),
        (
            "damaged",
            "Bytes that were no frame, frames with a wrong CRC or of a session that has ended.",
            |one| one.damaged,
        ),
        ("repeated_in", "Frames that came in again.", |one| one.repeated_in),
        ("repeated_out", "Frames that were sent again.", |one| one.repeated_out),
        ("resets", "Sessions with devices that have ended.", |one| one.resets),
    ];
    for (name, help, value) in counters {
        let family = page.counter(&format!("tidegate_serial_{name}_total"), help);
        for one in lines {
            family.sample(&[("line", &one.name)], value(one));
        }
    }
    let help = "1 while there is a session with a device on a serial line.";
    let family = page.gauge("tidegate_serial_device_up", help);
    for one in lines {
        for device in &one.devices {
            let labels = [("line", one.name.as_str()), ("device", &device.name)];
            family.sample(&labels, u8::from(device.up));
        }
    }
    let help = "Sessions with a device on a serial line that have ended.";
    let family = page.counter("tidegate_serial_device_resets_total", help);
    for one in lines {
        for device in &one.devices {
            family.sample(&[("line", &one.name), ("device", &device.name)], device.resets);
        }
    }
}

fn fleet(page: &mut Page, fleet: Option<&FleetStatus>) {
    let Some(fleet) = fleet else { return };
    page.gauge("tidegate_firmware_devices", "Devices that are known for their firmware.")
        .sample(&[], fleet.devices);
    let help = "Devices that were forgotten for others, as too many were known.";
    page.counter("tidegate_firmware_devices_forgotten_total", help).sample(&[], fleet.made_room);
    let help = "Times that a device was not remembered, as none could be forgotten for it.";
    page.counter("tidegate_firmware_devices_unremembered_total", help)
        .sample(&[], fleet.unremembered);
}

fn session_losses(page: &mut Page, totals: &[LossTotal]) {
    type Lost = fn(&LossTotal) -> u64;
    let counters: [(&str, &str, Lost); 2] = [
        (
            "losses",
            "Messages that slow or absent subscribers did not get, as in the loss ledger, by reason.",
            |total| total.records,
        ),
        ("loss_bytes", "Their bytes.", |total| total.bytes),
    ];
    for (name, help, value) in counters {
        let family = page.counter(&format!("tidegate_mqtt_session_{name}_total"), help);
        for total in totals {
            family.sample(&[("reason", &total.reason)], value(total));
        }
    }
}

fn turned_away(page: &mut Page, counts: &[TurnedAway]) {
    let help = "Clients that were not let in, by reason.";
    let family = page.counter("tidegate_mqtt_turned_away_total", help);
    for one in counts {
        family.sample(&[("reason", &one.reason)], one.count);
    }
}

fn streams(page: &mut Page, streams: &[StreamStatus]) {
    type Value = fn(&StreamStatus) -> u64;
    let gauges: [(&str, &str, Value); 6] = [
        ("bytes", "Bytes kept.", |s| s.bytes),
        ("max_bytes", "Quota in bytes.", |s| s.max_bytes),
        ("first_seq", "Sequence of the oldest record kept.", |s| s.first_seq),
        ("next_seq", "Sequence of the next record.", |s| s.next_seq),
        ("durable_seq", "First sequence not yet on flash.", |s| s.durable_seq),
        ("lost_records", "Records lost since the stream was made.", |s| s.lost),
    ];
    for (name, help, value) in gauges {
        let family = page.gauge(&format!("tidegate_stream_{name}"), help);
        for stream in streams {
            family.sample(&[("stream", &stream.name)], value(stream));
        }
    }
    let family = page.counter("tidegate_stream_appended_total", "Records appended.");
    for stream in streams {
        family.sample(&[("stream", &stream.name)], stream.appended);
    }
    type Lost = fn(&LossTotal) -> u64;
    let counters: [(&str, &str, Lost); 2] = [
        ("losses", "Records lost, by reason.", |total| total.records),
        ("loss_bytes", "Bytes lost, by reason.", |total| total.bytes),
    ];
    for (name, help, value) in counters {
        let family = page.counter(&format!("tidegate_stream_{name}_total"), help);
        for stream in streams {
            for total in &stream.lost_by_reason {
                let labels = [("stream", stream.name.as_str()), ("reason", &total.reason)];
                family.sample(&labels, value(total));
            }
        }
    }
    let family = page.gauge("tidegate_stream_reader_lag", "Records that a reader has not done.");
    for stream in streams {
        for reader in &stream.readers {
            family.sample(&[("stream", &stream.name), ("reader", &reader.name)], reader.lag);
        }
    }
    let help = "Time that the oldest record has waited at least that a reader has not done.";
    let family = page.gauge("tidegate_stream_reader_lag_seconds", help);
    for stream in streams {
        for reader in &stream.readers {
            let labels = [("stream", stream.name.as_str()), ("reader", &reader.name)];
            family.sample(&labels, seconds(reader.lag_ms, 1_000));
        }
    }
}

fn functions(page: &mut Page, functions: &[FunctionStatus]) {
    type Value = fn(&FunctionStatus) -> u64;
    let gauges: [(&str, &str, Value); 9] = [
        ("lag", "Records that wait for the function.", |f| f.lag),
        ("workers", "Calls that may be under way at a time.", |f| f.workers),
        ("running", "Calls under way.", |f| f.running),
        ("retry_lane", "Records in the retry lane.", |f| f.retry_lane),
        ("state_keys", "Keys of state held.", |f| f.state_keys),
        ("state_bytes", "Bytes of state held.", |f| f.state_bytes),
        ("timers", "Timers set.", |f| f.timers),
        ("memory_bytes", "Linear memory at the last call.", |f| f.memory_bytes),
        ("memory_high_bytes", "The most of it so far.", |f| f.memory_high_bytes),
    ];
    for (name, help, value) in gauges {
        let family = page.gauge(&format!("tidegate_function_{name}"), help);
        for function in functions {
            family.sample(&[("function", &function.name)], value(function));
        }
    }
    let family = page.gauge(
        "tidegate_function_queue_age_seconds",
        "Age of the oldest record that was read and is not done.",
    );
    for function in functions {
        family.sample(&[("function", &function.name)], seconds(function.queue_age_ms, 1_000));
    }
    let counters: [(&str, &str, Value); 15] = [
        ("calls", "Calls made.", |f| f.calls),
        ("records", "Records handled and committed.", |f| f.records),
        ("emitted", "Records emitted.", |f| f.emitted),
        ("failures", "Calls that failed.", |f| f.failures),
        ("deadline_misses", "Calls that missed their deadline.", |f| f.deadline_misses),
        ("retries", "Calls made again.", |f| f.retries),
        ("dropped", "Records that the function dropped.", |f| f.dropped),
        ("traces_dropped", "Outputs without room for their trace context.", |f| f.traces_dropped),
        ("dead_letters", "Records given up.", |f| f.dead_letters),
        ("state_expired", "Keys of state whose time to live has ended.", |f| f.state_expired),
        ("timers_given", "Timers given and done.", |f| f.timers_given),
        ("timers_passed", "Timers given up for that time.", |f| f.timers_passed),
        ("requests", "HTTP requests whose answer counted.", |f| f.requests),
        ("requests_refused", "HTTP requests turned away: not running, or busy.", |f| {
            f.requests_refused
        }),
        ("fuel", "Fuel used.", |f| f.fuel),
    ];
    for (name, help, value) in counters {
        let family = page.counter(&format!("tidegate_function_{name}_total"), help);
        for function in functions {
            family.sample(&[("function", &function.name)], value(function));
        }
    }
    let times: [(&str, &str, Value); 2] = [
        ("busy", "Time spent in the guest.", |f| f.busy_us),
        ("cpu", "Of that, time on a processor.", |f| f.cpu_us),
    ];
    for (name, help, value) in times {
        let family = page.counter(&format!("tidegate_function_{name}_seconds_total"), help);
        for function in functions {
            family.sample(&[("function", &function.name)], seconds(value(function), 1_000_000));
        }
    }
    let help = "1 for the state that the function is in.";
    let family = page.gauge("tidegate_function_state", help);
    for function in functions {
        family.sample(&[("function", &function.name), ("state", &function.state)], 1_u64);
    }
    reported(page, functions);
}

/// What functions say themselves. A figure may be of either kind, so the family is of the one that
/// promises less; the label tells.
fn reported(page: &mut Page, functions: &[FunctionStatus]) {
    let family = page.gauge("tidegate_function_metric", "A figure that the function reports.");
    for function in functions {
        for metric in &function.metrics {
            let labels =
                [("function", &*function.name), ("name", &*metric.name), ("kind", &*metric.kind)];
            family.sample(&labels, metric.value);
        }
    }
    let help = "Figures that a function reported and that were not taken.";
    let family = page.counter("tidegate_function_metrics_dropped_total", help);
    for function in functions {
        family.sample(&[("function", &function.name)], function.metrics_dropped);
    }
}

fn uplinks(page: &mut Page, uplinks: &[UplinkStatus]) {
    type Value = fn(&UplinkStatus) -> u64;
    let gauges: [(&str, &str, Value); 4] = [
        ("connected", "1 while the upstream is connected.", |u| u64::from(u.state == "connected")),
        ("in_flight", "Messages sent and not yet acknowledged.", |u| u.in_flight),
        ("backlog_records", "Records that wait for the uplink.", |u| u.backlog),
        ("attempts", "Connections tried since the last that worked.", |u| u.attempts),
    ];
    for (name, help, value) in gauges {
        let family = page.gauge(&format!("tidegate_uplink_{name}"), help);
        for uplink in uplinks {
            family.sample(&[("uplink", &uplink.name)], value(uplink));
        }
    }
    let counters: [(&str, &str, Value); 4] = [
        ("sent", "Messages sent, repetitions included.", |u| u.sent),
        ("acknowledged", "Messages acknowledged.", |u| u.acknowledged),
        ("rejected", "Messages that the upstream refused for good.", |u| u.rejected),
        ("missing", "Records acknowledged that the upstream no longer had.", |u| u.missing),
    ];
    for (name, help, value) in counters {
        let family = page.counter(&format!("tidegate_uplink_{name}_total"), help);
        for uplink in uplinks {
            family.sample(&[("uplink", &uplink.name)], value(uplink));
        }
    }
}

/// Of all streams of an uplink, the one that waits longest.
fn uplink_lag(page: &mut Page, status: &Status) {
    let help = "Time that the oldest record has waited at least that the uplink has to send.";
    let family = page.gauge("tidegate_uplink_lag_seconds", help);
    for uplink in &status.uplinks {
        let own = format!("uplink/{}", uplink.name);
        let late = format!("{own}/late");
        let readers = status.streams.iter().flat_map(|stream| &stream.readers);
        let readers = readers.filter(|reader| reader.name == own || reader.name == late);
        let longest = readers.map(|reader| reader.lag_ms).max().unwrap_or(0);
        family.sample(&[("uplink", &uplink.name)], seconds(longest, 1_000));
    }
}

fn disk(page: &mut Page, disk: &DiskStatus) {
    for (name, help, value) in [
        ("ok", "1 while the store can be written.", u64::from(disk.state == "ok")),
        ("segments", "Segments that hold data.", disk.segments),
        ("spare_segments", "Preallocated segments in reserve.", disk.spare_segments),
        ("bytes", "Bytes of all segment files.", disk.bytes),
    ] {
        page.gauge(&format!("tidegate_disk_{name}"), help).sample(&[], value);
    }
    for (name, help, value) in [
        ("groups", "Groups written and synced.", disk.groups),
        ("written_bytes", "Bytes written to segment files.", disk.bytes_written),
        ("payload_bytes", "Payload bytes appended.", disk.payload_bytes),
        ("failures", "Writes or syncs that failed.", disk.failures),
    ] {
        page.counter(&format!("tidegate_disk_{name}_total"), help).sample(&[], value);
    }
    if let Some(room) = &disk.room {
        page.gauge("tidegate_disk_size_bytes", "Size of the file system of the store.")
            .sample(&[], room.size);
        page.gauge("tidegate_disk_free_bytes", "Of that, what the gateway may still use.")
            .sample(&[], room.free);
    }
    if let Some(times) = &disk.syncs {
        let name = "tidegate_disk_sync_seconds";
        page.family(name, "histogram", "Time that a write to the store takes, with its sync.");
        histogram(page, name, &[], times);
    }
    if let Some(told) = &disk.wear {
        wear(page, told);
    }
}

fn wear(page: &mut Page, wear: &WearStatus) {
    if let (Some(device), Some(bytes)) = (&wear.device, wear.device_bytes) {
        let help = "Bytes written to the partition of the store, by whomever.";
        page.counter("tidegate_device_written_bytes_total", help)
            .sample(&[("device", device)], bytes);
    }
    if let Some(bytes) = wear.bytes_per_day {
        page.gauge("tidegate_wear_bytes_per_day", "Bytes written a day, at the rate since start.")
            .sample(&[], bytes);
    }
    if let Some(bytes) = wear.endurance_bytes {
        page.gauge("tidegate_wear_endurance_bytes", "Bytes that the card is rated for.")
            .sample(&[], bytes);
    }
    if let Some(years) = wear.life_years {
        page.gauge("tidegate_wear_life_years", "Years until the endurance is used up.")
            .sample(&[], years);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a counter past 2^53 us is 285 years old")]
fn seconds(amount: u64, per_second: u32) -> f64 {
    amount as f64 / f64::from(per_second)
}

#[derive(Default)]
struct Page {
    text: String,
    family: String,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, "gauge", help)
    }

    fn counter(&mut self, name: &str, help: &str) -> &mut Self {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) -> &mut Self {
        name.clone_into(&mut self.family);
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        self
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let family = self.family.clone();
        self.named(&family, labels, value);
    }

    /// A sample under a name that its family only begins, as those of a histogram.
    fn named(&mut self, family: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        if labels.is_empty() {
            self.line(format_args!("{family} {value}"));
        } else {
            self.line(format_args!("{family}{{{}}} {value}", labels.join(",")));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::sample;

    /// Reads the format as its specification has it; panics where it is broken.
    fn read(text: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        let mut family: Option<(String, String)> = None;
        let mut helped = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(!help.is_empty());
                name.clone_into(&mut helped);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert_eq!(name, helped);
                assert!(["gauge", "counter", "histogram"].contains(&kind));
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                family = Some((name.to_owned(), kind.to_owned()));
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let (family, kind) = family.as_ref().unwrap();
                let own = match kind.as_str() {
                    "histogram" => name.strip_prefix(&**family).unwrap_or("none"),
                    _ => {
                        if name == family {
                            ""
                        } else {
                            "none"
                        }
                    }
                };
                assert!(["", "_bucket", "_sum", "_count"].contains(&own), "{line}");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
                let before = values.insert(series.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{series} twice");
            }
        }
        values
    }

    #[test]
    fn every_number_of_the_status_is_in_the_page() {
        let values = read(&render(&sample::status(), &Process::now()));
        for (series, value) in [
            ("tidegate_info{gateway=\"gw-01\",version=\"0.1.0\"}", 1.0),
            ("tidegate_uptime_seconds", 61.5),
            ("tidegate_mqtt_received_total", 1000.0),
            ("tidegate_mqtt_session_losses_total{reason=\"slow-subscriber\"}", 12.0),
            ("tidegate_stream_bytes{stream=\"telemetry\"}", 4096.0),
            ("tidegate_stream_reader_lag{stream=\"telemetry\",reader=\"uplink/cloud\"}", 100.0),
            ("tidegate_stream_losses_total{stream=\"telemetry\",reason=\"quota\"}", 40.0),
            ("tidegate_stream_loss_bytes_total{stream=\"telemetry\",reason=\"quota\"}", 4000.0),
            ("tidegate_stream_losses_total{stream=\"telemetry\",reason=\"refused\"}", 1.0),
            ("tidegate_function_busy_seconds_total{function=\"threshold\"}", 0.25),
            ("tidegate_function_cpu_seconds_total{function=\"threshold\"}", 0.2),
            ("tidegate_function_state{function=\"threshold\",state=\"idle\"}", 1.0),
            (
                "tidegate_function_metric{function=\"threshold\",name=\"limit\",kind=\"gauge\"}",
                21.5,
            ),
            (
                "tidegate_function_metric{function=\"threshold\",name=\"over \\\"limit\\\"\",kind=\"counter\"}",
                7.0,
            ),
            ("tidegate_function_metrics_dropped_total{function=\"threshold\"}", 1.0),
            ("tidegate_function_state_expired_total{function=\"threshold\"}", 2.0),
            ("tidegate_firmware_devices", 4_096.0),
            ("tidegate_firmware_devices_forgotten_total", 9.0),
            ("tidegate_firmware_devices_unremembered_total", 2.0),
            ("tidegate_serial_open{line=\"plant\"}", 1.0),
            ("tidegate_serial_bytes_in_total{line=\"plant\"}", 65_536.0),
            ("tidegate_serial_damaged_total{line=\"plant\"}", 5.0),
            ("tidegate_serial_repeated_out_total{line=\"plant\"}", 4.0),
            ("tidegate_serial_device_up{line=\"plant\",device=\"valve-2\"}", 0.0),
            ("tidegate_serial_device_resets_total{line=\"plant\",device=\"pump-7\"}", 1.0),
            ("tidegate_uplink_connected{uplink=\"cloud\"}", 0.0),
            ("tidegate_uplink_backlog_records{uplink=\"cloud\"}", 100.0),
            ("tidegate_uplink_missing_total{uplink=\"cloud\"}", 50.0),
            (
                "tidegate_latency_seconds_bucket{hop=\"publish-to-ack\",name=\"\",le=\"0.0005\"}",
                7.0,
            ),
            ("tidegate_latency_seconds_bucket{hop=\"publish-to-ack\",name=\"\",le=\"+Inf\"}", 8.0),
            ("tidegate_latency_seconds_count{hop=\"publish-to-ack\",name=\"\"}", 8.0),
            ("tidegate_latency_seconds_sum{hop=\"publish-to-ack\",name=\"\"}", 0.004),
            ("tidegate_disk_ok", 1.0),
            ("tidegate_disk_size_bytes", 32e9),
            ("tidegate_disk_free_bytes", 4e9),
            ("tidegate_disk_sync_seconds_bucket{le=\"0.0005\"}", 7.0),
            ("tidegate_disk_sync_seconds_count", 8.0),
            (
                "tidegate_stream_reader_lag_seconds{stream=\"telemetry\",reader=\"uplink/cloud\"}",
                90.5,
            ),
            ("tidegate_uplink_lag_seconds{uplink=\"cloud\"}", 90.5),
            (
                "tidegate_firmware_campaign_state{campaign=\"2\",version=\"1.4.0\",state=\"halted\"}",
                1.0,
            ),
            ("tidegate_firmware_campaign_devices{campaign=\"2\",stage=\"failed\"}", 2.0),
            ("tidegate_device_written_bytes_total{device=\"179:2\"}", 5e9),
            ("tidegate_wear_bytes_per_day", 24e9),
            ("tidegate_wear_endurance_bytes", 100e12),
            ("tidegate_wear_life_years", 11.5),
        ] {
            assert_eq!(values.get(series), Some(&value), "{series}");
        }
    }

    #[test]
    fn alerts_and_dashboard_ask_for_series_that_there_are() {
        let mut status = sample::status();
        status.broker.turned_away = vec![TurnedAway { reason: "tls".into(), count: 1 }];
        let there = read(&render(&status, &Process::now()));
        let there: Vec<&str> =
            there.keys().map(|series| series.split('{').next().unwrap()).collect();
        for file in ["alerts.yml", "dashboard.json"] {
            let path = format!("{}/../../docs/operations/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let words = text.split(|c| !is_part(c));
            let asked = words.filter(|w| w.starts_with("tidegate_") || w.starts_with("process_"));
            let asked: std::collections::BTreeSet<&str> = asked.collect();
            assert!(asked.len() > 10, "{file}: {asked:?}");
            for name in asked {
                assert!(there.contains(&name), "{file} asks for {name}, which is not in /metrics");
            }
        }
    }

    #[test]
    fn a_gateway_with_nothing_in_it_is_a_valid_page() {
        read(&render(&sample::empty_status(), &Process::default()));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
