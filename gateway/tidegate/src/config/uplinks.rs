//! `[uplink.NAME]`: where it goes, what it sends, how much and how fast.

use std::time::Duration;

use tidegate_flow::RESERVED_STREAMS;
use tidegate_uplink::BodyFormat;
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Key, Kind, uplink};
use super::mistakes::Mistakes;
use super::sections::{Reader, check_name, check_stream, list, size, small};
use super::settings::UplinkSettings;
use super::sink::{Place, Sink};
use super::value::expected;
use crate::uplinks::{Target, TargetOptions, TlsFiles, Version};

/// Most uplinks of one gateway.
const MAX_UPLINKS: usize = 16;
/// Records and bytes of a batch when the file does not say.
const BATCH_RECORDS: usize = 100;
const BATCH_BYTES: usize = 64 << 10;

/// Reads all uplinks.
pub(super) fn read(
    reader: &Reader<'_>,
    gateway: &str,
    streams: &[&str],
    out: &mut Mistakes,
) -> Vec<UplinkSettings> {
    let sections = Section::several(reader.source, reader.root, &uplink::SECTION, out);
    let mut uplinks = Vec::new();
    for (index, (name, section)) in sections.into_iter().enumerate() {
        check_name(name, &section, index, MAX_UPLINKS, out);
        uplinks.extend(one(reader, gateway, name, &section, streams, out));
    }
    uplinks
}

/// One uplink; `None` when its URL or its files are wrong.
fn one(
    reader: &Reader<'_>,
    gateway: &str,
    name: &str,
    section: &Section<'_>,
    streams: &[&str],
    out: &mut Mistakes,
) -> Option<UplinkSettings> {
    let streams = stream_names(section, &uplink::STREAMS, streams, out);
    let own: Vec<&str> = streams.iter().map(String::as_str).collect();
    let live_first = match section.spot(&uplink::LIVE_FIRST) {
        Some(_) => stream_names(section, &uplink::LIVE_FIRST, &own, out),
        None => Vec::new(),
    };
    let window = size(section.count(&uplink::WINDOW, out));
    let connect_timeout = section.time(&uplink::CONNECT_TIMEOUT, out);
    let (backoff_min, backoff_max) = backoff(section, out);
    let mut settings = UplinkSettings {
        name: name.to_owned(),
        target: Target::Mqtt(Vec::new()),
        streams,
        live_first,
        window,
        window_bytes: size(section.bytes(&uplink::WINDOW_BYTES, out)),
        batch_records: limit(section, &uplink::BATCH_RECORDS, out).map_or(BATCH_RECORDS, size),
        batch_bytes: limit(section, &uplink::BATCH_BYTES, out).map_or(BATCH_BYTES, size),
        batch_age: section.time(&uplink::BATCH_AGE, out),
        max_batches_per_second: limit(section, &uplink::MAX_BATCHES_PER_SECOND, out),
        max_bytes_per_second: limit(section, &uplink::MAX_BYTES_PER_SECOND, out),
        max_backfill_bytes_per_second: limit(section, &uplink::MAX_BACKFILL_PER_SECOND, out),
        ack_timeout: section.time(&uplink::ACK_TIMEOUT, out),
        connect_timeout,
        backoff_min,
        backoff_max,
    };
    let packing = packing(section, out);
    let options = TargetOptions {
        tls: TlsFiles {
            ca_file: reader.path(section, &uplink::CA_FILE, out),
            cert_file: reader.path(section, &uplink::CERT_FILE, out),
            key_file: reader.path(section, &uplink::KEY_FILE, out),
        },
        keep_alive: section.time(&uplink::KEEP_ALIVE, out),
        connect_timeout,
        window,
        version: version(section, out),
        packing,
        max_message: limit(section, &uplink::MAX_MESSAGE, out).map(small),
        ..TargetOptions::default()
    };
    let urls = urls(section, out)?;
    let place = Place { reader, gateway, uplink: name, section, urls, options };
    let (sink, target) = place.target(out)?;
    settings.target = target;
    match sink {
        Sink::Mqtt if packing.is_none() => {
            settings.batch_records = 1;
            refuse_batches(section, out);
        }
        // Each record is a message of its own.
        Sink::Nats => settings.batch_records = 1,
        Sink::Mqtt | Sink::Http | Sink::S3 => {}
    }
    Some(settings)
}

fn version(section: &Section<'_>, out: &mut Mistakes) -> Version {
    match section.choice(&uplink::MQTT_VERSION, out) {
        "3.1.1" => Version::V311,
        _ => Version::V5,
    }
}

/// How the records of a message are written, when a message of MQTT is a batch: when the file
/// asks for several in one, and with 3.1.1, which has no place for an envelope.
fn packing(section: &Section<'_>, out: &mut Mistakes) -> Option<BodyFormat> {
    let several = limit(section, &uplink::BATCH_RECORDS, out).is_some_and(|records| records > 1);
    // A wrong version is reported where the target reads it.
    let old = matches!(section.spot(&uplink::MQTT_VERSION), Some(spot)
        if matches!(spot.value, DeValue::String(text) if text == "3.1.1"));
    let format = match section.spot(&uplink::FORMAT) {
        Some(_) if section.choice(&uplink::FORMAT, out) == "cbor" => BodyFormat::Cbor,
        Some(_) | None => BodyFormat::Ndjson,
    };
    (several || old).then_some(format)
}

/// A message of MQTT that carries one record.
fn refuse_batches(section: &Section<'_>, out: &mut Mistakes) {
    for key in [&uplink::BATCH_BYTES, &uplink::BATCH_AGE, &uplink::FORMAT] {
        if let Some(spot) = section.spot(key) {
            spot.wrong(
                out,
                "has no use with mqtt://: each record is a message of its own, unless \
                 batch_records is more than 1",
            );
        }
    }
}

/// A limit that holds only when it is written.
pub(super) fn limit(section: &Section<'_>, key: &Key, out: &mut Mistakes) -> Option<u64> {
    section.spot(key)?;
    match key.kind {
        Kind::Bytes { .. } => Some(section.bytes(key, out)),
        _ => Some(section.count(key, out)),
    }
}

/// One URL, or a list of them.
fn urls<'a>(section: &Section<'a>, out: &mut Mistakes) -> Option<Vec<(Spot<'a>, String)>> {
    let Kind::Urls { max } = uplink::URL.kind else { return None };
    let Some(spot) = section.spot(&uplink::URL) else {
        section.missing(&uplink::URL, out);
        return None;
    };
    let spots = match spot.elements() {
        None => vec![spot],
        Some(list) if list.is_empty() || list.len() > max => {
            spot.wrong(out, &format!("a list of {}; allowed: 1 to {max}", list.len()));
            return None;
        }
        Some(list) => list,
    };
    let mut found: Vec<(Spot<'a>, String)> = Vec::new();
    for spot in spots {
        let DeValue::String(text) = spot.value else {
            spot.wrong(out, &expected("a URL, or a list of URLs", spot.value));
            return None;
        };
        if found.iter().any(|(_, before)| before == text) {
            spot.wrong_shown_as("the URL", out, "listed twice");
        }
        let text = text.clone().into_owned();
        found.push((spot, text));
    }
    Some(found)
}

fn backoff(section: &Section<'_>, out: &mut Mistakes) -> (Duration, Duration) {
    let min = section.time(&uplink::BACKOFF_MIN, out);
    let max = section.time(&uplink::BACKOFF_MAX, out);
    if min > max {
        let spots = [&uplink::BACKOFF_MIN, &uplink::BACKOFF_MAX];
        if let Some(spot) = spots.into_iter().find_map(|key| section.spot(key)) {
            spot.wrong(out, "backoff_min must not be longer than backoff_max");
        }
    }
    (min, max)
}

fn stream_names(
    section: &Section<'_>,
    key: &Key,
    streams: &[&str],
    out: &mut Mistakes,
) -> Vec<String> {
    let Kind::Streams { max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else {
        section.missing(key, out);
        return Vec::new();
    };
    let mut found: Vec<String> = Vec::new();
    for element in list(&spot, 1, max, "names of streams", out).unwrap_or_default() {
        let DeValue::String(name) = element.value else {
            element.wrong(out, &expected("the name of a stream", element.value));
            continue;
        };
        if found.iter().any(|before| before == name) {
            element.wrong(out, "listed twice");
        } else if !RESERVED_STREAMS.contains(&name.as_ref()) {
            check_stream(&element, name, streams, out);
        }
        found.push(name.clone().into_owned());
    }
    found
}
