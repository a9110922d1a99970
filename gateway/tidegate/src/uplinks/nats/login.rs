//! How the gateway shows a NATS server who it is: nothing, user and password, a token, or a key
//! (an "nkey", Ed25519) that signs the server's nonce, with a JWT or without.
//!
//! Keys and JWTs come from a file, as `nsc` and `nk` write them: either a *creds* file with both,
//! in blocks between dashed lines, or a file with the seed of an nkey alone. A seed is base32 text
//! that begins with `SU`: two bytes that say what it is, 32 bytes of key, a checksum.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use serde::Serialize;

/// Longest credentials file that is read.
const MAX_FILE: u64 = 64 * 1024;
/// First bits of a seed, and of a user's key.
const SEED: u8 = 18 << 3;
const USER: u8 = 20 << 3;
/// PKCS #8 around the 32 bytes of an Ed25519 key (RFC 8410).
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Shows itself without the secrets.
#[derive(Clone, Default)]
pub(super) enum Login {
    #[default]
    Anonymous,
    Password {
        user: String,
        password: String,
    },
    Token(String),
    Key {
        key: Arc<dyn SigningKey>,
        /// As text: `U...`.
        public: String,
        jwt: Option<String>,
    },
}

/// The fields of CONNECT that a login fills.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sig: Option<String>,
}

impl Login {
    /// Reads a creds file, or the seed of an nkey.
    ///
    /// # Errors
    /// What is wrong with the file; its content is not shown.
    pub(super) fn from_file(file: &Path) -> Result<Login, String> {
        let bytes = std::fs::metadata(file).and_then(|metadata| {
            let fits = metadata.len() <= MAX_FILE;
            fits.then(|| std::fs::read(file)).transpose()
        });
        let text = match bytes {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "is no text".to_owned())?,
            Ok(None) => return Err(format!("is longer than {MAX_FILE} bytes")),
            Err(error) => return Err(format!("cannot be read: {error}")),
        };
        Login::from_text(&text)
    }

    fn from_text(text: &str) -> Result<Login, String> {
        let jwt = block(text, "JWT");
        let seed = match block(text, "SEED") {
            Some(seed) => Some(seed),
            None if jwt.is_none() => text.lines().map(str::trim).find(|line| !line.is_empty()),
            None => None,
        };
        let seed = seed.ok_or("holds no seed of an nkey (a line that begins with SU)")?;
        let seed = seed_bytes(seed)?;
        let pkcs8 = PrivatePkcs8KeyDer::from([PKCS8_HEAD.as_slice(), &seed].concat());
        let key = rustls::crypto::ring::sign::any_eddsa_type(&pkcs8)
            .map_err(|error| format!("holds no usable key: {error}"))?;
        let public = key.public_key().ok_or("holds a key without its public half")?;
        // An Ed25519 public key is the last 32 bytes of its SubjectPublicKeyInfo (RFC 8410).
        let public = public.last_chunk::<32>().ok_or("holds a key that is not Ed25519")?;
        let public = show_public(public);
        Ok(Login::Key { key, public, jwt: jwt.map(str::to_owned) })
    }

    /// What CONNECT says, with an answer to the server's nonce.
    ///
    /// # Errors
    /// The server gave nothing to sign.
    pub(super) fn fields(&self, nonce: Option<&str>) -> Result<Fields, String> {
        Ok(match self {
            Login::Anonymous => Fields::default(),
            Login::Password { user, password } => Fields {
                user: Some(user.clone()),
                pass: Some(password.clone()),
                ..Fields::default()
            },
            Login::Token(token) => Fields { auth_token: Some(token.clone()), ..Fields::default() },
            Login::Key { key, public, jwt } => {
                let nonce = nonce.ok_or("gave no nonce: it does not know logins by key")?;
                let signer = key
                    .choose_scheme(&[SignatureScheme::ED25519])
                    .ok_or("cannot be answered: the key does not sign")?;
                let signature = signer.sign(nonce.as_bytes()).map_err(|error| error.to_string())?;
                Fields {
                    nkey: jwt.is_none().then(|| public.clone()),
                    jwt: jwt.clone(),
                    sig: Some(crate::base64::encode_for_url(&signature)),
                    ..Fields::default()
                }
            }
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Anonymous => "Anonymous",
            Login::Password { .. } => "Password",
            Login::Token(_) => "Token",
            Login::Key { jwt: None, .. } => "Key",
            Login::Key { jwt: Some(_), .. } => "Key with JWT",
        })
    }
}

/// The line below `-----BEGIN ... NAME-----`.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begins = |line: &&str| {
        let inner = line.trim().trim_matches('-');
        inner.starts_with("BEGIN ") && inner.ends_with(name)
    };
    let mut lines = text.lines();
    lines.find(begins)?;
    lines.map(str::trim).find(|line| !line.is_empty())
}

fn seed_bytes(text: &str) -> Result<[u8; 32], String> {
    let raw = base32(text).ok_or("holds a seed that is not base32")?;
    let Some((body, checksum)) = raw.split_last_chunk::<2>() else {
        return Err("holds a seed that is too short".to_owned());
    };
    if crc16(body) != u16::from_le_bytes(*checksum) {
        return Err("holds a seed with a wrong checksum: a character is wrong or missing".into());
    }
    // Five bits say "seed", eight whose; the rest of the two bytes is zero.
    match body {
        [first, second, seed @ ..] if first & 0xf8 == SEED => {
            let whose = first << 5 | second >> 3;
            if whose != USER {
                return Err("holds the seed of something else than a user".to_owned());
            }
            seed.try_into().map_err(|_| "holds a seed that is not 32 bytes long".to_owned())
        }
        _ => Err("holds no seed (it begins with SU)".to_owned()),
    }
}

fn show_public(key: &[u8; 32]) -> String {
    let mut raw = vec![USER];
    raw.extend_from_slice(key);
    raw.extend_from_slice(&crc16(&raw).to_le_bytes());
    let mut text = String::new();
    for group in raw.chunks(5) {
        let mut bytes = [0; 8];
        bytes[3..3 + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(bytes);
        for at in 0..(group.len() * 8).div_ceil(5) {
            text.push(char::from(BASE32[(bits >> (35 - 5 * at) & 31) as usize]));
        }
    }
    text
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 without padding; bits that are left over are dropped.
fn base32(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.bytes() {
        let value = BASE32.iter().position(|known| *known == digit)?;
        bits = bits << 5 | value as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the documentation of NATS.
    const SEED_TEXT: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    /// Of "nonce", made with another implementation of Ed25519.
    const SIGNATURE: &str =
        "AVfpO7Pw3rc56hoO1OJcFxXUCfBmO2qouchBchSlL45Fuur9zS15UzytEI1QC5wwVG7uiHIdqyfmOS6uPrwqCg";

    fn login(text: &str) -> Result<Login, String> {
        Login::from_text(text)
    }

    #[test]
    fn key_signs_the_nonce_and_shows_its_public_half() {
        let fields = login(SEED_TEXT).unwrap().fields(Some("nonce")).unwrap();
        assert_eq!(fields.nkey.as_deref(), Some(PUBLIC));
        assert_eq!(fields.sig.as_deref(), Some(SIGNATURE));
        assert!(fields.jwt.is_none() && fields.user.is_none() && fields.auth_token.is_none());
        let why = login(SEED_TEXT).unwrap().fields(None).unwrap_err();
        assert!(why.contains("no nonce"), "{why}");
    }

    #[test]
    fn creds_file_gives_the_jwt_and_signs_with_its_seed() {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\neyJ0.eyJq.c2ln\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\
             -----BEGIN USER NKEY SEED-----\n{SEED_TEXT}\n------END USER NKEY SEED------\n"
        );
        let login = login(&text).unwrap();
        let fields = login.fields(Some("nonce")).unwrap();
        assert_eq!((fields.jwt.as_deref(), fields.nkey), (Some("eyJ0.eyJq.c2ln"), None));
        assert!(fields.sig.is_some());
        assert!(!format!("{login:?}").contains(SEED_TEXT));
    }

    #[test]
    fn broken_files_are_named_without_showing_what_they_hold() {
        let changed = SEED_TEXT.replace("SSL3", "SSL4");
        let jwt_only = "-----BEGIN NATS USER JWT-----\neyJ0\n------END NATS USER JWT------\n";
        let cases = [
            ("", "no seed"),
            (jwt_only, "no seed"),
            ("su!", "not base32"),
            ("SU", "too short"),
            (&changed, "checksum"),
        ];
        for (text, part) in cases {
            let why = login(text).unwrap_err();
            assert!(why.contains(part), "{why}");
            assert!(text.len() < 5 || !why.contains(&text[..5]), "{why}");
        }
        let why = Login::from_file(Path::new("/nowhere/user.creds")).unwrap_err();
        assert!(why.contains("cannot be read"), "{why}");
    }

    #[test]
    fn checksum_is_that_of_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(base32("MZXW6YTBOI"), Some(b"foobar".to_vec()));
    }
}
