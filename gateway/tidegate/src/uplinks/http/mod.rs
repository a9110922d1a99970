//! The HTTPS driver: batches to a server that keeps the committed sequence of each stream, so that
//! each record arrives once however long an outage lasts. The contract is
//! `docs/formats/https-sink.md`.
//!
//! Not here: the course of a session (`web`), retries and delays (the uplink core).

mod answer;
mod target;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderValue};
use hyper::header::{InvalidHeaderValue, USER_AGENT};
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Action, Batch, Held, LaneId, UplinkEvent};
use tokio::sync::mpsc::Receiver;

use super::web::{self, AGENT, Answer, Connection, Delivery, Ending, gzip, read_secret};
pub use target::{HttpOptions, HttpTarget};

/// Carries out the actions of one uplink core until their channel closes. `lanes` are the names under
/// which its lanes go up, in their order. `events` must not block,
/// and must not lose anything: per session at most one answer for each batch sent, and two for the
/// connection.
pub async fn run(
    servers: Vec<HttpTarget>,
    lanes: &[String],
    actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let servers: Vec<_> = servers.into_iter().map(|server| server.with_lanes(lanes)).collect();
    web::run::<HttpDelivery>(&servers, actions, events).await;
}

/// A session with the server.
struct HttpDelivery {
    target: HttpTarget,
    connection: Connection,
    bearer: Option<HeaderValue>,
    /// What the server said in this session that it holds: the gateway goes on behind it.
    committed: BTreeMap<(LaneId, Epoch), Seq>,
}

impl Delivery for HttpDelivery {
    type Server = HttpTarget;

    async fn open(server: &HttpTarget) -> Result<(HttpDelivery, Vec<Held>), Ending> {
        let target = server.clone();
        let bearer = bearer(&target).map_err(Ending::Broken)?;
        let at = target.address();
        let connection = Connection::open(target.origin()).await;
        let connection = connection.map_err(|error| Ending::Broken(error.sentence(&at)))?;
        let mut delivery = HttpDelivery { target, connection, bearer, committed: BTreeMap::new() };
        let answer = delivery.ask_for_cursors().await.map_err(Ending::Broken)?;
        let held = answer::cursors(&delivery.target, &answer)?;
        for one in &held {
            delivery.committed.insert((one.lane, one.epoch), one.seq);
        }
        Ok((delivery, held))
    }

    async fn deliver(&mut self, batch: Batch) -> Result<(), Ending> {
        let (Some(first), Some(last)) = (batch.records.first(), batch.records.last()) else {
            return Err(Ending::Broken("the gateway made an empty batch; report this".to_owned()));
        };
        let place = (batch.lane, batch.epoch);
        let after = self.committed.get(&place).copied().unwrap_or(Seq(0));
        let span = answer::Span { after, first: first.seq, last: last.seq };
        let request = self.post(&batch, &span).map_err(Ending::Broken)?;
        let answer = self.connection.exchange(request).await;
        let answer =
            answer.map_err(|error| Ending::Broken(error.sentence(&self.target.address())))?;
        let committed = answer::batch(&self.target, &batch.stream, &span, &answer)?;
        self.committed.insert(place, committed);
        Ok(())
    }
}

impl HttpDelivery {
    async fn ask_for_cursors(&mut self) -> Result<Answer, String> {
        let path = format!("{}/v1/cursors/{}", self.target.path(), self.target.gateway());
        let request = self.request("GET", &path).body(Full::default());
        let request = request.map_err(|error| unsendable(&error))?;
        let answer = self.connection.exchange(request).await;
        answer.map_err(|error| error.sentence(&self.target.address()))
    }

    fn post(&self, batch: &Batch, span: &answer::Span) -> Result<Request<Full<Bytes>>, String> {
        let format = self.target.format();
        let plain = format.encode(self.target.gateway(), batch);
        let mut request = self
            .request("POST", &format!("{}/v1/batches", self.target.path()))
            .header(CONTENT_TYPE, format.content_type())
            .header("tg-gw", self.target.gateway())
            .header("tg-stream", &*batch.stream)
            .header("tg-epoch", batch.epoch.0)
            .header("tg-first", span.first.0)
            .header("tg-last", span.last.0)
            .header("tg-after", span.after.0);
        let body = if self.target.is_compressed() {
            request = request.header(CONTENT_ENCODING, "gzip");
            gzip(&plain).map_err(|error| format!("cannot compress a batch: {error}"))?
        } else {
            plain
        };
        request.body(Full::new(Bytes::from(body))).map_err(|error| unsendable(&error))
    }

    fn request(&self, method: &str, path: &str) -> hyper::http::request::Builder {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.target.authority())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, "application/json");
        match &self.bearer {
            None => request,
            Some(bearer) => request.header(AUTHORIZATION, bearer),
        }
    }
}

fn unsendable(error: &hyper::http::Error) -> String {
    format!("cannot write the request: {error}; check url and the names in the configuration")
}

/// Read at each session, so that a new token counts without a restart.
fn bearer(target: &HttpTarget) -> Result<Option<HeaderValue>, String> {
    let Some(file) = target.token_file() else { return Ok(None) };
    let wrong = |why: String| format!("token_file {}: {why}", file.display());
    let token = read_secret(file).map_err(wrong)?;
    let value: Result<HeaderValue, InvalidHeaderValue> = format!("Bearer {token}").parse();
    let mut value =
        value.map_err(|_| wrong("holds more than one line of plain text".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}
