//! HTTP, reading only: `/healthz`, `/metrics`, `/v1/status`, `/v1/streams`.
//!
//! Limits: [`MAX_CONNECTIONS`] at a time with [`MAX_BUFFER`] bytes each; a request's head must
//! arrive within [`HEAD_WITHIN`]; no connection lives longer than [`CONNECTION_LIFE`]. No
//! handler reads a body.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tidegate_flow::status::Status;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::core_handle::{AskError, CoreHandle};
use crate::metrics;
use crate::process::Process;
use crate::shutdown::Shutdown;

/// Connections at a time; further ones wait in the listener's queue.
pub const MAX_CONNECTIONS: usize = 32;
/// Bytes read ahead of one connection, and so the largest request head. A larger one is
/// answered with 431.
pub const MAX_BUFFER: usize = 16 << 10;
/// Header lines of a request.
const MAX_HEADERS: usize = 64;
/// Time for the head of a request, the pause before it included.
pub const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// Longest life of a connection, whatever it does.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(120);
/// Pause after a failed accept (no file descriptors left): trying at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener that serves nobody yet.
#[derive(Debug)]
pub struct HttpListener(TcpListener);

impl HttpListener {
    /// Binds the address, so that a port in use is known before anything else starts.
    ///
    /// # Errors
    /// The address is in use, not of this machine, or not permitted.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The address bound; of use when port 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until shutdown. Runs in a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// The listener cannot be handed to the runtime.
    pub async fn serve(self, core: CoreHandle, shutdown: Shutdown) -> io::Result<()> {
        let router = router(core);
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        self.serve_with(&|_| Some(router.clone()), &slots, &shutdown).await
    }

    /// Serves what `router` gives for each client, if it gives anything, until shutdown; a
    /// connection takes one of the slots.
    pub(crate) async fn serve_with(
        self,
        router: &(dyn Fn(SocketAddr) -> Option<Router> + Sync),
        slots: &Arc<Semaphore>,
        shutdown: &Shutdown,
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.0)?;
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.wait() => return Ok(()),
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(router) = router(peer) else { continue };
                    let shutdown = shutdown.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            () = connection(stream, router) => {}
                            () = shutdown.wait() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_LIFE, served).await {
        Ok(Ok(())) => {}
        // What a client does wrong is answered to it, and is of interest to nobody else.
        Ok(Err(error)) => tracing::debug!(%error, "HTTP connection ended"),
        Err(_) => tracing::debug!("HTTP connection closed at the end of its life"),
    }
}

fn router(core: CoreHandle) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_page))
        .route("/v1/status", get(status))
        .route("/v1/streams", get(streams))
        .fallback(not_found)
        .with_state(core)
}

const INDEX: &str = "Tidegate\n\n/healthz\n/metrics\n/v1/status\n/v1/streams\n";

async fn index() -> &'static str {
    INDEX
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "no such page; / lists them\n")
}

async fn healthz(State(core): State<CoreHandle>) -> Response {
    match core.status().await.map(|status| health(&status)) {
        Ok(Ok(())) => "ok\n".into_response(),
        Ok(Err(reason)) => unavailable(&reason),
        Err(error) => unavailable(&error.to_string()),
    }
}

/// Whether the gateway can keep what it is given. A dead uplink is a normal state, and not
/// something that a restart would heal.
fn health(status: &Status) -> Result<(), String> {
    match status.disk.state.as_str() {
        "ok" => Ok(()),
        state => Err(format!("disk: {state}")),
    }
}

async fn metrics_page(State(core): State<CoreHandle>) -> Response {
    match core.status().await {
        Ok(status) => {
            let page = metrics::render(&status, &Process::now());
            ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response()
        }
        Err(error) => unavailable(&error.to_string()),
    }
}

async fn status(State(core): State<CoreHandle>) -> Response {
    json(core.status().await.as_ref())
}

async fn streams(State(core): State<CoreHandle>) -> Response {
    json(core.status().await.map(|status| status.streams).as_ref())
}

fn json<T: Serialize>(answer: Result<&T, &AskError>) -> Response {
    let value = match answer {
        Ok(value) => value,
        Err(error) => return unavailable(&error.to_string()),
    };
    match serde_json::to_vec(value) {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => {
            let text = format!("the answer has no JSON form: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
    }
}

fn unavailable(reason: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::sample;
    use crate::serving::{Answers, serve_core};

    /// A server on a free port with a core that gives `answers`.
    fn start(answers: Answers) -> (SocketAddr, Shutdown) {
        let listener = HttpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let shutdown = Shutdown::default();
        tokio::spawn(listener.serve(serve_core(answers), shutdown.clone()));
        (address, shutdown)
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).await
    }

    #[tokio::test]
    async fn a_gateway_that_works_is_healthy_while_its_uplink_is_down() {
        let (address, _trigger) = start(Answers::Status(sample::status()));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_failing_disk_is_unhealthy_with_its_reason() {
        let mut status = sample::status();
        status.disk.state = "sync failed: Input/output error".into();
        let (address, _trigger) = start(Answers::Status(status));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("disk: sync failed: Input/output error\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_core_that_hangs_is_unhealthy() {
        let (address, _trigger) = start(Answers::Nothing);
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("the core has not answered within 1 s\n"), "{answer}");
    }

    #[tokio::test]
    async fn metrics_have_the_content_type_of_prometheus() {
        let (address, _trigger) = start(Answers::Status(sample::status()));
        let answer = get(address, "/metrics").await;
        assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
        assert!(answer.contains("\ntidegate_disk_ok 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn status_and_streams_are_json() {
        let (address, _trigger) = start(Answers::Status(sample::status()));
        for (path, pointer, expected) in [
            ("/v1/status", "/uplinks/0/last_error", "connection refused"),
            ("/v1/streams", "/0/readers/1/name", "uplink/cloud"),
        ] {
            let answer = get(address, path).await;
            assert!(answer.contains("content-type: application/json"), "{answer}");
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(json.pointer(pointer).unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn nothing_can_be_written_and_unknown_pages_say_so() {
        let (address, _trigger) = start(Answers::Status(sample::status()));
        let close = "Host: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        let answer = ask(address, &format!("POST /v1/status HTTP/1.1\r\n{close}")).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
        assert!(get(address, "/").await.ends_with(INDEX));
        assert!(get(address, "/v2").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused() {
        let (address, _trigger) = start(Answers::Status(sample::status()));
        let long = "x".repeat(2 * MAX_BUFFER);
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n");
        // The server may close before it has read everything.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }

    #[tokio::test]
    async fn open_connections_end_at_shutdown() {
        let (address, trigger) = start(Answers::Status(sample::status()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        trigger.request();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
    }
}
