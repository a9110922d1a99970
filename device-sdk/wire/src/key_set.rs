//! The keys that sign a device's firmware, themselves signed by root: docs/formats/manifest.md.
//!
//! Invariant: a [`KeySet`] holds one to four different keys, none of small order, and asks for no
//! more signatures than it has keys.

use crate::cbor::{Field, Fields, FormError, Full, Reader, Value, Writer};
use crate::crypto::{Crypto, Sha256};
use crate::ed25519::{KEY_BYTES, PublicKey, SIGNATURE_BYTES};
use crate::sign1::{
    EnvelopeError, KeyId, OVERHEAD, Purpose, Verdict, Verifier, open, open_detached,
};

/// Version of the table, key 0.
const FORMAT: u32 = 1;
/// Most release keys.
pub const MAX_KEYS: usize = 4;
/// Most bytes of a key set in its envelope.
pub const MAX_KEY_SET: usize = 256 + OVERHEAD + 3;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const VERSION: u64 = 1;
    pub(super) const THRESHOLD: u64 = 2;
    pub(super) const KEYS: u64 = 3;
    pub(super) const SEQUENCE_CAP: u64 = 4;
}

/// Release keys, and how far they reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// Rises with every set; a device takes no older one than it has.
    pub version: u32,
    /// How many of the keys have to sign a manifest: 1 or 2.
    pub threshold: u8,
    /// The keys; those that are not among them any more are revoked.
    pub keys: Keys,
    /// Greatest sequence that a manifest signed by them may have: who steals a key cannot use up
    /// all sequences.
    pub sequence_cap: u64,
}

/// One to [`MAX_KEYS`] keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Those from `count` on are [`PublicKey::NONE`].
    list: [PublicKey; MAX_KEYS],
    count: u8,
}

impl Keys {
    const NONE: Keys = Keys { list: [PublicKey::NONE; MAX_KEYS], count: 0 };

    /// `None` when they are none, too many, or one is there twice.
    #[must_use]
    pub fn new(keys: &[PublicKey]) -> Option<Keys> {
        let mut list = Keys::NONE;
        keys.iter().try_for_each(|key| list.add(*key))?;
        (!keys.is_empty()).then_some(list)
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.as_slice().iter()
    }

    /// `None` when there is no room, or it is there already.
    fn add(&mut self, key: PublicKey) -> Option<()> {
        if self.as_slice().contains(&key) {
            return None;
        }
        *self.list.get_mut(usize::from(self.count))? = key;
        self.count += 1;
        Some(())
    }

    fn as_slice(&self) -> &[PublicKey] {
        self.list.get(..self.count.into()).unwrap_or_default()
    }
}

impl KeySet {
    /// Reads a key set.
    ///
    /// # Errors
    /// See [`FormError`].
    pub fn read(bytes: &[u8]) -> Result<KeySet, FormError> {
        let mut reader = Reader::new(bytes);
        let values = Fields::read(&mut reader, &TABLE)?;
        reader.end()?;
        let [_, version, threshold, keys, sequence_cap] = &values;
        let (keys, threshold) = (read_keys(keys)?, threshold.byte());
        if threshold > keys.count {
            return Err(FormError::range(key::THRESHOLD));
        }
        let (version, sequence_cap) = (version.number(), sequence_cap.long());
        Ok(KeySet { version, threshold, keys, sequence_cap })
    }

    /// Writes it; answers the bytes written.
    ///
    /// # Errors
    /// `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(out);
        writer.map(5)?;
        writer.uint(key::FORMAT)?;
        writer.uint(FORMAT.into())?;
        writer.uint(key::VERSION)?;
        writer.uint(self.version.into())?;
        writer.uint(key::THRESHOLD)?;
        writer.uint(self.threshold.into())?;
        writer.uint(key::KEYS)?;
        writer.array(self.keys.count.into())?;
        for public in self.keys.iter() {
            writer.bytes(public.as_bytes())?;
        }
        writer.uint(key::SEQUENCE_CAP)?;
        writer.uint(self.sequence_cap)?;
        Ok(writer.len())
    }
}

const TABLE: [Field; 5] = [
    Field::number(key::FORMAT, FORMAT..=FORMAT).required(),
    Field::number(key::VERSION, 1..=u32::MAX).required(),
    Field::number(key::THRESHOLD, 1..=2).required(),
    Field::item(key::KEYS).required(),
    Field::long(key::SEQUENCE_CAP, 0).required(),
];

fn read_keys(value: &Value<'_>) -> Result<Keys, FormError> {
    let refused = FormError::range(key::KEYS);
    let mut reader = value.item().ok_or(refused)?;
    let mut keys = Keys::NONE;
    for _ in 0..reader.array()? {
        let bytes: &[u8; KEY_BYTES] = reader.bytes()?.try_into().map_err(|_| refused)?;
        let key = PublicKey::new(*bytes).map_err(|_| refused)?;
        keys.add(key).ok_or(refused)?;
    }
    if keys.count > 0 { Ok(keys) } else { Err(refused) }
}

/// Why a release is not to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseError {
    /// An envelope is broken, or signed by nobody who is trusted.
    Envelope(EnvelopeError),
    /// The key set wants two signatures of different keys.
    Threshold,
}

impl From<EnvelopeError> for ReleaseError {
    fn from(error: EnvelopeError) -> ReleaseError {
        ReleaseError::Envelope(error)
    }
}

impl core::fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            ReleaseError::Envelope(error) => error.fmt(f),
            ReleaseError::Threshold => f.write_str("a second signature by another key is missing"),
        }
    }
}

impl core::error::Error for ReleaseError {}

impl KeySet {
    /// Opens the envelope of a manifest; `second` is the detached signature of another key.
    ///
    /// # Errors
    /// The manifest is not signed as this set demands.
    pub fn open_manifest<'a, C: Crypto>(
        &self,
        envelope: &'a [u8],
        second: Option<&[u8]>,
        crypto: &C,
    ) -> Result<&'a [u8], ReleaseError> {
        let trusted = Trusted { crypto, keys: self.keys.as_slice() };
        let first = open(envelope, Purpose::FirmwareManifest, &trusted)?;
        if self.threshold > 1 {
            let second = second.ok_or(ReleaseError::Threshold)?;
            let payload = first.payload();
            let second = open_detached(second, payload, Purpose::FirmwareManifest, &trusted)?;
            if second.key() == first.key() {
                return Err(ReleaseError::Threshold);
            }
        }
        Ok(first.payload())
    }

    /// Opens the envelope of a key set that one of the roots has signed.
    ///
    /// # Errors
    /// It is not signed by a root; as `Err` of the inside, it is not a key set.
    pub fn open<C: Crypto>(
        envelope: &[u8],
        roots: &[PublicKey],
        crypto: &C,
    ) -> Result<Result<KeySet, FormError>, EnvelopeError> {
        let trusted = Trusted { crypto, keys: roots };
        let verified = open(envelope, Purpose::DeviceKeySet, &trusted)?;
        Ok(KeySet::read(verified.payload()))
    }
}

/// Verifies by keys that are trusted.
struct Trusted<'c, C> {
    crypto: &'c C,
    keys: &'c [PublicKey],
}

impl<C: Crypto> Verifier for Trusted<'_, C> {
    fn verify(&self, key: KeyId, parts: [&[u8]; 2], signature: &[u8; SIGNATURE_BYTES]) -> Verdict {
        let mut verdict = Verdict::UnknownKey;
        // Two keys may have the same id: it is a part of a hash.
        for public in self.keys.iter().filter(|public| key_id::<C::Hash>(public) == key) {
            if self.crypto.is_signed(public, parts, signature) {
                return Verdict::Valid;
            }
            verdict = Verdict::Invalid;
        }
        verdict
    }
}

/// The id of a key.
#[must_use]
pub fn key_id<H: Sha256>(key: &PublicKey) -> KeyId {
    KeyId(H::of(key.as_bytes()).short())
}

#[cfg(test)]
mod tests;
