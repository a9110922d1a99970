//! Reads each section into its settings, with the checks that need more than one value.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tidegate_broker::TopicFilter;
use tidegate_firmware::Limits;
use tidegate_flow::{
    DEAD_LETTER_STREAM, EVENT_STREAM, FIRMWARE_STREAM, FUNCTION_STREAM, LOSS_STREAM, PartitionKey,
};
use tidegate_stream::{Compression, Overflow};
use toml::de::{DeTable, DeValue};

use super::document::{Section, Source, Spot, report_unknown_sections};
use super::keys::{
    Key, Kind, MAX_NAME, firmware, function, gateway, http, log, mqtt, storage, stream, trigger,
};
use super::mistakes::Mistakes;
use super::security::{self, SecuritySettings};
use super::settings::{
    ADMIN_SOCKET, FirmwareSettings, FunctionSettings, LogFormat, LogLevel, LogSettings,
    MqttSettings, Settings, StorageSettings, StreamSettings,
};
use super::suggestion::nearest;
use super::value::{address, expected, is_name};
use super::{
    events, files, folders, inputs, json, package, partition_key, routes, schedules, serial,
    uplinks, watches,
};
use crate::secrets::Vault;

/// Most streams and functions of one gateway.
const MAX_STREAMS: usize = 256;
const MAX_FUNCTIONS: usize = 64;

/// How much of the machine is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What the settings themselves need. A gateway starts although a module is missing.
    File,
    /// The data directory and the modules as well.
    Machine,
}

/// Reads a parsed file. What is returned is complete only when `out` is still empty.
pub(super) fn read(
    file: &Path,
    depth: Depth,
    source: &Source<'_>,
    root: &DeTable<'_>,
    out: &mut Mistakes,
) -> Settings {
    let reader = Reader { file, base: base_of(file), depth, source, root };
    report_unknown_sections(source, root, out);
    let (gateway, data_dir) = reader.gateway(out);
    let (mqtt, security) = reader.mqtt(out);
    let serial = serial::read(&reader, out);
    let firmware = reader.firmware(out);
    let http = reader.http(&mqtt.addresses(), out);
    let log = reader.log(out);
    let storage = reader.storage(out);
    let streams = reader.streams(out);
    let names: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
    let folders = folders::read(&reader, &names, out);
    let functions = reader.functions(&streams, out);
    let routes = routes::read(&reader, &mqtt, http, &functions, out);
    check_secrets(&reader, &data_dir, &functions, out);
    let packages = package::read_settings(&reader, &names, &routes, out);
    let uplinks = uplinks::read(&reader, &gateway, &names, out);
    let file = file.to_owned();
    Settings {
        file,
        gateway,
        data_dir,
        mqtt,
        security,
        serial,
        firmware,
        http,
        routes,
        log,
        storage,
        streams,
        folders,
        functions,
        packages,
        uplinks,
    }
}

/// Reads the data directory alone.
pub(super) fn read_data_dir(
    file: &Path,
    source: &Source<'_>,
    root: &DeTable<'_>,
    out: &mut Mistakes,
) -> PathBuf {
    let mut ignored = Mistakes::new(file);
    let section = Section::single(source, root, &gateway::SECTION, &mut ignored);
    base_of(file).join(section.text(&gateway::DATA_DIR, out).unwrap_or_default())
}

/// Reads the gateway's id alone.
pub(super) fn read_gateway(
    file: &Path,
    source: &Source<'_>,
    root: &DeTable<'_>,
    out: &mut Mistakes,
) -> String {
    let mut ignored = Mistakes::new(file);
    let section = Section::single(source, root, &gateway::SECTION, &mut ignored);
    section.name(&gateway::ID, out).unwrap_or_default()
}

/// Reads the partition key of one stream alone.
pub(super) fn read_partition_key(
    file: &Path,
    stream: &str,
    source: &Source<'_>,
    root: &DeTable<'_>,
    out: &mut Mistakes,
) -> Option<PartitionKey> {
    let mut ignored = Mistakes::new(file);
    let sections = Section::several(source, root, &stream::SECTION, &mut ignored);
    let (_, section) = sections.into_iter().find(|(name, _)| *name == stream)?;
    partition_key::read(&section, &[], out)
}

/// Relative paths count from the directory of the file, wherever the command is run.
pub(super) fn base_of(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).unwrap_or_default()
}

pub(super) struct Reader<'a> {
    pub(super) file: &'a Path,
    pub(super) base: PathBuf,
    pub(super) depth: Depth,
    pub(super) source: &'a Source<'a>,
    pub(super) root: &'a DeTable<'a>,
}

impl<'a> Reader<'a> {
    /// Whether what is beside the file counts too.
    pub(super) fn looks_at_the_machine(&self) -> bool {
        self.depth == Depth::Machine
    }

    fn gateway(&self, out: &mut Mistakes) -> (String, PathBuf) {
        let section = Section::single(self.source, self.root, &gateway::SECTION, out);
        let id = section.name(&gateway::ID, out).unwrap_or_default();
        let data_dir = section.text(&gateway::DATA_DIR, out).unwrap_or_default();
        let data_dir = self.base.join(data_dir);
        if self.depth == Depth::Machine
            && let Some(spot) = section.spot(&gateway::DATA_DIR)
            && let DeValue::String(_) = spot.value
            && let Err(problem) = files::check_data_dir(&data_dir, ADMIN_SOCKET)
        {
            spot.wrong(out, &problem);
        }
        (id, data_dir)
    }

    fn mqtt(&self, out: &mut Mistakes) -> (MqttSettings, SecuritySettings) {
        let section = Section::single(self.source, self.root, &mqtt::SECTION, out);
        let (listeners, security) = security::read(self, &section, out);
        let settings = MqttSettings {
            listeners,
            max_connections: size(section.count(&mqtt::MAX_CONNECTIONS, out)),
            max_packet: small(section.bytes(&mqtt::MAX_PACKET, out)),
            receive_maximum: short(section.count(&mqtt::RECEIVE_MAXIMUM, out)),
            connect_timeout: section.time(&mqtt::CONNECT_TIMEOUT, out),
            max_keep_alive: section.time_if_set(&mqtt::MAX_KEEP_ALIVE, out),
            max_sessions: size(section.count(&mqtt::MAX_SESSIONS, out)),
            max_session_expiry: section.time(&mqtt::MAX_SESSION_EXPIRY, out),
            max_session_queue: size(section.bytes(&mqtt::MAX_SESSION_QUEUE, out)),
            max_queue: size(section.bytes(&mqtt::MAX_QUEUE, out)),
            max_retained: size(section.count(&mqtt::MAX_RETAINED, out)),
            max_retained_bytes: size(section.bytes(&mqtt::MAX_RETAINED_BYTES, out)),
        };
        (settings, security)
    }

    fn http(&self, mqtt: &[SocketAddr], out: &mut Mistakes) -> Option<SocketAddr> {
        let section = Section::single(self.source, self.root, &http::SECTION, out);
        let anonymous = section.flag(&http::ALLOW_ANONYMOUS, out);
        let Some(spot) = section.spot(&http::LISTEN) else {
            return Some(SocketAddr::from(([127, 0, 0, 1], 8080)));
        };
        if let DeValue::String(text) = spot.value
            && text == "off"
        {
            return None;
        }
        let address = address(&spot, out)?;
        refuse_open(&spot, address, anonymous, "http", out);
        if address.port() != 0 && mqtt.contains(&address) {
            spot.wrong(out, "the same as in mqtt.listen; choose another port");
        }
        Some(address)
    }

    fn log(&self, out: &mut Mistakes) -> LogSettings {
        let section = Section::single(self.source, self.root, &log::SECTION, out);
        let level = match section.choice(&log::LEVEL, out) {
            "error" => LogLevel::Error,
            "warn" => LogLevel::Warn,
            "debug" => LogLevel::Debug,
            "trace" => LogLevel::Trace,
            _ => LogLevel::Info,
        };
        let format = match section.choice(&log::FORMAT, out) {
            "json" => LogFormat::Json,
            _ => LogFormat::Text,
        };
        LogSettings { level, format }
    }

    fn storage(&self, out: &mut Mistakes) -> StorageSettings {
        let section = Section::single(self.source, self.root, &storage::SECTION, out);
        let settings = StorageSettings {
            segment_bytes: small(section.bytes(&storage::SEGMENT_BYTES, out)),
            group_bytes: size(section.bytes(&storage::GROUP_BYTES, out)),
            max_ack_delay: section.time(&storage::MAX_ACK_DELAY, out),
            quiet: section.time(&storage::QUIET, out),
            cache_bytes: size(section.bytes(&storage::CACHE_BYTES, out)),
            endurance: section.bytes_if_set(&storage::ENDURANCE, out),
        };
        if settings.quiet > settings.max_ack_delay
            && let Some(spot) = section.spot(&storage::QUIET)
        {
            spot.wrong(out, "longer than max_ack_delay, so it would never count; make it shorter");
        }
        settings
    }

    fn streams(&self, out: &mut Mistakes) -> Vec<StreamSettings> {
        let sections = Section::several(self.source, self.root, &stream::SECTION, out);
        let mut streams = Vec::new();
        for (name, section) in sections {
            check_name(name, &section, streams.len(), MAX_STREAMS, out);
            if let Some(what) = reserved(name) {
                let problem = format!(
                    "the name is reserved: this stream always exists and takes {what}; choose \
                     another name"
                );
                section.wrong(out, &problem);
            }
            let overflow = match section.choice(&stream::OVERFLOW, out) {
                "reject" => Overflow::Reject,
                "block" => Overflow::Block,
                _ => Overflow::DropOldest,
            };
            let compression = match section.choice(&stream::COMPRESSION, out) {
                "lz4" => Compression::Lz4,
                _ => Compression::None,
            };
            let topics = topics(&section, &stream::TOPICS, out);
            let key = partition_key::read(&section, &topics, out);
            streams.push(StreamSettings {
                name: name.to_owned(),
                topics,
                max_bytes: section.bytes(&stream::MAX_BYTES, out),
                max_records: section.count_if_set(&stream::MAX_RECORDS, out),
                overflow,
                retain: section.time(&stream::RETAIN, out),
                priority: section.count(&stream::PRIORITY, out) as u8,
                max_age: section.time_if_set(&stream::MAX_AGE, out),
                compression,
                key,
            });
        }
        streams
    }

    fn firmware(&self, out: &mut Mistakes) -> FirmwareSettings {
        let section = Section::single(self.source, self.root, &firmware::SECTION, out);
        let bytes_per_second = uplinks::limit(&section, &firmware::MAX_BYTES_PER_SECOND, out);
        let concurrent = small(section.count(&firmware::CONCURRENT, out));
        FirmwareSettings {
            max_bundle_bytes: section.bytes(&firmware::MAX_BUNDLE_BYTES, out),
            limits: Limits { concurrent, bytes_per_second },
        }
    }

    fn functions(&self, streams: &[StreamSettings], out: &mut Mistakes) -> Vec<FunctionSettings> {
        let sections = Section::several(self.source, self.root, &function::SECTION, out);
        let mut functions = Vec::new();
        for (name, section) in sections {
            check_name(name, &section, functions.len(), MAX_FUNCTIONS, out);
            let settings = self.function(name, &section, Some(streams), out);
            if self.depth == Depth::Machine
                && let Some(spot) = section.spot(&function::MODULE)
                && let DeValue::String(_) = spot.value
                && let Err(problem) = files::check_module(&settings.module, &settings.limits())
            {
                spot.wrong(out, &problem);
            }
            functions.push(settings);
        }
        watches::check(self, &functions, out);
        functions
    }

    /// One function. Whether its streams exist is asked where they are known.
    pub(super) fn function(
        &self,
        name: &str,
        section: &Section<'_>,
        streams: Option<&[StreamSettings]>,
        out: &mut Mistakes,
    ) -> FunctionSettings {
        let inputs = inputs::read(section, streams, out);
        let (ordering, workers) = inputs::ordering(section, &inputs, streams, out);
        FunctionSettings {
            name: name.to_owned(),
            module: self.path(section, &function::MODULE, out).unwrap_or_default(),
            inputs,
            ordering,
            workers,
            publish: topics(section, &function::PUBLISH, out),
            config: config(section, out),
            batch_records: size(section.count(&function::BATCH_RECORDS, out)),
            batch_bytes: size(section.bytes(&function::BATCH_BYTES, out)),
            batch_window: section.time(&function::BATCH_WINDOW, out),
            attempts: short(section.count(&function::ATTEMPTS, out)),
            retry_max_age: section.time(&function::RETRY_MAX_AGE, out),
            memory_bytes: size(section.bytes(&function::MEMORY, out)),
            fuel_per_batch: section.count(&function::FUEL_PER_BATCH, out),
            fuel_per_message: section.count(&function::FUEL_PER_MESSAGE, out),
            deadline: section.time(&function::DEADLINE, out),
            state_bytes: size(section.bytes(&function::STATE_BYTES, out)),
            timers: size(section.count(&function::TIMERS, out)),
            schedules: schedules::read(section, out),
            events: events::read(section, &trigger::EVENTS, out),
            watches: watches::read(section, out),
            routes: routes::of_function(section, out),
            secrets: package::secrets(section, out),
        }
    }

    /// A path, relative to the directory of the file.
    pub(super) fn path(
        &self,
        section: &Section<'_>,
        key: &Key,
        out: &mut Mistakes,
    ) -> Option<PathBuf> {
        Some(self.base.join(section.text(key, out)?))
    }
}

/// A gateway starts without the secrets that its functions may read; they are told of here.
fn check_secrets(
    reader: &Reader<'_>,
    data_dir: &Path,
    functions: &[FunctionSettings],
    out: &mut Mistakes,
) {
    if reader.depth == Depth::File {
        return;
    }
    let vault = Vault::of(data_dir, None);
    let mut ignored = Mistakes::new(reader.file);
    let sections = Section::several(reader.source, reader.root, &function::SECTION, &mut ignored);
    for settings in functions {
        let section = sections.iter().find(|(name, _)| *name == settings.name);
        let Some(spot) = section.and_then(|(_, one)| one.spot(&function::SECRETS)) else {
            continue;
        };
        for name in settings.secrets.iter().filter(|name| is_name(name) && !vault.has(name)) {
            spot.wrong(
                out,
                &format!("{name} is not set; set it with `tidegate secret set {name}`"),
            );
        }
    }
}

/// What a stream that is in every gateway takes.
pub(super) fn reserved(name: &str) -> Option<&'static str> {
    match name {
        DEAD_LETTER_STREAM => Some("the records that functions gave up"),
        LOSS_STREAM => Some("what the loss ledger says"),
        FUNCTION_STREAM => Some("what becomes of pushed functions"),
        FIRMWARE_STREAM => Some("how devices come along with firmware"),
        EVENT_STREAM => Some("what functions are told of"),
        _ => None,
    }
}

pub(super) fn check_name(
    name: &str,
    section: &Section<'_>,
    before: usize,
    max: usize,
    out: &mut Mistakes,
) {
    if !is_name(name) {
        let allowed = format!("not a name; allowed: 1 to {MAX_NAME} of A-Z a-z 0-9 _ -");
        section.wrong(out, &allowed);
    }
    if before == max {
        section.wrong(out, &format!("one too many; allowed: {max}"));
    }
}

/// One address or several; `check` looks at each.
pub(super) fn listen_addresses(
    spot: &Spot<'_>,
    key: &Key,
    taken: &mut Vec<SocketAddr>,
    check: impl Fn(&Spot<'_>, SocketAddr, &mut Mistakes),
    out: &mut Mistakes,
) -> Vec<SocketAddr> {
    let Kind::Listen { max } = key.kind else { return Vec::new() };
    let mut found: Vec<SocketAddr> = Vec::new();
    let mut take = |spot: &Spot<'_>, out: &mut Mistakes| {
        let Some(address) = address(spot, out) else { return };
        check(spot, address, out);
        if address.port() != 0 && taken.contains(&address) {
            spot.wrong(out, "listed twice");
        }
        taken.push(address);
        found.push(address);
    };
    match spot.elements() {
        None => take(spot, out),
        Some(list) if list.is_empty() || list.len() > max => {
            spot.wrong(out, &format!("a list of {}; allowed: 1 to {max}", list.len()));
        }
        Some(list) => list.iter().for_each(|element| take(element, out)),
    }
    found
}

fn refuse_open(
    spot: &Spot<'_>,
    address: SocketAddr,
    anonymous: bool,
    section: &str,
    out: &mut Mistakes,
) {
    if anonymous || address.ip().is_loopback() {
        return;
    }
    let problem = format!(
        "reachable from other machines, and this version has no authentication; listen on \
         127.0.0.1, or set allow_anonymous = true in [{section}] if everybody who reaches the \
         port may use it"
    );
    spot.wrong(out, &problem);
}

pub(super) fn topics(section: &Section<'_>, key: &Key, out: &mut Mistakes) -> Vec<TopicFilter> {
    let Kind::Topics { min, max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else {
        section.missing(key, out);
        return Vec::new();
    };
    filters(&spot, min, max, out)
}

/// A list of topic filters.
pub(super) fn filters(
    spot: &Spot<'_>,
    min: usize,
    max: usize,
    out: &mut Mistakes,
) -> Vec<TopicFilter> {
    let Some(elements) = list(spot, min, max, "topic filters", out) else { return Vec::new() };
    let mut found: Vec<TopicFilter> = Vec::new();
    for element in elements {
        let DeValue::String(text) = element.value else {
            element.wrong(out, &expected("text", element.value));
            continue;
        };
        match TopicFilter::parse(text) {
            Err(error) => element.wrong(out, &format!("{error}")),
            Ok(filter) if found.contains(&filter) => element.wrong(out, "listed twice"),
            Ok(filter) => found.push(filter),
        }
    }
    found
}

/// A list with its length checked.
pub(super) fn list<'a>(
    spot: &Spot<'a>,
    min: usize,
    max: usize,
    what: &str,
    out: &mut Mistakes,
) -> Option<Vec<Spot<'a>>> {
    let Some(elements) = spot.elements() else {
        spot.wrong(out, &expected(&format!("a list of {what}"), spot.value));
        return None;
    };
    if !(min..=max).contains(&elements.len()) {
        spot.wrong(out, &format!("a list of {}; allowed: {min} to {max}", elements.len()));
        return None;
    }
    Some(elements)
}

pub(super) fn check_stream(spot: &Spot<'_>, name: &str, streams: &[&str], out: &mut Mistakes) {
    if streams.contains(&name) {
        return;
    }
    let help = match (nearest(name, streams.iter().copied()), streams) {
        (Some(meant), _) => format!("did you mean \"{meant}\"?"),
        (None, []) => "the file has no [stream.NAME] at all".to_owned(),
        (None, _) => format!("streams: {}", streams.join(", ")),
    };
    spot.wrong(out, &format!("no such stream; {help}"));
}

fn config(section: &Section<'_>, out: &mut Mistakes) -> Vec<u8> {
    let Kind::Json { max } = function::CONFIG.kind else { return Vec::new() };
    let Some(spot) = section.spot(&function::CONFIG) else { return b"{}".to_vec() };
    let Some(bytes) = json::read(&spot, out) else { return b"{}".to_vec() };
    if bytes.len() > max {
        spot.wrong(out, &format!("{} bytes as JSON; allowed: {max}", bytes.len()));
    }
    bytes
}

/// A number that its key's range keeps within `usize`.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number that its key's range keeps within `u32`.
pub(super) fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// A number that its key's range keeps within `u16`.
pub(super) fn short(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}
