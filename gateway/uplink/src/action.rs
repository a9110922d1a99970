//! What the core asks for, and what it hears back.

use std::fmt;
use std::time::Duration;

use tidegate_stream::{Epoch, Seq};

use crate::batch::{Batch, Part, SeqRange};

/// A stream in an uplink, by its place in the list given to [`Uplink::new`](crate::Uplink::new).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub usize);

/// Work for the shell, in the order in which it must be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Driver: open a connection; its events carry this session. Any older one is over.
    Connect {
        /// Rises by one with each attempt.
        session: u64,
        /// Which of the uplink's servers, below
        /// [`UplinkOptions::endpoints`](crate::UplinkOptions::endpoints).
        endpoint: usize,
    },
    /// Driver: close this session's connection, or give up opening it, at once.
    Disconnect {
        /// The session to end.
        session: u64,
        /// For the log.
        why: String,
    },
    /// Driver: send this as one unit; answer with the token.
    Send {
        /// The session on which to send.
        session: u64,
        /// Names this transmission in the answer; never used twice.
        token: u64,
        /// What to send.
        batch: Batch,
    },
    /// Flow: persist these boundaries of the lane in place of those before, and call
    /// [`Uplink::handle_sealed`](crate::Uplink::handle_sealed) when they are durable: the batch
    /// is not sent before.
    Seal {
        /// The lane.
        lane: LaneId,
        /// Names this request in the answer.
        token: u64,
        /// All boundaries that are still of use, ascending.
        ranges: Vec<SeqRange>,
    },
    /// Flow: everything below `next` is done upstream, move the cursor.
    Advance {
        /// Whose cursor.
        lane: LaneId,
        /// First record that is not done.
        next: Seq,
    },
    /// Flow: the server will never take this record. Enter it in the loss ledger or a dead
    /// letter stream; the cursor passes it with a later [`Action::Advance`].
    Reject {
        /// The lane of the record.
        lane: LaneId,
        /// The record.
        seq: Seq,
        /// What the server (or the driver, for a message it cannot encode) said.
        reason: RefuseReason,
    },
}

/// One record as a message of its own. Made by
/// [`OutboundRecord::into_message`](crate::OutboundRecord::into_message).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutboundMessage {
    /// Upstream topic, subject or path.
    pub topic: String,
    /// The record's payload, unchanged.
    pub payload: Vec<u8>,
    /// Envelope headers, then the publisher's own properties, in order; names may repeat.
    pub headers: Vec<(String, String)>,
    /// As given by the publisher.
    pub content_type: Option<String>,
    /// The publisher declared the payload to be UTF-8 text.
    pub payload_is_text: bool,
}

/// Records that the uplink could send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Read this lane's stream.
    pub lane: LaneId,
    /// First record wanted; offer it and its successors without a gap.
    pub from: Seq,
    /// At most so many, at least 1.
    pub records: usize,
    /// Stop after the record that reaches so many bytes, at least 1.
    pub bytes: usize,
}

/// Why a server (or a driver on its behalf) did not take a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefuseReason {
    /// The server is over a limit of its own (MQTT 5 0x97). Sent again later, for ever.
    QuotaExceeded,
    /// Larger than the server takes (MQTT 5 0x95, or its Maximum Packet Size).
    PacketTooLarge {
        /// Size of the packet in bytes, when known.
        bytes: Option<u64>,
        /// The server's limit in bytes, when known.
        max: Option<u64>,
    },
    /// The server does not accept the topic (MQTT 5 0x90). Ends the session: all records of a
    /// stream share it, so it is the server's configuration and not the record that is at fault.
    TopicInvalid,
    /// The payload is not what it was declared to be (MQTT 5 0x99).
    PayloadFormatInvalid,
    /// The protocol cannot carry the message: what exactly, for the operator.
    Unencodable(String),
    /// The account may not publish there (MQTT 5 0x87). Ends the session.
    NotAuthorized,
    /// Anything else, with the protocol's code. Sent again later, for ever.
    Other {
        /// The reason code as sent by the server.
        code: u8,
    },
}

/// What a refusal means for the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server may take it later: pause and send again.
    Later,
    /// The server will not take this message: try a few times, then give it up.
    Never,
    /// The server takes nothing from this account: leave, wait, come back.
    Leave,
}

impl RefuseReason {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            RefuseReason::QuotaExceeded | RefuseReason::Other { .. } => Verdict::Later,
            RefuseReason::PacketTooLarge { .. }
            | RefuseReason::PayloadFormatInvalid
            | RefuseReason::Unencodable(_) => Verdict::Never,
            RefuseReason::NotAuthorized | RefuseReason::TopicInvalid => Verdict::Leave,
        }
    }
}

impl fmt::Display for RefuseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RefuseReason::QuotaExceeded => f.write_str("the server's quota is exceeded"),
            RefuseReason::PacketTooLarge { bytes: Some(bytes), max: Some(max) } => {
                write!(f, "the packet of {bytes} bytes is larger than the server's {max}")
            }
            RefuseReason::PacketTooLarge { .. } => {
                f.write_str("the packet is larger than the server takes")
            }
            RefuseReason::TopicInvalid => f.write_str("the server does not accept the topic"),
            RefuseReason::PayloadFormatInvalid => {
                f.write_str("the payload is not what its format indicator says")
            }
            RefuseReason::Unencodable(what) => write!(f, "the message cannot be encoded: {what}"),
            RefuseReason::NotAuthorized => {
                f.write_str("the server does not authorise this account to publish there")
            }
            RefuseReason::Other { code } => write!(f, "the server refused with code 0x{code:02x}"),
        }
    }
}

/// A server's word that it has a lane's records up to and including this one: all of the epoch
/// up to the sequence, and all of older epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The lane.
    pub lane: LaneId,
    /// Epoch of that record.
    pub epoch: Epoch,
    /// Its sequence.
    pub seq: Seq,
    /// Epoch and sequence of the newest record there: another one where some in between are
    /// missing.
    pub newest: (Epoch, Seq),
}

impl Held {
    /// Everything up to this record, and nothing behind it.
    #[must_use]
    pub fn through(lane: LaneId, epoch: Epoch, seq: Seq) -> Held {
        Held { lane, epoch, seq, newest: (epoch, seq) }
    }
}

/// What a driver reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UplinkEvent {
    /// The connection stands and takes messages.
    Connected {
        /// As given in [`Action::Connect`].
        session: u64,
        /// What the server says that it holds already, for lanes of which it knows; empty for
        /// servers that cannot tell. Those records are not sent.
        held: Vec<Held>,
    },
    /// The server takes nothing for a while. The session is over; what was not acknowledged is
    /// sent again on a later one.
    Busy {
        /// As given in [`Action::Connect`].
        session: u64,
        /// How long it asked to be left alone, if it said so.
        retry_after: Option<Duration>,
        /// A sentence for the operator, without secrets.
        why: String,
    },
    /// The server has this message.
    Acknowledged {
        /// As given in [`Action::Send`].
        session: u64,
        /// As given in [`Action::Send`].
        token: u64,
    },
    /// The server has this part of a batch that went in several messages. The answer to the batch
    /// follows, and is about what is left of it.
    Taken {
        /// As given in [`Action::Send`].
        session: u64,
        /// As given in [`Action::Send`].
        token: u64,
        /// Which of its records; never all of them.
        part: Part,
    },
    /// The server answered, and does not take this message.
    Refused {
        /// As given in [`Action::Send`].
        session: u64,
        /// As given in [`Action::Send`].
        token: u64,
        /// What it said.
        reason: RefuseReason,
    },
    /// The connection is gone or could not be opened.
    Disconnected {
        /// As given in [`Action::Connect`].
        session: u64,
        /// A sentence for the operator, without secrets.
        why: String,
    },
    /// The server closed the connection and named one of the messages in flight as the cause,
    /// without saying which.
    Expelled {
        /// As given in [`Action::Connect`].
        session: u64,
        /// What it said about the message.
        reason: RefuseReason,
        /// A sentence for the operator, without secrets.
        why: String,
    },
}
