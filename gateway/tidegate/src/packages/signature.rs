//! Ed25519 by ring, and the keys that packages are signed with.

use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES};
use tidegate_wire::sign1::{KeyId, Signer, Verdict, Verifier};

use crate::hex;

/// In front of a public key's digits.
const PREFIX: &str = "ed25519:";

/// The keys whose signatures count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

impl TrustedKeys {
    /// Whether no signature counts at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Trusts one more key. False when it is trusted already.
    pub(crate) fn add(&mut self, key: PublicKey) -> bool {
        let new = !self.0.contains(&key);
        if new {
            self.0.push(key);
        }
        new
    }
}

impl Verifier for TrustedKeys {
    fn verify(&self, key: KeyId, parts: [&[u8]; 2], signature: &[u8; SIGNATURE_BYTES]) -> Verdict {
        let message = parts.concat();
        let right = |public: &PublicKey| {
            let public = UnparsedPublicKey::new(&ED25519, public.as_bytes());
            public.verify(&message, signature).is_ok()
        };
        // Two keys may have the same id: it is a part of a hash.
        let mut candidates = self.0.iter().filter(|public| key_id(public) == key).peekable();
        match (candidates.peek().is_some(), candidates.any(right)) {
            (false, _) => Verdict::UnknownKey,
            (true, true) => Verdict::Valid,
            (true, false) => Verdict::Invalid,
        }
    }
}

/// A key to sign with.
#[derive(Debug)]
pub(crate) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// The key that a seed of 32 random bytes makes.
    ///
    /// # Errors
    /// The seed has another length.
    pub(crate) fn of_seed(seed: &[u8]) -> Result<SigningKey, String> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| error.to_string())?;
        let public = pair.public_key().as_ref().try_into();
        let public = public.map_err(|_| "the public key has another length".to_owned())?;
        let public = PublicKey::new(public).map_err(|error| error.to_string())?;
        Ok(SigningKey { pair, public })
    }

    /// What others check its signatures with.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl Signer for SigningKey {
    fn key_id(&self) -> KeyId {
        key_id(&self.public)
    }

    fn sign(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.pair.sign(&parts.concat()).as_ref());
        signature
    }
}

/// How a key is named in an envelope.
pub(crate) fn key_id(public: &PublicKey) -> KeyId {
    let hash = digest(&SHA256, public.as_bytes());
    let mut id = [0; KeyId::BYTES];
    id.copy_from_slice(&hash.as_ref()[..KeyId::BYTES]);
    KeyId(id)
}

/// A public key as the configuration has it.
pub(crate) fn show_public(public: &PublicKey) -> String {
    format!("{PREFIX}{}", hex::encode(public.as_bytes()))
}

/// Reads it back.
///
/// # Errors
/// In words that fit behind the text.
pub(crate) fn parse_public(text: &str) -> Result<PublicKey, String> {
    let bytes = text.strip_prefix(PREFIX).and_then(hex::decode);
    let bytes: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
    let bytes = bytes.ok_or_else(|| {
        "not a key; write \"ed25519:\" and 64 hexadecimal digits, as `tidegate fn keygen` shows it"
            .to_owned()
    })?;
    PublicKey::new(bytes).map_err(|weak| format!("not a key to trust: {weak}"))
}

#[cfg(test)]
mod tests {
    use tidegate_wire::sign1::{EnvelopeError, OVERHEAD, Purpose, open, seal};

    use super::*;

    /// RFC 8032, 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn bytes<const N: usize>(digits: &str) -> [u8; N] {
        hex::decode(digits).unwrap().try_into().unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::of_seed(&bytes::<32>(SEED)).unwrap()
    }

    fn trusting(key: &SigningKey) -> TrustedKeys {
        TrustedKeys(vec![*key.public()])
    }

    #[test]
    fn signatures_are_those_of_the_standard() {
        let key = key();
        assert_eq!(key.public().as_bytes(), &bytes::<32>(PUBLIC));
        let signature = key.sign([b"\x72", b""]);
        assert_eq!(signature, bytes::<64>(SIGNATURE));
        let verdict = trusting(&key).verify(key.key_id(), [b"", b"\x72"], &signature);
        assert_eq!(verdict, Verdict::Valid);
    }

    #[test]
    fn each_changed_bit_of_signature_or_message_and_another_key_is_refused() {
        let (key, trusted) = (key(), trusting(&key()));
        let signature = key.sign([b"mes", b"sage"]);
        for at in 0..SIGNATURE_BYTES * 8 {
            let mut changed = signature;
            changed[at / 8] ^= 1 << (at % 8);
            let verdict = trusted.verify(key.key_id(), [b"message", b""], &changed);
            assert_eq!(verdict, Verdict::Invalid, "bit {at}");
        }
        let verdict = trusted.verify(key.key_id(), [b"messagf", b""], &signature);
        assert_eq!(verdict, Verdict::Invalid);
        let other = SigningKey::of_seed(&[9; 32]).unwrap();
        let verdict = trusting(&other).verify(key.key_id(), [b"message", b""], &signature);
        assert_eq!(verdict, Verdict::UnknownKey);
        let verdict = trusted.verify(other.key_id(), [b"message", b""], &signature);
        assert_eq!(verdict, Verdict::UnknownKey);
    }

    /// S + L verifies by the equation alone: RFC 8032, 5.1.7 has S in range.
    #[test]
    fn the_second_spelling_of_a_signature_is_refused_by_the_library_and_by_the_envelope() {
        let key = key();
        let mut out = [0; 256];
        let length = seal(b"payload", Purpose::FunctionPackage, &key, &mut out).unwrap();
        assert_eq!(length, OVERHEAD + 1 + 7);
        let order: [u8; 32] =
            bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut carry = 0;
        for (byte, add) in out[length - 32..length].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        assert_eq!(carry, 0, "S + L fits");
        let opened = open(&out[..length], Purpose::FunctionPackage, &trusting(&key));
        assert_eq!(opened, Err(EnvelopeError::SignatureForm));
        let public = UnparsedPublicKey::new(&ED25519, key.public().as_bytes());
        let mut message = b"\x84\x6aSignature1\x4d".to_vec();
        message.extend_from_slice(&out[3..16]);
        message.extend_from_slice(b"\x58\x1btidegate/function-package/1\x47payload");
        assert!(public.verify(&message, &out[length - 64..length]).is_err());
        let signature = key.sign([&message, b""]);
        assert!(public.verify(&message, &signature).is_ok(), "the message is the one signed");
    }

    /// Under the key 1 (order 1) the equation holds for every message with R = 1 and S = 0. The
    /// library computes just the equation, so such a key must never be trusted.
    #[test]
    fn a_key_of_small_order_would_verify_anything_and_is_not_taken() {
        let mut one = [0; 32];
        one[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        let library = UnparsedPublicKey::new(&ED25519, &one);
        assert!(library.verify(b"whatever anybody wants", &signature).is_ok());
        let text = format!("ed25519:{}", hex::encode(&one));
        let refused = parse_public(&text).unwrap_err();
        assert!(refused.contains("small order"), "{refused}");
    }

    #[test]
    fn a_public_key_is_written_and_read_in_one_way() {
        let text = show_public(key().public());
        assert_eq!(text, format!("ed25519:{PUBLIC}"));
        assert_eq!(parse_public(&text).unwrap(), *key().public());
        for wrong in [PUBLIC, "ed25519:", "ed25519:3d40", "rsa:3d40", &format!("{text}00")] {
            assert!(parse_public(wrong).unwrap_err().starts_with("not a key;"), "{wrong}");
        }
    }
}
