//! The form of envelopes, with a stand-in for the curve. Real signatures are tested where a
//! library is: `gateway/tidegate/src/packages/signature.rs`.

use core::cell::RefCell;

use super::*;

const KEY: KeyId = KeyId(*b"\x01\x02\x03\x04\x05\x06\x07\x08");

/// "Signs" with a sum over all bytes; remembers what it was given.
struct Sum(RefCell<([u8; 256], usize)>);

impl Sum {
    fn new() -> Sum {
        Sum(RefCell::new(([0; 256], 0)))
    }

    fn signature(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
        let mut seen = ([0; 256], 0);
        let mut sum = 0u64;
        for byte in parts.into_iter().flatten() {
            seen.0[seen.1] = *byte;
            seen.1 += 1;
            sum = sum.wrapping_mul(31).wrapping_add(u64::from(*byte)).rotate_left(7);
        }
        *self.0.borrow_mut() = seen;
        let mut signature = [0; SIGNATURE_BYTES];
        signature[..8].copy_from_slice(&sum.to_be_bytes());
        signature
    }
}

impl Signer for Sum {
    fn key_id(&self) -> KeyId {
        KEY
    }

    fn sign(&self, parts: [&[u8]; 2]) -> [u8; SIGNATURE_BYTES] {
        self.signature(parts)
    }
}

impl Verifier for Sum {
    fn verify(&self, key: KeyId, parts: [&[u8]; 2], signature: &[u8; SIGNATURE_BYTES]) -> Verdict {
        match (key == KEY, self.signature(parts) == *signature) {
            (false, _) => Verdict::UnknownKey,
            (true, true) => Verdict::Valid,
            (true, false) => Verdict::Invalid,
        }
    }
}

fn sealed(payload: &[u8], purpose: Purpose) -> ([u8; 256], usize) {
    let mut out = [0; 256];
    let length = seal(payload, purpose, &Sum::new(), &mut out).unwrap();
    (out, length)
}

/// A hand-made envelope with this protected header.
fn with_header(header: &[u8]) -> ([u8; 256], usize) {
    let mut out = [0; 256];
    let mut writer = Writer::new(&mut out);
    writer.tag(18).unwrap();
    writer.array(4).unwrap();
    writer.bytes(header).unwrap();
    writer.map(0).unwrap();
    writer.bytes(b"x").unwrap();
    writer.bytes(&[0; 64]).unwrap();
    let length = writer.len();
    (out, length)
}

#[test]
fn the_envelope_and_what_is_signed_are_those_of_the_standard() {
    let signer = Sum::new();
    let mut out = [0; 256];
    let length = seal(b"abc", Purpose::FunctionPackage, &signer, &mut out).unwrap();
    let protected = b"\xa2\x01\x32\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08";
    let start = [&b"\xd2\x84\x4d"[..], protected, b"\xa0\x43abc\x58\x40"];
    let mut at = 0;
    for piece in start {
        assert_eq!(&out[at..at + piece.len()], piece);
        at += piece.len();
    }
    assert_eq!(length, at + 64);
    assert_eq!(length, OVERHEAD + 1 + 3);
    let (signed, signed_length) = *signer.0.borrow();
    let mut expected = [0; 256];
    let mut writer = Writer::new(&mut expected);
    writer.raw(b"\x84\x6aSignature1\x4d").unwrap();
    writer.raw(protected).unwrap();
    writer.raw(b"\x58\x1btidegate/function-package/1\x43abc").unwrap();
    let expected_length = writer.len();
    assert_eq!(&signed[..signed_length], &expected[..expected_length]);
}

#[test]
fn what_was_sealed_can_be_opened_attached_and_detached() {
    let (out, length) = sealed(b"payload", Purpose::FirmwareManifest);
    let verified = open(&out[..length], Purpose::FirmwareManifest, &Sum::new()).unwrap();
    assert_eq!((verified.key(), verified.payload()), (KEY, &b"payload"[..]));
    assert_eq!(look_into(&out[..length]), Ok((KEY, &b"payload"[..])));
    let mut out = [0; 256];
    let length =
        seal_detached(b"payload", Purpose::FirmwareManifest, &Sum::new(), &mut out).unwrap();
    assert_eq!(length, OVERHEAD + 1);
    let envelope = &out[..length];
    let apart = |payload| open_detached(envelope, payload, Purpose::FirmwareManifest, &Sum::new());
    assert_eq!(apart(b"payload").unwrap().payload(), b"payload");
    assert_eq!(apart(b"payloae"), Err(EnvelopeError::Signature(KEY)));
    assert_eq!(open(envelope, Purpose::FirmwareManifest, &Sum::new()), Err(EnvelopeError::Payload));
}

#[test]
fn a_payload_that_is_given_twice_is_refused() {
    let (out, length) = sealed(b"a", Purpose::FirmwareManifest);
    let twice = open_detached(&out[..length], b"a", Purpose::FirmwareManifest, &Sum::new());
    assert_eq!(twice, Err(EnvelopeError::Payload));
}

#[test]
fn what_was_signed_for_one_purpose_does_not_pass_for_another() {
    let (out, length) = sealed(b"payload", Purpose::FirmwareManifest);
    let opened = open(&out[..length], Purpose::FunctionPackage, &Sum::new());
    assert_eq!(opened, Err(EnvelopeError::Signature(KEY)));
    for purpose in [Purpose::FirmwareManifest, Purpose::FunctionPackage, Purpose::DeviceKeySet] {
        assert!(purpose.context().len() <= Purpose::MAX_CONTEXT);
    }
}

#[test]
fn each_changed_byte_is_refused_and_so_is_each_cut_and_each_byte_more() {
    let (out, length) = sealed(b"a payload of some length", Purpose::FunctionPackage);
    let purpose = Purpose::FunctionPackage;
    for at in 0..length {
        for bit in 0..8 {
            let mut changed = out;
            changed[at] ^= 1 << bit;
            let opened = open(&changed[..length], purpose, &Sum::new());
            assert!(opened.is_err(), "byte {at}, bit {bit}: {opened:?}");
        }
        assert!(open(&out[..at], purpose, &Sum::new()).is_err(), "cut at {at}");
    }
    let trailing = open(&out[..=length], purpose, &Sum::new());
    let error = CborError::Trailing { at: length as u16 };
    assert_eq!(trailing, Err(EnvelopeError::Encoding(error)));
}

/// RFC 9864 gave Ed25519 an identifier of its own; tools that know the older one may sign, too.
#[test]
fn the_older_identifier_of_the_algorithm_is_read_and_others_are_not() {
    let (out, length) = with_header(b"\xa2\x01\x27\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08");
    let opened = open(&out[..length], Purpose::FunctionPackage, &Sum::new());
    assert_eq!(opened, Err(EnvelopeError::Signature(KEY)), "read, and signed by nobody");
    let (out, length) = with_header(b"\xa2\x01\x26\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08");
    let opened = open(&out[..length], Purpose::FunctionPackage, &Sum::new());
    assert_eq!(opened, Err(EnvelopeError::Algorithm(-7)));
}

#[test]
fn headers_of_another_form_are_refused() {
    let key = b"\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08";
    let mut critical = [0; 20];
    critical[..7].copy_from_slice(b"\xa3\x01\x32\x02\x81\x18\x63");
    critical[7..17].copy_from_slice(key);
    for (header, error) in [
        (&b""[..], EnvelopeError::Encoding(CborError::Short { at: 0 })),
        (b"\xa0", EnvelopeError::Protected),
        (b"\xa1\x01\x32", EnvelopeError::Protected),
        (b"\xa1\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08", EnvelopeError::Protected),
        (b"\xa2\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08\x01\x32", EnvelopeError::Protected),
        (b"\xa2\x01\x32\x01\x32", EnvelopeError::Protected),
        (b"\xa2\x01\x32\x04\x41\x01", EnvelopeError::Protected),
        (b"\xa2\x01\x32\x03\x00", EnvelopeError::Protected),
        (&critical[..17], EnvelopeError::Critical),
        (b"\xa1\x01\x26", EnvelopeError::Algorithm(-7)),
        (
            b"\xa2\x01\x38\x12\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08",
            EnvelopeError::Encoding(CborError::NotShortest { at: 2 }),
        ),
        (
            b"\xa2\x01\x32\x04\x48\x01\x02\x03\x04\x05\x06\x07\x08\x00",
            EnvelopeError::Encoding(CborError::Trailing { at: 13 }),
        ),
    ] {
        let (out, length) = with_header(header);
        let opened = open(&out[..length], Purpose::FunctionPackage, &Sum::new());
        assert_eq!(opened, Err(error), "{header:02x?}");
    }
}

#[test]
fn a_filled_unprotected_header_another_tag_and_a_short_signature_are_refused() {
    let protected = write_protected(KEY).unwrap();
    let envelope = |tag: u64, unprotected: &[u8], signature: &[u8]| {
        let mut out = [0; 256];
        let mut writer = Writer::new(&mut out);
        writer.tag(tag).unwrap();
        writer.array(4).unwrap();
        writer.bytes(&protected).unwrap();
        writer.raw(unprotected).unwrap();
        writer.bytes(b"x").unwrap();
        writer.bytes(signature).unwrap();
        let length = writer.len();
        open(&out[..length], Purpose::FunctionPackage, &Sum::new()).map(|_| ())
    };
    assert_eq!(envelope(18, &[0xa1, 0x04, 0x41, 0x01], &[0; 64]), Err(EnvelopeError::Unprotected));
    assert_eq!(envelope(17, &[0xa0], &[0; 64]), Err(EnvelopeError::NotSign1));
    assert_eq!(envelope(18, &[0xa0], &[0; 63]), Err(EnvelopeError::SignatureForm));
    assert_eq!(envelope(18, &[0xa0], &[0xff; 64]), Err(EnvelopeError::SignatureForm), "S >= L");
    assert_eq!(envelope(18, &[0xa0], &[0; 64]), Err(EnvelopeError::Signature(KEY)));
}

#[test]
fn a_buffer_that_is_too_small_is_refused() {
    for room in 0..OVERHEAD + 4 {
        let mut out = [0; 256];
        let sealed = seal(b"abc", Purpose::FunctionPackage, &Sum::new(), &mut out[..room]);
        assert_eq!(sealed, Err(Full), "{room}");
    }
}
