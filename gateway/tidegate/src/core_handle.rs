//! How the side thread asks the core: a bounded channel of requests, each with its own way back.
//!
//! The core's thread owns the gateway and answers between its other work; nobody else touches
//! it. A request that the core does not take or answer within [`ANSWER_WITHIN`] fails with a
//! reason, so that no client waits for a core that hangs.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_firmware::{CampaignStatus, DeviceStatus, Release, Terms};
use tidegate_flow::status::{LossReport, Status};
use tidegate_flow::{
    Answer, FileDrop, FileError, FunctionEntry, ImportBatch, Install, Request, ResetTo, TwinStatus,
    Version,
};
use tidegate_wire::Digest;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::export::CarriedRecord;
use crate::reload::Reloading;

/// Requests that may wait for the core; a further one waits to be queued. Each is under 200
/// bytes, but for an import: the administration makes one of those at a time.
pub const CORE_QUEUE: usize = 64;
/// Longest wait for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait until imported records are on flash.
pub const IMPORT_WITHIN: Duration = Duration::from_secs(30);
/// Most records of one page.
pub const MAX_PAGE_RECORDS: usize = 1000;
/// A page ends with the record that takes its topics, clients and payloads to this or beyond.
pub const MAX_PAGE_BYTES: usize = 1 << 20;

/// What the core can be asked. A dropped `reply` means that it shut down.
#[derive(Debug)]
pub enum CoreRequest {
    /// The whole gateway at this moment.
    Status {
        /// Takes the answer.
        reply: oneshot::Sender<Status>,
    },
    /// What the loss ledger says of a stream.
    Losses {
        /// Name of the stream.
        stream: String,
        /// Takes the answer, or what is wrong with the question.
        reply: oneshot::Sender<Result<LossReport, String>>,
    },
    /// A page of a stream's durable records.
    Tail {
        /// Name of the stream.
        stream: String,
        /// First sequence wanted; `None`: so that the page ends with the newest record.
        from: Option<u64>,
        /// Most records in the page, at most [`MAX_PAGE_RECORDS`].
        max: usize,
        /// The page ends with the record that takes its topics, clients and payloads to this
        /// or beyond.
        max_bytes: usize,
        /// Takes the answer, or what is wrong with the question.
        reply: oneshot::Sender<Result<TailPage, String>>,
    },
    /// The same with everything that the log keeps of each record.
    Export {
        /// Name of the stream.
        stream: String,
        /// First sequence wanted.
        from: u64,
        /// Most records in the page, at most [`MAX_PAGE_RECORDS`].
        max: usize,
        /// As in [`CoreRequest::Tail`], properties included.
        max_bytes: usize,
        /// Takes the answer, or what is wrong with the question.
        reply: oneshot::Sender<Result<ExportPage, String>>,
    },
    /// How far an import has come.
    Imported {
        /// Name of the stream.
        stream: String,
        /// The import.
        id: String,
        /// Takes the number of its records that are in, or what is wrong with the question.
        reply: oneshot::Sender<Result<u64, String>>,
    },
    /// Records to be taken into a stream.
    Import {
        /// The records.
        batch: ImportBatch,
        /// Takes, once they are on flash, the number of the import's records that are in, or why
        /// none of these are.
        reply: oneshot::Sender<Result<u64, String>>,
    },
    /// All functions.
    Functions {
        /// Takes the answer.
        reply: oneshot::Sender<Vec<FunctionEntry>>,
    },
    /// An order about a function.
    Control {
        /// What is ordered.
        order: ControlOrder,
        /// Takes what came of it, once it is on flash, or why nothing was done.
        reply: oneshot::Sender<Result<ControlDone, String>>,
    },
    /// A request over HTTP that a function answers. The core numbers it.
    Ask {
        /// The request.
        request: Box<Request>,
        /// Takes the answer.
        reply: oneshot::Sender<Answer>,
    },
    /// Something about devices and their firmware.
    Firmware {
        /// What.
        ask: FirmwareAsk,
        /// Takes the answer, once what it tells is on flash, or why nothing has changed.
        reply: oneshot::Sender<Result<FirmwareAnswer, String>>,
    },
    /// Something about the files of a folder.
    File(FileRequest),
    /// Another configuration is to count.
    Reload {
        /// Which.
        reload: Box<Reloading>,
        /// Takes the end of it, or why nothing has changed.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A pushed function is to come, change or go.
    Change {
        /// What is to happen.
        change: Box<FunctionChange>,
        /// Takes the end of it, once it is on flash, or why nothing has changed.
        reply: oneshot::Sender<Result<(), String>>,
    },
}

/// What is asked about devices and their firmware.
#[derive(Debug)]
pub enum FirmwareAsk {
    /// Begin to bring a release to devices.
    Start {
        /// The bundle, whose file is there.
        bundle: Digest,
        /// What is in it.
        release: Box<Release>,
        /// How to go about it.
        terms: Terms,
    },
    /// End a campaign.
    Cancel(u64),
    /// Forget a device.
    Forget(String),
    /// What a device should be like, and is like.
    Twin(String),
    /// Change what it should be like: names and values, as operators write them.
    ChangeTwin(String, Vec<(String, String)>),
    /// All campaigns.
    Campaigns,
    /// All devices.
    Devices,
    /// The bundles that campaigns need.
    Needed,
}

/// The answer.
#[derive(Debug)]
pub enum FirmwareAnswer {
    /// The campaign's number.
    Started(u64),
    /// It is done.
    Done,
    /// All campaigns.
    Campaigns(Vec<CampaignStatus>),
    /// All devices.
    Devices(Vec<DeviceStatus>),
    /// A twin, as it is (now).
    Twin(TwinStatus),
    /// The bundles that campaigns need.
    Needed(Vec<Digest>),
}

/// What the thread that looks into folders says to the core. It waits for each answer.
#[derive(Debug)]
pub enum FileRequest {
    /// Which files of a folder are in the log and may still be in the folder?
    Left {
        /// The folder's name.
        folder: String,
        /// Takes the names.
        reply: oneshot::Sender<Vec<String>>,
    },
    /// A file is to be taken in.
    Take {
        /// The file.
        file: Box<FileDrop>,
        /// Takes the answer when it is on flash, or why it is not.
        reply: oneshot::Sender<Result<(), FileError>>,
    },
    /// A file has left its folder.
    Forget {
        /// The folder's name.
        folder: String,
        /// The file's name.
        name: String,
        /// Takes the answer.
        reply: oneshot::Sender<()>,
    },
    /// A file was put aside.
    Refused {
        /// The folder's name.
        folder: String,
        /// Which file, and why.
        why: String,
        /// Takes the answer.
        reply: oneshot::Sender<()>,
    },
}

/// What an operator orders of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlOrder {
    /// It takes up no records any more.
    Pause(String),
    /// It goes on.
    Resume(String),
    /// It does what is there, and pauses.
    Drain(String),
    /// Its cursor moves.
    Reset {
        /// Its name.
        name: String,
        /// The stream; `None` when it reads only one.
        stream: Option<String>,
        /// Where to.
        to: ResetTo,
    },
    /// Dead letters of it are settled, one after the other.
    Letters {
        /// Its name.
        name: String,
        /// Their sequences.
        seqs: VecDeque<u64>,
        /// What happens to them.
        act: LetterAct,
    },
}

/// What happens to dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterAct {
    /// Their function is given them again.
    Redrive,
    /// They are not wanted any more.
    Purge,
}

/// What came of an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlDone {
    /// Of a reset: the stream.
    #[serde(default)]
    pub stream: String,
    /// Of a reset: where the cursor was.
    #[serde(default)]
    pub from: u64,
    /// Of a reset: where it is.
    #[serde(default)]
    pub to: u64,
    /// Dead letters that were redriven or purged.
    #[serde(default)]
    pub settled: u64,
    /// Those that could not be, and why.
    #[serde(default)]
    pub failed: Vec<(u64, String)>,
    /// Those at the end of the order for which the retry lane had no room yet.
    #[serde(default)]
    pub left: u64,
}

/// What is to happen to a pushed function.
#[derive(Debug, Clone)]
pub enum FunctionChange {
    /// A version runs in place of the one before.
    Install(Box<Install>),
    /// It goes.
    Remove(String),
    /// The version that is tried beside it goes.
    WithdrawCanary {
        /// The function's name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A version was refused; this is only told.
    Refused {
        /// The function's name.
        name: String,
        /// The version.
        version: Version,
        /// Why.
        reason: String,
    },
}

/// Part of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailPage {
    /// The records, in order. They need not be consecutive: what was lost is not there.
    pub records: Vec<TailRecord>,
    /// The sequence to ask from for what comes after the page.
    pub next: u64,
}

/// Part of a stream, whole records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPage {
    /// The gateway's id.
    pub gateway: String,
    /// The records, in order, as in [`TailPage`].
    pub records: Vec<CarriedRecord>,
    /// The sequence to ask from for what comes after the page.
    pub next: u64,
    /// First sequence that was not yet on flash.
    pub end: u64,
}

/// One record, as the administration shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailRecord {
    /// Its sequence in the stream.
    pub seq: u64,
    /// The epoch that it was written in.
    pub epoch: u32,
    /// When it was received, in milliseconds since 1970.
    pub unix_ms: i64,
    /// The topic that it was published to.
    pub topic: String,
    /// The client that published it.
    pub client: String,
    /// Its partition key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it is in the dead-letter stream, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterNote>,
    /// What was published.
    #[serde(flatten, with = "payload")]
    pub payload: Vec<u8>,
}

/// Why a function gave up a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterNote {
    /// The function.
    pub function: String,
    /// The stream that the record came from.
    pub stream: String,
    /// Its sequence there.
    pub seq: u64,
    /// How often it was tried.
    pub attempts: u16,
    /// What went wrong the last time.
    pub reason: String,
    /// It was redriven or purged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settled: bool,
}

/// The side's end of the channel.
#[derive(Debug, Clone)]
pub struct CoreHandle {
    requests: mpsc::Sender<CoreRequest>,
}

/// The core did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It is shutting down, or is gone.
    #[error("the gateway is shutting down")]
    Gone,
    /// It is too busy, or hangs.
    #[error("the core has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    /// It answered that the question is wrong.
    #[error("{0}")]
    Refused(String),
}

impl CoreHandle {
    /// A handle, and the receiver that the core serves.
    pub fn new() -> (Self, mpsc::Receiver<CoreRequest>) {
        let (requests, receiver) = mpsc::channel(CORE_QUEUE);
        (Self { requests }, receiver)
    }

    /// The whole gateway at this moment.
    ///
    /// # Errors
    /// The core does not answer.
    pub async fn status(&self) -> Result<Status, AskError> {
        self.ask(|reply| CoreRequest::Status { reply }).await
    }

    /// A page of a stream's durable records: those from `from` on, or the last `max`.
    ///
    /// # Errors
    /// The core does not answer, or knows no such stream.
    pub async fn tail(
        &self,
        stream: String,
        from: Option<u64>,
        max: usize,
    ) -> Result<TailPage, AskError> {
        let max = max.clamp(1, MAX_PAGE_RECORDS);
        let request =
            |reply| CoreRequest::Tail { stream, from, max, max_bytes: MAX_PAGE_BYTES, reply };
        self.ask(request).await?.map_err(AskError::Refused)
    }

    /// What the loss ledger says of a stream.
    ///
    /// # Errors
    /// The core does not answer, or knows no such stream.
    pub async fn losses(&self, stream: String) -> Result<LossReport, AskError> {
        let request = |reply| CoreRequest::Losses { stream, reply };
        self.ask(request).await?.map_err(AskError::Refused)
    }

    /// A page of a stream's durable records from `from` on, with everything there is of them.
    ///
    /// # Errors
    /// The core does not answer, or knows no such stream.
    pub async fn export(
        &self,
        stream: String,
        from: u64,
        max: usize,
    ) -> Result<ExportPage, AskError> {
        let max = max.clamp(1, MAX_PAGE_RECORDS);
        let request =
            |reply| CoreRequest::Export { stream, from, max, max_bytes: MAX_PAGE_BYTES, reply };
        self.ask(request).await?.map_err(AskError::Refused)
    }

    /// How many records of an import are in a stream.
    ///
    /// # Errors
    /// The core does not answer, or knows no such stream.
    pub async fn imported(&self, stream: String, id: String) -> Result<u64, AskError> {
        let request = |reply| CoreRequest::Imported { stream, id, reply };
        self.ask(request).await?.map_err(AskError::Refused)
    }

    /// Takes records into a stream; answers, once they are on flash, how many of the import are
    /// in.
    ///
    /// # Errors
    /// The core does not answer: the records may be in all the same. Or it refuses: then none of
    /// them is.
    pub async fn import(&self, batch: ImportBatch) -> Result<u64, AskError> {
        let request = |reply| CoreRequest::Import { batch, reply };
        self.ask_within(IMPORT_WITHIN, request).await?.map_err(AskError::Refused)
    }

    /// All functions.
    ///
    /// # Errors
    /// The core does not answer.
    pub async fn functions(&self) -> Result<Vec<FunctionEntry>, AskError> {
        self.ask(|reply| CoreRequest::Functions { reply }).await
    }

    /// What a function answers to a request; its client waits no longer than it has patience.
    ///
    /// # Errors
    /// The core does not answer: it may be done all the same.
    pub async fn answer(&self, request: Request) -> Result<Answer, AskError> {
        let patience = request.patience + ANSWER_WITHIN;
        let ask = |reply| CoreRequest::Ask { request: Box::new(request), reply };
        self.ask_within(patience, ask).await
    }

    /// Lets a version run; answers when that is on flash.
    ///
    /// # Errors
    /// The core does not answer: it may run all the same. Or it refuses: nothing has changed.
    pub async fn install(&self, install: Install) -> Result<(), AskError> {
        self.change(FunctionChange::Install(Box::new(install))).await
    }

    /// Takes a pushed function out; answers when that is on flash.
    ///
    /// # Errors
    /// As [`CoreHandle::install`].
    pub async fn remove_function(&self, name: String) -> Result<(), AskError> {
        self.change(FunctionChange::Remove(name)).await
    }

    /// Takes a canary back; answers when that is on flash.
    ///
    /// # Errors
    /// As [`CoreHandle::install`].
    pub async fn withdraw_canary(&self, name: String, reason: &str) -> Result<(), AskError> {
        let reason = reason.to_owned();
        self.change(FunctionChange::WithdrawCanary { name, reason }).await
    }

    /// Tells that a version was refused.
    ///
    /// # Errors
    /// The core does not answer.
    pub async fn tell_refused(
        &self,
        name: String,
        version: Version,
        reason: String,
    ) -> Result<(), AskError> {
        self.change(FunctionChange::Refused { name, version, reason }).await
    }

    /// Carries out an order about a function; answers when it is on flash.
    ///
    /// # Errors
    /// As [`CoreHandle::install`].
    pub async fn control(&self, order: ControlOrder) -> Result<ControlDone, AskError> {
        let request = |reply| CoreRequest::Control { order, reply };
        self.ask_within(IMPORT_WITHIN, request).await?.map_err(AskError::Refused)
    }

    /// Asks about devices and their firmware; answers when what it tells is on flash.
    ///
    /// # Errors
    /// As [`CoreHandle::install`].
    pub async fn firmware(&self, ask: FirmwareAsk) -> Result<FirmwareAnswer, AskError> {
        let request = |reply| CoreRequest::Firmware { ask, reply };
        self.ask_within(IMPORT_WITHIN, request).await?.map_err(AskError::Refused)
    }

    /// Lets another configuration count.
    ///
    /// # Errors
    /// The core does not answer: it may count all the same. Or it refuses: nothing has changed.
    pub(crate) async fn reload(&self, reload: Reloading) -> Result<(), AskError> {
        let reload = Box::new(reload);
        let request = |reply| CoreRequest::Reload { reload, reply };
        self.ask_within(IMPORT_WITHIN, request).await?.map_err(AskError::Refused)
    }

    async fn change(&self, change: FunctionChange) -> Result<(), AskError> {
        let change = Box::new(change);
        let request = |reply| CoreRequest::Change { change, reply };
        self.ask_within(IMPORT_WITHIN, request).await?.map_err(AskError::Refused)
    }

    /// Says something about files and waits for the answer, however long the disk takes; for a
    /// thread without a runtime. `None`: the core has ended.
    pub(crate) fn ask_blocking<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> FileRequest,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.blocking_send(CoreRequest::File(request(reply))).ok()?;
        answer.blocking_recv().ok()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> CoreRequest,
    ) -> Result<T, AskError> {
        self.ask_within(ANSWER_WITHIN, request).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        request: impl FnOnce(oneshot::Sender<T>) -> CoreRequest,
    ) -> Result<T, AskError> {
        let (reply, answer) = oneshot::channel();
        let exchange = async {
            self.requests.send(request(reply)).await.map_err(|_| AskError::Gone)?;
            answer.await.map_err(|_| AskError::Gone)
        };
        timeout(patience, exchange).await.unwrap_or(Err(AskError::Silent(patience)))
    }
}

/// A payload in JSON: `"payload": TEXT` when it is UTF-8, else `"payload_hex": DIGITS`.
mod payload {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::hex;

    #[derive(Serialize, Deserialize)]
    enum Shown {
        #[serde(rename = "payload")]
        Text(String),
        #[serde(rename = "payload_hex")]
        Hex(String),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let shown = match std::str::from_utf8(bytes) {
            Ok(text) => Shown::Text(text.to_owned()),
            Err(_) => Shown::Hex(hex::encode(bytes)),
        };
        shown.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        match Shown::deserialize(from)? {
            Shown::Text(text) => Ok(text.into_bytes()),
            Shown::Hex(digits) => {
                hex::decode(&digits).ok_or_else(|| D::Error::custom("payload_hex is not hex"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> TailRecord {
        TailRecord {
            seq: 7,
            epoch: 1,
            unix_ms: 1_700_000_000_000,
            topic: "a/b".into(),
            client: "c".into(),
            key: None,
            dead_letter: None,
            payload: payload.to_vec(),
        }
    }

    #[test]
    fn a_payload_is_text_when_it_can_be_and_hex_when_it_cannot() {
        for (payload, member) in [
            (&b"21.5"[..], r#""payload":"21.5""#),
            (b"\"\n", r#""payload":"\"\n""#),
            (b"", r#""payload":"""#),
            (b"\xff\x00", r#""payload_hex":"ff00""#),
        ] {
            let json = serde_json::to_string(&record(payload)).unwrap();
            assert!(json.contains(member), "{json}");
            assert_eq!(serde_json::from_str::<TailRecord>(&json).unwrap(), record(payload));
        }
    }

    #[test]
    fn hex_with_an_odd_digit_is_refused() {
        let json = serde_json::to_string(&record(b"\xff")).unwrap();
        assert!(serde_json::from_str::<TailRecord>(&json.replace("ff", "fff")).is_err());
    }

    #[tokio::test]
    async fn a_core_that_is_gone_is_said_to_be_gone() {
        let (handle, receiver) = CoreHandle::new();
        drop(receiver);
        assert_eq!(handle.status().await.unwrap_err(), AskError::Gone);
    }

    #[tokio::test]
    async fn a_core_that_drops_the_question_is_said_to_be_gone() {
        let (handle, mut receiver) = CoreHandle::new();
        let (answer, ()) = tokio::join!(handle.status(), async {
            drop(receiver.recv().await);
        });
        assert_eq!(answer.unwrap_err(), AskError::Gone);
    }

    #[tokio::test]
    async fn a_core_that_hangs_is_said_to_be_silent() {
        let (handle, _receiver) = CoreHandle::new();
        assert_eq!(handle.status().await.unwrap_err(), AskError::Silent(ANSWER_WITHIN));
    }
}
