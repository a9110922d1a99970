//! The NATS client protocol, as far as a publisher needs it: what a server says, taken out of its
//! bytes, and what we say, appended to a buffer. Text lines that end in CR LF, some with a body:
//! <https://docs.nats.io/reference/reference-protocols/nats-protocol>.
//!
//! A server controls the lengths in its lines: both a line and a body have a limit here, and
//! nothing is reserved before its bytes have arrived.
//!
//! Not here: sockets (`link.rs`), what a body means (`jetstream.rs`, `headers.rs`).

use bytes::{Buf, BufMut, BytesMut};

/// Longest line taken. INFO is the longest; a server with a hundred routes sends some 4 KiB.
const MAX_LINE: usize = 64 * 1024;
/// Largest body taken. The largest that we ask for is the last message of a subject, in JSON with
/// four bytes for three; the gateway takes no larger message in than 512 KiB.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Something that a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerOp {
    /// JSON about the server; comes first, and again when something about it changes.
    Info(Vec<u8>),
    Message(Message),
    /// To be answered with PONG.
    Ping,
    Pong,
    Ok,
    /// A complaint, without its quotes; after most of them the server hangs up.
    Error(String),
}

/// A message of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    /// Which subscription it is for, as given in SUB.
    pub(super) subscription: u64,
    pub(super) reply: Option<String>,
    /// The block of headers with its version line, as sent; empty when there is none.
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// Why the bytes are not what a NATS server sends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    #[error("a line of more than {MAX_LINE} bytes")]
    Line,
    #[error("a message of {bytes} bytes, more than the {MAX_BODY} allowed")]
    Body { bytes: usize },
    #[error("{0:?} is no line of the NATS protocol")]
    Unknown(String),
}

/// Bytes from a server on their way to become [`ServerOp`]s.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    pub(super) bytes: BytesMut,
    /// The line of a message whose body has not arrived yet.
    head: Option<Head>,
}

#[derive(Debug)]
struct Head {
    message: Message,
    headers: usize,
    total: usize,
}

impl Incoming {
    /// The next thing said, or `None` until more bytes have arrived.
    pub(super) fn next(&mut self) -> Result<Option<ServerOp>, ProtocolError> {
        if self.head.is_none() {
            let Some(line) = self.line()? else { return Ok(None) };
            match op(&line)? {
                Line::Op(op) => return Ok(Some(op)),
                Line::Head(head) => self.head = Some(head),
            }
        }
        self.body()
    }

    fn line(&mut self) -> Result<Option<Vec<u8>>, ProtocolError> {
        let Some(end) = self.bytes.windows(2).take(MAX_LINE).position(|pair| pair == b"\r\n")
        else {
            let too_long = self.bytes.len() > MAX_LINE;
            return if too_long { Err(ProtocolError::Line) } else { Ok(None) };
        };
        let line = self.bytes[..end].to_vec();
        self.bytes.advance(end + 2);
        Ok(Some(line))
    }

    fn body(&mut self) -> Result<Option<ServerOp>, ProtocolError> {
        let Some(head) = self.head.take_if(|head| self.bytes.len() >= head.total + 2) else {
            return Ok(None);
        };
        let Head { mut message, headers, total } = head;
        message.headers = self.bytes[..headers].to_vec();
        message.payload = self.bytes[headers..total].to_vec();
        if &self.bytes[total..total + 2] != b"\r\n" {
            return Err(unknown(&self.bytes[total..]));
        }
        self.bytes.advance(total + 2);
        Ok(Some(ServerOp::Message(message)))
    }
}

enum Line {
    Op(ServerOp),
    Head(Head),
}

fn op(line: &[u8]) -> Result<Line, ProtocolError> {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_ascii();
    let op = match name.to_ascii_uppercase().as_slice() {
        b"MSG" => return head(rest, false).map(Line::Head).ok_or_else(|| unknown(line))?.checked(),
        b"HMSG" => return head(rest, true).map(Line::Head).ok_or_else(|| unknown(line))?.checked(),
        b"INFO" => ServerOp::Info(rest.to_vec()),
        b"PING" => ServerOp::Ping,
        b"PONG" => ServerOp::Pong,
        b"+OK" => ServerOp::Ok,
        b"-ERR" => {
            let text = String::from_utf8_lossy(rest);
            ServerOp::Error(text.trim_matches('\'').to_owned())
        }
        _ => return Err(unknown(line)),
    };
    Ok(Line::Op(op))
}

impl Line {
    fn checked(self) -> Result<Line, ProtocolError> {
        match self {
            Line::Head(Head { total, .. }) if total > MAX_BODY => {
                Err(ProtocolError::Body { bytes: total })
            }
            Line::Head(_) | Line::Op(_) => Ok(self),
        }
    }
}

/// `SUBJECT SID [REPLY] [HEADERS] TOTAL`; the length of the headers is there only in HMSG.
fn head(rest: &[u8], with_headers: bool) -> Option<Head> {
    let mut words = str::from_utf8(rest).ok()?.split_ascii_whitespace();
    let subject = words.next()?.to_owned();
    let subscription = words.next()?.parse().ok()?;
    let total = words.next_back()?.parse().ok()?;
    let headers = if with_headers { words.next_back()?.parse().ok()? } else { 0 };
    let reply = words.next().map(str::to_owned);
    let fits = headers <= total && words.next().is_none();
    let message = Message { subject, subscription, reply, ..Message::default() };
    fits.then_some(Head { message, headers, total })
}

fn unknown(bytes: &[u8]) -> ProtocolError {
    ProtocolError::Unknown(String::from_utf8_lossy(bytes).chars().take(64).collect())
}

/// `CONNECT`, with its options as JSON.
pub(super) fn connect(out: &mut BytesMut, json: &str) {
    put(out, &[b"CONNECT ", json.as_bytes(), b"\r\n"]);
}

/// `SUB`: messages to `subject` (which may hold wildcards) come with the number `subscription`.
pub(super) fn subscribe(out: &mut BytesMut, subject: &str, subscription: u64) {
    put(out, &[b"SUB ", subject.as_bytes(), b" ", subscription.to_string().as_bytes(), b"\r\n"]);
}

/// `PUB`: a message without headers.
pub(super) fn publish(out: &mut BytesMut, subject: &str, reply: Option<&str>, payload: &[u8]) {
    put(out, &[b"PUB ", subject.as_bytes(), b" "]);
    put_reply(out, reply);
    put(out, &[payload.len().to_string().as_bytes(), b"\r\n", payload, b"\r\n"]);
}

/// `HPUB`: a message with a block of headers, as [`super::headers`] encodes it.
pub(super) fn publish_with_headers(
    out: &mut BytesMut,
    subject: &str,
    reply: &str,
    headers: &[u8],
    payload: &[u8],
) {
    let total = (headers.len() + payload.len()).to_string();
    put(out, &[b"HPUB ", subject.as_bytes(), b" "]);
    put_reply(out, Some(reply));
    put(out, &[headers.len().to_string().as_bytes(), b" ", total.as_bytes(), b"\r\n"]);
    put(out, &[headers, payload, b"\r\n"]);
}

pub(super) fn ping(out: &mut BytesMut) {
    out.put_slice(b"PING\r\n");
}

pub(super) fn pong(out: &mut BytesMut) {
    out.put_slice(b"PONG\r\n");
}

fn put_reply(out: &mut BytesMut, reply: Option<&str>) {
    if let Some(reply) = reply {
        put(out, &[reply.as_bytes(), b" "]);
    }
}

fn put(out: &mut BytesMut, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.put_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<ServerOp>, ProtocolError> {
        let mut incoming = Incoming::default();
        let mut ops = Vec::new();
        // Byte by byte: what is not complete must wait, whatever the cut.
        for byte in bytes {
            incoming.bytes.put_u8(*byte);
            while let Some(op) = incoming.next()? {
                ops.push(op);
            }
        }
        assert!(incoming.bytes.is_empty() && incoming.head.is_none(), "{incoming:?}");
        Ok(ops)
    }

    #[test]
    fn everything_a_server_says_is_read_however_the_bytes_arrive() {
        let said = b"INFO {\"a\":1} \r\nPING\r\npong\r\n+OK\r\n-ERR 'Stale Connection'\r\n\
            MSG a.b 7 2\r\nhi\r\nMSG a 7 reply.1 0\r\n\r\n\
            HMSG a 8 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n";
        let message = |subject: &str, subscription, reply: Option<&str>, payload: &[u8]| Message {
            subject: subject.to_owned(),
            subscription,
            reply: reply.map(str::to_owned),
            headers: Vec::new(),
            payload: payload.to_vec(),
        };
        let expected = [
            ServerOp::Info(b"{\"a\":1}".to_vec()),
            ServerOp::Ping,
            ServerOp::Pong,
            ServerOp::Ok,
            ServerOp::Error("Stale Connection".to_owned()),
            ServerOp::Message(message("a.b", 7, None, b"hi")),
            ServerOp::Message(message("a", 7, Some("reply.1"), b"")),
            ServerOp::Message(Message {
                headers: b"NATS/1.0\r\n\r\n".to_vec(),
                ..message("a", 8, Some("r"), b"hi")
            }),
        ];
        assert_eq!(all(said).unwrap(), expected);
    }

    #[test]
    fn what_no_server_says_is_refused_before_anything_is_reserved_for_it() {
        let refused = [
            "HTTP/1.1 400 Bad Request\r\n",
            "MSG a 1\r\n",
            "MSG a x 1\r\n",
            "MSG a 1 r s 1\r\n",
            "HMSG a 1 13 12\r\n",
            "MSG a 1 -1\r\n",
            "MSG a 1 1\r\nabc",
        ];
        for text in refused {
            assert!(matches!(all(text.as_bytes()), Err(ProtocolError::Unknown(_))), "{text}");
        }
        let bytes = 4 * 1024 * 1024 + 1;
        let large = format!("MSG a 1 {bytes}\r\n");
        assert_eq!(all(large.as_bytes()), Err(ProtocolError::Body { bytes }));
        let long = vec![b'x'; MAX_LINE + 1];
        assert_eq!(all(&long), Err(ProtocolError::Line));
    }

    #[test]
    fn what_we_say_is_on_the_wire_like_this() {
        let mut out = BytesMut::new();
        connect(&mut out, "{}");
        subscribe(&mut out, "_INBOX.x.*", 1);
        publish(&mut out, "$JS.API.INFO", Some("_INBOX.x.1"), b"");
        publish(&mut out, "a", None, b"xy");
        publish_with_headers(&mut out, "a.b", "_INBOX.x.2", b"NATS/1.0\r\na: b\r\n\r\n", b"12.5");
        ping(&mut out);
        pong(&mut out);
        let expected = "CONNECT {}\r\nSUB _INBOX.x.* 1\r\nPUB $JS.API.INFO _INBOX.x.1 0\r\n\r\n\
            PUB a 2\r\nxy\r\nHPUB a.b _INBOX.x.2 18 22\r\nNATS/1.0\r\na: b\r\n\r\n12.5\r\n\
            PING\r\nPONG\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
