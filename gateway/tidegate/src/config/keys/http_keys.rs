//! What is served over HTTP, and to whom.

/// `[http]`
pub(crate) mod http {
    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const LISTEN: Key = Key {
        name: "listen",
        kind: Kind::ListenOrOff,
        fallback: Fallback::Value(r#""127.0.0.1:8080""#),
        about: "Where `/healthz`, `/metrics` and `/v1/...` are served, reading only.",
    };
    pub(crate) const ALLOW_ANONYMOUS: Key = Key {
        name: "allow_anonymous",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Allows listening beyond the loopback interface. This version has no login: whoever reaches the port may read the status.",
    };
    pub(crate) const ROUTES_LISTEN: Key = Key {
        name: "routes_listen",
        kind: Kind::Listen { max: 4 },
        fallback: Fallback::Value(r#""127.0.0.1:8081""#),
        about: "Where the routes of functions are served, without TLS; only with a `[[http.route]]` in the file.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "http",
        form: Form::Single,
        keys: &[&LISTEN, &ALLOW_ANONYMOUS, &ROUTES_LISTEN],
    };
}

/// `[[http.route]]`
pub(crate) mod route {
    use std::time::Duration;

    use crate::config::keys::{Fallback, Form, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const PATH: Key = Key {
        name: "path",
        kind: Kind::Text,
        fallback: Fallback::Required(r#"path = "/sensors""#),
        about: "The rule is for routes of functions at or below this path, as the functions write them. The first rule that fits counts; a route without a rule is not served.",
    };
    pub(crate) const AUTH: Key = Key {
        name: "auth",
        kind: Kind::Choice(&["token", "login", "none"]),
        fallback: Fallback::Value(r#""token""#),
        about: "How clients show who they are: a bearer token of `tokens_file`; a user name and password of `users_file` in `[mqtt]` (HTTP Basic); not at all, where `routes_listen` has loopback addresses only.",
    };
    pub(crate) const TOKENS_FILE: Key = Key {
        name: "tokens_file",
        kind: Kind::Path,
        fallback: Fallback::Value(r#""tokens""#),
        about: "Names with their hashed tokens, as `tidegate http token` writes it; closed to others (mode 0600), read again when it has changed.",
    };
    pub(crate) const USERS: Key = Key {
        name: "users",
        kind: Kind::Words { max: 256 },
        fallback: Fallback::Absent("everybody with a token or a login"),
        about: "Names of the tokens, or of the users, that may use the routes.",
    };
    pub(crate) const MAX_BODY: Key = Key {
        name: "max_body",
        kind: Kind::Bytes { min: 0, max: MIB },
        fallback: Fallback::Value(r#""64KiB""#),
        about: "Largest body of a request; a larger one is refused (413).",
    };
    pub(crate) const PER_SECOND: Key = Key {
        name: "requests_per_second",
        kind: Kind::Count { min: 1, max: 10_000 },
        fallback: Fallback::Value("50"),
        about: "Requests to each route in a second, from all clients together; beyond it they are refused (429).",
    };
    pub(crate) const TIMEOUT: Key = Key {
        name: "timeout",
        kind: time(Duration::from_millis(100), Duration::from_secs(60)),
        fallback: Fallback::Value(r#""10s""#),
        about: "How long a client waits at most: then it is told 503 when nothing was done, else 504.",
    };
    pub(crate) const PUSHED: Key = Key {
        name: "pushed",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Whether pushed functions may have routes here.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "http.route",
        form: Form::List,
        keys: &[&PATH, &AUTH, &TOKENS_FILE, &USERS, &MAX_BODY, &PER_SECOND, &TIMEOUT, &PUSHED],
    };
}
