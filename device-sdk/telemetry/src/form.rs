//! The forms that records are written in: CBOR for machines that know it, JSON for the functions of a
//! gateway. A program links the one that it uses.

use tidegate_wire::cbor::Writer;

/// A map of names and values that is being written into a buffer. What does not fit is noticed at the end.
pub trait Form<'a> {
    /// Begins a map of so many fields.
    fn begin(out: &'a mut [u8], fields: usize) -> Self;
    /// The name of the next field.
    fn name(&mut self, name: &str);
    /// A number from 0.
    fn uint(&mut self, number: u64);
    /// A number of either sign.
    fn int(&mut self, number: i64);
    /// A number of so many times the power of ten `-digits`.
    fn fixed(&mut self, number: i64, digits: u8);
    /// A number; no number of JSON when it is not finite.
    fn float(&mut self, number: f32);
    /// Text.
    fn text(&mut self, text: &str);
    /// True or false.
    fn bool(&mut self, value: bool);
    /// Nothing.
    fn null(&mut self);
    /// How many bytes it has; `None` when the buffer was too small.
    fn end(self) -> Option<usize>;
}

/// A form by its name.
pub trait Format {
    /// It, in a buffer.
    type Form<'a>: Form<'a>;
}

/// CBOR.
#[derive(Debug)]
pub enum Cbor {}

impl Format for Cbor {
    type Form<'a> = CborForm<'a>;
}

/// JSON.
#[derive(Debug)]
pub enum Json {}

impl Format for Json {
    type Form<'a> = JsonForm<'a>;
}

/// CBOR (RFC 8949): a map with text keys, numbers with digits as decimal fractions (tag 4).
#[derive(Debug)]
pub struct CborForm<'a> {
    out: Writer<'a>,
    full: bool,
}

/// Tag of a decimal fraction: exponent and mantissa.
const DECIMAL_FRACTION: u64 = 4;
/// First byte of a float of 32 bits.
const FLOAT: u8 = 0xfa;

impl CborForm<'_> {
    fn note(&mut self, result: Result<(), tidegate_wire::cbor::Full>) {
        self.full |= result.is_err();
    }
}

impl<'a> Form<'a> for CborForm<'a> {
    fn begin(out: &'a mut [u8], fields: usize) -> CborForm<'a> {
        let mut out = Writer::new(out);
        let full = out.map(fields).is_err();
        CborForm { out, full }
    }

    fn name(&mut self, name: &str) {
        self.text(name);
    }

    fn uint(&mut self, number: u64) {
        let result = self.out.uint(number);
        self.note(result);
    }

    fn int(&mut self, number: i64) {
        let result = self.out.int(number);
        self.note(result);
    }

    fn fixed(&mut self, number: i64, digits: u8) {
        let result = self.out.tag(DECIMAL_FRACTION).and_then(|()| self.out.array(2));
        self.note(result);
        self.int(-i64::from(digits));
        self.int(number);
    }

    fn float(&mut self, number: f32) {
        let [a, b, c, d] = number.to_be_bytes();
        let result = self.out.raw(&[FLOAT, a, b, c, d]);
        self.note(result);
    }

    fn text(&mut self, text: &str) {
        let result = self.out.text(text);
        self.note(result);
    }

    fn bool(&mut self, value: bool) {
        let result = self.out.bool(value);
        self.note(result);
    }

    fn null(&mut self) {
        let result = self.out.null();
        self.note(result);
    }

    fn end(self) -> Option<usize> {
        (!self.full).then(|| self.out.len())
    }
}

/// JSON (RFC 8259).
#[derive(Debug)]
pub struct JsonForm<'a> {
    out: &'a mut [u8],
    at: usize,
    first: bool,
}

/// Digits of the longest number: a `u64`'s.
const DIGITS: usize = 20;

impl JsonForm<'_> {
    fn raw(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.out.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    /// A number with at least so many digits.
    fn digits(&mut self, mut number: u64, least: usize) {
        let mut digits = [b'0'; DIGITS];
        let mut count = 0;
        for place in digits.iter_mut().rev() {
            if number == 0 && count >= least {
                break;
            }
            *place = b'0' + (number % 10) as u8;
            number /= 10;
            count += 1;
        }
        self.raw(digits.get(DIGITS - count..).unwrap_or_default());
    }
}

impl<'a> Form<'a> for JsonForm<'a> {
    fn begin(out: &'a mut [u8], _: usize) -> JsonForm<'a> {
        let mut json = JsonForm { out, at: 0, first: true };
        json.raw(b"{");
        json
    }

    fn name(&mut self, name: &str) {
        if !core::mem::take(&mut self.first) {
            self.raw(b",");
        }
        self.text(name);
        self.raw(b":");
    }

    fn uint(&mut self, number: u64) {
        self.digits(number, 1);
    }

    fn int(&mut self, number: i64) {
        self.fixed(number, 0);
    }

    fn fixed(&mut self, number: i64, digits: u8) {
        if number < 0 {
            self.raw(b"-");
        }
        // More digits than a number has do not change it.
        let digits = digits.min(18);
        let power = 10_u64.pow(digits.into());
        let number = number.unsigned_abs();
        self.digits(number / power, 1);
        if digits > 0 {
            self.raw(b".");
            self.digits(number % power, digits.into());
        }
    }

    fn float(&mut self, number: f32) {
        // Six digits behind the point, in which the range of an `i64` ends at 9 * 10^12.
        let scaled = number * 1e6;
        if scaled.is_finite() && scaled.abs() < 9e18 {
            self.fixed(scaled as i64, 6);
        } else {
            self.null();
        }
    }

    fn text(&mut self, text: &str) {
        self.raw(b"\"");
        for byte in text.as_bytes() {
            match byte {
                b'"' | b'\\' => self.raw(&[b'\\', *byte]),
                0..0x20 => {
                    let hex = b"0123456789abcdef";
                    let digit = |n: u8| hex.get(usize::from(n)).copied().unwrap_or(b'0');
                    self.raw(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                }
                _ => self.raw(&[*byte]),
            }
        }
        self.raw(b"\"");
    }

    fn bool(&mut self, value: bool) {
        self.raw(if value { b"true" } else { b"false" });
    }

    fn null(&mut self) {
        self.raw(b"null");
    }

    fn end(mut self) -> Option<usize> {
        self.raw(b"}");
        (self.at <= self.out.len()).then_some(self.at)
    }
}
