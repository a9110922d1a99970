//! What a client's certificate says of the client: a walk over its DER, as far as the names.
//!
//! The certificate has been verified before by webpki; what cannot be read here has no names.

use rustls::pki_types::CertificateDer;
use tidegate_broker::access::CertificateFields;

/// What in a certificate is the user's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The subject's common name.
    CommonName,
    /// The first DNS name of the subject alternative name.
    DnsName,
    /// The first URI there.
    Uri,
    /// The first e-mail address there.
    Email,
}

impl Identity {
    /// The name in these fields.
    pub(crate) fn of(self, fields: &CertificateFields) -> Option<&str> {
        match self {
            Identity::CommonName => fields.common_name.as_deref(),
            Identity::DnsName => fields.dns_names.first().map(String::as_str),
            Identity::Uri => fields.uris.first().map(String::as_str),
            Identity::Email => fields.emails.first().map(String::as_str),
        }
    }
}

/// Names of one kind that are kept.
const MAX_NAMES: usize = 16;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const UTF8: u8 = 0x0C;
const PRINTABLE: u8 = 0x13;
const IA5: u8 = 0x16;
/// `[0]`, the version; `[3]`, the extensions.
const VERSION: u8 = 0xA0;
const EXTENSIONS: u8 = 0xA3;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.17
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1D, 0x11];

/// The names in a certificate.
pub(crate) fn fields(certificate: &CertificateDer<'_>) -> CertificateFields {
    let mut fields = CertificateFields::default();
    // What was found before something unreadable stays.
    let _ = read(certificate.as_ref(), &mut fields);
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate.as_ref());
    fields.fingerprint = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    fields
}

fn read(der: &[u8], fields: &mut CertificateFields) -> Option<()> {
    let mut certificate = Der(der).enter(SEQUENCE)?;
    let mut tbs = certificate.enter(SEQUENCE)?;
    tbs.skip_if(VERSION);
    for _serial_algorithm_issuer_validity in 0..4 {
        tbs.next()?;
    }
    let subject = tbs.enter(SEQUENCE)?;
    fields.common_name = common_name(subject);
    let _public_key = tbs.next()?;
    while let Some((tag, content)) = tbs.next() {
        if tag == EXTENSIONS {
            alternative_names(Der(content).enter(SEQUENCE)?, fields);
        }
    }
    Some(())
}

/// The common name, when there is exactly one: of several, nobody could tell which counts.
fn common_name(mut subject: Der<'_>) -> Option<String> {
    let mut found = None;
    while let Some(mut set) = subject.enter(SET) {
        while let Some(mut attribute) = set.enter(SEQUENCE) {
            if attribute.expect(OBJECT)? != COMMON_NAME {
                continue;
            }
            let (tag, value) = attribute.next()?;
            let name = matches!(tag, UTF8 | PRINTABLE | IA5).then(|| text(value))??;
            if found.replace(name).is_some() {
                return None;
            }
        }
    }
    found
}

fn alternative_names(mut extensions: Der<'_>, fields: &mut CertificateFields) -> Option<()> {
    while let Some(mut extension) = extensions.enter(SEQUENCE) {
        if extension.expect(OBJECT)? != SUBJECT_ALT_NAME {
            continue;
        }
        extension.skip_if(BOOLEAN);
        let mut names = Der(extension.expect(OCTETS)?).enter(SEQUENCE)?;
        while let Some((tag, value)) = names.next() {
            // GeneralName of RFC 5280: [1] rfc822Name, [2] dNSName, [6] URI.
            let list = match tag {
                0x81 => &mut fields.emails,
                0x82 => &mut fields.dns_names,
                0x86 => &mut fields.uris,
                _ => continue,
            };
            if let Some(name) = text(value)
                && list.len() < MAX_NAMES
            {
                list.push(name);
            }
        }
    }
    Some(())
}

/// Text that somebody may read in a log.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Elements of DER one after another.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element, with its tag.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn enter(&mut self, tag: u8) -> Option<Der<'a>> {
        self.expect(tag).map(Der)
    }

    fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn sensor() -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(include_bytes!("testdata/sensor.pem")).unwrap()
    }

    #[test]
    fn names_are_those_that_openssl_put_in() {
        let fields = fields(&sensor());
        assert_eq!(fields.common_name.as_deref(), Some("sensor-1"));
        assert_eq!(fields.dns_names, ["sensor-1.plant.example", "s1.plant.example"]);
        assert_eq!(fields.uris, ["urn:dev:sensor-1"]);
        assert_eq!(fields.emails, ["sensor-1@plant.example"]);
        assert_eq!(fields.fingerprint, include_str!("testdata/sensor.sha256").trim());
        assert_eq!(Identity::CommonName.of(&fields), Some("sensor-1"));
        assert_eq!(Identity::DnsName.of(&fields), Some("sensor-1.plant.example"));
        assert_eq!(Identity::Uri.of(&fields), Some("urn:dev:sensor-1"));
        assert_eq!(Identity::Email.of(&fields), Some("sensor-1@plant.example"));
    }

    #[test]
    fn two_common_names_are_none() {
        let two = include_bytes!("testdata/two-names.pem");
        let fields = fields(&CertificateDer::from_pem_slice(two).unwrap());
        assert_eq!(fields.common_name, None);
    }

    #[test]
    fn no_bytes_make_the_walk_panic() {
        let der = sensor();
        let der = der.as_ref();
        for end in 0..der.len() {
            fields(&CertificateDer::from(der[..end].to_vec()));
        }
        for at in 0..der.len() {
            for value in [0, 0x30, 0x7F, 0x80, 0x84, 0xFF] {
                let mut changed = der.to_vec();
                changed[at] = value;
                fields(&CertificateDer::from(changed));
            }
        }
    }
}
