//! A key of another function's state that has changed.
//!
//! What is `#[inline]` is compiled in the crates that use it alone: other guests do not grow by it.

use crate::json::Json;
use crate::trigger::Event;
use alloc::string::String;
use alloc::vec::Vec;

/// What an event `state` says: a key that the function watches, in the state of another.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    json: Json<'a>,
}

impl<'a> Event<'a> {
    /// The change that the event tells of; `None` for another event.
    #[inline]
    pub fn change(&self) -> Option<Change<'a>> {
        let json = self.json().ok()?;
        (self.name() == "state").then_some(Change { json })
    }
}

impl Change<'_> {
    /// Whose state it is.
    #[inline]
    pub fn function(&self) -> String {
        self.json.get("function").and_then(|name| name.as_str()).unwrap_or_default().into_owned()
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> Vec<u8> {
        self.bytes("key", "key_hex").unwrap_or_default()
    }

    /// The value before; `None` when the key is new, or the value was longer than 4 KiB.
    #[inline]
    pub fn before(&self) -> Option<Vec<u8>> {
        self.bytes("old", "old_hex")
    }

    /// The value now; `None` when the key is gone, or the value is longer than 4 KiB.
    #[inline]
    pub fn after(&self) -> Option<Vec<u8>> {
        self.bytes("new", "new_hex")
    }

    /// Whether the key is gone: deleted, or its time to live is over.
    #[inline]
    pub fn is_gone(&self) -> bool {
        self.after().is_none() && self.json.get("new_bytes").is_none()
    }

    #[inline]
    fn bytes(&self, text: &str, digits: &str) -> Option<Vec<u8>> {
        if let Some(text) = self.json.get(text) {
            return Some(text.as_str()?.into_owned().into_bytes());
        }
        let digits = self.json.get(digits)?.as_str()?;
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
        Some(
            digits
                .as_bytes()
                .chunks_exact(2)
                .map(|two| digit(two[0]) << 4 | digit(two[1]))
                .collect(),
        )
    }
}
