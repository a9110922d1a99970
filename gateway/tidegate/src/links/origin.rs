//! Pages of the web that may open a WebSocket (RFC 6455, section 10.2).
//!
//! A browser lets every page open a WebSocket to every host, with the user's certificate if there
//! is one, and says in `Origin` whose page it is. Clients that are no browser mostly do not send
//! it, and could say what they like: they are not what this is about.

use crate::config::ListenerSettings;

/// The pages that a listener lets in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pages<'a> {
    pub(super) listed: &'a [String],
    /// A page that comes from this listener's own name is the operator's. Without TLS anybody can
    /// have a name of his point here (DNS rebinding), and without a login nothing else would
    /// keep his page out.
    pub(super) names: bool,
}

impl<'a> Pages<'a> {
    pub(super) fn of(listener: &'a ListenerSettings) -> Pages<'a> {
        Pages { listed: &listener.origins, names: listener.tls || !listener.allow_anonymous }
    }

    /// Whether a page of this origin may come in, when it has asked for `host`.
    pub(super) fn admit(self, origin: &[u8], host: Option<&[u8]>) -> bool {
        let listed = |one: &String| one == "*" || one.as_bytes().eq_ignore_ascii_case(origin);
        self.listed.iter().any(listed) || host.is_some_and(|host| self.is_own(origin, host))
    }

    /// Whether the page comes from the host and port that it asks, as clients say that make
    /// something up for the header.
    fn is_own(self, origin: &[u8], host: &[u8]) -> bool {
        let authority = origin.strip_prefix(b"http://").or(origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
            && (self.names || is_no_name(host))
    }
}

/// Whether nobody else can have this host point to the gateway.
fn is_no_name(host: &[u8]) -> bool {
    let host = host.to_ascii_lowercase();
    let Ok(host) = std::str::from_utf8(&host) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(origins: &[&str]) -> Vec<String> {
        origins.iter().map(|origin| (*origin).to_owned()).collect()
    }

    #[test]
    fn a_page_is_let_in_if_it_is_listed_or_from_the_same_host_and_port() {
        let listed = listed(&["https://dash.example", "http://hmi.local:8000"]);
        let pages = Pages { listed: &listed, names: true };
        for (origin, host, expected) in [
            ("https://dash.example", "gw:9001", true),
            ("HTTPS://Dash.Example", "gw:9001", true),
            ("http://dash.example", "gw:9001", false),
            ("https://dash.example:8443", "gw:9001", false),
            ("http://hmi.local:8000", "gw:9001", true),
            ("http://gw:9001", "gw:9001", true),
            ("https://gw", "GW", true),
            ("http://gw:8080", "gw:9001", false),
            ("http://evil.example", "gw:9001", false),
            ("null", "gw:9001", false),
            ("", "", false),
        ] {
            let admitted = pages.admit(origin.as_bytes(), Some(host.as_bytes()));
            assert_eq!(admitted, expected, "{origin} {host}");
        }
        assert!(!pages.admit(b"http://gw:9001", None));
    }

    #[test]
    fn without_login_and_tls_a_name_of_ones_own_is_no_proof() {
        let pages = Pages { listed: &[], names: false };
        for (host, expected) in [
            ("evil.example:9001", false),
            ("127.0.0.1.evil.example", false),
            ("localhost.evil.example:1", false),
            ("localhost:9001", true),
            ("192.0.2.7:9001", true),
            ("192.0.2.7", true),
            ("[2001:db8::1]:9001", true),
            ("[2001:db8::1]", true),
        ] {
            let origin = format!("http://{host}");
            let admitted = pages.admit(origin.as_bytes(), Some(host.as_bytes()));
            assert_eq!(admitted, expected, "{host}");
        }
    }

    #[test]
    fn a_star_lets_every_page_in() {
        let listed = listed(&["*"]);
        let pages = Pages { listed: &listed, names: false };
        assert!(pages.admit(b"null", None) && pages.admit(b"http://evil.example", Some(b"gw")));
    }
}
