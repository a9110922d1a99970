//! Requests over HTTP on the stage, and the secrets of its functions.

use std::time::Duration;

use anyhow::anyhow;
use tidegate_fixtures::{Answer, Request};
use tidegate_flow::RequestId;
use tidegate_runtime::{MAX_SECRET, MIN_SECRET, SecretValue};

use super::stage::Stage;
use crate::routes::{Asked, Found, KEPT_BACK, MAX_KEY, ServedRoute, find, once, properties};

/// How long a client waits, by the clock of the case.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was asked and answered so far.
#[derive(Debug, Default)]
pub(super) struct Dialogue {
    asked: u64,
    answered: u64,
    answers: Vec<Answer>,
}

impl Dialogue {
    /// A request is answered.
    pub(super) fn answered(&mut self, answer: tidegate_flow::Answer) {
        self.answered += 1;
        let (status, content_type) = (answer.status, answer.media_type);
        self.answers.push(Answer { status, content_type, body: answer.body.to_vec() });
    }

    /// A new gateway knows of no request.
    pub(super) fn begin_anew(&mut self) {
        self.answered = self.asked;
    }

    /// Requests that wait for their answer.
    pub(super) fn waiting(&self) -> u64 {
        self.asked - self.answered
    }
}

impl Stage {
    /// Makes a request.
    pub(crate) fn ask(&mut self, request: &Request) -> anyhow::Result<()> {
        let Request { method, path, query, user, headers, body, key } = request;
        let routes = self.gateway.http_routes().map(|(function, name, route)| ServedRoute {
            function,
            name: name.to_owned(),
            route: route.clone(),
        });
        let routes: Vec<ServedRoute> = routes.collect();
        let (function, route, parameters) = match find(&routes, method, path) {
            Found::Route(found, parameters) => {
                (found.function, found.route.pattern().to_owned(), parameters)
            }
            Found::NotText => return Err(anyhow!("a part of the path {path} is not UTF-8")),
            Found::Methods(allowed) => {
                return Err(anyhow!("{path} has the methods {} only", allowed.join(", ")));
            }
            Found::Nothing => {
                return Err(anyhow!("no function answers {method} {path}: no `routes` has it"));
            }
        };
        if let Some(key) = key.as_ref().filter(|key| !(1..=MAX_KEY).contains(&key.len())) {
            return Err(anyhow!("`key` has {} bytes; allowed: 1 to {MAX_KEY}", key.len()));
        }
        let about = Asked { method, path, query: query.as_deref(), user: user.as_deref() };
        self.dialogue.asked += 1;
        let headers = headers.iter().filter(|(name, _)| !KEPT_BACK.contains(&name.as_str()));
        let asked = tidegate_flow::Request {
            id: RequestId(self.dialogue.asked),
            function,
            route,
            properties: properties(&about, parameters, headers.cloned()),
            body: body.clone(),
            once: key.as_ref().map(|key| once(&about, key, body)),
            patience: PATIENCE,
        };
        self.gateway.handle_request(self.now, asked);
        self.settle()
    }

    /// What was answered since the last call.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.dialogue.answers)
    }

    /// Gives a secret this value for all functions that may read it.
    pub(crate) fn set_secret(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        let Some(value) = SecretValue::new(value.to_vec()) else {
            let bytes = value.len();
            return Err(format!(
                "the secret \"{name}\" has {bytes} bytes; allowed: {MIN_SECRET} to {MAX_SECRET}"
            ));
        };
        let given =
            self.guests.iter_mut().filter_map(|guest| guest.set_secret(name, &value).then_some(()));
        match given.count() {
            0 => Err(format!("no function may read \"{name}\": it is in no `secrets`")),
            _ => Ok(()),
        }
    }
}
