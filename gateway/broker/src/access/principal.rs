//! Who a client is, as far as it has been proved.

use std::fmt;
use std::sync::Arc;

/// A client whose login was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Principal {
    /// The client identifier. The client chose it, unless the owner of the broker insists on
    /// one.
    pub client: Arc<str>,
    /// The name it has logged in with; `None` for an anonymous client.
    pub user: Option<Arc<str>>,
    /// What its certificate says, when it has shown one and it was verified.
    pub certificate: Option<Arc<CertificateFields>>,
    /// The listener that it came through.
    pub listener: Arc<str>,
}

/// The fields of a verified client certificate that rules may speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateFields {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// DNS names of the subject alternative name.
    pub dns_names: Vec<String>,
    /// URIs of the subject alternative name.
    pub uris: Vec<String>,
    /// Addresses (rfc822Name) of the subject alternative name.
    pub emails: Vec<String>,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    pub fingerprint: String,
}

/// A value that a rule's topics may have in them, written `${client}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// The client identifier.
    Client,
    /// The user's name.
    Username,
    /// The certificate's common name.
    CommonName,
    /// Each DNS name of the certificate.
    DnsName,
    /// Each URI of the certificate.
    Uri,
    /// Each address of the certificate.
    Email,
    /// The certificate's SHA-256.
    Fingerprint,
}

impl Variable {
    /// All of them.
    pub const ALL: [Variable; 7] = [
        Variable::Client,
        Variable::Username,
        Variable::CommonName,
        Variable::DnsName,
        Variable::Uri,
        Variable::Email,
        Variable::Fingerprint,
    ];

    /// As it is written between `${` and `}`.
    pub fn name(self) -> &'static str {
        match self {
            Variable::Client => "client",
            Variable::Username => "username",
            Variable::CommonName => "cert.cn",
            Variable::DnsName => "cert.san.dns",
            Variable::Uri => "cert.san.uri",
            Variable::Email => "cert.san.email",
            Variable::Fingerprint => "cert.fingerprint",
        }
    }

    pub(super) fn values(self, principal: &Principal) -> Vec<&str> {
        let certificate = principal.certificate.as_deref();
        let many = |list: fn(&CertificateFields) -> &Vec<String>| {
            certificate.map(list).into_iter().flatten().map(String::as_str).collect()
        };
        match self {
            Variable::Client => vec![&*principal.client],
            Variable::Username => principal.user.as_deref().into_iter().collect(),
            Variable::CommonName => {
                certificate.and_then(|fields| fields.common_name.as_deref()).into_iter().collect()
            }
            Variable::DnsName => many(|fields| &fields.dns_names),
            Variable::Uri => many(|fields| &fields.uris),
            Variable::Email => many(|fields| &fields.emails),
            Variable::Fingerprint => {
                certificate.map(|fields| fields.fingerprint.as_str()).into_iter().collect()
            }
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}}}", self.name())
    }
}
