//! Bytes as hexadecimal digits, as tests of functions have them too.

pub(crate) use tidegate_fixtures::base64::{from_hex as decode, to_hex as encode};
