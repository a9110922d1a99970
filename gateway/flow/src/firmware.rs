//! Firmware for devices: what they say on `tg/{device}/ota/...` goes to the desk
//! (`tidegate_firmware`), what the desk wants put down is one transaction of the log, and what it
//! wants sent leaves over MQTT, or by the shell on a serial line.
//!
//! Invariants:
//! - who speaks on the topics of a device is that device: the broker lets nobody else publish there;
//! - what waits for something to be on flash leaves when the log is durable through it;
//! - while the log does not take what the desk has decided, nothing is heard: devices say it again;
//! - as long as no device has said anything and no campaign was ever begun, there is no desk.
//!
//! Not here: bundles' files, which the shell reads.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_broker::{LocalId, Message, QoS, TopicFilter, TopicName};
use tidegate_firmware::{
    Batch, CampaignStatus, Desk, DeskError, DeviceStatus, FleetStatus, Letter, Limits,
    MAX_CAMPAIGNS, MAX_DEVICES, Moment, Note, Read, Release, Terms, Via,
};
use tidegate_stream::{
    AppendError, CommitError, Log, Position, Record, StreamId, TableId, Transaction,
};
use tidegate_wire::Digest;

use crate::attributes::Attributes;
use crate::clock::{ClockQuality, Now};
use crate::events::json;
use crate::gateway::{BuildError, Gateway, Notice, Output};
use crate::losses::quoted;
use crate::plan::FIRMWARE_STREAM;
use crate::route::Routes;

/// Name of the table (docs/formats/firmware-campaigns.md).
const TABLE: &str = "firmware";
/// Client of the events, and their topic without the campaign's number or `devices`.
const CLIENT: &str = "tidegate";
const TOPIC: &str = "tidegate/firmware/";
/// What devices say that was not heard yet: each request is some 40 bytes, and what is beyond this
/// is dropped and said again.
const MAX_UNHEARD: usize = 256 * 1_024;
/// Wait before what the log did not take is tried again: it is busy for moments, and full or
/// without room in its table for longer.
const AGAIN_SOON: Duration = Duration::from_millis(50);
const AGAIN: Duration = Duration::from_secs(1);
/// Devices that load at a time, when the operator has not said how many.
const CONCURRENT: u32 = 16;

/// Most bytes of the table: devices of 300 bytes, and campaigns with a member of 150 bytes for each.
pub(crate) const FIRMWARE_TABLE_BYTES: usize =
    MAX_DEVICES * 300 + MAX_CAMPAIGNS * (MAX_DEVICES * 150 + 48 * 1_024);

/// See the module.
pub(crate) struct Firmware {
    table: TableId,
    stream: StreamId,
    limits: Limits,
    /// What devices say.
    heard: Vec<LocalId>,
    desk: Option<Box<Desk>>,
    /// What the log did not take, and when it is tried again.
    held: Option<(Batch, Instant)>,
    /// Why, once it was told.
    refused: Option<String>,
    /// What leaves when the log is durable.
    waiting: VecDeque<(Position, Vec<Letter>)>,
}

impl Firmware {
    pub(crate) fn define(log: &mut Log, routes: &Routes, now: Now) -> Result<Firmware, BuildError> {
        let mut firmware = Firmware {
            table: log.table(TABLE)?,
            stream: routes.required(FIRMWARE_STREAM, "what is told of firmware")?,
            limits: Limits { concurrent: CONCURRENT, bytes_per_second: None },
            heard: Vec::new(),
            desk: None,
            held: None,
            refused: None,
            waiting: VecDeque::new(),
        };
        firmware.restore(log, now);
        Ok(firmware)
    }

    /// Goes on with what the log has.
    fn restore(&mut self, log: &Log, now: Now) {
        let entries = log.table_entries(self.table);
        if entries.is_empty() {
            return;
        }
        let entries = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        // What a later version has written is left alone.
        let (desk, _) = Desk::restore(self.limits, now.instant, entries);
        self.desk = Some(Box::new(desk));
    }

    #[cfg(test)]
    pub(crate) fn has_desk(&self) -> bool {
        self.desk.is_some()
    }

    fn desk(&mut self) -> &mut Desk {
        let limits = self.limits;
        self.desk.get_or_insert_with(|| Box::new(Desk::new(limits)))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let held = self.held.as_ref().map(|(_, again)| *again);
        let desk = self.desk.as_ref().filter(|_| held.is_none());
        let desk = desk.and_then(|desk| desk.poll_timeout());
        [held, desk].into_iter().flatten().min()
    }
}

impl Gateway {
    /// Brings firmware to devices from now on, with these limits.
    pub fn serve_firmware(&mut self, now: Now, limits: Limits) {
        self.firmware.limits = limits;
        self.firmware.desk = None;
        self.firmware.restore(&self.log, now);
        if self.firmware.heard.is_empty() {
            for said in ["state", "req", "report"] {
                let Ok(filter) = TopicFilter::parse(&format!("tg/+/ota/{said}")) else { continue };
                self.firmware.heard.push(self.broker.subscribe_local(&filter, MAX_UNHEARD));
            }
        }
    }

    /// Begins to bring a release to devices; answers the campaign's number, and from where on it is
    /// on flash. The bundle's file is there.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn start_campaign(
        &mut self,
        now: Now,
        bundle: Digest,
        release: Release,
        terms: Terms,
    ) -> Result<(u64, Position), DeskError> {
        let id = self.firmware.desk().start(moment(now), bundle, release, terms)?;
        self.carry_firmware(now);
        Ok((id, self.log.end()))
    }

    /// Ends a campaign; answers from where on that is on flash.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub fn cancel_campaign(&mut self, now: Now, id: u64) -> Result<Position, DeskError> {
        let desk = self.firmware.desk.as_mut().ok_or(DeskError::Unknown(id))?;
        desk.cancel(moment(now), id)?;
        self.carry_firmware(now);
        Ok(self.log.end())
    }

    /// Forgets a device; answers from where on that is on flash.
    ///
    /// # Errors
    /// In words: it is not known.
    pub fn forget_device(&mut self, now: Now, device: &str) -> Result<Position, String> {
        self.firmware.desk().forget(moment(now), device)?;
        self.carry_firmware(now);
        Ok(self.log.end())
    }

    /// The campaigns, the newest first.
    pub fn campaigns(&self) -> Vec<CampaignStatus> {
        self.firmware.desk.as_ref().map_or_else(Vec::new, |desk| desk.campaign_statuses())
    }

    /// The devices that have said hello.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        self.firmware.desk.as_ref().map_or_else(Vec::new, |desk| desk.device_statuses())
    }

    /// How full the table of devices is; `None` as long as no device has said anything.
    pub(crate) fn fleet_status(&self) -> Option<FleetStatus> {
        self.firmware.desk.as_ref().map(|desk| desk.fleet_status())
    }

    /// Bundles that campaigns need.
    pub fn needed_bundles(&self) -> Vec<Digest> {
        let desk = self.firmware.desk.as_ref();
        desk.map_or_else(Vec::new, |desk| desk.needed().into_iter().collect())
    }

    /// Whether the log has taken everything that was decided; until then a position that
    /// [`start_campaign`](Gateway::start_campaign) and its like answered says nothing.
    pub fn firmware_is_put_down(&self) -> bool {
        self.firmware.held.is_none()
    }

    /// A device on a serial line has said something.
    pub fn handle_firmware(&mut self, now: Now, device: &str, message: &[u8]) {
        if self.firmware.held.is_some() {
            return;
        }
        self.firmware.desk().handle_message(moment(now), device, Via::Line, message);
    }

    /// The shell has read a block, or could not.
    pub fn handle_firmware_read(&mut self, now: Now, read: &Read, data: Result<&[u8], &str>) {
        let letter = data.and_then(|data| read.letter(data).ok_or("it is shorter than it was"));
        let Some(desk) = self.firmware.desk.as_mut() else { return };
        desk.handle_read(moment(now), read, letter.as_ref().map(|_| ()).map_err(|why| *why));
        if let Ok(letter) = letter {
            self.deliver_letter(now, letter);
        }
    }

    /// The time of [`Firmware::poll_timeout`] has come.
    pub(crate) fn pass_firmware_time(&mut self, now: Now) {
        self.carry_firmware(now);
        if let Some(desk) = &mut self.firmware.desk
            && self.firmware.held.is_none()
            && desk.poll_timeout().is_some_and(|at| at <= now.instant)
        {
            desk.handle_timeout(moment(now));
        }
    }

    /// Hears what devices have said, and does what the desk wants. True when something moved.
    pub(crate) fn step_firmware(&mut self, now: Now) -> bool {
        if self.firmware.held.is_some() {
            return self.carry_firmware(now);
        }
        let mut moved = false;
        for at in 0..self.firmware.heard.len() {
            while let Some(message) =
                self.firmware.heard.get(at).and_then(|id| self.broker.take_local(*id))
            {
                let device = message.topic.as_str().split('/').nth(1).unwrap_or_default();
                let payload = &message.payload;
                self.firmware.desk().handle_message(moment(now), device, Via::Mqtt, payload);
                moved = true;
            }
        }
        moved | self.carry_firmware(now)
    }

    /// What the log has taken is on flash.
    pub(crate) fn release_firmware(&mut self, now: Now) {
        let durable = self.log.durable();
        while self.firmware.waiting.front().is_some_and(|(position, _)| *position <= durable) {
            if let Some((_, letters)) = self.firmware.waiting.pop_front() {
                letters.into_iter().for_each(|letter| self.deliver_letter(now, letter));
            }
        }
    }

    /// Does what the desk wants. True when something moved, which a batch that the log did not
    /// take, or is not to be tried again yet, has not.
    fn carry_firmware(&mut self, now: Now) -> bool {
        let mut moved = false;
        match self.firmware.held.take() {
            Some((batch, again)) if again > now.instant => {
                self.firmware.held = Some((batch, again));
                return false;
            }
            Some((batch, _)) => {
                self.put_down_firmware(now, batch);
                moved = self.firmware.held.is_none();
            }
            None => {}
        }
        while self.firmware.held.is_none() {
            let desk = self.firmware.desk.as_mut();
            let Some(output) = desk.and_then(|desk| desk.poll_output(moment(now))) else { break };
            moved = true;
            match output {
                tidegate_firmware::Output::Send(letter) => self.deliver_letter(now, letter),
                tidegate_firmware::Output::Read(read) => self.emit(Output::ReadFirmware(read)),
                tidegate_firmware::Output::Store(batch) => self.put_down_firmware(now, batch),
            }
        }
        moved
    }

    fn put_down_firmware(&mut self, now: Now, batch: Batch) {
        let mut transaction = Transaction::new();
        for (key, value) in &batch.changes {
            match value {
                Some(value) => transaction.put(self.firmware.table, key.clone(), value.clone()),
                None => transaction.delete(self.firmware.table, key.clone()),
            }
        }
        for note in &batch.notes {
            transaction.append(self.firmware.stream, record(now, &self.name, note));
        }
        // What was put down before may still be on its way.
        let mut position = self.log.end();
        if !transaction.is_empty() {
            transaction.hurry();
            match self.log.commit(now.instant, transaction) {
                Ok(committed) => {
                    position = committed.position;
                    self.firmware.refused = None;
                }
                Err(CommitError::Append(AppendError::Busy { .. })) => {
                    self.firmware.held = Some((batch, now.instant + AGAIN_SOON));
                    return;
                }
                Err(error) => {
                    // What is decided stands: a report that was taken in must not be acknowledged
                    // by the next batch, and is not news to it.
                    self.firmware.held = Some((batch, now.instant + AGAIN));
                    let why = error.to_string();
                    if self.firmware.refused.as_ref() != Some(&why) {
                        self.firmware.refused = Some(why.clone());
                        self.emit(Output::Notice(Notice::FirmwareNotKept { why }));
                    }
                    return;
                }
            }
        }
        for note in &batch.notes {
            if let Note::Forgotten { device, newcomer } = note {
                let (device, newcomer) = (device.clone(), newcomer.clone());
                self.emit(Output::Notice(Notice::DeviceForgotten { device, newcomer }));
            }
        }
        if batch.then.is_empty() {
            return;
        }
        if position <= self.log.durable() {
            batch.then.into_iter().for_each(|letter| self.deliver_letter(now, letter));
        } else {
            self.firmware.waiting.push_back((position, batch.then));
        }
    }

    /// Sends a message. It concerns nobody but its device, so no stream takes it.
    fn deliver_letter(&mut self, now: Now, letter: Letter) {
        match letter.via {
            Via::Line => self.emit(Output::Letter(letter)),
            Via::Mqtt => {
                let topic = format!("tg/{}/ota/{}", letter.device, letter.topic.name());
                let Ok(topic) = TopicName::parse(&topic) else { return };
                let message = Message::new(topic, letter.bytes, QoS::AtMostOnce);
                self.broker.publish(now.instant, &Arc::new(message));
            }
        }
    }
}

fn moment(now: Now) -> Moment {
    let is_trusted = now.clock == ClockQuality::Synced;
    Moment { instant: now.instant, unix_ms: now.unix_ms, is_trusted }
}

/// What is told of a step, for the stream `firmware-events`.
fn record(now: Now, gateway: &str, note: &Note) -> Record {
    let attributes = Attributes {
        clock: now.clock,
        content_type: Some("application/json".to_owned()),
        payload_utf8: true,
        ..Attributes::default()
    };
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    let (about, event, members) = match note {
        Note::Forgotten { device, newcomer } => {
            let members = vec![("device", quoted(device)), ("newcomer", quoted(newcomer))];
            ("devices".to_owned(), "forgotten", members)
        }
        Note::Campaign { campaign, state, sequence, reason } => {
            let mut members = vec![
                ("campaign", campaign.to_string()),
                ("state", quoted(state)),
                ("sequence", sequence.to_string()),
            ];
            if !reason.is_empty() {
                members.push(("reason", quoted(reason)));
            }
            (campaign.to_string(), "campaign", members)
        }
        Note::Device { campaign, device, stage, sequence, code, bytes, retries } => {
            let mut members = vec![
                ("campaign", campaign.to_string()),
                ("device", quoted(device)),
                ("stage", quoted(stage.name())),
                ("sequence", sequence.to_string()),
                ("bytes", bytes.to_string()),
                ("retries", retries.to_string()),
            ];
            if *code > 0 {
                let why = tidegate_wire::message::Refusal::of(*code).to_string();
                members.extend([("code", code.to_string()), ("why", quoted(&why))]);
            }
            (campaign.to_string(), "device", members)
        }
    };
    Record {
        unix_ms: now.unix_ms,
        topic: format!("{TOPIC}{about}"),
        client: CLIENT.to_owned(),
        publisher: None,
        attributes: bytes,
        payload: json(now, gateway, event, &members).into_bytes(),
    }
}
