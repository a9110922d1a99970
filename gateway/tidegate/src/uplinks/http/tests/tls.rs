//! TLS: the right authority, another one, and a certificate of our own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::uplinks::TlsFiles;

/// Makes NAME.key and NAME.pem, valid for localhost; false, and a word, where openssl is missing.
fn certificate(dir: &Path, name: &str) -> bool {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(dir.join(format!("{name}.key")))
        .arg("-out")
        .arg(dir.join(format!("{name}.pem")))
        .output();
    let made = made.is_ok_and(|made| made.status.success());
    if !made {
        eprintln!("skipped: openssl is not installed (apt-get install openssl)");
    }
    made
}

/// A server that asks for the certificate `client` and answers each request with no cursors.
async fn serve(dir: &Path) -> u16 {
    let read = |name: &str| CertificateDer::from_pem_file(dir.join(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut clients = RootCertStore::empty();
    clients.add(read("client.pem")).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(clients), Arc::clone(&provider));
    let key = PrivateKeyDer::from_pem_file(dir.join("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![read("server.pem")], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listen().await;
    tokio::task::spawn_local(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let answer =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{NOTHING}", NOTHING.len());
            // The driver may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.flush().await;
        }
    });
    port
}

#[test]
fn tls_stands_with_the_right_authority_and_fails_with_another() {
    on_side_thread(async {
        let scratch = Scratch::new();
        let dir = scratch.path();
        if !["server", "client", "stranger"].iter().all(|name| certificate(dir, name)) {
            return;
        }
        let port = serve(dir).await;
        let driver = |authority: Option<&str>, identity: Option<&str>| {
            let tls = TlsFiles {
                ca_file: authority.map(|name| dir.join(format!("{name}.pem"))),
                cert_file: identity.map(|name| dir.join(format!("{name}.pem"))),
                key_file: identity.map(|name| dir.join(format!("{name}.key"))),
            };
            let url = format!("https://localhost:{port}");
            let options = HttpOptions { tls, ..options() };
            start(HttpTarget::parse("gw-01", &url, options).unwrap())
        };
        let mut right = driver(Some("server"), Some("client"));
        right.connect(1, 0).await;
        let event = right.event().await;
        assert!(matches!(event, UplinkEvent::Connected { session: 1, .. }), "{event:?}");

        let why = driver(Some("stranger"), Some("client")).failure(1).await;
        assert!(why.starts_with("TLS with localhost:") && why.contains("gateway's clock"), "{why}");
        let why = driver(None, Some("client")).failure(1).await;
        assert!(why.starts_with("TLS with localhost:"), "the system trusts it: {why}");
        // In TLS 1.3 the server refuses a client after the client's handshake is done.
        let why = driver(Some("server"), Some("stranger")).failure(1).await;
        assert!(why.contains("localhost:"), "{why}");
        let why = driver(Some("server"), None).failure(1).await;
        assert!(why.contains("localhost:"), "{why}");
    });
}
