//! What a panic tells the operator: file and line of the guest, and the reason where it is known
//! without the formatting machinery, which is three times the size of a small function. The feature
//! `panic-text` brings it, and with it the values in the reason.

use crate::text::digits;

/// Bytes of the line. It is on the stack: memory may be what is used up.
const MAX_BYTES: usize = 200;

/// One line.
pub(crate) struct Said {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Said {
    fn at(file: &str, line: u32) -> Self {
        let mut said = Self { bytes: [0; MAX_BYTES], len: 0 };
        said.push("panicked at ");
        said.push(file);
        said.push(":");
        said.push(digits(&mut [0; 20], line.into()));
        said
    }

    /// The line as far as it fits, cut off in the middle of a character at worst.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    fn push(&mut self, text: &str) {
        for (free, &byte) in self.bytes.iter_mut().skip(self.len).zip(text.as_bytes()) {
            *free = byte;
            self.len += 1;
        }
    }
}

#[cfg(feature = "panic-text")]
impl core::fmt::Write for Said {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// `panicked at src/lib.rs:41: the reason`
#[cfg(target_arch = "wasm32")]
pub(crate) fn said(info: &core::panic::PanicInfo<'_>) -> Said {
    let mut said = match info.location() {
        Some(place) => Said::at(place.file(), place.line()),
        None => Said::at("?", 0),
    };
    #[cfg(not(feature = "panic-text"))]
    if let Some(reason) = info.message().as_str() {
        said.push(": ");
        said.push(reason);
    }
    #[cfg(feature = "panic-text")]
    {
        use core::fmt::Write;
        // Writing into `Said` cannot fail: it cuts off.
        let _ = write!(said, ": {}", info.message());
    }
    said
}

#[cfg(test)]
mod tests {
    use super::Said;

    #[test]
    fn a_panic_tells_file_line_and_reason() {
        let mut said = Said::at("src/lib.rs", 41);
        said.push(": no limit");
        assert_eq!(said.bytes(), b"panicked at src/lib.rs:41: no limit");
    }

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let mut said = Said::at("a", 1);
        for _ in 0..200 {
            said.push("abc");
        }
        assert_eq!(said.bytes().len(), super::MAX_BYTES);
        assert!(said.bytes().starts_with(b"panicked at a:1abcabc"));
    }
}
