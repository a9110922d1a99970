//! A server that speaks HTTP, as the configuration names it.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::uplinks::tls::{Authorities, client_config};
use crate::uplinks::url::Url;
use crate::uplinks::{TargetError, TlsFiles};

/// Longest path.
const MAX_PATH: usize = 1_024;

/// See the module.
#[derive(Clone)]
pub(in crate::uplinks) struct Origin {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    host: String,
    port: u16,
    /// The name in its certificate and our settings for TLS; `None` for plain HTTP.
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Origin {
    /// The server of `url`, under the name `host` (the bucket may be part of it). Takes the
    /// system's authorities when the files name none.
    pub(in crate::uplinks) fn new(
        url: &Url,
        host: &str,
        files: &TlsFiles,
        mistakes: &mut Vec<TargetError>,
    ) -> Option<Origin> {
        let port = url.port;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !url.scheme.tls {
            let name = url.scheme.name;
            files.refuse(name, &name.replace("http", "https"), mistakes);
            return Some(Origin { host: bare, port, tls: None });
        }
        let config = client_config(url.scheme.name, host, files, Authorities::System, mistakes)?;
        let Ok(name) = ServerName::try_from(bare.clone()) else {
            let why = format!("\"{host}\" cannot be the name in a certificate");
            mistakes.push(TargetError { key: "url", value: url.to_string(), why, later: false });
            return None;
        };
        Some(Origin { host: bare, port, tls: Some((name, config)) })
    }

    /// For the resolver.
    pub(super) fn socket(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    pub(super) fn tls(&self) -> Option<&(ServerName<'static>, Arc<ClientConfig>)> {
        self.tls.as_ref()
    }

    /// For the header `host`: without the port that the scheme implies.
    pub(in crate::uplinks) fn authority(&self) -> String {
        let implied = if self.tls.is_some() { 443 } else { 80 };
        if self.port == implied { self.bracketed() } else { self.address() }
    }

    /// `host:port`, for messages.
    pub(in crate::uplinks) fn address(&self) -> String {
        format!("{}:{}", self.bracketed(), self.port)
    }

    /// Whether somebody on the way could read what is sent.
    #[cfg(feature = "sink-http")]
    pub(in crate::uplinks) fn is_exposed(&self) -> bool {
        let loopback = match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host == "localhost",
        };
        self.tls.is_none() && !loopback
    }

    fn bracketed(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// What must hold for the URL of any sink over HTTP: no login, and a path as RFC 3986 allows it.
/// The path comes back without a slash at its end.
///
/// # Errors
/// What is wrong, in words that fit behind the URL, and nothing of a password.
pub(in crate::uplinks) fn checked_path<'a>(url: &'a Url, keys: &str) -> Result<&'a str, String> {
    if url.login.is_some() {
        return Err(format!("must not hold a login; write it to a file and name that in {keys}"));
    }
    let path = url.path.trim_end_matches('/');
    if path.len() > MAX_PATH {
        return Err(format!("the path is longer than {MAX_PATH} characters"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:%".contains(&byte);
    match path.bytes().find(|byte| !plain(*byte)) {
        None => Ok(path),
        Some(byte) => Err(format!(
            "the path holds {:?}; write it percent-encoded (%{byte:02X})",
            char::from(byte)
        )),
    }
}
