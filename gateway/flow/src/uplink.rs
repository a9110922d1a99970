//! One uplink at its cursors: reads durable records of its streams, wraps them in the envelope
//! and offers them to the window; moves a cursor when the window says so.

use std::sync::Arc;
use std::time::Instant;

use tidegate_stream::{
    Epoch, Log, Loss, LossReason, ReadLimit, ReadOutcome, ReaderId, RecordRef, Seq, StreamId,
};
use tidegate_uplink::{
    Action, Clock, Held, LaneId, LaneStart, OutboundRecord, RefuseReason, Uplink, UplinkEvent,
};
use tidegate_wire::PublisherIdentity;

use crate::attributes::Attributes;
use crate::clock::{ClockQuality, Now};
use crate::foreign;
use crate::gateway::{BuildError, Gateway, Notice, Output, PlantedBug};
use crate::key::PartitionKey;
use crate::late::{Course, Grant, LATE_SUFFIX, LateStreams, Part, Shares};
use crate::latency::Latency;
use crate::plan::UplinkPlan;
use crate::route::Routes;
use crate::seal::Seals;
use crate::setback::{self, Setbacks};

/// An uplink and how far it is on each of its streams.
pub(crate) struct UplinkRun {
    pub(crate) plan: UplinkPlan,
    pub(crate) core: Uplink,
    pub(crate) lanes: Vec<Lane>,
    /// Boundaries of its batches, for sinks that need them.
    pub(crate) seals: Seals,
    /// Its live-first streams.
    pub(crate) late: LateStreams,
    /// What its server lost.
    pub(crate) setbacks: Setbacks,
    /// From receipt to the upstream's acknowledgement, by the oldest record of each batch.
    pub(crate) latency: Latency,
    /// From sending to the upstream's acknowledgement.
    pub(crate) round_trip: Latency,
    /// What the operator was told last.
    up: Option<bool>,
}

/// One stream of an uplink, or a part of it.
pub(crate) struct Lane {
    pub(crate) stream: StreamId,
    pub(crate) reader: ReaderId,
    /// Index of the stream's name in the plan.
    pub(crate) name: usize,
    pub(crate) part: Part,
    /// Of a live lane: what it leaves to its late lane.
    pub(crate) shares: Shares,
    /// Of a live lane: how far it may send.
    pub(crate) grant: Grant,
    /// Its reader was made in this life of the gateway: it has not sent anything yet.
    pub(crate) is_new: bool,
    /// What lies below was not necessarily sent by this uplink; `None` where setbacks are not seen.
    pub(crate) since: Option<Seq>,
    /// The newest epoch in the server's last answer that this store never had.
    pub(crate) foreign: Option<Epoch>,
    /// Sequence and epoch of the record that was next when the server's epoch kept it back.
    pub(crate) first_waiting: Option<(Seq, Epoch)>,
    /// The last setback that the operator was told of: what is behind the server's newest record.
    pub(crate) told: Option<Seq>,
}

impl UplinkRun {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        now: Now,
        plan: &UplinkPlan,
        seed: u64,
    ) -> Result<UplinkRun, BuildError> {
        let late = LateStreams::define(log, plan)?;
        let mut lanes = lanes(log, routes, plan, &late)?;
        setback::define(log, now, plan, &mut lanes)?;
        let seals = Seals::define(log, plan)?;
        let starts = lanes.iter().map(|lane| {
            let stream = lane.upstream_name(plan);
            // Of one stream, what is fresh goes before what is late.
            let fresh = u8::from(!matches!(lane.part, Part::Late { .. }));
            LaneStart {
                cursor: log.cursor(lane.reader),
                priority: routes.priority(lane.stream).saturating_mul(2).saturating_add(fresh),
                sealed: seals.known(log, &stream),
                stream: Arc::from(stream),
            }
        });
        let starts = starts.collect();
        let core = Uplink::new(plan.options.clone(), starts, seed);
        Ok(UplinkRun {
            plan: plan.clone(),
            core,
            lanes,
            seals,
            late,
            setbacks: Setbacks::default(),
            latency: Latency::default(),
            round_trip: Latency::default(),
            up: None,
        })
    }

    /// There may be something to read.
    pub(crate) fn wake(&mut self) {
        for lane in 0..self.lanes.len() {
            self.core.wake(LaneId(lane));
        }
    }

    /// Takes a driver's event; answers what an operator should read about it: each change
    /// between up and down once, not each failed attempt.
    pub(crate) fn handle(&mut self, now: Now, event: UplinkEvent) -> Option<Turn> {
        let turn = match &event {
            UplinkEvent::Connected { .. } if self.up != Some(true) => Some(Turn::Up),
            UplinkEvent::Disconnected { why, .. }
            | UplinkEvent::Expelled { why, .. }
            | UplinkEvent::Busy { why, .. }
                if self.up != Some(false) =>
            {
                Some(Turn::Down(why.clone()))
            }
            UplinkEvent::Connected { .. }
            | UplinkEvent::Disconnected { .. }
            | UplinkEvent::Expelled { .. }
            | UplinkEvent::Busy { .. }
            | UplinkEvent::Acknowledged { .. }
            | UplinkEvent::Taken { .. }
            | UplinkEvent::Refused { .. } => None,
        };
        self.core.handle_event(now.instant, event);
        if let Some(landed) = self.core.take_landed() {
            self.latency.add_age(landed.oldest_ms, now.unix_ms, landed.records);
            self.round_trip.add(landed.round_trip, landed.records);
        }
        match turn? {
            Turn::Up => {
                self.up = Some(true);
                Some(Turn::Up)
            }
            Turn::Down(why) => {
                self.up = Some(false);
                Some(Turn::Down(why))
            }
        }
    }

    /// Ends a session that must not go on; answers like [`handle`](Self::handle).
    fn leave(&mut self, now: Now, session: u64, why: String) -> Option<Turn> {
        self.core.leave(now.instant, session, why.clone());
        let told = self.up == Some(false);
        self.up = Some(false);
        (!told).then_some(Turn::Down(why))
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }
}

/// What has become of an uplink's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is there.
    Up,
    /// It is lost, or could not be had; in words.
    Down(String),
}

/// The streams in the order of the plan, then the late lanes of those that are, or were, live
/// first.
fn lanes(
    log: &mut Log,
    routes: &Routes,
    plan: &UplinkPlan,
    late: &LateStreams,
) -> Result<Vec<Lane>, BuildError> {
    let mut lanes = Vec::new();
    for (index, name) in plan.streams.iter().enumerate() {
        let stream = routes.required(name, &format!("uplink \"{}\"", plan.name))?;
        let (is_new, reader) = reader(log, stream, &format!("uplink/{}", plan.name))?;
        let shares = late.shares(log, stream, name);
        lanes.push(Lane::new((is_new, reader), stream, index, Part::Whole, shares));
    }
    for live in 0..plan.streams.len() {
        let name = &plan.streams[live];
        if !plan.live_first.contains(name) && lanes[live].shares.ranges.is_empty() {
            continue;
        }
        let stream = lanes[live].stream;
        let reader = reader(log, stream, &late_reader(&plan.name))?;
        lanes[live].part = Part::Live { late: lanes.len() };
        let shares = lanes[live].shares.clone();
        lanes.push(Lane::new(reader, stream, live, Part::Late { live }, shares));
    }
    Ok(lanes)
}

/// Name of the reader of an uplink's late lanes.
pub(crate) fn late_reader(uplink: &str) -> String {
    format!("uplink/{uplink}/late")
}

/// The reader of this name, and whether it was made now.
fn reader(log: &mut Log, stream: StreamId, name: &str) -> Result<(bool, ReaderId), BuildError> {
    let known = log.readers().any(|(_, of, known)| of == stream && known == name);
    Ok((!known, log.reader(stream, name)?))
}

impl Lane {
    fn new(
        (is_new, reader): (bool, ReaderId),
        stream: StreamId,
        name: usize,
        part: Part,
        shares: Shares,
    ) -> Lane {
        let grant = Grant::new(&shares);
        Lane {
            stream,
            reader,
            name,
            part,
            shares,
            grant,
            is_new,
            since: None,
            foreign: None,
            first_waiting: None,
            told: None,
        }
    }

    /// The name under which its records go up.
    pub(crate) fn upstream_name(&self, plan: &UplinkPlan) -> String {
        let stream = &plan.streams[self.name];
        match self.part {
            Part::Whole | Part::Live { .. } => stream.clone(),
            Part::Late { .. } => format!("{stream}{LATE_SUFFIX}"),
        }
    }
}

impl Gateway {
    /// Names under which this uplink's lanes go up, in their order.
    pub fn uplink_lanes(&self, index: usize) -> Vec<String> {
        let run = self.uplinks.get(index);
        let names = run.map(|run| run.lanes.iter().map(|lane| lane.upstream_name(&run.plan)));
        names.map(Iterator::collect).unwrap_or_default()
    }

    /// Hands an event to the uplink's core.
    pub(crate) fn begin(&mut self, now: Now, index: usize, event: UplinkEvent) {
        let Some(run) = self.uplinks.get_mut(index) else { return };
        let turn = match event {
            UplinkEvent::Connected { session, held } => {
                self.begin_session(now, index, session, held)
            }
            other => run.handle(now, other),
        };
        if let Some(turn) = turn {
            let uplink = self.uplinks[index].plan.name.clone();
            self.tell_of_uplink(now, uplink, turn);
        }
    }

    /// A server that holds this takes records, unless something is wrong with it.
    fn begin_session(
        &mut self,
        now: Now,
        index: usize,
        session: u64,
        held: Vec<Held>,
    ) -> Option<Turn> {
        let run = &mut self.uplinks[index];
        let own = match foreign::own(&self.log, run, held.clone()) {
            Ok(own) => own,
            Err(why) => return run.leave(now, session, why),
        };
        self.mark_backlog(index);
        if let Some(position) = self.answer_setbacks(now, index, &own) {
            self.uplinks[index].late.wait(position, UplinkEvent::Connected { session, held });
            return None;
        }
        self.uplinks[index].handle(now, UplinkEvent::Connected { session, held: own })
    }

    /// Sends what the window allows and carries out what the uplink core decides.
    pub(crate) fn step_uplink(&mut self, now: Now, index: usize) -> bool {
        let mut moved = false;
        while let Some(action) = self.uplinks[index].core.poll_action(now.instant) {
            moved = true;
            self.carry_out(now, index, action);
        }
        while let Some(want) = self.uplinks[index].core.wanted() {
            moved = true;
            self.fill_lane(
                now,
                index,
                want.lane,
                want.from,
                ReadLimit { records: want.records, bytes: want.bytes },
            );
        }
        moved
    }

    /// A session begins: what its streams hold now is what it has to catch up with.
    pub(crate) fn mark_backlog(&mut self, index: usize) {
        let Some(run) = self.uplinks.get_mut(index) else { return };
        for (at, lane) in run.lanes.iter().enumerate() {
            run.core.set_backlog(LaneId(at), self.log.durable_seq(lane.stream));
        }
    }

    fn carry_out(&mut self, now: Now, index: usize, action: Action) {
        match action {
            Action::Advance { lane, next } => self.advance_lane(now, index, lane, next),
            Action::Reject { lane, seq, reason } => self.reject(now, index, lane, seq, reason),
            Action::Seal { lane, token, ranges } => self.seal(now, index, lane, token, &ranges),
            Action::Connect { .. } | Action::Disconnect { .. } | Action::Send { .. } => {
                self.emit(Output::Uplink(index, action));
            }
        }
    }

    /// The upstream will never take this record: it is a loss, with the reason.
    fn reject(&mut self, now: Now, index: usize, lane: LaneId, seq: Seq, reason: RefuseReason) {
        let run = &self.uplinks[index];
        let stream = run.lanes[lane.0].stream;
        let notice = Notice::Rejected {
            uplink: run.plan.name.clone(),
            stream: self.routes.name(stream).to_owned(),
            seq: seq.0,
            reason: reason.to_string(),
        };
        self.emit(Output::Notice(notice));
        self.log.record_loss(
            now.instant,
            Loss {
                stream,
                first: seq,
                last: seq,
                records: 1,
                bytes: 0,
                reason: LossReason::Refused,
                unix_ms: now.unix_ms,
            },
        );
    }

    fn fill_lane(&mut self, now: Now, index: usize, lane: LaneId, from: Seq, limit: ReadLimit) {
        let course = self.course(now, index, lane, from, limit);
        let run = &mut self.uplinks[index];
        let limit = match course {
            Ok(limit) => limit,
            Err(Course::Skip(next)) => return run.core.skip(lane, next),
            Err(Course::Rest | Course::Read(_)) => return run.core.exhausted(lane),
        };
        let stream = run.lanes[lane.0].stream;
        let key = self.routes.key(stream);
        let foreign = run.lanes[lane.0].foreign;
        let core = &mut run.core;
        let mut accepting = true;
        let mut sent = from;
        let mut kept_back = None;
        let outcome = self.log.read(now.instant, stream, from, limit, &mut |seq, epoch, record| {
            if accepting && foreign.is_some_and(|foreign| epoch < foreign) {
                accepting = false;
                kept_back = Some((seq, epoch));
            }
            if accepting {
                accepting = core.offer(now.instant, lane, epoch, outbound(seq, &record, key));
                sent = if accepting { seq.plus(1) } else { sent };
            }
        });
        if self.planted == Some(PlantedBug::CursorMovedOnSend) {
            self.log.advance(now.instant, run.lanes[lane.0].reader, sent);
        }
        if let (Some(foreign), Some(waiting)) = (foreign, kept_back) {
            return self.keep_back(now, index, lane, foreign, waiting);
        }
        match outcome {
            ReadOutcome::Read { .. } => {}
            ReadOutcome::Fetching | ReadOutcome::End => core.exhausted(lane),
            ReadOutcome::Lost { next } => core.skip(lane, next),
        }
    }
}

impl Gateway {
    /// Ends a session whose server holds another store's epoch, newer than that of a record to
    /// send; the next session does not get that far.
    fn keep_back(
        &mut self,
        now: Now,
        index: usize,
        lane: LaneId,
        foreign: Epoch,
        waiting: (Seq, Epoch),
    ) {
        let run = &mut self.uplinks[index];
        run.lanes[lane.0].first_waiting = Some(waiting);
        let stream = run.lanes[lane.0].upstream_name(&run.plan);
        let why = foreign::barred(&stream, foreign, waiting.1);
        run.core.fail(now.instant, why.clone());
        run.up = Some(false);
        let uplink = run.plan.name.clone();
        self.tell_of_uplink(now, uplink, Turn::Down(why));
    }
}

/// The record as it leaves the gateway.
fn outbound(seq: Seq, record: &RecordRef<'_>, key: Option<&PartitionKey>) -> OutboundRecord {
    // Attributes are ours; if damage slipped past the checksums, the payload is still worth more
    // with defaults than lost.
    let attributes = Attributes::decode(record.attributes).unwrap_or_default();
    let key = key.and_then(|key| key.of(record.topic, record.client, &attributes.user));
    OutboundRecord {
        seq,
        topic: record.topic.to_owned(),
        client: record.client.to_owned(),
        key: key.map(str::to_owned),
        unix_ms: record.unix_ms,
        clock: match attributes.clock {
            ClockQuality::Synced => Clock::Synced,
            ClockQuality::Unsynced => Clock::Unsynced,
        },
        publisher: record
            .publisher
            .map(|publisher| PublisherIdentity { boot: publisher.boot, seq: publisher.seq }),
        retain: attributes.retain,
        expiry_s: attributes.expiry_s,
        response_topic: attributes.response_topic,
        correlation: attributes.correlation,
        user: attributes.user,
        content_type: attributes.content_type,
        payload_is_text: attributes.payload_utf8,
        payload: record.payload.to_vec(),
    }
}
