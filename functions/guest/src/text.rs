//! Text without the formatting machinery, which costs more bytes than most functions.

use alloc::string::String;

/// Joins pieces into one text.
///
/// Smaller than a row of `push_str`, which the compiler expands at each place.
#[inline(never)]
pub fn concat(pieces: &[&str]) -> String {
    let mut text = String::new();
    append(&mut text, pieces);
    text
}

/// Appends pieces to a text.
#[inline(never)]
pub fn append(text: &mut String, pieces: &[&str]) {
    // For all at once: each piece that outgrows the text would copy it.
    text.reserve(pieces.iter().map(|piece| piece.len()).sum());
    for piece in pieces {
        text.push_str(piece);
    }
}

/// A number in decimal.
pub fn number(number: u64) -> String {
    let mut text = String::new();
    push_number(&mut text, number);
    text
}

/// Appends a number in decimal.
pub fn push_number(text: &mut String, number: u64) {
    append(text, &[digits(&mut [0; 20], number)]);
}

/// A number in decimal, without memory of its own.
pub(crate) fn digits(buffer: &mut [u8; 20], number: u64) -> &str {
    core::str::from_utf8(digit_bytes(buffer, number)).unwrap_or("")
}

/// The same as bytes.
#[inline(never)]
pub(crate) fn digit_bytes(buffer: &mut [u8; 20], number: u64) -> &[u8] {
    let mut left = number;
    let mut first = buffer.len();
    for digit in buffer.iter_mut().rev() {
        // A division less than with the remainder: that is the dear one.
        let rest = left / 10;
        *digit = b'0' + (left - rest * 10) as u8;
        left = rest;
        first -= 1;
        if left == 0 {
            break;
        }
    }
    buffer.get(first..).unwrap_or(&[])
}

/// Appends a number in decimal, with its sign when it is negative.
pub fn push_signed(text: &mut String, number: i64) {
    let sign = if number < 0 { "-" } else { "" };
    append(text, &[sign, digits(&mut [0; 20], number.unsigned_abs())]);
}

/// Appends a template with every `{name}` replaced.
pub fn push_template(text: &mut String, template: &str, name: &str, value: &str) {
    let mut rest = template;
    loop {
        let (before, after) = cut(rest, b'{');
        let Some(after) = after else { return append(text, &[before]) };
        let (piece, after) =
            match after.strip_prefix(name).and_then(|after| after.strip_prefix("}")) {
                Some(after) => (value, after),
                None => ("{", after),
            };
        append(text, &[before, piece]);
        rest = after;
    }
}

/// What is before the first such ASCII character, and what is after it, if there is one.
pub fn cut(text: &str, separator: u8) -> (&str, Option<&str>) {
    match position(text.as_bytes(), separator) {
        Some(at) => (text.get(..at).unwrap_or(""), text.get(at + 1..)),
        None => (text, None),
    }
}

/// Where the byte is first.
pub(crate) fn position(bytes: &[u8], byte: u8) -> Option<usize> {
    bytes.iter().position(|&found| found == byte)
}
