//! What a device computes with: a library, or its hardware.
//!
//! Not here: any implementation. `docs/formats/manifest.md` says which algorithms they are.

use crate::digest::Digest;
use crate::ed25519::{PublicKey, SIGNATURE_BYTES};

/// SHA-256 (FIPS 180-4).
pub trait Sha256: Default {
    /// Takes in more bytes.
    fn update(&mut self, bytes: &[u8]);
    /// The digest of all bytes taken in.
    fn finish(self) -> Digest;

    /// The digest of these bytes.
    fn of(bytes: &[u8]) -> Digest {
        let mut hash = Self::default();
        hash.update(bytes);
        hash.finish()
    }
}

/// The curve of Ed25519 (RFC 8032).
pub trait Curve {
    /// Whether this is the key's signature over the parts, one after the other. That S is in range
    /// has been checked.
    fn is_signed(
        &self,
        key: &PublicKey,
        parts: [&[u8]; 2],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> bool;
}

/// All of it.
pub trait Crypto: Curve {
    /// The hash.
    type Hash: Sha256;
}
