//! What is wrong with bytes that should be deterministic CBOR.

use core::fmt;

use super::{major, simple};

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number from 0.
    Uint,
    /// A number below 0.
    Negative,
    /// Bytes.
    Bytes,
    /// Text.
    Text,
    /// A list.
    Array,
    /// A map.
    Map,
    /// A tag.
    Tag,
    /// True or false.
    Bool,
    /// Nothing.
    Null,
    /// Anything else.
    Other,
}

impl Kind {
    pub(super) fn of(first: u8) -> Kind {
        match (first >> 5, first) {
            (major::UINT, _) => Kind::Uint,
            (major::NEGATIVE, _) => Kind::Negative,
            (major::BYTES, _) => Kind::Bytes,
            (major::TEXT, _) => Kind::Text,
            (major::ARRAY, _) => Kind::Array,
            (major::MAP, _) => Kind::Map,
            (major::TAG, _) => Kind::Tag,
            (_, simple::FALSE | simple::TRUE) => Kind::Bool,
            (_, simple::NULL) => Kind::Null,
            _ => Kind::Other,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Uint => "a number",
            Kind::Negative => "a negative number",
            Kind::Bytes => "bytes",
            Kind::Text => "text",
            Kind::Array => "a list",
            Kind::Map => "a map",
            Kind::Tag => "a tag",
            Kind::Bool => "true or false",
            Kind::Null => "nothing (null)",
            Kind::Other => "something that these formats never use",
        }
    }
}

/// Why bytes cannot be read. `at` is the offset of the item; beyond 65,535 it stays there. All of it is one
/// word, because nearly every function of a reader answers it: as two words it took devices 0.5 KB more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CborError {
    /// The bytes end inside an item.
    Short {
        /// Where the item begins.
        at: u16,
    },
    /// A number or a length takes more bytes than it needs.
    NotShortest {
        /// Where the item begins.
        at: u16,
    },
    /// A length that is left open.
    Indefinite {
        /// Where the item begins.
        at: u16,
    },
    /// Another item than was expected.
    Unexpected {
        /// Where the item begins.
        at: u16,
        /// What it should be.
        wanted: Kind,
        /// What it is.
        found: Kind,
    },
    /// Text that is not UTF-8.
    NotText {
        /// Where the item begins.
        at: u16,
    },
    /// A number that does not fit.
    TooLarge {
        /// Where the item begins.
        at: u16,
    },
    /// An item to be passed over that is nested too deeply.
    TooDeep {
        /// Where the item begins.
        at: u16,
    },
    /// Bytes behind the last item.
    Trailing {
        /// Where they begin.
        at: u16,
    },
}

impl fmt::Display for CborError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CborError::Short { at } => write!(f, "the item at byte {at} is cut short"),
            CborError::NotShortest { at } => {
                write!(f, "the item at byte {at} is not in its shortest form")
            }
            CborError::Indefinite { at } => {
                write!(f, "the item at byte {at} leaves its length open")
            }
            CborError::Unexpected { at, wanted, found } => {
                write!(f, "the item at byte {at} is {}, not {}", found.name(), wanted.name())
            }
            CborError::NotText { at } => write!(f, "the text at byte {at} is not UTF-8"),
            CborError::TooLarge { at } => write!(f, "the number at byte {at} is too large"),
            CborError::TooDeep { at } => {
                write!(f, "the item at byte {at} is nested too deeply")
            }
            CborError::Trailing { at } => {
                write!(f, "there are bytes behind the end, from byte {at}")
            }
        }
    }
}

impl core::error::Error for CborError {}
