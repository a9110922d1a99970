//! Bodies of record sections, compressed where the stream asks for it and it pays.
//!
//! A body is compressed by itself, so that each section can be read alone. Its length is written
//! in front and bounded, so that no bytes on a disk make a reader take more memory than a frame
//! may hold.

use bytes::Bytes;

/// How a body is written: the second byte of its section's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Plain,
    Lz4,
}

/// Smaller bodies stay plain: a frame takes whole sectors whatever is in it.
const LEAST_BYTES: usize = 2 << 10;
/// What compression must save of a body: one part in this many.
const LEAST_SAVED: usize = 8;
/// The longest body that is taken: more than the largest frame.
const MOST_BYTES: usize = 32 << 20;
/// Bytes in front of a compressed body: its plain length.
const LENGTH: usize = 4;

impl Coding {
    pub(crate) fn code(self) -> u8 {
        match self {
            Coding::Plain => 0,
            Coding::Lz4 => 1,
        }
    }
}

/// A body that can be read.
#[derive(Debug, Clone)]
pub(crate) enum Body<'a> {
    Plain(&'a [u8]),
    Opened(Bytes),
}

impl Body<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Body::Plain(bytes) => bytes,
            Body::Opened(bytes) => bytes,
        }
    }
}

/// The body compressed, if that pays.
pub(crate) fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    let len = u32::try_from(plain.len()).ok()?;
    if plain.len() < LEAST_BYTES || plain.len() > MOST_BYTES {
        return None;
    }
    let mut out = vec![0; LENGTH + lz4_flex::block::get_maximum_output_size(plain.len())];
    out[..LENGTH].copy_from_slice(&len.to_le_bytes());
    // It cannot fail: the room is what the algorithm needs at most.
    let packed = lz4_flex::block::compress_into(plain, &mut out[LENGTH..]).ok()?;
    out.truncate(LENGTH + packed);
    (out.len() <= plain.len() - plain.len() / LEAST_SAVED).then_some(out)
}

/// A body as it was before; `None` for a coding that is not known, or bytes that no program of
/// this format writes.
pub(crate) fn open(coding: u8, body: &[u8]) -> Option<Body<'_>> {
    if coding == Coding::Plain.code() {
        return Some(Body::Plain(body));
    }
    if coding != Coding::Lz4.code() {
        return None;
    }
    let (len, packed) = body.split_at_checked(LENGTH)?;
    let len = u32::from_le_bytes(len.try_into().ok()?) as usize;
    if len > MOST_BYTES {
        return None;
    }
    let mut plain = vec![0; len];
    let opened = lz4_flex::block::decompress_into(packed, &mut plain).ok()?;
    (opened == len).then(|| Body::Opened(Bytes::from(plain)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_body_comes_back(word: Vec<u8>, times in 1..2_000usize, tail: Vec<u8>) {
            let plain = [word.repeat(times), tail].concat();
            let Some(packed) = compress(&plain) else { return Ok(()) };
            prop_assert!(packed.len() * 8 <= plain.len() * 7);
            let opened = open(Coding::Lz4.code(), &packed).expect("a body");
            prop_assert_eq!(opened.bytes(), &plain);
        }

        #[test]
        fn any_bytes_are_opened_without_panic(coding: u8, body: Vec<u8>, len in 0..100_000u32) {
            let _whatever = open(coding, &body).is_some();
            let body = [len.to_le_bytes().as_slice(), &body].concat();
            if let Some(opened) = open(Coding::Lz4.code(), &body) {
                prop_assert_eq!(opened.bytes().len(), len as usize);
            }
        }
    }

    #[test]
    fn a_body_that_claims_to_be_larger_than_any_frame_is_not_opened() {
        let mut body = compress(&[7; 10_000]).expect("it pays");
        body[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(open(Coding::Lz4.code(), &body).is_none());
    }

    #[test]
    fn what_is_small_or_does_not_shrink_stays_plain() {
        assert_eq!(compress(&[7; 2_000]), None);
        let mut noise = 1u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            (noise >> 56) as u8
        })
        .take(64 << 10)
        .collect();
        assert_eq!(compress(&random), None);
    }
}
