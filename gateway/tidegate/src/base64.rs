//! Base64 (RFC 4648): logins over HTTP, the handshake of WebSocket, and what a NATS server writes
//! in JSON and wants as signatures.

pub(crate) use tidegate_fixtures::base64::decode;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text: String = digits(bytes).map(char::from).collect();
    text.extend(std::iter::repeat_n('=', text.len().next_multiple_of(4) - text.len()));
    text
}

/// URL-safe base64 without padding.
#[cfg(any(feature = "sink-nats", test))]
pub(crate) fn encode_for_url(bytes: &[u8]) -> String {
    let safe = |digit| match digit {
        b'+' => '-',
        b'/' => '_',
        digit => char::from(digit),
    };
    digits(bytes).map(safe).collect()
}

fn digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.chunks(3).flat_map(|group| {
        let [first, second, third] = [0, 1, 2].map(|at| group.get(at).copied().unwrap_or(0));
        let bits = u32::from_be_bytes([0, first, second, third]);
        (0..=group.len()).map(move |at| DIGITS[(bits >> (18 - 6 * at) & 63) as usize])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_the_rfc_hold_in_both_directions() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, encoded) in vectors {
            assert_eq!(decode(encoded).unwrap(), plain.as_bytes());
            assert_eq!(encode(plain.as_bytes()), encoded);
            assert_eq!(encode_for_url(plain.as_bytes()), encoded.trim_end_matches('='));
        }
        assert_eq!(decode("++//").unwrap(), [0xfb, 0xef, 0xff]);
        assert_eq!(encode_for_url(&[0xfb, 0xef, 0xff]), "--__");
        assert_eq!((decode("Z"), decode("Zg-_")), (None, None));
    }
}
