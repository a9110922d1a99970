//! Bundles: one signed release with everything that travels of it, in one file
//! (docs/formats/firmware-bundle.md).
//!
//! Invariants:
//! - a [`Release`] is of a header whose parts fit an offer, and whose manifest is well formed; its
//!   entries say where in the file what travels is, and what its SHA-256 has to be;
//! - nothing is proven of it: whether a device trusts its signatures is the device's to say.

use tidegate_wire::cbor::{Fields, FormError, Full, Reader, Writer, required};
use tidegate_wire::crypto::Sha256;
use tidegate_wire::digest::Digest;
use tidegate_wire::key_set::MAX_KEY_SET;
use tidegate_wire::manifest::{Encoding, MAX_ENVELOPE, Manifest, Uuid};
use tidegate_wire::sign1::{EnvelopeError, OVERHEAD, look_into};

const MAGIC: [u8; 4] = *b"TGF1";
/// Version of the header's table.
const FORMAT: u64 = 1;
/// Bytes in front of the header.
pub const HEAD: usize = 8;
/// Most bytes of a header: with 16 more it is an offer, which has to be a message.
pub const MAX_HEADER: usize = tidegate_wire::message::MAX_MESSAGE - 16;
/// Most bytes of a bundle: 64 MiB.
pub const MAX_BUNDLE: u64 = 64 << 20;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const MANIFEST: u64 = 1;
    pub(super) const SECOND: u64 = 2;
    pub(super) const KEY_SET: u64 = 3;
}

/// A release, as its bundle's header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    envelope: Vec<u8>,
    second: Option<Vec<u8>>,
    key_set: Option<Vec<u8>>,
    name: Digest,
    entries: Vec<Entry>,
    sequence: u64,
    class: (Uuid, Uuid),
}

/// What travels for one entry of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins in the file.
    pub at: u64,
    /// Its bytes.
    pub size: u32,
    /// Their SHA-256.
    pub digest: Digest,
}

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Something else.
    #[error("this is no firmware bundle: it does not begin with TGF1")]
    Magic,
    /// It ends too early.
    #[error("the bundle is cut short: {bytes} bytes, and its header says {needed}")]
    Short {
        /// Those that there are.
        bytes: u64,
        /// Those that there should be.
        needed: u64,
    },
    /// Bytes behind its end.
    #[error("the bundle has {bytes} bytes, and its header says {needed}")]
    Long {
        /// Those that there are.
        bytes: u64,
        /// Those that there should be.
        needed: u64,
    },
    /// The header's length is out of range.
    #[error("the header has {0} bytes; allowed: 1 to {MAX_HEADER}")]
    HeaderLength(usize),
    /// The header's form.
    #[error("the header is broken: {0}")]
    Header(FormError),
    /// The manifest's envelope.
    #[error("the manifest: {0}")]
    Envelope(EnvelopeError),
    /// The manifest's form.
    #[error("the manifest is malformed: {0}")]
    Manifest(FormError),
    /// Too large.
    #[error("the bundle has {0} bytes; allowed: at most {MAX_BUNDLE}")]
    Size(u64),
    /// Something that travels is not what the manifest says.
    #[error("entry {entry} is not what was signed: its SHA-256 is {found}, not {wanted}")]
    Content {
        /// Which one.
        entry: usize,
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
}

/// Bytes of the header, as the first [`HEAD`] bytes of a file say it.
///
/// # Errors
/// This begins no bundle.
pub fn header_bytes(head: &[u8]) -> Result<usize, BundleError> {
    let rest = head.strip_prefix(&MAGIC).ok_or(BundleError::Magic)?;
    let needed = HEAD as u64;
    let short = BundleError::Short { bytes: head.len() as u64, needed };
    let length = u32::from_le_bytes(*rest.first_chunk().ok_or(short)?) as usize;
    if (1..=MAX_HEADER).contains(&length) {
        Ok(length)
    } else {
        Err(BundleError::HeaderLength(length))
    }
}

/// What stands in a file in front of what travels.
///
/// # Errors
/// The parts are more than fits an offer.
pub fn write_head(
    envelope: &[u8],
    second: Option<&[u8]>,
    key_set: Option<&[u8]>,
) -> Result<Vec<u8>, Full> {
    let mut header = [0; MAX_HEADER];
    let mut writer = Writer::new(&mut header);
    writer.map(2 + usize::from(second.is_some()) + usize::from(key_set.is_some()))?;
    writer.uint(key::FORMAT)?;
    writer.uint(FORMAT)?;
    writer.uint(key::MANIFEST)?;
    writer.bytes(envelope)?;
    for (key, part) in [(key::SECOND, second), (key::KEY_SET, key_set)] {
        if let Some(part) = part {
            writer.uint(key)?;
            writer.bytes(part)?;
        }
    }
    let length = writer.len();
    let header = header.get(..length).ok_or(Full)?;
    Ok([&MAGIC, &(length as u32).to_le_bytes()[..], header].concat())
}

impl Release {
    /// Reads a header.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn read<H: Sha256>(header: &[u8]) -> Result<Release, BundleError> {
        Release::read_named(header, H::of)
    }

    /// The same, with a name that is known, or made of the manifest.
    pub(crate) fn read_named(
        header: &[u8],
        name: impl FnOnce(&[u8]) -> Digest,
    ) -> Result<Release, BundleError> {
        if !(1..=MAX_HEADER).contains(&header.len()) {
            return Err(BundleError::HeaderLength(header.len()));
        }
        let (envelope, second, key_set) = read_header(header).map_err(BundleError::Header)?;
        let (_, payload) = look_into(envelope).map_err(BundleError::Envelope)?;
        let manifest = Manifest::read(payload).map_err(BundleError::Manifest)?;
        let mut at = (HEAD + header.len()) as u64;
        let mut entries = Vec::new();
        for component in manifest.components.iter() {
            let size = component.travelling();
            let digest = match component.encoding {
                Encoding::None => component.digest,
                Encoding::Heatshrink { digest, .. } | Encoding::Delta { digest, .. } => digest,
            };
            entries.push(Entry { at, size, digest });
            at += u64::from(size);
        }
        if at > MAX_BUNDLE {
            return Err(BundleError::Size(at));
        }
        Ok(Release {
            name: name(payload),
            sequence: manifest.sequence,
            class: (manifest.vendor, manifest.class),
            entries,
            envelope: envelope.to_vec(),
            second: second.map(<[u8]>::to_vec),
            key_set: key_set.map(<[u8]>::to_vec),
        })
    }

    /// Reads a whole bundle, and holds what travels against the manifest.
    ///
    /// # Errors
    /// See [`BundleError`].
    pub fn of_bundle<H: Sha256>(bundle: &[u8]) -> Result<Release, BundleError> {
        let length = header_bytes(bundle.get(..HEAD).unwrap_or(bundle))?;
        let (bytes, needed) = (bundle.len() as u64, (HEAD + length) as u64);
        let header = bundle.get(HEAD..HEAD + length).ok_or(BundleError::Short { bytes, needed })?;
        let release = Release::read::<H>(header)?;
        release.check_bytes(bytes)?;
        for (number, entry) in release.entries.iter().enumerate() {
            let at = entry.at as usize;
            let travels = bundle.get(at..at + entry.size as usize).unwrap_or_default();
            release.check_entry(number, H::of(travels))?;
        }
        Ok(release)
    }

    /// Holds the length of a file against the header.
    ///
    /// # Errors
    /// It is shorter or longer.
    pub fn check_bytes(&self, bytes: u64) -> Result<(), BundleError> {
        let needed = self.bundle_bytes();
        match bytes.cmp(&needed) {
            std::cmp::Ordering::Less => Err(BundleError::Short { bytes, needed }),
            std::cmp::Ordering::Greater => Err(BundleError::Long { bytes, needed }),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Holds the SHA-256 of what travels for an entry against the manifest.
    ///
    /// # Errors
    /// It is another one.
    pub fn check_entry(&self, entry: usize, found: Digest) -> Result<(), BundleError> {
        match self.entries.get(entry) {
            Some(wanted) if wanted.digest != found => {
                Err(BundleError::Content { entry, found, wanted: wanted.digest })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn bundle_bytes(&self) -> u64 {
        let last = self.entries.last();
        last.map_or(0, |entry| entry.at + u64::from(entry.size))
    }

    /// The header, as [`Release::read`] takes it.
    ///
    /// # Errors
    /// Never, for what was read.
    pub fn header(&self) -> Result<Vec<u8>, Full> {
        let (second, key_set) = (self.second.as_deref(), self.key_set.as_deref());
        Ok(write_head(&self.envelope, second, key_set)?.split_off(HEAD))
    }

    /// The manifest; `None` never, for it was read once.
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest<'_>> {
        let (_, payload) = look_into(&self.envelope).ok()?;
        Manifest::read(payload).ok()
    }

    /// The manifest in its envelope.
    #[must_use]
    pub fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// A second signature.
    #[must_use]
    pub fn second(&self) -> Option<&[u8]> {
        self.second.as_deref()
    }

    /// A key set in its envelope.
    #[must_use]
    pub fn key_set(&self) -> Option<&[u8]> {
        self.key_set.as_deref()
    }

    /// What names the release: the SHA-256 of its manifest.
    #[must_use]
    pub fn name(&self) -> Digest {
        self.name
    }

    /// Its sequence.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Vendor and class of the devices that it is for.
    #[must_use]
    pub fn class(&self) -> (Uuid, Uuid) {
        self.class
    }

    /// What travels, in the order of the manifest's entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// Envelope, second signature and key set.
type Parts<'a> = (&'a [u8], Option<&'a [u8]>, Option<&'a [u8]>);

fn read_header(header: &[u8]) -> Result<Parts<'_>, FormError> {
    let mut reader = Reader::new(header);
    let (mut format, mut envelope) = (None, None);
    let (mut second, mut key_set) = (None, None);
    let mut fields = Fields::of(&mut reader)?;
    while let Some(key) = fields.next_key()? {
        match key {
            key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
            key::MANIFEST => envelope = Some(part(&mut fields, key, MAX_ENVELOPE)?),
            key::SECOND => second = Some(part(&mut fields, key, OVERHEAD + 1)?),
            key::KEY_SET => key_set = Some(part(&mut fields, key, MAX_KEY_SET)?),
            _ => fields.skip()?,
        }
    }
    reader.end()?;
    required(format, key::FORMAT)?;
    Ok((required(envelope, key::MANIFEST)?, second, key_set))
}

fn part<'a>(fields: &mut Fields<'_, 'a>, key: u64, max: usize) -> Result<&'a [u8], FormError> {
    let bytes = fields.value().bytes()?;
    if (1..=max).contains(&bytes.len()) { Ok(bytes) } else { Err(FormError::range(key)) }
}

#[cfg(test)]
mod tests {
    use tidegate_device_sim::crypto::{HostHash, Key};
    use tidegate_device_sim::release::{component, image, key_set, manifest, second, signed};

    use super::*;

    fn bundle() -> Vec<u8> {
        let (one, two) = (image(1, 3_000), image(2, 500));
        let parts = [component(0, &one, None), component(1, &two, None)];
        let manifest = manifest(5, &parts);
        let keys = key_set(2, 2, &[&Key::new(3), &Key::new(4)], 100, &Key::new(1));
        let second = second(&manifest, &Key::new(4));
        let head = write_head(&signed(&manifest, &Key::new(3)), Some(&second), Some(&keys));
        [head.unwrap(), one, two].concat()
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        let bundle = bundle();
        let release = Release::of_bundle::<HostHash>(&bundle).unwrap();
        assert_eq!(release.sequence(), 5);
        assert_eq!(release.entries().len(), 2);
        assert_eq!(release.bundle_bytes(), bundle.len() as u64);
        let header = release.header().unwrap();
        assert_eq!(bundle[HEAD..HEAD + header.len()], header);
        assert_eq!(Release::read::<HostHash>(&header), Ok(release));
    }

    #[test]
    fn each_byte_that_is_changed_cut_off_or_added_is_found_out() {
        let bundle = bundle();
        let whole = Release::of_bundle::<HostHash>(&bundle).unwrap();
        for cut in 0..bundle.len() {
            assert!(Release::of_bundle::<HostHash>(&bundle[..cut]).is_err(), "cut at {cut}");
        }
        let longer = [&bundle[..], &[0]].concat();
        let found = Release::of_bundle::<HostHash>(&longer);
        assert!(matches!(found, Err(BundleError::Long { .. })), "{found:?}");
        for at in 0..bundle.len() {
            let mut changed = bundle.clone();
            changed[at] ^= 1;
            // A signature, or a key set, is the device's to check.
            let found = Release::of_bundle::<HostHash>(&changed);
            assert_ne!(found.as_ref(), Ok(&whole), "byte {at}");
        }
    }

    #[test]
    fn a_header_that_fits_no_offer_is_not_written() {
        let envelope = vec![0; MAX_ENVELOPE];
        assert!(write_head(&envelope, Some(&[0; OVERHEAD]), Some(&[0; MAX_KEY_SET])).is_ok());
        assert_eq!(write_head(&[0; MAX_HEADER], None, None), Err(Full));
    }

    /// The bytes of version 1, for ever.
    #[test]
    fn the_frozen_bundle_is_read_and_written_again() {
        let frozen = include_bytes!("../../../tests/golden/firmware-bundle/v1/two-parts.tgfw");
        assert_eq!(frozen.as_slice(), bundle().as_slice());
        let release = Release::of_bundle::<HostHash>(frozen).unwrap();
        assert_eq!(release.name().to_string().len(), 64);
    }
}
