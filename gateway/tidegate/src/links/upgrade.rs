//! The HTTP request that opens a WebSocket (RFC 6455, section 4.2).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest request, headers and all.
const MAX_REQUEST: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// What RFC 6455 appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Reads the request and answers it. Returns the bytes that came behind it.
///
/// # Errors
/// It is no request for this WebSocket; it has been answered with an error.
pub(super) async fn accept<S>(stream: &mut S, path: &str) -> io::Result<Vec<u8>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(1024);
    let (answer, used, opened) = loop {
        if let Some((answer, used)) = answered(&bytes, path) {
            break match answer {
                Ok(answer) => (answer, used, Ok(())),
                Err(refusal) => (refusal.response(), used, Err(refusal.why)),
            };
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("it ended within the WebSocket handshake"));
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    opened.map_err(io::Error::other)?;
    Ok(bytes.split_off(used))
}

/// Why there is no WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refusal {
    status: &'static str,
    why: &'static str,
}

impl Refusal {
    fn response(self) -> String {
        let Refusal { status, why } = self;
        let length = why.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{why}\n"
        )
    }
}

/// The response and the length of the request; `None` while the request is not complete.
fn answered(bytes: &[u8], path: &str) -> Option<(Result<String, Refusal>, usize)> {
    let bad = |why| Err(Refusal { status: "400 Bad Request", why });
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if bytes.len() < MAX_REQUEST => return None,
        Ok(httparse::Status::Partial) => {
            return Some((bad("the request is too long"), bytes.len()));
        }
        Err(_) => return Some((bad("no HTTP request"), bytes.len())),
    };
    let has = |name: &str, token: &str| {
        let values = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
        let mut tokens = values.flat_map(|header| header.value.split(|byte| *byte == b','));
        tokens.any(|one| one.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    let key = request.headers.iter().find(|h| h.name.eq_ignore_ascii_case("sec-websocket-key"));
    let asked = request.path.map(|asked| asked.split('?').next().unwrap_or_default());
    let response = if request.method != Some("GET") || request.version != Some(1) {
        bad("a WebSocket begins with GET and HTTP/1.1")
    } else if asked != Some(path) {
        Err(Refusal { status: "404 Not Found", why: "there is no WebSocket at this path" })
    } else if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        Err(Refusal { status: "426 Upgrade Required", why: "this is a WebSocket for MQTT" })
    } else if !has("sec-websocket-version", "13") {
        Err(Refusal { status: "426 Upgrade Required", why: "only WebSocket version 13 is spoken" })
    } else if !has("sec-websocket-protocol", "mqtt") {
        bad("the subprotocol mqtt is not offered") // [MQTT-6.0.0-3]
    } else if let Some(key) = key.filter(|key| key.value.len() == 24) {
        // [MQTT-6.0.0-4]
        Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            accept_key(key.value)
        ))
    } else {
        bad("no key of a WebSocket")
    };
    Some((response, used))
}

fn accept_key(key: &[u8]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(key);
    context.update(GUID.as_bytes());
    base64(context.finish().as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let index = bits >> (18 - 6 * place) & 63;
            text.push(if place <= three.len() {
                char::from(ALPHABET[index as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Version: 13\r\n{headers}\r\n"
        )
    }

    #[test]
    fn the_handshake_of_the_rfc_is_answered_as_there() {
        let text = request("/mqtt", "Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n");
        for end in 0..text.len() {
            assert_eq!(answered(&text.as_bytes()[..end], "/mqtt"), None);
        }
        let (response, used) = answered(format!("{text}more").as_bytes(), "/mqtt").unwrap();
        assert_eq!(used, text.len());
        let response = response.unwrap();
        assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(response.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
    }

    #[test]
    fn what_opens_no_websocket_is_told_why() {
        let with = "Sec-WebSocket-Protocol: mqtt\r\n";
        let long = format!("X: {}\r\n", "x".repeat(MAX_REQUEST));
        for (text, status) in [
            (request("/other", with), "404"),
            (request("/mqtt", ""), "400"),
            (request("/mqtt", "").replace("GET", "POST"), "400"),
            (request("/mqtt", with).replace(": 13", ": 8"), "426"),
            (request("/mqtt", with).replace("Upgrade: WebSocket\r\n", ""), "426"),
            (request("/mqtt", with).replace("dGhl", ""), "400"),
            ("\x10\x0d\0\x04MQTT".to_owned(), "400"),
            (request("/mqtt", &long)[..MAX_REQUEST].to_owned(), "400"),
        ] {
            let (response, _) = answered(text.as_bytes(), "/mqtt").unwrap();
            assert!(response.unwrap_err().status.starts_with(status), "{text}");
        }
    }
}
