//! Headers of a NATS message: a version line, `Name: value` lines, an empty line.
//!
//! **A server acts on headers**, and what a sensor sends must not reach it as one: nats-server
//! looks for the names of its own (`Nats-Rollup`, `Nats-Expected-Last-Sequence` ...) as text
//! anywhere in the block, values included, and takes the first place where it finds one. So ours
//! come first, and "Nats-" appears nowhere else: what holds it, and what the lines cannot carry
//! (control characters, spaces at the ends, names that are no tokens), goes percent-encoded in a
//! header [`ESCAPED`], `NAME=VALUE`. [`decode`] takes that off again. The document is
//! `docs/formats/envelope.md`.

use std::borrow::Cow;

use tidegate_uplink::OutboundMessage;

/// Carries a header that cannot stand as it is: its name, `=`, its value, both percent-encoded.
pub(super) const ESCAPED: &str = "tg-pct";
/// The publisher's content type.
const CONTENT_TYPE: &str = "tg-content-type";
/// `1`: the publisher declared the payload to be UTF-8 text.
const TEXT: &str = "tg-text";

const VERSION_LINE: &[u8] = b"NATS/1.0";
/// Room for the envelope of most records.
const USUAL_BYTES: usize = 512;
/// What every header that a server acts on begins with.
const SERVERS_OWN: &[u8] = b"nats-";

/// The block for `message`. `for_server` are headers that the server is to act on.
pub(super) fn encode(for_server: &[(&str, &str)], message: &OutboundMessage) -> Vec<u8> {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    out.extend_from_slice(VERSION_LINE);
    out.extend_from_slice(b"\r\n");
    for (name, value) in for_server {
        line(&mut out, name, value);
    }
    let own = message.headers.iter().map(|(name, value)| (&**name, &**value));
    let content_type = message.content_type.as_deref().map(|value| (CONTENT_TYPE, value));
    let text = message.payload_is_text.then_some((TEXT, "1"));
    for (name, value) in own.chain(content_type).chain(text) {
        if is_token(name) && is_plain(value) && !holds_servers_own(name) {
            line(&mut out, name, value);
        } else {
            let escaped = format!("{}={}", percent_encoded(name), percent_encoded(value));
            line(&mut out, ESCAPED, &escaped);
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The headers of a block in their order, and the status code and text behind the version, which
/// a server gives when it answers in place of a subscriber.
pub(super) fn decode(block: &[u8]) -> Option<(String, Vec<(String, String)>)> {
    let text = String::from_utf8_lossy(block);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("NATS/1.0")?.trim().to_owned();
    let mut headers = Vec::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        headers.push(match (name == ESCAPED).then(|| value.split_once('=')).flatten() {
            Some((name, value)) => (percent_decoded(name)?, percent_decoded(value)?),
            None => (name.to_owned(), value.to_owned()),
        });
    }
    Some((status, headers))
}

fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// A token of RFC 9110, which every client library takes for a name.
fn is_token(name: &str) -> bool {
    let tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name != ESCAPED && name.bytes().all(tchar)
}

fn is_plain(value: &str) -> bool {
    let control = |byte: u8| byte.is_ascii_control();
    value.trim() == value && !value.bytes().any(control) && !holds_servers_own(value)
}

fn holds_servers_own(text: &str) -> bool {
    text.as_bytes().windows(SERVERS_OWN.len()).any(|part| part.eq_ignore_ascii_case(SERVERS_OWN))
}

/// Encodes all but letters, digits and a few marks that mean nothing to anyone; among the encoded
/// is the `-`, without which no name of the server's is left.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii_alphanumeric() || "._/".contains(char) {
            out.push(char);
        } else {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    out
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next().map_or(b"".as_slice(), str::as_bytes));
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => Some(text.to_owned()),
        Cow::Owned(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)]) -> OutboundMessage {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        OutboundMessage { headers: headers.collect(), ..OutboundMessage::default() }
    }

    #[test]
    fn block_is_on_the_wire_like_this() {
        let message = OutboundMessage {
            content_type: Some("text/plain".to_owned()),
            payload_is_text: true,
            ..message(&[("tg-topic", "sensors/ä"), ("unit", "°C"), ("a b", "1"), ("c", "x\ny")])
        };
        let block = encode(&[("Nats-Msg-Id", "gw/1/s/1")], &message);
        let expected = "NATS/1.0\r\nNats-Msg-Id: gw/1/s/1\r\ntg-topic: sensors/ä\r\nunit: °C\r\n\
            tg-pct: a%20b=1\r\ntg-pct: c=x%0Ay\r\ntg-content-type: text/plain\r\ntg-text: 1\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&block), expected);
    }

    #[test]
    fn whatever_a_publisher_sends_comes_back_and_none_of_it_speaks_to_the_server() {
        let given = [
            ("Nats-Rollup", "all"),
            ("nats-msg-id", "x"),
            ("note", "about Nats-Expected-Last-Sequence: 1"),
            ("x\r\nNats-Rollup: all\r\ny", "z"),
            ("z", "\r\n\r\nPUB a 0\r\n\r\n"),
            ("", ""),
            ("colon:", "a:b"),
            ("space", " at both ends "),
            ("tg-pct", "a=b"),
            ("é", "%41=%%\0\u{7f}"),
            ("plain", ""),
        ];
        let block = encode(&[("Nats-Msg-Id", "id")], &message(&given));
        let text = String::from_utf8(block.clone()).unwrap();
        assert_eq!(text.to_ascii_lowercase().matches("nats-").count(), 1, "{text}");
        assert_eq!(text.find("Nats-Msg-Id"), Some("NATS/1.0\r\n".len()));
        assert_eq!(text.find("\r\n\r\n"), Some(text.len() - 4), "nothing ends the block early");
        let (status, decoded) = decode(&block).unwrap();
        assert_eq!(status, "");
        assert_eq!(decoded[0], ("Nats-Msg-Id".to_owned(), "id".to_owned()));
        assert_eq!(decoded[1..], message(&given).headers);
    }

    #[test]
    fn status_of_an_answer_without_headers_is_read() {
        assert_eq!(decode(b"NATS/1.0 503\r\n\r\n"), Some(("503".to_owned(), Vec::new())));
        for broken in
            ["HTTP/1.0\r\n\r\n", "NATS/1.0\r\nno colon\r\n\r\n", "NATS/1.0\r\ntg-pct: %=a\r\n"]
        {
            assert_eq!(decode(broken.as_bytes()), None, "{broken}");
        }
    }
}
