//! What a client shows to be let in, and how it is turned away.

use std::fmt;

use crate::packet::fault::Reason;

/// A password. It is not shown by `Debug`, and its memory is overwritten when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the writes out, since nobody reads them.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The login in CONNECT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub username: Option<String>,
    /// The password; MQTT 5 allows one without a name.
    pub password: Option<Secret>,
}

/// Why a client is not let in, in the protocol's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginError {
    /// 0x85, with 3.1.1: 2.
    ClientIdNotValid,
    /// 0x86, with 3.1.1: 4. The same for an unknown name and a wrong password.
    BadCredentials,
    /// 0x87, with 3.1.1: 5.
    NotAuthorized,
    /// 0x88, with 3.1.1: 3.
    Unavailable,
    /// 0x9F, with 3.1.1: 3.
    TooManyAttempts,
}

impl LoginError {
    /// The reason code of MQTT 5, the return code of 3.1.1, and the reason in words.
    pub(crate) fn answer(self) -> (Reason, u8, &'static str) {
        match self {
            LoginError::ClientIdNotValid => {
                (Reason::ClientIdNotValid, 2, "the client identifier is not the user's")
            }
            LoginError::BadCredentials => {
                (Reason::BadUserNameOrPassword, 4, "the user name or the password is wrong")
            }
            LoginError::NotAuthorized => (Reason::NotAuthorized, 5, "not authorised"),
            LoginError::Unavailable => {
                (Reason::ServerUnavailable, 3, "too many logins are being checked")
            }
            LoginError::TooManyAttempts => {
                (Reason::ConnectionRateExceeded, 3, "too many attempts from this address")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let password = Some(Secret::from(b"hunter2".to_vec()));
        let credentials = Credentials { username: Some("ann".into()), password };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("ann") && shown.contains("***") && !shown.contains("hunter2"));
    }
}
