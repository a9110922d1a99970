//! URLs of upstreams: read strictly, and shown without their passwords.

use std::fmt;

/// Longest host name in DNS.
const MAX_HOST: usize = 253;

/// A scheme that a kind of sink takes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scheme {
    pub(super) name: &'static str,
    pub(super) tls: bool,
    /// The port of a URL that names none.
    pub(super) port: u16,
}

/// The URLs of one kind of sink.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) schemes: &'static [Scheme],
    /// Whether a path may follow the port.
    pub(super) path: bool,
    /// What to write, for messages.
    pub(super) example: &'static str,
}

/// The parts of a URL, percent-decoded where that applies.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Url {
    pub(super) scheme: &'static Scheme,
    pub(super) login: Option<(String, String)>,
    /// With brackets when it is an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
    /// From the `/` on, as written; empty when there is none.
    pub(super) path: String,
}

impl Url {
    /// Reads `SCHEME://[USER[:PASSWORD]@]HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// What is wrong with it, and what to write; without the login.
    pub(super) fn parse(text: &str, shape: &Shape) -> Result<Url, String> {
        let example = shape.example;
        let Some((name, rest)) = text.split_once("://") else {
            return Err(format!("has no scheme; {example}"));
        };
        let Some(scheme) = shape.schemes.iter().find(|scheme| scheme.name == name) else {
            let names: Vec<_> = shape.schemes.iter().map(|scheme| scheme.name).collect();
            return Err(format!("scheme \"{name}\" is not {}; {example}", names.join(" or ")));
        };
        let (login, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, rest)) => (Some(parse_login(login)?), rest),
        };
        if rest.contains(['?', '#']) {
            return Err(format!("must not have a ? or #; {example}"));
        }
        let (rest, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !shape.path && path.len() > 1 {
            return Err(format!("must end after the port; {example}"));
        }
        let path = if shape.path { path } else { "" };
        let (host, port) = split_host(rest, name)?;
        let port = match port {
            None => scheme.port,
            Some(port) => match port.parse::<u16>() {
                Ok(0) | Err(_) => {
                    return Err(format!("\"{port}\" is no port; allowed: 1 to 65535"));
                }
                Ok(port) => port,
            },
        };
        Ok(Url { scheme, login, host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// Without the password.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { scheme, login, host, port, path } = self;
        let scheme = scheme.name;
        match login {
            None => write!(f, "{scheme}://{host}:{port}{path}"),
            Some((user, _)) => write!(f, "{scheme}://{user}:***@{host}:{port}{path}"),
        }
    }
}

fn split_host<'a>(rest: &'a str, scheme: &str) -> Result<(&'a str, Option<&'a str>), String> {
    if rest.starts_with('[') {
        let end = rest.find(']').ok_or("has a [ without its ]")?;
        let (host, after) = rest.split_at(end + 1);
        let address = &host[1..end];
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("\"{address}\" is no IPv6 address"));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(format!("write the port after ]: \"{scheme}://[::1]:PORT\"")),
        };
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let fits = (1..=MAX_HOST).contains(&host.len());
    if fits && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        Ok((host, port))
    } else {
        Err(format!("\"{host}\" is no host name or address"))
    }
}

/// User and password lie in the URL with `%XX` for what would end them early.
fn parse_login(login: &str) -> Result<(String, String), String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decode = |text: &str, what: &str| {
        percent_decoded(text)
            .filter(|decoded| decoded.len() <= usize::from(u16::MAX))
            .ok_or_else(|| format!("the {what} has a % that is not %XX, or is no text"))
    };
    if user.is_empty() {
        return Err("has an empty user name before the @".to_owned());
    }
    Ok((decode(user, "user name")?, decode(password, "password")?))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The URL as it may be shown: whatever stands between scheme and `@` after a colon is hidden,
/// and all of it when there is no colon, because it may be a token; also when the URL is wrong
/// elsewhere.
pub(crate) fn masked(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    match rest.rsplit_once('@') {
        None => url.to_owned(),
        Some((login, host)) => {
            let shown = login
                .split_once(':')
                .map_or_else(|| "***".to_owned(), |(user, _)| format!("{user}:***"));
            format!("{scheme}{shown}@{host}")
        }
    }
}
