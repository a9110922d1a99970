//! From nothing to a session that may publish: connect, log in, look at the stream of each
//! subject, read what it holds.
//!
//! Needs these permissions at the server: publish to `$JS.API.STREAM.NAMES`,
//! `$JS.API.STREAM.INFO.*`, `$JS.API.STREAM.MSG.GET.*`, `$JS.API.CONSUMER.CREATE.*`,
//! `$JS.API.CONSUMER.DELETE.*.*` and `tidegate.GATEWAY.>`, subscribe to `_INBOX.>`.
//!
//! Every failure is a sentence for the operator, without secrets.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::complaint::{certificate_refused, complaint, unreachable};
use super::headers;
use super::jetstream::{self, Answer, Delivered, Stream, cleaned};
use super::lane::{Lane, Stored, unread};
use super::link::{Broken, Link};
use super::login::Fields;
use super::protocol::{self, Message, ServerOp};
use super::target::NatsTarget;

/// Subscription for answers.
pub(super) const ANSWERS: u64 = 1;
/// Subscription for the messages of a consumer.
const DELIVERIES: u64 = 2;
/// Messages read between a floor and the last message. By what a floor says there are at most two
/// windows of them; more mean that the headers are not what the gateway wrote.
const MAX_BETWEEN: usize = 10_000;

/// A connection on which may be published.
pub(super) struct Opened {
    pub(super) link: Link,
    /// Answers come to `{inbox}.NAME`.
    pub(super) inbox: String,
    pub(super) subjects: Vec<Subject>,
}

/// Where one stream of the gateway goes.
pub(super) struct Subject {
    pub(super) name: String,
    /// The JetStream stream that captures it.
    pub(super) stream: String,
    pub(super) lane: Lane,
    /// Largest message, headers included.
    pub(super) max_bytes: u64,
}

/// What a server says about itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Info {
    version: String,
    headers: bool,
    max_payload: u64,
    tls_required: bool,
    tls_available: bool,
    nonce: Option<String>,
}

/// What we say about ourselves.
#[derive(Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    lang: &'a str,
    version: &'a str,
    name: &'a str,
    protocol: u8,
    headers: bool,
    no_responders: bool,
    echo: bool,
    #[serde(flatten)]
    login: Fields,
}

/// Opens a session.
///
/// # Errors
/// A sentence with the server's address: what does not work, and what to do.
pub(super) async fn open(target: &NatsTarget, lanes: &[String]) -> Result<Opened, String> {
    let at = target.address();
    let (link, info) = greeted(target, &at).await?;
    let mut opening = Opening {
        target,
        at,
        link,
        inbox: format!("_INBOX.{:016x}{:016x}", random(), random()),
        asked: 0,
        max_payload: info.max_payload,
        streams: BTreeMap::new(),
    };
    opening.log_in(&info).await?;
    let mut subjects = Vec::new();
    for stream in lanes {
        subjects.push(opening.subject(stream).await?);
    }
    Ok(Opened { link: opening.link, inbox: opening.inbox, subjects })
}

/// Random enough that no two sessions share an inbox.
fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// Connects and takes the server's greeting, with TLS where it is wanted.
async fn greeted(target: &NatsTarget, at: &str) -> Result<(Link, Info), String> {
    let (host, port) = target.host_and_port();
    let stream = TcpStream::connect((host, port)).await.map_err(|error| unreachable(at, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(at, &error))?;
    let mut link = Link::new(Box::new(stream));
    let op = link.hear().await.map_err(|broken| format!("{at} {broken}; is it a NATS server?"))?;
    let ServerOp::Info(json) = op else {
        return Err(format!("{at} did not greet as a NATS server does"));
    };
    let info: Info = serde_json::from_slice(&json)
        .map_err(|error| format!("{at} greeted with an INFO that cannot be read: {error}"))?;
    if !info.headers {
        return Err(format!(
            "{at} runs NATS {}, which has no headers; version 2.2 or newer is needed",
            cleaned(&info.version)
        ));
    }
    match target.tls() {
        Some(config) => Ok((secured(link, at, host, config).await?, info)),
        None if info.tls_required => {
            Err(format!("{at} wants TLS; write tls:// in the url, and give ca_file"))
        }
        None => Ok((link, info)),
    }
}

async fn secured(
    link: Link,
    at: &str,
    host: &str,
    config: Arc<ClientConfig>,
) -> Result<Link, String> {
    let wrong = |why: String| {
        format!("TLS with {at} failed: {why}; check the server's certificate and ca_file")
    };
    let socket = link.into_socket().ok_or_else(|| wrong("it spoke before TLS had begun".into()))?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let connecting = TlsConnector::from(config).connect(name, socket);
    let stream = connecting.await.map_err(|error| {
        certificate_refused(at, &error).unwrap_or_else(|| wrong(error.to_string()))
    })?;
    Ok(Link::new(Box::new(stream)))
}

struct Opening<'a> {
    target: &'a NatsTarget,
    at: String,
    link: Link,
    inbox: String,
    /// Requests so far; names the next one's answer.
    asked: u64,
    max_payload: u64,
    /// Streams that serve, by name.
    streams: BTreeMap<String, Stream>,
}

impl Opening<'_> {
    async fn log_in(&mut self, info: &Info) -> Result<(), String> {
        let login = self.target.login().fields(info.nonce.as_deref());
        let connect = Connect {
            verbose: false,
            pedantic: false,
            tls_required: self.target.tls().is_some(),
            lang: "rust",
            version: env!("CARGO_PKG_VERSION"),
            name: self.target.client_name(),
            protocol: 1,
            headers: true,
            no_responders: true,
            echo: true,
            login: login.map_err(|why| format!("{} {why}", self.at))?,
        };
        let json = serde_json::to_string(&connect).map_err(|error| error.to_string())?;
        protocol::connect(&mut self.link.out, &json);
        let (answers, deliveries) = (format!("{}.*", self.inbox), self.deliveries());
        protocol::subscribe(&mut self.link.out, &answers, ANSWERS);
        protocol::subscribe(&mut self.link.out, &deliveries, DELIVERIES);
        protocol::ping(&mut self.link.out);
        loop {
            match self.hear().await? {
                ServerOp::Pong => return Ok(()),
                ServerOp::Info(_)
                | ServerOp::Message(_)
                | ServerOp::Ping
                | ServerOp::Ok
                | ServerOp::Error(_) => {}
            }
        }
    }

    fn deliveries(&self) -> String {
        // One word more than an answer's, so that the two subscriptions do not overlap.
        format!("{}.consumer.1", self.inbox)
    }

    /// The stream of a subject, if it serves, and what it holds.
    async fn subject(&mut self, stream: &str) -> Result<Subject, String> {
        let gateway = &self.target.gateway;
        let subject = format!("tidegate.{gateway}.{stream}");
        let captured = jetstream::stream_names(&subject);
        let name = self.ask(jetstream::STREAM_NAMES, &captured, jetstream::capturing).await?;
        let Some(name) = name else {
            return Err(format!(
                "no JetStream stream at {} takes the subject {subject}; make one with \
                 \"tidegate.{gateway}.>\" among its subjects",
                self.at
            ));
        };
        let config = self.serving(&name).await?;
        let lane = self.lane(stream, &subject, &name).await?;
        let max_bytes = config.max_message().unwrap_or(u64::MAX).min(self.max_payload);
        Ok(Subject { name: subject, stream: name, lane, max_bytes })
    }

    async fn serving(&mut self, name: &str) -> Result<Stream, String> {
        if let Some(stream) = self.streams.get(name) {
            return Ok(stream.clone());
        }
        let stream = self.ask(&jetstream::stream_info(name), "", jetstream::stream).await?;
        let faults = stream.faults();
        if !faults.is_empty() {
            let faults = faults.join("; ");
            return Err(format!("the stream {name} at {} does not serve: {faults}", self.at));
        }
        if let Some(warning) = stream.warning() {
            tracing::warn!(stream = name, server = self.at, "the JetStream stream: {warning}");
        }
        self.streams.insert(name.to_owned(), stream.clone());
        Ok(stream)
    }

    /// Reads what the stream holds of the subject.
    async fn lane(&mut self, stream: &str, subject: &str, name: &str) -> Result<Lane, String> {
        let request = jetstream::last_message_of(subject);
        let last = self.ask(&jetstream::last_message(name), &request, jetstream::last).await?;
        let Some((at, block)) = last else { return Ok(Lane::empty()) };
        let foreign = |why: String| {
            format!(
                "the last message of {subject} (sequence {at} of the stream {name} at {}) is no \
                 record of this gateway: {why}; somebody else publishes there: stop that, and \
                 delete the message",
                self.at
            )
        };
        let Some((_, headers)) = headers::decode(&block) else {
            return Err(foreign("its headers cannot be read".to_owned()));
        };
        let gateway = &self.target.gateway;
        let (place, floor) = jetstream::record(gateway, stream, &headers).map_err(foreign)?;
        let last = Stored { place, at };
        let between = match unread(last, floor) {
            Some(from) => self.between(stream, subject, name, from, at).await?,
            None => Vec::new(),
        };
        Ok(Lane::resumed(last, floor, &between))
    }

    /// The records of the messages from `from` up to `to`, exclusive.
    async fn between(
        &mut self,
        stream: &str,
        subject: &str,
        name: &str,
        from: u64,
        to: u64,
    ) -> Result<Vec<Stored>, String> {
        let request = jetstream::consumer(name, subject, from, &self.deliveries());
        let path = jetstream::create_consumer(name);
        let mut deliveries = Deliveries { found: Vec::new(), end: to, ended: false };
        let gateway = self.target.gateway.clone();
        let take = |message: &Message, deliveries: &mut Deliveries| {
            deliveries.take(message, |headers| jetstream::record(&gateway, stream, headers).ok());
        };
        let answer = self.request(&path, &request);
        let answer = loop {
            // Deliveries may come before the answer.
            match self.message().await? {
                message if message.subscription == DELIVERIES => take(&message, &mut deliveries),
                message if message.subject == answer => break message,
                _ => {}
            }
        };
        let consumer = self.understood(&path, &answer, jetstream::consumer_made)?;
        while !deliveries.ended {
            let message = self.message().await?;
            if message.subscription == DELIVERIES {
                take(&message, &mut deliveries);
            }
            if deliveries.found.len() > MAX_BETWEEN {
                return Err(format!(
                    "more than {MAX_BETWEEN} messages of {subject} lie behind sequence {from} of \
                     the stream {name} at {}, where its last one says that its window begins: \
                     somebody else has written the headers",
                    self.at
                ));
            }
        }
        let path = jetstream::delete_consumer(name, &consumer);
        protocol::publish(&mut self.link.out, &path, None, b"");
        Ok(deliveries.found)
    }

    /// A request to the API of JetStream, and its answer.
    async fn ask<T>(
        &mut self,
        path: &str,
        body: &str,
        read: impl Fn(&[u8]) -> Answer<T>,
    ) -> Result<T, String> {
        let answer = self.request(path, body);
        loop {
            let message = self.message().await?;
            if message.subject == answer {
                return self.understood(path, &message, read);
            }
        }
    }

    /// Sends a request; returns the subject to which the answer comes.
    fn request(&mut self, path: &str, body: &str) -> String {
        self.asked += 1;
        let answer = format!("{}.api{}", self.inbox, self.asked);
        protocol::publish(&mut self.link.out, path, Some(&answer), body.as_bytes());
        answer
    }

    fn understood<T>(
        &self,
        path: &str,
        message: &Message,
        read: impl Fn(&[u8]) -> Answer<T>,
    ) -> Result<T, String> {
        let at = &self.at;
        let status = headers::decode(&message.headers).map(|(status, _)| status);
        match status.as_deref() {
            Some("503") => Err(format!(
                "{at} has no JetStream for this account (nothing answers {path}); enable it there"
            )),
            Some(status) if !status.is_empty() => {
                Err(format!("{at} answered {path} with status {}", cleaned(status)))
            }
            Some(_) | None => match read(&message.payload) {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(format!("{at} refuses {path}: {}", error.sentence())),
                Err(why) => Err(format!("{at}, asked for {path}: {why}")),
            },
        }
    }

    async fn message(&mut self) -> Result<Message, String> {
        loop {
            if let ServerOp::Message(message) = self.hear().await? {
                return Ok(message);
            }
        }
    }

    /// The next thing that the server says. A complaint ends the attempt.
    async fn hear(&mut self) -> Result<ServerOp, String> {
        match self.link.hear().await {
            Ok(ServerOp::Error(said)) => Err(complaint(&self.at, &said)),
            Ok(ServerOp::Ping) => {
                protocol::pong(&mut self.link.out);
                Ok(ServerOp::Ping)
            }
            Ok(op) => Ok(op),
            Err(Broken::Io(error)) => Err(unreachable(&self.at, &error)),
            Err(broken @ (Broken::Closed | Broken::Protocol(_))) => {
                Err(format!("{} {broken}", self.at))
            }
        }
    }
}

/// Messages of a consumer, taken in until the end of what is wanted.
struct Deliveries {
    found: Vec<Stored>,
    end: u64,
    ended: bool,
}

impl Deliveries {
    fn take(
        &mut self,
        message: &Message,
        record: impl Fn(&[(String, String)]) -> Option<(super::lane::Place, Option<Stored>)>,
    ) {
        let Some(Delivered { at, left }) = message.reply.as_deref().and_then(jetstream::delivered)
        else {
            return;
        };
        self.ended |= at >= self.end || left == 0;
        let headers = headers::decode(&message.headers);
        // A message that is no record of ours proves nothing either way.
        if let Some((place, _)) = headers.and_then(|(_, headers)| record(&headers))
            && at < self.end
        {
            self.found.push(Stored { place, at });
        }
    }
}
