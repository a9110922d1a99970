//! Text that is written straight into the output, piece by piece: an interpreter pays for each copy of it.

use crate::json::escape;
use crate::text::{digit_bytes, position};
use alloc::vec::Vec;

/// What a topic or a payload has so far; see [`Out::write_for`](crate::Out::write_for).
pub struct Pieces<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Appends it as it is.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Appends it as a string of JSON: in quotes, escaped where JSON wants it. The bytes should be UTF-8.
    pub fn push_string(&mut self, text: &[u8]) {
        escape(text, |piece| self.push(piece));
    }

    /// Appends a number in decimal.
    pub fn push_number(&mut self, number: i64) {
        if number < 0 {
            self.push(b"-");
        }
        self.push(digit_bytes(&mut [0; 20], number.unsigned_abs()));
    }

    /// Appends a template with every `{name}` replaced.
    pub fn push_template(&mut self, template: &str, name: &str, value: &[u8]) {
        let mut rest = template.as_bytes();
        loop {
            let at = position(rest, b'{').unwrap_or(rest.len());
            let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
            self.push(before);
            let Some((_, after)) = after.split_first() else { return };
            let behind = after.strip_prefix(name.as_bytes());
            match behind.and_then(|behind| behind.strip_prefix(b"}")) {
                Some(behind) => {
                    self.push(value);
                    rest = behind;
                }
                None => {
                    self.push(b"{");
                    rest = after;
                }
            }
        }
    }
}
