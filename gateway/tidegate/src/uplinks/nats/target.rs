//! Where a NATS uplink goes: read once from the configuration, with every mistake reported.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::super::tls::{Authorities, client_config};
use super::super::url::{Scheme, Shape, Url, masked};
use super::super::{TargetError, TlsFiles};
use super::login::Login;

/// What a NATS server's URL looks like.
const SHAPE: Shape = Shape {
    schemes: &[
        Scheme { name: "nats", tls: false, port: 4222 },
        Scheme { name: "tls", tls: true, port: 4222 },
    ],
    path: false,
    example: "write \"nats://HOST:PORT\" or \"tls://USER:PASSWORD@HOST:PORT\"",
};

/// The settings of one NATS uplink besides its URL.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Certificates and keys, with `tls`.
    pub tls: TlsFiles,
    /// JWT and seed, or the seed of an nkey.
    pub credentials_file: Option<PathBuf>,
    /// Time without traffic after which the server is asked whether it is there. Default 30 s.
    pub keep_alive: Duration,
    /// Time from name resolution to a session that may publish. Default 10 s.
    pub connect_timeout: Duration,
}

impl Default for NatsOptions {
    fn default() -> NatsOptions {
        NatsOptions {
            tls: TlsFiles::default(),
            credentials_file: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
        }
    }
}

/// A server, and how to log in there. Shows itself without the password.
#[derive(Clone)]
pub struct NatsTarget {
    url: Url,
    tls: Option<Arc<ClientConfig>>,
    login: Login,
    pub(super) gateway: String,
    client_name: String,
    keep_alive: Duration,
    connect_timeout: Duration,
}

impl NatsTarget {
    /// Reads `nats://[user:password@]host[:port]`, `nats://token@host` or `tls://...`, and the
    /// files that the options name.
    ///
    /// # Errors
    /// All mistakes, each with its key and value.
    pub fn parse(
        gateway: &str,
        uplink: &str,
        url: &str,
        options: NatsOptions,
    ) -> Result<NatsTarget, Vec<TargetError>> {
        let mut mistakes = Vec::new();
        let url = match Url::parse(url, &SHAPE) {
            Ok(url) => url,
            Err(why) => {
                mistakes.push(TargetError { key: "url", value: masked(url), why, later: false });
                return Err(mistakes);
            }
        };
        let tls = if url.scheme.tls {
            client_config("tls", host(&url), &options.tls, Authorities::Named, &mut mistakes)
        } else {
            options.tls.refuse("nats", "tls", &mut mistakes);
            None
        };
        let login = login(&url, &options, &mut mistakes);
        match login {
            Some(login) if mistakes.is_empty() => Ok(NatsTarget {
                url,
                tls,
                login,
                gateway: gateway.to_owned(),
                client_name: format!("tidegate-{gateway}-{uplink}"),
                keep_alive: options.keep_alive,
                connect_timeout: options.connect_timeout,
            }),
            Some(_) | None => Err(mistakes),
        }
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.url.host, self.url.port)
    }

    pub(super) fn host_and_port(&self) -> (&str, u16) {
        (host(&self.url), self.url.port)
    }

    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    pub(super) fn login(&self) -> &Login {
        &self.login
    }

    pub(super) fn client_name(&self) -> &str {
        &self.client_name
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.keep_alive
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }
}

impl fmt::Display for NatsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.url.login {
            // What stands alone before the @ is a token, and as secret as a password.
            Some((_, password)) if password.is_empty() => {
                let Url { scheme, host, port, .. } = &self.url;
                write!(f, "{}://***@{host}:{port}", scheme.name)
            }
            Some(_) | None => self.url.fmt(f),
        }
    }
}

impl fmt::Debug for NatsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsTarget({self}, {}, {:?})", self.client_name, self.login)
    }
}

/// Without the brackets of an IPv6 address.
fn host(url: &Url) -> &str {
    url.host.trim_start_matches('[').trim_end_matches(']')
}

fn login(url: &Url, options: &NatsOptions, mistakes: &mut Vec<TargetError>) -> Option<Login> {
    let wrong = |why: String| {
        let file = options.credentials_file.as_deref().unwrap_or_else(|| "".as_ref());
        TargetError {
            key: "credentials_file",
            value: file.display().to_string(),
            why,
            later: false,
        }
    };
    match (&url.login, &options.credentials_file) {
        (None, None) => Some(Login::Anonymous),
        (Some((token, password)), None) if password.is_empty() => Some(Login::Token(token.clone())),
        (Some((user, password)), None) => {
            Some(Login::Password { user: user.clone(), password: password.clone() })
        }
        (None, Some(file)) => {
            let unread = |why| TargetError { later: true, ..wrong(why) };
            Login::from_file(file).map_err(|why| mistakes.push(unread(why))).ok()
        }
        (Some(_), Some(_)) => {
            let why = "the url has a login too; leave one of them out".to_owned();
            mistakes.push(wrong(why));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, options: NatsOptions) -> Result<NatsTarget, Vec<TargetError>> {
        NatsTarget::parse("gw-01", "cloud", url, options)
    }

    #[test]
    fn urls_are_read_with_their_login_and_shown_without_it() {
        let accepted = [
            ("nats://h", "nats://h:4222", "Anonymous"),
            ("nats://[::1]:9", "nats://[::1]:9", "Anonymous"),
            ("nats://bob:secret@h:1", "nats://bob:***@h:1", "Password"),
            ("nats://secret@h", "nats://***@h:4222", "Token"),
        ];
        for (text, shown, login) in accepted {
            let target = parse(text, NatsOptions::default()).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(format!("{:?}", target.login), login, "{text}");
            assert!(!format!("{target:?}").contains("secret"), "{target:?}");
        }
        let target = parse("nats://[::1]:9", NatsOptions::default()).unwrap();
        assert_eq!((target.host_and_port(), &*target.address()), (("::1", 9), "[::1]:9"));
    }

    #[test]
    fn every_mistake_is_reported_with_its_key() {
        let file = |name: &str| Some(PathBuf::from(name));
        let with = |credentials: Option<PathBuf>, ca: Option<PathBuf>| NatsOptions {
            credentials_file: credentials,
            tls: TlsFiles { ca_file: ca, ..TlsFiles::default() },
            ..NatsOptions::default()
        };
        let cases = [
            ("mqtt://u:secret@h", with(None, None), vec!["url"]),
            ("nats://h/path", with(None, None), vec!["url"]),
            ("nats://secret@h/path", with(None, None), vec!["url"]),
            ("nats://secret@h:0", with(None, None), vec!["url"]),
            ("secret@h", with(None, None), vec!["url"]),
            ("tls://h", with(None, None), vec!["ca_file"]),
            ("nats://h", with(None, file("/ca.pem")), vec!["ca_file"]),
            ("tls://h", with(file("/nowhere.creds"), None), vec!["ca_file", "credentials_file"]),
            ("nats://u:secret@h", with(file("/x.creds"), None), vec!["credentials_file"]),
        ];
        for (url, options, keys) in cases {
            let mistakes = parse(url, options).unwrap_err();
            let found: Vec<_> = mistakes.iter().map(|mistake| mistake.key).collect();
            assert_eq!(found, keys, "{url}");
            assert!(!format!("{mistakes:?}").contains("secret"), "{mistakes:?}");
        }
    }
}
