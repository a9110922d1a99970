//! One HTTP/1.1 connection at a time to one server: a request, then its whole answer.
//!
//! Invariants: redirects are not followed; an answer is read up to [`MAX_ANSWER`] and no further;
//! dropping the connection closes its socket, also in the middle of an exchange.
//!
//! Not here: timeouts (the uplink core ends a session that is silent), what an answer means.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::origin::Origin;

/// Longest body of an answer that is read.
pub(in crate::uplinks) const MAX_ANSWER: usize = 64 * 1024;
/// Longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;
/// Most headers in it.
const MAX_HEADERS: usize = 64;

/// See the module.
pub(in crate::uplinks) struct Connection {
    origin: Origin,
    live: Option<Live>,
}

/// A whole answer.
#[derive(Debug)]
pub(in crate::uplinks) struct Answer {
    pub(in crate::uplinks) status: StatusCode,
    pub(in crate::uplinks) headers: HeaderMap,
    pub(in crate::uplinks) body: Bytes,
}

impl Answer {
    /// A header's value, when it is there once or more and is text.
    pub(in crate::uplinks) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::uplinks) enum WebError {
    /// The name cannot be resolved, or nobody takes the connection.
    Unreachable(io::Error),
    /// The TLS handshake failed.
    Tls(io::Error),
    /// The connection broke, or what came is not HTTP.
    Broken(hyper::Error),
    /// The answer is longer than [`MAX_ANSWER`].
    TooLong,
}

impl WebError {
    /// What happened, for the operator.
    pub(in crate::uplinks) fn sentence(&self, at: &str) -> String {
        match self {
            WebError::Unreachable(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                format!("{at} refuses connections: nothing listens there, or a firewall forbids it")
            }
            // Resolver failures have no kind of their own in std.
            WebError::Unreachable(error)
                if error.to_string().contains("failed to lookup address") =>
            {
                format!("the name in {at} cannot be resolved: {error}")
            }
            WebError::Unreachable(error) => format!("cannot reach {at}: {error}"),
            WebError::Tls(error) => format!(
                "TLS with {at} failed: {error}; check the server's certificate, ca_file and the \
                 gateway's clock"
            ),
            WebError::Broken(error) if error.is_parse() => {
                format!("{at} answered with something that is not HTTP/1.1: {error}")
            }
            WebError::Broken(error) => {
                let cause = std::error::Error::source(error);
                let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("the connection to {at} broke: {error}{cause}")
            }
            WebError::TooLong => format!("{at} answered with more than {MAX_ANSWER} bytes"),
        }
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached or TLS fails.
    pub(in crate::uplinks) async fn open(origin: &Origin) -> Result<Connection, WebError> {
        let live = Live::open(origin).await?;
        Ok(Connection { origin: origin.clone(), live: Some(live) })
    }

    /// Sends a request and reads the whole answer. A connection that the server has closed while
    /// it was idle, as servers do, is opened again first.
    ///
    /// # Errors
    /// When there is no answer, or it is no HTTP, or it is too long; whether the server has acted
    /// on the request is not known then.
    pub(in crate::uplinks) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, WebError> {
        let request = match self.live.take() {
            None => request,
            Some(live) => match live.send(request).await {
                Ok(answered) => return self.finish(answered).await,
                Err(Unsent::No(error)) => return Err(error),
                // The connection was closed before any of it was written.
                Err(Unsent::Yes(request)) => *request,
            },
        };
        match Live::open(&self.origin).await?.send(request).await {
            Ok(answered) => self.finish(answered).await,
            Err(Unsent::No(error)) => Err(error),
            Err(Unsent::Yes(_)) => {
                let why = "closed as soon as it was open";
                Err(WebError::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, why)))
            }
        }
    }

    async fn finish(&mut self, answered: (Live, Response<Incoming>)) -> Result<Answer, WebError> {
        let (live, response) = answered;
        let (head, body) = response.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(WebError::TooLong),
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => WebError::Broken(*error),
                    Err(other) => WebError::Unreachable(io::Error::other(other)),
                });
            }
        };
        self.live = Some(live);
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// An open connection. The task moves its bytes and ends with it.
struct Live {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a request that got no answer may have reached the server.
enum Unsent {
    /// It did not.
    Yes(Box<Request<Full<Bytes>>>),
    /// It may have.
    No(WebError),
}

impl Live {
    async fn open(origin: &Origin) -> Result<Live, WebError> {
        let socket = TcpStream::connect(origin.socket()).await.map_err(WebError::Unreachable)?;
        // Requests are written whole: waiting for more would only delay their last packet.
        socket.set_nodelay(true).map_err(WebError::Unreachable)?;
        match origin.tls() {
            None => Live::speak(socket).await,
            Some((name, config)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream =
                    connector.connect(name.clone(), socket).await.map_err(WebError::Tls)?;
                Live::speak(stream).await
            }
        }
    }

    async fn speak(
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> Result<Live, WebError> {
        let mut http = http1::Builder::new();
        http.max_buf_size(MAX_HEAD).max_headers(MAX_HEADERS);
        let (sender, connection) =
            http.handshake(TokioIo::new(stream)).await.map_err(WebError::Broken)?;
        let task = tokio::task::spawn_local(async move {
            // Its error reaches the exchange that it interrupts; an idle connection just ends.
            let _ = connection.await;
        });
        Ok(Live { sender, task })
    }

    async fn send(
        mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Live, Response<Incoming>), Unsent> {
        if self.sender.ready().await.is_err() {
            return Err(Unsent::Yes(Box::new(request)));
        }
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok((self, response)),
            Err(mut failed) => match failed.take_message() {
                Some(request) => Err(Unsent::Yes(Box::new(request))),
                None => Err(Unsent::No(WebError::Broken(failed.into_error()))),
            },
        }
    }
}
