//! The file: header, signed manifest, module.

use ring::digest::{SHA256, digest};
use tidegate_wire::Digest;
use tidegate_wire::sign1::{self, EnvelopeError, KeyId, OVERHEAD, Purpose, Signer};

use super::manifest::{MAX_MANIFEST, MAX_MODULE, Manifest, ManifestError};
use super::signature::TrustedKeys;

const MAGIC: [u8; 4] = *b"TGP1";
/// Bytes in front of the envelope.
const HEADER: usize = 8;
/// Longest envelope, in bytes.
const MAX_ENVELOPE: usize = 128 * 1024;
/// Largest package, in bytes.
pub(crate) const MAX_PACKAGE: u64 = (HEADER + MAX_ENVELOPE) as u64 + MAX_MODULE;

/// What is in a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) manifest: Manifest,
    pub(crate) module: Vec<u8>,
    /// Names the package: the SHA-256 of its file.
    pub(crate) hash: Digest,
    /// Who has signed it.
    pub(crate) key: KeyId,
}

/// A package that somebody who is trusted has signed, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package(Contents);

/// Why a file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PackageError {
    #[error("this is no function package: it does not begin with TGP1")]
    Magic,
    #[error("the package is cut short: {bytes} bytes, its header says at least {needed}")]
    Short { bytes: usize, needed: usize },
    #[error("the envelope has {0} bytes, at most {MAX_ENVELOPE} are allowed")]
    EnvelopeLength(usize),
    #[error("{0}")]
    Envelope(EnvelopeError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the module has {found} bytes, and the manifest says {wanted}")]
    ModuleLength { wanted: u64, found: usize },
    #[error("the module is not the one that was signed: its SHA-256 is {found}, not {wanted}")]
    Module { wanted: Digest, found: Digest },
}

impl Package {
    /// Takes a file whose every byte somebody who is trusted has signed.
    ///
    /// # Errors
    /// See [`PackageError`].
    pub(crate) fn open(bytes: &[u8], trusted: &TrustedKeys) -> Result<Package, PackageError> {
        let (envelope, module) = split(bytes)?;
        let verified = sign1::open(envelope, Purpose::FunctionPackage, trusted);
        let verified = verified.map_err(PackageError::Envelope)?;
        let manifest = Manifest::decode(verified.payload())?;
        check_module(&manifest, module)?;
        let (module, hash) = (module.to_vec(), sha256(bytes));
        Ok(Package(Contents { manifest, module, hash, key: verified.key() }))
    }

    /// What is in it.
    pub(crate) fn into_contents(self) -> Contents {
        self.0
    }
}

/// Reads a package without asking who made it: to show it to people, and for nothing else.
///
/// # Errors
/// It has not the form of one, or the module is not that of the manifest.
pub(crate) fn look_into(bytes: &[u8]) -> Result<Contents, PackageError> {
    let (envelope, module) = split(bytes)?;
    let (key, payload) = sign1::look_into(envelope).map_err(PackageError::Envelope)?;
    let manifest = Manifest::decode(payload)?;
    check_module(&manifest, module)?;
    Ok(Contents { manifest, module: module.to_vec(), hash: sha256(bytes), key })
}

/// Makes a package of a module; what `manifest` says of the module is filled in.
///
/// # Errors
/// The manifest is too long, or the module too large.
pub(crate) fn pack(
    manifest: &Manifest,
    module: &[u8],
    key: &impl Signer,
) -> Result<Vec<u8>, String> {
    if module.is_empty() || module.len() as u64 > MAX_MODULE {
        return Err(format!("a module of {} bytes; allowed: 1 to {MAX_MODULE}", module.len()));
    }
    let module_bytes = module.len() as u64;
    let manifest = Manifest { module: sha256(module), module_bytes, ..manifest.clone() };
    let too_long = |_| format!("the manifest takes more than {MAX_MANIFEST} bytes");
    let payload = manifest.encode().map_err(too_long)?;
    // What a gateway would refuse is not signed in the first place.
    Manifest::decode(&payload).map_err(|error| error.to_string())?;
    let mut file = vec![0; HEADER + payload.len() + tidegate_wire::cbor::MAX_HEAD + OVERHEAD];
    let envelope = sign1::seal(&payload, Purpose::FunctionPackage, key, &mut file[HEADER..]);
    let envelope = envelope.map_err(too_long)?;
    file[..4].copy_from_slice(&MAGIC);
    file[4..HEADER].copy_from_slice(&(envelope as u32).to_le_bytes());
    file.truncate(HEADER + envelope);
    file.extend_from_slice(module);
    Ok(file)
}

/// The SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Digest(hash)
}

/// Envelope and module.
fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), PackageError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(PackageError::Magic)?;
    let short = |needed| PackageError::Short { bytes: bytes.len(), needed };
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(short(HEADER))?;
    let length = u32::from_le_bytes(*length) as usize;
    if !(1..=MAX_ENVELOPE).contains(&length) {
        return Err(PackageError::EnvelopeLength(length));
    }
    rest.split_at_checked(length).ok_or(short(HEADER + length))
}

fn check_module(manifest: &Manifest, module: &[u8]) -> Result<(), PackageError> {
    let wanted = manifest.module_bytes;
    if wanted != module.len() as u64 {
        return Err(PackageError::ModuleLength { wanted, found: module.len() });
    }
    let (wanted, found) = (manifest.module, sha256(module));
    if wanted != found {
        return Err(PackageError::Module { wanted, found });
    }
    Ok(())
}

/// The key of the tests, so that its packages are always the same.
#[cfg(test)]
pub(crate) fn test_key() -> Result<super::signature::SigningKey, String> {
    super::signature::SigningKey::of_seed(&[7; 32])
}
