//! Where an HTTPS uplink goes: read once from the configuration, with every mistake reported.

use std::fmt;
use std::path::{Path, PathBuf};

use tidegate_uplink::BodyFormat;

use crate::uplinks::url::{Scheme, Shape, Url, masked};
use crate::uplinks::web::{Origin, checked_path, read_secret};
use crate::uplinks::{TargetError, TlsFiles};

/// What the URL of an HTTPS sink looks like.
const SHAPE: Shape = Shape {
    schemes: &[
        Scheme { name: "https", tls: true, port: 443 },
        Scheme { name: "http", tls: false, port: 80 },
    ],
    path: true,
    example: "write \"https://HOST\" or \"https://HOST:PORT/PATH\"",
};

/// The settings of one HTTPS uplink besides its URL.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Certificates and keys; without `ca_file` those that the system trusts are trusted.
    pub tls: TlsFiles,
    /// A file with the bearer token; read again at each connection.
    pub token_file: Option<PathBuf>,
    /// How batches are written. Default CBOR.
    pub format: BodyFormat,
    /// Whether bodies are compressed with gzip. Default true.
    pub gzip: bool,
}

impl Default for HttpOptions {
    fn default() -> HttpOptions {
        HttpOptions {
            tls: TlsFiles::default(),
            token_file: None,
            format: BodyFormat::Cbor,
            gzip: true,
        }
    }
}

/// A server, and how to log in there.
#[derive(Clone)]
pub struct HttpTarget {
    url: Url,
    origin: Origin,
    /// What stands in front of `/v1/`.
    path: String,
    gateway: String,
    /// Names of the lanes upstream; known when the driver starts.
    lanes: Vec<String>,
    options: HttpOptions,
}

impl HttpTarget {
    /// Reads `https://host[:port][/path]` or `http://...`, and the files that the options name.
    ///
    /// # Errors
    /// All mistakes, each with its key and value.
    pub fn parse(
        gateway: &str,
        url: &str,
        options: HttpOptions,
    ) -> Result<HttpTarget, Vec<TargetError>> {
        let mut mistakes = Vec::new();
        let mut wrong = |why: String| {
            mistakes.push(TargetError { key: "url", value: masked(url), why, later: false });
        };
        let parsed = match Url::parse(url, &SHAPE) {
            Ok(parsed) => parsed,
            Err(why) => {
                wrong(why);
                return Err(mistakes);
            }
        };
        let path = match checked_path(&parsed, "token_file") {
            Ok(path) => path.to_owned(),
            Err(why) => {
                wrong(why);
                return Err(mistakes);
            }
        };
        let origin = Origin::new(&parsed, &parsed.host, &options.tls, &mut mistakes);
        if let (Some(file), Some(origin)) = (&options.token_file, &origin) {
            check_token(file, origin, &mut mistakes);
        }
        match origin {
            Some(origin) if mistakes.is_empty() => {
                let gateway = gateway.to_owned();
                Ok(HttpTarget { url: parsed, origin, path, gateway, lanes: Vec::new(), options })
            }
            Some(_) | None => Err(mistakes),
        }
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        self.origin.address()
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn authority(&self) -> String {
        self.origin.authority()
    }

    /// What stands in front of `/v1/`.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn gateway(&self) -> &str {
        &self.gateway
    }

    pub(super) fn with_lanes(self, lanes: &[String]) -> HttpTarget {
        HttpTarget { lanes: lanes.to_vec(), ..self }
    }

    pub(super) fn lanes(&self) -> &[String] {
        &self.lanes
    }

    pub(super) fn token_file(&self) -> Option<&Path> {
        self.options.token_file.as_deref()
    }

    pub(super) fn format(&self) -> BodyFormat {
        self.options.format
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.options.gzip
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for HttpTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpTarget({self}, {:?})", self.options)
    }
}

fn check_token(file: &Path, origin: &Origin, mistakes: &mut Vec<TargetError>) {
    let mut wrong = |why: String, later| {
        let value = file.display().to_string();
        mistakes.push(TargetError { key: "token_file", value, why, later });
    };
    if origin.is_exposed() {
        let why = "would send the token unprotected over http://; write https://";
        wrong(why.to_owned(), false);
    }
    if let Err(why) = read_secret(file) {
        wrong(why, true);
    }
}
