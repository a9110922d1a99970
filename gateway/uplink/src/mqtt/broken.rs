//! Why a connection cannot go on.

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// CONNACK said no.
    #[error("the server refused the connection with code 0x{code:02x}")]
    Refused {
        /// The return code of 3.1.1 or the reason code of 5.
        code: u8,
        /// The server's own words, printable and cut; empty when there are none.
        said: String,
    },
    /// The server sent DISCONNECT.
    #[error("the server ended the session with code 0x{code:02x}")]
    Ended {
        /// Its reason code.
        code: u8,
        /// The server's own words, printable and cut; empty when there are none.
        said: String,
    },
    /// The server is not one that can be published to reliably.
    #[error("the server {0}")]
    Unusable(&'static str),
    /// No answer to a PINGREQ before the next one was due.
    #[error("the server did not answer a keep-alive")]
    Silent,
    /// The server announced a packet larger than we take.
    #[error("the server sends a packet of {bytes} bytes, more than the {max} of max_packet")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u32,
    },
    /// Something other than CONNACK came first.
    #[error("the server answered CONNECT with another packet")]
    NotConnAck,
    /// A packet that has no place in this conversation.
    #[error("the server sent {0}, for which nothing was asked")]
    Unexpected(&'static str),
    /// An acknowledgement of nothing.
    #[error("the server acknowledged packet {id}, which is not on its way")]
    Unsolicited {
        /// The packet identifier.
        id: u16,
    },
    /// Not MQTT of this version.
    #[error("the server sent {packet} that {why}")]
    Malformed {
        /// Which packet.
        packet: &'static str,
        /// What is wrong with it.
        why: Malformed,
    },
}

/// What is wrong with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Its type does not exist, or is a client's.
    #[error("is none of a server's packets (type {0})")]
    Type(u8),
    /// Reserved bits of its first byte are set.
    #[error("has wrong flags")]
    Flags,
    /// A length is not in its shortest encoding, or has more than four bytes.
    #[error("has a wrong length")]
    Length,
    /// It ends in the middle of a field.
    #[error("ends too early")]
    Short,
    /// Something follows its last field.
    #[error("has bytes behind its end")]
    Long,
    /// A text is not UTF-8, or holds U+0000.
    #[error("holds a text that is none")]
    Text,
    /// A packet identifier is 0.
    #[error("has the packet id 0")]
    PacketId,
    /// A reason code does not belong to it.
    #[error("has the unknown code 0x{0:02x}")]
    Code(u8),
    /// MQTT 5 has no such property.
    #[error("has the unknown property 0x{0:02x}")]
    Property(u8),
}
