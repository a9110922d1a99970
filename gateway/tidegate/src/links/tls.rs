//! TLS of the listeners: rustls with ring, from PEM files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};

use super::refused_certificate::Watching;
use crate::secret::read_closed;

/// Largest private key file.
const MAX_KEY: u64 = 64 * 1024;

/// What `[mqtt.tls]` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Our certificate chain.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// Authorities of the clients' certificates.
    pub client_ca_file: Option<PathBuf>,
    /// Revocation lists.
    pub crl_file: Option<PathBuf>,
    /// Clients without a certificate are refused.
    pub certificate_required: bool,
    /// TLS 1.2 is not spoken.
    pub only_tls13: bool,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsProblem {
    /// The key of `[mqtt.tls]` that names it.
    pub(crate) key: &'static str,
    /// What is wrong.
    pub(crate) why: String,
}

impl fmt::Display for TlsProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mqtt.tls.{}: {}", self.key, self.why)
    }
}

/// TLS as it is set up at the moment.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Judges clients' certificates.
    pub(crate) verifier: Option<Arc<Watching>>,
}

impl TlsFiles {
    /// All files, for noticing that one has changed.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let named = [Some(&self.cert_file), Some(&self.key_file)];
        let optional = [self.client_ca_file.as_ref(), self.crl_file.as_ref()];
        named.into_iter().chain(optional).flatten().map(PathBuf::as_path)
    }
}

/// Reads all files and puts TLS together.
///
/// # Errors
/// Everything that is wrong with them.
pub(crate) fn load_tls(files: &TlsFiles) -> Result<Tls, Vec<TlsProblem>> {
    let mut problems = Vec::new();
    let mut note = |problem: TlsProblem| problems.push(problem);
    let chain = certificates("cert_file", &files.cert_file).map_err(&mut note).ok();
    let key = private_key(&files.key_file).map_err(&mut note).ok();
    let verifier = match &files.client_ca_file {
        None => Some(None),
        Some(file) => client_verifier(files, file).map_err(&mut note).ok().map(Some),
    };
    let (Some(chain), Some(key), Some(verifier)) = (chain, key, verifier) else {
        return Err(problems);
    };
    let config = server_config(files, verifier.clone(), chain, key).map_err(|error| {
        let why = format!("{} cannot be used: {error}", files.cert_file.display());
        vec![TlsProblem { key: "cert_file", why }]
    })?;
    Ok(Tls { config: Arc::new(config), verifier })
}

fn server_config(
    files: &TlsFiles,
    verifier: Option<Arc<Watching>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] =
        if files.only_tls13 { &[&version::TLS13] } else { &[&version::TLS13, &version::TLS12] };
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions)?;
    let with_certificates = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if with_certificates {
        // A session that is taken up again shows no certificate, so that one which has expired
        // or been revoked meanwhile would still count.
        config.send_tls13_tickets = 0;
    } else {
        // The state is with the client, encrypted: it costs no memory here.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        config.send_tls13_tickets = 1;
    }
    Ok(config)
}

fn client_verifier(files: &TlsFiles, ca_file: &Path) -> Result<Arc<Watching>, TlsProblem> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates("client_ca_file", ca_file)?);
    if usable == 0 {
        let why = format!("{} holds no usable certificate", ca_file.display());
        return Err(TlsProblem { key: "client_ca_file", why });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(file) = &files.crl_file {
        builder = builder.with_crls(revocation_lists(file)?);
    }
    if !files.certificate_required {
        builder = builder.allow_unauthenticated();
    }
    let inner: Arc<dyn ClientCertVerifier> = builder.build().map_err(|error| {
        let key = if files.crl_file.is_some() { "crl_file" } else { "client_ca_file" };
        TlsProblem { key, why: format!("cannot be used: {error}") }
    })?;
    Ok(Arc::new(Watching::new(inner)))
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsProblem> {
    let shown = file.display();
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsProblem { key, why: format!("{shown} cannot be read: {error}") })?;
    if found.is_empty() {
        let why = format!("{shown} holds no certificate (no -----BEGIN CERTIFICATE-----)");
        return Err(TlsProblem { key, why });
    }
    Ok(found)
}

fn revocation_lists(file: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsProblem> {
    let (key, shown) = ("crl_file", file.display());
    let found = CertificateRevocationListDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| TlsProblem { key, why: format!("{shown} cannot be read: {error}") })?;
    if found.is_empty() {
        let why = format!("{shown} holds no revocation list (no -----BEGIN X509 CRL-----)");
        return Err(TlsProblem { key, why });
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsProblem> {
    let (key, shown) = ("key_file", file.display());
    let pem = read_closed(file, MAX_KEY)
        .map_err(|why| TlsProblem { key, why: format!("{shown} {why}") })?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| {
        let why = format!("{shown} holds no private key that can be read: {error}");
        TlsProblem { key, why }
    })
}
