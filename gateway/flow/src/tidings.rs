//! What functions are told of beside records: that they begin and end, what becomes of uplinks and
//! devices, and how full the log is (docs/formats/abi-tg1.md, Events).
//!
//! An event is a record of a stream of its own, so it is handled like any record: once, in order,
//! tried again, and given up as a dead letter. The stream is there only where a function wants it.
//!
//! Invariants:
//! - nothing is written that no function wants;
//! - what clients do cannot fill the flash by this: see [`Allowance`];
//! - a function that wants to know that it begins is given nothing of its new life before that.

use tidegate_broker::BrokerEvent;
use tidegate_stream::{Position, Record, Seq, StreamId, Transaction};

use crate::attributes::Attributes;
use crate::clock::Now;
use crate::control::{ControlError, Mode};
use crate::events::{Allowance, json, told};
use crate::function::{FunctionRun, NO_ROOM_PAUSE};
use crate::gateway::{Gateway, Notice, Output};
use crate::losses::quoted;
use crate::plan::{EVENT_STREAM, EventKind};
use crate::uplink::Turn;

/// Publisher of what is for all functions; what is for one has its reader's name there.
const CLIENT: &str = "tidegate";
/// Levels of the log that are told, in percent of all streams' quotas, and how far it must fall
/// below one to be told again.
const LEVELS: [u8; 2] = [80, 95];
const HYSTERESIS: u8 = 5;

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Tidings {
    allowance: Allowance,
    /// Levels that the log was above.
    above: [bool; LEVELS.len()],
}

/// Who is told.
#[derive(Debug, Clone, Copy)]
enum For {
    /// Every function that wants it.
    All,
    /// The function with this index.
    One(usize),
}

/// Members of the JSON beside those that all events have.
pub(crate) type Members<'a> = &'a [(&'a str, String)];

impl Gateway {
    /// What an MQTT client has done, if functions are told of that.
    pub(crate) fn tell_of_client(&mut self, now: Now, event: &BrokerEvent) {
        let kind = match event {
            BrokerEvent::Connected { .. } => EventKind::Connected,
            BrokerEvent::Disconnected { .. } => EventKind::Disconnected,
            BrokerEvent::TakenOver { .. }
            | BrokerEvent::Subscribed { .. }
            | BrokerEvent::Unsubscribed { .. }
            | BrokerEvent::Denied { .. }
            | BrokerEvent::Publish { .. }
            | BrokerEvent::Persist { .. }
            | BrokerEvent::Spool { .. }
            | BrokerEvent::Writable(_)
            | BrokerEvent::Close { .. }
            | BrokerEvent::Pause(_)
            | BrokerEvent::Resume(_)
            | BrokerEvent::Authenticate { .. } => return,
        };
        if self.stopping || !self.is_wanted(kind) {
            return;
        }
        let Some((_, mut members)) = told(event) else { return };
        let Some(suppressed) = self.tidings.allowance.take(now.instant) else { return };
        if suppressed > 0 {
            members.push(("suppressed", suppressed.to_string()));
        }
        self.tell_all(now, kind, &members);
    }

    /// Tells the operator, and the functions, what has become of an uplink.
    pub(crate) fn tell_of_uplink(&mut self, now: Now, uplink: String, turn: Turn) {
        let name = ("uplink", quoted(&uplink));
        let notice = match turn {
            Turn::Up => {
                self.tell_all(now, EventKind::Online, &[name]);
                Notice::UplinkConnected { uplink }
            }
            Turn::Down(why) => {
                self.tell_all(now, EventKind::Offline, &[name, ("why", quoted(&why))]);
                Notice::UplinkDown { uplink, why }
            }
        };
        self.emit(Output::Notice(notice));
    }

    /// Tells of levels that what the log holds has risen above, or fallen below.
    pub(crate) fn tell_of_disk(&mut self, now: Now) {
        if !self.is_wanted(EventKind::Disk) {
            return;
        }
        let streams = self.log.status().streams;
        let used: u64 = streams.iter().map(|stream| stream.bytes).sum();
        let limit = streams.iter().fold(0_u64, |sum, stream| sum.saturating_add(stream.max_bytes));
        self.tell_of_use(now, used, limit);
    }

    /// The same for so many bytes of so many.
    pub(crate) fn tell_of_use(&mut self, now: Now, used: u64, limit: u64) {
        for (at, level) in LEVELS.into_iter().enumerate() {
            let was = self.tidings.above[at];
            let threshold = if was { level - HYSTERESIS } else { level };
            let above = used as u128 * 100 >= limit as u128 * u128::from(threshold) && limit > 0;
            if above == was {
                continue;
            }
            let members = [
                ("level", level.to_string()),
                ("above", above.to_string()),
                ("used_bytes", used.to_string()),
                ("limit_bytes", limit.to_string()),
            ];
            if self.tell_all(now, EventKind::Disk, &members) {
                self.tidings.above[at] = above;
            }
        }
    }

    /// Tells a function that it begins, before anything else. False while there is no room.
    pub(crate) fn tell_start(&mut self, now: Now, index: usize) -> bool {
        let name = &self.functions[index].plan.name;
        let version = self.alias(name).and_then(|alias| alias.current);
        let version = version.filter(|_| !self.is_configured(name));
        let members: Vec<_> =
            version.iter().map(|version| ("version", quoted(&version.label))).collect();
        let told = self.tell(now, For::One(index), EventKind::Start, &members);
        let run = &mut self.functions[index];
        match told {
            Ok(seq) => {
                run.unstarted = false;
                run.first = Some(seq);
                true
            }
            Err(error) => {
                run.tally.last_failure = Some(error);
                run.not_before = Some(now.instant + NO_ROOM_PAUSE);
                false
            }
        }
    }

    /// Tells the functions that want to know it that the gateway is about to end. They are given
    /// nothing else any more; the shell goes on until [`Gateway::has_said_goodbye`], for as long as
    /// it cares to wait, and calls [`Gateway::shut_down`] then.
    pub fn say_goodbye(&mut self, now: Now) {
        let told = |run: &FunctionRun| run.wants_stop() && run.mode == Mode::Running;
        let told: Vec<usize> =
            self.present().filter(|(_, run)| told(run)).map(|(index, _)| index).collect();
        for index in told {
            let why = [("why", quoted("shutdown"))];
            // For one that cannot be told there is no room: it ends like the others.
            if let Ok(seq) = self.tell(now, For::One(index), EventKind::Stop, &why) {
                self.functions[index].last = Some(seq);
            }
        }
    }

    /// Whether all functions that were told of the end have handled it.
    pub fn has_said_goodbye(&self) -> bool {
        self.present().all(|(_, run)| run.has_ended())
    }

    /// Pauses a function that wants to know it: it is told, and is paused when it has handled that.
    pub(crate) fn pause_when_told(
        &mut self,
        now: Now,
        index: usize,
    ) -> Result<Position, ControlError> {
        let run = &self.functions[index];
        let stream = run.events.map(|events| run.intakes[events].stream);
        let Some(stream) = stream.filter(|stream| run.wants_stop() && !run.is_leaving(*stream))
        else {
            return self.set_mode(now, index, Mode::Paused);
        };
        let (client, why) = (addressee(&run.plan.name), [("why", quoted("paused"))]);
        let record = event_record(now, &self.name, client, EventKind::Stop, &why, 0);
        let mode = Mode::Draining(vec![(stream, self.log.next_seq(stream).plus(1))]);
        self.set_mode_with(now, index, mode, Some((stream, record)))
    }

    /// Tells functions of an event as if it had happened, with members of its JSON beside those
    /// that all have: for tests of functions.
    ///
    /// # Errors
    /// No function wants it, or the log has no room; in words.
    pub fn tell_functions(
        &mut self,
        now: Now,
        kind: EventKind,
        members: &[(&str, String)],
    ) -> Result<(), String> {
        if !self.is_wanted(kind) {
            let name = kind.name();
            return Err(format!("no function is told of \"{name}\": it is in no `events`"));
        }
        self.tell(now, For::All, kind, members).map(drop)
    }

    fn is_wanted(&self, kind: EventKind) -> bool {
        self.present().any(|(_, run)| run.plan.events.contains(&kind))
    }

    /// What the log has no room for is left out; what becomes of it later is told again.
    fn tell_all(&mut self, now: Now, kind: EventKind, members: Members<'_>) -> bool {
        let wanted = !self.stopping && self.is_wanted(kind);
        wanted && self.tell(now, For::All, kind, members).is_ok()
    }

    /// Writes an event; answers its sequence.
    fn tell(
        &mut self,
        now: Now,
        to: For,
        kind: EventKind,
        members: Members<'_>,
    ) -> Result<Seq, String> {
        let stream = self.routes.id(EVENT_STREAM).ok_or("the stream of events is not there")?;
        let client = match to {
            For::All => CLIENT.to_owned(),
            For::One(index) => addressee(&self.functions[index].plan.name),
        };
        let record = event_record(now, &self.name, client, kind, members, 0);
        let seq = self.log.next_seq(stream);
        let mut transaction = Transaction::new();
        transaction.append(stream, record);
        transaction.hurry();
        self.log.commit(now.instant, transaction).map_err(|error| error.to_string())?;
        Ok(seq)
    }
}

impl FunctionRun {
    /// Whether it is to be told that it ends: it runs, and knows that it began.
    fn wants_stop(&self) -> bool {
        let runs = !self.parked && self.canary_of.is_none() && self.mode != Mode::Paused;
        runs && !self.unstarted && self.plan.events.contains(&EventKind::Stop)
    }

    /// Whether it was told that it is paused: that is the only thing to drain then.
    fn is_leaving(&self, events: StreamId) -> bool {
        matches!(&self.mode, Mode::Draining(ends) if ends.len() == 1 && ends[0].0 == events)
    }
}

/// What stands as the publisher of an event that is for one function alone.
pub(crate) fn addressee(function: &str) -> String {
    format!("fn/{function}")
}

/// An event as a record; what led to it has passed so many functions (`hops`).
pub(crate) fn event_record(
    now: Now,
    gateway: &str,
    client: String,
    kind: EventKind,
    members: Members<'_>,
    hops: u8,
) -> Record {
    let attributes = Attributes {
        clock: now.clock,
        qos: 0,
        hops,
        content_type: Some("application/json".to_owned()),
        payload_utf8: true,
        ..Attributes::default()
    };
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    Record {
        unix_ms: now.unix_ms,
        topic: kind.name().to_owned(),
        client,
        publisher: None,
        attributes: bytes,
        payload: json(now, gateway, kind.name(), members).into_bytes(),
    }
}
