//! The HTTP routes of functions: what an author writes, and which paths it is about.
//!
//! `GET,PUT /sensors/{id}/limit` has two methods, and a parameter that takes one segment of a path
//! as it is, percent-encoding resolved. Literal segments are compared as they are sent.
//!
//! Not here: sockets, and who may use a route.

use std::fmt;

/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 256;
/// Longest name of a parameter, in bytes.
const MAX_PARAMETER: usize = 32;
/// Methods that a route may have.
pub const HTTP_METHODS: [&str; 6] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRoute {
    methods: Vec<&'static str>,
    pattern: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Parameter(String),
}

/// Why a text is no route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpRouteError {
    /// No method, or no path.
    #[error("not a route; write methods and a path, such as \"GET,PUT /sensors/{{id}}/limit\"")]
    Parts,
    /// A method that no route may have, or one that is named twice.
    #[error(
        "method \"{0}\" is unknown or named twice; there are: DELETE, GET, HEAD, PATCH, POST, PUT"
    )]
    Method(String),
    /// Too long a path.
    #[error("the path has {0} bytes; allowed: {MAX_PATTERN}")]
    Long(usize),
    /// A segment that is neither plain text nor a parameter.
    #[error(
        "\"{0}\" in the path is neither plain (A-Z a-z 0-9 - . _ ~) nor a parameter such as {{id}} \
         with a name of its own (a-z 0-9 _)"
    )]
    Segment(String),
}

/// A parameter of a path is not UTF-8, or its percent-encoding is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotText;

/// Name and value of each parameter of a path.
pub type Parameters = Vec<(String, String)>;

impl HttpRoute {
    /// Reads a route as an author writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<HttpRoute, HttpRouteError> {
        let (names, path) = text.split_once(' ').ok_or(HttpRouteError::Parts)?;
        let path = path.trim();
        let mut methods: Vec<&'static str> = Vec::new();
        for name in names.split(',') {
            let known = HTTP_METHODS.iter().find(|known| **known == name);
            match known.filter(|known| !methods.contains(known)) {
                Some(method) => methods.push(method),
                None => return Err(HttpRouteError::Method(name.to_owned())),
            }
        }
        let segments = HttpRoute::segments(path)?;
        Ok(HttpRoute { methods, pattern: path.to_owned(), segments })
    }

    fn segments(path: &str) -> Result<Vec<Segment>, HttpRouteError> {
        if path.len() > MAX_PATTERN {
            return Err(HttpRouteError::Long(path.len()));
        }
        let inner = path.strip_prefix('/').ok_or(HttpRouteError::Parts)?;
        let mut segments: Vec<Segment> = Vec::new();
        if inner.is_empty() {
            return Ok(segments);
        }
        for text in inner.split('/') {
            let segment = segment(text).filter(|segment| match segment {
                Segment::Literal(_) => true,
                Segment::Parameter(_) => !segments.contains(segment),
            });
            segments.push(segment.ok_or_else(|| HttpRouteError::Segment(text.to_owned()))?);
        }
        Ok(segments)
    }

    /// Its methods, in the order in which they were written.
    pub fn methods(&self) -> &[&'static str] {
        &self.methods
    }

    /// Its path, with the parameters.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The parameters of this path; `None` when the route is not about it.
    ///
    /// # Errors
    /// It is, but a parameter is no text.
    pub fn parameters(&self, path: &str) -> Option<Result<Parameters, NotText>> {
        let inner = path.strip_prefix('/')?;
        if inner.is_empty() {
            return self.segments.is_empty().then_some(Ok(Vec::new()));
        }
        let mut found = Vec::new();
        let mut wanted = self.segments.iter();
        for given in inner.split('/') {
            match wanted.next()? {
                Segment::Literal(text) if text == given => {}
                Segment::Literal(_) => return None,
                Segment::Parameter(_) if given.is_empty() => return None,
                Segment::Parameter(name) => found.push((name, given)),
            }
        }
        if wanted.next().is_some() {
            return None;
        }
        let plain = |(name, given): (&String, &str)| Some((name.clone(), decoded(given)?));
        Some(found.into_iter().map(plain).collect::<Option<Parameters>>().ok_or(NotText))
    }

    /// Whether some request could be for both.
    pub fn clashes_with(&self, other: &HttpRoute) -> bool {
        self.shape() == other.shape() && self.methods.iter().any(|one| other.methods.contains(one))
    }

    /// Of two routes that are about a path, the one with the greater shape is meant: a literal
    /// segment is more than a parameter.
    pub fn shape(&self) -> Vec<Option<&str>> {
        let shape = self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Some(text.as_str()),
            Segment::Parameter(_) => None,
        });
        shape.collect()
    }

    /// Whether the route is about what lies at or below this path: the same segments in front,
    /// a parameter standing for itself.
    pub fn lies_below(&self, path: &str) -> bool {
        let base = path.trim_end_matches('/');
        self.pattern.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for HttpRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods.join(","), self.pattern)
    }
}

fn segment(text: &str) -> Option<Segment> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let allowed = (1..=MAX_PARAMETER).contains(&name.len()) && name.bytes().all(plain);
        return allowed.then(|| Segment::Parameter(name.to_owned()));
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let allowed = !text.is_empty() && text != "." && text != ".." && text.bytes().all(plain);
    allowed.then(|| Segment::Literal(text.to_owned()))
}

/// Resolves percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        plain.push(match byte {
            b'%' => (digit()? << 4 | digit()?) as u8,
            byte => byte,
        });
    }
    String::from_utf8(plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> HttpRoute {
        HttpRoute::parse(text).unwrap()
    }

    #[test]
    fn a_route_is_methods_and_a_path_with_parameters() {
        let limit = route("GET,PUT /sensors/{id}/limit");
        assert_eq!(
            (limit.methods(), limit.pattern()),
            (&["GET", "PUT"][..], "/sensors/{id}/limit")
        );
        let found = |path: &str| limit.parameters(path);
        let id = |value: &str| Some(Ok(vec![("id".to_owned(), value.to_owned())]));
        assert_eq!(found("/sensors/g3/limit"), id("g3"));
        assert_eq!(found("/sensors/g%203%2F/limit"), id("g 3/"));
        assert_eq!(found("/sensors/%C3%A9/limit"), id("é"));
        for path in ["/sensors//limit", "/sensors/a/limit/", "/sensors/a", "/Sensors/a/limit", "*"]
        {
            assert_eq!(found(path), None, "{path}");
        }
        for path in ["/sensors/%ff/limit", "/sensors/%2/limit", "/sensors/a%/limit"] {
            assert_eq!(found(path), Some(Err(NotText)), "{path}");
        }
        let root = route("GET /");
        assert_eq!((root.parameters("/"), root.parameters("/a")), (Some(Ok(Vec::new())), None));
    }

    #[test]
    fn what_is_no_route_is_refused_with_the_part_that_is_wrong() {
        let long = format!("GET /{}", "a".repeat(MAX_PATTERN));
        for (text, part) in [
            ("/a", "not a route"),
            ("GET a", "not a route"),
            ("get /a", "method \"get\""),
            ("GET,GET /a", "method \"GET\""),
            ("CONNECT /a", "method \"CONNECT\""),
            ("GET /a//b", "\"\" in the path"),
            ("GET /a/", "\"\" in the path"),
            ("GET /a/..", "\"..\""),
            ("GET /{id}/{id}", "\"{id}\""),
            ("GET /{Id}", "\"{Id}\""),
            ("GET /a{id}", "\"a{id}\""),
            ("GET /a%20b", "\"a%20b\""),
            (&long, "the path has 257 bytes"),
        ] {
            let error = HttpRoute::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn routes_clash_when_a_request_could_be_for_both_of_the_same_shape() {
        let limit = route("GET,PUT /sensors/{id}/limit");
        assert!(limit.clashes_with(&route("PUT /sensors/{name}/limit")));
        assert!(!limit.clashes_with(&route("POST /sensors/{id}/limit")));
        assert!(!limit.clashes_with(&route("GET /sensors/all/limit")));
        assert!(
            limit.lies_below("/sensors") && limit.lies_below("/") && limit.lies_below("/sensors/")
        );
        assert!(limit.lies_below("/sensors/{id}/limit") && !limit.lies_below("/sensor"));
    }
}
