//! Where an S3 uplink goes: read once from the configuration, with every mistake reported.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use tidegate_uplink::BodyFormat;

use super::credentials::Credentials;
use super::object;
use crate::uplinks::url::{Scheme, Shape, Url, masked};
use crate::uplinks::web::{Origin, checked_path};
use crate::uplinks::{TargetError, TlsFiles};

/// What the URL of a bucket looks like.
const SHAPE: Shape = Shape {
    schemes: &[
        Scheme { name: "s3", tls: true, port: 443 },
        Scheme { name: "s3+https", tls: true, port: 443 },
        Scheme { name: "s3+http", tls: false, port: 80 },
    ],
    path: true,
    example: "write \"s3://BUCKET/PREFIX\" with region, or \"s3+https://HOST:PORT/BUCKET/PREFIX\" \
        for a compatible server",
};

/// Longest prefix: the rest of a key is at most 200 characters, and S3 allows 1,024.
const MAX_PREFIX: usize = 512;

/// The settings of one S3 uplink besides its URL.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// Region of the bucket; needed with `s3://`, else `us-east-1`.
    pub region: Option<String>,
    /// A file with the account's keys; without it they come from the environment.
    pub credentials_file: Option<PathBuf>,
    /// How the bucket is named. Default: by what the URL is.
    pub addressing: Option<Addressing>,
    /// Certificates; without `ca_file` those that the system trusts are trusted.
    pub tls: TlsFiles,
    /// How batches are written. Default NDJSON.
    pub format: BodyFormat,
    /// Whether objects are compressed with gzip. Default true.
    pub gzip: bool,
}

impl Default for S3Options {
    fn default() -> S3Options {
        S3Options {
            region: None,
            credentials_file: None,
            addressing: None,
            tls: TlsFiles::default(),
            format: BodyFormat::Ndjson,
            gzip: true,
        }
    }
}

/// Where the name of the bucket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addressing {
    /// `https://HOST/BUCKET/KEY`
    Path,
    /// `https://BUCKET.HOST/KEY`
    VirtualHost,
}

/// A bucket, and how to write there.
#[derive(Clone)]
pub struct S3Target {
    origin: Origin,
    gateway: String,
    bucket: String,
    /// Empty, or ends with a slash.
    prefix: String,
    region: String,
    /// What stands in front of the key: `/`, or `/BUCKET/`.
    root: String,
    options: S3Options,
}

impl S3Target {
    /// Reads `s3://bucket[/prefix]`, `s3+https://host[:port]/bucket[/prefix]` or `s3+http://...`,
    /// and the files that the options name.
    ///
    /// # Errors
    /// All mistakes, each with its key and value.
    pub fn parse(
        gateway: &str,
        url: &str,
        options: S3Options,
    ) -> Result<S3Target, Vec<TargetError>> {
        let mut mistakes = Vec::new();
        if let Err(why) = Credentials::read(options.credentials_file.as_deref()) {
            let value = options.credentials_file.as_ref().map(|file| file.display().to_string());
            let value = value.unwrap_or_default();
            mistakes.push(TargetError { key: "credentials_file", value, why, later: true });
        }
        let place = match Place::parse(url, &options) {
            Ok(place) => place,
            Err((key, why)) => {
                let region = options.region.clone().unwrap_or_default();
                let value = if key == "url" { masked(url) } else { region };
                mistakes.push(TargetError { key, value, why, later: false });
                return Err(mistakes);
            }
        };
        let Place { url, host, bucket, prefix, region, addressing } = place;
        let (host, root) = match addressing {
            Addressing::Path => (host, format!("/{bucket}/")),
            Addressing::VirtualHost => (format!("{bucket}.{host}"), "/".to_owned()),
        };
        match Origin::new(&url, &host, &options.tls, &mut mistakes) {
            Some(origin) if mistakes.is_empty() => {
                let gateway = gateway.to_owned();
                Ok(S3Target { origin, gateway, bucket, prefix, region, root, options })
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

    pub(super) fn gateway(&self) -> &str {
        &self.gateway
    }

    pub(super) fn bucket(&self) -> &str {
        &self.bucket
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }

    pub(super) fn credentials_file(&self) -> Option<&Path> {
        self.options.credentials_file.as_deref()
    }

    pub(super) fn format(&self) -> BodyFormat {
        self.options.format
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.options.gzip
    }

    /// The ending of an object's name.
    pub(super) fn extension(&self) -> String {
        let plain = self.options.format.extension();
        if self.options.gzip { format!("{plain}.gz") } else { plain.to_owned() }
    }

    /// The path of a key, encoded.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{}", self.root, object::encoded(key))
    }
}

impl fmt::Display for S3Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{} at {}", self.bucket, self.prefix, self.address())
    }
}

impl fmt::Debug for S3Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Target({self}, {:?})", self.options)
    }
}

/// What the URL and the region say.
struct Place {
    url: Url,
    host: String,
    bucket: String,
    prefix: String,
    region: String,
    addressing: Addressing,
}

/// A key and what is wrong with its value.
type Wrong = (&'static str, String);

impl Place {
    fn parse(text: &str, options: &S3Options) -> Result<Place, Wrong> {
        let wrong = |why: String| ("url", why);
        let url = Url::parse(text, &SHAPE).map_err(wrong)?;
        let path = checked_path(&url, "credentials_file").map_err(wrong)?.trim_start_matches('/');
        if url.scheme.name == "s3" {
            return Place::amazon(&url, path, options);
        }
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        let bucket = checked_bucket(bucket).map_err(wrong)?;
        let prefix = checked_prefix(prefix).map_err(wrong)?;
        let region = options.region.clone().unwrap_or_else(|| "us-east-1".to_owned());
        check_region(&region)?;
        let addressing = options.addressing.unwrap_or(Addressing::Path);
        let is_address = url.host.starts_with('[') || url.host.parse::<Ipv4Addr>().is_ok();
        if addressing == Addressing::VirtualHost && is_address {
            let why = "needs a host name with addressing = \"virtual-host\", not an address";
            return Err(wrong(why.to_owned()));
        }
        let host = url.host.clone();
        Ok(Place { url, host, bucket, prefix, region, addressing })
    }

    /// With `s3://` the bucket stands where the host does otherwise.
    fn amazon(url: &Url, path: &str, options: &S3Options) -> Result<Place, Wrong> {
        let wrong = |why: String| ("url", why);
        let bucket = checked_bucket(&url.host).map_err(wrong)?;
        let prefix = checked_prefix(path).map_err(wrong)?;
        let Some(region) = options.region.clone() else {
            let why = "is needed with s3://, for example region = \"eu-central-1\"";
            return Err(("region", why.to_owned()));
        };
        check_region(&region)?;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let host = format!("s3.{region}.{domain}");
        // The certificate *.s3.REGION.amazonaws.com covers no further dots.
        let by_name = if bucket.contains('.') { Addressing::Path } else { Addressing::VirtualHost };
        let addressing = options.addressing.unwrap_or(by_name);
        Ok(Place { url: url.clone(), host, bucket, prefix, region, addressing })
    }
}

fn checked_bucket(bucket: &str) -> Result<String, String> {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain) {
        Ok(bucket.to_owned())
    } else {
        Err(format!("\"{bucket}\" is no name of a bucket (3 to 63 of a-z 0-9 - .)"))
    }
}

/// Comes back empty or with a slash at its end.
fn checked_prefix(prefix: &str) -> Result<String, String> {
    let prefix = prefix.trim_matches('/');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/=".contains(&byte);
    if !prefix.bytes().all(plain) || prefix.contains("//") || prefix.len() > MAX_PREFIX {
        return Err(format!(
            "the prefix may hold at most {MAX_PREFIX} of A-Z a-z 0-9 - . _ ~ = and single slashes"
        ));
    }
    let slash = if prefix.is_empty() { "" } else { "/" };
    Ok(format!("{prefix}{slash}"))
}

fn check_region(region: &str) -> Result<(), Wrong> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if (1..=64).contains(&region.len()) && region.bytes().all(plain) {
        Ok(())
    } else {
        Err(("region", "is no region; allowed: 1 to 64 of A-Z a-z 0-9 -".to_owned()))
    }
}

#[cfg(test)]
mod tests;
