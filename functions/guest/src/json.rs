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

use crate::text::{concat, cut, digits, position};
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroUsize;
use core::str::from_utf8;

/// How deep arrays and objects may be nested.
pub const MAX_DEPTH: usize = 32;

/// A JSON value, as its text. The text has been checked: it is UTF-8, and starts and ends at ASCII.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a [u8],
}

impl core::fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Json").field("text", &self.text()).finish()
    }
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
        let (mut buffer, at) = ([0; 20], self.at as u64);
        concat(&["expected ", self.expected, " at byte ", digits(&mut buffer, at)])
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
        read(bytes, &mut []).map(|(start, end)| Json { text: piece(bytes, start, end) })
    }

    /// Checks as [`parse`](Self::parse) does, and finds the values at some paths on the way: what
    /// [`path`](Self::path) would find, for the time of the check alone.
    ///
    /// ```
    /// use tidegate_guest::json::Json;
    ///
    /// let payload = br#"{"id":"g3","at":{"value":31.70}}"#;
    /// let [value, unit] = Json::pick(payload, ["at.value", "unit"])?;
    /// assert_eq!(value.and_then(|value| value.as_f64()), Some(31.7));
    /// assert_eq!(unit, None);
    /// # Ok::<(), tidegate_guest::json::JsonError>(())
    /// ```
    ///
    /// # Errors
    /// The first byte that does not fit.
    pub fn pick<const N: usize>(
        bytes: &'a [u8],
        paths: [&str; N],
    ) -> Result<[Option<Self>; N], JsonError> {
        if let Some(places) = crate::host::json_find(bytes, paths) {
            return Ok(places.map(|[start, end]| {
                // No value begins and ends at the start of a text.
                (end > 0).then(|| Json { text: piece(bytes, start, end) })
            }));
        }
        if cfg!(target_arch = "wasm32") {
            // No JSON, or more than the gateway reads: seldom, and not worth the code.
            let json = Json::parse(bytes)?;
            return Ok(paths.map(|path| json.path(path)));
        }
        let mut wanted = paths.map(|path| Wanted { path, found: None });
        read(bytes, &mut wanted)?;
        Ok(wanted.map(|wanted| wanted.found))
    }

    /// A value whose place is known.
    pub(crate) fn piece(bytes: &'a [u8], start: usize, end: usize) -> Self {
        Json { text: piece(bytes, start, end) }
    }

    /// The value as it was written, as bytes: for outputs that are written piece by piece.
    pub fn bytes(&self) -> &'a [u8] {
        self.text
    }

    /// The value as it was written, without surrounding spaces.
    pub fn text(&self) -> &'a str {
        from_utf8(self.text).unwrap_or("")
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.text.first() == Some(&b'{')
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
        Pairs { scanner: Scanner::new(self.text), at }
    }

    /// Whether it is this string.
    #[inline(never)]
    pub(crate) fn is_string(&self, other: &str) -> bool {
        self.as_str().is_some_and(|text| text == other)
    }

    /// What is between the quotes of a string.
    pub(crate) fn inside(&self) -> Option<&'a [u8]> {
        self.text.strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// The member of an object with this name; the last one, if there are several.
    #[inline(never)]
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
    #[inline(never)]
    pub fn path(&self, path: &str) -> Option<Json<'a>> {
        let (name, rest) = cut(path, b'.');
        let found = self.get(name)?;
        match rest {
            Some(rest) => found.path(rest),
            None => Some(found),
        }
    }

    /// The number; `None` when it is none, or too large for an `f64`.
    pub fn as_f64(&self) -> Option<f64> {
        match self.text.first()? {
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
        match self.text {
            [b't', ..] => Some(true),
            [b'f', ..] => Some(false),
            _ => None,
        }
    }
}

/// Checks a whole text, and says where its value begins and ends; what is wanted of an object is found
/// on the way.
#[inline(never)]
fn read<'a>(bytes: &'a [u8], wanted: &mut [Wanted<'_, 'a>]) -> Result<(usize, usize), JsonError> {
    let mut scanner = Scanner::new(bytes);
    let start = behind_spaces(bytes, 0);
    if let Some(end) = scanner.value(start, wanted) {
        let at = behind_spaces(bytes, end.get());
        if at == bytes.len() && (scanner.is_ascii || from_utf8(bytes).is_ok()) {
            return Ok((start, end.get()));
        }
        scanner.fail(at, "the end");
    }
    Err(scanner.mistake())
}

/// What the import `json_find` does for a function: where the values at the paths begin and end, both 0
/// for one that is not there; `None` when the text is not JSON, or there are more than
/// [`JSON_PATHS`](tidegate_abi::import::JSON_PATHS). For the gateway.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
#[inline(never)] // Once in the gateway, whose size has a bar.
pub fn places(
    bytes: &[u8],
    paths: &[&str],
) -> Option<[[usize; 2]; tidegate_abi::import::JSON_PATHS]> {
    let path = |at| paths.get(at).copied().unwrap_or("");
    let mut wanted = core::array::from_fn(|at| Wanted { path: path(at), found: None });
    read(bytes, wanted.get_mut(..paths.len())?).ok()?;
    Some(wanted.map(|wanted| {
        wanted.found.map_or([0, 0], |value| {
            let start = value.text.as_ptr() as usize - bytes.as_ptr() as usize;
            [start, start + value.text.len()]
        })
    }))
}

fn piece(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    bytes.get(start..end).unwrap_or(&[])
}

/// A value that is looked for in an object.
struct Wanted<'p, 'a> {
    /// Names with dots between them.
    path: &'p str,
    found: Option<Json<'a>>,
}

impl<'a> Wanted<'_, 'a> {
    /// Whether the path may end at a name of that length, or lead through it.
    #[inline(always)]
    fn fits(&self, len: usize) -> bool {
        self.path.len() == len || self.path.as_bytes().get(len) == Some(&b'.')
    }

    /// Looks at a member.
    #[inline(never)]
    fn see(&mut self, name: &[u8], text: &'a [u8], start: usize, end: usize) {
        // Each name of a path is one without a dot.
        let same = |(&one, &other): (&u8, &u8)| one == other && one != b'.';
        if self.fits(name.len()) && self.path.as_bytes().iter().zip(name).all(same) {
            let value = Json { text: piece(text, start, end) };
            self.found = match self.path.get(name.len() + 1..) {
                Some(rest) => value.path(rest),
                None => Some(value),
            };
        }
    }

    /// The same for a name with escapes.
    #[cold]
    #[inline(never)]
    fn see_escaped(&mut self, name: &[u8], text: &'a [u8], start: usize, end: usize) {
        self.see(unescape(name).as_bytes(), text, start, end);
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
    at: usize,
}

impl<'a> Pairs<'a> {
    #[inline(never)]
    fn next_pair(&mut self) -> Option<(Json<'a>, Json<'a>)> {
        let text = self.scanner.bytes;
        // The text was checked as a whole: whatever does not fit here is its end.
        let mut name = behind_spaces(text, self.at);
        if peek(text, name) == b',' {
            name = behind_spaces(text, name + 1);
        }
        let name_end = self.scanner.value(name, &mut [])?.get();
        let colon = behind_spaces(text, name_end);
        let start = behind_spaces(text, colon + 1);
        self.at = self.scanner.value(start, &mut [])?.get();
        let json = |start, end| Json { text: piece(text, start, end) };
        Some((json(name, name_end), json(start, self.at)))
    }
}

/// Appends a string with its quotes, escaped where JSON wants it.
pub fn push_string(json: &mut String, text: &str) {
    // What is cut at ASCII is UTF-8 still.
    escape(text.as_bytes(), |piece| json.push_str(from_utf8(piece).unwrap_or("")));
}

/// A string with its quotes, escaped where JSON wants it, in pieces.
pub(crate) fn escape(text: &[u8], mut push: impl FnMut(&[u8])) {
    let mut rest = text;
    let special = |&byte: &u8| byte < b' ' || byte == b'"' || byte == b'\\';
    push(b"\"");
    loop {
        let at = rest.iter().position(special).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        push(plain);
        let Some((&byte, behind)) = tail.split_first() else { return push(b"\"") };
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value & 15)];
        let hex = [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)];
        push(match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            _ => &hex,
        });
        rest = behind;
    }
}

/// A place in a text behind something: never its start. `None` says that the text is not as it should
/// be; `at` and `expected` of the scanner then say what is wrong.
type Behind = Option<NonZeroUsize>;

/// Reads from left to right. Places are handed on as values, because an interpreter reads and writes
/// fields at the price of arithmetic.
#[derive(Debug, Clone)]
struct Scanner<'a> {
    bytes: &'a [u8],
    /// What is wrong, and where.
    at: usize,
    expected: &'static str,
    /// No string so far had other characters: there is no need to check them.
    is_ascii: bool,
    /// A string since this was last cleared had escapes.
    escapes: bool,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, expected: "", is_ascii: true, escapes: false }
    }

    #[cold]
    #[inline(never)]
    fn fail(&mut self, at: usize, expected: &'static str) -> Behind {
        (self.at, self.expected) = (at, expected);
        None
    }

    /// What is wrong. What is no text at all is no text first.
    #[cold]
    #[inline(never)]
    fn mistake(&self) -> JsonError {
        match from_utf8(self.bytes) {
            Ok(_) => JsonError { at: self.at, expected: self.expected },
            Err(error) => JsonError { at: error.valid_up_to(), expected: "UTF-8" },
        }
    }

    /// A value. One loop for all that is inside of it: a call for each piece would cost more than
    /// the piece.
    #[inline(never)]
    fn value(&mut self, start: usize, wanted: &mut [Wanted<'_, 'a>]) -> Behind {
        let bytes = self.bytes;
        // The brackets that are open, the innermost in the lowest bit: 1 = an object.
        let (mut depth, mut objects) = (0, 0u32);
        let mut named = false;
        // Of a member of the outermost object: name, its end, and the start of the value.
        let (mut name, mut name_end, mut escapes, mut begin) = (0, 0, false, 0);
        let mut at = start;
        loop {
            let is_name = objects & 1 == 1 && !named;
            let byte;
            (at, byte) = solid(bytes, at);
            if depth == 1 && !is_name {
                begin = at;
            }
            if byte == b'"' {
                let first = at + 1;
                at = first;
                loop {
                    // What needs no look is passed eight bytes at a time.
                    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
                        let found = special(u64::from_le_bytes(*eight));
                        if found != 0 {
                            at += found.trailing_zeros() as usize / 8;
                            break;
                        }
                        at += 8;
                    }
                    match peek(bytes, at) {
                        b'"' => break,
                        b' '..=b'[' | b']'..=0x7f => at += 1,
                        byte => at = self.odd(at, byte)?.get(),
                    }
                }
                at += 1;
                if is_name {
                    let (colon, byte) = solid(bytes, at);
                    if byte != b':' {
                        return self.fail(colon, "':'");
                    }
                    if depth == 1 {
                        (name, name_end, escapes) = (first, at - 1, self.escapes);
                    }
                    named = true;
                    at = colon + 1;
                    continue;
                }
            } else if is_name {
                return self.fail(at, "a name");
            } else if byte == b'{' || byte == b'[' {
                if depth >= MAX_DEPTH {
                    return self.fail(at, "at most 32 levels of nesting");
                }
                let (inside, next) = solid(bytes, at + 1);
                // The closing brackets come two behind the opening ones.
                if next != byte + 2 {
                    depth += 1;
                    objects = objects << 1 | u32::from(byte == b'{');
                    named = false;
                    self.escapes = false;
                    at = inside;
                    continue;
                }
                at = inside + 1;
            } else {
                at = self.scalar(at, byte)?.get();
            }
            // Behind a value, and behind each bracket that closes.
            loop {
                if depth == 0 {
                    return NonZeroUsize::new(at);
                }
                if depth == 1 && objects == 1 {
                    for one in &mut *wanted {
                        if escapes {
                            one.see_escaped(piece(bytes, name, name_end), bytes, begin, at);
                        } else if one.fits(name_end - name) {
                            one.see(piece(bytes, name, name_end), bytes, begin, at);
                        }
                    }
                }
                let (place, byte) = solid(bytes, at);
                if byte == b',' {
                    at = place + 1;
                    named = false;
                    self.escapes = false;
                    break;
                }
                let is_object = objects & 1 == 1;
                if byte != if is_object { b'}' } else { b']' } {
                    let expected = if is_object { "',' or '}'" } else { "',' or ']'" };
                    return self.fail(place, expected);
                }
                at = place + 1;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// What a string cannot pass over.
    #[inline(never)]
    fn odd(&mut self, at: usize, byte: u8) -> Behind {
        match byte {
            b'\\' => self.escape(at),
            0x80.. => {
                self.is_ascii = false;
                NonZeroUsize::new(at + 1)
            }
            _ if at >= self.bytes.len() => self.fail(at, "the end of the string"),
            _ => self.fail(at, "an escape for a control character"),
        }
    }

    /// An escape from its backslash on.
    #[inline(never)]
    fn escape(&mut self, at: usize) -> Behind {
        self.escapes = true;
        let at = at + 1;
        match peek(self.bytes, at) {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => NonZeroUsize::new(at + 1),
            b'u' => {
                let end = at + 5;
                let mut digit = at + 1;
                while peek(self.bytes, digit).is_ascii_hexdigit() && digit < end {
                    digit += 1;
                }
                if digit < end {
                    return self.fail(digit, "four hexadecimal digits");
                }
                NonZeroUsize::new(end)
            }
            _ => self.fail(at, "an escape"),
        }
    }

    /// A number, or one of the three words.
    #[inline(never)]
    fn scalar(&mut self, start: usize, byte: u8) -> Behind {
        let minus = usize::from(byte == b'-');
        let mut at = start + minus;
        let digits = self.digits(at);
        if digits == at {
            return if minus == 1 { self.fail(at, "a digit") } else { self.word(at) };
        }
        at = if peek(self.bytes, at) == b'0' { at + 1 } else { digits };
        if peek(self.bytes, at) == b'.' {
            let digits = self.digits(at + 1);
            if digits == at + 1 {
                return self.fail(digits, "a digit");
            }
            at = digits;
        }
        if peek(self.bytes, at) | 0x20 == b'e' {
            at += 1;
            at += usize::from(matches!(peek(self.bytes, at), b'+' | b'-'));
            let digits = self.digits(at);
            if digits == at {
                return self.fail(at, "a digit");
            }
            at = digits;
        }
        NonZeroUsize::new(at)
    }

    /// Passes digits, as many as there are.
    #[inline(never)]
    fn digits(&self, mut at: usize) -> usize {
        while peek(self.bytes, at).is_ascii_digit() {
            at += 1;
        }
        at
    }

    #[cold]
    #[inline(never)]
    fn word(&mut self, at: usize) -> Behind {
        let word = match peek(self.bytes, at) {
            b't' => "true",
            b'f' => "false",
            _ => "null",
        };
        let end = at + word.len();
        if piece(self.bytes, at, end) != word.as_bytes() {
            return self.fail(at, "a value");
        }
        NonZeroUsize::new(end)
    }
}

/// The byte there; 0, which JSON has nowhere, at the end.
#[inline(always)]
fn peek(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// The place of the next byte that is no space, and the byte.
#[inline(always)]
fn solid(bytes: &[u8], at: usize) -> (usize, u8) {
    let byte = peek(bytes, at);
    if byte > b' ' {
        return (at, byte);
    }
    let at = behind_spaces(bytes, at);
    (at, peek(bytes, at))
}

#[inline(never)]
fn behind_spaces(bytes: &[u8], mut at: usize) -> usize {
    while matches!(peek(bytes, at), b' ' | b'\t' | b'\n' | b'\r') {
        at += 1;
    }
    at
}

/// The high bits of those of eight bytes that a string cannot pass over: quotes, backslashes, control
/// characters, and what is not ASCII. Above the first one more may be set.
#[inline(always)]
fn special(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // A byte below what is taken off borrows, which sets its high bit. With bit 1 turned over the
    // quote stands right behind the control characters.
    let control_or_quote = (eight ^ (ONES * 2)).wrapping_sub(ONES * 0x21);
    let backslash = (eight ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control_or_quote | backslash | eight) & (ONES * 0x80)
}

#[inline(never)]
fn unescape(text: &[u8]) -> Cow<'_, str> {
    if position(text, b'\\').is_none() {
        return Cow::Borrowed(from_utf8(text).unwrap_or(""));
    }
    let mut plain = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        let mut buffer = [byte, 0, 0, 0];
        let mut len = 1;
        if byte == b'\\' {
            match bytes.next() {
                Some(b'u') => len = encode(code_point(&mut bytes), &mut buffer),
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

/// The UTF-8 of a code point; how many bytes. Half the code of `encode_utf8`.
fn encode(point: char, buffer: &mut [u8; 4]) -> usize {
    let mut left = u32::from(point);
    let len = 1 + [0x7f, 0x7ff, 0xffff].iter().filter(|&&last| left > last).count();
    for byte in buffer.iter_mut().take(len).rev() {
        *byte = 0x80 | (left & 0x3f) as u8;
        left >>= 6;
    }
    match len {
        1 => buffer[0] = u32::from(point) as u8,
        len => buffer[0] |= 0xff00u16.wrapping_shr(len as u32) as u8,
    }
    len
}

/// Four digits that were checked.
#[inline(never)]
fn hex4(bytes: &mut core::slice::Iter<'_, u8>) -> u32 {
    let digit = |byte: u8| u32::from(byte & 15) + if byte > b'9' { 9 } else { 0 };
    bytes.by_ref().take(4).fold(0, |sum, &byte| sum * 16 + digit(byte))
}

/// What the import `json_find_each` says of a value beside its place. For the gateway.
#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub fn number(text: &[u8]) -> Option<f64> {
    Json { text }.as_f64()
}

/// Reads a checked JSON number. The standard library's reader is exact for every number and
/// brings 10 KB of tables with it.
fn number_of(text: &[u8]) -> Option<f64> {
    let (mut mantissa, mut scale, mut exponent) = (0u64, 0i32, 0i32);
    // Digits of the mantissa behind the point shift; those of the exponent come behind `e`.
    let (mut fraction, mut behind, mut sign) = (0, false, 1);
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            match byte {
                b'.' => fraction = 1,
                b'-' if behind => sign = -1,
                b'-' | b'+' => {}
                _ => behind = true,
            }
        } else if behind {
            // Cut off where it is far beyond what an `f64` can express.
            exponent = (exponent * 10 + i32::from(digit)).min(100_000);
        } else if mantissa < 1_000_000_000_000_000_000 {
            mantissa = mantissa * 10 + u64::from(digit);
            scale -= fraction;
        } else {
            // 19 digits fit into 64 bits; those after them only shift.
            scale += 1 - fraction;
        }
    }
    let value = scaled(mantissa, scale.saturating_add(sign * exponent));
    if value.is_infinite() {
        return None;
    }
    Some(if text.first() == Some(&b'-') { -value } else { value })
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
