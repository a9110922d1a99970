//! Key sets, with a stand-in for curve and hash. Real ones are in the simulator of devices.

use std::vec::Vec;

use super::*;
use crate::digest::Digest;
use crate::sign1::{Signer, seal, seal_detached};

const FROZEN: &[u8] = include_bytes!("../../../../tests/golden/manifest/v1/key-set.cbor");

/// A sum of all bytes.
#[derive(Default)]
struct Sum(u64);

impl Sha256 for Sum {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_mul(31).wrapping_add(u64::from(*byte)).rotate_left(7);
        }
    }

    fn finish(self) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&self.0.to_be_bytes());
        Digest(digest)
    }
}

/// "Signs" with a sum over key and message.
struct Stand;

fn signature(key: &PublicKey, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
    let mut sum = Sum::default();
    for part in [key.as_bytes(), parts[0], parts[1]] {
        sum.update(part);
    }
    let mut signature = [0; SIGNATURE_BYTES];
    signature[..32].copy_from_slice(&sum.finish().0);
    signature
}

impl crate::crypto::Curve for Stand {
    fn is_signed(&self, key: &PublicKey, parts: [&[u8]; 2], given: &[u8; SIGNATURE_BYTES]) -> bool {
        signature(key, parts) == *given
    }
}

impl Crypto for Stand {
    type Hash = Sum;
}

struct Key(PublicKey);

impl Signer for Key {
    fn key_id(&self) -> KeyId {
        key_id::<Sum>(&self.0)
    }

    fn sign(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
        signature(&self.0, parts)
    }
}

fn public(fill: u8) -> PublicKey {
    PublicKey::new([fill; 32]).unwrap()
}

fn set(threshold: u8, keys: &[u8]) -> KeySet {
    let keys: Vec<PublicKey> = keys.iter().map(|fill| public(*fill)).collect();
    KeySet { version: 3, threshold, keys: Keys::new(&keys).unwrap(), sequence_cap: 1_000 }
}

fn written(set: &KeySet) -> Vec<u8> {
    let mut out = [0; MAX_KEY_SET];
    let length = set.write(&mut out).unwrap();
    out[..length].to_vec()
}

fn enveloped(payload: &[u8], purpose: Purpose, fill: u8) -> Vec<u8> {
    let mut out = [0; 512];
    let length = seal(payload, purpose, &Key(public(fill)), &mut out).unwrap();
    out[..length].to_vec()
}

#[test]
fn the_frozen_key_set_is_written_and_read() {
    let set = set(2, &[1, 2, 3, 4]);
    assert_eq!(written(&set), FROZEN);
    assert_eq!(KeySet::read(FROZEN), Ok(set));
    let mut out = [0; MAX_KEY_SET];
    let largest = KeySet { version: u32::MAX, sequence_cap: u64::MAX, ..set };
    let largest =
        enveloped(&out[..largest.write(&mut out.clone()).unwrap()], Purpose::DeviceKeySet, 1);
    assert!(largest.len() <= MAX_KEY_SET, "{}", largest.len());
    assert!(set.write(&mut out[..100]).is_err());
}

#[test]
fn weak_keys_keys_that_come_twice_and_too_few_for_the_threshold_are_refused() {
    let bytes = written(&set(2, &[1, 2]));
    let keys = FormError::range(key::KEYS);
    let first = bytes.windows(2).position(|w| w == [0x58, 0x20]).unwrap() + 2;
    let mut weak = bytes.clone();
    weak[first..first + 32].fill(0);
    assert_eq!(KeySet::read(&weak), Err(keys), "of small order");
    let mut twice = bytes.clone();
    twice[first..first + 32].fill(2);
    assert_eq!(KeySet::read(&twice), Err(keys));
    assert_eq!(Keys::new(&[public(1), public(1)]), None);
    assert_eq!(Keys::new(&[]), None);
    let mut few = set(1, &[1]);
    few.threshold = 2;
    let error = FormError::range(key::THRESHOLD);
    assert_eq!(KeySet::read(&written(&few)), Err(error));
}

#[test]
fn a_key_set_counts_when_a_root_has_signed_it_as_one() {
    let set = set(1, &[1, 2]);
    let roots = [public(8), public(9)];
    for root in [8, 9] {
        let envelope = enveloped(&written(&set), Purpose::DeviceKeySet, root);
        assert_eq!(KeySet::open(&envelope, &roots, &Stand), Ok(Ok(set)));
    }
    let stranger = enveloped(&written(&set), Purpose::DeviceKeySet, 7);
    assert!(KeySet::open(&stranger, &roots, &Stand).is_err());
    let purpose = enveloped(&written(&set), Purpose::FirmwareManifest, 8);
    assert!(KeySet::open(&purpose, &roots, &Stand).is_err());
}

#[test]
fn a_threshold_of_two_wants_two_different_keys() {
    let set = set(2, &[1, 2]);
    let envelope = enveloped(b"manifest", Purpose::FirmwareManifest, 1);
    let second = |fill| {
        let mut out = [0; 128];
        let key = Key(public(fill));
        let length = seal_detached(b"manifest", Purpose::FirmwareManifest, &key, &mut out).unwrap();
        out[..length].to_vec()
    };
    let open = |second: Option<&[u8]>| set.open_manifest(&envelope, second, &Stand);
    assert_eq!(open(Some(&second(2))), Ok(&b"manifest"[..]));
    assert_eq!(open(None), Err(ReleaseError::Threshold));
    assert_eq!(open(Some(&second(1))), Err(ReleaseError::Threshold));
    assert!(matches!(open(Some(&second(3))), Err(ReleaseError::Envelope(_))));
}

#[test]
fn a_key_that_is_not_in_the_set_any_more_is_revoked() {
    let envelope = enveloped(b"manifest", Purpose::FirmwareManifest, 1);
    let opened = set(1, &[1]).open_manifest(&envelope, None, &Stand);
    assert_eq!(opened, Ok(&b"manifest"[..]));
    let revoked = set(1, &[2]).open_manifest(&envelope, None, &Stand);
    let id = key_id::<Sum>(&public(1));
    assert_eq!(revoked, Err(ReleaseError::Envelope(EnvelopeError::UnknownKey(id))));
}
