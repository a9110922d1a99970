//! A user name and a password in a header (RFC 7617).

use tidegate_broker::access::Secret;

/// Reads what stands behind `Basic `.
pub(crate) fn parse(text: &str) -> Option<(String, Secret)> {
    let bytes = Secret::from(decode(text)?);
    let colon = bytes.expose().iter().position(|byte| *byte == b':')?;
    let (user, password) = bytes.expose().split_at(colon);
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some((user, Secret::from(password[1..].to_vec())))
}

/// The bytes of base64 (RFC 4648), with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        let [_, whole @ ..] = (bits << (6 * (4 - group.len()))).to_be_bytes();
        match group.len() {
            1 => return None,
            digits => bytes.extend_from_slice(whole.get(..digits - 1)?),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_a_name_and_whatever_stands_behind_the_first_colon() {
        let parsed = |text: &str| {
            let (user, password) = parse(text)?;
            Some((user, String::from_utf8(password.expose().to_vec()).unwrap()))
        };
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(parsed("QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), login("Aladdin", "open sesame"));
        assert_eq!(parsed("dGVzdDoxMjPCow"), login("test", "123£"));
        assert_eq!(parsed("YTpiOmM="), login("a", "b:c"));
        assert_eq!(parsed("Og=="), login("", ""));
        for text in ["", "YQ==", "Y", "!!!!", "/zo="] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }
}
