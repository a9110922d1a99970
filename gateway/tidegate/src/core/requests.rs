//! What the administration and HTTP ask of the core, answered between its other work.

use tidegate_flow::attributes::Attributes;
use tidegate_flow::{Answer, Gateway, PartitionKey, RequestId};
use tidegate_stream::{Epoch, ReadLimit, ReadOutcome, RecordRef, Seq, StreamId};
use tokio::sync::oneshot::Sender;

use super::asked::Asked;
use super::changes::Changes;
use super::controls::Controls;
use super::files::Files;
use super::firmware::FirmwareDesk;
use super::imports::Imports;
use super::sync_times::SyncTimes;
use super::{Core, clock};
use crate::core_handle::{CoreRequest, DeadLetterNote, ExportPage, TailPage, TailRecord};
use crate::export::CarriedRecord;
use crate::wear::Wear;

/// Pages that wait for the disk; a further question is refused.
const MAX_WAITING: usize = 16;

/// What waits for the disk, and what the gateway itself does not know.
pub(crate) struct Requests {
    pages: Vec<Reading>,
    imports: Imports,
    changes: Changes,
    controls: Controls,
    firmware: FirmwareDesk,
    asked: Asked,
    files: Files,
    wear: Wear,
    times: SyncTimes,
}

/// A page that is being read.
struct Reading {
    stream: StreamId,
    key: Option<PartitionKey>,
    next: Seq,
    left: usize,
    left_bytes: usize,
    page: Page,
}

/// A page and who wants it.
enum Page {
    Tail(TailPage, Sender<Result<TailPage, String>>),
    Export(ExportPage, Sender<Result<ExportPage, String>>),
}

impl Requests {
    pub(crate) fn new(wear: Wear, times: SyncTimes) -> Requests {
        let (imports, changes) = (Imports::default(), Changes::default());
        let (controls, asked, files) = (Controls::default(), Asked::default(), Files::default());
        let firmware = FirmwareDesk::default();
        let pages = Vec::new();
        Requests { pages, imports, changes, controls, firmware, asked, files, wear, times }
    }

    /// Answers a request, now or when the disk has delivered.
    pub(crate) fn serve(&mut self, core: &Core, request: CoreRequest) {
        // Who asked may have given up; then nobody wants the answer.
        match request {
            CoreRequest::Status { reply } => {
                let now = clock::now();
                let mut status = core.gateway.borrow().status(now);
                status.broker.turned_away = core.door.turned_away.counts();
                let lines = core.lines.borrow();
                status.lines = lines.iter().map(|one| one.borrow().status(now.instant)).collect();
                status.disk.wear = Some(self.wear.status(now.instant, status.disk.bytes_written));
                status.disk.room = self.wear.room();
                status.disk.syncs = Some(self.times.status());
                let _ = reply.send(status);
            }
            CoreRequest::Losses { stream, reply } => {
                let gateway = core.gateway.borrow();
                let report = gateway.losses(&stream);
                let _ = reply.send(report.ok_or_else(|| no_stream(&gateway, &stream)));
            }
            CoreRequest::Tail { stream, from, max, max_bytes, reply } => {
                let page = Page::Tail(TailPage::default(), reply);
                self.read(core, &stream, from, (max, max_bytes), page);
            }
            CoreRequest::Export { stream, from, max, max_bytes, reply } => {
                let page = Page::Export(ExportPage::default(), reply);
                self.read(core, &stream, Some(from), (max, max_bytes), page);
            }
            CoreRequest::Imported { stream, id, reply } => {
                let gateway = core.gateway.borrow();
                let _ = reply.send(gateway.imported(&stream, &id).map_err(|e| e.to_string()));
            }
            CoreRequest::Import { batch, reply } => {
                self.imports.take(&mut core.gateway.borrow_mut(), batch, reply);
            }
            CoreRequest::Functions { reply } => {
                let _ = reply.send(core.gateway.borrow().function_entries(clock::now()));
            }
            CoreRequest::Control { order, reply } => {
                self.controls.take(&mut core.gateway.borrow_mut(), order, reply);
            }
            CoreRequest::Ask { request, reply } => {
                self.asked.ask(&mut core.gateway.borrow_mut(), *request, reply);
            }
            CoreRequest::Firmware { ask, reply } => {
                self.firmware.take(&mut core.gateway.borrow_mut(), ask, reply);
            }
            CoreRequest::File(request) => {
                self.files.serve(&mut core.gateway.borrow_mut(), request);
            }
            // The pump's: it has the threads.
            CoreRequest::Reload { reply, .. } => {
                let _ = reply.send(Err("not by this way".to_owned()));
            }
            CoreRequest::Change { change, reply } => {
                self.changes.take(&mut core.gateway.borrow_mut(), change, reply);
            }
        }
    }

    fn read(
        &mut self,
        core: &Core,
        stream: &str,
        from: Option<u64>,
        (left, left_bytes): (usize, usize),
        mut page: Page,
    ) {
        let gateway = core.gateway.borrow();
        let Some(id) = gateway.stream(stream) else {
            return page.refuse(no_stream(&gateway, stream));
        };
        if self.pages.len() >= MAX_WAITING {
            return page.refuse("too many pages are being read; try again".to_owned());
        }
        let log = gateway.log();
        let (first, end) = (log.first_seq(id), log.durable_seq(id));
        let from = from.unwrap_or_else(|| end.0.saturating_sub(left as u64));
        if let Page::Export(page, _) = &mut page {
            gateway.name().clone_into(&mut page.gateway);
            page.end = end.0;
        }
        let key = gateway.partition_key(id).cloned();
        drop(gateway);
        let next = Seq(from.max(first.0));
        self.pages.push(Reading { stream: id, key, next, left, left_bytes, page });
        self.go_on(core);
    }

    /// A request over HTTP has its answer.
    pub(crate) fn answered(&mut self, id: RequestId, answer: Answer) {
        self.asked.answered(id, answer);
    }

    /// Goes on where the disk has delivered.
    pub(crate) fn go_on(&mut self, core: &Core) {
        for mut reading in std::mem::take(&mut self.pages) {
            if reading.page.is_unwanted() {
                continue;
            }
            if reading.read(core) {
                reading.page.note_settled(&core.gateway.borrow());
                reading.page.answer(reading.next);
            } else {
                self.pages.push(reading);
            }
        }
        if !self.imports.is_empty() {
            self.imports.go_on(&mut core.gateway.borrow_mut());
        }
        if !self.files.is_empty() {
            self.files.go_on(&mut core.gateway.borrow_mut());
        }
        if !self.changes.is_empty() {
            self.changes.go_on(&mut core.gateway.borrow_mut());
        }
        if !self.firmware.is_empty() {
            self.firmware.go_on(&core.gateway.borrow());
        }
        if !self.controls.is_empty() {
            self.controls.go_on(&mut core.gateway.borrow_mut());
        }
    }
}

fn no_stream(gateway: &Gateway, name: &str) -> String {
    let known = gateway.stream_names().collect::<Vec<_>>().join(", ");
    format!("no stream \"{name}\"; there is: {known}")
}

impl Reading {
    /// True when the page is complete.
    fn read(&mut self, core: &Core) -> bool {
        let mut gateway = core.gateway.borrow_mut();
        let now = clock::now().instant;
        while self.left > 0 && self.left_bytes > 0 {
            let limit = ReadLimit { records: self.left, bytes: self.left_bytes };
            let Reading { left, left_bytes, page, key, .. } = self;
            let outcome = gateway.log_mut().read(
                now,
                self.stream,
                self.next,
                limit,
                &mut |seq, epoch, record| {
                    let bytes = page.push(seq, epoch, &record, key.as_ref());
                    *left -= 1;
                    *left_bytes = left_bytes.saturating_sub(bytes.max(1));
                },
            );
            match outcome {
                ReadOutcome::Read { next } | ReadOutcome::Lost { next } => self.next = next,
                ReadOutcome::Fetching => return false,
                ReadOutcome::End => break,
            }
        }
        true
    }
}

impl Page {
    /// Says of dead letters which are settled.
    fn note_settled(&mut self, gateway: &Gateway) {
        let Page::Tail(page, _) = self else { return };
        for record in &mut page.records {
            if let Some(letter) = &mut record.dead_letter {
                letter.settled = gateway.is_settled_letter(Seq(record.seq));
            }
        }
    }

    fn is_unwanted(&self) -> bool {
        match self {
            Page::Tail(_, reply) => reply.is_closed(),
            Page::Export(_, reply) => reply.is_closed(),
        }
    }

    fn refuse(self, why: String) {
        let _ = match self {
            Page::Tail(_, reply) => reply.send(Err(why)).is_ok(),
            Page::Export(_, reply) => reply.send(Err(why)).is_ok(),
        };
    }

    fn answer(self, next: Seq) {
        let _ = match self {
            Page::Tail(page, reply) => reply.send(Ok(TailPage { next: next.0, ..page })).is_ok(),
            Page::Export(page, reply) => {
                reply.send(Ok(ExportPage { next: next.0, ..page })).is_ok()
            }
        };
    }

    /// Adds a record; answers what it takes of the page.
    fn push(
        &mut self,
        seq: Seq,
        epoch: Epoch,
        record: &RecordRef<'_>,
        key: Option<&PartitionKey>,
    ) -> usize {
        match self {
            Page::Tail(page, _) => {
                page.records.push(tail_record(seq, epoch, record, key));
                record.payload.len() + record.topic.len() + record.client.len()
            }
            Page::Export(page, _) => {
                let record = CarriedRecord::of(seq, epoch, record, key);
                let bytes = record.bytes();
                page.records.push(record);
                bytes
            }
        }
    }
}

fn tail_record(
    seq: Seq,
    epoch: Epoch,
    record: &RecordRef<'_>,
    key: Option<&PartitionKey>,
) -> TailRecord {
    let attributes = Attributes::decode(record.attributes).unwrap_or_default();
    let key = key.and_then(|key| key.of(record.topic, record.client, &attributes.user));
    TailRecord {
        seq: seq.0,
        epoch: epoch.0,
        unix_ms: record.unix_ms,
        topic: record.topic.to_owned(),
        client: record.client.to_owned(),
        key: key.map(str::to_owned),
        dead_letter: attributes.dead.map(|dead| DeadLetterNote {
            function: dead.function,
            stream: dead.stream,
            seq: dead.seq,
            attempts: dead.attempts,
            reason: dead.reason,
            settled: false,
        }),
        payload: record.payload.to_vec(),
    }
}
