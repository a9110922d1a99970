//! The words of JetStream: requests to its API and what the answers mean.
//!
//! **Preconditions.** That each record is stored once rests on what the stream keeps and how it
//! refuses; [`Stream::faults`] says what about a stream does not serve. Why each of them:
//! `docs/formats/nats-sink.md`.
//!
//! Not here: the session that asks (`session.rs`).

use serde::Deserialize;
use serde_json::json;

use super::lane::{Place, Stored};
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Envelope, MAX_WINDOW, RefuseReason};

/// Header with which the server recognises a message that it has.
pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
/// Header that makes the server refuse unless the subject's last message has this sequence.
pub(super) const FENCE: &str = "Nats-Expected-Last-Subject-Sequence";
/// Our header with the lane's floor: `EPOCH/SEQ@AT`.
pub(super) const FLOOR: &str = "tg-floor";

const WRONG_LAST_SEQUENCE: u32 = 10_071;
const NO_MESSAGE_FOUND: u32 = 10_037;
const MESSAGE_TOO_LARGE: u32 = 10_054;
const NOT_ENABLED: [u32; 2] = [10_076, 10_039];

/// An error as JetStream writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ApiError {
    pub(super) code: u32,
    pub(super) err_code: u32,
    pub(super) description: String,
}

impl ApiError {
    /// For people; what a server says is cut short and cleaned.
    pub(super) fn sentence(&self) -> String {
        let said = cleaned(&self.description);
        format!("{said} (code {}, error {})", self.code, self.err_code)
    }
}

/// Text of a server as it may stand in a log line.
pub(super) fn cleaned(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(200).collect()
}

/// Either what was asked for or JetStream's refusal; the outer error is for what is neither.
pub(super) type Answer<T> = Result<Result<T, ApiError>, String>;

fn answer<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Answer<T> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<ApiError>,
    }
    let wrong = |error| format!("JetStream's answer cannot be read: {error}");
    let refusal: Refusal = serde_json::from_slice(payload).map_err(wrong)?;
    match refusal.error {
        Some(error) => Ok(Err(error)),
        None => Ok(Ok(serde_json::from_slice(payload).map_err(wrong)?)),
    }
}

/// What the server says about a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is in this message; `duplicate`: it was there before.
    Stored { stream: String, at: u64, duplicate: bool },
    /// Somebody else wrote to the subject since it was read.
    FenceFailed(String),
    /// This message is not taken.
    Refused(RefuseReason),
    /// Not now: the stream is full, or the server lacks something.
    Busy(String),
    /// Nothing takes publishes here at present: the session has to look anew.
    Gone(String),
}

/// Reads an answer to a publish. `status` is that of an answer without a body.
pub(super) fn verdict(status: &str, payload: &[u8]) -> Result<Verdict, String> {
    #[derive(Deserialize)]
    struct PubAck {
        stream: String,
        seq: u64,
        #[serde(default)]
        duplicate: bool,
    }
    if !status.is_empty() {
        let why = match status {
            "503" => "no stream takes the subject any more".to_owned(),
            status => format!("a publish was answered with status {}", cleaned(status)),
        };
        return Ok(Verdict::Gone(why));
    }
    let error = match answer::<PubAck>(payload)? {
        Ok(PubAck { stream, seq: at, duplicate }) => {
            return Ok(Verdict::Stored { stream, at, duplicate });
        }
        Err(error) => error,
    };
    let said = error.sentence();
    Ok(match error.err_code {
        WRONG_LAST_SEQUENCE => Verdict::FenceFailed(said),
        MESSAGE_TOO_LARGE => {
            Verdict::Refused(RefuseReason::PacketTooLarge { bytes: None, max: None })
        }
        code if NOT_ENABLED.contains(&code) => Verdict::Gone(said),
        _ => Verdict::Busy(said),
    })
}

/// Which stream captures a subject: subject of the request.
pub(super) const STREAM_NAMES: &str = "$JS.API.STREAM.NAMES";

pub(super) fn stream_names(subject: &str) -> String {
    json!({ "subject": subject }).to_string()
}

pub(super) fn stream_info(stream: &str) -> String {
    format!("$JS.API.STREAM.INFO.{stream}")
}

pub(super) fn last_message(stream: &str) -> String {
    format!("$JS.API.STREAM.MSG.GET.{stream}")
}

pub(super) fn last_message_of(subject: &str) -> String {
    json!({ "last_by_subj": subject }).to_string()
}

pub(super) fn create_consumer(stream: &str) -> String {
    format!("$JS.API.CONSUMER.CREATE.{stream}")
}

pub(super) fn delete_consumer(stream: &str, consumer: &str) -> String {
    format!("$JS.API.CONSUMER.DELETE.{stream}.{consumer}")
}

/// A consumer that sends the headers of a subject's messages from `from` on, to `inbox`.
pub(super) fn consumer(stream: &str, subject: &str, from: u64, inbox: &str) -> String {
    /// The server removes it when nobody has listened for so long: a session that broke.
    const INACTIVE_NS: u64 = 5_000_000_000;
    json!({
        "stream_name": stream,
        "config": {
            "deliver_subject": inbox,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": from,
            "filter_subject": subject,
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": true,
            "mem_storage": true,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE_NS,
        }
    })
    .to_string()
}

/// The name of a consumer that was made.
pub(super) fn consumer_made(payload: &[u8]) -> Answer<String> {
    #[derive(Deserialize)]
    struct Made {
        name: String,
    }
    Ok(answer::<Made>(payload)?.map(|made| made.name))
}

/// Where a message of a consumer stands, from the subject for its acknowledgement:
/// `$JS.ACK.STREAM.CONSUMER.DELIVERED.AT.SEQ.TIME.LEFT`, with two words more in front of STREAM,
/// and one at the end, from newer servers.
pub(super) fn delivered(reply: &str) -> Option<Delivered> {
    let words: Vec<&str> = reply.split('.').collect();
    let skipped = match words.len() {
        9 => 0,
        11.. => 2,
        _ => return None,
    };
    let number = |at: usize| words.get(at + skipped)?.parse().ok();
    Some(Delivered { at: number(5)?, left: number(8)? })
}

/// A message that a consumer delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// Its sequence in the stream.
    pub(super) at: u64,
    /// How many of the subject are still to come.
    pub(super) left: u64,
}

/// The stream that captures `subject`; `None` when there is none.
pub(super) fn capturing(payload: &[u8]) -> Answer<Option<String>> {
    #[derive(Deserialize)]
    struct Names {
        #[serde(default)]
        streams: Option<Vec<String>>,
    }
    let names = answer::<Names>(payload)?;
    Ok(names.map(|names| names.streams.unwrap_or_default().into_iter().next()))
}

/// What matters to us of a stream's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub(super) name: String,
    retention: String,
    storage: String,
    max_msgs: i64,
    max_msgs_per_subject: i64,
    max_msg_size: i64,
    duplicate_window: u64,
    no_ack: bool,
    sealed: bool,
    mirror: Option<serde_json::Value>,
    subject_transform: Option<serde_json::Value>,
}

/// Reads a stream's configuration.
pub(super) fn stream(payload: &[u8]) -> Answer<Stream> {
    #[derive(Deserialize)]
    struct Info {
        config: Stream,
    }
    Ok(answer::<Info>(payload)?.map(|info| info.config))
}

impl Stream {
    /// What about it does not serve, each with what to do.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.retention != "limits" {
            faults.push(format!(
                "its retention is {:?}: what a consumer has acknowledged goes, and with it the \
                 proof of what is there; make it \"limits\"",
                cleaned(&self.retention)
            ));
        }
        for (key, limit) in
            [("max_msgs", self.max_msgs), ("max_msgs_per_subject", self.max_msgs_per_subject)]
        {
            if (1..=MAX_WINDOW as i64).contains(&limit) {
                faults.push(format!(
                    "{key} is {limit}: it must keep more than the {MAX_WINDOW} messages of a \
                     subject that may be under way at once; raise it, or set it to -1"
                ));
            }
        }
        if self.duplicate_window == 0 {
            faults.push(
                "its duplicate window is 0: a message that was under way when a connection broke \
                 would be stored twice; set one of some minutes"
                    .to_owned(),
            );
        }
        if self.no_ack {
            faults.push("it does not acknowledge (no_ack); switch that off".to_owned());
        }
        if self.sealed {
            faults.push("it is sealed: nothing can be added to it".to_owned());
        }
        if self.mirror.is_some() {
            faults.push("it is a mirror: nothing can be published to it".to_owned());
        }
        if self.subject_transform.is_some() {
            faults.push(
                "it stores messages under another subject (subject_transform), where the last \
                 one cannot be found"
                    .to_owned(),
            );
        }
        faults
    }

    /// What is allowed, but the operator should know.
    pub(super) fn warning(&self) -> Option<&'static str> {
        (self.storage == "memory").then_some(
            "it is kept in memory: what it has acknowledged is gone when the server restarts",
        )
    }

    /// Largest message that it takes, headers included.
    pub(super) fn max_message(&self) -> Option<u64> {
        u64::try_from(self.max_msg_size).ok().filter(|max| *max > 0)
    }
}

/// The last message of a subject: its sequence and its block of headers; `None` when the subject
/// has none.
pub(super) fn last(payload: &[u8]) -> Answer<Option<(u64, Vec<u8>)>> {
    #[derive(Deserialize)]
    struct Got {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        seq: u64,
        #[serde(default)]
        hdrs: String,
    }
    match answer::<Got>(payload)? {
        Ok(Got { message: Message { seq, hdrs } }) => {
            let block = crate::base64::decode(&hdrs).ok_or("a message's headers are not base64")?;
            Ok(Ok(Some((seq, block))))
        }
        Err(ApiError { err_code: NO_MESSAGE_FOUND, .. }) => Ok(Ok(None)),
        Err(error) => Ok(Err(error)),
    }
}

/// The record that these headers name, and the floor that came with it.
///
/// # Errors
/// They are not those of a record of this gateway's stream.
pub(super) fn record(
    gateway: &str,
    stream: &str,
    headers: &[(String, String)],
) -> Result<(Place, Option<Stored>), String> {
    let pairs = headers.iter().map(|(name, value)| (&**name, &**value));
    let envelope = Envelope::parse(pairs.clone()).map_err(|error| error.to_string())?;
    if (envelope.gateway, envelope.stream) != (gateway, stream) {
        return Err(format!(
            "it is of gateway {:?}, stream {:?}",
            cleaned(envelope.gateway),
            cleaned(envelope.stream)
        ));
    }
    let floor = match pairs.clone().find(|(name, _)| *name == FLOOR) {
        Some((_, text)) => {
            let floor = parse_floor(text);
            Some(floor.ok_or_else(|| format!("header {FLOOR} is {:?}", cleaned(text)))?)
        }
        None => None,
    };
    Ok((Place { epoch: envelope.epoch, seq: envelope.seq }, floor))
}

/// The value of the header [`FLOOR`].
pub(super) fn show_floor(floor: Stored) -> String {
    let Stored { place: Place { epoch, seq }, at } = floor;
    format!("{}/{}@{at}", epoch.0, seq.0)
}

fn parse_floor(text: &str) -> Option<Stored> {
    let (place, at) = text.split_once('@')?;
    let (epoch, seq) = place.split_once('/')?;
    let place = Place { epoch: Epoch(epoch.parse().ok()?), seq: Seq(seq.parse().ok()?) };
    Some(Stored { place, at: at.parse().ok()? })
}

#[cfg(test)]
#[path = "tests/jetstream.rs"]
mod tests;
