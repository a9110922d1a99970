//! TLS of the uplinks: rustls with ring; certificates and keys from PEM files that the
//! configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::TargetError;

/// Files for TLS; all of them PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of the authorities that may have signed the server's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain, for servers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// The private key of `cert_file`.
    pub key_file: Option<PathBuf>,
}

impl TlsFiles {
    /// Without TLS they would be there for nothing.
    pub(super) fn refuse(&self, scheme: &str, tls: &str, mistakes: &mut Vec<TargetError>) {
        let files = [
            ("ca_file", &self.ca_file),
            ("cert_file", &self.cert_file),
            ("key_file", &self.key_file),
        ];
        for (key, file) in files {
            if let Some(file) = file {
                let why = format!("has no use with {scheme}://; write {tls}:// or leave it out");
                mistakes.push(TargetError {
                    key,
                    value: file.display().to_string(),
                    why,
                    later: false,
                });
            }
        }
    }
}

/// Whom to trust when the options name no `ca_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authorities {
    /// Nobody: the file must be named.
    Named,
    /// Those that the system trusts.
    #[cfg(feature = "web")]
    System,
}

/// The configuration for connections to `host`, from the files that the options name.
pub(super) fn client_config(
    scheme: &str,
    host: &str,
    files: &TlsFiles,
    authorities: Authorities,
    mistakes: &mut Vec<TargetError>,
) -> Option<Arc<ClientConfig>> {
    let roots = match (&files.ca_file, authorities) {
        (Some(file), _) => roots(file).map_err(|mistake| mistakes.push(mistake)).ok(),
        #[cfg(feature = "web")]
        (None, Authorities::System) => {
            system_roots().map_err(|mistake| mistakes.push(mistake)).ok()
        }
        (None, Authorities::Named) => {
            let why = format!(
                "is needed with {scheme}://: a PEM file with the certificate of the authority \
                 that signed the one of {host} (for a public one, often \
                 /etc/ssl/certs/ca-certificates.crt)"
            );
            mistakes.push(TargetError { key: "ca_file", value: String::new(), why, later: false });
            None
        }
    };
    let identity = match (&files.cert_file, &files.key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => match (certificates("cert_file", cert), private_key(key)) {
            (Ok(cert), Ok(key)) => Some((cert, key)),
            (cert, key) => {
                mistakes.extend(cert.err());
                mistakes.extend(key.err());
                return None;
            }
        },
        (Some(file), None) | (None, Some(file)) => {
            let key = if files.key_file.is_none() { "cert_file" } else { "key_file" };
            let why = "give cert_file and key_file, or neither".to_owned();
            mistakes.push(TargetError {
                key,
                value: file.display().to_string(),
                why,
                later: false,
            });
            return None;
        }
    };
    let roots = roots?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots))
        .and_then(|builder| match identity {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => builder.with_client_auth_cert(cert, key),
        });
    match config {
        Ok(config) => Some(Arc::new(config)),
        Err(error) => {
            let value = shown(files.cert_file.as_deref());
            let why = format!("cannot be used for TLS: {error}");
            mistakes.push(TargetError { key: "cert_file", value, why, later: true });
            None
        }
    }
}

fn roots(file: &Path) -> Result<RootCertStore, TargetError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates("ca_file", file)?);
    if usable > 0 {
        Ok(roots)
    } else {
        let why = "holds no usable certificate".to_owned();
        Err(TargetError { key: "ca_file", value: file.display().to_string(), why, later: true })
    }
}

#[cfg(feature = "web")]
fn system_roots() -> Result<RootCertStore, TargetError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable > 0 {
        return Ok(roots);
    }
    let errors = found.errors.iter().map(|error| format!(" ({error})")).next().unwrap_or_default();
    let why = format!(
        "the system has no authorities to trust{errors}; install ca-certificates, or name a PEM \
         file with the certificate of the server's authority"
    );
    Err(TargetError { key: "ca_file", value: String::new(), why, later: true })
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TargetError> {
    let wrong = |why: String| {
        let value = file.display().to_string();
        TargetError { key, value, why, later: true }
    };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(format!("cannot be read as PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate (no -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TargetError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TargetError {
        key: "key_file",
        value: file.display().to_string(),
        why: format!("holds no private key that can be read: {error}"),
        later: true,
    })
}

fn shown(file: Option<&Path>) -> String {
    file.map(|file| file.display().to_string()).unwrap_or_default()
}
