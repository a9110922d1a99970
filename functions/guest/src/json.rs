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

use crate::text::{concat, cut, number};
use alloc::borrow::Cow;
use alloc::string::String;

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
        let mut scanner = Scanner { text, at: 0 };
        scanner.space();
        let value = scanner.value(0)?;
        scanner.space();
        if scanner.at < text.len() {
            return Err(scanner.expected("the end"));
        }
        Ok(value)
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

    fn pairs(&self) -> Pairs<'a> {
        let at = if self.is_object() { 1 } else { self.text.len() };
        Pairs { scanner: Scanner { text: self.text, at } }
    }

    /// Whether it is this string.
    fn is_string(&self, other: &str) -> bool {
        if self.text.as_bytes().contains(&b'\\') {
            self.as_str().is_some_and(|text| text == other)
        } else {
            self.inside() == Some(other)
        }
    }

    /// What is between the quotes of a string.
    fn inside(&self) -> Option<&'a str> {
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
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
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
        self.scanner.space();
        if self.scanner.peek() == Some(b',') {
            self.scanner.at += 1;
            self.scanner.space();
        }
        if self.scanner.peek() != Some(b'"') {
            return None;
        }
        let key = self.scanner.string().ok()?;
        self.scanner.space();
        self.scanner.take(b':', "':'").ok()?;
        self.scanner.space();
        let value = self.scanner.value(0).ok()?;
        Some((key, value))
    }
}

/// Appends a string with its quotes, escaped where JSON wants it.
pub fn push_string(json: &mut String, text: &str) {
    json.push('"');
    let mut rest = text;
    let special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    while let Some(at) = rest.bytes().position(special) {
        json.push_str(rest.get(..at).unwrap_or(""));
        let byte = rest.as_bytes().get(at).copied().unwrap_or(0);
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        let escape = match byte {
            b'"' => *b"\\\"    ",
            b'\\' => *b"\\\\    ",
            byte => [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)],
        };
        json.push_str(core::str::from_utf8(&escape).unwrap_or("").trim_ascii_end());
        rest = rest.get(at + 1..).unwrap_or("");
    }
    json.push_str(rest);
    json.push('"');
}

#[derive(Debug, Clone)]
struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn expected(&self, expected: &'static str) -> JsonError {
        JsonError { at: self.at, expected }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.string(),
            Some(b'{') => self.object(depth)?,
            Some(b'[') => self.array(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => return Err(self.expected("a value")),
        }
        Ok(self.since(start))
    }

    fn since(&self, start: usize) -> Json<'a> {
        // Both ends are at ASCII characters, so this is never `None`.
        Json { text: self.text.get(start..self.at).unwrap_or("") }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(depth)?;
        if self.close(b'}') {
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.expected("a name"));
            }
            self.string()?;
            self.space();
            self.take(b':', "':'")?;
            self.space();
            self.value(depth + 1)?;
            if self.close(b'}') {
                return Ok(());
            }
            self.take(b',', "',' or '}'")?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(depth)?;
        if self.close(b']') {
            return Ok(());
        }
        loop {
            self.space();
            self.value(depth + 1)?;
            if self.close(b']') {
                return Ok(());
            }
            self.take(b',', "',' or ']'")?;
        }
    }

    fn open(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(self.expected("no more than 32 levels of nesting"));
        }
        self.at += 1;
        Ok(())
    }

    fn close(&mut self, byte: u8) -> bool {
        self.space();
        let closed = self.peek() == Some(byte);
        self.at += usize::from(closed);
        closed
    }

    fn string(&mut self) -> Result<Json<'a>, JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek() {
                None => return Err(self.expected("the end of the string")),
                Some(0..=0x1f) => return Err(self.expected("an escape for a control character")),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        Ok(self.since(start))
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.expected("four hexadecimal digits"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.expected("an escape")),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn word(&mut self, word: &'static str) -> Result<(), JsonError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected("a value"));
        }
        self.at += word.len();
        Ok(())
    }
}

fn unescape(text: &str) -> Cow<'_, str> {
    let (mut plain, mut rest) = match cut(text, b'\\') {
        (_, None) => return Cow::Borrowed(text),
        (before, Some(rest)) => (String::from(before), rest),
    };
    loop {
        let (c, after) = escaped(rest);
        plain.push(c);
        let (before, left) = cut(after, b'\\');
        plain.push_str(before);
        match left {
            Some(left) => rest = left,
            None => return Cow::Owned(plain),
        }
    }
}

/// The character of an escape, without its backslash, and what follows it.
fn escaped(text: &str) -> (char, &str) {
    let after = text.get(1..).unwrap_or("");
    let c = match text.as_bytes().first() {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return code_point(after),
        Some(&byte) => char::from(byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (c, after)
}

/// The four digits after `\u`, and those of the second half of a surrogate pair. A half without
/// its other half becomes U+FFFD.
fn code_point(text: &str) -> (char, &str) {
    let after = text.get(4..).unwrap_or("");
    let unit = hex4(text);
    if (0xd800..0xdc00).contains(&unit)
        && let Some(second) = after.strip_prefix("\\u")
    {
        let low = hex4(second);
        if (0xdc00..0xe000).contains(&low) {
            let point = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
            let c = char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER);
            return (c, second.get(4..).unwrap_or(""));
        }
    }
    (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), after)
}

fn hex4(text: &str) -> u32 {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or(0);
    text.bytes().take(4).fold(0, |sum, byte| sum * 16 + digit(byte))
}

/// Powers of ten that an `f64` holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads a checked JSON number. The standard library's reader is exact for every number and
/// brings 10 KB of tables with it.
fn number_of(text: &str) -> Option<f64> {
    let (text, exponent) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at)?, exponent(text.get(at + 1..)?)),
        None => (text, 0),
    };
    let mut mantissa = 0u64;
    let mut scale = 0i32;
    let mut fraction = false;
    for byte in text.bytes() {
        match byte {
            b'-' => {}
            b'.' => fraction = true,
            // 19 digits fit into 64 bits; those after them only shift.
            digit if mantissa < 1_000_000_000_000_000_000 => {
                mantissa = mantissa * 10 + u64::from(digit & 15);
                scale -= i32::from(fraction);
            }
            _ => scale += i32::from(!fraction),
        }
    }
    let value = scaled(mantissa, scale.saturating_add(exponent));
    if value.is_infinite() {
        return None;
    }
    Some(if text.starts_with('-') { -value } else { value })
}

/// The exponent, cut off where it is far beyond what an `f64` can express.
fn exponent(text: &str) -> i32 {
    let size = text
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |sum, digit| if sum < 100_000 { sum * 10 + i32::from(digit & 15) } else { sum });
    if text.starts_with('-') { -size } else { size }
}

/// `mantissa * 10^scale`. One correctly rounded operation on two exact numbers where both are
/// exact, steps of at most 22 digits otherwise.
fn scaled(mantissa: u64, scale: i32) -> f64 {
    let mut value = mantissa as f64;
    let mut left = scale.unsigned_abs();
    while left > 0 && value != 0.0 && value.is_finite() {
        let step = left.min(22);
        let power = EXACT[step as usize];
        value = if scale < 0 { value / power } else { value * power };
        left -= step;
    }
    value
}

#[cfg(test)]
mod tests;
