//! Keys and JWTs of NATS, for servers that know their users by what an operator has signed. Made by
//! hand: no tool for them is in Debian.
//!
//! A key as text is base32: a byte or two that say what it is, 32 bytes, a checksum. A JWT is the
//! usual one, signed with Ed25519.

use anyhow::{Result, anyhow};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

const SEED: u8 = 18 << 3;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Signs accounts.
    Operator,
    /// Signs users.
    Account,
    /// Logs in.
    User,
}

impl Kind {
    fn prefix(self) -> u8 {
        match self {
            Kind::Operator => 14 << 3,
            Kind::Account => 0,
            Kind::User => 20 << 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Operator => "operator",
            Kind::Account => "account",
            Kind::User => "user",
        }
    }
}

/// A key pair.
#[derive(Debug)]
pub struct Nkey {
    kind: Kind,
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Nkey {
    /// The key that `byte`, repeated, is the seed of: one for tests.
    ///
    /// # Errors
    /// None with a seed of the right length.
    pub fn of(kind: Kind, byte: u8) -> Result<Nkey> {
        let seed = [byte; 32];
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| anyhow!(error))?;
        Ok(Nkey { kind, seed, pair })
    }

    /// As text, the public half.
    pub fn public(&self) -> String {
        let key = self.pair.public_key();
        encode(&[&[self.kind.prefix()], key.as_ref()].concat())
    }

    /// As text, the secret.
    pub fn seed(&self) -> String {
        let kind = self.kind.prefix();
        encode(&[&[SEED | kind >> 5, kind << 3], &self.seed[..]].concat())
    }

    /// What answers a server's nonce.
    pub fn sign(&self, nonce: &str) -> String {
        base64_for_url(self.pair.sign(nonce.as_bytes()).as_ref())
    }

    /// A JWT by which this key vouches for `subject`, with these members under `nats` more.
    pub fn vouch(&self, subject: &Nkey, more: &Value) -> String {
        let mut nats = json!({ "type": subject.kind.name(), "version": 2 });
        if let (Some(nats), Value::Object(more)) = (nats.as_object_mut(), more.clone()) {
            nats.extend(more);
        }
        let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let claims = json!({ "jti": "test", "iat": 1_700_000_000, "iss": self.public(),
            "sub": subject.public(), "name": subject.kind.name(), "nats": nats });
        let parts = [head, claims].map(|part| base64_for_url(part.to_string().as_bytes()));
        let signed = parts.join(".");
        let signature = self.sign(&signed);
        format!("{signed}.{signature}")
    }
}

/// The file by which a user logs in.
pub fn creds(jwt: &str, user: &Nkey) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed()
    )
}

fn encode(body: &[u8]) -> String {
    let bytes = [body, &crc16(body).to_le_bytes()].concat();
    digits(&bytes, 5, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
}

fn base64_for_url(bytes: &[u8]) -> String {
    digits(bytes, 6, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
}

/// RFC 4648 with `width` bits a digit, without padding.
fn digits(bytes: &[u8], width: u32, alphabet: &[u8]) -> String {
    let (mut bits, mut count, mut text) = (0_u32, 0, String::new());
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        while count >= width {
            count -= width;
            text.push(char::from(alphabet[(bits >> count) as usize]));
            bits &= (1 << count) - 1;
        }
    }
    if count > 0 {
        text.push(char::from(alphabet[(bits << (width - count)) as usize]));
    }
    text
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

    #[test]
    fn keys_say_what_they_are() {
        for (kind, first) in [(Kind::Operator, "O"), (Kind::Account, "A"), (Kind::User, "U")] {
            let key = Nkey::of(kind, 7).unwrap();
            assert!(key.public().starts_with(first) && key.public().len() == 56, "{kind:?}");
            assert!(key.seed().starts_with(&format!("S{first}")) && key.seed().len() == 58);
        }
    }

    #[test]
    fn text_is_that_of_rfc_4648() {
        assert_eq!(digits(b"foobar", 5, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), "MZXW6YTBOI");
        assert_eq!(base64_for_url(b"fooba"), "Zm9vYmE");
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
