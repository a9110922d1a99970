//! One uplink at its cursors: reads durable records of its streams, wraps them in the envelope
//! and offers them to the window; moves a cursor when the window says so.

use std::sync::Arc;
use std::time::Instant;

use tidegate_stream::{
    Log, Loss, LossReason, ReadLimit, ReadOutcome, ReaderId, RecordRef, Seq, StreamId,
};
use tidegate_uplink::{
    Action, Clock, LaneId, LaneStart, OutboundRecord, RefuseReason, Uplink, UplinkEvent,
};
use tidegate_wire::PublisherIdentity;

use crate::attributes::Attributes;
use crate::clock::{ClockQuality, Now};
use crate::gateway::{BuildError, Gateway, Notice, Output};
use crate::plan::UplinkPlan;
use crate::route::Routes;
use crate::seal::Seals;

/// An uplink and how far it is on each of its streams.
pub(crate) struct UplinkRun {
    pub(crate) plan: UplinkPlan,
    pub(crate) core: Uplink,
    pub(crate) lanes: Vec<Lane>,
    /// Boundaries of its batches, for sinks that need them.
    pub(crate) seals: Seals,
    /// What the operator was told last.
    up: Option<bool>,
}

/// One stream of an uplink.
pub(crate) struct Lane {
    pub(crate) stream: StreamId,
    pub(crate) reader: ReaderId,
}

impl UplinkRun {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        plan: &UplinkPlan,
        seed: u64,
    ) -> Result<UplinkRun, BuildError> {
        let mut lanes = Vec::new();
        for name in &plan.streams {
            let stream = routes.required(name, &format!("uplink \"{}\"", plan.name))?;
            let reader = log.reader(stream, &format!("uplink/{}", plan.name))?;
            lanes.push(Lane { stream, reader });
        }
        let seals = Seals::define(log, plan)?;
        let start = |(lane, name): (&Lane, &String)| LaneStart {
            stream: Arc::from(name.as_str()),
            cursor: log.cursor(lane.reader),
            priority: routes.priority(lane.stream),
            sealed: seals.known(log, name),
        };
        let starts = lanes.iter().zip(&plan.streams).map(start).collect();
        let core = Uplink::new(plan.options.clone(), starts, seed);
        Ok(UplinkRun { plan: plan.clone(), core, lanes, seals, up: None })
    }

    /// There may be something to read.
    pub(crate) fn wake(&mut self) {
        for lane in 0..self.lanes.len() {
            self.core.wake(LaneId(lane));
        }
    }

    /// Takes a driver's event; answers what an operator should read about it: each change
    /// between up and down once, not each failed attempt.
    pub(crate) fn handle(&mut self, now: Now, event: UplinkEvent) -> Option<Notice> {
        let uplink = || self.plan.name.clone();
        let notice = match &event {
            UplinkEvent::Connected { .. } if self.up != Some(true) => {
                Some((true, Notice::UplinkConnected { uplink: uplink() }))
            }
            UplinkEvent::Disconnected { why, .. }
            | UplinkEvent::Expelled { why, .. }
            | UplinkEvent::Busy { why, .. }
                if self.up != Some(false) =>
            {
                Some((false, Notice::UplinkDown { uplink: uplink(), why: why.clone() }))
            }
            UplinkEvent::Connected { .. }
            | UplinkEvent::Disconnected { .. }
            | UplinkEvent::Expelled { .. }
            | UplinkEvent::Busy { .. }
            | UplinkEvent::Acknowledged { .. }
            | UplinkEvent::Refused { .. } => None,
        };
        self.core.handle_event(now.instant, event);
        let (up, notice) = notice?;
        self.up = Some(up);
        Some(notice)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }
}

impl Gateway {
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
            Action::Advance { lane, next } => {
                let reader = self.uplinks[index].lanes[lane.0].reader;
                self.log.advance(now.instant, reader, next);
            }
            Action::Reject { lane, seq, reason } => self.reject(now, index, lane, seq, reason),
            Action::Seal { lane, ranges } => self.seal(now, index, lane, &ranges),
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
        let run = &mut self.uplinks[index];
        let stream = run.lanes[lane.0].stream;
        let core = &mut run.core;
        let mut accepting = true;
        let outcome = self.log.read(now.instant, stream, from, limit, &mut |seq, epoch, record| {
            if accepting {
                accepting = core.offer(now.instant, lane, epoch, outbound(seq, &record));
            }
        });
        match outcome {
            ReadOutcome::Read { .. } => {}
            ReadOutcome::Fetching | ReadOutcome::End => core.exhausted(lane),
            ReadOutcome::Lost { next } => core.skip(lane, next),
        }
    }
}

/// The record as it leaves the gateway.
fn outbound(seq: Seq, record: &RecordRef<'_>) -> OutboundRecord {
    // Attributes are ours; if damage slipped past the checksums, the payload is still worth more
    // with defaults than lost.
    let attributes = Attributes::decode(record.attributes).unwrap_or_default();
    OutboundRecord {
        seq,
        topic: record.topic.to_owned(),
        client: record.client.to_owned(),
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
