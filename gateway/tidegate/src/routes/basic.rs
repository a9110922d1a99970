//! A user name and a password in a header (RFC 7617).

use tidegate_broker::access::Secret;

use crate::base64::decode;

/// Reads what stands behind `Basic `.
pub(crate) fn parse(text: &str) -> Option<(String, Secret)> {
    let bytes = Secret::from(decode(text)?);
    let colon = bytes.expose().iter().position(|byte| *byte == b':')?;
    let (user, password) = bytes.expose().split_at(colon);
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some((user, Secret::from(password[1..].to_vec())))
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
