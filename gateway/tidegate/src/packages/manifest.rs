//! What a package says of its function: read and written as deterministic CBOR
//! (docs/formats/package.md).
//!
//! Invariant: a manifest has one encoding, and what is decoded is within the ranges that the
//! configuration allows a function.

use std::time::Duration;

use tidegate_broker::TopicFilter;
use tidegate_flow::{
    Cron, EventKind, FunctionPlan, HttpRoute, InputPlan, MAX_INPUTS, MAX_SCHEDULES, Missed,
    Ordering, Rhythm, SchedulePlan,
};
use tidegate_runtime::Grants;
use tidegate_wire::Digest;
use tidegate_wire::cbor::{CborError, Full, Reader, Writer};

use crate::config::keys::{Key, Kind, MAX_NAME, function, trigger};
use crate::config::{FunctionFile, FunctionSettings, is_name};

/// Version of the manifest's table.
const FORMAT: u64 = 1;
/// The same, of a function that is called by the clock or that reads no stream.
const FORMAT_WITH_TRIGGERS: u64 = 2;
/// Version of the contract with the module.
pub(crate) const ABI: u64 = 1;
/// Entries of the map.
const ENTRIES: u64 = 27;
const ENTRIES_WITH_TRIGGERS: u64 = 28;
/// Longest manifest, in bytes.
pub(crate) const MAX_MANIFEST: usize = 120 * 1024;
/// Longest version that an author may give.
pub(crate) const MAX_VERSION: usize = 32;
/// Most entries of a list, and longest text in it, in bytes.
const MAX_LIST: usize = 64;
const MAX_TEXT: usize = 1024;
/// Longest configuration, in bytes of JSON.
const MAX_CONFIG: usize = 65_536;
/// Largest module, in bytes.
pub(crate) const MAX_MODULE: u64 = 8 << 20;

/// A version of a function, without its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Name of the function.
    pub(crate) name: String,
    /// What its author calls the version.
    pub(crate) version: String,
    /// SHA-256 of the module.
    pub(crate) module: Digest,
    /// Its size.
    pub(crate) module_bytes: u64,
    /// What it reads.
    pub(crate) inputs: Vec<InputPlan>,
    /// Where it publishes.
    pub(crate) publish: Vec<TopicFilter>,
    /// Its configuration, JSON.
    pub(crate) config: Vec<u8>,
    pub(crate) batch_records: u64,
    pub(crate) batch_bytes: u64,
    pub(crate) batch_window: Duration,
    pub(crate) attempts: u64,
    pub(crate) retry_max_age: Duration,
    pub(crate) ordering: Ordering,
    pub(crate) workers: u64,
    /// Linear memory, in bytes.
    pub(crate) memory: u64,
    pub(crate) fuel_per_batch: u64,
    pub(crate) fuel_per_message: u64,
    pub(crate) deadline: Duration,
    pub(crate) state_bytes: u64,
    /// What else it may do.
    pub(crate) wants: Wants,
    /// When it is called by the clock.
    pub(crate) schedules: Vec<SchedulePlan>,
}

/// What a function may do beside reading, publishing and remembering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wants {
    /// Read the time of the batch.
    pub clock: bool,
    /// Have random numbers.
    pub random: bool,
    /// Set so many timers.
    pub timers: u64,
    /// Answer these HTTP routes.
    pub routes: Vec<String>,
    /// Read the secrets of these names.
    pub secrets: Vec<String>,
    /// Be told events of these kinds.
    pub events: Vec<String>,
}

/// Why bytes are no manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("the manifest is broken: {0}")]
    Encoding(#[from] CborError),
    #[error(
        "the manifest has format {0}, and this gateway reads {FORMAT} and {FORMAT_WITH_TRIGGERS}"
    )]
    Format(u64),
    #[error("the module speaks version {0} of the contract, and this gateway {ABI} (tg1)")]
    Abi(u64),
    #[error("entry {found} of the manifest where entry {wanted} belongs")]
    Order { wanted: u64, found: u64 },
    #[error("{key} in the manifest: {problem}")]
    Value { key: &'static str, problem: String },
}

impl Manifest {
    /// The manifest as it is signed.
    ///
    /// # Errors
    /// It is too long.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Full> {
        let mut out = vec![0; MAX_MANIFEST];
        let mut writer = Numbered { writer: Writer::new(&mut out), next: 0 };
        let triggers = self.has_triggers();
        let (format, entries) = match triggers {
            true => (FORMAT_WITH_TRIGGERS, ENTRIES_WITH_TRIGGERS),
            false => (FORMAT, ENTRIES),
        };
        writer.writer.map(entries as usize)?;
        writer.uint(format)?;
        writer.text(&self.name)?;
        writer.text(&self.version)?;
        writer.uint(ABI)?;
        writer.bytes(&self.module.0)?;
        writer.uint(self.module_bytes)?;
        writer.inputs(&self.inputs)?;
        writer.texts(self.publish.iter().map(TopicFilter::as_str))?;
        writer.bytes(&self.config)?;
        writer.uint(self.batch_records)?;
        writer.uint(self.batch_bytes)?;
        writer.uint(microseconds(self.batch_window))?;
        writer.uint(self.attempts)?;
        writer.uint(microseconds(self.retry_max_age))?;
        writer.uint(match self.ordering {
            Ordering::Strict => 1,
            Ordering::PerKey => 2,
            Ordering::None => 3,
        })?;
        writer.uint(self.workers)?;
        writer.uint(self.memory)?;
        writer.uint(self.fuel_per_batch)?;
        writer.uint(self.fuel_per_message)?;
        writer.uint(microseconds(self.deadline))?;
        writer.uint(self.state_bytes)?;
        writer.bool(self.wants.clock)?;
        writer.bool(self.wants.random)?;
        writer.uint(self.wants.timers)?;
        for list in [&self.wants.routes, &self.wants.secrets, &self.wants.events] {
            writer.texts(list.iter().map(String::as_str))?;
        }
        if triggers {
            writer.schedules(&self.schedules)?;
        }
        let length = writer.writer.len();
        out.truncate(length);
        Ok(out)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// Anything is not as it should be.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let mut reader = Fields { reader: Reader::new(bytes), next: 0 };
        let entries = reader.reader.map()? as u64;
        let (triggers, wanted) = match reader.uint()? {
            FORMAT => (false, ENTRIES),
            FORMAT_WITH_TRIGGERS => (true, ENTRIES_WITH_TRIGGERS),
            other => return Err(ManifestError::Format(other)),
        };
        if entries != wanted {
            return Err(ManifestError::Order { wanted, found: entries });
        }
        let name = reader.text("name", is_name)?;
        let version = reader.text("version", is_version)?;
        match reader.uint()? {
            ABI => {}
            other => return Err(ManifestError::Abi(other)),
        }
        let module = reader.bytes("module", 32)?;
        let module = module.try_into().map_err(|_| wrong("module", "not a SHA-256"))?;
        let manifest = Manifest {
            name,
            version,
            module: Digest(module),
            module_bytes: reader.number("module", 1, MAX_MODULE)?,
            inputs: reader.inputs()?,
            publish: reader.filters("publish")?,
            config: reader.config()?,
            batch_records: reader.within(&function::BATCH_RECORDS)?,
            batch_bytes: reader.within(&function::BATCH_BYTES)?,
            batch_window: Duration::from_micros(reader.within(&function::BATCH_WINDOW)?),
            attempts: reader.within(&function::ATTEMPTS)?,
            retry_max_age: Duration::from_micros(reader.within(&function::RETRY_MAX_AGE)?),
            ordering: match reader.number("ordering", 1, 3)? {
                1 => Ordering::Strict,
                2 => Ordering::PerKey,
                _ => Ordering::None,
            },
            workers: reader.within(&function::WORKERS)?,
            memory: reader.within(&function::MEMORY)?,
            fuel_per_batch: reader.within(&function::FUEL_PER_BATCH)?,
            fuel_per_message: reader.within(&function::FUEL_PER_MESSAGE)?,
            deadline: Duration::from_micros(reader.within(&function::DEADLINE)?),
            state_bytes: reader.within(&function::STATE_BYTES)?,
            wants: Wants {
                clock: reader.bool()?,
                random: reader.bool()?,
                timers: reader.uint()?,
                routes: reader.routes()?,
                secrets: reader.texts("secrets")?,
                events: reader.texts("events")?,
            },
            schedules: if triggers { reader.schedules()? } else { Vec::new() },
        };
        reader.reader.end()?;
        let wants = &manifest.wants;
        let asked = !wants.routes.is_empty() || !wants.events.is_empty();
        if manifest.inputs.is_empty() && manifest.schedules.is_empty() && !asked {
            return Err(wrong("input", "no stream, and nothing else that calls the function"));
        }
        match manifest.has_triggers() == triggers {
            true => Ok(manifest),
            false if triggers => Err(wrong("schedule", "none, as in a manifest of format 1")),
            false => Err(wrong("input", "no stream, in a manifest of format 1")),
        }
    }

    /// Whether it has what only the second format can say.
    fn has_triggers(&self) -> bool {
        self.inputs.is_empty() || !self.schedules.is_empty()
    }

    /// What an author says of a function; what it says of the module is not known yet.
    pub(crate) fn of(file: FunctionFile) -> Manifest {
        let FunctionFile { version, wants, function, .. } = file;
        Manifest {
            name: function.name,
            version,
            module: Digest([0; 32]),
            module_bytes: 1,
            inputs: function.inputs,
            publish: function.publish,
            config: function.config,
            batch_records: function.batch_records as u64,
            batch_bytes: function.batch_bytes as u64,
            batch_window: function.batch_window,
            attempts: function.attempts.into(),
            retry_max_age: function.retry_max_age,
            ordering: function.ordering,
            workers: function.workers as u64,
            memory: function.memory_bytes as u64,
            fuel_per_batch: function.fuel_per_batch,
            fuel_per_message: function.fuel_per_message,
            deadline: function.deadline,
            state_bytes: function.state_bytes as u64,
            wants,
            schedules: function.schedules,
        }
    }

    /// What the module is given beside its limits.
    pub(crate) fn grants(&self) -> Grants {
        Grants { state: self.state_bytes > 0, clock: self.wants.clock, random: self.wants.random }
    }

    /// What its function is to the flow core.
    pub(crate) fn plan(&self) -> FunctionPlan {
        self.settings().plan()
    }

    /// The function as the configuration would say it; what this gateway does not have is left
    /// out, and refused by the checks of an install.
    pub(crate) fn settings(&self) -> FunctionSettings {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        FunctionSettings {
            name: self.name.clone(),
            module: std::path::PathBuf::new(),
            inputs: self.inputs.clone(),
            ordering: self.ordering,
            workers: size(self.workers),
            publish: self.publish.clone(),
            config: self.config.clone(),
            batch_records: size(self.batch_records),
            batch_bytes: size(self.batch_bytes),
            batch_window: self.batch_window,
            attempts: u16::try_from(self.attempts).unwrap_or(u16::MAX),
            retry_max_age: self.retry_max_age,
            memory_bytes: size(self.memory),
            fuel_per_batch: self.fuel_per_batch,
            fuel_per_message: self.fuel_per_message,
            deadline: self.deadline,
            state_bytes: size(self.state_bytes),
            timers: size(self.wants.timers),
            schedules: self.schedules.clone(),
            events: self.wants.events.iter().filter_map(|name| EventKind::named(name)).collect(),
            secrets: self.wants.secrets.clone(),
            // See `pack`.
            watches: Vec::new(),
            // Decoding has refused what is none.
            routes: self
                .wants
                .routes
                .iter()
                .filter_map(|text| HttpRoute::parse(text).ok())
                .collect(),
        }
    }
}

/// Whether a text may name a version.
pub(crate) fn is_version(text: &str) -> bool {
    (1..=MAX_VERSION).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+_-".contains(&b))
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn wrong(key: &'static str, problem: impl Into<String>) -> ManifestError {
    ManifestError::Value { key, problem: problem.into() }
}

/// Writes values behind their keys, which ascend by one.
struct Numbered<'a> {
    writer: Writer<'a>,
    next: u64,
}

impl<'a> Numbered<'a> {
    fn key(&mut self) -> Result<&mut Writer<'a>, Full> {
        self.writer.uint(self.next)?;
        self.next += 1;
        Ok(&mut self.writer)
    }

    fn uint(&mut self, number: u64) -> Result<(), Full> {
        self.key()?.uint(number)
    }

    fn bool(&mut self, value: bool) -> Result<(), Full> {
        self.key()?.bool(value)
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.key()?.bytes(bytes)
    }

    fn text(&mut self, text: &str) -> Result<(), Full> {
        self.key()?.text(text)
    }

    fn texts<'b>(&mut self, texts: impl ExactSizeIterator<Item = &'b str>) -> Result<(), Full> {
        list(self.key()?, texts)
    }

    fn inputs(&mut self, inputs: &[InputPlan]) -> Result<(), Full> {
        let writer = self.key()?;
        writer.array(inputs.len())?;
        for input in inputs {
            writer.array(2)?;
            writer.text(&input.stream)?;
            list(writer, input.topics.iter().map(TopicFilter::as_str))?;
        }
        Ok(())
    }

    /// Each a list: name, policy, interval or 0, time table or nothing.
    fn schedules(&mut self, schedules: &[SchedulePlan]) -> Result<(), Full> {
        let writer = self.key()?;
        writer.array(schedules.len())?;
        for schedule in schedules {
            writer.array(4)?;
            writer.text(&schedule.name)?;
            writer.uint(match schedule.missed {
                Missed::Skip => 1,
                Missed::Once => 2,
                Missed::All => 3,
            })?;
            let (period, cron) = match &schedule.rhythm {
                Rhythm::Every(period) => (microseconds(*period), ""),
                Rhythm::Cron(cron) => (0, cron.as_str()),
            };
            writer.uint(period)?;
            writer.text(cron)?;
        }
        Ok(())
    }
}

fn list<'b>(
    writer: &mut Writer<'_>,
    texts: impl ExactSizeIterator<Item = &'b str>,
) -> Result<(), Full> {
    writer.array(texts.len())?;
    texts.into_iter().try_for_each(|text| writer.text(text))
}

/// Reads values behind their keys, which ascend by one.
struct Fields<'a> {
    reader: Reader<'a>,
    next: u64,
}

impl<'a> Fields<'a> {
    fn key(&mut self) -> Result<&mut Reader<'a>, ManifestError> {
        let found = self.reader.uint()?;
        if found != self.next {
            return Err(ManifestError::Order { wanted: self.next, found });
        }
        self.next += 1;
        Ok(&mut self.reader)
    }

    fn uint(&mut self) -> Result<u64, ManifestError> {
        Ok(self.key()?.uint()?)
    }

    fn bool(&mut self) -> Result<bool, ManifestError> {
        Ok(self.key()?.bool()?)
    }

    fn number(&mut self, key: &'static str, min: u64, max: u64) -> Result<u64, ManifestError> {
        let number = self.uint()?;
        if (min..=max).contains(&number) {
            return Ok(number);
        }
        Err(wrong(key, format!("{number} is out of range; allowed: {min} to {max}")))
    }

    /// A number within the range of a key of the configuration.
    fn within(&mut self, key: &'static Key) -> Result<u64, ManifestError> {
        let (min, max) = match &key.kind {
            Kind::Count { min, max } | Kind::Bytes { min, max } => (*min, *max),
            Kind::Time { min, max } => (microseconds(*min), microseconds(*max)),
            _ => (0, u64::MAX),
        };
        self.number(key.name, min, max)
    }

    fn bytes(&mut self, key: &'static str, max: usize) -> Result<&'a [u8], ManifestError> {
        let bytes = self.key()?.bytes()?;
        if bytes.len() > max {
            return Err(wrong(key, format!("{} bytes; allowed: {max}", bytes.len())));
        }
        Ok(bytes)
    }

    fn text(
        &mut self,
        key: &'static str,
        allowed: impl Fn(&str) -> bool,
    ) -> Result<String, ManifestError> {
        let text = self.key()?.text()?;
        if allowed(text) {
            return Ok(text.to_owned());
        }
        let shown = text.escape_debug().take(MAX_NAME).collect::<String>();
        Err(wrong(key, format!("\"{shown}\" is not allowed")))
    }

    fn texts(&mut self, key: &'static str) -> Result<Vec<String>, ManifestError> {
        texts(self.key()?, key)
    }

    fn routes(&mut self) -> Result<Vec<String>, ManifestError> {
        const KEY: &str = "routes";
        let found = self.texts(KEY)?;
        for text in &found {
            HttpRoute::parse(text).map_err(|error| wrong(KEY, format!("\"{text}\": {error}")))?;
        }
        Ok(found)
    }

    fn filters(&mut self, key: &'static str) -> Result<Vec<TopicFilter>, ManifestError> {
        filters(self.key()?, key)
    }

    fn inputs(&mut self) -> Result<Vec<InputPlan>, ManifestError> {
        const KEY: &str = "input";
        let reader = self.key()?;
        let count = reader.array()?;
        if count > MAX_INPUTS {
            return Err(wrong(KEY, format!("{count} streams; allowed: {MAX_INPUTS}")));
        }
        let mut inputs = Vec::with_capacity(count);
        for _ in 0..count {
            if reader.array()? != 2 {
                return Err(wrong(KEY, "an entry is not a stream and its topics"));
            }
            let stream = reader.text()?;
            if !is_name(stream) {
                return Err(wrong(KEY, "an entry does not begin with the name of a stream"));
            }
            let topics = filters(reader, KEY)?;
            if inputs.iter().any(|input: &InputPlan| input.stream == stream) {
                return Err(wrong(KEY, "a stream is listed twice"));
            }
            inputs.push(InputPlan { stream: stream.to_owned(), topics });
        }
        Ok(inputs)
    }

    fn schedules(&mut self) -> Result<Vec<SchedulePlan>, ManifestError> {
        const KEY: &str = trigger::SCHEDULE.name;
        let reader = self.key()?;
        let count = reader.array()?;
        if count > MAX_SCHEDULES {
            return Err(wrong(KEY, format!("{count} of them; allowed: {MAX_SCHEDULES}")));
        }
        let mut found: Vec<SchedulePlan> = Vec::with_capacity(count);
        for _ in 0..count {
            if reader.array()? != 4 {
                return Err(wrong(
                    KEY,
                    "an entry is not a name, a policy, an interval and a table",
                ));
            }
            let name = reader.text()?;
            if !is_name(name) || found.iter().any(|known| known.name == name) {
                return Err(wrong(KEY, "an entry has no name of its own"));
            }
            let missed = match reader.uint()? {
                1 => Missed::Skip,
                2 => Missed::Once,
                3 => Missed::All,
                other => return Err(wrong(KEY, format!("{other} is no policy for missed runs"))),
            };
            let (period, table) = (reader.uint()?, reader.text()?);
            found.push(SchedulePlan {
                name: name.to_owned(),
                rhythm: rhythm(period, table)?,
                missed,
            });
        }
        Ok(found)
    }

    fn config(&mut self) -> Result<Vec<u8>, ManifestError> {
        const KEY: &str = "config";
        let bytes = self.bytes(KEY, MAX_CONFIG)?;
        match serde_json::from_slice(bytes) {
            Ok(serde_json::Value::Object(_)) => Ok(bytes.to_vec()),
            Ok(_) => Err(wrong(KEY, "not a JSON object")),
            Err(error) => Err(wrong(KEY, format!("not JSON: {error}"))),
        }
    }
}

/// An interval in microseconds, or a time table in its one spelling.
fn rhythm(period: u64, table: &str) -> Result<Rhythm, ManifestError> {
    const KEY: &str = trigger::SCHEDULE.name;
    let Kind::Schedule { shortest, longest, .. } = trigger::SCHEDULE.kind else {
        return Err(wrong(KEY, "not known"));
    };
    if period == 0 {
        let cron = Cron::parse(table).map_err(|error| wrong(KEY, error.to_string()))?;
        return match cron.as_str() == table {
            true => Ok(Rhythm::Cron(cron)),
            false => Err(wrong(KEY, "a time table with other spaces than one between two fields")),
        };
    }
    let allowed = microseconds(shortest)..=microseconds(longest);
    match allowed.contains(&period) && table.is_empty() {
        true => Ok(Rhythm::Every(Duration::from_micros(period))),
        false => Err(wrong(KEY, format!("an interval of {period} us is not allowed"))),
    }
}

fn texts(reader: &mut Reader<'_>, key: &'static str) -> Result<Vec<String>, ManifestError> {
    let count = reader.array()?;
    if count > MAX_LIST {
        return Err(wrong(key, format!("{count} entries; allowed: {MAX_LIST}")));
    }
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        let text = reader.text()?;
        if text.is_empty() || text.len() > MAX_TEXT || text.contains('\0') {
            return Err(wrong(key, format!("an entry of {} bytes, or with NUL", text.len())));
        }
        if found.iter().any(|known| known == text) {
            return Err(wrong(key, "an entry is listed twice"));
        }
        found.push(text.to_owned());
    }
    Ok(found)
}

fn filters(reader: &mut Reader<'_>, key: &'static str) -> Result<Vec<TopicFilter>, ManifestError> {
    let parse = |text: &String| TopicFilter::parse(text).map_err(|e| wrong(key, e.to_string()));
    texts(reader, key)?.iter().map(parse).collect()
}
