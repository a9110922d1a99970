//! What goes wrong with a server, in sentences for the operator, without secrets.

use std::io;

use super::jetstream::cleaned;

/// What it means that the server ended TLS because of the certificate that we showed, or did not
/// show. In TLS 1.3 it does that after our side of the handshake is done.
pub(super) fn certificate_refused(at: &str, error: &io::Error) -> Option<String> {
    use rustls::AlertDescription as Alert;
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::AlertReceived(alert) = error else { return None };
    let ours = [
        Alert::BadCertificate,
        Alert::UnsupportedCertificate,
        Alert::CertificateRevoked,
        Alert::CertificateExpired,
        Alert::CertificateUnknown,
        Alert::UnknownCA,
        Alert::CertificateRequired,
    ];
    ours.contains(alert).then(|| {
        format!(
            "{at} does not accept the gateway's certificate, or misses one ({alert:?}); check \
             cert_file and key_file"
        )
    })
}

/// Why a server cannot be reached.
pub(super) fn unreachable(at: &str, error: &io::Error) -> String {
    if let Some(why) = certificate_refused(at, error) {
        return why;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{at} refuses connections: nothing listens there, or a firewall forbids it")
        }
        // Resolver failures have no kind of their own in std.
        _ if error.to_string().contains("failed to lookup address") => {
            format!("the name in {at} cannot be resolved: {error}")
        }
        _ => format!("cannot reach {at}: {error}"),
    }
}

/// What a complaint of the server means, while a session is opened.
pub(super) fn complaint(at: &str, said: &str) -> String {
    let said = cleaned(said);
    let lower = said.to_ascii_lowercase();
    if lower.contains("authorization violation") {
        format!("{at} does not accept the login; check user, password, token or credentials_file")
    } else if lower.contains("permissions violation") {
        format!("{at} does not permit what is needed: {said}; see docs/formats/nats-sink.md")
    } else {
        format!("{at} complains: {said}")
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn refused_certificate_is_told_from_a_server_that_is_not_there() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        for refused in [AlertDescription::BadCertificate, AlertDescription::CertificateRequired] {
            let why = unreachable("h:1", &alert(refused));
            assert!(why.starts_with("h:1 does not accept the gateway's certificate"), "{why}");
            assert!(why.contains(&format!("{refused:?}")) && why.contains("cert_file"), "{why}");
        }
        let why = unreachable("h:1", &alert(AlertDescription::InternalError));
        assert!(why.starts_with("cannot reach h:1: "), "{why}");
        let why = unreachable("h:1", &io::ErrorKind::ConnectionRefused.into());
        assert!(why.contains("nothing listens there"), "{why}");
    }
}
