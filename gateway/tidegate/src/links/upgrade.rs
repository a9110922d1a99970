//! The HTTP request that opens a WebSocket (RFC 6455, section 4.2).

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::origin::Pages;

/// Longest request, headers and all.
const MAX_REQUEST: usize = 8 * 1024;
const MAX_HEADERS: usize = 64;
/// Bytes that are still read after a refusal, and for how long: a socket that is closed with
/// something unread in it takes back what it has sent, the refusal too.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER: Duration = Duration::from_secs(1);
/// What RFC 6455 appends to the client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Reads the request and answers it. Returns the bytes that came behind it.
///
/// # Errors
/// It is no request for this WebSocket, or of a page that may not come in; it has been answered
/// with an error.
pub(super) async fn accept<S>(
    stream: &mut S,
    path: &str,
    pages: Pages<'_>,
) -> Result<Vec<u8>, NotOpened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(1024);
    let (answer, used, opened) = loop {
        if let Some((answer, used)) = answered(&bytes, path, pages) {
            break match answer {
                Ok(answer) => (answer, used, Ok(())),
                Err(refusal) => (refusal.response(), used, Err(refusal)),
            };
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::Error::other("it ended within the WebSocket handshake").into());
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await?;
    if opened.is_err() {
        linger(stream).await;
    }
    opened?;
    Ok(bytes.split_off(used))
}

/// Waits until the client has closed too, within limits.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let closed = async {
        stream.shutdown().await?;
        let mut unread = stream.take(LINGER_BYTES as u64);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    // Whether it has or not, the connection ends now, and why is known.
    drop(timeout(LINGER, closed).await);
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOpened {
    /// The connection failed.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The request was refused.
    #[error("{0}")]
    Refused(#[from] Refusal),
}

/// The answer to a request that opens no WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is no request for this WebSocket.
    #[error("{why}")]
    Wrong { status: &'static str, why: &'static str },
    /// It comes from this page, which may not.
    #[error("the page {origin:?} is not among the origins of the listener")]
    Page { origin: String },
}

impl Refusal {
    fn response(&self) -> String {
        let (status, why) = match self {
            Refusal::Wrong { status, why } => (*status, *why),
            Refusal::Page { .. } => ("403 Forbidden", "pages of this origin may not connect here"),
        };
        let length = why.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n\
             Content-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{why}\n"
        )
    }
}

/// The response and the length of the request; `None` while the request is not complete.
fn answered(
    bytes: &[u8],
    path: &str,
    pages: Pages<'_>,
) -> Option<(Result<String, Refusal>, usize)> {
    let wrong = |status, why| Err(Refusal::Wrong { status, why });
    let bad = |why| wrong("400 Bad Request", why);
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
    let one = |name: &str| {
        let mut values = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
        values.next().map(|header| header.value)
    };
    let key = one("sec-websocket-key");
    let origins = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("origin"));
    let page = origins.map(|h| h.value).find(|origin| !pages.admit(origin, one("host")));
    let asked = request.path.map(|asked| asked.split('?').next().unwrap_or_default());
    let response = if request.method != Some("GET") || request.version != Some(1) {
        bad("a WebSocket begins with GET and HTTP/1.1")
    } else if asked != Some(path) {
        wrong("404 Not Found", "there is no WebSocket at this path")
    } else if !has("upgrade", "websocket") || !has("connection", "upgrade") {
        wrong("426 Upgrade Required", "this is a WebSocket for MQTT")
    } else if !has("sec-websocket-version", "13") {
        wrong("426 Upgrade Required", "only WebSocket version 13 is spoken")
    } else if let Some(origin) = page {
        Err(Refusal::Page { origin: String::from_utf8_lossy(origin).into_owned() })
    } else if !has("sec-websocket-protocol", "mqtt") {
        bad("the subprotocol mqtt is not offered") // [MQTT-6.0.0-3]
    } else if let Some(key) = key.filter(|key| key.len() == 24) {
        // [MQTT-6.0.0-4]
        Ok(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            accept_key(key)
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
    crate::base64::encode(context.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_PAGES: Pages<'_> = Pages { listed: &[], names: true };

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
            assert_eq!(answered(&text.as_bytes()[..end], "/mqtt", NO_PAGES), None);
        }
        let more = format!("{text}more");
        let (response, used) = answered(more.as_bytes(), "/mqtt", NO_PAGES).unwrap();
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
            let (response, _) = answered(text.as_bytes(), "/mqtt", NO_PAGES).unwrap();
            let response = response.unwrap_err().response();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{text}: {response}");
        }
    }

    #[tokio::test]
    async fn a_refusal_arrives_also_when_the_client_has_sent_more_than_was_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client =
            tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let more = format!("{}{}", request("/other", ""), "x".repeat(3 * MAX_REQUEST));
        client.write_all(more.as_bytes()).await.unwrap();
        let refused = tokio::spawn(async move {
            // Nothing but the first bytes is there when it is refused.
            let outcome = accept(&mut server, "/mqtt", NO_PAGES).await;
            drop(server);
            outcome.is_err()
        });
        let mut answer = Vec::new();
        client.shutdown().await.unwrap();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 404 "));
        assert!(refused.await.unwrap());
    }

    #[test]
    fn a_page_from_elsewhere_is_told_that_it_may_not() {
        let with = |origin: &str| {
            let headers = format!("Sec-WebSocket-Protocol: mqtt\r\n{origin}");
            answered(request("/mqtt", &headers).as_bytes(), "/mqtt", NO_PAGES).unwrap().0
        };
        assert!(with("").is_ok(), "no browser");
        assert!(with("Origin: http://x\r\n").is_ok(), "the same host");
        let refusal = with("origin: http://evil.example\r\n").unwrap_err();
        assert!(refusal.response().starts_with("HTTP/1.1 403 Forbidden\r\n"));
        assert!(refusal.to_string().contains("http://evil.example"), "the log says who");
        assert!(!refusal.response().contains("evil"));
        assert!(with("Origin: http://x\r\nOrigin: http://evil.example\r\n").is_err());
    }
}
