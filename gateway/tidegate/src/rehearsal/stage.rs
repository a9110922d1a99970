//! The gateway of a rehearsal: its disk is memory, its clock stands until it is moved.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use tidegate_fixtures::{Change, Dead, Event, Output as Published};
use tidegate_flow::{
    ClockQuality, EventKind, Gateway, ImportBatch, ImportError, Notice, Now, Output,
};
use tidegate_stream::{MemoryDisk, Record};

use super::asking::Dialogue;
use super::cast::Cast;
use super::guest::{Cost, Guest, StartError};
use super::harvest::Harvest;

/// Names the records that come in, for the gateway's own notes.
const IMPORT: &str = "rehearsal";
/// Bytes that are taken in as one commit; a larger record goes alone.
const COMMIT_BYTES: usize = 256 << 10;
/// Identifiers are the same in each rehearsal.
const ENTROPY: u64 = 7;
/// The least step of the clock, so that it comes to its end.
const STEP: Duration = Duration::from_micros(50);
/// Notes kept until they are taken; what comes after is counted.
const MAX_NOTES: usize = 200;

/// See the module.
pub(crate) struct Stage {
    cast: Cast,
    pub(super) guests: Vec<Guest>,
    pub(super) gateway: Gateway,
    pub(super) dialogue: Dialogue,
    disk: MemoryDisk,
    /// The two clocks' common beginning.
    began: (Instant, i64),
    pub(super) now: Now,
    harvest: Harvest,
    notes: Vec<String>,
    more_notes: usize,
}

impl Stage {
    /// Starts the functions and the gateway at a moment, milliseconds since 1970.
    ///
    /// # Errors
    /// A function does not start ([`StartError`]), or the plan contradicts itself.
    pub(crate) fn open(mut cast: Cast, unix_ms: i64) -> anyhow::Result<Stage> {
        let parts = std::mem::take(&mut cast.parts);
        let guests = parts.into_iter().map(Guest::start).collect::<Result<Vec<_>, StartError>>()?;
        let now = Now { instant: Instant::now(), unix_ms, micros: 0, clock: ClockQuality::Synced };
        let disk = MemoryDisk::new();
        let gateway = open(&cast, &disk, now)?;
        let mut stage = Stage {
            cast,
            guests,
            gateway,
            dialogue: Dialogue::default(),
            disk,
            began: (now.instant, unix_ms),
            now,
            harvest: Harvest::default(),
            notes: Vec::new(),
            more_notes: 0,
        };
        stage.settle()?;
        Ok(stage)
    }

    /// Takes records in together, and handles what can be handled without time passing.
    pub(crate) fn take(&mut self, records: Vec<Record>) -> anyhow::Result<()> {
        let mut groups: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for record in records {
            for stream in self.cast.streams_of(&record.topic).map_err(anyhow::Error::msg)? {
                groups.entry(stream).or_default().push(record.clone());
            }
        }
        for (stream, records) in groups {
            let mut batch = Vec::new();
            let mut bytes = 0;
            for record in records {
                let size = record.payload.len() + record.attributes.len() + record.topic.len();
                if !batch.is_empty() && bytes + size > COMMIT_BYTES {
                    self.commit(&stream, std::mem::take(&mut batch))?;
                    bytes = 0;
                }
                bytes += size;
                batch.push(record);
            }
            self.commit(&stream, batch)?;
        }
        self.settle()
    }

    fn commit(&mut self, stream: &str, records: Vec<Record>) -> anyhow::Result<()> {
        let start = self.gateway.imported(stream, IMPORT)?;
        let batch =
            ImportBatch { stream: stream.to_owned(), id: IMPORT.to_owned(), start, records };
        loop {
            match self.gateway.import(self.now, &batch) {
                Ok(_) => return Ok(()),
                Err(ImportError::Later) => self.settle()?,
                Err(
                    error @ (ImportError::NoStream(_)
                    | ImportError::Elsewhere { .. }
                    | ImportError::Refused(_)),
                ) => return Err(error.into()),
            }
        }
    }

    /// Tells functions of an event.
    pub(crate) fn tell(&mut self, event: &Event) -> anyhow::Result<()> {
        if event.name == EventKind::State.name() {
            return self.tell_of_change(event);
        }
        let names = EventKind::NAMED.map(EventKind::name).join(", ");
        let kind = EventKind::named(&event.name)
            .ok_or_else(|| anyhow!("there is no event \"{}\"; there are: {names}", event.name))?;
        let members: Vec<(&str, String)> =
            event.members.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        self.gateway.tell_functions(self.now, kind, &members).map_err(anyhow::Error::msg)?;
        self.settle()
    }

    /// Tells functions of a change in a state as if it had happened.
    fn tell_of_change(&mut self, event: &Event) -> anyhow::Result<()> {
        let change = Change::read(event).map_err(anyhow::Error::msg)?;
        let values = (change.old.as_deref(), change.new.as_deref());
        let told = self.gateway.tell_of_change(self.now, &change.function, &change.key, values);
        told.map_err(anyhow::Error::msg)?;
        self.settle()
    }

    /// Moves the clock; what falls due on the way happens. A moment that has passed is no news.
    pub(crate) fn advance_to(&mut self, unix_ms: i64) -> anyhow::Result<()> {
        let end = self.instant_at(unix_ms)?;
        self.settle()?;
        loop {
            let at = self.gateway.poll_timeout().max(self.now.instant + STEP);
            if at > end {
                break;
            }
            self.set_clock(at);
            self.gateway.handle_timeout(self.now);
            self.settle()?;
        }
        if end > self.now.instant {
            self.set_clock(end);
            self.settle()?;
        }
        Ok(())
    }

    /// Moves the clock over a pause in which nothing is to happen; what falls due in it happens
    /// at its end.
    pub(crate) fn jump_to(&mut self, unix_ms: i64) -> anyhow::Result<()> {
        let end = self.instant_at(unix_ms)?;
        if end > self.now.instant {
            self.set_clock(end);
            self.gateway.handle_timeout(self.now);
        }
        self.settle()
    }

    /// When the clock shows this; its beginning for what was before.
    fn instant_at(&self, unix_ms: i64) -> anyhow::Result<Instant> {
        let (instant, began) = self.began;
        let after = u64::try_from(unix_ms.saturating_sub(began)).unwrap_or(0);
        instant
            .checked_add(Duration::from_millis(after))
            .ok_or_else(|| anyhow!("the clock cannot go to {unix_ms}"))
    }

    fn set_clock(&mut self, at: Instant) {
        let (instant, began) = self.began;
        let passed = at.saturating_duration_since(instant).as_millis();
        self.now.instant = at;
        self.now.unix_ms = began.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX));
    }

    /// What the clock shows, milliseconds since 1970.
    pub(crate) fn unix_ms(&self) -> i64 {
        self.now.unix_ms
    }

    /// Gives back what was passed by everybody, as the gateway does once a second.
    pub(crate) fn trim(&mut self) -> anyhow::Result<()> {
        // The clock stands: it is the gateway's other clock that passes a second.
        self.began.0 += Duration::from_secs(1);
        self.now.instant += Duration::from_secs(1);
        self.gateway.handle_timeout(self.now);
        self.settle()
    }

    /// Ends gateway and instances in good order and starts new ones on the same disk.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.gateway.say_goodbye(self.now);
        self.settle()?;
        self.gateway.shut_down(self.now);
        self.drain()?;
        self.gateway = open(&self.cast, &self.disk, self.now)?;
        self.dialogue.begin_anew();
        for guest in &mut self.guests {
            guest.restart()?;
        }
        self.settle()
    }

    /// What was published since the last call.
    pub(crate) fn outputs(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.harvest.outputs)
    }

    /// What was given up since the last call.
    pub(crate) fn dead(&mut self) -> Vec<Dead> {
        std::mem::take(&mut self.harvest.dead)
    }

    /// What the functions logged and how calls failed since the last call.
    pub(crate) fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        if self.more_notes > 0 {
            notes.push(format!("{} more lines", self.more_notes));
        }
        self.more_notes = 0;
        notes
    }

    /// A function's state; without a name, that of the only one.
    pub(crate) fn state(
        &mut self,
        function: Option<&str>,
    ) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
        let names: Vec<&str> =
            self.cast.plan.functions.iter().map(|function| function.name.as_str()).collect();
        let name = match (function, names.as_slice()) {
            (Some(name), names) if names.contains(&name) => name,
            (None, [name]) => name,
            (Some(name), names) => {
                return Err(format!("no function \"{name}\"; there is: {}", names.join(", ")));
            }
            (None, names) => {
                return Err(format!(
                    "say whose state: \"function\" is one of {}",
                    names.join(", ")
                ));
            }
        };
        let log = self.gateway.log_mut();
        let table = log.table(&format!("fn/{name}")).map_err(|error| error.to_string())?;
        Ok(log.table_entries(table).as_ref().clone())
    }

    /// Why records wait, when some do.
    pub(crate) fn waits(&self) -> Option<String> {
        let requests = self.dialogue.waiting();
        if requests > 0 {
            return Some(format!(
                "{requests} requests have no answer yet; let time pass: {{\"advance\":\"1m\"}}"
            ));
        }
        let status = self.gateway.status(self.now);
        let function = status.functions.iter().find(|function| function.lag > 0)?;
        let why = function.last_failure.as_deref().unwrap_or("it asked for them again");
        let (name, lag) = (&function.name, function.lag);
        Some(format!(
            "{lag} of {name} wait for another attempt ({why}); let time pass: {{\"advance\":\"1m\"}}"
        ))
    }

    /// What each function's calls cost.
    pub(crate) fn costs(&self) -> impl Iterator<Item = Cost> {
        self.guests.iter().map(|guest| guest.cost)
    }

    /// Does everything that needs no time: what was taken in is handled and on the disk.
    pub(super) fn settle(&mut self) -> anyhow::Result<()> {
        loop {
            self.drain()?;
            self.harvest.collect(&mut self.gateway, &self.disk, self.now)?;
            if self.gateway.is_settled() {
                return Ok(());
            }
            self.gateway.log_mut().flush(self.now.instant);
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        while let Some(output) = self.gateway.poll_output(self.now) {
            match output {
                Output::Disk(request) => {
                    let reply = request.perform(&self.disk);
                    self.gateway.handle_disk(self.now, reply);
                }
                Output::Call(call) => {
                    // Calls are made one after the other: one instance serves all workers.
                    let id = call.id;
                    let Some(guest) = self.guests.get_mut(id.function) else { continue };
                    let result = guest.call(call);
                    let logs = std::mem::take(&mut guest.logs);
                    logs.into_iter().for_each(|line| self.note(line));
                    self.gateway.handle_call(self.now, id, result);
                    // A call more could push what this one published out of its stream.
                    self.harvest.collect(&mut self.gateway, &self.disk, self.now)?;
                }
                Output::Answer(_, answer) => self.dialogue.answered(answer),
                Output::Notice(notice) => self.notice(notice),
                Output::Writable(_)
                | Output::Close(..)
                | Output::Pause(_)
                | Output::Resume(_)
                | Output::Function(_)
                | Output::ReadFirmware(_)
                | Output::Letter(_)
                | Output::Authenticate(..)
                | Output::Uplink(..) => {}
            }
        }
        Ok(())
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::CallFailed { function, records, failure } => {
                self.note(format!("a call of {function} with {records} records failed: {failure}"));
            }
            Notice::FunctionLog { text, .. } => self.note(text),
            Notice::RequestFailed { function, failure, .. } => {
                self.note(format!("a request to {function} failed: {failure}"));
            }
            Notice::ClientConnected { .. }
            | Notice::ClientDisconnected { .. }
            | Notice::Denied { .. }
            | Notice::DeadLettered { .. }
            | Notice::RolledBack { .. }
            | Notice::VersionWaits { .. }
            | Notice::UplinkConnected { .. }
            | Notice::UplinkDown { .. }
            | Notice::Setback { .. }
            | Notice::SessionsWait { .. }
            | Notice::LossesWait { .. }
            | Notice::FirmwareNotKept { .. }
            | Notice::DeviceForgotten { .. }
            | Notice::Rejected { .. } => {}
        }
    }

    fn note(&mut self, line: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(line);
        } else {
            self.more_notes += 1;
        }
    }
}

fn open(cast: &Cast, disk: &MemoryDisk, now: Now) -> anyhow::Result<Gateway> {
    let opened = Gateway::open(cast.plan.clone(), disk, now, ENTROPY);
    Ok(opened.context("the gateway cannot be rehearsed")?.0)
}
