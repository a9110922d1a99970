//! Encoder against decoder, and decoder against anything.

use std::vec::Vec;

use proptest::prelude::*;
use tidegate_boot::{Flash, Region, Travels};
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::random::Random;
use tidegate_device_sim::release;

use crate::decode::{Decoder, Out, Undecodable};
use crate::pages::Pages;

const BASE: u32 = 0x1_0000;
/// How long the base is, its reader knows.
const CHANGES: Travels = Travels::Changes { base_size: 0 };

/// What comes out, and whether it is complete.
fn decoded(
    travels: Travels,
    base: &[u8],
    size: usize,
    bytes: &[u8],
) -> Result<Vec<u8>, Undecodable> {
    let mut nor = Nor::<4, 4_096>::new(32, 1);
    nor.put(BASE as usize, base);
    let to = Region { from: 0, to: BASE };
    let base = Region { from: BASE, to: BASE + base.len() as u32 };
    let mut pages = Pages::new(to, size as u32, 0, base);
    let mut decoder = Decoder::new(travels);
    let mut flash = Flash::new(&mut nor);
    for byte in bytes {
        decoder.take(*byte, &mut Out { flash: &mut flash, pages: &mut pages })?;
    }
    if pages.left() > 0 {
        return Err(Undecodable::Content);
    }
    Ok(nor.look(0, size).to_vec())
}

#[test]
fn frozen_streams_are_made_and_decoded() {
    let base: &[u8] = include_bytes!("../../../../tests/golden/image/v1/base.bin");
    let compressed: &[u8] = include_bytes!("../../../../tests/golden/image/v1/compressed.bin");
    let delta: &[u8] = include_bytes!("../../../../tests/golden/image/v1/delta.bin");
    let frozen: &[u8] = include_bytes!("../../../../tests/golden/image/v1/image.bin");
    assert_eq!(decoded(Travels::Packed, &[], frozen.len(), compressed).as_deref(), Ok(frozen));
    assert_eq!(decoded(CHANGES, base, frozen.len(), delta).as_deref(), Ok(frozen));
    // Encoders may become better: then this changes, and what is above does not.
    assert_eq!(tidegate_patch::compressed(frozen), compressed);
    assert_eq!(tidegate_patch::delta(base, frozen), delta);
}

#[test]
fn a_delta_of_a_small_change_is_small() {
    let base = release::image(1, 58_000);
    let image = release::changed(&base, 2);
    let delta = tidegate_patch::delta(&base, &image);
    assert!(delta.len() < 1_500, "{} bytes", delta.len());
    let same = tidegate_patch::delta(&base, &base);
    assert!(same.len() <= 5 * base.len().div_ceil(4_096), "{} bytes", same.len());
}

#[test]
fn mutated_streams_are_refused_or_decoded_and_never_leave_their_places() {
    let base = release::image(1, 9_000);
    let image = release::changed(&base, 2);
    let packed = tidegate_patch::compressed(&image);
    let delta = tidegate_patch::delta(&base, &image);
    let mut random = Random::new(3);
    let mut refused = 0;
    for _ in 0..1_500 {
        for (travels, stream) in [(Travels::Packed, &packed), (CHANGES, &delta)] {
            let mut bytes = stream.clone();
            for _ in 0..1 + random.below(3) {
                random.mutate(&mut bytes);
            }
            refused += usize::from(decoded(travels, &base, image.len(), &bytes).is_err());
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn what_reaches_beyond_the_base_the_frame_or_the_window_is_refused() {
    let content = |bytes: &[u8]| {
        let head = bytes.len() as u16 | 1 << 15;
        [&head.to_le_bytes(), bytes].concat()
    };
    let delta = |bytes: &[u8]| decoded(CHANGES, &[7; 10], 10, &content(bytes));
    assert_eq!(delta(&[9]), Ok(std::vec![7; 10]), "copy ten");
    assert_eq!(delta(&[10]), Err(Undecodable::Content), "copy eleven");
    assert_eq!(delta(&[0xc0, 1, 0, 0, 9]), Err(Undecodable::Content), "beyond the base");
    assert_eq!(delta(&[0xc0, 0xff, 0xff, 0xff, 9]), Err(Undecodable::Content));
    assert_eq!(delta(&[0xc1, 0, 0, 0, 9]), Err(Undecodable::Content), "no operation");
    assert_eq!(delta(&[8]), Err(Undecodable::Content), "one byte is missing");
    assert_eq!(delta(&[9, 0x40]), Err(Undecodable::Content), "an operation is not whole");
    let packed = |bytes: &[u8]| decoded(Travels::Packed, &[], 2, bytes);
    // Head of two bytes of content; a match when nothing is there yet.
    assert_eq!(packed(&[2, 0, 0, 0]), Err(Undecodable::Content));
    assert_eq!(packed(&[0, 0]), Err(Undecodable::Content), "an empty frame");
    assert_eq!(packed(&[2, 0x80, 1, 2, 1]), Ok(std::vec![1, 2]), "half of a head is no frame yet");
    assert_eq!(packed(&[2, 0x80, 1, 2, 1, 0x80]), Err(Undecodable::Content), "behind the last");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_image_survives_both_encodings(
        seeds in any::<(u64, u64)>(),
        size in 100usize..14_000,
        noise in any::<bool>(),
    ) {
        let base = release::image(seeds.0, size);
        let image = if noise {
            Random::new(seeds.1).bytes(size)
        } else {
            release::changed(&base, seeds.1)
        };
        let packed = tidegate_patch::compressed(&image);
        prop_assert_eq!(decoded(Travels::Packed, &[], image.len(), &packed), Ok(image.clone()));
        let delta = tidegate_patch::delta(&base, &image);
        prop_assert_eq!(decoded(CHANGES, &base, image.len(), &delta), Ok(image.clone()));
        prop_assert!(packed.len() <= image.len() + 2 * image.len().div_ceil(4_096));
    }
}
