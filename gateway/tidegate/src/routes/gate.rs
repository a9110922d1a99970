//! The way of a request, step by step, and the access log.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use ring::digest::{Context as Digest, SHA256};
use tidegate_flow::{Answer, Once, Parameters, RequestId};
use tokio::sync::{Semaphore, watch};

use super::logins::{LoggedIn, Logins};
use super::rate::Rates;
use super::refusal::{Refusal, seconds};
use super::table::{Found, Served, find};
use super::tokens::Tokens;
use super::watched::Watched;
use super::{MAX_BODIES, basic, body};
use crate::config::{Authentication, RouteRule, RouteSettings, Settings};
use crate::core_handle::{AskError, CoreHandle};
use crate::links::{Addresses, Place};

/// Longest value of `Idempotency-Key`, in bytes.
pub(crate) const MAX_KEY: usize = 255;
/// When a client that failed too often may come again.
const BARRED: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Of an answer that an earlier request with the same key had.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Headers that no function reads: what they say is the gateway's to check, or about the
/// connection (docs/formats/abi-tg1.md).
pub(crate) const KEPT_BACK: [&str; 11] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Everything that lets requests through to functions.
pub(crate) struct Gate {
    settings: RouteSettings,
    served: watch::Receiver<Served>,
    core: CoreHandle,
    tokens: BTreeMap<PathBuf, Watched<Tokens>>,
    logins: Option<Logins>,
    addresses: Arc<Addresses>,
    rates: Mutex<Rates>,
    /// One permit for each byte.
    bodies: Arc<Semaphore>,
}

/// A client's connection.
#[derive(Clone)]
struct Caller {
    gate: Arc<Gate>,
    peer: IpAddr,
    place: Arc<Place>,
}

/// A line of the access log. Nothing in it is a secret, or as long as a client likes.
struct Entry {
    peer: IpAddr,
    began: Instant,
    method: &'static str,
    function: String,
    route: String,
    user: String,
    bytes_in: usize,
}

impl Gate {
    /// # Errors
    /// No thread for passwords can be started.
    pub(crate) fn new(
        settings: &Settings,
        served: watch::Receiver<Served>,
        core: CoreHandle,
    ) -> anyhow::Result<Arc<Gate>> {
        let (mut tokens, mut logins) = (BTreeMap::new(), None);
        for rule in &settings.routes.rules {
            match &rule.auth {
                Authentication::None => {}
                Authentication::Token(file) => {
                    tokens.insert(file.clone(), Watched::new(file, Tokens::load));
                }
                Authentication::Login(file) if logins.is_none() => {
                    let most = settings.security.limits.failed_logins_per_minute_per_user;
                    let started = Logins::start(file, most);
                    logins =
                        Some(started.context("cannot start the thread that checks passwords")?);
                }
                Authentication::Login(_) => {}
            }
        }
        Ok(Arc::new(Gate {
            settings: settings.routes.clone(),
            served,
            core,
            tokens,
            logins,
            addresses: Addresses::new(settings.security.limits.clone()),
            rates: Mutex::default(),
            bodies: Arc::new(Semaphore::new(MAX_BODIES)),
        }))
    }

    /// What answers the requests of a connection; `None` when its address has too many.
    pub(crate) fn router(self: &Arc<Gate>, peer: SocketAddr) -> Option<Router> {
        let place = self.addresses.admit(Instant::now(), peer.ip()).ok()?;
        let caller = Caller { gate: self.clone(), peer: peer.ip(), place: Arc::new(place) };
        Some(Router::new().fallback(serve).with_state(caller))
    }
}

async fn serve(State(caller): State<Caller>, request: Request) -> Response {
    let mut entry = Entry {
        peer: caller.peer,
        began: Instant::now(),
        method: method(&request),
        function: String::new(),
        route: String::new(),
        user: String::new(),
        bytes_in: 0,
    };
    let response = match caller.pass(request, &mut entry).await {
        Ok(answer) => respond(answer),
        Err(refusal) => refusal.into_response(),
    };
    entry.tell(response.status());
    response
}

impl Caller {
    async fn pass(&self, request: Request, entry: &mut Entry) -> Result<Answer, Refusal> {
        let gate = &*self.gate;
        let (head, content) = request.into_parts();
        let path = head.uri.path();
        let (function, pattern, parameters, rule) = {
            let served = gate.served.borrow();
            let (found, parameters) = match find(&served, head.method.as_str(), path) {
                Found::Route(found, parameters) => (found, parameters),
                Found::NotText => return Err(Refusal::new(400, "a part of the path is not UTF-8")),
                Found::Methods(allowed) => return Err(Refusal::method(&allowed)),
                Found::Nothing => return Err(Refusal::new(404, "no such path")),
            };
            let rule = gate.settings.rule(&found.route);
            let rule = rule.ok_or_else(|| Refusal::new(404, "no such path"))?;
            entry.function.clone_from(&found.name);
            (found.function, found.route.pattern().to_owned(), parameters, rule)
        };
        entry.route.clone_from(&pattern);
        let user = self.user(rule, &head.headers).await?;
        entry.user = user.clone().unwrap_or_default();
        gate.take_turn(&pattern, rule)?;
        let key = idempotency_key(&head.headers)?;
        let most = body::announced(&content, rule.max_body)?;
        let _room = gate.room(most)?;
        let content = body::read(content, rule.max_body).await?;
        entry.bytes_in = content.len();
        let about = Asked {
            method: head.method.as_str(),
            path,
            query: head.uri.query(),
            user: user.as_deref(),
        };
        let properties = properties(&about, parameters, headers(&head.headers));
        let once = key.map(|key| once(&about, key, &content));
        let asked = tidegate_flow::Request {
            // The core's to give.
            id: RequestId(0),
            function,
            route: pattern,
            properties,
            body: content,
            once,
            patience: rule.timeout,
        };
        gate.core.answer(asked).await.map_err(|error| match error {
            AskError::Gone | AskError::Refused(_) => {
                Refusal::again(503, "the gateway is shutting down", AGAIN)
            }
            AskError::Silent(_) => Refusal::new(504, "no answer in time; it may have been done"),
        })
    }

    /// Who asks, where the rule demands to know that.
    async fn user(&self, rule: &RouteRule, headers: &HeaderMap) -> Result<Option<String>, Refusal> {
        let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let shown = shown.and_then(|text| text.split_once(' '));
        let of = |scheme: &str| {
            let (name, value) = shown?;
            name.eq_ignore_ascii_case(scheme).then(|| value.trim())
        };
        let now = Instant::now();
        let name = match &rule.auth {
            Authentication::None => return Ok(None),
            Authentication::Token(file) => {
                if !self.place.may_log_in(now) {
                    return Err(Refusal::again(429, "too many have failed from there", BARRED));
                }
                let tokens = self.gate.tokens.get(file).and_then(Watched::current);
                let owner = tokens.as_ref().zip(of("Bearer"));
                let owner = owner.and_then(|(tokens, token)| tokens.owner(token));
                owner
                    .map(str::to_owned)
                    .ok_or_else(|| self.turned_away(shown.is_some(), "Bearer"))?
            }
            Authentication::Login(_) => {
                let login = of("Basic").and_then(basic::parse).zip(self.gate.logins.as_ref());
                let Some(((user, password), logins)) = login else {
                    return Err(self.turned_away(shown.is_some(), "Basic"));
                };
                match logins.check(&user, password, self.place.may_log_in(now)).await {
                    LoggedIn::Yes => user,
                    LoggedIn::No => return Err(self.turned_away(true, "Basic")),
                    LoggedIn::Busy => {
                        return Err(Refusal::again(
                            503,
                            "too many logins are being checked",
                            AGAIN,
                        ));
                    }
                    LoggedIn::Barred => {
                        return Err(Refusal::again(429, "too many have failed from there", BARRED));
                    }
                }
            }
        };
        if !rule.users.is_empty() && !rule.users.contains(&name) {
            return Err(Refusal::new(403, "not for you"));
        }
        Ok(Some(name))
    }

    /// One that showed something that was wrong counts for its address.
    fn turned_away(&self, showed: bool, scheme: &str) -> Refusal {
        if showed {
            self.place.failed(Instant::now());
        }
        Refusal::unknown(scheme)
    }
}

impl Gate {
    fn take_turn(&self, pattern: &str, rule: &RouteRule) -> Result<(), Refusal> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        rates
            .take(Instant::now(), pattern, rule.per_second)
            .map_err(|wait| Refusal::again(429, "too many requests", wait))
    }

    /// Room for a body of so many bytes.
    fn room(&self, bytes: usize) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.bodies
            .clone()
            .try_acquire_many_owned(permits)
            .map_err(|_| Refusal::again(503, "too many bodies are being read", AGAIN))
    }
}

/// The value of `Idempotency-Key`.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text =
        value.to_str().ok().map(str::trim).filter(|text| (1..=MAX_KEY).contains(&text.len()));
    match text {
        Some(text) if values.next().is_none() => Ok(Some(text)),
        Some(_) | None => {
            let text =
                format!("Idempotency-Key must be there once, with 1 to {MAX_KEY} characters");
            Err(Refusal::new(400, &text))
        }
    }
}

/// A digest of texts and bytes, each with its length.
fn fingerprint(texts: &[&str], bytes: &[u8]) -> [u8; 32] {
    let mut digest = Digest::new(&SHA256);
    for part in texts.iter().map(|text| text.as_bytes()).chain([bytes]) {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut found = [0; 32];
    found.copy_from_slice(digest.finish().as_ref());
    found
}

/// A request without its headers and its body.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) user: Option<&'a str>,
}

/// What a request with an `Idempotency-Key` is known by.
pub(crate) fn once(asked: &Asked<'_>, key: &str, content: &[u8]) -> Once {
    let query = asked.query.unwrap_or("");
    Once {
        key: fingerprint(&[asked.user.unwrap_or(""), key], b""),
        fingerprint: fingerprint(&[asked.method, asked.path, query], content),
    }
}

/// What a function is told of a request, in the order of the contract.
pub(crate) fn properties(
    asked: &Asked<'_>,
    parameters: Parameters,
    headers: impl Iterator<Item = (String, String)>,
) -> Vec<(String, String)> {
    let mut all = vec![
        (":method".to_owned(), asked.method.to_owned()),
        (":path".to_owned(), asked.path.to_owned()),
    ];
    all.extend(asked.user.map(|user| (":user".to_owned(), user.to_owned())));
    all.extend(parameters.into_iter().map(|(name, value)| (format!("{{{name}}}"), value)));
    all.extend(asked.query.map(|query| ("?query".to_owned(), query.to_owned())));
    all.extend(headers);
    all
}

/// Those that a function reads.
fn headers(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let read = headers.iter().filter(|(name, _)| !KEPT_BACK.contains(&name.as_str()));
    read.filter_map(|(name, value)| {
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    })
}

fn respond(answer: Answer) -> Response {
    let Answer { status, media_type, body, again, repeated } = answer;
    // These have no body, whatever a function says.
    let bare = matches!(status, 204 | 205 | 304);
    let mut response = Response::new(if bare { Body::empty() } else { Body::from(body) });
    let status = StatusCode::from_u16(status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !media_type.is_empty()
        && !bare
        && let Ok(value) = HeaderValue::try_from(media_type)
    {
        headers.insert(CONTENT_TYPE, value);
    }
    if let Some(wait) = again
        && let Ok(value) = HeaderValue::try_from(seconds(wait))
    {
        headers.insert(RETRY_AFTER, value);
    }
    if repeated {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// The method for the log; one that no route has is not shown as it was sent.
fn method(request: &Request) -> &'static str {
    let sent = request.method().as_str();
    tidegate_flow::HTTP_METHODS.into_iter().find(|known| *known == sent).unwrap_or("other")
}

impl Entry {
    fn tell(&self, status: StatusCode) {
        let Entry { peer, began, method, function, route, user, bytes_in } = self;
        let ms = began.elapsed().as_millis();
        let status = status.as_u16();
        tracing::info!(
            target: "access",
            %peer, method, route, function, user, status, bytes_in, ms,
            "request"
        );
    }
}
