//! Variable-length integers: seven bits a byte, low bits first, at most ten bytes. Signed ones
//! are zigzag coded. Only the shortest form is accepted.

/// Longest encoding, in bytes.
pub(crate) const MAX_LEN: usize = 10;

/// Appends `value`.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed `value`.
#[inline]
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Reads a value at `*at` and moves `*at` behind it; `None` when cut short or not canonical.
#[inline]
pub(crate) fn get(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for index in 1..MAX_LEN {
        let byte = *bytes.get(*at + index)?;
        let low = u64::from(byte & 0x7f);
        if index == MAX_LEN - 1 && byte > 1 {
            return None;
        }
        value |= low << (7 * index);
        if byte < 0x80 {
            if byte == 0 {
                return None;
            }
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

/// Reads a signed value, as [`get`].
#[inline]
pub(crate) fn get_signed(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let raw = get(bytes, at)?;
    Some((raw >> 1) as i64 ^ -((raw & 1) as i64))
}

/// Appends a length and the bytes.
#[inline]
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a length and that many bytes; gives their place in `bytes`.
#[inline]
pub(crate) fn get_span(bytes: &[u8], at: &mut usize) -> Option<(usize, usize)> {
    let len = usize::try_from(get(bytes, at)?).ok()?;
    let start = *at;
    let end = start.checked_add(len)?;
    if end > bytes.len() {
        return None;
    }
    *at = end;
    Some((start, end))
}

/// Reads a length and that many bytes.
pub(crate) fn get_bytes<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let (start, end) = get_span(bytes, at)?;
    bytes.get(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_signed(&mut out, signed);
            let mut at = 0;
            prop_assert_eq!(get(&out, &mut at), Some(value));
            prop_assert_eq!(get_signed(&out, &mut at), Some(signed));
            prop_assert_eq!(at, out.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let mut at = 0;
            while let Some(value) = get(&bytes, &mut at) {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert!(bytes[..at].ends_with(&again));
            }
        }
    }

    #[test]
    fn longer_forms_of_a_number_are_refused() {
        assert_eq!(get(&[0x80, 0x00], &mut 0), None);
        assert_eq!(get(&[0xff; 10], &mut 0), None);
        assert_eq!(get(&[0x80], &mut 0), None);
    }
}
