//! What the broker tells its owner, and what the owner answers.

use std::fmt;
use std::sync::Arc;

use crate::access::{Action, Credentials};
use crate::durable::{Change, PersistTicket};
use crate::message::{Message, QoS};
use crate::packet::Version;
use crate::topic::TopicFilter;

/// One network connection. The shell numbers them and does not use a number again while the
/// broker may still speak of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// One inbound publish with QoS 1 or 2 that waits for its acknowledgement. A ticket stays harmless after
/// its connection has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Bits of the number that counts within a connection; the connection's slot is above them.
    pub(crate) const NUMBER_BITS: u32 = 44;

    /// The same for all tickets of one connection, and different for those of connections that
    /// are open at the same time.
    #[must_use]
    pub const fn connection(self) -> u32 {
        (self.0 >> Ticket::NUMBER_BITS) as u32
    }
}

/// What a publisher is told of its message with QoS 1 or 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is accepted: PUBACK, or PUBREC for QoS 2.
    Success,
    /// It is accepted and nobody asked for it: the same, for MQTT 5 with reason 0x10.
    NoSubscribers,
    /// It is not accepted. MQTT 5: the same with the reason and the text; 3.1.1, which cannot say
    /// so: the connection is closed without it.
    Refused {
        /// In the protocol's terms.
        reason: RefuseReason,
        /// For whoever reads the publisher's log. At most 200 bytes of it are sent.
        text: String,
    },
}

impl Answer {
    /// Whether the message is the broker's now.
    pub(crate) fn is_acceptance(&self) -> bool {
        match self {
            Answer::Success | Answer::NoSubscribers => true,
            Answer::Refused { .. } => false,
        }
    }
}

/// Why a publish is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefuseReason {
    /// 0x80.
    Unspecified,
    /// 0x83: valid, but not here.
    ImplementationSpecific,
    /// 0x87.
    NotAuthorized,
    /// 0x90: this topic is not accepted.
    TopicNameInvalid,
    /// 0x97: no room, or a limit is reached.
    QuotaExceeded,
    /// 0x99.
    PayloadFormatInvalid,
}

impl RefuseReason {
    /// The reason code of PUBACK.
    pub fn code(self) -> u8 {
        match self {
            RefuseReason::Unspecified => 0x80,
            RefuseReason::ImplementationSpecific => 0x83,
            RefuseReason::NotAuthorized => 0x87,
            RefuseReason::TopicNameInvalid => 0x90,
            RefuseReason::QuotaExceeded => 0x97,
            RefuseReason::PayloadFormatInvalid => 0x99,
        }
    }
}

/// What happened in the broker, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerEvent {
    /// A client published, or a will is due. Nobody has got the message yet: the owner decides,
    /// then calls `publish` and, when there is a ticket, `acknowledge`.
    Publish {
        /// `None` for QoS 0 and for wills.
        ticket: Option<Ticket>,
        /// Who published it.
        client: Arc<str>,
        /// The message.
        message: Arc<Message>,
        /// A change to be carried out together with the message: with QoS 2 from a kept session,
        /// that its identifier is in use; with a will that is on the disk, that it is not any
        /// more. The latter also when the message itself is not accepted.
        change: Option<Change>,
    },
    /// Changes for the table that survives, to be carried out in the order of these events and
    /// of [`BrokerEvent::Publish`]; then `persisted`. There may be none, when somebody waits for
    /// those of before.
    Persist {
        /// The changes.
        changes: Vec<Change>,
        /// For the answer.
        ticket: PersistTicket,
        /// A client waits for it.
        hurry: bool,
    },
    /// A message to be appended to the spool for one target only: a retained one for a new
    /// subscription, or one that a shared subscription had given to a session that has ended.
    Spool {
        /// The message.
        message: Arc<Message>,
        /// What goes in front of its payload.
        targets: Vec<u8>,
        /// A change to be carried out together with it.
        change: Option<Change>,
    },
    /// There is something to send on this connection, and there was nothing before.
    Writable(ConnId),
    /// Close the socket after flushing what `unsent` still holds, then call `handle_closed`.
    /// Bytes read from it meanwhile may be thrown away.
    Close {
        /// Which one.
        conn: ConnId,
        /// Why.
        why: CloseReason,
    },
    /// Read no more from this socket. What has been read already may be handed over.
    Pause(ConnId),
    /// Go on reading it.
    Resume(ConnId),
    /// A client has been let in.
    Connected {
        /// Its connection.
        conn: ConnId,
        /// Its client identifier, possibly one the broker gave it.
        client: Arc<str>,
        /// What it speaks.
        version: Version,
        /// Where it comes from, as given to `handle_open`.
        peer: String,
    },
    /// A client that was let in has come a second time: its older connection ends, and its
    /// session goes on with the newer one, or ends.
    TakenOver {
        /// Its client identifier.
        client: Arc<str>,
        /// Where the older connection comes from, as given to `handle_open`.
        from: String,
        /// Where the newer one comes from.
        by: String,
    },
    /// A client subscribes, or has changed a subscription.
    Subscribed {
        /// Its client identifier.
        client: Arc<str>,
        /// What to, `$share/NAME/` included.
        filter: TopicFilter,
        /// What it is granted.
        qos: QoS,
    },
    /// A client subscribes no more. The subscriptions of a session that ends are not told one by
    /// one.
    Unsubscribed {
        /// Its client identifier.
        client: Arc<str>,
        /// What from.
        filter: TopicFilter,
    },
    /// A client wants to be let in: find out who it is and call `authenticated`. Until then
    /// nothing more is read from it, and its connect timeout goes on.
    Authenticate {
        /// Its connection.
        conn: ConnId,
        /// Its client identifier, possibly one the broker gave it.
        client: Arc<str>,
        /// Its login.
        credentials: Credentials,
    },
    /// A client was not allowed to do something.
    Denied {
        /// Its client identifier.
        client: Arc<str>,
        /// The name it has logged in with.
        user: Option<Arc<str>>,
        /// What it wanted to do.
        action: Action,
        /// The topic or the filter.
        topic: String,
    },
    /// A client that was let in is without a connection.
    Disconnected {
        /// Its client identifier.
        client: Arc<str>,
        /// Why.
        why: CloseReason,
    },
}

/// Why a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said goodbye.
    ClientDisconnected,
    /// The transport ended without a goodbye; as told to `handle_closed`.
    Transport(String),
    /// No CONNECT in time.
    ConnectTimeout,
    /// Nothing heard for one and a half times the keep-alive.
    KeepAliveTimeout,
    /// Another connection came with the same client identifier.
    TakenOver,
    /// CONNECT was refused, or a packet broke the protocol or a limit.
    Fault {
        /// The MQTT 5 reason code, also where 3.1.1 has no way to say it.
        code: u8,
        /// What was wrong.
        text: &'static str,
    },
    /// A publish of a 3.1.1 client was refused.
    PublishRefused(String),
    /// There are as many connections as are allowed.
    TooManyConnections,
    /// The gateway stops.
    ShuttingDown,
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CloseReason::ClientDisconnected => f.write_str("the client disconnected"),
            CloseReason::Transport(why) => write!(f, "the connection was lost: {why}"),
            CloseReason::ConnectTimeout => f.write_str("no CONNECT arrived in time"),
            CloseReason::KeepAliveTimeout => f.write_str("nothing was heard within the keep-alive"),
            CloseReason::TakenOver => {
                f.write_str("another connection came with the same client identifier")
            }
            CloseReason::Fault { code, text } => write!(f, "{text} (0x{code:02X})"),
            CloseReason::PublishRefused(text) => write!(f, "a publish was refused: {text}"),
            CloseReason::TooManyConnections => f.write_str("too many connections"),
            CloseReason::ShuttingDown => f.write_str("the gateway stops"),
        }
    }
}
