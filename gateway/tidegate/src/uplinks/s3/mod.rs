//! The S3 driver: each batch becomes an object named by its sequence range. The uplink core fixes
//! the boundaries of a batch durably before it is sent, so a batch that is sent again overwrites
//! itself. The layout is `docs/formats/s3-sink.md`.
//!
//! Not here: the course of a session (`web`), retries and delays (the uplink core).

mod answer;
mod credentials;
mod object;
mod signature;
mod target;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, HeaderValue, USER_AGENT};
use tidegate_uplink::{Action, Batch, Held, UplinkEvent};
use tokio::sync::mpsc::Receiver;

use self::credentials::Credentials;
use self::signature::{Scope, Signed};
use super::web::{self, AGENT, Connection, Delivery, Ending, gzip};
use crate::utc::Utc;
pub use target::{Addressing, S3Options, S3Target};

/// Carries out the actions of one uplink core until their channel closes. `events` must not block,
/// and must not lose anything: per session at most one answer for each batch sent, and two for the
/// connection.
pub async fn run(servers: Vec<S3Target>, actions: Receiver<Action>, events: impl Fn(UplinkEvent)) {
    web::run::<S3Delivery>(&servers, actions, events).await;
}

/// A session with the server.
struct S3Delivery {
    target: S3Target,
    connection: Connection,
    /// Read at each session, so that new keys count without a restart.
    credentials: Credentials,
}

impl Delivery for S3Delivery {
    type Server = S3Target;

    /// Connects and asks nothing: keys that may only write objects are enough.
    async fn open(server: &S3Target) -> Result<(S3Delivery, Vec<Held>), Ending> {
        let target = server.clone();
        let file = target.credentials_file();
        let credentials = Credentials::read(file).map_err(|why| {
            let file = file.map(|file| format!(" {}", file.display())).unwrap_or_default();
            Ending::Broken(format!("credentials_file{file} {why}"))
        })?;
        let at = target.address();
        let connection = Connection::open(target.origin()).await;
        let connection = connection.map_err(|error| Ending::Broken(error.sentence(&at)))?;
        Ok((S3Delivery { target, connection, credentials }, Vec::new()))
    }

    async fn deliver(&mut self, batch: Batch) -> Result<(), Ending> {
        let now = Utc::now();
        let request = self.put(&batch, now).map_err(Ending::Broken)?;
        let answer = self.connection.exchange(request).await;
        let answer =
            answer.map_err(|error| Ending::Broken(error.sentence(&self.target.address())))?;
        answer::put(&self.target, now, &answer)
    }
}

impl S3Delivery {
    fn put(&self, batch: &Batch, now: Utc) -> Result<Request<Full<Bytes>>, String> {
        let target = &self.target;
        let key = object::key(target.prefix(), target.gateway(), batch, &target.extension());
        let plain = target.format().encode(target.gateway(), batch);
        let (body, kind) = if target.is_compressed() {
            let body = gzip(&plain).map_err(|error| format!("cannot compress: {error}"))?;
            (body, "application/gzip")
        } else {
            (plain, target.format().content_type())
        };
        let (path, host, time) = (target.path(&key), target.authority(), amazon_time(now));
        let hash = signature::sha256_hex(&body);
        let mut headers = vec![
            ("content-type", kind),
            ("host", &host),
            ("x-amz-content-sha256", &hash),
            ("x-amz-date", &time),
        ];
        if let Some(token) = &self.credentials.session_token {
            headers.push(("x-amz-security-token", token));
        }
        let scope = Scope { time: &time, region: target.region(), service: "s3" };
        let signed =
            Signed { method: "PUT", path: &path, query: "", headers: &headers, body_hash: &hash };
        let authorization = signature::authorization(&self.credentials, &scope, &signed);
        let mut request = Request::builder().method("PUT").uri(&path);
        for (name, value) in &headers {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| format!("{name} cannot be sent: it is not one line of text"))?;
            value.set_sensitive(*name == "x-amz-security-token");
            request = request.header(*name, value);
        }
        let request = request.header(USER_AGENT, AGENT).header(AUTHORIZATION, authorization);
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("cannot write the request: {error}"))
    }
}

/// `20130524T000000Z`
fn amazon_time(now: Utc) -> String {
    let text = now.to_string();
    let seconds = text.get(..19).unwrap_or(&text);
    let digits: String = seconds.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    format!("{digits}Z")
}
