//! Curve and hash of the device crates, by ring.

use ring::digest::{Context, SHA256};
use ring::signature::{ED25519, UnparsedPublicKey};
use tidegate_wire::crypto::{Crypto, Curve, Sha256};
use tidegate_wire::digest::Digest;
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES};

/// Ring's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ring;

/// Ring's hash.
#[derive(Clone)]
pub(crate) struct RingSha256(Context);

impl Default for RingSha256 {
    fn default() -> RingSha256 {
        RingSha256(Context::new(&SHA256))
    }
}

impl Sha256 for RingSha256 {
    fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(self) -> Digest {
        let mut digest = [0; 32];
        digest.copy_from_slice(self.0.finish().as_ref());
        Digest(digest)
    }
}

impl Curve for Ring {
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

impl Crypto for Ring {
    type Hash = RingSha256;
}
