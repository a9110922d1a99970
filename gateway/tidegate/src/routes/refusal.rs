//! Answers that the gateway gives itself, before a function hears of a request.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    text: String,
    header: Option<(HeaderName, String)>,
}

impl Refusal {
    pub(crate) fn new(status: u16, text: &str) -> Refusal {
        Refusal { status, text: text.to_owned(), header: None }
    }

    /// Nobody may use it who does not show who he is, in this way.
    pub(crate) fn unknown(scheme: &str) -> Refusal {
        let challenge = match scheme {
            "Basic" => "Basic realm=\"tidegate\", charset=\"UTF-8\"".to_owned(),
            scheme => scheme.to_owned(),
        };
        Refusal {
            header: Some((WWW_AUTHENTICATE, challenge)),
            ..Refusal::new(401, "not known here")
        }
    }

    /// The path has other methods.
    pub(crate) fn method(allowed: &[&str]) -> Refusal {
        let allowed = allowed.join(", ");
        let text = format!("this path has {allowed}");
        Refusal { header: Some((ALLOW, allowed)), ..Refusal::new(405, &text) }
    }

    /// Later, perhaps.
    pub(crate) fn again(status: u16, text: &str, after: Duration) -> Refusal {
        let header = Some((RETRY_AFTER, seconds(after)));
        Refusal { header, ..Refusal::new(status, text) }
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(format!("{}\n", self.text)));
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some((name, value)) = self.header
            && let Ok(value) = HeaderValue::try_from(value)
        {
            headers.insert(name, value);
        }
        // What a client sends behind a body that nobody wants is not read either.
        if matches!(self.status, 408 | 413) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Whole seconds, at least one.
pub(crate) fn seconds(time: Duration) -> String {
    time.as_secs_f64().ceil().max(1.0).to_string()
}
