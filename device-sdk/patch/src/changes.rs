//! Finds what of an image was in its base already.

use std::collections::HashMap;

/// Bytes that have to be the same for a place to be considered.
const KEY: usize = 8;
/// Most places in the base that are tried for one place in the image.
const TRIES: usize = 32;
/// A run of equal bytes shorter than this stays inside a difference.
const WORTH_A_COPY: usize = 6;
/// A difference goes on over so many bytes without an equal one.
const GIVE_UP: usize = 16;

/// Where each eight bytes of the base are.
pub(crate) struct Index<'b> {
    base: &'b [u8],
    places: HashMap<[u8; KEY], Vec<u32>>,
}

/// Bytes of the image from `at` on that are alike those of the base from `from` on.
#[derive(Clone, Copy)]
struct Alike {
    from: usize,
    length: usize,
    equal: usize,
}

impl<'b> Index<'b> {
    pub(crate) fn new(base: &'b [u8]) -> Index<'b> {
        let mut places: HashMap<[u8; KEY], Vec<u32>> = HashMap::new();
        for (place, key) in base.windows(KEY).enumerate() {
            let found = places.entry(key.try_into().unwrap_or_default()).or_default();
            // Long runs of one byte would fill the memory; their first places are enough.
            if found.len() < 4 * TRIES {
                found.push(place as u32);
            }
        }
        Index { base, places }
    }

    /// The operations that make a part of the image, which begins at `place` in it.
    pub(crate) fn operations(&self, part: &[u8], place: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut base_at = place;
        let mut extra_from = 0;
        let mut at = 0;
        while at < part.len() {
            let Some(alike) = self.best(part, at, base_at) else {
                at += 1;
                base_at += 1;
                continue;
            };
            extra(&mut out, &part[extra_from..at]);
            // Extra bytes do not move the place in the base.
            if alike.from != base_at - (at - extra_from) {
                out.push(0b11 << 6);
                out.extend(&(alike.from as u32).to_le_bytes()[..3]);
            }
            changed(&mut out, &part[at..at + alike.length], &self.base[alike.from..]);
            at += alike.length;
            extra_from = at;
            base_at = alike.from + alike.length;
        }
        extra(&mut out, &part[extra_from..]);
        out
    }

    /// The best place in the base for the image from `at` on; the one that follows from what was
    /// before is tried first, because it costs nothing.
    fn best(&self, part: &[u8], at: usize, expected: usize) -> Option<Alike> {
        let expected = self.alike(part, at, expected);
        let good_enough = expected.filter(|alike| alike.equal >= KEY);
        if good_enough.is_some() {
            return good_enough;
        }
        let key: [u8; KEY] = part.get(at..at + KEY)?.try_into().ok()?;
        let places = self.places.get(&key)?;
        let candidates = places.iter().take(TRIES);
        let candidates = candidates.filter_map(|from| self.alike(part, at, *from as usize));
        candidates.max_by_key(|alike| alike.equal).filter(|alike| alike.equal >= KEY)
    }

    fn alike(&self, part: &[u8], at: usize, from: usize) -> Option<Alike> {
        let (mut equal, mut best, mut wrong) = (0, None, 0);
        for (n, (ours, theirs)) in part[at..].iter().zip(self.base.get(from..)?).enumerate() {
            if ours == theirs {
                (equal, wrong) = (equal + 1, 0);
                best = Some(Alike { from, length: n + 1, equal });
            } else {
                wrong += 1;
                // More wrong than right is no likeness.
                if wrong > GIVE_UP || n + 1 > 2 * equal + KEY {
                    break;
                }
            }
        }
        best
    }
}

fn head(out: &mut Vec<u8>, kind: u8, count: usize) {
    match count {
        0 => {}
        1..=63 => out.push(kind << 6 | (count - 1) as u8),
        _ => {
            out.push(kind << 6 | 63);
            out.extend(((count - 64) as u16).to_le_bytes());
        }
    }
}

fn extra(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 0b10, bytes.len());
    out.extend(bytes);
}

/// Copies where bytes are equal, differences between.
fn changed(out: &mut Vec<u8>, image: &[u8], base: &[u8]) {
    let mut at = 0;
    while at < image.len() {
        let equal = run(&image[at..], &base[at..]);
        if equal >= WORTH_A_COPY || at + equal == image.len() {
            head(out, 0b00, equal);
            at += equal;
            continue;
        }
        let mut end = at + equal;
        while end < image.len() {
            let equal = run(&image[end..], &base[end..]);
            if equal >= WORTH_A_COPY {
                break;
            }
            end += equal.max(1);
        }
        let end = end.min(image.len());
        head(out, 0b01, end - at);
        out.extend(image[at..end].iter().zip(&base[at..]).map(|(new, old)| new.wrapping_sub(*old)));
        at = end;
    }
}

/// How many bytes are equal.
fn run(image: &[u8], base: &[u8]) -> usize {
    image.iter().zip(base).take_while(|(new, old)| new == old).count()
}
