//! The secrets that a function may read, and what keeps them out of its texts.
//!
//! Invariant: no value is shown by `Debug`, and what of it is in this process's own memory is
//! overwritten when it goes. What a guest has read is in the guest's memory, and goes with that.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Shortest value: a shorter one could not be told from other text.
pub const MIN_SECRET: usize = 4;
/// Longest value, in bytes.
pub const MAX_SECRET: usize = 8 * 1024;
/// Values of before that are still kept out of texts: guests may remember them.
const MAX_OLD: usize = 8;
/// What stands in a text in place of a value.
const MASK: &[u8] = b"***";

/// The value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Box<[u8]>);

impl SecretValue {
    /// A value; `None` when it is too short or too long.
    pub fn new(bytes: Vec<u8>) -> Option<SecretValue> {
        let value = SecretValue(bytes.into_boxed_slice());
        (MIN_SECRET..=MAX_SECRET).contains(&value.0.len()).then_some(value)
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretValue {
    fn drop(&mut self) {
        self.0.fill(0);
        // Keeps the compiler from leaving the writes out, since nobody reads them.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a function is granted, with the values there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    by_name: BTreeMap<String, Option<SecretValue>>,
    old: Vec<SecretValue>,
}

impl Secrets {
    /// These names, with their values where there are any.
    pub fn new(by_name: BTreeMap<String, Option<SecretValue>>) -> Secrets {
        Secrets { by_name, old: Vec::new() }
    }

    /// The same names with other values; those of before are still kept out of texts.
    #[must_use]
    pub fn replaced(&self, by_name: BTreeMap<String, Option<SecretValue>>) -> Secrets {
        let before = self.by_name.values().flatten();
        let gone = before.filter(|value| !by_name.values().flatten().any(|new| new == *value));
        let old = gone.chain(&self.old).take(MAX_OLD).cloned().collect();
        Secrets { by_name, old }
    }

    /// The value of a secret that is granted, where it has one.
    pub fn value(&self, name: &str) -> Option<&SecretValue> {
        self.by_name.get(name)?.as_ref()
    }

    /// `None`: not granted. `Some(None)`: granted, and without a value.
    pub(crate) fn get(&self, name: &[u8]) -> Option<Option<&SecretValue>> {
        let name = std::str::from_utf8(name).ok()?;
        self.by_name.get(name).map(Option::as_ref)
    }

    /// Whether there is a value that could be in a text.
    pub(crate) fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    fn values(&self) -> impl Iterator<Item = &SecretValue> {
        self.by_name.values().flatten().chain(&self.old)
    }

    /// The text without the values.
    pub(crate) fn masked<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        let mut masked = Cow::Borrowed(text);
        for value in self.values() {
            if let Some(less) = without(&masked, value.expose()) {
                masked = Cow::Owned(less);
            }
        }
        masked
    }
}

/// The text with each `value` masked; `None` when there is none in it.
fn without(text: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let find = |text: &[u8]| text.windows(value.len()).position(|window| window == value);
    let mut rest = text;
    let mut less = Vec::new();
    while let Some(at) = find(rest) {
        less.extend_from_slice(&rest[..at]);
        less.extend_from_slice(MASK);
        rest = &rest[at + value.len()..];
    }
    if less.is_empty() {
        return None;
    }
    less.extend_from_slice(rest);
    Some(less)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Option<SecretValue> {
        SecretValue::new(text.as_bytes().to_vec())
    }

    fn secrets(values: &[(&str, &str)]) -> Secrets {
        let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), value(text));
        Secrets::new(values.iter().map(pair).collect())
    }

    #[test]
    fn values_are_masked_wherever_they_are_and_nothing_else_is() {
        let secrets = secrets(&[("a", "abcd"), ("b", "s3cret"), ("none", "")]);
        for (text, masked) in [
            ("", ""),
            ("nothing", "nothing"),
            ("abcd", "***"),
            ("abcabcdabcd.", "abc******."),
            ("s3cret and abcd", "*** and ***"),
        ] {
            assert_eq!(&*secrets.masked(text.as_bytes()), masked.as_bytes(), "{text}");
        }
        assert!(!format!("{secrets:?}").contains("s3cret"));
    }

    #[test]
    fn a_value_of_before_is_still_masked_when_it_was_replaced() {
        let first = secrets(&[("a", "first")]);
        let second = first.replaced(secrets(&[("a", "second")]).by_name.clone());
        assert_eq!(&*second.masked(b"first second"), b"*** ***");
        assert_eq!(second.get(b"a").flatten().map(SecretValue::expose), Some(&b"second"[..]));
        let same = second.replaced(second.by_name.clone());
        assert_eq!(same, second);
        let none = second.replaced(BTreeMap::from([("a".to_owned(), None)]));
        assert_eq!((none.get(b"a"), none.get(b"b")), (Some(None), None));
        assert_eq!(&*none.masked(b"first second"), b"*** ***");
    }

    #[test]
    fn a_value_that_is_too_short_or_too_long_is_none() {
        assert_eq!((value("abc"), value(&"x".repeat(MAX_SECRET + 1))), (None, None));
    }
}
