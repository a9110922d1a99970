//! Encodes firmware images for their way to devices, on the side that has memory:
//! docs/formats/image-encodings.md.
//!
//! ```
//! let old: Vec<u8> = (0..9_000u32).map(|n| (n * n >> 5) as u8).collect();
//! let mut new = old.clone();
//! new[5_000] ^= 1;
//! assert!(tidegate_patch::delta(&old, &new).len() < 100);
//! assert!(tidegate_patch::compressed(&[7; 9_000]).len() < 1_000);
//! ```
//!
//! Not here: decoding (`tidegate-agent`), manifests.

mod changes;
mod heatshrink;

/// Bytes of an image that a frame stands for.
const FRAME: usize = 4_096;
/// The content of a frame is not compressed.
const PLAIN: u16 = 1 << 15;

/// An image, compressed.
#[must_use]
pub fn compressed(image: &[u8]) -> Vec<u8> {
    image.chunks(FRAME).flat_map(frame).collect()
}

/// An image, as changes to the one that the device runs.
#[must_use]
pub fn delta(base: &[u8], image: &[u8]) -> Vec<u8> {
    let index = changes::Index::new(base);
    let frames = image.chunks(FRAME).enumerate();
    frames.flat_map(|(n, part)| frame(&index.operations(part, n * FRAME))).collect()
}

/// One frame: its content compressed, where that makes it shorter.
fn frame(content: &[u8]) -> Vec<u8> {
    let packed = heatshrink::packed(content);
    let (content, flag) =
        if packed.len() < content.len() { (packed.as_slice(), 0) } else { (content, PLAIN) };
    // Operations are at most a few bytes longer than the 4,096 that they make.
    let head = content.len() as u16 | flag;
    [&head.to_le_bytes(), content].concat()
}
