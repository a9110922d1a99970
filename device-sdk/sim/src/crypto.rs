//! Curve and hash of a device, by a library of the host; keys to sign with.

use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tidegate_wire::crypto::{Crypto, Curve, Sha256};
use tidegate_wire::digest::Digest;
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES};
use tidegate_wire::key_set::key_id;
use tidegate_wire::sign1::{KeyId, Signer};

/// The host's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host;

/// The host's hash.
#[derive(Clone)]
pub struct HostHash(Context);

impl Default for HostHash {
    fn default() -> HostHash {
        HostHash(Context::new(&SHA256))
    }
}

impl Sha256 for HostHash {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        Digest(digest)
    }
}

impl Curve for Host {
    fn is_signed(
        &self,
        key: &PublicKey,
        parts: [&[u8]; 2],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> bool {
        let message = parts.concat();
        UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(&message, signature).is_ok()
    }
}

impl Crypto for Host {
    type Hash = HostHash;
}

/// A key to sign with.
#[derive(Debug)]
pub struct Key(Ed25519KeyPair);

impl Key {
    /// The key that this byte, repeated, is the seed of.
    ///
    /// # Panics
    /// Never: every seed makes a key.
    #[must_use]
    pub fn new(seed: u8) -> Key {
        Key(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("every seed makes a key"))
    }

    /// What its signatures are checked with.
    ///
    /// # Panics
    /// Never: a key that was made so is not weak.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into().expect("32 bytes");
        PublicKey::new(bytes).expect("no weak key")
    }
}

impl Signer for Key {
    fn key_id(&self) -> KeyId {
        key_id::<HostHash>(&self.public())
    }

    fn sign(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(&parts.concat()).as_ref());
        signature
    }
}
