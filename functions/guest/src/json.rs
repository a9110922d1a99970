//! A small JSON reader: checks a whole text, then hands out pieces of it without copying.
//!
//! ```
//! use tidegate_guest::json::Json;
//!
//! let reading = Json::parse(br#"{"id":"g3-000123","at":{"value":31.70}}"#)?;
//! assert_eq!(reading.path("at.value").and_then(|value| value.as_f64()), Some(31.7));
//! assert_eq!(reading.path("at.value").map(|value| value.text()), Some("31.70"));
//! assert_eq!(reading.get("id").and_then(|id| id.as_str()).as_deref(), Some("g3-000123"));
//! # Ok::<(), tidegate_guest::json::JsonError>(())
//! ```
//!
//! Bounds: values may be nested [`MAX_DEPTH`] deep. Numbers are read exactly when they have at
//! most 15 significant digits and an exponent of at most 22 either way, which is what sensors
//! send; beyond that, to within 20 units in the last place.

use crate::text::{append, concat, cut, number};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 32;

/// A JSON value, as its text. The text has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
}

/// Where a text stops being JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Byte, from 0.
    pub at: usize,
    /// What should be there.
    pub expected: &'static str,
}

impl JsonError {
    /// What is wrong, without the formatting machinery: `expected a value at byte 3`.
    pub fn text(&self) -> String {
        concat(&["expected ", self.expected, " at byte ", &number(self.at as u64)])
    }
}

impl core::fmt::Display for JsonError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.text())
    }
}

impl core::error::Error for JsonError {}

impl<'a> Json<'a> {
    /// Checks that the bytes are one JSON value and nothing else.
    ///
    /// # Errors
    /// The first byte that does not fit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = core::str::from_utf8(bytes)
            .map_err(|error| JsonError { at: error.valid_up_to(), expected: "UTF-8" })?;
        let mut scanner = Scanner::new(text, 0);
        scanner.space();
        let start = scanner.at;
        if scanner.value(0) {
            let value = scanner.since(start);
            scanner.space();
            if scanner.at == text.len() {
                return Ok(value);
            }
            scanner.expected = "the end";
        }
        Err(JsonError { at: scanner.at, expected: scanner.expected })
    }

    /// The value as it was written, without surrounding spaces.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.text.starts_with('{')
    }

    /// The members of an object, in their order; none when it is no object.
    pub fn members(&self) -> Members<'a> {
        Members { pairs: self.pairs() }
    }

    /// The names of an object's members, as they were written.
    pub(crate) fn names(&self) -> impl Iterator<Item = Json<'a>> + use<'a> {
        let mut pairs = self.pairs();
        core::iter::from_fn(move || pairs.next_pair().map(|(name, _)| name))
    }

    fn pairs(&self) -> Pairs<'a> {
        let at = if self.is_object() { 1 } else { self.text.len() };
        Pairs { scanner: Scanner::new(self.text, at) }
    }

    /// Whether it is this string.
    pub(crate) fn is_string(&self, other: &str) -> bool {
        if cut(self.text, b'\\').1.is_some() {
            self.as_str().is_some_and(|text| text == other)
        } else {
            self.inside() == Some(other)
        }
    }

    /// What is between the quotes of a string.
    pub(crate) fn inside(&self) -> Option<&'a str> {
        self.text.strip_prefix('"')?.strip_suffix('"')
    }

    /// The member of an object with this name; the last one, if there are several.
    pub fn get(&self, name: &str) -> Option<Json<'a>> {
        let mut found = None;
        let mut pairs = self.pairs();
        while let Some((key, value)) = pairs.next_pair() {
            if key.is_string(name) {
                found = Some(value);
            }
        }
        found
    }

    /// The value at a path of names with dots between them: `at.value`.
    pub fn path(&self, path: &str) -> Option<Json<'a>> {
        let mut found = *self;
        let mut left = Some(path);
        while let Some(path) = left {
            let (name, rest) = cut(path, b'.');
            found = found.get(name)?;
            left = rest;
        }
        Some(found)
    }

    /// The number; `None` when it is none, or too large for an `f64`.
    pub fn as_f64(&self) -> Option<f64> {
        match self.text.as_bytes().first()? {
            b'-' | b'0'..=b'9' => number_of(self.text),
            _ => None,
        }
    }

    /// The string, escapes resolved; `None` when it is no string.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        self.inside().map(unescape)
    }

    /// The boolean; `None` when it is none.
    pub fn as_bool(&self) -> Option<bool> {
        // The text was checked: no other value begins like this.
        match self.text.as_bytes() {
            [b't', ..] => Some(true),
            [b'f', ..] => Some(false),
            _ => None,
        }
    }
}

/// The members of an object.
#[derive(Debug, Clone)]
pub struct Members<'a> {
    pairs: Pairs<'a>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Cow<'a, str>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.pairs.next_pair()?;
        Some((key.as_str()?, value))
    }
}

/// The members of an object, names as they were written.
#[derive(Debug, Clone)]
struct Pairs<'a> {
    scanner: Scanner<'a>,
}

impl<'a> Pairs<'a> {
    fn next_pair(&mut self) -> Option<(Json<'a>, Json<'a>)> {
        // The text was checked as a whole: whatever does not fit here is its end.
        let scanner = &mut self.scanner;
        scanner.close(b',');
        scanner.space();
        let start = scanner.at;
        if !scanner.string() {
            return None;
        }
        let key = scanner.since(start);
        scanner.close(b':');
        scanner.space();
        let start = scanner.at;
        scanner.value(0).then(|| (key, scanner.since(start)))
    }
}

/// Appends a string with its quotes, escaped where JSON wants it.
pub fn push_string(json: &mut String, text: &str) {
    let mut rest = text;
    let mut before = "\"";
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    while let Some(at) = rest.bytes().position(special) {
        let byte = rest.as_bytes().get(at).copied().unwrap_or(0);
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        let hex = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)];
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            _ => core::str::from_utf8(&hex).unwrap_or(""),
        };
        append(json, &[before, rest.get(..at).unwrap_or(""), escape]);
        before = "";
        rest = rest.get(at + 1..).unwrap_or("");
    }
    append(json, &[before, rest, "\""]);
}

/// Reads from left to right. Each step says whether the text was as it should be; if not, `at` and
/// `expected` say what is wrong. Smaller than a `Result` from each.
#[derive(Debug, Clone)]
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    expected: &'static str,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str, at: usize) -> Self {
        Self { text, at, expected: "" }
    }

    /// The byte at `at`; 0, which JSON has nowhere, at the end.
    fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn fail(&mut self, expected: &'static str) -> bool {
        self.expected = expected;
        false
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> bool {
        match self.peek() {
            b'"' => self.string(),
            b'{' => self.inside(depth, b'}'),
            b'[' => self.inside(depth, b']'),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.fail("a value"),
        }
    }

    fn since(&self, start: usize) -> Json<'a> {
        // Both ends are at ASCII characters, so this is never `None`.
        Json { text: self.text.get(start..self.at).unwrap_or("") }
    }

    /// An object or an array, from its opening bracket on.
    fn inside(&mut self, depth: usize, end: u8) -> bool {
        if depth >= MAX_DEPTH {
            return self.fail("at most 32 levels of nesting");
        }
        self.at += 1;
        if self.close(end) {
            return true;
        }
        loop {
            self.space();
            if end == b'}' && !self.name() {
                return false;
            }
            if !self.value(depth + 1) {
                return false;
            }
            if self.close(end) {
                return true;
            }
            if !self.close(b',') {
                return self.fail(if end == b'}' { "',' or '}'" } else { "',' or ']'" });
            }
        }
    }

    /// The name of a member, up to its value.
    fn name(&mut self) -> bool {
        if self.peek() != b'"' {
            return self.fail("a name");
        }
        if !self.string() {
            return false;
        }
        if !self.close(b':') {
            return self.fail("':'");
        }
        self.space();
        true
    }

    /// Passes spaces, and this byte if it follows them.
    fn close(&mut self, byte: u8) -> bool {
        self.space();
        let closed = self.peek() == byte;
        self.at += usize::from(closed);
        closed
    }

    fn string(&mut self) -> bool {
        if self.peek() != b'"' {
            return false;
        }
        loop {
            self.at += 1;
            match self.peek() {
                b'"' => break,
                b'\\' if !self.escape() => return false,
                0..=0x1f if self.at >= self.text.len() => {
                    return self.fail("the end of the string");
                }
                0..=0x1f => return self.fail("an escape for a control character"),
                _ => {}
            }
        }
        self.at += 1;
        true
    }

    /// An escape from its backslash on, up to its last character.
    fn escape(&mut self) -> bool {
        self.at += 1;
        match self.peek() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => true,
            b'u' => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.peek().is_ascii_hexdigit() {
                        return self.fail("four hexadecimal digits");
                    }
                }
                true
            }
            _ => self.fail("an escape"),
        }
    }

    fn number(&mut self) -> bool {
        self.at += usize::from(self.peek() == b'-');
        if self.peek() == b'0' {
            self.at += 1;
        } else if !self.digits() {
            return false;
        }
        if self.peek() == b'.' {
            self.at += 1;
            if !self.digits() {
                return false;
            }
        }
        if self.peek() | 0x20 == b'e' {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            return self.digits();
        }
        true
    }

    fn digits(&mut self) -> bool {
        if !self.peek().is_ascii_digit() {
            return self.fail("a digit");
        }
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        true
    }

    fn word(&mut self, word: &str) -> bool {
        let here = self.text.as_bytes().get(self.at..).unwrap_or(&[]);
        if !here.starts_with(word.as_bytes()) {
            return self.fail("a value");
        }
        self.at += word.len();
        true
    }
}

fn unescape(text: &str) -> Cow<'_, str> {
    if cut(text, b'\\').1.is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::new();
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        let mut buffer = [byte, 0, 0, 0];
        let mut len = 1;
        if byte == b'\\' {
            match bytes.next() {
                Some(b'u') => len = code_point(&mut bytes).encode_utf8(&mut buffer).len(),
                Some(&letter) => buffer[0] = named(letter),
                None => {}
            }
        }
        plain.extend_from_slice(buffer.get(..len).unwrap_or(&[]));
    }
    // What was UTF-8 is UTF-8 still: escapes are ASCII, and what replaces them is whole.
    Cow::Owned(String::from_utf8(plain).unwrap_or_default())
}

/// What a letter behind a backslash stands for.
fn named(letter: u8) -> u8 {
    match letter {
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        letter => letter,
    }
}

/// The four digits after `\u`, and those of the second half of a surrogate pair. A half without
/// its other half becomes U+FFFD.
fn code_point(bytes: &mut core::slice::Iter<'_, u8>) -> char {
    let mut point = hex4(bytes);
    if point >> 10 == 0xd800 >> 10 {
        let mut second = bytes.clone();
        if second.next() == Some(&b'\\') && second.next() == Some(&b'u') {
            let low = hex4(&mut second);
            if low >> 10 == 0xdc00 >> 10 {
                point = 0x10000 + ((point & 0x3ff) << 10) + (low & 0x3ff);
                *bytes = second;
            }
        }
    }
    char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Four digits that were checked.
#[inline(never)]
fn hex4(bytes: &mut core::slice::Iter<'_, u8>) -> u32 {
    let digit = |byte: u8| u32::from(byte & 15) + if byte > b'9' { 9 } else { 0 };
    bytes.by_ref().take(4).fold(0, |sum, &byte| sum * 16 + digit(byte))
}

/// Reads a checked JSON number. The standard library's reader is exact for every number and
/// brings 10 KB of tables with it.
fn number_of(text: &str) -> Option<f64> {
    let mut mantissa = 0u64;
    let mut scale = 0i32;
    let mut fraction = false;
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'-' => {}
            b'.' => fraction = true,
            b'e' | b'E' => {
                scale = scale.saturating_add(exponent(bytes.as_slice()));
                break;
            }
            // 19 digits fit into 64 bits; those after them only shift.
            digit if mantissa < 1_000_000_000_000_000_000 => {
                mantissa = mantissa * 10 + u64::from(digit & 15);
                scale -= i32::from(fraction);
            }
            _ => scale += i32::from(!fraction),
        }
    }
    let value = scaled(mantissa, scale);
    if value.is_infinite() {
        return None;
    }
    Some(if text.starts_with('-') { -value } else { value })
}

/// The exponent, cut off where it is far beyond what an `f64` can express.
fn exponent(text: &[u8]) -> i32 {
    let mut size = 0;
    for digit in text {
        if digit.is_ascii_digit() && size < 100_000 {
            size = size * 10 + i32::from(digit & 15);
        }
    }
    if text.first() == Some(&b'-') { -size } else { size }
}

/// `mantissa * 10^scale`. One correctly rounded operation on two exact numbers where both are
/// exact, steps of at most 22 digits otherwise.
fn scaled(mantissa: u64, scale: i32) -> f64 {
    let mut value = mantissa as f64;
    let mut left = scale.unsigned_abs();
    while left > 0 && value != 0.0 && value.is_finite() {
        let step = left.min(22);
        // An `f64` holds the powers of ten up to the 22nd exactly.
        let mut power = 1.0;
        for _ in 0..step {
            power *= 10.0;
        }
        value = if scale < 0 { value / power } else { value * power };
        left -= step;
    }
    value
}

#[cfg(test)]
mod tests;
