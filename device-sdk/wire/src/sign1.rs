//! COSE_Sign1 (RFC 9052) with Ed25519: how function packages are signed, and firmware.
//!
//! Invariants:
//! - [`open`] and [`open_detached`] are the only ways to a payload that may be trusted, and each
//!   envelope has one encoding only: deterministic CBOR, the tag 18, a protected header with
//!   exactly the algorithm and the key's id, an empty unprotected one.
//! - What was signed for one [`Purpose`] never passes for another: the purpose is part of what is
//!   signed, and nowhere in the envelope.
//!
//! The curve is the caller's ([`Verifier`], [`Signer`]); what a verifier must refuse is in
//! [`crate::ed25519`]. Not here: what a payload says, which keys are trusted.
//!
//! ```text
//! 18([ << { 1: -19, 4: KID } >>, {}, PAYLOAD or null, SIGNATURE ])
//! SIGNATURE over [ "Signature1", << { 1: -19, 4: KID } >>, CONTEXT, PAYLOAD ]
//! ```

use core::fmt;

use crate::cbor::{CborError, Full, Kind, MAX_HEAD, Reader, Writer};
use crate::ed25519::{SIGNATURE_BYTES, has_one_spelling};

#[cfg(test)]
mod tests;

/// The tag of COSE_Sign1.
const TAG: u64 = 18;
/// Labels of header parameters (RFC 9052, table 3).
const ALGORITHM: i64 = 1;
const CRITICAL: i64 = 2;
const KEY_ID: i64 = 4;
/// Ed25519 (RFC 9864), which is written.
const ED25519: i64 = -19;
/// EdDSA (RFC 9053), its older name, which is read as well.
const EDDSA: i64 = -8;
/// Bytes of a protected header: map, algorithm, key's id.
const PROTECTED: usize = 1 + 2 + 2 + KeyId::BYTES;
/// Most bytes of what is signed in front of the payload: list, `Signature1`, header, context,
/// the payload's head.
const PREFIX: usize = 1 + 11 + 1 + PROTECTED + 2 + Purpose::MAX_CONTEXT + MAX_HEAD;
/// Bytes of an envelope beside its payload and the payload's head.
pub const OVERHEAD: usize = 1 + 1 + 1 + PROTECTED + 1 + 2 + SIGNATURE_BYTES;

/// What a signature is for. Its context (`external_aad`) is signed with the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The manifest of a function package (docs/formats/package.md).
    FunctionPackage,
    /// The manifest of a device's firmware (docs/formats/manifest.md).
    FirmwareManifest,
    /// The keys that sign a device's firmware, signed by root (docs/formats/manifest.md).
    DeviceKeySet,
}

impl Purpose {
    const MAX_CONTEXT: usize = 32;

    /// The bytes that are signed.
    #[must_use]
    pub const fn context(self) -> &'static [u8] {
        match self {
            Purpose::FunctionPackage => b"tidegate/function-package/1",
            Purpose::FirmwareManifest => b"tidegate/firmware-manifest/1",
            Purpose::DeviceKeySet => b"tidegate/device-key-set/1",
        }
    }
}

/// Names a key: the first 8 bytes of the SHA-256 of the public key. It finds the key and proves
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; KeyId::BYTES]);

impl KeyId {
    /// Its bytes.
    pub const BYTES: usize = 8;
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a verifier says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The signature is right.
    Valid,
    /// It is not.
    Invalid,
    /// No key of this id is trusted.
    UnknownKey,
}

/// Checks signatures with the keys that are trusted for one purpose.
pub trait Verifier {
    /// Judges a signature by the key of this id over the parts, one after the other.
    ///
    /// That S is in range has been checked; that a trusted key is none of small order is checked
    /// where keys are taken in ([`crate::ed25519::PublicKey::new`]).
    fn verify(&self, key: KeyId, parts: [&[u8]; 2], signature: &[u8; SIGNATURE_BYTES]) -> Verdict;
}

/// Makes signatures with one key.
pub trait Signer {
    /// The id of the key.
    fn key_id(&self) -> KeyId;
    /// The signature over the parts, one after the other.
    fn sign(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES];
}

/// Why an envelope is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// It is not deterministic CBOR of this form.
    Encoding(CborError),
    /// The tag is not 18, or the list has not 4 items.
    NotSign1,
    /// An algorithm other than Ed25519; those that do not fit are shown as the nearest number that does.
    Algorithm(i16),
    /// A header parameter that must be understood, and is not.
    Critical,
    /// The protected header is not the algorithm and a key's id of 8 bytes, in this order.
    Protected,
    /// There is something in the unprotected header.
    Unprotected,
    /// The payload is not there, or is there although it was given apart.
    Payload,
    /// The signature has not 64 bytes, or not its only spelling.
    SignatureForm,
    /// No key of this id is trusted.
    UnknownKey(KeyId),
    /// The signature is wrong: the content was changed, or was signed for something else.
    Signature(KeyId),
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EnvelopeError::Encoding(error) => write!(f, "the envelope is broken: {error}"),
            EnvelopeError::NotSign1 => f.write_str("this is no COSE_Sign1 envelope"),
            EnvelopeError::Algorithm(found) => {
                write!(f, "signed with algorithm {found}; only Ed25519 (-19, -8) is known")
            }
            EnvelopeError::Critical => {
                f.write_str("the header has critical parameters, and none is known here")
            }
            EnvelopeError::Protected => {
                f.write_str("the protected header is not an algorithm and a key's id of 8 bytes")
            }
            EnvelopeError::Unprotected => f.write_str("the unprotected header is not empty"),
            EnvelopeError::Payload => f.write_str("the payload is not where it should be"),
            EnvelopeError::SignatureForm => f.write_str("the signature is malformed"),
            EnvelopeError::UnknownKey(key) => write!(f, "the key {key} is not trusted"),
            EnvelopeError::Signature(key) => write!(
                f,
                "the signature by key {key} is wrong: the content was changed, or signed for \
                 another purpose"
            ),
        }
    }
}

impl core::error::Error for EnvelopeError {}

/// Why bytes are no envelope. One word, as [`CborError`], which an [`EnvelopeError`] with a key's id is not.
enum Malformed {
    Encoding(CborError),
    NotSign1,
    Algorithm(i16),
    Critical,
    Protected,
    Unprotected,
    SignatureForm,
}

impl From<CborError> for Malformed {
    fn from(error: CborError) -> Malformed {
        Malformed::Encoding(error)
    }
}

impl From<Malformed> for EnvelopeError {
    fn from(malformed: Malformed) -> EnvelopeError {
        match malformed {
            Malformed::Encoding(error) => EnvelopeError::Encoding(error),
            Malformed::NotSign1 => EnvelopeError::NotSign1,
            Malformed::Algorithm(found) => EnvelopeError::Algorithm(found),
            Malformed::Critical => EnvelopeError::Critical,
            Malformed::Protected => EnvelopeError::Protected,
            Malformed::Unprotected => EnvelopeError::Unprotected,
            Malformed::SignatureForm => EnvelopeError::SignatureForm,
        }
    }
}

/// What somebody who is trusted has signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'a> {
    key: KeyId,
    payload: &'a [u8],
}

impl<'a> Verified<'a> {
    /// The key that signed it.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// What was signed.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// Opens an envelope that holds its payload.
///
/// # Errors
/// See [`EnvelopeError`]; nothing of what it holds may be used then.
pub fn open<'a>(
    envelope: &'a [u8],
    purpose: Purpose,
    verifier: &impl Verifier,
) -> Result<Verified<'a>, EnvelopeError> {
    let envelope = Envelope::parse(envelope)?;
    let payload = envelope.payload.ok_or(EnvelopeError::Payload)?;
    envelope.verify(purpose, payload, verifier)
}

/// Checks an envelope whose payload is elsewhere.
///
/// # Errors
/// As [`open`]; also when the envelope holds a payload of its own.
pub fn open_detached<'a>(
    envelope: &[u8],
    payload: &'a [u8],
    purpose: Purpose,
    verifier: &impl Verifier,
) -> Result<Verified<'a>, EnvelopeError> {
    let envelope = Envelope::parse(envelope)?;
    if envelope.payload.is_some() {
        return Err(EnvelopeError::Payload);
    }
    envelope.verify(purpose, payload, verifier)
}

/// What an envelope holds, **unverified**: to show to people, and for nothing else.
///
/// # Errors
/// It has not the form of an envelope with a payload.
pub fn look_into(envelope: &[u8]) -> Result<(KeyId, &[u8]), EnvelopeError> {
    let envelope = Envelope::parse(envelope)?;
    Ok((envelope.key, envelope.payload.ok_or(EnvelopeError::Payload)?))
}

/// Signs a payload and writes both into `out`; answers the bytes written.
///
/// # Errors
/// `out` is shorter than the payload, its head and [`OVERHEAD`].
pub fn seal(
    payload: &[u8],
    purpose: Purpose,
    signer: &impl Signer,
    out: &mut [u8],
) -> Result<usize, Full> {
    write(payload, true, purpose, signer, out)
}

/// Signs a payload that stays elsewhere; answers the bytes written.
///
/// # Errors
/// `out` is shorter than [`OVERHEAD`] and 1.
pub fn seal_detached(
    payload: &[u8],
    purpose: Purpose,
    signer: &impl Signer,
    out: &mut [u8],
) -> Result<usize, Full> {
    write(payload, false, purpose, signer, out)
}

/// An envelope of the right form. Nothing of it is proven.
struct Envelope<'a> {
    protected: &'a [u8],
    key: KeyId,
    payload: Option<&'a [u8]>,
    signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> Envelope<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Envelope<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.tag()? != TAG || reader.array()? != 4 {
            return Err(Malformed::NotSign1);
        }
        let protected = reader.bytes()?;
        let key = parse_protected(protected)?;
        if reader.map()? != 0 {
            return Err(Malformed::Unprotected);
        }
        let payload = match reader.next_kind() {
            Some(Kind::Null) => reader.null().map(|()| None)?,
            Some(_) | None => Some(reader.bytes()?),
        };
        let signature = reader.bytes()?;
        reader.end()?;
        let signature = signature.try_into().map_err(|_| Malformed::SignatureForm)?;
        Ok(Envelope { protected, key, payload, signature })
    }

    fn verify<'b>(
        &self,
        purpose: Purpose,
        payload: &'b [u8],
        verifier: &impl Verifier,
    ) -> Result<Verified<'b>, EnvelopeError> {
        if !has_one_spelling(self.signature) {
            return Err(EnvelopeError::SignatureForm);
        }
        // The prefix has room for every header that was parsed.
        let (prefix, length) = prefix(self.protected, purpose, payload.len())
            .map_err(|Full| EnvelopeError::Protected)?;
        let prefix = prefix.get(..length).unwrap_or_default();
        match verifier.verify(self.key, [prefix, payload], self.signature) {
            Verdict::Valid => Ok(Verified { key: self.key, payload }),
            Verdict::Invalid => Err(EnvelopeError::Signature(self.key)),
            Verdict::UnknownKey => Err(EnvelopeError::UnknownKey(self.key)),
        }
    }
}

/// The key's id, from a header that is `{ 1: algorithm, 4: id }` and nothing else.
fn parse_protected(header: &[u8]) -> Result<KeyId, Malformed> {
    let mut reader = Reader::new(header);
    let pairs = reader.map()?;
    let mut key = None;
    let mut algorithm = None;
    for _ in 0..pairs {
        match (reader.int()?, algorithm, key) {
            (ALGORITHM, None, None) => algorithm = Some(reader.int()?),
            (CRITICAL, ..) => return Err(Malformed::Critical),
            (KEY_ID, Some(_), None) => {
                let id = reader.bytes()?.try_into().map_err(|_| Malformed::Protected)?;
                key = Some(KeyId(id));
            }
            _ => return Err(Malformed::Protected),
        }
    }
    reader.end()?;
    match (algorithm, key) {
        (Some(ED25519 | EDDSA), Some(key)) => Ok(key),
        (Some(other), _) if other != ED25519 && other != EDDSA => {
            let nearest = other.clamp(i16::MIN.into(), i16::MAX.into());
            Err(Malformed::Algorithm(nearest as i16))
        }
        _ => Err(Malformed::Protected),
    }
}

fn write_protected(key: KeyId) -> Result<[u8; PROTECTED], Full> {
    let mut header = [0; PROTECTED];
    let mut writer = Writer::new(&mut header);
    writer.map(2)?;
    writer.int(ALGORITHM)?;
    writer.int(ED25519)?;
    writer.int(KEY_ID)?;
    writer.bytes(&key.0)?;
    Ok(header)
}

/// What is signed in front of the payload (RFC 9052, 4.4), and its length.
fn prefix(
    protected: &[u8],
    purpose: Purpose,
    payload: usize,
) -> Result<([u8; PREFIX], usize), Full> {
    let mut bytes = [0; PREFIX];
    let mut writer = Writer::new(&mut bytes);
    writer.array(4)?;
    writer.text("Signature1")?;
    writer.bytes(protected)?;
    writer.bytes(purpose.context())?;
    writer.bytes_head(payload)?;
    let length = writer.len();
    Ok((bytes, length))
}

fn write(
    payload: &[u8],
    attached: bool,
    purpose: Purpose,
    signer: &impl Signer,
    out: &mut [u8],
) -> Result<usize, Full> {
    let protected = write_protected(signer.key_id())?;
    let (prefix, length) = prefix(&protected, purpose, payload.len())?;
    let signature = signer.sign([prefix.get(..length).unwrap_or_default(), payload]);
    let mut writer = Writer::new(out);
    writer.tag(TAG)?;
    writer.array(4)?;
    writer.bytes(&protected)?;
    writer.map(0)?;
    if attached {
        writer.bytes(payload)?;
    } else {
        writer.null()?;
    }
    writer.bytes(&signature)?;
    Ok(writer.len())
}
