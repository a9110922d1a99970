//! `tidegate check`

use std::io::Write;
use std::path::Path;

use tidegate_flow::Ordering;
use tidegate_stream::{Compression, Overflow};

use super::Failure;
use super::table::Table;
use crate::config::{
    self, FunctionSettings, ListenerSettings, Settings, schedules, show_bytes, show_duration,
    watches,
};

/// Reports every mistake of a configuration, or what would run.
pub(super) fn check(file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let settings = config::check(file)?;
    writeln!(out, "{} is correct: gateway {}", file.display(), settings.gateway)?;
    summary(&settings).write(out)?;
    Ok(())
}

fn summary(settings: &Settings) -> Table {
    let mut table = Table::new();
    let mut row = |kind: &str, name: &str, text: String| table.row([kind, name, &text]);
    row("data", "", settings.data_dir.display().to_string());
    for listener in &settings.mqtt.listeners {
        for address in &listener.listen {
            row("mqtt", &listener.name, format!("{address}{}", layers(listener)));
        }
    }
    let http = settings.http.map_or_else(|| "off".to_owned(), |address| address.to_string());
    row("http", "", http);
    for stream in &settings.streams {
        let topics: Vec<&str> = stream.topics.iter().map(|topic| topic.as_str()).collect();
        let records = stream.max_records.map(|records| format!(", {records} records"));
        let age = stream.max_age.map(|age| format!(", at most {}", show_duration(age)));
        let text = format!(
            "{}, {}{}, {}, retain {}{}",
            topics.join(" "),
            show_bytes(stream.max_bytes),
            records.unwrap_or_default(),
            overflow(stream.overflow),
            show_duration(stream.retain),
            age.unwrap_or_default()
        ) + compression(stream.compression);
        row("stream", &stream.name, text);
    }
    for folder in &settings.folders {
        row("files", &folder.name, format!("{} -> {}", folder.directory.display(), folder.stream));
    }
    for function in &settings.functions {
        let publish: Vec<&str> = function.publish.iter().map(|topic| topic.as_str()).collect();
        let publish = if publish.is_empty() { "nothing".to_owned() } else { publish.join(" ") };
        let module = function.module.display();
        let inputs: Vec<&str> = function.inputs.iter().map(|input| &*input.stream).collect();
        let inputs = if inputs.is_empty() { "nothing".to_owned() } else { inputs.join(" and ") };
        let schedules = function.schedules.iter();
        let schedules: String =
            schedules.map(|one| format!(", runs {}", schedules::show(one))).collect();
        let events: Vec<&str> = function.events.iter().map(|kind| kind.name()).collect();
        let told = match events.is_empty() {
            true => String::new(),
            false => format!(", is told {}", events.join(" ")),
        };
        let watches: String = function
            .watches
            .iter()
            .map(|one| format!(", watches {}", watches::show(one)))
            .collect();
        let ordering = ordering(function);
        let text = format!(
            "{module}, reads {inputs}{ordering}{schedules}{told}{watches}, may publish {publish}"
        );
        row("function", &function.name, text);
    }
    for uplink in &settings.uplinks {
        row("uplink", &uplink.name, format!("{} <- {}", uplink.target, uplink.streams.join(", ")));
    }
    table
}

/// What is not the usual strict ordering.
fn ordering(function: &FunctionSettings) -> String {
    let calls = match function.workers {
        1 => String::new(),
        workers => format!(", {workers} calls at a time"),
    };
    match function.ordering {
        Ordering::Strict => calls,
        Ordering::PerKey => format!(" in order per key{calls}"),
        Ordering::None => format!(" in no order{calls}"),
    }
}

fn layers(listener: &ListenerSettings) -> String {
    let tls = if listener.tls { ", TLS" } else { "" };
    let websocket = listener.websocket.as_ref().map(|path| format!(", WebSocket {path}"));
    let proxies = listener.proxy_from.iter().map(ToString::to_string).collect::<Vec<_>>();
    let proxies = match proxies.is_empty() {
        true => String::new(),
        false => format!(", PROXY header from {}", proxies.join(" ")),
    };
    let anonymous = if listener.allow_anonymous { ", without login" } else { ", with login" };
    format!("{tls}{}{proxies}{anonymous}", websocket.unwrap_or_default())
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "",
        Compression::Lz4 => ", lz4",
    }
}

/// As the configuration has it.
fn overflow(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::DropOldest => "drop-oldest",
        Overflow::Reject => "reject",
        Overflow::Block => "block",
    }
}
